package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"vmsim/internal/event"
	"vmsim/mem"
)

// Assembled compares all 512 sub-pages of a huge page with the truth of the
// window's file, before anybody maps it:
//
//	populated, VMA        the file's bytes        else HugePageVerifyFail
//	populated, no VMA     always a failure:       UnmappedVerifyFail, and a
//	                                              HugePageVerifyFail if not zero
//	missing, VMA          always a failure:       HugePageVerifyFail
//	missing, no VMA       zeros                   else HugePageVerifyFail
//
// A missing sub-page, one that has a VMA and is not populated, is reported at
// the first byte in which it differs from the file. Where it differs in none it
// is reported with first_diff 0 and expected equal to actual, as no comparison
// of bytes yields. One that nothing may read need not be populated; it then
// holds zeros.
//
// The failures are followed by one PageVerifyOK: verified counts the populated
// sub-pages that are right, failed all sub-pages with a failure. The error wraps
// ErrMismatch if there were failures. If the file cannot be read or has no image
// at that bias, or the window is not 2 MiB, that is returned, kept for Err, and
// nothing is reported.
func (w *Witness) Assembled(win mem.Window) (err error) {
	defer func() {
		if err != nil && !errors.Is(err, ErrMismatch) {
			w.unverified(err)
		}
	}()
	w.tally.Windows++
	if win.File == nil {
		return fmt.Errorf("window %v: no file", win.Base)
	}
	if len(win.Data) != mem.HugeSize {
		return fmt.Errorf("window %v: %d bytes, not %d", win.Base, len(win.Data), mem.HugeSize)
	}
	t, err := w.truth(win.File, win.Bias)
	if err != nil {
		return fmt.Errorf("window %v: %w", win.Base, err)
	}
	if err := t.load(win.Base); err != nil {
		return fmt.Errorf("window %v: %w", win.Base, err)
	}
	want := func(i int) []byte {
		if !t.HasFileBytes(win.Base + mem.VirtAddr(i)*mem.PageSize) {
			return zeroPage[:]
		}
		return t.buf.window[i*mem.PageSize:][:mem.PageSize]
	}
	return w.window(&win, t, want, func(i int) {
		page := win.Base + mem.VirtAddr(i)*mem.PageSize
		w.known[badPage{keyOf(win.File, win.Bias), page}] = sha256.Sum256(win.Data[i*mem.PageSize:][:mem.PageSize])
	})
}

// Image is what an assembled window ought to be: a Truth, by the rules of kevlar,
// or a Linux.
type Image interface {
	// Window returns the 2 MiB at base, valid until the next call.
	Window(base mem.VirtAddr) ([]byte, error)
	// Prot returns what addr's page permits; false where no VMA is.
	Prot(addr mem.VirtAddr) (mem.Prot, bool)
	// FileVMAAt describes the VMA that decides the byte at addr.
	FileVMAAt(addr mem.VirtAddr) (start mem.VirtAddr, typ string, fileOffset uint64)
}

// window judges all sub-pages of win, which ought to hold what want returns; bad
// is told each wrong one.
func (w *Witness) window(win *mem.Window, t Image, want func(i int) []byte, bad func(i int)) error {
	var verified, failed int
	var first fmt.Stringer
	for i := range mem.SubPages {
		wrong := w.subPage(win, t, i, want(i))
		switch {
		case wrong != nil:
			failed++
			bad(i)
			if first == nil {
				first = wrong
			}
		case win.IsPopulated(i):
			verified++
		}
		if win.IsPopulated(i) {
			w.tally.WindowPages++
			w.tally.BytesCompared += mem.PageSize
		}
	}
	w.emit(event.PageVerifyOK{PID: win.PID, Verified: verified, Failed: failed})
	if failed > 0 {
		return fmt.Errorf("window %v: %d of %d sub-pages: %w: %v", win.Base, failed, mem.SubPages, ErrMismatch, first)
	}
	w.tally.WindowsVerified++
	return nil
}

// subPage judges sub-page i of win, reports what is wrong with it, and returns
// the first event of that, nil if there is none.
func (w *Witness) subPage(win *mem.Window, t Image, i int, want []byte) (wrong fmt.Stringer) {
	page := win.Base + mem.VirtAddr(i)*mem.PageSize
	got := win.Data[i*mem.PageSize:][:mem.PageSize]
	prot, hasVMA := t.Prot(page)
	populated := win.IsPopulated(i)
	if !populated && prot == mem.ProtNone {
		want = zeroPage[:]
	}
	if populated && !hasVMA {
		e := event.UnmappedVerifyFail{PID: win.PID, VAddr: event.Addr(page), Actual: "populated"}
		w.fail(e)
		wrong = e
	}
	d := 0
	switch missing := !populated && prot != mem.ProtNone; {
	case !bytes.Equal(got, want):
		d = firstDiff(got, want)
	case !missing:
		return wrong
	}
	start, typ, _ := t.FileVMAAt(page + mem.VirtAddr(d))
	e := event.HugePageVerifyFail{
		PID:       win.PID,
		HugeBase:  event.Addr(win.Base),
		SubPage:   i,
		FirstDiff: d,
		Expected:  event.Byte(want[d]),
		Actual:    event.Byte(got[d]),
		VMAStart:  event.Addr(start),
		VMAType:   typ,
	}
	w.fail(e)
	if wrong == nil {
		wrong = e
	}
	return wrong
}

// truth returns the truth of f at bias, made once per content and bias.
func (w *Witness) truth(f mem.File, bias uint64) (*Truth, error) {
	key := keyOf(f, bias)
	if t := w.truths[key]; t != nil {
		t.f = f // the same content; the earlier File may be closed
		return t, nil
	}
	t, err := New(f, bias)
	if err != nil {
		return nil, err
	}
	w.keep(t)
	return t, nil
}

// keep makes t the truth of its file and bias.
func (w *Witness) keep(t *Truth) {
	if len(w.truths) >= maxTruths {
		clear(w.truths)
	}
	w.truths[keyOf(t.f, t.bias)] = t
}
