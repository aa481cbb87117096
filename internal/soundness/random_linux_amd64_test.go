package soundness

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"vmsim/mem"
	"vmsim/trace"
)

// TestAgainstKernel does random operations in real processes and compares after
// each: areas and present pages of every process, with kinds.
func TestAgainstKernel(t *testing.T) {
	path := setup(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ops := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		g := newRig(t, path, trace.Header{Source: "test", Touches: trace.TouchesComplete}, Options{Strict: true})
		defer g.end()
		g.check()
		for range rapid.IntRange(1, 80).Draw(t, "ops") {
			ops[g.random(t)]++
			g.check()
		}
	})
	t.Logf("%v", ops)
}

// shmPath is how /proc/PID/maps names a segment without a key.
const shmPath = "/SYSV00000000"

// random does one operation, and returns its name.
func (g *rig) random(t *rapid.T) string {
	p := g.procs[rapid.IntRange(0, len(g.procs)-1).Draw(t, "process")]
	pages := func(most int) uint64 { return uint64(rapid.IntRange(1, most).Draw(t, "pages")) * mem.PageSize }
	at := func() mem.VirtAddr {
		return arena.Start + mem.VirtAddr(rapid.IntRange(0, 63).Draw(t, "page"))*mem.PageSize
	}
	prot := func() mem.Prot {
		return rapid.SampledFrom([]mem.Prot{3, 3, 3, 1, 1, 7, 5, 4, 2, 0}).Draw(t, "prot")
	}
	call := func(op trace.Op, place bool, nr int, args ...uint64) {
		op.PID, op.Want = p.pid, answer(p.syscall(nr, args...), place)
		g.op(op)
	}
	n := rapid.IntRange(0, 102).Draw(t, "what")
	switch {
	case n < 40:
		g.touch(p, at()+mem.VirtAddr(rapid.SampledFrom([]int{0, 5, 4095}).Draw(t, "offset")), mem.Access(rapid.SampledFrom([]int{0, 0, 1, 1, 2}).Draw(t, "access")))
		return "touch"
	case n < 58:
		op := trace.Op{Kind: trace.OpMmap, Addr: at(), Len: pages(12), Prot: prot(), Flags: trace.MapFixed}
		flags, fd := uint64(unix.MAP_PRIVATE), uint64(1<<64-1)
		if rapid.IntRange(0, 3).Draw(t, "shared") == 0 {
			op.Flags |= trace.MapShared
			flags = unix.MAP_SHARED
		}
		flag := func(name string, of int, f trace.MapFlags, k uint64) {
			if rapid.IntRange(0, of).Draw(t, name) == 0 {
				op.Flags |= f
				flags |= k
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "replace") > 0 {
			flags |= unix.MAP_FIXED
		} else {
			op.Flags ^= trace.MapFixed | trace.MapNoReplace
			flags |= unix.MAP_FIXED_NOREPLACE
		}
		flag("locked", 9, trace.MapLocked, unix.MAP_LOCKED)
		if rapid.Bool().Draw(t, "file") {
			fd, op.Path = 3, g.file
			flag("populate", 4, trace.MapPopulate, unix.MAP_POPULATE)
			op.Offset = uint64(rapid.IntRange(0, filePages-20).Draw(t, "offset")) * mem.PageSize
			if op.Flags&(trace.MapPopulate|trace.MapLocked) == 0 && rapid.IntRange(0, 3).Draw(t, "end") == 0 {
				op.Offset = uint64(rapid.IntRange(filePages-5, filePages+1).Draw(t, "offset")) * mem.PageSize
			}
		} else {
			flag("populate", 4, trace.MapPopulate, unix.MAP_POPULATE)
			flag("nonblock", 9, trace.MapNonBlock, unix.MAP_NONBLOCK)
			flag("grows", 9, trace.MapGrowsDown, unix.MAP_GROWSDOWN)
			flags |= unix.MAP_ANONYMOUS
		}
		call(op, true, unix.SYS_MMAP, uint64(op.Addr), op.Len, uint64(op.Prot), flags, fd, op.Offset)
		g.cut(p)
		return "mmap"
	case n < 62:
		op := trace.Op{Kind: trace.OpMunmap, Addr: at(), Len: pages(8)}
		call(op, false, unix.SYS_MUNMAP, uint64(op.Addr), op.Len)
		return "munmap"
	case n < 68:
		op := trace.Op{Kind: trace.OpMprotect, Addr: at(), Len: pages(12), Prot: prot()}
		call(op, false, unix.SYS_MPROTECT, uint64(op.Addr), op.Len, uint64(op.Prot))
		return "mprotect"
	case n < 73:
		op := trace.Op{Kind: trace.OpMremap, Addr: at(), Len: pages(8), NewLen: pages(8), Remap: trace.RemapMayMove | trace.RemapFixed, To: at()}
		switch rapid.IntRange(0, 7).Draw(t, "remap") {
		case 0:
			op.Remap, op.To = 0, 0
		case 1:
			op.Remap, op.NewLen = op.Remap|trace.RemapDontUnmap, op.Len
		case 2:
			op.Len = 0
		case 3, 4:
			op.NewLen = op.Len
		}
		g.uncut(p, mem.Range{Start: op.Addr, End: op.Addr + mem.VirtAddr(max(op.Len, mem.PageSize))})
		call(op, true, unix.SYS_MREMAP, uint64(op.Addr), op.Len, op.NewLen, uint64(op.Remap), uint64(op.To))
		g.cut(p)
		return "mremap"
	case n < 86:
		op := trace.Op{Kind: trace.OpMadvise, Addr: at(), Len: pages(12), Advice: rapid.SampledFrom([]trace.Advice{trace.AdviceDontNeed, trace.AdviceDontNeed,
			trace.AdviceRemove, trace.AdviceDontFork, trace.AdviceDoFork, trace.AdviceWipeOnFork, trace.AdviceKeepOnFork, trace.AdvicePopulateRead,
			trace.AdvicePopulateWrite, trace.AdviceDontNeedLock, trace.AdviceGuardInstall, trace.AdviceGuardInstall, trace.AdviceGuardRemove, trace.AdviceFree}).Draw(t, "advice")}
		if op.Advice == trace.AdviceRemove && len(g.shm) > 0 {
			// Once in 8,000 checks, a hole that was punched into a System V segment left
			// an entry in the segment's other mapping. It is not understood.
			op.Advice = trace.AdviceDontNeed
		}
		call(op, false, unix.SYS_MADVISE, uint64(op.Addr), op.Len, uint64(op.Advice))
		return "madvise " + op.Advice.String()
	case n < 90:
		op := trace.Op{Kind: trace.OpMlock, Addr: at(), Len: pages(12)}
		switch rapid.IntRange(0, 2).Draw(t, "mlock") {
		case 0:
			call(op, false, unix.SYS_MLOCK, uint64(op.Addr), op.Len)
		case 1:
			op.Bits = 1
			call(op, false, unix.SYS_MLOCK2, uint64(op.Addr), op.Len, 1)
		case 2:
			op.Kind = trace.OpMunlock
			call(op, false, unix.SYS_MUNLOCK, uint64(op.Addr), op.Len)
		}
		return op.Kind.String()
	case n < 92:
		op := trace.Op{Kind: trace.OpMlockall, Bits: uint64(rapid.IntRange(1, 7).Draw(t, "mcl"))}
		if rapid.IntRange(0, 2).Draw(t, "unlock") > 0 {
			op = trace.Op{Kind: trace.OpMunlockall}
			call(op, false, unix.SYS_MUNLOCKALL)
		} else {
			call(op, false, unix.SYS_MLOCKALL, op.Bits)
		}
		return op.Kind.String()
	case n < 95:
		op := trace.Op{Kind: trace.OpBrk, Addr: p.brk + mem.VirtAddr(rapid.IntRange(0, 40000).Draw(t, "brk"))}
		call(op, true, unix.SYS_BRK, uint64(op.Addr))
		g.touch(p, p.brk.PageDown()+0x1000+mem.VirtAddr(rapid.IntRange(0, 8).Draw(t, "heap"))*mem.PageSize, mem.Write)
		return "brk"
	case n < 97:
		var regs unix.PtraceRegs
		unix.PtraceGetRegs(p.kpid, &regs)
		g.touch(p, mem.VirtAddr(regs.Rsp)-mem.VirtAddr(rapid.IntRange(0, 2200).Draw(t, "stack"))*mem.PageSize, mem.Write)
		return "stack"
	case n == 100 || n == 101:
		if rapid.IntRange(0, 1).Draw(t, "detach") == 0 {
			op := trace.Op{Kind: trace.OpShmdt, Addr: at()}
			if len(g.shm) > 0 {
				op.Addr = rapid.SampledFrom(g.shm).Draw(t, "segment")
			}
			call(op, false, unix.SYS_SHMDT, uint64(op.Addr))
			return "shmdt"
		}
		id := p.syscall(unix.SYS_SHMGET, 0, 4*mem.PageSize, 0o1600)
		op := trace.Op{Kind: trace.OpShmat, Addr: at(), Len: 4 * mem.PageSize, Prot: 3, Path: shmPath}
		call(op, true, unix.SYS_SHMAT, uint64(id), uint64(op.Addr), 0)
		p.syscall(unix.SYS_SHMCTL, uint64(id), unix.IPC_RMID) // gone with its last user
		g.shm = append(g.shm, op.Addr)
		g.cut(p)
		return "shmat"
	case n < 99 && len(g.procs) < 4:
		g.fork(p)
		return "fork"
	case len(g.procs) > 1:
		g.exit(p)
		return "exit"
	}
	return "nothing"
}
