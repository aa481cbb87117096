package trace

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"syscall"

	"vmsim/mem"
)

// Runner drives a Machine with the operations of a trace.
//
// A process that crashes is gone: its later operations are skipped and counted,
// and so are those of the children that it would have forked. The machine's
// PIDs then run behind those of the trace, so the runner keeps a table of both;
// answers and messages use the trace's.
type Runner struct {
	Machine Machine
	Name    string // of the trace, for messages
	Dir     string // folder of the trace: relative paths start there; "" leaves them as they are
	Header  Header // of the trace. A recording is run by rules of its own: see recorded.go

	// Before, if not nil, is called before each operation, marks and such that
	// are skipped included.
	Before func(*Op)
	// After, if not nil, is called after each operation, marks and skipped
	// ones included. The Step is valid until it returns.
	After func(*Step)

	// Stop, if not nil, ends RunSource early, with the error Stopped, when it
	// returns true. It is asked after each operation, or batch of touches.
	Stop    func() bool
	Stopped error
}

// Step is one operation after it was run or skipped.
type Step struct {
	Op      Op
	PID     int          // the process's number in the machine; 0 if it never was, and in a mark
	Addr    mem.VirtAddr // what a touch touched, FILE+OFFSET resolved
	Got     Answer       // as Op.Want would have it; zero where skipped or crashed in a call
	Skipped bool
	Outcome Outcome // of a touch
}

// Ops yields operations built in Go, for Run.
func Ops(ops ...Op) iter.Seq2[Op, error] {
	return func(yield func(Op, error) bool) {
		for _, op := range ops {
			if !yield(op, nil) {
				return
			}
		}
	}
}

// Run runs all operations. It boots an empty init if the first one is not boot.
// Operations without a Line, built in Go, get their number, from 1, as Line.
//
// An answer that differs, a crash and a wrong byte are part of the Result. The
// error is the first that ops yields, as it is, or, with its position, trouble
// of the machine or a line that cannot be: a process that nobody forked, that
// has exited, or is forked twice; a FILE+OFFSET that is not mapped. The Result
// then holds what was run until there.
func (r *Runner) Run(ops iter.Seq2[Op, error]) (Result, error) {
	s := r.start()
	err := s.all(ops)
	return s.end(err)
}

func (r *Runner) start() *run {
	s := &run{Runner: r, procs: map[int]*proc{}}
	s.op = &s.step.Op
	s.res.Kinds, s.res.Faults = map[Kind]int{}, map[Fault]int{}
	return s
}

func (s *run) end(err error) (Result, error) {
	s.res.ExecPassed = s.execs - s.res.ExecFailed
	for k, n := range s.kinds {
		if n > 0 {
			s.res.Kinds[Kind(k)] = n
		}
	}
	for i, n := range s.faults {
		if n > 0 {
			s.res.Faults[faults[i]] = n
		}
	}
	return s.res, err
}

// run is the state of one Run.
type run struct {
	*Runner
	res   Result
	execs int           // programs started
	procs map[int]*proc // by the trace's PID
	step  Step          // of the operation that is run
	op    *Op           // step.Op: an Op is large, and copied once

	n       int                 // operations taken
	kinds   [len(kindNames)]int // Result.Kinds
	faults  [nFaults]int        // Result.Faults, by index in faults
	booted  bool
	checked bool                        // operations were, by who decoded them
	held    []Op                        // of a recording: an exec and what follows it; see take
	layout  *Layout                     // of op, an exec
	joined  struct{ path, full string } // the path that was joined last, and what it gave
}

// proc is a process that the trace has named.
type proc struct {
	pid    int          // in the machine; 0 if its fork never happened
	tasks  map[int]bool // its live threads by TID; nil: the first alone
	state  state
	line   int    // where it ended
	why    string // gone: why
	told   bool   // gone: because the trace said so
	exec   int    // number of the exec that started its program, from 1; 0: none
	failed bool   // that exec is counted as failed

	unplaced bool // the trace does not say where that program lay
	heapless bool // the trace does not say where its heap starts, and no brk told yet
}

type state uint8

const (
	alive  state = iota
	exited       // by its own exit
	gone         // crashed, or never was
)

func (s *run) all(ops iter.Seq2[Op, error]) error {
	for op, err := range ops {
		if err == nil {
			err = s.take(&op)
		}
		if err != nil {
			// What was read before the trouble happened, happens.
			if e := s.release(); e != nil {
				return e
			}
			return err
		}
	}
	return s.release()
}

