//go:build linux && amd64

package tracee

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"vmsim/mem"
)

// driverEnv makes the test program a recorder of its arguments, in the mode of the
// value: for tests of what only a process of its own can show.
const driverEnv = "VMSIM_TRACEE_DRIVER"

func TestMain(m *testing.M) {
	Trampoline()
	if mode := os.Getenv(driverEnv); mode != "" {
		os.Exit(drive(mode))
	}
	code := m.Run()
	if zooDir != "" {
		os.RemoveAll(zooDir)
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func drive(mode string) int {
	cfg := Config{Argv: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Signals: true}
	cfg.Mode = map[string]Mode{"untraced": Untraced, "syscalls": Syscalls, "complete": Complete}[mode]
	os.Unsetenv(driverEnv)
	s, err := Start(cfg, SinkFunc(func(Event) {}))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	s.Left()
	r, err := s.Wait()
	if err != nil || r.Err != nil {
		fmt.Fprintln(os.Stderr, errors.Join(err, r.Err))
	}
	return r.ExitCode()
}

// zooDir holds the programs, compiled once for all tests.
var zooDir string

var zoos = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "tracee")
	if err != nil {
		return err
	}
	zooDir = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for name, flags := range map[string][]string{"zoo": {"-static", "-no-pie"}, "zoo-pie": {"-pie", "-fPIE"}} {
		args := append([]string{"-O1", "-w", "-pthread", "-o", filepath.Join(dir, name), "testdata/zoo.c"}, flags...)
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("gcc: %w\n%s", err, out)
		}
	}
	return nil
})

// zoo returns the path of a program of testdata/zoo.c: zoo is static, zoo-pie is not.
// It skips the test where gcc or ptrace is missing.
func zoo(t testing.TB, name string) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc, and libc6-dev")
	}
	if err := zoos(); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(zooDir, name)
}

// testPages is how many pages the file of a test has.
const testPages = 256

// testFile makes a file whose pages are all cached.
func testFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	data := make([]byte, testPages*mem.PageSize)
	for i := range data {
		data[i] = byte(i>>mem.PageShift + i)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// outcome is what a command did.
type outcome struct {
	stdout string
	code   int
	events []Event
	result Result
}

// follow runs a command in a session and checks the events.
func follow(t testing.TB, cfg Config) outcome {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out bytes.Buffer
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(&out, r)
		copied <- err
	}()
	cfg.Stdout = w
	if cfg.Stderr == nil {
		cfg.Stderr = os.Stderr
	}
	var o outcome
	s, err := Start(cfg, SinkFunc(func(e Event) { o.events = append(o.events, e) }))
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if o.result, err = s.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	o.stdout, o.code = out.String(), o.result.ExitCode()
	checkEvents(t, cfg.Mode, o.events)
	return o
}

