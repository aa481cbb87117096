package verify

import (
	"fmt"
	"slices"

	"vmsim/internal/event"
	"vmsim/mem"
)

// Linux is what the pages of one ELF file ought to hold and to permit where
// Linux loaded it (fs/binfmt_elf.c). It is the counterpart of Truth, and for one
// goroutine at a time.
//
// VMAs are whole pages. A page of a file holds the file's own bytes, those of
// neighbouring segments included, and zeros beyond the end of the file; a page
// wholly beyond it cannot be touched (SIGBUS). Where segments share a page the
// later one in header order has it whole. Of a segment with p_memsz > p_filesz
//
//	         p_vaddr     +p_filesz               +p_memsz
//	|           [------------)-----------------------)       |
//	| file page | file page | zeros |  anonymous, zeros      |
//
// the rest of the last file page is cleared if the segment is writable: if it is
// not, clearing fails and is ignored, and the file's bytes stay. The pages behind
// it are anonymous and rw-, whatever the flags say (executable if they say so).
// A segment without file bytes is anonymous from the page of p_vaddr on.
type Linux struct {
	f     mem.File
	bias  uint64
	areas []Area      // ascending, disjoint
	zeros []mem.Range // bytes that the loader cleared in file pages; disjoint

	window   []byte // 2 MiB at windowAt; nil before the first use
	windowAt mem.VirtAddr
	windowOK bool
}

// Area is a VMA of whole pages.
type Area struct {
	mem.Range
	Prot mem.Prot
	Anon bool   // not of the file: zeros
	Off  uint64 // file offset of Start
}

// NewLinux returns what Linux makes of f at a load bias: address = p_vaddr +
// bias, modulo 2^64.
//
// It returns ErrFormat if f has no image, or one that Linux would not load there:
// a segment leaves user space, has a file offset that is not congruent with its
// address, the bias is no multiple of the page size, or f is an ET_EXEC and the
// bias is not 0. Read errors are returned wrapped.
func NewLinux(f mem.File, bias uint64) (*Linux, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	return newLinux(f, h, bias)
}

// LoadLinux returns what Linux makes of f at base: an ET_DYN so that the page of
// its first PT_LOAD lies at base, rounded down to the largest p_align that is a
// power of two, an ET_EXEC where it says itself. Errors are NewLinux's.
//
// Compare Linux fs/binfmt_elf.c:load_elf_binary and maximum_alignment.
func LoadLinux(f mem.File, base mem.VirtAddr) (*Linux, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	var bias uint64
	if h.dynamic {
		align := uint64(mem.PageSize)
		for _, l := range h.loads {
			if l.align&(l.align-1) == 0 {
				align = max(align, l.align)
			}
		}
		bias = uint64((base&^mem.VirtAddr(align-1) - mem.VirtAddr(h.loads[0].vaddr)).PageDown())
	}
	return newLinux(f, h, bias)
}

