//go:build linux && amd64

package tracee

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vmsim/mem"
)

var modes = map[string]Mode{"syscalls": Syscalls, "complete": Complete}

// What a program prints and how it ends is the same as without a tracer.
func TestAsBare(t *testing.T) {
	z := zoo(t, "zoo")
	file := testFile(t)
	sh := func(script string) []string { return []string{"sh", "-c", script} }
	for _, argv := range [][]string{
		{z, "hello"}, {z, "exit", "0"}, {z, "exit", "77"}, {z, "exit", "255"}, {z, "signal", "9"}, {z, "signal", "15"}, {z, "signal", "11"},
		{z, "thread-exec"}, {z, "threads", file}, {z, "leader-exit", file}, {z, "forks"}, {z, "vforks"}, {z, "stopped"}, {z, "registers", file},
		{z, "kills"},
		sh("for i in 1 2 3; do /bin/true; done; echo $?; exit 3"), sh("yes | head -1"), sh("kill -9 $$"), sh("trap 'echo caught' TERM; kill $$; echo on"),
		sh("sleep 0.05 & p=$!; kill -STOP $p; kill -CONT $p; wait $p; echo $?"), sh("timeout 0.05 sleep 5; echo $?"),
		sh("(sleep 0.05; echo later) & echo now"), sh("setsid -f sh -c 'sleep 0.05; echo daemon'"), sh("nosuchcommand 2>/dev/null; echo $?"),
		sh("echo $0 $#; cat /proc/self/comm; pwd; echo $PATH"),
	} {
		want := bare(t, argv...)
		for name, mode := range modes {
			t.Run(name+"/"+strings.Join(argv[min(1, len(argv)-1):], " "), func(t *testing.T) {
				got := follow(t, Config{Mode: mode, Argv: argv})
				if got.stdout != want.stdout || got.code != want.code {
					t.Errorf("%q, exit code %d; bare %q, %d", got.stdout, got.code, want.stdout, want.code)
				}
			})
		}
	}
}

// Threads that end together, and of some the tracer never sees that they are about to: the
// last look at their memory is had all the same, if it saw one.
func TestMissedEnds(t *testing.T) {
	r, every, seen := rand.New(rand.NewPCG(1, 2)), false, 0
	missed = func() bool {
		if !every && r.IntN(2) > 0 {
			return true
		}
		seen++
		return false
	}
	defer func() { missed = nil }()
	for _, c := range []struct {
		how  string
		code int
	}{{"first", 4}, {"another", 4}, {"signal", 128 + 15}, {"without", 4}} {
		for i := range 12 {
			every, seen = i == 0, 0
			got := follow(t, Config{Mode: Complete, Argv: []string{zoo(t, "zoo"), "together", c.how}})
			if got.code != c.code {
				t.Errorf("%s: exit code %d, want %d", c.how, got.code, c.code)
			}
			last := 0
			for _, e := range of[*Exit](got.events) {
				if e.LastUser {
					last++
				}
				if e.LastUser && e.Seen != (e.Present != nil && e.Maps != nil) || !e.LastUser && e.Present != nil {
					t.Errorf("%s: %+v", c.how, e)
				}
				// The first thread may have ended before the others were told to.
				if e.LastUser && !e.Seen && (seen > 1 || seen == 1 && c.how != "without") {
					t.Errorf("%s: %d of the ends were seen, and nobody looked at what was there", c.how, seen)
				}
			}
			if last != 1 {
				t.Errorf("%s: the last of the memory %d times", c.how, last)
			}
		}
	}
}

