//go:build linux && amd64

package tracee

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errGone: the task ended, or was stopped by something from which injection cannot go
// on. What happened is in the queue.
var errGone = errors.New("the task is gone")

// injection makes a task do system calls. It begins at the exit stop of a call, or at
// the first stop of a task, and ends at such an exit stop: between two instructions of
// the program.
type injection struct {
	s     *Session
	t     *task
	saved unix.PtraceRegs // of the program
	mask  uint64          // its blocked signals
	at    uint64          // address of the syscall instruction
	from  Time
	calls int
	areas int  // pages advised
	stop  bool // a SIGSTOP came, to be sent again
}

// syscallInsn is the two bytes of the syscall instruction, as a little-endian word.
const syscallInsn = 0x050f

// inject begins. The instruction is that of the vdso if it is set, else the one that
// the task has just executed.
func (s *Session) inject(t *task, vdso uint64) (*injection, error) {
	in := &injection{s: s, t: t, at: vdso}
	if err := getRegs(t.tid, &in.saved); err != nil {
		return nil, err
	}
	if in.at == 0 {
		in.at = in.saved.Rip - 2
		word, err := peekText(t.tid, in.at)
		if err != nil || word&0xffff != syscallInsn {
			if in.at = t.space.vdsoCall; in.at == 0 {
				return nil, errors.New("no syscall instruction")
			}
		}
	}
	var err error
	if in.mask, err = getSigmask(t.tid); err != nil {
		return nil, err
	}
	if err := setSigmask(t.tid, ^uint64(0)); err != nil { // the kernel leaves SIGKILL and SIGSTOP out
		return nil, err
	}
	in.begin()
	return in, nil
}

// begin tells that what the task does is not the program's.
func (in *injection) begin() {
	in.from, in.calls, in.areas = now(), 0, 0
	in.s.tell(&Injecting{Time: in.from, TID: in.t.tid, PID: in.t.proc.pid})
}

// done tells that it is the program's again.
func (in *injection) done() {
	in.s.tell(&Injected{Time: now(), From: in.from, TID: in.t.tid, PID: in.t.proc.pid, Calls: in.calls, Areas: in.areas})
}

// call makes the task call nr and returns the result, or -errno.
func (in *injection) call(nr int, args ...uint64) (int64, error) {
	r := in.saved
	r.Rip, r.Rax, r.Orig_rax = in.at, uint64(nr), ^uint64(0)
	for i, to := range []*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9}[:len(args)] {
		*to = args[i]
	}
	if err := setRegs(in.t.tid, &r); err != nil {
		return 0, err
	}
	in.calls++
	for range 2 { // entry and exit
		if err := in.next(); err != nil {
			return 0, err
		}
	}
	ret, err := peekUser(in.t.tid, unsafe.Offsetof(r.Rax))
	return int64(ret), err
}

// next resumes the task and waits for its next syscall stop.
func (in *injection) next() error {
	for {
		if !killed(in.t.tid, false) {
			if err := ptrace(unix.PTRACE_SYSCALL, in.t.tid, 0, 0); err != nil {
				return err
			}
		}
		st, err := wait(in.t.tid, 0)
		if err != nil {
			return err
		}
		sig := st.status.StopSignal()
		switch {
		case !st.status.Stopped() || st.event() != 0 && st.event() != unix.PTRACE_EVENT_STOP:
			in.s.queue = append([]stop{st}, in.s.queue...)
			in.t.gone = true
			return errGone
		case st.event() == unix.PTRACE_EVENT_STOP:
			in.t.interrupt = true // a group-stop, or its end: look again when we are done
		case sig == unix.SIGTRAP|0x80:
			return nil
		case sig == unix.SIGSTOP:
			in.stop = true
		default: // of the injected instruction itself: nothing else gets through the mask
			return errors.New("signal " + sig.String() + " at an injected call")
		}
	}
}

// end gives the task back as it was, with result in rax, unless it is gone.
func (in *injection) end(rax uint64) {
	tid := in.t.tid
	if in.t.gone {
		return
	}
	in.saved.Rax = rax
	setRegs(tid, &in.saved)
	setSigmask(tid, in.mask)
	if in.stop {
		unix.Tgkill(in.t.proc.pid, tid, unix.SIGSTOP)
	}
	in.done()
}

// findVDSOCall returns the offset of a syscall instruction in the vdso, which is the
// same image in each 64-bit process; -1 where there is none.
func findVDSOCall() int {
	areas, _, err := ownMaps()
	if err != nil {
		return -1
	}
	for _, a := range areas {
		if a.Path != "[vdso]" {
			continue
		}
		b := make([]byte, a.Len())
		n := readMemory(unix.Getpid(), uint64(a.Start), b)
		// Behind the ELF header and the dynamic section, which hold no code.
		for i := 0x400; i+1 < n; i++ {
			if b[i] == 0x0f && b[i+1] == 0x05 {
				return i
			}
		}
	}
	return -1
}

func ownMaps() ([]Area, int, error) {
	text, err := readProc(unix.Getpid(), "maps", nil)
	if err != nil {
		return nil, 0, err
	}
	return parseMaps(text)
}
