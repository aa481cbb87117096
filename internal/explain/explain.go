package explain

import (
	"slices"

	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
)

// Options are what the answers depend on beside the file.
type Options struct {
	Threshold int          // kevlar: cached sub-pages from which a window is assembled
	Base      mem.VirtAddr // where an ET_DYN goes: page aligned
	BaseGiven bool         // the user asked for Base: no other is considered
}

// Report is what there is to say about one file.
type Report struct {
	*Binary
	Placement Placement
	Bias      uint64          // load bias of the windows below
	Segments  []SegmentReport // in the order of the program headers
	Windows   []Run           // ascending
	ByBase    [nRules]ByBase  // bytes that each rule makes huge
	Text      uint64          // bytes of executable segments in the file
	ReadOnly  uint64          // of those neither executable nor writable
	Obstacle  Obstacle        // the first in the way of the largest text segment; Code "" if none
	Risks     []Risk          // of case A, in the windows that are assembled
	Boundary  int             // pages with file bytes that no segment covers whole (verify.Truth)
	Shared    int             // pages of the file that two segments use (verify.Truth)
	Edit      *Edit           // of p_align, where that alone would do
	Fixes     []Fix           // other ways to link it, best first
	Gain      Gain            // of the file as it is, where rule Linux says yes or depends
}

// SegmentReport is a segment with the sum of its windows.
type SegmentReport struct {
	loader.Segment
	Range    mem.Range // at the base of the report
	Verdicts [nRules]Verdict
	Windows  [nRules]uint64 // answered with better than no
}

// explainer is a Report on its way.
type explainer struct {
	*Report
	opt      Options
	bias     uint64
	linux    []area
	kevlar   []area
	inserted []indexes
}

// Explain reads the headers of f and looks at every window of it.
//
// It returns the errors of loader.Parse, ErrTooMany, and that of
// loader.Image.BiasAt where the file does not fit at the base. At most 200 KiB
// of the file are read.
func Explain(f mem.File, opt Options) (*Report, error) {
	b, err := Read(f)
	if err != nil {
		return nil, err
	}
	bias, err := b.Image.BiasAt(opt.Base)
	if err != nil {
		return nil, err
	}
	r := &Report{Binary: b, Bias: bias, Placement: b.placement(opt.BaseGiven)}
	x := &explainer{Report: r, opt: opt, bias: bias}
	x.linux, x.kevlar = linuxAreas(b.Image, bias), kevlarAreas(b.Image, b.Size, bias)
	x.inserted = insertable(x.kevlar)
	for _, s := range b.Image.Segments {
		switch {
		case s.Prot&mem.ProtExec != 0:
			r.Text += s.Filesz
		case s.Prot&mem.ProtWrite == 0:
			r.ReadOnly += s.Filesz
		}
	}
	r.ByBase[Linux] = x.overBases(x.countLinux)
	r.ByBase[Remap] = x.overBases(x.countRemap)
	if r.Windows, err = x.runs(); err != nil {
		return nil, err
	}
	r.ByBase[Kevlar] = x.countYes(Kevlar)
	r.ByBase[Aligned] = x.countYes(Aligned)
	x.segments()
	r.Obstacle = x.firstObstacle()
	r.Risks = x.risks(r.Windows)
	truth, err := verify.New(f, bias)
	if err != nil {
		return nil, err
	}
	r.Boundary, r.Shared = truth.BoundaryPages(), truth.SharedIndexes()
	r.Edit = x.edit()
	r.Fixes = x.fixes()
	r.Gain = x.gainAsIs()
	return r, nil
}

// countYes counts the windows of the report that a rule makes huge at every
// base.
func (x *explainer) countYes(rule Rule) ByBase {
	var text, ro uint64
	for _, r := range x.Windows {
		if r.Verdicts[rule].Answer != Yes {
			continue
		}
		switch prot := x.protOf(r.Base); {
		case prot&mem.ProtExec != 0:
			text += r.Range().Len()
		case prot&mem.ProtWrite == 0:
			ro += r.Range().Len()
		}
	}
	var h ByBase
	h.add(text, ro)
	return h
}