// bare runs a command without a session, and without address space randomisation.
func bare(t testing.TB, argv ...string) outcome {
	t.Helper()
	cmd := exec.Command("setarch", append([]string{"-R"}, argv...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	o := outcome{stdout: string(out), code: cmd.ProcessState.ExitCode()}
	if o.code < 0 {
		o.code = 128 + int(cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	}
	return o
}

// of returns the events of one type.
func of[E Event](events []Event) (list []E) {
	for _, e := range events {
		if e, ok := e.(E); ok {
			list = append(list, e)
		}
	}
	return list
}

// checkEvents holds a stream of events against what it promises.
func checkEvents(t testing.TB, mode Mode, events []Event) {
	t.Helper()
	last := int64(0)
	alive := map[int]int{}    // TID to PID, of tasks that started
	made := map[int]bool{}    // told by NewTask, not started
	running := map[int]bool{} // processes that are not reaped
	injecting := map[int]bool{}
	execs := 0
	bad := func(e Event, format string, args ...any) {
		t.Helper()
		t.Errorf("%T %+v: %s", e, e, fmt.Sprintf(format, args...))
	}
	for i, e := range events {
		if e.When() < last {
			bad(e, "%d ns before the event before it", last-e.When())
		}
		last = e.When()
		switch e := e.(type) {
		case *NewTask:
			if made[e.Child] || alive[e.Child] != 0 {
				bad(e, "made twice")
			}
			made[e.Child] = true
		case *Started:
			if !e.Root && !made[e.TID] || e.Root != (i == 0) {
				bad(e, "not made")
			}
			delete(made, e.TID)
			alive[e.TID] = e.PID
			running[e.PID] = true
			checkRuns(t, e.Present)
		case *Exec:
			if alive[e.FormerTID] != e.PID {
				bad(e, "its task does not live")
			}
			execs++
			delete(alive, e.FormerTID)
			alive[e.PID] = e.PID
			if e.Missing != "" {
				bad(e, "missing: %s", e.Missing)
			}
			if mode == Complete && len(e.Present) == 0 {
				bad(e, "no present set")
			}
			checkRuns(t, e.Present)
		case *ExecEntry:
			checkRuns(t, e.Present)
			if (e.Present == nil) != e.Shared && !e.Shared {
				bad(e, "no present set")
			}
		case *Call:
			if alive[e.TID] != e.PID || e.Entry > e.Time {
				bad(e, "of no task")
			}
		case *Entered:
			if alive[e.TID] != e.PID {
				bad(e, "of no task")
			}
		case *Injecting:
			if alive[e.TID] != e.PID || injecting[e.TID] || mode != Complete {
				bad(e, "of no task, or twice")
			}
			injecting[e.TID] = true
		case *Injected:
			if alive[e.TID] != e.PID || e.From > e.Time || !injecting[e.TID] {
				bad(e, "of no task, or not begun")
			}
			delete(injecting, e.TID)
		case *Exit:
			if alive[e.TID] != e.PID {
				bad(e, "of no task")
			}
			delete(alive, e.TID)
			delete(injecting, e.TID)
			if mode == Complete && execs > 0 && e.LastUser && e.Seen && (len(e.Maps) == 0 || len(e.Present) == 0) {
				bad(e, "no memory at the end")
			}
			checkRuns(t, e.Present)
		case *Gone:
			if !running[e.PID] {
				bad(e, "not running")
			}
			delete(running, e.PID)
		}
	}
	if len(alive)+len(made)+len(running) > 0 {
		t.Errorf("tasks %v and processes %v never ended, %v never started", alive, running, made)
	}
}

// checkRuns: ascending, apart or of other kinds, not empty.
func checkRuns(t testing.TB, runs []Run) {
	t.Helper()
	for i, r := range runs {
		end := r.Start + mem.VirtAddr(r.Pages)*mem.PageSize
		if r.Pages == 0 || r.Start.PageOffset() != 0 || end > mem.UserEnd {
			t.Errorf("run %+v", r)
		}
		if i+1 < len(runs) && (runs[i+1].Start < end || runs[i+1].Start == end && runs[i+1].Kind == r.Kind) {
			t.Errorf("runs %+v and %+v", r, runs[i+1])
		}
	}
}

// joined returns stdout with the lines of /proc/self/maps in it joined.
func joined(t testing.TB, stdout string) (log string, areas []Area) {
	t.Helper()
	var maps strings.Builder
	for line := range strings.Lines(stdout) {
		if _, _, ok := parseArea([]byte(strings.TrimSuffix(line, "\n"))); ok {
			maps.WriteString(line)
		} else {
			log += line
		}
	}
	areas, _, err := parseMaps([]byte(maps.String()))
	if err != nil {
		t.Fatal(err)
	}
	for i := range areas {
		if areas[i].Path == "/dev/zero (deleted)" { // each MAP_SHARED | MAP_ANONYMOUS is a file of its own
			areas[i].Ino = 0
		}
	}
	// The kernel's own areas are not the program's doing.
	return log, slices.DeleteFunc(areas, func(a Area) bool { return strings.HasPrefix(a.Path, "[v") })
}
