package vm

import (
	"fmt"

	"vmsim/internal/event"
)

// Fork makes a child with the same memory. Page tables are shared until one
// side changes them, areas are cloned lazily: the cost does not depend on how
// much is mapped.
//
// Both sides get a new TLB tag: a writable translation from before the fork
// would write to the shared page (a bug of the Kevlar kernel).
//
// To fork a process that ended is the caller's mistake, and panics.
//
// Compare Linux kernel/fork.c:dup_mmap.
func (p *Process) Fork() *Process {
	if p.ended {
		panic(fmt.Sprintf("vm: fork of process %d, which has ended", p.PID))
	}
	c := p.m.newProcess(p.areas.Clone())
	c.root = p.m.tables.Fork(p.root)
	c.ip, c.brkStart, c.brk = p.ip, p.brkStart, p.brk
	c.objects, c.sharedAnon = p.objects, p.sharedAnon
	p.flushTLB()
	if p.m.cfg.Events != nil {
		p.m.emit(event.ProcessFork{PID: p.PID, Child: c.PID})
	}
	p.m.settle()
	return c
}
