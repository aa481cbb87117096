//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"syscall"

	"vmsim/internal/elfhead"
)

// Session is a command that is followed.
type Session struct {
	cfg  Config
	sink Sink
	pid  int           // of the command
	done chan struct{} // closed when the last tracee is gone

	result Result // valid once done is closed
	err    error  // of the session itself

	mu   sync.Mutex   // guards live
	live map[int]bool // PIDs of processes that are not reaped, for signals passed on

	left func() // Untraced: nothing that the command started is left

	// What follows belongs to the tracer's thread.
	begun    bool          // the command's execve succeeded
	tasks    map[int]*task // by TID
	orphans  map[int][]stop
	anchored map[*process]time.Time // those that have an anchor, and until when
	queue    []stop                 // seen, not handled
	errPipe  *os.File
	limit    int // VMAs up to which areas are cut

	scan      scanner
	buf       []byte
	iovecs    []byte
	heads     map[headKey]*head
	noBatch   bool // process_madvise on oneself is not to be had
	vdsoEntry int  // offset of a syscall instruction in the vdso, -1 without one
}

// head is what is needed of a program's ELF header.
type head struct {
	*elfhead.Head
	interp string
}

// headKey identifies a file by content as far as stat tells.
type headKey struct {
	dev, ino    uint64
	size, mtime int64
}

// Start starts a command and returns when it stands before its execve and cfg.Ready
// has returned, or with the error that prevented it. Wait must be called. That the
// command itself cannot be executed is told by Wait.
func Start(cfg Config, sink Sink) (*Session, error) {
	if len(cfg.Argv) == 0 {
		return nil, errors.New("no command")
	}
	s := &Session{
		cfg: cfg, sink: sink, done: make(chan struct{}), live: map[int]bool{}, tasks: map[int]*task{},
		orphans: map[int][]stop{}, anchored: map[*process]time.Time{}, limit: max(0, maxMapCount()-spareAreas), heads: map[headKey]*head{},
		buf: make([]byte, 0, 16<<10), vdsoEntry: -1,
	}
	if cfg.Mode == Complete {
		s.vdsoEntry = findVDSOCall()
	}
	left := make(chan struct{})
	s.left = sync.OnceFunc(func() { close(left) })
	started := make(chan error, 1)
	go func() {
		// Tracees belong to the thread. It ends with the goroutine: never unlocked.
		runtime.LockOSThread()
		release, err := s.start()
		started <- err
		if err != nil {
			return
		}
		stopSignals := s.handleSignals()
		if err := release(); err != nil {
			s.err = err
		}
		if s.cfg.Mode == Untraced {
			s.await()
			<-left
		} else {
			s.loop()
		}
		s.readErrPipe()
		stopSignals()
		close(s.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return s, nil
}

// PID returns that of the command.
func (s *Session) PID() int { return s.pid }

// Left says, in mode Untraced, that nothing of the command and of what it started is left:
// Wait cannot know.
func (s *Session) Left() { s.left() }

// Wait returns how the command ended, when all that it started is gone too. The error
// is the session's own.
func (s *Session) Wait() (Result, error) {
	<-s.done
	return s.result, s.err
}

// start starts the trampoline and seizes it. release lets it go on to its execve.
func (s *Session) start() (release func() error, err error) {
	goRead, goWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer goRead.Close()
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		goWrite.Close()
		return nil, err
	}
	defer errWrite.Close()
	fail := func(err error) (func() error, error) {
		goWrite.Close()
		errRead.Close()
		return nil, err
	}
	if s.pid, err = s.forkTrampoline(goRead, errWrite); err != nil {
		return fail(err)
	}
	s.errPipe = errRead
	errWrite.Close()
	if n, err := errRead.Read(make([]byte, 1)); n != 1 {
		s.kill()
		return fail(fmt.Errorf("the trampoline does not answer: %w", err))
	}
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(s.pid); err != nil {
			s.kill()
			return fail(err)
		}
	}
	if s.cfg.Choose != nil {
		s.cfg.Mode = s.cfg.Choose()
	}
	p := s.newProcess(s.pid)
	if s.cfg.Mode != Untraced {
		if err := ptrace(unix.PTRACE_SEIZE, s.pid, 0, options); err != nil {
			s.kill()
			return fail(fmt.Errorf("ptrace of the command: %w", err))
		}
		p.threads = 1
		s.tasks[s.pid] = &task{tid: s.pid, proc: p, space: &space{users: 1}, started: true}
		s.sink.Event(&Started{Time: now(), TID: s.pid, PID: s.pid, Root: true})
	}
	return func() error {
		defer goWrite.Close()
		_, err := goWrite.Write([]byte{1})
		return err
	}, nil
}

