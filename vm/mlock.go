package vm

import (
	"syscall"

	"vmsim/mem"
	"vmsim/vma"
)

// Memory is never swapped out, and reclaim takes only entries that can be had
// again at once: a lock is a flag that populates, that some advice respects and
// that a fork's child does not get.

// Mlock locks the pages of [addr, addr+n), rounded outwards, and faults them in;
// with onFault, as mlock2(MLOCK_ONFAULT), it leaves that to their first touch.
//
// Errors: ENOMEM (a hole: what lies before it is locked, and nothing populated; a
// page that cannot be had), EINVAL (the range wraps). *OOMKill: populating has
// ended p.
//
// Compare Linux mm/mlock.c:do_mlock.
func (p *Process) Mlock(addr mem.VirtAddr, n uint64, onFault bool) error {
	flags := vma.Locked
	if onFault {
		flags |= vma.OnFault
	}
	r, err := p.setLock(addr, n, flags)
	if err != nil || r.Empty() {
		return err
	}
	defer p.m.settle()
	err = p.populate(r, false)
	if err == syscall.EFAULT {
		return syscall.ENOMEM // as POSIX wants it: __mlock_posix_error_return
	}
	return err
}

// Munlock unlocks the pages of [addr, addr+n), rounded outwards. Errors are
// Mlock's.
func (p *Process) Munlock(addr mem.VirtAddr, n uint64) error {
	_, err := p.setLock(addr, n, 0)
	return err
}

// setLock gives the areas of a range, up to the first hole, these of the flags
// Locked and OnFault.
//
// Compare Linux mm/mlock.c:apply_vma_lock_flags.
func (p *Process) setLock(addr mem.VirtAddr, n uint64, flags vma.Flags) (mem.Range, error) {
	if p.ended {
		return mem.Range{}, syscall.ESRCH
	}
	defer p.m.settle()
	const mask = mem.PageSize - 1
	size := (n + uint64(addr.PageOffset()) + mask) &^ mask
	r := mem.Range{Start: addr.PageDown(), End: addr.PageDown() + mem.VirtAddr(size)}
	switch {
	case r.End < r.Start:
		return r, syscall.EINVAL
	case r.Empty():
		return r, nil
	}
	for at := r.Start; at < r.End; {
		v, ok := p.areas.Find(at)
		if !ok {
			return r, syscall.ENOMEM
		}
		part := v.Intersect(mem.Range{Start: at, End: r.End})
		if err := p.setFlags(&v, part, flags, (vma.Locked|vma.OnFault)&^flags); err != nil {
			return r, err
		}
		at = part.End
	}
	return r, nil
}

// LockAll are the flags of mlockall.
type LockAll struct {
	Current bool // MCL_CURRENT: lock and populate what is mapped
	Future  bool // MCL_FUTURE: lock and populate what will be mapped
	OnFault bool // MCL_ONFAULT: populate neither
}

// Mlockall locks all memory. Without Future, new mappings are not locked any
// more. What cannot be populated is passed over. Errors: EINVAL (neither Current
// nor Future), *OOMKill.
//
// Compare Linux mm/mlock.c:apply_mlockall_flags.
func (p *Process) Mlockall(a LockAll) error {
	if p.ended {
		return syscall.ESRCH
	}
	if !a.Current && !a.Future {
		return syscall.EINVAL
	}
	flags := vma.Locked
	if a.OnFault {
		flags |= vma.OnFault
	}
	p.locking = 0
	if a.Future {
		p.locking = flags
	}
	if !a.Current {
		return nil
	}
	p.lockAll(flags)
	defer p.m.settle()
	return fatal(p.populate(allUser, true))
}

// Munlockall unlocks all memory, and what will be mapped.
func (p *Process) Munlockall() error {
	if p.ended {
		return syscall.ESRCH
	}
	p.locking = 0
	p.lockAll(0)
	p.m.settle()
	return nil
}

// lockAll gives all areas these of the flags Locked and OnFault.
func (p *Process) lockAll(flags vma.Flags) {
	p.areas.Update(allUser, func(v *vma.VMA) { v.Flags = v.Flags&^(vma.Locked|vma.OnFault) | flags })
	p.flagged = p.flagged || flags != 0
}
