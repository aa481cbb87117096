//go:build linux && amd64

package tracee

import (
	"encoding/binary"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// spareAreas is how far below vm.max_map_count cutting stops: the program needs areas
// of its own.
const spareAreas = 1000

// Injected calls.
const (
	// scratch holds the iovecs of process_madvise. The address is below all that mmap
	// chooses by itself, so that no call of another thread gets another answer for it.
	scratch = 0x20000

	maxIovecs = 1024 // UIO_MAXIOV
	iovecSize = 16

	// fewPages are advised one by one: for more, mapping scratch memory pays.
	fewPages = 4

	pidfdSelf = ^uint64(10000 - 1) // PIDFD_SELF of Linux 6.14: -10000
)

// Operations of prctl that matter to injected calls.
const prSetSyscallUserDispatch = 59

// backed reports whether a page cache backs what was mapped, so that fault-around
// happens in it.
func backed(f *File) bool {
	if f == nil {
		return false
	}
	switch f.Kind {
	case Regular, Memfd, SysV, SharedAnon:
		return true
	}
	return false
}

// cutProgram cuts the areas that exec made.
func (s *Session) cutProgram(t *task) {
	sp := t.space
	switch mode, ok := s.status(t.tid, "Seccomp"); {
	case t.proc.compat:
		sp.off = "a 32-bit program"
	case ok && mode != "0":
		sp.off = "a seccomp filter"
	case sp.vdsoCall == 0:
		sp.off = "no vdso"
	}
	if sp.off != "" {
		s.tell(&Uncut{Time: now(), PID: t.proc.pid, Reason: sp.off})
		return
	}
	maps, lines, err := s.readMaps(t.tid)
	if err != nil {
		return
	}
	sp.areas = lines
	var parts []mem.Range
	for _, a := range maps {
		if strings.HasPrefix(a.Path, "/") {
			parts = append(parts, a.Range)
		}
	}
	in, err := s.inject(t, sp.vdsoCall)
	if err != nil {
		return
	}
	t.proc.injected++ // the page of the vdso
	in.cut(parts)
	in.end(in.saved.Rax)
}

// cutAgain cuts what is not in the memory of t, a fork of a process with other threads:
// one of them may have just mapped a file, or have been in the middle of cutting it.
func (s *Session) cutAgain(t *task) {
	t.torn = false
	sp := t.space
	if sp.off != "" || sp.users > 1 || sp.vdsoCall == 0 {
		return
	}
	areas, err := s.readLines(t.tid)
	if err != nil {
		return
	}
	sp.areas, sp.cut = len(areas), nil
	var whole []mem.Range
	for _, a := range areas {
		if !strings.HasPrefix(a.Path, "/") {
			continue
		}
		sp.cut.add(a.Range)
		if a.Len() > mem.PageSize {
			whole = append(whole, a.Range)
		}
	}
	if len(whole) == 0 {
		return
	}
	if in, err := s.inject(t, sp.vdsoCall); err == nil {
		in.cut(whole)
		in.end(in.saved.Rax)
	}
}

// follow cuts what a call has mapped or advised anew, and forgets what is gone.
func (s *Session) follow(t *task, e *Call) {
	sp, args := t.space, e.Args
	sp.areas += 2 // a call splits an area at each end at most
	if failed(e.Ret) && e.Nr != unix.SYS_MADVISE {
		return
	}
	switch e.Nr {
	case unix.SYS_MMAP:
		r := callRange(uint64(e.Ret), args[1])
		sp.forget(r)
		if backed(e.File) {
			s.cutRange(t, r)
		}
	case unix.SYS_MUNMAP:
		sp.forget(callRange(args[0], args[1]))
	case unix.SYS_MREMAP:
		sp.forget(callRange(uint64(e.Ret), args[2]))
	case unix.SYS_SHMAT:
		r := callRange(uint64(e.Ret), e.Size)
		sp.forget(r)
		if backed(e.File) {
			s.cutRange(t, r)
		}
	case unix.SYS_SHMDT:
		s.forgetUnmapped(t)
	case unix.SYS_MADVISE:
		if e.Ret == 0 || e.Ret == -int64(unix.ENOMEM) {
			s.advised(t, []mem.Range{callRange(args[0], args[1])}, int(args[2]))
		}
	case unix.SYS_PROCESS_MADVISE:
		s.processAdvised(t, args)
	case unix.SYS_SECCOMP:
		const setStrict, setFilter = 0, 1
		if args[0] == setStrict || args[0] == setFilter {
			s.stopCutting(t, "a seccomp filter")
		}
	case unix.SYS_PRCTL:
		switch {
		case args[0] == unix.PR_SET_SECCOMP:
			s.stopCutting(t, "a seccomp filter")
		case args[0] == prSetSyscallUserDispatch && args[1] != 0:
			s.stopCutting(t, "syscall user dispatch")
		}
	}
}

// stopCutting ends it for the memory of t. What is cut stays so.
func (s *Session) stopCutting(t *task, why string) {
	if t.space.off == "" {
		t.space.off = why
		s.tell(&Uncut{Time: now(), PID: t.proc.pid, Reason: why})
	}
}

// forget takes out what is mapped no more, or anew.
func (sp *space) forget(r mem.Range) {
	sp.scratched = sp.scratched && !r.Overlaps(scratchRange)
	sp.areas = max(0, sp.areas-int(sp.cut.remove(r)/mem.PageSize))
	if !sp.advice.none() {
		sp.advice.set(r, madvNormal)
	}
}

// forgetUnmapped takes out what is no area of a file any more.
func (s *Session) forgetUnmapped(t *task) {
	maps, lines, err := s.readMaps(t.tid)
	if err != nil {
		return
	}
	var cut rangeSet
	for _, a := range maps {
		for _, part := range t.space.cut.in(a.Range) {
			cut.add(part)
		}
	}
	t.space.cut, t.space.areas = cut, lines
}

// advised handles the program's own advice for ranges.
func (s *Session) advised(t *task, ranges []mem.Range, advice int) {
	if advice != madvNormal && advice != madvRandom && advice != madvSequential {
		return
	}
	var parts []mem.Range
	for _, r := range ranges {
		for _, part := range t.space.cut.in(r) {
			t.space.advice.set(part, advice)
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 || t.space.off != "" {
		return
	}
	if in, err := s.inject(t, 0); err == nil {
		in.advise(t.space.pages(parts))
		in.end(in.saved.Rax)
	}
}

// processAdvised handles process_madvise. This kind of advice can be given to oneself
// only (mm/madvise.c:process_madvise_remote_valid).
func (s *Session) processAdvised(t *task, args [6]uint64) {
	b := make([]byte, min(args[2], maxIovecs)*iovecSize)
	if len(b) == 0 || readMemory(t.tid, args[1], b) != len(b) {
		return
	}
	var ranges []mem.Range
	for ; len(b) > 0; b = b[iovecSize:] {
		ranges = append(ranges, callRange(binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])))
	}
	s.advised(t, ranges, int(args[3]))
}

// cutRange cuts r, which the call at whose exit t stands has mapped.
func (s *Session) cutRange(t *task, r mem.Range) {
	if t.space.off != "" || r.Len() <= mem.PageSize && !t.space.overhangs(r) {
		t.space.note(r)
		return
	}
	// The instruction may have been mapped over.
	var regs unix.PtraceRegs
	vdso := uint64(0)
	if getRegs(t.tid, &regs) == nil && r.Contains(mem.VirtAddr(regs.Rip-1)) {
		vdso = t.space.vdsoCall
	}
	in, err := s.inject(t, vdso)
	if err != nil {
		return
	}
	in.cut([]mem.Range{r})
	in.end(in.saved.Rax)
}

// overhangs reports whether a page beside r is cut: r may be more of the same file.
func (sp *space) overhangs(r mem.Range) bool {
	return sp.cut.overlaps(mem.Range{Start: r.Start - mem.PageSize, End: r.End + mem.PageSize})
}

// note puts r among what is cut, though a single page needs no advice.
func (sp *space) note(r mem.Range) {
	if sp.off == "" {
		sp.cut.add(r)
	}
}

// cut cuts ranges that were not, as far as the limit of areas allows.
func (in *injection) cut(ranges []mem.Range) error {
	sp := in.t.space
	for i, r := range ranges {
		ranges[i] = in.s.allow(in.t, r)
		sp.cut.add(ranges[i])
	}
	return in.advise(sp.pages(ranges))
}

// allow returns as much of r as may be cut.
func (s *Session) allow(t *task, r mem.Range) mem.Range {
	sp := t.space
	pages := int(r.Len() / mem.PageSize)
	if sp.areas+pages > s.limit {
		if maps, err := readProc(t.tid, "maps", s.buf); err == nil {
			s.buf = maps
			_, sp.areas, _ = parseMaps(maps)
		}
	}
	room := max(0, s.limit-sp.areas)
	if pages > room {
		rest := mem.Range{Start: r.Start + mem.VirtAddr(room)*mem.PageSize, End: r.End}
		s.tell(&Uncut{Time: now(), PID: t.proc.pid, Range: rest, Pages: pages - room, Reason: "1,000 areas below vm.max_map_count"})
		r.End, pages = rest.Start, room
	}
	sp.areas += pages
	return r
}

// advice is one access advice for pages.
type advisedPages struct {
	advice int
	pages  []mem.VirtAddr
}

// pages returns which pages of ranges need which advice so that no two neighbours have
// the same: those with an odd number, and those beside the ranges.
func (sp *space) pages(ranges []mem.Range) []advisedPages {
	var by [3][]mem.VirtAddr
	plain := sp.advice.none()
	for _, r := range ranges {
		if r.Empty() {
			continue
		}
		first, last := r.Start, r.End-mem.PageSize
		if !plain { // the advice of an odd page beside depends on its neighbour's
			if sp.cut.overlaps(mem.PageOf(first - mem.PageSize)) {
				first -= mem.PageSize
			}
			if sp.cut.overlaps(mem.PageOf(r.End)) {
				last = r.End
			}
		}
		for p := first | mem.PageSize; p <= last; p += 2 * mem.PageSize {
			advice := madvRandom
			if !plain {
				advice = sp.other(p)
			}
			by[advice] = append(by[advice], p)
		}
	}
	var out []advisedPages
	for advice, pages := range by {
		if len(pages) > 0 {
			out = append(out, advisedPages{advice, pages})
		}
	}
	return out
}

// other returns an advice for the odd page p that neither neighbour has.
func (sp *space) other(p mem.VirtAddr) int {
	left, right := sp.advice.at(p-mem.PageSize), sp.advice.at(p+mem.PageSize)
	for _, advice := range []int{madvRandom, madvNormal} {
		if advice != left && advice != right {
			return advice
		}
	}
	return madvSequential
}

// advise gives the advice, by process_madvise for many pages at once if the kernel has
// that for oneself (Linux 6.13, and 6.14 for PIDFD_SELF), else page by page.
func (in *injection) advise(all []advisedPages) error {
	total := 0
	for _, a := range all {
		total += len(a.pages)
	}
	in.areas += total
	if total > fewPages && !in.s.noBatch {
		if done, err := in.adviseBatch(all, total); done || err != nil {
			return err
		}
	}
	for _, a := range all {
		for _, p := range a.pages {
			// ENOMEM: unmapped by another thread meanwhile.
			if _, err := in.call(unix.SYS_MADVISE, uint64(p), mem.PageSize, uint64(a.advice)); err != nil {
				return err
			}
		}
	}
	return nil
}

// adviseBatch is advise by process_madvise. It returns false where there is no such
// thing or no memory for it, and nothing was done.
func (in *injection) adviseBatch(all []advisedPages, total int) (done bool, err error) {
	size := (uint64(min(total, maxIovecs))*iovecSize + mem.PageSize - 1) &^ (mem.PageSize - 1)
	const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE | unix.MAP_POPULATE
	sp := in.t.space
	was := sp.scratched
	sp.scratched = true // and it stays so if the task is killed in what follows
	ret, err := in.call(unix.SYS_MMAP, scratch, size, unix.PROT_READ|unix.PROT_WRITE, flags, ^uint64(0), 0)
	if err != nil {
		return false, err
	}
	if ret != scratch {
		sp.scratched = was
		if !failed(ret) { // a kernel before 4.17 put it elsewhere
			_, err = in.call(unix.SYS_MUNMAP, uint64(ret), size)
		}
		return false, err
	}
	in.t.proc.injected += size / mem.PageSize
	done = true
	for _, a := range all {
		for chunk := range slices.Chunk(a.pages, maxIovecs) {
			if done, err = in.batch(chunk, a.advice); err != nil {
				return false, err
			}
			if !done {
				break
			}
		}
	}
	if _, err := in.call(unix.SYS_MUNMAP, scratch, size); err != nil {
		return false, err
	}
	sp.scratched = sp.users > 1 // another thread may have forked meanwhile, which is told later
	return done, nil
}

// batch advises up to maxIovecs pages. It returns false if the kernel cannot.
func (in *injection) batch(pages []mem.VirtAddr, advice int) (bool, error) {
	b := in.s.iovecs[:0]
	for _, p := range pages {
		b = binary.LittleEndian.AppendUint64(b, uint64(p))
		b = binary.LittleEndian.AppendUint64(b, mem.PageSize)
	}
	in.s.iovecs = b
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	if n, err := unix.ProcessVMWritev(in.t.tid, local, []unix.RemoteIovec{{Base: scratch, Len: len(b)}}, 0); err != nil || n != len(b) {
		return false, nil
	}
	for from := 0; from < len(pages); {
		ret, err := in.call(unix.SYS_PROCESS_MADVISE, pidfdSelf, scratch+uint64(from)*iovecSize, uint64(len(pages)-from), uint64(advice), 0)
		if err != nil {
			return false, err
		}
		switch {
		case ret > 0:
			from += int(ret / mem.PageSize)
		case ret == -int64(unix.ENOMEM) || ret == 0:
			from++ // unmapped by another thread meanwhile
		default:
			in.s.noBatch = true
			return false, nil
		}
	}
	return true, nil
}
