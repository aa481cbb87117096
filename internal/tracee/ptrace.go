//go:build linux && amd64

package tracee

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests that x/sys/unix has no function for.
const (
	ptraceGetSigmask = 0x420a // PTRACE_GETSIGMASK
	ptraceSetSigmask = 0x420b // PTRACE_SETSIGMASK
)

// options of PTRACE_SEIZE: all children are followed, and die with the tracer.
const options = unix.PTRACE_O_EXITKILL | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE |
	unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACEEXIT | unix.PTRACE_O_TRACESYSGOOD

// ptrace calls ptrace(2). None of the requests here sleeps, so that the scheduler
// need not be told.
func ptrace(req, tid int, addr, data uintptr) error {
	if _, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func getRegs(tid int, r *unix.PtraceRegs) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GETREGS, uintptr(tid), 0, uintptr(unsafe.Pointer(r)), 0, 0)
	return errnoErr(errno)
}

func setRegs(tid int, r *unix.PtraceRegs) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SETREGS, uintptr(tid), 0, uintptr(unsafe.Pointer(r)), 0, 0)
	return errnoErr(errno)
}

// peekUser reads a word of the registers, at byte offset off of PtraceRegs.
func peekUser(tid int, off uintptr) (word uint64, err error) {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_PEEKUSR, uintptr(tid), off, uintptr(unsafe.Pointer(&word)), 0, 0)
	return word, errnoErr(errno)
}

// peekText reads a word of memory.
func peekText(tid int, addr uint64) (word uint64, err error) {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_PEEKTEXT, uintptr(tid), uintptr(addr), uintptr(unsafe.Pointer(&word)), 0, 0)
	return word, errnoErr(errno)
}

// eventMsg returns the message of a PTRACE_EVENT stop.
func eventMsg(tid int) (msg uint64, err error) {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GETEVENTMSG, uintptr(tid), 0, uintptr(unsafe.Pointer(&msg)), 0, 0)
	return msg, errnoErr(errno)
}

func getSigmask(tid int) (mask uint64, err error) {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, ptraceGetSigmask, uintptr(tid), 8, uintptr(unsafe.Pointer(&mask)), 0, 0)
	return mask, errnoErr(errno)
}

func setSigmask(tid int, mask uint64) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, ptraceSetSigmask, uintptr(tid), 8, uintptr(unsafe.Pointer(&mask)), 0, 0)
	return errnoErr(errno)
}

// Ops of syscallInfo.
const (
	infoEntry = 1
	infoExit  = 2
)

// syscallInfo is struct ptrace_syscall_info (include/uapi/linux/ptrace.h).
type syscallInfo struct {
	op     uint8
	_      [3]uint8
	arch   uint32
	ip, sp uint64
	nr     uint64 // at the exit: rval
	args   [6]uint64
	_      uint64
}

func (i *syscallInfo) ret() int64 { return int64(i.nr) }

func getSyscallInfo(tid int, info *syscallInfo) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(*info), uintptr(unsafe.Pointer(info)), 0, 0)
	return errnoErr(errno)
}

// exitCode is si_code of a task that stands at PTRACE_EVENT_EXIT.
const exitCode = int32(unix.SIGTRAP) | unix.PTRACE_EVENT_EXIT<<8

// stopCode returns si_code of the stop that a task is in: of PTRACE_EVENT stops it
// holds the event. It is EINVAL in a group-stop.
func stopCode(tid int) (int32, error) {
	var info [128]byte // siginfo_t: si_signo, si_errno, si_code
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_GETSIGINFO, uintptr(tid), 0, uintptr(unsafe.Pointer(&info)), 0, 0)
	return int32(binary.LittleEndian.Uint32(info[8:])), errnoErr(errno)
}

func errnoErr(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// stop is what wait4 said of a task.
type stop struct {
	tid    int
	status unix.WaitStatus
}

// event returns the number of the PTRACE_EVENT, 0 for other stops.
func (s stop) event() int { return int(uint32(s.status) >> 16) }

// waitFlags: threads and processes alike, but of the tracer's thread only, so that
// other children of this program stay with whom they belong.
const waitFlags = unix.WALL | unix.WNOTHREAD

// wait waits for tid, or for any if it is -1.
func wait(tid, flags int) (stop, error) {
	for {
		var st stop
		var err error
		st.tid, err = unix.Wait4(tid, &st.status, waitFlags|flags, nil)
		if err != unix.EINTR {
			return st, err
		}
	}
}

// now reads CLOCK_MONOTONIC.
func now() Time {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0 // cannot be
	}
	return Time(ts.Sec*int64(time.Second) + ts.Nsec)
}

// readMemory reads what the kernel itself has just read or written, so that no page is
// brought in. It returns how much it got.
func readMemory(tid int, addr uint64, b []byte) int {
	local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}, 0)
	if err != nil {
		return 0
	}
	return n
}

// readString reads a string that ends with NUL, up to PATH_MAX bytes and never beyond
// the page in which it ends.
func readString(tid int, addr uint64) (s string, ok bool) {
	const pageSize, pathMax = 4096, 4096
	buf := make([]byte, 0, 256)
	var page [pageSize]byte
	for len(buf) < pathMax {
		n := pageSize - int(addr%pageSize)
		got := readMemory(tid, addr, page[:n])
		for i, c := range page[:got] {
			if c == 0 {
				return string(append(buf, page[:i]...)), true
			}
		}
		if got < n {
			break
		}
		buf = append(buf, page[:n]...)
		addr += uint64(n)
	}
	return "", false
}
