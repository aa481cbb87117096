package vm

import (
	"syscall"

	"vmsim/mem"
	"vmsim/vma"
)

// Advice is what madvise is told, with Linux's numbers
// (include/uapi/asm-generic/mman-common.h).
type Advice int

const (
	AdviseNormal         Advice = 0
	AdviseRandom         Advice = 1
	AdviseSequential     Advice = 2
	AdviseWillNeed       Advice = 3
	AdviseDontNeed       Advice = 4
	AdviseFree           Advice = 8
	AdviseRemove         Advice = 9
	AdviseDontFork       Advice = 10
	AdviseDoFork         Advice = 11
	AdviseMergeable      Advice = 12
	AdviseUnmergeable    Advice = 13
	AdviseHugePage       Advice = 14
	AdviseNoHugePage     Advice = 15
	AdviseDontDump       Advice = 16
	AdviseDoDump         Advice = 17
	AdviseWipeOnFork     Advice = 18
	AdviseKeepOnFork     Advice = 19
	AdviseCold           Advice = 20
	AdvisePageOut        Advice = 21
	AdvisePopulateRead   Advice = 22
	AdvisePopulateWrite  Advice = 23
	AdviseDontNeedLocked Advice = 24
	AdviseCollapse       Advice = 25
)

// Madvise tells what will become of the pages of [addr, addr+n).
//
//	DONTNEED            entries go: private anonymous memory is zero again, a private file page
//	                    the file's, a shared page is as it is
//	DONTNEED_LOCKED     the same of locked areas too
//	FREE                nothing: lazily freed pages stay until they are reclaimed
//	REMOVE              the pages of a shared object are zero for all who map them
//	DONTFORK, DOFORK    a fork's child does not have the areas, or has
//	WIPEONFORK, KEEP... a fork's child has zeros there, or what is there
//	POPULATE_READ, ...  faults the pages in; see Process.Populated
//	all others          hints, without an effect
//
// Errors: EINVAL (unaligned, no such advice; DONTNEED, COLD, PAGEOUT, REMOVE of what
// is locked; FREE of what is not anonymous; WIPEONFORK of what is not private and
// anonymous; REMOVE of private anonymous memory; POPULATE of what does not permit it;
// COLLAPSE, since huge pages come of exec alone), EACCES (REMOVE of a mapping that
// is not shared and writable), EOPNOTSUPP (REMOVE of a file), EFAULT (POPULATE of
// what cannot be read), ENOMEM over holes, after the rest was done; POPULATE stops at
// the first. Populating may end p: *OOMKill.
//
// Compare Linux mm/madvise.c:do_madvise.
func (p *Process) Madvise(addr mem.VirtAddr, n uint64, advice Advice) error {
	if p.ended {
		return syscall.ESRCH
	}
	act, ok := advices[advice]
	if !ok || addr.PageOffset() != 0 {
		return syscall.EINVAL
	}
	end, ok := addr.Add(n)
	if ok {
		end, ok = end.PageUp()
	}
	if !ok {
		return syscall.EINVAL
	}
	r := mem.Range{Start: addr, End: end}
	if r.Empty() {
		return nil
	}
	defer p.m.settle()
	switch advice {
	case AdvisePopulateRead:
		return p.populateAdvised(r, mem.Read)
	case AdvisePopulateWrite:
		return p.populateAdvised(r, mem.Write)
	}
	return p.eachArea(r, func(v *vma.VMA, part mem.Range) error { return act(p, v, part, advice) })
}

// advices has what each advice does to the part of an area.
var advices = map[Advice]func(p *Process, v *vma.VMA, r mem.Range, a Advice) error{
	AdviseNormal: hint, AdviseRandom: hint, AdviseSequential: hint, AdviseWillNeed: hint,
	AdviseMergeable: hint, AdviseUnmergeable: hint, AdviseHugePage: hint, AdviseNoHugePage: hint,
	AdviseDontDump: hint, AdviseDoDump: hint, AdvisePopulateRead: hint, AdvisePopulateWrite: hint,
	AdviseCold: unlockedHint, AdvisePageOut: unlockedHint,
	AdviseDontNeed: dontNeed, AdviseDontNeedLocked: dontNeed, AdviseFree: lazyFree, AdviseRemove: remove,
	AdviseDontFork: forkAdvice, AdviseDoFork: forkAdvice, AdviseWipeOnFork: forkAdvice, AdviseKeepOnFork: forkAdvice,
	AdviseCollapse: func(*Process, *vma.VMA, mem.Range, Advice) error { return syscall.EINVAL },
}

// eachArea calls f for the part of each area in r, by ascending address; the area
// is as it was when f is called. An error of f ends it. It is ENOMEM where there
// was a hole, after all areas had their turn.
//
// Compare Linux mm/madvise.c:madvise_walk_vmas.
func (p *Process) eachArea(r mem.Range, f func(v *vma.VMA, part mem.Range) error) error {
	hole := false
	for at := r.Start; at < r.End; {
		v, ok := p.areas.FindAbove(at)
		if !ok || v.Start >= r.End {
			return syscall.ENOMEM
		}
		hole = hole || v.Start > at
		part := v.Intersect(mem.Range{Start: at, End: r.End})
		if err := f(&v, part); err != nil {
			return err
		}
		at = part.End
	}
	if hole {
		return syscall.ENOMEM
	}
	return nil
}

// hint does nothing.
func hint(*Process, *vma.VMA, mem.Range, Advice) error { return nil }

