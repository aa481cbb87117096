// Package vm is the machine: physical memory, a page cache, huge pages, and
// processes that fork, exec, map, touch and exit.
//
// The way of a fault, file by file:
//
//	Process.Touch (access.go)   TLB hit: done, no fault
//	  Process.fault (fault.go)  which areas hold the page, do they permit it?
//	    anonFault               zero page, or a cleared frame
//	    fileFault               page cache hit, or a read; composed of every
//	                            area where several share the page
//	    sharedFault             a page of shared anonymous memory
//	    cowFault (cow.go)       split a huge entry; copy, or take over
//	    growStack
//	  reclaim (reclaim.go)      where a frame is needed and none is free
//
// A file page before and after a read fault of a process that exec'ed it:
//
//	before   VMA [0x400000, 0x51b1f0) r-x   PTE 0x401000: none   cache [1]: none
//	after    the same                       PTE -> frame 9 r-x   cache [1]: frame 9
//	                                        frame 9: 2 references, 4096 bytes valid
//
// exec.go maps a program and uses what is cached: huge windows first, then
// 4 KiB pages. fork.go shares the page tables and clones the areas lazily.
//
// A machine is driven by one goroutine at a time.
package vm
