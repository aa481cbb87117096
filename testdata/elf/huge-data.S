/* Writable .data that fills the 2 MiB window at 0x400000, aligned to it in the
   file too (the headers are its first bytes). One huge entry would have to
   survive writes: each is a copy of 2 MiB, or a split. */
	.include "fixture.inc"

	.data
	pages	0x8e, 0x1ffe00
	.set	data_last, . - 1

	.text
	.globl	_start
_start:
	expect	0x400200, 0x8f
	expect	data_last, 0xe0
	expect	_start+0x100, 0x31
	store	0x400200, 0x5a
	store	0x500000, 0x5a
	store	data_last, 0x5a
	finish
	.org	_start + 0x100
	pages	0x30, 0x328
