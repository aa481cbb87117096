package vm

import (
	"errors"

	"vmsim/internal/pagetable"
	"vmsim/internal/phys"
	"vmsim/mem"
)

// Reclaim, when no frame is free, in the order of what it costs later:
//
//	1. cached pages that nobody has mapped      (pagecache.Evict)
//	2. huge pages that nobody has mapped        (hugepage.Evict)
//	3. entries that map a frame of either cache are taken away, a batch at a
//	   time round the processes; then 1 and 2 again
//
// Anonymous and written pages have no other copy and there is no swap: they
// stay. When nothing is left, the process that wants the frame is killed.

var errNoFrame = errors.New("no free frame")

// reclaimBatch is how many pages a pass of reclaim frees at least, if it can.
const reclaimBatch = 32

// alloc returns a frame with one reference and undefined contents, reclaiming
// as needed. It returns errNoFrame when memory is truly exhausted.
func (m *Machine) alloc() (mem.PFN, error) {
	if pfn, ok := m.phys.Alloc(); ok {
		return pfn, nil
	}
	for m.reclaim() {
		if pfn, ok := m.phys.Alloc(); ok {
			return pfn, nil
		}
	}
	return mem.NoFrame, errNoFrame
}

// reclaim frees some frames. It is false where none could be freed.
func (m *Machine) reclaim() bool {
	before := m.phys.FreeFrames()
	m.cache.Evict(reclaimBatch)
	if m.phys.FreeFrames() == before {
		m.stats.HugeEvicted += m.huge.Evict(1)
	}
	if m.phys.FreeFrames() == before && m.unmap(max(reclaimBatch, m.phys.Frames()/16)) > 0 {
		m.cache.Evict(reclaimBatch)
		m.stats.HugeEvicted += m.huge.Evict(1)
		// What was unmapped may still be shielded by its second chance, or by
		// the rest of its huge page: there is progress as long as entries go.
		return true
	}
	return m.phys.FreeFrames() > before
}

// sweep is the hand of the clock that unmap moves.
type sweep struct {
	pid  int
	addr mem.VirtAddr
}

// unmap takes away up to n pages' entries that map frames of the caches, going
// round the processes from where it stopped last. It returns how many.
func (m *Machine) unmap(n int) int {
	gone := 0
	visit := func(e pagetable.Entry) (drop, more bool) {
		if !m.cached(e.PFN()) || e.IsShared() {
			return false, true
		}
		if e.IsHuge() {
			gone += mem.SubPages
		} else {
			gone++
		}
		return true, gone < n
	}
	procs := m.Processes()
	start := 0
	for start < len(procs) && procs[start].PID < m.sweep.pid {
		start++
	}
	for i := 0; i <= len(procs) && gone < n && len(procs) > 0; i++ {
		p := procs[(start+i)%len(procs)]
		from := mem.VirtAddr(0)
		if p.PID == m.sweep.pid && i == 0 {
			from = m.sweep.addr
		}
		m.sweep = sweep{pid: p.PID + 1}
		if next, more := m.tables.Reap(p.root, from, visit); more {
			m.sweep = sweep{p.PID, next}
		}
	}
	for _, p := range procs {
		p.flushTLB()
	}
	m.stats.ReclaimUnmaps += gone
	return gone
}

// cached reports whether a frame belongs to one of the caches: its content is
// a file's, and can be had again.
func (m *Machine) cached(pfn mem.PFN) bool {
	return m.phys.Frame(pfn).Flags&(phys.Cached|phys.Huge) != 0
}
