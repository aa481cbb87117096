package session

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/vm"
)

// The story of case A as the original's authors lived it: many executions of
// one binary, a few dozen pages each.

// stress runs plan on kevlar-layout.
func stress(t testing.TB, opt Options, plan StressPlan) StressResult {
	t.Helper()
	res, err := newRig(t, opt).Stress(program(t, fixture(t, "kevlar-layout")), plan, never)
	if err != nil {
		t.Fatal(err)
	}
	if res.Execs != plan.Execs {
		t.Fatalf("%d executions of %d", res.Execs, plan.Execs)
	}
	return res
}

// meter counts from outside what the page cache holds of the window: each fault
// that read a page from the file into it.
type meter struct {
	inserted map[event.Addr]bool
	execs    int
	atExec   []int // pages in the cache, by exec
	assembly Moment
}

func (m *meter) Emit(e event.Event) {
	switch e := e.(type) {
	case event.PageFault:
		if e.Source == event.SourceFile && mem.VirtAddr(e.VAddr).HugeDown() == 0x400000 {
			m.inserted[e.VAddr&^0xfff] = true
		}
	case event.HugePageAssembled: // in the middle of an exec
		if m.assembly == (Moment{}) {
			m.assembly = Moment{m.execs + 1, e.PID}
		}
	case event.ProcessExec:
		m.execs++
		m.atExec = append(m.atExec, len(m.inserted))
	}
}

// TestCrashAtTheFirstAssembly: with either bug the first exec after 128 pages of
// the window are cached crashes, and each one after it; none before.
func TestCrashAtTheFirstAssembly(t *testing.T) {
	lines := map[string]string{
		"boundary-copy":   "page_verify_fail: vaddr=0x51c000, first_diff=0, expected=0x00, actual=0x65",
		"index-collision": "page_verify_fail: vaddr=0x51c000, first_diff=3056, expected=0xc0, actual=0x00",
	}
	first := seed(t)
	moments := map[int]int{}
	for i := range uint64(rounds(hardening(t), 100)) {
		for _, v := range variants[1:3] {
			m := &meter{inserted: map[event.Addr]bool{}}
			opt := options(t)
			opt.Bugs, opt.Events = v.bugs, m
			res := stress(t, opt, StressPlan{Execs: 20, Touch: 25, Pattern: Random, Seed: first + i})
			name := fmt.Sprintf("%s, seed %d", v.name, first+i)
			due := Moment{}
			for n, pages := range m.atExec {
				if pages >= 128 {
					due = Moment{n + 1, n + 2}
					break
				}
			}
			if due == (Moment{}) {
				t.Fatalf("%s: 20 executions cached %d pages", name, len(m.inserted))
			}
			if res.FirstAssembly != due || m.assembly != due {
				t.Errorf("%s: assembled at %+v, by the events at %+v; due at %+v", name, res.FirstAssembly, m.assembly, due)
			}
			if res.FirstWrong != due || res.WrongLine != lines[v.name] || res.Passed != due.Exec-1 {
				t.Errorf("%s: crashed at %+v with %q, %d passed; due at %+v", name, res.FirstWrong, res.WrongLine, res.Passed, due)
			}
			moments[due.Exec]++
		}
	}
	t.Logf("first assembly, by exec: %v", moments)
	if len(moments) < 2 && !testing.Short() {
		t.Error("all seeds assemble at the same exec")
	}
}

// TestNeverAssembled: fork_exec_stress never failed, since it never touched 128
// pages; and a threshold that no window reaches hides the bugs.
func TestNeverAssembled(t *testing.T) {
	for _, v := range variants {
		for _, c := range []struct {
			name      string
			threshold int
			plan      StressPlan
		}{
			{"the same pages each time", 128, StressPlan{Execs: 300, Touch: 20, Pattern: Fixed, Seed: seed(t)}},
			{"threshold 600", 600, StressPlan{Execs: 300, Touch: 25, Pattern: Random, Seed: seed(t)}},
		} {
			opt := options(t)
			opt.Bugs, opt.Threshold = v.bugs, c.threshold
			res := stress(t, opt, c.plan)
			if res.Passed != 300 || res.FirstAssembly != (Moment{}) || res.FirstWrong != (Moment{}) || res.Tally.Windows != 0 || res.Tally.Failures != 0 {
				t.Errorf("%s, %s: %+v", v.name, c.name, res)
			}
			if want := 128; c.threshold == 600 && res.CachedPages < want || c.threshold == 128 && res.CachedPages >= want {
				t.Errorf("%s, %s: %d pages cached in the end", v.name, c.name, res.CachedPages)
			}
		}
	}
}

