package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"vmsim/internal/event"
	"vmsim/internal/report"
	"vmsim/internal/session"
)

// manyResults is a sweep with a result of its own at each threshold, of which
// some are unhappy.
func manyResults() session.SweepResult {
	r := session.SweepResult{Path: "path/with\nline"}
	for t := range 514 {
		p := session.SweepPoint{Policy: "kevlar", Threshold: t, Until: t}
		p.Windows, p.Avoided, p.Added, p.Frames = 513-t, 100000-t, -t, 1000
		switch t {
		case 7:
			p = session.SweepPoint{Policy: "kevlar", Threshold: t, Until: t, Killed: "out of memory"}
		case 9:
			p.Failures, p.FailureEvents = 1, []event.Event{event.HugePageVerifyFail{SubPage: 3}}
		case 512:
			p.Avoided = -3
		}
		r.Points = append(r.Points, p)
	}
	return r
}

// written is what a format makes of results.
func written(t *testing.T, format report.Format, sum sweepSum, results ...session.SweepResult) string {
	t.Helper()
	var b bytes.Buffer
	f := sweepFlags{touch: "all"}
	w := f.writer(&b, format, false)
	for _, r := range results {
		sum.add(r)
		if err := w.add(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(sum); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestPlotFits: a plot has at most 40 lines a policy, of at most 80 columns, and
// a bar where there is anything.
func TestPlotFits(t *testing.T) {
	out := written(t, formatPlot, sweepSum{}, manyResults())
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	bars := 0
	for _, l := range lines {
		if len(l) > 80 || strings.HasSuffix(l, " ") || strings.ContainsFunc(l, func(r rune) bool { return r > '~' || r < ' ' }) {
			t.Errorf("%d columns: %q", len(l), l)
		}
		if strings.Contains(l, "#") {
			bars++
		}
	}
	if bars < 25 || len(lines) > 40+8 {
		t.Errorf("%d lines, %d bars", len(lines), bars)
	}
	for _, want := range []string{
		`path/with\nline`,
		"        0  513 ############################  100000 ============================",
		"        7  killed",
		"      512    1 #                                 -3",
		"      513    0                                99487 ===========================",
		"(34 of 514 results are shown; -o csv has all)",
		"1 point with failures: -o table shows them",
	} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
	if d := strings.Count(out, "#"); d > 28*40 {
		t.Errorf("%d marks", d)
	}
	if got := written(t, formatPlot, sweepSum{Partial: true}, manyResults()); !strings.HasSuffix(got, "\ninterrupted: the result is partial\n") {
		t.Errorf("%q", got[len(got)-80:])
	}
	// Nothing at all, and a single point.
	if got := written(t, formatPlot, sweepSum{}); got != "" {
		t.Errorf("%q", got)
	}
	one := session.SweepResult{Path: "one", Points: []session.SweepPoint{{Policy: "never", Threshold: 0, Until: 513}}}
	if got := written(t, formatPlot, sweepSum{}, one); !strings.HasSuffix(got, "\n        0  0                                  0\n") {
		t.Errorf("%q", got)
	}
}

// TestUnhappyPoints: a point without a result, or with failures, is told in every
// format.
func TestUnhappyPoints(t *testing.T) {
	r := manyResults()
	r.Points = r.Points[6:10]
	for format, lines := range map[report.Format][]string{
		report.Table:  {"kevlar          7", "  killed", "kevlar, threshold 9: 1 failure", "1 file, 4 points, 1 with failures, 1 without a result"},
		report.CSV:    {`line",kevlar,7,,,,,,,,,,,,,killed`, `line",kevlar,9,504,0,0,0,0,0,0,0,0,99991,1000,-9,FAIL`},
		report.JSONL:  {`"threshold":7,"verdict":"killed","reason":"out of memory","windows":0,`, `"failed":1,"killed":1,`},
		report.JUnit:  {`<skipped message="out of memory">`, `<failure message="1 failure"`, `name="kevlar, threshold 7"`},
		formatGoBench: {"/threshold=6 1 507 windows", "/threshold=9 1 504 windows"},
	} {
		out := written(t, format, sweepSum{}, r)
		for _, want := range lines {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", format, want, out)
			}
		}
		if format == formatGoBench && strings.Contains(out, "threshold=7") {
			t.Errorf("a result that is none: %s", out)
		}
	}
	var sum sweepSum
	if n, why := sum.add(r); n != 1 || why != "out of memory" || sum.Points != 4 || sum.Failed != 1 || sum.Killed != 1 || sum.Files != 1 {
		t.Errorf("%d killed, %q, %+v", n, why, sum)
	}
	// Each jsonl line is an object.
	for line := range strings.Lines(written(t, report.JSONL, sweepSum{}, r)) {
		if !json.Valid([]byte(line)) {
			t.Errorf("%s", line)
		}
	}
}

// TestSweepInterrupted: a sweep that would take long ends with 130 and what was
// found until then, marked partial.
func TestSweepInterrupted(t *testing.T) {
	t.Chdir(repository(t))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := &onWrite{f: cancel}
	root := newRootCommand()
	root.SetArgs([]string{"sweep", "-o", "jsonl", "--policy", "never", "--execs", "20000", "--jobs", "1",
		"testdata/elf/bss-only", "testdata/elf/huge-text", "testdata/elf/huge-data"})
	root.SetOut(out)
	root.SetErr(out)
	var done outcome
	if err := root.ExecuteContext(ctx); !errors.As(err, &done) || done != exitInterrupted {
		t.Fatalf("%v", err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	const last = `{"type":"summary","files":1,"points":12,"failed":0,"killed":0,"partial":true}`
	if len(lines) != 13 || lines[12] != last {
		t.Errorf("%d lines, the last is %s", len(lines), lines[len(lines)-1])
	}
	table := written(t, report.Table, sweepSum{Partial: true}, manyResults())
	if !strings.HasSuffix(table, "interrupted: the result is partial\n") {
		t.Errorf("%q", table[len(table)-100:])
	}
}

// onWrite keeps what is written, and calls f each time.
type onWrite struct {
	bytes.Buffer
	f func()
}

func (w *onWrite) Write(p []byte) (int, error) {
	w.f()
	return w.Buffer.Write(p)
}

// TestPlotBucket: four of them make an octave.
func TestPlotBucket(t *testing.T) {
	if got, want := fmt.Sprint(plotBucket(7), plotBucket(8), plotBucket(9), plotBucket(10), plotBucket(16)), "7 12 12 13 20"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
