package importer

import (
	"errors"
	"io"
	"strings"
	"time"

	"vmsim/trace"
)

// Strace reads the text that strace -f writes, of any of the options -f, -t, -tt,
// -ttt, -r, -T, -y, -yy, -Y, -i, -n, -k, -X; to a file (-o) or to stderr. The best
// one is
//
//	strace -f -y -ttt -s 4096 -e trace=%memory,%process,%desc,chdir,fchdir,shmget -o FILE COMMAND
//
// The mapping calls, fork, exec and exit of each process become operations with
// their results. Without -y the files of mappings are known from the calls that
// opened them; what was not traced is missing, not guessed.
//
// A line that is none of strace's, an argument that cannot be read, or a last
// line without its end is an error. Unknown system calls are passed over.
func Strace(name string, r io.Reader, emit func(*trace.Op) error) (trace.Header, error) {
	s := &strace{src: newSource(newLines(name, r)), emit: emit, tasks: map[int]*task{}, attached: map[int]bool{},
		forking: map[*task]bool{}, seen: map[*task]bool{},
		shm: map[uint64]segment{}, objects: map[string]*openFile{}, next: 2}
	err := s.all()
	return s.header(err == nil), err
}

// strace is the state of one import.
type strace struct {
	src   *source
	line  *logLine // the one that is read
	emit  func(*trace.Op) error
	clock clock

	tasks    map[int]*task  // those that live, by strace's PID; 0: the first one, whose PID is not known yet
	forking  map[*task]bool // those in an unfinished fork, vfork or clone whose child has not appeared
	seen     map[*task]bool // those that had a line
	attached map[int]bool   // announced by strace, and not seen yet
	next     int            // number of the next process or thread

	shm     map[uint64]segment   // System V segments by their id
	objects map[string]*openFile // memory with a name but without a path, by its name in the trace

	first   *trace.Op // the first exec that succeeded
	unknown int       // files without a name
	closes  int       // calls of close seen
	looked  int       // files of mappings known from their descriptor alone
	summary bool      // strace -C counts from here on
	lacks   lacks
}

// all reads all lines.
func (s *strace) all() error {
	for {
		l, err := s.src.take()
		if err == io.EOF {
			return s.end()
		}
		if err != nil {
			return err
		}
		s.line = l
		if err := s.one(); err != nil {
			return err
		}
	}
}

// errorf returns an error of the line that is read.
func (s *strace) errorf(format string, args ...any) error {
	l := lines{name: s.src.lines.name, n: s.line.n}
	return l.errorf(format, args...)
}

// one reads one line.
func (s *strace) one() error {
	l := s.line
	if l.stamp {
		s.clock.set(l.at)
	}
	body := l.body
	switch {
	case body == "" || strings.HasPrefix(body, "> "): // strace -k: a frame of the stack
		return nil
	case s.summary || strings.HasPrefix(body, "% time "): // strace -C: counts, to the end
		s.summary = true
		return nil
	case strings.HasPrefix(body, "strace: "):
		return s.notice(body)
	}
	t, err := s.task(l)
	if err != nil {
		return err
	}
	if !t.seen {
		t.seen, s.seen[t] = true, true
	}
	switch {
	case strings.HasPrefix(body, "+++ "):
		return s.ended(t, body)
	case strings.HasPrefix(body, "--- "):
		return s.signal(t, body)
	case strings.HasPrefix(body, "<... "):
		return s.resumed(t, body)
	}
	return s.call(t, body)
}

// notice reads what strace says of itself.
func (s *strace) notice(body string) error {
	var pid int
	if rest, ok := strings.CutPrefix(body, "strace: Process "); ok {
		n, digits := number([]byte(rest))
		if pid = n; digits == 0 || n == 0 || n > maxPID {
			return nil
		}
		switch strings.TrimSpace(rest[digits:]) {
		case "attached":
			if s.tasks[pid] == nil {
				s.attached[pid] = true
			}
		case "detached":
			if t := s.tasks[pid]; t != nil {
				s.lacks.detached++
				s.forget(t)
			}
		}
	}
	return nil
}

// call reads a line of the form NAME(ARGS) = RESULT, or its first half.
func (s *strace) call(t *task, body string) error {
	open := strings.IndexByte(body, '(')
	if open <= 0 || strings.Trim(body[:open], "abcdefghijklmnopqrstuvwxyz0123456789_?") != "" {
		return s.errorf("%q is no line of strace's", clip(body))
	}
	name := body[:open]
	if name == "syscall_0x1ce" {
		name = "mseal" // newer than strace 6.1
	}
	do, known := calls[name]
	t.unfinished = nil
	delete(s.forking, t)
	if text, moved, half := cutUnfinished(body[open+1:]); half {
		t.unfinished = &unfinished{name: name, line: s.line.n}
		if known {
			t.unfinished.text = text
			return s.entered(t, moved)
		}
		return nil
	}
	if name == "close" {
		s.closes++
	}
	if !known {
		s.lacks.unknownCall(name, body)
		return nil
	}
	return s.finish(t, name, do, body[open+1:], nil)
}

