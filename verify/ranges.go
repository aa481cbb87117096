package verify

import (
	"cmp"
	"iter"
	"slices"

	"vmsim/mem"
)

// union returns the addresses of rs as ascending, disjoint ranges that do not
// touch each other. Empty ranges vanish; rs is reordered.
func union(rs []mem.Range) []mem.Range {
	slices.SortFunc(rs, func(a, b mem.Range) int { return cmp.Compare(a.Start, b.Start) })
	var out []mem.Range
	for _, r := range rs {
		switch last := len(out) - 1; {
		case r.Empty():
		case last >= 0 && r.Start <= out[last].End:
			out[last].End = max(out[last].End, r.End)
		default:
			out = append(out, r)
		}
	}
	return out
}

// intersect returns the addresses that a and b share. Both are ascending and
// disjoint, as the result is.
func intersect(a, b []mem.Range) []mem.Range {
	var out []mem.Range
	for len(a) > 0 && len(b) > 0 {
		if r := a[0].Intersect(b[0]); !r.Empty() {
			out = append(out, r)
		}
		if a[0].End < b[0].End {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}

// pagesOf yields the pages of rs, which are page aligned, in order.
func pagesOf(rs []mem.Range) iter.Seq[mem.VirtAddr] {
	return func(yield func(mem.VirtAddr) bool) {
		for _, r := range rs {
			for p := r.Start; p < r.End; p += mem.PageSize {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// holds reports whether one of rs, ascending and disjoint, holds a.
func holds(rs []mem.Range, a mem.VirtAddr) bool {
	i, _ := slices.BinarySearchFunc(rs, a, func(r mem.Range, a mem.VirtAddr) int {
		if r.End <= a {
			return -1
		}
		return +1
	})
	return i < len(rs) && rs[i].Contains(a)
}

// cutPoints returns the starts and ends of rs, ascending, each once. Between
// two neighbours nothing begins or ends.
func cutPoints(rs []mem.Range) []mem.VirtAddr {
	var cuts []mem.VirtAddr
	for _, r := range rs {
		if !r.Empty() {
			cuts = append(cuts, r.Start, r.End)
		}
	}
	slices.Sort(cuts)
	return slices.Compact(cuts)
}
