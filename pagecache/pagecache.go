package pagecache

import (
	"fmt"
	"iter"
	"math"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"vmsim/internal/phys"
	"vmsim/mem"
)

// blockPages is the number of pages that share an entry of the LRU and a chunk
// of the index: those of 2 MiB of a file.
const blockPages = 512

// MaxIndex bounds what is cached: pages beyond 8 TiB of a file are read anew
// each time.
const MaxIndex mem.PageIndex = 1 << 31

// Cache is the page cache of one machine.
type Cache struct {
	phys  *phys.Memory
	files []file   // by number; files[0] is unused
	free  []uint32 // numbers of anonymous memory that is gone
	byID  map[mem.FileID]uint32
	lru   *simplelru.LRU[blockKey, struct{}]
	front blockKey // the first of lru, which need not be added; zero: not known
	stats Stats

	anonPages int // pages of anonymous memory, of those in stats
}

// file is one content of one file.
type file struct {
	mem.File
	blocks []*block // by index / blockPages; nil where nothing is cached
	pages  int
	dirty  int  // pages that were written, and differ from what File holds
	pinned bool // anonymous memory that has no other copy: never evicted
	write  bool // a shared mapping may write to it
}

type block struct {
	pfn [blockPages]mem.PFN
	n   int // entries that are not zero
}

// blockKey is the file number and the number of a block in it.
type blockKey struct {
	file, block uint32
}

// Stats counts since New.
type Stats struct {
	Pages    int // cached now
	Inserted int
	Evicted  int
}

// New returns an empty cache over the frames of m.
func New(m *phys.Memory) *Cache {
	// The LRU never evicts by itself: memory, not a count, is the limit.
	l, err := simplelru.NewLRU[blockKey, struct{}](math.MaxInt, nil)
	if err != nil {
		panic(err)
	}
	return &Cache{phys: m, files: make([]file, 1), byID: map[mem.FileID]uint32{}, lru: l}
}

// Known returns f's number, if it was opened and has not changed since.
func (c *Cache) Known(f mem.File) (uint32, bool) {
	no, ok := c.byID[f.Identity()]
	return no, ok && c.files[no].Generation() == f.Generation()
}

// Open returns the number under which f's pages are cached: the same for two
// Files of the same identity and generation. A new generation drops what the
// cache holds of the old one (a bug of the Kevlar kernel: stale bytes after a write).
func (c *Cache) Open(f mem.File) uint32 {
	no, ok := c.byID[f.Identity()]
	if ok && c.files[no].Generation() == f.Generation() {
		return no
	}
	if ok {
		c.Drop(no)
	}
	if n := len(c.free); n > 0 {
		no, c.free = c.free[n-1], c.free[:n-1]
		c.files[no] = file{File: f}
	} else {
		c.files = append(c.files, file{File: f})
		no = uint32(len(c.files) - 1)
	}
	c.byID[f.Identity()] = no
	return no
}

// OpenAnonymous is Open for shared anonymous memory (Linux: shmem_zero_setup):
// its pages have no other copy and are never evicted.
func (c *Cache) OpenAnonymous(f mem.File) uint32 {
	no := c.Open(f)
	c.files[no].pinned = true
	return no
}

// Anonymous reports whether file no was opened by OpenAnonymous.
func (c *Cache) Anonymous(no uint32) bool { return c.files[no].pinned }

// Lookup returns the frame that caches a page and how many of its bytes are
// valid. The frame is marked as referenced; the caller gets no reference.
func (c *Cache) Lookup(no uint32, index mem.PageIndex) (pfn mem.PFN, valid int, ok bool) {
	pfn = c.frame(no, index)
	if pfn == mem.NoFrame {
		return pfn, 0, false
	}
	f := c.phys.Frame(pfn)
	f.Flags |= phys.Referenced
	return pfn, int(f.Valid), true
}

// Contains reports whether a page is cached, wholly valid or not, without
// marking it as referenced.
func (c *Cache) Contains(no uint32, index mem.PageIndex) bool {
	return c.frame(no, index) != mem.NoFrame
}

func (c *Cache) frame(no uint32, index mem.PageIndex) mem.PFN {
	blocks := c.files[no].blocks
	if b := uint64(index / blockPages); b < uint64(len(blocks)) && blocks[b] != nil {
		return blocks[b].pfn[index%blockPages]
	}
	return mem.NoFrame
}

