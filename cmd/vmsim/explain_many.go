package main

import (
	"cmp"
	"fmt"
	"slices"

	"vmsim/internal/explain"
	"vmsim/internal/report"
	"vmsim/internal/session"
)

var explainColumns = []report.Column{
	{Key: "file", Title: "FILE", Text: true},
	{Key: "kind"},
	{Key: "size_bytes", Title: "SIZE"},
	{Key: "segments", Title: "SEGMENTS"},
	{Key: "windows", Title: "WINDOWS"},
	{Key: "text_bytes", Title: "TEXT"},
	{Key: "read_only_bytes"},
	{Key: "kevlar", Title: "KEVLAR", Text: true},
	{Key: "linux", Title: "LINUX", Text: true},
	{Key: "aligned", Title: "ALIGNED", Text: true},
	{Key: "remap", Title: "REMAP", Text: true},
	{Key: "kevlar_text_bytes"},
	{Key: "linux_text_min_bytes"}, {Key: "linux_text_max_bytes", Title: "HUGE TEXT"},
	{Key: "aligned_text_bytes"},
	{Key: "remap_text_min_bytes"}, {Key: "remap_text_max_bytes"},
	{Key: "obstacle", Title: "FIRST OBSTACLE", Text: true},
	{Key: "fix_text_bytes", Title: "FIXED TEXT"},
	{Key: "fix_file_bytes", Title: "FIXED SIZE"},
	{Key: "fix", Title: "BEST FIX", Text: true},
	{Key: "boundary_pages"}, {Key: "shared_indexes"}, {Key: "case_a_sub_pages"}, {Key: "skipped"},
}

// explainSum is the sum over all files.
type explainSum struct {
	Type     string               `json:"type"`
	Files    int                  `json:"files"`
	Skipped  int                  `json:"skipped"`
	NotELF   int                  `json:"not_elf"`
	Size     uint64               `json:"size_bytes"`
	Text     uint64               `json:"text_bytes"`
	ReadOnly uint64               `json:"read_only_bytes"`
	Huge     byRule[explain.Span] `json:"huge_text"`
	Fixable  uint64               `json:"fixable_text_bytes"` // that the best fixes would add to aligned
	Cost     int64                `json:"fix_cost_bytes"`     // of these fixes
	Fixed    int                  `json:"fixable_files"`
	AtRisk   int                  `json:"case_a_files"` // in which a bug of case A would show
	Top      []explainCandidate   `json:"top"`
	Partial  bool                 `json:"partial"`
}

// explainCandidate is a file that a fix would help.
type explainCandidate struct {
	Path  string `json:"path"`
	Gain  uint64 `json:"text_gain_bytes"` // text that becomes huge
	Text  uint64 `json:"text_bytes"`
	Flags string `json:"flags"`
	Cost  int64  `json:"cost_bytes"`

	fix explain.Fix
}

// many writes one line a file.
func (e *explaining) many(corpus session.Corpus, format report.Format) error {
	ctx := e.cmd.Context()
	w := report.NewWriter(e.cmd.OutOrStdout(), format, e.color, report.Doc{Name: "vmsim explain", List: "files", Columns: explainColumns})
	sum := explainSum{Type: "summary", Top: []explainCandidate{}, NotELF: corpus.NotELF.Total()}
	var failed error
	add := func(it report.Item) {
		if failed == nil {
			failed = w.Add(it)
		}
	}
	e.all(ctx, corpus.Sources, func(path string, r *explain.Report) {
		sum.add(path, r)
		add(explainItem(path, r))
	}, func(path string, err error) {
		sum.Skipped++
		add(explainSkipped(path, whyOf(path, err)))
	}, func() { sum.NotELF++ })
	if failed != nil {
		return failed
	}
	sum.Partial = ctx.Err() != nil
	sum.best(e.top)
	return w.Close(report.Summary{Object: sum, Lines: sum.lines()})
}

// whyOf is an error without the path, which stands beside it.
func whyOf(path string, err error) string {
	s := plain(err)
	if len(s) > len(path)+2 && s[:len(path)+2] == path+": " {
		s = s[len(path)+2:]
	}
	return s
}

