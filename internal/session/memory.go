package session

import (
	"maps"
	"slices"

	"github.com/google/btree"

	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// memory is what a process of a replay ought to see, kept beside the machine:
// the truth of its program, what it mapped over it, and what was written.
type memory struct {
	exec    int // number of the exec that began it
	truths  []*verify.Truth
	regions *btree.BTreeG[region] // what mmap and munmap made, without overlap; nil: none
	last    region                // of them, the one found last; empty if none
	written map[mem.VirtAddr]byte
	wiped   []mem.Range // what a fork's child has zeros in (MADV_WIPEONFORK)
	parted  []mem.Range // what it does not have (MADV_DONTFORK)
	vague   []mem.Range // what it may have zeros in: a call that failed half-way

	*recorded // nil in a written trace
}

// region is pages that are no longer, or never were, the program's.
type region struct {
	mem.Range
	file   mem.File // nil: zeros
	offset int64    // in file, of Start
	shared *sharedPages
	from   mem.VirtAddr // of the shared memory's first byte

	// Of a recording: the object whose bytes they are, at offset, and why these
	// are not known.
	object  *sharedObject
	unknown string

	image *verify.Truth // pages of a program that mremap moved; offset is where they were
}

// sharedPages is what all processes wrote to one shared anonymous mapping, by
// offset.
type sharedPages struct {
	written map[mem.VirtAddr]byte
	unknown bool // somebody may map them where is not known
}

// start is after an exec or a boot: nothing is known but the program.
func (m *memory) start(ts []*verify.Truth) {
	*m = memory{exec: m.exec, truths: ts, recorded: m.recorded}
}

// regionNodes are nodes of trees that are gone.
var regionNodes = btree.NewFreeListG[region](btree.DefaultFreeListSize)

// insert puts g, over which nothing lies, into the regions.
func (m *memory) insert(g region) {
	if m.regions == nil {
		m.regions = btree.NewWithFreeListG(32, func(a, b region) bool { return a.Start < b.Start }, regionNodes)
	}
	m.last = region{}
	m.regions.ReplaceOrInsert(g)
}

// clone is what a fork's child sees. It shares the truths: what they remember of
// the file is the same for both.
func (m *memory) clone() *memory {
	var c *memory
	if m.recorded != nil {
		c = m.cloneRecorded()
	} else {
		copied := *m
		c = &copied
	}
	if m.regions != nil {
		c.regions = m.regions.Clone()
	}
	c.written = maps.Clone(m.written)
	for _, r := range m.wiped {
		c.dropped(r)
	}
	for _, r := range m.parted {
		c.forget(r)
	}
	for _, r := range m.vague {
		c.lose(r, unknownWiped)
	}
	return c
}

// forget drops what is known of r: it is unmapped, or zeros.
func (m *memory) forget(r mem.Range) { m.replace(region{Range: r}) }

// replace makes g what its range is.
func (m *memory) replace(g region) {
	m.cut(g.Range)
	m.wiped, m.parted, m.vague = without(m.wiped, g.Range), without(m.parted, g.Range), without(m.vague, g.Range)
	if m.recorded != nil {
		m.seen.remove(g.Range)
	}
	if m.recorded == nil || !g.plain() || m.special(g.Range) {
		m.insert(g)
	}
	if uint64(len(m.written)) > g.Len() {
		for a := g.Start; a < g.End; a++ {
			delete(m.written, a)
		}
		return
	}
	maps.DeleteFunc(m.written, func(a mem.VirtAddr, _ byte) bool { return g.Contains(a) })
}

// cut takes what lies in g out of the regions.
func (m *memory) cut(g mem.Range) {
	for _, x := range m.overlapping(g) {
		m.last = region{}
		m.regions.Delete(x)
		for _, part := range []mem.Range{{Start: x.Start, End: min(x.End, g.Start)}, {Start: max(x.Start, g.End), End: x.End}} {
			if !part.Empty() {
				m.insert(x.part(part))
			}
		}
	}
}

// plain reports whether g is zeros that nobody shares.
func (g *region) plain() bool {
	return g.file == nil && g.shared == nil && g.object == nil && g.image == nil && g.unknown == ""
}

// lose notes that nobody can tell what is in r.
func (m *memory) lose(r mem.Range, why string) {
	for _, g := range m.overlapping(r) {
		if g.shared != nil {
			g.shared.unknown = true
		}
		if g.object != nil {
			g.object.unknown = why
		}
	}
	m.replace(region{Range: r, unknown: why})
}

// part returns g's part r.
func (g region) part(r mem.Range) region {
	g.Range, g.offset = r, g.offset+int64(r.Start-g.Start)
	return g
}

// overlapping returns the regions that share a page with g, ascending.
func (m *memory) overlapping(g mem.Range) []region {
	if m.regions == nil {
		return nil
	}
	var cut []region
	if first, ok := m.region(g.Start); ok {
		cut = append(cut, first)
	}
	m.regions.AscendRange(region{Range: mem.Range{Start: g.Start + 1}}, region{Range: mem.Range{Start: g.End}}, func(x region) bool {
		cut = append(cut, x)
		return true
	})
	return cut
}

// mapped notes a new mapping.
func (m *memory) mapped(r mem.Range, a vm.Mapping) {
	g := region{Range: r, file: a.File, offset: a.Offset}
	if a.Shared && a.File == nil {
		g.shared, g.from = &sharedPages{written: map[mem.VirtAddr]byte{}}, r.Start
	}
	m.replace(g)
}

// region returns the region that holds addr.
func (m *memory) region(addr mem.VirtAddr) (g region, ok bool) {
	if ok = m.find(addr); ok {
		g = m.last
	}
	return g, ok
}

// find makes the region that holds addr the one found last. It is false where
// there is none.
func (m *memory) find(addr mem.VirtAddr) (ok bool) {
	if m.last.Contains(addr) {
		return true
	}
	if m.regions == nil {
		return false
	}
	m.regions.DescendLessOrEqual(region{Range: mem.Range{Start: addr}}, func(x region) bool {
		if ok = x.Contains(addr); ok {
			m.last = x
		}
		return false
	})
	return ok
}

func (m *memory) wrote(addr mem.VirtAddr, value byte) {
	if g, ok := m.region(addr); ok && g.shared != nil {
		g.shared.written[addr-g.from] = value
		return
	}
	if m.written == nil {
		m.written = map[mem.VirtAddr]byte{}
	}
	m.written[addr] = value
}

// compare compares the page at addr, as process pid sees it, with what it ought
// to hold.
func (m *memory) compare(w *verify.Witness, pid int, addr mem.VirtAddr, data []byte) (ok bool, err error) {
	var want [mem.PageSize]byte
	g, start, at, err := m.expect(addr, &want)
	if err != nil || g.unknown != "" || g.shared != nil && g.shared.unknown {
		return err == nil, err
	}
	written, base := m.written, mem.VirtAddr(0)
	if g.shared != nil {
		written, base = g.shared.written, g.from
	}
	switch n := len(written); {
	case n == 0:
	case n < mem.PageSize:
		for at, v := range written {
			if i := at + base - addr; i < mem.PageSize {
				want[i] = v
			}
		}
	default:
		for i := range want {
			if v, ok := written[addr+mem.VirtAddr(i)-base]; ok {
				want[i] = v
			}
		}
	}
	return w.Bytes(pid, addr, want[:], data, start, at), nil
}

// expect fills want with what the page at addr held when it was mapped, and
// returns its region, or one of that page, and for a report the start of its area
// and its offset in the file.
func (m *memory) expect(addr mem.VirtAddr, want *[mem.PageSize]byte) (g region, start mem.VirtAddr, at uint64, err error) {
	g, other := m.region(addr)
	switch {
	case g.image != nil:
		from := mem.VirtAddr(g.offset) + (addr - g.Start)
		_, _, at = g.image.FileVMA(from)
		return g, g.Start, at, g.image.Page(from, want[:])
	case g.file != nil:
		at = uint64(g.offset) + uint64(addr-g.Start)
		*want, err = verify.FilePage(g.file, int64(at))
		return g, g.Start, at, err
	case other:
		return g, 0, 0, nil
	}
	g.Range = mem.PageOf(addr)
	for _, t := range m.truths {
		if t.Extent().Contains(addr) {
			start, _, at = t.FileVMA(addr)
			return g, start, at, t.Page(addr, want[:])
		}
	}
	return g, 0, 0, nil
}

// remapped notes that mremap made to of from: the pages move as far as both
// reach, and what lies behind them goes, or continues them. With keep the old
// pages stay, empty.
func (m *memory) remapped(from, to mem.Range, keep bool) {
	common := min(from.Len(), to.Len())
	parts := m.slices(mem.Range{Start: from.Start, End: from.Start + mem.VirtAddr(common)})
	if common == 0 { // a second mapping of shared pages
		parts = m.slices(mem.PageOf(from.Start))
	}
	marks := m.marks(from, to)
	defer func() {
		m.wiped, m.parted = slices.Concat(m.wiped, marks.wiped), slices.Concat(m.parted, marks.parted)
		m.vague = slices.Concat(m.vague, marks.vague)
	}()
	moved := map[mem.VirtAddr]byte{}
	for a, v := range m.written {
		if from.Contains(a) && uint64(a-from.Start) < common {
			moved[a-from.Start+to.Start] = v
		}
	}
	seen := newPageSet()
	if m.recorded != nil && common > 0 {
		seen = m.seen.clone()
		seen.move(mem.Range{Start: from.Start, End: from.Start + mem.VirtAddr(common)}, to.Start)
	}
	if keep {
		for _, g := range m.slices(from) {
			m.replace(g) // as it was when it was mapped
		}
	} else if !from.Empty() {
		m.forget(from)
	}
	m.forget(to)
	for i, g := range parts {
		r := mem.Range{Start: g.Start - from.Start + to.Start, End: g.End - from.Start + to.Start}
		switch {
		case i < len(parts)-1:
		case g.image != nil && r.End < to.End: // what goes on there is the machine's secret
			m.replace(region{Range: mem.Range{Start: r.End, End: to.End}, unknown: unknownGrown})
		default:
			r.End = to.End
		}
		if g.shared != nil {
			g.from += r.Start - g.Start // which page of the shared memory it is stays
		}
		g.Range = r
		m.replace(g)
	}
	if len(moved) > 0 && m.written == nil {
		m.written = map[mem.VirtAddr]byte{}
	}
	for a, v := range moved {
		m.written[a] = v
	}
	if m.recorded != nil && common > 0 {
		m.seen.merge(seen, mem.Range{Start: to.Start, End: to.Start + mem.VirtAddr(common)})
	}
}

// slices returns what r consists of: regions, and, for what has none, regions
// that say the same as the program's truth.
func (m *memory) slices(r mem.Range) (parts []region) {
	at := r.Start
	gap := func(end mem.VirtAddr) {
		for at < end {
			g := region{Range: mem.Range{Start: at, End: end}}
			for _, t := range m.truths {
				switch x := t.Extent(); {
				case x.Contains(at):
					g.image, g.offset, g.End = t, int64(at), min(end, x.End)
				case x.Start > at && x.Start < g.End:
					g.End = x.Start
				}
			}
			parts = append(parts, g)
			at = g.End
		}
	}
	for _, x := range m.overlapping(r) {
		gap(max(x.Start, r.Start))
		parts = append(parts, x.part(x.Intersect(r)))
		at = min(x.End, r.End)
	}
	gap(r.End)
	return parts
}

// dropped notes that the private pages of r are as when they were mapped
// (MADV_DONTNEED).
func (m *memory) dropped(r mem.Range) {
	maps.DeleteFunc(m.written, func(a mem.VirtAddr, _ byte) bool { return r.Contains(a) })
	if m.recorded != nil {
		m.seen.remove(r)
	}
}

// removed notes that the shared memory of r is zero again (MADV_REMOVE).
func (m *memory) removed(r mem.Range) {
	for _, g := range m.overlapping(r) {
		in := g.Intersect(r)
		switch {
		case g.shared != nil:
			maps.DeleteFunc(g.shared.written, func(at mem.VirtAddr, _ byte) bool { return in.Contains(at + g.from) })
		case g.object != nil:
			from := mem.VirtAddr(g.part(in).offset)
			g.object.seen.remove(mem.Range{Start: from, End: from + mem.VirtAddr(in.Len())})
		}
	}
	if m.recorded != nil {
		m.seen.remove(r)
	}
}

// wipe notes whether a fork's child has zeros in r.
func (m *memory) wipe(r mem.Range, on bool) {
	m.vague = without(m.vague, r)
	if m.wiped = without(m.wiped, r); on && !r.Empty() {
		m.wiped = append(slices.Clip(m.wiped), r)
	}
}

// wipes is what a fork's child has zeros in, or has not, or may have zeros in.
type wipes struct{ wiped, parted, vague []mem.Range }

// marks returns what mremap takes along from one range to another: the marks of
// its pages, and of its last page for those behind.
func (m *memory) marks(from, to mem.Range) wipes {
	along := func(rs []mem.Range) (out []mem.Range) {
		for _, w := range rs {
			in := w.Intersect(from)
			if in.Empty() {
				continue
			}
			r := mem.Range{Start: in.Start - from.Start + to.Start, End: in.End - from.Start + to.Start}
			if in.End == from.End {
				r.End = max(r.End, to.End)
			}
			if r = r.Intersect(to); !r.Empty() {
				out = append(out, r)
			}
		}
		return out
	}
	return wipes{along(m.wiped), along(m.parted), along(m.vague)}
}

// partFrom notes whether a fork's child has r.
func (m *memory) partFrom(r mem.Range, on bool) {
	if m.parted = without(m.parted, r); on && !r.Empty() {
		m.parted = append(slices.Clip(m.parted), r)
	}
}

// without returns what of rs does not lie in r. It never changes rs.
func without(rs []mem.Range, r mem.Range) []mem.Range {
	if len(rs) == 0 {
		return nil
	}
	var left []mem.Range
	for _, w := range rs {
		for _, part := range []mem.Range{{Start: w.Start, End: min(w.End, r.Start)}, {Start: max(w.Start, r.End), End: w.End}} {
			if !part.Empty() {
				left = append(left, part)
			}
		}
	}
	return left
}
