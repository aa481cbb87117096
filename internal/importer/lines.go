package importer

import (
	"bufio"
	"bytes"
	"fmt"
	"io"

	"vmsim/trace"
)

// maxLine is how many bytes a line may have, without its end.
const maxLine = 1 << 20

// lines reads a text line by line.
type lines struct {
	name string
	r    *bufio.Reader
	n    int // number of the line read last, from 1
}

func newLines(name string, r io.Reader) *lines {
	return &lines{name: name, r: bufio.NewReaderSize(r, maxLine+2)}
}

// next returns the next line, without its end and valid until the next call, or
// io.EOF. A last line without an end was cut off, and is an error: half a
// number would be another number.
func (l *lines) next() ([]byte, error) {
	line, err := l.r.ReadSlice('\n')
	if err == io.EOF && len(line) == 0 {
		return nil, err
	}
	l.n++
	switch {
	case err == bufio.ErrBufferFull:
		return nil, l.errorf("the line is longer than %d bytes", maxLine)
	case err == io.EOF:
		return nil, l.errorf("the line is cut off: its end is missing")
	case err != nil:
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	line = bytes.TrimSuffix(line[:len(line)-1], []byte{'\r'})
	if len(line) > maxLine {
		return nil, l.errorf("the line is longer than %d bytes", maxLine)
	}
	return line, nil
}

// errorf returns an error of the line read last.
func (l *lines) errorf(format string, args ...any) error {
	return &trace.SyntaxError{File: l.name, Line: l.n, Msg: fmt.Errorf(format, args...).Error()}
}

// clip shortens s for a message.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
