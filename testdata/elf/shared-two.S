/* Text with .rodata and .data meet in one page of the file, which memory sees
   twice, once for each: the saving that ld -z noseparate-code makes. */
	.include "fixture.inc"

	.globl	_start
_start:
	expect	ro_start, 0x43
	expect	ro_last, 0xff
	expect	data_start, 0x83
	expect	bss_start, 0
	store	data_start, 0x5a
	finish
	.org	_start + 0x80

	.section .rodata, "a", @progbits
ro_start:
	pages	0x42, 0x2348
	.set	ro_last, . - 1

	.data
data_start:
	pages	0x82, 0x1568

	.bss
bss_start:
	.space	0x10
