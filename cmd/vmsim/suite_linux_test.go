package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"vmsim/trace"
)

// suiteTrace is the recording of the BusyBox suite that is kept, and busyboxPath
// the binary that it is of.
const (
	suiteTrace  = "testdata/traces/busybox-suite.vmt"
	busyboxPath = "/bin/busybox"
)

// needBusybox skips t without the binary of the suite.
func needBusybox(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(busyboxPath); err != nil {
		t.Skipf("%v: Debian package busybox-static", err)
	}
}

// isRecorded reports whether the BusyBox of this machine is the one of the trace.
func isRecorded(t *testing.T, path string) bool {
	t.Helper()
	code, _, errs := vmsim(t, "replay", path)
	if code == 2 && strings.Contains(errs, "is another file than the one recorded") {
		t.Logf("%s", strings.TrimSpace(errs))
		return false
	}
	return code == 0
}

// replayedJSON is what replay -o json says of one trace.
type replayedJSON struct {
	Tests         int    `json:"tests"`
	TestsPassed   int    `json:"tests_passed"`
	ExecPassed    int    `json:"execs_passed"`
	ExecFailed    int    `json:"execs_failed"`
	Windows       int    `json:"windows"`
	Failures      int    `json:"failures"`
	WrongLine     string `json:"wrong_line"`
	Mismatches    []any  `json:"mismatches"`
	FirstAssembly *struct {
		Exec int `json:"exec"`
	} `json:"first_assembly"`
	FirstWrong *struct {
		Exec int `json:"exec"`
	} `json:"first_wrong"`
}

func replayJSONOf(t *testing.T, wantCode int, args ...string) replayedJSON {
	t.Helper()
	code, out, errs := vmsim(t, append([]string{"replay", "-o", "json"}, args...)...)
	if code != wantCode || errs != "" {
		t.Fatalf("%v: code %d, want %d; %s", args, code, wantCode, errs)
	}
	var all []replayedJSON
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %v, %d results", args, err, len(all))
	}
	return all[0]
}

// The suite replayed: where the bugs fall on it and where they do not. Its applets
// never touch the page that has to be cached (CASES.md); with fault-around that
// page comes along.
func testSuiteReplays(t *testing.T, path string) {
	const tests = 134
	off := replayJSONOf(t, 0, "--threshold", "600", path)
	if off.Tests != tests || off.TestsPassed != tests || off.Windows != 0 || off.ExecPassed < 600 || len(off.Mismatches) > 0 {
		t.Errorf("assembly off: %+v", off)
	}
	for _, around := range []string{"1", "16"} {
		fixed := replayJSONOf(t, 0, "--fault-around", around, path)
		if fixed.Tests != tests || fixed.TestsPassed != tests || fixed.Windows < 1 || fixed.Failures != 0 ||
			fixed.ExecPassed != off.ExecPassed || len(fixed.Mismatches) > 0 || fixed.FirstAssembly == nil || fixed.FirstAssembly.Exec > 5 {
			t.Errorf("fixed, fault-around %s: %+v", around, fixed)
		}
	}
	for bug, line := range map[string]string{
		"boundary-copy":   "page_verify_fail: vaddr=0x5db000, first_diff=0, expected=0x00, actual=0xff",
		"index-collision": "page_verify_fail: vaddr=0x5db000, first_diff=1801, expected=0x39, actual=0x00",
	} {
		if r := replayJSONOf(t, 0, "--bug", bug, path); r.TestsPassed != tests || r.Windows < 1 || r.Failures != 0 {
			t.Errorf("%s: %+v", bug, r)
		}
		r := replayJSONOf(t, 1, "--fault-around", "16", "--bug", bug, path)
		if r.TestsPassed != 0 || r.FirstWrong == nil || r.FirstWrong.Exec != r.FirstAssembly.Exec || r.FirstWrong.Exec > 5 || r.WrongLine != line {
			t.Errorf("%s, fault-around 16: %+v", bug, r)
		}
	}
}

func TestBusyboxSuiteTrace(t *testing.T) {
	needBusybox(t)
	path := filepath.Join(repository(t), suiteTrace)
	if st, err := os.Stat(path); err != nil || st.Size() >= 2<<20 {
		t.Fatalf("%v, or not below 2 MiB", err)
	}
	if code, out, errs := vmsim(t, "trace", "check", "--strict", path); code != 0 {
		t.Errorf("the trace that is kept: code %d\n%s%s", code, out, errs)
	}
	if isRecorded(t, path) { // else the one that is recorded anew tells
		testSuiteReplays(t, path)
	}
}

// The suite, recorded here and now, on a tmpfs.
func TestBusyboxSuiteRecorded(t *testing.T) {
	needBusybox(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root: tracepoints")
	}
	if testing.Short() {
		t.Skip("long: the suite under the recorder")
	}
	path, dir := filepath.Join(t.TempDir(), "suite.vmt"), tmpfs(t)
	busybox := copyOf(t, dir, busyboxPath)
	if err := os.CopyFS(filepath.Join(dir, "suite"), os.DirFS(filepath.Join(repository(t), "testdata/busybox"))); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BUSYBOX", busybox)
	t.Setenv("TMPDIR", dir)
	code, _, errs := vmsim(t, "record", "--quiet", "-o", path, "--", busybox, "sh", filepath.Join(dir, "suite/suite.sh"))
	if code != 0 || errs != "" {
		t.Fatalf("record: code %d, %s", code, errs)
	}
	if code, out, errs := vmsim(t, "trace", "check", "--strict", path); code != 0 {
		t.Errorf("check: code %d\n%s%s", code, out, errs)
	}
	testSuiteReplays(t, path)
	old, ops := traceSize(t, filepath.Join(repository(t), suiteTrace))
	size, n := traceSize(t, path)
	t.Logf("%d operations in %s bytes each; kept: %d in %s", n, perOp(size, n), ops, perOp(old, ops))
}

func perOp(size int64, ops int) string {
	return strconv.FormatFloat(float64(size)/float64(max(ops, 1)), 'f', 2, 64)
}

// openTraceFile returns the trace at path, open until the test ends.
func openTraceFile(t *testing.T, path string) trace.Source {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	in, err := trace.Open(path, f)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func traceSize(t *testing.T, path string) (size int64, ops int) {
	t.Helper()
	for _, err := range openTraceFile(t, path).All() {
		if err != nil {
			t.Fatal(err)
		}
		ops++
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size(), ops
}
