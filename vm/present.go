package vm

import (
	"iter"

	"vmsim/internal/pagetable"
	"vmsim/internal/phys"
	"vmsim/mem"
	"vmsim/vma"
)

// PageKind says what a present page is.
type PageKind uint8

const (
	FilePage   PageKind = iota // of a file, in a frame of the page cache or of an assembled window
	FileCopy                   // of a file mapping, in a frame that is not the cache's: written, or composed
	ZeroPage                   // the shared zero page
	AnonPage                   // anonymous, in a frame of its own
	SharedPage                 // of a shared object
)

// String returns file, copy, zero, anon or shared.
func (k PageKind) String() string { return [...]string{"file", "copy", "zero", "anon", "shared"}[k] }

// Present is a run of pages that a process has in its page table, all of one
// kind and permission, side by side.
type Present struct {
	mem.Range
	Kind PageKind
	Huge bool     // mapped by huge entries
	Prot mem.Prot // what the entries grant; none for pages of a PROT_NONE area, which Linux counts as present
}

// Present yields what the page table holds, by ascending address, in runs as
// long as they can be. It faults nothing in. p must not change meanwhile.
//
// Compare Linux fs/proc/task_mmu.c:pagemap_scan.
func (p *Process) Present() iter.Seq[Present] {
	return func(yield func(Present) bool) {
		var run Present
		var view vma.PageView
		for e := range p.m.tables.Entries(p.root, allUser) {
			r := Present{Range: mem.Range{Start: e.Addr, End: e.Addr + mem.VirtAddr(e.Size)},
				Kind: p.kindOf(e, &view), Huge: e.Entry.IsHuge(), Prot: granted(e.Entry, e.Owned)}
			if run.End == r.Start && run.Kind == r.Kind && run.Huge == r.Huge && run.Prot == r.Prot {
				run.End = r.End
				continue
			}
			if !run.Empty() && !yield(run) {
				return
			}
			run = r
		}
		if !run.Empty() {
			yield(run)
		}
	}
}

// kindOf says what an entry maps. view is scratch that is kept from page to page.
func (p *Process) kindOf(e pagetable.Mapping, view *vma.PageView) PageKind {
	if e.Entry.IsSpecial() {
		return ZeroPage
	}
	f := p.m.phys.Frame(e.Entry.PFN())
	switch {
	case f.Flags&phys.Huge != 0:
		return FilePage
	case f.Flags&phys.Cached != 0 && p.m.cache.Anonymous(f.File):
		return SharedPage
	case f.Flags&phys.Cached != 0:
		return FilePage
	case p.areas.View(e.Addr, view) && view.First.Kind == vma.File:
		return FileCopy
	}
	return AnonPage
}

// granted is what an entry permits: below a shared node a write bit does not
// count.
func granted(e pagetable.Entry, owned bool) mem.Prot {
	prot := e.Prot()
	if !owned && !e.IsShared() {
		prot &^= mem.ProtWrite
	}
	return prot
}

// Usage is what the machine's memory is used for, in bytes.
type Usage struct {
	PageCache  uint64 // pages of files, mapped or not
	Shared     uint64 // pages of shared objects
	HugePages  uint64 // assembled windows that are kept
	Anonymous  uint64 // all other frames: anonymous, copied, composed
	PageTables uint64 // not taken from the frames
}

// Total returns the sum.
func (u Usage) Total() uint64 {
	return u.PageCache + u.Shared + u.HugePages + u.Anonymous + u.PageTables
}

// Usage returns what the memory is used for now. It costs nothing that grows
// with processes or pages.
func (m *Machine) Usage() Usage {
	objects := m.cache.AnonymousPages()
	cached := m.cache.Stats().Pages - objects
	huge := m.huge.Len() * mem.SubPages
	used := m.phys.Frames() - m.phys.FreeFrames() - 1 // without the zero page
	bytes := func(pages int) uint64 { return uint64(pages) * mem.PageSize }
	return Usage{PageCache: bytes(cached), Shared: bytes(objects), HugePages: bytes(huge),
		Anonymous: bytes(used - cached - objects - huge), PageTables: bytes(m.tables.Nodes())}
}

// Dirty reports whether page index of f was written through a shared mapping
// (Mapping.SharedWrite): what the machine has there is not what the file holds.
func (m *Machine) Dirty(f mem.File, index mem.PageIndex) bool {
	no, ok := m.cache.Known(f)
	return ok && m.cache.Dirty(no, index)
}
