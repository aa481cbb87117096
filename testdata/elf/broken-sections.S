/*
 * Runnable, though its section header fields are nonsense: the table lies far
 * beyond the file and has 65278 entries. The kernel reads program headers
 * only; a loader that asks for sections first refuses it.
 */
	.include "fixture.inc"
	.set	base, 0x400000

image:
	elf_header base+start-image, 3, 0x7fffffffffff0000, 0xfefe, 0xfff0
	load	5, 0, base, text_end-image, text_end-image
	load	6, 0x1000, base+0x2000, 0x548, 0x1000
	stack_header
start:
	expect	base+0x2000, 0x93
	expect	base+0x2548, 0
	store	base+0x2fff, 0x5a
	finish
text_end:
	.org	image + 0x1000
	pages	0x92, 0x548
