package record

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"vmsim/mem"
	"vmsim/trace"
)

const sysMseal = 462

// unrecorded are calls that change memory and have no operation.
var unrecorded = map[int]string{
	unix.SYS_REMAP_FILE_PAGES: "remap_file_pages", unix.SYS_PROCESS_MADVISE: "process_madvise", sysMseal: "mseal",
}

// frees reports whether the call gives addresses back, so that another thread may
// get them before it returns: it counts from its entry.
func frees(nr int) bool { return nr == unix.SYS_MUNMAP || nr == unix.SYS_SHMDT }

// mmapFlags are the flags of mmap that a trace knows. Others have no meaning to
// the kernel, or none to a replay (MAP_DENYWRITE, MAP_EXECUTABLE).
var mmapFlags = []struct {
	bit  uint64
	flag trace.MapFlags
}{
	{unix.MAP_FIXED, trace.MapFixed}, {unix.MAP_FIXED_NOREPLACE, trace.MapNoReplace}, {unix.MAP_POPULATE, trace.MapPopulate},
	{unix.MAP_LOCKED, trace.MapLocked}, {unix.MAP_NORESERVE, trace.MapNoReserve}, {unix.MAP_STACK, trace.MapStack},
	{unix.MAP_GROWSDOWN, trace.MapGrowsDown}, {unix.MAP_HUGETLB, trace.MapHugeTLB}, {unix.MAP_32BIT, trace.Map32Bit},
	{unix.MAP_NONBLOCK, trace.MapNonBlock}, {unix.MAP_SYNC, trace.MapSync},
}

// returned writes a call that returned. file is what it mapped, size how much
// shmat did; both where known.
func (c *Converter) returned(t *task, nr int, args [6]uint64, ret int64, file *mapped, size, at uint64) (op trace.Op, ok bool) {
	op = t.op(0, at)
	addr := mem.VirtAddr(args[0])
	errno := syscall.Errno(0)
	if ret < 0 && ret >= -4095 {
		errno = syscall.Errno(-ret)
	}
	status := func(kind trace.Kind) {
		op.Kind, op.Addr, op.Len, op.Want = kind, addr, args[1], &trace.Answer{Errno: errno}
	}
	place := func(kind trace.Kind) {
		status(kind)
		if errno == 0 {
			op.Want.Addr = mem.VirtAddr(ret)
		}
	}
	switch nr {
	case unix.SYS_MMAP:
		place(trace.OpMmap)
		return op, c.mmap(&op, args, file)
	case unix.SYS_MUNMAP:
		status(trace.OpMunmap)
	case unix.SYS_MPROTECT, unix.SYS_PKEY_MPROTECT:
		status(trace.OpMprotect)
		op.Prot = mem.Prot(args[2] & 7)
	case unix.SYS_BRK:
		op.Kind, op.Addr, op.Want = trace.OpBrk, addr, &trace.Answer{Addr: mem.VirtAddr(ret)}
	case unix.SYS_MREMAP:
		place(trace.OpMremap)
		op.NewLen, op.Remap = args[2], trace.RemapFlags(args[3]&7)
		if args[3]&(unix.MREMAP_FIXED|unix.MREMAP_DONTUNMAP) != 0 {
			op.To = mem.VirtAddr(args[4])
		}
	case unix.SYS_MADVISE:
		status(trace.OpMadvise)
		op.Advice = trace.Advice(int32(args[2]))
		if op.Advice < 0 {
			return op, false // EINVAL, and no such advice can be written down
		}
	case unix.SYS_MLOCK, unix.SYS_MLOCK2:
		status(trace.OpMlock)
		if nr == unix.SYS_MLOCK2 {
			op.Bits = args[2]
		}
	case unix.SYS_MUNLOCK:
		status(trace.OpMunlock)
	case unix.SYS_MLOCKALL:
		op.Kind, op.Bits, op.Want = trace.OpMlockall, args[0], &trace.Answer{Errno: errno}
	case unix.SYS_MUNLOCKALL:
		op.Kind, op.Want = trace.OpMunlockall, &trace.Answer{Errno: errno}
	case unix.SYS_SHMAT:
		place(trace.OpShmat)
		return op, c.shmat(&op, args, file, size)
	case unix.SYS_SHMDT:
		op.Kind, op.Addr, op.Want = trace.OpShmdt, addr, &trace.Answer{Errno: errno}
	default:
		if name, ok := unrecorded[nr]; ok && errno == 0 {
			c.lack("calls of " + name)
		}
		return op, false
	}
	return op, true
}

// mmap fills in what only mmap has. It is false where the call cannot be written
// down: a file that nobody knows.
func (c *Converter) mmap(op *trace.Op, args [6]uint64, file *mapped) bool {
	op.Prot = mem.Prot(args[2] & 7)
	if args[3]&unix.MAP_TYPE != unix.MAP_PRIVATE {
		op.Flags = trace.MapShared
	}
	for _, f := range mmapFlags {
		if args[3]&f.bit != 0 {
			op.Flags |= f.flag
		}
	}
	if args[3]&unix.MAP_ANONYMOUS != 0 {
		return true
	}
	if file == nil {
		if op.Want.Errno == 0 {
			c.lack("files of mappings that nothing named")
		}
		op.Kind, op.Name = trace.OpNote, fmt.Sprintf("mmap of descriptor %d: the file is not known: %v", int32(args[4]), op.Want)
		*op = trace.Op{Time: op.Time, PID: op.PID, TID: op.TID, Kind: trace.OpNote, Name: op.Name}
		return true
	}
	c.file(file, op.Time)
	op.Path, op.Offset = file.path, args[5]
	return true
}

// Flags of shmat(2) (include/uapi/linux/shm.h).
const (
	shmRdonly = 0o10000
	shmExec   = 0o100000
)

func (c *Converter) shmat(op *trace.Op, args [6]uint64, file *mapped, size uint64) bool {
	if file == nil { // it failed
		file = &mapped{path: fmt.Sprintf("/SYSV+%d", args[0]), info: trace.FileInfo{Kind: trace.SharedFile, Ino: args[0]}}
	}
	c.file(file, op.Time)
	op.Path, op.Addr, op.Len, op.Prot = file.path, mem.VirtAddr(args[1]), size, mem.ProtRead|mem.ProtWrite
	if args[2]&shmRdonly != 0 {
		op.Prot &^= mem.ProtWrite
	}
	if args[2]&shmExec != 0 {
		op.Prot |= mem.ProtExec
	}
	return true
}
