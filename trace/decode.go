package trace

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"

	"vmsim/mem"
)

// SyntaxError says what is wrong with a line of a trace.
type SyntaxError struct {
	File string // as given to NewDecoder
	Line int    // from 1
	Msg  string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg) }

// Decoder reads the text form, line by line. Its memory is bounded by MaxLine,
// whatever it reads.
type Decoder struct {
	name   string
	r      *bufio.Reader
	line   int // number of the line read last
	magic  bool
	header Header
	ahead  *Op  // read while looking for the end of the header
	ops    bool // an operation was read
	words  []word
	err    error // sticks
}

// NewDecoder returns a Decoder of r. Errors begin with name.
func NewDecoder(name string, r io.Reader) *Decoder {
	return &Decoder{name: name, r: bufio.NewReaderSize(r, MaxLine+1)}
}

// Next returns the next operation, or io.EOF at the end. A *SyntaxError says
// what is wrong with a line; errors of the reader are wrapped. Errors stick.
func (d *Decoder) Next() (Op, error) {
	if op := d.ahead; op != nil {
		d.ahead = nil
		return *op, nil
	}
	for d.err == nil {
		var op Op
		var ok bool
		if op, ok, d.err = d.next(); ok && d.err == nil {
			return op, nil
		}
	}
	return Op{}, d.err
}

// Header returns what the lines in front of the first operation say. Its error
// is that of Next.
func (d *Decoder) Header() (Header, error) {
	if !d.ops && d.err == nil {
		if op, err := d.Next(); err == nil {
			d.ahead = &op
		}
	}
	if d.err != nil && d.err != io.EOF {
		return Header{}, d.err
	}
	return d.header, nil
}

// All yields the remaining operations; an error comes last. The end of the
// trace is none.
func (d *Decoder) All() iter.Seq2[Op, error] { return all(d.Next) }

