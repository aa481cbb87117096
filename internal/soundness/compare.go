package soundness

import (
	"maps"
	"slices"

	"vmsim/mem"
	"vmsim/trace"
)

// overlay calls f for every run of addresses over which neither a nor b changes,
// and at least one has a value.
func overlay[T comparable](a, b []span[T], f func(r mem.Range, x, y T)) {
	var zero T
	at := mem.VirtAddr(0)
	for len(a) > 0 || len(b) > 0 {
		x, y := zero, zero
		end := ^mem.VirtAddr(0)
		next := func(s *[]span[T], v *T) {
			if len(*s) > 0 && (*s)[0].End <= at {
				*s = (*s)[1:]
			}
			if len(*s) == 0 {
				return
			}
			if (*s)[0].Start > at {
				end = min(end, (*s)[0].Start)
			} else {
				*v, end = (*s)[0].v, min(end, (*s)[0].End)
			}
		}
		next(&a, &x)
		next(&b, &y)
		if len(a) == 0 && len(b) == 0 {
			return
		}
		if x != zero || y != zero {
			f(mem.Range{Start: at, End: end}, x, y)
		}
		at = end
	}
}

// compare holds a look of p at the end against its space. signal is what killed it.
func (c *Checker) compare(p *process, l *look, signal int) Comparison {
	r := Comparison{PID: p.pid, Program: p.program, Point: l.point, Line: l.line, Time: l.time}
	s := p.space
	if r.Skipped = c.incomparable(p, l); r.Skipped != "" {
		return r
	}
	if l.hasAreas && s.known {
		compareAreas(&r, s, l)
	}
	if !l.hasPages || !s.pagesKnown {
		return r
	}
	var last []mem.VirtAddr // pages of faults that a signal may have ended
	if l.point == trace.PointExit && (signal != 0 || p.ended > 0 || len(p.threads) > 1) {
		last = slices.Sorted(maps.Values(p.threads))
		last = append(last, p.lasts...)
	}
	var found []Difference
	overlay(s.pages.in(whole), l.pages.in(whole), func(on mem.Range, want, got page) {
		c.pages(&r, s, on, want, got, last, &found, false)
	})
	c.settle(&r, found)
	return r
}

// incomparable returns why a look cannot be compared: others were running.
func (c *Checker) incomparable(p *process, l *look) string {
	if l.point == trace.PointExecve && len(p.threads) > 1 {
		return "other threads were running"
	}
	for _, o := range p.space.users {
		if o != p && len(o.threads) > 1 {
			return "other threads of the vfork parent were running"
		}
	}
	switch {
	case !p.space.pagesKnown && l.hasPages:
		return "the pages at the start are not recorded"
	case c.header.Touches == trace.TouchesNone:
		return "the trace has no touches"
	}
	return ""
}

// compareAreas compares what /proc/PID/maps shows.
func compareAreas(r *Comparison, s *space, l *look) {
	shown := func(m *spans[area]) []span[area] {
		var list []span[area]
		m.each(whole, func(a span[area]) bool {
			a.v = a.v.looks()
			if n := len(list); n > 0 && list[n-1].End == a.Start && list[n-1].v == a.v {
				list[n-1].End = a.End
			} else {
				list = append(list, a)
			}
			return true
		})
		return list
	}
	got := shown(l.areas)
	r.Areas = len(got)
	text := func(a area, at mem.VirtAddr) string {
		if a.src == nil {
			return "nothing"
		}
		return a.describe(at)
	}
	overlay(shown(s.areas), got, func(on mem.Range, x, y area) {
		if x != y {
			r.add(Difference{Range: on, Area: true, Want: text(x, on.Start), Got: text(y, on.Start)})
		}
	})
}

// pages compares a run of pages that are alike. With atMost, of a fork child,
// entries that need not be copied may be absent.
func (c *Checker) pages(r *Comparison, s *space, on mem.Range, want, got page, last []mem.VirtAddr, found *[]Difference,
	atMost bool) {
	n := on.Len() / mem.PageSize
	w := want & present
	if w == 0 && got == 0 {
		return
	}
	if w == got || atMost && got == 0 && w != pageOwn {
		n -= s.special(on)
		r.Pages += n
		r.Equal += n
		return
	}
	// A difference: piece by piece, as the areas and the last faults divide it.
	cut := func(part mem.Range, a area) {
		for _, at := range last {
			if pg := mem.PageOf(at); part.Covers(pg) {
				c.piece(r, s, mem.Range{Start: part.Start, End: pg.Start}, a, want, got, false, found)
				c.piece(r, s, pg, a, want, got, true, found)
				part.Start = pg.End
			}
		}
		c.piece(r, s, part, a, want, got, false, found)
	}
	next := on.Start
	for _, a := range s.areas.in(on) {
		cut(mem.Range{Start: next, End: a.Start}, area{})
		cut(a.Range, a.v)
		next = a.End
	}
	cut(mem.Range{Start: next, End: on.End}, area{})
}

// special returns how many pages of on are of areas that are not compared.
func (s *space) special(on mem.Range) (n uint64) {
	s.areas.each(on, func(a span[area]) bool {
		if !a.v.modelled() {
			n += a.Len() / mem.PageSize
		}
		return true
	})
	return n
}

