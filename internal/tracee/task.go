//go:build linux && amd64

package tracee

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"
)

// task is a thread that is traced.
type task struct {
	tid     int
	proc    *process
	space   *space // nil once it is leaving it
	started bool   // its first stop was told
	exiting bool   // its Exit was told

	call      call // the one it is in, if inCall
	inCall    bool
	interrupt bool // to be asked to stop, see resume
	gone      bool // an injection ended in another stop
	torn      bool // forked while other threads of its maker ran: its memory is to be looked at
}

// call is a system call in progress.
type call struct {
	nr      int // -1: not of x86-64, or none that is told
	args    [6]uint64
	entry   Time
	execed  bool // it was an execve, and succeeded
	forked  bool // an event told of the child
	skipped bool // the kernel was told to skip it: it is made at the exit stop instead
}

// process is a thread group.
type process struct {
	pid      int
	threads  int // that are not exiting
	injected uint64
	compat   bool // a 32-bit program
	anchor   *task
}

// space is an address space, shared by threads and vfork children.
type space struct {
	users int // tasks

	off      string // why nothing is cut, "" if it may be
	cut      rangeSet
	advice   advices
	areas    int    // upper bound of its VMAs
	vdsoCall uint64 // address of a syscall instruction in its vdso

	// scratched: memory of an injection lies at scratch, or may: a task was killed in one,
	// or a thread forked while another was in one. It is not the program's.
	scratched bool
}

// clone is what fork makes of it.
func (sp *space) clone() *space {
	c := *sp
	c.users = 0
	c.cut = append(rangeSet(nil), sp.cut...)
	c.advice = sp.advice.clone()
	return &c
}

func (s *Session) newProcess(pid int) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live[pid] = true
	return &process{pid: pid}
}

// forked handles the stop at which t has made a task.
func (s *Session) forked(t *task, ev int) {
	t.call.forked = true
	msg, err := eventMsg(t.tid)
	if err != nil {
		return
	}
	child := int(msg)
	if s.tasks[child] != nil { // adopted meanwhile
		return
	}
	flags, known := s.cloneFlags(t, ev)
	s.add(t, child, flags, known)
}

// add takes in a task that t made, and handles what it did meanwhile.
func (s *Session) add(t *task, tid int, flags uint64, known bool) {
	c := &task{tid: tid}
	c.proc = t.proc
	if flags&CloneThread == 0 {
		c.proc = s.newProcess(tid)
		c.proc.compat = t.proc.compat
	}
	c.proc.threads++
	sp := t.space
	if sp == nil {
		sp = &space{off: "its parent was gone"}
	}
	if flags&CloneVM == 0 {
		c.torn = t.proc.threads > 1 || sp.users > 2 // two: it is a vfork child, and its parent waits
		sp = sp.clone()
	}
	sp.users++
	c.space = sp
	s.tasks[tid] = c
	s.tell(&NewTask{Time: now(), Parent: t.tid, Child: tid, Flags: flags, Known: known})
	stops := s.orphans[tid]
	delete(s.orphans, tid)
	for _, st := range stops {
		s.handle(st)
	}
}

// adopt takes in a task that stopped and whose maker never told of it.
func (s *Session) adopt(tid int) {
	tgid, _ := s.status(tid, "Tgid")
	ppid, _ := s.status(tid, "PPid")
	pid, _ := strconv.Atoi(tgid)
	parent, _ := strconv.Atoi(ppid)
	flags := uint64(0)
	if pid != tid && s.tasks[pid] != nil {
		flags, parent = CloneThread|CloneVM, pid
	}
	t := s.tasks[parent]
	if t == nil {
		t = &task{tid: parent, proc: &process{}, space: nil}
	}
	s.add(t, tid, flags, false)
}

// Numbers of fork calls of 32-bit programs.
const (
	i386Fork   = 2
	i386Clone  = 120
	i386Vfork  = 190
	cloneCall3 = 435 // clone3, everywhere
)

const exitSignalMask = 0xff // CSIGNAL

// cloneFlags returns the flags of the call in which t made a task.
func (s *Session) cloneFlags(t *task, ev int) (flags uint64, known bool) {
	var regs unix.PtraceRegs
	var info syscallInfo
	if getRegs(t.tid, &regs) == nil && getSyscallInfo(t.tid, &info) == nil {
		nr, arg := regs.Orig_rax, regs.Rdi
		if info.arch == unix.AUDIT_ARCH_I386 {
			arg = regs.Rbx
			switch nr {
			case i386Fork:
				nr = unix.SYS_FORK
			case i386Vfork:
				nr = unix.SYS_VFORK
			case i386Clone:
				nr = unix.SYS_CLONE
			}
		}
		switch nr {
		case unix.SYS_FORK:
			return 0, true
		case unix.SYS_VFORK:
			return CloneVM | CloneVfork, true
		case unix.SYS_CLONE:
			return arg &^ exitSignalMask, true
		case cloneCall3:
			var b [8]byte
			if readMemory(t.tid, arg, b[:]) == len(b) {
				return binary.LittleEndian.Uint64(b[:]), true
			}
		}
	}
	switch ev {
	case unix.PTRACE_EVENT_VFORK:
		return CloneVM | CloneVfork, false
	case unix.PTRACE_EVENT_CLONE:
		return CloneVM | CloneThread, false
	}
	return 0, false
}

