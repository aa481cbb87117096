package explain

import (
	"fmt"
	"strings"

	"vmsim/internal/report"
	"vmsim/mem"
)

// Rule is one way to a huge page; the package comment has them.
type Rule int

const (
	Kevlar Rule = iota
	Linux
	Aligned
	Remap
	nRules
)

// Rules are all of them, in the order of the columns.
var Rules = [nRules]Rule{Kevlar, Linux, Aligned, Remap}

func (r Rule) String() string { return [nRules]string{"kevlar", "linux", "aligned", "remap"}[r] }

// Answer says whether a window can be huge, from the worst to the best.
type Answer int

const (
	No Answer = iota
	Depends
	Frames // kevlar: assembled, but mapped by 4 KiB entries
	Yes
)

func (a Answer) String() string { return [...]string{"no", "depends", "4 KiB", "yes"}[a] }

// MarshalText gives the answer to JSON.
func (a Answer) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// Code names a kind of obstacle, for programs.
type Code string

const (
	Anonymous   Code = "anonymous"   // no byte of the file: .bss
	Shared      Code = "shared"      // several areas in the window
	Outside     Code = "outside"     // head or tail of the window is not the segment's
	Short       Code = "short"       // the segment has less than 2 MiB
	NoWindow    Code = "no_window"   // 2 MiB or more, but no whole window
	Incongruent Code = "incongruent" // address and offset differ modulo 2 MiB
	Writable    Code = "writable"    // a write splits it, or the rule wants read-only segments
	BeyondEOF   Code = "beyond_eof"  // the file ends before the window
	PAlign      Code = "p_align"     // smaller than 2 MiB, in an ET_DYN
	BaseAny     Code = "base"        // whether it is aligned is up to the base
	NotExec     Code = "not_exec"    // only text is remapped
	Threshold   Code = "threshold"   // too few sub-pages can be cached
	NoRead      Code = "no_read"     // nothing may touch it
	Permissions Code = "permissions" // several in one window
	NoArea      Code = "no_area"     // sub-pages without an area
)

// Obstacle is something in the way of a huge page.
type Obstacle struct {
	Code  Code   `json:"code"`
	Bytes uint64 `json:"bytes,omitempty"` // by how much, where there is a size to tell
	Text  string `json:"text"`

	open bool // it leaves the answer open
}

func obstacle(c Code, n uint64, format string, args ...any) Obstacle {
	return Obstacle{Code: c, Bytes: n, Text: fmt.Sprintf(format, args...)}
}

// Verdict is the answer of one rule for one window or segment.
type Verdict struct {
	Answer    Answer     `json:"answer"`
	Obstacles []Obstacle `json:"obstacles,omitempty"`
	Note      string     `json:"note,omitempty"` // what else there is to say
}

// Reason is the verdict in words.
func (v Verdict) Reason() string {
	var parts []string
	for _, o := range v.Obstacles {
		parts = append(parts, o.Text)
	}
	if v.Note != "" {
		parts = append(parts, v.Note)
	}
	return strings.Join(parts, "; ")
}

// equal reports whether two verdicts read the same.
func (v Verdict) equal(w Verdict) bool { return v.Answer == w.Answer && v.Reason() == w.Reason() }

// size formats bytes for a reason: exactly, where that is short.
func size(n uint64) string {
	switch {
	case n < mem.PageSize:
		return fmt.Sprintf("0x%x bytes", n)
	case n%1024 == 0 && n < 16<<20:
		return fmt.Sprintf("%d KiB", n/1024)
	}
	return report.Bytes(n)
}

// segments names segments by their index: segment 1, segments 0, 2 and 3.
func segments(idx []int) string {
	const most = 4
	if len(idx) == 1 {
		return fmt.Sprintf("segment %d", idx[0])
	}
	if len(idx) > most {
		return fmt.Sprintf("%d segments", len(idx))
	}
	var b strings.Builder
	b.WriteString("segments ")
	for i, n := range idx {
		switch {
		case i == 0:
		case i == len(idx)-1:
			b.WriteString(" and ")
		default:
			b.WriteString(", ")
		}
		fmt.Fprint(&b, n)
	}
	return b.String()
}

// name describes an area in a reason: segment 1 (r-x).
func (a *area) name() string {
	what := a.prot.String()
	if !a.backed() {
		what = ".bss"
	}
	return fmt.Sprintf("%s (%s)", segments(a.segs), what)
}

// names describes several areas.
func names(areas []area) string {
	const most = 4
	if len(areas) > most {
		return report.Count(len(areas), "area")
	}
	var parts []string
	for i := range areas {
		parts = append(parts, areas[i].name())
	}
	return strings.Join(parts, ", ")
}

// wholeWindows returns the windows that lie in r wholly.
func wholeWindows(r mem.Range) mem.Range {
	start := r.Start.HugeDown()
	if start < r.Start {
		start += mem.HugeSize // cannot overflow: r lies in user space
	}
	end := r.End.HugeDown()
	return mem.Range{Start: start, End: max(start, end)}
}
