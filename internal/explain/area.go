package explain

import (
	"cmp"
	"slices"

	"vmsim/loader"
	"vmsim/mem"
)

// area is a range of addresses that one segment, or several equal ones, has.
type area struct {
	mem.Range
	prot mem.Prot
	file mem.Range // the part with file bytes, from Start on; cut at the end of the file by kevlarAreas alone
	off  uint64    // file offset of Start
	segs []int     // Segment.Index, ascending

	overlap bool // kevlar: several segments cover it
}

// backed reports whether the area is a mapping of the file.
func (a *area) backed() bool { return !a.file.Empty() }

// delta is how far address and offset are from being congruent, in bytes
// modulo 2 MiB.
func (a *area) delta() uint64 { return (uint64(a.Start) - a.off) % mem.HugeSize }

// linuxAreas are the VMAs that Linux makes of the segments at bias: whole pages;
// the file part and the anonymous rest of .bss apart; later segments over
// earlier ones; merged where flags, file and offset go on.
//
// Compare Linux fs/binfmt_elf.c:elf_load, mm/vma.c:vma_merge_new_range.
func linuxAreas(im *loader.Image, bias uint64) []area {
	var all []area
	for _, s := range im.Segments {
		pages, file := s.Range(bias).PageAlign(), s.FileRange(bias).PageAlign()
		if s.Filesz == 0 {
			file = mem.Range{Start: pages.Start, End: pages.Start}
		}
		if !file.Empty() {
			all = append(all, area{Range: file, file: file, prot: s.Prot,
				off: uint64(s.Offset) &^ (mem.PageSize - 1), segs: []int{s.Index}})
		}
		if file.End < pages.End {
			// Anonymous: writable, whatever the segment says (vm_brk_flags).
			prot := mem.ProtRead | mem.ProtWrite | s.Prot&mem.ProtExec
			all = append(all, area{Range: mem.Range{Start: file.End, End: pages.End}, prot: prot, segs: []int{s.Index}})
		}
	}
	out := latest(all)
	merged := out[:0]
	for _, a := range out {
		if n := len(merged) - 1; n >= 0 && merged[n].continues(&a) {
			merged[n].End = a.End
			if a.backed() {
				merged[n].file.End = a.End
			}
			merged[n].segs = addSegs(merged[n].segs, a.segs)
			continue
		}
		merged = append(merged, a)
	}
	return merged
}

// continues reports whether b goes on where a ends, so that one VMA holds both.
func (a *area) continues(b *area) bool {
	if a.End != b.Start || a.prot != b.prot || a.backed() != b.backed() {
		return false
	}
	return !a.backed() || a.off+a.Len() == b.off
}

func addSegs(to, from []int) []int {
	to = append(slices.Clone(to), from...)
	slices.Sort(to)
	return slices.Compact(to)
}

// latest cuts areas so that the last one in order keeps what it covers. They
// come out ascending.
func latest(all []area) []area {
	if disjoint(all) {
		slices.SortFunc(all, func(a, b area) int { return cmp.Compare(a.Start, b.Start) })
		return all
	}
	var out []area
	for _, r := range between(all, func(a *area) []mem.VirtAddr { return []mem.VirtAddr{a.Start, a.End} }) {
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].Covers(r) {
				out = append(out, all[i].clip(r))
				break
			}
		}
	}
	return out
}

// disjoint reports whether no two areas overlap.
func disjoint(all []area) bool {
	by := slices.Clone(all)
	slices.SortFunc(by, func(a, b area) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(by); i++ {
		if by[i].Start < by[i-1].End {
			return false
		}
	}
	return true
}

// between returns the ranges between neighbouring cut points of the areas.
func between(all []area, points func(*area) []mem.VirtAddr) []mem.Range {
	var cuts []mem.VirtAddr
	for i := range all {
		cuts = append(cuts, points(&all[i])...)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var out []mem.Range
	for i := 1; i < len(cuts); i++ {
		out = append(out, mem.Range{Start: cuts[i-1], End: cuts[i]})
	}
	return out
}

// clip returns the part of a in r.
func (a area) clip(r mem.Range) area {
	c := a
	c.Range = a.Intersect(r)
	c.off = a.off + uint64(c.Start-a.Start)
	c.file = mem.Range{Start: c.Start, End: min(max(a.file.End, c.Start), c.End)}
	return c
}

// kevlarAreas are the file VMAs of the Kevlar kernel at bias, precise to the
// byte. Where segments overlap, each run of bytes is an area of its own: that of
// the last segment with file bytes there, with the permissions of all. File
// bytes end with the file.
func kevlarAreas(im *loader.Image, size, bias uint64) []area {
	var all []area
	for _, s := range im.Segments {
		all = append(all, area{Range: s.Range(bias), file: s.FileRange(bias), prot: s.Prot.Effective(),
			off: uint64(s.Offset), segs: []int{s.Index}})
	}
	if !disjoint(all) {
		all = flatten(all)
	}
	slices.SortFunc(all, func(a, b area) int { return cmp.Compare(a.Start, b.Start) })
	for i := range all {
		a := &all[i]
		inFile := uint64(0)
		if a.off < size {
			inFile = size - a.off
		}
		a.file.End = min(a.file.End, a.Start+mem.VirtAddr(min(inFile, a.Len())))
	}
	return all
}

// flatten is kevlarAreas for segments that overlap.
func flatten(all []area) []area {
	var out []area
	for _, r := range between(all, func(a *area) []mem.VirtAddr { return []mem.VirtAddr{a.Start, a.End, a.file.End} }) {
		var v area
		n, prot := 0, mem.ProtNone
		var segs []int
		for i := range all {
			if !all[i].Covers(r) {
				continue
			}
			n++
			prot |= all[i].prot
			segs = append(segs, all[i].segs...)
			if n == 1 || all[i].file.Covers(r) {
				v = all[i].clip(r)
			}
		}
		if n == 0 {
			continue
		}
		v.prot, v.overlap, v.segs = prot, n > 1, segs
		out = append(out, v)
	}
	return out
}

// overlapping returns the areas, which are ascending and disjoint, that overlap
// r.
func overlapping(areas []area, r mem.Range) []area {
	first, _ := slices.BinarySearchFunc(areas, r.Start, func(a area, at mem.VirtAddr) int {
		if a.End <= at {
			return -1
		}
		return +1
	})
	last := first
	for last < len(areas) && areas[last].Start < r.End {
		last++
	}
	return areas[first:last]
}
