package explain

import (
	"fmt"

	"vmsim/internal/report"
	"vmsim/mem"
)

// Placement is how the base of a file comes about.
type Placement int

const (
	// Linked: an ET_EXEC lies where it says.
	Linked Placement = iota
	// Given: the user said where.
	Given
	// ByAlign: an ET_DYN with a p_align of 2 MiB or more, which kernel and glibc
	// honour: a base of 2 MiB.
	ByAlign
	// ByMmap: an ET_DYN without an interpreter, a library or a static PIE, goes
	// where mmap puts it. File systems with large folios (ext4, XFS, Btrfs) put
	// mappings of 2 MiB or more so that address and offset are congruent
	// (mm/huge_memory.c:thp_get_unmapped_area); others put them on any page.
	ByMmap
	// AnyPage: an ET_DYN that is too small for that, or a PIE: the kernel draws
	// a page (fs/binfmt_elf.c:load_elf_binary, ELF_ET_DYN_BASE).
	AnyPage
)

func (p Placement) String() string {
	return [...]string{"linked", "given", "p_align", "mmap", "any page"}[p]
}

// MarshalText gives the placement to JSON.
func (p Placement) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// noASLR is where the kernel puts a PIE without randomisation: ELF_ET_DYN_BASE
// of x86-64 (arch/x86/include/asm/elf.h).
const noASLR mem.VirtAddr = 0x555555554000

// nBases is how many positions a page has in a window.
const nBases = mem.SubPages

// placement tells how the base of b comes about. given: the user named one.
func (b *Binary) placement(given bool) Placement {
	switch {
	case !b.Image.Dynamic:
		return Linked
	case given:
		return Given
	case b.honoured():
		return ByAlign
	case b.Image.Interp == "" && b.padded():
		return ByMmap
	}
	return AnyPage
}

// padded reports whether __thp_get_unmapped_area of Linux would align b: from the
// first multiple of 2 MiB in the file on, the mapping of all segments has 2 MiB.
func (b *Binary) padded() bool {
	off := uint64(b.Image.Segments[0].Offset) &^ (mem.PageSize - 1)
	up := (off + mem.HugeSize - 1) &^ (mem.HugeSize - 1)
	end := off + b.Image.Span().Len()
	return end > up && end-up >= mem.HugeSize
}

// mmapResidue is the bias modulo 2 MiB that mmap chooses for ByMmap.
func (b *Binary) mmapResidue() uint64 {
	s := b.Image.Segments[0]
	return (uint64(s.Offset)&^(mem.PageSize-1) - s.Vaddr&^(mem.PageSize-1)) % mem.HugeSize
}

// sure reports whether the windows at the report's base are those of every run.
func (p Placement) sure() bool { return p != ByMmap && p != AnyPage }

// baseObstacle says of a window that is huge at this base what the base has to
// be. residue is the bias modulo 2 MiB that it takes.
func (b *Binary) baseObstacle(p Placement, residue uint64) Obstacle {
	if p == ByMmap && residue == b.mmapResidue() {
		return obstacle(BaseAny, 0, "the base is mmap's: ext4, XFS and Btrfs align it to 2 MiB, others use any page")
	}
	if b.Image.Interp == "" {
		return obstacle(BaseAny, 0, "the base is any page: 1 of %d is right", nBases)
	}
	at := "not right"
	if bias, err := b.Image.BiasAt(noASLR); err == nil && bias%mem.HugeSize == residue {
		at = "right"
	}
	return obstacle(BaseAny, 0, "the base is any page, as p_align is 0x%x: 1 of %d is right, %v (without ASLR) is %s",
		b.Align, nBases, noASLR, at)
}

// Span is a figure that depends on the base: its least and its largest value.
type Span struct {
	Min uint64 `json:"min"`
	Max uint64 `json:"max"`
}

func (s *Span) add(n uint64, first bool) {
	if first {
		*s = Span{n, n}
	}
	s.Min, s.Max = min(s.Min, n), max(s.Max, n)
}

// ByBase is what a rule makes huge, over the bases that there can be.
type ByBase struct {
	Windows  Span `json:"windows"`
	Text     Span `json:"text_bytes"`      // executable
	ReadOnly Span `json:"read_only_bytes"` // neither executable nor writable
	Bases    int  `json:"bases"`           // how many of Of give a window
	Of       int  `json:"of"`              // 512, or 1 where the base is known
}

func (h *ByBase) add(text, ro uint64) {
	first := h.Of == 0
	h.Of++
	h.Windows.add((text+ro)/mem.HugeSize, first)
	h.Text.add(text, first)
	h.ReadOnly.add(ro, first)
	if text+ro > 0 {
		h.Bases++
	}
}

// Answer sums a ByBase up.
func (h ByBase) Answer() Answer {
	switch {
	case h.Windows.Max == 0:
		return No
	case h.Windows.Min == 0:
		return Depends
	}
	return Yes
}

// TextAnswer is Answer for text alone.
func (h ByBase) TextAnswer() Answer {
	return ByBase{Windows: h.Text}.Answer()
}

// String formats the windows: 2 windows; 0 to 2 windows by the base, some at 1 of
// 512.
func (h ByBase) String() string {
	most := report.Count(int(h.Windows.Max), "window")
	switch {
	case h.Windows.Min == h.Windows.Max:
		return most
	case h.Bases == h.Of:
		return fmt.Sprintf("%d to %s by the base", h.Windows.Min, most)
	}
	return fmt.Sprintf("%d to %s by the base, some at %d of %d", h.Windows.Min, most, h.Bases, h.Of)
}

// overBases counts what rule makes huge: at the bias of the report where that is
// sure, else at all positions of a page in a window.
func (x *explainer) overBases(count func(areas []area, shift uint64) (text, ro uint64)) ByBase {
	var h ByBase
	if x.Placement.sure() {
		h.add(count(x.linux, 0))
		return h
	}
	for i := range uint64(nBases) {
		h.add(count(x.linux, i*mem.PageSize))
	}
	return h
}

// countLinux counts the bytes of read-only areas that linux makes huge when all
// of them lie shift bytes higher.
func (x *explainer) countLinux(areas []area, shift uint64) (text, ro uint64) {
	for i := range areas {
		a := &areas[i]
		if !a.backed() || a.prot&mem.ProtWrite != 0 || (a.delta()+shift)%mem.HugeSize != 0 {
			continue
		}
		r := mem.Range{Start: a.Start + mem.VirtAddr(shift), End: x.inFile(a) + mem.VirtAddr(shift)}
		if n := wholeWindows(r).Len(); a.prot&mem.ProtExec != 0 {
			text += n
		} else {
			ro += n
		}
	}
	return text, ro
}

// countRemap counts the bytes of executable areas in whole windows.
func (x *explainer) countRemap(areas []area, shift uint64) (text, ro uint64) {
	for i := range areas {
		if a := &areas[i]; a.prot&mem.ProtExec != 0 {
			text += wholeWindows(mem.Range{Start: a.Start + mem.VirtAddr(shift), End: a.End + mem.VirtAddr(shift)}).Len()
		}
	}
	return text, 0
}

// inFile returns where the pages of a that lie in the file end. The last one
// may be partial.
func (x *explainer) inFile(a *area) mem.VirtAddr {
	pages := (x.Size + mem.PageSize - 1) &^ (mem.PageSize - 1)
	if a.off >= pages {
		return a.Start
	}
	return a.Start + mem.VirtAddr(min(a.Len(), pages-a.off))
}
