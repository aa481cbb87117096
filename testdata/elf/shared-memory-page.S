/*
 * Two segments with bytes in one page of memory, 0x402000, out of two pages of
 * the file. Linux maps the later segment over the earlier: the page reads as
 * page 3 of the file, and the earlier segment's last 0x238 bytes are gone.
 * Written without a linker, which would not place them so.
 */
	.include "fixture.inc"
	.set	base, 0x400000

image:
	elf_header base+start-image, 4
	load	5, 0, base, text_end-image, text_end-image
	load	4, 0x1000, base+0x1000, 0x1238, 0x1238
	load	6, 0x3800, base+0x2800, 0x1008, 0x1808
	stack_header
start:
	expect	base+0x1000, 0x47
	expect	base+0x1fff, 0xff
	expect	base+0x2000, 0xee	/* the earlier segment has 0x49 here */
	expect	base+0x2800, 0x87
	expect	base+0x3808, 0	/* .bss */
	store	base+0x2800, 0x5a
	finish
text_end:
	.org	image + 0x1000
	pages	0x46, 0x1238
	.org	image + 0x3000
	.fill	0x800, 1, 0xee
	pages	0x86, 0x1008
