package trace

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"vmsim/mem"
)

// Magic is the first line of the text form.
const Magic = "vmsim-trace 1"

// Format returns the canonical text of ops: the header, then one line each.
// Parsing it gives ops again, but for their Line. The error is that of the
// first Op whose Check fails.
func Format(ops []Op) (string, error) {
	var b strings.Builder
	e, _ := NewEncoder(&b, Header{}) // neither fails
	for i, op := range ops {
		if err := op.Check(); err != nil {
			return "", fmt.Errorf("operation %d: %w", i, err)
		}
		e.Encode(op)
	}
	return b.String(), nil
}

// Encoder writes the text form, line by line.
type Encoder struct {
	w    io.Writer
	line []byte
}

// NewEncoder returns an Encoder that has written the header.
func NewEncoder(w io.Writer, h Header) (*Encoder, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	text := Magic + "\n"
	for _, line := range h.lines() {
		text += line + "\n"
	}
	_, err := io.WriteString(w, text)
	return &Encoder{w: w}, err
}

// Encode writes op. The error is that of Check, or of the writer.
func (e *Encoder) Encode(op Op) error {
	if err := op.Check(); err != nil {
		return err
	}
	e.line = append(op.append(e.line[:0]), '\n')
	_, err := e.w.Write(e.line)
	return err
}

// String returns op's line, without its end, in canonical form. An Op whose
// Check fails gives a line that need not parse.
func (op Op) String() string { return string(op.append(nil)) }

// Brief is String without what messages need not repeat: the time, and where a
// program was put, with its arguments.
func (op Op) Brief() string {
	op.Time, op.Start = 0, nil
	return op.String()
}

// append appends op's line to b.
func (op *Op) append(b []byte) []byte {
	if op.Time != 0 {
		b = fmt.Appendf(b, "@%d ", op.Time)
	}
	if !op.Kind.ofTrace() {
		b = strconv.AppendInt(b, int64(op.PID), 10)
		if op.TID != 0 {
			b = fmt.Appendf(b, "/%d", op.TID)
		}
		b = append(b, ' ')
	}
	b = append(b, op.Kind.String()...)
	l := line{b}
	op.operands(&l)
	op.fields(&l)
	if op.Want != nil {
		l.add("=")
		l.add(op.Want.String())
	}
	return l.b
}

// line is a line that is being written.
type line struct{ b []byte }

func (l *line) add(word string)  { l.b = append(append(l.b, ' '), word...) }
func (l *line) number(n uint64)  { l.add(number(n)) }
func (l *line) decimal(n uint64) { l.add(strconv.FormatUint(n, 10)) }

// text, hex and count add NAME=VALUE where the value is not the default.
func (l *line) text(name, v string) {
	if v != "" {
		l.add(quote(name + "=" + v))
	}
}

func (l *line) hex(name string, n uint64) {
	if n != 0 {
		l.add(name + "=" + number(n))
	}
}

func (l *line) count(name string, n uint64) {
	if n != 0 {
		l.add(name + "=" + strconv.FormatUint(n, 10))
	}
}

