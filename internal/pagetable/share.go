package pagetable

import (
	"math/bits"

	"vmsim/mem"
)

// Root is the page table of one address space. The zero Root is empty and owns
// no node.
type Root struct{ pgd nodeID }

// Fork returns a second Root over the same entries. Nothing is copied; either
// side copies the path that it changes.
//
// The caller must make stale write permissions of both sides unreachable, by
// giving each a new TLB tag.
func (t *Tables) Fork(r Root) Root {
	if r.pgd != 0 {
		t.walks.changed()
		t.refs[r.pgd]++
	}
	return r
}

// own makes the node *id the caller's alone, copying it where it is shared.
// *id is the only thing that changes for the caller.
func (t *Tables) own(id *nodeID, level int) error {
	if t.refs[*id] == 1 {
		return nil
	}
	c, err := t.alloc()
	if err != nil {
		return err
	}
	t.walks.changed()
	from, to := t.node(*id), t.node(c)
	t.used[c], t.lines[c] = t.used[*id], t.lines[*id]
	for lines := t.lines[*id]; lines != 0; lines &= lines - 1 {
		first := bits.TrailingZeros64(lines) * lineEntries
		for i := first; i < first+lineEntries; i++ {
			e := from[i]
			switch {
			case e == 0:
				continue
			case level > levelPTE && !e.IsHuge():
				t.refs[e.child()]++
			default:
				t.get(e)
				e = e.writeProtected()
				from[i] = e
			}
			to[i] = e
		}
	}
	t.refs[*id]--
	*id = c
	return nil
}

// path makes the nodes from the root down to level the caller's alone,
// allocating missing ones, and returns the last. A huge entry on the way is an
// error of the caller.
func (t *Tables) path(r *Root, addr mem.VirtAddr, level int) (nodeID, error) {
	if level == levelPTE && r.pgd != 0 {
		if leaf, owned := t.walks.lookup(r.pgd, addr); owned {
			return leaf, nil
		}
	}
	if r.pgd == 0 {
		id, err := t.alloc()
		if err != nil {
			return 0, err
		}
		r.pgd = id
	}
	if err := t.own(&r.pgd, levelPGD); err != nil {
		return 0, err
	}
	id := r.pgd
	for l := levelPGD; l > level; l-- {
		i := index(l, addr)
		e := t.node(id)[i]
		if e.IsHuge() {
			panic("pagetable: path through a huge entry at " + addr.String())
		}
		next := e.child()
		if e != 0 && t.refs[next] == 1 {
			id = next
			continue
		}
		var err error
		if e == 0 {
			next, err = t.alloc()
		} else {
			err = t.own(&next, l-1)
		}
		if err != nil {
			return 0, err
		}
		t.set(id, i, childEntry(next))
		id = next
	}
	return id, nil
}

// ownRange makes the nodes that hold entries of r the caller's alone; with
// partly, only those of which r covers a part. It changes nothing that an access
// can see: who must change all of r or nothing calls it first.
func (t *Tables) ownRange(root *Root, r mem.Range, partly bool) error {
	if err := t.own(&root.pgd, levelPGD); err != nil {
		return err
	}
	return t.ownBelow(root.pgd, levelPGD, 0, r, partly)
}

// ownBelow works on a node that the caller owns and that starts at base.
func (t *Tables) ownBelow(id nodeID, level int, base mem.VirtAddr, r mem.Range, partly bool) error {
	for i := range t.slots(level, base, r) {
		e := t.node(id)[i]
		if e == 0 || e.IsHuge() {
			continue
		}
		at := base + mem.VirtAddr(uint64(i)*span(level))
		if partly && r.Covers(mem.Range{Start: at, End: at + mem.VirtAddr(span(level))}) {
			continue
		}
		child := e.child()
		if err := t.own(&child, level-1); err != nil {
			return err
		}
		t.set(id, i, childEntry(child))
		if level-1 == levelPTE {
			continue
		}
		if err := t.ownBelow(child, level-1, at, r, partly); err != nil {
			return err
		}
	}
	return nil
}

// get takes a reference on what a leaf or huge entry names.
func (t *Tables) get(e Entry) {
	switch {
	case e.IsSpecial():
	case e.IsHuge():
		t.phys.GetBlock(e.PFN())
	default:
		t.phys.Get(e.PFN())
	}
}

// Put drops the reference that a leaf or huge entry held.
func (t *Tables) Put(e Entry) {
	switch {
	case !e.Mapped() || e.IsSpecial():
	case e.IsHuge():
		t.phys.PutBlock(e.PFN())
	default:
		t.phys.Put(e.PFN())
	}
}

// drop gives back one reference on a node, and with the last one everything
// below it.
func (t *Tables) drop(id nodeID, level int) {
	t.walks.changed()
	if t.refs[id]--; t.refs[id] > 0 {
		return
	}
	n := t.node(id)
	for lines := t.lines[id]; lines != 0; lines &= lines - 1 {
		first := bits.TrailingZeros64(lines) * lineEntries
		for i := first; i < first+lineEntries; i++ {
			switch e := n[i]; {
			case e == 0:
				continue
			case level > levelPTE && !e.IsHuge():
				t.drop(e.child(), level-1)
			default:
				t.Put(e)
			}
			n[i] = 0
		}
	}
	t.used[id], t.lines[id] = 0, 0
	t.free = append(t.free, id)
}

// Free drops all entries of r and leaves it empty.
func (t *Tables) Free(r *Root) {
	if r.pgd != 0 {
		t.drop(r.pgd, levelPGD)
	}
	r.pgd = 0
}

// Own makes the nodes on addr's path the caller's alone, down to the leaf.
// There must be no huge entry. Entries of a leaf that was shared lose their
// write permission.
func (t *Tables) Own(r *Root, addr mem.VirtAddr) error {
	_, err := t.path(r, addr, levelPTE)
	return err
}

// Reap calls f for every mapped entry of r that is not special; where f says
// so, the entry is dropped. Shared nodes are changed in place, for all who
// share them: use it only for entries that can be faulted in again with the
// same content. No memory is needed. The walk starts at from and ends when
// f's second result is false; it returns where to go on, or false at the end.
//
// Compare mm/vmscan.c:swap_out of Linux 2.4, which walked page tables too.
func (t *Tables) Reap(r Root, from mem.VirtAddr, f func(Entry) (drop, more bool)) (mem.VirtAddr, bool) {
	if r.pgd == 0 {
		return 0, false
	}
	return t.reap(r.pgd, levelPGD, 0, from, f)
}

func (t *Tables) reap(id nodeID, level int, base, from mem.VirtAddr, f func(Entry) (drop, more bool)) (mem.VirtAddr, bool) {
	n := t.node(id)
	for i := range t.slots(level, base, mem.Range{Start: from, End: mem.UserEnd}) {
		e := n[i]
		if e == 0 || e.IsSpecial() {
			continue
		}
		at := base + mem.VirtAddr(uint64(i)*span(level))
		if level > levelPTE && !e.IsHuge() {
			if next, more := t.reap(e.child(), level-1, at, from, f); more {
				return next, true
			}
			continue
		}
		drop, more := f(e)
		if drop {
			t.Put(e)
			t.set(id, i, 0)
		}
		if !more {
			return at + mem.VirtAddr(span(level)), true
		}
	}
	return 0, false
}
