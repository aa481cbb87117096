package session

import (
	"maps"
	"slices"

	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// memory is what a process of a replay ought to see, kept beside the machine:
// the truth of its program, what it mapped over it, and what was written.
type memory struct {
	exec    int // number of the exec that began it
	truths  []*verify.Truth
	regions []region // what mmap and munmap made, without overlap
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

// exec1 begins a new program.
func (m *memory) exec1(p *vm.Process) error {
	ts, err := truths(p)
	if err != nil {
		return err
	}
	*m = memory{exec: m.exec, truths: ts, written: map[mem.VirtAddr]byte{}}
	return nil
}

// clone is what a fork's child sees. Truths only read, so both may use them.
func (m *memory) clone() *memory {
	c := *m
	c.regions = slices.Clone(m.regions)
	c.written = maps.Clone(m.written)
	return &c
}

// forget drops what is known of r: it is unmapped, or zeros.
func (m *memory) forget(r mem.Range) {
	var keep []region
	for _, g := range m.regions {
		for _, part := range []mem.Range{{Start: g.Start, End: min(g.End, r.Start)}, {Start: max(g.Start, r.End), End: g.End}} {
			if part.Empty() {
				continue
			}
			piece := g
			piece.Range = part
			piece.offset += int64(part.Start - g.Start)
			keep = append(keep, piece)
		}
	}
	m.regions = append(keep, region{Range: r})
	maps.DeleteFunc(m.written, func(a mem.VirtAddr, _ byte) bool { return r.Contains(a) })
}

// mapped notes a new mapping.
func (m *memory) mapped(r mem.Range, a vm.Mapping) {
	m.forget(r)
	g := &m.regions[len(m.regions)-1]
	g.file, g.offset = a.File, a.Offset
	if a.Shared && a.File == nil {
		g.shared, g.from = &sharedPages{map[mem.VirtAddr]byte{}}, r.Start
	}
}

func (m *memory) region(addr mem.VirtAddr) (region, bool) {
	for _, g := range m.regions {
		if g.Contains(addr) {
			return g, true
		}
	}
	return region{}, false
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
		err = mem.ReadPadded(g.file, want[:], int64(at))
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
