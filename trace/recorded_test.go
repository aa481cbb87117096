package trace

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/mem"
)

// recordedScript is script for a recording.
func recordedScript(text string, answers map[string]any) (*fake, Result, error) {
	f := &fake{script: answers}
	src := NewDecoder("t.trace", strings.NewReader("vmsim-trace 1\nheader source test\nheader touches complete\n"+text))
	h, err := src.Header()
	if err != nil {
		return f, Result{}, err
	}
	r := Runner{Machine: f, Name: "t.trace", Dir: "/dir", Header: h}
	res, err := r.RunSource(src)
	return f, res, err
}

// TestRecordedCalls: what a machine is asked for by the lines of a recording.
func TestRecordedCalls(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		answers     map[string]any
		want        string // calls of process 100, the trace's 2
		mismatch    string // "" is none
	}{
		{"exec waits for its areas", `2 exec /a base=0x1000 = 0
file /b size=3
2 area exec 0x5000-0x6000 rw- private [stack]
2 area exec 0x1000-0x2000 r-x private /a+0
2 area exec 0x7000-0x8000 r-x private [vdso]
2 brk 0`, nil, "exec 100 /a base=0x1000 [stack][0x5000, 0x6000) [vdso][0x7000, 0x8000)\nfile /b 3\nbrk 100 0x0", ""},
		{"areas of another process are not its", `2 exec /a base=0x1000
1 area exec 0x5000-0x6000 rw- private [stack]`, nil, "exec 100 /a base=0x1000", ""},
		{"areas of another point are not its", `2 exec /a base=0x1000
2 area exit 0x5000-0x6000 rw- private [stack]`, nil, "exec 100 /a base=0x1000", ""},
		{"exec at the end of the trace", "2 exec /a", nil, "exec 100 /a", ""},
		{"exec that failed is not tried", "2 exec /a = ENOENT", nil, "", ""},
		{"mmap goes where it went", "2 mmap 0 0x1000 rw- private anon = 0x7000", nil, "mmap 100 0x0 0x1000 rw- private +0x0 at 0x7000", ""},
		{"and fails as it failed", "2 mmap 0x10000 0x1000 rw- private anon = ENOMEM",
			map[string]any{"mmap 100 0x10000 0x1000 rw- private +0x0": syscall.ENOMEM}, "mmap 100 0x10000 0x1000 rw- private +0x0", ""},
		{"or is undone", "2 mmap 0x10000 0x1000 rw- private anon = ENOMEM", nil,
			"mmap 100 0x10000 0x1000 rw- private +0x0\nmunmap 100 0x10000 0x1000",
			""},
		{"but not over what was there", "2 mmap 0x10000 0x1000 rw- private,fixed anon = ENOMEM", nil,
			"mmap 100 0x10000 0x1000 rw- private,fixed +0x0",
			"t.trace:5: 2 mmap 0x10000 0x1000 rw- private,fixed anon = ENOMEM: got 0x10000"},
		{"a bad descriptor is not in the trace", "2 mmap 0 0x1000 r-- private anon = EBADF", nil, "", ""},
		{"mremap", "2 mremap 0x1000 0x1000 0x2000 maymove = 0x9000", nil, "mremap 100 0x1000 0x1000 0x2000 maymove to 0x0 at 0x9000", ""},
		{"shmat is a shared mapping", "2 shmat 0 0x2000 rw- /SYSV = 0x9000\n2 shmdt 0x9000 = 0", nil,
			"mmap 100 0x0 0x2000 rw- shared /SYSV+0x0 at 0x9000\nshmdt 100 0x9000", ""},
		{"madvise, mlock", "2 madvise 0x1000 0x1000 dontneed = 0\n2 mlock 0x1000 0x1000 flags=1\n2 mlockall flags=3\n2 munlock 0x1000 0x1000\n2 munlockall", nil,
			"madvise 100 0x1000 0x1000 dontneed\nmlock 100 0x1000 0x1000 0x1\nmlockall 100 0x0 0x0 0x3\nmunlock 100 0x1000 0x1000 0x0\nmunlockall 100 0x0 0x0 0x0", ""},
		{"a signal handler ran", "2 touch r 0x1000 = SEGV_MAPERR\n2 brk 0", map[string]any{"touch 100 r 0x1000 0": Outcome{Fault: SegvMapErr}},
			"touch 100 r 0x1000 0\nbrk 100 0x0", ""},
		{"the last thread ends the process", "2 thread = 3\n2/3 brk 0\n2 exit\n2/3 brk 0\n2/3 exit 1", nil, "brk 100 0x0\nbrk 100 0x0\nexit 100 1", ""},
		{"exec ends all threads", "2 thread = 3\n2 exec /a\n2 brk 0\n2/3 exit\n2 exit", nil, "exec 100 /a\nbrk 100 0x0\nexit 100 0", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, res, err := recordedScript("1 fork = 2\n"+c.lines, c.answers)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Join(f.calls[2:], "\n") // boot and fork before
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("calls: -want +got\n%s", d)
			}
			mismatch := ""
			if len(res.Mismatches) > 0 {
				mismatch = res.Mismatches[0].String()
			}
			if mismatch != c.mismatch || res.Crashes != 0 {
				t.Errorf("mismatch %q, want %q; %d crashes", mismatch, c.mismatch, res.Crashes)
			}
		})
	}
}

