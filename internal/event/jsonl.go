package event

import (
	"bufio"
	"encoding/json"
	"io"
)

// Writer writes events as JSONL. Errors stick: Close returns the first.
type Writer struct {
	w      *bufio.Writer
	counts map[string]int
	err    error
}

// NewWriter returns a Writer on w that has written the header.
func NewWriter(w io.Writer) *Writer {
	ew := &Writer{w: bufio.NewWriterSize(w, 1<<16), counts: map[string]int{}}
	ew.line("header", struct {
		Schema int    `json:"schema"`
		Tool   string `json:"tool"`
	}{Schema, "vmsim"})
	return ew
}

// Emit writes e.
func (w *Writer) Emit(e Event) {
	w.counts[e.Type()]++
	w.line(e.Type(), e)
}

// line writes v's object with a "type" field in front.
func (w *Writer) line(typ string, v any) {
	if w.err != nil {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		w.err = err
		return
	}
	w.w.WriteString(`{"type":"` + typ + `"`)
	if len(b) > 2 { // more than {}
		w.w.WriteByte(',')
	}
	w.w.Write(b[1:])
	w.err = w.w.WriteByte('\n')
}

// Close writes the summary, the number of events by type, and flushes. It does
// not close the underlying writer.
func (w *Writer) Close() error {
	w.line("summary", struct {
		Events map[string]int `json:"events"`
	}{w.counts})
	if w.err != nil {
		return w.err
	}
	return w.w.Flush()
}
