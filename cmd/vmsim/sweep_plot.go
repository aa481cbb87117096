package main

import (
	"fmt"
	"slices"
	"strings"

	"vmsim/internal/report"
	"vmsim/internal/session"
)

const (
	plotColumns = 80
	plotLines   = 40 // at most, for one policy
)

// sweepPlot draws a sweep as bars of text: for each policy a line for each run
// of thresholds, with the windows assembled and the faults avoided. Bars of one
// file have one scale, so that its policies compare.
type sweepPlot struct {
	printer
	files int
}

func (s *sweepPlot) add(r session.SweepResult) error {
	if len(r.Points) == 0 {
		return s.err
	}
	if s.files++; s.files > 1 {
		s.f("\n")
	}
	s.f("%s\n", report.Printable(r.Path))
	ranges := r.Ranges()
	draw := newBars(ranges)
	for len(ranges) > 0 {
		n := slices.IndexFunc(ranges, func(x session.SweepRange) bool { return x.Policy != ranges[0].Policy })
		if n < 0 {
			n = len(ranges)
		}
		s.policy(ranges[:n], draw)
		ranges = ranges[n:]
	}
	return s.err
}

// policy draws the lines of one policy. Where there are too many, those are left
// out that lie close together on a logarithmic scale.
func (s *sweepPlot) policy(ranges []session.SweepRange, draw bars) {
	s.f("\n%s\n", draw.line("threshold", "windows "+ranges[0].Policy, "faults avoided"))
	shown := 0
	for i, r := range ranges {
		if len(ranges) > plotLines && i > 0 && i < len(ranges)-1 && plotBucket(r.Threshold) == plotBucket(ranges[i-1].Threshold) {
			continue
		}
		shown++
		if r.Killed != "" {
			s.f("%s\n", draw.line(rangeWords(r), "killed", ""))
			continue
		}
		s.f("%s\n", draw.line(rangeWords(r), draw.windows.bar(r.Windows), draw.avoided.bar(r.Avoided)))
	}
	if shown < len(ranges) {
		s.f("(%d of %d results are shown; -o csv has all)\n", shown, len(ranges))
	}
}

func (s *sweepPlot) close(sum sweepSum) error {
	if sum.Points == 0 {
		return s.err
	}
	if sum.Failed > 0 {
		s.f("\n%s with failures: -o table shows them\n", report.Count(sum.Failed, "point"))
	}
	if sum.Partial {
		s.f("\ninterrupted: the result is partial\n")
	}
	return s.err
}

// plotBucket numbers thresholds so that four numbers make an octave.
func plotBucket(t int) int {
	octave := 0
	for ; t >= 8; t /= 2 {
		octave++
	}
	return 8*octave + t
}

// bars is the scale of a plot.
type bars struct {
	label            int // columns of the thresholds
	windows, avoided scale
}

// scale is one kind of bars.
type scale struct {
	most   int // the value of a full bar
	digits int // columns of the figure in front
	full   int // columns of a full bar
	mark   string
}

func newBars(ranges []session.SweepRange) bars {
	b := bars{label: len("threshold"), windows: scale{mark: "#"}, avoided: scale{mark: "="}}
	for _, r := range ranges {
		b.windows.see(r.Windows)
		b.avoided.see(r.Avoided)
	}
	const gaps = 2*2 + 2*1 // between the parts, and behind the figures
	room := plotColumns - b.label - gaps - b.windows.digits - b.avoided.digits
	b.windows.full = max(room/2, 1)
	b.avoided.full = b.windows.full
	return b
}

func (s *scale) see(v int) {
	s.most = max(s.most, v)
	s.digits = max(s.digits, len(fmt.Sprint(v)))
}

// bar is a figure and its bar: what is more than 0 has a mark.
func (s scale) bar(v int) string {
	n := 0
	if v > 0 {
		n = max(1, v*s.full/s.most)
	}
	return fmt.Sprintf("%*d %s", s.digits, v, strings.Repeat(s.mark, n))
}

// line is a line of the plot, without spaces at its end.
func (b bars) line(label, windows, avoided string) string {
	width := b.windows.digits + 1 + b.windows.full
	return strings.TrimRight(fmt.Sprintf("%*s  %-*s  %s", b.label, label, width, windows, avoided), " ")
}
