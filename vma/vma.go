package vma

import (
	"fmt"

	"vmsim/mem"
)

// Kind is what an area is for.
type Kind uint8

const (
	Anon    Kind = iota // mmap(MAP_ANONYMOUS)
	File                // backed by a file, with zeros behind FileEnd
	Filler              // anonymous, between and around the segments of a program
	Heap                // grown by brk
	Stack               // grows down on demand
	Special             // anonymous, put there by exec and named: [vdso], [vvar]
)

// Flags are what a system call said about an area beside its permission (Linux:
// vm_flags).
type Flags uint8

const (
	GrowsDown  Flags = 1 << iota // MAP_GROWSDOWN: grows as the stack does
	MayWrite                     // of a shared file mapping: the file is open for writing (VM_MAYWRITE)
	DontFork                     // a fork's child does not have it (VM_DONTCOPY)
	WipeOnFork                   // a fork's child has zeros there (VM_WIPEONFORK)
	Locked                       // mlock (VM_LOCKED)
	OnFault                      // with Locked: pages are not populated (VM_LOCKONFAULT)
)

// VMA is one area. It is a value: changing one means storing it anew.
type VMA struct {
	mem.Range // the addresses, byte-precise for segments of a program

	Prot   mem.Prot
	Kind   Kind
	Shared bool // MAP_SHARED
	Flags  Flags

	// Backing, for Kind File and for Kind Anon with pages of a shared object. A
	// Special area has a File for its name alone.
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

// Name is the last column of /proc/PID/maps: the file, the shared object,
// [heap], [stack], [vdso], or nothing.
func (v *VMA) Name() string {
	switch {
	case v.File != nil:
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
	if v.Kind == Special || !v.Backed() {
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

// OfObject reports whether pages of v are those of a shared object: memory that
// several mappings see, without a file.
func (v *VMA) OfObject() bool { return v.Kind == Anon && v.File != nil }

// Grows reports whether v grows down on demand.
func (v *VMA) Grows() bool { return v.Kind == Stack || v.Flags&GrowsDown != 0 }

// follows reports whether b continues a, so that one area can describe both
// (Linux: can_vma_merge_after).
func (v *VMA) follows(a *VMA) bool {
	if a.End != v.Start || a.Prot != v.Prot || a.Kind != v.Kind || a.Shared != v.Shared || a.Flags != v.Flags ||
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
