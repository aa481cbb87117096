package importer

import (
	"maps"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"vmsim/trace"
)

// files is a table of descriptors: Linux's files_struct, as far as the log tells
// of it.
type files struct {
	fds    map[int]slot
	shared bool // fds is another table's too: copied before a change
}

// slot is a descriptor.
type slot struct {
	file    *openFile
	cloexec bool
}

// openFile is what a descriptor stands for.
type openFile struct {
	path string // absolute, or a name of what has no path; "": not known
	kind trace.FileKind
}

// get returns what fd stands for; nil: not known.
func (f *files) get(fd int) *openFile { return f.fds[fd].file }

func (f *files) own() {
	if f.shared || f.fds == nil {
		f.fds, f.shared = maps.Clone(f.fds), false
		if f.fds == nil {
			f.fds = map[int]slot{}
		}
	}
}

func (f *files) set(fd int, file *openFile, cloexec bool) {
	f.own()
	f.fds[fd] = slot{file, cloexec}
}

// close frees the descriptor that text names.
func (f *files) close(text string) {
	d, err := parseDescriptor(text)
	if _, ok := f.fds[d.fd]; ok && err == nil {
		f.own()
		delete(f.fds, d.fd)
	}
}

// fork returns a copy.
func (f *files) fork() *files {
	f.shared = true
	return &files{f.fds, true}
}

// exec returns what an exec leaves: a table of its own, without those that close.
func (f *files) exec() *files {
	n := f.fork()
	for fd, s := range n.fds {
		if s.cloexec {
			n.own()
			delete(n.fds, fd)
		}
	}
	return n
}

// folder is where relative paths start: Linux's fs_struct.
type folder struct {
	path   string // "": not known
	root   bool   // its root is another one: paths are not those of the host
	sought bool   // lookAhead has been here
}

// Unknown is the folder under which files stand of which the log does not tell
// the path, or not all of it.
const Unknown = "unknown"

// maxPath is PATH_MAX without its NUL.
const maxPath = 4095

// resolve returns the path of a file that a call names relative to dir. It lies in
// Unknown, and known is false, where the log does not tell what that is.
func (s *strace) resolve(t *task, dir, name string) (p string, known bool) {
	fs := t.proc.fs
	d, err := parseDescriptor(dir)
	if err == nil && d.fd == unix.AT_FDCWD && strings.HasPrefix(d.note, "/") && !d.deleted {
		fs.path, fs.root = d.note, false // -y: as the host sees it
	}
	switch {
	case strings.HasPrefix(name, "/"):
		if !fs.root {
			return name, true
		}
		return Unknown + path.Clean(name), false
	case err == nil && strings.HasPrefix(d.note, "/") && !d.deleted:
		p = d.note
	case err == nil && d.fd == unix.AT_FDCWD:
		p = fs.path
	case err == nil:
		if f := t.proc.files.get(d.fd); f != nil && f.kind == trace.RegularFile {
			p = f.path
		}
	}
	for strings.HasPrefix(name, "./") {
		name = strings.TrimLeft(name[1:], "/")
	}
	if p == "" || len(p)+len(name)+1 > maxPath {
		return Unknown + path.Clean("/"+name), false
	}
	if name == "" || name == "." {
		return p, true
	}
	return strings.TrimSuffix(p, "/") + "/" + name, true
}

// maxSought is how many lines lookAhead reads.
const maxSought = 4096

// lookAhead finds out the current folder of the process that runs from what -y
// says of it further on, before it changes it: a dynamic program's first call of
// openat tells where its exec was.
func (s *strace) lookAhead(fs *folder) {
	if fs.path != "" || fs.root || fs.sought {
		return
	}
	fs.sought = true
	for i := 0; i < maxSought && s.src.size <= maxAhead; i++ {
		if i >= len(s.src.ahead) && s.src.more() != nil {
			return
		}
		if i >= len(s.src.ahead) || s.src.ahead[i].pid != s.line.pid {
			continue
		}
		name, args, _ := strings.Cut(s.src.ahead[i].body, "(")
		switch {
		case strings.HasPrefix(args, "AT_FDCWD</"):
			first, _, _ := splitArgs(args)
			if d, err := parseDescriptor(arg(first, 0)); err == nil && !d.deleted {
				fs.path = d.note
			}
			return
		case name == "chdir" || name == "fchdir" || name == "chroot" || name == "pivot_root" || strings.HasPrefix(name, "exec"),
			strings.HasPrefix(name, "+++ "):
			return
		}
	}
}
