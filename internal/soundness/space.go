package soundness

import (
	"vmsim/mem"
	"vmsim/trace"
)

// space is an address space (Linux: struct mm_struct), of a process or of several
// that share it: a vfork child and its parent.
type space struct {
	areas *spans[area]
	pages *spans[page]

	known      bool             // a recorder said which areas there are at the start
	pagesKnown bool             // and which pages
	users      map[int]*process // by PID
	forgets    bool             // some area has flags of areaForgotten
	future     areaFlags        // of mlockall(MCL_FUTURE): what new areas get (mm->def_flags)
	brk        mem.VirtAddr
	brkKnown   bool
	uncut      bool     // fault-around brings in pages without a touch
	looking    *process // has a look that is not evaluated yet
}

func newSpace() *space {
	return &space{areas: newSpans[area](), pages: newSpans[page](), users: map[int]*process{}}
}

// fork returns what the child of a fork has at most: which page-table entries
// Linux copies (mm/memory.c:vma_needs_copy), the recorder tells.
func (s *space) fork() *space {
	c := &space{areas: s.areas.clone(), pages: s.pages.clone(), known: s.known, pagesKnown: s.pagesKnown,
		users: map[int]*process{}, brk: s.brk, brkKnown: s.brkKnown, uncut: s.uncut}
	if !s.forgets {
		return c
	}
	for _, a := range s.areas.in(whole) { // kernel/fork.c:dup_mmap
		switch v := a.v; {
		case v.flags&areaDontFork != 0:
			c.areas.clear(a.Range)
			c.pages.clear(a.Range)
		case v.flags&areaForgotten != 0:
			if v.flags&areaWipe != 0 {
				c.pages.clear(a.Range)
				c.forgets = true
			}
			v.flags &^= areaLocked | areaOnFault
			c.areas.set(a.Range, v)
		}
	}
	return c
}

// touch is one access of a page. It changes nothing where the kernel refuses it.
func (s *space) touch(at mem.VirtAddr, k mem.Access) {
	a, ok := s.areas.at(at)
	if !ok {
		if a, ok = s.growStack(at); !ok {
			return
		}
	}
	// arch/x86/mm/fault.c:access_error. A fetch from a page that is not there is a
	// read: the page comes, and the fetch is refused by the next fault.
	write := k == mem.Write
	if write && a.v.prot&mem.ProtWrite == 0 || a.v.prot == mem.ProtNone || !a.v.modelled() {
		return
	}
	on := mem.PageOf(at)
	switch p, ok := s.pages.at(at); {
	case !ok:
		fresh := a.v.fresh(write)
		if a.v.fileEnd(on) < on.End {
			fresh |= pagePast
		}
		s.pages.set(on, fresh)
	case p.v&present != 0 && write && p.v != p.v.written(a.v) && p.v&present != pageOwn:
		s.pages.set(on, p.v.written(a.v))
	}
}

// stackLimit is how far a stack grows, in bytes: the usual RLIMIT_STACK. stackGap
// is what must stay free below it (mm/mmap.c:stack_guard_gap).
const (
	stackLimit = 8 << 20
	stackGap   = 256 * mem.PageSize
)

// growStack makes the area above at, which has none, reach down to it, where it
// is one that grows.
//
// Compare Linux mm/vma.c:expand_downwards.
func (s *space) growStack(at mem.VirtAddr) (span[area], bool) {
	gap, _ := s.areas.at(at)
	a, ok := s.areas.at(gap.End)
	if !ok || a.v.flags&areaGrowsDown == 0 || at < 1<<16 {
		return a, false
	}
	r := mem.Range{Start: at.PageDown(), End: a.Start}
	if prev, ok := s.areas.at(gap.Start - 1); ok && prev.v.prot != mem.ProtNone && prev.v.flags&areaGrowsDown == 0 &&
		uint64(r.Start-prev.End) < stackGap {
		return a, false
	}
	if uint64(a.End-r.Start) > stackLimit {
		return a, false
	}
	s.areas.set(r, a.v)
	return s.areas.at(at)
}

// populate brings in the pages of r, as mm/gup.c:__mm_populate does for
// MAP_POPULATE and mlock: private writable areas as writes would, other accessible
// ones as reads. With lenient it goes on behind what cannot be had, else it stops
// there.
func (s *space) populate(r mem.Range, lenient bool) {
	next := r.Start
	for _, a := range s.areas.in(r) {
		if a.Start != next && !lenient {
			return
		}
		next = a.End
		write := a.v.prot&mem.ProtWrite != 0 && !a.v.shared
		if lenient && a.v.src.class == classFile && a.v.prot != mem.ProtNone && a.v.flags&areaOnFault == 0 {
			// Cut into areas of one page, by who records: it goes on behind each.
			s.fill(mem.Range{Start: a.Start, End: a.v.fileEnd(a.Range)}, a.v, write)
			continue
		}
		if !s.faultIn(a, write, a.v.prot != mem.ProtNone) && !lenient {
			return
		}
	}
}

// faultIn brings in the pages of one area, up to the first that cannot be had: a
// guard page, or one beyond the end of the file. It reports whether it had all. An
// area that is locked on fault is passed over (mm/gup.c:populate_vma_page_range).
func (s *space) faultIn(a span[area], write, permitted bool) bool {
	if a.v.flags&areaOnFault != 0 {
		return true
	}
	if !permitted || !a.v.modelled() {
		return a.v.src.class == classDevice // VM_IO and VM_PFNMAP are passed over
	}
	r := mem.Range{Start: a.Start, End: a.v.fileEnd(a.Range)}
	s.pages.each(r, func(p span[page]) bool {
		if p.v&pageGuard != 0 {
			r.End = p.Start
		}
		return p.v&pageGuard == 0
	})
	s.fill(r, a.v, write)
	return r.End == a.End
}

// advisePopulate is MADV_POPULATE_READ and _WRITE (mm/madvise.c:madvise_populate):
// as populate, but only where the area permits the access.
func (s *space) advisePopulate(r mem.Range, need mem.Prot) {
	next := r.Start
	for _, a := range s.areas.in(r) {
		if a.Start != next || a.v.prot&need == 0 {
			return
		}
		a.v.flags &^= areaOnFault
		if !s.faultIn(a, need == mem.ProtWrite, true) {
			return
		}
		next = a.End
	}
}

// remove takes areas and pages of r away.
func (s *space) remove(r mem.Range) {
	s.areas.clear(r)
	s.pages.clear(r)
}

// add maps r as a, over what was there. locked says that the call asked for it.
func (s *space) add(r mem.Range, a area, locked, populate bool) {
	s.remove(r)
	if a.modelled() {
		a.flags |= s.future
		if locked {
			a.flags |= areaLocked
		}
		s.forgets = s.forgets || a.flags&areaForgotten != 0
	}
	s.areas.set(r, a)
	if populate || a.flags&areaLocked != 0 {
		s.populate(r, true)
	}
}

// look is what a recorder saw of a process.
type look struct {
	point    trace.Point
	time     uint64
	line     int
	areas    *spans[area]
	pages    *spans[page]
	hasAreas bool
	hasPages bool
}

func newLook(op *trace.Op) *look {
	return &look{point: op.Point, time: op.Time, line: op.Line, areas: newSpans[area](), pages: newSpans[page]()}
}
