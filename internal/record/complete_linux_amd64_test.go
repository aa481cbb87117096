package record_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
	"vmsim/internal/record"
	"vmsim/internal/soundness"
	"vmsim/internal/tracee"
	"vmsim/trace"
)

// wholeSuite: the BusyBox suite takes 20 s, two of its groups one.
var wholeSuite = flag.Bool("record.suite", false, "record all groups of the BusyBox suite")

// recorderEnv makes the test program a recorder of its arguments, into the file of the
// value: for what only a process of its own can show.
const recorderEnv = "VMSIM_RECORD_DRIVER"

// mountedEnv says that this process is in a mount namespace of its own.
const mountedEnv = "VMSIM_RECORD_MOUNTS"

func TestMain(m *testing.M) {
	tracee.Trampoline()
	if path := os.Getenv(recorderEnv); path != "" {
		os.Exit(drive(path))
	}
	if os.Geteuid() == 0 && os.Getenv(mountedEnv) == "" {
		if code, err := inMountNamespace(); err == nil {
			os.Exit(code)
		}
	}
	code := m.Run()
	if zooDir != "" {
		os.RemoveAll(zooDir)
	}
	os.Exit(code)
}

// inMountNamespace runs this program once more in a mount namespace of its own: what it
// mounts is gone with it.
func inMountNamespace() (code int, err error) {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), mountedEnv+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return max(cmd.ProcessState.ExitCode(), 0), nil
}

// drive records os.Args[1:] into a file, as vmsim record would; the touches are those of
// the file's extension: a.complete, a.faults.
func drive(path string) int {
	os.Unsetenv(recorderEnv)
	file, err := os.Create(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	cfg := record.Config{Argv: os.Args[1:], Touches: strings.TrimPrefix(filepath.Ext(path), "."), Stdin: os.Stdin, Stdout: os.Stdout,
		Stderr: os.Stderr}
	res, err := record.Run(cfg, func(h trace.Header) (record.Writer, error) { return trace.NewWriter(file, h) })
	if err = errors.Join(err, res.Err, file.Close()); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return res.ExitCode()
}

// zooDir holds testdata/memory.c, compiled once for all tests.
var zooDir string

var zoo = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "record")
	if err != nil {
		return err
	}
	zooDir = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for name, flags := range map[string][]string{"memory": {"-static", "-no-pie"}, "memory-pie": {"-pie", "-fPIE"}} {
		args := append([]string{"-O1", "-w", "-pthread", "-o", filepath.Join(dir, name), "testdata/memory.c"}, flags...)
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("gcc: %w\n%s", err, out)
		}
	}
	return nil
})

// needs skips the test where a program is not there.
func needs(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs %s (Debian package %s)", program, pkg)
	}
	return path
}

// needsZoo compiles testdata/memory.c.
func needsZoo(t testing.TB) {
	t.Helper()
	needs(t, "gcc", "gcc, and libc6-dev")
	if err := zoo(); err != nil {
		t.Fatal(err)
	}
}

func needsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: for tracepoints, and to mount a tmpfs")
	}
}

// tmpfs mounts one.
func tmpfs(t testing.TB) string {
	t.Helper()
	needsRoot(t)
	if os.Getenv(mountedEnv) == "" {
		t.Skip("needs a mount namespace (unshare)")
	}
	dir := t.TempDir()
	mount(t, "tmpfs", dir, "tmpfs", 0, "huge=never,mode=755")
	return dir
}

func mount(t testing.TB, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Fatalf("mount of %s at %s: %v", source, target, err)
	}
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

// kept is a trace in memory.
type kept struct {
	header trace.Header
	ops    []trace.Op
}

// Write keeps what it is given as it is: the Converter makes each anew.
func (k *kept) Write(op *trace.Op) error {
	k.ops = append(k.ops, *op)
	return nil
}

func (k *kept) Close(final trace.Header) error {
	k.header = final
	return nil
}