// unlockedHint does nothing to what is not locked (Linux: can_madv_lru_vma).
func unlockedHint(_ *Process, v *vma.VMA, _ mem.Range, _ Advice) error {
	if v.Flags&vma.Locked != 0 {
		return syscall.EINVAL
	}
	return nil
}

// dontNeed takes the entries away (Linux: madvise_dontneed_single_vma). Pages that
// the area shares with others go too.
func dontNeed(p *Process, v *vma.VMA, r mem.Range, a Advice) error {
	if a == AdviseDontNeed && v.Flags&vma.Locked != 0 {
		return syscall.EINVAL
	}
	if p.zap(r.PageAlign(), "madvise") != nil {
		return syscall.ENOMEM
	}
	return nil
}

// lazyFree leaves the pages as they are: to free them is for reclaim, which may
// take long (Linux: madvise_free_single_vma).
func lazyFree(p *Process, v *vma.VMA, r mem.Range, a Advice) error {
	if v.Backed() && v.Kind != vma.Special || v.Flags&vma.Locked != 0 {
		return syscall.EINVAL
	}
	return nil
}

// forkAdvice says what a fork's child has of r (Linux: madvise_vma_behavior).
func forkAdvice(p *Process, v *vma.VMA, r mem.Range, a Advice) error {
	set, clear := vma.Flags(0), vma.Flags(0)
	switch a {
	case AdviseDontFork:
		set = vma.DontFork
	case AdviseDoFork:
		clear = vma.DontFork
	case AdviseWipeOnFork:
		if v.Backed() && v.Kind != vma.Special || v.Shared {
			return syscall.EINVAL
		}
		set = vma.WipeOnFork
	case AdviseKeepOnFork:
		clear = vma.WipeOnFork
	}
	return p.setFlags(v, r, set, clear)
}

// setFlags changes the flags of r, a part of v.
func (p *Process) setFlags(v *vma.VMA, r mem.Range, set, clear vma.Flags) error {
	if v.Flags&^clear|set == v.Flags {
		return nil
	}
	if p.areas.Len()+p.splits(r) > p.m.cfg.MaxAreas {
		return syscall.ENOMEM
	}
	p.areas.Update(r, func(w *vma.VMA) { w.Flags = w.Flags&^clear | set })
	p.flagged = p.flagged || set != 0
	return nil
}

// remove makes a hole in a shared object: the pages go, for all who map them.
// Private copies stay.
//
// Compare Linux mm/madvise.c:madvise_remove, mm/shmem.c:shmem_fallocate.
func remove(p *Process, v *vma.VMA, r mem.Range, a Advice) error {
	switch {
	case v.Flags&vma.Locked != 0, !v.Backed() || v.Kind == vma.Special:
		return syscall.EINVAL
	case v.Kind == vma.File && !(v.Shared && v.Flags&vma.MayWrite != 0), !v.Shared:
		return syscall.EACCES
	case v.Kind == vma.File:
		return syscall.EOPNOTSUPP
	}
	from := mem.PageIndex(v.OffsetOf(r.Start) / mem.PageSize)
	to := from + mem.PageIndex(r.Len()/mem.PageSize)
	return p.m.punch(v.FileNo, from, to)
}

// punch takes the pages [from, to) of a shared object away, and all entries that
// map them. It is ENOMEM where no page-table node was left for that; the pages
// are zero all the same.
func (m *Machine) punch(no uint32, from, to mem.PageIndex) error {
	for i := range m.cache.Indexes(no, from, to) {
		pfn, _, _ := m.cache.Lookup(no, i)
		clear(m.phys.Page(pfn))
	}
	for _, s := range spaces(m.Processes()) {
		if s.shared[no] == 0 {
			continue
		}
		for v := range s.areas.All() {
			if v.OfObject() && v.FileNo == no {
				if err := m.unmapPages(s, &v, from, to); err != nil {
					return err
				}
			}
		}
	}
	for i := range m.cache.Indexes(no, from, to) {
		m.cache.Remove(no, i)
	}
	return nil
}

// unmapPages takes away the entries by which area v of s maps pages [from, to) of
// its object; not those of private copies.
func (m *Machine) unmapPages(s *mm, v *vma.VMA, from, to mem.PageIndex) error {
	defer func() { s.tag = m.tlb.NewTag() }()
	first := mem.PageIndex(v.Offset / mem.PageSize)
	for i := range m.cache.Indexes(v.FileNo, max(from, first), min(to, first+mem.PageIndex(v.Len()/mem.PageSize))) {
		at := v.Start + mem.VirtAddr(i-first)*mem.PageSize
		pfn, _, _ := m.cache.Lookup(v.FileNo, i)
		if e, _ := m.tables.Walk(s.root, at); !e.Mapped() || e.PFN() != pfn {
			continue
		}
		if m.tables.Clear(&s.root, mem.PageOf(at)) != nil {
			return syscall.ENOMEM
		}
	}
	return nil
}

// populateAdvised faults in each page of r for an access, until one cannot be had.
//
// Compare Linux mm/madvise.c:madvise_populate, mm/gup.c:faultin_page_range.
func (p *Process) populateAdvised(r mem.Range, a mem.Access) error {
	v := &p.m.view
	for at := r.Start; at < r.End; {
		if !p.areas.View(at, v) {
			return syscall.ENOMEM
		}
		if !v.Prot.Allows(a) {
			return syscall.EINVAL
		}
		run := v.Alike().Intersect(mem.Range{Start: at, End: r.End})
		if err := p.faultIn(run, a); err != nil {
			return err
		}
		at = run.End
	}
	return nil
}
