package explain

import (
	"cmp"
	"slices"

	"vmsim/loader"
	"vmsim/mem"
)

// Gain is what huge pages bring to the segments that are not writable.
//
// Pages and entries are those that it takes to map all of them: one TLB entry a
// page of either size. Extra is what is read from the file beyond the need of a
// start, in the model of the kevlar profile: a start touches the page of the
// entry point and the first and the last page of each segment, and nothing is
// read ahead; a huge page is read whole when one of its pages is touched. A run
// that touches every page reads nothing extra but the padding of a fix.
type Gain struct {
	Pages    uint64 `json:"pages_4k"`         // before: all in 4 KiB pages
	Huge     uint64 `json:"huge_pages"`       // after
	Rest     uint64 `json:"pages_4k_left"`    // after
	Text     uint64 `json:"text_bytes"`       // of the huge ones
	ReadOnly uint64 `json:"read_only_bytes"`  // of the huge ones
	Extra    uint64 `json:"extra_read_bytes"` // at a start
	Startup  uint64 `json:"startup_pages"`    // that a start touches in the segments looked at
	Padding  int64  `json:"extra_file_bytes"` // the file grows by so much
}

// Entries returns how many TLB entries are needed after.
func (g Gain) Entries() uint64 { return g.Huge + g.Rest }

// gainOf computes the gain of a layout. congruent says which of the segments'
// pages may be huge.
func gainOf(areas []area, end func(*area) mem.VirtAddr, startup []mem.VirtAddr) Gain {
	var g Gain
	slices.SortFunc(areas, func(a, b area) int { return cmp.Compare(a.Start, b.Start) })
	for i := range areas {
		a := &areas[i]
		if !a.backed() || a.prot&mem.ProtWrite != 0 {
			continue
		}
		huge := mem.Range{}
		if a.delta() == 0 {
			huge = wholeWindows(mem.Range{Start: a.Start, End: end(a)})
		}
		g.Pages += a.Len() / mem.PageSize
		g.Huge += huge.Len() / mem.HugeSize
		g.Rest += (a.Len() - huge.Len()) / mem.PageSize
		if a.prot&mem.ProtExec != 0 {
			g.Text += huge.Len()
		} else {
			g.ReadOnly += huge.Len()
		}
		touched := map[mem.VirtAddr]uint64{} // window to its start-up pages
		for _, p := range startup {
			if a.Contains(p) {
				g.Startup++
				if huge.Contains(p) {
					touched[p.HugeDown()]++
				}
			}
		}
		for _, n := range touched {
			g.Extra += mem.HugeSize - n*mem.PageSize
		}
	}
	return g
}

// startupPages returns the pages that every start touches, ascending.
func startupPages(entry mem.VirtAddr, segs []loader.Segment, bias uint64) []mem.VirtAddr {
	pages := []mem.VirtAddr{entry.PageDown()}
	for _, s := range segs {
		r := s.Range(bias).PageAlign()
		pages = append(pages, r.Start, r.End-mem.PageSize)
	}
	slices.Sort(pages)
	return slices.Compact(pages)
}

// gainAsIs is the gain of the file as it is, at the base of the report.
func (x *explainer) gainAsIs() Gain {
	return gainOf(slices.Clone(x.linux), x.inFile,
		startupPages(mem.VirtAddr(x.Image.Entry+x.bias), x.Image.Segments, x.bias))
}

// Gain is the gain of a fix.
func (f Fix) Gain() Gain {
	o := f.layout
	entry := o.instrs.Start + mem.VirtAddr(min(o.entry, o.instrs.Len()-1))
	areas := linuxAreas(&loader.Image{Segments: o.segs}, 0)
	g := gainOf(areas, func(a *area) mem.VirtAddr { return a.End }, startupPages(entry, o.segs, 0))
	g.Text, g.ReadOnly, g.Padding = f.Text, f.ReadOnly, f.Cost
	return g
}
