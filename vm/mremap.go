package vm

import (
	"syscall"

	"vmsim/mem"
	"vmsim/pagecache"
	"vmsim/vma"
)

// Remap is the arguments of mremap.
type Remap struct {
	Old            mem.VirtAddr // page aligned
	OldLen, NewLen uint64       // bytes; rounded up to pages. OldLen 0 maps shared pages a second time.
	MayMove        bool         // MREMAP_MAYMOVE
	Fixed          bool         // MREMAP_FIXED: to New, what is there is unmapped
	DontUnmap      bool         // MREMAP_DONTUNMAP: the old area stays, empty
	New            mem.VirtAddr // with Fixed; with DontUnmap alone a hint

	// At is where the result is known to lie, as from a trace; 0: not known.
	// With MayMove and without Fixed the memory moves there if that is another
	// place than Old and free, even if it could have stayed.
	At mem.VirtAddr
}

// Mremap moves or resizes a mapping and returns its new address. Page-table
// entries move with it, so that nothing is faulted in anew and what was written
// stays; a huge page that the move or its ends cut is split.
//
// Errors: EINVAL (unaligned, no new length, flags that exclude each other, an old
// range that overlaps the new, OldLen 0 of private memory), EFAULT (a hole; where
// it grows, or moves other than with Fixed and the same length, more than one
// area; pages that several areas share), ENOMEM (no room, too many areas).
// Growing a locked area populates it, which may end p: *OOMKill.
//
// Compare Linux mm/mremap.c:do_mremap, as of 6.17.
func (p *Process) Mremap(a Remap) (mem.VirtAddr, error) {
	if p.ended {
		return 0, syscall.ESRCH
	}
	a, err := p.checkRemap(a)
	if err != nil {
		return 0, err
	}
	defer p.m.settle()
	if a.Fixed && a.OldLen == a.NewLen {
		return p.moveAreas(a)
	}
	v, err := p.remapArea(a)
	if err != nil {
		return 0, err
	}
	if a.Fixed || a.DontUnmap {
		return p.remapTo(a)
	}
	switch {
	case a.OldLen == a.NewLen:
		return a.Old, nil
	case a.NewLen < a.OldLen:
		return p.shrink(a)
	}
	return p.grow(a, &v)
}

// checkRemap returns a with whole pages, if it can be asked for at all.
func (p *Process) checkRemap(a Remap) (Remap, error) {
	const mask = mem.PageSize - 1
	a.OldLen, a.NewLen = (a.OldLen+mask)&^mask, (a.NewLen+mask)&^mask
	if a.Old.PageOffset() != 0 || a.NewLen == 0 || a.NewLen > uint64(mem.UserEnd) {
		return a, syscall.EINVAL
	}
	if a.Fixed || a.DontUnmap {
		switch {
		case a.New > mem.UserEnd-mem.VirtAddr(a.NewLen), a.New.PageOffset() != 0, !a.MayMove,
			a.DontUnmap && a.OldLen != a.NewLen,
			// Sums that wrap are compared as the kernel does.
			a.Old < a.New+mem.VirtAddr(a.NewLen) && a.New < a.Old+mem.VirtAddr(a.OldLen):
			return a, syscall.EINVAL
		case p.areas.Len()+2 >= p.m.cfg.MaxAreas-3: // a move may split twice and map once
			return a, syscall.ENOMEM
		}
	}
	return a, nil
}

// remapArea returns the area at a.Old, if it can be remapped so.
//
// Compare Linux mm/mremap.c:check_prep_vma.
func (p *Process) remapArea(a Remap) (vma.VMA, error) {
	v, ok := p.areas.Find(a.Old)
	if !ok {
		return v, syscall.EFAULT
	}
	if !a.Fixed && !a.DontUnmap && a.NewLen <= a.OldLen {
		return v, nil // stays, or shrinks
	}
	if a.OldLen == 0 && !v.Shared {
		return v, syscall.EINVAL
	}
	if min(a.OldLen, a.NewLen) > uint64(v.End-a.Old) || v.Start > a.Old || v.Overlap {
		return v, syscall.EFAULT
	}
	if a.NewLen > a.OldLen && v.Backed() {
		end := uint64(v.OffsetOf(a.Old)) + a.NewLen
		if end > 1<<63-1 || (v.OfObject() || v.Flags&vma.MayWrite != 0) && end/mem.PageSize > uint64(pagecache.MaxIndex) {
			return v, syscall.EINVAL
		}
	}
	return v, nil
}

