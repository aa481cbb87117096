package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vmsim/internal/report"
	"vmsim/trace"
)

func newTraceInfoCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "info FILE...",
		Short: "Say what traces hold: what was recorded, and what is missing",
		Long: `info says of each trace who recorded it and what it lacks, how many operations of
each kind, processes, threads and programs it has, which time it spans, how many
bytes an operation takes, and whether it is damaged.`,
		Example: `  vmsim trace info sh.vmt
  vmsim trace info -o json testdata/traces/case-a.trace`,
		Args: want("trace", true),
		RunE: func(cmd *cobra.Command, a []string) error { return traceInfo(cmd, format, a) },
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "`FORMAT` of the result: "+strings.Join(report.Formats, ", "))
	complete(cmd, "output", report.Formats...)
	return cmd
}

// traceColumns are a row for each trace.
var traceColumns = []report.Column{
	{Key: "file", Title: "TRACE", Text: true},
	{Key: "form", Title: "FORM", Text: true},
	{Key: "source", Title: "SOURCE", Text: true},
	{Key: "touch_set", Title: "TOUCH SET", Text: true},
	{Key: "ops", Title: "OPS"},
	{Key: "touches", Title: "TOUCHES"},
	{Key: "processes", Title: "PROCESSES"},
	{Key: "threads", Title: "THREADS"},
	{Key: "execs", Title: "EXECS"},
	{Key: "time_ns"},
	{Key: "bytes", Title: "SIZE"},
	{Key: "bytes_per_op", Title: "BYTES/OP"},
	{Key: "blocks", Title: "BLOCKS"},
	{Key: "lost", Title: "LOST"},
	{Key: "whole", Title: "WHOLE"},
	{Key: "damage"},
}

// traceJSON is the result in json and jsonl.
type traceJSON struct {
	Type      string            `json:"type"`
	Path      string            `json:"path"`
	Form      string            `json:"form"`
	Header    trace.Header      `json:"header"`
	Ops       uint64            `json:"ops"`
	Kinds     map[string]uint64 `json:"kinds"`
	Processes int               `json:"processes"`
	Threads   int               `json:"threads"`
	Programs  []traceProgram    `json:"programs"`
	Failed    uint64            `json:"failed_execs"`
	From      uint64            `json:"from_ns"`
	To        uint64            `json:"to_ns"`
	Bytes     int64             `json:"bytes"`
	PerOp     float64           `json:"bytes_per_op"`
	Blocks    uint64            `json:"blocks"`
	Lost      uint64            `json:"lost"` // by the header or by operations, whichever knows of more
	Damage    string            `json:"damage,omitempty"`
}

type traceProgram struct {
	Path  string `json:"path"`
	Execs uint64 `json:"execs"`
}

// tracesSum is the summary of all traces.
type tracesSum struct {
	Type    string `json:"type"`
	Traces  int    `json:"traces"`
	Ops     uint64 `json:"ops"`
	Damaged int    `json:"damaged"`
}

func traceInfo(cmd *cobra.Command, format string, paths []string) error {
	form, err := report.ParseFormat(format, report.Formats)
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	color, err := colors(cmd)
	if err != nil {
		return err
	}
	out := report.NewWriter(cmd.OutOrStdout(), form, color, report.Doc{Name: "vmsim trace info", List: "traces", Columns: traceColumns})
	sum := tracesSum{Type: "summary"}
	var trouble error // a trace had some; each was told
	for _, path := range paths {
		j, err := oneTraceInfo(cmd, path)
		if err != nil {
			sum.Damaged++
			if cmd.Context().Err() != nil {
				trouble = outcome(exitInterrupted)
				break
			}
			trouble = troubled(cmd, err)
		}
		sum.Traces++
		sum.Ops += j.Ops
		if err := out.Add(traceItem(j)); err != nil {
			return err
		}
	}
	if err := out.Close(report.Summary{Object: sum}); err != nil {
		return err
	}
	return trouble
}

