package trace

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"vmsim/mem"
)

// Fault is how the memory manager met an access.
type Fault string

const (
	FaultNone  Fault = "none"        // the entry was there and allowed it
	FaultMinor Fault = "minor"       // resolved from memory
	FaultMajor Fault = "major"       // resolved by reading the file
	FaultCoW   Fault = "cow"         // a write to a frame that was shared
	SegvMapErr Fault = "SEGV_MAPERR" // refused: no area there
	SegvAccErr Fault = "SEGV_ACCERR" // refused: the area forbids it
	SigBus     Fault = "SIGBUS"      // refused: a file page beyond the end of the file
	OOM        Fault = "OOM"         // killed: no frame could be freed
)

// nFaults is how many there are; the first four are those that a touch survives.
const nFaults, nSurvived = 8, 4

var faults = []Fault{FaultNone, FaultMinor, FaultMajor, FaultCoW, SegvMapErr, SegvAccErr, SigBus, OOM}

// Fatal reports whether the access was not done and its process died of it.
func (f Fault) Fatal() bool {
	return f == SegvMapErr || f == SegvAccErr || f == SigBus || f == OOM
}

// Answer is what an operation came to, the text behind the equals sign. Each
// Kind uses some of the fields; the others are zero:
//
//	fork, vfork, thread       PID    2
//	mmap, mremap, shmat, brk  Addr   0x532000, or else Errno
//	touch                     Fault  cow, cow 0x41, 0x41: either or both
//	                          Byte
//	other system calls        Errno  0, ENOENT
type Answer struct {
	PID     int           // the child, in the trace's own counting, from 2
	Errno   syscall.Errno // 0 is success
	Addr    mem.VirtAddr  // what mmap or brk returned; 0 with an Errno
	Fault   Fault         // "" in a wanted answer: any
	HasByte bool          // whether Byte is part of the answer
	Byte    byte          // at the address touched, after the access
}

// String returns the text form: cow 0x41.
func (a Answer) String() string {
	switch {
	case a.PID != 0:
		return fmt.Sprint(a.PID)
	case a.Errno != 0:
		return errnoName(a.Errno)
	case a.Fault != "" && a.HasByte:
		return fmt.Sprintf("%s 0x%02x", a.Fault, a.Byte)
	case a.Fault != "":
		return string(a.Fault)
	case a.HasByte:
		return fmt.Sprintf("0x%02x", a.Byte)
	default:
		return number(uint64(a.Addr))
	}
}

// accepts reports whether got is what a asks for.
func (a Answer) accepts(got Answer) bool {
	if a.Fault == "" {
		got.Fault = ""
	}
	if !a.HasByte {
		got.HasByte, got.Byte = false, 0
	}
	return a == got
}

// check returns an error if a (nil: none) is not an answer that an operation
// of kind k can have.
func (a *Answer) check(k Kind) error {
	if a == nil {
		if k == OpFork || k == OpVfork || k == OpThread {
			return fmt.Errorf("the child is missing: write = CHILD")
		}
		return nil
	}
	var u Answer // the fields that k uses
	switch k {
	case OpFork, OpVfork, OpThread:
		u.PID = a.PID
		if a.PID < 2 || a.PID > MaxPID {
			return fmt.Errorf("child %d is not in 2 to %d", a.PID, MaxPID)
		}
	case OpExec, OpMunmap, OpMprotect, OpMadvise, OpMlock, OpMunlock, OpMlockall, OpMunlockall, OpShmdt:
		u.Errno = a.Errno
	case OpMmap, OpMremap, OpShmat, OpBrk:
		if u.Errno = a.Errno; a.Errno == 0 {
			u.Addr = a.Addr
		}
	case OpTouch:
		u.Fault = a.Fault
		if u.HasByte = a.HasByte; a.HasByte {
			u.Byte = a.Byte
		}
		switch {
		case a.Fault == "" && !a.HasByte:
			return fmt.Errorf("the answer is empty")
		case a.Fault != "" && !slices.Contains(faults, a.Fault):
			return fmt.Errorf("answer %q is none of %s", clip(string(a.Fault)), faultList())
		case a.Fault.Fatal() && a.HasByte:
			return fmt.Errorf("answer %v: after %s there is no byte", *a, a.Fault)
		}
	default:
		return fmt.Errorf("takes no answer")
	}
	if a.Errno > maxErrno {
		return fmt.Errorf("answer %v: error numbers end at %d", *a, maxErrno)
	}
	if u != *a {
		return fmt.Errorf("a field of the answer is set that this operation does not use")
	}
	return nil
}

// faultList names all faults, for messages.
func faultList() string {
	s := make([]string, len(faults))
	for i, f := range faults {
		s[i] = string(f)
	}
	return strings.Join(s, ", ")
}
