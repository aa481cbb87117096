package vm

import (
	"fmt"

	"vmsim/internal/pagetable"
	"vmsim/mem"
)

// FaultKind says what a touch cost.
type FaultKind uint8

const (
	NoFault FaultKind = iota
	Minor             // resolved without reading a file
	Major             // a file was read
	CoW               // a write to a mapped page: copied, or taken over
)

// String returns none, minor, major or cow.
func (k FaultKind) String() string { return [...]string{"none", "minor", "major", "cow"}[k] }

// Segfault is the error of an access that is refused.
type Segfault struct {
	Addr   mem.VirtAddr
	Access mem.Access
	Mapped bool // an area is there, but does not permit the access
}

// Code returns the si_code of the signal.
func (e *Segfault) Code() string {
	if e.Mapped {
		return "SEGV_ACCERR"
	}
	return "SEGV_MAPERR"
}

func (e *Segfault) Error() string {
	return fmt.Sprintf("segmentation fault: %v at %v (%s)", e.Access, e.Addr, e.Code())
}

// OOMKill is the error of an operation whose process was killed because no
// frame could be freed for it (Linux: vm.oom_kill_allocating_task=1).
type OOMKill struct {
	PID  int
	Addr mem.VirtAddr // where the fault was; 0 in a system call
}

func (e *OOMKill) Error() string {
	return fmt.Sprintf("out of memory: process %d was killed at %v", e.PID, e.Addr)
}

// Touch accesses one byte at addr, as an instruction would, and resolves the
// fault if there is one.
//
// Errors: *Segfault (p lives on, as with a signal handler), *OOMKill (p is
// dead), or the wrapped error of a file read (Linux: SIGBUS).
func (p *Process) Touch(addr mem.VirtAddr, a mem.Access) (FaultKind, error) {
	_, kind, err := p.translate(addr, a)
	return kind, err
}

// TouchPage is Touch that also returns the 4096 bytes of addr's page, as ReadPage
// does: what an instruction fetch or a write got.
func (p *Process) TouchPage(addr mem.VirtAddr, a mem.Access) ([]byte, FaultKind, error) {
	pfn, kind, err := p.translate(addr, a)
	if err != nil {
		return nil, kind, err
	}
	return p.m.phys.Page(pfn), kind, nil
}

// Hit reports whether the TLB permits an access to addr: then it needs nothing
// else. It is false as well for a page that the page table would give without a
// fault; Touch finds out. The instruction pointer stays where it is: see SetIP.
//
// It is small so that it is inlined: a replay asks it for each touch first.
func (p *Process) Hit(addr mem.VirtAddr, a mem.Access) bool { return p.m.tlb.Permits(p.tag, addr, a) }

// Read copies from memory to b, faulting pages in (Linux: copy_from_user). On
// an error a part may have been copied.
func (p *Process) Read(addr mem.VirtAddr, b []byte) error {
	for len(b) > 0 {
		pfn, _, err := p.translate(addr, mem.Read)
		if err != nil {
			return err
		}
		n := copy(b, p.m.phys.Page(pfn)[addr.PageOffset():])
		b, addr = b[n:], addr+mem.VirtAddr(n)
	}
	return nil
}

// Write copies b to memory, faulting pages in and breaking CoW (Linux:
// copy_to_user). It returns what the first page cost.
func (p *Process) Write(addr mem.VirtAddr, b []byte) (FaultKind, error) {
	first, started := NoFault, false
	for len(b) > 0 {
		pfn, kind, err := p.translate(addr, mem.Write)
		if err != nil {
			return first, err
		}
		if !started {
			first, started = kind, true
		}
		n := copy(p.m.phys.Page(pfn)[addr.PageOffset():], b)
		b, addr = b[n:], addr+mem.VirtAddr(n)
	}
	return first, nil
}

// ReadPage touches the page of addr for reading and returns its 4096 bytes,
// which are the frame's: they are valid, and must not be written, until the
// next operation.
func (p *Process) ReadPage(addr mem.VirtAddr) ([]byte, FaultKind, error) {
	pfn, kind, err := p.translate(addr, mem.Read)
	if err != nil {
		return nil, kind, err
	}
	return p.m.phys.Page(pfn), kind, nil
}

// protOf is the permission bit that an access needs of an entry.
var protOf = [...]mem.Prot{mem.Read: mem.ProtRead, mem.Write: mem.ProtWrite, mem.Exec: mem.ProtExec}

// translate returns the frame of addr's page after an access: TLB, page walk,
// fault.
func (p *Process) translate(addr mem.VirtAddr, a mem.Access) (mem.PFN, FaultKind, error) {
	if a == mem.Exec {
		p.ip = addr
	}
	if pfn, ok := p.m.tlb.Lookup(p.tag, addr, protOf[a]); ok {
		return pfn, NoFault, nil
	}
	return p.miss(addr, a)
}

// miss is translate where the TLB does not have it: apart, so that a hit does not
// pay for its stack frame.
func (p *Process) miss(addr mem.VirtAddr, a mem.Access) (mem.PFN, FaultKind, error) {
	pfn, e, ok := p.walk(addr, a)
	if ok {
		return pfn, NoFault, nil
	}
	kind, err := p.fault(addr, a, e)
	if err != nil {
		return mem.NoFrame, kind, err
	}
	if pfn, ok = p.m.tlb.Lookup(p.tag, addr, protOf[a]); !ok { // set has filled it
		panic(fmt.Sprintf("vm: %v fault at %v resolved, but nothing permits it", a, addr))
	}
	return pfn, kind, nil
}

// walk looks addr up in the page table and fills the TLB; it is false where the
// entry that it found does not permit a. A write bit below a shared node does
// not count.
func (p *Process) walk(addr mem.VirtAddr, a mem.Access) (mem.PFN, pagetable.Entry, bool) {
	e, owned := p.m.tables.Walk(p.root, addr)
	prot := e.Prot()
	if !owned && !e.IsShared() {
		prot &^= mem.ProtWrite
	}
	if prot&protOf[a] == 0 {
		return mem.NoFrame, e, false
	}
	pfn := e.Frame(addr)
	p.m.tlb.Fill(p.tag, addr, pfn, prot)
	return pfn, e, true
}
