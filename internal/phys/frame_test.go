package phys

import (
	"math"
	"strings"
	"testing"

	"vmsim/mem"
)

func TestReferences(t *testing.T) {
	m := newTest(t, 4*mib)
	p, ok := m.Alloc()
	if !ok || p == mem.NoFrame || m.Refs(p) != 1 {
		t.Fatalf("Alloc: frame %d, %t, %d references", p, ok, m.Refs(p))
	}
	*m.Frame(p) = Frame{refs: 1, File: 9, Index: 8, Valid: 4096, Flags: Cached | Referenced | Dirty | Huge, state: stateAllocated}
	check(t, m)
	m.Get(p)
	m.Get(p)
	for range 2 {
		if m.Put(p) {
			t.Fatal("freed with a reference left")
		}
	}
	if m.Refs(p) != 1 || m.Frame(p).File != 9 {
		t.Fatalf("entry %+v after Get and Put", *m.Frame(p))
	}
	if !m.Put(p) || m.Refs(p) != 0 || m.FreeFrames() != m.Frames() {
		t.Fatal("not freed by the last Put")
	}
	check(t, m)
	q, _ := m.Alloc()
	if q != p {
		t.Errorf("frame %d allocated after frame %d was freed: not the hot one", q, p)
	}
	if want := (Frame{refs: 1, state: stateAllocated}); *m.Frame(q) != want {
		t.Errorf("allocated with entry %+v", *m.Frame(q))
	}
}

func TestMisusePanics(t *testing.T) {
	m := newTest(t, 6*mib)
	p, _ := m.Alloc()
	m.Put(p)
	// Free in a per-CPU list, head and tail in the buddy, above the high-water
	// mark, reserved.
	for _, p := range []mem.PFN{p, 256, 257, 1024, mem.NoFrame} {
		mustPanic(t, "Get of a free frame", func() { m.Get(p) })
		mustPanic(t, "Put of a free frame", func() { m.Put(p) })
		check(t, m) // a panic changes nothing
	}
	mustPanic(t, "GetBlock(0)", func() { m.GetBlock(0) })
	mustPanic(t, "PutBlock(0)", func() { m.PutBlock(0) })
	mustPanic(t, "GetBlock of a free block", func() { m.GetBlock(512) })
	mustPanic(t, "PutBlock of a free block", func() { m.PutBlock(512) })
	mustPanic(t, "GetBlock(1)", func() { m.GetBlock(1) })
	mustPanic(t, "PutBlock(1)", func() { m.PutBlock(1) })
	mustPanic(t, "Put beyond the arena", func() { m.Put(mem.PFN(m.Frames() + 1)) })
	check(t, m)

	defer func() {
		if s, _ := recover().(string); !strings.Contains(s, "frame 256: put, but it is head of a free block of order 8") {
			t.Errorf("panic %q", s)
		}
	}()
	m.Put(256)
}

func TestSaturation(t *testing.T) {
	const refsSaturated = 3 << 30
	m := newTest(t, 4*mib)
	p, _ := m.Alloc()
	m.frames[p].refs = math.MaxInt32 - 1
	m.Get(p)
	if m.Refs(p) != math.MaxInt32 {
		t.Fatalf("%d references, want 2^31-1", m.Refs(p))
	}
	if m.Put(p); m.Refs(p) != math.MaxInt32-1 {
		t.Fatalf("%d references, want 2^31-2: saturated too early", m.Refs(p))
	}
	m.Get(p)
	m.Get(p)
	for range 3 {
		m.Get(p)
		if m.Refs(p) != refsSaturated {
			t.Fatalf("%#x references after Get, want saturated", m.Refs(p))
		}
	}
	for range 5 {
		if m.Put(p) || m.Refs(p) != refsSaturated {
			t.Fatalf("%#x references after Put, want saturated", m.Refs(p))
		}
	}
	if m.FreeFrames() != m.Frames()-1 {
		t.Fatal("saturated frame is not counted as allocated")
	}
	check(t, m)

	// In a block: the saturated frame stays, the others go.
	h, _ := m.AllocHuge()
	m.frames[h+3].refs = math.MaxInt32
	m.GetBlock(h)
	if n := m.PutBlock(h); n != 0 {
		t.Fatalf("%d frames freed with a reference left", n)
	}
	if n := m.PutBlock(h); n != 511 || m.Refs(h+3) != refsSaturated {
		t.Fatalf("%d frames freed, %#x references", n, m.Refs(h+3))
	}
	check(t, m)
}

// TestBlockReferences: each of the 512 frames of a huge page has references of
// its own, so that the block can be split and freed page by page.
func TestBlockReferences(t *testing.T) {
	m := newTest(t, 4*mib)
	h, ok := m.AllocHuge()
	if !ok || h%mem.SubPages != 0 || h == mem.NoFrame {
		t.Fatalf("AllocHuge: frame %d, %t", h, ok)
	}
	refs := func(want uint32) {
		t.Helper()
		for i := range mem.PFN(mem.SubPages) {
			if got := m.Refs(h + i); got != want {
				t.Fatalf("sub-page %d: %d references, want %d", i, got, want)
			}
		}
	}
	refs(1)
	m.GetBlock(h)
	refs(2)
	m.GetBlock(h)
	refs(3)
	if n := m.PutBlock(h); n != 0 {
		t.Fatalf("%d frames freed", n)
	}
	refs(2)

	m.Put(h + 7) // one sub-page was unmapped: 1, the others 2
	if n := m.PutBlock(h); n != 1 || m.Refs(h+7) != 0 || m.Refs(h+8) != 1 {
		t.Fatalf("%d frames freed, want sub-page 7 alone", n)
	}
	check(t, m)
	if q, _ := m.AllocHuge(); q != mem.NoFrame {
		t.Fatalf("block %d allocated: it is in use", q)
	}
	// The rest one by one, in an order that is far from sequential.
	for i := range mem.PFN(mem.SubPages) {
		if j := i * 181 % mem.SubPages; j != 7 && !m.Put(h+j) {
			t.Fatalf("sub-page %d: not freed", j)
		}
	}
	check(t, m)
	if q, ok := m.AllocHuge(); !ok || q != h {
		t.Fatalf("block did not come back whole: %d, %t", q, ok)
	}
	if n := m.PutBlock(h); n != mem.SubPages {
		t.Fatalf("%d frames freed, want 512", n)
	}
}
