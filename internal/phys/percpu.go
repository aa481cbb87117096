package phys

import (
	"math/bits"

	"vmsim/mem"
)

// In front of the buddy each CPU has a list of single frames: a stack, so that
// a frame freed is the next allocated, while it is hot. An empty list takes a
// batch from the buddy; a full one gives a batch back and keeps as much, so
// that a run of frees or allocations, whichever comes next, pays for a batch
// only once per batch.
//
// Compare Linux mm/page_alloc.c:rmqueue_pcplist, free_frozen_page_commit.

const (
	// batch is how many frames move at once. 64 frames are a block of order 6,
	// so a refill from unused memory is one split of a block, and its frames
	// are handed out in order. Linux's pcp->batch is at most 63.
	batch = 64
	// high is the length of a full list.
	high = 2 * batch
)

// perCPU is the list of one CPU: pfns[:n], the next to allocate last.
type perCPU struct {
	n    int
	pfns [high]mem.PFN
}

// Alloc allocates one frame with one reference; its contents are undefined. It
// returns false if no frame is free.
func (m *Memory) Alloc() (mem.PFN, bool) {
	c := m.cpu
	if c.n == 0 && !m.refill(c) {
		return mem.NoFrame, false
	}
	c.n--
	p := c.pfns[c.n]
	m.frames[p] = Frame{refs: 1, state: stateAllocated}
	return p, true
}

// freeToCPU puts the frame p, which lost its last reference, on the list of
// the running CPU.
func (m *Memory) freeToCPU(p mem.PFN) {
	c := m.cpu
	if c.n == high {
		m.drain(c, batch)
	}
	m.frames[p] = Frame{state: statePerCPU}
	c.pfns[c.n] = p
	c.n++
}

// refill fills the empty list c with up to a batch of frames. It prefers small
// blocks, which are of no use to a huge page. With none left in the buddy it
// takes what other CPUs hold; false if that is nothing.
func (m *Memory) refill(c *perCPU) bool {
	if m.nBuddy == 0 && !m.drainAll() {
		return false
	}
	i := batch // filled downwards: the first frame taken is the first allocated
	for i > 0 {
		order := uint(min(bits.TrailingZeros16(m.nonempty), bits.Len(uint(i))-1))
		p, ok := m.take(order)
		if !ok {
			break
		}
		for end := p + 1<<order; p < end; p++ {
			m.frames[p].state = statePerCPU
			i--
			c.pfns[i] = p
		}
	}
	c.n = copy(c.pfns[:], c.pfns[i:batch])
	return true
}

// drain gives the n frames that were longest in list c back to the buddy.
func (m *Memory) drain(c *perCPU, n int) {
	for _, p := range c.pfns[:n] {
		m.frames[p] = Frame{}
		m.release(p, 0)
	}
	c.n = copy(c.pfns[:], c.pfns[n:c.n])
}

// drainAll gives all frames of all lists back to the buddy, false if there
// were none.
//
// Compare Linux mm/page_alloc.c:drain_all_pages.
func (m *Memory) drainAll() bool {
	before := m.nBuddy
	for i := range m.cpus {
		c := &m.cpus[i]
		m.drain(c, c.n)
	}
	return m.nBuddy > before
}