// begin tells of the first stop of a task.
func (s *Session) begin(t *task) {
	if t.started {
		return
	}
	t.started = true
	e := &Started{TID: t.tid, PID: t.proc.pid}
	if s.cfg.Mode == Complete && t.space.users == 1 {
		e.Present = t.space.own(s.present(t))
		if t.torn {
			maps, _, _ := s.readMaps(t.tid)
			e.Maps = t.space.ownAreas(maps)
		}
	}
	e.Time = now()
	s.tell(e)
}

// present returns the present set of t's memory, nil if it is gone.
func (s *Session) present(t *task) []Run {
	runs, err := s.scan.present(t.tid)
	if err != nil {
		return nil
	}
	return runs
}

// leave takes t out of its memory and its process.
func (s *Session) leave(t *task) (lastThread, lastUser bool) {
	t.exiting = true
	t.proc.threads--
	if t.space != nil {
		t.space.users--
		lastUser = t.space.users == 0
		t.space = nil
	}
	return t.proc.threads == 0, lastUser
}

// exiting handles PTRACE_EVENT_EXIT: t's memory still stands.
func (s *Session) exiting(t *task) {
	if t.exiting {
		return
	}
	s.killedIn(t)
	msg, err := eventMsg(t.tid)
	at := t
	if err != nil {
		at = t.proc.anchor
	}
	s.ended(t, unix.WaitStatus(msg), at)
}

// ended tells of the end of t. Its memory is looked at by at, which stands at its own end
// and has the same; nil: nobody does any more.
func (s *Session) ended(t *task, ws unix.WaitStatus, at *task) {
	sp := t.space
	e := &Exit{TID: t.tid, PID: t.proc.pid, Seen: at != nil}
	e.Status, e.Signal, e.Core = statusOf(ws)
	e.LastThread, e.LastUser = s.leave(t)
	if e.LastThread && at != nil {
		if st, err := s.readStat(at.tid); err == nil {
			e.MinFlt, e.MajFlt, e.Injected = st.minflt, st.majflt, t.proc.injected
		}
	}
	if s.begun && e.LastUser && at != nil {
		if s.cfg.Mode == Complete {
			e.Present = sp.own(s.present(at))
			e.Seen = e.Present != nil
		}
		if s.cfg.Mode == Complete || s.cfg.EndMaps {
			areas, _, err := s.readMaps(at.tid)
			e.Maps, e.Seen = sp.ownAreas(areas), e.Seen && err == nil
		}
	}
	e.Time = now()
	s.tellEnd(t, e)
}

// killedIn tells of the memory call in which t is killed, whose return it does not live
// to see: it may have been made all the same. By now rax is its result, or still the
// ENOSYS of the entry (arch/x86/entry/entry_64.S) where it was not.
func (s *Session) killedIn(t *task) {
	c := t.call
	if !t.inCall || c.skipped || !changesMemory(c.nr) {
		return
	}
	t.inCall = false
	var regs unix.PtraceRegs
	if getRegs(t.tid, &regs) != nil || regs.Orig_rax != uint64(c.nr) || int64(regs.Rax) == -int64(unix.ENOSYS) {
		return
	}
	s.returned(t, c, int64(regs.Rax))
}

// tellEnd is tell, of the trampoline too where that is the command's process: one that
// could not be executed ends all the same.
func (s *Session) tellEnd(t *task, e Event) {
	if s.begun || t.tid == s.pid {
		s.sink.Event(e)
	}
}

// statusOf takes a wait status apart.
func statusOf(ws unix.WaitStatus) (status, signal int, core bool) {
	if ws.Signaled() {
		return 0, int(ws.Signal()), ws.CoreDump()
	}
	return ws.ExitStatus(), 0, false
}

// dead handles the end of a task. It may come without PTRACE_EVENT_EXIT.
func (s *Session) dead(t *task, ws unix.WaitStatus) {
	status, signal, _ := statusOf(ws)
	s.begin(t)
	if t.proc.anchor == t {
		s.loose(t.proc)
	}
	if !t.exiting {
		s.ended(t, ws, t.proc.anchor)
	}
	delete(s.tasks, t.tid)
	s.settle(t.proc)
	if t.tid != t.proc.pid {
		return
	}
	s.mu.Lock()
	delete(s.live, t.tid)
	s.mu.Unlock()
	if t.tid == s.pid {
		s.result.Status, s.result.Signal = status, signal
	}
	s.tellEnd(t, &Gone{Time: now(), PID: t.tid, Status: status, Signal: signal})
}