// protOf returns the permission of the area at an address.
func (x *explainer) protOf(at mem.VirtAddr) mem.Prot {
	if a := overlapping(x.kevlar, mem.PageOf(at)); len(a) > 0 {
		return a[0].prot
	}
	return mem.ProtNone
}

// segments sums the windows up for each segment.
func (x *explainer) segments() {
	for _, s := range x.Image.Segments {
		sr := SegmentReport{Segment: s, Range: s.Range(x.bias)}
		for _, rule := range Rules {
			sr.Verdicts[rule], sr.Windows[rule] = x.segmentVerdict(s, rule)
		}
		x.Segments = append(x.Segments, sr)
	}
}

// segmentVerdict is the best answer for a window of s; where it is no, with the
// obstacles of the segment as a whole.
func (x *explainer) segmentVerdict(s loader.Segment, rule Rule) (Verdict, uint64) {
	best, n := Verdict{}, uint64(0)
	pages := s.Range(x.bias).PageAlign()
	for i := range x.Windows {
		w := &x.Windows[i]
		if !w.Range().Overlaps(pages) || !slices.Contains(w.Segments, s.Index) {
			continue
		}
		v := w.Verdicts[rule]
		if v.Answer != No {
			n += w.N
		}
		if v.Answer > best.Answer {
			best = Verdict{Answer: v.Answer, Obstacles: v.Obstacles, Note: v.Note}
		}
	}
	if best.Answer == No {
		best.Obstacles = x.segmentObstacles(s, rule)
	}
	return best, n
}

// segmentObstacles are what keeps every window of s from being huge.
func (x *explainer) segmentObstacles(s loader.Segment, rule Rule) []Obstacle {
	if rule == Kevlar {
		for i := range x.Windows { // that with the most cached is nearest
			if slices.Contains(x.Windows[i].Segments, s.Index) {
				return x.Windows[i].Verdicts[Kevlar].Obstacles
			}
		}
		return nil
	}
	if rule == Remap && s.Prot&mem.ProtExec == 0 {
		return []Obstacle{obstacle(NotExec, 0, "not executable")}
	}
	var obs []Obstacle
	for i := range x.linux {
		a := &x.linux[i]
		if !slices.Contains(a.segs, s.Index) || rule != Remap && !a.backed() {
			continue
		}
		switch {
		case a.Len() < mem.HugeSize:
			obs = append(obs, cut(mem.WindowOf(a.Start), a)...)
		case wholeWindows(a.Range).Empty():
			obs = append(obs, obstacle(NoWindow, 0, "%s has %s, but no whole window", a.name(), size(a.Len())))
		case rule != Remap && wholeWindows(mem.Range{Start: a.Start, End: x.inFile(a)}).Empty():
			n := uint64(a.End - x.inFile(a))
			obs = append(obs, obstacle(BeyondEOF, n, "its last %s lie beyond the end of the file", size(n)))
		}
		if rule != Remap {
			obs = append(obs, x.areaObstacles(a, rule)...)
		}
		return x.withBase(obs, rule)
	}
	return []Obstacle{obstacle(Anonymous, 0, "no byte of the file")}
}

// firstObstacle is what keeps the largest text segment from being huge under
// rule Linux, in any run of the program.
func (x *explainer) firstObstacle() Obstacle {
	var text *SegmentReport
	for i := range x.Segments {
		s := &x.Segments[i]
		if s.Prot&mem.ProtExec != 0 && (text == nil || s.Filesz > text.Filesz) {
			text = s
		}
	}
	switch {
	case text == nil:
		return obstacle(NotExec, 0, "no executable segment")
	case text.Verdicts[Linux].Answer == Yes || len(text.Verdicts[Linux].Obstacles) == 0:
		return Obstacle{}
	}
	return text.Verdicts[Linux].Obstacles[0]
}