// begin makes op the operation that is run.
func (s *run) begin(op *Op) {
	s.step = Step{Op: *op}
	if s.n++; s.op.Line == 0 {
		s.op.Line = s.n
	}
}

// next runs op.
func (s *run) next(op *Op) error {
	s.begin(op)
	if !s.checked {
		if err := op.Check(); err != nil {
			return s.trouble(err)
		}
	}
	if op.Kind == OpBoot && s.booted {
		return s.trouble(errors.New("only the first operation can be boot"))
	}
	if !s.booted && op.Kind != OpBoot {
		if err := s.boot(""); err != nil {
			return s.trouble(fmt.Errorf("boot an empty init: %w", err))
		}
	}
	s.booted = true
	if s.Before != nil {
		s.Before(s.op)
	}
	if err := s.one(); err != nil {
		return s.trouble(err)
	}
	if s.After != nil {
		s.After(&s.step)
	}
	return nil
}

// trouble adds position and operation to an error that stops the run.
func (s *run) trouble(err error) error {
	return fmt.Errorf("%s: %s: %w", position(s.Name, s.op.Line), s.op.Brief(), err)
}

func (s *run) one() error {
	op := s.op
	if op.Kind == OpMark {
		s.res.Tests = append(s.res.Tests, Test{Name: op.Name, Line: op.Line, Passed: true})
		return nil
	}
	if op.Kind == OpFile {
		s.Machine.File(s.path(), *op.File)
	}
	if op.Kind.Describes() {
		p := s.procs[op.PID]
		if p == nil {
			return nil
		}
		s.step.PID, s.step.Skipped = p.pid, p.state == gone
		if a, ok := s.Machine.(Adopter); ok && op.Kind == OpArea && op.Point == PointFork && p.state == alive && s.adopts() {
			return a.Adopt(p.pid, Mapping{Addr: op.Addr, Len: op.Len, Prot: op.Prot, Flags: op.Flags, Path: s.path(), Offset: op.Offset})
		}
		return nil
	}
	if name, ok := s.marker(); ok {
		s.res.Tests = append(s.res.Tests, Test{Name: name, Line: op.Line, Passed: true})
	}
	if op.Kind == OpBoot {
		if err := s.boot(s.path()); err != nil {
			return err
		}
	}
	p := s.procs[op.PID]
	switch {
	case p == nil:
		return fmt.Errorf("process %d was never forked", op.PID)
	case p.state == exited:
		return fmt.Errorf("process %d has exited in line %d", op.PID, p.line)
	case op.Kind == OpThread && s.procs[op.Want.PID] != nil, op.Kind.forks() && s.procs[op.Want.PID] != nil:
		return fmt.Errorf("child %d was there before: PIDs are not used twice", op.Want.PID)
	}
	s.step.PID = p.pid
	if p.state == gone {
		s.skip(p)
		return nil
	}
	if err := s.do(p); err != nil {
		return err
	}
	s.count()
	return nil
}

// count counts op as run.
func (s *run) count() {
	s.res.Ops++
	s.kinds[s.op.Kind]++
	if t := s.test(); t != nil {
		t.Ops++
	}
}

// skip passes over an operation of a process that is gone.
func (s *run) skip(p *proc) {
	s.step.Skipped = true
	s.res.Skipped++
	if t := s.test(); t != nil {
		t.Skipped++
	}
	if s.op.Kind.forks() {
		s.procs[s.op.Want.PID] = &proc{state: gone, line: p.line, why: p.why, told: p.told}
	}
	if !p.told {
		s.fail(fmt.Sprintf("%s: %v: skipped: %s in line %d", position(s.Name, s.op.Line), *s.op, p.why, p.line))
	}
}

// test returns the test that op belongs to, or nil.
func (s *run) test() *Test {
	if n := len(s.res.Tests); n > 0 {
		return &s.res.Tests[n-1]
	}
	return nil
}

// fail fails the test that op belongs to.
func (s *run) fail(reason string) {
	if t := s.test(); t != nil && t.Passed {
		t.Passed, t.Reason = false, reason
	}
}

func (s *run) boot(path string) error {
	if err := s.Machine.Boot(path); err != nil {
		return err
	}
	s.procs[1] = &proc{pid: 1}
	s.res.Processes++
	return nil
}