// Parse reads a whole trace. Its error is that of Decoder.Next.
func Parse(name string, r io.Reader) ([]Op, error) {
	var ops []Op
	for op, err := range NewDecoder(name, r).All() {
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// next reads one line. It is false for a line without an operation.
func (d *Decoder) next() (op Op, ok bool, err error) {
	line, err := d.r.ReadSlice('\n')
	if err != nil && (err != io.EOF || len(line) == 0) {
		switch {
		case err == bufio.ErrBufferFull:
			d.line++
			return op, false, d.errorf("the line is longer than %d bytes", MaxLine)
		case err == io.EOF && !d.magic:
			d.line++
			return op, false, d.errorf("the line %q is missing", Magic)
		case err == io.EOF:
			return op, false, err
		}
		return op, false, fmt.Errorf("%s: %w", d.name, err)
	}
	d.line++
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if d.words, err = split(d.words[:0], string(line)); err != nil {
		if !d.magic {
			return op, false, d.errorf("no trace: it begins neither with %q nor as the binary form does", Magic)
		}
		return op, false, d.errorf("%w", err)
	}
	if len(d.words) == 0 {
		return op, false, nil
	}
	if !d.magic {
		d.magic = true
		return op, false, d.checkMagic()
	}
	if d.words[0].text == "header" {
		if d.ops {
			return op, false, d.errorf("header: it belongs in front of the first operation")
		}
		if err := d.header.parse(d.words[1:]); err != nil {
			return op, false, d.errorf("%w", err)
		}
		return op, false, nil
	}
	if op, err = parseOp(d.words); err != nil {
		return Op{}, false, d.errorf("%w", err)
	}
	if op.Kind == OpBoot && d.ops {
		return Op{}, false, d.errorf("boot: only the first operation can be one")
	}
	d.ops = true
	op.Line = d.line
	return op, true, nil
}

func (d *Decoder) errorf(format string, args ...any) error {
	return &SyntaxError{d.name, d.line, fmt.Errorf(format, args...).Error()}
}

func (d *Decoder) checkMagic() error {
	name, version, _ := strings.Cut(Magic, " ")
	switch {
	case d.words[0].text != name:
		return d.errorf("%q: the first line must be %q", clip(d.words[0].text), Magic)
	case len(d.words) != 2:
		return d.errorf("the first line must be %q", Magic)
	case d.words[1].text != version:
		return d.errorf("version %q of the format is unknown: this program reads %s", clip(d.words[1].text), version)
	}
	return nil
}

// parseOp reads the words of one line.
func parseOp(words []word) (Op, error) {
	var op Op
	if at, ok := strings.CutPrefix(words[0].text, "@"); ok {
		var err error
		if op.Time, err = parseNumber(at, math.MaxUint64); err != nil {
			return op, fmt.Errorf("time %w", err)
		}
		if words = words[1:]; len(words) == 0 {
			return op, errors.New("nothing behind the time")
		}
	}
	if k, ok := parseKind(words[0].text); ok && k.ofTrace() {
		op.Kind = k
	} else {
		var err error
		if op.PID, op.TID, err = parseTask(words[0].text); err != nil {
			return op, err
		}
		if len(words) == 1 {
			return op, fmt.Errorf("process %s does nothing: the operation is missing", words[0].text)
		}
		if op.Kind, ok = parseKind(words[1].text); !ok || op.Kind.ofTrace() {
			return op, fmt.Errorf("operation %q is none of %s", clip(words[1].text), strings.Join(ofProcess(), ", "))
		}
		words = words[1:]
	}
	if err := op.parse(words[1:]); err != nil {
		return op, fmt.Errorf("%v: %w", op.Kind, err)
	}
	return op, op.Check()
}

// parseTask reads PID or PID/TID.
func parseTask(s string) (pid, tid int, err error) {
	p, t, threaded := strings.Cut(s, "/")
	n, err := parseNumber(p, MaxPID)
	if err == nil && n != 0 && threaded {
		var m uint64
		if m, err = parseNumber(t, MaxPID); err == nil && (m == 0 || m == n) {
			return 0, 0, fmt.Errorf("%q: the thread is 0, or the first, which is not written", clip(s))
		}
		tid = int(m)
	}
	if err != nil || n == 0 {
		if k, ok := parseKind(s); ok && !k.ofTrace() {
			return 0, 0, fmt.Errorf("%q: the process that does it is missing in front", s)
		}
		return 0, 0, fmt.Errorf("%q is neither a process, 1 to %d, nor one of %s", clip(s), MaxPID, strings.Join(ofTrace(), ", "))
	}
	return int(n), tid, nil
}

// ofProcess and ofTrace list the words of operations, for messages.
func ofProcess() []string { return kindsWhere(func(k Kind) bool { return !k.ofTrace() }) }
func ofTrace() []string   { return kindsWhere(Kind.ofTrace) }

func kindsWhere(keep func(Kind) bool) (names []string) {
	for k := OpMark; int(k) < len(kindNames); k++ {
		if keep(k) {
			names = append(names, kindNames[k])
		}
	}
	return names
}

// parse reads operands, fields and answer into op, whose Kind is known.
func (op *Op) parse(words []word) error {
	var answer []word
	equals := slices.IndexFunc(words, func(w word) bool { return w.sep })
	if equals >= 0 {
		words, answer = words[:equals], words[equals+1:]
	}
	a := &args{words: words}
	op.parseOperands(a)
	op.parseFields(a)
	if err := a.end(); err != nil || equals < 0 {
		return err
	}
	a = &args{words: answer}
	if !a.more() {
		return errors.New("nothing behind =")
	}
	op.Want = a.answer(op.Kind)
	return a.end()
}

// parseOperands takes the words that have their place.
func (op *Op) parseOperands(a *args) {
	switch op.Kind {
	case OpMark:
		op.Name = a.word("name")
	case OpNote:
		op.Name = a.word("text")
	case OpBoot:
		if a.more() {
			op.Path = a.path()
		}
	case OpExec, OpFile:
		op.Path = a.path()
	case OpExit:
		if a.more() && !a.field() {
			op.Status = int(a.number("status", math.MaxUint8))
		}
	case OpMmap:
		op.Addr = a.addr("address")
		op.Len = a.number("length", math.MaxUint64)
		op.Prot = a.prot()
		op.Flags = a.flags()
		a.source(op)
	case OpMunmap, OpMprotect, OpMremap, OpMadvise, OpMlock, OpMunlock, OpShmat:
		op.Addr = a.addr("address")
		op.Len = a.number("length", math.MaxUint64)
		switch op.Kind {
		case OpMprotect:
			op.Prot = a.prot()
		case OpShmat:
			op.Prot = a.prot()
			op.Path = a.path()
		case OpMremap:
			op.NewLen = a.number("new length", math.MaxUint64)
			op.Remap = parsed(a, "flags", parseRemapFlags)
		case OpMadvise:
			op.Advice = parsed(a, "advice", parseAdvice)
		}
	case OpBrk, OpShmdt:
		op.Addr = a.addr("address")
	case OpTouch:
		op.Access = a.access()
		a.target(op)
		if op.Access == mem.Write {
			op.Value = DefaultValue
			if a.more() && !a.field() {
				op.Value = byte(a.number("value", math.MaxUint8))
			}
		}
	case OpArea:
		op.Point = a.point()
		r := parsed(a, "range", parseSpan)
		op.Addr, op.Len = r.Start, r.Len()
		op.Prot = a.prot()
		op.Flags = a.flags()
		if a.more() && bracketed(a.words[0].text) {
			op.Name = a.word("source")
		} else {
			a.source(op)
		}
	case OpPresent:
		op.Point, op.Set = a.point(), &PresentSet{}
		for a.more() {
			op.Set.Runs = append(op.Set.Runs, parsed(a, "run", parseRun))
		}
	case OpLost:
		op.Count = a.number("count", math.MaxUint64)
	}
}

// parseFields takes words of the form NAME=VALUE, in any order, each but arg
// once.
func (op *Op) parseFields(a *args) {
	if op.Kind == OpFile {
		op.File = &FileInfo{}
	}
	seen := map[string]bool{}
	for a.more() {
		w := a.word("field")
		name, value, ok := strings.Cut(w, "=")
		switch {
		case a.err != nil:
			return
		case !ok:
			a.fail(fmt.Errorf("%q is one word too many", clip(w)))
			return
		case seen[name] && name != "arg":
			a.fail(fmt.Errorf("%s= comes twice", clip(name)))
			return
		}
		seen[name] = true
		if err := op.setField(name, value); err != nil {
			a.fail(err)
		}
	}
}

// setField sets the field of the form NAME=VALUE.
func (op *Op) setField(name, value string) (err error) {
	count := func(most uint64) (n uint64) {
		if n, err = parseNumber(value, most); err != nil {
			err = fmt.Errorf("%s %w", name, err)
		}
		return n
	}
	start := func() *Start {
		if op.Start == nil {
			op.Start = &Start{}
		}
		return op.Start
	}
	switch k := op.Kind; {
	case name == "flags" && (k == OpFork || k == OpVfork || k == OpThread || k == OpMlock || k == OpMlockall):
		op.Bits = count(math.MaxUint64)
	case name == "to" && k == OpMremap:
		op.To = mem.VirtAddr(count(math.MaxUint64))
	case name == "signal" && k == OpExit:
		op.Signal = int(count(64))
	case name == "minflt" && k == OpExit:
		op.MinFlt = count(math.MaxUint64)
	case name == "majflt" && k == OpExit:
		op.MajFlt = count(math.MaxUint64)
	case name == "ip" && k == OpTouch:
		op.IP = mem.VirtAddr(count(math.MaxUint64))
	case name == "err" && k == OpTouch:
		op.Code = ErrorCode(count(uint64(maxCode))) | CodeKnown
	case name == "base" && k == OpExec:
		start().Base = mem.VirtAddr(count(math.MaxUint64))
	case name == "interp" && k == OpExec:
		start().Interp = value
	case name == "ibase" && k == OpExec:
		start().InterpBase = mem.VirtAddr(count(math.MaxUint64))
	case name == "sp" && k == OpExec:
		start().SP = mem.VirtAddr(count(math.MaxUint64))
	case name == "brk" && k == OpExec:
		start().Brk = mem.VirtAddr(count(math.MaxUint64))
	case name == "arg" && k == OpExec:
		start().Args = append(start().Args, value)
	case name == "kind" && k == OpFile:
		i := slices.Index(fileKindNames[:], value)
		if i < 0 {
			return fmt.Errorf("kind %q is none of %s", clip(value), strings.Join(fileKindNames[:], ", "))
		}
		op.File.Kind = FileKind(i)
	case name == "size" && k == OpFile:
		op.File.Size = count(math.MaxUint64)
	case name == "mtime" && k == OpFile:
		op.File.MTime, err = strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("mtime %q is not a number of nanoseconds", clip(value))
		}
	case name == "dev" && k == OpFile:
		op.File.Dev = count(math.MaxUint64)
	case name == "ino" && k == OpFile:
		op.File.Ino = count(math.MaxUint64)
	case name == "build" && k == OpFile:
		op.File.BuildID = value
	default:
		return fmt.Errorf("%q is no field of %v", clip(name+"="), k)
	}
	return err
}

// args takes words one by one; the first error sticks and makes all that
// follow zero.
type args struct {
	words []word
	err   error
}

func (a *args) more() bool { return a.err == nil && len(a.words) > 0 }

func (a *args) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *args) word(what string) string {
	if !a.more() {
		a.fail(fmt.Errorf("the %s is missing", what))
		return ""
	}
	w := a.words[0]
	a.words = a.words[1:]
	if w.sep {
		a.fail(fmt.Errorf("a second ="))
	}
	return w.text
}

