//go:build linux && amd64

package tracee

import (
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// skip makes the kernel skip the call at whose entry t stands: a mremap of what is cut.
// It would fail with EFAULT, since it works on one area (mm/mremap.c:check_prep_vma).
// redo makes the call at the exit stop.
func (s *Session) skip(t *task, ip uint64) {
	if word, err := peekText(t.tid, ip-2); err != nil || word&0xffff != syscallInsn {
		return // it could not be made again
	}
	if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_POKEUSR, uintptr(t.tid),
		unsafe.Offsetof(unix.PtraceRegs{}.Orig_rax), ^uintptr(0), 0, 0); errno == 0 {
		t.call.skipped = true
	}
}

// oldRange is the range that a mremap begins with.
func oldRange(args [6]uint64) mem.Range {
	if args[1] == 0 { // of shared memory: maps it once more
		return mem.PageOf(mem.VirtAddr(args[0]))
	}
	return callRange(args[0], args[1])
}

// redo undoes the cut of the range, makes the call c that was skipped, and cuts anew.
func (s *Session) redo(t *task, c call) {
	in, err := s.inject(t, 0)
	if err != nil {
		return
	}
	in.saved.Orig_rax = uint64(c.nr)
	old := oldRange(c.args)
	in.undo(old)
	in.done()
	before := now()
	c.entry, c.skipped = max(c.entry, before), false
	t.call, t.inCall = c, true // killedIn looks here
	ret, err := in.call(c.nr, c.args[:]...)
	if err != nil {
		in.end(in.saved.Rax)
		return
	}
	t.call, t.inCall = call{nr: -1}, false
	s.returned(t, c, ret)
	in.begin()
	if ret == -int64(unix.EFAULT) {
		if n := s.written(t, old); n > 1 {
			s.note(t.proc.pid, "mremap of %v failed with EFAULT: its %d areas with private copies do not merge after they were cut", old, n)
		}
	}
	in.recut(c, ret, old)
	in.end(uint64(ret))
}

// written returns how many VMAs with private copies of a file's pages r has. Where they
// are more than one they do not merge: each has an anon_vma of its own
// (mm/vma.c:is_mergeable_anon_vma).
func (s *Session) written(t *task, r mem.Range) (n int) {
	areas, err := s.readLines(t.tid)
	if err != nil {
		return 0
	}
	areas = slices.DeleteFunc(areas, func(a Area) bool { return !a.Overlaps(r) || !a.ofFile() || a.Shared })
	for _, run := range s.present(t) {
		pages := mem.Range{Start: run.Start, End: run.Start + mem.VirtAddr(run.Pages)*mem.PageSize}
		for len(areas) > 0 && areas[0].End <= pages.Start {
			areas = areas[1:]
		}
		for run.Kind == OwnPage && len(areas) > 0 && areas[0].Overlaps(pages) {
			n++
			areas = areas[1:]
		}
	}
	return n
}

// undo gives r the advice back that the program gave.
func (in *injection) undo(r mem.Range) error {
	sp := in.t.space
	for _, part := range sp.cut.in(r) {
		for start := part.Start; start < part.End; {
			advice, end := sp.advice.at(start), start+mem.PageSize
			for end < part.End && (sp.advice.none() || sp.advice.at(end) == advice) {
				if sp.advice.none() {
					end = part.End
					break
				}
				end += mem.PageSize
			}
			if _, err := in.call(unix.SYS_MADVISE, uint64(start), uint64(end-start), uint64(advice)); err != nil {
				return err
			}
			start = end
		}
	}
	return nil
}

// recut cuts what is in place after call c with result ret: the old range where it is
// still there, and the new one of a mremap, which has the old one's advice.
func (in *injection) recut(c call, ret int64, old mem.Range) error {
	sp := in.t.space
	parts := sp.cut.in(old)
	advice := sp.advice.at(old.Start)
	if c.nr == unix.SYS_MREMAP && !failed(ret) {
		fresh := callRange(uint64(ret), c.args[2])
		const dontUnmap = 4 // MREMAP_DONTUNMAP
		if c.args[1] != 0 && c.args[3]&dontUnmap == 0 {
			sp.forget(old)
			parts = nil
		}
		sp.forget(fresh)
		sp.advice.set(fresh, advice)
		if err := in.cut([]mem.Range{fresh}); err != nil {
			return err
		}
	}
	return in.advise(sp.pages(parts))
}
