package pagetable

import (
	"slices"

	"vmsim/mem"
)

// Move moves the mapped entries of the page-aligned range from to the addresses
// from to on, which must not overlap it and map nothing. Huge entries that lie
// partly in from, or that would land on another offset in a window, must have
// been split. On ErrNoMemory nothing moved.
//
// Compare Linux mm/mremap.c:move_page_tables.
func (t *Tables) Move(root *Root, from mem.Range, to mem.VirtAddr) error {
	if root.pgd == 0 || from.Empty() {
		return nil
	}
	if err := t.ownRange(root, from, false); err != nil {
		return err
	}
	all := slices.Collect(t.Entries(*root, from))
	there := func(m *Mapping) mem.VirtAddr { return to + (m.Addr - from.Start) }
	// Nodes first: what fails then has moved nothing.
	for i := range all {
		if _, err := t.path(root, there(&all[i]), all[i].level()); err != nil {
			return err
		}
	}
	for i := range all {
		m := &all[i]
		t.put(root, m.Addr, m.level(), 0)
		t.put(root, there(m), m.level(), m.Entry)
	}
	t.clear(root.pgd, levelPGD, 0, from) // nodes that are empty now
	return nil
}

// level is that of the node which holds the entry.
func (m *Mapping) level() int {
	if m.Entry.IsHuge() {
		return levelPMD
	}
	return levelPTE
}

// put writes an entry whose path is the caller's own, and counts no reference of
// e. An empty leaf that a huge entry takes the place of is dropped.
func (t *Tables) put(root *Root, addr mem.VirtAddr, level int, e Entry) {
	id, err := t.path(root, addr, level)
	if err != nil {
		panic("pagetable: an owned path needs a node: " + err.Error())
	}
	i := index(level, addr)
	if old := t.node(id)[i]; e != 0 && old != 0 {
		t.dropEntry(old, level)
	}
	t.set(id, i, e)
}

// Discard drops the entries of the page-aligned range r as Reap does: in place,
// for all who share their node. Huge entries that lie partly in r stay.
func (t *Tables) Discard(root Root, r mem.Range) {
	if root.pgd != 0 {
		t.discard(root.pgd, levelPGD, 0, r)
	}
}

func (t *Tables) discard(id nodeID, level int, base mem.VirtAddr, r mem.Range) {
	for i := range t.slots(level, base, r) {
		e := t.node(id)[i]
		at := base + mem.VirtAddr(uint64(i)*span(level))
		switch {
		case e == 0:
		case level > levelPTE && !e.IsHuge():
			t.discard(e.child(), level-1, at, r)
		case r.Covers(mem.Range{Start: at, End: at + mem.VirtAddr(span(level))}):
			t.Put(e)
			t.set(id, i, 0)
		}
	}
}
