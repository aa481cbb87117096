// Package verify is the independent witness: it says what memory ought to hold
// and compares that with what it does hold (kwab-verify).
//
// It reads the program headers itself and imports nothing of the machine: no
// loader, no page cache, no page table. A mistake that it shared with what it
// checks, it could not see. It is slow and plain where the machine is fast and
// clever. A machine, a live process, a core file or a dump is seen through
// mem.Inspector and mem.AddressSpace alone.
//
// # The truth
//
// A Truth answers for one file at one load bias. VMAs are precise to the byte:
//
//	0x400000   0x51b000    0x51b1f0            0x51cbf0   0x51d000
//	   |          |           |                   |          |
//	   [ .rodata, r--         )[ filler            )[ .data, rw-
//	                           zero                 file bytes, then .bss
//	              <--- page --------><--- page -------------->
//	                    r--                   rw-
//
//	byte        the file's, where [p_vaddr, p_vaddr+p_filesz) of a PT_LOAD covers
//	            it (the last one in header order where several do); zero
//	            elsewhere, in .bss, and beyond the end of the file
//	VMA         every page from the first page of the lowest segment to the last
//	            page of the highest; fillers close each gap, however long
//	permission  of a page: the union of the flags of all PT_LOADs that overlap
//	            it; rw- where none does
//
// # The witness
//
// A Witness compares and reports. It promises:
//
//   - Every byte that it calls verified was compared with a byte that it read
//     from the file, never with a copy that the machine made.
//   - Every differing page is one event, with the first differing byte. Two
//     addresses of the same wrong frame are two events.
//   - In an assembled window all 512 sub-pages are looked at: also those that
//     nobody populated, which must have no VMA and hold zeros.
//   - In an address space all entries are looked at, not only those in the
//     image: permissions in excess of the headers', and pages where no VMA is.
//   - A file that cannot be read is an error, neither a match nor a mismatch.
//
// It changes nothing. A Truth and a Witness are for one goroutine at a time.
package verify
