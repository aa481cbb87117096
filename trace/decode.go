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
	header bool
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
	for d.err == nil {
		var op Op
		var ok bool
		if op, ok, d.err = d.next(); ok && d.err == nil {
			return op, nil
		}
	}
	return Op{}, d.err
}

// All yields the remaining operations; an error comes last. The end of the
// trace is none.
func (d *Decoder) All() iter.Seq2[Op, error] {
	return func(yield func(Op, error) bool) {
		for {
			op, err := d.Next()
			if err == io.EOF || !yield(op, err) || err != nil {
				return
			}
		}
	}
}

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
		case err == io.EOF && !d.header:
			d.line++
			return op, false, d.errorf("the line %q is missing", Header)
		case err == io.EOF:
			return op, false, err
		}
		return op, false, fmt.Errorf("%s: %w", d.name, err)
	}
	d.line++
	line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if d.words, err = split(d.words[:0], string(line)); err != nil {
		return op, false, d.errorf("%w", err)
	}
	if len(d.words) == 0 {
		return op, false, nil
	}
	if !d.header {
		d.header = true
		return op, false, d.checkHeader()
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

func (d *Decoder) checkHeader() error {
	name, version, _ := strings.Cut(Header, " ")
	switch {
	case d.words[0].text != name:
		return d.errorf("%q: the first line must be %q", clip(d.words[0].text), Header)
	case len(d.words) != 2:
		return d.errorf("the first line must be %q", Header)
	case d.words[1].text != version:
		return d.errorf("version %q of the format is unknown: this program reads %s", clip(d.words[1].text), version)
	}
	return nil
}

// parseOp reads the words of one line.
func parseOp(words []word) (Op, error) {
	var op Op
	if words[0].text == "test" {
		op.Kind = OpMark
	} else {
		pid, err := parseNumber(words[0].text, MaxPID)
		if err != nil || pid == 0 {
			if _, ok := parseKind(words[0].text); ok {
				return op, fmt.Errorf("%q: the process that does it is missing in front", words[0].text)
			}
			return op, fmt.Errorf("%q is neither a process, 1 to %d, nor test", clip(words[0].text), MaxPID)
		}
		if len(words) == 1 {
			return op, fmt.Errorf("process %d does nothing: the operation is missing", pid)
		}
		op.PID = int(pid)
		var ok bool
		if op.Kind, ok = parseKind(words[1].text); !ok {
			return op, fmt.Errorf("operation %q is none of %s", clip(words[1].text), strings.Join(kindNames[OpBoot:], ", "))
		}
		words = words[1:]
	}
	if err := op.parse(words[1:]); err != nil {
		return op, fmt.Errorf("%v: %w", op.Kind, err)
	}
	return op, op.Check()
}

// parse reads operands and answer into op, whose Kind is known.
func (op *Op) parse(words []word) error {
	var answer []word
	equals := slices.IndexFunc(words, func(w word) bool { return w.sep })
	if equals >= 0 {
		words, answer = words[:equals], words[equals+1:]
	}
	a := &args{words: words}
	switch op.Kind {
	case OpMark:
		op.Name = a.word("name")
	case OpBoot:
		if a.more() {
			op.Path = a.path()
		}
	case OpExec:
		op.Path = a.path()
	case OpExit:
		if a.more() {
			op.Status = int(a.number("status", math.MaxUint8))
		}
	case OpMmap:
		op.Addr = a.addr("address")
		op.Len = a.number("length", math.MaxUint64)
		op.Prot = a.prot()
		op.Flags = a.flags()
		a.source(op)
	case OpMunmap, OpMprotect:
		op.Addr = a.addr("address")
		op.Len = a.number("length", math.MaxUint64)
		if op.Kind == OpMprotect {
			op.Prot = a.prot()
		}
	case OpBrk:
		op.Addr = a.addr("address")
	case OpTouch:
		op.Access = a.access()
		a.target(op)
		if op.Access == mem.Write {
			op.Value = DefaultValue
			if a.more() {
				op.Value = byte(a.number("value", math.MaxUint8))
			}
		}
	}
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
	w := a.word("protection")
	p, err := mem.ParseProt(clip(w))
	if err != nil {
		a.fail(err)
	}
	return p
}

func (a *args) access() mem.Access {
	w := a.word("access")
	x, err := mem.ParseAccess(clip(w))
	if err != nil {
		a.fail(err)
	}
	return x
}

func (a *args) flags() MapFlags {
	w := a.word("flags, private or shared,")
	f, err := parseMapFlags(w)
	if err != nil {
		a.fail(err)
	}
	return f
}

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
	case OpFork:
		w.PID = int(a.number("child", MaxPID))
	case OpExec, OpMunmap, OpMprotect:
		if !a.errno(w) && a.number("answer", math.MaxUint64) != 0 {
			a.fail(errors.New("the answer is neither 0 nor an error as in ENOMEM"))
		}
	case OpMmap, OpBrk:
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
