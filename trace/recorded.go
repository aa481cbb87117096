package trace

import (
	"slices"
	"syscall"

	"vmsim/mem"
)

// What a Runner does otherwise with a recording (Header.Recorded) than with a
// trace that somebody wrote:
//
//	exec       waits for the `area exec` lines behind it: where the kernel put the
//	           stack and the vdso. One that failed is not tried again.
//	mmap ...   goes where the recording says that it went. One that failed must
//	           fail, and is undone if it does not; but a lack of rights or limits,
//	           and a bad descriptor, are not in the trace, and such a call is not tried.
//	touch      that was refused does not end the process: the line of its exit
//	           says what became of it. Writes carry no contents.
//	exit       ends a process with its last thread.
//	tests      begin at an exec whose argument is MarkerArg, with the name behind.

// MarkerArg is the first or second argument of a program that is run only to tell
// the tests of a suite apart in a recording; the next argument is the test's name.
const MarkerArg = "vmsim-test"

// maxHeld bounds what is kept back behind an exec: the kernel maps two areas a
// segment, and has a few of its own.
const maxHeld = 4096

// take runs op, of a recording only once all is known that it needs.
func (s *run) take(op *Op) error {
	if len(s.held) > 0 {
		if s.belongs(op) {
			s.held = append(s.held, *op)
			return nil
		}
		if err := s.release(); err != nil {
			return err
		}
	}
	if op.Kind == OpExec && s.Header.Recorded() && (op.Want == nil || op.Want.Errno == 0) {
		s.held = append(s.held, *op)
		return nil
	}
	return s.next(op)
}

// belongs reports whether op says more of the exec that is kept back.
func (s *run) belongs(op *Op) bool {
	exec := &s.held[0]
	return len(s.held) < maxHeld && (op.Kind == OpFile || op.Kind == OpArea && op.Point == PointExec && op.PID == exec.PID)
}

// release runs what is kept back.
func (s *run) release() error {
	held := s.held
	defer func() { clear(held) }() // what they point to may go
	s.held = held[:0]
	for i := range held {
		if i == 0 {
			s.layout = layoutOf(&held[0], held[1:])
		}
		if err := s.next(&held[i]); err != nil {
			return err
		}
		s.layout = nil
	}
	return nil
}

// layoutOf returns what exec and the lines behind it say of the program's place.
func layoutOf(exec *Op, behind []Op) *Layout {
	l := &Layout{Start: exec.Start}
	for i := range behind {
		if op := &behind[i]; op.Kind == OpArea && op.Name != "" {
			l.Areas = append(l.Areas, Area{mem.Range{Start: op.Addr, End: op.Addr + mem.VirtAddr(op.Len)}, op.Prot, op.Name})
		}
	}
	if l.Start == nil && l.Areas == nil {
		return nil
	}
	return l
}

// marker returns the name of the test that op, an exec of a recording, begins.
func (s *run) marker() (string, bool) {
	if s.op.Kind != OpExec || s.op.Start == nil || !s.Header.Recorded() || s.op.Want != nil && s.op.Want.Errno != 0 {
		return "", false
	}
	args := s.op.Start.Args
	i := slices.Index(args, MarkerArg)
	if i < 1 || i > 2 || i+1 >= len(args) || args[i+1] == "" {
		return "", false
	}
	return args[i+1], true
}

// adopts reports whether op, an area of a fork's child, is of memory that a call
// mapped: not the stack, and not shared memory, of which the object is not known.
func (s *run) adopts() bool {
	return s.Header.Recorded() && s.op.Name == "" && (s.op.Path != "" || s.op.Flags&MapShared == 0)
}

// recordedPlace returns the address that op returned when it was recorded; 0
// where that is not known or it failed.
func (s *run) recordedPlace() mem.VirtAddr {
	if s.op.Want == nil || !s.Header.Recorded() {
		return 0
	}
	return s.op.Want.Addr
}

