// Package report renders results: as a table for people, as JSON or JSONL for
// programs. It knows nothing of what it renders.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Format is how results are written.
type Format string

const (
	Table Format = "table"
	JSON  Format = "json"  // one indented value
	JSONL Format = "jsonl" // one object a line
)

// Formats are the names that ParseFormat knows.
var Formats = []string{string(Table), string(JSON), string(JSONL)}

// ParseFormat reads the value of -o.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Table, JSON, JSONL:
		return f, nil
	}
	return "", fmt.Errorf("format %q is none of %s", s, strings.Join(Formats, ", "))
}

// Rows is a table with its header.
type Rows struct {
	Header []string
	Left   int // the first columns, aligned to the left; all others are figures
	Rows   [][]any
}

// Add appends a row.
func (r *Rows) Add(cells ...any) { r.Rows = append(r.Rows, cells) }

// Write renders r as plain text in aligned columns.
func (r *Rows) Write(w io.Writer) error {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	var columns []table.ColumnConfig
	for i := r.Left; i < len(r.Header); i++ {
		columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	header := table.Row{}
	for _, h := range r.Header {
		header = append(header, h)
	}
	t.AppendHeader(header)
	for _, cells := range r.Rows {
		row := table.Row{}
		for _, c := range cells {
			if s, ok := c.(string); ok {
				c = Printable(s)
			}
			row = append(row, c)
		}
		t.AppendRow(row)
	}
	t.SuppressTrailingSpaces()
	_, err := fmt.Fprintln(w, t.Render())
	return err
}

// WriteJSON writes v as one indented JSON value.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// WriteJSONL writes v as one line of JSON.
func WriteJSONL(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Printable is s with everything that a terminal would not show as a character
// (line ends, control sequences, broken UTF-8) escaped as in Go: a file name
// may hold any of it.
func Printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		_, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// Count formats n things: 1 window, 2 windows, 0 processes.
func Count(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "s"):
		noun += "es"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Bytes formats n with a binary unit: 4.0 GiB.
func Bytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// ParseBytes reads a size: 4096, 64K, 512M, 4GiB. It returns an error for what
// is negative, no number, or does not fit 64 bits.
func ParseBytes(s string) (uint64, error) {
	var n uint64
	i := 0
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		d := uint64(s[i] - '0')
		if n > (1<<64-1-d)/10 {
			return 0, fmt.Errorf("size %q does not fit 64 bits", s)
		}
		n = n*10 + d
	}
	unit := strings.ToUpper(strings.TrimSpace(s[i:]))
	unit = strings.TrimSuffix(strings.TrimSuffix(unit, "B"), "I")
	shift := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
	by, ok := shift[unit]
	if i == 0 || !ok {
		return 0, fmt.Errorf("size %q is not like 4096, 64K, 512M or 4GiB", s)
	}
	if n<<by>>by != n {
		return 0, fmt.Errorf("size %q does not fit 64 bits", s)
	}
	return n << by, nil
}
