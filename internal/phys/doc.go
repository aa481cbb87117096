// Package phys is physical memory: an arena of 4 KiB frames, a table with one
// entry per frame, and the allocator that hands frames out and counts their
// references. It is to the machine what mm/page_alloc.c and struct page are to
// Linux.
//
// Both the arena and the table are mapped from the host and lie outside the Go
// heap. Neither is touched before it is used: a fresh mapping is zero, and the
// zero entry means "free".
//
//	            block 0          block 1          block 2                 2 MiB each
//	arena   |R|f|f|f|...|f | f f f f ... f  | f f f f ... f  |  ...  |    4 KiB a frame
//	table   |R|e|e|e|...|e | e e e e ... e  | 0 0 0 0 ... 0  |  ...  |    16 bytes an entry
//	         ^                               ^                       ^
//	         PFN 0: reserved                 top: never used from    Frames()+1
//	                                         here on, entries zero
//
// PFN 0 is mem.NoFrame and never handed out, so block 0 serves single frames
// only: of n blocks, n-1 can be huge pages.
//
// # States of a frame
//
// Each frame is in exactly one state, kept in its entry:
//
//	reserved    PFN 0.
//	allocated   refs not 0. File, Index, Valid and Flags belong to the owner.
//	per-CPU     refs = 0, in the list of one CPU. Not free to the buddy.
//	buddy head  refs = 0, first frame of a free block of 2^order frames, linked
//	            in the list of that order through File (previous) and Index (next).
//	tail        the zero entry: in a free block but not its head, or above top.
//
// and these move it:
//
//	from         to           by
//	head, tail   tail, head   a split or a merge of blocks
//	head, tail   per-CPU      refill, for an Alloc that finds the list empty
//	head, tail   allocated    AllocHuge
//	per-CPU      allocated    Alloc
//	allocated    per-CPU      Put of the last reference
//	allocated    head, tail   PutBlock of the last reference
//	per-CPU      head, tail   drain, for a Put that finds the list full or an
//	                          AllocHuge that finds no block
//	any          head, tail   Reset (but PFN 0 stays reserved)
//
// Two free buddies are merged only if both are heads in the buddy allocator. A
// frame in a per-CPU list is free to its CPU alone: to merge with it would hand
// it out twice, once in the block and once from the list.
//
// A Memory is used by one goroutine at a time. Its answers depend on nothing
// but the sequence of calls.
package phys
