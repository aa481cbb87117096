package vm

import (
	"vmsim/internal/event"
	"vmsim/internal/pagetable"
	"vmsim/mem"
	"vmsim/vma"
)

// A page of memory that mappings share is one frame of the page cache, for all
// processes:
//
//	shared object, shared mapping    the frame, with the area's permission from the first fault on
//	shared object, private mapping   the frame read-only; a write copies it
//	file, shared mapping             the frame read-only; the first write makes it dirty, and writable
//	                                 for who wrote
//	file, private mapping            as ever (fault.go): the frame, if it is cached. Once the file can be
//	                                 written through a shared mapping, always the frame: a process sees
//	                                 what others write until it writes itself
//
// A write fault of a private mapping copies even if nothing is written after it:
// populating private writable memory (MAP_POPULATE, mlock) does.
//
// Dirty frames stay in the cache: nothing is written to the host's files. What
// exec composed or assembled of a file is a copy, and does not show what is written
// later; for those who exec a file that was written to nothing is assembled.

// objectFault maps the one frame that all mappings of a page of a shared object
// use, or, for a write to a private mapping, a copy of it.
//
// Compare Linux mm/shmem.c:shmem_fault.
func (p *Process) objectFault(v *vma.PageView, a mem.Access) (resolution, error) {
	m := p.m
	index := mem.PageIndex(v.First.OffsetOf(v.Addr) / mem.PageSize)
	pfn, _, hit := m.cache.Lookup(v.First.FileNo, index)
	if !hit {
		var err error
		if pfn, err = m.alloc(); err != nil {
			return resolution{}, err
		}
		clear(m.phys.Page(pfn))
		m.cache.Insert(v.First.FileNo, index, pfn, mem.PageSize)
		m.phys.Put(pfn) // the object's now, and pinned there
	}
	how := resolution{Minor, event.SourceShared, 0}
	switch {
	case v.First.Shared:
		return how, p.share(v, pfn, v.Prot)
	case a == mem.Write:
		return p.copyCached(v, pfn)
	}
	m.phys.Get(pfn)
	return how, p.install(v, pfn, v.Prot&^mem.ProtWrite)
}

// share maps a frame of the cache for a shared mapping.
func (p *Process) share(v *vma.PageView, pfn mem.PFN, prot mem.Prot) error {
	p.m.phys.Get(pfn)
	err := p.set(v.Addr, pagetable.Make(pfn, prot).Shared())
	if err != nil {
		p.m.phys.Put(pfn)
	}
	return err
}

// sharedFileFault maps a page of a file that shared mappings may write to: always
// the cache's frame, all 4096 bytes of it. Only a write makes the entry writable,
// so that it is known which pages were written.
//
// Compare Linux mm/memory.c:do_shared_fault, wp_page_shared, with page_mkwrite.
func (p *Process) sharedFileFault(v *vma.PageView, a mem.Access) (resolution, error) {
	m := p.m
	pfn, how, err := m.wholePage(v)
	if err != nil {
		return resolution{}, err
	}
	defer m.phys.Put(pfn)
	if a != mem.Write {
		m.phys.Get(pfn)
		return how, p.install(v, pfn, v.Prot&^mem.ProtWrite)
	}
	if err := p.share(v, pfn, v.Prot); err != nil {
		return resolution{}, err
	}
	m.cache.SetDirty(v.Pieces[0].FileNo, v.Pieces[0].Index())
	return how, nil
}

// writtenFileFault gives a private mapping a page of such a file.
func (p *Process) writtenFileFault(v *vma.PageView, a mem.Access) (resolution, error) {
	m := p.m
	pfn, how, err := m.wholePage(v)
	if err != nil {
		return resolution{}, err
	}
	if a != mem.Write {
		return how, p.install(v, pfn, v.Prot&^mem.ProtWrite)
	}
	defer m.phys.Put(pfn)
	copied, err := p.copyCached(v, pfn)
	copied.kind = how.kind
	return copied, err
}

// wholePage returns the cache's frame for v, a whole page of one file, read from
// it where it is not there, or only partly. The caller gets a reference.
func (m *Machine) wholePage(v *vma.PageView) (mem.PFN, resolution, error) {
	no, index := v.Pieces[0].FileNo, v.Pieces[0].Index()
	pfn, valid, hit := m.cache.Lookup(no, index)
	if hit && valid == mem.PageSize {
		m.phys.Get(pfn)
		return pfn, resolution{Minor, event.SourceShared, 0}, nil
	}
	pfn, err := m.alloc()
	if err != nil {
		return pfn, resolution{}, err
	}
	if err := m.compose(v, m.phys.Page(pfn)); err != nil {
		m.phys.Put(pfn)
		return pfn, resolution{}, err
	}
	m.cache.Remove(no, index) // partly valid: an exec cached it since; see OpenForWriting
	m.cache.Insert(no, index, pfn, mem.PageSize)
	return pfn, resolution{Major, event.SourceFile, 0}, nil
}

// OpenForWriting says that f will be written through shared mappings
// (Mapping.SharedWrite); the first such mapping says so too, which may be late. In
// the kevlar profile a private page that may be written, and that is not cached, is
// a copy from its first read on, and stays one. Linux has a copy from the first
// write fault on: so is it here for what is faulted in after this call.
func (m *Machine) OpenForWriting(f mem.File) {
	m.openForWriting(m.cache.Open(f))
	m.settle()
}

// openForWriting prepares a file for its first shared mapping that may write.
// Shared mappings from before that got a frame of their own, since the cache held
// only a part of the page, are faulted in anew: they must see what is written.
func (m *Machine) openForWriting(no uint32) {
	if !m.cache.OpenForWriting(no) {
		return
	}
	for _, s := range spaces(m.Processes()) {
		for v := range s.areas.All() {
			if v.Kind == vma.File && v.Shared && v.FileNo == no {
				// Such areas are read-only so far, and their entries can be had
				// again: no node needs to be owned.
				m.tables.Discard(s.root, v.PageAlign())
			}
		}
		s.tag = m.tlb.NewTag()
	}
}

// overlay puts what was written to the file's pages over a piece that was read
// from it.
func (m *Machine) overlay(piece *vma.Piece, dst []byte) {
	for off := piece.Offset; len(dst) > 0; {
		in := int(off % mem.PageSize)
		n := min(mem.PageSize-in, len(dst))
		if index := mem.PageIndex(off / mem.PageSize); m.cache.Dirty(piece.FileNo, index) {
			pfn, _, _ := m.cache.Lookup(piece.FileNo, index)
			copy(dst[:n], m.phys.Page(pfn)[in:])
		}
		off, dst = off+int64(n), dst[n:]
	}
}
