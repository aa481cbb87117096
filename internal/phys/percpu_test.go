package phys

import (
	"testing"

	"vmsim/mem"
)

// TestBuddyInPerCPUList is a bug of a real kernel: the buddy of a freed frame is free,
// but in a per-CPU list. Merging with it would hand it out twice.
func TestBuddyInPerCPUList(t *testing.T) {
	m, err := newMemory(4*mib, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	frames := exhaust(t, m)
	if len(frames) != m.Frames() {
		t.Fatal("arena not exhausted")
	}
	const a, b = mem.PFN(600), mem.PFN(601)
	m.Put(a) // stays in the list of CPU 0
	m.cpu = &m.cpus[1]
	m.Put(b)
	m.drain(m.cpu, m.cpu.n) // goes to the buddy; its buddy a is not there
	check(t, m)
	if got := m.frames[b].state; got != headOf(0) {
		t.Fatalf("frame %d is %v, want a free block of order 0", b, got)
	}
	first, ok1 := m.Alloc()
	second, ok2 := m.Alloc() // a, drained from CPU 0
	_, ok3 := m.Alloc()
	if first != b || second != a || !ok1 || !ok2 || ok3 {
		t.Errorf("allocated %d %t, %d %t, then %t", first, ok1, second, ok2, ok3)
	}
	check(t, m)
}

func TestRefillAndDrain(t *testing.T) {
	m := newTest(t, 4*mib)
	first, _ := m.Alloc()
	if m.cpu.n != batch-1 || m.FreeFrames() != m.Frames()-1 {
		t.Fatalf("%d frames in the list after a refill, %d free", m.cpu.n, m.FreeFrames())
	}
	check(t, m)
	for i, p := range append(exhaust(t, m), first) {
		m.Put(p)
		check(t, m)
		if m.cpu.n < 1 || m.cpu.n > high {
			t.Fatalf("%d frames in the list after %d frees", m.cpu.n, i+1)
		}
	}
	if m.FreeFrames() != m.Frames() {
		t.Fatalf("%d of %d frames free", m.FreeFrames(), m.Frames())
	}
	// Frames of block 1 were freed last: the list alone keeps it from being whole.
	if m.nonempty>>maxOrder != 0 || int(m.top) != len(m.frames) {
		t.Fatal("block 1 is free in the buddy")
	}
	if h, ok := m.AllocHuge(); !ok || h != 512 || m.cpu.n != 0 {
		t.Fatalf("AllocHuge: frame %d, %t, %d frames left in the list", h, ok, m.cpu.n)
	}
}
