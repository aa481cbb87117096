package verify

import (
	"fmt"
	"sync"

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

// PageAlone is Page for pages that are asked for in no order: it reads nothing
// else, and remembers nothing.
func (t *Truth) PageAlone(addr mem.VirtAddr, dst []byte) error {
	page := addr.PageDown()
	switch {
	case len(dst) != mem.PageSize:
		return fmt.Errorf("page %v: buffer of %d bytes, not %d", page, len(dst), mem.PageSize)
	case !t.HasFileBytes(page):
		clear(dst)
		return nil
	}
	return t.fill(mem.PageOf(page), dst)
}

// page is Page without the copy; the result is valid until the next call and
// must not be written. It reads the whole window where the page before was asked
// for last, and one page elsewhere: who looks here and there pays for no more.
func (t *Truth) page(addr mem.VirtAddr) ([]byte, error) {
	page, before := addr.PageDown(), t.lastPage
	t.lastPage = page
	switch {
	case t.right.Contains(page):
	case !t.HasFileBytes(page):
		return zeroPage[:], nil
	case before+mem.PageSize == page:
		if err := t.load(page.HugeDown()); err != nil {
			return nil, err
		}
	default:
		t.needBuffer()
		err := t.fill(mem.PageOf(page), t.buf.page[:])
		return t.buf.page[:], err
	}
	return t.buf.window[page-t.windowAt:][:mem.PageSize], nil
}

// load makes the pages with file bytes of the 2 MiB at base the ones in the
// window. What lies before and behind them is not touched: most files are
// smaller than a window.
func (t *Truth) load(base mem.VirtAddr) error {
	if err := checkBase(base); err != nil {
		return err
	}
	var pages mem.Range
	for _, r := range t.filePages {
		if in := r.Intersect(mem.WindowOf(base)); pages.Empty() {
			pages = in
		} else if !in.Empty() {
			pages.End = in.End
		}
	}
	if pages.Empty() || t.right.Covers(pages) {
		return nil
	}
	return t.hold(base, pages)
}

// Window returns what the 2 MiB at base, 2 MiB aligned, ought to hold; zeros
// where no VMA is. The result is valid until the next call of Window or Page and
// must not be written. Read errors are returned wrapped.
func (t *Truth) Window(base mem.VirtAddr) ([]byte, error) {
	if err := checkBase(base); err != nil {
		return nil, err
	}
	if whole := mem.WindowOf(base); t.right != whole {
		if err := t.hold(base, whole); err != nil {
			return nil, err
		}
	}
	return t.buf.window[:], nil
}

func checkBase(base mem.VirtAddr) error {
	if base != base.HugeDown() {
		return fmt.Errorf("window %v: not aligned to 2 MiB", base)
	}
	return nil
}

// hold reads pages, a part of the 2 MiB at base, into the window.
func (t *Truth) hold(base mem.VirtAddr, pages mem.Range) error {
	t.needBuffer()
	t.right = mem.Range{}
	if err := t.fill(pages, t.buf.window[pages.Start-base:pages.End-base]); err != nil {
		return err
	}
	t.windowAt, t.right = base, pages
	return nil
}

// buffers are those of truths that are no longer used: 2 MiB for each of many
// small files would keep the garbage collector busy.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

func (t *Truth) needBuffer() {
	if t.buf == nil {
		t.buf = buffers.Get().(*buffer)
	}
}

// release gives the buffer to other truths; t reads its file anew.
func (t *Truth) release() {
	if t.buf != nil {
		buffers.Put(t.buf)
		t.buf, t.right = nil, mem.Range{}
	}
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
