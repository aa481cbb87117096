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
	// Fork returns the child's number, one that was never used before.
	Fork(pid int) (child int, err error)
	Exec(pid int, path string) error
	Exit(pid, status int) error
	Mmap(pid int, m Mapping) (mem.VirtAddr, error)
	Munmap(pid int, addr mem.VirtAddr, length uint64) error
	Mprotect(pid int, addr mem.VirtAddr, length uint64, prot mem.Prot) error
	// Brk returns the break after the call, as Linux's system call does; 0 only
	// asks.
	Brk(pid int, addr mem.VirtAddr) (mem.VirtAddr, error)
	// Touch does one access. What the process dies of is in the Outcome.
	Touch(pid int, t Touch) (Outcome, error)
	// Resolve returns the lowest address at which pid maps byte off of the
	// file path; false where it does not.
	Resolve(pid int, path string, off uint64) (mem.VirtAddr, bool)
}

// Mapping is what mmap is asked for.
type Mapping struct {
	Addr   mem.VirtAddr // wished for; with MapFixed or MapNoReplace demanded
	Len    uint64       // bytes
	Prot   mem.Prot
	Flags  MapFlags
	Path   string // "" is anonymous memory
	Offset uint64 // of Addr in the file, bytes
}

// Touch is one access: a read of all 4096 bytes of the page at Addr, a write of
// Value at Addr, or an instruction fetch from Addr.
type Touch struct {
	Access mem.Access
	Addr   mem.VirtAddr
	Value  byte
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
