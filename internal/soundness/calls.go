package soundness

import (
	"syscall"

	"vmsim/mem"
	"vmsim/trace"
)

// pagesOf returns [addr, addr+n) in whole pages. It is false where the kernel
// would refuse the range: not aligned, or beyond user space.
func pagesOf(addr mem.VirtAddr, n uint64) (mem.Range, bool) {
	end, ok := addr.Add(n)
	if !ok || addr.PageOffset() != 0 {
		return mem.Range{}, false
	}
	end, ok = end.PageUp()
	return mem.Range{Start: addr, End: end}, ok && end <= mem.UserEnd
}

// errno is what the call of op came to; calls without an answer are taken as done.
func errno(op *trace.Op) syscall.Errno {
	if op.Want == nil {
		return 0
	}
	return op.Want.Errno
}

// call does a memory call to s. What it did in spite of an error counts too.
func (c *Checker) call(s *space, op *trace.Op) {
	r, ok := pagesOf(op.Addr, op.Len)
	failed := errno(op)
	switch op.Kind {
	case trace.OpMmap, trace.OpShmat:
		if failed == 0 {
			c.mmap(s, op)
		}
	case trace.OpMunmap:
		if failed == 0 && ok {
			s.remove(r)
		}
	case trace.OpMprotect:
		if ok {
			s.mprotect(r, op.Prot, failed)
		}
	case trace.OpMremap:
		if failed == 0 {
			c.mremap(s, op)
		} else {
			c.mremapFailed(s, op, failed)
		}
	case trace.OpMadvise:
		if ok {
			c.madvise(s, r, op.Advice, failed)
		}
	case trace.OpMlock, trace.OpMunlock:
		off := op.Addr.PageOffset() // these two round down
		if r, ok = pagesOf(op.Addr.PageDown(), op.Len+uint64(off)); ok {
			s.mlock(r, op, failed)
		}
	case trace.OpMlockall, trace.OpMunlockall:
		if failed == 0 {
			s.mlockall(op)
		}
	case trace.OpShmdt:
		if failed == 0 {
			s.shmdt(op.Addr)
		}
	case trace.OpBrk:
		c.brk(s, op)
	}
}

// mmap also is shmat: a mapping where the answer says.
func (c *Checker) mmap(s *space, op *trace.Op) {
	at := op.Addr
	if op.Want != nil {
		at = op.Want.Addr
	} else if op.Flags&(trace.MapFixed|trace.MapNoReplace) == 0 {
		c.problem(op, "%v: where it came to lie is not recorded", op.Kind)
		return
	}
	r, ok := pagesOf(at, op.Len)
	if !ok || r.Empty() {
		c.problem(op, "%v: the result %v of 0x%x bytes is no place in user space", op.Kind, at, op.Len)
		return
	}
	fixed := op.Flags&trace.MapFixed != 0 && op.Flags&trace.MapNoReplace == 0
	if fixed && at != op.Addr {
		c.problem(op, "mmap: the result %v is not the fixed address %v", at, op.Addr)
	}
	if !fixed && op.Kind == trace.OpMmap {
		c.mustBeFree(s, op, r)
	}
	populate := op.Flags&(trace.MapPopulate|trace.MapNonBlock) == trace.MapPopulate
	s.add(r, c.areaOf(op, at), op.Flags&trace.MapLocked != 0, populate)
}

// mustBeFree complains if something is mapped in r.
func (c *Checker) mustBeFree(s *space, op *trace.Op, r mem.Range) {
	if !s.known {
		return
	}
	s.areas.each(r, func(a span[area]) bool {
		c.problem(op, "%v: the result %v lies on %v %s", op.Kind, r, a.Range, a.v.describe(a.Start))
		return false
	})
}

// mprotect changes the areas up to the first that it cannot (mm/mprotect.c:
// do_mprotect_pkey): a hole is ENOMEM, a shared file that was opened for reading
// EACCES.
func (s *space) mprotect(r mem.Range, prot mem.Prot, failed syscall.Errno) {
	if failed != 0 && failed != syscall.ENOMEM && failed != syscall.EACCES {
		return
	}
	next := r.Start
	for _, a := range s.areas.in(r) {
		refused := failed == syscall.EACCES && a.v.shared && prot&^a.v.prot != 0
		if a.Start != next || refused {
			return
		}
		next = a.End
		old := a.v
		a.v.prot = prot
		s.areas.set(a.Range, a.v)
		// mprotect_fixup: a locked private area that becomes writable is copied at once.
		if old.flags&areaLocked != 0 && !old.shared && old.prot&mem.ProtWrite == 0 && prot&mem.ProtWrite != 0 {
			s.faultIn(a, true, true)
		}
	}
}