// piece judges pages of one area that are alike.
func (c *Checker) piece(r *Comparison, s *space, on mem.Range, a area, want, got page, dying bool, found *[]Difference) {
	if on.Empty() {
		return
	}
	d := Difference{Range: on, Want: want.String(), Got: got.String(), Where: "no area"}
	if a.src != nil {
		d.Where = a.describe(on.Start)
	}
	w := want & present
	d.Reason = c.reason(a, want, got, dying)
	if d.Reason != VDSO && d.Reason != Device {
		r.Pages += d.Pages()
	}
	if d.Reason != NoReason && d.Reason != Kernel || got != pageFile || w != 0 || a.src == nil || a.src.class != classFile ||
		c.header.Touches == trace.TouchesComplete && !s.uncut {
		*found = append(*found, d)
		return
	}
	// Fault-around, mm/memory.c:do_fault_around, maps up to 16 pages with the touched one
	// among them, and finish_fault all of a large folio in one page table. Judged by
	// blocks of that.
	const around = 512 * mem.PageSize
	for left := on; !left.Empty(); {
		part := left
		part.End = min(left.End, (left.Start+around)&^(around-1))
		e := d
		e.Range, e.Where = part, a.describe(part.Start)
		near := mem.Range{Start: max(part.Start, around) - around, End: part.End + around}
		if area, ok := s.areas.at(part.Start); ok && len(s.pages.in(near.Intersect(area.Range))) > 0 {
			e.Reason = FaultAround
		} else {
			e.Range.End = left.End // nothing is gained by more blocks
			part.End = left.End
			if gap, _ := s.pages.at(part.Start); gap.End < left.End+around {
				part.End = min(left.End, max(left.Start+around, (gap.End-around)&^(around-1)))
				e.Range.End = part.End
			}
		}
		if n := len(*found); n > 0 && (*found)[n-1].Range.End == e.Range.Start && (*found)[n-1].Reason == e.Reason {
			(*found)[n-1].Range.End = e.Range.End
		} else {
			*found = append(*found, e)
		}
		left.Start = part.End
	}
}

// reason returns why a page of area a may be got where want is predicted.
func (c *Checker) reason(a area, want, got page, dying bool) Reason {
	w := want & present
	switch {
	case a.src == nil:
		return NoReason
	case a.src.class == classSpecial:
		return VDSO
	case a.src.class == classDevice:
		return Device
	case got == 0 && want&pageFreed != 0:
		return Freed
	case got == 0 && want&pagePast != 0:
		return PastEnd
	case dying && w != 0 && (got == 0 || w == pageOwn):
		return Fatal
	case w != 0 && got != 0 && !a.shared && c.noCodes, w == 0 && c.noKernel:
		return Missing
	case c.opt.Strict || a.prot&mem.ProtWrite == 0:
		return NoReason
	case w == 0 && (got == a.fresh(false) || got == a.fresh(true)), got == pageOwn && !a.shared:
		return Kernel
	}
	return NoReason
}

// settle adds what was found: too many pages excepted as Kernel are not excepted.
func (c *Checker) settle(r *Comparison, found []Difference) {
	kernel := uint64(0)
	for _, d := range found {
		if d.Reason == Kernel {
			kernel += d.Pages()
		}
	}
	for _, d := range found {
		if d.Reason == Kernel && kernel > mostKernel(r.Pages) {
			d.Reason = NoReason
		}
		r.add(d)
	}
}

// compareFork holds the present set of a fork child against what it can have
// inherited: nothing beside, and all that is the process's own.
func (c *Checker) compareFork(p *process, l *look) Comparison {
	r := Comparison{PID: p.pid, Program: p.program, Point: l.point, Line: l.line, Time: l.time}
	switch {
	case p.torn && l.hasAreas:
		r.Skipped = "other threads of the parent were running"
		return r
	case l.hasAreas && p.space.known:
		compareAreas(&r, p.space, l)
	}
	if !p.space.pagesKnown {
		r.Skipped = "the parent's pages are not recorded"
		return r
	}
	var found []Difference
	overlay(p.space.pages.in(whole), l.pages.in(whole), func(on mem.Range, want, got page) {
		c.pages(&r, p.space, on, want, got, nil, &found, true)
	})
	c.settle(&r, found)
	return r
}

// adoptAreas takes the areas of a look for what is there, with the flags known.
func (s *space) adoptAreas(l *look) {
	overlay(s.areas.in(whole), l.areas.in(whole), func(on mem.Range, old, now area) {
		switch {
		case now.src == nil:
			s.areas.clear(on)
		case old.src == nil || old.looks() != now.looks():
			s.areas.set(on, now)
		}
	})
}

// adopt takes the pages of a look for what is there, with the marks known.
func (s *space) adopt(l *look) {
	now := l.pages.clone()
	for _, old := range s.pages.in(whole) {
		switch marks := old.v &^ present; {
		case marks == 0:
		case old.v&pageGuard != 0:
			next := old.Start
			for _, p := range now.in(old.Range) {
				now.set(mem.Range{Start: next, End: p.Start}, pageGuard)
				next = p.End
			}
			now.set(mem.Range{Start: next, End: old.End}, pageGuard)
		default:
			now.update(old.Range, func(p page) page {
				if p&present == old.v&present {
					p |= marks
				}
				return p
			})
		}
	}
	s.pages, s.pagesKnown = now, true
}
