package explain

import (
	"errors"
	"slices"

	"vmsim/mem"
)

// Run is one window, or several in a row of which all that is said is the same.
type Run struct {
	Base     mem.VirtAddr
	N        uint64 // windows, at least 1
	Segments []int  // Segment.Index, of those that overlap it
	Verdicts [nRules]Verdict
	Cached   int // kevlar: so many of its sub-pages can be cached at most
}

// Range returns the addresses of the run.
func (r Run) Range() mem.Range {
	return mem.Range{Start: r.Base, End: r.Base + mem.VirtAddr(r.N*mem.HugeSize)}
}

// maxRuns bounds the windows that one report tells apart. Linkers write files
// with some ten.
const maxRuns = 1 << 16

// ErrTooMany is returned for a file whose windows are too many to tell apart;
// no linker writes such.
var ErrTooMany = errors.New("more than 65536 different windows")

// runs looks at every window that overlaps a segment.
func (x *explainer) runs() ([]Run, error) {
	bases, err := x.differing()
	if err != nil {
		return nil, err
	}
	var out []Run
	for i, base := range bases {
		end := base + mem.HugeSize
		if i+1 < len(bases) {
			end = bases[i+1]
		}
		w := mem.WindowOf(base)
		kevlar, linux := overlapping(x.kevlar, w), overlapping(x.linux, w)
		if len(kevlar) == 0 && len(linux) == 0 {
			continue // between two segments
		}
		r := Run{Base: base, N: uint64(end-base) / mem.HugeSize}
		for j := range linux {
			r.Segments = addSegs(r.Segments, linux[j].segs)
		}
		r.Verdicts[Kevlar], r.Cached = x.kevlarWindow(w, kevlar)
		r.Verdicts[Linux] = x.fileWindow(w, linux, Linux)
		r.Verdicts[Aligned] = x.fileWindow(w, linux, Aligned)
		r.Verdicts[Remap] = x.remapWindow(w, linux)
		if n := len(out) - 1; n >= 0 && out[n].same(&r) {
			out[n].N += r.N
		} else {
			out = append(out, r)
		}
	}
	return out, nil
}

// same reports whether r goes on where l ends, with the same to say.
func (l *Run) same(r *Run) bool {
	if l.Range().End != r.Base || l.Cached != r.Cached || !slices.Equal(l.Segments, r.Segments) {
		return false
	}
	for _, rule := range Rules {
		if !l.Verdicts[rule].equal(r.Verdicts[rule]) {
			return false
		}
	}
	return true
}

// differing returns, ascending, the windows in which something begins or ends,
// and those right behind: each window is like the last of them at or before it.
func (x *explainer) differing() ([]mem.VirtAddr, error) {
	set := map[mem.VirtAddr]bool{}
	add := func(at mem.VirtAddr) {
		base := at.HugeDown()
		set[base], set[base+mem.HugeSize] = true, true
	}
	for i := range x.linux {
		a := &x.linux[i]
		add(a.Start)
		add(a.End)
		add(x.inFile(a))
	}
	for i := range x.kevlar {
		a := &x.kevlar[i]
		add(a.Start)
		add(a.End)
		add(a.file.End)
		for _, r := range x.countable(a) {
			add(r.Start)
			add(r.End)
		}
		if len(set) > maxRuns {
			return nil, ErrTooMany
		}
	}
	bases := make([]mem.VirtAddr, 0, len(set))
	for b := range set {
		bases = append(bases, b)
	}
	slices.Sort(bases)
	return bases, nil
}
