package vm

import (
	"slices"
	"syscall"

	"vmsim/mem"
)

// plain is an address space without areas, page tables, caches or sharing: one
// record for each mapped page, in the order of addresses. It is what Process
// must look like.
type plain struct {
	pages    []plainPage
	brkStart mem.VirtAddr
	brk      mem.VirtAddr
}

type plainPage struct {
	at   mem.VirtAddr
	prot mem.Prot // what the hardware grants
	what pageKind

	data   []byte  // 4096, never changed in place; nil is all zero
	object *object // shared anonymous memory; data is unused
	index  int     // page in object
}

type pageKind uint8

const (
	plainMemory pageKind = iota
	plainStack
	plainSharedFile
)

// object is shared anonymous memory.
type object struct{ data map[int][]byte }

func (p *plainPage) bytes() []byte {
	d := p.data
	if p.object != nil {
		d = p.object.data[p.index]
	}
	if d == nil {
		return zeros[:]
	}
	return d
}

// write changes the bytes from off on.
func (p *plainPage) write(off int, b []byte) {
	d := slices.Clone(p.bytes())
	copy(d[off:], b)
	if p.object != nil {
		p.object.data[p.index] = d
	} else {
		p.data = d
	}
}

// search returns the index of the first page at or above addr.
func (s *plain) search(addr mem.VirtAddr) int {
	i, _ := slices.BinarySearchFunc(s.pages, addr, func(p plainPage, a mem.VirtAddr) int {
		switch {
		case p.at < a:
			return -1
		case p.at > a:
			return 1
		}
		return 0
	})
	return i
}

// page returns the page of addr.
func (s *plain) page(addr mem.VirtAddr) (*plainPage, bool) {
	i := s.search(addr.PageDown())
	if i < len(s.pages) && s.pages[i].at == addr.PageDown() {
		return &s.pages[i], true
	}
	return nil, false
}

func (s *plain) fork() *plain {
	c := *s
	c.pages = slices.Clone(s.pages)
	return &c
}

// add maps consecutive pages, whose addresses are free.
func (s *plain) add(pages []plainPage) {
	if len(pages) > 0 {
		s.pages = slices.Insert(s.pages, s.search(pages[0].at), pages...)
	}
}

func (s *plain) remove(from, to mem.VirtAddr) {
	s.pages = slices.Delete(s.pages, s.search(from), s.search(to))
}

func (s *plain) mapped(from, to mem.VirtAddr) bool { return s.search(from) < s.search(to) }

// exec replaces everything by a program and a stack of 132 KiB.
func (s *plain) exec(p *program) {
	*s = plain{}
	for _, ti := range p.images {
		var pages []plainPage
		for i, t := range ti.pages {
			pages = append(pages, plainPage{at: ti.first + mem.VirtAddr(i*mem.PageSize), prot: t.prot, data: t.data})
		}
		s.add(pages)
	}
	var stack []plainPage
	for at := mem.VirtAddr(0x7ffffffff000 - 132<<10); at < 0x7ffffffff000; at += mem.PageSize {
		stack = append(stack, plainPage{at: at, prot: p.prog.Image.StackProt, what: plainStack})
	}
	s.add(stack)
	s.brkStart = p.images[0].end()
	s.brk = s.brkStart
}

// access returns what an access meets: the page, or the code of the signal.
func (s *plain) access(addr mem.VirtAddr, a mem.Access) (p *plainPage, code string) {
	p, ok := s.page(addr)
	if !ok && s.growStack(addr) {
		p, ok = s.page(addr)
	}
	if !ok {
		return nil, "SEGV_MAPERR"
	}
	need := map[mem.Access]mem.Prot{mem.Read: mem.ProtRead, mem.Write: mem.ProtWrite, mem.Exec: mem.ProtExec}[a]
	if p.prot&need == 0 {
		return nil, "SEGV_ACCERR"
	}
	return p, ""
}

// growStack maps the pages from addr up to the stack: where the next page above
// is the stack's, and addr no more than 8 MiB below the top.
func (s *plain) growStack(addr mem.VirtAddr) bool {
	const top = mem.VirtAddr(0x7ffffffff000)
	i := s.search(addr.PageDown())
	if addr >= top || top-addr > 8<<20 || i == len(s.pages) || s.pages[i].what != plainStack {
		return false
	}
	next := s.pages[i]
	var pages []plainPage
	for at := addr.PageDown(); at < next.at; at += mem.PageSize {
		pages = append(pages, plainPage{at: at, prot: next.prot, what: plainStack})
	}
	s.add(pages)
	return true
}

const plainEnd = mem.VirtAddr(0x7ffffffff000) // of user space

