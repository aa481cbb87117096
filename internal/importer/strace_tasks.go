package importer

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vmsim/mem"
	"vmsim/trace"
)

// process is a process of the trace.
type process struct {
	num   int            // in the trace
	tasks map[*task]bool // its threads that live
	files *files
	fs    *folder
}

// task is a thread, as strace sees it.
type task struct {
	real       int // as strace numbers it; 0: not known yet
	num        int // in the trace; the process's own of its first
	proc       *process
	unfinished *unfinished
	exiting    *trace.Op // it has called exit: what will be its end
	seen       bool      // it had a line
	gone       bool      // another thread's exec has ended it
}

// unfinished is the first half of a call.
type unfinished struct {
	name   string
	text   string // behind the opening bracket; "" of calls that do not matter
	line   int
	file   *openFile // of mmap: what its descriptor was then
	looked bool
	born   int // of a fork: the child, as strace numbers it, that has appeared; 0: none
}

// forks are the calls that make a process or a thread.
var forks = map[string]bool{"fork": true, "vfork": true, "clone": true, "clone3": true}

// task returns who did what line l says.
func (s *strace) task(l *logLine) (*task, error) {
	if l.pid == 0 {
		return s.alone(l)
	}
	if t := s.tasks[l.pid]; t != nil {
		return t, nil
	}
	if t := s.tasks[0]; t != nil && !s.attached[l.pid] && (t.unfinished == nil || continues(l.body, t.unfinished)) {
		delete(s.tasks, 0) // of the first one, lines had no PID as long as it was alone
		t.real = l.pid
		s.tasks[l.pid] = t
		return t, nil
	}
	delete(s.attached, l.pid)
	parent := s.parentOf(l.pid)
	if parent == nil {
		return s.orphan(l)
	}
	u := parent.unfinished
	args, _, _ := splitArgs(u.text)
	flags, err := cloneFlags(u.name, args)
	if err != nil {
		return nil, s.errorf("%s in line %d: %w", u.name, u.line, err)
	}
	u.born = l.pid
	delete(s.forking, parent)
	return s.child(parent, l.pid, flags)
}

// continues reports whether body is what can follow a first half of the same
// task: the second half, a signal, or the end.
func continues(body string, u *unfinished) bool {
	if name, _, ok := cutResumed(body); ok {
		return name == u.name
	}
	return strings.HasPrefix(body, "+++ ") || strings.HasPrefix(body, "--- ")
}

// alone returns the task of a line without a PID: strace leaves it out where it
// knows of only one. A child that it has not seen yet does not count.
func (s *strace) alone(l *logLine) (*task, error) {
	if rest, ok := strings.CutPrefix(l.body, "+++ superseded by execve in pid "); ok {
		pid, _ := number([]byte(rest))
		if t := s.tasks[pid]; t != nil {
			for leader := range t.proc.tasks {
				if leader.num == t.proc.num {
					return leader, nil
				}
			}
		}
	}
	if len(s.seen) > 1 {
		if err := s.bury(); err != nil {
			return nil, err
		}
	}
	switch {
	case len(s.tasks) == 0:
		return s.orphan(l)
	case len(s.seen) == 1:
		for t := range s.seen {
			return t, nil
		}
	case len(s.tasks) == 1:
		for _, t := range s.tasks {
			return t, nil
		}
	}
	return nil, s.errorf("the line has no PID, and %d processes and threads are there", len(s.tasks))
}

// bury ends the tasks of whose end the log does not tell (strace -qq), in order.
func (s *strace) bury() error {
	var dead []*task
	for _, t := range s.tasks {
		if t.exiting != nil || t.gone {
			dead = append(dead, t)
		}
	}
	slices.SortFunc(dead, func(a, b *task) int { return cmp.Compare(a.num, b.num) })
	for _, t := range dead {
		if err := s.silentExit(t); err != nil {
			return err
		}
	}
	return nil
}

// silentExit ends a task of whose end the log does not tell.
func (s *strace) silentExit(t *task) error {
	switch {
	case t.gone:
		s.forget(t)
		return nil
	case t.exiting == nil:
		s.lacks.vanished++
		s.forget(t)
		return nil
	}
	s.lacks.silentExits++
	return s.exit(t, *t.exiting)
}

// orphan adds a process whose start the log does not tell: the first, or one
// whose parent's call was not traced.
func (s *strace) orphan(l *logLine) (*task, error) {
	switch {
	case s.next == 2 && !strings.HasPrefix(l.body, "execve(") && !strings.HasPrefix(l.body, "execveat("):
		s.lacks.running = true
	case s.next > 2:
		s.lacks.orphans++
	}
	p := &process{num: s.next, tasks: map[*task]bool{}, files: &files{}, fs: &folder{}}
	op := trace.Op{PID: 1, Kind: trace.OpFork, Want: &trace.Answer{PID: p.num}}
	return s.add(p, l.pid), s.emitAny(op)
}

