// Package vma holds the virtual memory areas of one address space: what is
// mapped where, from which file and with which permissions (Linux: struct
// vm_area_struct in a maple tree; here a B-tree of values, so that fork is one
// lazy clone).
//
// Areas are byte-precise, because those of the kevlar profile are: an ELF
// segment is the area [p_vaddr, p_vaddr+p_memsz), and anonymous fillers cover
// the rest of its first and last page and the gap to the next one.
//
//	0x51b000          0x51b1f0                0x51cbf0       0x51d000
//	|  .rodata (file)  |        filler          |  .data (file)  |
//	|<---------- page 0x51b000 ----->|<----- page 0x51c000 ----->|
//
// Hence a page can see several areas. PageView (page.go) is what one page sees:
// its permission, and which bytes of which file it is made of. A page either
// lies wholly in areas or in none.
package vma
