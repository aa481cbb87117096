package report

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Rows is a table with its header.
type Rows struct {
	Header []string
	Left   int  // the first columns, aligned to the left; all others are figures
	Rare   bool // columns of figures that are 0 in all rows are left out
	Rows   [][]any
}

// Add appends a row.
func (r *Rows) Add(cells ...any) { r.Rows = append(r.Rows, cells) }

// Write renders r as plain text in aligned columns.
func (r *Rows) Write(w io.Writer) error {
	var columns []Column
	for i, h := range r.Header {
		columns = append(columns, Column{Title: h, Text: i < r.Left, Rare: r.Rare && i >= r.Left})
	}
	_, err := fmt.Fprintln(w, render(columns, r.Rows, false, false))
	return err
}

// render draws rows in aligned columns, or as a Markdown table. Columns without
// a title are left out, and rare ones that are 0 in all rows.
func render(columns []Column, rows [][]any, markdown, color bool) string {
	columns = slices.Clone(columns)
	for i := range columns {
		if columns[i].Rare && !slices.ContainsFunc(rows, func(row []any) bool { return i < len(row) && row[i] != 0 }) {
			columns[i].Title = ""
		}
	}
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	var configs []table.ColumnConfig
	var header table.Row
	for _, c := range columns {
		if c.Title == "" {
			continue
		}
		header = append(header, c.Title)
		if !c.Text {
			configs = append(configs, table.ColumnConfig{Number: len(header), Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.SetColumnConfigs(configs)
	t.AppendHeader(header)
	for _, cells := range rows {
		row := table.Row{}
		for i, c := range cells {
			if columns[i].Title != "" {
				row = append(row, human(c, color))
			}
		}
		t.AppendRow(row)
	}
	if markdown {
		return t.RenderMarkdown()
	}
	t.SuppressTrailingSpaces()
	return t.Render()
}

// human is a cell for people.
func human(cell any, color bool) any {
	switch c := cell.(type) {
	case nil:
		return ""
	case string:
		return Printable(c)
	case Size:
		return Bytes(uint64(c))
	case Mark:
		s := Printable(c.Text)
		if color && c.Tone != Plain {
			// Escaped here: the package's own functions ask the environment.
			return map[Tone]string{Good: "\x1b[32m", Bad: "\x1b[31m", Weak: "\x1b[2m"}[c.Tone] + s + "\x1b[0m"
		}
		return s
	}
	return cell
}

// text writes the table, or Markdown: the lines above, for each section its rows
// and its notes, then the summary.
func (w *Writer) text(s Summary) error {
	markdown := w.format == Markdown
	var b strings.Builder
	gap := func() {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
	}
	lines := func(ls []string) {
		if len(ls) == 0 {
			return
		}
		gap()
		if markdown {
			b.WriteString("```\n")
			defer b.WriteString("```\n")
		}
		for _, l := range ls {
			b.WriteString(l + "\n")
		}
	}
	lines(w.doc.Above)
	for i := 0; i < len(w.items); {
		section := w.items[i].Section
		var rows [][]any
		var notes []string
		for ; i < len(w.items) && w.items[i].Section == section; i++ {
			if w.items[i].Cells != nil {
				rows = append(rows, w.items[i].Cells)
			}
			notes = append(notes, w.items[i].Notes...)
		}
		if section != "" {
			gap()
			if markdown {
				b.WriteString("## ")
			}
			b.WriteString(Printable(section) + "\n")
			if markdown {
				b.WriteByte('\n')
			}
		} else {
			gap()
		}
		if len(rows) > 0 {
			b.WriteString(render(w.doc.Columns, rows, markdown, w.color && !markdown) + "\n")
		}
		lines(notes)
	}
	lines(s.Lines)
	_, err := io.WriteString(w.w, b.String())
	return err
}
