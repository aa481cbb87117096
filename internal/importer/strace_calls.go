package importer

import (
	"fmt"
	"strings"

	"vmsim/mem"
	"vmsim/trace"
)

// call is a system call that has returned.
type call struct {
	name   string
	args   []string
	result result
	half   *unfinished // its first half, if it came in two
}

// argumentError says what is wrong with an argument.
type argumentError struct{ err error }

func (e *argumentError) Error() string { return e.err.Error() }

// calls are the system calls that matter: those that make operations, and those
// that tell what a descriptor, a path or a segment is.
var calls = map[string]func(*strace, *task, *call) error{
	"mmap": (*strace).mmap, "mmap2": (*strace).mmap,
	"munmap": ranged(trace.OpMunmap), "mprotect": (*strace).mprotect, "pkey_mprotect": (*strace).mprotect,
	"mremap": (*strace).mremap, "madvise": (*strace).madvise, "brk": (*strace).brk,
	"mlock": ranged(trace.OpMlock), "mlock2": (*strace).mlock2, "munlock": ranged(trace.OpMunlock),
	"mlockall": (*strace).mlockall, "munlockall": (*strace).munlockall,
	"shmget": (*strace).shmget, "shmctl": (*strace).shmctl, "shmat": (*strace).shmat, "shmdt": (*strace).shmdt,

	"fork": (*strace).fork, "vfork": (*strace).fork, "clone": (*strace).fork, "clone3": (*strace).fork,
	"execve": (*strace).execve, "execveat": (*strace).execve, "exit": (*strace).exitCall, "exit_group": (*strace).exitCall,
	"unshare": (*strace).unshare,

	"open": (*strace).open, "openat": (*strace).open, "openat2": (*strace).open, "creat": (*strace).open,
	"memfd_create": (*strace).memfd, "close": (*strace).close, "close_range": (*strace).closeRange,
	"dup": (*strace).dup, "dup2": (*strace).dup, "dup3": (*strace).dup, "fcntl": (*strace).fcntl, "fcntl64": (*strace).fcntl,
	"socket": (*strace).other, "accept": (*strace).other, "accept4": (*strace).other, "eventfd": (*strace).other,
	"eventfd2": (*strace).other, "signalfd": (*strace).other, "signalfd4": (*strace).other,
	"timerfd_create": (*strace).other, "epoll_create": (*strace).other, "epoll_create1": (*strace).other,
	"inotify_init": (*strace).other, "inotify_init1": (*strace).other, "fanotify_init": (*strace).other,
	"userfaultfd": (*strace).other, "perf_event_open": (*strace).other, "memfd_secret": (*strace).other,
	"pidfd_open": (*strace).other, "pidfd_getfd": (*strace).other, "io_uring_setup": (*strace).other,
	"open_by_handle_at": (*strace).other, "bpf": (*strace).other, "mq_open": (*strace).other,
	"pipe": (*strace).pipe, "pipe2": (*strace).pipe, "socketpair": (*strace).pipe,

	"chdir": (*strace).chdir, "fchdir": (*strace).fchdir, "getcwd": (*strace).getcwd,
	"chroot": (*strace).chroot, "pivot_root": (*strace).chroot,
}

// memoryCalls are the calls that change or use mappings in a way that a trace
// cannot say.
var memoryCalls = map[string]bool{
	"remap_file_pages": true, "process_madvise": true, "mseal": true, "map_shadow_stack": true, "io_setup": true,
	"io_destroy": true, "userfaultfd": true, "process_mrelease": true, "old_mmap": true, "old_mmap_pgoff": true,
}

// unknownCall counts a call that is passed over, if it concerns memory and did
// not fail. text is what follows its name.
func (l *lacks) unknownCall(name, text string) {
	if !memoryCalls[name] || strings.Contains(text, "= -1 ") {
		return
	}
	if l.memory == nil {
		l.memory = map[string]int{}
	}
	l.memory[name]++
}

// arg returns argument i, "" if there is none.
func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// reader reads the arguments of a call; the first error sticks.
type reader struct {
	*call
	err error
}

func (c *call) read() *reader { return &reader{call: c} }

