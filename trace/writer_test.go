package trace

import (
	"bytes"
	"io"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// binary returns ops in the binary form; flush says before which operations a
// block ends.
func binaryForm(t testing.TB, h Header, ops []Op, flush func(i int) bool) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ops {
		if flush != nil && flush(i) {
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Write(&ops[i]); err != nil {
			t.Fatalf("%v: %v", ops[i], err)
		}
	}
	if err := w.Close(h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readAll reads a trace to its end, or to its first error.
func readAll(s Source) (ops []Op, err error) {
	for {
		op, err := s.Next()
		if err == io.EOF {
			return ops, nil
		}
		if err != nil {
			return ops, err
		}
		ops = append(ops, op)
	}
}

// Any operations, in any blocks, are read again as they were: as a stream, by the
// index, and in runs of touches.
func TestContainerRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := make([]Op, rapid.IntRange(0, 12).Draw(t, "ops"))
		for i := range ops {
			ops[i] = anyOp(t, i == 0)
			if i > 0 && rapid.Bool().Draw(t, "another touch") {
				ops[i] = anyTouch(t, ops[i-1])
			}
		}
		cuts := rapid.SliceOfN(rapid.Bool(), len(ops), len(ops)).Draw(t, "blocks")
		var b bytes.Buffer
		w, err := NewWriter(&b, Header{Host: "h"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range ops {
			if cuts[i] {
				if err := w.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Write(&ops[i]); err != nil {
				t.Fatalf("%v: %v", ops[i], err)
			}
		}
		final := Header{Host: "h", Lost: 3, Whole: true}
		if err := w.Close(final); err != nil {
			t.Fatal(err)
		}
		s, err := Open("rapid", bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		check := func(how string, got []Op, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", how, err)
			}
			for i := range got {
				if got[i].Line != i+1 {
					t.Fatalf("%s: operation %d has line %d", how, i, got[i].Line)
				}
			}
			if d := cmp.Diff(append([]Op(nil), ops...), noLines(got)); d != "" {
				t.Fatalf("%s: -written +read\n%s", how, d)
			}
		}
		got, err := readAll(s)
		check("stream", got, err)
		if h, err := s.Header(); err != nil || !cmp.Equal(h, final) {
			t.Fatalf("header %+v, %v", h, err)
		}
		x, err := OpenIndexed("rapid", bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatal(err)
		}
		got, err = readAll(x.Reader(nil))
		check("index", got, err)
		got, err = readRuns(x.Reader(nil), rapid.IntRange(1, 4).Draw(t, "at once"))
		check("runs", got, err)
	})
}

// anyTouch draws a touch by the task of op, or a near one.
func anyTouch(t *rapid.T, op Op) Op {
	for {
		next := anyOp(t, false)
		if next.Kind != OpTouch {
			continue
		}
		if op.PID != 0 {
			next.PID, next.TID = op.PID, op.TID
		}
		if next.Path = ""; next.Value != 0 {
			next.Value = DefaultValue
		}
		next.Offset, next.Want = 0, nil
		return next
	}
}

// readRuns reads a trace as far as possible with Touches.
func readRuns(r *Reader, n int) (ops []Op, err error) {
	run := Touches{Touch: make([]Touch, 0, n)}
	for {
		for r.Touches(&run) {
			for i, touch := range run.Touch {
				op := Op{Line: int(run.First) + i + 1, PID: run.PID, TID: run.TID, Kind: OpTouch, Access: touch.Access,
					Addr: touch.Addr, Value: touch.Value}
				if len(run.Times) > 0 {
					op.Time = run.Times[i]
				}
				if len(run.IPs) > 0 {
					op.IP = run.IPs[i]
				}
				if len(run.Codes) > 0 {
					op.Code = run.Codes[i]
				}
				ops = append(ops, op)
			}
		}
		op, err := r.Next()
		if err == io.EOF {
			return ops, nil
		}
		if err != nil {
			return ops, err
		}
		ops = append(ops, op)
	}
}

// TestNoMore: each field that a touch in a run has no room for keeps it out of one,
// also one that Op gets later.
func TestNoMore(t *testing.T) {
	has := map[string]bool{"Line": true, "Time": true, "PID": true, "TID": true, "Kind": true, "Addr": true,
		"Access": true, "Value": true, "IP": true, "Code": true}
	for i := range reflect.TypeFor[Op]().NumField() {
		var op Op
		f := reflect.ValueOf(&op).Elem().Field(i)
		name := reflect.TypeFor[Op]().Field(i).Name
		switch f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Pointer:
			f.Set(reflect.New(f.Type().Elem()))
		case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			f.SetInt(1)
		default:
			f.SetUint(1)
		}
		if noMore(&op) != has[name] {
			t.Errorf("with %s: %v", name, !has[name])
		}
	}
}
