package vm

import (
	"vmsim/internal/event"
	"vmsim/internal/pagetable"
	"vmsim/mem"
	"vmsim/vma"
)

// cowFault gives a writer a frame of its own for a page that is mapped: it
// takes the frame over where nobody else holds it, and copies it otherwise. e
// is the entry; a huge one is split first, so that one 4 KiB page is copied
// and 511 stay as they are.
//
// Compare Linux mm/memory.c:do_wp_page, mm/huge_memory.c:do_huge_pmd_wp_page.
func (p *Process) cowFault(v *vma.PageView, e pagetable.Entry) (resolution, error) {
	m := p.m
	if e.IsHuge() {
		if err := p.split(v.Addr, "write"); err != nil {
			return resolution{}, err
		}
	}
	e, owned := m.tables.Walk(p.root, v.Addr)
	if owned && !e.IsSpecial() && m.phys.Refs(e.PFN()) == 1 {
		// Sole owner: set the entry writable, or the fault repeats for ever
		// (a bug of the Kevlar kernel). No frame is needed.
		from := e.PFN()
		m.phys.Get(from) // for the new entry; the old one's is dropped with it
		if err := p.install(v, from, v.Prot); err != nil {
			return resolution{}, err
		}
		m.emitCoW(p, v.Addr, from, from)
		return resolution{CoW, event.SourceReuse, 0}, nil
	}
	// The frame is allocated before the entry is looked at again: allocating
	// may reclaim, and reclaim may take the very entry away.
	to, err := m.alloc()
	if err != nil {
		return resolution{}, err
	}
	if err := m.tables.Own(&p.root, v.Addr); err != nil {
		m.phys.Put(to)
		return resolution{}, err
	}
	e, _ = m.tables.Walk(p.root, v.Addr)
	if !e.Mapped() {
		m.phys.Put(to)
		return p.resolve(v, mem.Write, e)
	}
	from := e.PFN()
	how := resolution{CoW, event.SourceCopy, from}
	if e.IsSpecial() {
		clear(m.phys.Page(to))
		how = resolution{CoW, event.SourceZeroFill, 0}
	} else {
		copy(m.phys.Page(to), m.phys.Page(from))
	}
	if err := p.install(v, to, v.Prot); err != nil {
		return resolution{}, err
	}
	m.emitCoW(p, v.Addr, from, to)
	return how, nil
}

func (m *Machine) emitCoW(p *Process, addr mem.VirtAddr, from, to mem.PFN) {
	if m.cfg.Events != nil {
		m.emit(event.CoWBreak{PID: p.PID, VAddr: event.Addr(addr), From: uint32(from), To: uint32(to)})
	}
}

// split turns the huge entry of addr's window into 512 entries of 4 KiB.
func (p *Process) split(addr mem.VirtAddr, reason string) error {
	if err := p.m.tables.Split(&p.root, addr); err != nil {
		return err
	}
	p.m.stats.Splits++
	p.m.emit(event.HugePageSplit{PID: p.PID, HugeBase: event.Addr(addr.HugeDown()), Reason: reason})
	return nil
}

// splitAt splits the huge entry that addr would cut in two, if there is one.
func (p *Process) splitAt(addr mem.VirtAddr, reason string) error {
	if addr%mem.HugeSize == 0 {
		return nil
	}
	if e, _ := p.m.tables.Walk(p.root, addr); !e.IsHuge() {
		return nil
	}
	return p.split(addr, reason)
}
