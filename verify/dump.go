package verify

import (
	"bytes"
	"fmt"

	"vmsim/mem"
)

// Dump compares 2 MiB that somebody's kernel put together for base, 2 MiB
// aligned, with an image, as Assembled does. A dump does not say which sub-pages
// will be mapped: those that have a VMA count as populated, but for one that
// nothing may read and that holds zeros. All others must hold zeros.
//
// The events, all with PID 0, and the error are those of Assembled.
func (w *Witness) Dump(base mem.VirtAddr, data []byte, im Image) error {
	w.tally.Windows++
	if len(data) != mem.HugeSize {
		return fmt.Errorf("window %v: %d bytes, not %d", base, len(data), mem.HugeSize)
	}
	want, err := im.Window(base)
	if err != nil {
		return fmt.Errorf("window %v: %w", base, err)
	}
	win := mem.Window{Base: base, Data: data}
	for i := range mem.SubPages {
		at := i * mem.PageSize
		prot, ok := im.Prot(base + mem.VirtAddr(at))
		if ok && (prot != mem.ProtNone || !bytes.Equal(data[at:][:mem.PageSize], zeroPage[:])) {
			win.SetPopulated(i)
		}
	}
	return w.window(&win, im, func(i int) []byte { return want[i*mem.PageSize:][:mem.PageSize] }, func(int) {})
}
