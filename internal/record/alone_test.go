package record

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"vmsim/internal/perf"
	"vmsim/mem"
)

// execReturns is the sample at the return of execve, of a task that has the number host in
// the first PID namespace.
func (f *feed) execReturns(pid, host int32, abi uint64, args ...string) {
	const sp = 0x7fffffffe000
	f.sample(perf.RoleSysExit, pid, pid, func(r *perf.Record) {
		r.Syscall, r.HostTID, r.UserABI, r.UserSP, r.UserStack = unix.SYS_EXECVE, pid, abi, sp, stackOf(sp, args, nil)
	})
}

func (f *feed) sends(sig unix.Signal, host, result int32) {
	f.sample(perf.RoleSignal, 1, 1, func(r *perf.Record) { r.Signal, r.Target, r.Result = int32(sig), host, result })
}

func (f *feed) gets(pid, tid int32, sig unix.Signal, handler mem.VirtAddr) {
	f.sample(perf.RoleDeliver, pid, tid, func(r *perf.Record) { r.Signal, r.Handler = int32(sig), handler })
}

// stackOf is what exec puts at sp: arguments, environment and the strings of both.
func stackOf(sp uint64, args, env []string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(args)))
	at := sp + 8*uint64(len(args)+len(env)+3)
	var text []byte
	for _, list := range [][]string{args, env} {
		for _, s := range list {
			b = binary.LittleEndian.AppendUint64(b, at+uint64(len(text)))
			text = append(append(text, s...), 0)
		}
		b = binary.LittleEndian.AppendUint64(b, 0)
	}
	return append(b, text...)
}

