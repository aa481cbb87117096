package main

import (
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jstemmer/go-junit-report/v2/junit"

	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/trace"
	"vmsim/vm"
)

// TestRowFormats: csv is a table, junit is XML whose counts are right, and each
// row of a Markdown table has the same columns, also where a name holds what
// these formats use.
func TestRowFormats(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(repository(t))
	elf := dir + "/a,b|c\"<d>&\n]]>"
	copyFile(t, "testdata/elf/kevlar-layout", elf)
	for _, args := range [][]string{
		{"run", elf},
		{"run", "--bug", "boundary-copy", elf},
		{"stress", "--touch", "25", "--bug", "boundary-copy", elf},
		{"sweep", "--bug", "boundary-copy", "--policy", "kevlar,never", elf, "testdata/elf/huge-text"},
		{"replay", "--bug", "boundary-copy", "testdata/traces/case-a.trace", "testdata/traces/shell-loop.trace"},
	} {
		_, out, errs := vmsim(t, append(args, "-o", "csv")...)
		rows, err := csv.NewReader(strings.NewReader(out)).ReadAll() // the same number of fields in each
		if err != nil || len(rows) < 2 || errs != "" {
			t.Errorf("%q: csv: %d rows, %v, error %q", args, len(rows), err, errs)
		}

		code, out, _ := vmsim(t, append(args, "-o", "junit")...)
		var all junit.Testsuites
		if err := xml.Unmarshal([]byte(out), &all); err != nil {
			t.Errorf("%q: junit: %v", args, err)
		}
		failed, cases := 0, 0
		for _, s := range all.Suites {
			for _, c := range s.Testcases {
				cases++
				if c.Failure != nil {
					failed++
				}
				if c.Name == "" || c.Classname == "" {
					t.Errorf("%q: junit: a case without a name: %+v", args, c)
				}
			}
		}
		if cases == 0 || cases != all.Tests || failed != all.Failures || (code == 1) != (failed > 0) {
			t.Errorf("%q: junit: %d cases of %d, %d failed of %d, code %d", args, cases, all.Tests, failed, all.Failures, code)
		}

		_, out, _ = vmsim(t, append(args, "-o", "markdown")...)
		columns := 0
		for line := range strings.Lines(out) {
			if !strings.HasPrefix(line, "|") {
				columns = 0
				continue
			}
			n := strings.Count(line, "|") - strings.Count(line, `\|`)
			if columns != 0 && n != columns {
				t.Errorf("%q: markdown: %d columns, not %d: %s", args, n, columns, line)
			}
			columns = n
		}
		if !strings.Contains(out, "\n| --") {
			t.Errorf("%q: no table in\n%s", args, out)
		}
	}
}

// TestPartialRun: an exec that was not made to its end is a case that failed, or
// that Ctrl-C skipped.
func TestPartialRun(t *testing.T) {
	res := session.RunResult{Execs: []session.ExecResult{{PID: 2, Pages: 7}}}
	for trouble, want := range map[error]string{
		nil: `<testcase name="exec 1" classname="elf"></testcase>` + "\n\t</testsuite>",
		&vm.OOMKill{PID: 3}: `<testcase name="exec 2" classname="elf">` + "\n\t\t\t" +
			`<failure message="out of memory: process 3 was killed at 0x0" type="mismatch">`,
		session.ErrStopped: `<testcase name="exec 2" classname="elf">` + "\n\t\t\t" + `<skipped message="interrupted">`,
	} {
		var b strings.Builder
		if err := printRun(&b, report.JUnit, "elf", res, trouble); err != nil {
			t.Fatal(err)
		}
		partial := fmt.Sprintf(`<property name="partial" value="%v">`, trouble != nil)
		if !strings.Contains(b.String(), want) || !strings.Contains(b.String(), partial) {
			t.Errorf("%v: no %s in\n%s", trouble, want, b.String())
		}
		b.Reset()
		if err := printRun(&b, report.Table, "elf", res, trouble); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(b.String(), "\nnot all was run: the result is partial\n") != (trouble != nil) {
			t.Errorf("%v: %s", trouble, b.String())
		}
	}
}

// TestReplayCases: what goes wrong in no test of a trace is a case of its own.
func TestReplayCases(t *testing.T) {
	passed, lost := trace.Test{Name: "one", Passed: true}, trace.Test{Name: "two", Reason: "t:9: other"}
	for _, c := range []struct {
		name    string
		res     trace.Result
		trouble error
		want    []report.Case
	}{
		{"all is well", trace.Result{Tests: []trace.Test{passed}}, nil, []report.Case{{Class: "t", Name: "one"}}},
		{"no tests", trace.Result{}, nil, []report.Case{{Class: "t", Name: "the trace"}}},
		{"a test that failed", trace.Result{Tests: []trace.Test{passed, lost}, Mismatched: 1}, nil,
			[]report.Case{{Class: "t", Name: "one"}, {Class: "t", Name: "two", Failure: "t:9: other"}}},
		{"something before the tests", trace.Result{Tests: []trace.Test{passed}, Mismatched: 2, Wrong: 1}, nil,
			[]report.Case{{Class: "t", Name: "one"}, {Class: "t", Name: "the trace", Failure: "2 other answers, 1 of a wrong byte",
				Body: "... and 2 more answers that are not the trace's (-o json has 1000)"}}},
		{"a broken trace", trace.Result{Tests: []trace.Test{passed}}, errors.New("t:9: bad"),
			[]report.Case{{Class: "t", Name: "one"}, {Class: "t", Name: "the trace", Failure: "t:9: bad"}}},
		{"interrupted", trace.Result{}, session.ErrStopped, []report.Case{{Class: "t", Name: "the trace", Skipped: "interrupted"}}},
	} {
		got := replayCases("t", session.ReplayResult{Result: c.res}, c.trouble)
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, d)
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
