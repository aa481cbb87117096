package verify

import (
	"fmt"

	"vmsim/mem"
)

// zeroPage is what a page without file bytes holds. Nobody writes it.
var zeroPage [mem.PageSize]byte

// Page fills dst, 4096 bytes, with what addr's page ought to hold; zeros where
// no VMA is. It reads 2 MiB at a time and keeps them, so that ascending calls
// cost one read per segment and window.
//
// It returns the wrapped read error; dst is unchanged then.
func (t *Truth) Page(addr mem.VirtAddr, dst []byte) error {
	if len(dst) != mem.PageSize {
		return fmt.Errorf("page %v: buffer of %d bytes, not %d", addr.PageDown(), len(dst), mem.PageSize)
	}
	want, err := t.page(addr)
	if err != nil {
		return err
	}
	copy(dst, want)
	return nil
}

// page is Page without the copy; the result is valid until the next call and
// must not be written.
func (t *Truth) page(addr mem.VirtAddr) ([]byte, error) {
	if !t.HasFileBytes(addr) {
		return zeroPage[:], nil
	}
	win, err := t.Window(addr.HugeDown())
	if err != nil {
		return nil, err
	}
	return win[addr.SubPage()*mem.PageSize:][:mem.PageSize], nil
}

// Window returns what the 2 MiB at base, 2 MiB aligned, ought to hold; zeros
// where no VMA is. The result is valid until the next call of Window or Page and
// must not be written. Read errors are returned wrapped.
func (t *Truth) Window(base mem.VirtAddr) ([]byte, error) {
	if base != base.HugeDown() {
		return nil, fmt.Errorf("window %v: not aligned to 2 MiB", base)
	}
	if t.windowOK && t.windowAt == base {
		return t.window, nil
	}
	if t.window == nil {
		t.window = make([]byte, mem.HugeSize)
	}
	t.windowOK = false
	done := 0 // bytes of the window that are right
	for _, p := range t.pieces {
		r := p.Intersect(mem.WindowOf(base))
		if r.Empty() {
			continue
		}
		from, to := int(r.Start-base), int(r.End-base)
		clear(t.window[done:from])
		off := p.off + uint64(r.Start-p.Start)
		if err := mem.ReadPadded(t.f, t.window[from:to], int64(off)); err != nil {
			return nil, fmt.Errorf("read %d bytes at file offset 0x%x for %v: %w", to-from, off, r, err)
		}
		done = to
	}
	clear(t.window[done:])
	t.windowAt, t.windowOK = base, true
	return t.window, nil
}
