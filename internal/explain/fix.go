package explain

import (
	"cmp"
	"slices"

	"vmsim/loader"
	"vmsim/mem"
)

// Fix is another way to link the same program, and what comes of it.
type Fix struct {
	Flags    string // for the compiler driver
	Linker   string // whose layout was computed: GNU ld, LLD
	Script   bool   // takes a linker script beside Flags
	FileSize uint64 // then, in bytes
	Cost     int64  // FileSize less the size now
	Text     uint64 // bytes of text in huge pages
	ReadOnly uint64 // bytes of read-only data in huge pages

	layout *output
}

const maxPage = "-Wl,-z,max-page-size=2097152"

// fixes computes what other ways to link would bring, best first: most text,
// then most read-only data in huge pages, then the smallest file. Those with a
// linker script, which can make any text huge by padding it, come last. It is
// empty where the layout is not a linker's.
func (x *explainer) fixes() []Fix {
	c, err := x.contents()
	if err != nil {
		return nil
	}
	var out []Fix
	add := func(linker, flags string, script bool, o *output) {
		text, ro := o.huge()
		out = append(out, Fix{Flags: flags, Linker: linker, Script: script, FileSize: o.size(), Cost: int64(o.size()) - int64(x.Size),
			Text: text, ReadOnly: ro, layout: o})
	}
	gnuBase, lldBase := uint64(0), uint64(0)
	if !x.Image.Dynamic {
		gnuBase, lldBase = 0x400000, 0x200000 // their default image bases
	}
	const lld, separate, noRo = "-fuse-ld=lld " + maxPage, ",-z,separate-loadable-segments", ",--no-rosegment"
	switch {
	case c.lld && c.merged:
		add("LLD", maxPage+noRo, false, c.lldLayout(lldBase, lldOptions{}))
		add("LLD", maxPage+noRo+separate, false, c.lldLayout(lldBase, lldOptions{separate: true}))
	case c.lld:
		add("LLD", maxPage, false, c.lldLayout(lldBase, lldOptions{}))
		add("LLD", maxPage+separate, false, c.lldLayout(lldBase, lldOptions{separate: true}))
		add("LLD", maxPage+noRo, false, c.lldLayout(lldBase, lldOptions{noRosegment: true}))
	case c.merged:
		add("GNU ld", maxPage+",-z,noseparate-code", false, c.gnu(gnuBase, false, false))
		add("LLD", lld+noRo, false, c.lldLayout(lldBase, lldOptions{}))
		add("GNU ld", maxPage+",-z,noseparate-code", true, c.gnu(gnuBase, false, true))
	default:
		add("GNU ld", maxPage, false, c.gnu(gnuBase, true, false))
		add("GNU ld", maxPage+",-z,noseparate-code", false, c.gnu(gnuBase, false, false))
		add("LLD", lld, false, c.lldLayout(lldBase, lldOptions{}))
		add("LLD", lld+separate, false, c.lldLayout(lldBase, lldOptions{separate: true}))
		add("GNU ld", maxPage, true, c.gnu(gnuBase, true, true))
	}
	slices.SortStableFunc(out, func(a, b Fix) int {
		switch {
		case a.Script != b.Script:
			if a.Script {
				return +1
			}
			return -1
		case a.Text != b.Text:
			return cmp.Compare(b.Text, a.Text)
		case a.ReadOnly != b.ReadOnly:
			return cmp.Compare(b.ReadOnly, a.ReadOnly)
		}
		return cmp.Compare(a.FileSize, b.FileSize)
	})
	return out
}

// Best returns the fix that makes the most text huge without a linker script;
// false where none makes more of it huge than the loader guarantees now.
func (r *Report) Best() (Fix, bool) {
	if len(r.Fixes) == 0 || r.Fixes[0].Script || r.Fixes[0].Text <= r.ByBase[Aligned].Text.Max {
		return Fix{}, false
	}
	return r.Fixes[0], true
}

// Edit is a change of one program header that makes the loader choose a base of
// 2 MiB. The addresses and offsets stay, so the file does not grow.
type Edit struct {
	Segment  int    // Segment.Index
	Offset   uint64 // of the 8 bytes of p_align in the file
	From, To uint64
	Text     uint64 // bytes of text in huge pages then
	ReadOnly uint64
}

// edit looks for a segment that is congruent already and only lacks the p_align.
func (x *explainer) edit() *Edit {
	if !x.Image.Dynamic || x.honoured() {
		return nil
	}
	bias := -(x.Image.Segments[0].Vaddr &^ (mem.PageSize - 1))
	text, ro := x.countLinux(linuxAreas(x.Image, 0), bias%mem.HugeSize)
	if text+ro == 0 {
		return nil
	}
	var best *loader.Segment
	for i := range x.Image.Segments {
		s := &x.Image.Segments[i]
		if s.Filesz > 0 && (s.Vaddr-uint64(s.Offset))%mem.HugeSize == 0 && (best == nil || s.Filesz > best.Filesz) {
			best = s
		}
	}
	if best == nil { // congruent only together with a first segment that is not
		return nil
	}
	return &Edit{Segment: best.Index, Offset: x.alignField(*best), From: best.Align, To: mem.HugeSize, Text: text, ReadOnly: ro}
}
