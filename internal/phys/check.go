package phys

import (
	"fmt"

	"vmsim/mem"
)

// Check verifies every invariant of the allocator and returns the first that
// is broken, naming the frame:
//
//   - each frame is in one state, and has references exactly if allocated
//   - a free frame has no flags and no valid bytes
//   - each free block lies at a multiple of its size, is linked once, in the
//     list of its order, and overlaps no other frame that is in use
//   - no two free buddies are unmerged
//   - the counters match the states, and free and allocated add up to all
//
// It visits the frames below the high-water mark: O(frames ever used).
func (m *Memory) Check() error {
	if int(m.top) > len(m.frames) || m.top%mem.SubPages != 0 || m.top == 0 {
		return fmt.Errorf("high-water mark %d of %d frames", m.top, len(m.frames))
	}
	linked, err := m.checkLists()
	if err != nil {
		return err
	}
	inCPUs, err := m.checkCPUs()
	if err != nil {
		return err
	}
	found, err := m.scan()
	if err != nil {
		return err
	}

	// Every linked head was a head of that order, and none is linked twice: if
	// there are as many in the table, all are linked.
	for k := range linked {
		if linked[k] != found.heads[k] {
			return fmt.Errorf("order %d: %d blocks in the list, %d in the frame table", k, linked[k], found.heads[k])
		}
	}
	if inCPUs != found.perCPU {
		return fmt.Errorf("%d frames in per-CPU lists, %d in the frame table", inCPUs, found.perCPU)
	}
	if n := found.buddy + len(m.frames) - int(m.top); n != m.nBuddy {
		return fmt.Errorf("%d frames counted in the buddy, %d in the frame table", m.nBuddy, n)
	}
	if m.FreeFrames()+found.allocated != m.Frames() {
		return fmt.Errorf("%d frames free and %d allocated of %d", m.FreeFrames(), found.allocated, m.Frames())
	}
	return nil
}

// checkLists follows the list of each order and returns the number of blocks
// in it.
func (m *Memory) checkLists() (linked [maxOrder + 1]int, err error) {
	for k := range uint(maxOrder + 1) {
		if got, want := m.nonempty>>k&1 != 0, m.heads[k] != mem.NoFrame; got != want {
			return linked, fmt.Errorf("order %d: marked non-empty: %t, first frame %d", k, got, m.heads[k])
		}
		// A cycle ends here too: the frame that closes it has another prev.
		prev := mem.NoFrame
		for p := m.heads[k]; p != mem.NoFrame; p = m.frames[p].next() {
			if p >= m.top {
				return linked, fmt.Errorf("frame %d: in the list of order %d, but above the high-water mark %d", p, k, m.top)
			}
			f := &m.frames[p]
			if f.state != headOf(k) {
				return linked, fmt.Errorf("frame %d: in the list of order %d, but it is %v", p, k, f.state)
			}
			if f.prev() != prev {
				return linked, fmt.Errorf("frame %d: previous in the list of order %d is %d, not %d", p, k, f.prev(), prev)
			}
			prev = p
			linked[k]++
		}
	}
	return linked, nil
}

// checkCPUs visits the per-CPU lists and returns the number of frames in them.
func (m *Memory) checkCPUs() (n int, err error) {
	seen := make(map[mem.PFN]bool)
	for i := range m.cpus {
		c := &m.cpus[i]
		if c.n < 0 || c.n > high {
			return 0, fmt.Errorf("list of CPU %d: length %d of at most %d", i, c.n, high)
		}
		for _, p := range c.pfns[:c.n] {
			switch {
			case p >= m.top:
				return 0, fmt.Errorf("frame %d: in the list of CPU %d, but above the high-water mark %d", p, i, m.top)
			case m.frames[p].state != statePerCPU:
				return 0, fmt.Errorf("frame %d: in the list of CPU %d, but it is %v", p, i, m.frames[p].state)
			case seen[p]:
				return 0, fmt.Errorf("frame %d: twice in per-CPU lists", p)
			}
			seen[p] = true
		}
	}
	return len(seen), nil
}

// census is what scan found in the frame table below the high-water mark.
type census struct {
	heads     [maxOrder + 1]int // free blocks of each order
	buddy     int               // frames in them
	perCPU    int
	allocated int
}

// scan walks the table from frame to frame, over each free block in one step.
// What lies in a block must be a tail, so that blocks overlap nothing; a tail
// anywhere else belongs to no block.
func (m *Memory) scan() (found census, err error) {
	if m.frames[mem.NoFrame] != (Frame{state: stateReserved}) {
		return found, fmt.Errorf("frame 0: %v, want it reserved and unused", m.frames[mem.NoFrame].state)
	}
	for p := mem.PFN(1); p < m.top; {
		f := &m.frames[p]
		if order, ok := f.state.isHead(); ok {
			if err := m.checkBlock(p, order); err != nil {
				return found, err
			}
			found.heads[order]++
			found.buddy += 1 << order
			p += 1 << order
			continue
		}
		switch f.state {
		case stateAllocated:
			if f.refs == 0 {
				return found, fmt.Errorf("frame %d: allocated without a reference", p)
			}
			if f.Valid > mem.PageSize {
				return found, fmt.Errorf("frame %d: %d valid bytes", p, f.Valid)
			}
			found.allocated++
		case statePerCPU:
			if *f != (Frame{state: statePerCPU}) {
				return found, fmt.Errorf("frame %d: in a per-CPU list, but in use: %+v", p, *f)
			}
			found.perCPU++
		case stateTail:
			return found, fmt.Errorf("frame %d: free, but in no block and no list", p)
		default:
			return found, fmt.Errorf("frame %d: unexpected state: %v", p, f.state)
		}
		p++
	}
	return found, nil
}

// checkBlock checks the free block of 2^order frames at p.
func (m *Memory) checkBlock(p mem.PFN, order uint) error {
	size := mem.PFN(1) << order
	if p%size != 0 {
		return fmt.Errorf("frame %d: not a multiple of %d, but %v", p, size, m.frames[p].state)
	}
	// top is a multiple of 512, so an aligned block ends below it.
	if f := m.frames[p]; f.refs != 0 || f.Flags != 0 || f.Valid != 0 {
		return fmt.Errorf("frame %d: %v, but in use: %+v", p, f.state, f)
	}
	for q := p + 1; q < p+size; q++ {
		if m.frames[q] != (Frame{}) {
			return fmt.Errorf("frame %d: in the free block of order %d at %d, but in use: %+v", q, order, p, m.frames[q])
		}
	}
	if buddy := p ^ size; order < maxOrder && m.frames[buddy].state == headOf(order) {
		return fmt.Errorf("frame %d: free and not merged with its buddy %d of order %d", p, buddy, order)
	}
	return nil
}
