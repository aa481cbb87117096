package phys

import (
	"math/bits"

	"vmsim/mem"
)

// The buddy allocator keeps free memory in blocks of 2^order frames, each at a
// multiple of its size. The buddy of the block at p is the one at p^2^order:
// together they are the block of the next order. A block is split to serve a
// smaller request, and merged with its buddy as soon as both are free.
//
// Free blocks of an order form a doubly linked list through their heads'
// entries: O(1) to take out a buddy that gets merged, no memory besides. Lists
// are last in, first out, so that what was used last, and may still be in the
// host's caches, is used next.
//
// Blocks from top on are not in any list. They are opened one by one, from the
// lowest, and only when no list has a block: the part of the arena that is ever
// touched stays small, and New has nothing to link.
//
// Compare Linux mm/page_alloc.c.

// maxOrder is the order of the largest block: 2^9 frames are the 2 MiB of a
// huge page, and the machine allocates nothing larger.
const maxOrder = mem.HugeShift - mem.PageShift

// prev and next are the links of a buddy head, NoFrame at the ends of the list.
func (f *Frame) prev() mem.PFN { return mem.PFN(f.File) }
func (f *Frame) next() mem.PFN { return mem.PFN(f.Index) }

// push puts the free block of 2^order frames at p at the front of its list.
// The entries of its frames are zero.
func (m *Memory) push(p mem.PFN, order uint) {
	next := m.heads[order]
	m.frames[p] = Frame{Index: uint32(next), state: headOf(order)}
	if next != mem.NoFrame {
		m.frames[next].File = uint32(p)
	}
	m.heads[order] = p
	m.nonempty |= 1 << order
}

// unlink takes the block at p out of the list of its order and leaves the
// entries of its frames zero.
func (m *Memory) unlink(p mem.PFN, order uint) {
	f := &m.frames[p]
	prev, next := f.prev(), f.next()
	*f = Frame{}
	if next != mem.NoFrame {
		m.frames[next].File = uint32(prev)
	}
	if prev != mem.NoFrame {
		m.frames[prev].Index = uint32(next)
		return
	}
	m.heads[order] = next
	if next == mem.NoFrame {
		m.nonempty &^= 1 << order
	}
}

// take removes a block of 2^order frames from the buddy, false if none is
// left. It takes the smallest that will do and keeps the low part of it. The
// entries of its frames are zero; the caller gives them their state.
//
// Compare Linux mm/page_alloc.c:__rmqueue_smallest and expand.
func (m *Memory) take(order uint) (mem.PFN, bool) {
	var p mem.PFN
	k := uint(bits.TrailingZeros16(m.nonempty >> order << order))
	switch {
	case k <= maxOrder:
		p = m.heads[k]
		m.unlink(p, k)
	case int(m.top) < len(m.frames):
		p, k = m.top, maxOrder
		m.top += mem.SubPages
	default:
		return mem.NoFrame, false
	}
	for k > order {
		k--
		m.push(p+1<<k, k)
	}
	m.nBuddy -= 1 << order
	return p, true
}

// release gives the block of 2^order frames at p back to the buddy and merges
// it as far as it goes. The entries of its frames are zero.
//
// Compare Linux mm/page_alloc.c:__free_one_page.
func (m *Memory) release(p mem.PFN, order uint) {
	m.nBuddy += 1 << order
	for ; order < maxOrder; order++ {
		buddy := p ^ 1<<order
		// The state, not the reference count: a frame in a per-CPU list has no
		// references either (page_is_buddy asks for PageBuddy).
		if m.frames[buddy].state != headOf(order) {
			break
		}
		m.unlink(buddy, order)
		p &= buddy
	}
	m.push(p, order)
}

// AllocHuge allocates 512 consecutive frames, the first a multiple of 512, each
// with one reference of its own; their contents are undefined. It returns false
// if no such block is free, even with all per-CPU lists drained.
func (m *Memory) AllocHuge() (mem.PFN, bool) {
	first, ok := m.take(maxOrder)
	if !ok && m.drainAll() {
		first, ok = m.take(maxOrder)
	}
	if !ok {
		return mem.NoFrame, false
	}
	block := m.block(first)
	for i := range block {
		block[i] = Frame{refs: 1, state: stateAllocated}
	}
	return first, true
}
