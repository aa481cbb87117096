/*
 * The binary of the huge-page corruption at sub-page 284: .rodata ends and
 * .data starts in one page of the file, 0x11b, which memory sees at 0x51b000
 * (.rodata's last bytes) and at 0x51c000 (.data's first). The linker script
 * pins the addresses.
 */
	.include "fixture.inc"

	.globl	_start
_start:
	expect	rodata_page, 0x65
	expect	data_start, 0xc0
	expect	data_last, 0x3b
	expect	bss_start, 0
	expect	bss_last, 0
	store	data_start+1, 0x5a
	store	bss_last, 0xa5
	finish
	.org	_start + 0x100
	noise	0xbff00			/* text up to 0x4c1000 */

	.section .rodata, "a", @progbits
	noise	0x5a000			/* up to 0x51b000 */
rodata_page:
	.byte	0x65
	.byte	0x6c, 0x66, 0, 0x27, 0x11, 0xb0, 0x65
	noise	0x1e8			/* up to 0x51b1f0 */

	.data
data_start:
	.byte	0xc0
	.byte	0xcb, 0x51, 0, 0x27, 0x11, 0xbb, 0xf0
	noise	0x6240			/* 0x51cbf8 up to 0x522e38 */
	.byte	1, 2, 3, 4, 5, 6, 7
data_last:
	.byte	0x3b

	.bss
bss_start:
	.space	0x3123
bss_last:
	.space	1
