package vm

import (
	"slices"
	"syscall"

	"vmsim/mem"
	"vmsim/vma"
)

// plain is an address space without areas, page tables, caches or sharing: one
// record for each mapped page, in the order of addresses. It is what Process
// must look like.
type plain struct {
	pages    []plainPage
	brkStart mem.VirtAddr
	brk      mem.VirtAddr
	stackTop mem.VirtAddr
	locking  vma.Flags // of mlockall(MCL_FUTURE)
}

type plainPage struct {
	at    mem.VirtAddr
	prot  mem.Prot // what the hardware grants
	what  pageKind
	flags vma.Flags

	// What the page is before it is written, and again after MADV_DONTNEED: a page
	// of an object, of a file that cannot be written, data, or zeros.
	object *object
	index  int // page in object
	file   []byte
	off    int64  // in file
	data   []byte // 4096, of a program

	shared bool   // writes go to object
	own    []byte // 4096, never changed in place: the private copy, see copied; nil if there is none
}

type pageKind uint8

const (
	plainMemory pageKind = iota
	plainStack
	plainGrows   // MAP_GROWSDOWN
	plainFile    // a mapping of a file
	plainProgram // of a program: byte-precise areas
)

// object is what mappings share: shared memory, or a file that is written to.
type object struct {
	data map[int][]byte
	base []byte // of a file
}

func (o *object) bytes(index int) []byte {
	if d := o.data[index]; d != nil {
		return d
	}
	return filePage(o.base, int64(index)*mem.PageSize)
}

