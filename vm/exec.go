package vm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"syscall"

	"vmsim/hugepage"
	"vmsim/internal/event"
	"vmsim/internal/pagetable"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/vma"
)

// ErrNoRoom is returned by Exec and Boot where a program does not fit the
// address space: on top of the stack, or beside its interpreter.
var ErrNoRoom = errors.New("no room in the address space")

// Program is what exec runs.
type Program struct {
	Image  *loader.Image
	Interp *loader.Image // mapped too, and entered first; nil maps the image alone
	At     *Placement    // where all this lies; nil is where the profile puts it
}

// Exec replaces p's memory by a program. What is cached of it is used at once:
// windows that the policy wants as huge pages are assembled, or taken from the
// huge-page cache; of the others the cached pages are mapped.
//
// An error that wraps ErrNoRoom leaves p as it was; *OOMKill has killed it. A
// process that ended gives ESRCH.
//
// Compare Linux fs/exec.c, fs/binfmt_elf.c:load_elf_binary.
func (p *Process) Exec(prog Program) error {
	if p.ended {
		return syscall.ESRCH
	}
	at, err := p.m.place(prog)
	if err != nil {
		return err
	}
	if p.users > 1 { // it ran in another's memory
		p.users--
		p.mm = p.m.newMM(nil)
	}
	l := p.replace(at)
	var done event.ProcessExec
	for i, o := range p.objects {
		if err := p.warm(o, l.areas[i], &done); err != nil {
			if isNoMemory(err) {
				return p.oom(0)
			}
			return err
		}
	}
	p.Prefaulted, p.HugeWindows = done.Prefault, done.HugePages
	if p.m.cfg.Events != nil {
		done.PID, done.File = p.PID, prog.Image.File.Name()
		done.Entry, done.Bias = event.Addr(p.ip), event.Addr(p.objects[0].Bias)
		p.m.emit(done)
	}
	p.m.settle()
	return nil
}

// Boot makes the first process. It runs prog as the kernel starts init: mapped,
// but with no prefault and no assembly. Without a program its memory is empty.
func (m *Machine) Boot(prog *Program) (*Process, error) {
	var at placed
	if prog != nil {
		var err error
		if at, err = m.place(*prog); err != nil {
			return nil, err
		}
	}
	p := m.newProcess(m.newMM(vma.New()))
	if prog != nil {
		p.replace(at)
	}
	m.settle()
	return p, nil
}

// replace gives p, alone in its memory, the areas of a program, and empty tables.
func (p *Process) replace(at placed) *mapped {
	m := p.m
	m.tables.Free(&p.root)
	p.flushTLB()
	l := m.layoutOf(at)
	p.areas, p.objects, p.stackTop = l.set.Clone(), at.objects, at.stack.End
	m.forgetObjects(p.mm)
	p.locking, p.flagged = 0, false
	p.brkStart, p.brk = at.brk, at.brk
	p.ip = at.objects[len(at.objects)-1].Entry() // the interpreter's, where there is one
	return l
}

// warm maps what the caches hold of an object with these areas: window by window
// where file bytes are.
func (p *Process) warm(o Object, areas []vma.VMA, done *event.ProcessExec) error {
	next := mem.VirtAddr(0) // windows below are done
	for i := range areas {
		f := areas[i].FileRange()
		if areas[i].Kind != vma.File || f.Empty() {
			continue
		}
		for base := max(f.Start.HugeDown(), next); base < f.End; base += mem.HugeSize {
			if err := p.warmWindow(base, o, window(areas, base), done); err != nil {
				return err
			}
			next = base + mem.HugeSize
		}
	}
	return nil
}

// window returns the part of areas that overlaps the window at base.
func window(areas []vma.VMA, base mem.VirtAddr) []vma.VMA {
	w := mem.WindowOf(base)
	first, last := 0, len(areas)
	for first < last && areas[first].End <= w.Start {
		first++
	}
	for last > first && areas[last-1].Start >= w.End {
		last--
	}
	return areas[first:last]
}

func (p *Process) warmWindow(base mem.VirtAddr, o Object, areas []vma.VMA, done *event.ProcessExec) error {
	m := p.m
	c, ok := m.assembler.Candidate(base, o.Bias, areas)
	// Of a file that was written to, what is kept is stale, and so is what is read.
	if ok && m.cache.DirtyPages(m.cache.Open(c.File)) == 0 {
		page, hit := m.huge.Lookup(hugepage.KeyOf(c))
		if !hit && m.assembler.Wanted(c) {
			page = p.assemble(c, areas)
		}
		if page != nil {
			done.HugePages++
			return p.mapHuge(base, page)
		}
	}
	n, err := p.prefault(base, areas)
	done.Prefault += n
	return err
}

