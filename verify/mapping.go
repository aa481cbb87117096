package verify

import (
	"bytes"
	"fmt"

	"vmsim/internal/event"
	"vmsim/mem"
)

// Mapping is a mapping of a file as mmap makes it: page i of Range holds the
// file's 4096 bytes from Off + 4096*i on, and zeros beyond the end of the file. A
// page wholly beyond the end cannot be touched (SIGBUS), and must not be present.
type Mapping struct {
	mem.Range // whole pages
	File      mem.File
	Off       uint64 // file offset of Start, a multiple of the page size
}

// Offset returns the file offset of addr.
func (m *Mapping) Offset(addr mem.VirtAddr) uint64 { return m.Off + uint64(addr-m.Start) }

// Want fills dst, whole pages, with what the pages from addr on ought to hold,
// and returns how many bytes of dst lie in pages that the file reaches: those
// behind lie wholly beyond its end, as it is now. Read errors are returned
// wrapped.
func (m *Mapping) Want(addr mem.VirtAddr, dst []byte) (reach int, err error) {
	off := m.Offset(addr)
	if off > 1<<63-1-uint64(len(dst)) {
		return 0, fmt.Errorf("file offset 0x%x is beyond any file", off)
	}
	n, err := readAt(m.File, dst, int64(off))
	if err != nil {
		return 0, fmt.Errorf("read %d bytes at file offset 0x%x: %w", len(dst), off, err)
	}
	clear(dst[n:])
	return (n + mem.PageSize - 1) &^ (mem.PageSize - 1), nil
}

// Compare compares whole pages that are seen from addr on, got, with what m
// ought to hold, and counts them. want is a buffer of the same length. Each page
// that differs goes to differs, with beyond set where it lies wholly beyond the
// end of the file: such a page differs even if it holds zeros. Nothing is
// reported; see Differs and Beyond. The error is Want's.
func (w *Witness) Compare(m *Mapping, addr mem.VirtAddr, got, want []byte, differs func(addr mem.VirtAddr, got, want []byte, beyond bool)) error {
	reach, err := m.Want(addr, want)
	if err != nil {
		return err
	}
	w.tally.Pages += len(got) / mem.PageSize
	w.tally.BytesCompared += uint64(len(got))
	if reach == len(got) && bytes.Equal(got, want) {
		return nil
	}
	for at := 0; at < len(got); at += mem.PageSize {
		g, e := got[at:][:mem.PageSize], want[at:][:mem.PageSize]
		if at >= reach || !bytes.Equal(g, e) {
			differs(addr+mem.VirtAddr(at), g, e, at >= reach)
		}
	}
	return nil
}

// Differs reports that the page of m at addr is not what the file says.
func (w *Witness) Differs(pid int, m *Mapping, addr mem.VirtAddr, got, want []byte) {
	d := firstDiff(got, want)
	if d == len(got) {
		return
	}
	w.fail(event.PageVerifyFail{
		PID:        pid,
		VAddr:      event.Addr(addr),
		FirstDiff:  d,
		Expected:   event.Byte(want[d]),
		Actual:     event.Byte(got[d]),
		FileOffset: event.Addr(m.Offset(addr)),
		VMAStart:   event.Addr(m.Start),
	})
}

// Beyond reports that a page is present that lies wholly beyond the end of its
// file.
func (w *Witness) Beyond(pid int, addr mem.VirtAddr) {
	w.fail(event.UnmappedVerifyFail{PID: pid, VAddr: event.Addr(addr), Actual: "present beyond the end of the file"})
}

// Span is a half-open range of bytes of a page.
type Span struct{ From, To int }

// Spans returns where got and want, of the same length, differ, ascending. Two
// stretches of differing bytes are one span where fewer than join equal bytes
// lie between them; join 1 gives the exact stretches.
func Spans(got, want []byte, join int) []Span {
	var spans []Span
	for i := range got {
		if got[i] == want[i] {
			continue
		}
		if n := len(spans) - 1; n >= 0 && i-spans[n].To < max(join, 1) {
			spans[n].To = i + 1
		} else {
			spans = append(spans, Span{i, i + 1})
		}
	}
	return spans
}
