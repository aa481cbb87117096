// Package tracee starts a command under ptrace, follows everything that it starts,
// and tells a Sink what happens: tasks, execs, the calls that change memory, exits.
// Page faults are not its business; whoever has them merges both streams by time.
//
//	Start -> trampoline (this program again): no ASLR, no huge pages, waits
//	         PTRACE_SEIZE, Config.Ready
//	         execve of the command
//	stops -> one locked thread: wait4(__WALL), handle, resume; events to the Sink
//
// # Modes
//
//	Syscalls  stops at fork, exec, exit and every system call: those of memory and
//	          processes are told
//	Complete  and areas are cut, and the set of present pages is told
//	Untraced  no stops, no events: the command is started and waited for
//
// # Cutting
//
// A read fault in an area that a page cache backs maps up to 16 pages that happen to
// be cached (mm/memory.c:do_fault_around), and touches of the 15 others are never
// seen. Fault-around does not leave the area (VMA). So every page with an odd number
// gets another access advice than the program asked for, MADV_RANDOM or where that was
// asked for MADV_NORMAL, and neighbours that differ in their flags cannot be one area:
//
//	before   [ r-xp libc 0 .. 7                                        ]
//	after    [ 0 ][ 1 random ][ 2 ][ 3 random ][ 4 ][ 5 random ][ 6 ][ 7 random ]
//
// The advice is given by calls that the program is made to do: after exec through the
// syscall instruction of the vdso, after a call of its own through that call's
// instruction once more, with all signals blocked and all registers restored. They are
// told as Injected, and appear in nothing else.
//
// What the program can notice: lines of /proc/self/maps, TracerPid, time, a few faults
// in its own counters (Exit.Injected). What changes for it: an area whose private pages
// were written while it was cut does not become one again, so that mremap over several
// such pages fails with EFAULT; a Note says so.
//
// # Signals
//
// A tracee's signals are delivered unchanged; job control works as without a tracer.
// SIGINT and SIGQUIT come from the terminal, which sends them to the command too: they
// are ignored here. SIGTERM and SIGHUP are passed on to the command, and once it has
// ended to all that it left behind. The session ends when the last tracee is gone.
package tracee