// cutUnfinished cuts the mark of a call that goes on, and gives the PID that it
// goes on under where strace says so (before 5.0).
func cutUnfinished(text string) (rest string, moved int, ok bool) {
	text = strings.TrimRight(text, " ")
	for _, mark := range []string{"<unfinished ...>", "<detached ...>"} {
		if rest, ok = strings.CutSuffix(text, mark); ok {
			return strings.TrimRight(rest, " "), 0, true
		}
	}
	if rest, ok = strings.CutSuffix(text, " ...>"); ok {
		if i := strings.LastIndex(rest, "<pid changed to "); i >= 0 {
			n, _ := number([]byte(rest[i+len("<pid changed to "):]))
			return strings.TrimRight(rest[:i], " "), n, true
		}
	}
	return text, 0, false
}

// entered does what a call does at its start, as far as it can be told: the
// descriptors that it uses and frees are those of this moment.
func (s *strace) entered(t *task, moved int) error {
	u := t.unfinished
	args, _, _ := splitArgs(u.text)
	switch u.name {
	case "close":
		s.closes++
		t.proc.files.close(arg(args, 0))
	case "mmap", "mmap2":
		if len(args) > 5 {
			d, _ := parseDescriptor(args[4]) // if it cannot be read, the end of the call says so
			u.file, u.looked = t.proc.files.get(d.fd), true
		}
	case "exit", "exit_group":
		s.exiting(t, u.name, args)
	case "fork", "vfork", "clone", "clone3":
		s.forking[t] = true
	}
	if leader := s.tasks[moved]; moved != 0 && leader != nil && leader != t {
		s.supersede(leader, t)
	}
	return nil
}

// resumed reads the second half of a call: <... NAME resumed>REST.
func (s *strace) resumed(t *task, body string) error {
	name, rest, ok := cutResumed(body)
	if !ok {
		return s.errorf("%q is no line of strace's", clip(body))
	}
	u := t.unfinished
	t.unfinished = nil
	do, known := calls[name]
	if text, _, half := cutUnfinished(rest); half && known && u != nil && u.name == name { // in two halves again
		u.text += text
		t.unfinished = u
		return nil
	}
	switch {
	case !known:
		s.lacks.unknownCall(name, rest)
		return nil
	case u == nil || u.name != name:
		s.lacks.halves++
		return nil
	case len(u.text)+len(rest) > maxLine:
		return s.errorf("%s: both halves together are longer than %d bytes", name, maxLine)
	}
	return s.finish(t, name, do, u.text+rest, u)
}

// cutResumed parts <... NAME resumed>REST.
func cutResumed(body string) (name, rest string, ok bool) {
	if body, ok = strings.CutPrefix(body, "<... "); !ok {
		return "", "", false
	}
	if name, rest, ok = strings.Cut(body, " resumed>"); !ok {
		return "", "", false
	}
	return name, rest, true
}

// finish does a call that has returned: text is ARGS) = RESULT.
func (s *strace) finish(t *task, name string, do func(*strace, *task, *call) error, text string, u *unfinished) error {
	text = strings.TrimSuffix(text, "(DELAYED)")
	c := &call{name: name, half: u}
	var rest string
	var closed bool
	if c.args, rest, closed = splitArgs(text); !closed {
		if strings.HasSuffix(text, "= ?") { // <unavailable>, killed on its way
			c.result.none = true
		} else {
			return s.errorf("%s: its closing bracket is missing", name)
		}
	} else if rest = strings.TrimSpace(rest); !strings.HasPrefix(rest, "=") {
		return s.errorf("%s: its result is missing", name)
	} else {
		var err error
		if c.result, err = parseResult(strings.TrimSpace(rest[1:])); err != nil {
			return s.errorf("%s: %w", name, err)
		}
	}
	err := do(s, t, c)
	var bad *argumentError
	if errors.As(err, &bad) {
		return s.errorf("%s: %w", name, bad.err)
	}
	return err
}

// emitOp emits op as one of t.
func (s *strace) emitOp(t *task, op trace.Op) error {
	op.PID = t.proc.num
	if t.num != op.PID {
		op.TID = t.num
	}
	return s.emitAny(op)
}

// emitAny emits op. What has no text form was a line that cannot be.
func (s *strace) emitAny(op trace.Op) error {
	op.Time = s.clock.now
	if err := op.Check(); err != nil {
		return s.errorf("%w", err)
	}
	return s.emit(&op)
}

// end is called behind the last line.
func (s *strace) end() error {
	return s.bury()
}

// header returns what is known at the end; whole: of a text without errors.
func (s *strace) header(whole bool) trace.Header {
	h := trace.Header{Source: "strace", Touches: trace.TouchesNone}
	if s.first != nil && s.first.Start != nil {
		h.Command = s.first.Start.Args
	}
	if s.clock.began {
		h.Clock = "time of day (strace -t)"
		switch s.clock.first.kind {
		case stampUnix:
			h.Clock = "CLOCK_REALTIME (strace -ttt)"
			h.Began = time.Unix(0, int64(s.clock.first.ns)).UTC().Format(time.RFC3339Nano)
		case stampDelta:
			h.Clock = "since the first line (strace -r)"
		}
	}
	h.Missing = s.missing(whole)
	h.Whole = whole && len(s.tasks) == 0 && s.lacks.detached == 0
	return h
}

// logLine is a line of the log, whole: where a message of strace broke it, with
// what followed.
type logLine struct {
	n int // in the file, from 1; of a broken line its last
	prefix
	body string // behind the prefix
}
