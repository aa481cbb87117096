package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"vmsim/internal/session"
)

// benchmarkLine is a result in the Go benchmark format: a name without spaces,
// the iterations, and pairs of a value and a unit.
var benchmarkLine = regexp.MustCompile(`^BenchmarkSweep(/[a-z]+=[!-.0-~]+){3} 1( -?[0-9]+ [A-Za-z-]+)+$`)

// sweepTo writes a sweep as -o gobench to a file below dir.
func sweepTo(t *testing.T, dir, name string, code int, args ...string) string {
	t.Helper()
	got, out, errs := vmsim(t, append([]string{"sweep", "-o", "gobench"}, args...)...)
	if got != code || errs != "" {
		t.Fatalf("%q: code %d, want %d, error %q", args, got, code, errs)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "Benchmark") && !benchmarkLine.MatchString(strings.TrimSuffix(line, "\n")) {
			t.Errorf("%q: %s", args, line)
		}
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBenchstat: benchstat reads what a sweep writes: it compares two machines,
// and two policies of one.
func TestBenchstat(t *testing.T) {
	root := repository(t)
	benchstat := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", append([]string{"tool", "-modfile=tools/go.mod", "benchstat", "-format", "csv"}, args...)...)
		cmd.Dir = root
		var complaints strings.Builder
		cmd.Stderr = &complaints
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("benchstat: %v: %s", err, complaints.String())
		}
		// Of the mean over all rows it may say that some values are 0. The first run on a machine fetches it.
		for line := range strings.Lines(complaints.String()) {
			if !strings.HasPrefix(line, "go: downloading ") && !strings.Contains(line, "geomean") && !strings.Contains(line, "must be >0") {
				t.Errorf("benchstat: %s", line)
			}
		}
		return string(out)
	}
	has := func(out string, lines ...string) {
		t.Helper()
		for _, want := range lines {
			if !strings.Contains("\n"+out, "\n"+want) {
				t.Errorf("no line %q in\n%s", want, out)
			}
		}
	}
	dir := t.TempDir()
	elf := filepath.Join(root, "testdata", "elf", "kevlar-layout")
	escaped := strings.ReplaceAll(elf, "/", "%2F")
	fixed := sweepTo(t, dir, "fixed", 0, elf)
	wrong := sweepTo(t, dir, "wrong", 1, "--bug", "index-collision", elf)
	out := benchstat(fixed, wrong)
	for _, unit := range sweepUnits {
		if !strings.Contains(out, ","+unit+",CI,"+unit+",CI,vs base,P\n") {
			t.Errorf("no table of %s in\n%s", unit, out)
		}
	}
	row := "Sweep/file=" + escaped + "/policy=kevlar/threshold="
	has(out, row+"128,283,0%,285,0%,+0.71%,n=1\n", row+"0,0,0%,0,0%,0.00%,n=1\n", row+"128,0,0%,2,0%,", row+"128,25664,0%,")

	both := sweepTo(t, dir, "both", 0, "--policy", "kevlar,never", elf)
	out = benchstat("-row", "/file,/threshold", "-col", "/policy", both)
	has(out, ",kevlar,,never,,,\n", escaped+" 284,1,0%,0,0%,-100.00%,n=1\n", escaped+" 285,0,0%,0,0%,0.00%,n=1\n", escaped+" 128,797,0%,293,0%,-63.24%,n=1\n")

	// Any name that a file may have.
	data, err := os.ReadFile(elf)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"a b", "tab\tline\n", "x-8", "k=v/policy=never", "50%", "\xff\xfe", "日本", "-"}
	args := []string{"--thresholds", "128", "--"}
	for _, name := range names {
		path := filepath.Join(dir, "names", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	out = benchstat("-row", "/file", "-col", "/threshold", sweepTo(t, dir, "odd", 0, args...))
	for _, name := range args[3:] {
		part := strings.TrimPrefix(benchName(name, session.SweepPoint{}), "BenchmarkSweep/file=")
		part, _, _ = strings.Cut(part, "/")
		if n := strings.Count("\n"+out, "\n"+part+",283,0%\n"); n != 1 {
			t.Errorf("%q: %d rows in\n%s", name, n, out)
		}
	}
}