// end returns the first error, or one for a word that nobody took.
func (a *args) end() error {
	if a.more() {
		return fmt.Errorf("%q is one word too many", clip(a.words[0].text))
	}
	return a.err
}

// field reports whether the next word is of the form NAME=VALUE.
func (a *args) field() bool { return a.more() && strings.Contains(a.words[0].text, "=") }

// parsed takes a word that parse reads.
func parsed[T any](a *args, what string, parse func(string) (T, error)) T {
	w := a.word(what)
	var none T
	if a.err != nil {
		return none
	}
	v, err := parse(w)
	if err != nil {
		a.fail(err)
		return none
	}
	return v
}

func (a *args) point() Point {
	return parsed(a, "point", func(s string) (Point, error) {
		p, ok := parsePoint(s)
		if !ok {
			return 0, fmt.Errorf("point %q is none of %s", clip(s), pointList())
		}
		return p, nil
	})
}

func (a *args) path() string {
	p := a.word("file")
	if p == "" {
		a.fail(errors.New("the name of the file is empty"))
	}
	return p
}

func (a *args) number(what string, most uint64) uint64 {
	w := a.word(what)
	if a.err != nil {
		return 0
	}
	n, err := parseNumber(w, most)
	if err != nil {
		a.fail(fmt.Errorf("%s %w", what, err))
	}
	return n
}

