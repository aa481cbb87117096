package soundness

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vmsim/trace"
)

// TestScripts does operations that random ones seldom meet, in real processes, and
// compares after each. FILE is the file that the processes have open.
func TestScripts(t *testing.T) {
	path := setup(t)
	for _, c := range []struct{ name, text string }{
		{"MADV_DONTNEED leaves guards", `
2 mmap 0x200000000 0x4000 rw- private,fixed,populate anon
2 madvise 0x200001000 0x1000 guard_install
2 madvise 0x200000000 0x4000 dontneed
2 touch w 0x200001000
2 touch w 0x200002000`},
		{"populating stops at a guard", `
2 mmap 0x200000000 0x4000 rw- private,fixed anon
2 madvise 0x200002000 0x1000 guard_install
2 madvise 0x200000000 0x4000 populate_write
2 madvise 0x200002000 0x1000 guard_remove
2 touch r 0x200002000`},
		{"MADV_DONTFORK", `
2 mmap 0x200000000 0x4000 rw- private,fixed,populate anon
2 madvise 0x200001000 0x1000 dontfork
2 fork = 3
3 touch r 0x200001000
3 mmap 0x200001000 0x1000 rw- private,fixed anon
3 touch r 0x200001000`},
		{"a child is not locked", `
2 mmap 0x200000000 0x4000 r-- private,fixed,locked anon
2 fork = 3
3 mprotect 0x200000000 0x4000 rw-
2 mprotect 0x200000000 0x2000 rw-`},
		{"lock on fault", `
2 mlockall flags=0x6
2 mmap 0x200000000 0x4000 rw- private,fixed anon
2 touch r 0x200000000
2 mlockall flags=0x5
2 munlockall`},
		{"a locked area becomes writable", `
2 mmap 0x200000000 0x4000 r-- private,fixed FILE+0x0
2 mlock 0x200000000 0x4000
2 mprotect 0x200001000 0x1000 rw-
2 touch w 0x200001000`},
		{"MREMAP_DONTUNMAP unlocks", `
2 mmap 0x200000000 0x4000 r-- private,fixed,locked anon
2 mremap 0x200000000 0x4000 0x4000 maymove,fixed,dontunmap to=0x200010000
2 mprotect 0x200000000 0x4000 rw-
2 mprotect 0x200010000 0x4000 rw-`},
		{"MREMAP_DONTUNMAP of a part unlocks the whole", `
2 mmap 0x200000000 0x8000 r-x private,fixed,locked anon
2 mremap 0x200002000 0x2000 0x2000 maymove,fixed,dontunmap to=0x200010000
2 mprotect 0x200000000 0x8000 rw-
2 mprotect 0x200010000 0x2000 rw-`},
		{"a move of areas with a hole", `
2 mmap 0x200000000 0x4000 rw- private,fixed,populate anon
2 mmap 0x200010000 0x4000 r-- private,fixed,populate anon
2 munmap 0x200001000 0x1000
2 mremap 0x200000000 0x4000 0x4000 maymove,fixed to=0x200010000`},
		{"a move that fails half way", `
2 mmap 0x200000000 0x1000 rw- private,fixed,populate anon
2 shmat 0x200001000 0x4000 rw- /SYSV00000000
2 mremap 0x200000000 0x3000 0x3000 maymove,fixed to=0x200010000`},
		{"a destination lost", `
2 mmap 0x200000000 0x2000 rw- shared,fixed,populate anon
2 mremap 0x200000000 0 0x1000 maymove,fixed to=0x200000000`},
		{"a second mapping of locked memory", `
2 mmap 0x200000000 0x2000 rw- shared,fixed,locked anon
2 mremap 0x200000000 0 0x2000 maymove,fixed to=0x200010000`},
		{"a hole is for everybody, copies stay", `
2 mmap 0x200000000 0x4000 rw- shared,fixed FILE+0x4000
2 mmap 0x200010000 0x2000 rw- private,fixed FILE+0x4000
2 touch w 0x200010000
2 touch r 0x200011000
2 touch w 0x200000000
2 touch w 0x200001000
2 touch w 0x200002000
2 fork = 3
3 touch r 0x200000000
3 touch r 0x200001000
2 madvise 0x200000000 0x2000 remove`},
		{"mprotect over a hole", `
2 mmap 0x200000000 0x1000 rw- private,fixed anon
2 mmap 0x200002000 0x1000 rw- private,fixed anon
2 mprotect 0x200000000 0x3000 r--
2 touch w 0x200000000
2 touch w 0x200002000`},
		{"MADV_DONTNEED ends at a locked area", `
2 mmap 0x200000000 0x1000 rw- private,fixed,populate anon
2 mmap 0x200001000 0x1000 rw- private,fixed,locked anon
2 mmap 0x200002000 0x1000 rw- private,fixed,populate anon
2 madvise 0x200000000 0x3000 dontneed`},
	} {
		t.Run(c.name, func(t *testing.T) {
			runtime.LockOSThread() // the tracer is a thread
			defer runtime.UnlockOSThread()
			g := newRig(t, path, trace.Header{Source: "test", Touches: trace.TouchesComplete}, Options{Strict: true})
			defer g.end()
			text := trace.Magic + strings.ReplaceAll(c.text, "FILE", g.file)
			ops, err := trace.Parse("script", strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			for _, op := range ops {
				g.do(op)
				g.check()
			}
		})
	}
}

// do does op in a real process and gives it to the checker, with the kernel's
// answer.
func (g *rig) do(op trace.Op) {
	g.t.Helper()
	var p *driven
	for _, q := range g.procs {
		if q.pid == op.PID {
			p = q
		}
	}
	call := func(place bool, nr int, args ...uint64) {
		op.Want = answer(p.syscall(nr, args...), place)
		g.op(op)
	}
	addr := uint64(op.Addr)
	switch op.Kind {
	case trace.OpTouch:
		g.touch(p, op.Addr, op.Access)
	case trace.OpFork:
		g.fork(p)
	case trace.OpMmap:
		flags, fd := uint64(unix.MAP_FIXED|unix.MAP_PRIVATE), uint64(3)
		for _, f := range []struct {
			in  trace.MapFlags
			out uint64
		}{{trace.MapShared, unix.MAP_PRIVATE ^ unix.MAP_SHARED}, {trace.MapPopulate, unix.MAP_POPULATE}, {trace.MapLocked, unix.MAP_LOCKED}} {
			if op.Flags&f.in != 0 {
				flags ^= f.out
			}
		}
		if op.Path == "" {
			flags, fd = flags|unix.MAP_ANONYMOUS, 1<<64-1
		}
		call(true, unix.SYS_MMAP, addr, op.Len, uint64(op.Prot), flags, fd, op.Offset)
		g.cut(p)
	case trace.OpMunmap:
		call(false, unix.SYS_MUNMAP, addr, op.Len)
	case trace.OpMprotect:
		call(false, unix.SYS_MPROTECT, addr, op.Len, uint64(op.Prot))
	case trace.OpMremap:
		call(true, unix.SYS_MREMAP, addr, op.Len, op.NewLen, uint64(op.Remap), uint64(op.To))
	case trace.OpMadvise:
		call(false, unix.SYS_MADVISE, addr, op.Len, uint64(op.Advice))
	case trace.OpMlock:
		call(false, unix.SYS_MLOCK, addr, op.Len)
	case trace.OpMlockall:
		call(false, unix.SYS_MLOCKALL, op.Bits)
	case trace.OpMunlockall:
		call(false, unix.SYS_MUNLOCKALL)
	case trace.OpShmat:
		id := p.syscall(unix.SYS_SHMGET, 0, op.Len, 0o1600)
		call(true, unix.SYS_SHMAT, uint64(id), addr, 0)
		p.syscall(unix.SYS_SHMCTL, uint64(id), unix.IPC_RMID)
	default:
		g.t.Fatalf("%v: not known here", op)
	}
}