// moveAreas moves all areas of a range to a fixed address, with the gaps between
// them.
//
// Compare Linux mm/mremap.c:remap_move.
func (p *Process) moveAreas(a Remap) (mem.VirtAddr, error) {
	from := mem.Range{Start: a.Old, End: a.Old + mem.VirtAddr(a.OldLen)}
	if from.End < from.Start {
		return 0, syscall.EFAULT
	}
	done := false
	for at := from.Start; at < from.End; {
		v, ok := p.areas.FindAbove(at)
		if !ok || v.Start >= from.End {
			break
		}
		if !done && v.Start > from.Start {
			return 0, syscall.EFAULT
		}
		part := v.Intersect(mem.Range{Start: at, End: from.End})
		b := a
		b.Old, b.New = part.Start, a.New+(part.Start-a.Old)
		b.OldLen, b.NewLen = part.Len(), part.Len()
		if part.Start.PageOffset() != 0 || part.End.PageOffset() != 0 {
			return 0, syscall.EFAULT
		}
		if _, err := p.remapArea(b); err != nil {
			return 0, err
		}
		if _, err := p.remapTo(b); err != nil {
			return 0, err
		}
		done, at = true, part.End
	}
	if !done {
		return 0, syscall.EFAULT
	}
	return a.New, nil
}

// remapTo moves to a fixed address, or with DontUnmap alone to one that is free.
//
// Compare Linux mm/mremap.c:mremap_to.
func (p *Process) remapTo(a Remap) (mem.VirtAddr, error) {
	if a.Fixed {
		if err := p.unmap(mem.Range{Start: a.New, End: a.New + mem.VirtAddr(a.NewLen)}); err != nil {
			return 0, err
		}
		if a.NewLen < a.OldLen {
			if _, err := p.shrink(a); err != nil {
				return 0, err
			}
			a.OldLen = a.NewLen
		}
		return p.move(a, a.New)
	}
	hint := a.New
	if a.At != 0 {
		hint = a.At
	}
	to, err := p.placeMapping(Mapping{Addr: hint}, a.NewLen)
	if err != nil {
		return 0, err
	}
	return p.move(a, to)
}

// shrink unmaps what lies behind the new length, of however many areas.
func (p *Process) shrink(a Remap) (mem.VirtAddr, error) {
	r, err := pageRange(a.Old+mem.VirtAddr(a.NewLen), a.OldLen-a.NewLen)
	if err == nil {
		err = p.unmap(r)
	}
	if err != nil {
		return 0, err
	}
	return a.Old, nil
}

// grow makes the end of area v longer where it is, or moves it.
//
// Compare Linux mm/mremap.c:expand_vma.
func (p *Process) grow(a Remap, v *vma.VMA) (mem.VirtAddr, error) {
	end, ok := a.Old.Add(a.NewLen)
	more := mem.Range{Start: v.End, End: end}
	elsewhere := a.MayMove && a.At != 0 && a.At != a.Old
	if !elsewhere && a.OldLen == uint64(v.End-a.Old) && ok && end <= mem.UserEnd && !p.areas.Mapped(more) {
		added := p.extend(v, more)
		mustInsert(p.areas, added)
		return a.Old, p.populateGrown(&added, more)
	}
	if !a.MayMove {
		return 0, syscall.ENOMEM
	}
	to, err := p.placeMapping(Mapping{Addr: a.At}, a.NewLen)
	if err != nil {
		return 0, err
	}
	return p.move(a, to)
}