// A touch that a machine refuses is no crash of a recording: it does not say
// whether the kernel refused it too. It is counted, and its process goes on to its
// exit. In a trace that somebody wrote it is one.
func TestRecordedRefusal(t *testing.T) {
	const text = "1 fork = 2\n2 touch r 0x1000 ip=0x40 err=4\n2 touch w 0x2000 = SEGV_ACCERR\n2 touch r 0x3000\n2 touch r 0x1000\n2 exit signal=11\n"
	refused := map[string]any{"touch 100 r 0x1000 0": Outcome{Fault: SegvMapErr, Reason: "no memory"}, "touch 100 w 0x2000 1": Outcome{Fault: SegvAccErr}}
	_, res, err := recordedScript(text, refused)
	if err != nil || !res.OK() || res.Refused != 2 || res.Skipped != 0 || res.Faults[FaultMinor] != 1 {
		t.Errorf("%v, %+v", err, res)
	}
	if got, want := res.FirstRefused.String(), "t.trace:5: 2 touch r 0x1000 ip=0x40 err=4: no memory"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_, res, err = script(text, refused)
	if err != nil || res.Crashes != 1 || res.Refused != 0 {
		t.Errorf("written: %v, %+v", err, res)
	}
}

// A perf.data does not say where a heap starts: its first brk does, unless that
// asks for something, or an exec has said it.
func TestRecordedHeap(t *testing.T) {
	for _, c := range []struct{ lines, want string }{
		{"2 exec /p base=0x1000 = 0\n2 brk 0 = 0x5000\n2 brk 0 = 0x6000", "heap 100 0x5000"},
		{"2 exec /p base=0x1000 = 0\n2 fork = 3\n3 brk 0 = 0x5000\n2 brk 0 = 0x5000", "heap 101 0x5000, heap 100 0x5000"},
		{"2 exec /p base=0x1000 brk=0x4000 = 0\n2 brk 0 = 0x5000", ""},
		{"2 exec /p base=0x1000 = 0\n2 brk 0x7000 = 0x5000\n2 brk 0 = 0x5000", ""},
		{"2 brk 0 = 0", ""},
	} {
		f, _, err := recordedScript("1 fork = 2\n"+c.lines, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, call := range f.calls {
			if strings.HasPrefix(call, "heap") {
				got = append(got, call)
			}
		}
		if got := strings.Join(got, ", "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.lines, got, c.want)
		}
	}
}

// What the machine itself ends, as where memory runs out, is a crash.
func TestRecordedCrash(t *testing.T) {
	_, res, err := recordedScript("1 fork = 2\n2 touch r 0x1000\n2 brk 0\n2 vfork = 3\n3 exit\n1 vfork = 4\n4 exit",
		map[string]any{"touch 100 r 0x1000 0": Outcome{Fault: OOM, Crashed: true}})
	if err != nil || res.Crashes != 1 || res.Skipped != 3 || res.Processes != 3 {
		t.Errorf("%v, %+v", err, res)
	}
}

// Where a program lay that the trace does not place, nothing is to be compared; of
// one that it does place, and of new mappings, answers are.
func TestIncomparable(t *testing.T) {
	for _, c := range []struct {
		exec, line string
		differs    bool
	}{
		{"2 exec /a", "2 brk 0x1000 = 0x2000", false},
		{"2 exec /a", "2 brk 0x1000 = 0x2000\n2 fork = 3\n3 brk 0x1000 = 0x2000", false},
		{"2 exec /a base=0x1000", "2 brk 0x1000 = 0x2000", true},
		{"2 exec /a", "2 mmap 0x1000 0x1000 r-- private,fixed anon = EINVAL", true},
		{"2 brk 0", "2 brk 0x1000 = 0x2000", true},
	} {
		_, res, err := recordedScript("1 fork = 2\n"+c.exec+"\n"+c.line, nil)
		if err != nil || (res.Mismatched > 0) != c.differs || (res.Incomparable > 0) == c.differs {
			t.Errorf("%s, %s: %v, %d differ, %d are not comparable", c.exec, c.line, err, res.Mismatched, res.Incomparable)
		}
	}
}

