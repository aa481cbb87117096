/*
 * A segment that reaches beyond the end of the file, as a truncated download
 * has it: page 1 of the file is whole, page 2 ends at 0x348, pages 3 and 4 are
 * not there. Linux runs it; the rest of page 2 reads as zero, and a touch of
 * the pages behind raises SIGBUS.
 */
	.include "fixture.inc"
	.set	base, 0x400000

image:
	elf_header base+start-image, 3
	load	5, 0, base, text_end-image, text_end-image
	load	6, 0x1000, base+0x2000, 0x3800, 0x3800
	stack_header
start:
	expect	base+0x2000, 0x91
	expect	base+0x3347, 0xff	/* the last byte of the file */
	expect	base+0x3348, 0
	store	base+0x3fff, 0x5a
	finish
text_end:
	.org	image + 0x1000
	pages	0x90, 0x1348