// oneTraceInfo reads a trace. The error is what ended it early, which the result
// has too.
func oneTraceInfo(cmd *cobra.Command, path string) (traceJSON, error) {
	j := traceJSON{Type: "trace", Path: path, Kinds: map[string]uint64{}, Programs: []traceProgram{}}
	in, err := openTrace(cmd, path)
	if err != nil {
		j.Damage = plain(err)
		return j, err
	}
	defer in.close()
	sum, err := trace.Summarize(in.Source)
	if err != nil {
		j.Damage = plain(err)
	}
	j.Form, j.Header, j.Ops, j.Processes, j.Threads, j.Failed = in.form(), sum.Header, sum.Ops, sum.Processes, sum.Threads, sum.Failed
	j.From, j.To, j.Bytes, j.Lost = sum.From, sum.To, in.size(), max(sum.Header.Lost, sum.Lost)
	for k, n := range sum.Kinds {
		j.Kinds[k.String()] = n
	}
	for _, p := range sum.Programs {
		j.Programs = append(j.Programs, traceProgram(p))
	}
	if j.Ops > 0 {
		j.PerOp = math.Round(float64(j.Bytes)/float64(j.Ops)*100) / 100
	}
	if r, ok := in.Source.(*trace.Reader); ok {
		j.Blocks = r.Blocks()
	}
	return j, err
}

// traceItem is the row of a trace, with the rest in words below.
func traceItem(j traceJSON) report.Item {
	h := j.Header
	execs := uint64(0)
	for _, p := range j.Programs {
		execs += p.Execs
	}
	it := report.Item{Object: j, Case: report.Case{Class: "trace", Name: j.Path, Failure: j.Damage}}
	source := h.Source
	if !h.Recorded() {
		source = "written"
	}
	whole := report.Mark{Text: "yes", Tone: report.Good}
	switch {
	case j.Damage != "":
		whole = report.Mark{Text: "damaged", Tone: report.Bad}
	case h.Recorded() && !h.Whole:
		whole = report.Mark{Text: "no", Tone: report.Bad}
	}
	it.Cells = []any{j.Path, j.Form, source, h.Touches, int(j.Ops), int(j.Kinds[trace.OpTouch.String()]), j.Processes, j.Threads,
		int(execs), int(j.To - j.From), report.Size(j.Bytes), fmt.Sprintf("%.2f", j.PerOp), int(j.Blocks), int(j.Lost), whole, j.Damage}
	it.Notes = append([]string{report.Printable(j.Path) + ":"}, traceWords(j)...)
	return it
}

// traceWords are the lines about a trace that have no column.
func traceWords(j traceJSON) []string {
	var lines []string
	h := j.Header
	add := func(what, text string) {
		if text != "" {
			lines = append(lines, strings.TrimRight(fmt.Sprintf("  %-10s  %s", what, report.Printable(text)), " "))
		}
	}
	add("written by", h.Tool)
	add("command", strings.Join(h.Command, " "))
	add("machine", strings.Join(strings.Fields(h.Host+" "+h.Kernel+" "+h.Arch), " "))
	add("began", h.Began)
	if j.To > 0 {
		add("time", fmt.Sprintf("%v, from %v to %v since the recording began (%s)", time.Duration(j.To-j.From), time.Duration(j.From), time.Duration(j.To), h.Clock))
	}
	add("touches", touchWords[h.Touches])
	var kinds []string
	for _, k := range slices.SortedFunc(maps.Keys(j.Kinds), func(a, b string) int {
		if j.Kinds[a] != j.Kinds[b] {
			return int(int64(j.Kinds[b] - j.Kinds[a]))
		}
		return strings.Compare(a, b)
	}) {
		kinds = append(kinds, fmt.Sprintf("%d %s", j.Kinds[k], k))
	}
	add("operations", strings.Join(kinds, ", "))
	for i, p := range j.Programs {
		if i == mostLines {
			add("", fmt.Sprintf("... and %d more programs (-o json has all)", len(j.Programs)-i))
			break
		}
		what := ""
		if i == 0 {
			what = "programs"
		}
		add(what, fmt.Sprintf("%d %s", p.Execs, p.Path))
	}
	if j.Failed > 0 {
		add("", report.Count(int(j.Failed), "exec")+" that failed")
	}
	for i, m := range h.Missing {
		what := ""
		if i == 0 {
			what = "missing"
		}
		add(what, m)
	}
	if j.Lost > 0 {
		add("lost", report.Count(int(j.Lost), "record"))
	}
	add("damage", j.Damage)
	return lines
}

// touchWords say what Header.Touches means.
var touchWords = map[string]string{
	trace.TouchesComplete: "the first of each page that was not mapped; not reads of pages that a fork inherits",
	trace.TouchesFaults:   "those that faulted: fault-around hides others",
	trace.TouchesAll:      "every reference",
	trace.TouchesNone:     "none: mapping calls alone",
}
