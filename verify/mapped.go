package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"vmsim/internal/event"
	"vmsim/mem"
)

var _ mem.MappedInspector = (*Witness)(nil)

// badPage names a page that was reported wrong when its window was assembled;
// Witness.known has the SHA-256 of what it held.
type badPage struct {
	truthKey
	addr mem.VirtAddr
}

// Bytes compares one page as a process sees it with what the caller says it
// ought to hold: for pages that a process wrote, or that are no program's. A
// differing page gives a PageVerifyFail; want and got are 4096 bytes, at is the offset of the page in file,
// where it has one, and start its VMA.
func (w *Witness) Bytes(pid int, addr mem.VirtAddr, want, got []byte, start mem.VirtAddr, at uint64) (ok bool) {
	return w.compare(pid, addr.PageDown(), want, got, nil, start, at)
}

// Permission compares what a process may do to a page, once it faults, with the
// union that the headers of t allow. An excess gives a PermissionVerifyFail; a
// page where t has no VMA gives an UnmappedVerifyFail. ok is false for both.
// Entries alone do not show it: one that a CoW left read-only may stand for an
// area that is writable and should not be.
func (w *Witness) Permission(pid int, t *Truth, addr mem.VirtAddr, got mem.Prot) (ok bool) {
	page := addr.PageDown()
	want, mapped := t.Prot(page)
	got, want = got.Effective(), want.Effective()
	switch {
	case got == mem.ProtNone:
		return true
	case !mapped:
		w.fail(event.UnmappedVerifyFail{PID: pid, VAddr: event.Addr(page), Actual: got.String()})
		return false
	case got&^want != 0:
		w.fail(event.PermissionVerifyFail{PID: pid, VAddr: event.Addr(page), Expected: want.String(), Actual: got.String()})
		return false
	}
	return true
}

// Mapped compares a page that a machine in fortress just mapped, before the
// process sees it. It counts and reports nothing unless the page is wrong, and
// then only if these very bytes were not reported before: a wrong sub-page of an
// assembled window was reported with the window, and is mapped all the same. So
// a run reports the same with and without fortress, unless something went wrong
// between.
//
// data is 4096 bytes. The error wraps ErrMismatch, or is that of the file, which
// is kept for Err.
func (w *Witness) Mapped(pid int, f mem.File, bias uint64, addr mem.VirtAddr, data []byte) error {
	t, err := w.truth(f, bias)
	if err != nil {
		return w.unverified(err)
	}
	page := addr.PageDown()
	if len(data) != mem.PageSize {
		return w.unverified(fmt.Errorf("page %v: %d bytes, not %d", page, len(data), mem.PageSize))
	}
	want, err := t.page(page)
	if err != nil {
		return w.unverified(fmt.Errorf("verify page %v: %w", page, err))
	}
	if bytes.Equal(data, want) {
		return nil
	}
	if w.known[badPage{keyOf(f, bias), page}] != sha256.Sum256(data) {
		w.compare(pid, page, want, data, t, 0, 0)
	}
	return fmt.Errorf("page %v: %w", page, ErrMismatch)
}