func (k *kept) next() func() (trace.Op, error) {
	i := 0
	return func() (trace.Op, error) {
		if i == len(k.ops) {
			return trace.Op{}, io.EOF
		}
		i++
		return k.ops[i-1], nil
	}
}

// borrowers counts the processes that end with the memory of another: vfork children
// that never exec.
func (k *kept) borrowers() int {
	borrow := map[int]bool{}
	for _, op := range k.ops {
		switch {
		case op.Kind == trace.OpVfork:
			borrow[op.Want.PID] = true
		case op.Kind == trace.OpExec && op.Want.Errno == 0:
			delete(borrow, op.PID)
		}
	}
	return len(borrow)
}

// ran is how a command went.
type ran struct {
	stdout string
	code   int
}

// bare runs a command as it is.
func bare(t testing.TB, argv []string) ran {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return ran{out.String(), 128 + int(ws.Signal())}
	}
	return ran{out.String(), ws.ExitStatus()}
}

// recorded records a command.
func recorded(t testing.TB, cfg record.Config) (ran, *kept) {
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
	cfg.Stdout, cfg.Stderr = w, os.Stderr
	k := &kept{}
	res, err := record.Run(cfg, func(trace.Header) (record.Writer, error) { return k, nil })
	w.Close()
	if err = errors.Join(err, res.Err, <-copied); err != nil {
		t.Fatal(err)
	}
	return ran{out.String(), res.ExitCode()}, k
}

// sound is what a check is to come to.
type sound struct {
	code      int    // exit code
	stdout    string // begins so
	processes int    // 0: not known before
	excepted  map[soundness.Reason]uint64
	kernel    bool // pages that the kernel brings in without an exception are excepted
	fatal     bool // so are last touches of threads that are ended in one
	missing   bool // pages that the header says are missing are excepted
	skipped   int  // looks that are not compared
	varies    bool // which processes there are is not the same each time
}

// mustBeSound checks a recording.
func mustBeSound(t testing.TB, k *kept, want sound) soundness.Report {
	t.Helper()
	ends := 0
	each := func(c soundness.Comparison) {
		if c.Point == trace.PointExit && c.Skipped == "" {
			ends++
		}
		if c.OK() && c.Skipped == "" {
			return
		}
		for i, d := range c.List {
			if d.Reason == soundness.NoReason && i < 20 {
				t.Errorf("process %d, %s, %v: %v", c.PID, c.Program, c.Point, d)
			}
		}
	}
	r, err := soundness.Check(k.header, k.next(), soundness.Options{Strict: !want.kernel, Each: each})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range r.List {
		if i < 20 {
			t.Errorf("%v", p)
		}
	}
	if !r.OK() || !k.header.Whole || k.header.Lost != 0 {
		t.Errorf("not sound: %d pages different, %d of areas, %d problems, %d lost; whole: %v",
			r.Different, r.BadAreas, r.Problems, k.header.Lost, k.header.Whole)
	}
	if slices.ContainsFunc(k.header.Missing, func(m string) bool { return strings.HasPrefix(m, "processes that were there") }) {
		t.Errorf("what tasks did at their end is missing: %q", k.header.Missing)
	}
	if k.header.Touches != trace.TouchesComplete {
		return r
	}
	for _, reason := range soundness.Reasons {
		if reason == soundness.VDSO || want.missing && reason == soundness.Missing || want.fatal && reason == soundness.Fatal {
			continue
		}
		if n := want.excepted[reason]; r.Excepted[reason] != n {
			t.Errorf("%d pages excepted as %v, want %d", r.Excepted[reason], reason, n)
		}
	}
	if want.processes != 0 && r.Processes != want.processes {
		t.Errorf("%d processes, want %d", r.Processes, want.processes)
	}
	if own := r.Processes - k.borrowers(); ends != own || own == 0 || r.Skipped != want.skipped {
		t.Errorf("%d ends compared of %d processes, %d of them with memory of their own; %d not compared, want %d",
			ends, r.Processes, own, r.Skipped, want.skipped)
	}
	return r
}

