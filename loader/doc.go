// Package loader turns an ELF file into an Image: what to map, where and how,
// as Linux would. It maps nothing, and the same bytes give the same Image.
//
// The rule for what is an ELF: what execve of Linux 6.18 on x86-64 runs is
// accepted, what it refuses is refused, with the reason. So the checks are
// those of fs/binfmt_elf.c, by hand and no others: section headers are never
// looked at, nor are the class, byte order and version bytes of e_ident.
//
//	file                      program header            memory (bias 0x1000000)
//	0x000000 ELF header       LOAD 0x000000 r-x  ->     0x01000000
//	0x000040 program headers
//	0x11b000 .rodata ends     LOAD 0x11b1f0 rw-  ->     0x0111c1f0
//	0x11b1f0 .data            filesz, then zeros up to memsz (.bss)
//
// Two deviations, both towards what a simulator can use: a file that maps
// nothing is refused (Linux starts it, and it dies at its first fetch, or runs
// the interpreter alone), and so is a script, which Linux hands to another
// program.
//
// What depends on the machine and not on the file is not asked here: whether
// the interpreter exists, the lowest address that mmap gives out, memory
// limits, where the stack happens to lie.
package loader