// mremap moves, grows or shrinks (mm/mremap.c).
func (c *Checker) mremap(s *space, op *trace.Op) {
	to := op.Addr
	if op.Want != nil {
		to = op.Want.Addr
	}
	old, ok := pagesOf(op.Addr, op.Len)
	now, ok2 := pagesOf(to, op.NewLen)
	if !ok || !ok2 || now.Empty() {
		c.problem(op, "mremap: %v to %v is no place in user space", old, now)
		return
	}
	first, mapped := s.areas.at(op.Addr)
	if !mapped {
		if s.known {
			c.problem(op, "mremap: nothing is mapped at %v", op.Addr)
		}
		return
	}
	if to == op.Addr && op.Len != 0 && op.Remap&(trace.RemapFixed|trace.RemapDontUnmap) == 0 {
		s.resize(c, op, old, now)
		return
	}
	if op.Remap&trace.RemapFixed == 0 {
		c.mustBeFree(s, op, now)
	}
	// What moves: pages and areas of as much as there is room for.
	from := old
	from.End = min(old.End, old.Start+mem.VirtAddr(now.Len()))
	areas, pages := s.areas.in(from), s.pages.in(from)
	shift := now.Start - old.Start // modulo 2^64
	if old.Len() == now.Len() {    // mm/mremap.c:remap_move: area by area; holes change nothing
		for _, a := range areas {
			s.remove(mem.Range{Start: a.Start + shift, End: a.End + shift})
		}
	} else {
		s.remove(now)
	}
	if op.Remap&trace.RemapDontUnmap != 0 {
		s.pages.clear(from)
		for _, a := range areas { // dontunmap_complete unlocks the area as a whole, beyond what was moved
			if all, ok := s.areas.at(a.Start); ok {
				all.v.flags &^= areaLocked | areaOnFault
				s.areas.set(merged(all, a.Range), all.v)
			}
		}
	} else if op.Len != 0 {
		s.remove(old)
	}
	for _, a := range areas {
		s.areas.set(mem.Range{Start: a.Start + shift, End: a.End + shift}, a.v.moved(a.Start, a.Start+shift))
	}
	for _, p := range pages {
		s.pages.set(mem.Range{Start: p.Start + shift, End: p.End + shift}, p.v)
	}
	if op.Len == 0 { // a second mapping of the same, shared memory
		s.areas.set(now, first.v.moved(old.Start, now.Start))
	} else if now.Len() > old.Len() {
		last, _ := s.areas.at(now.Start + mem.VirtAddr(old.Len()) - 1)
		s.grow(mem.Range{Start: now.Start + mem.VirtAddr(old.Len()), End: now.End}, last.v)
	}
	if v, ok := s.areas.at(now.Start); ok && op.Len == 0 && v.v.flags&areaLocked != 0 {
		s.populate(now, true)
	}
}

// mremapFailed does what a failed mremap did all the same (mm/mremap.c).
//
// A move of several areas ends at the first that may not be moved with others, System
// V shared memory (remap_move, vma_multi_allowed): those before it have moved.
// MREMAP_FIXED takes away what is at the destination before it looks at the area
// again, which was there where an old length of 0 let the two overlap (mremap_to).
func (c *Checker) mremapFailed(s *space, op *trace.Op, failed syscall.Errno) {
	old, ok := pagesOf(op.Addr, op.Len)
	now, ok2 := pagesOf(op.To, op.NewLen)
	first, mapped := s.areas.at(op.Addr)
	if failed != syscall.EFAULT || op.Remap&trace.RemapFixed == 0 || !ok || !ok2 || !mapped {
		return
	}
	if op.Len == 0 && first.v.shared && now.Contains(op.Addr) {
		s.remove(now)
	}
	if old.Len() != now.Len() {
		return
	}
	for _, a := range s.areas.in(old) {
		if a.v.flags&areaShm == 0 && a.v.modelled() {
			continue
		}
		if n := uint64(a.Start - old.Start); n > 0 {
			part := *op
			part.Len, part.NewLen, part.Want = n, n, &trace.Answer{Addr: op.To}
			c.mremap(s, &part)
		}
		return
	}
}

