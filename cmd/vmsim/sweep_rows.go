package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"vmsim/internal/report"
	"vmsim/internal/session"
)

// sweepRows writes a sweep through package report: a row for each run of
// thresholds for people, for each threshold for programs.
type sweepRows struct {
	*report.Writer
	format report.Format
}

func newSweepRows(w io.Writer, format report.Format, color bool) *sweepRows {
	doc := report.Doc{Name: "vmsim sweep", List: "points", Columns: []report.Column{
		{Key: "file", Text: true},
		{Key: "policy", Title: "POLICY", Text: true},
		{Key: "threshold", Title: "THRESHOLD"},
		{Key: "windows", Title: "WINDOWS"},
		{Key: "from_cache", Title: "FROM CACHE"},
		{Key: "from_file", Title: "FROM FILE"},
		{Key: "zero", Title: "ZERO"},
		{Key: "mapped", Title: "MAPPED"},
		{Key: "one_entry", Title: "ONE ENTRY"},
		{Key: "bytes_read", Title: "READ"},
		{Key: "bytes_read_all", Title: "READ IN ALL"},
		{Key: "faults", Title: "FAULTS"},
		{Key: "avoided", Title: "AVOIDED"},
		{Key: "frames", Title: "FRAMES"},
		{Key: "added", Title: "ADDED"},
		{Key: "verdict", Title: "VERDICT", Text: true},
	}}
	return &sweepRows{report.NewWriter(w, format, color, doc), format}
}

func (s *sweepRows) add(r session.SweepResult) error {
	if s.format == report.Table || s.format == report.Markdown {
		for _, p := range r.Ranges() {
			if err := s.Add(rangeItem(r.Path, p)); err != nil {
				return err
			}
		}
		return nil
	}
	for _, p := range r.Points {
		it := report.Item{Cells: sweepCells(r.Path, p, p.Threshold), Object: toSweepJSON(r.Path, p), Case: sweepCase(r.Path, p)}
		if err := s.Add(it); err != nil {
			return err
		}
	}
	return nil
}

func (s *sweepRows) close(sum sweepSum) error {
	if sum.Points == 0 && (s.format == report.Table || s.format == report.Markdown) {
		return nil // the errors say all
	}
	line := fmt.Sprintf("%s, %s, %d with failures", report.Count(sum.Files, "file"), report.Count(sum.Points, "point"), sum.Failed)
	if sum.Killed > 0 {
		line += fmt.Sprintf(", %d without a result", sum.Killed)
	}
	lines := []string{line}
	if sum.Partial {
		lines = append(lines, "interrupted: the result is partial")
	}
	return s.Close(report.Summary{Object: sum, Lines: lines})
}

// sweepVerdict says how a point ended.
func sweepVerdict(p session.SweepPoint) report.Mark {
	switch {
	case p.Failures > 0:
		return report.Mark{Text: "FAIL", Tone: report.Bad}
	case p.Killed != "":
		return report.Mark{Text: "killed", Tone: report.Weak}
	}
	return report.Mark{Text: "ok", Tone: report.Good}
}

func sweepCells(path string, p session.SweepPoint, threshold any) []any {
	if p.Killed != "" {
		cells := make([]any, 16)
		cells[0], cells[1], cells[2], cells[15] = path, p.Policy, threshold, sweepVerdict(p)
		return cells
	}
	return []any{path, p.Policy, threshold, p.Windows, p.FromCache, p.FromFile, p.Zero, p.Mapped, p.OneEntry,
		report.Size(p.BytesRead), report.Size(p.BytesReadAll), p.Faults, p.Avoided, p.Frames, p.Added, sweepVerdict(p)}
}

// rangeWords names the thresholds of a range: 7, or 1-284.
func rangeWords(r session.SweepRange) string {
	if r.Last == r.Threshold {
		return fmt.Sprint(r.Threshold)
	}
	return fmt.Sprintf("%d-%d", r.Threshold, r.Last)
}

// rangeItem is a row for people, with the failures below the file's table.
func rangeItem(path string, r session.SweepRange) report.Item {
	it := report.Item{Section: path, Cells: sweepCells(path, r.SweepPoint, rangeWords(r))}
	if r.Failures == 0 {
		return it
	}
	it.Notes = append(it.Notes, fmt.Sprintf("%s, threshold %s: %s", r.Policy, rangeWords(r), report.Count(r.Failures, "failure")))
	it.Notes = append(it.Notes, failureLines(r.FailureEvents)...)
	return it
}

func sweepCase(path string, p session.SweepPoint) report.Case {
	c := report.Case{Class: path, Name: p.String()}
	switch {
	case p.Failures > 0:
		c.Failure = report.Count(p.Failures, "failure")
		c.Body = strings.Join(failureLines(p.FailureEvents), "\n")
	case p.Killed != "":
		c.Skipped = p.Killed
	}
	return c
}

// sweepJSON is a point in json and jsonl.
type sweepJSON struct {
	Type          string   `json:"type"`
	Path          string   `json:"path"`
	PathBytes     []byte   `json:"path_bytes,omitempty"` // of a path that is not UTF-8
	Policy        string   `json:"policy"`
	Threshold     int      `json:"threshold"`
	Verdict       string   `json:"verdict"`
	Reason        string   `json:"reason"`
	Windows       int      `json:"windows"`
	FromCache     int      `json:"from_cache"`
	FromFile      int      `json:"from_file"`
	Zero          int      `json:"zero"`
	Mapped        int      `json:"mapped"`
	OneEntry      int      `json:"one_entry"`
	BytesRead     uint64   `json:"bytes_read"`
	BytesReadAll  uint64   `json:"bytes_read_all"`
	Faults        int      `json:"faults"`
	Avoided       int      `json:"avoided"`
	Frames        int      `json:"frames"`
	Added         int      `json:"added"`
	BytesCompared uint64   `json:"bytes_compared"`
	Failures      int      `json:"failures"`
	FailureLines  []string `json:"failure_lines,omitempty"`
}

func toSweepJSON(path string, p session.SweepPoint) sweepJSON {
	j := sweepJSON{Type: "sweep", Path: path, Policy: p.Policy, Threshold: p.Threshold, Verdict: sweepVerdict(p).Text,
		Reason: p.Killed, Windows: p.Windows, FromCache: p.FromCache, FromFile: p.FromFile, Zero: p.Zero, Mapped: p.Mapped,
		OneEntry: p.OneEntry, BytesRead: p.BytesRead, BytesReadAll: p.BytesReadAll, Faults: p.Faults, Avoided: p.Avoided,
		Frames: p.Frames, Added: p.Added, BytesCompared: p.BytesCompared, Failures: p.Failures,
		FailureLines: failureLines(p.FailureEvents)}
	if !utf8.ValidString(path) {
		j.PathBytes = []byte(path)
	}
	return j
}
