package vma

import (
	"fmt"
	"testing"

	"vmsim/mem"
)

// apart returns a set of n areas of one page with a page between them.
func apart(tb testing.TB, n int) *Set {
	s := New()
	for i := range n {
		at := mem.VirtAddr(2 * i * mem.PageSize)
		if err := s.Insert(VMA{Range: mem.PageOf(at)}); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

var sizes = []int{20, 1000, 100000}

// BenchmarkFind looks the same area up again, which the last-VMA cache answers,
// and areas in a shuffled order, which it never does.
func BenchmarkFind(b *testing.B) {
	for _, n := range sizes {
		s := apart(b, n)
		for _, c := range []struct {
			name   string
			stride int // coprime to n
		}{{"last", 0}, {"tree", 7919}} {
			b.Run(fmt.Sprintf("areas=%d/%s", n, c.name), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					at := mem.VirtAddr(2 * i * mem.PageSize)
					if v, ok := s.Find(at + 5); !ok || v.Start != at {
						b.Fatal(v, ok)
					}
					i = (i + c.stride) % n
				}
			})
		}
	}
}

// BenchmarkClone clones a set as fork does: alone, and with the first change of
// the clone, which copies the B-tree's nodes on one path.
func BenchmarkClone(b *testing.B) {
	for _, n := range sizes {
		s := apart(b, n)
		b.Run(fmt.Sprintf("areas=%d/clone", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c := s.Clone(); c.Len() != n {
					b.Fatal(c.Len())
				}
			}
		})
		b.Run(fmt.Sprintf("areas=%d/clone and insert", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c := s.Clone()
				if err := c.Insert(VMA{Range: mem.PageOf(mem.PageSize), Prot: mem.ProtRead}); err != nil {
					b.Fatal(err)
				}
			}
			if s.Len() != n {
				b.Fatal("the clone's insert changed the original")
			}
		})
	}
}

// BenchmarkGapBelow skips all areas from the top: the worst case of mmap.
func BenchmarkGapBelow(b *testing.B) {
	for _, n := range sizes {
		s := apart(b, n)
		top := mem.VirtAddr(2 * n * mem.PageSize)
		b.Run(fmt.Sprintf("areas=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if at, ok := s.GapBelow(2*mem.PageSize, 0, top, 0); ok {
					b.Fatal(at)
				}
			}
		})
	}
}