// extend returns the area for the addresses r behind v, which go on as v does.
func (p *Process) extend(v *vma.VMA, r mem.Range) vma.VMA {
	e := *v
	e.Range, e.FileEnd = r, r.Start
	if v.Backed() {
		e.Offset = v.OffsetOf(r.Start)
		if v.FileEnd == v.End && !v.OfObject() {
			e.FileEnd = r.End
		}
	}
	if v.OfObject() {
		p.m.addShared(p.mm, v.FileNo, int(r.Len()/mem.PageSize))
	}
	return e
}

// move moves [a.Old, a.Old+a.OldLen), which lies in one area, to a range of
// a.NewLen bytes that is free. An OldLen of 0 leaves it, and maps it a second time.
//
// Compare Linux mm/mremap.c:move_vma.
func (p *Process) move(a Remap, to mem.VirtAddr) (mem.VirtAddr, error) {
	v, ok := p.areas.Find(a.Old) // what was unmapped on the way may have cut it
	if !ok {
		return 0, syscall.EFAULT
	}
	if p.areas.Len() >= p.m.cfg.MaxAreas-3 {
		return 0, syscall.ENOMEM
	}
	from := mem.Range{Start: a.Old, End: a.Old + mem.VirtAddr(a.OldLen)}
	into := mem.Range{Start: to, End: to + mem.VirtAddr(a.NewLen)}
	if err := p.moveEntries(from, to); err != nil {
		return 0, syscall.ENOMEM
	}
	moved := p.movedArea(&v, a.Old, into)
	if v.OfObject() {
		p.m.addShared(p.mm, v.FileNo, int(a.NewLen/mem.PageSize))
	}
	switch {
	case from.Empty():
	case a.DontUnmap:
		// All of the old area, moved or not: dontunmap_complete.
		p.areas.Update(v.Range, func(w *vma.VMA) { w.Flags &^= vma.Locked | vma.OnFault })
	default:
		p.removeAreas(from)
	}
	mustInsert(p.areas, moved)
	if a.NewLen == a.OldLen {
		return to, nil
	}
	return to, p.populateGrown(&moved, mem.Range{Start: to + mem.VirtAddr(a.OldLen), End: into.End})
}

// movedArea is v from old on, as it lies at into: the pages are the same, and what
// is longer than v goes on as it did. It is no segment of a program any more.
func (p *Process) movedArea(v *vma.VMA, old mem.VirtAddr, into mem.Range) vma.VMA {
	w := *v
	w.Range, w.Segment = into, 0
	switch v.Kind {
	case vma.Stack:
		w.Kind, w.Flags = vma.Anon, v.Flags|vma.GrowsDown
	case vma.Heap, vma.Filler:
		w.Kind = vma.Anon
	}
	if !v.Backed() {
		w.FileEnd = 0
		return w
	}
	w.Offset, w.FileEnd = v.OffsetOf(old), into.Start
	switch {
	case v.Kind == vma.File && v.FileEnd == v.End:
		w.FileEnd = into.End
	case v.Kind == vma.File && v.FileEnd > old:
		w.FileEnd = min(into.End, into.Start+(v.FileEnd-old))
	}
	return w
}

// moveEntries moves the page-table entries of from, and splits the huge ones that
// cannot be moved whole.
func (p *Process) moveEntries(from mem.Range, to mem.VirtAddr) error {
	if from.Empty() {
		return nil
	}
	err := p.cut(from, "mremap")
	if err == nil && (to-from.Start)%mem.HugeSize != 0 {
		var huge []mem.VirtAddr
		for e := range p.m.tables.Entries(p.root, from) {
			if e.Entry.IsHuge() {
				huge = append(huge, e.Addr)
			}
		}
		for i := 0; err == nil && i < len(huge); i++ {
			err = p.split(huge[i], "mremap")
		}
	}
	if err == nil {
		err = p.m.tables.Move(&p.root, from, to)
	}
	p.flushTLB()
	return err
}

// populateGrown populates the new pages r of an area that is locked.
func (p *Process) populateGrown(v *vma.VMA, r mem.Range) error {
	if v.Flags&vma.Locked == 0 {
		return nil
	}
	return fatal(p.populate(r, true))
}
