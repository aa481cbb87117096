// Package explain says which 2 MiB windows of an ELF file can become huge
// pages, under four rules, and if not, why not; what would change that, and what
// it would bring. It looks at the program headers and the size of the file
// alone: no machine, no kernel, the same answer everywhere.
//
//	file      0x0        0x1000                        0x4c5b40
//	          | r-- hdrs | r-x .text                   | r-- .rodata, rw- .data ...
//	memory    |0x400000  |0x401000
//	windows   |----- 0x400000 -----|---- 0x600000 -----|---- 0x800000 ----|
//	           two segments: no      one segment, and    its tail is
//	                                 congruent: yes      .rodata: no
//
// # The rules
//
// kevlar: the Kevlar kernel assembles a window at exec once a threshold of its
// sub-pages is in the page cache, whatever the offsets; one entry maps it where
// one permission covers all 512 sub-pages, else 4 KiB entries do (case A,
// package hugepage).
//
// linux: a huge entry for pages of a file. A folio of 2 MiB in the page cache,
// which a fault after MADV_HUGEPAGE reads on a file system with large folios
// (mm/filemap.c:do_sync_mmap_readahead) and khugepaged collapses where
// CONFIG_READ_ONLY_THP_FOR_FS is set (mm/khugepaged.c:collapse_file), is mapped
// by one entry if (mm/memory.c:do_set_pmd, finish_fault,
// include/linux/huge_mm.h:thp_vma_suitable_order; Linux 6.12 and 6.18)
//
//   - the window lies inside one VMA, as fs/binfmt_elf.c makes them: whole pages,
//     a later segment over an earlier one, equal neighbours merged;
//   - vm_start and vm_pgoff are congruent modulo 2 MiB;
//   - it does not reach beyond the last page of the file.
//
// The VMA need not be executable (khugepaged before 6.8 asked for that), and may
// be writable: a private write to the window splits its entry, so the answer
// "depends". khugepaged wants nobody to have the file open for writing.
//
// aligned: what a loader guarantees wherever it loads the file: a segment that is
// not writable, has 2 MiB at least, and whose address and offset are congruent
// modulo 2 MiB; an ET_DYN needs a p_align of 2 MiB too, which the kernel (5.10,
// fs/binfmt_elf.c:maximum_alignment) and glibc (2.35, elf/dl-load.c) honour, or
// its base is any page. glibc 2.44 with the tunable glibc.elf.thp=1 aligns
// without that a library whose first segment begins at a multiple of 2 MiB in
// address and offset, and has 2 MiB.
//
// remap: a program, or a library for it, copies its text to anonymous or hugetlb
// memory at run time. That takes a whole aligned window of an executable
// segment; congruence does not matter, but where the windows lie depends on the
// base.
//
// # Bases
//
// An ET_EXEC lies where it was linked. Where the kernel puts an ET_DYN is one of
// four cases, see Placement. The windows of a report are those at one base, by
// default a multiple of 2 MiB; figures "by base" count all 512 positions that a
// page has in a window.
package explain
