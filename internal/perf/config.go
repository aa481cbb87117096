package perf

import "errors"

// ErrNotPermitted is wrapped by what Open returns if the kernel lets this user open
// no event: perf_event_paranoid above 2, a seccomp filter, or a process of another user.
var ErrNotPermitted = errors.New("the kernel permits no perf events here")

// Level is which events a session has.
type Level uint8

const (
	// LevelBest takes the first of the others that is permitted.
	LevelBest Level = iota

	// LevelTracepoints: faults of programs and of the kernel on their behalf, with
	// error codes; system calls; clone flags. It needs root (CAP_PERFMON) and tracefs.
	LevelTracepoints

	// LevelFaults: the software event page-faults, which comes after a fault was
	// resolved and has no error code; mappings; tasks. Without CAP_PERFMON the
	// faults that the kernel took are absent.
	LevelFaults
)

// Config says what to record.
type Config struct {
	// PID is a process of one thread that was not yet told to exec: stopped, or
	// blocked. Recording begins with its next exec, and takes in all tasks that
	// it and its descendants make.
	PID int

	// Now begins at once instead of with the next exec.
	Now bool

	// Level is the level that is wanted; LevelBest falls back.
	Level Level

	// Syscalls are the numbers of the system calls to record; none if empty.
	Syscalls []int

	// Alone: nobody follows the tasks with ptrace. With tracepoints and Syscalls there is
	// also what it would tell: what exec put on the stack, and the signals that end tasks.
	Alone bool

	// Ring is the size of each CPU's ring in bytes, rounded up to a power of two
	// of pages; 0 takes DefaultRing. If so much memory may not be locked it is halved until it
	// may (RLIMIT_MEMLOCK and perf_event_mlock_kb count for users without CAP_IPC_LOCK).
	Ring int

	// Tracefs is where tracefs is mounted; if empty it is looked for.
	Tracefs string

	// Release, if set, is given the events' descriptors to close, for which the kernel takes
	// a grace period of RCU a tracepoint (tracepoint_synchronize_unregister): 30 to 40 ms.
	Release func(fds []int) error
}

// DefaultRing returns the size of a ring in bytes on a machine of so many CPUs: 16 MiB, which a
// storm of faults on a CPU fills in a fifth of a second, and less if all together were
// more than 256 MiB.
func DefaultRing(cpus int) int {
	const most, all, least = 16 << 20, 256 << 20, 1 << 20
	size := most
	for size > least && size*cpus > all {
		size /= 2
	}
	return size
}

// Missing is something that a session cannot record, in words for the header of a trace.
type Missing struct {
	What string // one of the constants below
	Why  string // needs root: open exceptions:page_fault_user: permission denied
}

// What may be missing.
const (
	MissingCodes        = "error codes of faults"           // read, write or fetch; whether the page was mapped
	MissingUnresolved   = "faults that ended in a signal"   // the software event counts resolved ones
	MissingKernelFaults = "faults taken by the kernel"      // in system calls, and at exec
	MissingSyscalls     = "system calls"                    // munmap, mremap, madvise, brk down, results
	MissingCloneFlags   = "clone flags"                     // thread, vfork or fork
	MissingLost         = "records lost after the last one" // counted by Linux 6.0 and later
)
