package pagetable

import (
	"iter"

	"vmsim/mem"
)

// Walk returns the entry that maps addr, huge or not; zero where none does.
// owned is false where a node on the path is shared with another address
// space: then the entry's write bit does not count.
//
// Compare Linux mm/pagewalk.c and the four levels of arch/x86.
func (t *Tables) Walk(r Root, addr mem.VirtAddr) (e Entry, owned bool) {
	id := r.pgd
	if id == 0 || addr >= mem.UserEnd {
		return 0, false
	}
	if leaf, owned := t.walks.lookup(id, addr); leaf != 0 {
		return t.node(leaf)[index(levelPTE, addr)], owned
	}
	owned = t.refs[id] == 1
	for l := levelPGD; l > levelPTE; l-- {
		e = t.node(id)[index(l, addr)]
		if e == 0 || e.IsHuge() {
			return e, owned
		}
		id = e.child()
		owned = owned && t.refs[id] == 1
	}
	t.walks.fill(r.pgd, addr, id, owned)
	return t.node(id)[index(levelPTE, addr)], owned
}

// Frame returns the frame of addr's 4 KiB page under e, the entry that maps it.
func (e Entry) Frame(addr mem.VirtAddr) mem.PFN {
	if e.IsHuge() {
		return e.PFN() + mem.PFN(addr.SubPage())
	}
	return e.PFN()
}

// Set makes e the entry of addr's page, taking over the caller's reference on
// its frame, and returns the entry that was there, whose reference is the
// caller's to Put. There must be no huge entry. On ErrNoMemory nothing changed.
func (t *Tables) Set(r *Root, addr mem.VirtAddr, e Entry) (old Entry, err error) {
	id, err := t.path(r, addr, levelPTE)
	if err != nil {
		return 0, err
	}
	i := index(levelPTE, addr)
	old = t.node(id)[i]
	t.set(id, i, e)
	return old, nil
}

// SetHuge makes e, a frame of 512 with one reference each that the entry takes
// over, the entry of addr's window. What the window held before is dropped.
func (t *Tables) SetHuge(r *Root, addr mem.VirtAddr, e Entry) error {
	id, err := t.path(r, addr, levelPMD)
	if err != nil {
		return err
	}
	i := index(levelPMD, addr)
	t.dropEntry(t.node(id)[i], levelPMD)
	t.set(id, i, e|bitHuge)
	return nil
}

// SetWindow sets the 512 entries of addr's window to what f returns, taking
// over a reference on each frame that f names; zero leaves an entry as it is.
// On ErrNoMemory f is not called.
func (t *Tables) SetWindow(r *Root, addr mem.VirtAddr, f func(i int) Entry) error {
	id, err := t.path(r, addr, levelPTE)
	if err != nil {
		return err
	}
	for i := range mem.SubPages {
		if e := f(i); e != 0 {
			t.dropEntry(t.node(id)[i], levelPTE)
			t.set(id, i, e)
		}
	}
	return nil
}

// dropEntry gives back what an entry of a node of this level holds.
func (t *Tables) dropEntry(e Entry, level int) {
	switch {
	case e == 0:
	case level > levelPTE && !e.IsHuge():
		t.drop(e.child(), level-1)
	default:
		t.Put(e)
	}
}

// Split replaces the huge entry of addr's window by 512 entries of 4 KiB with
// the same frames, references and permissions (Linux: __split_huge_pmd).
func (t *Tables) Split(r *Root, addr mem.VirtAddr) error {
	id, err := t.path(r, addr, levelPMD)
	if err != nil {
		return err
	}
	i := index(levelPMD, addr)
	e := t.node(id)[i]
	if !e.IsHuge() {
		return nil
	}
	leaf, err := t.alloc()
	if err != nil {
		return err
	}
	n := t.node(leaf)
	for s := range n {
		n[s] = e&^(bitHuge|pfnMask) | Entry(e.PFN()+mem.PFN(s))<<pfnShift
	}
	t.used[leaf], t.lines[leaf] = 512, ^uint64(0)
	t.set(id, i, childEntry(leaf))
	return nil
}

