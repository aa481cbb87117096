package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"vmsim/internal/elfhead"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/trace"
	"vmsim/vm"
)

// ErrOtherFile is wrapped by the error of a replay whose trace ran a binary that
// is another file today.
var ErrOtherFile = errors.New("another file than the one recorded")

// opened is a file that a trace names, open until the replay ends.
type opened struct {
	file  *mem.OSFile
	im    *loader.Image // nil until it was parsed
	err   error         // of opening
	perr  error         // of parsing
	build string        // build id, if head was read
	mtime int64         // nanoseconds since 1970
	head  bool
	blank mem.File // stands in for a file whose bytes are not known
}

func (s *simulator) close() {
	for _, o := range s.files {
		if o.file != nil {
			o.file.Close()
		}
	}
}

// unchanged returns ErrChanged for the first file, by name, that was written
// since it was opened. Files that a recording mapped, and did not run, may have
// been: a page that is not as they are now is not known (look). They are returned.
func (s *simulator) unchanged() (written []string, err error) {
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		o := s.files[path]
		switch {
		case o.file == nil || !o.file.Changed():
		case s.recording && o.im == nil:
			written = append(written, path)
		case err == nil:
			err = fmt.Errorf("%s: %w", path, ErrChanged)
		}
	}
	return written, err
}

// open opens the file of the trace's path: in a recording below the sysroot.
func (s *simulator) open(path string) *opened {
	if o, ok := s.files[path]; ok {
		return o
	}
	o := &opened{}
	at := path
	if s.opt.Sysroot != "" && s.recording && filepath.IsAbs(path) {
		at = filepath.Join(s.opt.Sysroot, path)
	}
	if o.file, o.err = mem.OpenFile(at); o.err == nil {
		if st, err := os.Stat(at); err == nil {
			o.mtime = st.ModTime().UnixNano()
		}
	}
	s.files[path] = o
	return o
}

// buildID returns the build id of the file as it is now, in hex.
func (o *opened) buildID() string {
	if !o.head {
		o.head = true
		if h, err := elfhead.Read(o.file, o.file.Size()); err == nil {
			o.build = h.BuildID(o.file)
		}
	}
	return o.build
}

// differs says in words how the file differs from the one recorded; "" if it is
// that one. A build id that is the same is enough: a package that was installed
// anew has other times.
func (o *opened) differs(info trace.FileInfo) string {
	if info.BuildID != "" {
		if now := o.buildID(); now != info.BuildID {
			return fmt.Sprintf("build id %s now, %s then", short(now), short(info.BuildID))
		}
	}
	if size := uint64(o.file.Size()); size != info.Size {
		return fmt.Sprintf("%d bytes now, %d then", size, info.Size)
	}
	if info.BuildID == "" && info.MTime != 0 && info.MTime != o.mtime {
		utc := func(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }
		return fmt.Sprintf("modified %s now, %s then", utc(o.mtime), utc(info.MTime))
	}
	return ""
}

func short(id string) string {
	if id == "" {
		return "none"
	}
	return id[:min(len(id), 12)]
}

// File is trace.Machine's.
func (s *simulator) File(path string, info trace.FileInfo) { s.infos[path] = info }

// image returns the parsed program at path, or the errno that execve gives. One
// that is another file than the recorded one is refused.
func (s *simulator) image(path string) (*loader.Image, error) {
	o := s.open(path)
	info, known := s.infos[path]
	if s.recording && known && !s.opt.Force {
		switch {
		case o.err != nil:
			return nil, fmt.Errorf("%s: %w: %s (--sysroot looks elsewhere)", path, ErrOtherFile, Reason(o.err)) // %s: no answer of execve
		case info.Kind != trace.RegularFile:
			return nil, fmt.Errorf("%s: %w: it was run from a %v file, which is gone", path, ErrOtherFile, info.Kind)
		default:
			if how := o.differs(info); how != "" {
				return nil, fmt.Errorf("%s: %w: %s (--force runs it all the same)", path, ErrOtherFile, how)
			}
		}
	}
	if o.err != nil {
		return nil, errnoOf(o.err)
	}
	if o.im == nil && o.perr == nil {
		o.im, o.perr = loader.Parse(o.file)
	}
	if o.perr != nil {
		return nil, syscall.ENOEXEC
	}
	return o.im, nil
}