// Arguments are those that were put there; where the stack is cut off, the first of them.
func TestArgsOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z ]{0,9}`)
		args, env := rapid.SliceOfN(word, 0, 9).Draw(t, "args"), rapid.SliceOfN(word, 0, 3).Draw(t, "env")
		sp := rapid.Uint64().Draw(t, "sp")
		stack := stackOf(sp, args, env)
		got, whole := argsOf(stack, mem.VirtAddr(sp))
		if !whole || !slices.Equal(got, args) {
			t.Fatalf("%q, %v; want %q", got, whole, args)
		}
		cut := rapid.IntRange(0, len(stack)).Draw(t, "cut")
		got, whole = argsOf(stack[:cut], mem.VirtAddr(sp))
		if len(got) > len(args) || !slices.Equal(got, args[:len(got)]) || whole != (len(got) == len(args) && cut >= 8) {
			t.Fatalf("of %d bytes: %q, %v; all are %q", cut, got, whole, args)
		}
	})
}

// Whatever a program has made of its stack by the time.
func FuzzArgsOf(f *testing.F) {
	f.Add(stackOf(0x7ff0, []string{"a", "b c"}, []string{"d=e"}), uint64(0x7ff0))
	f.Fuzz(func(t *testing.T, stack []byte, sp uint64) {
		args, _ := argsOf(stack, mem.VirtAddr(sp))
		if n := 8 + 8*len(args); len(args) > 0 && n > len(stack) {
			t.Errorf("%d arguments in %d bytes", len(args), len(stack))
		}
	})
}

// How processes end, where perf alone tells.
func TestEndsAlone(t *testing.T) {
	f := newFeed(t)
	f.c.CloneFlags()
	f.comm(50)
	f.mmap2(50, gone, 0x400000, 0x1000, 0, 5)
	f.execReturns(50, 50, perf.ABI64, "prog", "a b")
	n := int32(50)
	child := func(end func(pid int32)) {
		n++
		f.fork(50, 50, n, n, 0x1200000)
		end(n)
		f.exit(n, n)
	}
	child(func(pid int32) { f.enter(pid, unix.SYS_EXIT_GROUP, 256+7) })
	child(func(pid int32) { f.enter(pid, unix.SYS_EXIT, 8) })
	child(func(pid int32) { // a signal that ends it, one that was too late, what it gets
		f.sends(unix.SIGTERM, pid, 0)
		f.sends(unix.SIGINT, pid, 1)
		f.gets(pid, pid, unix.SIGKILL, 0)
	})
	child(func(pid int32) { // one that is handled, one that harms nobody
		f.sends(unix.SIGTERM, pid, 0)
		f.gets(pid, pid, unix.SIGTERM, 0x401000)
		f.sends(unix.SIGCHLD, pid, 0)
		f.gets(pid, pid, unix.SIGCHLD, 0)
		f.gets(pid, pid, unix.SIGPIPE, 1)
		f.sends(unix.SIGUSR1, pid, 4) // without its siginfo
		f.gets(pid, pid, unix.SIGKILL, 0)
	})
	child(func(pid int32) { f.gets(pid, pid, unix.SIGKILL, 0) }) // by a sender that was lost
	child(func(pid int32) {                                      // SIGKILL while it dumps core
		f.gets(pid, pid, unix.SIGABRT, 0)
		f.sends(unix.SIGKILL, pid, 0)
	})
	child(func(pid int32) { // a core dump; its sender is not of the recording
		f.sends(unix.SIGHUP, 4711, 0)
		f.gets(pid, pid, unix.SIGSEGV, 0)
	})
	child(func(pid int32) { // its first thread's end is told before the other's
		f.fork(pid, pid, pid, 99, 0x3d0f00)
		f.sends(unix.SIGKILL, pid, 0)
		f.gets(pid, 99, unix.SIGKILL, 0)
		f.gets(pid, pid, unix.SIGKILL, 0)
		f.exit(pid, pid)
		f.exit(pid, 99)
	})
	child(func(pid int32) { // its first thread has ended long since
		f.fork(pid, pid, pid, 97, 0x3d0f00)
		f.enter(pid, unix.SYS_EXIT, 0)
		f.exit(pid, pid)
		f.sends(unix.SIGTERM, pid, 0)
		f.gets(pid, 97, unix.SIGKILL, 0)
		f.exit(pid, 97)
	})
	child(func(pid int32) { // its first thread ends before the other has noticed
		f.fork(pid, pid, pid, 96, 0x3d0f00)
		f.enter(pid, unix.SYS_EXIT_GROUP, 6)
		f.exit(pid, pid)
		f.fault(pid, 96, 0x7ff0, 0x400000, 7)
		f.gets(pid, 96, unix.SIGKILL, 0)
		f.exit(pid, 96)
	})
	child(func(pid int32) { // one that waits in sigwait, or for ever; another thread execs, and goes on
		f.fork(pid, pid, pid, 95, 0x3d0f00)
		f.fork(pid, pid, pid, 98, 0x3d0f00)
		f.sends(unix.SIGTERM, pid, 0)
		f.gets(pid, pid, unix.SIGKILL, 0)
		f.exit(pid, pid)
		f.gets(pid, 95, unix.SIGKILL, 0)
		f.exit(pid, 95)
		f.comm(pid)
		f.mmap2(pid, "[stack]", 0xfffdd000, 0x21000, 0, 3)
		f.mmap2(pid, gone, 0x400000, 0x1000, 0, 5)
		f.leave(pid, unix.SYS_MUNMAP, 0)    // execve of a 32-bit program
		f.enter(pid, unix.SYS_MUNMAP, 0, 1) // another, which fails
		f.leave(pid, unix.SYS_MUNMAP, -2)
		f.enter(pid, unix.SYS_EXIT_GROUP, 0x401) // fgetxattr
		f.fork(pid, pid, 101, 101, 0x1200000)
		f.comm(101)
		f.mmap2(101, "[stack]", 0x7ffffffde000, 0x21000, 0, 3)
		f.mmap2(101, gone, 0x400000, 0x1000, 0, 5)
		f.execReturns(101, 101, perf.ABI64, "64")
		f.enter(101, unix.SYS_EXIT_GROUP, 1)
		f.exit(101, 101)
		f.sends(unix.SIGALRM, pid, 0)
		f.gets(pid, pid, unix.SIGKILL, 0)
	})
	child(func(pid int32) { // a signal overtakes an exec
		f.sends(unix.SIGTERM, pid, 0)
		f.comm(pid)
		f.mmap2(pid, gone, 0x400000, 0x1000, 0, 5)
		f.gets(pid, pid, unix.SIGKILL, 0)
	})
	child(f.comm)           // of another user
	child(func(pid int32) { // one that fails when the old memory is gone
		f.comm(pid)
		f.gets(pid, pid, unix.SIGSEGV, 0)
	})
	var ends []string
	for _, line := range f.text {
		if strings.Contains(line, " exit") || strings.Contains(line, " exec ") && !strings.Contains(line, "area") {
			_, line, _ = strings.Cut(line, " ")
			ends = append(ends, line)
		}
	}
	const want = `2 exec /nowhere/prog base=0x400000 sp=0x7fffffffe000 arg=prog "arg=a b" = 0
3 exit 7
4 exit 8
5 exit signal=15
6 exit signal=10
7 exit signal=9
8 exit signal=6
9 exit signal=11
10/11 exit signal=9
10 exit signal=9
12 exit
12/13 exit signal=15
14/15 exit 6
14 exit 6
16/17 exit
16 exit
16 exec /nowhere/prog base=0x400000 = 0
19 exec /nowhere/prog base=0x400000 sp=0x7fffffffe000 arg=64 = 0
19 exit 1
16 exit signal=14
20 exec /nowhere/prog base=0x400000 = 0
20 exit signal=15
21 exit
22 exit signal=11`
	if got := strings.Join(ends, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	const missing = `calls and exit statuses of 32-bit programs (1)
programs of execs that nothing named (1)
programs that perf does not follow: set-user-ID, or not readable for their user (1)`
	if got := strings.Join(f.c.Missing(), "\n"); got != missing {
		t.Errorf("missing:\n%s\nwant\n%s", got, missing)
	}
	if len(f.c.hosts) != 1 || len(f.c.tasks) != 1 {
		t.Errorf("%d tasks live, %d with another number", len(f.c.tasks), len(f.c.hosts))
	}
}
