package session

import (
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"testing"

	root "vmsim"
	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/vm"
)

// The environment of all tests of this package:
//
//	VMSIM_HARDENING  default or fortress: of every machine that a test does not
//	                 choose itself, so that CI runs all of them twice
//	VMSIM_SEED       of what is drawn at random; 1 without it
func hardening(t testing.TB) vm.Hardening {
	t.Helper()
	s := os.Getenv("VMSIM_HARDENING")
	if s == "" {
		return vm.Default
	}
	h, err := vm.ParseHardening(s)
	if err != nil {
		t.Fatalf("VMSIM_HARDENING: %v", err)
	}
	return h
}

// seed returns the seed of the run and logs it.
func seed(t testing.TB) uint64 {
	t.Helper()
	n := uint64(1)
	if s := os.Getenv("VMSIM_SEED"); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 0, 64); err != nil {
			t.Fatalf("VMSIM_SEED: %v", err)
		}
	}
	t.Logf("VMSIM_SEED=%d", n)
	return n
}

// newRand returns the i-th generator of a run.
func newRand(seed, i uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, i)) }

// rounds is how often a test does what it does n times: a tenth under -short,
// and a third in fortress, where a machine looks at itself after each step.
func rounds(h vm.Hardening, n int) int {
	if testing.Short() {
		n = (n + 9) / 10
	}
	if h == vm.Fortress {
		n = (n + 2) / 3
	}
	return max(n, 1)
}

// hardenings are those that a test of both compares; under -short the costly
// one is left out.
func hardenings() []vm.Hardening {
	if testing.Short() {
		return []vm.Hardening{vm.Default}
	}
	return []vm.Hardening{vm.Default, vm.Fortress}
}

const testMemory = 64 << 20

// options is the repaired machine in the hardening of the run.
func options(t testing.TB) Options {
	opt := DefaultOptions()
	opt.Memory, opt.Hardening = testMemory, hardening(t)
	return opt
}

// newRig is NewRig, closed at the end of the test.
func newRig(t testing.TB, opt Options) *Rig {
	t.Helper()
	b, err := NewRig(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// fixture returns a binary of the corpus by name.
func fixture(t testing.TB, name string) *mem.BytesFile {
	t.Helper()
	for _, f := range root.Corpus() {
		if path.Base(f.Name()) == name {
			return f
		}
	}
	t.Fatalf("the corpus has no %s", name)
	return nil
}

// program parses f.
func program(t testing.TB, f mem.File) vm.Program {
	t.Helper()
	im, err := loader.Parse(f)
	if err != nil {
		t.Fatalf("%s: %v", f.Name(), err)
	}
	return vm.Program{Image: im}
}

func never() bool { return false }

// recorder keeps events.
type recorder struct{ events []event.Event }

func (r *recorder) Emit(e event.Event) { r.events = append(r.events, e) }

// of returns the recorded events of one kind, in order.
func of[E event.Event](events []event.Event) []E {
	var out []E
	for _, e := range events {
		if e, ok := e.(E); ok {
			out = append(out, e)
		}
	}
	return out
}

// failures returns the events that report one.
func failures(events []event.Event) []event.Event {
	var out []event.Event
	for _, e := range events {
		switch e.(type) {
		case event.HugePageVerifyFail, event.PageVerifyFail, event.PermissionVerifyFail, event.UnmappedVerifyFail:
			out = append(out, e)
		}
	}
	return out
}

// variants are the machines of case A.
var variants = []struct {
	name string
	bugs []string
}{
	{"repaired", nil},
	{"boundary-copy", []string{"boundary-copy"}},
	{"index-collision", []string{"index-collision"}},
	{"both", []string{"boundary-copy", "index-collision"}},
}
