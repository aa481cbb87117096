package verify

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

	"vmsim/internal/event"
	"vmsim/mem"
)

const (
	// DefaultMaxKept is how many failures a Witness keeps for Failures.
	DefaultMaxKept = 1000

	// maxTruths bounds the truths that Assembled keeps; each may hold 2 MiB.
	maxTruths = 16
)

// Event and Sink let users outside of this module take events: Func makes a Sink
// of a function.
type (
	Event = event.Event
	Sink  = event.Sink
	Func  = event.Func
)

// Witness compares memory with the truth, counts, and reports to a sink. There
// is one per machine; it is for one goroutine at a time. It implements
// mem.Inspector.
type Witness struct {
	// MaxKept bounds what Failures returns; the sink gets all.
	MaxKept int

	sink   event.Sink
	tally  Tally
	err    error // the first that kept it from comparing
	kept   []event.Event
	truths map[truthKey]*Truth           // of the files of assembled windows, and what Load made
	known  map[badPage][sha256.Size]byte // wrong sub-pages of assembled windows
}

var _ mem.Inspector = (*Witness)(nil)

// truthKey names a content at a place.
type truthKey struct {
	id   mem.FileID
	gen  uint64
	bias uint64
}

func keyOf(f mem.File, bias uint64) truthKey { return truthKey{f.Identity(), f.Generation(), bias} }

// Tally counts what a Witness did.
type Tally struct {
	Windows         int // assembled windows that it was shown
	WindowsVerified int // of them, those without any failure
	WindowPages     int // populated sub-pages of windows compared with the truth
	Pages           int // 4 KiB pages of processes compared with the truth

	// BytesCompared is 4096 for each of WindowPages and Pages. Sub-pages that
	// nobody populated are looked at, but not counted.
	BytesCompared uint64

	Failures int // events that report a failure
}

// NewWitness returns a Witness that reports to sink, which may be nil.
func NewWitness(sink event.Sink) *Witness {
	return &Witness{MaxKept: DefaultMaxKept, sink: sink, truths: map[truthKey]*Truth{}, known: map[badPage][sha256.Size]byte{}}
}

// Load is the function Load, of a truth that w also judges windows of f by: the
// headers are read once. It is w's until Reset.
func (w *Witness) Load(f mem.File, base mem.VirtAddr) (*Truth, error) {
	t, err := Load(f, base)
	if err == nil {
		w.keep(t)
	}
	return t, err
}

// Reset makes w as NewWitness made it. Its truths must not be used any more.
func (w *Witness) Reset() {
	for _, t := range w.truths {
		t.release()
	}
	clear(w.truths)
	clear(w.known)
	w.MaxKept, w.tally, w.err, w.kept = DefaultMaxKept, Tally{}, nil, nil
}

// Tally returns the counts so far.
func (w *Witness) Tally() Tally { return w.tally }

// Failures returns the events that report failures, in order, the first MaxKept
// of them.
func (w *Witness) Failures() []event.Event { return slices.Clone(w.kept) }

// Err returns the first error that kept the Witness from comparing a window or a
// page that a machine showed it (Assembled, Mapped): the machine goes on, but
// not all was verified. A mismatch is none.
func (w *Witness) Err() error { return w.err }

// unverified keeps the first such error, and returns err.
func (w *Witness) unverified(err error) error {
	if w.err == nil {
		w.err = err
	}
	return err
}

// Page compares one page as a process sees it, got, 4096 bytes, with the truth.
// A differing page gives a PageVerifyFail; one that could be read where t has no
// VMA gives an UnmappedVerifyFail. ok is false for both.
//
// The error is that of reading the file; nothing is reported or counted then.
func (w *Witness) Page(pid int, t *Truth, addr mem.VirtAddr, got []byte) (ok bool, err error) {
	page := addr.PageDown()
	if len(got) != mem.PageSize {
		return false, fmt.Errorf("page %v: %d bytes, not %d", page, len(got), mem.PageSize)
	}
	if !w.mapped(pid, t, page) {
		return false, nil
	}
	want, err := t.page(page)
	if err != nil {
		return false, fmt.Errorf("verify page %v: %w", page, err)
	}
	return w.compare(pid, page, want, got, t, 0, 0), nil
}

// PageIs is Page for who knows what t says of the page: want, as Truth.PageAlone
// gave it. want and got are 4096 bytes.
func (w *Witness) PageIs(pid int, t *Truth, addr mem.VirtAddr, want, got []byte) (ok bool) {
	page := addr.PageDown()
	return w.mapped(pid, t, page) && w.compare(pid, page, want, got, t, 0, 0)
}

// mapped reports whether t has a VMA at page, and that it was readable if not.
func (w *Witness) mapped(pid int, t *Truth, page mem.VirtAddr) bool {
	_, ok := t.Prot(page)
	if !ok {
		w.fail(event.UnmappedVerifyFail{PID: pid, VAddr: event.Addr(page), Actual: "readable"})
	}
	return ok
}

// compare counts a page, and reports it if it differs: in the VMA of t that
// decides the first differing byte, or without t in the one at start, whose file
// offset there is at.
func (w *Witness) compare(pid int, page mem.VirtAddr, want, got []byte, t *Truth, start mem.VirtAddr, at uint64) (ok bool) {
	w.tally.Pages++
	w.tally.BytesCompared += mem.PageSize
	if bytes.Equal(got, want) {
		return true
	}
	d := firstDiff(got, want)
	if t != nil {
		start, _, at = t.FileVMAAt(page + mem.VirtAddr(d))
	}
	w.fail(event.PageVerifyFail{
		PID:        pid,
		VAddr:      event.Addr(page),
		FirstDiff:  d,
		Expected:   event.Byte(want[d]),
		Actual:     event.Byte(got[d]),
		FileOffset: event.Addr(at),
		VMAStart:   event.Addr(start),
	})
	return false
}

// Done closes the verification of the pages of a process that were compared with
// Page: it emits their PageVerifyOK.
func (w *Witness) Done(pid int, verified, failed int) {
	w.emit(event.PageVerifyOK{PID: pid, Verified: verified, Failed: failed})
}

func (w *Witness) fail(e event.Event) {
	w.tally.Failures++
	if len(w.kept) < w.MaxKept {
		w.kept = append(w.kept, e)
	}
	w.emit(e)
}

func (w *Witness) emit(e event.Event) {
	if w.sink != nil {
		w.sink.Emit(e)
	}
}

// firstDiff returns the offset of the first byte in which a and b, of the same
// length, differ; their length if none does.
func firstDiff(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}
