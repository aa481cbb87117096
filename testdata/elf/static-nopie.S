/* The plain case: what ld makes of text, .rodata, .data and .bss. No page of the
   file is in two of its four segments, so bugs of sharing leave it alone. */
	.include "fixture.inc"

	.globl	_start
_start:
	expect	_start+0x100, 0x21
	expect	ro_start, 0x41
	expect	data_start, 0x81
	expect	bss_start, 0
	store	data_start, 0x5a
	store	bss_last, 0xa5
	finish
	.org	_start + 0x100
	pages	0x20, 0x1208

	.section .rodata, "a", @progbits
ro_start:
	pages	0x40, 0x2000

	.data
data_start:
	pages	0x80, 0x1560

	.bss
bss_start:
	.space	0x1fff
bss_last:
	.space	1
