package perf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// TestMain fails if a session leaves its goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// base is where child.c maps its pages.
const base mem.VirtAddr = 0x10000000000

// System calls of x86-64 that the tests look at.
const (
	sysMmap, sysMprotect, sysMunmap, sysMremap, sysMadvise, sysGetrusage = 9, 10, 11, 25, 28, 98
)

var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "perf")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "child")
	out, err := exec.Command("gcc", "-O1", "-static", "-pthread", "-o", bin, "testdata/child.c").CombinedOutput()
	if err != nil {
		return nil, errors.New(string(out))
	}
	return os.ReadFile(bin)
})

// child is a process that waits to be told to exec child.c.
type child struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bytes.Buffer
}

// start starts a shell as the user uid that execs child.c with args once it reads a line.
func start(t testing.TB, uid int, args ...string) *child {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc, and libc6-dev")
	}
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o755) // another user must get there
	}
	path := filepath.Join(dir, "child")
	if err := os.WriteFile(path, bin, 0o755); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"-c", `read x && exec "$0" "$@"`, path}, args...)
	c := &child{Cmd: exec.Command("/bin/sh", args...), out: new(bytes.Buffer)}
	c.Dir, c.Stderr, c.Stdout = "/", os.Stderr, c.out
	if uid != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	if c.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *child) begin(t testing.TB) {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.in.Close(); c.Process.Kill() })
}

// goOn lets it exec.
func (c *child) goOn(t testing.TB) {
	t.Helper()
	if _, err := io.WriteString(c.in, "go\n"); err != nil {
		t.Fatal(err)
	}
}

// tracefs returns where tracefs is.
func tracefs(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: tracepoints")
	}
	dir, done, err := FindTracefs()
	if err != nil {
		t.Skipf("needs tracefs: %v", err)
	}
	t.Cleanup(done)
	return dir
}

