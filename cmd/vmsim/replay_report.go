package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"vmsim/internal/report"
	"vmsim/internal/session"
)

// replayReport writes the results of traces: in words, as objects, or as rows.
type replayReport struct {
	printer
	format report.Format
	rows   *report.Writer
	all    []replayJSON // json
	sum    replaySum
}

// replaySum is the sum of all traces, for junit.
type replaySum struct {
	Traces      int  `json:"traces"`
	Tests       int  `json:"tests"`
	TestsPassed int  `json:"tests_passed"`
	Failures    int  `json:"failures"`
	Partial     bool `json:"partial"`
}

// replayColumns are a row for each trace.
var replayColumns = []report.Column{
	{Key: "file", Title: "TRACE", Text: true},
	{Key: "ops", Title: "OPS"},
	{Key: "skipped", Title: "SKIPPED"},
	{Key: "processes", Title: "PROCESSES"},
	{Key: "execs_passed", Title: "EXECS PASSED"},
	{Key: "execs_failed", Title: "FAILED"},
	{Key: "tests", Title: "TESTS"},
	{Key: "tests_passed", Title: "PASSED"},
	{Key: "minor", Title: "MINOR"},
	{Key: "major", Title: "MAJOR"},
	{Key: "cow", Title: "COW"},
	{Key: "windows", Title: "WINDOWS"},
	{Key: "first_assembly_exec", Title: "FIRST ASSEMBLY"},
	{Key: "first_wrong_exec", Title: "FIRST WRONG"},
	{Key: "crashes", Title: "CRASHES"},
	{Key: "mismatches", Title: "OTHER ANSWERS"},
	{Key: "bytes_compared", Title: "COMPARED"},
	{Key: "failures", Title: "FAILURES"},
	{Key: "partial"},
}

func newReplayReport(w io.Writer, format report.Format) *replayReport {
	doc := report.Doc{Name: "vmsim replay", Columns: replayColumns}
	rows := report.NewWriter(w, format, false, doc)
	return &replayReport{printer: printer{w: w}, format: format, all: []replayJSON{}, rows: rows}
}

// add takes the result of a trace, whole or as far as it came; trouble is what
// ended it early.
func (o *replayReport) add(path string, r session.ReplayResult, trouble error) error {
	partial := trouble != nil
	j := toReplayJSON(path, r, partial)
	o.sum.Traces++
	o.sum.Tests += j.Tests
	o.sum.TestsPassed += j.TestsPassed
	o.sum.Failures += j.Failures
	o.sum.Partial = o.sum.Partial || partial
	switch o.format {
	case report.Table: // a story is read better in words, and as it happens
		printReplay(&o.printer, path, r, partial)
		return o.err
	case report.JSON:
		o.all = append(o.all, j)
		return nil
	case report.JUnit:
		for _, c := range replayCases(path, r, trouble) {
			if err := o.rows.Add(report.Item{Case: c}); err != nil {
				return err
			}
		}
		return nil
	}
	f := r.Stats.Faults
	it := report.Item{Object: j, Cells: []any{path, r.Ops, r.Skipped, r.Processes, r.ExecPassed, r.ExecFailed, j.Tests,
		j.TestsPassed, f.Minor, f.Major, f.CoW, r.Stats.Assembled, momentCell(r.FirstAssembly), momentCell(r.FirstWrong),
		r.Crashes, r.Mismatched, report.Size(r.Tally.BytesCompared), r.Tally.Failures, partial}}
	lines := replayTrouble(r, partial)
	if r.FirstCrash != nil {
		lines = append([]string{r.FirstCrash.String()}, lines...)
	}
	if len(lines) > 0 {
		it.Notes = append([]string{report.Printable(path) + ":"}, lines...)
	}
	return o.rows.Add(it)
}

func (o *replayReport) close() error {
	switch o.format {
	case report.Table:
		return o.err
	case report.JSON:
		return report.WriteJSON(o.w, o.all)
	case report.JSONL:
		return nil
	}
	return o.rows.Close(report.Summary{Object: o.sum})
}

// replayCases are the tests of a trace, and one case more where something went
// wrong that is of none of them, or where there are none.
func replayCases(path string, r session.ReplayResult, trouble error) []report.Case {
	var cases []report.Case
	for _, t := range r.Tests {
		c := report.Case{Class: path, Name: t.Name}
		if !t.Passed {
			c.Failure = t.Reason
		}
		cases = append(cases, c)
	}
	whole := report.Case{Class: path, Name: "the trace"}
	switch lost := r.TestsPassed() < len(r.Tests); {
	case errors.Is(trouble, session.ErrStopped):
		whole.Skipped = "interrupted"
	case trouble != nil:
		whole.Failure = plain(trouble)
	case !lost && !r.OK(), !lost && r.Tally.Failures > 0:
		whole.Failure = replayReason(r)
		whole.Body = strings.Join(replayTrouble(r, false), "\n")
	case len(r.Tests) > 0:
		return cases
	}
	return append(cases, whole)
}

// replayReason says what a trace came to that is not OK.
func replayReason(r session.ReplayResult) string {
	if r.FirstCrash != nil {
		return r.FirstCrash.String()
	}
	return fmt.Sprintf("%s, %d of a wrong byte", report.Count(r.Mismatched, "other answer"), r.Wrong)
}

// printReplay says in words what a replay found.
func printReplay(p *printer, path string, r session.ReplayResult, partial bool) {
	p.f("%s: %s, %s, %s passed, %d failed\n", report.Printable(path), report.Count(r.Ops, "operation"),
		report.Count(r.Processes, "process"), report.Count(r.ExecPassed, "exec"), r.ExecFailed)
	if len(r.Tests) > 0 {
		p.f("  tests             %d of %d passed", r.TestsPassed(), len(r.Tests))
		for _, t := range r.Tests {
			if !t.Passed {
				p.f(", the first to fail is %q", t.Name)
				break
			}
		}
		p.f("\n")
	}
	p.f("  faults            %s\n", faultWords(r.Stats.Faults))
	p.f("  huge pages        %d assembled, %d mapped whole, %d in 4 KiB entries, %d split\n", r.Stats.Assembled,
		r.Stats.HugeMapped, r.Stats.HugeScattered, r.Stats.Splits)
	p.f("  first assembly    %s\n", momentWords(r.FirstAssembly))
	p.f("  first wrong byte  %s\n", momentWords(r.FirstWrong))
	if r.WrongLine != "" {
		p.f("                    %s\n", r.WrongLine)
	}
	p.f("  verified          %s\n", tallyWords(r.Tally))
	if r.Skipped > 0 {
		p.f("  skipped           %s of processes that had crashed\n", report.Count(r.Skipped, "operation"))
	}
	if r.FirstCrash != nil {
		p.f("  first crash       %s\n", r.FirstCrash)
	}
	for _, line := range replayTrouble(r, partial) {
		p.f("%s\n", line)
	}
}

// replayTrouble are the lines of what went wrong.
func replayTrouble(r session.ReplayResult, partial bool) []string {
	var lines []string
	shown := r.Mismatches[:min(len(r.Mismatches), mostLines)]
	for _, m := range shown {
		lines = append(lines, m.String())
	}
	if left := r.Mismatched - len(shown); left > 0 {
		lines = append(lines, fmt.Sprintf("... and %d more answers that are not the trace's (-o json has 1000)", left))
	}
	lines = append(lines, failureWords(r.Failures, r.Tally.Failures)...)
	if partial {
		lines = append(lines, "  the trace was not run to its end: the result is partial")
	}
	return lines
}
