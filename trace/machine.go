package trace

import "vmsim/mem"

// Machine is what a trace drives: the simulated machine, later the host's own
// kernel. It counts processes in its own way; init is 1.
//
// A system call that fails returns an error that is, or wraps, a
// syscall.Errno: that is its answer. ESRCH says that the process is no more,
// killed since its last operation. A *KilledError says that it died in this
// call. Any other error is trouble of the machine itself (a file that cannot
// be read) and stops the run; so does any error of Boot.
type Machine interface {
	// Boot starts init, process 1, on the file path, or with an empty address
	// space if path is "". It is called once, before all else.
	Boot(path string) error
	// Fork returns the child's number, one that was never used before. The child
	// of Vfork runs in pid's own memory until it execs or exits.
	Fork(pid int) (child int, err error)
	Vfork(pid int) (child int, err error)
	// Exec lays the program out as at says, which a recording knows; nil: as the
	// machine likes.
	Exec(pid int, path string, at *Layout) error
	Exit(pid, status int) error
	Mmap(pid int, m Mapping) (mem.VirtAddr, error)
	Munmap(pid int, addr mem.VirtAddr, length uint64) error
	Mprotect(pid int, addr mem.VirtAddr, length uint64, prot mem.Prot) error
	Mremap(pid int, m Remapping) (mem.VirtAddr, error)
	Madvise(pid int, addr mem.VirtAddr, length uint64, advice Advice) error
	// Lock does mlock, munlock, mlockall and munlockall.
	Lock(pid int, l Lock) error
	// Shmdt unmaps the shared memory that a Mapping of its file put at addr.
	Shmdt(pid int, addr mem.VirtAddr) error
	// Brk returns the break after the call, as Linux's system call does; 0 only
	// asks.
	Brk(pid int, addr mem.VirtAddr) (mem.VirtAddr, error)
	// Touch does one access, of which a recording may say more. What the process
	// dies of is in the Outcome.
	Touch(pid int, t Touch, about TouchInfo) (Outcome, error)
	// Resolve returns the lowest address at which pid maps byte off of the
	// file path; false where it does not.
	Resolve(pid int, path string, off uint64) (mem.VirtAddr, bool)
	// File says which file path means from here on.
	File(path string, info FileInfo)
}

// Batcher is a Machine that does touches of a recording many at a time.
type Batcher interface {
	// Batch does ts.Touch[from:], touches of pid, up to the first that went ill: it
	// was refused, a byte was wrong, or an error came of it, which is as Touch's. n is
	// how many went well; met counts these by what they met: FaultNone, FaultMinor,
	// FaultMajor, FaultCoW. Where all did, o and err are zero, and else of the next one.
	//
	// It sees ts.Touch, ts.IPs and ts.Codes, and changes none of them.
	Batch(pid int, ts *Touches, from int, met []int) (n int, o Outcome, err error)
}

// HeapStarter is a Machine that can be told where the heap of a program starts if
// its exec did not know: a perf.data and a strace do not say so, but the first
// brk(0) does.
type HeapStarter interface {
	StartHeap(pid int, at mem.VirtAddr)
}

// Adopter is a Machine that can be told what a fork's child has mapped: what other
// threads of its parent mapped while the kernel copied the memory, no order of
// operations tells.
type Adopter interface {
	// Adopt maps the parts of m where pid has nothing.
	Adopt(pid int, m Mapping) error
}

// Layout is where a recording found the parts of a program after its exec.
type Layout struct {
	Start *Start // nil: not known
	Areas []Area // those that no file and no system call made: [stack], [vdso], [vvar]
}

// Placed reports whether it is known where the program lay. A Start may have its
// arguments alone.
func (l *Layout) Placed() bool { return l != nil && l.Start != nil && l.Start.Base != 0 }

// Area is one of them.
type Area struct {
	mem.Range
	Prot mem.Prot
	Name string // [vdso]
}

// Mapping is what mmap is asked for.
type Mapping struct {
	Addr   mem.VirtAddr // wished for; with MapFixed or MapNoReplace demanded
	Len    uint64       // bytes
	Prot   mem.Prot
	Flags  MapFlags
	Path   string // "" is anonymous memory
	Offset uint64 // of Addr in the file, bytes

	// At is where a recording says that it went, for a machine that was free to
	// choose; 0: not known.
	At mem.VirtAddr
}

// Remapping is what mremap is asked for.
type Remapping struct {
	Addr        mem.VirtAddr
	Len, NewLen uint64 // bytes
	Flags       RemapFlags
	To          mem.VirtAddr // with RemapFixed demanded
	At          mem.VirtAddr // as Mapping.At
}

// Lock is what the calls of the mlock family are asked for.
type Lock struct {
	Kind  Kind         // OpMlock, OpMunlock, OpMlockall, OpMunlockall
	Addr  mem.VirtAddr // of the first two
	Len   uint64       // bytes
	Flags uint64       // of mlock2 and mlockall, as the kernel has them
}

// Touch is one access: a read of all 4096 bytes of the page at Addr, a write of
// Value at Addr, or an instruction fetch from Addr.
type Touch struct {
	Access mem.Access
	Addr   mem.VirtAddr
	Value  byte
}

// TouchInfo is what a recording says of a Touch.
type TouchInfo struct {
	// Handled: a refusal is no crash. A recording says that it was refused, or does
	// not say; its process may have handled the signal.
	Handled bool
	Refused bool         // the recording says that it was
	IP      mem.VirtAddr // the instruction that touched; 0: not known
	Code    ErrorCode    // of the recorded fault
}

// Outcome is what came of a Touch.
type Outcome struct {
	Fault   Fault
	Byte    byte   // at the address touched, after the access; 0 if it was refused
	Crashed bool   // the process is gone: signal, no memory, or a wrong byte
	Wrong   bool   // the process saw a byte that is not the truth
	Reason  string // what crashed it or was wrong, for messages; may be empty
}

// KilledError says that a process was killed in the middle of a system call
// that cannot be undone, as by the lack of memory in exec.
type KilledError struct {
	Reason string // OOM
}

func (e *KilledError) Error() string { return "killed: " + e.Reason }
