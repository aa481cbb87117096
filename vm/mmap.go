package vm

import (
	"syscall"

	"vmsim/mem"
	"vmsim/pagecache"
	"vmsim/vma"
)

// Mapping is the arguments of mmap.
type Mapping struct {
	Addr      mem.VirtAddr // a hint, or the address with Fixed
	Len       uint64       // bytes; rounded up to pages
	Prot      mem.Prot
	Shared    bool     // MAP_SHARED, else MAP_PRIVATE
	Fixed     bool     // MAP_FIXED: what is there is unmapped
	NoReplace bool     // with Fixed: MAP_FIXED_NOREPLACE, fail with EEXIST instead
	File      mem.File // nil: MAP_ANONYMOUS. Files are open for reading alone.
	Offset    int64    // in File
}

// Mmap maps memory and returns its address.
//
// Errors are syscall.Errno, as mmap(2) has them: EINVAL (empty, unaligned),
// ENOMEM (no room, too many areas, more than 8 TiB of shared memory), EEXIST
// (NoReplace), EACCES (a shared writable mapping of a file that is open for
// reading), EOVERFLOW. A process that ended gives ESRCH, here and below.
//
// Compare Linux mm/mmap.c:do_mmap.
func (p *Process) Mmap(a Mapping) (mem.VirtAddr, error) {
	if p.ended {
		return 0, syscall.ESRCH
	}
	if a.Len == 0 || a.Offset%mem.PageSize != 0 {
		return 0, syscall.EINVAL
	}
	size := (a.Len + mem.PageSize - 1) &^ (mem.PageSize - 1)
	if size < a.Len || size > uint64(mem.UserEnd) {
		return 0, syscall.ENOMEM
	}
	if a.File != nil && (a.Offset < 0 || a.Offset+int64(size) < a.Offset) {
		return 0, syscall.EOVERFLOW
	}
	at, err := p.placeMapping(a, size)
	if err != nil {
		return 0, err
	}
	if a.File != nil && a.Shared && a.Prot&mem.ProtWrite != 0 {
		return 0, syscall.EACCES
	}
	if a.File == nil && a.Shared && size > uint64(pagecache.MaxIndex)*mem.PageSize {
		return 0, syscall.ENOMEM // its pages could not all be found again
	}
	if p.areas.Len() >= MaxAreas {
		return 0, syscall.ENOMEM
	}
	r := mem.Range{Start: at, End: at + mem.VirtAddr(size)}
	if err := p.unmap(r); err != nil {
		return 0, err
	}
	mustInsert(p.areas, p.mappingArea(a, r))
	p.m.settle()
	return at, nil
}

// placeMapping picks the address: the fixed one, the hint where it is free, or
// the highest gap below MmapBase.
func (p *Process) placeMapping(a Mapping, size uint64) (mem.VirtAddr, error) {
	end, ok := a.Addr.Add(size)
	fits := ok && end <= mem.UserEnd
	if a.Fixed {
		switch {
		case !fits:
			return 0, syscall.ENOMEM
		case a.Addr.PageOffset() != 0:
			return 0, syscall.EINVAL
		case a.NoReplace && p.areas.Mapped(mem.Range{Start: a.Addr, End: end}):
			return 0, syscall.EEXIST
		}
		return a.Addr, nil
	}
	if hint := a.Addr.PageDown(); hint >= MmapMin && fits {
		if !p.areas.Mapped(mem.Range{Start: hint, End: hint + mem.VirtAddr(size)}) {
			return hint, nil
		}
	}
	at, ok := p.areas.GapBelow(size, MmapMin, MmapBase, 0)
	if !ok {
		return 0, syscall.ENOMEM
	}
	return at, nil
}

func (p *Process) mappingArea(a Mapping, r mem.Range) vma.VMA {
	v := vma.VMA{Range: r, Prot: a.Prot.Effective(), Kind: vma.Anon, Shared: a.Shared}
	switch {
	case a.File != nil:
		v.Kind, v.File, v.FileNo = vma.File, a.File, p.m.cache.Open(a.File)
		v.Offset, v.FileEnd = a.Offset, r.End
	case a.Shared:
		// Memory that processes find by object and offset, as tmpfs would
		// back it; it has no bytes of its own.
		v.File = mem.NewBytesFile("/dev/zero (deleted)", nil)
		v.FileNo = p.m.cache.OpenAnonymous(v.File)
		v.FileEnd = r.Start
		p.sharedAnon = true
	}
	return v
}

// Munmap unmaps the pages of [addr, addr+n). Holes are fine.
//
// Errors: EINVAL (unaligned, empty, beyond user space), ENOMEM.
//
// Compare Linux mm/vma.c:do_vmi_munmap.
func (p *Process) Munmap(addr mem.VirtAddr, n uint64) error {
	if p.ended {
		return syscall.ESRCH
	}
	r, err := pageRange(addr, n)
	if err != nil {
		return err
	}
	if r.Empty() {
		return syscall.EINVAL
	}
	if err := p.unmap(r); err != nil {
		return err
	}
	p.m.settle()
	return nil
}

