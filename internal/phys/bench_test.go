package phys

import (
	"testing"

	"vmsim/mem"
)

func BenchmarkAllocPut(b *testing.B) {
	m := newTest(b, 64*mib)
	b.ReportAllocs()
	for b.Loop() {
		p, _ := m.Alloc()
		m.Put(p)
	}
}

// BenchmarkAllocPutMany goes through the buddy: refills, splits, drains and
// merges. One operation is one frame.
func BenchmarkAllocPutMany(b *testing.B) {
	const n = 4096
	m := newTest(b, 64*mib)
	frames := make([]mem.PFN, n)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		frames[i], _ = m.Alloc()
		if i++; i == n {
			for _, p := range frames {
				m.Put(p)
			}
			i = 0
		}
	}
}

func BenchmarkAllocHugePutBlock(b *testing.B) {
	m := newTest(b, 64*mib)
	b.ReportAllocs()
	for b.Loop() {
		h, _ := m.AllocHuge()
		m.PutBlock(h)
	}
}

func BenchmarkGetPut(b *testing.B) {
	m := newTest(b, 64*mib)
	p, _ := m.Alloc()
	b.ReportAllocs()
	for b.Loop() {
		m.Get(p)
		m.Put(p)
	}
	if m.Refs(p) != 1 {
		b.Fatalf("%d references", m.Refs(p))
	}
}

func BenchmarkGetBlockPutBlock(b *testing.B) {
	m := newTest(b, 64*mib)
	h, _ := m.AllocHuge()
	b.ReportAllocs()
	for b.Loop() {
		m.GetBlock(h)
		m.PutBlock(h)
	}
}

func BenchmarkPage(b *testing.B) {
	m := newTest(b, 64*mib)
	p, _ := m.Alloc()
	b.ReportAllocs()
	for b.Loop() {
		m.Page(p)[0]++
	}
}

func BenchmarkNewClose(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		m, err := New(4 << 30)
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReset(b *testing.B) {
	m := newTest(b, 4<<30)
	b.ReportAllocs()
	for b.Loop() {
		m.Alloc()
		m.Reset()
	}
}
