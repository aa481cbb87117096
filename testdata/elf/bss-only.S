/* A segment that is nothing but .bss: p_filesz is 0 and no byte of the file
   belongs to it. */
	.include "fixture.inc"

	.globl	_start
_start:
	expect	_start+0x80, 0x2b
	expect	bss_start, 0
	expect	bss_last, 0
	store	bss_start, 0xa5
	store	bss_last, 0xa5
	finish
	.org	_start + 0x80
	pages	0x2a, 0x1080

	.bss
bss_start:
	.space	0x2a41
bss_last:
	.space	1
