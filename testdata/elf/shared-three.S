/* Three segments in one page of the file: text ends, .rodata lies and .data
   starts in page 1. Memory sees it three times, with three permissions. */
	.include "fixture.inc"

	.globl	_start
_start:
	expect	_start+0x100, 0x25
	expect	ro_start, 0x45
	expect	data_start, 0x85
	store	data_start, 0x5a
	finish
	.org	_start + 0x100
	pages	0x24, 0x1100

	.section .rodata, "a", @progbits
ro_start:
	pages	0x44, 0x388

	.data
data_start:
	pages	0x84, 0x1a18
