package verify

import (
	"cmp"
	"slices"

	"vmsim/internal/event"
	"vmsim/mem"
)

// Truth is what the pages of one file at one load bias ought to hold and to
// permit, by the file's own program headers. It is for one goroutine at a
// time. It reads the file as it is asked and keeps a window of 2 MiB of it.
type Truth struct {
	f      mem.File
	bias   uint64
	entry  mem.VirtAddr
	segs   []segment // in header order, none empty
	extent mem.Range // page aligned; every page in it has a VMA

	// Ascending and disjoint, built once by New.
	pieces    []piece     // every byte that is the file's and lies in the file
	filePages []mem.Range // the pages that hold one
	imgPages  []mem.Range // the pages that hold a byte of a segment
	perms     []perm      // without gaps from extent.Start to extent.End
	touch     []mem.Range // the pages of TouchPages

	buf      *buffer      // nil before the first use
	windowAt mem.VirtAddr // of buf.window
	right    mem.Range    // pages of buf.window that are what they ought to be
	lastPage mem.VirtAddr // asked for last; see page
	lastPerm int          // index in perms of what run found last
}

// buffer is what a truth reads the file into.
type buffer struct {
	window [mem.HugeSize]byte
	page   [mem.PageSize]byte // outside of the window
}

// segment is a PT_LOAD with p_memsz > 0, at its place in memory: a file VMA.
type segment struct {
	mem.Range           // [p_vaddr, p_vaddr+p_memsz)
	file      mem.Range // [p_vaddr, p_vaddr+p_filesz)
	off       uint64    // p_offset
	prot      mem.Prot
}

// piece is a range of bytes that one segment decides. off is the file offset of
// its first.
type piece struct {
	mem.Range
	off uint64
}

// perm is a range of pages with the same permission.
type perm struct {
	mem.Range
	prot mem.Prot
}

// New returns the truth of f at a load bias: address = p_vaddr + bias, modulo
// 2^64.
//
// It returns ErrFormat if f has no image, or one that does not fit the bias: a
// segment leaves user space, the bias is no multiple of the page size, or f is
// an ET_EXEC and the bias is not 0. Read errors are returned wrapped. At most
// 65,584 bytes are read.
func New(f mem.File, bias uint64) (*Truth, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	return newTruth(f, h, bias)
}

// Load returns the truth of f loaded at base: an ET_DYN so that the page of its
// first PT_LOAD lies at base's page, or, where a segment would then lie below
// address 0, the page of the lowest; an ET_EXEC where it says itself. Errors are
// New's.
//
// Compare Linux fs/binfmt_elf.c:load_elf_binary, load_bias.
func Load(f mem.File, base mem.VirtAddr) (*Truth, error) {
	h, err := readHeader(f)
	if err != nil {
		return nil, err
	}
	if !h.dynamic {
		return newTruth(f, h, 0)
	}
	first := mem.VirtAddr(h.loads[0].vaddr)
	bias := uint64((base - first).PageDown())
	lowest := first
	for _, l := range h.loads {
		if l.memsz > 0 {
			lowest = min(lowest, mem.VirtAddr(l.vaddr))
		}
	}
	if int64(uint64(lowest.PageDown())+bias) < 0 {
		bias = uint64((base + first.PageDown() - lowest.PageDown() - first).PageDown())
	}
	return newTruth(f, h, bias)
}

func newTruth(f mem.File, h *header, bias uint64) (*Truth, error) {
	t := &Truth{f: f, bias: bias, entry: mem.VirtAddr(h.entry + bias)}
	err := h.place(bias, func(l load, at mem.Range) error {
		t.segs = append(t.segs, segment{
			Range: at,
			file:  mem.Range{Start: at.Start, End: at.Start + mem.VirtAddr(l.filesz)},
			off:   l.off,
			prot:  l.prot,
		})
		return nil
	})
	if err != nil {
		return nil, err
	}
	t.imagePages()
	t.decide()
	t.permit()
	t.touchPages()
	return t, nil
}

// imagePages finds the pages of the segments and the extent.
func (t *Truth) imagePages() {
	var rs []mem.Range
	for _, s := range t.segs {
		rs = append(rs, s.PageAlign())
	}
	t.imgPages = union(rs)
	t.extent = mem.Range{Start: t.imgPages[0].Start, End: t.imgPages[len(t.imgPages)-1].End}
	t.lastPage = t.extent.Start - mem.PageSize // the first page is ascending
}