func (r *reader) fail(what string, err error) {
	if err != nil && r.err == nil {
		r.err = &argumentError{fmt.Errorf("%s: %w", what, err)}
	}
}

func (r *reader) number(i int, what string) uint64 {
	n, err := parseNumber(arg(r.args, i))
	r.fail(what, err)
	return n
}

func (r *reader) addr(i int) mem.VirtAddr { return mem.VirtAddr(r.number(i, "address")) }

func (r *reader) flags(i int, what string, words map[string]uint64) uint64 {
	n, err := parseFlags(arg(r.args, i), words)
	r.fail(what, err)
	return n
}

// prot reads a protection. What a trace cannot say of it is counted.
func (s *strace) prot(r *reader, i int) mem.Prot {
	p := r.flags(i, "protection", protWords)
	if p&^uint64(0xf) != 0 {
		s.lacks.prots++
	}
	return mem.Prot(p & 7)
}

// answered emits op as what the call came to: an address, or 0 for success. Calls
// without a known result are counted and left out.
func (s *strace) answered(t *task, c *call, op trace.Op, err error) error {
	switch {
	case c.result.restart:
		return nil
	case c.result.none || c.result.injected: // its arguments may not be there either
		s.lacks.unanswered++
		return nil
	case err != nil:
		return err
	}
	op.Want = &trace.Answer{Errno: c.result.errno}
	switch op.Kind {
	case trace.OpMmap, trace.OpMremap, trace.OpShmat, trace.OpBrk:
		op.Want.Addr = mem.VirtAddr(c.result.value)
	}
	return s.emitOp(t, op)
}

// mapFlags are the bits of mmap's flags that a trace can say.
var mapFlags = []struct {
	bit  uint64
	flag trace.MapFlags
}{{0x10, trace.MapFixed}, {0x100000, trace.MapNoReplace}, {0x8000, trace.MapPopulate}, {0x2000, trace.MapLocked},
	{0x4000, trace.MapNoReserve}, {0x20000, trace.MapStack}, {0x100, trace.MapGrowsDown}, {mapHugeTLB, trace.MapHugeTLB},
	{0x40, trace.Map32Bit}, {0x10000, trace.MapNonBlock}, {0x80000, trace.MapSync}}

// mapSilent are the bits that change nothing: the type, anonymous (the source says
// it), and those that Linux ignores (include/uapi/asm-generic/mman-common.h).
const mapSilent = 0xf | mapAnonymous | 0x800 | 0x1000

func (s *strace) mmap(t *task, c *call) error {
	r := c.read()
	op := trace.Op{Kind: trace.OpMmap, Addr: r.addr(0), Len: r.number(1, "length"), Prot: s.prot(r, 2)}
	bits := r.flags(3, "flags", mapWords)
	d, err := parseDescriptor(arg(r.args, 4))
	r.fail("descriptor", err)
	op.Offset = r.number(5, "offset")
	if r.err != nil || c.result.none || c.result.injected {
		return s.answered(t, c, op, r.err)
	}
	switch bits & 0xf {
	case 2:
	case 1, 3:
		op.Flags = trace.MapShared
	default: // MAP_DROPPABLE, or neither private nor shared
		if c.result.errno == 0 {
			s.lacks.kinds++
		}
		return nil
	}
	rest := bits &^ mapSilent
	for _, m := range mapFlags {
		if bits&m.bit != 0 {
			op.Flags |= m.flag
			rest &^= m.bit
		}
	}
	if rest != 0 {
		s.lacks.flags++
	}
	if bits&mapAnonymous != 0 {
		op.Offset = 0
		return s.answered(t, c, op, nil)
	}
	file := t.proc.files.get(d.fd)
	if c.half != nil && c.half.looked {
		file = c.half.file
	}
	if op.Path, err = s.mapped(t, d, file, c.result.errno == 0); err != nil || op.Path == "" {
		return err
	}
	return s.answered(t, c, op, nil)
}

