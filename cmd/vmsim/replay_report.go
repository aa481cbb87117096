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
	format  report.Format
	program bool // rows are programs of recordings
	rows    *report.Writer
	all     []replayJSON // json
	sum     replaySum
}

// replayed is what a trace came to on a machine.
type replayed struct {
	flags string // of --compare; "" is the command's own machine
	res   session.ReplayResult
	err   error // what ended it early
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

// newReplayReport returns a report of traces, or of their programs; compared says
// that each was run on two machines.
func newReplayReport(w io.Writer, format report.Format, program, compared bool) *replayReport {
	doc := report.Doc{Name: "vmsim replay", Columns: replayColumns}
	if program && format != report.Table && format != report.JSON && format != report.JSONL && format != report.JUnit {
		doc.Columns = programColumns
	} else {
		program = false
	}
	if compared {
		doc.Columns = append(doc.Columns[:len(doc.Columns):len(doc.Columns)], report.Column{Key: "flags", Title: "FLAGS", Text: true})
	}
	rows := report.NewWriter(w, format, false, doc)
	return &replayReport{printer: printer{w: w}, format: format, program: program, all: []replayJSON{}, rows: rows}
}

// add takes the results of a trace, whole or as far as it came: one, or a second
// with other flags.
func (o *replayReport) add(path string, results []replayed) error {
	switch o.format {
	case report.Table: // a story is read better in words, and as it happens
		printReplay(&o.printer, path, results[0].res, results[0].err != nil)
		if len(results) > 1 {
			if err := printCompared(&o.printer, results[0], results[1]); err != nil {
				return err
			}
			for _, line := range replayTrouble(results[1].res, results[1].err != nil) {
				o.f("%s\n", line)
			}
		}
		return o.err
	case report.JSON:
		o.all = append(o.all, o.object(path, results))
		return nil
	case report.JSONL:
		return o.rows.Add(report.Item{Object: o.object(path, results)})
	}
	for _, r := range results {
		o.count(path, r)
		var err error
		switch {
		case o.format == report.JUnit:
			err = o.cases(path, r)
		case o.program:
			err = o.programs(path, r)
		default:
			err = o.row(path, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// object is the results as json has them: the second is a part of the first.
func (o *replayReport) object(path string, results []replayed) replayJSON {
	j := toReplayJSON(path, results[0].res, results[0].err != nil)
	if len(results) > 1 {
		second := toReplayJSON(path, results[1].res, results[1].err != nil)
		second.Flags = results[1].flags
		j.Compared = &second
	}
	return j
}

// count adds a result to the sum.
func (o *replayReport) count(path string, r replayed) {
	o.sum.Traces++
	o.sum.Tests += len(r.res.Tests)
	o.sum.TestsPassed += r.res.TestsPassed()
	o.sum.Failures += r.res.Tally.Failures
	o.sum.Partial = o.sum.Partial || r.err != nil
}

// title is how a result is called where two of a trace are told.
func (r *replayed) title(path string) string {
	if r.flags == "" {
		return path
	}
	return path + " " + r.flags
}

func (o *replayReport) cases(path string, r replayed) error {
	for _, c := range replayCases(r.title(path), r.res, r.err) {
		if err := o.rows.Add(report.Item{Case: c}); err != nil {
			return err
		}
	}
	return nil
}

func (o *replayReport) row(path string, r replayed) error {
	f, res := r.res.Stats.Faults, r.res
	it := report.Item{Cells: []any{path, res.Ops, res.Skipped, res.Processes, res.ExecPassed, res.ExecFailed, len(res.Tests),
		res.TestsPassed(), f.Minor, f.Major, f.CoW, res.Stats.Assembled, momentCell(res.FirstAssembly), momentCell(res.FirstWrong),
		res.Crashes, res.Mismatched, report.Size(res.Tally.BytesCompared), res.Tally.Failures, r.err != nil, r.flags}}
	if len(o.rows.Columns()) < len(it.Cells) {
		it.Cells = it.Cells[:len(it.Cells)-1]
	}
	lines := replayTrouble(res, r.err != nil)
	if res.FirstCrash != nil {
		lines = append([]string{res.FirstCrash.String()}, lines...)
	}
	if len(lines) > 0 {
		it.Notes = append([]string{report.Printable(r.title(path)) + ":"}, lines...)
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
	assembledIn, wrongIn := "", ""
	if rec := r.Recording; rec != nil {
		assembledIn, wrongIn = in(rec.AssembledIn), in(rec.WrongIn)
	}
	p.f("  first assembly    %s%s\n", momentWords(r.FirstAssembly), assembledIn)
	p.f("  first wrong byte  %s%s\n", momentWords(r.FirstWrong), wrongIn)
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
	if r.FirstRefused != nil {
		p.f("  refused           %s, as segmentation faults; the recording does not tell which were. First:\n",
			report.Count(r.Refused, "touch"))
		p.f("                    %s\n", r.FirstRefused)
	}
	printRecording(p, r.Recording)
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
	if r.Recording != nil {
		if n := r.Recording.Contradicted(); n > 0 {
			lines = append(lines, fmt.Sprintf("  %s were present when this was recorded, but a touch of them was refused here", report.Count(int(n), "page")))
		}
	}
	lines = append(lines, failureWords(r.Failures, r.Tally.Failures)...)
	if partial {
		lines = append(lines, "  the trace was not run to its end: the result is partial")
	}
	return lines
}
