package vm

import (
	"errors"
	"fmt"

	"vmsim/internal/event"
	"vmsim/internal/pagetable"
	"vmsim/mem"
	"vmsim/vma"
)

// fault resolves an access that e, the page-table entry for addr, does not
// permit, allocating or copying at most one frame.
//
// It returns *Segfault where no area holds addr or its page does not permit
// the access, *OOMKill where no frame could be had, or the wrapped error of a
// file read. On an error the page table is unchanged.
//
// Compare Linux mm/memory.c:handle_mm_fault, arch/x86/mm/fault.c.
func (p *Process) fault(addr mem.VirtAddr, a mem.Access, e pagetable.Entry) (FaultKind, error) {
	v := &p.m.view
	if !p.areas.View(addr, v) && !(p.growStack(addr) && p.areas.View(addr, v)) {
		return NoFault, p.refuse(addr, a, false)
	}
	if !v.Prot.Allows(a) {
		return NoFault, p.refuse(addr, a, true)
	}
	how, err := p.resolve(v, a, e)
	if err != nil {
		return NoFault, p.unresolved(addr, a, err)
	}
	p.count(how.kind)
	if p.m.cfg.Events != nil {
		p.emitFault(addr, a, how)
	}
	if how.kind != CoW && v.First.Segment != 0 {
		p.m.inspectMapped(p, v.Addr, v.Addr+mem.PageSize)
	}
	if p.m.cfg.FaultAround > 1 && a != mem.Write && len(v.Pieces) > 0 {
		p.faultAround(v)
	}
	p.m.settle()
	return how.kind, nil
}

// resolution says how a fault was resolved.
type resolution struct {
	kind   FaultKind
	source string  // event.Source...
	from   mem.PFN // copied from, with SourceCopy and SourceCacheCopy
}

// resolve picks the case. v is p's view of the page, e its entry.
func (p *Process) resolve(v *vma.PageView, a mem.Access, e pagetable.Entry) (resolution, error) {
	switch {
	case v.First.Shared && v.First.Flags&vma.MayWrite != 0 && !e.IsShared():
		return p.sharedFileFault(v, a)
	case e.Mapped() && a == mem.Write && !e.IsShared():
		return p.cowFault(v, e)
	case e.Mapped():
		panic(fmt.Sprintf("vm: %v fault at %v with entry %v and page %v", a, v.Addr, e, v.Prot))
	case v.First.OfObject():
		return p.objectFault(v, a)
	case v.First.Shared && v.First.Kind == vma.File && p.m.cache.Writable(v.First.FileNo):
		return p.sharedFileFault(v, a)
	case len(v.Pieces) == 0:
		return p.anonFault(v, a)
	default:
		return p.fileFault(v, a)
	}
}

// anonFault maps the zero page for reading, a cleared frame for writing.
//
// Compare Linux mm/memory.c:do_anonymous_page.
func (p *Process) anonFault(v *vma.PageView, a mem.Access) (resolution, error) {
	if a != mem.Write {
		e := pagetable.Make(p.m.zero, v.Prot&^mem.ProtWrite).Special()
		return resolution{Minor, event.SourceZeroPage, 0}, p.set(v.Addr, e)
	}
	pfn, err := p.m.alloc()
	if err != nil {
		return resolution{}, err
	}
	clear(p.m.phys.Page(pfn))
	return resolution{Minor, event.SourceZeroFill, 0}, p.install(v, pfn, v.Prot)
}