// mapped returns the name of the file that d stands for, which file is if the log
// tells, and emits what is known of it. It is "" where the call has failed and the
// file is not known.
func (s *strace) mapped(t *task, d descriptor, file *openFile, ok bool) (string, error) {
	name, kind := d.note, trace.RegularFile
	switch {
	case name != "" && d.deleted:
		if kind = trace.MemoryFile; !strings.HasPrefix(name, "/memfd:") {
			name += " (deleted)"
		}
	case strings.HasPrefix(name, "/"):
		if d.device {
			kind = trace.DeviceFile
		}
	case name != "":
		kind = trace.DeviceFile // anon_inode:[io_uring]
	case file != nil && file.path != "":
		if name, kind = file.path, file.kind; kind == trace.RegularFile {
			s.looked++
		}
	case !ok:
		return "", nil
	default:
		s.unknown++
		name, kind = fmt.Sprintf("%s/file-%d", Unknown, s.unknown), trace.MemoryFile
		file = &openFile{name, kind}
		t.proc.files.set(d.fd, file, false) // the same file, as long as it is open
	}
	switch {
	case name == "/dev/zero" || kind == trace.DeviceFile:
		return name, s.describe(name, nil, trace.FileInfo{Kind: trace.DeviceFile})
	case kind == trace.MemoryFile:
		return s.memory(name, file)
	}
	return name, nil
}

// memory returns a name that no other memory file has, and emits what it is before
// its first use.
func (s *strace) memory(name string, file *openFile) (string, error) {
	unique := name
	for n := 2; ; n++ {
		other, used := s.objects[unique]
		if used && (other == nil || file == nil) {
			s.lacks.alike++
		} else if used && other != file {
			unique = fmt.Sprintf("%s#%d", name, n)
			continue
		}
		return unique, s.describe(unique, file, trace.FileInfo{Kind: trace.MemoryFile})
	}
}

// describe emits what a name stands for, once.
func (s *strace) describe(name string, file *openFile, info trace.FileInfo) error {
	if _, done := s.objects[name]; done {
		return nil
	}
	s.objects[name] = file
	return s.emitAny(trace.Op{Kind: trace.OpFile, Path: name, File: &info})
}

// ranged returns what does a call that has an address and a length alone.
func ranged(k trace.Kind) func(*strace, *task, *call) error {
	return func(s *strace, t *task, c *call) error {
		r := c.read()
		return s.answered(t, c, trace.Op{Kind: k, Addr: r.addr(0), Len: r.number(1, "length")}, r.err)
	}
}

func (s *strace) mprotect(t *task, c *call) error {
	r := c.read()
	op := trace.Op{Kind: trace.OpMprotect, Addr: r.addr(0), Len: r.number(1, "length"), Prot: s.prot(r, 2)}
	if c.name == "pkey_mprotect" && r.number(3, "key")+1 > 1 { // neither -1 nor 0
		s.lacks.keys++
	}
	return s.answered(t, c, op, r.err)
}

func (s *strace) mremap(t *task, c *call) error {
	r := c.read()
	op := trace.Op{Kind: trace.OpMremap, Addr: r.addr(0), Len: r.number(1, "length"), NewLen: r.number(2, "new length")}
	bits := r.flags(3, "flags", remapWords)
	op.Remap = trace.RemapFlags(bits & 7)
	if bits&^7 != 0 {
		s.lacks.flags++
	}
	if len(r.args) > 4 {
		op.To = r.addr(4)
	}
	return s.answered(t, c, op, r.err)
}

func (s *strace) madvise(t *task, c *call) error {
	r := c.read()
	op := trace.Op{Kind: trace.OpMadvise, Addr: r.addr(0), Len: r.number(1, "length")}
	advice := r.flags(2, "advice", adviceWords)
	if int64(int32(advice)) < 0 || advice > 1<<32 {
		return nil // refused by every kernel
	}
	op.Advice = trace.Advice(advice)
	return s.answered(t, c, op, r.err)
}

func (s *strace) brk(t *task, c *call) error {
	r := c.read()
	return s.answered(t, c, trace.Op{Kind: trace.OpBrk, Addr: r.addr(0)}, r.err)
}

func (s *strace) mlock2(t *task, c *call) error {
	r := c.read()
	op := trace.Op{Kind: trace.OpMlock, Addr: r.addr(0), Len: r.number(1, "length"), Bits: r.flags(2, "flags", mlockWords)}
	return s.answered(t, c, op, r.err)
}