// open attaches events to the process.
func open(t testing.TB, cfg Config) *Session {
	t.Helper()
	s, err := Open(cfg)
	if errors.Is(err, ErrNotPermitted) {
		t.Skipf("needs perf_event_open: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// keep returns a copy of r that stays as it is.
func keep(r *Record) Record {
	k := *r
	k.Raw, k.Name, k.BuildID, k.UserStack = bytes.Clone(r.Raw), bytes.Clone(r.Name), bytes.Clone(r.BuildID), bytes.Clone(r.UserStack)
	return k
}

// readAll reads until all tasks have ended, and checks what holds for every record.
func readAll(t testing.TB, s *Session) []Record {
	t.Helper()
	var all []Record
	var last uint64
	for {
		n := len(all)
		before := s.bound
		bound, err := s.Read(20*time.Millisecond, func(r *Record) { all = append(all, keep(r)) })
		for _, r := range all[n:] {
			if r.Time < last {
				t.Errorf("%v at %d comes after a record of %d", r.Kind, r.Time, last)
			}
			if r.Time < before || r.Time >= bound {
				t.Errorf("%v at %d was delivered between the bounds %d and %d", r.Kind, r.Time, before, bound)
			}
			last = r.Time
		}
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// run records a mode of child.c from its exec to its end. Nothing may be lost.
func run(t testing.TB, cfg Config, args ...string) ([]Record, *child) {
	t.Helper()
	cfg.Tracefs = tracefs(t)
	c := start(t, 0, args...)
	c.begin(t)
	cfg.PID = c.Process.Pid
	s := open(t, cfg)
	c.goOn(t)
	all := readAll(t, s)
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	complete(t, s)
	return all, c
}

// complete closes s and checks that it delivered what the kernel counted.
func complete(t testing.TB, s *Session) {
	t.Helper()
	stats, err := s.Close()
	if err != nil {
		t.Fatal(err)
	}
	if stats.Lost != 0 || stats.Late != 0 {
		t.Errorf("%d lost, %d late", stats.Lost, stats.Late)
	}
	for _, e := range stats.Events {
		if e.Count != e.Seen && e.Event.Role != RoleSignal { // there may be more by now, of others
			t.Errorf("%s: %d counted, %d delivered", e.Event.Name, e.Count, e.Seen)
		}
	}
}

// fault is what a test compares of one.
type fault struct {
	Addr mem.VirtAddr
	Code uint64
	User bool
}

// faultsOf returns the faults between addresses of the child's pages.
func faultsOf(all []Record, pages int) []fault {
	var got []fault
	for _, r := range all {
		if r.Event == nil || r.Kind != KindSample || r.Addr < base || r.Addr >= base+mem.VirtAddr(pages*mem.PageSize) {
			continue
		}
		switch r.Event.Role {
		case RoleUserFault, RoleKernelFault, RoleFault:
			got = append(got, fault{r.Addr, r.ErrorCode, r.FaultIP < mem.UserEnd})
		}
	}
	return got
}

// touched returns the faults that touch of child.c takes.
func touched(pages int) []fault {
	var want []fault
	for i := range pages {
		f := fault{base + mem.VirtAddr(i*mem.PageSize+8*i%mem.PageSize), FaultUser, true}
		if i%2 == 0 {
			f.Code |= FaultWrite
		}
		want = append(want, f)
	}
	return want
}

func TestEveryFaultOnceAndInOrder(t *testing.T) {
	const n = 5000
	all, c := run(t, Config{Syscalls: []int{sysGetrusage}}, "touch", strconv.Itoa(n))
	if diff := cmp.Diff(touched(n), faultsOf(all, n)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	// Between the two calls the kernel counted as many as were recorded.
	inside, counted := false, 0
	for _, r := range all {
		if r.Kind != KindSample {
			continue
		}
		switch r.Event.Role {
		case RoleSysEnter:
			inside = false
		case RoleSysExit:
			inside = true
		case RoleUserFault, RoleKernelFault:
			if inside && r.Addr>>30 == base>>30 {
				counted++
			}
		}
	}
	if want, _ := strconv.Atoi(strings.TrimSpace(c.out.String())); counted != want {
		t.Errorf("%d faults were recorded, and rusage has %d", counted, want)
	}
}

func TestFaultsOfTheKernel(t *testing.T) {
	const n = 100
	all, _ := run(t, Config{}, "kernel", strconv.Itoa(n))
	var want []fault
	for i := range n {
		want = append(want, fault{base + mem.VirtAddr(i*mem.PageSize), FaultWrite, false})
	}
	if diff := cmp.Diff(want, faultsOf(all, n)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// The records of exec, as the kernel of LINUX writes them: the name, then the mappings.
func TestExecAndMappings(t *testing.T) {
	all, c := run(t, Config{}, "touch", "1")
	if len(all) == 0 || all[0].Kind != KindComm || all[0].Misc&MiscCommExec == 0 || string(all[0].Name) != "child" {
		t.Fatalf("the first record is not the exec of child: %+v", all[:1])
	}
	var st unix.Stat_t
	if err := unix.Stat(c.Args[3], &st); err != nil {
		t.Fatal(err)
	}
	var text, anon bool
	for _, r := range all {
		if r.Kind != KindMmap2 {
			continue
		}
		if int(r.OfPID) != c.Process.Pid || r.OfPID != r.PID {
			t.Errorf("mapping of %d by %d, and the process is %d", r.OfPID, r.PID, c.Process.Pid)
		}
		switch {
		case string(r.Name) == c.Args[3] && r.Prot == unix.PROT_READ|unix.PROT_EXEC:
			text = true
			if r.Inode != st.Ino || unix.Mkdev(r.Major, r.Minor) != st.Dev {
				t.Errorf("inode %d on %d:%d, want %d on %d", r.Inode, r.Major, r.Minor, st.Ino, st.Dev)
			}
			if r.Misc&MiscMmapData != 0 {
				t.Error("text is called data")
			}
		case r.Addr == base:
			anon = true
			if r.Len != mem.PageSize || r.Prot != unix.PROT_READ|unix.PROT_WRITE || string(r.Name) != "//anon" {
				t.Errorf("the page that it maps: %+v", r)
			}
		}
	}
	if !text || !anon {
		t.Errorf("text %v, anonymous page %v: not recorded", text, anon)
	}
	if last := all[len(all)-1]; last.Kind != KindExit || int(last.TaskPID) != c.Process.Pid {
		t.Errorf("the last record is not the exit: %+v", last)
	}
}

func TestForkThreadVfork(t *testing.T) {
	all, c := run(t, Config{}, "tasks", "1")
	const threadFlags = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_THREAD |
		unix.CLONE_SYSVSEM | unix.CLONE_SETTLS | unix.CLONE_PARENT_SETTID | unix.CLONE_CHILD_CLEARTID
	want := []uint64{
		unix.CLONE_CHILD_SETTID | unix.CLONE_CHILD_CLEARTID,
		threadFlags,
		unix.CLONE_VM | unix.CLONE_VFORK,
	}
	pid := int32(c.Process.Pid)
	var flags []uint64
	exits := 0
	for i, r := range all {
		switch {
		case r.Kind == KindExit:
			exits++
		case r.Kind == KindSample && r.Event.Role == RoleNewTask:
			flags = append(flags, r.CloneFlags)
			fork := all[i-1]
			if fork.Kind != KindFork || fork.TaskTID != r.NewPID || fork.ParentPID != pid || r.TID != pid {
				t.Errorf("new task %d of %d: the record before is %+v", r.NewPID, r.TID, fork)
			}
			if isThread := fork.TaskPID == pid; isThread != (r.CloneFlags&unix.CLONE_THREAD != 0) {
				t.Errorf("flags %#x, and its process is %d of %d", r.CloneFlags, fork.TaskPID, pid)
			}
		case r.Kind == KindSample && r.Event.Role == RoleUserFault && r.Addr == base:
			if r.PID != pid || r.TID == pid {
				t.Errorf("the thread's touch is of %d/%d", r.PID, r.TID)
			}
		}
	}
	if diff := cmp.Diff(want, flags); diff != "" {
		t.Errorf("clone flags (-want +got):\n%s", diff)
	}
	if exits != 4 {
		t.Errorf("%d exits, want 4", exits)
	}
}

func TestSyscalls(t *testing.T) {
	calls := []int{sysMprotect, sysMremap, sysMunmap, sysMadvise}
	all, _ := run(t, Config{Syscalls: calls}, "calls")
	type call struct {
		Nr   int64
		Args []uint64
		Ret  int64
	}
	const page = mem.PageSize
	b := uint64(base)
	want := []call{
		{sysMadvise, []uint64{b, 4 * page, 15}, 0}, // MADV_NOHUGEPAGE, of map
		{sysMprotect, []uint64{b, page, 1}, 0},
		{sysMremap, []uint64{b + page, page, 2 * page}, -int64(unix.ENOMEM)},
		{sysMunmap, []uint64{b + 3*page, page, 0}, 0},
		{sysMadvise, []uint64{b, page, 4}, 0},
	}
	var got []call
	open := map[int32]*call{}
	for _, r := range all {
		if r.Kind != KindSample {
			continue
		}
		switch r.Event.Role {
		case RoleSysEnter:
			if !slices.Contains(calls, int(r.Syscall)) {
				t.Errorf("system call %d passed the filter", r.Syscall)
			}
			if r.Args[0]>>30 == b>>30 {
				c := call{Nr: r.Syscall, Args: slices.Clone(r.Args[:3])}
				if r.Syscall == sysMunmap {
					c.Args[2] = 0 // it has two
				}
				got = append(got, c)
				open[r.TID] = &got[len(got)-1]
			}
		case RoleSysExit:
			if c := open[r.TID]; c != nil && c.Nr == r.Syscall {
				c.Ret = r.Ret
				delete(open, r.TID)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// fixed turns address space randomisation off for what f starts. With it exec may leave a page
// between the stack pointer and the arguments untouched (arch_align_stack), and perf does
// not read beyond.
func fixed(t testing.TB, f func()) {
	t.Helper()
	const addrNoRandomize, ask = 0x0040000, 0xffffffff
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, ask, 0, 0)
	if errno == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_PERSONALITY, old|addrNoRandomize, 0, 0)
	}
	if errno != 0 {
		t.Fatal(errno)
	}
	defer unix.RawSyscall(unix.SYS_PERSONALITY, old, 0, 0)
	f()
}

// Without ptrace: what exec put on the stack, and the signal that ends the child.
func TestAlone(t *testing.T) {
	dir := tracefs(t)
	c := start(t, 0, "killed", "a  b")
	fixed(t, func() { c.begin(t) })
	s := open(t, Config{PID: c.Process.Pid, Tracefs: dir, Syscalls: []int{sysMmap}, Alone: true})
	c.goOn(t)
	all := readAll(t, s)
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != unix.SIGTERM {
		t.Fatalf("%v, want %v", err, unix.SIGTERM)
	}
	complete(t, s)
	var execs, sent, delivered int
	var host int32
	for _, r := range all {
		if r.Kind != KindSample {
			continue
		}
		switch r.Event.Role {
		case RoleSysExit:
			if r.Syscall == sysMmap {
				if r.UserStack != nil || r.UserABI != ABINone {
					t.Error("mmap has a stack")
				}
				continue
			}
			execs++
			host = r.HostTID
			if r.Syscall != unix.SYS_EXECVE || r.Ret != 0 || r.UserABI != ABI64 || r.UserIP == 0 || r.UserSP%16 != 0 {
				t.Errorf("exec: %+v", r)
			}
			if n := len(r.UserStack); n < 500 || binary.LittleEndian.Uint64(r.UserStack) != 3 || !bytes.Contains(r.UserStack, []byte("\x00killed\x00a  b\x00")) {
				t.Errorf("a stack of %d bytes: %q", n, r.UserStack)
			}
		case RoleSignal:
			if r.Signal == int32(unix.SIGTERM) && r.Target == host && r.Result == 0 {
				sent++
			}
		case RoleDeliver:
			if r.Signal == int32(unix.SIGKILL) && r.Handler == 0 {
				delivered++
			}
		}
	}
	if execs != 1 || sent != 1 || delivered != 1 {
		t.Errorf("%d execs, SIGTERM sent %d times, SIGKILL delivered %d times", execs, sent, delivered)
	}
}

func TestTwoCPUsInOrder(t *testing.T) {
	cpus, err := onlineCPUs()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(cpus, 0) || !slices.Contains(cpus, 1) {
		t.Skip("needs the CPUs 0 and 1")
	}
	const n = 3000
	all, _ := run(t, Config{}, "migrate", strconv.Itoa(n))
	if diff := cmp.Diff(touched(n), faultsOf(all, n)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	on := map[uint32]int{}
	for _, r := range all {
		if r.Kind == KindSample && r.Addr>>30 == base>>30 {
			on[r.CPU]++
		}
	}
	if diff := cmp.Diff(map[uint32]int{0: n / 2, 1: n / 2}, on); diff != "" {
		t.Errorf("faults by CPU (-want +got):\n%s", diff)
	}
}

// What a reader posts between two steps of the child comes between their records.
func TestPost(t *testing.T) {
	const n = 50
	dir := tracefs(t)
	c := start(t, 0, "steps", strconv.Itoa(n))
	c.Stdout = nil
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.begin(t)
	s := open(t, Config{PID: c.Process.Pid, Tracefs: dir})
	c.goOn(t)
	go func() {
		var b [1]byte
		for i := range n {
			if _, err := io.ReadFull(out, b[:]); err != nil {
				t.Errorf("step %d: %v", i, err)
				break
			}
			s.Post(i)
			io.WriteString(c.in, "x")
		}
	}()
	all := readAll(t, s)
	c.Wait()
	complete(t, s)
	var got []int
	for _, r := range all {
		if r.Kind == KindPosted {
			got = append(got, r.Value.(int))
		} else if r.Kind == KindSample && r.Event.Role == RoleUserFault && r.Addr>>30 == base>>30 {
			got = append(got, -int((r.Addr-base)>>mem.PageShift))
		}
	}
	var want []int
	for i := range n {
		want = append(want, -i, i)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (negative) and posts (-want +got):\n%s", diff)
	}
}

// The end is that of the last task, not of the first.
func TestEndsWithTheLastTask(t *testing.T) {
	const n = 10
	all, _ := run(t, Config{}, "orphan", strconv.Itoa(n))
	if diff := cmp.Diff(touched(n), faultsOf(all, n)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestStorm(t *testing.T) {
	const n = 100 << 10 // both on one CPU, with no reader, still fit its ring
	cfg := Config{Tracefs: tracefs(t)}
	c := start(t, 0, "storm", strconv.Itoa(n))
	c.begin(t)
	cfg.PID = c.Process.Pid
	s := open(t, cfg)
	c.goOn(t)
	got, held := 0, 0
	for {
		_, err := s.Read(20*time.Millisecond, func(r *Record) {
			if r.Kind == KindSample && r.Addr>>30 == base>>30 {
				got++
			}
		})
		sum := 0
		for i := range s.queues {
			sum += cap(s.queues[i].buf)
		}
		held = max(held, sum)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c.Wait()
	if got != 2*n {
		t.Errorf("%d faults, want %d", got, 2*n)
	}
	if most := 3 * (s.limit + len(s.rings)*s.stats.Ring); held > most {
		t.Errorf("%d bytes were held, more than %d", held, most)
	}
	complete(t, s)
}

// Nobody reads while a small ring overflows: what is missing is counted, to the record.
func TestLostIsCounted(t *testing.T) {
	const n = 4096
	c := start(t, 0, "storm", strconv.Itoa(n))
	dir := tracefs(t)
	c.begin(t)
	s := open(t, Config{PID: c.Process.Pid, Tracefs: dir, Ring: 64 << 10})
	c.goOn(t)
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Flush(func(*Record) {}); err != nil {
		t.Fatal(err)
	}
	stats, err := s.Close()
	if err != nil {
		t.Fatal(err)
	}
	if stats.Ring != 64<<10 {
		t.Errorf("a ring of %d bytes", stats.Ring)
	}
	if len(s.Missing()) > 0 {
		t.Skipf("needs Linux 6.0: %v", s.Missing())
	}
	var lost uint64
	for _, e := range stats.Events {
		if e.Count != e.Seen+e.Lost && e.Event.Role != RoleSideband {
			t.Errorf("%s: %d counted, %d delivered, %d lost", e.Event.Name, e.Count, e.Seen, e.Lost)
		}
		lost += e.Lost
	}
	if lost == 0 || stats.Lost != lost {
		t.Errorf("%d lost, by event %d", stats.Lost, lost)
	}
}

// As a user without rights: the faults of the program itself, without error codes.
// Where nobody has mounted tracefs, the process mounts one that nobody else sees.
func TestMountTracefs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mount")
	}
	before, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	defer func(dirs []string) { tracefsDirs = dirs }(tracefsDirs)
	tracefsDirs = []string{t.TempDir()}
	dir, done, err := FindTracefs()
	if err != nil {
		t.Skipf("needs fsopen(2) and tracefs: %v", err)
	}
	p, err := LoadTracepoint(dir, "task:task_newtask")
	if err != nil || p.Name != "task_newtask" {
		t.Errorf("%v, %v", p, err)
	}
	after, err := os.ReadFile("/proc/self/mounts")
	if err != nil || string(after) != string(before) {
		t.Errorf("mounts are now\n%s\nand were\n%s", after, before)
	}
	done()
	if _, err := os.Stat(dir + "/events"); err == nil {
		t.Error("it is still there")
	}
}

func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to be another user")
	}
	const nobody, n = 65534, 500
	c := start(t, nobody, "touch", strconv.Itoa(n))
	c.begin(t)
	type result struct {
		s   *Session
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()                                                   // and never unlocked: the thread ends with the goroutine
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} { // of this thread alone
			if _, _, errno := unix.RawSyscall(call, nobody, nobody, nobody); errno != 0 {
				done <- result{err: errno}
				return
			}
		}
		s, err := Open(Config{PID: c.Process.Pid, Syscalls: []int{sysMmap}})
		done <- result{s, err}
	}()
	r := <-done
	if errors.Is(r.err, ErrNotPermitted) && paranoid(t) > 2 {
		t.Skipf("needs perf_event_paranoid of at most 2: %v", r.err)
	}
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.s.Close()
	var what []string
	for _, m := range r.s.Missing() {
		what = append(what, m.What)
		if !strings.HasPrefix(m.Why, "needs root: ") || !strings.Contains(m.Why, "permission denied") {
			t.Errorf("%s is missing: %s", m.What, m.Why)
		}
	}
	want := []string{MissingCodes, MissingUnresolved, MissingSyscalls, MissingCloneFlags, MissingKernelFaults}
	if diff := cmp.Diff(want, what); diff != "" || r.s.Level() != LevelFaults {
		t.Errorf("level %d, missing (-want +got):\n%s", r.s.Level(), diff)
	}
	c.goOn(t)
	all := readAll(t, r.s)
	c.Wait()
	complete(t, r.s)
	faults := touched(n)
	for i := range faults {
		faults[i].Code = 0
	}
	if diff := cmp.Diff(faults, faultsOf(all, n)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// paranoid returns what the kernel keeps from users.
func paranoid(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
	if err != nil {
		t.Skip("needs perf_event_open: ", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Without tracepoints root still sees the kernel's faults.
func TestLevelFaults(t *testing.T) {
	const n = 100
	all, _ := run(t, Config{Level: LevelFaults}, "kernel", strconv.Itoa(n))
	var want []fault
	for i := range n {
		want = append(want, fault{base + mem.VirtAddr(i*mem.PageSize), 0, false})
	}
	if diff := cmp.Diff(want, faultsOf(all, n)); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// Recording begins with the next exec, or at once.
func TestBegins(t *testing.T) {
	const n = 5
	for _, now := range []bool{false, true} {
		dir := tracefs(t)
		c := start(t, 0, "steps", strconv.Itoa(n))
		c.Stdout = nil
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		c.begin(t)
		c.goOn(t)
		var b [1]byte
		if _, err := io.ReadFull(out, b[:]); err != nil { // it has touched its first page, and waits
			t.Fatal(err)
		}
		s := open(t, Config{PID: c.Process.Pid, Tracefs: dir, Now: now})
		io.WriteString(c.in, strings.Repeat("x", n))
		all := readAll(t, s)
		c.Wait()
		complete(t, s)
		var want []fault
		if now {
			want = touched(n)[1:]
		}
		if diff := cmp.Diff(want, faultsOf(all, n)); diff != "" || !now && len(all) > 0 {
			t.Errorf("now %v: %d records, faults (-want +got):\n%s", now, len(all), diff)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := tracefs(t)
	for name, tt := range map[string]struct {
		cfg  Config
		want error
	}{
		"no such process": {Config{PID: 1 << 22, Tracefs: dir}, unix.ESRCH},
		"no tracefs":      {Config{PID: os.Getpid(), Level: LevelTracepoints, Tracefs: t.TempDir()}, os.ErrNotExist},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(tt.cfg)
			if s != nil || !errors.Is(err, tt.want) {
				t.Errorf("%v, %v; want %v", s, err, tt.want)
			}
		})
	}
}
