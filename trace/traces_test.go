package trace

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmsim/mem"
)

const tracesDir = "../testdata/traces"

func committed(t *testing.T, name string) []Op {
	t.Helper()
	f, err := os.Open(filepath.Join(tracesDir, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ops, err := Parse(name, f)
	if err != nil {
		t.Fatal(err)
	}
	return ops
}

// Every committed trace runs on a machine of few lines (model_test.go), and all
// its answers are right.
func TestCommittedTraces(t *testing.T) {
	files, err := filepath.Glob(tracesDir + "/*.trace")
	if err != nil || len(files) < 3 {
		t.Fatalf("%v in %s, %v", files, tracesDir, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			r := Runner{Machine: newModel(), Name: name, Dir: tracesDir}
			res, err := r.Run(Ops(committed(t, name)...))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range res.Mismatches {
				t.Error(m)
			}
			if !res.OK() || res.Skipped != 0 || res.ExecFailed != 0 || len(res.Tests) == 0 {
				t.Errorf("%+v", res)
			}
		})
	}
}

func TestCaseAIsGenerated(t *testing.T) {
	cmd := exec.Command("go", "run", "gen.go")
	cmd.Dir = tracesDir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("go run gen.go: %v\n%s", err, stderr.Bytes())
	}
	want, err := os.ReadFile(filepath.Join(tracesDir, "case-a.trace"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("case-a.trace is not what gen.go writes: go run gen.go > case-a.trace")
	}
}

// The pages that case-a.trace promises, counted here in another way than gen.go
// counts them, and held against the program headers of the binary.
func TestCaseAStory(t *testing.T) {
	f, err := elf.Open("../testdata/elf/kevlar-layout")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	startup := map[mem.VirtAddr]bool{mem.VirtAddr(f.Entry).PageDown(): true}
	var ro mem.Range
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD {
			continue
		}
		r := mem.Range{Start: mem.VirtAddr(p.Vaddr), End: mem.VirtAddr(p.Vaddr + p.Memsz)}
		startup[r.Start.PageDown()], startup[(r.End-1).PageDown()] = true, true
		if p.Flags&elf.PF_W == 0 {
			ro = r.PageAlign()
		}
	}

	seen := map[mem.VirtAddr]int{} // read-only pages, by the test that touched them first
	pages := map[int]map[mem.VirtAddr]bool{}
	names := map[string]bool{}
	test, order := 0, []int{1}
	for _, op := range committed(t, "case-a.trace") {
		switch op.Kind {
		case OpMark:
			test++
			if want := fmt.Sprintf("%03d ", test); !strings.HasPrefix(op.Name, want) || names[op.Name[4:]] {
				t.Errorf("line %d: test %q, want %q and a new name", op.Line, op.Name, want)
			}
			names[op.Name[4:]] = true
		case OpExec:
			order = append(order, op.PID)
		case OpTouch:
			page := op.Addr.PageDown()
			if pages[op.PID] == nil {
				pages[op.PID] = map[mem.VirtAddr]bool{}
			}
			pages[op.PID][page] = true
			if op.Access == mem.Write && (ro.Contains(page) || startup[page]) {
				t.Errorf("line %d: a write to %v", op.Line, page)
			}
			if _, ok := seen[page]; ok || !ro.Contains(page) {
				break
			}
			seen[page] = test
			if len(seen) == 128 && (test != 65 || op.PID != 131) {
				t.Errorf("line %d: page 128 in test %d by process %d", op.Line, test, op.PID)
			}
		}
	}
	if test != 134 || len(order) != 1+2*134 {
		t.Errorf("%d tests, %d processes", test, len(order))
	}
	for i, pid := range order {
		if pid != i+1 {
			t.Fatalf("process %d is the %dth to run", pid, i+1)
		}
		for page := range startup {
			if !pages[pid][page] {
				t.Errorf("process %d does not touch %v", pid, page)
			}
		}
		if n := len(pages[pid]); n < 20 || n > 30 {
			t.Errorf("process %d touches %d pages", pid, n)
		}
	}
	if len(seen) < 140 || len(seen) > 200 {
		t.Errorf("%d pages in the end", len(seen))
	}
}

// assembler has the bug of case A, in its outcome alone: once 128 read-only
// pages were touched, every exec gets a huge page with a wrong boundary page.
type assembler struct {
	*model
	seen map[mem.VirtAddr]bool
	bad  map[int]bool // processes with such a page
}

func (a *assembler) Exec(pid int, path string, at *Layout) error {
	if len(a.seen) >= 128 {
		a.bad[pid] = true
	}
	return a.model.Exec(pid, path, at)
}

func (a *assembler) Touch(pid int, t Touch, _ TouchInfo) (Outcome, error) {
	o, err := a.model.Touch(pid, t, TouchInfo{})
	if t.Addr <= 0x51b000 {
		a.seen[t.Addr.PageDown()] = true
	}
	if a.bad[pid] && t.Addr.PageDown() == 0x51c000 {
		o.Wrong, o.Crashed = true, true
	}
	return o, err
}

func TestCaseAWithTheBug(t *testing.T) {
	m := &assembler{newModel(), map[mem.VirtAddr]bool{}, map[int]bool{}}
	r := Runner{Machine: m, Name: "case-a.trace", Dir: tracesDir}
	res, err := r.Run(Ops(committed(t, "case-a.trace")...))
	if err != nil {
		t.Fatal(err)
	}
	if res.TestsPassed() != 65 || len(res.Tests) != 134 || !res.Tests[64].Passed || res.Tests[65].Passed {
		t.Errorf("%d of %d tests passed", res.TestsPassed(), len(res.Tests))
	}
	// Each of the other 69 shells dies, and its applet is never forked.
	if res.ExecPassed != 130 || res.ExecFailed != 69 || res.Crashes != 69 || res.Wrong != 69 || res.Processes != 1+130+69 {
		t.Errorf("%d passed, %d failed, %d crashes, %d wrong, %d processes", res.ExecPassed, res.ExecFailed, res.Crashes, res.Wrong, res.Processes)
	}
	c := res.FirstCrash
	if c == nil || c.Op.PID != 132 || c.PID != 132 || c.Exec != 131 || c.Op.Addr != 0x51c000 {
		t.Errorf("first crash: %v", c)
	}
}