// add enters the next task, of process p.
func (s *strace) add(p *process, real int) *task {
	t := &task{real: real, num: s.next, proc: p}
	s.next++
	p.tasks[t] = true
	s.tasks[real] = t
	return t
}

// parentOf finds the parent of a PID that has appeared before the call that made
// it returned: that call's second half, further on, names the child. It is nil
// where none does, unless one call alone is left whose result is not in the log.
func (s *strace) parentOf(pid int) *task {
	waiting, unseen := map[*task]bool{}, map[*task]bool{}
	for t := range s.forking {
		if s.src.ended[t.real] == 0 {
			waiting[t] = true
		}
	}
	for _, f := range s.src.ends {
		if t := s.forker(f.parent); t != nil && f.unseen {
			unseen[t] = true
		}
	}
	for len(s.forking) > 0 {
		if parents := s.src.born[pid]; len(parents) > 0 {
			return s.forker(parents[0])
		}
		if len(waiting) == 0 || s.src.size > maxAhead || s.src.more() != nil {
			break
		}
		f, ok := s.src.ends[s.src.ahead[len(s.src.ahead)-1]]
		if t := s.forker(f.parent); ok && t != nil {
			delete(waiting, t)
			if f.unseen {
				unseen[t] = true
			}
		}
	}
	for t := range unseen {
		waiting[t] = true
	}
	if len(waiting) == 1 {
		for t := range waiting {
			return t
		}
	}
	return nil
}

// forker returns the task in a fork that a line with this PID in front is of.
func (s *strace) forker(pid int) *task {
	t := s.tasks[pid]
	if t == nil {
		t = s.tasks[0]
	}
	if t == nil && pid == 0 && len(s.forking) == 1 {
		for only := range s.forking {
			t = only
		}
	}
	if !s.forking[t] {
		return nil
	}
	return t
}

// childPID returns the child that a fork's result names. Of a child in another
// PID namespace strace adds its own number: 5 /* 1234 in strace's PID NS */.
func childPID(r result) int {
	if from := strings.Index(r.text, "/* "); from >= 0 && strings.Contains(r.text, "in strace's PID NS") {
		if n, digits := number([]byte(r.text[from+3:])); digits > 0 {
			return min(n, maxPID+1)
		}
	}
	return int(min(r.value, maxPID+1))
}

// cloneFlags returns the flags of a call that makes a process, as the kernel's
// task_newtask has them: without the signal.
func cloneFlags(name string, args []string) (uint64, error) {
	switch name {
	case "fork":
		return 0, nil
	case "vfork":
		return cloneVM | cloneVfork, nil
	case "clone3":
		text, ok := field(arg(args, 0), "flags")
		if !ok {
			return 0, fmt.Errorf("its flags are missing")
		}
		return parseFlags(text, cloneWords)
	}
	for _, a := range args {
		if text, ok := strings.CutPrefix(a, "flags="); ok {
			flags, err := parseFlags(withoutSignal(text), cloneWords)
			return flags &^ cloneSignal, err
		}
	}
	return 0, fmt.Errorf("its flags are missing")
}

// withoutSignal removes the signal from clone's flags: CLONE_VM|SIGCHLD.
func withoutSignal(flags string) string {
	var keep []string
	for f := range strings.SplitSeq(uncomment(flags), "|") {
		if !strings.HasPrefix(f, "SIG") {
			keep = append(keep, f)
		}
	}
	if keep == nil {
		return "0"
	}
	return strings.Join(keep, "|")
}

// child adds the child that parent made, and emits the fork.
func (s *strace) child(parent *task, real int, flags uint64) (*task, error) {
	if old := s.tasks[real]; old != nil { // its end was not logged, and its PID is used again
		if err := s.silentExit(old); err != nil {
			return nil, err
		}
	}
	op := trace.Op{Kind: trace.OpFork, Bits: flags, Want: &trace.Answer{PID: s.next}}
	p := parent.proc
	switch {
	case flags&cloneThread != 0:
		op.Kind = trace.OpThread
	case flags&cloneVM != 0: // without vfork's wait too: it is the memory that counts
		op.Kind = trace.OpVfork
	}
	if op.Kind != trace.OpThread {
		p = &process{num: s.next, tasks: map[*task]bool{}, files: parent.proc.files, fs: parent.proc.fs}
		if flags&cloneFiles == 0 {
			p.files = p.files.fork()
		}
		if flags&cloneFS == 0 {
			p.fs = &folder{path: p.fs.path, root: p.fs.root}
		}
	}
	if err := s.emitOp(parent, op); err != nil {
		return nil, err
	}
	delete(s.attached, real)
	return s.add(p, real), nil
}

