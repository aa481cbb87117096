package trace

import (
	"debug/elf"
	"maps"
	"syscall"

	"vmsim/mem"
)

// model is a Machine as plain as can be: a process is a map from page to
// contents. It knows no memory pressure and nothing of huge pages.
type model struct {
	procs map[int]*space
	last  int
	files map[string]*program
	cache map[*page]bool // pages of files that were touched
}

type program struct {
	progs []elf.ProgHeader
	bias  uint64
	pages map[mem.VirtAddr]*page // as exec maps them
}

// space is an address space.
type space struct {
	prog  *program
	path  string
	areas map[mem.VirtAddr]area // by page
	ptes  map[mem.VirtAddr]*pte
}

// area is what may be at a page that no entry maps yet.
type area struct {
	prot   mem.Prot
	shared bool
	start  *page // contents at first
}

type page [mem.PageSize]byte

type pte struct {
	frame    *page
	writable bool
}

func newModel() *model {
	return &model{procs: map[int]*space{}, files: map[string]*program{}, cache: map[*page]bool{}}
}

func (m *model) load(path string) (*program, error) {
	if p := m.files[path]; p != nil {
		return p, nil
	}
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &program{pages: map[mem.VirtAddr]*page{}}
	if f.Type == elf.ET_DYN {
		p.bias = 0xa00000000
	}
	for _, h := range f.Progs {
		if h.Type != elf.PT_LOAD {
			continue
		}
		p.progs = append(p.progs, h.ProgHeader)
		data := make([]byte, h.Memsz)
		if _, err := h.ReadAt(data[:h.Filesz], 0); err != nil {
			return nil, err
		}
		for i, b := range data {
			a := mem.VirtAddr(h.Vaddr + p.bias + uint64(i))
			pg := p.pages[a.PageDown()]
			if pg == nil {
				pg = new(page)
				p.pages[a.PageDown()] = pg
			}
			pg[a.PageOffset()] = b
		}
	}
	m.files[path] = p
	return p, nil
}

func (m *model) Boot(path string) error {
	m.last = 1
	m.procs[1] = &space{areas: map[mem.VirtAddr]area{}, ptes: map[mem.VirtAddr]*pte{}}
	if path == "" {
		return nil
	}
	return m.Exec(1, path, nil)
}

func (m *model) Fork(pid int) (int, error) {
	s := m.procs[pid]
	c := &space{s.prog, s.path, maps.Clone(s.areas), map[mem.VirtAddr]*pte{}}
	for a, e := range s.ptes {
		if !s.areas[a].shared {
			e.writable = false
		}
		twin := *e
		c.ptes[a] = &twin
	}
	m.last++
	m.procs[m.last] = c
	return m.last, nil
}

func (m *model) Vfork(pid int) (int, error) {
	m.last++
	m.procs[m.last] = m.procs[pid]
	return m.last, nil
}

func (m *model) Mremap(int, Remapping) (mem.VirtAddr, error)     { return 0, syscall.ENOSYS }
func (m *model) Madvise(int, mem.VirtAddr, uint64, Advice) error { return syscall.ENOSYS }
func (m *model) Lock(int, Lock) error                            { return nil }
func (m *model) Shmdt(int, mem.VirtAddr) error                   { return syscall.EINVAL }
func (m *model) File(string, FileInfo)                           {}

func (m *model) Exec(pid int, path string, _ *Layout) error {
	p, err := m.load(path)
	if err != nil {
		return err
	}
	s := &space{p, path, map[mem.VirtAddr]area{}, map[mem.VirtAddr]*pte{}}
	for a, pg := range p.pages {
		ar := area{start: pg}
		for _, h := range p.progs {
			r := mem.Range{Start: mem.VirtAddr(h.Vaddr + p.bias), End: mem.VirtAddr(h.Vaddr + h.Memsz + p.bias)}
			if !r.Overlaps(mem.PageOf(a)) {
				continue
			}
			for flag, prot := range map[elf.ProgFlag]mem.Prot{elf.PF_R: mem.ProtRead, elf.PF_W: mem.ProtWrite, elf.PF_X: mem.ProtExec} {
				if h.Flags&flag != 0 {
					ar.prot |= prot
				}
			}
		}
		s.areas[a] = ar
	}
	m.procs[pid] = s
	return nil
}

