package soundness

import (
	"github.com/google/btree"

	"vmsim/mem"
)

// span is a run of addresses that have the same value.
type span[T comparable] struct {
	mem.Range
	v T
}

// spans maps addresses to values: runs, ascending, without overlap; neighbours of
// equal value are one run. Clone is lazy and costs nothing.
type spans[T comparable] struct {
	tree *btree.BTreeG[span[T]]
	last span[T] // found or set last; void where it may have changed
}

func newSpans[T comparable]() *spans[T] {
	return &spans[T]{tree: btree.NewG(32, func(a, b span[T]) bool { return a.Start < b.Start })}
}

func (m *spans[T]) clone() *spans[T] { return &spans[T]{tree: m.tree.Clone()} }

// from returns a key for the tree.
func from[T comparable](a mem.VirtAddr) span[T] { return span[T]{Range: mem.Range{Start: a}} }

// at returns the run that holds a.
func (m *spans[T]) at(a mem.VirtAddr) (found span[T], ok bool) {
	if m.last.Contains(a) {
		return m.last, true
	}
	m.tree.DescendLessOrEqual(from[T](a), func(s span[T]) bool {
		found, ok = s, s.Contains(a)
		return false
	})
	if ok {
		m.last = found
	}
	return found, ok
}

// above returns the lowest run that starts at or above a.
func (m *spans[T]) above(a mem.VirtAddr) (found span[T], ok bool) {
	m.tree.AscendGreaterOrEqual(from[T](a), func(s span[T]) bool {
		found, ok = s, true
		return false
	})
	return found, ok
}

// below returns the highest run that starts below a.
func (m *spans[T]) below(a mem.VirtAddr) (found span[T], ok bool) {
	if a == 0 {
		return found, false
	}
	m.tree.DescendLessOrEqual(from[T](a-1), func(s span[T]) bool {
		found, ok = s, true
		return false
	})
	return found, ok
}

// each yields the runs in r, cut to it, until f is false. f must not change m.
func (m *spans[T]) each(r mem.Range, f func(span[T]) bool) {
	if r.Empty() {
		return
	}
	if s, ok := m.below(r.Start); ok && s.End > r.Start {
		if s.Range = s.Intersect(r); !f(s) {
			return
		}
	}
	m.tree.AscendRange(from[T](r.Start), from[T](r.End), func(s span[T]) bool {
		s.End = min(s.End, r.End)
		return f(s)
	})
}

// in returns the runs in r, cut to it.
func (m *spans[T]) in(r mem.Range) (list []span[T]) {
	m.each(r, func(s span[T]) bool { list = append(list, s); return true })
	return list
}

// covered reports whether every address of r has a value, and returns the first
// that has none.
func (m *spans[T]) covered(r mem.Range) (hole mem.VirtAddr, ok bool) {
	hole = r.Start
	m.each(r, func(s span[T]) bool {
		if s.Start != hole {
			return false
		}
		hole = s.End
		return true
	})
	return hole, hole >= r.End
}

// clear takes the values of r away.
func (m *spans[T]) clear(r mem.Range) {
	if r.Empty() {
		return
	}
	m.last = span[T]{}
	if s, ok := m.below(r.Start); ok && s.End > r.Start {
		m.tree.ReplaceOrInsert(span[T]{mem.Range{Start: s.Start, End: r.Start}, s.v})
		if s.End > r.End {
			m.tree.ReplaceOrInsert(span[T]{mem.Range{Start: r.End, End: s.End}, s.v})
			return
		}
	}
	for {
		s, ok := m.above(r.Start)
		if !ok || s.Start >= r.End {
			return
		}
		m.tree.Delete(s)
		if s.End > r.End {
			m.tree.ReplaceOrInsert(span[T]{mem.Range{Start: r.End, End: s.End}, s.v})
			return
		}
	}
}

// set gives all of r the value v.
func (m *spans[T]) set(r mem.Range, v T) {
	if r.Empty() {
		return
	}
	m.last = span[T]{}
	before, ok := m.below(r.Start)
	next, behind := m.above(r.Start)
	same := behind && next.Range == r // an area whose protection changes: only its value does
	switch {
	case ok && before.End >= r.End && before.v == v:
		return
	case same:
	case ok && before.End > r.Start, behind && next.Start < r.End:
		m.clear(r)
		before, ok = m.below(r.Start)
		next, behind = m.above(r.End)
	}
	if same {
		next, behind = m.above(r.End)
	}
	if ok && before.End == r.Start && before.v == v {
		if same {
			m.tree.Delete(from[T](r.Start))
		}
		r.Start = before.Start // replaced below
	}
	if behind && next.Start == r.End && next.v == v {
		m.tree.Delete(next)
		r.End = next.End
	}
	m.last = span[T]{r, v}
	m.tree.ReplaceOrInsert(m.last)
}

// update gives every run in r another value, or none where f is false.
func (m *spans[T]) update(r mem.Range, f func(span[T]) (T, bool)) {
	for _, s := range m.in(r) {
		switch v, keep := f(s); {
		case !keep:
			m.clear(s.Range)
		case v != s.v:
			m.set(s.Range, v)
		}
	}
}

// whole is every address that a process can have.
var whole = mem.Range{End: mem.UserEnd}
