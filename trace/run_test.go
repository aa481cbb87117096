package trace

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/mem"
)

// fake is a Machine that does what its script says and writes down what it was
// asked. PIDs count from 100, so that they are never those of the trace.
type fake struct {
	script map[string]any // answer by call, as calls has it: an error or an Outcome
	calls  []string
	last   int
}

func (f *fake) call(format string, args ...any) (any, error) {
	s := fmt.Sprintf(format, args...)
	f.calls = append(f.calls, s)
	err, _ := f.script[s].(error)
	return f.script[s], err
}

func (f *fake) Boot(path string) error {
	f.last = 99
	_, err := f.call("boot %s", path)
	return err
}

func (f *fake) Fork(pid int) (int, error) {
	if _, err := f.call("fork %d", pid); err != nil {
		return 0, err
	}
	f.last++
	return f.last, nil
}

func (f *fake) Vfork(pid int) (int, error) {
	if _, err := f.call("vfork %d", pid); err != nil {
		return 0, err
	}
	f.last++
	return f.last, nil
}

func (f *fake) Exec(pid int, path string, at *Layout) error {
	s := fmt.Sprintf("exec %d %s", pid, path)
	if at != nil && at.Start != nil {
		s += fmt.Sprintf(" base=%v", at.Start.Base)
	}
	if at != nil {
		for _, a := range at.Areas {
			s += fmt.Sprintf(" %s%v", a.Name, a.Range)
		}
	}
	_, err := f.call("%s", s)
	return err
}

func (f *fake) Mremap(pid int, m Remapping) (mem.VirtAddr, error) {
	_, err := f.call("mremap %d %v %#x %#x %v to %v at %v", pid, m.Addr, m.Len, m.NewLen, m.Flags, m.To, m.At)
	return m.At, err
}

func (f *fake) Madvise(pid int, addr mem.VirtAddr, length uint64, advice Advice) error {
	_, err := f.call("madvise %d %v %#x %v", pid, addr, length, advice)
	return err
}

func (f *fake) Lock(pid int, l Lock) error {
	_, err := f.call("%v %d %v %#x %#x", l.Kind, pid, l.Addr, l.Len, l.Flags)
	return err
}

func (f *fake) Shmdt(pid int, addr mem.VirtAddr) error {
	_, err := f.call("shmdt %d %v", pid, addr)
	return err
}

func (f *fake) File(path string, info FileInfo) { f.call("file %s %d", path, info.Size) }

func (f *fake) Exit(pid, status int) error {
	_, err := f.call("exit %d %d", pid, status)
	return err
}

func (f *fake) Mmap(pid int, m Mapping) (mem.VirtAddr, error) {
	s := fmt.Sprintf("mmap %d %v %#x %v %v %s+%#x", pid, m.Addr, m.Len, m.Prot, m.Flags, m.Path, m.Offset)
	if m.At != 0 {
		s += fmt.Sprintf(" at %v", m.At)
		m.Addr = m.At
	}
	_, err := f.call("%s", s)
	return m.Addr, err
}

func (f *fake) Munmap(pid int, addr mem.VirtAddr, length uint64) error {
	_, err := f.call("munmap %d %v %#x", pid, addr, length)
	return err
}

func (f *fake) Mprotect(pid int, addr mem.VirtAddr, length uint64, prot mem.Prot) error {
	_, err := f.call("mprotect %d %v %#x %v", pid, addr, length, prot)
	return err
}

func (f *fake) Brk(pid int, addr mem.VirtAddr) (mem.VirtAddr, error) {
	_, err := f.call("brk %d %v", pid, addr)
	return addr, err
}

func (f *fake) StartHeap(pid int, at mem.VirtAddr) { f.call("heap %d %v", pid, at) }

func (f *fake) Touch(pid int, t Touch, _ TouchInfo) (Outcome, error) {
	v, err := f.call("touch %d %s %v %d", pid, t.Access.Letter(), t.Addr, t.Value)
	if o, ok := v.(Outcome); ok {
		return o, nil
	}
	return Outcome{Fault: FaultMinor, Byte: t.Value}, err
}

func (f *fake) Resolve(pid int, path string, off uint64) (mem.VirtAddr, bool) {
	v, _ := f.call("resolve %d %s+%#x", pid, path, off)
	a, ok := v.(mem.VirtAddr)
	return a, ok
}