// merged returns the pages of area a that are one VMA with r while a mremap of r is
// made. An area of a page cache is cut by who records: each odd page has another
// advice. For the call those of r lose theirs, and merge with the even ones on both
// sides.
func merged(a span[area], r mem.Range) mem.Range {
	if a.v.src.class != classFile {
		return a.Range
	}
	odd := func(at mem.VirtAddr) bool { return at/mem.PageSize%2 == 1 }
	if odd(r.Start) {
		r.Start -= mem.PageSize
	}
	if odd(r.End - mem.PageSize) {
		r.End += mem.PageSize
	}
	return r.Intersect(a.Range)
}

// resize is mremap that stays where it is.
func (s *space) resize(c *Checker, op *trace.Op, old, now mem.Range) {
	if now.End <= old.End {
		s.remove(mem.Range{Start: now.End, End: old.End})
		return
	}
	more := mem.Range{Start: old.End, End: now.End}
	c.mustBeFree(s, op, more)
	last, ok := s.areas.at(old.End - 1)
	if ok {
		s.grow(more, last.v)
	}
}

// grow adds r behind an area, and populates it where that is locked.
func (s *space) grow(r mem.Range, a area) {
	s.areas.set(r, a)
	if a.flags&areaLocked != 0 {
		s.populate(r, true)
	}
}

// mlock also is munlock and mlock2 (mm/mlock.c). The areas up to a hole are locked
// in spite of ENOMEM; pages come only where there is no hole.
func (s *space) mlock(r mem.Range, op *trace.Op, failed syscall.Errno) {
	if failed != 0 && failed != syscall.ENOMEM && failed != syscall.EAGAIN {
		return
	}
	var flags areaFlags
	if op.Kind == trace.OpMlock {
		if flags = areaLocked; op.Bits&1 != 0 { // MLOCK_ONFAULT
			flags |= areaOnFault
		}
	}
	hole, covered := s.areas.covered(r)
	if covered && failed != 0 && s.allThere(r) {
		return // RLIMIT_MEMLOCK: refused before anything was done
	}
	s.lock(mem.Range{Start: r.Start, End: max(hole, r.Start)}, flags)
	if covered && flags == areaLocked {
		s.populate(r, false)
	}
}

// allThere reports whether populate has no reason to fail in r.
func (s *space) allThere(r mem.Range) bool {
	there := true
	s.areas.each(r, func(a span[area]) bool {
		there = a.v.prot != mem.ProtNone && a.v.modelled() && a.v.fileEnd(a.Range) == a.End
		return there
	})
	s.pages.each(r, func(p span[page]) bool {
		there = there && p.v&pageGuard == 0
		return there
	})
	return there
}

// lock gives the areas of r their lock flags; special ones are left out
// (mm/mlock.c:mlock_fixup).
func (s *space) lock(r mem.Range, flags areaFlags) {
	s.forgets = s.forgets || flags != 0
	s.areas.update(r, func(a area) area {
		if a.modelled() {
			a.flags = a.flags&^(areaLocked|areaOnFault) | flags
		}
		return a
	})
}

// Flags of mlockall, include/uapi/asm-generic/mman.h.
const (
	mclCurrent = 1
	mclFuture  = 2
	mclOnFault = 4
)

func (s *space) mlockall(op *trace.Op) {
	var flags areaFlags
	if op.Kind == trace.OpMlockall {
		if flags = areaLocked; op.Bits&mclOnFault != 0 {
			flags |= areaOnFault
		}
	}
	s.future = 0
	if op.Bits&mclFuture != 0 {
		s.future = flags
	}
	if op.Kind == trace.OpMunlockall || op.Bits&mclCurrent != 0 {
		s.lock(whole, flags)
	}
	if flags != 0 && op.Bits&mclCurrent != 0 {
		s.populate(whole, true)
	}
}

// madvise does what changes pages or what is inherited (mm/madvise.c). ENOMEM
// tells of holes: the areas are served all the same. Another error ends it at the
// area that forbids it.
func (c *Checker) madvise(s *space, r mem.Range, advice trace.Advice, failed syscall.Errno) {
	switch advice {
	case trace.AdvicePopulateRead, trace.AdvicePopulateWrite:
		need := mem.ProtRead
		if advice == trace.AdvicePopulateWrite {
			need = mem.ProtWrite
		}
		s.advisePopulate(r, need)
		return
	}
	do, forbids := c.advice(s, advice, failed)
	if do == nil {
		return
	}
	for _, a := range s.areas.in(r) {
		if failed != 0 && failed != syscall.ENOMEM && forbids(a.v) {
			return
		}
		do(a)
	}
}