func errnoOf(err error) error {
	var no syscall.Errno
	switch {
	case errors.As(err, &no):
		return no
	case errors.Is(err, mem.ErrNotRegular), errors.Is(err, fs.ErrPermission):
		return syscall.EACCES
	case errors.Is(err, fs.ErrNotExist):
		return syscall.ENOENT
	}
	return err
}

// program returns what exec of path runs, where at says, which may be nil.
func (s *simulator) program(path string, at *trace.Layout) (vm.Program, error) {
	im, err := s.image(path)
	if s.recording && !at.Placed() {
		// strace names what execve was given. A recorder that says where a program lay
		// names the program.
		for depth := 0; err == syscall.ENOEXEC && depth < maxScripts; depth++ {
			to, ok := shebang(s.open(path).file)
			if !ok {
				break
			}
			path = to
			im, err = s.image(path)
		}
	}
	if err != nil {
		return vm.Program{}, err
	}
	prog := vm.Program{Image: im}
	interp := im.Interp
	if at != nil {
		prog.At = placement(at)
		if at.Placed() {
			interp = at.Start.Interp
		}
	}
	if interp != "" {
		if prog.Interp, err = s.image(interp); err != nil {
			return vm.Program{}, err
		}
	}
	return prog, nil
}

// maxScripts is how many interpreters in a row may be scripts (Linux:
// fs/exec.c:exec_binprm).
const maxScripts = 5

// scriptHead is how much of a script execve looks at (BINPRM_BUF_SIZE).
const scriptHead = 256

// shebang returns the interpreter that the first line of a script names (Linux:
// fs/binfmt_script.c:load_script).
func shebang(f mem.File) (path string, ok bool) {
	head := make([]byte, min(scriptHead, f.Size()))
	if n, err := f.ReadAt(head, 0); n < len(head) || err != nil && err != io.EOF {
		return "", false
	}
	line, ok := bytes.CutPrefix(head, []byte("#!"))
	line, _, whole := bytes.Cut(line, []byte("\n"))
	words := bytes.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if !ok || len(words) == 0 || bytes.IndexByte(words[0], 0) >= 0 {
		return "", false
	}
	if len(words) == 1 && !whole && len(head) == scriptHead { // it may go on
		return "", false
	}
	return string(words[0]), true
}

// placement is at as a machine takes it. The heap has no area yet: what
// /proc/PID/maps calls so after exec is .bss.
func placement(at *trace.Layout) *vm.Placement {
	p := &vm.Placement{}
	if st := at.Start; st != nil {
		p.Base, p.InterpBase, p.Brk = st.Base, st.InterpBase, st.Brk
	}
	for _, a := range at.Areas {
		switch {
		case a.Name == "[stack]":
			p.Stack = a.Range
		case a.Name != "[heap]" && a.End <= mem.UserEnd:
			p.Extra = append(p.Extra, vm.Extra{Range: a.Range, Prot: a.Prot, Name: a.Name})
		}
	}
	return p
}

// source is what a recorded mapping of a path maps.
type source struct {
	file    mem.File      // nil: anonymous, or the object
	object  *sharedObject // nil: none
	unknown string        // why the bytes of file are not known; "" where they are
}

// source finds what mapping path means, now and here.
func (s *simulator) source(path string, shared bool) source {
	info, known := s.infos[path]
	o := s.open(path)
	why := ""
	switch {
	case info.Kind == trace.MemoryFile, info.Kind == trace.SharedFile, info.Kind == trace.DeviceFile && shared:
		return source{object: s.object(path)}
	case info.Kind == trace.DeviceFile && path == "/dev/zero":
		return source{}
	case info.Kind == trace.DeviceFile:
		why = fmt.Sprintf("%s (%v)", path, info.Kind)
	case o.err != nil:
		why = path + " (gone)"
	case known && o.differs(info) != "":
		why = path + " (changed)"
	default:
		return source{file: o.file}
	}
	if o.blank == nil {
		o.blank = mem.NewBytesFile(path, nil)
	}
	return source{file: o.blank, unknown: why}
}
