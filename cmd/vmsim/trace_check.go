package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"vmsim/internal/report"
	"vmsim/internal/soundness"
)

type traceCheckFlags struct {
	format string
	strict bool
}

func newTraceCheckCommand() *cobra.Command {
	var f traceCheckFlags
	cmd := &cobra.Command{
		Use:   "check FILE...",
		Short: "Is a recording sound: does it explain what was there at the end?",
		Long: `check reads each trace to its end, and holds what it recorded against itself: the
areas and present pages after a fork or an exec, with every mapping call and every
touch that follows, must come to the areas and present pages that the recorder saw
before the next exec and at the end, page by page, private pages also by kind.
Times must ascend, processes be forked before they act, mappings lie where nothing
was.

Some differences have causes that no recorder sees; they are counted by cause, not
as errors:
  vdso            pages of vdso and vvar: not modelled
  kernel          came without an exception (a futex, O_DIRECT): in writable areas
                  only, and at most 16 and 1/64 of the pages; --strict excepts none
  fatal           the last fault of a thread, which a signal or its process's end cut
  fault_around    pages around a touched one, where areas were not cut
  freed           taken by the kernel after MADV_FREE or MADV_PAGEOUT
  past_end        beyond the end that a file had when the trace named it
  device          device memory and hugetlb: not modelled
  missing         what the header says is missing: without root, touches in system
                  calls, and whether a touch read or wrote

The exit code is 1 if there is a difference, a lost record, or an operation that
cannot be, and 2 if a trace is damaged.`,
		Example: `  vmsim trace check sh.vmt
  vmsim trace check --strict -o json gcc.vmt`,
		Args: want("trace", true),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a) },
	}
	fs := cmd.Flags()
	fs.StringVarP(&f.format, "output", "o", "table", "`FORMAT` of the result: "+strings.Join(report.Formats, ", "))
	fs.BoolVar(&f.strict, "strict", false, "a page that came without an exception is an error")
	complete(cmd, "output", report.Formats...)
	return cmd
}

// traceCheckColumns are a row for each trace. Those of soundness.Reasons stand
// between equal and different, where there are such pages.
var traceCheckColumns = []report.Column{
	{Key: "file", Title: "TRACE", Text: true},
	{Key: "ops", Title: "OPS"},
	{Key: "processes", Title: "PROCESSES"},
	{Key: "compared", Title: "COMPARED"},
	{Key: "forks", Title: "FORKS"},
	{Key: "pages", Title: "PAGES"},
	{Key: "equal", Title: "EQUAL"},
	{Key: "kernel", Title: "KERNEL", Rare: true},
	{Key: "vdso", Title: "VDSO", Rare: true},
	{Key: "device", Title: "DEVICE", Rare: true},
	{Key: "fatal", Title: "FATAL", Rare: true},
	{Key: "fault_around", Title: "FAULT-AROUND", Rare: true},
	{Key: "freed", Title: "FREED", Rare: true},
	{Key: "past_end", Title: "PAST END", Rare: true},
	{Key: "missing", Title: "MISSING", Rare: true},
	{Key: "different", Title: "DIFFERENT"},
	{Key: "areas_different", Title: "AREAS"},
	{Key: "not_compared"},
	{Key: "problems", Title: "PROBLEMS"},
	{Key: "lost", Title: "LOST"},
	{Key: "sound", Title: "SOUND", Text: true},
}

// traceCheckJSON is the result in json and jsonl. Figures of pages are in pages.
type traceCheckJSON struct {
	Type        string           `json:"type"`
	Path        string           `json:"path"`
	Sound       bool             `json:"sound"`
	Ops         int              `json:"ops"`
	Touches     int              `json:"touches"`
	Processes   int              `json:"processes"`
	Threads     int              `json:"threads"`
	Execs       int              `json:"execs"`
	Compared    int              `json:"compared"` // ends, of programs and processes
	Forks       int              `json:"forks"`    // starts of fork children
	NotCompared int              `json:"not_compared"`
	Pages       uint64           `json:"pages"`
	Equal       uint64           `json:"equal"`
	Excepted    excepted         `json:"excepted"`
	Different   uint64           `json:"different"`
	Areas       uint64           `json:"areas_different"`
	Lost        uint64           `json:"lost"`
	Problems    int              `json:"problems"`
	ProblemList []string         `json:"problem_list"`
	Looks       []comparisonJSON `json:"looks"` // those with differences, excepted ones too, or not compared
	Damage      string           `json:"damage,omitempty"`
}

