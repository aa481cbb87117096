package session

import (
	"math/bits"

	"github.com/google/btree"

	"vmsim/mem"
)

// pageSet is a set of 4 KiB pages, a bitmap for each 2 MiB window. A clone costs
// nothing until one of both changes.
type pageSet struct {
	windows *btree.BTreeG[pageBits] // nil: empty
	last    pageBits                // the window asked for last
	changed bool                    // last is not yet in windows as it is
}

// pageBits is a window of a pageSet.
type pageBits struct {
	window uint64 // number: address / 2 MiB
	bits   [mem.SubPages / 64]uint64
}

func newPageSet() *pageSet { return &pageSet{last: pageBits{window: noWindow}} }

// pageNodes are nodes of trees that are gone: each process has a set of its own,
// most of them small and short-lived.
var pageNodes = btree.NewFreeListG[pageBits](btree.DefaultFreeListSize)

// settle puts last into windows.
func (s *pageSet) settle() {
	if !s.changed {
		return
	}
	s.changed = false
	if s.windows == nil {
		less := func(a, b pageBits) bool { return a.window < b.window }
		s.windows = btree.NewWithFreeListG(32, less, pageNodes)
	}
	s.windows.ReplaceOrInsert(s.last)
}

const noWindow = ^uint64(0)

// find makes last the window of addr.
func (s *pageSet) find(addr mem.VirtAddr) {
	w := uint64(addr) >> mem.HugeShift
	if s.last.window == w {
		return
	}
	s.settle()
	ok := false
	if s.windows != nil {
		s.last, ok = s.windows.Get(pageBits{window: w})
	}
	if !ok {
		s.last = pageBits{window: w}
	}
}

// has reports whether addr's page is in the set.
func (s *pageSet) has(addr mem.VirtAddr) bool {
	s.find(addr)
	i := addr.SubPage()
	return s.last.bits[i/64]>>(i%64)&1 != 0
}

// add puts addr's page into the set. It is false where it was there.
func (s *pageSet) add(addr mem.VirtAddr) bool {
	if s.has(addr) {
		return false
	}
	i := addr.SubPage()
	s.last.bits[i/64] |= 1 << (i % 64)
	s.changed = true
	return true
}

// remove takes the pages of r away. It costs what is in the set, not the length
// of r.
func (s *pageSet) remove(r mem.Range) {
	for _, w := range s.overlapping(r) {
		for i := range mem.SubPages {
			if r.Contains(w.page(i)) {
				w.bits[i/64] &^= 1 << (i % 64)
			}
		}
		if w.bits == (pageBits{}).bits {
			s.windows.Delete(w)
		} else {
			s.windows.ReplaceOrInsert(w)
		}
	}
	s.last.window = noWindow
}

// move moves the pages of r so that its start lies at to; what was there is
// forgotten.
func (s *pageSet) move(r mem.Range, to mem.VirtAddr) {
	var moved []mem.VirtAddr
	for _, w := range s.overlapping(r) {
		for i, b := range w.bits {
			for ; b != 0; b &= b - 1 {
				if at := w.page(i*64 + bits.TrailingZeros64(b)); r.Contains(at) {
					moved = append(moved, at)
				}
			}
		}
	}
	s.remove(r)
	s.remove(mem.Range{Start: to, End: to + mem.VirtAddr(r.Len())})
	for _, at := range moved {
		s.add(at - r.Start + to)
	}
}

// overlapping returns the windows that hold pages of r.
func (s *pageSet) overlapping(r mem.Range) (found []pageBits) {
	s.settle()
	if r.Empty() || s.windows == nil {
		return nil
	}
	first, last := uint64(r.Start)>>mem.HugeShift, uint64(r.End-1)>>mem.HugeShift
	s.windows.AscendRange(pageBits{window: first}, pageBits{window: last + 1}, func(w pageBits) bool {
		found = append(found, w)
		return true
	})
	return found
}

// page returns the address of page i of w.
func (w *pageBits) page(i int) mem.VirtAddr {
	return mem.VirtAddr(w.window<<mem.HugeShift) + mem.VirtAddr(i)*mem.PageSize
}

func (s *pageSet) clone() *pageSet {
	c := newPageSet()
	s.cloneTo(c)
	return c
}

// cloneTo makes c a clone.
func (s *pageSet) cloneTo(c *pageSet) {
	s.settle()
	*c = pageSet{last: s.last}
	if s.windows != nil {
		c.windows = s.windows.Clone()
	}
}

// merge adds the pages of r that o has.
func (s *pageSet) merge(o *pageSet, r mem.Range) {
	for _, w := range o.overlapping(r) {
		for i, b := range w.bits {
			for ; b != 0; b &= b - 1 {
				if at := w.page(i*64 + bits.TrailingZeros64(b)); r.Contains(at) {
					s.add(at)
				}
			}
		}
	}
}
