package vma

import (
	"fmt"

	"vmsim/mem"
)

// Kind is what an area is for.
type Kind uint8

const (
	Anon   Kind = iota // mmap(MAP_ANONYMOUS)
	File               // backed by a file, with zeros behind FileEnd
	Filler             // anonymous, between and around the segments of a program
	Heap               // grown by brk
	Stack              // grows down on demand
)

// VMA is one area. It is a value: changing one means storing it anew.
type VMA struct {
	mem.Range // the addresses, byte-precise for segments of a program

	Prot   mem.Prot
	Kind   Kind
	Shared bool // MAP_SHARED

	// Backing, for Kind File and for shared anonymous memory.
	File    mem.File
	FileNo  uint32       // number of File in the machine's page cache
	Offset  int64        // file offset of Start
	FileEnd mem.VirtAddr // file bytes are [Start, FileEnd); zeros behind

	// Segment is which PT_LOAD of a program the area comes from, counted from
	// 1; 0 for all other areas.
	Segment uint16
	// Overlap marks bytes of a program that lie in several of its segments.
	// They are composed of all and never enter the page cache.
	Overlap bool
}

// FileRange returns the addresses with file bytes.
func (v *VMA) FileRange() mem.Range { return mem.Range{Start: v.Start, End: max(v.Start, v.FileEnd)} }

// OffsetOf returns the file offset of addr, which must lie in v.
func (v *VMA) OffsetOf(addr mem.VirtAddr) int64 { return v.Offset + int64(addr-v.Start) }

// Name is the last column of /proc/PID/maps: the file, [heap], [stack], or
// nothing.
func (v *VMA) Name() string {
	switch {
	case v.Kind == File && v.File != nil:
		return v.File.Name()
	case v.Kind == Heap:
		return "[heap]"
	case v.Kind == Stack:
		return "[stack]"
	}
	return ""
}

// String formats v as a line of /proc/PID/maps without device and inode.
func (v VMA) String() string {
	s := fmt.Sprintf("%08x-%08x %s%s %08x", uint64(v.Start), uint64(v.End), v.Prot, v.sharing(), v.offset())
	if n := v.Name(); n != "" {
		s += " " + n
	}
	return s
}

func (v *VMA) sharing() string {
	if v.Shared {
		return "s"
	}
	return "p"
}

func (v *VMA) offset() int64 {
	if v.Kind != File {
		return 0
	}
	return v.Offset
}

// Clip returns the part of v inside r, with the offset moved along (a bug of the
// Kevlar kernel: a split that keeps the offset shows wrong bytes).
func (v VMA) Clip(r mem.Range) VMA {
	c := v
	c.Range = v.Intersect(r)
	if v.Backed() {
		c.Offset = v.OffsetOf(c.Start)
		c.FileEnd = min(max(v.FileEnd, c.Start), c.End)
	}
	return c
}

// Backed reports whether pages of v are found by file and offset.
func (v *VMA) Backed() bool { return v.File != nil }

// follows reports whether b continues a, so that one area can describe both
// (Linux: can_vma_merge_after).
func (v *VMA) follows(a *VMA) bool {
	if a.End != v.Start || a.Prot != v.Prot || a.Kind != v.Kind || a.Shared != v.Shared ||
		a.Segment != v.Segment || a.Overlap != v.Overlap || a.File != v.File {
		return false
	}
	if !v.Backed() {
		return true
	}
	gapless := a.FileEnd == a.End || v.FileEnd == v.Start // no file bytes behind zeros
	return a.Offset+int64(a.Len()) == v.Offset && gapless
}

// Continues reports whether b continues v, so that Extend may join them.
func (v *VMA) Continues(b *VMA) bool { return b.follows(v) }

// Extend joins b, which continues v, to v.
func (v *VMA) Extend(b *VMA) {
	if b.Backed() && b.FileEnd > b.Start {
		v.FileEnd = b.FileEnd
	}
	v.End = b.End
}