// Commands that cannot be executed.
func TestCannotExecute(t *testing.T) {
	dir := t.TempDir()
	script, broken := filepath.Join(dir, "tracee-script"), filepath.Join(dir, "broken")
	for path, text := range map[string]string{script: "echo script $1\n", broken: "#!/no/such/interpreter\n"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		argv   []string
		code   int
		err    error
		stdout string
	}{
		{[]string{"no-such-command-here"}, 127, syscall.ENOENT, ""},
		{[]string{"./no/such"}, 127, syscall.ENOENT, ""},
		{[]string{""}, 127, syscall.ENOENT, ""},
		{[]string{dir}, 126, syscall.EACCES, ""},
		{[]string{plain}, 126, syscall.EACCES, ""},
		{[]string{broken}, 127, syscall.ENOENT, ""},
		{[]string{script, "a"}, 0, nil, "script a\n"}, // as a shell does
		{[]string{"tracee-script", "b"}, 0, nil, "script b\n"},
	} {
		got := follow(t, Config{Mode: Complete, Argv: c.argv, Env: []string{"PATH=/nowhere:" + dir + ":" + os.Getenv("PATH")}})
		if got.code != c.code || !errors.Is(got.result.Err, c.err) || got.stdout != c.stdout {
			t.Errorf("%q: %d, %v, %q", c.argv, got.code, got.result.Err, got.stdout)
		}
	}
	if s, err := Start(Config{}, nil); s != nil || err == nil {
		t.Error("no command is no error")
	}
	failed := errors.New("not ready")
	if s, err := Start(Config{Argv: []string{"true"}, Ready: func(int) error { return failed }}, SinkFunc(func(Event) {})); s != nil || err != failed {
		t.Errorf("%v, %v", s, err)
	}
}

// Without cutting a touch maps up to 16 cached pages; with it each page is a fault, in
// whatever a page cache backs, and whatever the program did to the area.
func TestFaultAround(t *testing.T) {
	argv := []string{zoo(t, "zoo"), "kinds", testFile(t)}
	faults := func(stdout string) map[string]int {
		m := map[string]int{}
		for line := range strings.Lines(stdout) {
			kind, n, _ := strings.Cut(strings.TrimSpace(line), " ")
			m[kind], _ = strconv.Atoi(n)
		}
		return m
	}
	want := map[string]int{
		"private": 256, "private-rw": 256, "shared": 256, "memfd": 256, "shared-anon": 256, "dev-zero": 256, "sysv": 256, "child": 256,
		"fixed": 64, "mprotect": 187, "mremap": 256, "random": 256, "process-madvise": 256,
	}
	for name, mode := range modes {
		got := faults(follow(t, Config{Mode: mode, Argv: argv}).stdout)
		if mode == Complete {
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s: -want +got:\n%s", name, d)
			}
			continue
		}
		if got["memfd"] != 17 { // where it is not on the grid of 16 pages, one more
			t.Errorf("%s: reading 256 pages of a memfd took %d faults: the test shows nothing", name, got["memfd"])
		}
	}
}

