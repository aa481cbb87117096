package vm

import (
	"cmp"
	"fmt"
	"slices"

	"vmsim/loader"
	"vmsim/mem"
	"vmsim/vma"
)

// mapped is the memory of a program right after exec.
type mapped struct {
	set   *vma.Set    // the areas of all objects and the stack; to be cloned
	areas [][]vma.VMA // of each object; in set, fillers side by side are one
}

// layoutKey says what a mapped was made of, and where it is. A file whose content
// changed has another number.
type layoutKey struct {
	images  [2]*loader.Image
	fileNos [2]uint32
	biases  [2]uint64
	stack   mem.Range
	extra   [maxExtraKey]Extra // as many as there are
	more    string             // where there are more
}

// maxExtraKey is how many extra areas a layoutKey holds as they are. Linux has
// three or four.
const maxExtraKey = 4

// maxLayouts bounds how many programs a machine remembers the layout of.
const maxLayouts = 64

// layoutOf returns the areas of a program. They are laid out once: to clone them
// is much cheaper than to insert them.
func (m *Machine) layoutOf(at placed) *mapped {
	key := layoutKey{stack: at.stack}
	for i, o := range at.objects {
		key.images[i], key.fileNos[i], key.biases[i] = o.Image, m.cache.Open(o.Image.File), o.Bias
	}
	if copy(key.extra[:], at.extra) < len(at.extra) {
		key.more = fmt.Sprintf("%q", at.extra)
	}
	if key == m.lastKey && m.lastLayout != nil {
		return m.lastLayout
	}
	if l, ok := m.layouts[key]; ok {
		m.lastKey, m.lastLayout = key, l
		return l
	}
	l := &mapped{set: vma.New()}
	for i, o := range at.objects {
		areas := layout(o.Image, o.Bias, key.fileNos[i])
		for _, v := range areas {
			mustInsert(l.set, v)
		}
		l.areas = append(l.areas, areas)
	}
	mustInsert(l.set, vma.VMA{Range: at.stack, Prot: at.objects[0].Image.StackProt, Kind: vma.Stack})
	for _, x := range at.extra {
		mustInsert(l.set, vma.VMA{Range: x.Range, Prot: x.Prot.Effective(), Kind: vma.Special,
			File: mem.NewBytesFile(x.Name, nil), FileEnd: x.Start})
	}
	if len(m.layouts) >= maxLayouts {
		clear(m.layouts)
	}
	m.layouts[key] = l
	m.lastKey, m.lastLayout = key, l
	return l
}

func mustInsert(s *vma.Set, v vma.VMA) {
	if err := s.Insert(v); err != nil {
		panic("vm: " + err.Error())
	}
}

// layout returns the areas of an image at a load bias, by ascending address:
// the kevlar profile's. Each segment is the area [p_vaddr, p_vaddr+p_memsz);
// anonymous fillers take the head of the first page, the tail of the last, and
// the gaps between.
//
// Where segments overlap, each byte that only one of them has in its p_filesz
// is that one's; of several the last in header order wins; the permission of
// the bytes is the union. Then file bytes are cut at the end of the file.
func layout(im *loader.Image, bias uint64, fileNo uint32) []vma.VMA {
	segments := make([]vma.VMA, len(im.Segments))
	overlap := false
	for i, s := range im.Segments {
		segments[i] = segmentArea(im.File, s, bias, fileNo, uint16(i+1))
	}
	byStart := slices.Clone(segments)
	slices.SortStableFunc(byStart, func(a, b vma.VMA) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(byStart); i++ {
		overlap = overlap || byStart[i-1].End > byStart[i].Start
	}
	if overlap {
		byStart = flatten(segments)
	}
	for i := range byStart {
		v := &byStart[i]
		inFile := mem.VirtAddr(max(0, im.File.Size()-v.Offset))
		v.FileEnd = min(v.FileEnd, v.Start+min(inFile, v.End-v.Start))
	}
	return fill(byStart)
}

func segmentArea(f mem.File, s loader.Segment, bias uint64, fileNo uint32, number uint16) vma.VMA {
	return vma.VMA{
		Range: s.Range(bias), Prot: s.Prot.Effective(), Kind: vma.File,
		File: f, FileNo: fileNo, Offset: s.Offset, FileEnd: s.FileRange(bias).End,
		Segment: number,
	}
}

// flatten cuts overlapping segments at every bound of one of them, so that
// each run of addresses becomes one area.
func flatten(segments []vma.VMA) []vma.VMA {
	var cuts []mem.VirtAddr
	for _, s := range segments {
		cuts = append(cuts, s.Start, s.End, s.FileRange().End)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	var out []vma.VMA
	for i := 1; i < len(cuts); i++ {
		r := mem.Range{Start: cuts[i-1], End: cuts[i]}
		if v, ok := runOf(segments, r); ok {
			if n := len(out); n > 0 && out[n-1].Continues(&v) {
				out[n-1].Extend(&v)
			} else {
				out = append(out, v)
			}
		}
	}
	return out
}

// runOf returns the area for r, of which every segment covers all or nothing.
func runOf(segments []vma.VMA, r mem.Range) (vma.VMA, bool) {
	var v vma.VMA
	n, prot := 0, mem.ProtNone
	for i := range segments {
		s := &segments[i]
		if !s.Covers(r) {
			continue
		}
		n++
		prot |= s.Prot
		if n == 1 || s.FileRange().Covers(r) {
			v = s.Clip(r)
		}
	}
	v.Prot, v.Overlap = prot, n > 1
	return v, n > 0
}

// fill puts anonymous fillers around and between areas.
func fill(areas []vma.VMA) []vma.VMA {
	var out []vma.VMA
	at := areas[0].Start.PageDown()
	for _, v := range areas {
		if at < v.Start {
			out = append(out, filler(at, v.Start))
		}
		out = append(out, v)
		at = v.End
	}
	if end, _ := at.PageUp(); at < end {
		out = append(out, filler(at, end))
	}
	return out
}

func filler(start, end mem.VirtAddr) vma.VMA {
	return vma.VMA{Range: mem.Range{Start: start, End: end}, Prot: mem.ProtRead | mem.ProtWrite, Kind: vma.Filler}
}
