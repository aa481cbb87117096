package pagetable

import "vmsim/mem"

// walkCache remembers the leaf nodes that walks ended in, by 2 MiB window, so
// that the next walk in such a window reads one entry instead of four. A fault
// walks twice, and faults come close together.
//
// Which leaf a walk reaches, and whether it is shared, follows from the reference
// counts of nodes: a node joins or leaves a path only when one of them changes.
// So with every change of one the whole cache is void: see changed.
//
// Compare the paging-structure caches of x86 (Intel SDM vol. 3A, "Caching
// Translation Information").
type walkCache struct {
	leaves  [walkCacheSize]cachedLeaf
	version uint64 // of the reference counts
}

const walkCacheSize = 16 // direct mapped

type cachedLeaf struct {
	version uint64 // an entry of another version is void
	window  uint64 // address / 2 MiB
	pgd     nodeID
	leaf    nodeID // 0: empty
	owned   bool   // no node on the path is shared
}

// lookup returns the leaf of addr below pgd, which must not be 0; a leaf of 0 if
// it is not known.
func (c *walkCache) lookup(pgd nodeID, addr mem.VirtAddr) (leaf nodeID, owned bool) {
	window := uint64(addr) >> mem.HugeShift
	l := &c.leaves[window%walkCacheSize]
	if l.window == window && l.pgd == pgd && l.version == c.version {
		return l.leaf, l.owned
	}
	return 0, false
}

// fill remembers the leaf that a walk has just reached.
func (c *walkCache) fill(pgd nodeID, addr mem.VirtAddr, leaf nodeID, owned bool) {
	window := uint64(addr) >> mem.HugeShift
	c.leaves[window%walkCacheSize] = cachedLeaf{c.version, window, pgd, leaf, owned}
}

// changed forgets all leaves: the reference count of a node changes.
func (c *walkCache) changed() { c.version++ }
