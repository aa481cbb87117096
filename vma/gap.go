package vma

import "vmsim/mem"

// full remembers that an address space has no gap of n bytes or more in
// [from, top), so that the next search starts at from: without it a process that
// maps 100,000 areas one by one looks at all of them each time.
//
// An area that goes away opens a gap, see opened; one that comes closes some,
// which leaves full true. Searches with a guard neither use nor set it.
//
// Compare mm->free_area_cache and cached_hole_size of Linux before 3.8; now its
// tree of areas knows the gap below each node.
type full struct {
	top, from mem.VirtAddr // from: the start of an area, or top
	n         uint64       // 0: nothing is known
}

// opened notes that the addresses of r will be free. The gap that they are in then
// ends at the next area above: what is above that stays full.
func (s *Set) opened(r mem.Range) {
	f := &s.full
	if f.n == 0 || r.End <= f.from || r.Start >= f.top {
		return
	}
	f.from = f.top
	if v, ok := s.FindAbove(r.End); ok {
		f.from = min(f.top, max(v.Start, r.End).PageDown())
	}
}

// GapBelow returns the highest page-aligned start of n free bytes that end at
// or below top and start at or above bottom (Linux: vm_unmapped_area with
// VM_UNMAPPED_AREA_TOPDOWN). Areas that grow down keep guard bytes free below
// them.
func (s *Set) GapBelow(n uint64, bottom, top mem.VirtAddr, guard uint64) (mem.VirtAddr, bool) {
	end, above := top, top // areas that start at or above are reckoned in
	if guard == 0 && s.full.top == top && s.full.n != 0 && n >= s.full.n {
		end, above = s.full.from, s.full.from
	}
	floor := func(v *VMA) mem.VirtAddr { // where room below v ends
		low := v.Start.PageDown()
		if v.Kind == Stack {
			low -= min(low, mem.VirtAddr(guard))
		}
		return low
	}
	if reach, fits := top.Add(guard); fits && guard > 0 { // guards reach below top
		for v := range s.Overlapping(mem.Range{Start: top, End: reach}) {
			end = min(end, floor(&v))
		}
	}
	fit, ok := mem.VirtAddr(0), false
	try := func(from mem.VirtAddr) bool {
		if end > from && uint64(end-from) >= n {
			if at := (end - mem.VirtAddr(n)).PageDown(); at >= from {
				fit, ok = at, true
			}
		}
		return ok
	}
	s.tree.DescendLessOrEqual(VMA{Range: mem.Range{Start: above}}, func(v VMA) bool {
		if v.Start >= above {
			return true
		}
		if v.End <= bottom {
			return false
		}
		if up, fits := v.End.PageUp(); fits && try(up) {
			return false
		}
		end = min(end, floor(&v))
		return true
	})
	if !ok {
		try(bottom)
	}
	if guard == 0 {
		s.full = full{top: top, from: end, n: n}
	}
	return fit, ok
}