// excepted are pages by the cause of their difference.
type excepted struct {
	Kernel      uint64 `json:"kernel"`
	VDSO        uint64 `json:"vdso"`
	Device      uint64 `json:"device"`
	Fatal       uint64 `json:"fatal"`
	FaultAround uint64 `json:"fault_around"`
	Freed       uint64 `json:"freed"`
	PastEnd     uint64 `json:"past_end"`
	Missing     uint64 `json:"missing"`
}

// comparisonJSON is one look of the recorder.
type comparisonJSON struct {
	PID         int      `json:"pid"`
	Program     string   `json:"program"`
	Point       string   `json:"point"`
	Line        int      `json:"line,omitempty"`
	Time        uint64   `json:"time_ns,omitempty"`
	NotCompared string   `json:"not_compared,omitempty"`
	Pages       uint64   `json:"pages"`
	Equal       uint64   `json:"equal"`
	Different   uint64   `json:"different"`
	Areas       uint64   `json:"areas_different"`
	List        []string `json:"list"`
}

// traceCheckSum is the summary.
type traceCheckSum struct {
	Type    string `json:"type"`
	Traces  int    `json:"traces"`
	Sound   int    `json:"sound"`
	Damaged int    `json:"damaged"`
}

// mostLooks is how many looks the result of one trace lists.
const mostLooks = 1000

func (f *traceCheckFlags) run(cmd *cobra.Command, paths []string) error {
	form, err := report.ParseFormat(f.format, report.Formats)
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	color, err := colors(cmd)
	if err != nil {
		return err
	}
	out := report.NewWriter(cmd.OutOrStdout(), form, color,
		report.Doc{Name: "vmsim trace check", List: "checked", Columns: traceCheckColumns})
	sum := traceCheckSum{Type: "summary"}
	var trouble error // a trace had some; each was told
	for _, path := range paths {
		j, err := f.one(cmd, path)
		if err != nil {
			sum.Damaged++
			trouble = troubled(cmd, err)
		}
		sum.Traces++
		if j.Sound {
			sum.Sound++
		}
		if err := out.Add(traceCheckItem(j)); err != nil {
			return err
		}
		if cmd.Context().Err() != nil {
			trouble = outcome(exitInterrupted)
			break
		}
	}
	if err := out.Close(report.Summary{Object: sum}); err != nil {
		return err
	}
	if trouble == nil && sum.Sound < sum.Traces {
		return outcome(exitMismatch)
	}
	return trouble
}

// one checks a trace. The error is what ended it early, which the result has too.
func (f *traceCheckFlags) one(cmd *cobra.Command, path string) (traceCheckJSON, error) {
	j := traceCheckJSON{Type: "trace_check", Path: path, ProblemList: []string{}, Looks: []comparisonJSON{}}
	in, err := openTrace(cmd, path)
	if err != nil {
		j.Damage = plain(err)
		return j, err
	}
	defer in.close()
	h, err := in.Header()
	if err != nil {
		j.Damage = plain(err)
		return j, err
	}
	each := func(c soundness.Comparison) {
		if (c.Skipped != "" || len(c.List) > 0) && len(j.Looks) < mostLooks {
			j.Looks = append(j.Looks, toComparisonJSON(c))
		}
	}
	r, err := soundness.Check(h, in.Next, soundness.Options{Strict: f.strict, Each: each})
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil {
		j.Damage = plain(err)
	}
	e := r.Excepted
	j.Ops, j.Touches, j.Processes, j.Threads, j.Execs = r.Ops, r.Touches, r.Processes, r.Threads, r.Execs
	j.Compared, j.Forks, j.NotCompared, j.Pages, j.Equal = r.Looks, r.Forks, r.Skipped, r.Pages, r.Equal
	j.Excepted = excepted{e[soundness.Kernel], e[soundness.VDSO], e[soundness.Device], e[soundness.Fatal],
		e[soundness.FaultAround], e[soundness.Freed], e[soundness.PastEnd], e[soundness.Missing]}
	j.Different, j.Areas, j.Lost, j.Problems = r.Different, r.BadAreas, r.Lost, r.Problems
	for _, p := range r.List {
		j.ProblemList = append(j.ProblemList, p.String())
	}
	j.Sound = r.OK() && err == nil
	return j, err
}

