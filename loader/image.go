package loader

import (
	"errors"
	"fmt"

	"vmsim/mem"
)

// Image is what a process needs to run a file. Addresses are those of the
// program headers; a process adds the load bias, modulo 2^64.
type Image struct {
	File      mem.File
	Dynamic   bool     // ET_DYN, a PIE or a shared object: maps anywhere
	Entry     uint64   // e_entry, unbiased; not checked to lie in a segment
	Interp    string   // path from the first PT_INTERP; "" if none
	StackProt mem.Prot // rwx where PT_GNU_STACK asks for it, rw- otherwise

	// Segments are the PT_LOADs that occupy memory, at least one, in the order
	// of the program headers. That need not be the order of their addresses,
	// and they may overlap: the later one is mapped over the earlier.
	Segments []Segment

	// empty are the PT_LOADs without memory. They map nothing, but Linux counts
	// them when it places an ET_DYN.
	empty []Segment
}

// Segment is one PT_LOAD. Parse guarantees
//
//	Filesz <= Memsz, Memsz > 0, Vaddr + Memsz <= mem.UserEnd
//	Offset ≡ Vaddr (mod 4096) and Offset + Filesz < 2^63, where Filesz > 0
//
// The file may end before Offset + Filesz.
type Segment struct {
	Index  int    // in the program header table, counted from 0
	Vaddr  uint64 // of the first byte, unbiased; any offset in its page
	Memsz  uint64 // bytes of memory
	Filesz uint64 // of which the first Filesz are the file's, the rest zero
	Offset int64  // of the first byte in the file; 0 where Filesz is 0
	Prot   mem.Prot
	Align  uint64 // p_align as written; Linux lets any value pass
}

// Range returns the bytes of s in memory, at the given load bias.
func (s Segment) Range(bias uint64) mem.Range {
	start := mem.VirtAddr(s.Vaddr + bias)
	return mem.Range{Start: start, End: start + mem.VirtAddr(s.Memsz)}
}

// FileRange returns the bytes of s that come from the file, at the given load
// bias; it is empty for a pure .bss.
func (s Segment) FileRange(bias uint64) mem.Range {
	start := mem.VirtAddr(s.Vaddr + bias)
	return mem.Range{Start: start, End: start + mem.VirtAddr(s.Filesz)}
}

// String names s as errors do: segment 2 [0x400000, 0x401000).
func (s Segment) String() string { return fmt.Sprintf("segment %d %v", s.Index, s.Range(0)) }

// Span returns the pages from the lowest to the highest segment, unbiased.
func (im *Image) Span() mem.Range { return span(im.Segments) }

// span returns the pages from the lowest to the highest of segments.
// Compare Linux fs/binfmt_elf.c:total_mapping_size.
func span(segments []Segment) mem.Range {
	if len(segments) == 0 {
		return mem.Range{}
	}
	r := segments[0].Range(0)
	for _, s := range segments[1:] {
		sr := s.Range(0)
		r = mem.Range{Start: min(r.Start, sr.Start), End: max(r.End, sr.End)}
	}
	return r.PageAlign()
}

// BiasAt returns the load bias, modulo 2^64, that puts the first PT_LOAD at
// base, which must be page aligned; it is 0 for an ET_EXEC, wherever base is.
// A first PT_LOAD that starts in the middle of a page goes into the page below
// base: Linux rounds base - p_vaddr down.
//
// It returns an error, which is not one of the sentinels, if a segment or the
// entry point would leave user space, or if the whole span does not fit above
// base: Linux reserves it there, even where other segments go below the first.
//
// Compare Linux fs/binfmt_elf.c:load_elf_binary, load_bias.
func (im *Image) BiasAt(base mem.VirtAddr) (uint64, error) {
	if len(im.Segments) == 0 {
		return 0, errors.New("no segment to place")
	}
	var bias uint64
	if im.Dynamic {
		first := im.first()
		bias = uint64(mem.VirtAddr(uint64(base) - first.Vaddr).PageDown())
		start := mem.VirtAddr(first.Vaddr + bias).PageDown()
		if size := im.reserved(); start >= mem.UserEnd || size > uint64(mem.UserEnd-start) {
			return 0, fmt.Errorf("0x%x bytes from %v on do not fit below the end of user space, %v", size, start, mem.UserEnd)
		}
	}
	for _, s := range im.Segments {
		if r := s.Range(bias); r.Start > r.End || r.End > mem.UserEnd {
			return 0, fmt.Errorf("%v: with load bias 0x%x it leaves user space", s, bias)
		}
	}
	if entry := mem.VirtAddr(im.Entry + bias); im.Interp == "" && entry >= mem.UserEnd {
		return 0, fmt.Errorf("entry point 0x%x: with load bias 0x%x it leaves user space", im.Entry, bias)
	}
	return bias, nil
}

// BiasFrom is BiasAt for a base with little below it: where a segment would lie
// below address 0, the lowest goes to base, and the first so far above. Linux's
// own base for programs, two thirds up the address space, has that room, and it
// runs them. Errors are BiasAt's.
func (im *Image) BiasFrom(base mem.VirtAddr) (uint64, error) {
	if im.Dynamic && len(im.Segments) > 0 {
		lowest, first := uint64(im.Span().Start), im.first().Vaddr
		bias := uint64(mem.VirtAddr(uint64(base) - first).PageDown())
		if int64(lowest+bias) < 0 {
			base += mem.VirtAddr(first).PageDown() - mem.VirtAddr(lowest)
		}
	}
	return im.BiasAt(base)
}

// first returns the first PT_LOAD of the file, which may be an empty one.
func (im *Image) first() Segment {
	if len(im.empty) > 0 && im.empty[0].Index < im.Segments[0].Index {
		return im.empty[0]
	}
	return im.Segments[0]
}

// reserved returns how many bytes Linux asks mmap for in one piece when it
// maps the first PT_LOAD of an ET_DYN: none where that has no file part.
func (im *Image) reserved() uint64 {
	if im.first().Filesz == 0 {
		return 0
	}
	r := span(im.Segments)
	if len(im.empty) > 0 {
		e := span(im.empty)
		r = mem.Range{Start: min(r.Start, e.Start), End: max(r.End, e.End)}
	}
	return r.Len()
}
