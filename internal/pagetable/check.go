package pagetable

import (
	"fmt"

	"vmsim/mem"
)

// Check verifies that the nodes are consistent with roots, all that exist:
// every node's reference count is the number of its parents, its use count the
// number of its entries, which lie in lines that are marked; free nodes are
// zero; no node is lost; cached walks end where walks do. It calls ref for each
// reference that an entry holds on a frame, n times for a block of n.
func (t *Tables) Check(roots []Root, ref func(first mem.PFN, n int)) error {
	seen := make([]uint32, len(t.refs))
	for _, r := range roots {
		if r.pgd == 0 {
			continue
		}
		if err := t.check(r.pgd, levelPGD, seen, ref); err != nil {
			return err
		}
	}
	free := 0
	for id := 1; id < len(t.refs); id++ {
		if seen[id] != t.refs[id] {
			return fmt.Errorf("page-table node %d: %d references, %d parents", id, t.refs[id], seen[id])
		}
		if t.refs[id] == 0 {
			free++
			if t.used[id] != 0 {
				return fmt.Errorf("page-table node %d: free with %d entries", id, t.used[id])
			}
			if t.lines[id] != 0 {
				return fmt.Errorf("page-table node %d: free with lines %#x in use", id, t.lines[id])
			}
			if *t.node(nodeID(id)) != (node{}) {
				return fmt.Errorf("page-table node %d: free and not zero", id)
			}
		}
	}
	if free != len(t.free) {
		return fmt.Errorf("page tables: %d free nodes, %d on the free list", free, len(t.free))
	}
	return t.checkWalks()
}

// checkWalks verifies that the walk cache says what a walk from the PGD finds.
func (t *Tables) checkWalks() error {
	for _, l := range t.walks.leaves {
		if l.leaf == 0 || l.version != t.walks.version {
			continue
		}
		addr := mem.VirtAddr(l.window << mem.HugeShift)
		id, owned := l.pgd, t.refs[l.pgd] == 1
		for level := levelPGD; level > levelPTE; level-- {
			id = t.node(id)[index(level, addr)].child()
			owned = owned && t.refs[id] == 1
		}
		if id != l.leaf || owned != l.owned {
			return fmt.Errorf("page tables: cached walk from %d to %v ends in node %d, owned %t; it is %d, owned %t",
				l.pgd, addr, l.leaf, l.owned, id, owned)
		}
	}
	return nil
}

func (t *Tables) check(id nodeID, level int, seen []uint32, ref func(mem.PFN, int)) error {
	if int(id) >= len(t.refs) || t.refs[id] == 0 {
		return fmt.Errorf("page-table node %d at level %d: named by an entry, but free", id, level)
	}
	if seen[id]++; seen[id] > 1 {
		return nil
	}
	used := 0
	for i, e := range t.node(id) {
		if e == 0 {
			continue
		}
		used++
		if t.lines[id]>>(i/lineEntries)&1 == 0 {
			return fmt.Errorf("page-table node %d entry %d: its line is not marked as in use", id, i)
		}
		switch {
		case e.IsHuge() && level != levelPMD:
			return fmt.Errorf("page-table node %d entry %d: huge at level %d", id, i, level)
		case e.IsHuge() && e.PFN()%mem.SubPages != 0:
			return fmt.Errorf("page-table node %d entry %d: huge with unaligned frame %d", id, i, e.PFN())
		case e.IsHuge():
			ref(e.PFN(), mem.SubPages)
		case level == levelPTE && !e.Mapped():
			return fmt.Errorf("page-table node %d entry %d: %#x holds no frame", id, i, uint64(e))
		case level == levelPTE:
			if !e.IsSpecial() {
				ref(e.PFN(), 1)
			}
		default:
			if e&^pfnMask != table {
				return fmt.Errorf("page-table node %d entry %d: permissions %#x above the leaves", id, i, uint64(e&^pfnMask))
			}
			if err := t.check(e.child(), level-1, seen, ref); err != nil {
				return err
			}
		}
	}
	if used != int(t.used[id]) {
		return fmt.Errorf("page-table node %d: %d entries, %d counted", id, used, t.used[id])
	}
	return nil
}