func (s *strace) mlockall(t *task, c *call) error {
	r := c.read()
	return s.answered(t, c, trace.Op{Kind: trace.OpMlockall, Bits: r.flags(0, "flags", mlockallWords)}, r.err)
}

func (s *strace) munlockall(t *task, c *call) error {
	return s.answered(t, c, trace.Op{Kind: trace.OpMunlockall}, nil)
}

func (s *strace) fork(t *task, c *call) error {
	delete(s.forking, t)
	if c.half != nil && c.half.born != 0 {
		return nil // it has appeared before
	}
	switch {
	case c.result.none:
		return nil // none, or one that will appear without a parent
	case c.result.errno != 0:
		s.lacks.forks++
		return nil
	}
	pid := childPID(c.result)
	if pid < 1 || pid > maxPID {
		return &argumentError{fmt.Errorf("child %q is not in 1 to %d", clip(c.result.text), maxPID)}
	}
	flags, err := cloneFlags(c.name, c.args)
	if err != nil {
		return &argumentError{err}
	}
	_, err = s.child(t, pid, flags)
	return err
}

func (s *strace) execve(t *task, c *call) error {
	if c.result.none {
		if !c.result.restart {
			s.lacks.unanswered++
		}
		return nil
	}
	dir, args := "AT_FDCWD", c.args
	if c.name == "execveat" {
		dir, args = arg(args, 0), args[min(1, len(args)):]
	}
	name, _, err := parseString(arg(args, 0))
	if err != nil {
		if c.result.errno != 0 {
			return nil // EFAULT: it has no name
		}
		return &argumentError{fmt.Errorf("path %w", err)}
	}
	op := trace.Op{Kind: trace.OpExec}
	if !strings.HasPrefix(name, "/") && strings.HasPrefix(dir, "AT_FDCWD") {
		s.lookAhead(t.proc.fs)
	}
	var known bool
	if op.Path, known = s.resolve(t, dir, name); !known {
		s.lacks.programs++
	}
	if argv, whole := parseArgv(arg(args, 1)); whole {
		op.Start = &trace.Start{Args: argv}
	} else if c.result.errno == 0 {
		s.lacks.argv++
	}
	if c.result.errno == 0 {
		return s.program(t, c, op)
	}
	op.Start = nil
	return s.answered(t, c, op, nil)
}

// program emits an exec that succeeded, and makes t its process's only thread.
func (s *strace) program(t *task, c *call, op trace.Op) error {
	if s.first == nil {
		s.first = &op
	}
	if err := s.answered(t, c, op, nil); err != nil {
		return err
	}
	t.proc.files = t.proc.files.exec()
	for other := range t.proc.tasks {
		other.gone = other != t
	}
	t.num, t.exiting = t.proc.num, nil
	return nil
}

// parseArgv reads ["sh", "-c", "true"]. whole is false where strace cut any of it.
func parseArgv(text string) (argv []string, whole bool) {
	inner, ok := strings.CutPrefix(text, "[")
	if !ok {
		return nil, false
	}
	args, _, closed := splitArgs(strings.TrimSuffix(inner, "]") + ")")
	if !closed || !strings.HasSuffix(inner, "]") {
		return nil, false
	}
	size := 0
	for _, a := range args {
		s, all, err := parseString(a)
		if size += len(s) + 1; err != nil || !all || size > trace.MaxArgs {
			return nil, false
		}
		argv = append(argv, s)
	}
	return argv, true
}

// exitCall does exit and exit_group: the end itself has a line of its own.
func (s *strace) exitCall(t *task, c *call) error {
	s.exiting(t, c.name, c.args)
	return nil
}

func (s *strace) unshare(t *task, c *call) error {
	if c.result.none || c.result.errno != 0 {
		return nil
	}
	flags, err := parseFlags(arg(c.args, 0), cloneWords)
	if err != nil {
		return &argumentError{err}
	}
	if flags&cloneFiles != 0 { // of the thread alone; here of its process
		t.proc.files = t.proc.files.fork()
	}
	if flags&cloneFS != 0 {
		t.proc.fs = &folder{path: t.proc.fs.path, root: t.proc.fs.root}
	}
	return nil
}
