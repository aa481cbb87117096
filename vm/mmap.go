package vm

import (
	"maps"
	"slices"
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
	File      mem.File // nil: MAP_ANONYMOUS, or Object. Files are open for reading alone.
	Offset    int64    // in File or Object

	// Object is the shared object to map; with Shared and no File, nil makes a
	// new one.
	Object *SharedObject
	// SharedWrite says that File is open for writing too. What is written to it
	// through a Shared mapping is seen by every mapping of the file that has not
	// copied the page, and never written to the host's file: see Machine.Dirty and
	// Machine.OpenForWriting.
	SharedWrite bool
	GrowsDown   bool // MAP_GROWSDOWN, of private anonymous memory
	Populate    bool // MAP_POPULATE: fault all pages in; errors of that are ignored
	Locked      bool // MAP_LOCKED: populate, and as mlock
}

// Mmap maps memory and returns its address.
//
// Errors are syscall.Errno, as mmap(2) has them: EINVAL (empty, unaligned,
// GrowsDown of what is shared or of a file), ENOMEM (no room, too many areas,
// more than 8 TiB of shared memory), EEXIST (NoReplace), EACCES (a shared writable
// mapping of a file that is open for reading), EOVERFLOW, EBADF (an object that is
// gone, or of another machine). A process that ended gives ESRCH, here and below.
// Populating may end p: *OOMKill.
//
// Compare Linux mm/mmap.c:do_mmap.
func (p *Process) Mmap(a Mapping) (mem.VirtAddr, error) {
	if p.ended {
		return 0, syscall.ESRCH
	}
	size, err := p.checkMapping(a)
	if err != nil {
		return 0, err
	}
	at, err := p.placeMapping(a, size)
	if err != nil {
		return 0, err
	}
	if a.File != nil && a.Shared && a.Prot&mem.ProtWrite != 0 && !a.SharedWrite {
		return 0, syscall.EACCES
	}
	pages := a.Shared && (a.File == nil || a.SharedWrite) || a.Object != nil
	if pages && (uint64(a.Offset)+size)/mem.PageSize > uint64(pagecache.MaxIndex) {
		return 0, syscall.ENOMEM // they could not all be found again
	}
	if p.areas.Len() >= p.m.cfg.MaxAreas {
		return 0, syscall.ENOMEM
	}
	if o := a.Object; o != nil && !o.held {
		// What is unmapped may be its last mapping.
		o.held = true
		defer func() { o.held = false; p.m.reap(o) }()
	}
	r := mem.Range{Start: at, End: at + mem.VirtAddr(size)}
	if err := p.unmap(r); err != nil {
		return 0, err
	}
	v := p.mappingArea(a, r)
	mustInsert(p.areas, v)
	if a.Populate || v.Flags&vma.Locked != 0 {
		err = fatal(p.populate(r, true))
	}
	p.m.settle()
	return at, err
}

