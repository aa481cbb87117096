package pagecache

import (
	"fmt"
	"math"
	"slices"

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
	anon  []uint32 // numbers of shared anonymous memory
	free  []uint32 // numbers of such that is gone
	byID  map[mem.FileID]uint32
	lru   *simplelru.LRU[blockKey, struct{}]
	front blockKey // the first of lru, which need not be added; zero: not known
	stats Stats
}

// file is one content of one file.
type file struct {
	mem.File
	blocks []*block // by index / blockPages; nil where nothing is cached
	pages  int
	pinned bool // anonymous memory that has no other copy: never evicted
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
	c.anon = append(c.anon, no)
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
	c.phys.Frame(pfn).Flags &^= phys.Cached | phys.Referenced
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

// DropAnonymous drops the shared anonymous memory that dead picks. Its number
// may be given to another file.
func (c *Cache) DropAnonymous(dead func(no uint32) bool) {
	c.anon = slices.DeleteFunc(c.anon, func(no uint32) bool {
		if !dead(no) {
			return false
		}
		c.Drop(no)
		c.free = append(c.free, no)
		return true
	})
}

// Reset forgets all files and pages.
func (c *Cache) Reset() {
	for no := 1; no < len(c.files); no++ {
		c.Drop(uint32(no))
	}
	clear(c.files)
	c.files = c.files[:1]
	c.anon, c.free = c.anon[:0], c.free[:0]
	c.stats = Stats{}
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
			if f := c.phys.Frame(pfn); f.Flags&phys.Referenced != 0 {
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
	pages, blocks := 0, 0
	for no := 1; no < len(c.files); no++ {
		inFile := 0
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
		pages += inFile
	}
	if pages != c.stats.Pages || blocks != c.lru.Len() {
		return fmt.Errorf("page cache: %d pages in %d blocks, %d and %d counted", pages, blocks, c.stats.Pages, c.lru.Len())
	}
	return nil
}
