package vma

import (
	"errors"
	"fmt"
	"iter"
	"sync/atomic"

	"github.com/google/btree"

	"vmsim/mem"
)

// Set is the areas of one address space, without overlap. Use New or Clone.
type Set struct {
	tree *btree.BTreeG[VMA]
	last VMA // the area found last, in front of the tree; empty if none

	// version is another number after each change, one that no other set has,
	// but for clones with the same areas. A PageView knows by it that it is
	// still right.
	version uint64
	full    full
}

var lastVersion atomic.Uint64

// changed notes that the areas are not those of before.
func (s *Set) changed() {
	s.last, s.version = VMA{}, lastVersion.Add(1)
}

// degree of the B-tree; 32 is where lookups among 20 to 1,000 areas are
// fastest.
const degree = 32

// ErrExists is returned by Insert where an area is in the way.
var ErrExists = errors.New("range is mapped")

func less(a, b VMA) bool { return a.Start < b.Start }

// New returns an empty set.
func New() *Set { return &Set{tree: btree.NewG(degree, less), version: lastVersion.Add(1)} }

// Clone returns a set with the same areas. It is lazy: nodes are copied when
// either side changes them.
func (s *Set) Clone() *Set {
	return &Set{tree: s.tree.Clone(), last: s.last, version: s.version, full: s.full}
}

// Len returns the number of areas.
func (s *Set) Len() int { return s.tree.Len() }

// Find returns the area that holds addr.
func (s *Set) Find(addr mem.VirtAddr) (VMA, bool) {
	ok := s.find(addr)
	return s.last, ok
}

// find makes the area that holds addr the one found last. It is false where
// there is none.
func (s *Set) find(addr mem.VirtAddr) bool {
	if s.last.Contains(addr) {
		return true
	}
	found := false
	s.tree.DescendLessOrEqual(VMA{Range: mem.Range{Start: addr}}, func(v VMA) bool {
		if found = v.Contains(addr); found {
			s.last = v
		}
		return false
	})
	return found
}

// FindBelow returns the last area that starts at or below addr.
func (s *Set) FindBelow(addr mem.VirtAddr) (v VMA, ok bool) {
	s.tree.DescendLessOrEqual(VMA{Range: mem.Range{Start: addr}}, func(x VMA) bool {
		v, ok = x, true
		return false
	})
	return v, ok
}

// FindAbove returns the first area that ends above addr (Linux: find_vma).
func (s *Set) FindAbove(addr mem.VirtAddr) (VMA, bool) {
	if s.find(addr) {
		return s.last, true
	}
	for v := range s.Overlapping(mem.Range{Start: addr, End: ^mem.VirtAddr(0)}) {
		return v, true
	}
	return VMA{}, false
}

// All yields the areas by ascending address.
func (s *Set) All() iter.Seq[VMA] {
	return func(yield func(VMA) bool) { s.tree.Ascend(func(v VMA) bool { return yield(v) }) }
}

// Overlapping yields the areas that share an address with r, whole, by
// ascending address. The set must not change meanwhile.
func (s *Set) Overlapping(r mem.Range) iter.Seq[VMA] {
	return func(yield func(VMA) bool) {
		if r.Empty() {
			return
		}
		if s.last.Covers(r) {
			yield(s.last)
			return
		}
		from := VMA{Range: r}
		if v, ok := s.FindBelow(r.Start); ok && v.End > r.Start {
			from = v
		}
		s.tree.AscendGreaterOrEqual(from, func(v VMA) bool {
			return v.Start < r.End && yield(v)
		})
	}
}

// Mapped reports whether an area holds an address of r.
func (s *Set) Mapped(r mem.Range) bool {
	for range s.Overlapping(r) {
		return true
	}
	return false
}

// Insert adds v, merging it with a neighbour that it continues or that
// continues it. It returns ErrExists where an area is in the way.
func (s *Set) Insert(v VMA) error {
	if v.Empty() {
		return fmt.Errorf("insert empty area %v", v.Range)
	}
	if s.Mapped(v.Range) {
		return fmt.Errorf("insert %v: %w", v.Range, ErrExists)
	}
	s.put(v)
	return nil
}

