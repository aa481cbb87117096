package importer

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"vmsim/trace"
)

// fd returns the descriptor that a call returned; false where it failed.
func (c *call) fd() (int, descriptor, bool) {
	if c.result.none || c.result.injected || c.result.errno != 0 {
		return 0, descriptor{}, false
	}
	d, err := parseDescriptor(c.result.text)
	if err != nil || d.fd < 0 {
		text, _, _ := strings.Cut(c.result.text, " ")
		d, err = parseDescriptor(text) // 0x3 (flags ..), 3 <0.000012> of -T
	}
	return d.fd, d, err == nil && d.fd >= 0
}

// closes reports whether flags say that exec closes the descriptor.
func closes(flags string) bool {
	n, err := parseFlags(flags, map[string]uint64{"O_CLOEXEC": unix.O_CLOEXEC})
	return strings.Contains(flags, "O_CLOEXEC") || err == nil && n&unix.O_CLOEXEC != 0
}

func (s *strace) open(t *task, c *call) error {
	dir, name, flags := arg(c.args, 0), arg(c.args, 1), arg(c.args, 2)
	switch c.name {
	case "open":
		dir, name, flags = "AT_FDCWD", arg(c.args, 0), arg(c.args, 1)
	case "creat":
		dir, name, flags = "AT_FDCWD", arg(c.args, 0), ""
	case "openat2":
		flags, _ = field(flags, "flags")
	}
	text, _, err := parseString(name)
	path := ""
	if err == nil {
		if p, known := s.resolve(t, dir, text); known {
			path = p
		}
	}
	fd, d, ok := c.fd()
	if !ok {
		return nil
	}
	if strings.HasPrefix(d.note, "/") && !d.deleted {
		path = d.note
	}
	t.proc.files.set(fd, &openFile{path: path}, closes(flags))
	return nil
}

func (s *strace) memfd(t *task, c *call) error {
	fd, _, ok := c.fd()
	if !ok {
		return nil
	}
	name, _, err := parseString(arg(c.args, 0))
	if err != nil {
		return &argumentError{fmt.Errorf("name %w", err)}
	}
	t.proc.files.set(fd, &openFile{"/memfd:" + name, trace.MemoryFile}, strings.Contains(arg(c.args, 1), "MFD_CLOEXEC"))
	return nil
}

// other is a call that returns a descriptor of no file.
func (s *strace) other(t *task, c *call) error {
	if c.name == "userfaultfd" {
		s.lacks.unknownCall(c.name, "= "+c.result.text)
	}
	if fd, _, ok := c.fd(); ok {
		t.proc.files.set(fd, &openFile{}, false)
	}
	return nil
}

// pipe is a call that gives two descriptors, in brackets.
func (s *strace) pipe(t *task, c *call) error {
	if c.result.none || c.result.errno != 0 {
		return nil
	}
	for _, a := range c.args {
		inner, ok := strings.CutPrefix(a, "[")
		if !ok {
			continue
		}
		both, _, _ := splitArgs(strings.TrimSuffix(inner, "]") + ")")
		for _, text := range both {
			if d, err := parseDescriptor(text); err == nil && d.fd >= 0 {
				t.proc.files.set(d.fd, &openFile{}, false)
			}
		}
	}
	return nil
}

// close frees its descriptor at its start: while it runs, another thread may be
// given the number.
func (s *strace) close(t *task, c *call) error {
	if c.half == nil {
		s.closes++
		t.proc.files.close(arg(c.args, 0))
	}
	return nil
}

func (s *strace) closeRange(t *task, c *call) error {
	if c.result.none || c.result.errno != 0 {
		return nil
	}
	r := c.read()
	first, last := r.number(0, "first"), r.number(1, "last")
	if r.err != nil {
		return r.err
	}
	flags := arg(c.args, 2)
	files := t.proc.files
	if strings.Contains(flags, "CLOSE_RANGE_UNSHARE") {
		files = files.fork()
		t.proc.files = files
	}
	for fd, slot := range files.fds {
		if uint64(fd) < first || uint64(fd) > last {
			continue
		}
		if files.own(); strings.Contains(flags, "CLOSE_RANGE_CLOEXEC") {
			slot.cloexec = true
			files.fds[fd] = slot
		} else {
			delete(files.fds, fd)
		}
	}
	return nil
}

func (s *strace) dup(t *task, c *call) error {
	fd, _, ok := c.fd()
	old, err := parseDescriptor(arg(c.args, 0))
	if !ok || err != nil || c.name == "dup2" && old.fd == fd {
		return nil
	}
	s.copy(t, old, fd, closes(arg(c.args, 2)))
	return nil
}

// copy makes fd stand for what old stands for.
func (s *strace) copy(t *task, old descriptor, fd int, cloexec bool) {
	file := t.proc.files.get(old.fd)
	if file == nil {
		file = &openFile{} // the same for both from here on
		if strings.HasPrefix(old.note, "/") && !old.deleted {
			file.path = old.note
		}
		t.proc.files.set(old.fd, file, false)
	}
	t.proc.files.set(fd, file, cloexec)
}

func (s *strace) fcntl(t *task, c *call) error {
	old, err := parseDescriptor(arg(c.args, 0))
	if err != nil || c.result.none || c.result.errno != 0 {
		return nil
	}
	switch op := arg(c.args, 1); {
	case strings.Contains(op, "F_DUPFD"):
		if fd, _, ok := c.fd(); ok {
			s.copy(t, old, fd, strings.Contains(op, "F_DUPFD_CLOEXEC"))
		}
	case strings.Contains(op, "F_SETFD"):
		if file := t.proc.files.get(old.fd); file != nil {
			t.proc.files.set(old.fd, file, strings.Contains(arg(c.args, 2), "FD_CLOEXEC"))
		}
	}
	return nil
}

func (s *strace) chdir(t *task, c *call) error {
	if c.result.none || c.result.errno != 0 {
		return nil
	}
	folder := ""
	if name, _, err := parseString(arg(c.args, 0)); err == nil {
		folder, _ = s.known(t, "AT_FDCWD", name)
	}
	t.proc.fs.path = folder
	return nil
}

// known is resolve, but "" for what is not known.
func (s *strace) known(t *task, dir, name string) (string, bool) {
	p, ok := s.resolve(t, dir, name)
	if !ok {
		return "", false
	}
	return p, true
}

func (s *strace) fchdir(t *task, c *call) error {
	if c.result.none || c.result.errno != 0 {
		return nil
	}
	t.proc.fs.path, _ = s.known(t, arg(c.args, 0), ".")
	return nil
}

func (s *strace) getcwd(t *task, c *call) error {
	if c.result.none || c.result.errno != 0 || t.proc.fs.root {
		return nil
	}
	if name, whole, err := parseString(arg(c.args, 0)); err == nil && whole && strings.HasPrefix(name, "/") {
		t.proc.fs.path = name
	}
	return nil
}

// chroot makes every path one that the host does not have.
func (s *strace) chroot(t *task, c *call) error {
	if c.result.none || c.result.errno != 0 {
		return nil
	}
	t.proc.fs.path, t.proc.fs.root = "", true
	return nil
}
