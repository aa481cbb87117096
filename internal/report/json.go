package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

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

// json writes one object: the list, then the fields of the summary.
func (w *Writer) json(s Summary) error {
	objects := make([]any, len(w.items))
	for i, it := range w.items {
		objects[i] = it.Object
	}
	var list, sum, out bytes.Buffer
	if err := WriteJSONL(&list, objects); err != nil {
		return err
	}
	if err := WriteJSONL(&sum, s.Object); err != nil {
		return err
	}
	fields, ok := bytes.CutPrefix(bytes.TrimSpace(sum.Bytes()), []byte("{"))
	switch {
	case s.Object == nil:
		fields = []byte("}")
	case !ok:
		return fmt.Errorf("summary %T is no JSON object", s.Object)
	}
	comma := ","
	if len(fields) == 1 {
		comma = ""
	}
	all := fmt.Appendf(nil, "{%q:%s%s%s", w.doc.List, bytes.TrimSpace(list.Bytes()), comma, fields)
	if err := json.Indent(&out, all, "", "  "); err != nil {
		return err
	}
	out.WriteByte('\n')
	_, err := out.WriteTo(w.w)
	return err
}
