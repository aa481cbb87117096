package session

import (
	"slices"

	"vmsim/internal/elfhead"
	"vmsim/internal/symbol"
	"vmsim/mem"
)

// spot is where a part of a file is mapped.
type spot struct {
	mem.Range
	off uint64 // file offset of Start
}

// delta is address minus file offset, modulo 2^64: the same for all pages of a
// mapping.
func (p spot) delta() uint64 { return uint64(p.Start) - p.off }

// object is a mapped file as its program headers describe it.
type object struct {
	file    mem.File
	head    *elfhead.Head // nil: no ELF file
	buildID string
	places  []spot // of the file, in the process or core
	syms    *symbol.Table
	support map[uint64]uint64 // votes by load bias

	// The last answer of segment, where one segment alone is in question for
	// all pages of lastPlace.
	lastPlace spot
	lastSeg   *elfhead.Prog
}

// maxSegments is the most program headers of a program that Linux runs
// (fs/binfmt_elf.c:load_elf_phdrs). A file with more is taken as data.
const maxSegments = 65536 / 56

// newObject reads the headers of f, which is mapped at places.
func newObject(f mem.File, places []spot) *object {
	o := &object{file: f, places: places, support: map[uint64]uint64{}}
	head, err := elfhead.Read(f, f.Size())
	if err == nil && len(head.Progs) <= maxSegments {
		o.head, o.buildID = head, head.BuildID(f)
	}
	return o
}

func (o *object) close() {
	if o != nil && o.syms != nil {
		o.syms.Close()
	}
}

// Right is what the program headers say of a page of an object.
type right int

const (
	noELF    right = iota // the file has no headers to ask
	asData                // ELF, but mapped otherwise than a loader does
	writable              // of a writable segment, relocated and read-only by now or not
	textRel               // not writable, but relocated: DT_TEXTREL
	readOnly              // not writable, not executable
	text                  // not writable, executable
)

// right returns what the headers say of the page at file offset off, mapped at
// p.
func (o *object) right(p spot, off uint64) right {
	if o.head == nil {
		return noELF
	}
	s := o.segment(p, off)
	switch {
	case s == nil:
		return asData
	case s.Prot&mem.ProtWrite != 0:
		return writable
	case o.head.TextIn:
		return textRel
	case s.Prot&mem.ProtExec != 0:
		return text
	}
	return readOnly
}

// segment returns the PT_LOAD whose pages p maps at file offset off, nil if p is
// not what a loader makes. Two segments may share a page of the file; each is
// mapped at its own distance from it, address minus offset, which the other
// mappings of the object give away: the load bias that explains most of them is
// taken.
func (o *object) segment(p spot, off uint64) *elfhead.Prog {
	if o.lastSeg != nil && o.lastPlace == p {
		return o.lastSeg
	}
	var best *elfhead.Prog
	most, near := uint64(0), 0
	whole := mem.Range{Start: mem.VirtAddr(p.off), End: mem.VirtAddr(p.off + p.Len())}
	for i := range o.head.Progs {
		s := &o.head.Progs[i]
		if s.Type != elfhead.Load || s.Filesz == 0 {
			continue
		}
		if filePages(s).Overlaps(whole) {
			near++
		}
		if !filePages(s).Contains(mem.VirtAddr(off)) {
			continue
		}
		bias := p.delta() - (s.Vaddr - s.Off)
		if bias%mem.PageSize != 0 || !o.explains(p, bias) {
			continue
		}
		n := o.votes(bias)
		// Of equals the later one: it is mapped over the earlier.
		if n >= most {
			best, most = s, n
		}
	}
	if o.lastSeg = nil; near == 1 && best != nil && filePages(best).Covers(whole) {
		o.lastPlace, o.lastSeg = p, best
	}
	return best
}

// filePages returns the pages of the file that a segment maps, as a range of
// file offsets.
func filePages(s *elfhead.Prog) mem.Range {
	if s.Off+s.Filesz > 1<<62 {
		return mem.Range{}
	}
	return mem.Range{Start: mem.VirtAddr(s.Off), End: mem.VirtAddr(s.Off + s.Filesz)}.PageAlign()
}

// mapped returns the parts of the file that the segments map with the distance
// of p, at the given load bias, as ranges of file offsets.
func (o *object) mapped(p spot, bias uint64) (rs []mem.Range) {
	for i := range o.head.Progs {
		s := &o.head.Progs[i]
		if s.Type == elfhead.Load && s.Filesz > 0 && s.Vaddr-s.Off+bias == p.delta() {
			rs = append(rs, filePages(s))
		}
	}
	return rs
}

// explains reports whether all of p is mapped by segments at that load bias. A
// file that is mapped as data, whole, reaches beyond them.
func (o *object) explains(p spot, bias uint64) bool {
	want := mem.Range{Start: mem.VirtAddr(p.off), End: mem.VirtAddr(p.off) + mem.VirtAddr(p.Len())}
	rs := o.mapped(p, bias)
	slices.SortFunc(rs, func(a, b mem.Range) int { return int(int64(a.Start - b.Start)) })
	for _, r := range rs {
		if r.Start <= want.Start && r.End > want.Start {
			want.Start = r.End
		}
	}
	return want.Empty()
}

// votes returns how many bytes of the file's mappings lie where its segments
// are at that load bias.
func (o *object) votes(bias uint64) (n uint64) {
	if n, ok := o.support[bias]; ok {
		return n
	}
	for _, p := range o.places {
		if o.explains(p, bias) {
			n += p.Len()
		}
	}
	o.support[bias] = n
	return n
}

// symbol names the address of a byte, addr, that is at file offset off.
func (o *object) symbol(addr mem.VirtAddr, off uint64) string {
	if o == nil || o.head == nil {
		return ""
	}
	page := mem.PageOf(addr)
	s := o.segment(spot{page, off - uint64(addr-page.Start)}, off)
	if s == nil {
		return ""
	}
	if o.syms == nil {
		o.syms = symbol.Open(o.file, o.buildID)
	}
	return o.syms.Name(off - s.Off + s.Vaddr)
}