// Clear drops all entries of the page-aligned range r. Huge entries that lie
// partly in it must have been split. On ErrNoMemory no entry is dropped.
func (t *Tables) Clear(root *Root, r mem.Range) error {
	if root.pgd == 0 || r.Empty() {
		return nil
	}
	if err := t.ownRange(root, r, true); err != nil {
		return err
	}
	t.clear(root.pgd, levelPGD, 0, r)
	return nil
}

// clear works on a node that starts at base. The caller owns all nodes that r
// covers in part.
func (t *Tables) clear(id nodeID, level int, base mem.VirtAddr, r mem.Range) {
	for i := range t.slots(level, base, r) {
		e := t.node(id)[i]
		if e == 0 {
			continue
		}
		at := base + mem.VirtAddr(uint64(i)*span(level))
		covered := mem.Range{Start: at, End: at + mem.VirtAddr(span(level))}
		if level == levelPTE || r.Covers(covered) {
			t.dropEntry(e, level)
			t.set(id, i, 0)
			continue
		}
		if e.IsHuge() {
			panic("pagetable: clearing a part of a huge entry at " + at.String())
		}
		child := e.child()
		t.clear(child, level-1, at, r)
		if t.used[child] == 0 {
			t.release(child)
			t.set(id, i, 0)
		}
	}
}

// Update gives every mapped entry of the page-aligned range r the permission
// prot. Write permission is given only to entries of shared mappings and to
// those that have it already: all others get it by a CoW fault, which looks at
// the references first (a bug of the Kevlar kernel). Huge entries that lie
// partly in r must have been split. On ErrNoMemory no permission is changed.
func (t *Tables) Update(root *Root, r mem.Range, prot mem.Prot) error {
	if root.pgd == 0 || r.Empty() {
		return nil
	}
	if err := t.ownRange(root, r, false); err != nil {
		return err
	}
	t.update(root.pgd, levelPGD, 0, r, prot)
	return nil
}

// update works on a node that starts at base. The caller owns all nodes that r
// touches.
func (t *Tables) update(id nodeID, level int, base mem.VirtAddr, r mem.Range, prot mem.Prot) {
	for i := range t.slots(level, base, r) {
		e := t.node(id)[i]
		if e == 0 {
			continue
		}
		if level == levelPTE || e.IsHuge() {
			grant := prot
			if e&bitWrite == 0 && !e.IsShared() {
				grant &^= mem.ProtWrite
			}
			t.set(id, i, e.WithProt(grant))
			continue
		}
		at := base + mem.VirtAddr(uint64(i)*span(level))
		t.update(e.child(), level-1, at, r, prot)
	}
}

// slots yields the entries of a node at base that r overlaps.
func (t *Tables) slots(level int, base mem.VirtAddr, r mem.Range) iter.Seq[int] {
	return func(yield func(int) bool) {
		s := span(level)
		first, last := 0, 511
		if r.Start > base {
			if d := uint64(r.Start-base) / s; d > 511 {
				return
			} else {
				first = int(d)
			}
		}
		if r.End <= base {
			return
		}
		last = int(min(uint64(r.End-1-base)/s, 511))
		for i := first; i <= last; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// Mapping is an entry with its place, as Entries yields it.
type Mapping struct {
	Addr  mem.VirtAddr
	Size  uint64 // mem.PageSize or mem.HugeSize
	Entry Entry
	Owned bool // no node on the path is shared
}

// Entries yields the mapped entries that overlap r, by ascending address. The
// tables must not change meanwhile.
func (t *Tables) Entries(root Root, r mem.Range) iter.Seq[Mapping] {
	return func(yield func(Mapping) bool) {
		if root.pgd != 0 {
			t.entries(root.pgd, levelPGD, 0, true, r, yield)
		}
	}
}

func (t *Tables) entries(id nodeID, level int, base mem.VirtAddr, owned bool, r mem.Range, yield func(Mapping) bool) bool {
	owned = owned && t.refs[id] == 1
	n, left := t.node(id), t.used[id]
	for i := range t.slots(level, base, r) {
		if left == 0 {
			break
		}
		e := n[i]
		if e == 0 {
			continue
		}
		left--
		at := base + mem.VirtAddr(uint64(i)*span(level))
		if level == levelPTE || e.IsHuge() {
			if !yield(Mapping{at, span(level), e, owned}) {
				return false
			}
		} else if !t.entries(e.child(), level-1, at, owned, r, yield) {
			return false
		}
	}
	return true
}
