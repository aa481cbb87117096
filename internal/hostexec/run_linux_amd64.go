package hostexec

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// Run execs the file at path in the directory dir, under ptrace, and returns why
// Linux refuses it, or nil if it runs. A file that runs stops with SIGTRAP before
// its first instruction, of its interpreter's where it has one; stopped, which
// may be nil, is then called, and the process is killed. So no instruction of the
// file is executed, and it needs no code.
//
// One that Linux refuses gives the errno of execve or, past the point of no
// return, ErrKilled. path needs an execute permission.
func Run(path, dir string, stopped func(pid int)) error {
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{Dir: dir, Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return err
	}
	ws, err := wait(pid)
	if err != nil {
		return err
	}
	if ws.Stopped() {
		if ws.StopSignal() == syscall.SIGTRAP && stopped != nil {
			stopped(pid)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return err
		}
		if _, err := wait(pid); err != nil {
			return err
		}
	}
	switch {
	case ws.Stopped() && ws.StopSignal() == syscall.SIGTRAP:
		return nil
	case ws.Stopped():
		return fmt.Errorf("%w by %v", ErrKilled, ws.StopSignal())
	case ws.Signaled():
		return fmt.Errorf("%w by %v", ErrKilled, ws.Signal())
	}
	return fmt.Errorf("wait status 0x%x", uint32(ws))
}

// RunBytes is Run of a new file at path that holds data.
func RunBytes(path, dir string, data []byte, stopped func(pid int)) error {
	os.Remove(path) // a new inode: the old one may still be mapped
	if err := os.WriteFile(path, data, 0o755); err != nil {
		return err
	}
	return Run(path, dir, stopped)
}

// ErrKilled: execve returned no more, and the kernel killed the process.
var ErrKilled = errors.New("killed")

func wait(pid int) (ws syscall.WaitStatus, err error) {
	for {
		if _, err = syscall.Wait4(pid, &ws, 0, nil); !errors.Is(err, syscall.EINTR) {
			return ws, err
		}
	}
}
