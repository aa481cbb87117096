package soundness

import (
	"vmsim/mem"
	"vmsim/trace"
)

// page is what is known of a page: its kind if it is present, and marks. Zero:
// there is nothing.
type page uint8

// A page's kind. present is the set of them.
const (
	pageFile page = iota + 1 // trace.PageFile
	pageZero
	pageOwn

	present page = 3
)

// Marks beside a kind.
const (
	pageGuard page = 4 << iota // MADV_GUARD_INSTALL: touching it is SIGSEGV; there is no page
	pageFreed                  // MADV_FREE, MADV_PAGEOUT: the kernel may take it away when it likes
	pagePast                   // of a file that ended before it when it was last looked at: may be SIGBUS
)

// pageOf returns the page of a recorded run.
func pageOf(k trace.PageKind) page { return pageFile + page(k) }

// kind is the inverse; p is present.
func (p page) kind() trace.PageKind { return trace.PageKind(p&present - pageFile) }

// String returns file, zero, own, or absent.
func (p page) String() string {
	if p&present == 0 {
		return "absent"
	}
	return p.kind().String()
}

// written returns what a write makes of a page of area a.
func (p page) written(a area) page {
	if a.ownOnWrite() {
		return pageOwn
	}
	return pageFile | p&pagePast
}

// fill makes every page of r present that is not, as faults in area a would; with
// write the private ones become the process's own. Guard pages stay.
func (s *space) fill(r mem.Range, a area, write bool) {
	fresh := a.fresh(write)
	next := r.Start
	for _, old := range s.pages.in(r) {
		s.pages.set(mem.Range{Start: next, End: old.Start}, fresh)
		if write && old.v&present != 0 {
			s.pages.set(old.Range, old.v.written(a))
		}
		next = old.End
	}
	s.pages.set(mem.Range{Start: next, End: r.End}, fresh)
}

// drop takes the pages of r away; guard pages stay, as with MADV_DONTNEED
// (mm/memory.c:zap_install_uffd_wp_if_needed and its like keep the markers).
func (s *space) drop(r mem.Range) {
	s.pages.update(r, func(p page) page { return p & pageGuard })
}

// mark adds a mark to the present pages of r.
func (s *space) mark(r mem.Range, m page) {
	s.pages.update(r, func(p page) page {
		if p&present == 0 {
			return p
		}
		return p | m
	})
}