// decide finds for every byte the segment that it comes from. Between two cut
// points all bytes are covered by the same segments, and the last one in header
// order decides; only then is the end of the file looked at, so that a segment
// beyond it hides what lies below it.
func (t *Truth) decide() {
	var parts []mem.Range
	for _, s := range t.segs {
		parts = append(parts, s.file)
	}
	cuts := cutPoints(parts)
	last := -1 // the segment of the latest piece
	for i := 0; i+1 < len(cuts); i++ {
		r := mem.Range{Start: cuts[i], End: cuts[i+1]}
		decides := -1
		for j, s := range t.segs {
			if s.file.Covers(r) {
				decides = j
			}
		}
		if decides < 0 {
			last = -1
			continue
		}
		s := t.segs[decides]
		r.End = min(r.End, s.Start+mem.VirtAddr(t.inFile(s)))
		switch n := len(t.pieces) - 1; {
		case r.Empty():
			last = -1
		case decides == last && t.pieces[n].End == r.Start:
			t.pieces[n].End = r.End
		default:
			t.pieces = append(t.pieces, piece{r, s.off + uint64(r.Start-s.Start)})
			last = decides
		}
	}
	var pages []mem.Range
	for _, p := range t.pieces {
		pages = append(pages, p.PageAlign())
	}
	t.filePages = union(pages)
}

// inFile returns how many of s's file bytes lie before the end of the file.
func (t *Truth) inFile(s segment) uint64 {
	size := uint64(max(t.f.Size(), 0))
	if s.off >= size {
		return 0
	}
	return min(s.file.Len(), size-s.off)
}

// permit finds the permission of every page of the extent.
func (t *Truth) permit() {
	rs := []mem.Range{t.extent}
	for _, s := range t.segs {
		rs = append(rs, s.PageAlign())
	}
	cuts := cutPoints(rs)
	for i := 0; i+1 < len(cuts); i++ {
		r := mem.Range{Start: cuts[i], End: cuts[i+1]}
		prot, filler := mem.ProtNone, true
		for _, s := range t.segs {
			if s.PageAlign().Covers(r) {
				prot |= s.prot
				filler = false
			}
		}
		if filler {
			prot = mem.ProtRead | mem.ProtWrite
		}
		if n := len(t.perms) - 1; n >= 0 && t.perms[n].prot == prot {
			t.perms[n].End = r.End
		} else {
			t.perms = append(t.perms, perm{r, prot})
		}
	}
}

// File returns the file that t was read from.
func (t *Truth) File() mem.File { return t.f }

// Bias returns the load bias: address = p_vaddr + bias.
func (t *Truth) Bias() uint64 { return t.bias }

// Entry returns the address of the first instruction: e_entry + bias.
func (t *Truth) Entry() mem.VirtAddr { return t.entry }

// Extent returns the pages from the first of the lowest segment to the last of
// the highest. Each has a VMA.
func (t *Truth) Extent() mem.Range { return t.extent }

// HasFileBytes reports whether a byte of addr's page comes from the file. Bytes
// beyond the end of the file do not.
func (t *Truth) HasFileBytes(addr mem.VirtAddr) bool {
	return holds(t.filePages, addr.PageDown())
}

// Prot returns what addr's page permits by the program headers, which on x86-64
// implies reading (mem.Prot.Effective). It is false where no VMA is.
func (t *Truth) Prot(addr mem.VirtAddr) (mem.Prot, bool) {
	prot, ok, _ := t.run(addr)
	return prot, ok
}

// run is Prot, with the last address up to which the answer stays the same.
func (t *Truth) run(addr mem.VirtAddr) (prot mem.Prot, ok bool, last mem.VirtAddr) {
	if addr < t.extent.Start {
		return 0, false, t.extent.Start - 1
	}
	if addr >= t.extent.End {
		return 0, false, ^mem.VirtAddr(0)
	}
	p := &t.perms[t.lastPerm]
	if !p.Contains(addr) {
		t.lastPerm, _ = slices.BinarySearchFunc(t.perms, addr, func(p perm, a mem.VirtAddr) int {
			if p.End <= a {
				return -1
			}
			return +1
		})
		p = &t.perms[t.lastPerm]
	}
	return p.prot, true, p.End - 1
}

