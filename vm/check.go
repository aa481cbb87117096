package vm

import (
	"bytes"
	"fmt"
	"maps"

	"vmsim/internal/pagetable"
	"vmsim/mem"
	"vmsim/vma"
)

// Check verifies every invariant of every structure, and that they agree: each
// frame has as many references as the page tables and the caches hold on it,
// no entry grants more than the areas permit, nothing is mapped where no area
// is, who may write to a private page holds its frame alone, the zero page is
// zero, and no cached translation permits more than the page table.
func (m *Machine) Check() error {
	if err := m.phys.Check(); err != nil {
		return err
	}
	m.refs = m.refs[:0]
	ref := func(first mem.PFN, n int) {
		for end := int(first) + n; len(m.refs) < end; {
			m.refs = append(m.refs, 0)
		}
		for i := range mem.PFN(n) {
			m.refs[first+i]++
		}
	}
	ref(m.zero, 1)
	if !bytes.Equal(m.phys.Page(m.zero), zeros[:]) {
		return fmt.Errorf("the zero page, frame %d, is not zero", m.zero)
	}
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
	}
	for _, s := range spaces(procs) {
		roots = append(roots, s.root)
	}
	if err := m.tables.Check(roots, ref); err != nil {
		return err
	}
	held := 0
	for pfn, n := range m.refs {
		if got := m.phys.Refs(mem.PFN(pfn)); got != n {
			return fmt.Errorf("frame %d has %d references, %d are held", pfn, got, n)
		}
		if n > 0 {
			held++
		}
	}
	if used := m.phys.Frames() - m.phys.FreeFrames(); used != held {
		return fmt.Errorf("%d frames are allocated, %d are referenced", used, held)
	}
	return m.checkObjects(procs)
}

// checkObjects verifies that each shared object is mapped as often as it is
// counted, and there as long as it is held.
func (m *Machine) checkObjects(procs []*Process) error {
	mapped := map[uint32]int{}
	for _, s := range spaces(procs) {
		pages := map[uint32]int{}
		for v := range s.areas.All() {
			if v.OfObject() {
				pages[v.FileNo] += int(v.Len() / mem.PageSize)
			}
		}
		if !maps.Equal(pages, s.shared) {
			return fmt.Errorf("an address space maps %v pages of shared objects, %v are counted", pages, s.shared)
		}
		for no := range pages {
			mapped[no]++
		}
	}
	for no, o := range m.shared {
		switch {
		case o.no != no || !m.cache.Anonymous(no):
			return fmt.Errorf("shared object %d is not file %d of the page cache", no, o.no)
		case o.spaces != mapped[no]:
			return fmt.Errorf("shared object %d: %d address spaces map it, %d are counted", no, mapped[no], o.spaces)
		case o.spaces == 0 && !o.held:
			return fmt.Errorf("shared object %d is still there, and nobody holds it", no)
		}
		delete(mapped, no)
	}
	if len(mapped) > 0 {
		return fmt.Errorf("shared objects %v are mapped, and gone", mapped)
	}
	return nil
}

var zeros [mem.PageSize]byte

// check verifies one address space.
func (p *Process) check() error {
	if err := p.areas.Check(); err != nil {
		return err
	}
	var v vma.PageView
	for e := range p.m.tables.Entries(p.root, allUser) {
		for at := e.Addr; at < e.Addr+mem.VirtAddr(e.Size); at += mem.PageSize {
			// A page inside the area that the last one was in sees that alone.
			if !v.First.Covers(mem.PageOf(at)) && !p.areas.View(at, &v) {
				return fmt.Errorf("page %v is mapped where no area is", at)
			}
			if extra := e.Entry.Prot() &^ v.Prot; extra != 0 {
				return fmt.Errorf("page %v: entry grants %v, areas permit %v", at, e.Entry.Prot(), v.Prot)
			}
		}
		pfn := e.Entry.PFN()
		if e.Entry.IsSpecial() && pfn != p.m.zero {
			return fmt.Errorf("page %v: frame %d is mapped as the zero page", e.Addr, pfn)
		}
		if e.Entry.Prot()&mem.ProtWrite == 0 || e.Entry.IsShared() {
			continue
		}
		if p.m.cached(pfn) {
			return fmt.Errorf("page %v is writable, but its frame %d is in a cache", e.Addr, pfn)
		}
		if n := p.m.phys.Refs(pfn); e.Entry.IsSpecial() || n != 1 {
			return fmt.Errorf("page %v is writable, but its frame %d has %d references", e.Addr, pfn, n)
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