// put stores v, whose range is free, merged with its neighbours.
func (s *Set) put(v VMA) {
	s.changed()
	if a, ok := s.FindBelow(v.Start); ok && v.follows(&a) {
		s.tree.Delete(a)
		a.Extend(&v)
		v = a
	}
	if b, ok := s.tree.Get(VMA{Range: mem.Range{Start: v.End}}); ok && b.follows(&v) {
		s.tree.Delete(b)
		v.Extend(&b)
	}
	s.tree.ReplaceOrInsert(v)
}

// Remove takes the addresses of r out of all areas, splitting those that reach
// beyond it.
func (s *Set) Remove(r mem.Range) {
	s.opened(r)
	for _, v := range s.take(r) {
		if v.Start < r.Start {
			s.tree.ReplaceOrInsert(v.Clip(mem.Range{Start: v.Start, End: r.Start}))
		}
		if v.End > r.End {
			s.tree.ReplaceOrInsert(v.Clip(mem.Range{Start: r.End, End: v.End}))
		}
	}
}

// take deletes all areas that overlap r and returns them.
func (s *Set) take(r mem.Range) []VMA {
	var hit []VMA
	for v := range s.Overlapping(r) {
		hit = append(hit, v)
	}
	for _, v := range hit {
		s.tree.Delete(v)
	}
	s.changed()
	return hit
}

// Protect gives the parts of all areas inside r the permission prot, splitting
// and merging areas as needed.
func (s *Set) Protect(r mem.Range, prot mem.Prot) {
	s.Update(r, func(v *VMA) { v.Prot = prot })
}

// Update has f change the parts of all areas inside r, splitting and merging
// areas as needed. f must leave range and backing as they are.
func (s *Set) Update(r mem.Range, f func(*VMA)) {
	for _, v := range s.take(r) {
		if v.Start < r.Start {
			s.put(v.Clip(mem.Range{Start: v.Start, End: r.Start}))
		}
		mid := v.Clip(r)
		f(&mid)
		s.put(mid)
		if v.End > r.End {
			s.put(v.Clip(mem.Range{Start: r.End, End: v.End}))
		}
	}
}

// Resize changes the bounds of the area that starts at start, which must stay
// clear of its neighbours: brk and stack growth. The area must not be backed.
func (s *Set) Resize(start mem.VirtAddr, to mem.Range) {
	v, ok := s.tree.Delete(VMA{Range: mem.Range{Start: start}})
	s.opened(v.Range)
	s.changed()
	if !ok || v.Backed() {
		panic("vma: resize of no anonymous area at " + start.String())
	}
	v.Range = to
	s.put(v)
}

// Covers reports whether areas hold every address of r.
func (s *Set) Covers(r mem.Range) bool {
	at := r.Start
	for v := range s.Overlapping(r) {
		if v.Start > at {
			return false
		}
		at = v.End
	}
	return at >= r.End
}

// Check verifies the invariants: areas ascending, not empty, without overlap;
// every page covered wholly or not at all; merged where they can be; offsets
// and file ends consistent.
func (s *Set) Check() error {
	var prev *VMA
	var err error
	s.tree.Ascend(func(v VMA) bool {
		switch {
		case v.Empty():
			err = fmt.Errorf("area %v is empty", v)
		case prev != nil && prev.End > v.Start:
			err = fmt.Errorf("areas %v and %v overlap", *prev, v)
		case v.Start.PageOffset() != 0 && (prev == nil || prev.End != v.Start):
			err = fmt.Errorf("area %v starts inside a page that no area covers from its start", v)
		case prev != nil && prev.End.PageOffset() != 0 && prev.End != v.Start:
			err = fmt.Errorf("area %v ends inside a page that no area covers to its end", *prev)
		case prev != nil && v.follows(prev):
			err = fmt.Errorf("areas %v and %v are not merged", *prev, v)
		case v.Backed() && (v.FileEnd < v.Start || v.FileEnd > v.End || v.Offset < 0):
			err = fmt.Errorf("area %v: file bytes end at %v", v, v.FileEnd)
		case v.Kind == File && !v.Backed():
			err = fmt.Errorf("area %v has no file", v)
		}
		prev = &v
		return err == nil
	})
	if err == nil && prev != nil && prev.End.PageOffset() != 0 {
		err = fmt.Errorf("area %v ends inside a page that no area covers to its end", *prev)
	}
	if err == nil && !s.last.Empty() {
		if v, ok := s.tree.Get(s.last); !ok || v != s.last {
			err = fmt.Errorf("the area found last, %v, is not in the set", s.last)
		}
	}
	return err
}