// path returns op's path from the runner's point of view.
func (s *run) path() string {
	if s.op.Path == "" || s.Dir == "" || filepath.IsAbs(s.op.Path) {
		return s.op.Path
	}
	if s.joined.path != s.op.Path || s.joined.full == "" { // most are that of the one before
		s.joined.path, s.joined.full = s.op.Path, filepath.Join(s.Dir, s.op.Path)
	}
	return s.joined.full
}

// do runs op, of a process that is alive, and compares its answer.
func (s *run) do(p *proc) error {
	op := s.op
	var got Answer
	var err error
	if s.elsewhere() {
		s.step.Got = *op.Want
		return nil
	}
	switch op.Kind {
	case OpBoot:
		return nil
	case OpTouch:
		return s.touch(p)
	case OpThread:
		p.start(op.PID, op.Want.PID)
		s.res.Threads++
		s.step.Got = *op.Want
		return nil
	case OpExit:
		if p.leave(op.PID, op.Thread()) {
			return nil // others live on
		}
		err = s.Machine.Exit(p.pid, op.Status)
		if err == nil {
			p.state, p.line = exited, op.Line
			return nil
		}
	case OpFork, OpVfork:
		fork := s.Machine.Fork
		if op.Kind == OpVfork {
			fork = s.Machine.Vfork
		}
		var child int
		if child, err = fork(p.pid); err == nil {
			got.PID = op.Want.PID
			s.procs[got.PID] = &proc{pid: child, unplaced: p.unplaced, heapless: p.heapless}
			s.res.Processes++
		}
	case OpExec:
		err = s.Machine.Exec(p.pid, s.path(), s.layout)
	case OpMmap, OpShmat:
		got.Addr, err = s.mmap(p)
	case OpMremap:
		got.Addr, err = s.Machine.Mremap(p.pid, Remapping{op.Addr, op.Len, op.NewLen, op.Remap, op.To, s.recordedPlace()})
	case OpMadvise:
		err = s.Machine.Madvise(p.pid, op.Addr, op.Len, op.Advice)
	case OpMlock, OpMunlock, OpMlockall, OpMunlockall:
		err = s.Machine.Lock(p.pid, Lock{op.Kind, op.Addr, op.Len, op.Bits})
	case OpShmdt:
		err = s.Machine.Shmdt(p.pid, op.Addr)
	case OpMunmap:
		err = s.Machine.Munmap(p.pid, op.Addr, op.Len)
	case OpMprotect:
		err = s.Machine.Mprotect(p.pid, op.Addr, op.Len, op.Prot)
	case OpBrk:
		got.Addr, err = s.brk(p)
	default:
		return errors.New("a machine cannot do it yet")
	}
	if err != nil {
		if got.Errno, err = s.errno(p, err); err != nil {
			return err
		}
		got.Addr = 0
	}
	if op.Kind.forks() && got.PID == 0 {
		s.unborn(p, got.Errno)
	}
	if p.state == gone {
		return nil
	}
	if op.Kind == OpExit {
		return got.Errno // exit cannot fail
	}
	s.compare(got)
	if op.Kind == OpExec {
		return s.started(p, got.Errno)
	}
	return nil
}

// unborn enters the child of a fork that failed, or in which the parent died.
func (s *run) unborn(parent *proc, e syscall.Errno) {
	child := &proc{state: gone, line: s.op.Line, why: fmt.Sprintf("its fork failed with %s", errnoName(e))}
	if parent.state == gone {
		child.why = parent.why
	}
	s.procs[s.op.Want.PID] = child
}