func (p *plainPage) bytes() []byte {
	d := p.own
	switch {
	case d != nil:
	case p.object != nil:
		d = p.object.bytes(p.index)
	case p.file != nil:
		d = filePage(p.file, p.off)
	default:
		d = p.data
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
	if p.shared {
		p.object.data[p.index] = d
	} else {
		p.own = d
	}
}

// copied is what a write fault does, even one that writes nothing: a private page
// is a copy from then on, and what others write to its object stays unseen.
// Populating private writable memory is such a fault.
func (p *plainPage) copied() {
	if !p.shared && p.object != nil && p.own == nil {
		p.own = p.bytes()
	}
}

// next returns the page k pages behind p of the same mapping, as it is before
// anything is written to it.
func (p plainPage) next(k int) plainPage {
	p.at += mem.VirtAddr(k * mem.PageSize)
	p.index += k
	p.off += int64(k) * mem.PageSize
	p.own = nil
	return p
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
	c.locking, c.pages = 0, nil
	for _, p := range s.pages {
		if p.flags&vma.DontFork != 0 {
			continue
		}
		if p.flags&vma.WipeOnFork != 0 {
			p.own = nil
		}
		p.flags &^= vma.Locked | vma.OnFault
		c.pages = append(c.pages, p)
	}
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

// exec returns the memory of a program, with a stack of 132 KiB.
func (s *plain) exec(p *program, at *Placement) *plain {
	s = &plain{stackTop: 0x7ffffffff000}
	stackSize := mem.VirtAddr(132 << 10)
	for _, ti := range p.images {
		var pages []plainPage
		for i, t := range ti.pages {
			pages = append(pages, plainPage{at: ti.first + mem.VirtAddr(i*mem.PageSize), prot: t.prot, data: t.data, what: plainProgram})
		}
		s.add(pages)
	}
	s.brkStart = p.images[0].end()
	if at != nil {
		s.stackTop, stackSize, s.brkStart = at.Stack.End, mem.VirtAddr(at.Stack.Len()), at.Brk
		for _, x := range at.Extra {
			for a := x.Start; a < x.End; a += mem.PageSize {
				s.add([]plainPage{{at: a, prot: x.Prot, what: plainProgram}})
			}
		}
	}
	var stack []plainPage
	for at := s.stackTop - stackSize; at < s.stackTop; at += mem.PageSize {
		stack = append(stack, plainPage{at: at, prot: p.prog.Image.StackProt, what: plainStack})
	}
	s.add(stack)
	s.brk = s.brkStart
	return s
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

// growStack maps the pages from addr up to the stack, or to a mapping that grows:
// where the next page above is of such, and addr no more than 8 MiB below its top.
func (s *plain) growStack(addr mem.VirtAddr) bool {
	i := s.search(addr.PageDown())
	if i == len(s.pages) || s.pages[i].what != plainStack && s.pages[i].what != plainGrows {
		return false
	}
	next, top := s.pages[i], s.stackTop
	if next.what == plainGrows {
		top = next.at
		for _, p := range s.pages[i:] {
			if p.at != top || p.what != plainGrows || p.prot != next.prot || p.flags != next.flags {
				break
			}
			top += mem.PageSize
		}
	}
	if addr >= top || top-addr > 8<<20 {
		return false
	}
	var pages []plainPage
	for at := addr.PageDown(); at < next.at; at += mem.PageSize {
		pages = append(pages, plainPage{at: at, prot: next.prot, what: next.what, flags: next.flags})
	}
	s.add(pages)
	return true
}

const plainEnd = mem.VirtAddr(0x7ffffffff000) // of user space

// mmap checks in the order of Linux mm/mmap.c:do_mmap.
func (s *plain) mmap(a Mapping, file []byte, of *object) (mem.VirtAddr, error) {
	if a.Offset%mem.PageSize != 0 || a.Len == 0 {
		return 0, syscall.EINVAL
	}
	n := (a.Len + mem.PageSize - 1) / mem.PageSize
	size := n * mem.PageSize
	if size == 0 || size > uint64(plainEnd) {
		return 0, syscall.ENOMEM
	}
	if (a.File != nil || a.Object != nil) && (a.Offset < 0 || a.Offset > 1<<63-1-int64(size)) {
		return 0, syscall.EOVERFLOW
	}
	if a.GrowsDown && (a.Shared || a.File != nil || a.Object != nil) {
		return 0, syscall.EINVAL
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
	if a.File != nil && a.Shared && a.Prot&mem.ProtWrite != 0 && !a.SharedWrite {
		return 0, syscall.EACCES
	}
	if of != nil && uint64(a.Offset)/mem.PageSize+n > 1<<31 {
		return 0, syscall.ENOMEM
	}
	s.remove(at, at+mem.VirtAddr(size))
	page := plainPage{prot: a.Prot, shared: a.Shared, flags: s.locking, at: at}
	if a.Prot != 0 {
		page.prot |= mem.ProtRead
	}
	if a.Locked {
		page.flags |= vma.Locked
	}
	switch {
	case of != nil:
		page.object, page.index = of, int(a.Offset/mem.PageSize)
		if a.File != nil {
			page.what = plainFile
		}
		if a.File != nil && a.Shared && a.SharedWrite {
			page.flags |= vma.MayWrite
		}
	case a.File != nil:
		page.what, page.file, page.off = plainFile, file, a.Offset
	case a.Shared:
		page.object = &object{data: map[int][]byte{}}
	case a.GrowsDown:
		page.what = plainGrows
		page.flags |= vma.GrowsDown
	}
	pages := make([]plainPage, n)
	for i := range pages {
		pages[i] = page.next(i)
	}
	s.add(pages)
	if a.Populate || page.flags&vma.Locked != 0 {
		_ = s.populate(at, at+mem.VirtAddr(size), true)
	}
	return at, nil
}

// populate is what mlock and MAP_POPULATE do to the pages of [from, to). Without
// ignore it ends at a page that permits nothing, with ENOMEM.
func (s *plain) populate(from, to mem.VirtAddr, ignore bool) error {
	for i, n := s.search(from), s.search(to); i < n; i++ {
		switch p := &s.pages[i]; {
		case p.flags&vma.OnFault != 0:
		case p.prot == mem.ProtNone && !ignore:
			return syscall.ENOMEM
		case p.prot&mem.ProtWrite != 0:
			p.copied()
		}
	}
	return nil
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
		if p.what == plainFile && p.shared && p.flags&vma.MayWrite == 0 && prot&mem.ProtWrite != 0 {
			return syscall.EACCES
		}
		locked := p.flags&(vma.Locked|vma.OnFault) == vma.Locked
		if p.prot&mem.ProtWrite == 0 && prot&mem.ProtWrite != 0 && locked {
			p.copied()
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
			pages = append(pages, plainPage{at: at, prot: rw, flags: s.locking})
		}
		s.add(pages)
	}
	s.brk = addr
	return addr
}

// madvise returns the error, and does what the advice changes.
func (s *plain) madvise(addr mem.VirtAddr, n uint64, a Advice) error {
	size := (n + mem.PageSize - 1) &^ (mem.PageSize - 1)
	if addr%mem.PageSize != 0 || size < n || addr+mem.VirtAddr(size) < addr {
		return syscall.EINVAL
	}
	var err error
	i := s.search(addr)
	for at := addr; at < addr+mem.VirtAddr(size); at += mem.PageSize {
		if i == len(s.pages) || s.pages[i].at != at {
			err = syscall.ENOMEM
			if a == AdvisePopulateRead || a == AdvisePopulateWrite {
				return err
			}
			if i == len(s.pages) {
				return err
			}
			at = s.pages[i].at - mem.PageSize
			continue
		}
		if e := s.pages[i].advise(a); e != nil {
			return e
		}
		i++
	}
	return err
}

func (p *plainPage) advise(a Advice) error {
	anon := p.what != plainFile && p.object == nil
	locked := p.flags&vma.Locked != 0
	switch a {
	case AdviseDontNeed, AdviseDontNeedLocked:
		if locked && a == AdviseDontNeed {
			return syscall.EINVAL
		}
		p.own = nil
	case AdviseFree:
		if !anon || locked {
			return syscall.EINVAL
		}
	case AdviseRemove:
		switch {
		case locked || anon:
			return syscall.EINVAL
		case !p.shared || p.what == plainFile && p.flags&vma.MayWrite == 0:
			return syscall.EACCES
		case p.what == plainFile:
			return syscall.EOPNOTSUPP
		}
		delete(p.object.data, p.index)
	case AdviseDontFork:
		p.flags |= vma.DontFork
	case AdviseDoFork:
		p.flags &^= vma.DontFork
	case AdviseWipeOnFork:
		if !anon {
			return syscall.EINVAL
		}
		p.flags |= vma.WipeOnFork
	case AdviseKeepOnFork:
		p.flags &^= vma.WipeOnFork
	case AdvisePopulateRead:
		if p.prot&mem.ProtRead == 0 {
			return syscall.EINVAL
		}
	case AdvisePopulateWrite:
		if p.prot&mem.ProtWrite == 0 {
			return syscall.EINVAL
		}
		p.copied()
	}
	return nil
}

// mlock sets the flags of mlock, of mlock2 with onFault, or of munlock.
func (s *plain) mlock(addr mem.VirtAddr, n uint64, flags vma.Flags) error {
	size := (n + uint64(addr%mem.PageSize) + mem.PageSize - 1) &^ (mem.PageSize - 1)
	addr = addr.PageDown()
	if addr+mem.VirtAddr(size) < addr {
		return syscall.EINVAL
	}
	i := s.search(addr)
	for at := addr; at < addr+mem.VirtAddr(size); at += mem.PageSize {
		if i == len(s.pages) || s.pages[i].at != at {
			return syscall.ENOMEM
		}
		p := &s.pages[i]
		p.flags = p.flags&^(vma.Locked|vma.OnFault) | flags
		i++
	}
	if flags&vma.Locked == 0 {
		return nil
	}
	return s.populate(addr, addr+mem.VirtAddr(size), false)
}

// mremap moves pages one by one. area is that of a.Old, empty if it has none: how
// far areas reach is not the model's to know.
func (s *plain) mremap(a Remap, area mem.Range) (mem.VirtAddr, error) {
	up := func(n uint64) uint64 { return (n + mem.PageSize - 1) &^ (mem.PageSize - 1) }
	a.OldLen, a.NewLen = up(a.OldLen), up(a.NewLen)
	old, to := mem.VirtAddr(a.OldLen), mem.VirtAddr(a.NewLen)
	named := a.Fixed || a.DontUnmap
	switch {
	case a.Old%mem.PageSize != 0, a.NewLen == 0, to > plainEnd:
		return 0, syscall.EINVAL
	case named && (a.New%mem.PageSize != 0 || a.New > plainEnd-to || !a.MayMove || a.DontUnmap && old != to ||
		a.Old < a.New+to && a.New < a.Old+old):
		return 0, syscall.EINVAL
	case named && a.Fixed && old == to:
		return s.moveFixed(a)
	}
	first, ok := s.page(a.Old)
	if !ok {
		return 0, syscall.EFAULT
	}
	locks := first.flags & (vma.Locked | vma.OnFault)
	if named || to > old {
		switch {
		case old == 0 && !first.shared:
			return 0, syscall.EINVAL
		case min(old, to) > area.End-a.Old:
			return 0, syscall.EFAULT
		}
	}
	if a.Fixed {
		s.remove(a.New, a.New+to)
		if _, ok := s.page(a.Old); !ok { // with an old length of 0 it may lie there
			return 0, syscall.EFAULT
		}
	}
	if to < old {
		if a.Old+old > plainEnd || a.Old+old < a.Old {
			return 0, syscall.EINVAL
		}
		s.remove(a.Old+to, a.Old+old)
		old = to
	}
	at := a.Old
	switch {
	case a.Fixed:
		at = a.New
	case a.DontUnmap, to > old:
		grows := !a.DontUnmap && old == area.End-a.Old && (!a.MayMove || a.At == 0 || a.At == a.Old) &&
			a.Old+to <= plainEnd && !s.mapped(area.End, a.Old+to)
		hint := a.At
		if a.DontUnmap && hint == 0 {
			hint = a.New
		}
		switch {
		case grows:
		case !a.MayMove:
			return 0, syscall.ENOMEM
		default:
			if at, ok = s.place(hint, uint64(to/mem.PageSize)); !ok {
				return 0, syscall.ENOMEM
			}
		}
	}
	if at == a.Old && to == old {
		return at, nil
	}
	s.transfer(a.Old, old, at, to, a.DontUnmap)
	if a.DontUnmap {
		for i := s.search(area.Start); i < s.search(area.End); i++ {
			s.pages[i].flags &^= vma.Locked | vma.OnFault
		}
		for i := s.search(at); i < s.search(at+to); i++ { // if both are one area
			s.pages[i].flags |= locks
		}
	}
	return at, nil
}

// transfer makes to bytes at at of the old bytes at from.
func (s *plain) transfer(from, old, at, to mem.VirtAddr, keep bool) {
	first, _ := s.page(from)
	base := *first
	var moved []plainPage
	for off := mem.VirtAddr(0); off < to; off += mem.PageSize {
		p := base.next(int(off / mem.PageSize))
		if off < old {
			q, _ := s.page(from + off)
			p = *q
		}
		p.at = at + off
		if at != from {
			p.moved()
		}
		moved = append(moved, p)
	}
	if !keep {
		s.remove(from, from+old)
	} else {
		for i := s.search(from); i < s.search(from+old); i++ {
			s.pages[i].own = nil
		}
	}
	s.add(moved)
	if base.flags&vma.Locked != 0 && old < to {
		_ = s.populate(at+old, at+to, true)
	}
}

// moved changes what a page is where it lies no more where exec put it.
func (p *plainPage) moved() {
	if p.what == plainStack {
		p.what = plainGrows
		p.flags |= vma.GrowsDown
	}
}

// moveFixed moves all that is mapped, with its gaps.
func (s *plain) moveFixed(a Remap) (mem.VirtAddr, error) {
	n := mem.VirtAddr(a.NewLen)
	if _, ok := s.page(a.Old); !ok || a.Old+n < a.Old {
		return 0, syscall.EFAULT
	}
	for at := a.Old; at < a.Old+n; at += mem.PageSize {
		if _, ok := s.page(at); ok {
			to := a.New + (at - a.Old)
			s.remove(to, to+mem.PageSize)
			s.transfer(at, mem.PageSize, to, mem.PageSize, a.DontUnmap)
		}
	}
	return a.New, nil
}