// fileFault maps a page with file bytes: the frame of the page cache where the
// page may come from there, or a frame composed of all areas that share the
// page, which enters the cache where it may.
//
// Compare Linux mm/memory.c:do_read_fault and do_cow_fault.
func (p *Process) fileFault(v *vma.PageView, a mem.Access) (resolution, error) {
	m := p.m
	if piece, ok := v.FromCache(); ok {
		if cached, valid, hit := m.cache.Lookup(piece.FileNo, piece.Index()); hit && valid == mem.PageSize {
			if a != mem.Write {
				m.phys.Get(cached)
				return resolution{Minor, event.SourceCache, 0}, p.install(v, cached, v.Prot&^mem.ProtWrite)
			}
			return p.copyCached(v, cached)
		}
		if m.cache.Writable(piece.FileNo) {
			return p.writtenFileFault(v, a)
		}
	}
	pfn, err := m.alloc()
	if err != nil {
		return resolution{}, err
	}
	if err := m.compose(v, m.phys.Page(pfn)); err != nil {
		m.phys.Put(pfn)
		return resolution{}, err
	}
	how, prot := resolution{Major, event.SourceFileOwn, 0}, v.Prot
	if piece, ok := v.ToCache(); ok && m.cache.Insert(piece.FileNo, piece.Index(), pfn, piece.Len) {
		how.source = event.SourceFile
	}
	return how, p.install(v, pfn, prot)
}

// copyCached gives a write fault a copy of a cached frame, which stays clean.
func (p *Process) copyCached(v *vma.PageView, cached mem.PFN) (resolution, error) {
	m := p.m
	m.phys.Get(cached) // pinned: alloc may evict
	defer m.phys.Put(cached)
	pfn, err := m.alloc()
	if err != nil {
		return resolution{}, err
	}
	copy(m.phys.Page(pfn), m.phys.Page(cached))
	return resolution{Minor, event.SourceCacheCopy, cached}, p.install(v, pfn, v.Prot)
}

// compose fills dst with the page's file bytes, and zeros elsewhere.
func (m *Machine) compose(v *vma.PageView, dst []byte) error {
	if len(v.Pieces) != 1 || v.Pieces[0].Len < mem.PageSize {
		clear(dst)
	}
	for i := range v.Pieces {
		piece := &v.Pieces[i]
		if err := mem.ReadPadded(piece.File, dst[piece.At:piece.At+piece.Len], piece.Offset); err != nil {
			return fmt.Errorf("read %s at 0x%x: %w", piece.File.Name(), piece.Offset, err)
		}
		if m.cache.DirtyPages(piece.FileNo) > 0 {
			m.overlay(piece, dst[piece.At:piece.At+piece.Len])
		}
	}
	return nil
}

// install maps a frame of which the caller hands over one reference; on an
// error that is dropped.
func (p *Process) install(v *vma.PageView, pfn mem.PFN, prot mem.Prot) error {
	err := p.set(v.Addr, pagetable.Make(pfn, prot))
	if err != nil {
		p.m.phys.Put(pfn)
	}
	return err
}

// set makes e the entry of a page, in place of what was there, and its
// translation the one in the TLB. The path is p's own then: e grants what it says.
func (p *Process) set(addr mem.VirtAddr, e pagetable.Entry) error {
	old, err := p.m.tables.Set(&p.root, addr, e)
	if err != nil {
		return err
	}
	p.m.tables.Put(old)
	p.m.tlb.Fill(p.tag, addr, e.PFN(), e.Prot())
	return nil
}

// growStack extends the stack, or a mapping that grows as it does, down to the
// page of addr: at most its limit below its top, and not over another area. The
// top of a mapping is its end; that of the stack is where exec put it.
//
// Compare Linux mm/vma.c:expand_downwards, acct_stack_growth.
func (p *Process) growStack(addr mem.VirtAddr) bool {
	if addr >= mem.UserEnd {
		return false
	}
	v, ok := p.areas.FindAbove(addr)
	if !ok || !v.Grows() {
		return false
	}
	top, limit := v.End, uint64(StackLimit)
	if v.Kind == vma.Stack {
		top, limit = p.stackTop, max(limit, p.stackLimit)
	}
	if addr >= top || uint64(top-addr) > limit {
		return false
	}
	p.areas.Resize(v.Start, mem.Range{Start: addr.PageDown(), End: v.End})
	return true
}

// RaiseStackLimit lets the stack grow to the page of addr, as a larger RLIMIT_STACK
// does. It is false where another area is in between, or the limit is no matter.
func (p *Process) RaiseStackLimit(addr mem.VirtAddr) bool {
	if p.ended || addr >= p.stackTop {
		return false
	}
	v, ok := p.areas.FindAbove(addr)
	need := uint64(p.stackTop - addr)
	if !ok || v.Kind != vma.Stack || !v.Grows() || need <= max(StackLimit, p.stackLimit) {
		return false
	}
	p.stackLimit = need
	return true
}

