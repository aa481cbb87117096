//go:build linux && amd64

package tracee

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// marker is the first argument of this program where it is to be the trampoline; what
// follows are two descriptors, 1 or 0 for ASLR, and the command.
const marker = "\x01vmsim trampoline\x01"

// ready is what the trampoline writes when it is past its own execve and waits: one that
// is seized earlier may still tell of that.
const ready = '.'

// addrNoRandomize is ADDR_NO_RANDOMIZE of personality(2).
const addrNoRandomize = 0x0040000

// init keeps the trampoline on the thread whose number is that of the process: it is
// the one that is seized.
func init() {
	if isTrampoline() {
		runtime.LockOSThread()
	}
}

func isTrampoline() bool { return len(os.Args) >= 6 && os.Args[1] == marker }

// Trampoline executes the command of a Session where this process was started by one
// to do so, and does not return then; nor where CloseLater has started it. It must be
// called first in main, and in the TestMain of tests that call Start or CloseLater.
func Trampoline() {
	if isCloser() {
		os.Exit(0)
	}
	if !isTrampoline() {
		return
	}
	var num [3]int
	for i := range num {
		n, err := strconv.Atoi(os.Args[2+i])
		if err != nil {
			os.Exit(127)
		}
		num[i] = n
	}
	goFD, errFD := num[0], num[1]
	unix.CloseOnExec(goFD)
	unix.CloseOnExec(errFD)
	status := 127
	report := os.NewFile(uintptr(errFD), "pipe")
	err := launch(goFD, report, num[2] == 1, os.Args[5:])
	if err == unix.EACCES || err == unix.ENOEXEC {
		status = 126
	}
	errno, _ := err.(unix.Errno)
	fmt.Fprintf(report, "%d", int(errno))
	os.Exit(status)
}

// launch says that it is ready, waits for the tracer's byte and executes the command.
// It returns only with an error.
func launch(goFD int, report *os.File, aslr bool, argv []string) error {
	if !aslr {
		persona, _, errno := unix.RawSyscall(unix.SYS_PERSONALITY, 0xffffffff, 0, 0)
		if errno == 0 {
			_, _, errno = unix.RawSyscall(unix.SYS_PERSONALITY, persona|addrNoRandomize, 0, 0)
		}
		if errno != 0 {
			return errno
		}
	}
	if err := unix.Prctl(unix.PR_SET_THP_DISABLE, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, err := report.Write([]byte{ready}); err != nil {
		return unix.EPIPE
	}
	for {
		var b [1]byte
		n, err := unix.Read(goFD, b[:])
		if err == unix.EINTR {
			continue
		}
		if n != 1 {
			return unix.ECANCELED // the tracer gave up
		}
		break
	}
	return execvp(argv)
}

// execvp executes argv as execvp(3) and a shell do: a name without a slash is looked
// up in PATH, and what has no known format is given to /bin/sh.
func execvp(argv []string) error {
	name := argv[0]
	if name == "" {
		return unix.ENOENT
	}
	if strings.Contains(name, "/") {
		return execOrShell(name, argv)
	}
	path, ok := os.LookupEnv("PATH")
	if !ok {
		path = "/bin:/usr/bin" // confstr(_CS_PATH)
	}
	failed := error(unix.ENOENT)
	for dir := range strings.SplitSeq(path, ":") {
		if dir == "" {
			dir = "."
		}
		switch err := execOrShell(dir+"/"+name, argv); err {
		case unix.EACCES:
			failed = err // another folder may have one that may be executed
		case unix.ENOENT, unix.ENOTDIR, unix.ESTALE, unix.ENODEV, unix.ETIMEDOUT:
		default:
			return err
		}
	}
	return failed
}

func execOrShell(path string, argv []string) error {
	env := os.Environ()
	err := unix.Exec(path, argv, env)
	if err == unix.ENOEXEC {
		err = unix.Exec("/bin/sh", append([]string{"/bin/sh", path}, argv[1:]...), env)
	}
	return err
}
