/* .bss starts in the middle of .data's last page and goes on for pages: the
   rest of that page must be zeroed, the others come from nowhere. The file has
   bytes behind .data, so that forgetting it shows. */
	.include "fixture.inc"

	.globl	_start
_start:
	expect	data_start, 0x89
	expect	data_last, 0xff
	expect	bss_start, 0
	expect	bss_start+0x80, 0
	expect	bss_last, 0
	store	data_start, 0x5a
	store	bss_start, 0xa5
	store	bss_last, 0xa5
	finish

	.data
data_start:
	pages	0x88, 0x1450
	.set	data_last, . - 1

	.bss
bss_start:
	.space	0x4321
bss_last:
	.space	1

	.section .debris, "", @progbits
	.fill	0x400, 1, 0xdd
