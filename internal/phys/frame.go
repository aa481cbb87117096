package phys

import (
	"fmt"
	"math"
	"unsafe"

	"vmsim/mem"
)

// Frame is the entry of one frame in the frame table (Linux: struct page). Its
// exported fields belong to whoever holds the frame: they are zero when it is
// allocated, and the allocator clears them when it is freed.
type Frame struct {
	refs int32 // references; 0 exactly if the frame is not allocated; see saturated

	File  uint32 // number of the file whose page this is
	Index uint32 // number of the page in that file
	Valid uint16 // bytes of the page that are valid, 0 to 4096
	Flags Flags
	state state
}

// frameSize is the size of a Frame in bytes; the next line fails to compile if
// that is not 16.
const frameSize = 16

var _ [frameSize]byte = [unsafe.Sizeof(Frame{})]byte{}

// Flags says what a frame is used for.
type Flags uint8

const (
	Cached     Flags = 1 << iota // in the page cache
	Referenced                   // used since eviction last looked (Linux: PG_referenced)
	Dirty                        // written since it was filled
	Huge                         // one of the 512 frames of a huge page
)

// state is the state of a frame; doc.go lists them. A buddy head has its order
// in the low bits.
type state uint8

const (
	stateTail state = iota // must be 0: what a fresh table holds
	stateReserved
	statePerCPU
	stateAllocated
	stateHead state = 0x10
)

// headOf is the state of the head of a free block of 2^order frames.
func headOf(order uint) state { return stateHead | state(order) }

// isHead reports whether s is a headOf, and of which order.
func (s state) isHead() (order uint, ok bool) {
	order = uint(s &^ stateHead)
	return order, s&stateHead != 0 && order <= maxOrder
}

// String names s as doc.go does.
func (s state) String() string {
	if order, ok := s.isHead(); ok {
		return fmt.Sprintf("head of a free block of order %d", order)
	}
	switch s {
	case stateTail:
		return "in a free block"
	case stateReserved:
		return "reserved"
	case statePerCPU:
		return "in a per-CPU list"
	case stateAllocated:
		return "allocated"
	}
	return fmt.Sprintf("state 0x%02x", uint8(s))
}

// saturated is the reference count of a frame that had more than 2^31-1
// references. It stays, whatever is counted later, and the frame is never freed:
// a leak, where a counter that wraps gives a use after free.
//
// All negative counts are out of range. Get and Put count first and look then,
// so that both are inlined and compare once; what they find out of range, their
// slow halves put right. Compare Linux include/linux/refcount.h.
const saturated = math.MinInt32 / 2

// Frame returns the entry of frame p. It panics if p is not in the arena.
func (m *Memory) Frame(p mem.PFN) *Frame { return &m.frames[p] }

// Refs returns the number of references to frame p: 0 if it is free, 3<<30 if
// its count is saturated. It panics if p is not in the arena.
func (m *Memory) Refs(p mem.PFN) uint32 { return uint32(m.frames[p].refs) }

// Get adds a reference to frame p; a saturated count stays. It panics if p is
// free: whoever calls kept a PFN without a reference.
//
// Compare Linux include/linux/mm.h:get_page.
func (m *Memory) Get(p mem.PFN) {
	f := &m.frames[p]
	f.refs++
	if f.refs < 2 {
		m.getSlow(p)
	}
}

// getSlow ends a Get that found no reference, or too many.
func (m *Memory) getSlow(p mem.PFN) {
	f := &m.frames[p]
	if f.refs == 1 {
		f.refs = 0
		panic(fmt.Sprintf("phys: frame %d: get, but it is %v", p, f.state))
	}
	f.refs = saturated
}

// Put drops a reference to frame p. With the last one the frame goes to the
// list of the running CPU, and Put returns true. It panics if p is free.
//
// Compare Linux include/linux/mm.h:put_page.
func (m *Memory) Put(p mem.PFN) bool {
	f := &m.frames[p]
	f.refs--
	return f.refs <= 0 && m.putSlow(p)
}

// putSlow ends a Put of the last reference, of none, or of too many.
func (m *Memory) putSlow(p mem.PFN) bool {
	if !m.dropped(p) {
		return false
	}
	m.freeToCPU(p)
	return true
}

// dropped reports whether frame p has just lost its last reference, given that
// its count is not positive any more. The caller frees it then.
func (m *Memory) dropped(p mem.PFN) bool {
	f := &m.frames[p]
	switch f.refs {
	case 0:
		return true
	case -1:
		f.refs = 0
		panic(fmt.Sprintf("phys: frame %d: put, but it is %v", p, f.state))
	}
	f.refs = saturated
	return false
}

// GetBlock adds a reference to each of the 512 frames from first on, as Get
// does. It panics unless first is a multiple of 512 and all are allocated.
func (m *Memory) GetBlock(first mem.PFN) {
	block := m.block(first)
	for i := range block {
		f := &block[i]
		f.refs++
		if f.refs < 2 {
			m.getSlow(first + mem.PFN(i))
		}
	}
}

// PutBlock drops a reference to each of the 512 frames from first on and
// returns how many of them it freed. They go straight to the buddy, where they
// merge. It panics unless first is a multiple of 512 and all are allocated.
func (m *Memory) PutBlock(first mem.PFN) int {
	block := m.block(first)
	if solelyOwned(block) {
		clear(block)
		m.release(first, maxOrder)
		return len(block)
	}
	n := 0
	for i := range block {
		f, p := &block[i], first+mem.PFN(i)
		f.refs--
		if f.refs <= 0 && m.dropped(p) {
			*f = Frame{}
			m.release(p, 0)
			n++
		}
	}
	return n
}

// solelyOwned reports whether all frames of block have one reference.
func solelyOwned(block []Frame) bool {
	for i := range block {
		if block[i].refs != 1 {
			return false
		}
	}
	return true
}

// block returns the entries of the 512 frames from first on.
func (m *Memory) block(first mem.PFN) []Frame {
	mustAlign(first)
	return m.frames[first:][:mem.SubPages]
}

// mustAlign panics unless first is the first frame of a 2 MiB block.
func mustAlign(first mem.PFN) {
	if first%mem.SubPages != 0 {
		panic(fmt.Sprintf("phys: frame %d: not the first of a 2 MiB block", first))
	}
}
