package verify

import (
	"iter"

	"vmsim/mem"
)

// ends is how many pages of a long run without file bytes are touched at either
// end: one window's worth.
const ends = mem.SubPages

// TouchPages yields the pages that a full verification touches, ascending: all
// of the extent, but of each run of pages without a file byte (.bss, fillers)
// only the first 512 and the last 512. Pages that nothing may read are left out.
// What is skipped costs nothing, however long.
func (t *Truth) TouchPages() iter.Seq[mem.VirtAddr] { return pagesOf(t.touch) }

// touchPages finds the pages of TouchPages.
func (t *Truth) touchPages() {
	var touch, readable []mem.Range
	at := t.extent.Start
	for _, r := range t.filePages {
		touch = append(touch, bothEnds(mem.Range{Start: at, End: r.Start})...)
		touch = append(touch, r)
		at = r.End
	}
	touch = append(touch, bothEnds(mem.Range{Start: at, End: t.extent.End})...)
	for _, p := range t.perms {
		if p.prot != mem.ProtNone {
			readable = append(readable, p.Range)
		}
	}
	t.touch = intersect(touch, readable)
}

// bothEnds returns the first and the last pages of r, or all where it is short.
func bothEnds(r mem.Range) []mem.Range {
	if r.Len() <= 2*ends*mem.PageSize {
		return []mem.Range{r}
	}
	return []mem.Range{
		{Start: r.Start, End: r.Start + ends*mem.PageSize},
		{Start: r.End - ends*mem.PageSize, End: r.End},
	}
}

// ImagePages yields every page that holds a byte of a PT_LOAD's
// [p_vaddr, p_vaddr+p_memsz), ascending, each once.
func (t *Truth) ImagePages() iter.Seq[mem.VirtAddr] { return pagesOf(t.imgPages) }

// ImagePageCount returns the number of pages that ImagePages yields.
func (t *Truth) ImagePageCount() uint64 {
	var n uint64
	for _, r := range t.imgPages {
		n += r.Len() / mem.PageSize
	}
	return n
}
