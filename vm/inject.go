package vm

import (
	"fmt"
	"syscall"

	"vmsim/internal/pagetable"
	"vmsim/mem"
	"vmsim/vma"
)

// Fault injection: what a broken kernel or broken memory would do, for proving
// that a verifier reports it. Nothing of it happens by itself. References stay
// right, so that processes end and Reset works as ever. What Check looks at
// (permissions, pages without an area, the zero page) it finds broken, so in
// Fortress the operation after such an injection panics.
//
// Compare Linux mm/hwpoison-inject.c.

// InjectByte flips the bits xor of the byte at addr in the frame that is mapped
// there: at every address of every process that maps the frame, and in the
// cache that holds it. The shared zero page is a frame like others.
//
// It returns a wrapped mem.ErrNotPresent where no access reaches a frame.
func (p *Process) InjectByte(addr mem.VirtAddr, xor byte) error {
	e, _ := p.m.tables.Walk(p.root, addr)
	if !e.Present() {
		return fmt.Errorf("inject byte at %v: %w", addr, mem.ErrNotPresent)
	}
	p.m.phys.Page(e.Frame(addr))[addr.PageOffset()] ^= xor
	return nil
}

// InjectProt adds prot to what the entry that maps addr grants, a huge one for
// all of its 2 MiB, and asks neither areas nor reference counts: with
// mem.ProtWrite the process writes to a frame that others map. Other processes'
// entries stay as they are.
//
// It returns a wrapped mem.ErrNotPresent where no access reaches a frame, or
// the wrapped error of the page tables when they are full; nothing changed then.
func (p *Process) InjectProt(addr mem.VirtAddr, prot mem.Prot) error {
	e, owned := p.m.tables.Walk(p.root, addr)
	if !e.Present() {
		return fmt.Errorf("inject permission at %v: %w", addr, mem.ErrNotPresent)
	}
	grants := e.Prot()
	if !owned && !e.IsShared() { // below a shared node a write bit does not count
		grants &^= mem.ProtWrite
	}
	e = e.WithProt(grants | prot)
	// The new entry's reference; the old one's is dropped with the old entry.
	var err error
	switch {
	case e.IsHuge():
		p.m.phys.GetBlock(e.PFN())
		if err = p.m.tables.SetHuge(&p.root, addr, e); err != nil {
			p.m.phys.PutBlock(e.PFN())
		}
	case e.IsSpecial():
		err = p.set(addr, e)
	default:
		p.m.phys.Get(e.PFN())
		if err = p.set(addr, e); err != nil {
			p.m.phys.Put(e.PFN())
		}
	}
	p.flushTLB()
	if err != nil {
		return fmt.Errorf("inject permission at %v: %w", addr, err)
	}
	return nil
}

// InjectPage maps a fresh frame of zeros where p has no area. It goes when p
// ends, or execs.
//
// It returns a wrapped vma.ErrExists where an area is, an error for an address
// beyond user space, a wrapped error where no memory could be freed, or ESRCH
// for a process that ended; nothing is mapped then.
func (p *Process) InjectPage(addr mem.VirtAddr, prot mem.Prot) error {
	if p.ended {
		return syscall.ESRCH
	}
	page := mem.PageOf(addr)
	if page.Start >= mem.UserEnd {
		return fmt.Errorf("inject page at %v: beyond user space, %v", addr, mem.UserEnd)
	}
	if p.areas.Mapped(page) {
		return fmt.Errorf("inject page at %v: %w", addr, vma.ErrExists)
	}
	pfn, err := p.m.alloc()
	if err == nil {
		clear(p.m.phys.Page(pfn))
		if err = p.set(page.Start, pagetable.Make(pfn, prot)); err != nil {
			p.m.phys.Put(pfn)
		}
	}
	p.flushTLB()
	if err != nil {
		return fmt.Errorf("inject page at %v: %w", addr, err)
	}
	return nil
}