// started follows an exec: a program runs, or the call failed. A process whose
// exec failed against the trace's expectation ends there, as the child of a
// shell does: what follows was meant for the program.
func (s *run) started(p *proc, e syscall.Errno) error {
	switch {
	case e == 0:
		s.execs++
		p.exec, p.failed = s.execs, false
		p.unplaced = !s.layout.Placed()
		p.heapless = s.Header.Recorded() && (s.layout == nil || s.layout.Start == nil || s.layout.Start.Brk == 0)
		p.tasks = nil // it ends all threads but the one that called it, which is the first now
	case s.want().Errno == 0:
		p.state, p.line, p.why = gone, s.op.Line, fmt.Sprintf("its exec failed with %s", errnoName(e))
		if err := s.Machine.Exit(p.pid, 127); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// want returns the answer that op must have; nil if it may have any.
func (s *run) want() *Answer {
	if s.op.Want == nil && s.op.Kind == OpExec {
		return &Answer{}
	}
	return s.op.Want
}

// compare checks the answer of op.
func (s *run) compare(got Answer) {
	s.step.Got = got
	want := s.want()
	if want == nil || want.accepts(got) {
		return
	}
	if s.incomparable() || s.limited(got) {
		s.res.Incomparable++
		return
	}
	m := Mismatch{File: s.Name, Op: *s.op, Want: *want, Got: got}
	s.res.Mismatched++
	if len(s.res.Mismatches) < maxKept {
		s.res.Mismatches = append(s.res.Mismatches, m)
	}
	s.fail(m.String())
}

// errno sorts the error of a system call: its answer, the death of the process
// (which it enters), or trouble.
func (s *run) errno(p *proc, err error) (syscall.Errno, error) {
	var killed *KilledError
	if errors.As(err, &killed) {
		s.crash(p, killed.Reason)
		return 0, nil
	}
	var e syscall.Errno
	if !errors.As(err, &e) || e == 0 {
		return 0, err
	}
	if e == syscall.ESRCH {
		s.crash(p, "killed since its last operation")
		return 0, nil
	}
	return e, nil
}

// touch does op, a touch.
func (s *run) touch(p *proc) error {
	op := s.op
	addr := op.Addr
	if op.Path != "" {
		var ok bool
		if addr, ok = s.Machine.Resolve(p.pid, s.path(), op.Offset); !ok {
			return fmt.Errorf("process %d does not map that offset", op.PID)
		}
	}
	s.step.Addr = addr
	told := op.Want != nil && op.Want.Fault.Fatal()
	// A handler may have run, as that of a Java machine at null: the exit's line says
	// what became of the process.
	lives := s.Header.Recorded() && (told || op.Want == nil)
	o, err := s.Machine.Touch(p.pid, Touch{op.Access, addr, op.Value}, TouchInfo{lives, told, op.IP, op.Code})
	return s.met(p, o, err, lives)
}

// met takes what came of op, a touch of p; lives says that p need not die of a
// refusal.
func (s *run) met(p *proc, o Outcome, err error, lives bool) error {
	op := s.op
	told := op.Want != nil && op.Want.Fault.Fatal()
	if err != nil {
		e, err := s.errno(p, err)
		if err == nil && e != 0 {
			return e // no system call
		}
		return err
	}
	f := slices.Index(faults, o.Fault)
	if f < 0 {
		return fmt.Errorf("the machine met it with %q, which is no fault", clip(string(o.Fault)))
	}
	s.faults[f]++
	s.step.Outcome = o
	got := Answer{Fault: o.Fault}
	if !o.Fault.Fatal() {
		got.Byte, got.HasByte = o.Byte, true
	}
	if o.Wrong {
		s.res.Wrong++
		s.failExec(p)
		s.fail(fmt.Sprintf("%s: %v: %s", position(s.Name, op.Line), *op, reason(o)))
	}
	if lives && told && op.Want.Fault == SigBus && !o.Fault.Fatal() {
		s.res.Incomparable++ // this machine has zeros beyond the end of a file
	} else {
		s.compare(got)
	}
	if lives && !told && !o.Crashed && o.Fault.Fatal() {
		if s.res.Refused++; s.res.FirstRefused == nil {
			s.res.FirstRefused = &Refusal{s.Name, *op, reason(o)}
		}
	}
	if !o.Crashed && (lives || !o.Fault.Fatal()) {
		return nil
	}
	if op.Want != nil && op.Want.Fault == o.Fault && o.Fault.Fatal() {
		p.state, p.line, p.why, p.told = gone, op.Line, string(o.Fault), true
		return nil
	}
	s.crash(p, reason(o))
	return nil
}

// reason says in words what went wrong.
func reason(o Outcome) string {
	switch {
	case o.Reason != "":
		return o.Reason
	case o.Wrong:
		return "a wrong byte"
	}
	return string(o.Fault)
}

// crash enters the death of p in op, which the trace did not foretell.
func (s *run) crash(p *proc, why string) {
	c := Crash{File: s.Name, Op: *s.op, PID: p.pid, Exec: p.exec, Reason: why}
	p.state, p.line, p.why = gone, s.op.Line, "crashed: "+why
	s.res.Crashes++
	if s.res.FirstCrash == nil {
		s.res.FirstCrash = &c
	}
	s.failExec(p)
	s.fail(c.String())
}

// failExec counts p's program as failed, once.
func (s *run) failExec(p *proc) {
	if p.exec != 0 && !p.failed {
		p.failed = true
		s.res.ExecFailed++
	}
}
