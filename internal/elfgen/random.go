package elfgen

import (
	"encoding/binary"
	"math/rand/v2"

	"vmsim/mem"
)

const (
	ro = mem.ProtRead
	rx = mem.ProtRead | mem.ProtExec
	rw = mem.ProtRead | mem.ProtWrite
)

// layouts are orders of segments that linkers make, from ld -z noseparate-code
// (two) to ld -z separate-code (four) and lld, which gives RELRO its own.
var layouts = [][]mem.Prot{
	{rx, rw},
	{ro, rx, rw},
	{rx, ro, rw},
	{ro, rx, ro, rw},
	{ro, rx, ro, rw},
	{ro, rx, ro, rw, rw},
	{rx, rw, rw},
}

// maxRandomFile is the most that the segments of a Random file take of it.
const maxRandomFile = 3 << 20

// Random returns a valid executable in the shape linkers make, and its bytes,
// for tests of huge-page assembly: 2 to 5 segments by ascending address and
// file offset, that never overlap in memory. Most files have 128 or more full
// pages of one read-only segment in one 2 MiB window; most have a segment that
// starts in the middle of a page, often in the file page where its predecessor
// ends; some have two segments in one page of memory. Bytes are random with
// runs of zeros, beyond the segments too.
func Random(r *rand.Rand) (Spec, []byte) {
	s := Spec{Type: Exec, Stack: rw}
	base := uint64(0x400000)
	switch {
	case chance(r, 40):
		s.Type, base = Dyn, 0
		if chance(r, 50) {
			s.Interp = "/lib64/ld-linux-x86-64.so.2"
		}
	case chance(r, 20):
		base = 0x10000 + r.Uint64N(1<<16)*mem.PageSize
	}

	flags := layouts[r.IntN(len(layouts))]
	big := r.IntN(len(flags)) // the segment that fills a window
	for flags[big] == rw {
		big = r.IntN(len(flags))
	}
	var end uint64 // of the file so far
	for i, f := range flags {
		g := Seg{Vaddr: base, Flags: f}
		if i > 0 {
			prev := s.Segments[i-1]
			g.Vaddr = place(r, prev)
			g.Offset = end + (g.Vaddr-end)%mem.PageSize // the next congruent one
			if chance(r, 10) {
				g.Offset += (1 + r.Uint64N(4)) * mem.PageSize
			}
		}
		g.Filesz = size(r, i == big)
		if i == 0 {
			g.Filesz += 0x400 // it holds the headers
		}
		if g.Offset+g.Filesz > maxRandomFile {
			g.Filesz = 200 + r.Uint64N(500)
		}
		g.Memsz = g.Filesz
		if f == rw && chance(r, 70) {
			g.Memsz += r.Uint64N(1 << (4 + r.IntN(14))) // .bss, to 128 KiB
		}
		end = g.Offset + g.Filesz
		s.Segments = append(s.Segments, g)
	}
	if chance(r, 5) { // a .bss of its own
		prev := s.Segments[len(s.Segments)-1]
		s.Segments = append(s.Segments, Seg{Vaddr: place(r, prev), Memsz: 1 + r.Uint64N(1<<16), Flags: rw})
	}
	for _, g := range s.Segments {
		if g.Flags == rx {
			s.Entry = g.Vaddr + r.Uint64N(g.Filesz)
		}
	}
	s.Size = int64(end)
	if chance(r, 60) { // what strip leaves: section names and headers
		s.Size += r.Int64N(3000)
	}
	return s, Build(s, func(_ int64, p []byte) { randomBytes(r, p) })
}

// chance is true in percent of all cases.
func chance(r *rand.Rand, percent int) bool { return r.IntN(100) < percent }

// place returns an address for the segment after prev.
func place(r *rand.Rand, prev Seg) uint64 {
	end := prev.Vaddr + prev.Memsz
	pageUp := (end + mem.PageSize - 1) &^ (mem.PageSize - 1)
	var v uint64
	switch n := r.IntN(100); {
	case n < 50: // as ld: the file goes on, memory skips a page
		v = prev.Vaddr + prev.Filesz + mem.PageSize
		for v < end {
			v += mem.PageSize
		}
	case n < 65: // a page of its own, from its start
		v = pageUp
	case n < 80: // a page of its own, from the middle
		v = pageUp + 16*r.Uint64N(mem.PageSize/16)
	case n < 95: // in the page of its predecessor, if that has room
		v = end + r.Uint64N(48)
	default: // in a window of its own
		v = (end + mem.HugeSize - 1) &^ (mem.HugeSize - 1)
	}
	if chance(r, 15) {
		v += (1 + r.Uint64N(20)) * mem.PageSize
	}
	return v
}

// size returns the size of a segment in bytes.
func size(r *rand.Rand, big bool) uint64 {
	if big && chance(r, 90) {
		return 768<<10 + r.Uint64N(1664<<10)
	}
	return 200 + r.Uint64N(1<<(8+r.IntN(9))) // to 64 KiB
}

// randomBytes fills p: random, with runs of 1 to 8192 zeros of any alignment
// in about a third of it.
func randomBytes(r *rand.Rand, p []byte) {
	var b [8]byte
	for i := 0; i < len(p); i += 8 {
		binary.LittleEndian.PutUint64(b[:], r.Uint64())
		copy(p[i:], b[:])
	}
	for i := 0; i < len(p); {
		run := 1 + r.IntN(1<<(1+r.IntN(13)))
		clear(p[i:min(i+run, len(p))])
		i += run + 1 + r.IntN(3*run)
	}
}
