// Package report renders results: as a table for people, as CSV, Markdown,
// JSON, JSONL or JUnit for programs. It knows nothing of what it renders.
//
// A command describes its columns once (Doc), adds one Item a result, and
// closes with a Summary. Which of their parts are written, and when, is the
// business of the format:
//
//	table     cells for people, aligned, at the end; notes; the summary's lines
//	markdown  the same as a Markdown document
//	csv       cells for programs, as they come; no summary
//	json      one value: the summary's fields with the list of objects; at the end
//	jsonl     one object a line, as they come; the last one is the summary
//	junit     one test case an item, the summary's fields as properties; at the end
package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Format is how results are written.
type Format string

const (
	Table    Format = "table"
	JSON     Format = "json"
	JSONL    Format = "jsonl"
	CSV      Format = "csv"
	Markdown Format = "markdown"
	JUnit    Format = "junit"
)

// Formats are the names that ParseFormat knows.
var Formats = []string{string(Table), string(JSON), string(JSONL), string(CSV), string(Markdown), string(JUnit)}

// ParseFormat reads the value of -o: one of Formats, or of what else a command
// writes.
func ParseFormat(s string, formats []string) (Format, error) {
	if slices.Contains(formats, s) {
		return Format(s), nil
	}
	return "", fmt.Errorf("format %q is none of %s", s, strings.Join(formats, ", "))
}

// Streams reports whether results are written as they come, not at the end.
func (f Format) Streams() bool { return f == JSONL || f == CSV }

// Doc describes a report before its first result.
type Doc struct {
	Name    string // "vmsim verify": names the test suite
	List    string // json: the name of the list of objects
	Columns []Column
	Above   []string // table, markdown: lines in front of all else
}

// Column is a column of the cells.
type Column struct {
	Key   string // csv: header
	Title string // table, markdown: header; "" leaves the column to csv
	Text  bool   // aligned to the left; figures go to the right
	Rare  bool   // table, markdown: left out where it is 0 in all rows
}

// Item is one result.
type Item struct {
	Section string   // table, markdown: a new value begins a new table below this title
	Cells   []any    // one for each column; the last ones may be missing. See Size and Mark
	Object  any      // json, jsonl
	Notes   []string // table, markdown: lines below the table
	Case    Case     // junit
}

// Size is a cell with a number of bytes: 4.6 MiB for people, 4816896 for
// programs.
type Size uint64

// Mark is a cell whose colour tells what it means, where there are colours.
type Mark struct {
	Text string
	Tone Tone
}

// Tone is what a Mark means.
type Tone int

const (
	Plain Tone = iota
	Good       // green
	Bad        // red
	Weak       // faint
)

// Case is an Item as a JUnit test case. It passed where both Failure and
// Skipped are empty.
type Case struct {
	Class   string
	Name    string
	Failure string // message
	Skipped string // message
	Body    string // lines below the failure
}

// Summary ends a report.
type Summary struct {
	Object any      // json, jsonl, junit: a struct, with a field `type` for jsonl
	Lines  []string // table, markdown: below all else
}

// Writer writes one report. Its methods return the first error of writing.
type Writer struct {
	w      io.Writer
	format Format
	color  bool
	doc    Doc
	csv    csvWriter
	items  []Item // kept back
}

// NewWriter returns a Writer; color lets a table have colours.
func NewWriter(w io.Writer, f Format, color bool, doc Doc) *Writer {
	return &Writer{w: w, format: f, color: color, doc: doc}
}

// Add takes a result.
func (w *Writer) Add(it Item) error {
	switch w.format {
	case JSONL:
		return WriteJSONL(w.w, it.Object)
	case CSV:
		return w.csv.row(w, it)
	case JSON:
		it = Item{Object: it.Object}
	case JUnit:
		it = Item{Case: it.Case}
	}
	w.items = append(w.items, it)
	return nil
}

// Columns returns the columns of the cells.
func (w *Writer) Columns() []Column { return w.doc.Columns }

// Items returns how many results wait for Close.
func (w *Writer) Items() int { return len(w.items) }

// Close writes what was kept back, and the summary.
func (w *Writer) Close(s Summary) error {
	switch w.format {
	case JSONL:
		if s.Object == nil {
			return nil
		}
		return WriteJSONL(w.w, s.Object)
	case CSV:
		return w.csv.close(w)
	case JSON:
		return w.json(s)
	case JUnit:
		return w.junit(s)
	}
	return w.text(s)
}
