package main

import (
	"fmt"

	"vmsim/internal/explain"
	"vmsim/internal/report"
)

// verdictJSON is a verdict for programs.
type verdictJSON struct {
	Answer    explain.Answer     `json:"answer"`
	Reason    string             `json:"reason"`
	Obstacles []explain.Obstacle `json:"obstacles"`
	Windows   uint64             `json:"windows,omitempty"` // of a segment: answered better than no
}

// byRule has something for each rule.
type byRule[T any] struct {
	Kevlar  T `json:"kevlar"`
	Linux   T `json:"linux"`
	Aligned T `json:"aligned"`
	Remap   T `json:"remap"`
}

func forRules[T any](f func(explain.Rule) T) byRule[T] {
	return byRule[T]{f(explain.Kevlar), f(explain.Linux), f(explain.Aligned), f(explain.Remap)}
}

func verdictToJSON(v explain.Verdict, windows uint64) verdictJSON {
	obstacles := v.Obstacles
	if obstacles == nil {
		obstacles = []explain.Obstacle{}
	}
	return verdictJSON{v.Answer, v.Reason(), obstacles, windows}
}

// segmentJSON is a segment, addresses at the base of the report.
type segmentJSON struct {
	Type     string              `json:"type"`
	Index    int                 `json:"index"`
	Start    string              `json:"start"`
	End      string              `json:"end"`
	Prot     string              `json:"prot"`
	Offset   string              `json:"file_offset"`
	Filesz   uint64              `json:"file_bytes"`
	Memsz    uint64              `json:"memory_bytes"`
	Align    string              `json:"p_align"`
	Verdicts byRule[verdictJSON] `json:"verdicts"`
}

// windowJSON is a run of windows.
type windowJSON struct {
	Type     string              `json:"type"`
	Base     string              `json:"base"`
	Windows  uint64              `json:"windows"`
	Segments []int               `json:"segments"`
	Cached   int                 `json:"most_cached_sub_pages"`
	Verdicts byRule[verdictJSON] `json:"verdicts"`
}

// fixJSON is another way to link.
type fixJSON struct {
	Flags    string       `json:"flags"`
	Linker   string       `json:"linker"`
	Script   bool         `json:"script"`
	FileSize uint64       `json:"file_bytes"`
	Cost     int64        `json:"cost_bytes"`
	Text     uint64       `json:"text_bytes"`
	ReadOnly uint64       `json:"read_only_bytes"`
	Gain     explain.Gain `json:"gain"`
}

// editJSON is a change of p_align alone.
type editJSON struct {
	Segment  int    `json:"segment"`
	Offset   string `json:"file_offset"`
	From     string `json:"from"`
	To       string `json:"to"`
	Text     uint64 `json:"text_bytes"`
	ReadOnly uint64 `json:"read_only_bytes"`
}

// riskJSON is a sub-page that a bug of case A fills wrongly.
type riskJSON struct {
	Bug       string `json:"bug"`
	Base      string `json:"huge_base"`
	SubPage   int    `json:"sub_page"`
	FirstDiff int    `json:"first_diff"`
	Index     uint64 `json:"page_index"`
	Why       string `json:"why"`
}

// explainJSON is all about one file, but for its segments and windows.
type explainJSON struct {
	Type      string                 `json:"type"`
	Path      string                 `json:"path"`
	Skipped   string                 `json:"skipped"` // the reason; "" where it was explained
	Kind      string                 `json:"kind"`
	Size      uint64                 `json:"size_bytes"`
	Segments  int                    `json:"segments"`
	Windows   uint64                 `json:"windows"`
	Placement explain.Placement      `json:"placement"`
	Bias      string                 `json:"bias"`
	Align     string                 `json:"p_align"`
	Text      uint64                 `json:"text_bytes"`
	ReadOnly  uint64                 `json:"read_only_bytes"`
	Answers   byRule[explain.Answer] `json:"answers"`
	Huge      byRule[explain.ByBase] `json:"huge"`
	Obstacle  *explain.Obstacle      `json:"obstacle"`
	Best      *fixJSON               `json:"best_fix"`
	Fixes     []fixJSON              `json:"fixes"`
	Edit      *editJSON              `json:"p_align_edit"`
	Gain      explain.Gain           `json:"gain_as_is"`
	Boundary  int                    `json:"boundary_pages"`
	Shared    int                    `json:"shared_indexes"`
	Risks     []riskJSON             `json:"case_a"`
}

func hexOf[T ~uint64 | ~int64](n T) string { return fmt.Sprintf("0x%x", n) }

func fixToJSON(f explain.Fix) fixJSON {
	return fixJSON{f.Flags, f.Linker, f.Script, f.FileSize, f.Cost, f.Text, f.ReadOnly, f.Gain()}
}

func explainToJSON(path string, r *explain.Report) explainJSON {
	j := explainJSON{Type: "file", Path: path, Kind: kindOf(r), Size: r.Size, Segments: len(r.Segments), Placement: r.Placement,
		Bias: hexOf(r.Bias), Align: hexOf(r.Align), Text: r.Text, ReadOnly: r.ReadOnly,
		Answers: forRules(func(rule explain.Rule) explain.Answer { return fileAnswer(r, rule) }),
		Huge:    forRules(func(rule explain.Rule) explain.ByBase { return r.ByBase[rule] }),
		Fixes:   []fixJSON{}, Gain: r.Gain, Boundary: r.Boundary, Shared: r.Shared, Risks: []riskJSON{}}
	for _, w := range r.Windows {
		j.Windows += w.N
	}
	if r.Obstacle.Code != "" {
		j.Obstacle = &r.Obstacle
	}
	for _, f := range r.Fixes {
		j.Fixes = append(j.Fixes, fixToJSON(f))
	}
	if f, ok := r.Best(); ok {
		best := fixToJSON(f)
		j.Best = &best
	}
	if e := r.Edit; e != nil {
		j.Edit = &editJSON{e.Segment, hexOf(e.Offset), hexOf(e.From), hexOf(e.To), e.Text, e.ReadOnly}
	}
	for _, k := range r.Risks {
		j.Risks = append(j.Risks, riskJSON{k.Bug, hexOf(k.Base), k.SubPage, k.Diff, k.Index, k.Why})
	}
	return j
}

// fileAnswer is the answer of a rule for the text of a file; of kevlar's, whose
// windows hold what they hold, for any window.
func fileAnswer(r *explain.Report, rule explain.Rule) explain.Answer {
	if rule != explain.Kevlar {
		return r.ByBase[rule].TextAnswer()
	}
	best := explain.No
	for _, w := range r.Windows {
		best = max(best, w.Verdicts[rule].Answer)
	}
	return best
}

// kindOf says what a file is.
func kindOf(r *explain.Report) string {
	switch {
	case !r.Image.Dynamic:
		return "ET_EXEC"
	case r.Image.Interp != "":
		return "PIE"
	}
	return "library or static PIE"
}

// answerMark gives an answer its tone.
func answerMark(a explain.Answer) report.Mark {
	return report.Mark{Text: a.String(), Tone: map[explain.Answer]report.Tone{
		explain.Yes: report.Good, explain.No: report.Bad, explain.Depends: report.Plain, explain.Frames: report.Plain}[a]}
}
