package vm

import (
	"fmt"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/vma"
)

// Fork makes a child with a copy of the memory. Page tables are shared until one
// side changes them, areas are cloned lazily: the cost does not depend on how
// much is mapped, unless madvise or mlock have named areas that the child has
// otherwise (MADV_DONTFORK, MADV_WIPEONFORK, locked ones).
//
// Both sides get a new TLB tag: a writable translation from before the fork
// would write to the shared page (a bug of the Kevlar kernel).
//
// The child has ended already where no page-table node was left to take away
// what MADV_DONTFORK and MADV_WIPEONFORK name. To fork a process that ended is
// the caller's mistake, and panics.
//
// Compare Linux kernel/fork.c:dup_mmap.
func (p *Process) Fork() *Process {
	p.mustLive("fork")
	c := p.m.newProcess(p.m.forkMM(p.mm))
	p.started(c)
	if p.flagged && c.dropUnforked() != nil {
		_ = c.oom(0) // reported by its event and by c.Ended
	}
	p.m.settle()
	return c
}

// Vfork makes a child that runs in p's memory until it execs or ends: what
// either does to it is seen by both. Any number of processes may share a memory;
// it lives until the last of them leaves. p itself is not held up.
//
// Of a memory that runs out all who share it are killed (Linux:
// mm/oom_kill.c:__oom_kill_process). To vfork a process that ended panics.
//
// Compare Linux kernel/fork.c:copy_mm with CLONE_VM.
func (p *Process) Vfork() *Process {
	p.mustLive("vfork")
	p.users++
	c := p.m.newProcess(p.mm)
	p.started(c)
	p.m.settle()
	return c
}

func (p *Process) mustLive(what string) {
	if p.ended {
		panic(fmt.Sprintf("vm: %s of process %d, which has ended", what, p.PID))
	}
}

func (p *Process) started(c *Process) {
	c.ip = p.ip
	if p.m.cfg.Events != nil {
		p.m.emit(event.ProcessFork{PID: p.PID, Child: c.PID})
	}
}

// dropUnforked makes of a copy of all areas what a fork's child has: without
// those marked DontFork, with zeros in those marked WipeOnFork, nothing locked.
// Its one error is that no node was left for the page tables.
func (p *Process) dropUnforked() error {
	var areas []vma.VMA
	for v := range p.areas.All() {
		if v.Flags&(vma.DontFork|vma.WipeOnFork|vma.Locked) != 0 {
			areas = append(areas, v)
		}
	}
	p.flagged = false
	for _, v := range areas {
		switch {
		case v.Flags&vma.DontFork != 0:
			if err := p.unmap(v.PageAlign()); err != nil {
				return err
			}
		case v.Flags&vma.WipeOnFork != 0:
			if err := p.zap(v.PageAlign(), "fork"); err != nil {
				return err
			}
			p.flagged = true // the child's children have zeros too
		}
		if v.Flags&vma.Locked != 0 && v.Flags&vma.DontFork == 0 {
			p.areas.Update(v.Range, func(a *vma.VMA) { a.Flags &^= vma.Locked | vma.OnFault })
		}
	}
	return nil
}

// zap takes the entries of r away and leaves its areas: what is touched next is
// faulted in anew. Huge pages that r cuts are split.
func (p *Process) zap(r mem.Range, reason string) error {
	err := p.cut(r, reason)
	if err == nil {
		err = p.m.tables.Clear(&p.root, r)
	}
	p.flushTLB()
	return err
}
