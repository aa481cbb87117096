package soundness

import (
	"fmt"
	"slices"

	"vmsim/mem"
)

// span is a run of addresses that have the same value.
type span[T comparable] struct {
	mem.Range
	v T
}

// spans maps pages to values; the zero value is none. Clone is lazy and costs
// nothing.
//
// It is two arrays deep: steps, where the value changes, in blocks, and where the
// blocks start. A change moves at most a block, and the one array of starts, which
// every search reads, stays in the data cache.
type spans[T comparable] struct {
	starts []step // of the blocks: their first steps, without values
	blocks []*block[T]
	owner  *owner // blocks of other owners are shared with a clone
	shared bool   // starts and blocks are, too
	most   int    // steps of a block
}

// mostSteps is by measurement. Searches hardly differ from 128 to 1024; the first
// change of a clone copies the starts and a block, which is least near 512.
const mostSteps = 512

func newSpans[T comparable]() *spans[T] {
	b := &block[T]{owner: new(owner), steps: []step{0}, values: make([]T, 1)}
	return &spans[T]{starts: []step{0}, blocks: []*block[T]{b}, owner: b.owner, most: mostSteps}
}

func (m *spans[T]) clone() *spans[T] {
	m.owner, m.shared = new(owner), true
	c := *m
	c.owner = new(owner)
	return &c
}

// find returns the step that a is on: step j of block i.
func (m *spans[T]) find(a mem.VirtAddr) (i, j int) {
	i = floor(m.starts, a)
	return i, floor(m.blocks[i].steps, a)
}

// span returns the run, or the gap, of step j of block i.
func (m *spans[T]) span(i, j int) span[T] {
	b, end := m.blocks[i], ^mem.VirtAddr(0)
	if j+1 < len(b.steps) {
		end = b.steps[j+1].start()
	} else if i+1 < len(m.starts) {
		end = m.starts[i+1].start()
	}
	return span[T]{mem.Range{Start: b.steps[j].start(), End: end}, b.value(j)}
}

// at returns the run that holds a, or, with false, the gap.
func (m *spans[T]) at(a mem.VirtAddr) (span[T], bool) {
	var none T
	s := m.span(m.find(a))
	return s, s.v != none
}

// each yields the runs in r, cut to it, until f is false. f must not change m.
func (m *spans[T]) each(r mem.Range, f func(span[T]) bool) {
	if r.Empty() {
		return
	}
	var none T
	for i, j := m.find(r.Start); i < len(m.blocks); i, j = i+1, 0 {
		for ; j < len(m.blocks[i].steps); j++ {
			s := m.span(i, j)
			if s.Start >= r.End {
				return
			}
			if s.Range = s.Intersect(r); s.v != none && !f(s) {
				return
			}
		}
	}
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
	var none T
	m.set(r, none)
}

// set gives all of r, whole pages, the value v.
func (m *spans[T]) set(r mem.Range, v T) {
	if r.Empty() {
		return
	}
	if (r.Start | r.End).PageOffset() != 0 {
		panic(fmt.Sprintf("soundness: %v is not of whole pages", r))
	}
	i, j := 0, 0 // the step before r: the first one of all stays, whatever address 0 has
	if r.Start > 0 {
		i, j = m.find(r.Start - 1)
	}
	k, l := m.find(r.End)
	before, behind := m.blocks[i].value(j), m.blocks[k].value(l)
	if i == k && j == l && before == v {
		return
	}
	b, now := m.own(i), make([]step, 0, 2)
	if before != v {
		now = append(now, b.step(r.Start, v))
	}
	if behind != v {
		now = append(now, b.step(r.End, behind))
	}
	if i == k {
		b.steps = slices.Replace(b.steps, j+1, l+1, now...)
	} else {
		b.steps = append(b.steps[:j+1], now...)
		if l+1 < len(m.blocks[k].steps) {
			c := m.own(k)
			c.steps = slices.Delete(c.steps, 0, l+1)
			m.starts[k] = c.steps[0] &^ stepValue
			k--
		}
		m.drop(i+1, k+1)
	}
	for n := i + 1; n >= i-1; n-- {
		m.join(n)
	}
	if len(b.steps) > m.most { // then it was not joined
		m.split(i)
	}
}

// own makes block i m's own.
func (m *spans[T]) own(i int) *block[T] {
	if m.shared {
		m.starts, m.blocks, m.shared = slices.Clone(m.starts), slices.Clone(m.blocks), false
	}
	switch b := m.blocks[i]; {
	case b.crowded():
		m.blocks[i] = b.tidied(m.owner)
	case b.owner != m.owner:
		m.blocks[i] = &block[T]{m.owner, slices.Clone(b.steps), slices.Clone(b.values)}
	}
	return m.blocks[i]
}

// drop takes the blocks from i to k away.
func (m *spans[T]) drop(i, k int) {
	m.starts, m.blocks = slices.Delete(m.starts, i, k), slices.Delete(m.blocks, i, k)
}

// split makes two of block i.
func (m *spans[T]) split(i int) {
	b, c := m.blocks[i], &block[T]{owner: m.owner}
	half := len(b.steps) / 2
	c.append(b, half)
	b.steps = b.steps[:half]
	m.starts = slices.Insert(m.starts, i+1, c.steps[0]&^stepValue)
	m.blocks = slices.Insert(m.blocks, i+1, c)
}

// join makes one of blocks i and i+1, if they are there and small.
func (m *spans[T]) join(i int) {
	if i < 0 || i+1 >= len(m.blocks) || len(m.blocks[i].steps)+len(m.blocks[i+1].steps) > m.most/2 {
		return
	}
	m.own(i).append(m.blocks[i+1], 0)
	m.drop(i+1, i+2)
}

// update gives every run in r the value that f makes of its own.
func (m *spans[T]) update(r mem.Range, f func(T) T) {
	for _, s := range m.in(r) {
		if v := f(s.v); v != s.v {
			m.set(s.Range, v)
		}
	}
}

// whole is every address that a process can have.
var whole = mem.Range{End: mem.UserEnd}
