package verify

import (
	"errors"
	"fmt"
	"iter"

	"vmsim/internal/event"
	"vmsim/mem"
)

// everything is the whole address space, what lies beyond mem.UserEnd included.
var everything = mem.Range{Start: 0, End: ^mem.VirtAddr(0)}

// Permissions looks at every 4 KiB page of every entry of an address space. An
// entry that grants more than the program headers of ts allow for a page gives a
// PermissionVerifyFail (both as x86-64 grants it, mem.Prot.Effective); one where
// no VMA is gives an UnmappedVerifyFail. It returns false if there was either.
//
// other are the ranges that do not belong to an image: stack, heap, what was
// mapped, or changed by mprotect, since exec. A page that one of them covers
// whole is not judged; of a page that lies in an image too, a part is not
// enough. Do not put an image's fillers there.
func (w *Witness) Permissions(pid int, ts []*Truth, as mem.AddressSpace, other []mem.Range) (ok bool) {
	ok = true
	for e := range joined(as.Entries(everything)) {
		for r := range runs(e, ts, other) {
			ok = w.permission(pid, e, r) && ok
		}
	}
	return ok
}

// Space is Permissions, and compares the bytes of every page that is present and
// can be read and lies in an image with the truth: of the first of ts that has a
// VMA there. A page for which dirty returns true was written by the process and
// is not compared; dirty may be nil.
//
// It closes with one PageVerifyOK: verified counts the pages that were compared
// and are right, failed all pages with a failure. The error wraps ErrMismatch if
// there were failures. Reading stops at the first error of a file or of as.Read,
// which is returned wrapped, with what was found before.
func (w *Witness) Space(pid int, ts []*Truth, as mem.AddressSpace, other []mem.Range, dirty func(mem.VirtAddr) bool) error {
	s := spaceCheck{w: w, pid: pid, as: as, dirty: dirty, buf: make([]byte, mem.PageSize)}
	readErr := s.check(ts, other)
	w.Done(pid, s.verified, s.failed)
	if s.failed > 0 {
		return errors.Join(readErr, fmt.Errorf("pid %d: %d pages: %w", pid, s.failed, ErrMismatch))
	}
	return readErr
}

// spaceCheck is one call of Space.
type spaceCheck struct {
	w                *Witness
	pid              int
	as               mem.AddressSpace
	dirty            func(mem.VirtAddr) bool
	buf              []byte // a page
	verified, failed int
}

func (s *spaceCheck) check(ts []*Truth, other []mem.Range) error {
	for e := range joined(s.as.Entries(everything)) {
		for r := range runs(e, ts, other) {
			granted := s.w.permission(s.pid, e, r)
			if !granted {
				s.failed += int(r.pages)
			}
			if r.truth == nil || r.foreign || e.Prot == mem.ProtNone {
				continue
			}
			for i := range r.pages {
				if err := s.page(r.truth, r.start+mem.VirtAddr(i)*mem.PageSize, !granted); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// page compares one page. counted says that it has failed already.
func (s *spaceCheck) page(t *Truth, page mem.VirtAddr, counted bool) error {
	if s.dirty != nil && s.dirty(page) {
		return nil
	}
	if err := s.as.Read(page, s.buf); err != nil {
		return fmt.Errorf("pid %d: read page %v: %w", s.pid, page, err)
	}
	ok, err := s.w.Page(s.pid, t, page, s.buf)
	switch {
	case err != nil:
		return fmt.Errorf("pid %d: %w", s.pid, err)
	case counted:
	case ok:
		s.verified++
	default:
		s.failed++
	}
	return nil
}

// permission judges what e grants for the pages of r and reports each of them
// where it is wrong.
func (w *Witness) permission(pid int, e mem.Entry, r run) (ok bool) {
	if r.foreign {
		return true
	}
	grants, allowed := e.Prot.Effective(), r.allowed.Effective()
	if r.truth != nil && grants&^allowed == 0 {
		return true
	}
	for i := range r.pages {
		page := event.Addr(r.start + mem.VirtAddr(i)*mem.PageSize)
		if r.truth == nil {
			w.fail(event.UnmappedVerifyFail{PID: pid, VAddr: page, Actual: grants.String()})
		} else {
			w.fail(event.PermissionVerifyFail{PID: pid, VAddr: page, Expected: allowed.String(), Actual: grants.String()})
		}
	}
	return false
}

// joined yields entries that lie side by side and grant the same as one, without
// frame: most neighbours do.
func joined(entries iter.Seq[mem.Entry]) iter.Seq[mem.Entry] {
	return func(yield func(mem.Entry) bool) {
		var all mem.Entry
		for e := range entries {
			whole := all.Size > 0 && (uint64(all.Addr)|all.Size)%mem.PageSize == 0
			if whole && all.Addr+mem.VirtAddr(all.Size) == e.Addr && all.Addr < e.Addr && all.Prot == e.Prot {
				all.Size += e.Size
				continue
			}
			if all.Size > 0 && !yield(all) {
				return
			}
			all = mem.Entry{Addr: e.Addr, Size: max(e.Size, 1), Prot: e.Prot}
		}
		if all.Size > 0 {
			yield(all)
		}
	}
}

// run is a stretch of an entry whose pages are all judged alike, so that a huge
// entry costs a few looks and not 512. It counts pages instead of naming its
// end, which may be 2^64.
type run struct {
	start   mem.VirtAddr
	pages   uint64
	truth   *Truth   // the first that has a VMA there; nil if none has
	allowed mem.Prot // the union of all that have
	foreign bool     // belongs to other
}

// runs splits e where the answer of a truth or of other changes.
func runs(e mem.Entry, ts []*Truth, other []mem.Range) iter.Seq[run] {
	return func(yield func(run) bool) {
		page := e.Addr.PageDown()
		end := page + mem.VirtAddr(max(e.Size, 1)-1) // the last address, not beyond 2^64
		if end < page {
			end = ^mem.VirtAddr(0)
		}
		for {
			r, last := runAt(page, end, ts, other)
			if !yield(r) || last >= end {
				return
			}
			page = last + 1
		}
	}
}

// runAt returns the run that starts at page and ends at end or before. last is
// its last address.
func runAt(page, end mem.VirtAddr, ts []*Truth, other []mem.Range) (r run, last mem.VirtAddr) {
	r.start, last = page, end
	for _, t := range ts {
		prot, ok, same := t.run(page)
		last = min(last, same)
		if ok {
			r.allowed |= prot
			if r.truth == nil {
				r.truth = t
			}
		}
	}
	for _, o := range other {
		if o.Empty() {
			continue
		}
		tail := o.End - 1
		if o.Start <= page|(mem.PageSize-1) && page <= tail {
			whole := o.Start <= page && page|(mem.PageSize-1) <= tail
			r.foreign = r.foreign || whole || r.truth == nil
		}
		// The answer may change where its first and its last page begin or end.
		for _, edge := range []mem.VirtAddr{
			o.Start.PageDown(), o.Start.PageDown() + mem.PageSize,
			tail.PageDown(), tail.PageDown() + mem.PageSize,
		} {
			if edge > page {
				last = min(last, edge-1)
			}
		}
	}
	r.pages = uint64(last-page)/mem.PageSize + 1
	return r, last
}