// operands adds the words that have their place.
func (op *Op) operands(l *line) {
	switch op.Kind {
	case OpMark, OpNote:
		l.add(strconv.Quote(op.Name))
	case OpBoot, OpExec, OpFile:
		if op.Path != "" {
			l.add(quote(op.Path))
		}
	case OpExit:
		if op.Status != 0 {
			l.add(strconv.Itoa(op.Status))
		}
	case OpMmap:
		l.number(uint64(op.Addr))
		l.number(op.Len)
		l.add(op.Prot.String())
		l.add(op.Flags.String())
		l.add(op.source())
	case OpMunmap, OpMprotect, OpMremap, OpMadvise, OpMlock, OpMunlock, OpShmat:
		l.number(uint64(op.Addr))
		l.number(op.Len)
		switch op.Kind {
		case OpMprotect:
			l.add(op.Prot.String())
		case OpShmat:
			l.add(op.Prot.String())
			l.add(quote(op.Path))
		case OpMremap:
			l.number(op.NewLen)
			l.add(op.Remap.String())
		case OpMadvise:
			l.add(op.Advice.String())
		}
	case OpBrk, OpShmdt:
		l.number(uint64(op.Addr))
	case OpTouch:
		if op.Access <= mem.Exec {
			l.add(op.Access.Letter())
		} else {
			l.add("?")
		}
		if op.Path == "" {
			l.number(uint64(op.Addr))
		} else {
			l.add(place(op.Path, op.Offset))
		}
		if op.Access == mem.Write && op.Value != DefaultValue {
			l.add(fmt.Sprintf("0x%02x", op.Value))
		}
	case OpArea:
		l.add(op.Point.String())
		l.add(span(mem.Range{Start: op.Addr, End: op.Addr + mem.VirtAddr(op.Len)}))
		l.add(op.Prot.String())
		l.add(op.Flags.String())
		l.add(op.source())
	case OpPresent:
		l.add(op.Point.String())
		if op.Set != nil && len(op.Set.Runs) > 0 {
			l.add(op.Set.String())
		}
	case OpLost:
		l.decimal(op.Count)
	}
}

// source returns what mmap maps or an area is of: anon, FILE+OFFSET or [NAME].
func (op *Op) source() string {
	switch {
	case op.Path != "":
		return place(op.Path, op.Offset)
	case op.Name != "":
		return quote(op.Name)
	}
	return "anon"
}

// fields adds the words of the form NAME=VALUE.
func (op *Op) fields(l *line) {
	switch op.Kind {
	case OpFork, OpVfork, OpThread, OpMlock, OpMlockall:
		l.hex("flags", op.Bits)
	case OpMremap:
		l.hex("to", uint64(op.To))
	case OpExit:
		l.count("signal", uint64(op.Signal))
		l.count("minflt", op.MinFlt)
		l.count("majflt", op.MajFlt)
	case OpTouch:
		l.hex("ip", uint64(op.IP))
		if op.Code&CodeKnown != 0 {
			l.add(fmt.Sprintf("err=%d", op.Code&maxCode))
		}
	case OpExec:
		if s := op.Start; s != nil {
			l.add("base=" + number(uint64(s.Base)))
			l.text("interp", s.Interp)
			l.hex("ibase", uint64(s.InterpBase))
			l.hex("sp", uint64(s.SP))
			l.hex("brk", uint64(s.Brk))
			for _, a := range s.Args {
				l.add(quote("arg=" + a))
			}
		}
	case OpFile:
		if f := op.File; f != nil {
			if f.Kind != RegularFile {
				l.text("kind", f.Kind.String())
			}
			l.count("size", f.Size)
			if f.MTime != 0 {
				l.add("mtime=" + strconv.FormatInt(f.MTime, 10))
			}
			l.hex("dev", f.Dev)
			l.count("ino", f.Ino)
			l.text("build", f.BuildID)
		}
	}
}

// number formats an address or a length: hex, but 0 as 0.
func number(n uint64) string {
	if n == 0 {
		return "0"
	}
	return "0x" + strconv.FormatUint(n, 16)
}

// place formats FILE+OFFSET.
func place(path string, off uint64) string {
	return quote(path + "+0x" + strconv.FormatUint(off, 16))
}

// quote returns s as a word, in double quotes where it needs them.
func quote(s string) string {
	if s == "" || s == "=" || !plain(s) {
		return strconv.Quote(s)
	}
	return s
}

// plain reports whether s may stand in a line without quotes.
func plain(s string) bool {
	for i, r := range s {
		switch {
		case r == ' ' || r == '#' || r == '"' || r == '\\' || !strconv.IsPrint(r):
			return false
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false // not UTF-8
			}
		}
	}
	return true
}

// clip shortens s for a message.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
