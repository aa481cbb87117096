package vm

import (
	"errors"
	"syscall"

	"vmsim/mem"
	"vmsim/vma"
)

// populate faults in the pages of r that have an area, as mlock and MAP_POPULATE
// do: for writing where the area is private and writable, else for reading. Areas
// that are locked on fault are left out. The faults are counted as populated.
//
// It stops at the first page that cannot be had, with EFAULT; with ignore it goes
// on behind that area, and returns nil. *OOMKill, by which p has ended, always
// ends it.
//
// Compare Linux mm/gup.c:__mm_populate, populate_vma_page_range.
func (p *Process) populate(r mem.Range, ignore bool) error {
	v := &p.m.view
	for at := r.Start; at < r.End; {
		if !p.areas.View(at, v) {
			next, ok := p.areas.FindAbove(at)
			if !ok || next.Start >= r.End {
				break
			}
			at = next.Start
			continue
		}
		run := v.Alike().Intersect(mem.Range{Start: at, End: r.End})
		prot, a := v.Prot, mem.Read
		if prot.Allows(mem.Write) && !v.First.Shared {
			a = mem.Write
		}
		at = run.End
		if v.First.Flags&vma.OnFault != 0 {
			continue
		}
		var err error = syscall.EFAULT
		if prot.Allows(a) {
			err = p.faultIn(run, a)
		}
		if fatal(err) != nil || err != nil && !ignore {
			return err
		}
	}
	return nil
}

// faultIn touches each page of r, which must permit a, and counts the faults as populated. Its error
// is EFAULT, or *OOMKill.
func (p *Process) faultIn(r mem.Range, a mem.Access) error {
	p.m.populating = true
	defer func() { p.m.populating = false }()
	for at := r.Start; at < r.End; at += mem.PageSize {
		if _, err := p.Touch(at, a); err != nil {
			if fatal(err) != nil {
				return err
			}
			return syscall.EFAULT
		}
	}
	return nil
}

// fatal returns err if the process has ended by it, else nil.
func fatal(err error) error {
	var oom *OOMKill
	if errors.As(err, &oom) {
		return err
	}
	return nil
}
