package perf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrFormat: the text is not the description of a tracepoint.
var ErrFormat = errors.New("not the format of a tracepoint")

// maxFields bounds how many fields a tracepoint may have. Those of Linux 6.18
// have fewer than 60.
const maxFields = 512

// Field is one of the fields of a tracepoint's raw data.
type Field struct {
	Name   string // without the bounds of an array
	Type   string // as in C: unsigned long
	Offset int    // in bytes from the start of the raw data
	Size   int    // in bytes, of the whole array
	Signed bool
}

// Tracepoint is how the raw data of one tracepoint's samples is laid out.
type Tracepoint struct {
	System, Name string // exceptions, page_fault_user
	ID           uint64 // what Attr.Config has
	Fields       []Field
}

// String returns system:name.
func (t *Tracepoint) String() string { return t.System + ":" + t.Name }

// Field returns the field of that name, and whether there is one.
func (t *Tracepoint) Field(name string) (Field, bool) {
	for _, f := range t.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// ParseTracepoint reads the text of events/SYSTEM/NAME/format in tracefs, which
// perf.data files carry too. The name in the text counts. The errors are ErrFormat.
func ParseTracepoint(system, text string) (*Tracepoint, error) {
	t := &Tracepoint{System: system}
	id := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "name":
			t.Name = strings.TrimSpace(value)
		case "ID":
			n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%w: ID %q", ErrFormat, value)
			}
			t.ID, id = n, true
		case "field", "field special":
			f, err := parseField(line)
			if err != nil {
				return nil, err
			}
			if len(t.Fields) == maxFields {
				return nil, fmt.Errorf("%w: more than %d fields", ErrFormat, maxFields)
			}
			t.Fields = append(t.Fields, f)
		}
	}
	if t.Name == "" || !id {
		return nil, fmt.Errorf("%w: it has no name or no ID", ErrFormat)
	}
	return t, nil
}

// parseField reads a line like
//
//	field:unsigned long args[6];	offset:16;	size:48;	signed:0;
func parseField(line string) (Field, error) {
	var f Field
	seen := 0
	for part := range strings.SplitSeq(line, ";") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), ":")
		if !ok {
			continue
		}
		var err error
		switch key {
		case "field", "field special":
			decl, _, _ := strings.Cut(value, "[")
			i := strings.LastIndexAny(decl, " *\t")
			f.Type, f.Name = strings.TrimSpace(decl[:i+1]), decl[i+1:]
		case "offset":
			f.Offset, err = strconv.Atoi(value)
			seen++
		case "size":
			f.Size, err = strconv.Atoi(value)
			seen++
		case "signed":
			f.Signed = value == "1"
		}
		if err != nil {
			return Field{}, fmt.Errorf("%w: %q", ErrFormat, line)
		}
	}
	// Raw data is at most a record, which is shorter than 64 KiB.
	if seen != 2 || f.Type == "" || f.Name == "" || f.Offset < 0 || f.Offset > maxRecord || f.Size < 0 || f.Size > maxRecord {
		return Field{}, fmt.Errorf("%w: %q", ErrFormat, line)
	}
	return f, nil
}

// load returns the integer of size bytes at off, with its sign. size is 1, 2, 4 or 8;
// raw is long enough.
func load(raw []byte, off, size int, signed bool) uint64 {
	switch b := raw[off:]; size {
	case 8:
		return binary.LittleEndian.Uint64(b)
	case 4:
		if v := binary.LittleEndian.Uint32(b); signed {
			return uint64(int64(int32(v)))
		} else {
			return uint64(v)
		}
	case 2:
		if v := binary.LittleEndian.Uint16(b); signed {
			return uint64(int64(int16(v)))
		} else {
			return uint64(v)
		}
	default:
		if signed {
			return uint64(int64(int8(b[0])))
		}
		return uint64(b[0])
	}
}