func newLinux(f mem.File, h *header, bias uint64) (*Linux, error) {
	t := &Linux{f: f, bias: bias}
	err := h.place(bias, func(l load, at mem.Range) error {
		if l.filesz > 0 && (l.off-l.vaddr)%mem.PageSize != 0 {
			return fmt.Errorf("%w: %v: file offset 0x%x is not congruent with the address modulo the page size", ErrFormat, l, l.off)
		}
		t.load(l, at.Start)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// load maps one segment over what is there. Compare Linux
// fs/binfmt_elf.c:elf_load, elf_map and padzero.
func (t *Linux) load(l load, start mem.VirtAddr) {
	fileEnd := start + mem.VirtAddr(l.filesz)
	anon := mem.Range{Start: start, End: start + mem.VirtAddr(l.memsz)}.PageAlign()
	if l.filesz > 0 {
		r := mem.Range{Start: start, End: fileEnd}.PageAlign()
		t.mapOver(Area{Range: r, Prot: l.prot, Off: l.off - uint64(start-r.Start)})
		anon.Start = r.End
		if l.memsz > l.filesz && l.prot&mem.ProtWrite != 0 && fileEnd < r.End {
			t.zeros = append(t.zeros, mem.Range{Start: fileEnd, End: r.End})
		}
	}
	if !anon.Empty() {
		t.mapOver(Area{Range: anon, Prot: mem.ProtRead | mem.ProtWrite | l.prot&mem.ProtExec, Anon: true})
	}
}

// mapOver is mmap with MAP_FIXED: a takes the place of what is there.
func (t *Linux) mapOver(a Area) {
	var areas []Area
	for _, o := range t.areas {
		if below := o; below.Start < a.Start {
			below.End = min(below.End, a.Start)
			areas = append(areas, below)
		}
		if above := o; above.End > a.End {
			if above.Start < a.End {
				above.Off += uint64(a.End - above.Start)
				above.Start = a.End
			}
			areas = append(areas, above)
		}
	}
	areas = append(areas, a)
	slices.SortFunc(areas, func(a, b Area) int { return int(int64(a.Start - b.Start)) })
	t.areas = areas
	// What was cleared lies within one page: it is mapped over whole, or not.
	t.zeros = slices.DeleteFunc(t.zeros, func(z mem.Range) bool { return a.Covers(z) })
}

// File returns the file that t was read from.
func (t *Linux) File() mem.File { return t.f }

// Bias returns the load bias: address = p_vaddr + bias.
func (t *Linux) Bias() uint64 { return t.bias }

// Areas returns the VMAs by ascending address. Neighbours that the kernel would
// merge are not merged.
func (t *Linux) Areas() []Area { return slices.Clone(t.areas) }

// at returns the area that holds addr.
func (t *Linux) at(addr mem.VirtAddr) (Area, bool) {
	i, _ := slices.BinarySearchFunc(t.areas, addr, func(a Area, v mem.VirtAddr) int {
		if a.End <= v {
			return -1
		}
		return +1
	})
	if i < len(t.areas) && t.areas[i].Contains(addr) {
		return t.areas[i], true
	}
	return Area{}, false
}

// Prot returns what addr's page permits. It is false where no VMA is.
func (t *Linux) Prot(addr mem.VirtAddr) (mem.Prot, bool) {
	a, ok := t.at(addr)
	return a.Prot, ok
}

// FileVMAAt returns the VMA that holds addr: its start, its kind (event.FileRO,
// event.FileRW, event.Anon), and the file offset of addr's page. Without one it
// returns 0, event.None, 0.
func (t *Linux) FileVMAAt(addr mem.VirtAddr) (start mem.VirtAddr, typ string, fileOffset uint64) {
	a, ok := t.at(addr)
	switch {
	case !ok:
		return 0, event.None, 0
	case a.Anon:
		return a.Start, event.Anon, 0
	case a.Prot&mem.ProtWrite != 0:
		typ = event.FileRW
	default:
		typ = event.FileRO
	}
	return a.Start, typ, a.Off + uint64(addr.PageDown()-a.Start)
}

// Window returns what the 2 MiB at base, 2 MiB aligned, ought to hold; zeros
// where no VMA is and where Linux would raise SIGBUS. The result is valid until
// the next call and must not be written. Read errors are returned wrapped.
func (t *Linux) Window(base mem.VirtAddr) ([]byte, error) {
	if base != base.HugeDown() {
		return nil, fmt.Errorf("window %v: not aligned to 2 MiB", base)
	}
	if t.windowOK && t.windowAt == base {
		return t.window, nil
	}
	if t.window == nil {
		t.window = make([]byte, mem.HugeSize)
	}
	t.windowOK = false
	r := mem.WindowOf(base)
	clear(t.window)
	for _, a := range t.areas {
		in := a.Intersect(r)
		if a.Anon || in.Empty() {
			continue
		}
		off := a.Off + uint64(in.Start-a.Start)
		if err := readZeroed(t.f, t.window[in.Start-base:in.End-base], int64(off)); err != nil {
			return nil, fmt.Errorf("read %d bytes at file offset 0x%x for %v: %w", in.Len(), off, in, err)
		}
	}
	for _, z := range t.zeros {
		if in := z.Intersect(r); !in.Empty() {
			clear(t.window[in.Start-base : in.End-base])
		}
	}
	t.windowAt, t.windowOK = base, true
	return t.window, nil
}
