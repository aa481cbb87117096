package report

import (
	"encoding/csv"
	"fmt"
)

// csvWriter writes a header before the first row (RFC 4180, lines end with LF).
type csvWriter struct{ header bool }

func (c *csvWriter) row(w *Writer, it Item) error {
	if err := c.close(w); err != nil {
		return err
	}
	cells := make([]string, len(w.doc.Columns))
	for i, cell := range it.Cells {
		cells[i] = raw(cell)
	}
	return c.write(w, cells)
}

// close writes the header if there was no row.
func (c *csvWriter) close(w *Writer) error {
	if c.header {
		return nil
	}
	c.header = true
	var keys []string
	for _, col := range w.doc.Columns {
		keys = append(keys, col.Key)
	}
	return c.write(w, keys)
}

func (*csvWriter) write(w *Writer, cells []string) error {
	out := csv.NewWriter(w.w)
	if err := out.Write(cells); err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

// raw is a cell for programs.
func raw(cell any) string {
	switch c := cell.(type) {
	case nil:
		return ""
	case Size:
		return fmt.Sprint(uint64(c))
	case Mark:
		return c.Text
	}
	return fmt.Sprint(cell)
}