// Programs that are run with MarkerArg begin tests.
func TestMarkers(t *testing.T) {
	_, res, err := recordedScript(`1 fork = 2
2 exec /bb base=0x1000 arg=/bb arg=true arg=vmsim-test arg=files/cp
2 brk 0 = 0x1
2 exec /bb base=0x1 arg=/bb arg=vmsim-test arg=text/sort
2 exec /bb base=0x1 arg=/bb arg=a arg=b arg=vmsim-test arg=no
2 exec /bb base=0x1 arg=vmsim-test arg=no
2 exec /bb base=0x1 arg=/bb arg=vmsim-test
2 exec /bb base=0x1 arg=/bb arg=vmsim-test arg=failed = ENOENT
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := []Test{
		{"files/cp", 5, 2, 0, false, "t.trace:6: 2 brk 0 = 0x1: got 0"},
		{"text/sort", 7, 5, 0, true, ""},
	}
	if d := cmp.Diff(want, res.Tests); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	// In a written trace they are arguments like others.
	_, res, err = script("1 fork = 2\n2 exec /bb base=0x1 arg=/bb arg=vmsim-test arg=text/sort\n", nil)
	if err != nil || len(res.Tests) != 0 {
		t.Errorf("%v, %v", err, res.Tests)
	}
}

// hitter is a fake that has some pages in its TLB.
type hitter struct {
	*fake
	has map[mem.VirtAddr]bool
	hit int
}

// Batch does what is in has, and says of the rest that it went ill.
func (h *hitter) Batch(pid int, ts *Touches, from int, met []int) (n int, o Outcome, err error) {
	touches := ts.Touch[from:]
	for n < len(touches) && h.has[touches[n].Addr.PageDown()] {
		n++
	}
	if len(ts.IPs) != len(ts.Touch) {
		panic("instruction pointers of other touches")
	}
	h.hit += n
	met[0] += n
	if n < len(touches) {
		o, err = h.Touch(pid, touches[n], TouchInfo{IP: ts.IPs[from+n]})
	}
	return n, o, err
}

// TestTouchesFast: runs of touches come to the same one by one and as a batch, with
// their lines, in both forms.
func TestTouchesFast(t *testing.T) {
	ops := []Op{{PID: 1, Kind: OpFork, Want: &Answer{PID: 2}}, {PID: 2, Kind: OpExec, Path: "/a"}}
	for i := range 3000 {
		ops = append(ops, Op{PID: 2, Kind: OpTouch, Addr: mem.VirtAddr(i%7) * 0x1000, Access: mem.Access(i % 2), Value: byte(i % 2), IP: 0x10})
		if i%1000 == 999 {
			ops = append(ops, Op{PID: 2, Kind: OpBrk})
		}
	}
	ops = append(ops, Op{PID: 2, Kind: OpExit})
	head := Header{Source: "test", Touches: TouchesAll}
	var bin, text strings.Builder
	w, err := NewWriter(&bin, head)
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEncoder(&text, head)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if err := errors.Join(w.Write(&op), e.Encode(op)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(head); err != nil {
		t.Fatal(err)
	}
	run := func(in string) (*hitter, Result, []int) {
		src, err := Open("t", strings.NewReader(in))
		if err != nil {
			t.Fatal(err)
		}
		h := &hitter{fake: &fake{}, has: map[mem.VirtAddr]bool{0: true, 0x1000: true, 0x3000: true}}
		var touched []int
		r := Runner{Machine: h, Header: head, After: func(s *Step) {
			if s.Op.Kind == OpTouch {
				touched = append(touched, s.Op.Line)
			}
		}}
		res, err := r.RunSource(src)
		if err != nil {
			t.Fatal(err)
		}
		return h, res, touched
	}
	slow, want, _ := run(text.String())
	fast, got, lines := run(bin.String())
	if slow.hit != 0 || fast.hit < 1000 || got.Ops != want.Ops || got.Kinds[OpTouch] != 3000 || want.Kinds[OpTouch] != 3000 {
		t.Errorf("%d and %d hits, %d and %d operations, %v", slow.hit, fast.hit, want.Ops, got.Ops, got.Kinds)
	}
	if fast.hit+len(lines) != 3000 || lines[0] != 5 { // the third touch is the first to miss
		t.Errorf("%d hits, %d others, the first in line %d", fast.hit, len(lines), lines[0])
	}
	if last := len(fast.calls) - 1; fast.calls[last] != "exit 100 0" {
		t.Errorf("last call %s", fast.calls[last])
	}
}

// What the kernel refused for want of memory, and the machine does not, is undone
// and no mismatch: limits are not in the trace.
func TestRecordedLimits(t *testing.T) {
	f, res, err := recordedScript("1 fork = 2\n2 exec /p base=0x1000 brk=0x5000 = 0\n2 brk 0x9000 = 0x5000\n2 mmap 0 0x1000 rw- private anon = ENOMEM\n2 brk 0x9000 = 0xa000\n", nil)
	if err != nil || res.Incomparable != 2 || res.Mismatched != 1 {
		t.Errorf("%v, %d incomparable, %v", err, res.Incomparable, res.Mismatches)
	}
	calls := strings.Join(f.calls, ", ")
	if !strings.Contains(calls, "brk 100 0x9000, brk 100 0x5000, mmap") || !strings.HasSuffix(calls, "brk 100 0x9000") {
		t.Errorf("calls %s", calls)
	}
}