// The results of random calls, what is read, and the areas at the end are the same as
// without a tracer.
func TestRandomOperations(t *testing.T) {
	z := zoo(t, "zoo")
	seeds, operations := 12, 300
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		argv := func() []string { // the same file again, with its first contents
			return []string{z, "random", filepath.Join(zooDir, "random"), strconv.Itoa(seed + 1), strconv.Itoa(operations)}
		}
		fresh := func() {
			data, err := os.ReadFile(testFile(t))
			if err == nil {
				err = os.WriteFile(filepath.Join(zooDir, "random"), data, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		fresh()
		b := bare(t, argv()...)
		wantLog, wantMaps := joined(t, b.stdout)
		for _, mode := range []Mode{Syscalls, Complete} {
			fresh()
			got := follow(t, Config{Mode: mode, Argv: argv()})
			log, maps := joined(t, got.stdout)
			if got.code != b.code || cmp.Diff(wantLog, log) != "" || cmp.Diff(wantMaps, maps) != "" {
				t.Errorf("seed %d, mode %d, exit code %d, %d bare:\n%s%s", seed+1, mode, got.code, b.code, cmp.Diff(wantLog, log), cmp.Diff(wantMaps, maps))
			}
			if strings.Count(log, "\n") < operations {
				t.Errorf("seed %d: %d lines of %d operations", seed+1, strings.Count(log, "\n"), operations)
			}
		}
	}
}

// mremap over several private pages that were written: what differs is told.
func TestWrittenPiecesNote(t *testing.T) {
	argv := []string{zoo(t, "zoo"), "merge", testFile(t)}
	if b := bare(t, argv...); b.stdout != "0\n" {
		t.Fatalf("bare: %q", b.stdout)
	}
	got := follow(t, Config{Mode: Complete, Argv: argv})
	notes := of[*Note](got.events)
	if got.stdout != fmt.Sprintln(int(unix.EFAULT)) || len(notes) != 1 || !strings.Contains(notes[0].Text, "3 areas with private copies") {
		t.Errorf("%q, %+v", got.stdout, notes)
	}
}

// Where nothing may be cut it is told, and the program runs on.
func TestUncut(t *testing.T) {
	z := zoo(t, "zoo")
	got := follow(t, Config{Mode: Complete, Argv: []string{z, "seccomp", testFile(t)}})
	uncut := of[*Uncut](got.events)
	faults, _, _ := strings.Cut(got.stdout, "\n")
	if n, err := strconv.Atoi(faults); err != nil || n >= testPages || !strings.HasSuffix(got.stdout, "hello\n") {
		t.Errorf("%q", got.stdout)
	}
	if len(uncut) != 2 || uncut[0].Reason != "a seccomp filter" || uncut[1].Reason != "a seccomp filter" { // once more after exec
		t.Errorf("%+v", uncut)
	}

	pages := maxMapCount() + 5000
	if pages > 1<<18 {
		t.Skipf("needs a vm.max_map_count below %d", 1<<18)
	}
	got = follow(t, Config{Mode: Complete, Argv: []string{z, "limit", strconv.Itoa(pages)}})
	uncut = of[*Uncut](got.events)
	if len(uncut) != 1 || got.stdout != "0\n" || uncut[0].Pages < 6000 || uncut[0].Pages > 6400 || // a static program has few areas
		uncut[0].Range.Len() != uint64(uncut[0].Pages)*mem.PageSize {
		t.Errorf("%q, %+v", got.stdout, uncut)
	}
}

// Exit.Injected is how many of the program's faults are ours.
func TestInjectedFaults(t *testing.T) {
	argv := []string{zoo(t, "zoo"), "mapped", testFile(t), "10"}
	plain, err := strconv.Atoi(strings.TrimSpace(bare(t, argv...).stdout))
	if err != nil {
		t.Fatal(err)
	}
	got := follow(t, Config{Mode: Complete, Argv: argv})
	faults, err := strconv.Atoi(strings.TrimSpace(got.stdout))
	if err != nil || faults != plain+10 { // a page of scratch memory each time
		t.Errorf("%q, bare %d", got.stdout, plain)
	}
	exec, exit := of[*Exec](got.events)[0], of[*Exit](got.events)[0]
	if inj := exit.Injected - exec.Injected; inj != 12 { // and at exec, and the page of the vdso
		t.Errorf("injected %d", inj)
	}
	calls := 0
	for _, i := range of[*Injected](got.events) {
		calls += i.Calls
	}
	if calls != 33 { // mmap, process_madvise, munmap
		t.Errorf("%d injected calls", calls)
	}
}

// Threads, vforks and forks are told apart.
func TestNewTaskFlags(t *testing.T) {
	const what = CloneVM | CloneVfork | CloneThread
	file := testFile(t)
	for _, c := range []struct {
		mode  string
		flags uint64
		tasks int
	}{{"threads", CloneVM | CloneThread, 4}, {"vforks", CloneVM | CloneVfork, 3}, {"forks", 0, 120}} {
		for name, mode := range modes {
			got := follow(t, Config{Mode: mode, Argv: []string{zoo(t, "zoo"), c.mode, file}})
			tasks := of[*NewTask](got.events)
			if len(tasks) != c.tasks {
				t.Errorf("%s, %s: %d tasks", name, c.mode, len(tasks))
			}
			for _, e := range tasks {
				if e.Flags&what != c.flags || !e.Known {
					t.Errorf("%s, %s: %+v", name, c.mode, e)
				}
			}
			users := 0
			for _, e := range of[*Exit](got.events) {
				if e.LastUser {
					users++
				}
			}
			// One memory for the command, one for each fork, one for each vfork that execs.
			want := map[string]int{"threads": 1, "vforks": 3, "forks": 121}[c.mode]
			if users != want {
				t.Errorf("%s, %s: %d last users, want %d", name, c.mode, users, want)
			}
		}
	}
}

// Exec tells what the program itself sees.
func TestExecFacts(t *testing.T) {
	for _, name := range []string{"zoo", "zoo-pie"} {
		path := zoo(t, name)
		want := bare(t, path, "self", "an argument", "")
		for _, mode := range modes {
			got := follow(t, Config{Mode: mode, Argv: []string{path, "self", "an argument", ""}})
			if len(want.stdout) != len(got.stdout) {
				t.Errorf("%s: %s bare %s", name, got.stdout, want.stdout)
			}
			e := of[*Exec](got.events)[0]
			vdso := e.VDSO.Start
			text := fmt.Sprintf("entry %x phdr %x base %x vdso %x execfn %s argv %x brk ", uint64(e.Entry), uint64(e.Phdr), uint64(e.Base), uint64(vdso), e.ExecFn, uint64(e.SP)+8)
			if !strings.HasPrefix(got.stdout, text) {
				t.Errorf("%s: told %s, the program has %s", name, text, got.stdout)
			}
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				t.Fatal(err)
			}
			if e.Path != path || e.File.Ino != st.Ino || e.File.Dev != st.Dev || e.File.Size != st.Size || e.File.Mtime != st.Mtim.Nano() || e.File.Kind != Regular {
				t.Errorf("%s: %+v", name, e.File)
			}
			if d := cmp.Diff([]string{path, "self", "an argument", ""}, e.Argv); d != "" {
				t.Error(d)
			}
			pie := name == "zoo-pie"
			if pie != (e.Interp != "") || pie != (e.Bias == 0x555555554000) || e.StackStart != e.SP || !e.Stack.Contains(e.SP) || e.StartBrk == 0 {
				t.Errorf("%s: %+v", name, e)
			}
		}
	}
}

// With ASLR the addresses are not those without.
func TestASLR(t *testing.T) {
	if b, err := os.ReadFile("/proc/sys/kernel/randomize_va_space"); err != nil || strings.TrimSpace(string(b)) == "0" {
		t.Skip("needs a kernel with kernel.randomize_va_space")
	}
	argv := []string{zoo(t, "zoo-pie"), "self"}
	base := func(aslr bool) mem.VirtAddr {
		return of[*Exec](follow(t, Config{Argv: argv, ASLR: aslr}).events)[0].Bias
	}
	if base(false) != 0x555555554000 || base(true) == 0x555555554000 {
		t.Error("ASLR is not as it was asked for")
	}
}

// What was mapped is told with its identity.
func TestCallFiles(t *testing.T) {
	path := testFile(t)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	got := follow(t, Config{Mode: Syscalls, Argv: []string{zoo(t, "zoo"), "files", path}})
	var kinds []string
	var own []*File
	for _, e := range of[*Call](got.events) {
		if e.Nr != unix.SYS_MMAP && e.Nr != unix.SYS_SHMAT {
			continue
		}
		kind := "none"
		if e.File != nil {
			kind = e.File.Kind.String()
			if e.File.Kind == Regular {
				own = append(own, e.File)
			}
			if e.File.Kind == Memfd && e.File.Path != "/memfd:note" {
				t.Errorf("%+v", e.File)
			}
			if e.File.Kind == SysV && e.Size != 3*mem.PageSize {
				t.Errorf("shmat of %d bytes", e.Size)
			}
		}
		kinds = append(kinds, kind)
	}
	if s := strings.Join(kinds, " "); !strings.HasSuffix(s, "file memfd shared shared anonymous none sysv file") {
		t.Error(s)
	}
	if len(own) != 2 || own[0].Path != path || own[1].Path != path || own[0].Deleted || !own[1].Deleted || own[1].Ino != st.Ino || own[0].Size != testPages*mem.PageSize {
		t.Errorf("%+v, %+v", own[0], own[1])
	}
}

// A command that calls exec again and again in vain tells each path.
func TestExecFailed(t *testing.T) {
	got := follow(t, Config{Mode: Complete, Argv: []string{"env", "-i", "PATH=/nowhere:/else", "no-such"}, Stderr: devNull(t)})
	var paths []string
	for _, e := range of[*ExecFailed](got.events) {
		paths = append(paths, fmt.Sprint(e.Path, " ", e.Errno))
	}
	if d := cmp.Diff([]string{"/nowhere/no-such 2", "/else/no-such 2"}, paths); d != "" || got.code != 127 {
		t.Errorf("%s, %d", d, got.code)
	}
}

func devNull(t *testing.T) *os.File {
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A set-user-ID program gets its rights from a privileged tracer.
func TestSetuid(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip("needs setpriv of the Debian package util-linux")
	}
	data, err := os.ReadFile(zoo(t, "zoo"))
	if err != nil {
		t.Fatal(err)
	}
	su := filepath.Join(zooDir, "su")
	if err := os.WriteFile(su, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(su, 0o4755); err != nil {
		t.Fatal(err)
	}
	argv := []string{"setpriv", "--reuid=65534", "--clear-groups", su, "id"}
	want := bare(t, argv...)
	for name, mode := range modes {
		if got := follow(t, Config{Mode: mode, Argv: argv}); got.stdout != want.stdout || got.stdout != "65534 0\n" {
			t.Errorf("%s: %q, bare %q", name, got.stdout, want.stdout)
		}
	}
}

// Each page that a program gets is a fault of it: whatever it gained between exec and
// exit it was seen to touch.
func TestNothingUnseen(t *testing.T) {
	dir := t.TempDir()
	source := filepath.Join(dir, "hello.c")
	if err := os.WriteFile(source, []byte("#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"sh", "-c", "for i in 1 2 3; do /bin/true; done"},
		{"gcc", "-c", "-o", filepath.Join(dir, "hello.o"), source},
		{"git", "--version"},
		{"/usr/bin/python3", "-c", "import json"},
	} {
		t.Run(filepath.Base(argv[0]), func(t *testing.T) {
			if _, err := exec.LookPath(argv[0]); err != nil {
				t.Skip("needs " + argv[0])
			}
			// Not so without cutting, or the test shows nothing.
			if gained, faults := gains(t, follow(t, Config{Mode: Complete, Argv: argv}).events); gained > faults || gained == 0 {
				t.Errorf("gained %d pages by %d faults", gained, faults)
			}
		})
	}
}

// gains adds up, over the programs that exec started, the pages at the end that were
// not there at the start, and the faults.
func gains(t *testing.T, events []Event) (gained, faults uint64) {
	start := map[int]*Exec{}
	for _, e := range events {
		switch e := e.(type) {
		case *Exec:
			start[e.PID] = e
		case *Exit:
			s := start[e.PID]
			if s == nil || !e.LastUser {
				continue
			}
			had := map[mem.VirtAddr]bool{}
			for _, r := range s.Present {
				for i := range r.Pages {
					had[r.Start+mem.VirtAddr(i)*mem.PageSize] = true
				}
			}
			n := uint64(0)
			for _, r := range e.Present {
				for i := range r.Pages {
					a := r.Start + mem.VirtAddr(i)*mem.PageSize
					if !had[a] && !s.VDSO.Contains(a) && !s.VVar.Contains(a) {
						n++
					}
				}
			}
			f := e.MinFlt + e.MajFlt - e.Injected - (s.MinFlt + s.MajFlt - s.Injected)
			if n > f {
				t.Errorf("%s: gained %d pages by %d faults", s.Path, n, f)
			}
			gained, faults = gained+n, faults+f
		}
	}
	return gained, faults
}
