package session

import (
	"bytes"
	"fmt"

	"vmsim/mem"
	"vmsim/trace"
	"vmsim/vm"
)

// recorded is what is known, beside the machine, of a process's memory in the
// replay of a recording. Its writes carry no contents, so a page is compared with
// the truth when it is first touched, before that access could write, and not
// again: from then on it may be dirty.
//
//	untouched --touch--> seen          compared, or counted as unknown
//	    ^                 |
//	    +-----------------+            munmap, mmap, exec, MADV_DONTNEED: as mapped again
//
// A fork's child has seen what its parent has.
type recorded struct {
	seen    *pageSet
	program *Program     // that runs in it
	stack   mem.Range    // as far as it may grow
	args    mem.Range    // what exec wrote above the stack pointer
	brk     mem.VirtAddr // start of the heap; 0: not known
	extra   []trace.Area // [vdso], [vvar]: the kernel's own bytes
	refused *pageSet     // touches that met no memory here, and maybe there; nil: none
	loose   bool         // the TLB may have pages that nobody has touched: prefaulted, populated
	forked  bool         // no exec since its fork: it may have what its parent had
	kernel  []mem.Range  // pages that were present right after exec, without a touch
}

// recordedMemory is a memory with all that belongs to it, in one piece: a shell
// makes two of them for each program that it runs.
type recordedMemory struct {
	memory
	recorded
	seen pageSet
}

// newRecordedMemory returns one of which nothing is known.
func newRecordedMemory() *memory {
	r := &recordedMemory{seen: pageSet{last: pageBits{window: noWindow}}}
	r.recorded.seen, r.memory.recorded = &r.seen, &r.recorded
	return &r.memory
}

// cloneRecorded returns a copy of m, of a recording, but for the regions and the
// like, which are still m's own.
func (m *memory) cloneRecorded() *memory {
	r := &recordedMemory{memory: *m, recorded: *m.recorded}
	m.seen.cloneTo(&r.seen)
	r.recorded.seen, r.memory.recorded = &r.seen, &r.recorded
	r.recorded.forked = true
	if m.refused != nil {
		r.recorded.refused = m.refused.clone()
	}
	return &r.memory
}

// special reports whether a range holds what is no zeros though nothing was
// mapped there: an unmapping must be remembered.
func (m *memory) special(r mem.Range) bool {
	if m.args.Overlaps(r) {
		return true
	}
	for _, a := range m.extra {
		if a.Overlaps(r) {
			return true
		}
	}
	for _, t := range m.truths {
		if t.Extent().Overlaps(r) {
			return true
		}
	}
	return false
}

// Why bytes are not known, beside what names a file.
const (
	unknownArgs     = "arguments and environment"
	unknownUnmapped = "memory whose mapping is not in the trace"
	unknownGrown    = "pages of a program that mremap made more of"
	unknownMoved    = "memory that an mremap moved before it failed"
	unknownWiped    = "memory that a madvise marked for wiping before it failed"
	unknownShared   = "shared memory that was written"
)

// unknown returns why the bytes at addr, of a page of region g that nobody has
// touched yet, are not known; "" where they are. Where no region is, mapped is
// false.
func (m *memory) unknown(g *region, mapped bool, addr mem.VirtAddr) string {
	switch {
	case g.unknown != "":
		return g.unknown
	case g.object != nil && g.object.unknown != "":
		return g.object.unknown
	case !g.plain():
		return ""
	case m.args.Contains(addr):
		return unknownArgs
	}
	for i := range m.extra {
		if !mapped && m.extra[i].Contains(addr) {
			return m.extra[i].Name
		}
	}
	return ""
}

// sharedObject is memory that mappings of one name share: System V shared memory,
// a memfd, shared anonymous memory that several opened.
type sharedObject struct {
	vm      *vm.SharedObject
	info    trace.FileInfo
	seen    *pageSet // by offset: touched by anyone
	unknown string   // "": zeros at first
}

// object returns the shared object that path means now.
func (s *simulator) object(path string) *sharedObject {
	info := s.infos[path]
	if o := s.objects[path]; o != nil && o.info.Dev == info.Dev && o.info.Ino == info.Ino {
		return o
	}
	if o := s.objects[path]; o != nil {
		o.vm.Release()
	}
	o := &sharedObject{vm: s.Machine.NewShared(path, info.Size), info: info, seen: newPageSet()}
	if info.Kind != trace.SharedFile {
		o.unknown = fmt.Sprintf("%s (%v)", path, info.Kind)
	}
	s.objects[path] = o
	return o
}

// look compares the page of addr, which p has just touched for the first time,
// with the truth. data is what p sees, dirty whether the page was written through a
// shared mapping of its file. ok is false where a byte is wrong.
func (s *simulator) look(p *vm.Process, m *memory, addr mem.VirtAddr, data []byte, dirty bool) (ok bool, err error) {
	page := addr.PageDown()
	mapped, g := m.find(page), &nowhere
	if mapped {
		g = &m.last
	}
	why := m.unknown(g, mapped, page)
	if g.object != nil && why == "" {
		if at := mem.VirtAddr(g.offset) + (page - g.Start); !g.object.seen.add(at) {
			why = unknownShared
		}
	}
	if why == "" && dirty {
		why = "files written through a shared mapping"
	}
	if why != "" {
		s.count.unknown(why)
		return true, nil
	}
	if !mapped {
		for _, t := range m.truths {
			if t.Extent().Contains(page) {
				want, err := s.expected.ofTruth(t, page)
				if err != nil {
					return false, err
				}
				return s.Witness.PageIs(p.PID, t, page, want, data), nil
			}
		}
	}
	if g.file == nil && g.image == nil {
		return s.Witness.Bytes(p.PID, page, zeros[:], data, g.Start, 0), nil
	}
	want, start, at := []byte(nil), g.Start, uint64(g.offset)+uint64(page-g.Start)
	if g.image == nil && at%mem.PageSize == 0 {
		want, err = s.expected.ofFile(g.file, at)
	} else {
		var own [mem.PageSize]byte
		want = own[:]
		_, start, at, err = m.expect(page, &own)
	}
	if err != nil {
		return false, err
	}
	if f, _ := g.file.(interface{ Changed() bool }); f != nil && !bytes.Equal(want, data) && f.Changed() {
		s.count.unknown(g.file.Name() + " (changed)") // while it was read: by now, or by the machine before
		return true, nil
	}
	return s.Witness.Bytes(p.PID, page, want, data, start, at), nil
}

// nowhere is no region. Nobody changes it.
var nowhere region

// zeros is what memory holds that nobody wrote.
var zeros [mem.PageSize]byte

// dirty reports whether the page at addr was written through a shared mapping of
// its file: it rightly holds something else than the file.
func (s *simulator) dirty(m *memory, addr mem.VirtAddr) bool {
	if s.writable == 0 {
		return false
	}
	if g, ok := m.region(addr); ok {
		return g.file != nil && s.Machine.Dirty(g.file, mem.PageIndex(uint64(g.offset)+uint64(addr.PageDown()-g.Start))/mem.PageSize)
	}
	for _, t := range m.truths {
		// A page of a program may hold bytes of two pages of the file.
		if t.Extent().Contains(addr) && t.HasFileBytes(addr) {
			_, _, at := t.FileVMA(addr)
			index := mem.PageIndex(at / mem.PageSize)
			return s.Machine.Dirty(t.File(), index) || s.Machine.Dirty(t.File(), index+1)
		}
	}
	return false
}
