package verify_test

import (
	"errors"
	"testing"

	"vmsim/mem"
	"vmsim/verify"
)

// TestErr: what the witness could not compare is no mismatch, and is not
// forgotten; a mismatch is not among it.
func TestErr(t *testing.T) {
	file := elf{segs: []seg{{0x400000, 0, 4 * page, 4 * page, ro}}}.file(4 * page)
	window := func(f mem.File, bias uint64, n int) mem.Window {
		return mem.Window{PID: 2, Base: 0x400000, File: f, Bias: bias, Data: make([]byte, n)}
	}
	for _, c := range []struct {
		name string
		show func(w *verify.Witness) error
		kept bool
	}{
		{"a mismatch", func(w *verify.Witness) error { return w.Assembled(window(file, 0, mem.HugeSize)) }, false},
		{"no file", func(w *verify.Witness) error { return w.Assembled(window(nil, 0, mem.HugeSize)) }, true},
		{"short", func(w *verify.Witness) error { return w.Assembled(window(file, 0, page)) }, true},
		{"another bias", func(w *verify.Witness) error { return w.Assembled(window(file, page, mem.HugeSize)) }, true},
		{"no image", func(w *verify.Witness) error {
			return w.Assembled(window(mem.NewBytesFile("text", []byte("text")), 0, mem.HugeSize))
		}, true},
		{"a wrong page", func(w *verify.Witness) error { return w.Mapped(2, file, 0, 0x400000, make([]byte, page)) }, false},
		{"half a page", func(w *verify.Witness) error { return w.Mapped(2, file, 0, 0x400000, make([]byte, page/2)) }, true},
		{"a page of another bias", func(w *verify.Witness) error { return w.Mapped(2, file, 1, 0x400000, make([]byte, page)) }, true},
	} {
		w := verify.NewWitness(nil)
		if w.Err() != nil {
			t.Fatalf("a new witness: %v", w.Err())
		}
		err := c.show(w)
		if err == nil || errors.Is(err, verify.ErrMismatch) == c.kept {
			t.Errorf("%s: error %v", c.name, err)
		}
		if got := w.Err(); (got != nil) != c.kept || c.kept && got != err {
			t.Errorf("%s: Err is %v, the error was %v", c.name, got, err)
		}
		first := w.Err()
		if w.Assembled(window(nil, 0, page)); c.kept && w.Err() != first {
			t.Errorf("%s: the first error is lost", c.name)
		}
	}
}
