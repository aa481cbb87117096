package perf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoTracefs: the layouts of tracepoints are to be read in no place.
var ErrNoTracefs = errors.New("tracefs is not mounted on /sys/kernel/tracing or /sys/kernel/debug/tracing, and cannot be")

// tracefsDirs are where Linux has it: the first since 4.1, the second by debugfs's automount.
var tracefsDirs = []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"}

// FindTracefs returns where tracefs is mounted. Where it is not, and the user may
// mount, it is mounted for this process alone: the path leads through a
// descriptor, which closer gives back. The errors are ErrNoTracefs, or that
// reading there is not permitted.
func FindTracefs() (dir string, closer func(), err error) {
	for _, dir := range tracefsDirs {
		_, e := os.Stat(filepath.Join(dir, "events"))
		if e == nil {
			return dir, func() {}, nil
		}
		if errors.Is(e, os.ErrPermission) && err == nil {
			err = e
		}
	}
	if fd, e := mountTracefs(); e == nil {
		return fmt.Sprintf("/proc/self/fd/%d", fd), func() { unix.Close(fd) }, nil
	} else if err == nil {
		err = fmt.Errorf("%w: %w", ErrNoTracefs, e)
	}
	return "", nil, err
}

// mountTracefs returns a descriptor of a tracefs that is mounted nowhere
// (fsmount(2)): nobody else sees it.
func mountTracefs() (fd int, err error) {
	fs, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}

// maxFormat bounds the size of a format file, in bytes. The largest of Linux 6.18 has
// about 20 KiB.
const maxFormat = 1 << 20

// LoadTracepoint reads the layout of the tracepoint SYSTEM:NAME below dir, where
// tracefs is mounted.
func LoadTracepoint(dir, name string) (*Tracepoint, error) {
	system, event, ok := strings.Cut(name, ":")
	if !ok {
		return nil, fmt.Errorf("tracepoint %q: want SYSTEM:NAME", name)
	}
	f, err := os.Open(filepath.Join(dir, "events", system, event, "format"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFormat))
	if err != nil {
		return nil, err
	}
	t, err := ParseTracepoint(system, string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if t.Name != event {
		return nil, fmt.Errorf("%s: %w: it is called %s", name, ErrFormat, t.Name)
	}
	return t, nil
}
