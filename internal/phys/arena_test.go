package phys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

const mib = 1 << 20

// newTest returns a Memory that is checked and closed at the end of the test.
func newTest(t testing.TB, sizeBytes uint64) *Memory {
	t.Helper()
	m, err := New(sizeBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		check(t, m)
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

type fataler interface {
	Helper()
	Fatal(...any)
}

func check(t fataler, m *Memory) {
	t.Helper()
	if err := m.Check(); err != nil {
		t.Fatal("Check:", err)
	}
}

func mustPanic(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	f()
}

func TestNewSize(t *testing.T) {
	for _, tc := range []struct {
		sizeBytes uint64
		frames    int // the reserved one included
	}{
		{0, 512},
		{1, 512},
		{2 * mib, 512},
		{2*mib + 1, 1024},
		{64 * mib, 16384},
		{64*mib - 1, 16384},
		{4 << 30, 1 << 20},
		{64 << 30, 1 << 24},
	} {
		m := newTest(t, tc.sizeBytes)
		check(t, m)
		if m.Frames() != tc.frames-1 || m.FreeFrames() != tc.frames-1 {
			t.Errorf("New(%d): %d frames, %d free, want %d", tc.sizeBytes, m.Frames(), m.FreeFrames(), tc.frames-1)
		}
		// Both ends of the arena are there.
		last := m.Page(mem.PFN(m.Frames()))
		last[len(last)-1] = 1
		m.Page(1)[0] = 1
	}
	for _, n := range []uint64{MaxBytes + 1, math.MaxUint64} {
		if m, err := New(n); !errors.Is(err, ErrTooLarge) || m != nil {
			t.Errorf("New(%d): %v, want ErrTooLarge", n, err)
		}
	}
}

func TestAlignment(t *testing.T) {
	m := newTest(t, 6*mib)
	if addr := uintptr(unsafe.Pointer(&m.pages[0])); addr%mem.HugeSize != 0 {
		t.Errorf("arena at %#x, not at a multiple of 2 MiB", addr)
	}

	// A host may align large mappings by itself: give trim one that is not.
	const size = 4 * mib
	for _, off := range []uintptr{0, mem.PageSize, mem.HugeSize / 2, mem.HugeSize - mem.PageSize} {
		aligned, err := reserve(size + 2*mem.HugeSize)
		if err != nil {
			t.Fatal(err)
		}
		base := unsafe.Add(aligned, off)
		if off > 0 {
			err = unix.MunmapPtr(aligned, off)
		}
		if err = errors.Join(err, unix.MunmapPtr(unsafe.Add(base, size+mem.HugeSize), mem.HugeSize-off)); err != nil {
			t.Fatal(err)
		}
		start, err := trim(base, size)
		if err != nil {
			t.Fatal(err)
		}
		if addr := uintptr(start); addr%mem.HugeSize != 0 || addr < uintptr(base) {
			t.Errorf("offset %#x: mapping at %#x cut down to %#x", off, base, addr)
		}
		data := unsafe.Slice((*byte)(start), size)
		data[0], data[size-1] = 1, 1
		if err := unix.MunmapPtr(start, size); err != nil {
			t.Error(err)
		}
	}
}

func TestPageAndBlock(t *testing.T) {
	m := newTest(t, 8*mib)
	for p := range mem.PFN(m.Frames() + 1) {
		page := m.Page(p)
		if len(page) != mem.PageSize || cap(page) != mem.PageSize {
			t.Fatalf("frame %d: length %d, capacity %d", p, len(page), cap(page))
		}
		for i := 0; i < len(page); i += 8 {
			binary.LittleEndian.PutUint64(page[i:], uint64(p)<<32|uint64(i))
		}
	}
	// No frame was overwritten by a later one, and a block is its 512 frames.
	for first := mem.PFN(0); int(first) < m.Frames(); first += mem.SubPages {
		block := m.Block(first)
		if len(block) != mem.HugeSize || cap(block) != mem.HugeSize {
			t.Fatalf("block %d: length %d, capacity %d", first, len(block), cap(block))
		}
		for j := range mem.PFN(mem.SubPages) {
			p := first + j
			if !bytes.Equal(block[j*mem.PageSize:][:mem.PageSize], m.Page(p)) {
				t.Fatalf("frame %d: not in its place in block %d", p, first)
			}
			for i := 0; i < mem.PageSize; i += 8 {
				if got := binary.LittleEndian.Uint64(m.Page(p)[i:]); got != uint64(p)<<32|uint64(i) {
					t.Fatalf("frame %d, byte %d: holds %#x", p, i, got)
				}
			}
		}
	}
	mustPanic(t, "Block(513)", func() { m.Block(513) })
	mustPanic(t, "Page beyond the arena", func() { m.Page(mem.PFN(m.Frames() + 1)) })
	mustPanic(t, "Block beyond the arena", func() { m.Block(mem.PFN(m.Frames() + 1)) })
}

func TestReset(t *testing.T) {
	m := newTest(t, 8*mib)
	var fresh []mem.PFN
	for round := range 3 {
		var got []mem.PFN
		for range 700 {
			p, ok := m.Alloc()
			if !ok {
				t.Fatal("no frame")
			}
			*m.Frame(p) = Frame{refs: 7, File: 1, Index: 2, Valid: 3, Flags: Dirty, state: stateAllocated}
			got = append(got, p)
		}
		h, ok := m.AllocHuge()
		if !ok {
			t.Fatal("no huge block")
		}
		got = append(got, h)
		m.frames[got[0]].refs = saturated
		if round == 0 {
			fresh = got
		}
		for i := range got {
			if got[i] != fresh[i] {
				t.Fatalf("round %d: allocation %d is frame %d, was %d", round, i, got[i], fresh[i])
			}
		}
		m.Reset()
		check(t, m)
		if m.FreeFrames() != m.Frames() {
			t.Fatalf("round %d: %d of %d frames free", round, m.FreeFrames(), m.Frames())
		}
		for p := range mem.PFN(m.Frames() + 1) {
			if m.Refs(p) != 0 {
				t.Fatalf("round %d: frame %d has references", round, p)
			}
		}
	}
}

func TestClose(t *testing.T) {
	m, err := New(2 * mib)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	mustPanic(t, "Page after Close", func() { m.Page(1) })
}

// TestCloseUnmaps: neither arenas nor tables nor what was trimmed stays mapped.
func TestCloseUnmaps(t *testing.T) {
	virtualSize := func() (nPages uint64) {
		statm, err := os.ReadFile("/proc/self/statm")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(string(statm), &nPages); err != nil {
			t.Fatal(err)
		}
		return nPages
	}
	before := virtualSize()
	const n = 500
	for range n {
		m, err := New(mem.HugeSize)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// The Go heap may have grown, but not by a block each time.
	if grown := int(virtualSize()) - int(before); grown > n*mem.SubPages/2 {
		t.Errorf("%d pages more are mapped after %d arenas of 512", grown, n)
	}
}