// forget removes t.
func (s *strace) forget(t *task) {
	if s.tasks[t.real] == t {
		delete(s.tasks, t.real)
	}
	delete(s.forking, t)
	delete(s.seen, t)
	delete(t.proc.tasks, t)
}

// exit emits the end of t.
func (s *strace) exit(t *task, op trace.Op) error {
	s.forget(t)
	return s.emitOp(t, op)
}

// exiting notes that t has called exit or exit_group.
func (s *strace) exiting(t *task, name string, args []string) {
	status, err := parseNumber(arg(args, 0))
	if err != nil {
		return
	}
	op := &trace.Op{Kind: trace.OpExit, Status: int(status & 0xff)}
	if name == "exit" {
		t.exiting = op
		return
	}
	for thread := range t.proc.tasks {
		thread.exiting = op
	}
}

// supersede lets t take the place of its process's first thread, as exec does in
// another thread (fs/exec.c, de_thread). It keeps its number until the exec is
// done.
func (s *strace) supersede(leader, t *task) {
	s.forget(leader)
	if s.tasks[t.real] == t {
		delete(s.tasks, t.real)
	}
	t.real = leader.real
	s.tasks[t.real] = t
}

// ended reads +++ exited with 0 +++ and its like.
func (s *strace) ended(t *task, body string) error {
	body = strings.TrimSuffix(strings.TrimPrefix(body, "+++ "), " +++")
	if text, ok := strings.CutPrefix(body, "exited with "); ok {
		status, digits := number([]byte(text))
		if digits == 0 || status > 255 {
			return s.errorf("status %q is not in 0 to 255", clip(text))
		}
		return s.dead(t, trace.Op{Kind: trace.OpExit, Status: status})
	}
	if text, ok := strings.CutPrefix(body, "killed by "); ok {
		name, _, _ := strings.Cut(text, " ")
		signal := signalNumber(name)
		if signal == 0 {
			return s.errorf("signal %q is not known", clip(name))
		}
		return s.dead(t, trace.Op{Kind: trace.OpExit, Signal: signal})
	}
	if text, ok := strings.CutPrefix(body, "superseded by execve in pid "); ok {
		pid, _ := number([]byte(text))
		if by := s.tasks[pid]; by != nil && by != t && by.proc == t.proc {
			s.supersede(t, by)
		}
		return nil
	}
	return s.errorf("%q is no end of a process", clip(body))
}

// dead emits the end of t, unless an exec has told of it.
func (s *strace) dead(t *task, op trace.Op) error {
	if t.gone {
		s.forget(t)
		return nil
	}
	return s.exit(t, op)
}

// signalNumber is the number of SIGSEGV, SIGRT_2; 0 where it is unknown. strace
// counts real-time signals from the kernel's 32.
func signalNumber(name string) int {
	if text, ok := strings.CutPrefix(name, "SIGRT_"); ok {
		if n, digits := number([]byte(text)); digits == len(text) && n >= 1 && n <= 32 {
			return 32 + n
		}
		return 0
	}
	if name == "SIGRTMIN" {
		return 32
	}
	return int(unix.SignalNum(name))
}

// signal reads --- SIGSEGV {...} ---. A signal for an access to memory gives that
// access, as a touch that was refused.
func (s *strace) signal(t *task, body string) error {
	name, _, _ := strings.Cut(strings.TrimPrefix(body, "--- "), " ")
	if name != "SIGSEGV" && name != "SIGBUS" {
		return nil
	}
	code, _ := field(body, "si_code")
	text, ok := field(body, "si_addr")
	if !ok {
		return nil // sent by a process, or without an address (SI_KERNEL)
	}
	addr, err := parseNumber(text)
	if err != nil {
		return s.errorf("%s: si_addr %w", name, err)
	}
	op := trace.Op{Kind: trace.OpTouch, Access: mem.Read, Addr: mem.VirtAddr(addr)}
	switch {
	case name == "SIGSEGV" && code == "SEGV_MAPERR":
		op.Want = &trace.Answer{Fault: trace.SegvMapErr}
	case name == "SIGBUS" && code == "BUS_ADRERR":
		op.Want = &trace.Answer{Fault: trace.SigBus}
	default:
		s.lacks.refused++
		return s.emitOp(t, trace.Op{Kind: trace.OpNote, Name: fmt.Sprintf("%s %s at 0x%x", name, clip(code), addr)})
	}
	s.lacks.failed++
	return s.emitOp(t, op)
}
