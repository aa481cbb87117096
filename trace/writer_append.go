package trace

import (
	"io"
	"syscall"
)

// appends reports whether w is a file that was opened to append: on such a one
// each write goes to the end, wherever it seeks.
func appends(w io.Writer) bool {
	f, ok := w.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var flags uintptr
	var no syscall.Errno
	err = raw.Control(func(fd uintptr) {
		flags, _, no = syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
	})
	return err == nil && no == 0 && flags&syscall.O_APPEND != 0
}