// TestThresholdZeroCrashesPID2: the very first exec, since init has warmed the
// cache.
func TestThresholdZeroCrashesPID2(t *testing.T) {
	for _, v := range variants[1:] {
		opt := options(t)
		opt.Bugs, opt.Threshold = v.bugs, 0
		res := stress(t, opt, StressPlan{Execs: 5, Touch: 25, Pattern: Random, Seed: seed(t)})
		if want := (Moment{1, 2}); res.FirstAssembly != want || res.FirstWrong != want || res.Passed != 0 {
			t.Errorf("%s: %+v", v.name, res)
		}
	}
}

// TestRepairedStress: 300 of 300 with every byte compared, and the same to the
// last counter in both hardenings.
func TestRepairedStress(t *testing.T) {
	var results []StressResult
	for _, h := range []vm.Hardening{vm.Default, vm.Fortress} {
		opt := options(t)
		opt.Hardening = h
		res := stress(t, opt, StressPlan{Execs: 300, Touch: 25, Pattern: Random, Seed: seed(t)})
		// 294 pages of the window have an area.
		if ta := res.Tally; res.Passed != 300 || ta.Windows != 1 || ta.WindowsVerified != 1 || ta.WindowPages != 294 || ta.Failures != 0 || len(res.Failures) != 0 {
			t.Errorf("hardening %d: %+v", h, res)
		}
		if want := (301 * 30); res.Tally.Pages != want { // init's execution too; 5 start-up pages
			t.Errorf("hardening %d: %d pages compared, want %d", h, res.Tally.Pages, want)
		}
		results = append(results, res)
	}
	if d := cmp.Diff(results[0], results[1]); d != "" {
		t.Errorf("default and fortress differ:\n%s", d)
	}
}

const traces = "../../testdata/traces"

// replay runs a trace of testdata.
func replay(t testing.TB, opt Options, name string) ReplayResult {
	t.Helper()
	path := filepath.Join(traces, name)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	res, err := newRig(t, opt).Replay(path, bytes.NewReader(text), never)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestSuiteOfCaseA: the suite of 134 tests passes repaired, and up to the first
// assembly with either bug: at the shell of test 66, process 132.
func TestSuiteOfCaseA(t *testing.T) {
	var repaired []ReplayResult
	for _, h := range []vm.Hardening{vm.Default, vm.Fortress} {
		opt := options(t)
		opt.Hardening = h
		res := replay(t, opt, "case-a.trace")
		if !res.OK() || res.TestsPassed() != 134 || len(res.Tests) != 134 || res.ExecPassed != 268 || res.Tally.WindowsVerified != 1 {
			t.Errorf("repaired: %d of %d tests, tally %+v, first crash %v", res.TestsPassed(), len(res.Tests), res.Tally, res.FirstCrash)
		}
		if want := (Moment{131, 132}); res.FirstAssembly != want {
			t.Errorf("repaired: first assembly at %+v, want %+v", res.FirstAssembly, want)
		}
		repaired = append(repaired, res)
	}
	if d := cmp.Diff(repaired[0], repaired[1]); d != "" {
		t.Errorf("default and fortress differ:\n%s", d)
	}
	for _, v := range variants[1:] {
		opt := options(t)
		opt.Bugs = v.bugs
		res := replay(t, opt, "case-a.trace")
		if res.TestsPassed() != 65 || !res.Tests[64].Passed || res.Tests[65].Passed || len(res.Tests) != 134 {
			t.Errorf("%s: %d of %d tests", v.name, res.TestsPassed(), len(res.Tests))
		}
		if want := (Moment{131, 132}); res.FirstAssembly != want || res.FirstWrong != want {
			t.Errorf("%s: assembled at %+v, wrong at %+v, want %+v", v.name, res.FirstAssembly, res.FirstWrong, want)
		}
		if res.FirstCrash == nil || res.FirstCrash.PID != 132 || res.FirstCrash.Reason != res.WrongLine {
			t.Errorf("%s: first crash %v, wrong line %q", v.name, res.FirstCrash, res.WrongLine)
		}
		opt.Threshold = 600
		if res := replay(t, opt, "case-a.trace"); !res.OK() || res.TestsPassed() != 134 || res.FirstAssembly != (Moment{}) {
			t.Errorf("%s, threshold 600: %d tests", v.name, res.TestsPassed())
		}
	}
}
