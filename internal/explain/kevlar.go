package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"vmsim/mem"
)

// indexes is a range of page indexes of the file, [from, to).
type indexes struct{ from, to uint64 }

// insertable returns, ascending and disjoint, the indexes that faults put into
// the page cache if every page is touched: those of pages of one read-only area
// alone that has their first byte in its file part. (vma.PageView.ToCache, built
// independently.)
func insertable(areas []area) []indexes {
	var all []indexes
	for i := range areas {
		if r := insertablePages(areas, i); !r.Empty() {
			from := (areas[i].off + uint64(r.Start-areas[i].Start)) / mem.PageSize
			all = append(all, indexes{from, from + r.Len()/mem.PageSize})
		}
	}
	slices.SortFunc(all, func(a, b indexes) int { return cmp.Compare(a.from, b.from) })
	var out []indexes
	for _, r := range all {
		if n := len(out) - 1; n >= 0 && r.from <= out[n].to {
			out[n].to = max(out[n].to, r.to)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// insertablePages returns the pages of areas[i] that insert their index.
func insertablePages(areas []area, i int) mem.Range {
	a := &areas[i]
	if a.prot&mem.ProtWrite != 0 || a.prot == mem.ProtNone || a.overlap {
		return mem.Range{}
	}
	r := firstBytes(a)
	// The page in which the area ends may be another's too.
	if last := a.End.PageDown(); last != a.End && i+1 < len(areas) && areas[i+1].Start < last+mem.PageSize {
		r.End = min(r.End, last)
	}
	if r.Empty() {
		return mem.Range{}
	}
	return r
}

// firstBytes returns the pages whose first byte is a file byte of a.
func firstBytes(a *area) mem.Range {
	start, _ := a.Start.PageUp()
	end, _ := a.file.End.PageUp()
	if start >= a.file.End {
		return mem.Range{}
	}
	return mem.Range{Start: start, End: end}
}

// countable returns the pages of a that count as cached for the threshold once
// every page was touched: their first byte is a file byte of a, and their index
// is one that some page inserts. (hugepage.Assembler.Candidate.)
func (x *explainer) countable(a *area) []mem.Range {
	pages := firstBytes(a)
	if pages.Empty() {
		return nil
	}
	first := (a.off + uint64(pages.Start-a.Start)) / mem.PageSize
	last := first + pages.Len()/mem.PageSize
	i, _ := slices.BinarySearchFunc(x.inserted, first, func(r indexes, at uint64) int {
		if r.to <= at {
			return -1
		}
		return +1
	})
	var out []mem.Range
	for ; i < len(x.inserted) && x.inserted[i].from < last; i++ {
		from, to := max(first, x.inserted[i].from), min(last, x.inserted[i].to)
		out = append(out, mem.Range{
			Start: pages.Start + mem.VirtAddr((from-first)*mem.PageSize),
			End:   pages.Start + mem.VirtAddr((to-first)*mem.PageSize),
		})
	}
	return out
}

// kevlarWindow says whether window w can be assembled, and how it is mapped
// then. cached is the most of its sub-pages that can be cached.
func (x *explainer) kevlarWindow(w mem.Range, areas []area) (v Verdict, cached int) {
	file := false
	var writable uint64 // sub-pages
	for i := range areas {
		a := &areas[i]
		file = file || a.file.Overlaps(w)
		for _, r := range x.countable(a) {
			cached += int(r.Intersect(w).Len() / mem.PageSize)
		}
		if a.prot&mem.ProtWrite != 0 {
			writable += a.file.Intersect(w).PageAlign().Len() / mem.PageSize
		}
	}
	switch {
	case !file:
		return Verdict{Answer: No, Obstacles: []Obstacle{obstacle(Anonymous, 0, "no byte of the file: never assembled")}}, cached
	case cached < x.opt.Threshold:
		o := obstacle(Threshold, 0, "at most %d of its sub-pages can be cached, the threshold is %d", cached, x.opt.Threshold)
		if writable > 0 {
			o.Text += fmt.Sprintf("; %d hold writable file bytes, which are not cached", writable)
		}
		return Verdict{Answer: No, Obstacles: []Obstacle{o}}, cached
	}
	v = Verdict{Answer: Yes, Note: fmt.Sprintf("at most %d sub-pages cached, threshold %d", cached, x.opt.Threshold)}
	prots, mapped := x.subPages(w, areas)
	if len(prots) > 1 {
		v.Obstacles = append(v.Obstacles, obstacle(Permissions, 0, "permissions differ (%s)", strings.Join(prots, ", ")))
	}
	if missing := mem.SubPages - mapped; missing > 0 {
		v.Obstacles = append(v.Obstacles, obstacle(NoArea, uint64(missing)*mem.PageSize, "%d sub-pages lie outside of the image", missing))
	}
	if mapped == mem.SubPages && slices.Equal(prots, []string{mem.ProtNone.String()}) {
		v.Obstacles = append(v.Obstacles, obstacle(NoRead, 0, "nothing may touch it"))
	}
	if len(v.Obstacles) > 0 {
		v.Answer = Frames
		v.Note = "assembled, but mapped by 4 KiB entries; " + v.Note
	} else {
		v.Note = "one huge entry, " + prots[0] + "; " + v.Note
	}
	return v, cached
}

// subPages returns the permissions that the sub-pages of w have, each once in
// the order of addresses, and how many sub-pages have an area. A page permits
// the union of what its file areas do; fillers, which are rw-, count where no
// file area is, and lie nowhere but between the first and the last segment.
func (x *explainer) subPages(w mem.Range, areas []area) (prots []string, mapped int) {
	extent := mem.Range{Start: x.kevlar[0].Start, End: x.kevlar[len(x.kevlar)-1].End}.PageAlign().Intersect(w)
	pages := []area{{Range: extent}}
	for i := range areas {
		pages = append(pages, area{Range: areas[i].PageAlign().Intersect(w), prot: areas[i].prot})
	}
	for _, r := range between(pages, func(a *area) []mem.VirtAddr { return []mem.VirtAddr{a.Start, a.End} }) {
		prot, filler := mem.ProtNone, true
		for _, a := range pages[1:] {
			if a.Covers(r) {
				prot |= a.prot
				filler = false
			}
		}
		if filler {
			prot = mem.ProtRead | mem.ProtWrite
		}
		mapped += int(r.Len() / mem.PageSize)
		if s := prot.String(); !slices.Contains(prots, s) {
			prots = append(prots, s)
		}
	}
	return prots, mapped
}
