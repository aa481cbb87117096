package hugepage

import (
	"fmt"

	"vmsim/internal/phys"
	"vmsim/mem"
)

// Key says which huge page: the file and its content, how far it was moved,
// and which window. All three matter (a bug of the Kevlar kernel: without the
// bias, or without the identity, a different file gets the old page).
type Key struct {
	File       mem.FileID
	Generation uint64
	Bias       uint64
	Base       mem.VirtAddr
}

// KeyOf returns the key of a candidate.
func KeyOf(c Candidate) Key {
	return Key{c.File.Identity(), c.File.Generation(), c.Bias, c.Base}
}

// Page is an assembled window.
type Page struct {
	First     mem.PFN // of 512 consecutive frames
	Populated int     // sub-pages that have an area

	key     Key
	prot    [mem.SubPages]mem.Prot // what the headers permit, by sub-page
	present [mem.SubPages]bool
}

// SubPage returns the permission of sub-page i. It is false where no area is.
func (p *Page) SubPage(i int) (mem.Prot, bool) { return p.prot[i], p.present[i] }

// Uniform returns the permission that covers the whole window; it is false
// where there are several, or a sub-page without area: such a page is mapped
// in 4 KiB entries.
func (p *Page) Uniform() (mem.Prot, bool) {
	for _, prot := range p.prot {
		if prot != p.prot[0] {
			return 0, false
		}
	}
	return p.prot[0], p.Populated == mem.SubPages && p.prot[0] != mem.ProtNone
}

// Cache keeps assembled huge pages. It holds one reference on each of their
// 512 frames (a bug of the Kevlar kernel: on the first alone, and a split frees
// the rest).
type Cache struct {
	phys  *phys.Memory
	pages map[Key]*Page
	order []*Page // oldest first
}

// NewCache returns an empty cache over the frames of m.
func NewCache(m *phys.Memory) *Cache {
	return &Cache{phys: m, pages: map[Key]*Page{}}
}

// Lookup returns the page with this key.
func (c *Cache) Lookup(k Key) (*Page, bool) {
	p, ok := c.pages[k]
	return p, ok
}

// Insert keeps p under k, taking over the caller's reference on each frame.
func (c *Cache) Insert(k Key, p *Page) {
	if _, ok := c.pages[k]; ok {
		panic(fmt.Sprintf("hugepage: window %v inserted twice", k.Base))
	}
	p.key = k
	c.pages[k] = p
	c.order = append(c.order, p)
	for i := range mem.PFN(mem.SubPages) {
		c.phys.Frame(p.First + i).Flags |= phys.Huge
	}
}

// Len returns the number of huge pages.
func (c *Cache) Len() int { return len(c.order) }

// Evict drops up to n pages of which no frame is mapped, the oldest first, and
// returns how many.
func (c *Cache) Evict(n int) int {
	freed := 0
	kept := c.order[:0]
	for _, p := range c.order {
		if freed < n && c.unmapped(p) {
			c.drop(p)
			freed++
		} else {
			kept = append(kept, p)
		}
	}
	clear(c.order[len(kept):])
	c.order = kept
	return freed
}

func (c *Cache) unmapped(p *Page) bool {
	for i := range mem.PFN(mem.SubPages) {
		if c.phys.Refs(p.First+i) > 1 {
			return false
		}
	}
	return true
}

func (c *Cache) drop(p *Page) {
	delete(c.pages, p.key)
	for i := range mem.PFN(mem.SubPages) {
		c.phys.Frame(p.First + i).Flags &^= phys.Huge
	}
	c.phys.PutBlock(p.First)
}

// Reset drops all pages; frames that are mapped live on as their mappings'.
func (c *Cache) Reset() {
	for _, p := range c.order {
		c.drop(p)
	}
	clear(c.order)
	c.order = c.order[:0]
}

// Check verifies the cache and calls ref for each block of 512 references that
// it holds.
func (c *Cache) Check(ref func(first mem.PFN, n int)) error {
	if len(c.order) != len(c.pages) {
		return fmt.Errorf("huge-page cache: %d pages, %d keys", len(c.order), len(c.pages))
	}
	for _, p := range c.order {
		if c.pages[p.key] != p {
			return fmt.Errorf("huge-page cache: window %v is not under its key", p.key.Base)
		}
		if p.First%mem.SubPages != 0 {
			return fmt.Errorf("huge-page cache: window %v starts at frame %d", p.key.Base, p.First)
		}
		for i := range mem.PFN(mem.SubPages) {
			if c.phys.Frame(p.First+i).Flags&phys.Huge == 0 {
				return fmt.Errorf("huge-page cache: frame %d of window %v is not marked huge", p.First+i, p.key.Base)
			}
		}
		ref(p.First, mem.SubPages)
	}
	return nil
}