// both records a command with complete touches and with faults, and checks that it ran
// as it does by itself, and that the recordings are sound.
func both(t *testing.T, want sound, before func(), argv ...string) {
	t.Helper()
	before()
	alone := bare(t, argv)
	if alone.code != want.code || !strings.HasPrefix(alone.stdout, want.stdout) {
		t.Fatalf("without a recorder: exit code %d and output %q, want %d and %q", alone.code, alone.stdout, want.code, want.stdout)
	}
	var ends [][]string
	for _, touches := range []string{trace.TouchesComplete, trace.TouchesFaults} {
		t.Run(touches, func(t *testing.T) {
			before()
			got, k := recorded(t, record.Config{Argv: argv, Touches: touches})
			if got != alone {
				t.Errorf("exit code %d and output %q, without a recorder %d and %q", got.code, got.stdout, alone.code, alone.stdout)
			}
			mustBeSound(t, k, want)
			ends = append(ends, k.ends())
		})
	}
	if !want.varies && len(ends) == 2 {
		if d := cmp.Diff(ends[0], ends[1]); d != "" {
			t.Errorf("processes and their ends, -by ptrace +by perf:\n%s", d)
		}
	}
}

// ends returns a line for each process: the first word of its last exec and how many there
// are, since some are numbers and names that are new each time, and how it ended.
func (k *kept) ends() []string {
	args, last := map[int][]string{}, map[int]string{}
	for _, op := range k.ops {
		switch {
		case op.Kind == trace.OpFork || op.Kind == trace.OpVfork:
			args[op.Want.PID] = args[op.PID]
		case op.Kind == trace.OpExec && op.Want.Errno == 0:
			args[op.PID] = op.Start.Args
		case op.Kind == trace.OpExit && op.TID == 0: // before an exec by another thread too
			last[op.PID] = fmt.Sprintf("%s and %d words: status %d, signal %d", args[op.PID][:1], len(args[op.PID])-1, op.Status, op.Signal)
		}
	}
	return slices.Sorted(maps.Values(last))
}

func nothing() {}

