package session

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	root "vmsim"
	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/mem"
)

// sources are the corpus, random binaries and broken files.
func sources(t testing.TB, random int) []Source {
	t.Helper()
	first := seed(t)
	var out []Source
	for _, f := range root.Corpus() {
		out = append(out, Source{Path: f.Name(), File: f, Named: true})
	}
	for i := range uint64(random) {
		r := newRand(first, 3000+i)
		_, data := elfgen.Random(r)
		name := fmt.Sprintf("random-%d", i)
		out = append(out, Source{Path: name, File: mem.NewBytesFile(name, data), Named: true})
		kind, data := elfgen.Malformed(r)
		name = fmt.Sprintf("malformed-%d (%s)", i, kind)
		out = append(out, Source{Path: name, File: mem.NewBytesFile(name, data), Named: i%2 == 0})
	}
	return out
}

// TestJobs: how many machines work changes neither results nor their order.
func TestJobs(t *testing.T) {
	files := sources(t, rounds(hardening(t), 40))
	for _, v := range variants {
		opt := options(t)
		opt.Bugs, opt.Digest = v.bugs, true
		var want []Outcome
		for _, jobs := range []int{1, 2, 4} {
			var got []Outcome
			err := VerifyAll(opt, files, jobs, func(i int, o Outcome) {
				if i != len(got) || (o.NotELF == "") != (o.Result.Path == files[i].Path) {
					t.Errorf("%s: outcome %d is number %d, of %q, want %s", v.name, i, len(got), o.Result.Path, files[i].Path)
				}
				o.Elapsed = 0
				got = append(got, o)
			}, never)
			if err != nil {
				t.Fatal(err)
			}
			if jobs == 1 {
				want = got
				if len(got) != len(files) {
					t.Errorf("%s: %d outcomes of %d files", v.name, len(got), len(files))
				}
				continue
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s, %d jobs: %s", v.name, jobs, d)
			}
		}
	}
}

// TestStop: what was verified when a run is stopped is given, in order, and
// nothing else; no worker is left.
func TestStop(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	files := sources(t, 3)
	for _, jobs := range []int{1, 3} {
		var got []string
		err := VerifyAll(options(t), files, jobs, func(_ int, o Outcome) { got = append(got, o.Result.Path) }, func() bool { return len(got) == 5 })
		if err != nil {
			t.Fatal(err)
		}
		for i, path := range got {
			if path != files[i].Path {
				t.Errorf("result %d is of %s, want %s", i, path, files[i].Path)
			}
		}
		if len(got) != 5 {
			t.Errorf("%d jobs: %d results, want 5", jobs, len(got))
		}
	}
}

// TestEventsAreTheSame: two runs write the same bytes, whatever ran before in
// the same machine.
func TestEventsAreTheSame(t *testing.T) {
	files := sources(t, rounds(hardening(t), 10))
	kevlar := program(t, fixture(t, "kevlar-layout"))
	for _, v := range variants {
		run := func(used bool) []byte {
			var buf bytes.Buffer
			var w *event.Writer
			opt := options(t)
			opt.Bugs = v.bugs
			opt.Events = event.Func(func(e event.Event) {
				if w != nil {
					w.Emit(e)
				}
			})
			b := newRig(t, opt)
			if used {
				for _, s := range files[len(files)/2:] {
					b.Verify(s.File)
				}
			}
			w = event.NewWriter(&buf)
			for _, s := range files {
				b.Verify(s.File)
			}
			if _, err := b.Stress(kevlar, StressPlan{Execs: 30, Touch: 25, Pattern: Random, Seed: 7}, never); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Run(kevlar, 3, true); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return buf.Bytes()
		}
		first := run(false)
		for _, used := range []bool{false, true} {
			again := run(used)
			if bytes.Equal(first, again) {
				continue
			}
			a, b := bytes.Split(first, []byte("\n")), bytes.Split(again, []byte("\n"))
			for i := range min(len(a), len(b)) {
				if !bytes.Equal(a[i], b[i]) {
					t.Fatalf("%s: line %d differs:\n%s\n%s", v.name, i+1, a[i], b[i])
				}
			}
			t.Fatalf("%s: %d lines and %d", v.name, len(a), len(b))
		}
		if bytes.Count(first, []byte("\n")) < 1000 {
			t.Errorf("%s: %d lines of events", v.name, bytes.Count(first, []byte("\n")))
		}
	}
}
