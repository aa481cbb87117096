// Package pagetable holds the page tables of all processes of a machine: four
// levels of 512 entries, as x86-64 walks them, in an arena off the Go heap.
//
//	address  [ 47..39 | 38..30 | 29..21 | 20..12 | 11..0 ]
//	             PGD      PUD      PMD      PTE    offset
//
// A PMD entry with the huge bit maps 2 MiB. Nodes are named by number and have
// a side reference count, so that fork is one increment of the root's count:
//
//	before       after fork           after the child wrote one page
//	A -> root    A -+-> root (2)      A -> root  -> pud  -> pmd -+-> pte (2) ...
//	                |                                            |
//	             B -+                 B -> root' -> pud' -> pmd'-+
//	                                                          \---> pte' (copy)
//
// Whoever changes an entry first makes the nodes on its path its own (own in
// share.go). A copied leaf holds the same frames, so each of them gets one more
// reference and loses its write permission in both leaves; the next write to
// one is a CoW fault. A frame's reference count is the number of leaf entries
// that name it, in distinct nodes, plus what the caches hold.
//
// Hence the rule for writers: an entry's write bit counts only if every node
// above it has one reference (Walk reports it, walkcache.go remembers it for as
// long as no reference count of a node changes). A stale write permission can
// hide in a TLB only; fork therefore gives both sides a new address-space tag.
package pagetable