func (p *Process) count(k FaultKind) {
	if p.m.populating {
		p.Populated.add(k)
		p.m.stats.Populated.add(k)
		return
	}
	p.Faults.add(k)
	p.m.stats.Faults.add(k)
}

// refuse reports a segmentation fault. The process lives: who drives it
// decides what the signal does.
func (p *Process) refuse(addr mem.VirtAddr, a mem.Access, mapped bool) error {
	err := &Segfault{addr, a, mapped}
	if p.m.cfg.Events != nil {
		p.emitUnresolved(addr, a, "segv")
		p.m.emit(event.Segfault{PID: p.PID, VAddr: event.Addr(addr), IP: event.Addr(p.ip),
			Access: a.String(), Code: err.Code()})
	}
	return err
}

// unresolved turns a lack of memory into the kill of p.
func (p *Process) unresolved(addr mem.VirtAddr, a mem.Access, err error) error {
	if !isNoMemory(err) {
		return err
	}
	if p.m.cfg.Events != nil {
		p.emitUnresolved(addr, a, "oom")
	}
	return p.oom(addr)
}

func (p *Process) oom(addr mem.VirtAddr) error {
	p.m.stats.OOMKills++
	if p.m.cfg.Events != nil {
		p.m.emit(event.OOMKill{PID: p.PID, VAddr: event.Addr(addr), Resident: p.Residency().Resident})
	}
	for _, q := range p.m.sharers(p) {
		q.Kill("oom")
	}
	p.Kill("oom")
	return &OOMKill{p.PID, addr}
}

// sharers returns the other processes that run in p's memory, by PID.
func (m *Machine) sharers(p *Process) []*Process {
	if !p.SharesMemory() {
		return nil
	}
	var out []*Process
	for _, q := range m.Processes() {
		if q != p && q.mm == p.mm {
			out = append(out, q)
		}
	}
	return out
}

func isNoMemory(err error) bool {
	return errors.Is(err, errNoFrame) || errors.Is(err, pagetable.ErrNoMemory)
}

func (p *Process) emitUnresolved(addr mem.VirtAddr, a mem.Access, resolved string) {
	e := p.faultEvent(addr, a)
	e.Resolved = resolved
	p.m.emit(e)
}

func (p *Process) emitFault(addr mem.VirtAddr, a mem.Access, how resolution) {
	e := p.faultEvent(addr, a)
	e.Resolved, e.Source, e.Copied = how.kind.String(), how.source, uint32(how.from)
	if pte, _ := p.m.tables.Walk(p.root, addr); pte.Mapped() {
		e.Frame = uint32(pte.Frame(addr))
	}
	p.m.emit(e)
}

// faultEvent fills in what the areas say.
func (p *Process) faultEvent(addr mem.VirtAddr, a mem.Access) event.PageFault {
	e := event.PageFault{PID: p.PID, VAddr: event.Addr(addr), IP: event.Addr(p.ip), Reason: a.String(),
		VMAType: event.None, Prot: mem.ProtNone.String()}
	var v vma.PageView
	if !p.areas.View(addr, &v) {
		return e
	}
	e.VMAStart, e.VMAEnd, e.VMAName = event.Addr(v.First.Start), event.Addr(v.First.End), v.First.Name()
	e.Prot, e.Areas, e.FileBytes = v.Prot.String(), v.Areas, v.FileBytes()
	e.VMAType = vmaType(&v.First)
	if len(v.Pieces) > 0 {
		e.FileOffset = event.Addr(v.Pieces[0].Offset)
	}
	return e
}

func vmaType(v *vma.VMA) string {
	switch {
	case v.Kind != vma.File:
		return event.Anon
	case v.Prot&mem.ProtWrite != 0:
		return event.FileRW
	}
	return event.FileRO
}
