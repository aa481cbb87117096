/* The segment of huge-text one page further on in the file: congruent modulo
   4 KiB, not modulo 2 MiB. No huge page of the page cache fits it; only a copy
   does. */
	.include "fixture.inc"
	.include "window.inc"
	text_window 0x4e
