package trace

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
)

// maxErrno is Linux's MAX_ERRNO (include/linux/err.h).
const maxErrno = 4095

// errnos are the error numbers with a name in the text form: those that fork,
// exec and the mmap family return. Any other is written E and its number.
var errnos = map[string]syscall.Errno{
	"E2BIG": syscall.E2BIG, "EACCES": syscall.EACCES, "EAGAIN": syscall.EAGAIN, "EBADF": syscall.EBADF,
	"EBUSY": syscall.EBUSY, "EEXIST": syscall.EEXIST, "EFAULT": syscall.EFAULT, "EFBIG": syscall.EFBIG,
	"EINTR": syscall.EINTR, "EINVAL": syscall.EINVAL, "EIO": syscall.EIO, "EISDIR": syscall.EISDIR,
	"ELIBBAD": syscall.ELIBBAD, "ELOOP": syscall.ELOOP, "EMFILE": syscall.EMFILE,
	"ENAMETOOLONG": syscall.ENAMETOOLONG, "ENFILE": syscall.ENFILE, "ENODEV": syscall.ENODEV,
	"ENOENT": syscall.ENOENT, "ENOEXEC": syscall.ENOEXEC, "ENOMEM": syscall.ENOMEM,
	"ENOSPC": syscall.ENOSPC, "ENOSYS": syscall.ENOSYS, "ENOTDIR": syscall.ENOTDIR,
	"ENXIO": syscall.ENXIO, "EOPNOTSUPP": syscall.EOPNOTSUPP, "EOVERFLOW": syscall.EOVERFLOW,
	"EPERM": syscall.EPERM, "ESRCH": syscall.ESRCH, "ETXTBSY": syscall.ETXTBSY,
}

var errnoNames = func() map[syscall.Errno]string {
	m := make(map[syscall.Errno]string, len(errnos))
	for name, e := range errnos {
		m[e] = name
	}
	return m
}()

// errnoName returns the text form of e: ENOENT.
func errnoName(e syscall.Errno) string {
	if s, ok := errnoNames[e]; ok {
		return s
	}
	return fmt.Sprintf("E%d", uint64(e))
}

// parseErrno is the inverse of errnoName.
func parseErrno(s string) (syscall.Errno, bool) {
	if e, ok := errnos[s]; ok {
		return e, true
	}
	digits, ok := strings.CutPrefix(s, "E")
	if !ok || strings.HasPrefix(digits, "0") {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	return syscall.Errno(n), err == nil && n <= maxErrno
}
