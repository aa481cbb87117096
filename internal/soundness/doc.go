// Package soundness asks of a recording whether it is complete: do the
// operations and touches that it holds explain the areas and the present pages
// that the recorder saw?
//
// It is a model of its own of what Linux (6.18) does to the areas and the present
// pages of processes; it knows nothing of the machine that replays traces. Per
// address space there are two maps from pages to values, both of runs (spans):
//
//	areas  [0x400000, 0x402000) r-x private /bin/true+0   [0x7ff000000000, ...) rw- anonymous
//	pages  [0x400000, 0x401000) file                      [0x7ff000001000, ...) own
//
// A Checker takes the operations of a trace in order. Mapping calls change both
// maps, a touch adds one page, a fork clones (lazily), an exec starts anew from
// what the recorder saw. Where the recorder looked again (before an exec, at the
// end) prediction and look are held against each other, page by page and with
// kinds; a difference that has one of a few known causes is excepted and counted
// (Reason).
//
//	area exec, present exec --> areas, pages --touch, mmap, ...--> areas, pages
//	                                                                   =?
//	                                             area exit, present exit
//
// Memory is that of the live processes' runs, whatever lengths a trace asks for:
// nothing here loops over the pages of a range.
package soundness