func toComparisonJSON(c soundness.Comparison) comparisonJSON {
	j := comparisonJSON{PID: c.PID, Program: c.Program, Point: c.Point.String(), Line: c.Line, Time: c.Time, NotCompared: c.Skipped,
		Pages: c.Pages, Equal: c.Equal, Different: c.Different, Areas: c.BadAreas, List: []string{}}
	for _, d := range c.List {
		j.List = append(j.List, d.String())
	}
	return j
}

// traceCheckItem is the row of a trace, with what is wrong in words below.
func traceCheckItem(j traceCheckJSON) report.Item {
	sound, why := report.Mark{Text: "yes", Tone: report.Good}, ""
	switch {
	case j.Damage != "":
		sound, why = report.Mark{Text: "damaged", Tone: report.Bad}, j.Damage
	case !j.Sound:
		sound = report.Mark{Text: "no", Tone: report.Bad}
		why = fmt.Sprintf("%s different, %s of areas, %s, %s lost", report.Count(int(j.Different), "page"),
			report.Count(int(j.Areas), "page"), report.Count(j.Problems, "problem"), report.Count(int(j.Lost), "record"))
	case j.Compared == 0:
		sound = report.Mark{Text: "nothing to compare", Tone: report.Weak}
	}
	e := j.Excepted
	it := report.Item{Object: j, Cells: []any{j.Path, j.Ops, j.Processes, j.Compared, j.Forks, int(j.Pages), int(j.Equal),
		int(e.Kernel), int(e.VDSO), int(e.Device), int(e.Fatal), int(e.FaultAround), int(e.Freed), int(e.PastEnd), int(e.Missing),
		int(j.Different), int(j.Areas), j.NotCompared, j.Problems, int(j.Lost), sound}}
	words := traceCheckWords(j)
	if len(words) > 0 {
		it.Notes = append([]string{report.Printable(j.Path) + ":"}, words...)
	}
	it.Case = report.Case{Class: "trace check", Name: j.Path, Failure: why, Body: strings.Join(words, "\n")}
	if why == "" {
		it.Case.Body = ""
	}
	return it
}

// traceCheckWords are the lines about what is wrong, and what was excepted; the
// first of them.
func traceCheckWords(j traceCheckJSON) []string {
	var lines []string
	left := 0
	add := func(line string) {
		if len(lines) >= mostLines {
			left++
			return
		}
		lines = append(lines, "  "+report.Printable(line))
	}
	for _, p := range j.ProblemList {
		add(p)
	}
	for _, bad := range []bool{true, false} { // what is wrong comes first
		for _, c := range j.Looks {
			if bad != (c.Different+c.Areas > 0) {
				continue
			}
			if c.NotCompared != "" {
				add(fmt.Sprintf("process %d, %s, %s: not compared: %s", c.PID, c.Program, c.Point, c.NotCompared))
			}
			for _, d := range c.List {
				if bad || !strings.HasSuffix(d, ": "+soundness.VDSO.String()) {
					add(fmt.Sprintf("process %d, %s, %s: %s", c.PID, c.Program, c.Point, d))
				}
			}
		}
	}
	if left > 0 {
		lines = append(lines, fmt.Sprintf("  ... and %d lines more (-o json has them)", left))
	}
	return lines
}