// script runs a trace on a fake.
func script(text string, answers map[string]any) (*fake, Result, error) {
	f := &fake{script: answers}
	r := Runner{Machine: f, Name: "t.trace", Dir: "/dir"}
	res, err := r.Run(NewDecoder("t.trace", strings.NewReader("vmsim-trace 1\n"+text)).All())
	return f, res, err
}

func TestRunCalls(t *testing.T) {
	f, res, err := script(`
1 boot ../elf/a
1 fork = 7
7 exec b = 0
7 mmap 0x1000 0x2000 rw- private,fixed anon = 0x1000
7 mmap 0x5000 0x1000 r-- shared /abs/c+0x1000 = 0x5000
7 munmap 0x1000 0x1000 = 0
7 mprotect 0x2000 0x1000 r-x = EACCES
7 brk 0x9000 = 0x9000
7 touch w 0x2000 0x41 = minor 0x41
7 touch x b+0x10
1 fork = 9
9 exit 3
7 exit
`, map[string]any{
		"mprotect 100 0x2000 0x1000 r-x": fmt.Errorf("mprotect: %w", syscall.EACCES),
		"resolve 100 /dir/b+0x10":        mem.VirtAddr(0x400010),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"boot /elf/a", "fork 1", "exec 100 /dir/b",
		"mmap 100 0x1000 0x2000 rw- private,fixed +0x0", "mmap 100 0x5000 0x1000 r-- shared /abs/c+0x1000",
		"munmap 100 0x1000 0x1000", "mprotect 100 0x2000 0x1000 r-x", "brk 100 0x9000",
		"touch 100 w 0x2000 65", "resolve 100 /dir/b+0x10", "touch 100 x 0x400010 0",
		"fork 1", "exit 101 3", "exit 100 0",
	}
	if d := cmp.Diff(want, f.calls); d != "" {
		t.Errorf("calls: -want +got\n%s", d)
	}
	wantRes := Result{
		Ops: 13, Processes: 3, ExecPassed: 1,
		Kinds: map[Kind]int{OpBoot: 1, OpFork: 2, OpExec: 1, OpMmap: 2, OpMunmap: 1, OpMprotect: 1, OpBrk: 1,
			OpTouch: 2, OpExit: 2},
		Faults: map[Fault]int{FaultMinor: 2},
	}
	if d := cmp.Diff(wantRes, res); d != "" {
		t.Errorf("result: -want +got\n%s", d)
	}
	if !res.OK() {
		t.Error("not OK")
	}
}

// A crash takes its process and the children that it would have forked; all
// others go on, under other PIDs than the trace's.
func TestRunCrash(t *testing.T) {
	f, res, err := script(`test "one"
1 fork = 2
2 exec a
2 touch r 0x1000 = minor
2 fork = 3
3 exec a
3 fork = 4
4 exit
3 exit
2 exit
test "two"
1 fork = 5
5 exec a
5 touch r 0x2000
5 exit
test "three"
2 exit
`, map[string]any{"touch 100 r 0x1000 0": Outcome{Fault: SegvAccErr, Crashed: true}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"boot ", "fork 1", "exec 100 /dir/a", "touch 100 r 0x1000 0",
		"fork 1", "exec 101 /dir/a", "touch 101 r 0x2000 0", "exit 101 0"}
	if d := cmp.Diff(want, f.calls); d != "" {
		t.Errorf("calls: -want +got\n%s", d)
	}
	touch := Op{Line: 5, PID: 2, Kind: OpTouch, Addr: 0x1000, Want: &Answer{Fault: FaultMinor}}
	wantRes := Result{
		Ops: 7, Skipped: 7, Processes: 3, ExecPassed: 1, ExecFailed: 1,
		Kinds:   map[Kind]int{OpFork: 2, OpExec: 2, OpTouch: 2, OpExit: 1},
		Faults:  map[Fault]int{SegvAccErr: 1, FaultMinor: 1},
		Crashes: 1, FirstCrash: &Crash{"t.trace", touch, 100, 1, "SEGV_ACCERR"},
		Mismatched: 1, Mismatches: []Mismatch{{"t.trace", touch, Answer{Fault: FaultMinor}, Answer{Fault: SegvAccErr}}},
		Tests: []Test{
			{"one", 2, 3, 6, false, "t.trace:5: 2 touch r 0x1000 = minor: got SEGV_ACCERR"},
			{"two", 12, 4, 0, true, ""},
			{"three", 17, 0, 1, false, "t.trace:18: 2 exit: skipped: crashed: SEGV_ACCERR in line 5"},
		},
	}
	if d := cmp.Diff(wantRes, res); d != "" {
		t.Errorf("result: -want +got\n%s", d)
	}
	if got, want := res.FirstCrash.String(), "t.trace:5: 2 touch r 0x1000 = minor: crashed: SEGV_ACCERR (exec 1, machine PID 100)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if res.OK() || res.TestsPassed() != 1 {
		t.Errorf("OK %v, %d tests passed", res.OK(), res.TestsPassed())
	}
}

// One line of a trace against one answer of the machine.
func TestRunAnswers(t *testing.T) {
	disk := errors.New("disk on fire")
	for _, c := range []struct {
		name   string
		line   string // of process 2, with a child 3 to come
		call   string
		answer any
		want   string // error, mismatch, crash or reason of the failed test; "" is a passed test
		gone   bool   // process 2 does not live on
	}{
		{"no answer wanted", "2 munmap 0x1000 1", "munmap 100 0x1000 0x1", syscall.EINVAL, "", false},
		{"the errno wanted", "2 munmap 0x1000 1 = EINVAL", "munmap 100 0x1000 0x1", syscall.EINVAL, "", false},
		{"an errno not wanted", "2 munmap 0x1000 1 = 0", "munmap 100 0x1000 0x1", syscall.EINVAL,
			"t.trace:5: 2 munmap 0x1000 0x1 = 0: got EINVAL", false},
		{"success not wanted", "2 munmap 0x1000 1 = EINVAL", "", nil, "t.trace:5: 2 munmap 0x1000 0x1 = EINVAL: got 0", false},
		{"another address", "2 brk 0x1000 = 0x2000", "", nil, "t.trace:5: 2 brk 0x1000 = 0x2000: got 0x1000", false},
		{"errno and address", "2 mmap 0x1000 1 r-- private anon = 0x1000", "mmap 100 0x1000 0x1 r-- private +0x0", syscall.ENOMEM,
			"t.trace:5: 2 mmap 0x1000 0x1 r-- private anon = 0x1000: got ENOMEM", false},
		{"byte", "2 touch w 0 0x41 = 0x42", "", nil, "t.trace:5: 2 touch w 0 0x41 = 0x42: got minor 0x41", false},
		{"byte as wanted", "2 touch w 0 0x41 = 0x41", "", nil, "", false},
		{"fault", "2 touch r 0 = cow", "", nil, "t.trace:5: 2 touch r 0 = cow: got minor 0x00", false},
		{"a crash foretold", "2 touch r 0 = SEGV_MAPERR", "touch 100 r 0x0 0", Outcome{Fault: SegvMapErr, Crashed: true}, "", true},
		{"children of the foretold", "2 touch r 0 = SEGV_MAPERR\n2 fork = 3\n3 exit", "touch 100 r 0x0 0", Outcome{Fault: SegvMapErr, Crashed: true}, "", true},
		{"another crash", "2 touch r 0 = SEGV_MAPERR", "touch 100 r 0x0 0", Outcome{Fault: SegvAccErr, Crashed: true},
			"t.trace:5: 2 touch r 0 = SEGV_MAPERR: got SEGV_ACCERR", true},
		{"no crash", "2 touch r 0 = SEGV_MAPERR", "", nil, "t.trace:5: 2 touch r 0 = SEGV_MAPERR: got minor 0x00", false},
		{"wrong byte", "2 touch r 0", "touch 100 r 0x0 0", Outcome{Fault: FaultNone, Wrong: true}, "t.trace:5: 2 touch r 0: a wrong byte", false},
		{"wrong byte kills", "2 touch r 0", "touch 100 r 0x0 0", Outcome{Fault: FaultNone, Wrong: true, Crashed: true, Reason: "byte 3"},
			"t.trace:5: 2 touch r 0: byte 3", true},
		{"out of memory", "2 touch r 0", "touch 100 r 0x0 0", Outcome{Fault: OOM, Crashed: true},
			"t.trace:5: 2 touch r 0: crashed: OOM (exec 1, machine PID 100)", true},
		{"killed in exec", "2 exec b = 0", "exec 100 /dir/b", fmt.Errorf("exec: %w", &KilledError{"OOM"}),
			"t.trace:5: 2 exec b = 0: crashed: OOM (exec 1, machine PID 100)", true},
		{"killed in between", "2 brk 0", "brk 100 0x0", syscall.ESRCH,
			"t.trace:5: 2 brk 0: crashed: killed since its last operation (exec 1, machine PID 100)", true},
		{"exec must succeed", "2 exec b", "exec 100 /dir/b", syscall.ENOEXEC, "t.trace:5: 2 exec b = 0: got ENOEXEC", true},
		{"exec fails as wanted", "2 exec b = ENOENT", "exec 100 /dir/b", syscall.ENOENT, "", false},
		{"exec fails otherwise", "2 exec b = ENOENT", "exec 100 /dir/b", syscall.EACCES, "t.trace:5: 2 exec b = ENOENT: got EACCES", false},
		{"fork fails", "2 fork = 3\n3 exit", "fork 100", syscall.ENOMEM, "t.trace:5: 2 fork = 3: got ENOMEM", false},
		{"killed in fork", "2 fork = 3\n3 exit", "fork 100", syscall.ESRCH,
			"t.trace:5: 2 fork = 3: crashed: killed since its last operation (exec 1, machine PID 100)", true},
		{"trouble", "2 exec b", "exec 100 /dir/b", disk, "error: t.trace:5: 2 exec b: disk on fire", false},
		{"exit cannot fail", "2 exit", "exit 100 0", syscall.EINVAL, "error: t.trace:5: 2 exit: invalid argument", false},
		{"a touch is no system call", "2 touch r 0", "touch 100 r 0x0 0", syscall.EINVAL, "error: t.trace:5: 2 touch r 0: invalid argument", false},
		{"no such fault", "2 touch r 0", "touch 100 r 0x0 0", Outcome{Fault: "odd"},
			`error: t.trace:5: 2 touch r 0: the machine met it with "odd", which is no fault`, false},
		{"offset not mapped", "2 touch r b+0x10", "", nil, "error: t.trace:5: 2 touch r b+0x10: process 2 does not map that offset", false},
		{"nobody", "8 exit", "", nil, "error: t.trace:5: 8 exit: process 8 was never forked", false},
		{"child of itself", "2 fork = 2", "", nil, "error: t.trace:5: 2 fork = 2: child 2 was there before: PIDs are not used twice", false},
		{"dead", "2 exit\n2 brk 0", "", nil, "error: t.trace:6: 2 brk 0: process 2 has exited in line 5", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, res, err := script("1 fork = 2\n2 exec a\ntest \"it\"\n"+c.line+"\n2 brk 0x777\n2 exit", map[string]any{c.call: c.answer})
			got := res.Tests[0].Reason
			if err != nil {
				got = "error: " + err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if err != nil {
				return
			}
			if res.Tests[0].Passed != (c.want == "") || res.OK() != (c.want == "") {
				t.Errorf("passed %v, OK %v", res.Tests[0].Passed, res.OK())
			}
			lives := strings.Contains(strings.Join(f.calls, "\n"), "brk 100 0x777")
			if lives == c.gone {
				t.Errorf("gone %v, want %v", !lives, c.gone)
			}
		})
	}
}

// What the table of answers cannot show: the counts of executions.
func TestRunExecutions(t *testing.T) {
	_, res, err := script(`1 fork = 2
2 exec a
2 exec b
2 touch r 0x1000           # wrong, twice: one failure
2 touch r 0x1000
2 exec c                   # wrong again, another program
2 touch r 0x1000
1 fork = 3
3 exec a
3 touch r 0x2000 = SEGV_MAPERR
3 exit                     # skipped
1 fork = 4
4 exec missing = ENOENT
4 exec c
`, map[string]any{
		"touch 100 r 0x1000 0":  Outcome{Fault: FaultNone, Wrong: true},
		"touch 101 r 0x2000 0":  Outcome{Fault: SegvMapErr, Crashed: true},
		"exec 102 /dir/missing": syscall.ENOENT,
	})
	if err != nil {
		t.Fatal(err)
	}
	if res.ExecPassed != 3 || res.ExecFailed != 2 || res.Wrong != 3 || res.Crashes != 0 || res.Skipped != 1 {
		t.Errorf("%+v", res)
	}
}

func TestRunMismatchesBounded(t *testing.T) {
	ops := make([]Op, maxKept+5)
	for i := range ops {
		ops[i] = Op{PID: 1, Kind: OpBrk, Addr: 1, Want: &Answer{Addr: 2}}
	}
	res, err := (&Runner{Machine: &fake{}}).Run(Ops(ops...))
	if err != nil || res.Mismatched != len(ops) || len(res.Mismatches) != maxKept {
		t.Errorf("%v, %d counted, %d kept", err, res.Mismatched, len(res.Mismatches))
	}
	if got, want := res.Mismatches[2].String(), "line 3: 1 brk 0x1 = 0x2: got 0x1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Operations built in Go are checked as parsed ones are.
func TestRunChecks(t *testing.T) {
	for _, c := range []struct {
		ops  []Op
		want string
	}{
		{[]Op{{PID: 1, Kind: OpExit, Status: -1}}, "line 1: 1 exit -1: exit: status -1 is not in 0 to 255"},
		{[]Op{{PID: 1, Kind: OpBrk}, {PID: 1, Kind: OpBoot}}, "line 2: 1 boot: only the first operation can be boot"},
		{[]Op{{}}, "line 1: 0 Kind(0): operation Kind(0) does not exist"},
		{[]Op{{PID: 1, Kind: OpTouch, Access: 7}}, "line 1: 1 touch ? 0: touch: access 7 is none of read, write, exec"},
	} {
		if _, err := (&Runner{Machine: &fake{}}).Run(Ops(c.ops...)); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// An error of the source or of Boot ends the run; what was found stays.
func TestRunStops(t *testing.T) {
	_, res, err := script("1 brk 0x1000 = 0\n1 oops\n", nil)
	var s *SyntaxError
	if !errors.As(err, &s) || s.Line != 3 || res.Mismatched != 1 || res.Ops != 1 {
		t.Errorf("%v, %+v", err, res)
	}
	_, res, err = script("1 boot a\n", map[string]any{"boot /dir/a": syscall.ENOENT})
	if err == nil || err.Error() != "t.trace:2: 1 boot a: no such file or directory" || res.Ops != 0 {
		t.Errorf("%v, %+v", err, res)
	}
}

// After sees every step with the answer as a trace would write it: a run can
// rewrite its own trace.
func TestRunAfter(t *testing.T) {
	const text = `vmsim-trace 1
test "rewrite"
1 fork = 5
5 exec a
5 touch w a+0x10 0x41
5 brk 0x1000 = 0x2000
5 touch r 0x3000
5 exit
`
	var out []Op
	var skipped, pids []int
	r := Runner{Machine: &fake{script: map[string]any{
		"resolve 100 a+0x10":   mem.VirtAddr(0x400010),
		"touch 100 r 0x3000 0": Outcome{Fault: SigBus, Crashed: true},
	}}}
	r.After = func(st *Step) {
		s := *st
		if s.Skipped {
			skipped = append(skipped, s.Op.Line)
		} else if s.Got != (Answer{}) {
			s.Op.Want = &s.Got
		}
		if s.Op.Path == "a" && s.Op.Kind == OpTouch && s.Addr != 0x400010 {
			t.Errorf("touched %v", s.Addr)
		}
		out, pids = append(out, s.Op), append(pids, s.PID)
	}
	if _, err := r.Run(NewDecoder("t", strings.NewReader(text)).All()); err != nil {
		t.Fatal(err)
	}
	got, err := Format(out)
	if err != nil {
		t.Fatal(err)
	}
	want := `vmsim-trace 1
test "rewrite"
1 fork = 5
5 exec a
5 touch w a+0x10 0x41 = minor 0x41
5 brk 0x1000 = 0x1000
5 touch r 0x3000 = SIGBUS
5 exit
`
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if d := cmp.Diff([]int{8}, skipped); d != "" {
		t.Errorf("skipped: -want +got\n%s", d)
	}
	if d := cmp.Diff([]int{0, 1, 100, 100, 100, 100, 100}, pids); d != "" {
		t.Errorf("PIDs: -want +got\n%s", d)
	}
}