// mmap checks in the order of Linux mm/mmap.c:do_mmap.
func (s *plain) mmap(a Mapping, file []byte) (mem.VirtAddr, error) {
	if a.Offset%mem.PageSize != 0 || a.Len == 0 {
		return 0, syscall.EINVAL
	}
	n := (a.Len + mem.PageSize - 1) / mem.PageSize
	size := n * mem.PageSize
	if size == 0 || size > uint64(plainEnd) {
		return 0, syscall.ENOMEM
	}
	if a.File != nil && (a.Offset < 0 || a.Offset > 1<<63-1-int64(size)) {
		return 0, syscall.EOVERFLOW
	}
	at := a.Addr
	switch {
	case a.Fixed && a.Addr > plainEnd-mem.VirtAddr(size):
		return 0, syscall.ENOMEM
	case a.Fixed && a.Addr%mem.PageSize != 0:
		return 0, syscall.EINVAL
	case a.Fixed && a.NoReplace && s.mapped(at, at+mem.VirtAddr(size)):
		return 0, syscall.EEXIST
	case a.Fixed:
	default:
		var ok bool
		if at, ok = s.place(a.Addr, n); !ok {
			return 0, syscall.ENOMEM
		}
	}
	if a.File != nil && a.Shared && a.Prot&mem.ProtWrite != 0 {
		return 0, syscall.EACCES
	}
	s.remove(at, at+mem.VirtAddr(size))
	page := plainPage{prot: a.Prot}
	if a.Prot != 0 {
		page.prot |= mem.ProtRead
	}
	if a.Shared && a.File == nil {
		page.object = &object{map[int][]byte{}}
	} else if a.Shared {
		page.what = plainSharedFile
	}
	pages := make([]plainPage, n)
	for i := range pages {
		pages[i] = page
		pages[i].at = at + mem.VirtAddr(i*mem.PageSize)
		pages[i].index = i
		if a.File != nil {
			pages[i].data = filePage(file, a.Offset+int64(i)*mem.PageSize)
		}
	}
	s.add(pages)
	return at, nil
}

// filePage returns a page of a file, zeros behind its end.
func filePage(file []byte, off int64) []byte {
	if off >= int64(len(file)) {
		return nil
	}
	b := make([]byte, mem.PageSize)
	copy(b, file[off:])
	return b
}

// place is the hint, or the highest n free pages below the mmap base.
func (s *plain) place(hint mem.VirtAddr, n uint64) (mem.VirtAddr, bool) {
	size := mem.VirtAddr(n * mem.PageSize)
	if at := hint.PageDown(); at >= 0x10000 && hint <= plainEnd-size && !s.mapped(at, at+size) {
		return at, true
	}
	end := mem.VirtAddr(0x7ffff7fff000)
	for {
		if end < size+0x10000 {
			return 0, false
		}
		i := s.search(end) // all pages from here on are at or above end
		if i == 0 || s.pages[i-1].at < end-size {
			return end - size, true
		}
		end = s.pages[i-1].at
	}
}

func (s *plain) munmap(addr mem.VirtAddr, n uint64) error {
	if addr%mem.PageSize != 0 || addr > plainEnd || n > uint64(plainEnd-addr) || n == 0 {
		return syscall.EINVAL
	}
	s.remove(addr, addr+mem.VirtAddr((n+mem.PageSize-1)&^(mem.PageSize-1)))
	return nil
}

func (s *plain) mprotect(addr mem.VirtAddr, n uint64, prot mem.Prot) error {
	if addr%mem.PageSize != 0 {
		return syscall.EINVAL
	}
	if n == 0 {
		return nil
	}
	if prot != 0 {
		prot |= mem.ProtRead
	}
	size := (n + mem.PageSize - 1) &^ (mem.PageSize - 1)
	if size == 0 || addr+mem.VirtAddr(size) <= addr {
		return syscall.ENOMEM
	}
	i := s.search(addr)
	for at := addr; at < addr+mem.VirtAddr(size); at += mem.PageSize {
		if i == len(s.pages) || s.pages[i].at != at {
			return syscall.ENOMEM
		}
		p := &s.pages[i]
		if p.what == plainSharedFile && prot&mem.ProtWrite != 0 {
			return syscall.EACCES
		}
		p.prot = prot
		i++
	}
	return nil
}

func (s *plain) setBrk(addr mem.VirtAddr) mem.VirtAddr {
	up := func(a mem.VirtAddr) mem.VirtAddr { return (a + mem.PageSize - 1) &^ (mem.PageSize - 1) }
	if s.brkStart == 0 || addr < s.brkStart || addr >= plainEnd {
		return s.brk
	}
	old, end := up(s.brk), up(addr)
	switch {
	case end > old && s.mapped(old, end):
		return s.brk
	case end < old:
		s.remove(end, old)
	default:
		var pages []plainPage
		for at := old; at < end; at += mem.PageSize {
			pages = append(pages, plainPage{at: at, prot: rw})
		}
		s.add(pages)
	}
	s.brk = addr
	return addr
}
