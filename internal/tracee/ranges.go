package tracee

import (
	"slices"

	"vmsim/mem"
)

// rangeSet is a set of addresses: ascending ranges that neither overlap nor touch.
type rangeSet []mem.Range

// first returns the index of the first range that ends behind a.
func (s rangeSet) first(a mem.VirtAddr) int {
	i, _ := slices.BinarySearchFunc(s, a, func(r mem.Range, a mem.VirtAddr) int {
		if r.End <= a {
			return -1
		}
		return 1
	})
	return i
}

// add puts r in the set.
func (s *rangeSet) add(r mem.Range) {
	if r.Empty() {
		return
	}
	set := *s
	i := set.first(r.Start)
	if i > 0 && set[i-1].End == r.Start {
		i--
	}
	j := i
	for ; j < len(set) && set[j].Start <= r.End; j++ {
		r = mem.Range{Start: min(r.Start, set[j].Start), End: max(r.End, set[j].End)}
	}
	*s = slices.Replace(set, i, j, r)
}

// remove takes r out of the set, and returns how many bytes of it were in.
func (s *rangeSet) remove(r mem.Range) (bytes uint64) {
	if r.Empty() {
		return 0
	}
	set := *s
	i := set.first(r.Start)
	j := i
	var rest []mem.Range
	for ; j < len(set) && set[j].Start < r.End; j++ {
		bytes += set[j].Intersect(r).Len()
		for _, left := range []mem.Range{{Start: set[j].Start, End: r.Start}, {Start: r.End, End: set[j].End}} {
			if !left.Empty() {
				rest = append(rest, left)
			}
		}
	}
	if j > i {
		*s = slices.Replace(set, i, j, rest...)
	}
	return bytes
}

// in returns the parts of r that are in the set.
func (s rangeSet) in(r mem.Range) (parts []mem.Range) {
	for _, have := range s[s.first(r.Start):] {
		if have.Start >= r.End || r.Empty() {
			break
		}
		parts = append(parts, have.Intersect(r))
	}
	return parts
}

// overlaps reports whether a part of r is in the set.
func (s rangeSet) overlaps(r mem.Range) bool {
	i := s.first(r.Start)
	return i < len(s) && s[i].Start < r.End && !r.Empty()
}

// advices is what access advice the program itself gave, where it is not
// MADV_NORMAL: a set of addresses for each.
type advices struct{ random, sequential rangeSet }

// set notes that the program advised r.
func (a *advices) set(r mem.Range, advice int) {
	a.random.remove(r)
	a.sequential.remove(r)
	switch advice {
	case madvRandom:
		a.random.add(r)
	case madvSequential:
		a.sequential.add(r)
	}
}

// at returns the program's advice for the page at p.
func (a *advices) at(p mem.VirtAddr) int {
	page := mem.PageOf(p)
	switch {
	case a.random.overlaps(page):
		return madvRandom
	case a.sequential.overlaps(page):
		return madvSequential
	}
	return madvNormal
}

// none reports whether nothing but MADV_NORMAL was ever advised.
func (a *advices) none() bool { return len(a.random)+len(a.sequential) == 0 }

// clone returns a copy.
func (a *advices) clone() advices {
	return advices{slices.Clone(a.random), slices.Clone(a.sequential)}
}

// Advice of madvise(2) on how pages will be accessed: VM_RAND_READ and VM_SEQ_READ, or
// neither.
const (
	madvNormal     = 0
	madvRandom     = 1
	madvSequential = 2
)
