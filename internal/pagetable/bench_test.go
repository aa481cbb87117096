package pagetable

import (
	"math/rand/v2"
	"testing"

	"vmsim/mem"
)

// mapped1G maps 1 GiB from 0x40000000 on to frames in order: 262,144 entries,
// all of one frame, so that no arena of 1 GiB is needed.
func mapped1G(b *testing.B) *model {
	s := newModel(b, 1, 2048)
	b.Cleanup(s.close)
	e := Make(s.zero, mem.ProtRead).Special()
	for at := mem.VirtAddr(gib); at < 2*gib; at += mem.HugeSize {
		if err := s.t.SetWindow(&s.roots[0], at, func(int) Entry { return e }); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// BenchmarkWalk walks the four levels: of one page, of pages in order, and of
// random pages of 1 GiB, whose entries (2 MiB of leaves) miss the host's caches.
func BenchmarkWalk(b *testing.B) {
	const pages = gib / mem.PageSize
	s := mapped1G(b)
	rng := rand.New(rand.NewPCG(1, 2))
	random := make([]mem.VirtAddr, 1<<16)
	for i := range random {
		random[i] = gib + mem.VirtAddr(rng.IntN(pages))<<mem.PageShift
	}
	for _, c := range []struct {
		name string
		addr func(i int) mem.VirtAddr
	}{
		{"hot", func(int) mem.VirtAddr { return gib + 0x5000 }},
		{"in order", func(i int) mem.VirtAddr { return gib + mem.VirtAddr(i%pages)<<mem.PageShift }},
		{"cold", func(i int) mem.VirtAddr { return random[i%len(random)] }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if e, _ := s.t.Walk(s.roots[0], c.addr(i)); e.PFN() != s.zero {
					b.Fatal(e)
				}
				i++
			}
		})
	}
}

func BenchmarkTLBHit(b *testing.B) {
	var tlb TLB
	tag := tlb.NewTag()
	for i := range mem.PFN(tlbSize) {
		tlb.Fill(tag, mem.VirtAddr(i)<<mem.PageShift, i+1, mem.ProtRead)
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if pfn, ok := tlb.Lookup(tag, mem.VirtAddr(i%tlbSize)<<mem.PageShift, mem.ProtRead); !ok || pfn != mem.PFN(i%tlbSize+1) {
			b.Fatal(pfn, ok)
		}
		i++
	}
}

// BenchmarkFork1G forks 1 GiB of 4 KiB entries: alone, and with the first write
// of the child, which copies one path.
func BenchmarkFork1G(b *testing.B) {
	s := mapped1G(b)
	b.Run("fork", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := s.t.Fork(s.roots[0])
			s.t.Free(&c)
		}
	})
	b.Run("fork and write", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			c := s.t.Fork(s.roots[0])
			if err := s.t.Own(&c, gib); err != nil {
				b.Fatal(err)
			}
			s.t.Free(&c)
		}
	})
}

// BenchmarkSet sets 4 KiB entries by ascending address; one operation is one
// entry.
func BenchmarkSet(b *testing.B) {
	s := newModel(b, 1, 2048)
	defer s.close()
	e := Make(s.zero, mem.ProtRead).Special()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		at := gib + mem.VirtAddr(i%(gib/mem.PageSize))<<mem.PageShift
		if _, err := s.t.Set(&s.roots[0], at, e); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