// FileVMA returns the lowest file VMA that overlaps addr's page: its start, its
// kind (event.FileRO, event.FileRW) and the file offset that the first byte of
// the page has in it (0 where that lies before the file). A page without a file
// VMA gives the start of its filler and event.Anon, or 0 and event.None.
func (t *Truth) FileVMA(addr mem.VirtAddr) (start mem.VirtAddr, typ string, fileOffset uint64) {
	page := mem.PageOf(addr)
	first := -1
	for i, s := range t.segs {
		if s.Overlaps(page) && (first < 0 || s.Start < t.segs[first].Start) {
			first = i
		}
	}
	if first < 0 {
		return t.filler(addr)
	}
	return t.segs[first].vma(page.Start)
}

// FileVMAAt is FileVMA, but of several file VMAs in addr's page it prefers the
// one that decides the byte at addr: the last in header order whose file bytes
// cover it, else the last that covers it at all. fileOffset is still that of
// the first byte of the page.
func (t *Truth) FileVMAAt(addr mem.VirtAddr) (start mem.VirtAddr, typ string, fileOffset uint64) {
	page := addr.PageDown()
	for _, s := range slices.Backward(t.segs) {
		if s.file.Contains(addr) {
			return s.vma(page)
		}
	}
	for _, s := range slices.Backward(t.segs) {
		if s.Contains(addr) {
			return s.vma(page)
		}
	}
	return t.FileVMA(addr)
}

// vma describes s for a report about a page.
func (s segment) vma(page mem.VirtAddr) (start mem.VirtAddr, typ string, fileOffset uint64) {
	typ = event.FileRO
	if s.prot&mem.ProtWrite != 0 {
		typ = event.FileRW
	}
	switch before := uint64(s.Start - page); {
	case page >= s.Start:
		fileOffset = s.off + uint64(page-s.Start)
	case s.off >= before:
		fileOffset = s.off - before
	}
	return s.Start, typ, fileOffset
}

// filler describes the anonymous VMA of a page that no segment touches: it
// begins where the highest segment below it ends.
func (t *Truth) filler(addr mem.VirtAddr) (start mem.VirtAddr, typ string, fileOffset uint64) {
	if !t.extent.Contains(addr) {
		return 0, event.None, 0
	}
	for _, s := range t.segs {
		if s.End <= addr {
			start = max(start, s.End)
		}
	}
	return start, event.Anon, 0
}

// StartupPages returns the pages that every start of the program touches: that
// of the entry point, and the first and last of each segment. They ascend, each
// once; those that nothing may read are left out.
func (t *Truth) StartupPages() []mem.VirtAddr {
	all := []mem.VirtAddr{t.entry.PageDown()}
	for _, s := range t.segs {
		all = append(all, s.Start.PageDown(), (s.End - 1).PageDown())
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(p mem.VirtAddr) bool {
		prot, ok := t.Prot(p)
		return !ok || prot == mem.ProtNone
	})
}

// BoundaryPages returns the number of pages with a file byte that no PT_LOAD's
// file part, [p_vaddr, p_vaddr+p_filesz), covers whole. These cannot be mapped
// from a page cache.
func (t *Truth) BoundaryPages() int {
	// Such a page holds an end of a file part.
	var pages []mem.VirtAddr
	for _, s := range t.segs {
		if !s.file.Empty() {
			pages = append(pages, s.file.Start.PageDown(), (s.file.End - 1).PageDown())
		}
	}
	slices.Sort(pages)
	n := 0
	for _, p := range slices.Compact(pages) {
		whole := slices.ContainsFunc(t.segs, func(s segment) bool { return s.file.Covers(mem.PageOf(p)) })
		if !whole && t.HasFileBytes(p) {
			n++
		}
	}
	return n
}

// SharedIndexes returns the number of page indexes of the file, offset / 4096,
// that the file bytes of two or more PT_LOADs use.
func (t *Truth) SharedIndexes() int {
	// +1 where a segment's indexes begin, -1 behind them: two users where the
	// sum is 2 or more.
	type edge struct {
		at    mem.PageIndex
		delta int
	}
	var edges []edge
	for _, s := range t.segs {
		if n := t.inFile(s); n > 0 {
			edges = append(edges,
				edge{mem.PageIndex(s.off / mem.PageSize), +1},
				edge{mem.PageIndex((s.off+n-1)/mem.PageSize + 1), -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	shared, users := 0, 0
	for i, e := range edges {
		if users >= 2 {
			shared += int(e.at - edges[i-1].at)
		}
		users += e.delta
	}
	return shared
}