// Every way in which a program comes by memory, from a tmpfs and, dynamically linked,
// from where the libraries are.
func TestMemory(t *testing.T) {
	needsRoot(t)
	needsZoo(t)
	for _, row := range []struct {
		mode string
		want sound
	}{
		{"nothing", sound{processes: 1}},
		{"populate", sound{processes: 1}},
		{"locked", sound{processes: 1}},
		{"locksall", sound{processes: 1}},
		{"advice", sound{processes: 1}},
		{"mremap", sound{processes: 1}},
		{"shared", sound{processes: 4}},
		{"forks", sound{processes: 7}},
		{"vforks", sound{processes: 5}},
		{"threads", sound{processes: 1}},
		{"race", sound{processes: 1}},
		{"forkrace", sound{processes: 21, skipped: 20}},
		{"threadexec", sound{processes: 1}},
		{"segv", sound{processes: 1}},
		{"sigbus", sound{processes: 1}},
		{"stack", sound{processes: 1}},
		{"heap", sound{processes: 1}},
		{"copies", sound{processes: 1}},
		{"exits", sound{processes: 13, fatal: true}},
		{"killed", sound{code: 137, processes: 1, fatal: true}},
		{"signals", sound{processes: 4}},
		{"dies-write", sound{code: 139, processes: 1}},
		{"dies-beyond", sound{code: 135, processes: 1, excepted: map[soundness.Reason]uint64{soundness.PastEnd: 1}}},
		{"dies-unmapped", sound{code: 139, processes: 1}},
		{"dies-fetch", sound{code: 139, processes: 1}},
		{"dies-overflow", sound{code: 139, processes: 1}},
		{"dies-abort", sound{code: 134, processes: 1}},
		// A futex between processes, process_vm_writev, vmsplice; O_DIRECT: get_user_pages.
		{"kernel", sound{processes: 1, kernel: true, excepted: map[soundness.Reason]uint64{soundness.Kernel: 8}}},
		{"direct", sound{processes: 1, kernel: true, excepted: map[soundness.Reason]uint64{soundness.Kernel: 8}}},
		{"filter", sound{processes: 1, excepted: map[soundness.Reason]uint64{soundness.FaultAround: 30}}},
	} {
		for _, name := range []string{"memory", "memory-pie"} {
			t.Run(row.mode+"/"+name, func(t *testing.T) {
				t.Parallel() // most of the time the kernel takes to give tracepoints back
				program, dir := filepath.Join(zooDir, name), t.TempDir()
				if name == "memory" && row.mode != "direct" { // a tmpfs copies, by exceptions
					dir = tmpfs(t)
					program = filepath.Join(dir, name)
					copyFile(t, filepath.Join(zooDir, name), program)
				}
				both(t, row.want, nothing, program, row.mode, dir)
			})
		}
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	// What another test forks now would have the file open for writing until it execs: ETXTBSY.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(to), 0o755)
	}
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// root is a tmpfs with programs and all that they need, to chroot into.
type root struct {
	t   testing.TB
	dir string
}

func newRoot(t testing.TB) root {
	t.Helper()
	r := root{t, tmpfs(t)}
	for _, dir := range []string{"proc", "dev", "tmp", "etc"} {
		if err := os.Mkdir(filepath.Join(r.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mount(t, "/proc", filepath.Join(r.dir, "proc"), "", unix.MS_BIND, "")
	mount(t, "/dev", filepath.Join(r.dir, "dev"), "", unix.MS_BIND, "")
	return r
}

// programs copies programs and their libraries to where they are.
func (r root) programs(paths ...string) {
	r.t.Helper()
	for _, path := range paths {
		copyFile(r.t, path, filepath.Join(r.dir, path))
		out, err := exec.Command("ldd", path).Output()
		if err != nil {
			continue // static
		}
		for line := range strings.Lines(string(out)) {
			for _, word := range strings.Fields(line) {
				if _, err := os.Stat(filepath.Join(r.dir, word)); strings.HasPrefix(word, "/") && err != nil {
					copyFile(r.t, word, filepath.Join(r.dir, word))
				}
			}
		}
	}
}

// folders copies folders with all that is in them.
func (r root) folders(paths ...string) {
	r.t.Helper()
	for _, path := range paths {
		to := filepath.Join(r.dir, filepath.Dir(path))
		if err := os.MkdirAll(to, 0o755); err != nil {
			r.t.Fatal(err)
		}
		if out, err := exec.Command("cp", "-a", path, to).CombinedOutput(); err != nil {
			r.t.Fatalf("%v\n%s", err, out)
		}
	}
}

func (r root) file(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o755); err != nil {
		r.t.Fatal(err)
	}
}

// command is argv in the root.
func (r root) command(argv ...string) []string {
	r.t.Helper()
	return append([]string{needs(r.t, "chroot", "coreutils"), r.dir}, argv...)
}

// environment is the same for all programs.
func environment(t *testing.T) {
	t.Helper()
	for key, value := range map[string]string{"LC_ALL": "C", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp",
		"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "GIT_CONFIG_NOSYSTEM": "1"} {
		t.Setenv(key, value)
	}
}

const helloC = "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n"

// Whole programs, with their libraries on a tmpfs.
func TestPrograms(t *testing.T) {
	needsRoot(t)
	environment(t)
	t.Run("sh", func(t *testing.T) {
		r := newRoot(t)
		r.programs("/bin/sh", "/bin/true")
		both(t, sound{code: 3, stdout: "20\n", processes: 21}, nothing,
			r.command("/bin/sh", "-c", `i=0; while [ $i -lt 20 ]; do /bin/true; i=$((i+1)); done; echo $i; exit 3`)...)
	})
	t.Run("server", func(t *testing.T) {
		r := newRoot(t)
		r.programs("/bin/sh", "/bin/sleep", "/bin/kill")
		r.file("server", `exec 2>/dev/null
(while :; do sleep 0.01; done) & loop=$!
trap 'kill $loop; wait $loop; exit 7' TERM
(sleep 0.1; kill -TERM $$) &
echo ready
while :; do wait $loop; done
`)
		both(t, sound{code: 7, stdout: "ready\n", varies: true}, nothing, r.command("/bin/sh", "/server")...)
	})
	t.Run("python3", func(t *testing.T) {
		needs(t, "/usr/bin/python3", "python3")
		r := newRoot(t)
		python, err := filepath.EvalSymlinks("/usr/bin/python3")
		if err != nil {
			t.Fatal(err)
		}
		r.programs(python)
		lib := "/usr/lib/" + filepath.Base(python)
		r.folders(lib)
		both(t, sound{stdout: `{"a": [1, 2]}`, processes: 1}, nothing, r.command(python, "-c", "import json; print(json.dumps({'a': [1, 2]}))")...)
	})
	t.Run("gcc", func(t *testing.T) {
		gcc := needs(t, "gcc", "gcc, and libc6-dev")
		r := newRoot(t)
		r.programs(gcc)
		for _, part := range []string{"cc1", "as", "collect2", "ld"} {
			out, err := exec.Command(gcc, "-print-prog-name="+part).Output()
			if err != nil {
				t.Fatal(err)
			}
			path := strings.TrimSpace(string(out))
			if !filepath.IsAbs(path) {
				path = needs(t, path, "binutils")
			}
			r.programs(path)
		}
		r.folders("/usr/include")
		r.file("hello.c", helloC)
		out, err := exec.Command(gcc, "-print-file-name=include").Output()
		if err != nil {
			t.Fatal(err)
		}
		r.folders(strings.TrimSpace(string(out)))
		both(t, sound{processes: 3}, nothing, r.command(gcc, "-c", "-o", "/tmp/hello.o", "/hello.c")...)
	})
	t.Run("git", func(t *testing.T) {
		git := needs(t, "git", "git")
		r := newRoot(t)
		r.programs(git)
		repo := filepath.Join(r.dir, "repo")
		script := `set -e; git init -q "$1"; cd "$1"; for i in 1 2 3 4 5 6 7 8 9; do mkdir -p d$i; echo $i > d$i/file; done
git add .; git -c user.name=a -c user.email=a@b commit -qm first; echo more >> d3/file; echo new > new`
		if out, err := exec.Command("sh", "-c", script, "sh", repo).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		both(t, sound{stdout: " M d3/file\n?? new\n", processes: 1}, nothing, r.command(git, "-C", "/repo", "-c", "safe.directory=*", "status", "--short")...)
	})
}

// go build, with all of Go on a tmpfs.
func TestGoBuild(t *testing.T) {
	needsRoot(t)
	out, err := exec.Command(needs(t, "go", "golang-go"), "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	environment(t)
	goroot := strings.TrimSpace(string(out))
	r := newRoot(t)
	for _, part := range []string{"bin", "pkg", "src", "go.env", "VERSION"} {
		r.folders(filepath.Join(goroot, part))
	}
	r.file("go.mod", "module hello\n")
	for key, value := range map[string]string{"GOFLAGS": "", "GOTELEMETRY": "off", "GOROOT": goroot, "GOCACHE": "/tmp/cache", "CGO_ENABLED": "0"} {
		t.Setenv(key, value)
	}
	n := 0
	again := func() { // another source each time, so that it is compiled
		n++
		r.file("hello.go", fmt.Sprintf("package main\n\nfunc main() { println(%d) }\n", n))
	}
	both(t, sound{}, again, r.command(filepath.Join(goroot, "bin", "go"), "build", "-o", "hello", ".")...)
}

// Without root the header says what is missing; streams and exit code are right, and a
// check takes for missing what the header names, and nothing else.
func TestUnprivileged(t *testing.T) {
	needsRoot(t) // to become nobody
	needsZoo(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	recorder := filepath.Join(zooDir, "recorder")
	copyFile(t, self, recorder)
	dir, err := os.MkdirTemp(zooDir, "nobody")
	if err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		argv []string
		want ran
	}{
		{"sh", []string{"sh", "-c", "/bin/true; echo out; echo err >&2; exit 3"}, ran{"out\n", 3}},
		{"forks", []string{filepath.Join(zooDir, "memory"), "forks", dir}, ran{"wipeonfork: ok\ndontfork: ok\nchild: 0\nchild: 0\n", 0}},
		{"copies", []string{filepath.Join(zooDir, "memory"), "copies", dir}, ran{"", 0}},
		{"dies", []string{filepath.Join(zooDir, "memory"), "dies-write", dir}, ran{"", 139}},
		{"not there", []string{"./nothing"}, ran{"", 127}},
	} {
		for _, touches := range []string{trace.TouchesComplete, trace.TouchesFaults} {
			t.Run(row.name+"/"+touches, func(t *testing.T) {
				path := filepath.Join(dir, "trace."+touches)
				cmd := exec.Command(recorder, row.argv...)
				cmd.Env = append(os.Environ(), recorderEnv+"="+path)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
				var out, errs bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &errs
				if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
					t.Fatal(err)
				}
				if got := (ran{out.String(), cmd.ProcessState.ExitCode()}); got.code != row.want.code || row.want.stdout != "" && got != row.want {
					t.Errorf("exit code %d and output %q, want %d and %q; stderr %q", got.code, got.stdout, row.want.code, row.want.stdout, errs.String())
				}
				if row.name == "sh" && errs.String() != "err\n" {
					t.Errorf("stderr is %q", errs.String())
				}
				k := read(t, path)
				for _, what := range []string{trace.MissingCodes, trace.MissingKernelFaults} {
					if !k.header.Lacks(what) {
						t.Errorf("the header does not say that %s are missing: %q", what, k.header.Missing)
					}
				}
				if row.name == "not there" {
					return
				}
				r := mustBeSound(t, k, sound{missing: true})
				if touches == trace.TouchesComplete && (r.Excepted[soundness.Missing] == 0 || r.Equal == 0) {
					t.Errorf("%d pages are excepted as missing, %d equal", r.Excepted[soundness.Missing], r.Equal)
				}
			})
		}
	}
}

// read reads a trace to its end.
func read(t testing.TB, path string) *kept {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := trace.NewReader(path, f)
	if err != nil {
		t.Fatal(err)
	}
	k := &kept{}
	for {
		op, err := r.Next()
		if err == io.EOF {
			if k.header, err = r.Header(); err != nil { // as it was at the end
				t.Fatal(err)
			}
			return k
		}
		if err != nil {
			t.Fatal(err)
		}
		k.ops = append(k.ops, op)
	}
}

// The words that a check looks for are those of package perf.
func TestMissingWords(t *testing.T) {
	if perf.MissingCodes != trace.MissingCodes || perf.MissingKernelFaults != trace.MissingKernelFaults {
		t.Errorf("%q and %q", perf.MissingCodes, perf.MissingKernelFaults)
	}
}

// The BusyBox suite, on a tmpfs.
func TestBusyBox(t *testing.T) {
	const path = "/bin/busybox"
	needs(t, path, "busybox-static")
	dir := tmpfs(t)
	copyFile(t, path, filepath.Join(dir, "busybox"))
	for _, name := range []string{"suite.sh", "files.sh"} {
		if _, err := os.Stat("../../testdata/busybox/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("cp", "-a", "../../testdata/busybox", filepath.Join(dir, "suite")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("BUSYBOX", filepath.Join(dir, "busybox"))
	groups := []string{"arithmetic", "processes"}
	if *wholeSuite {
		groups = nil
	}
	argv := append([]string{filepath.Join(dir, "busybox"), "sh", filepath.Join(dir, "suite", "suite.sh")}, groups...)
	// Some of its processes are killed, before or after they exec.
	both(t, sound{stdout: "ok ", varies: true}, nothing, argv...)
}