// checkMapping returns the size in bytes, of whole pages.
func (p *Process) checkMapping(a Mapping) (uint64, error) {
	if a.Len == 0 || a.Offset%mem.PageSize != 0 {
		return 0, syscall.EINVAL
	}
	size := (a.Len + mem.PageSize - 1) &^ (mem.PageSize - 1)
	if size < a.Len || size > uint64(mem.UserEnd) {
		return 0, syscall.ENOMEM
	}
	if (a.File != nil || a.Object != nil) && (a.Offset < 0 || a.Offset+int64(size) < a.Offset) {
		return 0, syscall.EOVERFLOW
	}
	switch {
	case a.GrowsDown && (a.Shared || a.File != nil || a.Object != nil), a.File != nil && a.Object != nil:
		return 0, syscall.EINVAL
	case a.Object != nil && (a.Object.m != p.m || !a.Object.alive()):
		return 0, syscall.EBADF
	}
	return size, nil
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
	v := vma.VMA{Range: r, Prot: a.Prot.Effective(), Kind: vma.Anon, Shared: a.Shared, Flags: p.locking}
	if a.Locked {
		v.Flags |= vma.Locked
	}
	if a.GrowsDown {
		v.Flags |= vma.GrowsDown
	}
	if v.Flags&vma.Locked != 0 {
		p.flagged = true
	}
	switch {
	case a.File != nil:
		v.Kind, v.File, v.FileNo = vma.File, a.File, p.m.cache.Open(a.File)
		v.Offset, v.FileEnd = a.Offset, r.End
		if a.Shared && a.SharedWrite {
			v.Flags |= vma.MayWrite
			p.m.openForWriting(v.FileNo)
		}
	case a.Object != nil || a.Shared:
		o := a.Object
		if o == nil {
			o = p.m.newObject("/dev/zero (deleted)", r.Len())
		} else {
			v.Offset = a.Offset
		}
		// No byte of it is a file's.
		v.File, v.FileNo, v.FileEnd = o.file, o.no, r.Start
		p.m.addShared(p.mm, o.no, int(r.Len()/mem.PageSize))
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
	if v, ok := p.areas.Find(r.Start); ok && v.Start < r.Start && r.End < v.End && p.areas.Len() >= p.m.cfg.MaxAreas {
		return syscall.ENOMEM // a hole in one area makes two
	}
	if p.zap(r, "munmap") != nil {
		return syscall.ENOMEM
	}
	p.removeAreas(r)
	return nil
}

// removeAreas takes the areas of r away, whose entries are gone.
func (p *Process) removeAreas(r mem.Range) {
	if len(p.shared) == 0 {
		p.areas.Remove(r)
		return
	}
	gone := map[uint32]int{}
	for v := range p.areas.Overlapping(r) {
		if v.OfObject() {
			gone[v.FileNo] += int(v.Intersect(r).Len() / mem.PageSize)
		}
	}
	p.areas.Remove(r)
	for _, no := range slices.Sorted(maps.Keys(gone)) {
		p.m.dropShared(p.mm, no, gone[no])
	}
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
// is open for reading). Locked memory that becomes writable is populated, which may
// end p: *OOMKill.
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
		if v.Shared && v.Kind == vma.File && v.Flags&vma.MayWrite == 0 && prot&mem.ProtWrite != 0 {
			return syscall.EACCES
		}
		// Private locked memory that becomes writable is copied at once (Linux:
		// mprotect_fixup).
		populate := v.Flags&vma.Locked != 0 && !v.Shared && v.Prot&mem.ProtWrite == 0 && prot&mem.ProtWrite != 0
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
		if populate {
			if err := fatal(p.populate(mem.Range{Start: at, End: end}, true)); err != nil {
				return err
			}
		}
		at = end
	}
	return nil
}

func (p *Process) protect(r mem.Range, prot mem.Prot) error {
	if p.areas.Len()+p.splits(r) > p.m.cfg.MaxAreas {
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

// StartHeap makes the heap start at at: what exec was not told (Placement.Brk).
// It does nothing once the heap has grown, and for an address that is no user's.
func (p *Process) StartHeap(at mem.VirtAddr) {
	if !p.ended && p.brk == p.brkStart && at < mem.UserEnd {
		p.brkStart, p.brk = at, at
	}
}

// Brk moves the end of the heap to addr and returns where it is: addr, or
// where it was if addr is below the heap's start or something is in the way
// (a bug of the Kevlar kernel: growing over another mapping). A process that
// never exec'ed has no heap; it is at 0.
//
// Compare Linux mm/mmap.c:brk.
func (p *Process) Brk(addr mem.VirtAddr) mem.VirtAddr {
	if p.ended || p.brkStart == 0 || addr < p.brkStart || addr >= mem.UserEnd {
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
		mustInsert(p.areas, vma.VMA{Range: grown, Prot: mem.ProtRead | mem.ProtWrite, Kind: vma.Heap, Flags: p.locking})
		p.flagged = p.flagged || p.locking != 0
		if p.locking != 0 && fatal(p.populate(grown, true)) != nil {
			return 0 // p was killed
		}
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
