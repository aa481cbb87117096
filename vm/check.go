package vm

import (
	"fmt"

	"vmsim/internal/pagetable"
	"vmsim/mem"
	"vmsim/vma"
)

// Check verifies every invariant of every structure, and that they agree: each
// frame has as many references as the page tables and the caches hold on it,
// no entry grants more than the areas permit, nothing is mapped where no area
// is, and no cached translation permits more than the page table.
func (m *Machine) Check() error {
	if err := m.phys.Check(); err != nil {
		return err
	}
	refs := make(map[mem.PFN]uint32, 1024)
	ref := func(first mem.PFN, n int) {
		for i := range mem.PFN(n) {
			refs[first+i]++
		}
	}
	ref(m.zero, 1)
	if err := m.cache.Check(func(pfn mem.PFN) { ref(pfn, 1) }); err != nil {
		return err
	}
	if err := m.huge.Check(ref); err != nil {
		return err
	}
	procs := m.Processes()
	var roots []pagetable.Root
	for _, p := range procs {
		if err := p.check(); err != nil {
			return fmt.Errorf("process %d: %w", p.PID, err)
		}
		roots = append(roots, p.root)
	}
	if err := m.tables.Check(roots, ref); err != nil {
		return err
	}
	if used := m.phys.Frames() - m.phys.FreeFrames(); used != len(refs) {
		return fmt.Errorf("%d frames are allocated, %d are referenced", used, len(refs))
	}
	for pfn, n := range refs {
		if got := m.phys.Refs(pfn); got != n {
			return fmt.Errorf("frame %d has %d references, %d are held", pfn, got, n)
		}
	}
	return nil
}

// check verifies one address space.
func (p *Process) check() error {
	if err := p.areas.Check(); err != nil {
		return err
	}
	var v vma.PageView
	for e := range p.m.tables.Entries(p.root, allUser) {
		for at := e.Addr; at < e.Addr+mem.VirtAddr(e.Size); at += mem.PageSize {
			if !p.areas.View(at, &v) {
				return fmt.Errorf("page %v is mapped where no area is", at)
			}
			if extra := e.Entry.Prot() &^ v.Prot; extra != 0 {
				return fmt.Errorf("page %v: entry grants %v, areas permit %v", at, e.Entry.Prot(), v.Prot)
			}
		}
		if e.Entry.Prot()&mem.ProtWrite != 0 && !e.Entry.IsShared() && p.m.cached(e.Entry.PFN()) {
			return fmt.Errorf("page %v is writable, but its frame %d is in a cache", e.Addr, e.Entry.PFN())
		}
	}
	var err error
	p.m.tlb.Entries(p.tag, func(addr mem.VirtAddr, pfn mem.PFN, prot mem.Prot) {
		e, owned := p.m.tables.Walk(p.root, addr)
		grants := e.Prot()
		if !owned && !e.IsShared() {
			grants &^= mem.ProtWrite
		}
		if e.Frame(addr) != pfn || prot&^grants != 0 {
			err = fmt.Errorf("page %v: the TLB grants %v on frame %d, the page table %v on %d",
				addr, prot, pfn, grants, e.Frame(addr))
		}
	})
	return err
}
