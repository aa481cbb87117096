package verify

import (
	"fmt"

	"vmsim/mem"
)

// zeroPage is what a page without file bytes holds. Nobody writes it.
var zeroPage [mem.PageSize]byte

// Page fills dst, 4096 bytes, with what addr's page ought to hold; zeros where
// no VMA is. Ascending calls read 2 MiB at a time, and so cost one read per
// segment and window.
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
// must not be written. It reads the whole window where the page before was asked
// for last, and one page elsewhere: who looks here and there pays for no more.
func (t *Truth) page(addr mem.VirtAddr) ([]byte, error) {
	page, before := addr.PageDown(), t.lastPage
	t.lastPage = page
	if !t.HasFileBytes(page) {
		return zeroPage[:], nil
	}
	base := page.HugeDown()
	if t.windowOK && t.windowAt == base || before+mem.PageSize == page {
		win, err := t.Window(base)
		if err != nil {
			return nil, err
		}
		return win[page.SubPage()*mem.PageSize:][:mem.PageSize], nil
	}
	if err := t.fill(mem.PageOf(page), t.single[:]); err != nil {
		return nil, err
	}
	return t.single[:], nil
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
	if err := t.fill(mem.WindowOf(base), t.window); err != nil {
		return nil, err
	}
	t.windowAt, t.windowOK = base, true
	return t.window, nil
}

// fill makes dst what r, of the same length, ought to hold, with one read per
// segment.
func (t *Truth) fill(r mem.Range, dst []byte) error {
	done := 0 // bytes of dst that are right
	for _, p := range t.pieces {
		in := p.Intersect(r)
		if in.Empty() {
			continue
		}
		from, to := int(in.Start-r.Start), int(in.End-r.Start)
		clear(dst[done:from])
		off := p.off + uint64(in.Start-p.Start)
		if err := readZeroed(t.f, dst[from:to], int64(off)); err != nil {
			return fmt.Errorf("read %d bytes at file offset 0x%x for %v: %w", to-from, off, in, err)
		}
		done = to
	}
	clear(dst[done:])
	return nil
}
