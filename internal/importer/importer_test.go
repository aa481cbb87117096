package importer

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/trace"
)

// imported is what an import came to.
type imported struct {
	ops    []trace.Op
	header trace.Header
	err    error
}

// run imports text, and fails the test where an operation or the header has no
// text form.
func run(t testing.TB, imp Importer, r io.Reader) imported {
	t.Helper()
	var got imported
	got.header, got.err = imp("x.log", r, func(op *trace.Op) error {
		if err := op.Check(); err != nil {
			t.Fatalf("%+v: %v", op, err)
		}
		got.ops = append(got.ops, *op)
		return nil
	})
	if err := got.header.Check(); err != nil {
		t.Fatalf("header: %v", err)
	}
	if got.err != nil && got.header.Whole {
		t.Fatalf("a log with an error (%v) is called whole", got.err)
	}
	return got
}

// text returns the operations, a line each, without the first where it is the fork
// of process 2.
func (i imported) text() string {
	var b strings.Builder
	for n, op := range i.ops {
		if line := op.String(); n > 0 || line != "1 fork = 2" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// missing reports whether the header has a sentence that starts with s.
func (i imported) missing(s string) bool {
	for _, m := range i.header.Missing {
		if strings.HasPrefix(m, s) {
			return true
		}
	}
	return false
}

func TestFrom(t *testing.T) {
	for _, kind := range Kinds() {
		if imp, err := From(kind); err != nil || imp == nil {
			t.Errorf("From(%q): %v", kind, err)
		}
	}
	if diff := cmp.Diff([]string{"lackey", "perf", "strace"}, Kinds()); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
	if _, err := From("dtrace"); err == nil || err.Error() != `recording "dtrace" is none of lackey, perf, strace` {
		t.Errorf("From(dtrace): %v", err)
	}
}

// TestEmitError: an error of emit comes back as it is, and ends the import.
func TestEmitError(t *testing.T) {
	full := errors.New("no space")
	for name, log := range map[string]string{"lackey": "I  1000,3\n L 2000,8\n", "strace": "brk(NULL) = 0x1000\nbrk(NULL) = 0x1000\n"} {
		imp, _ := From(name)
		calls := 0
		h, err := imp("x", strings.NewReader(log), func(*trace.Op) error {
			calls++
			if calls == 2 {
				return full
			}
			return nil
		})
		if err != full || calls != 2 || h.Whole {
			t.Errorf("%s: error %v after %d operations, whole %v", name, err, calls, h.Whole)
		}
	}
}
