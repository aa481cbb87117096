/* One read-only segment that fills the 2 MiB window at 0x400000, and at offset
   0 lies as the window does: what a kernel can map with one huge entry. */
	.include "fixture.inc"
	.include "window.inc"
	text_window 0x4c