// unmap takes areas and entries of r away. Huge pages that r cuts are split.
// On ENOMEM all of r is still mapped.
func (p *Process) unmap(r mem.Range) error {
	if !p.areas.Mapped(r) {
		return nil
	}
	if v, ok := p.areas.Find(r.Start); ok && v.Start < r.Start && r.End < v.End && p.areas.Len() >= MaxAreas {
		return syscall.ENOMEM // a hole in one area makes two
	}
	err := p.cut(r, "munmap")
	if err == nil {
		err = p.m.tables.Clear(&p.root, r)
	}
	p.flushTLB()
	if err != nil {
		return syscall.ENOMEM
	}
	shared := false
	for v := range p.areas.Overlapping(r) {
		shared = shared || v.Shared && v.Kind == vma.Anon
	}
	p.areas.Remove(r)
	if shared {
		p.m.reapAnonymous()
	}
	return nil
}

// cut splits the huge entries that the bounds of r cross.
func (p *Process) cut(r mem.Range, reason string) error {
	if err := p.splitAt(r.Start, reason); err != nil {
		return err
	}
	return p.splitAt(r.End, reason)
}

// Mprotect changes the permission of the pages of [addr, addr+n).
//
// Errors: EINVAL (unaligned), ENOMEM (a hole, or the end of user space: what
// lies before it is changed), EACCES (writing to a shared mapping of a file that
// is open for reading).
//
// Compare Linux mm/mprotect.c:do_mprotect_pkey.
func (p *Process) Mprotect(addr mem.VirtAddr, n uint64, prot mem.Prot) error {
	if p.ended {
		return syscall.ESRCH
	}
	if addr.PageOffset() != 0 {
		return syscall.EINVAL
	}
	end, ok := addr.Add(n)
	if ok {
		end, ok = end.PageUp()
	}
	if !ok {
		return syscall.ENOMEM
	}
	defer p.m.settle()
	prot = prot.Effective()
	r := mem.Range{Start: addr, End: end}
	at := r.Start
	for at < r.End {
		v, ok := p.areas.Find(at)
		if !ok {
			return syscall.ENOMEM
		}
		if v.Shared && v.Kind == vma.File && prot&mem.ProtWrite != 0 {
			return syscall.EACCES
		}
		end := min(v.End, r.End)
		// A page that several areas share changes as a whole: go on to the
		// first page boundary that is an area's too.
		for end < r.End && end.PageOffset() != 0 {
			if v, ok = p.areas.Find(end); !ok {
				break
			}
			end = min(v.End, r.End)
		}
		if err := p.protect(mem.Range{Start: at, End: end}, prot); err != nil {
			return err
		}
		at = end
	}
	return nil
}

func (p *Process) protect(r mem.Range, prot mem.Prot) error {
	if p.areas.Len()+p.splits(r) > MaxAreas {
		return syscall.ENOMEM
	}
	if err := p.cut(r, "mprotect"); err != nil {
		return syscall.ENOMEM
	}
	err := p.m.tables.Update(&p.root, r, prot)
	p.flushTLB()
	if err != nil {
		return syscall.ENOMEM
	}
	p.areas.Protect(r, prot)
	return nil
}

// splits returns how many areas the bounds of r cut in two.
func (p *Process) splits(r mem.Range) int {
	n := 0
	for _, at := range []mem.VirtAddr{r.Start, r.End} {
		if v, ok := p.areas.Find(at); ok && v.Start < at {
			n++
		}
	}
	return n
}

// Brk moves the end of the heap to addr and returns where it is: addr, or
// where it was if addr is below the heap's start or something is in the way
// (a bug of the Kevlar kernel: growing over another mapping). A process that
// never exec'ed has no heap; it is at 0.
//
// Compare Linux mm/mmap.c:brk.
func (p *Process) Brk(addr mem.VirtAddr) mem.VirtAddr {
	if p.ended || p.brkStart == 0 || addr < p.brkStart || addr >= StackTop {
		return p.brk
	}
	old, _ := p.brk.PageUp()
	end, _ := addr.PageUp()
	switch {
	case end > old:
		grown := mem.Range{Start: old, End: end}
		if p.areas.Mapped(grown) {
			return p.brk
		}
		mustInsert(p.areas, vma.VMA{Range: grown, Prot: mem.ProtRead | mem.ProtWrite, Kind: vma.Heap})
	case end < old:
		if p.unmap(mem.Range{Start: end, End: old}) != nil {
			return p.brk
		}
	}
	p.brk = addr
	p.m.settle()
	return p.brk
}

// pageRange checks the range of munmap: aligned, in user space.
func pageRange(addr mem.VirtAddr, n uint64) (mem.Range, error) {
	end, ok := addr.Add(n)
	if ok {
		end, ok = end.PageUp()
	}
	if addr.PageOffset() != 0 || !ok || end > mem.UserEnd {
		return mem.Range{}, syscall.EINVAL
	}
	return mem.Range{Start: addr, End: end}, nil
}

// reapAnonymous frees shared anonymous memory that no process maps any more.
func (m *Machine) reapAnonymous() {
	used := map[uint32]bool{}
	for _, p := range m.procs {
		if !p.sharedAnon {
			continue
		}
		for v := range p.areas.All() {
			if v.Kind == vma.Anon && v.Backed() {
				used[v.FileNo] = true
			}
		}
	}
	m.cache.DropAnonymous(func(no uint32) bool { return !used[no] })
}