// kill ends the trampoline before it did anything, and waits for it.
func (s *Session) kill() {
	unix.Kill(s.pid, unix.SIGKILL)
	for {
		st, err := wait(s.pid, 0)
		if err != nil || st.status.Exited() || st.status.Signaled() {
			return
		}
		ptrace(unix.PTRACE_CONT, s.pid, 0, 0) // stopped at PTRACE_EVENT_EXIT
	}
}

// forkTrampoline starts this program again as the trampoline. The pipes get high
// numbers, so that descriptors which the command is to inherit keep theirs.
func (s *Session) forkTrampoline(goRead, errWrite *os.File) (pid int, err error) {
	const high = 200
	var fds [2]int
	for i, f := range []*os.File{goRead, errWrite} {
		if fds[i], err = unix.FcntlInt(f.Fd(), unix.F_DUPFD, high); err != nil {
			return 0, err
		}
		defer unix.Close(fds[i])
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	files := make([]uintptr, 3)
	for i, f := range []*os.File{s.cfg.Stdin, s.cfg.Stdout, s.cfg.Stderr} {
		if f == nil {
			f = null
		}
		files[i] = f.Fd()
	}
	env := s.cfg.Env
	if env == nil {
		env = os.Environ()
	}
	aslr := "0"
	if s.cfg.ASLR {
		aslr = "1"
	}
	argv := append([]string{"vmsim", marker, strconv.Itoa(fds[0]), strconv.Itoa(fds[1]), aslr}, s.cfg.Argv...)
	pid, err = syscall.ForkExec("/proc/self/exe", argv, &syscall.ProcAttr{Dir: s.cfg.Dir, Env: env, Files: files})
	if err != nil {
		return 0, fmt.Errorf("start of the command: %w", err)
	}
	return pid, nil
}

// readErrPipe learns why the trampoline could not execute the command, if so.
func (s *Session) readErrPipe() {
	defer s.errPipe.Close()
	text, err := io.ReadAll(s.errPipe)
	if err != nil || len(text) == 0 {
		return
	}
	errno, err := strconv.Atoi(string(text))
	if err != nil || errno == 0 {
		s.result.Err = fmt.Errorf("%s: cannot be executed", s.cfg.Argv[0])
		return
	}
	s.result.Err = fmt.Errorf("%s: %w", s.cfg.Argv[0], unix.Errno(errno))
}

// await waits for the end of a command that is not traced.
func (s *Session) await() {
	st, err := wait(s.pid, 0)
	if err != nil {
		s.err = err
	}
	s.result.Status, s.result.Signal, _ = statusOf(st.status)
	s.mu.Lock()
	delete(s.live, s.pid)
	s.mu.Unlock()
}

// loop handles stops until no tracee is left.
func (s *Session) loop() {
	for {
		if len(s.queue) == 0 && !s.collect() {
			return
		}
		st := s.queue[0]
		s.queue = s.queue[1:]
		s.handle(st)
	}
}

// collect waits for a stop, and then takes all that there are: wait4 looks at the
// oldest tracee first, so that a busy one would starve the others.
func (s *Session) collect() bool {
	s.queue = s.queue[:0]
	st, err := s.waitAny()
	for err == nil && st.tid > 0 {
		s.queue = append(s.queue, st)
		st, err = wait(-1, unix.WNOHANG)
	}
	return len(s.queue) > 0
}

// patience is how long a task waits for what comes at once as a rule: one that stopped, for
// the event of the one that made it, which may have been killed in between; an anchor, for
// the ends of the others.
const patience = 200 * time.Millisecond

// waitAny blocks until something stops. While tasks of unknown parents or anchors wait it
// looks at the time too.
func (s *Session) waitAny() (stop, error) {
	for deadline := time.Now().Add(patience); len(s.orphans)+len(s.anchored) > 0; {
		st, err := wait(-1, unix.WNOHANG)
		if err != nil || st.tid > 0 {
			return st, err
		}
		if len(s.orphans) > 0 && time.Now().After(deadline) {
			s.adoptAll()
			continue
		}
		s.settleAll()
		time.Sleep(100 * time.Microsecond)
	}
	return wait(-1, 0)
}

// adoptAll takes in the tasks whose makers died before they told of them.
func (s *Session) adoptAll() {
	for _, tid := range slices.Sorted(maps.Keys(s.orphans)) {
		s.adopt(tid)
	}
}

// handle handles one stop or end of a task.
func (s *Session) handle(st stop) {
	t := s.tasks[st.tid]
	if t == nil {
		s.orphans[st.tid] = append(s.orphans[st.tid], st)
		return
	}
	if !st.status.Stopped() {
		s.dead(t, st.status)
		return
	}
	sig := st.status.StopSignal()
	if sig != unix.SIGTRAP|0x80 && killed(st.tid, st.event() == unix.PTRACE_EVENT_EXIT) {
		return
	}
	switch ev := st.event(); {
	case ev == unix.PTRACE_EVENT_STOP:
		s.begin(t)
		if isStopSignal(sig) { // a group-stop: stay in it until SIGCONT
			ptrace(unix.PTRACE_LISTEN, t.tid, 0, 0)
			return
		}
		if t.torn && s.cfg.Mode == Complete && t.space != nil {
			s.cutAgain(t)
		}
		s.resume(t, 0)
	case ev == unix.PTRACE_EVENT_FORK || ev == unix.PTRACE_EVENT_VFORK || ev == unix.PTRACE_EVENT_CLONE:
		s.forked(t, ev)
		s.resume(t, 0)
	case ev == unix.PTRACE_EVENT_EXEC:
		s.resume(s.execed(t), 0)
	case ev == unix.PTRACE_EVENT_EXIT && missed != nil && missed():
		ptrace(unix.PTRACE_CONT, t.tid, 0, 0)
	case ev == unix.PTRACE_EVENT_EXIT:
		s.begin(t)
		s.exiting(t)
		if !s.anchor(t) {
			s.resume(t, 0)
		}
		s.settle(t.proc)
	case ev != 0:
		s.resume(t, 0)
	case sig == unix.SIGTRAP|0x80:
		if s.syscallStop(t) {
			s.resume(t, 0)
		}
	default:
		s.begin(t)
		s.resume(t, sig)
	}
}

// killed reports whether a task is no longer in the stop that was seen, unless that is its
// PTRACE_EVENT_EXIT, but on its way there or at it. What stands there must not be let go
// before it is seen.
func killed(tid int, seenExit bool) bool {
	code, err := stopCode(tid)
	return err != nil && err != unix.EINVAL || err == nil && code == exitCode && !seenExit
}

func isStopSignal(sig unix.Signal) bool {
	return sig == unix.SIGSTOP || sig == unix.SIGTSTP || sig == unix.SIGTTIN || sig == unix.SIGTTOU
}

// resume lets a task run, delivering sig where it stood at the delivery of one. That
// it is gone is no error: its end will be told.
func (s *Session) resume(t *task, sig unix.Signal) {
	if t.gone { // in another stop by now, which is in the queue
		t.gone = false
		return
	}
	if t.interrupt { // a group-stop was passed over during injection: ask for it again
		t.interrupt = false
		ptrace(unix.PTRACE_INTERRUPT, t.tid, 0, 0)
	}
	if !t.exiting && killed(t.tid, false) { // while it was looked at
		return
	}
	req := unix.PTRACE_CONT
	if s.begun {
		req = unix.PTRACE_SYSCALL
	}
	ptrace(req, t.tid, 0, uintptr(sig))
}

// tell delivers an event, except of the trampoline's own threads.
func (s *Session) tell(e Event) {
	if s.begun {
		s.sink.Event(e)
	}
}

func (s *Session) note(pid int, format string, args ...any) {
	s.tell(&Note{Time: now(), PID: pid, Text: fmt.Sprintf(format, args...)})
}
