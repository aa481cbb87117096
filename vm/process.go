package vm

import (
	"iter"

	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/vma"
)

// The user address space of the kevlar profile.
const (
	// PIEBase is where an ET_DYN program goes: its first PT_LOAD, or, if others
	// lie too far below that, its lowest.
	PIEBase mem.VirtAddr = 0xa00000000
	// StackTop is the end of the stack.
	StackTop = mem.UserEnd
	// StackLimit is how far the stack may grow (ulimit -s).
	StackLimit = 8 << 20
	// stackInitial is the stack after exec: 132 KiB, as Linux maps it.
	stackInitial = 132 << 10
	// MmapBase is where mmap looks for room, downwards.
	MmapBase mem.VirtAddr = 0x7ffff7fff000
	// MmapMin is the lowest address that mmap picks by itself
	// (vm.mmap_min_addr).
	MmapMin mem.VirtAddr = 0x10000
	// MaxAreas is vm.max_map_count, where Config.MaxAreas does not say otherwise.
	MaxAreas = 65530
)

// Process is a process (Linux: task_struct). Threads of one need nothing of
// their own: what they do, the process does.
type Process struct {
	PID       int
	Faults    Faults // resolved for touches, reads and writes
	Populated Faults // resolved ahead of them: MAP_POPULATE, MADV_POPULATE, mlock

	// Prefaulted and HugeWindows are what the last exec mapped of the caches:
	// 4 KiB pages, and 2 MiB windows.
	Prefaulted, HugeWindows int

	m     *Machine
	*mm                // its memory
	ip    mem.VirtAddr // the last instruction fetched
	ended bool         // holds nothing any more, and gets nothing
}

// Object is a file that exec mapped: the program, or its interpreter.
type Object struct {
	Image *loader.Image
	Bias  uint64
}

// Extent returns the pages from the object's lowest to its highest address.
func (o Object) Extent() mem.Range {
	span := o.Image.Span()
	return mem.Range{Start: span.Start + mem.VirtAddr(o.Bias), End: span.End + mem.VirtAddr(o.Bias)}
}

// Entry returns the address of the object's first instruction.
func (o Object) Entry() mem.VirtAddr { return mem.VirtAddr(o.Image.Entry + o.Bias) }

func (m *Machine) newProcess(s *mm) *Process {
	m.lastPID++
	p := &Process{PID: m.lastPID, m: m, mm: s}
	m.procs[p.PID] = p
	return p
}

// Machine returns the machine that p runs on.
func (p *Process) Machine() *Machine { return p.m }

// Ended reports whether p has exited or was killed.
func (p *Process) Ended() bool { return p.ended }

// SharesMemory reports whether another process runs in p's memory: see Vfork.
func (p *Process) SharesMemory() bool { return p.users > 1 && !p.ended }

// Objects returns what exec mapped: the program first.
func (p *Process) Objects() []Object { return p.objects }

// Areas yields the VMAs by ascending address.
func (p *Process) Areas() iter.Seq[vma.VMA] { return p.areas.All() }

// AreaCount returns the number of VMAs.
func (p *Process) AreaCount() int { return p.areas.Len() }

// Prot returns what the areas permit for addr's page, whatever its entry grants
// now. It is false where no area is.
func (p *Process) Prot(addr mem.VirtAddr) (mem.Prot, bool) {
	prot, alike := p.ProtRun(addr)
	return prot, !alike.Empty()
}

// ProtRun is Prot, with pages around addr that permit the same. Where no area is
// there are none.
func (p *Process) ProtRun(addr mem.VirtAddr) (mem.Prot, mem.Range) {
	v := &p.m.view
	if !p.areas.View(addr, v) {
		return mem.ProtNone, mem.Range{}
	}
	return v.Prot, v.Alike()
}

// IP returns the address that the process last fetched an instruction from;
// its entry point after exec.
func (p *Process) IP() mem.VirtAddr { return p.ip }

// SetIP says where p executes, for the events of its faults; see Hit.
func (p *Process) SetIP(addr mem.VirtAddr) { p.ip = addr }

// Residency counts 4 KiB pages that a process has mapped.
type Residency struct {
	Resident int // mapped, the zero page not counted (Linux: VmRSS)
	Shared   int // of those, frames that something else holds too: a cache, a process
	Huge     int // of those, mapped by huge entries
}

// Residency walks the page table.
func (p *Process) Residency() Residency {
	var r Residency
	for e := range p.m.tables.Entries(p.root, allUser) {
		if e.Entry.IsSpecial() {
			continue
		}
		n := int(e.Size / mem.PageSize)
		r.Resident += n
		if n > 1 {
			r.Huge += n
		}
		for i := range n {
			if !e.Owned || p.m.phys.Refs(e.Entry.PFN()+mem.PFN(i)) > 1 {
				r.Shared++
			}
		}
	}
	return r
}

var allUser = mem.Range{Start: 0, End: mem.UserEnd}

// Exit ends p.
func (p *Process) Exit() { p.end("exit") }

// Kill ends p for a reason: segv, oom, wrong byte.
func (p *Process) Kill(reason string) { p.end(reason) }

func (p *Process) end(reason string) {
	if p.ended {
		return
	}
	p.release()
	p.m.emit(event.ProcessExit{PID: p.PID, Reason: reason})
	p.m.settle()
}

// release drops everything that p holds.
func (p *Process) release() {
	delete(p.m.procs, p.PID)
	p.m.leave(p.mm)
	p.mm, p.ended = p.m.dead, true
}

// flushTLB makes all cached translations of p unreachable.
func (p *Process) flushTLB() { p.tag = p.m.tlb.NewTag() }

// space is p as a verifier sees it.
type space struct{ p *Process }

// Space returns p's memory as a verifier sees it: present pages only, nothing
// is faulted in.
func (p *Process) Space() mem.AddressSpace { return space{p} }

// Bias returns the load bias of the program.
func (s space) Bias() uint64 {
	if len(s.p.objects) == 0 {
		return 0
	}
	return s.p.objects[0].Bias
}

// Read copies what is mapped at addr.
func (s space) Read(addr mem.VirtAddr, b []byte) error {
	for len(b) > 0 {
		e, _ := s.p.m.tables.Walk(s.p.root, addr)
		if !e.Present() {
			return mem.ErrNotPresent
		}
		n := copy(b, s.p.m.phys.Page(e.Frame(addr))[addr.PageOffset():])
		b, addr = b[n:], addr+mem.VirtAddr(n)
	}
	return nil
}

// Entries yields the entries that accesses can reach.
func (s space) Entries(r mem.Range) iter.Seq[mem.Entry] {
	return func(yield func(mem.Entry) bool) {
		for e := range s.p.m.tables.Entries(s.p.root, r) {
			if !e.Entry.Present() {
				continue
			}
			prot := e.Entry.Prot()
			if !e.Owned && !e.Entry.IsShared() {
				prot &^= mem.ProtWrite
			}
			if !yield(mem.Entry{Addr: e.Addr, Size: e.Size, Prot: prot, Frame: e.Entry.PFN()}) {
				return
			}
		}
	}
}
