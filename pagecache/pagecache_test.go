package pagecache

import (
	"fmt"
	"strings"
	"testing"

	"vmsim/internal/phys"
	"vmsim/mem"
)

// insert caches a fresh frame that nobody maps.
func insert(t testing.TB, s *model, no uint32, index mem.PageIndex) mem.PFN {
	t.Helper()
	pfn, ok := s.m.Alloc()
	if !ok || !s.c.Insert(no, index, pfn, mem.PageSize) {
		t.Fatalf("insert of page %#x: a frame %t", index, ok)
	}
	s.m.Put(pfn)
	return pfn
}

// cached lists which of the first 16 pages of a file are cached.
func cached(c *Cache, no uint32) string {
	var b strings.Builder
	for i := range mem.PageIndex(16) {
		if c.Contains(no, i) {
			fmt.Fprintf(&b, "%x", uint64(i))
		}
	}
	return b.String()
}

// One block of four pages: the mapped one stays, a page that was looked up
// since the last pass gets a second chance, and so do new ones.
func TestEvictSecondChance(t *testing.T) {
	s := newModel(t, 1)
	defer s.m.Close()
	no := s.c.Open(mem.NewBytesFile("f", nil))
	for i := range mem.PageIndex(4) {
		insert(t, s, no, i)
	}
	mapped, _, _ := s.c.Lookup(no, 0)
	s.m.Get(mapped)

	// The first round clears the marks of 1, 2, 3; the second takes one.
	if n := s.c.Evict(1); n != 1 || cached(s.c, no) != "023" {
		t.Errorf("evicted %d, left %s; want 1 gone", n, cached(s.c, no))
	}
	s.c.Lookup(no, 2)
	if n := s.c.Evict(1); n != 1 || cached(s.c, no) != "02" {
		t.Errorf("evicted %d, left %s; want 3 gone, 2 was used", n, cached(s.c, no))
	}
	if n := s.c.Evict(10); n != 1 || cached(s.c, no) != "0" {
		t.Errorf("evicted %d, left %s; want the mapped page alone", n, cached(s.c, no))
	}
	s.m.Put(mapped)
	if n := s.c.Evict(10); n != 1 || s.m.FreeFrames() != s.m.Frames() {
		t.Errorf("evicted %d, %d of %d frames free", n, s.m.FreeFrames(), s.m.Frames())
	}
	if n := s.c.Evict(10); n != 0 {
		t.Errorf("evicted %d of nothing", n)
	}
}

// The frame of a file that changed lives on in the processes that map it, and
// is not found for the new content (a bug of the Kevlar kernel).
func TestChangedFile(t *testing.T) {
	s := newModel(t, 1)
	defer s.m.Close()
	f := testFile{mem.NewBytesFile("f", nil), 1}
	old := s.c.Open(f)
	pfn := insert(t, s, old, 3)
	s.m.Get(pfn)
	f.gen = 2
	no := s.c.Open(f)
	if no == old || s.c.Contains(no, 3) || s.c.Contains(old, 3) {
		t.Errorf("file %d, was %d: the old page is still found", no, old)
	}
	if s.m.Refs(pfn) != 1 || s.m.Frame(pfn).Flags != 0 {
		t.Errorf("frame %d: %d references, flags %b", pfn, s.m.Refs(pfn), s.m.Frame(pfn).Flags)
	}
	if s.c.Open(f) != no {
		t.Error("the new content has two numbers")
	}
}

// TestCheckFinds corrupts the cache in one way at a time.
func TestCheckFinds(t *testing.T) {
	for _, c := range []struct {
		want    string
		corrupt func(s *model, no uint32, pfn mem.PFN)
	}{
		{"block 0 of file 1 is not in the LRU", func(s *model, no uint32, _ mem.PFN) { s.c.lru.Remove(blockKey{no, 0}) }},
		{"is marked as file 9", func(s *model, _ uint32, pfn mem.PFN) { s.m.Frame(pfn).File = 9 }},
		{"is marked as file 1 index 0x7", func(s *model, _ uint32, pfn mem.PFN) { s.m.Frame(pfn).Index = 7 }},
		{"flags 0x2", func(s *model, _ uint32, pfn mem.PFN) { s.m.Frame(pfn).Flags &^= phys.Cached }},
		{"has 0 valid bytes", func(s *model, _ uint32, pfn mem.PFN) { s.m.Frame(pfn).Valid = 0 }},
		{"has 4097 valid bytes", func(s *model, _ uint32, pfn mem.PFN) { s.m.Frame(pfn).Valid = mem.PageSize + 1 }},
		{"block 0 of file 1 holds 2 pages, 3 counted", func(s *model, no uint32, _ mem.PFN) { s.c.files[no].blocks[0].n++ }},
		{"file 1 holds 3 pages, 4 counted", func(s *model, no uint32, _ mem.PFN) { s.c.files[no].pages++ }},
		{"3 pages in 2 blocks, 4 and 2 counted", func(s *model, _ uint32, _ mem.PFN) { s.c.stats.Pages++ }},
		{"3 pages in 2 blocks, 3 and 3 counted", func(s *model, _ uint32, _ mem.PFN) { s.c.lru.Add(blockKey{1, 7}, struct{}{}) }},
	} {
		s := newModel(t, 1)
		no := s.c.Open(mem.NewBytesFile("f", nil))
		pfn := insert(t, s, no, 0)
		insert(t, s, no, 1)
		insert(t, s, no, 600)
		refs := 0
		if err := s.c.Check(func(mem.PFN) { refs++ }); err != nil || refs != 3 {
			t.Fatalf("%v, %d references", err, refs)
		}
		c.corrupt(s, no, pfn)
		if err := s.c.Check(func(mem.PFN) {}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
		s.m.Close()
	}
}

// A block that gets a page is the last to be evicted from, also if it was the
// last before an eviction moved another behind it.
func TestEvictOrder(t *testing.T) {
	s := newModel(t, 1)
	defer s.m.Close()
	old, young := s.c.Open(mem.NewBytesFile("old", nil)), s.c.Open(mem.NewBytesFile("young", nil))
	add := func(no uint32, index mem.PageIndex) { s.m.Frame(insert(t, s, no, index)).Flags &^= phys.Referenced }
	for i := range mem.PageIndex(3) {
		add(old, i)
	}
	add(young, 0)
	if n := s.c.Evict(1); n != 1 || cached(s.c, old) != "12" { // and old is behind young
		t.Fatalf("evicted %d, left %s of the old file", n, cached(s.c, old))
	}
	add(young, 1) // and young behind old
	if n := s.c.Evict(1); n != 1 || cached(s.c, old) != "2" || cached(s.c, young) != "01" {
		t.Errorf("evicted %d, left %s of the old file and %s of the young one", n, cached(s.c, old), cached(s.c, young))
	}
}
