package session

import (
	"maps"

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
	regions *btree.BTreeG[region] // what mmap and munmap made, without overlap
	written map[mem.VirtAddr]byte
}

// region is pages that are no longer, or never were, the program's.
type region struct {
	mem.Range
	file   mem.File // nil: zeros
	offset int64    // in file, of Start
	shared *sharedPages
	from   mem.VirtAddr // of the shared memory's first byte
}

// sharedPages is what all processes wrote to one shared anonymous mapping, by
// offset.
type sharedPages struct {
	written map[mem.VirtAddr]byte
}

// start is after an exec or a boot: nothing is known but the program.
func (m *memory) start(p *vm.Process) error {
	ts, err := truths(p)
	if err != nil {
		return err
	}
	regions := btree.NewG(32, func(a, b region) bool { return a.Start < b.Start })
	*m = memory{exec: m.exec, truths: ts, regions: regions, written: map[mem.VirtAddr]byte{}}
	return nil
}

// clone is what a fork's child sees. It shares the truths: what they remember of
// the file is the same for both.
func (m *memory) clone() *memory {
	c := *m
	c.regions = m.regions.Clone()
	c.written = maps.Clone(m.written)
	return &c
}

// forget drops what is known of r: it is unmapped, or zeros.
func (m *memory) forget(r mem.Range) { m.replace(region{Range: r}) }

// replace makes g what its range is.
func (m *memory) replace(g region) {
	var cut []region
	if first, ok := m.region(g.Start); ok {
		cut = append(cut, first)
	}
	m.regions.AscendRange(region{Range: mem.Range{Start: g.Start + 1}}, region{Range: mem.Range{Start: g.End}}, func(x region) bool {
		cut = append(cut, x)
		return true
	})
	for _, x := range cut {
		m.regions.Delete(x)
		for _, part := range []mem.Range{{Start: x.Start, End: min(x.End, g.Start)}, {Start: max(x.Start, g.End), End: x.End}} {
			if part.Empty() {
				continue
			}
			rest := x
			rest.Range, rest.offset = part, x.offset+int64(part.Start-x.Start)
			m.regions.ReplaceOrInsert(rest)
		}
	}
	m.regions.ReplaceOrInsert(g)
	if uint64(len(m.written)) > g.Len() {
		for a := g.Start; a < g.End; a++ {
			delete(m.written, a)
		}
		return
	}
	maps.DeleteFunc(m.written, func(a mem.VirtAddr, _ byte) bool { return g.Contains(a) })
}

// mapped notes a new mapping.
func (m *memory) mapped(r mem.Range, a vm.Mapping) {
	g := region{Range: r, file: a.File, offset: a.Offset}
	if a.Shared && a.File == nil {
		g.shared, g.from = &sharedPages{map[mem.VirtAddr]byte{}}, r.Start
	}
	m.replace(g)
}

func (m *memory) region(addr mem.VirtAddr) (g region, ok bool) {
	m.regions.DescendLessOrEqual(region{Range: mem.Range{Start: addr}}, func(x region) bool {
		g, ok = x, x.Contains(addr)
		return false
	})
	if !ok {
		return region{}, false
	}
	return g, true
}

func (m *memory) wrote(addr mem.VirtAddr, value byte) {
	if g, ok := m.region(addr); ok && g.shared != nil {
		g.shared.written[addr-g.from] = value
		return
	}
	m.written[addr] = value
}

// compare compares the page at addr, as process pid sees it, with what it ought
// to hold.
func (m *memory) compare(w *verify.Witness, pid int, addr mem.VirtAddr, data []byte) (ok bool, err error) {
	var want [mem.PageSize]byte
	var start mem.VirtAddr
	var at uint64
	g, other := m.region(addr)
	switch {
	case other && g.file != nil:
		start, at = g.Start, uint64(g.offset)+uint64(addr-g.Start)
		want, err = verify.FilePage(g.file, int64(at))
	case !other:
		for _, t := range m.truths {
			if t.Extent().Contains(addr) {
				start, _, at = t.FileVMA(addr)
				err = t.Page(addr, want[:])
			}
		}
	}
	if err != nil {
		return false, err
	}
	written, base := m.written, mem.VirtAddr(0)
	if g.shared != nil {
		written, base = g.shared.written, g.from
	}
	if len(written) > 0 {
		for i := range want {
			if v, ok := written[addr+mem.VirtAddr(i)-base]; ok {
				want[i] = v
			}
		}
	}
	return w.Bytes(pid, addr, want[:], data, start, at), nil
}
