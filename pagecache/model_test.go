package pagecache

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vmsim/internal/phys"
	"vmsim/mem"
)

// testFile is a file whose generation can change.
type testFile struct {
	*mem.BytesFile
	gen uint64
}

func (f testFile) Generation() uint64 { return f.gen }

// page is a cached page of the model.
type page struct {
	pfn        mem.PFN
	valid      int
	referenced bool
	dirty      bool
}

// place is where a page belongs.
type place struct {
	file  uint32
	index mem.PageIndex
}

func (p place) block() blockKey { return blockKey{p.file, uint32(p.index / blockPages)} }

// model is a Cache and what it should hold.
type model struct {
	m     *phys.Memory
	c     *Cache
	pages map[place]*page
	order []blockKey      // as the LRU should have them, oldest first
	files map[uint32]bool // numbers handed out; true is anonymous
	held  map[mem.PFN]int // references that the test holds: mappings
	stats Stats
}

func newModel(t interface{ Fatal(...any) }, blocks int) *model {
	m, err := phys.New(uint64(blocks) * mem.HugeSize)
	if err != nil {
		t.Fatal(err)
	}
	return &model{m: m, c: New(m), pages: map[place]*page{}, files: map[uint32]bool{}, held: map[mem.PFN]int{}}
}

// touched moves a block to the end of the LRU.
func (s *model) touched(b blockKey) {
	s.order = append(slices.DeleteFunc(s.order, func(o blockKey) bool { return o == b }), b)
}

// tidy forgets blocks without pages.
func (s *model) tidy() {
	s.order = slices.DeleteFunc(s.order, func(b blockKey) bool {
		for p := range s.pages {
			if p.block() == b {
				return false
			}
		}
		return true
	})
}

func (s *model) drop(no uint32) {
	for p := range s.pages {
		if p.file == no {
			delete(s.pages, p)
		}
	}
	s.tidy()
}

// evict is Evict on the model: from the oldest block on, pages by index, and
// twice round at most.
func (s *model) evict(n int) (gone []place) {
	for rounds := 2 * len(s.order); rounds > 0 && len(gone) < n && len(s.order) > 0; rounds-- {
		b := s.order[0]
		s.order = append(s.order[1:], b)
		if s.files[b.file] {
			continue
		}
		for i := range mem.PageIndex(blockPages) {
			at := place{b.file, mem.PageIndex(b.block)*blockPages + i}
			p := s.pages[at]
			switch {
			case p == nil || s.held[p.pfn] > 0 || p.dirty || len(gone) == n:
			case p.referenced:
				p.referenced = false
			default:
				delete(s.pages, at)
				gone = append(gone, at)
			}
		}
		s.tidy()
	}
	return gone
}

func (s *model) check(t *rapid.T) {
	refs := map[mem.PFN]int{}
	if err := s.c.Check(func(p mem.PFN) { refs[p]++ }); err != nil {
		t.Fatal(err)
	}
	if len(refs) != len(s.pages) {
		t.Fatalf("%d frames cached, want %d", len(refs), len(s.pages))
	}
	inFile := map[uint32]int{}
	for at, p := range s.pages {
		inFile[at.file]++
		f := s.m.Frame(p.pfn)
		if refs[p.pfn] != 1 || s.m.Refs(p.pfn) != uint32(1+s.held[p.pfn]) {
			t.Fatalf("%v: frame %d has %d references, %d of the cache; %d mappings", at, p.pfn, s.m.Refs(p.pfn), refs[p.pfn], s.held[p.pfn])
		}
		if !s.c.Contains(at.file, at.index) || f.File != at.file || mem.PageIndex(f.Index) != at.index || int(f.Valid) != p.valid {
			t.Fatalf("%v: frame %d is marked %+v, want %+v", at, p.pfn, *f, p)
		}
		if s.c.Dirty(at.file, at.index) != p.dirty {
			t.Fatalf("%v: dirty, want %t", at, p.dirty)
		}
		if got := f.Flags&phys.Referenced != 0; got != p.referenced || f.Flags&phys.Cached == 0 {
			t.Fatalf("%v: flags %b, referenced: want %t", at, f.Flags, p.referenced)
		}
	}
	anon := 0
	for no, anonymous := range s.files {
		indexes := 0
		for range s.c.Indexes(no, 0, MaxIndex) {
			indexes++
		}
		if indexes != inFile[no] {
			t.Fatalf("file %d: %d indexes, want %d", no, indexes, inFile[no])
		}
		if anonymous {
			anon += inFile[no]
		}
		if s.c.FilePages(no) != inFile[no] || s.c.Anonymous(no) != anonymous {
			t.Fatalf("file %d: %d pages, anonymous %t; want %d, %t", no, s.c.FilePages(no), s.c.Anonymous(no), inFile[no], anonymous)
		}
	}
	if s.c.AnonymousPages() != anon {
		t.Fatalf("%d anonymous pages, want %d", s.c.AnonymousPages(), anon)
	}
	allocated := len(s.pages)
	for p, n := range s.held {
		if n > 0 && refs[p] == 0 { // mapped, cached no more
			allocated++
			if s.m.Refs(p) != uint32(n) || s.m.Frame(p).Flags != 0 {
				t.Fatalf("frame %d: %d references, flags %b; want %d mappings alone", p, s.m.Refs(p), s.m.Frame(p).Flags, n)
			}
		}
	}
	if got := s.m.Frames() - s.m.FreeFrames(); got != allocated {
		t.Fatalf("%d frames allocated, want %d", got, allocated)
	}
	s.stats.Pages = len(s.pages)
	if s.c.Stats() != s.stats {
		t.Fatalf("stats %+v, want %+v", s.c.Stats(), s.stats)
	}
	if got := s.c.lru.Keys(); !slices.Equal(got, s.order) {
		t.Fatalf("LRU %v, want %v", got, s.order)
	}
}