// advice returns what an advice does to an area, or nil if it does nothing that
// matters here, and which areas refuse it.
func (c *Checker) advice(s *space, advice trace.Advice, failed syscall.Errno) (do func(span[area]), forbids func(area) bool) {
	locked := func(a area) bool { return a.flags&areaLocked != 0 || !a.modelled() }
	flag := func(set, clear areaFlags) func(span[area]) {
		return func(a span[area]) {
			a.v.flags = a.v.flags&^clear | set
			s.forgets = s.forgets || set != 0
			s.areas.set(a.Range, a.v)
		}
	}
	special := func(a area) bool { return !a.modelled() }
	private := func(a area) bool { return a.src.class != classAnon }
	switch advice {
	case trace.AdviceDontNeed:
		return func(a span[area]) { s.drop(a.Range) }, locked
	case trace.AdviceDontNeedLock:
		return func(a span[area]) { s.drop(a.Range) }, special
	case trace.AdviceFree:
		return func(a span[area]) { s.mark(a.Range, pageFreed) }, func(a area) bool { return locked(a) || private(a) }
	case 21: // MADV_PAGEOUT
		return func(a span[area]) { s.mark(a.Range, pageFreed) }, locked
	case trace.AdviceRemove:
		return func(a span[area]) { c.punch(a) }, func(a area) bool {
			// vma_is_shared_maywrite
			return locked(a) || !a.shared || failed == syscall.EACCES && a.prot&mem.ProtWrite == 0 && !a.src.writable
		}
	case trace.AdviceDontFork:
		return flag(areaDontFork, 0), special
	case trace.AdviceDoFork:
		return flag(0, areaDontFork), special
	case trace.AdviceWipeOnFork:
		return flag(areaWipe, 0), private
	case trace.AdviceKeepOnFork:
		return flag(0, areaWipe), special
	case trace.AdviceGuardInstall:
		return func(a span[area]) { s.pages.set(a.Range, pageGuard) }, locked
	case trace.AdviceGuardRemove:
		return func(a span[area]) {
			s.pages.update(a.Range, func(p page) page {
				if p&pageGuard != 0 {
					return 0
				}
				return p
			})
		}, special
	}
	return nil, nil
}

// punch is MADV_REMOVE of an area: the file loses those pages, and so does every
// process that maps them. Copies of its own a process keeps (mm/memory.c:
// unmap_mapping_range with even_cows false).
func (c *Checker) punch(hole span[area]) {
	from, to := hole.v.offset(hole.Start), hole.v.offset(hole.End)
	seen := map[*space]bool{}
	for _, p := range c.processes {
		if s := p.space; !seen[s] {
			seen[s] = true
			s.areas.each(whole, func(a span[area]) bool {
				if lo, hi := max(a.v.offset(a.Start), from), min(a.v.offset(a.End), to); a.v.src == hole.v.src && lo < hi {
					s.pages.update(mem.Range{Start: mem.VirtAddr(lo - a.v.bias), End: mem.VirtAddr(hi - a.v.bias)},
						func(p page) page {
							if p&present == pageFile {
								return 0
							}
							return p
						})
				}
				return true
			})
		}
	}
}

// shmdt detaches the segment at addr, wherever its areas have got to
// (ipc/shm.c:ksys_shmdt).
func (s *space) shmdt(addr mem.VirtAddr) {
	var src *source
	for _, a := range s.areas.in(mem.Range{Start: addr, End: mem.UserEnd}) {
		if a.v.flags&areaShm != 0 && a.v.offset(a.Start) == uint64(a.Start-addr) && (src == nil || a.v.src == src) {
			src = a.v.src
			s.remove(a.Range)
		}
	}
}

// brk moves the end of the heap to where the answer says (mm/mmap.c: brk).
func (c *Checker) brk(s *space, op *trace.Op) {
	if op.Want == nil || op.Want.Errno != 0 {
		return
	}
	now := op.Want.Addr
	from, ok := s.brk.PageUp()
	to, ok2 := now.PageUp()
	was := s.brkKnown
	s.brk, s.brkKnown = now, true
	switch {
	case !was || !ok || !ok2 || to > mem.UserEnd:
	case to < from:
		s.remove(mem.Range{Start: to, End: from})
	case to > from:
		r := mem.Range{Start: from, End: to}
		c.mustBeFree(s, op, r)
		s.add(r, area{prot: mem.ProtRead | mem.ProtWrite, src: c.anonymous}, false, false)
	}
}
