//go:build linux && amd64

package tracee

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// closer is the first argument of this program where it is to do nothing but end, and to
// close what it was given thereby.
const closer = "\x01vmsim closer\x01"

func isCloser() bool { return len(os.Args) == 2 && os.Args[1] == closer }

// CloseLater closes descriptors whose closing takes long, in a process that nobody waits
// for: this program again, see Trampoline. On an error they are open still.
func CloseLater(fds []int) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	files := []uintptr{null.Fd(), null.Fd(), null.Fd()}
	for _, fd := range fds {
		files = append(files, uintptr(fd))
	}
	_, err = syscall.ForkExec("/proc/self/exe", []string{"vmsim", closer}, &syscall.ProcAttr{
		Dir: "/", Files: files, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		return err
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return nil
}
