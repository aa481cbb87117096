package pagecache

import (
	"math/rand/v2"
	"testing"

	"vmsim/mem"
)

// BenchmarkLookup hits 64 MiB of a file, in order and at random.
func BenchmarkLookup(b *testing.B) {
	const pages = 64 << 20 / mem.PageSize
	s := newModel(b, 33)
	defer s.m.Close()
	no := s.c.Open(mem.NewBytesFile("f", nil))
	frames := make([]mem.PFN, pages)
	for i := range frames {
		frames[i] = insert(b, s, no, mem.PageIndex(i))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	inOrder, random := make([]mem.PageIndex, pages), make([]mem.PageIndex, pages)
	for i, p := range rng.Perm(pages) {
		inOrder[i], random[i] = mem.PageIndex(i), mem.PageIndex(p)
	}
	for _, c := range []struct {
		name    string
		indexes []mem.PageIndex
	}{{"in order", inOrder}, {"random", random}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				index := c.indexes[i]
				if pfn, _, ok := s.c.Lookup(no, index); !ok || pfn != frames[index] {
					b.Fatal(index, pfn, ok)
				}
				if i++; i == pages {
					i = 0
				}
			}
		})
	}
}

// BenchmarkInsertEvict reads a file through a cache that is too small for it:
// one operation inserts a page, and evicts one when memory is full.
func BenchmarkInsertEvict(b *testing.B) {
	s := newModel(b, 8)
	defer s.m.Close()
	no := s.c.Open(mem.NewBytesFile("f", nil))
	b.ReportAllocs()
	index := mem.PageIndex(0)
	for b.Loop() {
		pfn, ok := s.m.Alloc()
		if !ok {
			if s.c.Evict(32) == 0 {
				b.Fatal("nothing to evict")
			}
			pfn, _ = s.m.Alloc()
		}
		if !s.c.Insert(no, index, pfn, mem.PageSize) {
			b.Fatal("page was cached")
		}
		s.m.Put(pfn)
		index = (index + 1) % (1 << 20)
	}
}