func explainItem(path string, r *explain.Report) report.Item {
	j := explainToJSON(path, r)
	cells := []any{path, j.Kind, report.Size(r.Size), len(r.Segments), int(j.Windows), report.Size(r.Text), report.Size(r.ReadOnly)}
	for _, rule := range explain.Rules {
		cells = append(cells, answerMark(fileAnswer(r, rule)))
	}
	h := r.ByBase
	cells = append(cells, report.Size(h[explain.Kevlar].Text.Max), report.Size(h[explain.Linux].Text.Min), report.Size(h[explain.Linux].Text.Max),
		report.Size(h[explain.Aligned].Text.Max), report.Size(h[explain.Remap].Text.Min), report.Size(h[explain.Remap].Text.Max),
		report.Mark{Text: string(r.Obstacle.Code), Tone: report.Weak})
	if f, ok := r.Best(); ok {
		cells = append(cells, report.Size(f.Text), report.Size(f.FileSize), f.Flags)
	} else {
		cells = append(cells, nil, nil, nil)
	}
	risky := map[string]bool{}
	for _, k := range r.Risks {
		risky[fmt.Sprint(k.Base, k.SubPage)] = true
	}
	cells = append(cells, r.Boundary, r.Shared, len(risky))
	return report.Item{Cells: cells, Object: j, Case: report.Case{Class: "vmsim explain", Name: path}}
}

// explainSkippedJSON is a file that could not be explained.
type explainSkippedJSON struct {
	Type    string `json:"type"`
	Path    string `json:"path"`
	Skipped string `json:"skipped"`
}

func explainSkipped(path, why string) report.Item {
	cells := make([]any, len(explainColumns))
	cells[0], cells[len(cells)-1] = path, why
	for i, c := range explainColumns {
		if c.Key == "obstacle" {
			cells[i] = report.Mark{Text: "skipped", Tone: report.Weak}
		}
	}
	return report.Item{
		Cells:  cells,
		Object: explainSkippedJSON{"file", path, why},
		Notes:  []string{report.Printable(fmt.Sprintf("%s: skipped: %s", path, why))},
		Case:   report.Case{Class: "vmsim explain", Name: path, Skipped: why},
	}
}

func (s *explainSum) add(path string, r *explain.Report) {
	s.Files++
	s.Size += r.Size
	s.Text += r.Text
	s.ReadOnly += r.ReadOnly
	for rule, to := range map[explain.Rule]*explain.Span{explain.Kevlar: &s.Huge.Kevlar, explain.Linux: &s.Huge.Linux,
		explain.Aligned: &s.Huge.Aligned, explain.Remap: &s.Huge.Remap} {
		to.Min += r.ByBase[rule].Text.Min
		to.Max += r.ByBase[rule].Text.Max
	}
	if len(r.Risks) > 0 {
		s.AtRisk++
	}
	if f, ok := r.Best(); ok {
		gain := f.Text - r.ByBase[explain.Aligned].Text.Max
		s.Fixed++
		s.Fixable += gain
		s.Cost += f.Cost
		s.Top = append(s.Top, explainCandidate{path, gain, r.Text, f.Flags, f.Cost, f})
	}
}

// best keeps the n candidates with the most text to gain.
func (s *explainSum) best(n int) {
	slices.SortStableFunc(s.Top, func(a, b explainCandidate) int {
		return cmp.Or(cmp.Compare(b.Gain, a.Gain), cmp.Compare(a.Cost, b.Cost), cmp.Compare(a.Path, b.Path))
	})
	s.Top = s.Top[:min(n, len(s.Top))]
}

// lines are the totals for people.
func (s *explainSum) lines() []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	more := ""
	if s.NotELF > 0 {
		more = fmt.Sprintf(", %d not ELF", s.NotELF)
	}
	add("%s explained, %d skipped%s; %s of text", report.Count(s.Files, "file"), s.Skipped, more, report.Bytes(s.Text))
	add("  huge text: kevlar %s, linux %s, aligned %s, remap %s", bytesOf(s.Huge.Kevlar), bytesOf(s.Huge.Linux), bytesOf(s.Huge.Aligned), bytesOf(s.Huge.Remap))
	add("  linked anew, %s would have %s more of it, for %s", report.Count(s.Fixed, "file"), report.Bytes(s.Fixable), signedBytes(s.Cost)+" in file size")
	add("  bugs of case A would show in %s", report.Count(s.AtRisk, "file"))
	if len(s.Top) > 0 {
		add("")
		add("top candidates: text that becomes huge, of all its text; flags; size of the file")
	}
	for i, c := range s.Top {
		add("%3d  %s of %s  %s", i+1, report.Bytes(c.Gain), report.Bytes(c.Text), report.Printable(c.Path))
		add("     %s: %s", c.Flags, growthWords(c.fix))
	}
	if s.Partial {
		add("interrupted: the result is partial")
	}
	return lines
}

// signedBytes formats a number of bytes that may be negative.
func signedBytes(n int64) string {
	if n < 0 {
		return "-" + report.Bytes(uint64(-n))
	}
	return "+" + report.Bytes(uint64(n))
}