func TestModel(t *testing.T) {
	indexes := []mem.PageIndex{0, 1, 2, 511, 512, 513, 1023, 5000, MaxIndex - 1}
	rapid.Check(t, func(t *rapid.T) {
		s := newModel(t, 1)
		defer s.m.Close()
		files := []testFile{{mem.NewBytesFile("a", nil), 1}, {mem.NewBytesFile("b", nil), 1}, {mem.NewBytesFile("c", nil), 1}}
		open := map[mem.FileID]uint32{} // the number of the current generation
		file := func(t *rapid.T) (uint32, bool) {
			var all []uint32
			for no := range s.files {
				all = append(all, no)
			}
			slices.Sort(all)
			if len(all) == 0 {
				return 0, false
			}
			return rapid.SampledFrom(all).Draw(t, "file"), true
		}
		somePage := func(t *rapid.T) *page {
			var all []place
			for p := range s.pages {
				all = append(all, p)
			}
			slices.SortFunc(all, func(a, b place) int {
				return int(a.file)<<32 + int(a.index) - int(b.file)<<32 - int(b.index)
			})
			if len(all) == 0 {
				return nil
			}
			return s.pages[rapid.SampledFrom(all).Draw(t, "page")]
		}

		t.Repeat(map[string]func(*rapid.T){
			"": s.check,
			"open": func(t *rapid.T) {
				f := rapid.SampledFrom(files).Draw(t, "which")
				no := s.c.Open(f)
				if want, ok := open[f.Identity()]; ok && no != want || !ok && (no == 0 || s.files[no]) {
					t.Fatalf("open %s: number %d, want %d", f.Name(), no, want)
				}
				open[f.Identity()], s.files[no] = no, false
			},
			"open changed": func(t *rapid.T) {
				f := &files[rapid.IntRange(0, len(files)-1).Draw(t, "which")]
				f.gen++
				no := s.c.Open(*f)
				if _, ok := s.files[no]; ok {
					t.Fatalf("open %s, changed: number %d is taken", f.Name(), no)
				}
				if old, ok := open[f.Identity()]; ok {
					s.drop(old)
				}
				open[f.Identity()], s.files[no] = no, false
			},
			"open anonymous": func(t *rapid.T) {
				if len(s.files) < 8 {
					s.files[s.c.OpenAnonymous(mem.NewBytesFile("zero", nil))] = true
				}
			},
			"insert": func(t *rapid.T) {
				no, ok := file(t)
				pfn, room := s.m.Alloc()
				if !room {
					return
				}
				if !ok {
					s.m.Put(pfn)
					return
				}
				at := place{no, rapid.SampledFrom(indexes).Draw(t, "index")}
				valid := rapid.IntRange(1, mem.PageSize).Draw(t, "valid")
				_, taken := s.pages[at]
				if got := s.c.Insert(no, at.index, pfn, valid); got != !taken {
					t.Fatalf("insert %v: %t, cached before: %t", at, got, taken)
				}
				if !taken {
					s.pages[at] = &page{pfn, valid, true, false}
					s.touched(at.block())
					s.stats.Inserted++
				}
				if !taken && rapid.Bool().Draw(t, "stays mapped") {
					s.held[pfn]++
				} else {
					s.m.Put(pfn)
				}
			},
			"write": func(t *rapid.T) {
				no, ok := file(t)
				at := place{no, rapid.SampledFrom(indexes).Draw(t, "index")}
				if p := s.pages[at]; ok && p != nil && !s.files[no] {
					s.c.SetDirty(no, at.index)
					p.dirty = true
				}
			},
			"remove": func(t *rapid.T) {
				no, ok := file(t)
				at := place{no, rapid.SampledFrom(indexes).Draw(t, "index")}
				if ok && rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					s.c.Remove(no, at.index)
					delete(s.pages, at)
					s.tidy()
				}
			},
			"open for writing": func(t *rapid.T) {
				no, ok := file(t)
				if !ok || s.files[no] || s.c.Writable(no) || rapid.IntRange(0, 9).Draw(t, "really") != 0 {
					return
				}
				want := false
				for at, p := range s.pages {
					if at.file == no && p.valid < mem.PageSize {
						delete(s.pages, at)
						want = true
					}
				}
				s.tidy()
				if got := s.c.OpenForWriting(no); got != want || s.c.OpenForWriting(no) {
					t.Fatalf("file %d opened for writing: partial pages %t, want %t", no, got, want)
				}
			},
			"insert beyond": func(t *rapid.T) {
				no, ok := file(t)
				pfn, room := s.m.Alloc()
				if ok && room && s.c.Insert(no, MaxIndex+mem.PageIndex(rapid.Uint64Range(0, 1<<63).Draw(t, "beyond")), pfn, 1) {
					t.Fatal("a page beyond MaxIndex was cached")
				}
				if room {
					s.m.Put(pfn)
				}
			},
			"lookup": func(t *rapid.T) {
				no, ok := file(t)
				if !ok {
					return
				}
				at := place{no, rapid.SampledFrom(append(indexes, MaxIndex, 1<<60)).Draw(t, "index")}
				pfn, valid, hit := s.c.Lookup(no, at.index)
				p := s.pages[at]
				if hit != (p != nil) || hit && (pfn != p.pfn || valid != p.valid) || !hit && pfn != mem.NoFrame {
					t.Fatalf("lookup %v: frame %d, %d valid, %t; want %+v", at, pfn, valid, hit, p)
				}
				if hit {
					p.referenced = true
				}
			},
			"map": func(t *rapid.T) {
				if p := somePage(t); p != nil {
					s.m.Get(p.pfn)
					s.held[p.pfn]++
				}
			},
			"unmap": func(t *rapid.T) {
				for pfn := mem.PFN(1); int(pfn) <= s.m.Frames(); pfn++ {
					if s.held[pfn] > 0 {
						s.m.Put(pfn)
						s.held[pfn]--
						return
					}
				}
			},
			"evict": func(t *rapid.T) {
				n := rapid.IntRange(0, 8).Draw(t, "n")
				want := s.evict(n)
				s.stats.Evicted += len(want)
				if got := s.c.Evict(n); got != len(want) {
					t.Fatalf("evict %d: %d, want %v", n, got, want)
				}
				for _, at := range want {
					if s.c.Contains(at.file, at.index) {
						t.Fatalf("%v was to be evicted", at)
					}
				}
			},
			"drop": func(t *rapid.T) {
				if no, ok := file(t); ok && rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					s.c.Drop(no)
					s.drop(no)
					for id, x := range open {
						if x == no {
							delete(open, id)
						}
					}
				}
			},
			"close anonymous": func(t *rapid.T) {
				for _, no := range slices.Sorted(maps.Keys(s.files)) {
					if s.files[no] && rapid.Bool().Draw(t, "this one") {
						s.c.CloseAnonymous(no)
						s.drop(no)
						delete(s.files, no) // another file may get it
						return
					}
				}
			},
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") != 0 {
					return // rarely, or no run gets anywhere
				}
				s.c.Reset()
				clear(s.pages)
				clear(s.files)
				clear(open)
				s.order, s.stats = nil, Stats{}
			},
		})
	})
}
