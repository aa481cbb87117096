package vm

import (
	"vmsim/internal/pagetable"
	"vmsim/mem"
	"vmsim/vma"
)

// MaxFaultAround is the most pages that Config.FaultAround may be: a window.
const MaxFaultAround = mem.SubPages

// faultAround maps the pages around v, which a read or a fetch has just faulted in
// from a file: those of its area in the aligned block of Config.FaultAround pages.
// What is not cached is read, as readahead would have it. It is best effort: it
// ends where free memory does.
//
// The kevlar profile has none. Linux's has 16 pages (fault_around_bytes), cached
// ones alone. Compare mm/memory.c:do_fault_around, mm/filemap.c:filemap_map_pages.
func (p *Process) faultAround(v *vma.PageView) {
	m := p.m
	size := mem.VirtAddr(m.cfg.FaultAround) * mem.PageSize
	block := mem.Range{Start: v.Addr &^ (size - 1), End: v.Addr&^(size-1) + size}
	area := v.First.Start
	for at := block.Start; at < block.End; at += mem.PageSize {
		w := &m.around
		if e, _ := m.tables.Walk(p.root, at); at == v.Addr || e.Mapped() || !p.areas.View(at, w) || w.First.Start != area {
			continue
		}
		piece, ok := w.ToCache()
		if !ok {
			continue
		}
		pfn, valid, hit := m.cache.Lookup(piece.FileNo, piece.Index())
		switch {
		case hit && (valid != mem.PageSize || piece.Len != mem.PageSize):
			continue // it holds a part of this page, or of another, or this page is a part of it
		case hit:
			m.phys.Get(pfn)
		default:
			if pfn, ok = m.phys.Alloc(); !ok {
				return // nothing is reclaimed: that could be the page of the fault itself
			}
			if m.compose(w, m.phys.Page(pfn)) != nil {
				m.phys.Put(pfn)
				return
			}
			m.cache.Insert(piece.FileNo, piece.Index(), pfn, piece.Len)
		}
		// Not through set: nobody has touched the page, so no translation of it is
		// in the TLB yet.
		old, err := m.tables.Set(&p.root, at, pagetable.Make(pfn, w.Prot&^mem.ProtWrite))
		if err != nil {
			m.phys.Put(pfn)
			return
		}
		m.tables.Put(old)
		m.stats.FaultedAround++
		if w.First.Segment != 0 {
			m.inspectMapped(p, at, at+mem.PageSize)
		}
	}
}