// Insert caches frame pfn, of which the first valid bytes are the file's, and
// takes a reference on it. It is false, and nothing happens, where the page is
// cached already or beyond MaxIndex.
func (c *Cache) Insert(no uint32, index mem.PageIndex, pfn mem.PFN, valid int) bool {
	if index >= MaxIndex || c.frame(no, index) != mem.NoFrame {
		return false
	}
	f := &c.files[no]
	bn := int(index / blockPages)
	if bn >= len(f.blocks) {
		f.blocks = append(f.blocks, make([]*block, bn+1-len(f.blocks))...)
	}
	b := f.blocks[bn]
	if b == nil {
		b = new(block)
		f.blocks[bn] = b
	}
	if key := (blockKey{no, uint32(bn)}); key != c.front {
		c.lru.Add(key, struct{}{})
		c.front = key
	}
	b.pfn[index%blockPages] = pfn
	b.n++
	f.pages++
	if f.pinned {
		c.anonPages++
	}
	c.phys.Get(pfn)
	fr := c.phys.Frame(pfn)
	fr.File, fr.Index, fr.Valid = no, uint32(index), uint16(valid)
	fr.Flags |= phys.Cached | phys.Referenced
	c.stats.Pages++
	c.stats.Inserted++
	return true
}

// remove takes entry i out of block bn of file no and drops its reference.
func (c *Cache) remove(no uint32, bn, i int) {
	f := &c.files[no]
	b := f.blocks[bn]
	pfn := b.pfn[i]
	b.pfn[i] = mem.NoFrame
	b.n--
	f.pages--
	c.stats.Pages--
	if f.pinned {
		c.anonPages--
	}
	fr := c.phys.Frame(pfn)
	if fr.Flags&phys.Dirty != 0 {
		f.dirty--
	}
	fr.Flags &^= phys.Cached | phys.Referenced | phys.Dirty
	c.phys.Put(pfn)
	if b.n == 0 {
		f.blocks[bn] = nil
		c.lru.Remove(blockKey{no, uint32(bn)})
		c.front = blockKey{}
	}
}

// Drop takes all pages of a file out of the cache. Frames that are mapped live
// on as their mappings'.
func (c *Cache) Drop(no uint32) {
	f := &c.files[no]
	for bn, b := range f.blocks {
		for i := 0; b != nil && b.n > 0 && i < blockPages; i++ {
			if b.pfn[i] != mem.NoFrame {
				c.remove(no, bn, i)
			}
		}
	}
	f.blocks = nil
	if f.File != nil && c.byID[f.Identity()] == no {
		delete(c.byID, f.Identity())
	}
}

// CloseAnonymous drops anonymous memory. Its number may be given to another file.
func (c *Cache) CloseAnonymous(no uint32) {
	c.Drop(no)
	c.files[no] = file{}
	c.free = append(c.free, no)
}

// AnonymousPages returns how many pages of anonymous memory there are.
func (c *Cache) AnonymousPages() int { return c.anonPages }

// SetDirty marks a cached page of a file as written: it stays cached as long as
// the file has this content.
func (c *Cache) SetDirty(no uint32, index mem.PageIndex) {
	f := c.phys.Frame(c.frame(no, index))
	if f.Flags&phys.Dirty == 0 {
		f.Flags |= phys.Dirty
		c.files[no].dirty++
	}
}

// Dirty reports whether a page is cached and was written.
func (c *Cache) Dirty(no uint32, index mem.PageIndex) bool {
	if c.files[no].dirty == 0 {
		return false
	}
	pfn := c.frame(no, index)
	return pfn != mem.NoFrame && c.phys.Frame(pfn).Flags&phys.Dirty != 0
}

// OpenForWriting notes that a shared mapping may write to file no from now on:
// all its shared mappings then use the cache's frames, which must be whole. It
// takes out those that are only partly valid, and reports whether there were any.
func (c *Cache) OpenForWriting(no uint32) (dropped bool) {
	f := &c.files[no]
	if f.write {
		return false
	}
	f.write = true
	for i := range c.Indexes(no, 0, MaxIndex) {
		if c.phys.Frame(c.frame(no, i)).Valid < mem.PageSize {
			c.Remove(no, i)
			dropped = true
		}
	}
	return dropped
}

// Writable reports whether OpenForWriting was called for file no.
func (c *Cache) Writable(no uint32) bool { return c.files[no].write }

// DirtyPages returns how many pages of file no were written.
func (c *Cache) DirtyPages(no uint32) int { return c.files[no].dirty }

// Remove takes a page out of the cache, if it is there: of anonymous memory, a
// hole (Linux: FALLOC_FL_PUNCH_HOLE). Mappings of the frame keep it.
func (c *Cache) Remove(no uint32, index mem.PageIndex) {
	if c.frame(no, index) != mem.NoFrame {
		c.remove(no, int(index/blockPages), int(index%blockPages))
	}
}