func (a *args) addr(what string) mem.VirtAddr { return mem.VirtAddr(a.number(what, math.MaxUint64)) }

func (a *args) prot() mem.Prot {
	return parsed(a, "protection", func(s string) (mem.Prot, error) { return mem.ParseProt(clip(s)) })
}

func (a *args) access() mem.Access {
	return parsed(a, "access", func(s string) (mem.Access, error) { return mem.ParseAccess(clip(s)) })
}

func (a *args) flags() MapFlags { return parsed(a, "flags, private or shared,", parseMapFlags) }

// source takes what mmap maps: anon or FILE+OFFSET.
func (a *args) source(op *Op) {
	w := a.word("source, anon or FILE+OFFSET,")
	if w == "anon" || a.err != nil {
		return
	}
	if !strings.Contains(w, "+") {
		a.fail(fmt.Errorf("source %q is neither anon nor FILE+OFFSET", clip(w)))
		return
	}
	a.place(op, w)
}

// target takes what is touched: ADDR or FILE+OFFSET. No number has a plus.
func (a *args) target(op *Op) {
	if a.more() && strings.Contains(a.words[0].text, "+") {
		a.place(op, a.word("address"))
		return
	}
	op.Addr = a.addr("address")
}

// place reads FILE+OFFSET; the last plus counts, as in /usr/bin/g+++0x1000.
func (a *args) place(op *Op, w string) {
	plus := strings.LastIndexByte(w, '+')
	op.Path = w[:plus]
	if op.Path == "" {
		a.fail(fmt.Errorf("the file is missing in front of %q", clip(w)))
		return
	}
	var err error
	if op.Offset, err = parseNumber(w[plus+1:], math.MaxUint64); err != nil {
		a.fail(fmt.Errorf("%q: offset %w", clip(w), err))
	}
}

// answer takes the answer of an operation of kind k.
func (a *args) answer(k Kind) *Answer {
	w := &Answer{}
	switch k {
	case OpFork, OpVfork, OpThread:
		w.PID = int(a.number("child", MaxPID))
	case OpExec, OpMunmap, OpMprotect, OpMadvise, OpMlock, OpMunlock, OpMlockall, OpMunlockall, OpShmdt:
		if !a.errno(w) && a.number("answer", math.MaxUint64) != 0 {
			a.fail(errors.New("the answer is neither 0 nor an error as in ENOMEM"))
		}
	case OpMmap, OpMremap, OpShmat, OpBrk:
		if !a.errno(w) {
			w.Addr = a.addr("answer")
		}
	case OpTouch:
		text := a.words[0].text
		if slices.Contains(faults, Fault(text)) {
			w.Fault = Fault(a.word("fault"))
			if !a.more() {
				break
			}
		} else if text == "" || text[0] < '0' || text[0] > '9' {
			a.fail(fmt.Errorf("answer %q is neither a byte nor one of %s", clip(text), faultList()))
			break
		}
		w.Byte, w.HasByte = byte(a.number("byte", math.MaxUint8)), true
	default:
		a.fail(errors.New("takes no answer"))
	}
	return w
}

// errno takes an error's name, if one is next.
func (a *args) errno(w *Answer) bool {
	text := a.words[0].text
	if !strings.HasPrefix(text, "E") {
		return false
	}
	var ok bool
	if w.Errno, ok = parseErrno(text); !ok {
		a.fail(fmt.Errorf("answer %q is no error known here", clip(text)))
		return true
	}
	a.word("answer")
	return true
}