// assemble puts a window together, shows it to the inspector, and keeps it. It
// returns nil where no 512 frames could be had or a read failed: the pages are
// then mapped one by one.
func (p *Process) assemble(c hugepage.Candidate, areas []vma.VMA) *hugepage.Page {
	m := p.m
	first, ok := m.allocHuge()
	if !ok {
		return nil
	}
	page, win, err := m.assembler.Assemble(c, areas, first)
	if err != nil {
		m.phys.PutBlock(first)
		return nil
	}
	win.PID = p.PID
	m.stats.Assembled++
	m.stats.FromCache += win.FromCache
	m.stats.FromFile += win.FromFile
	m.stats.Zero += win.Zero
	if m.cfg.Events != nil {
		e := event.HugePageAssembled{PID: p.PID, HugeBase: event.Addr(c.Base), File: c.File.Name(),
			FromCache: win.FromCache, FromFile: win.FromFile, Zero: win.Zero}
		if m.cfg.Digest {
			sum := sha256.Sum256(win.Data)
			e.SHA256 = hex.EncodeToString(sum[:])
		}
		m.emit(e)
	}
	if m.cfg.Inspector != nil && m.cfg.Inspector.Assembled(win) != nil {
		m.stats.InspectorFails++ // reported by the inspector; mapped all the same
	}
	m.huge.Insert(hugepage.KeyOf(c), page)
	return page
}

// mapHuge maps a huge page: with one entry where one permission covers the
// whole window, else in 4 KiB entries for the sub-pages that have an area. The
// frames stay the cache's, so nothing is writable.
func (p *Process) mapHuge(base mem.VirtAddr, page *hugepage.Page) error {
	m := p.m
	if prot, ok := page.Uniform(); ok {
		m.phys.GetBlock(page.First)
		if err := m.tables.SetHuge(&p.root, base, pagetable.Make(page.First, prot&^mem.ProtWrite)); err != nil {
			m.phys.PutBlock(page.First)
			return err
		}
		m.stats.HugeMapped++
	} else {
		err := m.tables.SetWindow(&p.root, base, func(i int) pagetable.Entry {
			prot, ok := page.SubPage(i)
			if !ok || prot == mem.ProtNone {
				return 0
			}
			pfn := page.First + mem.PFN(i)
			m.phys.Get(pfn)
			return pagetable.Make(pfn, prot&^mem.ProtWrite)
		})
		if err != nil {
			return err
		}
		m.stats.HugeScattered++
	}
	m.inspectMapped(p, base, base+mem.HugeSize)
	return nil
}

// prefault maps the whole pages of a window that are cached.
func (p *Process) prefault(base mem.VirtAddr, areas []vma.VMA) (int, error) {
	m := p.m
	w := mem.WindowOf(base)
	n := 0
	for i := range areas {
		v := &areas[i]
		if v.Kind != vma.File || v.Overlap || m.cache.FilePages(v.FileNo) == 0 {
			continue
		}
		// Pages that lie in this area's file part wholly, and so in no other
		// area.
		f := v.FileRange().Intersect(w)
		at, _ := f.Start.PageUp()
		for ; at+mem.PageSize <= f.End; at += mem.PageSize {
			pfn, valid, ok := m.cache.Lookup(v.FileNo, mem.PageIndex(v.OffsetOf(at)/mem.PageSize))
			if !ok || valid != mem.PageSize || v.Prot == mem.ProtNone {
				continue
			}
			m.phys.Get(pfn)
			if err := p.set(at, pagetable.Make(pfn, v.Prot&^mem.ProtWrite)); err != nil {
				m.phys.Put(pfn)
				return n, err
			}
			n++
			m.inspectMapped(p, at, at+mem.PageSize)
		}
	}
	m.stats.Prefaulted += n
	return n, nil
}

// allocHuge returns 512 consecutive frames. It evicts some of what nobody maps,
// and unmaps nothing: a huge page is worth no more than that, and memory may be
// too fragmented for one whatever is evicted.
func (m *Machine) allocHuge() (mem.PFN, bool) {
	for range 4 {
		if pfn, ok := m.phys.AllocHuge(); ok {
			return pfn, true
		}
		if m.cache.Evict(mem.SubPages) == 0 {
			break
		}
	}
	return m.phys.AllocHuge()
}

// inspectMapped shows the inspector, in Fortress, the pages of an exec'ed file
// that p now sees in [start, end) and has not written.
func (m *Machine) inspectMapped(p *Process, start, end mem.VirtAddr) {
	if m.cfg.Hardening != Fortress {
		return
	}
	insp, ok := m.cfg.Inspector.(mem.MappedInspector)
	if !ok {
		return
	}
	for _, o := range p.objects {
		if m.cache.DirtyPages(m.cache.Open(o.Image.File)) > 0 {
			continue // its pages may rightly differ from the file
		}
		for at := start; at < end; at += mem.PageSize {
			e, _ := m.tables.Walk(p.root, at)
			if !e.Present() || !o.Extent().Contains(at) {
				continue
			}
			if insp.Mapped(p.PID, o.Image.File, o.Bias, at, m.phys.Page(e.Frame(at))) != nil {
				m.stats.InspectorFails++
			}
		}
	}
}

// String returns the object as messages name it.
func (o Object) String() string { return fmt.Sprintf("%s %v", o.Image.File.Name(), o.Extent()) }