// elsewhere reports whether op, of a recording, failed for a reason that is not in
// the trace: descriptors, limits, rights, and which files an exec found. It
// changed nothing, and is not tried.
func (s *run) elsewhere() bool {
	if !s.Header.Recorded() || s.op.Want == nil || s.op.Want.Errno == 0 {
		return false
	}
	switch s.op.Want.Errno {
	case syscall.EACCES, syscall.EAGAIN, syscall.EBADF, syscall.EINTR, syscall.EMFILE, syscall.ENFILE, syscall.ENODEV,
		syscall.ENOSYS, syscall.EPERM, syscall.ETXTBSY:
		return true
	}
	return s.op.Kind == OpExec
}

// incomparable reports whether op, of a recording, is about addresses that may be
// those of the program, and where that lay is not in the trace.
func (s *run) incomparable() bool {
	p := s.procs[s.op.PID]
	if !s.Header.Recorded() || p == nil || !p.unplaced {
		return false
	}
	switch s.op.Kind {
	case OpBrk, OpMprotect, OpMunmap, OpMadvise, OpMremap, OpMlock, OpMunlock:
		return true
	}
	return false
}

// limited reports whether op, of a recording, got no memory, and here it did: how
// much a process may have (RLIMIT_AS, RLIMIT_DATA, overcommit) is not in the trace.
func (s *run) limited(got Answer) bool {
	want := s.op.Want
	if !s.Header.Recorded() || want == nil || got.Errno != 0 {
		return false
	}
	switch s.op.Kind {
	case OpMmap: // of a fixed one what lay there is gone
		return want.Errno == syscall.ENOMEM && s.op.Flags&(MapFixed|MapNoReplace) == 0
	case OpBrk:
		return want.Addr < s.op.Addr && want.Addr < got.Addr
	}
	return false
}

// brk does op. What the kernel refused is undone.
func (s *run) brk(p *proc) (mem.VirtAddr, error) {
	s.startHeap(p)
	at, err := s.Machine.Brk(p.pid, s.op.Addr)
	if err == nil && s.limited(Answer{Addr: at}) {
		if _, err := s.Machine.Brk(p.pid, s.op.Want.Addr); err != nil {
			return 0, err
		}
	}
	return at, err
}

// mmap does op, an mmap or a shmat, which is one of the shared memory's file.
func (s *run) mmap(p *proc) (mem.VirtAddr, error) {
	op := s.op
	m := Mapping{Addr: op.Addr, Len: op.Len, Prot: op.Prot, Flags: op.Flags, Path: s.path(), Offset: op.Offset, At: s.recordedPlace()}
	if op.Kind == OpShmat {
		m.Flags = MapShared
	}
	at, err := s.Machine.Mmap(p.pid, m)
	failed := s.Header.Recorded() && op.Want != nil && op.Want.Errno != 0
	if err == nil && failed && m.Flags&(MapFixed|MapNoReplace) == 0 {
		// What is recorded from here on knows nothing of it.
		if e := s.Machine.Munmap(p.pid, at, op.Len); e != nil {
			return 0, e
		}
	}
	return at, err
}

// startHeap tells the machine where the heap of p starts, if nobody has and op
// says so: a brk(0) before all others.
func (s *run) startHeap(p *proc) {
	if !p.heapless {
		return
	}
	p.heapless = false
	m, ok := s.Machine.(HeapStarter)
	if at := s.recordedPlace(); ok && at != 0 && s.op.Addr == 0 {
		m.StartHeap(p.pid, at)
	}
}

// start enters a thread of process pid.
func (p *proc) start(pid, tid int) {
	if p.tasks == nil {
		p.tasks = map[int]bool{pid: true}
	}
	p.tasks[tid] = true
}

// leave takes a thread of process pid away. It is true where the process lives
// on: another thread does, or this one ended with an exec.
func (p *proc) leave(pid, tid int) bool {
	if p.tasks == nil {
		return tid != pid
	}
	delete(p.tasks, tid)
	if len(p.tasks) > 0 {
		return true
	}
	p.tasks = nil
	return false
}
