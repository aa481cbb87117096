package pagetable

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmsim/internal/phys"
	"vmsim/mem"
)

// ErrNoMemory is returned where a node is needed and the arena is used up.
var ErrNoMemory = errors.New("no memory for page tables")

// nodeID is the number of a node; 0 is none.
type nodeID uint32

type node [512]Entry

// Levels of a node. An entry of a pmd node may be huge; those of a pte node
// name frames.
const (
	levelPTE = iota
	levelPMD
	levelPUD
	levelPGD
)

// index returns which of a node's entries a walk to addr takes.
func index(level int, addr mem.VirtAddr) int {
	return int(addr>>(mem.PageShift+9*level)) & 511
}

// span returns the bytes that one entry of a node of this level covers.
func span(level int) uint64 { return 1 << (mem.PageShift + 9*level) }

// Tables is the arena of nodes and their reference counts.
type Tables struct {
	phys  *phys.Memory // the frames that leaves name
	arena []byte       // capacity nodes of 4 KiB
	base  unsafe.Pointer

	refs  []uint32 // by node; 0 is free. Its length is the high-water mark.
	used  []uint16 // by node: entries that are not zero
	lines []uint64 // by node: bit k is set if entries [8k, 8k+8) were ever not zero
	free  []nodeID // recycled, all zero
	max   int      // nodes that may exist, node 0 included

	walks walkCache
}

// New returns an arena for at most nodes page-table nodes over the frames of
// m. Address space is reserved; memory is used as nodes are.
func New(m *phys.Memory, nodes int) (*Tables, error) {
	if nodes < 8 {
		nodes = 8 // a PGD, and one path below it, twice
	}
	arena, err := unix.Mmap(-1, 0, (nodes+1)*mem.PageSize, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map %d page-table nodes: %w", nodes, err)
	}
	t := &Tables{phys: m, arena: arena, base: unsafe.Pointer(&arena[0]), max: nodes + 1}
	t.refs = append(t.refs, 0)
	t.used = append(t.used, 0)
	t.lines = append(t.lines, 0)
	return t, nil
}

// Close gives the arena back.
func (t *Tables) Close() error {
	if t.arena == nil {
		return nil
	}
	err := unix.Munmap(t.arena)
	t.arena, t.base = nil, nil
	return err
}

// Nodes returns the number of nodes in use.
func (t *Tables) Nodes() int { return len(t.refs) - 1 - len(t.free) }

func (t *Tables) node(id nodeID) *node {
	return (*node)(unsafe.Add(t.base, uintptr(id)*mem.PageSize))
}

// alloc returns a node of zeros with one reference.
func (t *Tables) alloc() (nodeID, error) {
	t.walks.changed()
	if n := len(t.free); n > 0 {
		id := t.free[n-1]
		t.free = t.free[:n-1]
		t.refs[id] = 1
		return id, nil
	}
	if len(t.refs) >= t.max {
		return 0, ErrNoMemory
	}
	t.refs = append(t.refs, 1)
	t.used = append(t.used, 0)
	t.lines = append(t.lines, 0)
	return nodeID(len(t.refs) - 1), nil
}

// release gives a node back whose entries are all gone.
func (t *Tables) release(id nodeID) {
	t.walks.changed()
	t.refs[id], t.lines[id] = 0, 0
	t.free = append(t.free, id)
}

// lineEntries is the number of entries in a line of a node, 64 bytes as a cache
// line. Most nodes of a small process have one or two lines in use: its exit
// looks at those alone.
const lineEntries = 8

// set writes entry i of node id, keeping count.
func (t *Tables) set(id nodeID, i int, e Entry) {
	slot := &t.node(id)[i]
	if *slot != 0 {
		t.used[id]--
	}
	if e != 0 {
		t.used[id]++
		t.lines[id] |= 1 << (uint(i) / lineEntries % 64)
	}
	*slot = e
}

func (e Entry) child() nodeID    { return nodeID(e & pfnMask >> pfnShift) }
func childEntry(id nodeID) Entry { return Entry(id)<<pfnShift | table }