// Indexes yields the cached pages of a file in r, by ascending index. The yielded
// one may be removed.
func (c *Cache) Indexes(no uint32, from, to mem.PageIndex) iter.Seq[mem.PageIndex] {
	return func(yield func(mem.PageIndex) bool) {
		for i := from; i < to; i++ {
			blocks := c.files[no].blocks
			b := uint64(i / blockPages)
			if b >= uint64(len(blocks)) {
				return
			}
			if blocks[b] == nil {
				i |= blockPages - 1
				continue
			}
			if blocks[b].pfn[i%blockPages] != mem.NoFrame && !yield(i) {
				return
			}
		}
	}
}

// Reset forgets all files and pages.
func (c *Cache) Reset() {
	for no := 1; no < len(c.files); no++ {
		c.Drop(uint32(no))
	}
	clear(c.files)
	c.files = c.files[:1]
	c.free = c.free[:0]
	c.stats, c.anonPages = Stats{}, 0
}

// Stats returns the counters.
func (c *Cache) Stats() Stats { return c.stats }

// FilePages returns how many pages of file no are cached.
func (c *Cache) FilePages(no uint32) int { return c.files[no].pages }

// Evict gives up to n pages back that nobody has mapped, from the least
// recently inserted block on; a page that was looked up since the last pass
// gets a second chance. It returns how many.
func (c *Cache) Evict(n int) int {
	freed := 0
	c.front = blockKey{}
	for rounds := 2 * c.lru.Len(); rounds > 0 && freed < n; rounds-- {
		key, _, ok := c.lru.RemoveOldest()
		if !ok {
			break
		}
		if c.files[key.file].pinned {
			c.lru.Add(key, struct{}{})
			continue
		}
		b := c.files[key.file].blocks[key.block]
		for i := 0; i < blockPages && b.n > 0 && freed < n; i++ {
			pfn := b.pfn[i]
			if pfn == mem.NoFrame || c.phys.Refs(pfn) > 1 {
				continue
			}
			f := c.phys.Frame(pfn)
			if f.Flags&phys.Dirty != 0 {
				continue // the only copy
			}
			if f.Flags&phys.Referenced != 0 {
				f.Flags &^= phys.Referenced
				continue
			}
			c.remove(key.file, int(key.block), i)
			freed++
		}
		if b.n > 0 {
			c.lru.Add(key, struct{}{})
		}
	}
	c.stats.Evicted += freed
	return freed
}

// Check verifies the index against the frame table and the LRU, and calls ref
// for each reference that the cache holds.
func (c *Cache) Check(ref func(mem.PFN)) error {
	pages, blocks, anon := 0, 0, 0
	for no := 1; no < len(c.files); no++ {
		inFile, dirty := 0, 0
		for bn, b := range c.files[no].blocks {
			if b == nil {
				continue
			}
			blocks++
			if !c.lru.Contains(blockKey{uint32(no), uint32(bn)}) {
				return fmt.Errorf("page cache: block %d of file %d is not in the LRU", bn, no)
			}
			n := 0
			for i, pfn := range b.pfn {
				if pfn == mem.NoFrame {
					continue
				}
				n++
				index := bn*blockPages + i
				f := c.phys.Frame(pfn)
				if f.File != uint32(no) || f.Index != uint32(index) || f.Flags&phys.Cached == 0 {
					return fmt.Errorf("page cache: frame %d of file %d index %#x is marked as file %d index %#x, flags %#x",
						pfn, no, index, f.File, f.Index, f.Flags)
				}
				if f.Valid == 0 || f.Valid > mem.PageSize {
					return fmt.Errorf("page cache: frame %d has %d valid bytes", pfn, f.Valid)
				}
				if f.Flags&phys.Dirty != 0 {
					dirty++
				}
				ref(pfn)
			}
			if n != b.n {
				return fmt.Errorf("page cache: block %d of file %d holds %d pages, %d counted", bn, no, n, b.n)
			}
			inFile += n
		}
		if inFile != c.files[no].pages {
			return fmt.Errorf("page cache: file %d holds %d pages, %d counted", no, inFile, c.files[no].pages)
		}
		if dirty != c.files[no].dirty {
			return fmt.Errorf("page cache: file %d has %d written pages, %d counted", no, dirty, c.files[no].dirty)
		}
		if c.files[no].pinned {
			anon += inFile
		}
		pages += inFile
	}
	if anon != c.anonPages {
		return fmt.Errorf("page cache: %d pages of anonymous memory, %d counted", anon, c.anonPages)
	}
	if pages != c.stats.Pages || blocks != c.lru.Len() {
		return fmt.Errorf("page cache: %d pages in %d blocks, %d and %d counted", pages, blocks, c.stats.Pages, c.lru.Len())
	}
	return nil
}