func (m *model) Exit(pid, _ int) error {
	delete(m.procs, pid)
	return nil
}

func (m *model) Mmap(pid int, mp Mapping) (mem.VirtAddr, error) {
	s := m.procs[pid]
	if mp.Flags&MapFixed == 0 {
		return 0, syscall.ENOMEM // no need to look for places here
	}
	if err := m.Munmap(pid, mp.Addr, mp.Len); err != nil {
		return 0, err
	}
	for a := mp.Addr; a < mp.Addr+mem.VirtAddr(mp.Len); a += mem.PageSize {
		start := new(page)
		if mp.Path != "" {
			p, err := m.load(mp.Path)
			if err != nil {
				return 0, err
			}
			// Enough for these traces: the text, mapped at offset 0.
			*start = *p.pages[mem.VirtAddr(p.progs[0].Vaddr+p.bias+mp.Offset)+(a-mp.Addr)]
		}
		s.areas[a] = area{mp.Prot, mp.Flags&MapShared != 0, start}
	}
	return mp.Addr, nil
}

func (m *model) Munmap(pid int, addr mem.VirtAddr, length uint64) error {
	s := m.procs[pid]
	for a := addr; a < addr+mem.VirtAddr(length); a += mem.PageSize {
		delete(s.areas, a)
		delete(s.ptes, a)
	}
	return nil
}

func (m *model) Mprotect(pid int, addr mem.VirtAddr, length uint64, prot mem.Prot) error {
	s := m.procs[pid]
	for a := addr; a < addr+mem.VirtAddr(length); a += mem.PageSize {
		ar, ok := s.areas[a]
		if !ok {
			return syscall.ENOMEM
		}
		ar.prot = prot
		s.areas[a] = ar
	}
	return nil
}

func (m *model) Brk(int, mem.VirtAddr) (mem.VirtAddr, error) { return 0x10000, nil }

func (m *model) Touch(pid int, t Touch, _ TouchInfo) (Outcome, error) {
	s := m.procs[pid]
	at := t.Addr.PageDown()
	ar, ok := s.areas[at]
	switch {
	case !ok:
		return Outcome{Fault: SegvMapErr, Crashed: true}, nil
	case !ar.prot.Allows(t.Access):
		return Outcome{Fault: SegvAccErr, Crashed: true}, nil
	}
	e, fault := s.ptes[at], FaultNone
	write := t.Access == mem.Write
	switch {
	case e == nil && (ar.shared || !write):
		if fault = FaultMinor; !m.cache[ar.start] {
			fault, m.cache[ar.start] = FaultMajor, true
		}
		e = &pte{ar.start, ar.shared}
	case e == nil:
		fault = FaultMinor
		own := *ar.start
		e = &pte{&own, true}
	case write && !e.writable:
		fault = FaultCoW
		own := *e.frame
		e = &pte{&own, true}
	}
	s.ptes[at] = e
	if write {
		e.frame[t.Addr.PageOffset()] = t.Value
	}
	return Outcome{Fault: fault, Byte: e.frame[t.Addr.PageOffset()]}, nil
}

func (m *model) Resolve(pid int, path string, off uint64) (mem.VirtAddr, bool) {
	s := m.procs[pid]
	if s.path != path {
		return 0, false
	}
	for _, h := range s.prog.progs {
		if h.Off <= off && off < h.Off+h.Filesz {
			return mem.VirtAddr(h.Vaddr + s.prog.bias + off - h.Off), true
		}
	}
	return 0, false
}
