package verify_test

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
)

// entry is what one page-table entry of a memory maps. Two may share data.
type entry struct {
	data []byte // of 4 KiB or 2 MiB
	prot mem.Prot
}

// memory is an address space made by hand.
type memory map[mem.VirtAddr]*entry

func (m memory) Read(addr mem.VirtAddr, p []byte) error {
	for start, e := range m {
		if addr >= start && uint64(addr-start) < uint64(len(e.data)) {
			copy(p, e.data[addr-start:])
			return nil
		}
	}
	return mem.ErrNotPresent
}

func (m memory) Entries(r mem.Range) iter.Seq[mem.Entry] {
	return func(yield func(mem.Entry) bool) {
		for _, a := range slices.Sorted(maps.Keys(m)) {
			size := uint64(len(m[a].data))
			if a >= r.End || uint64(a)+size-1 < uint64(r.Start) {
				continue
			}
			if !yield(mem.Entry{Addr: a, Size: size, Prot: m[a].prot}) {
				return
			}
		}
	}
}

func (m memory) Bias() uint64 { return 0 }

// image maps every readable page of tr that is touched, right.
func image(t require, tr *verify.Truth) memory {
	t.Helper()
	m := memory{}
	for p := range tr.TouchPages() {
		prot, _ := tr.Prot(p)
		e := &entry{make([]byte, page), prot}
		if err := tr.Page(p, e.data); err != nil {
			t.Fatal(err)
		}
		m[p] = e
	}
	return m
}

type require interface {
	Helper()
	Fatal(...any)
}

// five is a file with all kinds of pages: shared, boundary, filler, .bss.
func five() elf {
	return elf{entry: 0x402010, segs: []seg{
		{0x400000, 0, 0x1234, 0x1234, ro},
		{0x402000, 0x2000, 0x3000, 0x3000, rx},
		{0x405000, 0x5000, 0x2345, 0x2345, ro},
		{0x407400, 0x7400, 0x1000, 0x1000, mem.ProtExec}, // shares 0x407000 with the one before
		{0x40bbf0, 0x8bf0, 0x1500, 0x5000, rw},
	}}
}

func newTruth(t require, f mem.File, bias uint64) *verify.Truth {
	t.Helper()
	tr, err := verify.New(f, bias)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestSpaceRight(t *testing.T) {
	tr := newTruth(t, five().file(0xb000), 0)
	var r recorder
	w := verify.NewWitness(&r)
	as := image(t, tr)
	if err := w.Space(7, []*verify.Truth{tr}, as, nil, nil); err != nil {
		t.Error(err)
	}
	n := len(as)
	if want := []event.Event{event.PageVerifyOK{PID: 7, Verified: n}}; !cmp.Equal(r.events, want) {
		t.Errorf("events %v, want %v", r.events, want)
	}
	if got, want := w.Tally(), (verify.Tally{Pages: n, BytesCompared: uint64(n) * page}); got != want {
		t.Errorf("tally %+v, want %+v", got, want)
	}
}

// One thing is wrong at a random place: exactly that is reported.
func TestSpacePlanted(t *testing.T) {
	f := five().file(0xb000)
	rapid.Check(t, func(t *rapid.T) {
		tr := newTruth(t, f, 0)
		as := image(t, tr)
		pages := slices.Sorted(maps.Keys(as))
		p := rapid.SampledFrom(pages).Draw(t, "page")
		var want []event.Event
		failed := 1
		verified := len(pages) - 1
		compared := len(pages)
		var other []mem.Range
		var dirty func(mem.VirtAddr) bool
		switch kind := rapid.SampledFrom([]string{"byte", "twice", "permission", "unmapped", "stack", "dirty", "remapped"}).Draw(t, "kind"); kind {
		case "byte", "dirty", "remapped", "twice":
			d := rapid.IntRange(0, page-1).Draw(t, "offset")
			old := as[p].data[d]
			as[p].data[d] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
			switch kind {
			case "dirty":
				dirty = func(a mem.VirtAddr) bool { return a == p }
				failed, compared = 0, compared-1
			case "remapped":
				other = []mem.Range{{Start: 0x1000, End: 0x1001}, mem.PageOf(p)}
				as[p].prot = mem.ProtRead | mem.ProtWrite | mem.ProtExec
				failed, compared = 0, compared-1
			case "twice", "byte":
				start, _, off := tr.FileVMAAt(p + mem.VirtAddr(d))
				want = append(want, event.PageVerifyFail{PID: 3, VAddr: event.Addr(p), FirstDiff: d,
					Expected: event.Byte(old), Actual: event.Byte(as[p].data[d]), VMAStart: event.Addr(start), FileOffset: event.Addr(off)})
			}
			if kind == "twice" { // the same frame at a second address
				q := rapid.SampledFrom(pages).Filter(func(q mem.VirtAddr) bool { return q != p }).Draw(t, "second")
				truth := as[q].data
				as[q].data = as[p].data
				if !bytes.Equal(truth, as[q].data) {
					d := slices.IndexFunc(truth, func(byte) bool { return true })
					for truth[d] == as[q].data[d] {
						d++
					}
					start, _, off := tr.FileVMAAt(q + mem.VirtAddr(d))
					want = append(want, event.PageVerifyFail{PID: 3, VAddr: event.Addr(q), FirstDiff: d,
						Expected: event.Byte(truth[d]), Actual: event.Byte(as[q].data[d]), VMAStart: event.Addr(start), FileOffset: event.Addr(off)})
					failed, verified = 2, verified-1
					if q < p {
						slices.Reverse(want)
					}
				}
			}
		case "permission":
			prot, _ := tr.Prot(p)
			more := mem.Prot(rapid.Uint8Range(1, 7).Draw(t, "more"))
			as[p].prot = more
			if more.Effective()&^prot.Effective() == 0 { // less than allowed is right
				failed, verified = 0, len(pages)
			} else {
				want = append(want, event.PermissionVerifyFail{PID: 3, VAddr: event.Addr(p),
					Expected: prot.Effective().String(), Actual: more.Effective().String()})
			}
		case "unmapped", "stack":
			q := rapid.SampledFrom([]mem.VirtAddr{0, 0x3ff000, tr.Extent().End, 1 << 40, mem.UserEnd - page, mem.UserEnd, 1<<64 - page}).Draw(t, "where")
			as[q] = &entry{bytes.Repeat([]byte{1}, page), rw}
			verified = len(pages)
			if kind == "stack" {
				// A byte of the page is enough where no image is.
				end := q + page
				if end == 0 {
					end = ^mem.VirtAddr(0)
				}
				other = []mem.Range{{Start: q + 100, End: end}}
				failed = 0
			} else {
				want = append(want, event.UnmappedVerifyFail{PID: 3, VAddr: event.Addr(q), Actual: "rw-"})
			}
		}
		var r recorder
		w := verify.NewWitness(&r)
		err := w.Space(3, []*verify.Truth{tr}, as, other, dirty)
		if errors.Is(err, verify.ErrMismatch) != (failed > 0) || (failed == 0 && err != nil) {
			t.Errorf("error %v with %d failures", err, failed)
		}
		if !cmp.Equal(w.Failures(), want) {
			t.Errorf("failures\n%+v\nwant\n%+v", w.Failures(), want)
		}
		want = append(want, event.PageVerifyOK{PID: 3, Verified: verified, Failed: failed})
		if !cmp.Equal(r.events, want) {
			t.Errorf("events\n%+v\nwant\n%+v", r.events, want)
		}
		if got, want := w.Tally(), (verify.Tally{Pages: compared, BytesCompared: uint64(compared) * page, Failures: len(want) - 1}); got != want {
			t.Errorf("tally %+v, want %+v", got, want)
		}
		ok := verify.NewWitness(nil).Permissions(3, []*verify.Truth{tr}, as, other)
		if wantOK := !slices.ContainsFunc(want, isPermission); ok != wantOK {
			t.Errorf("Permissions = %v, want %v", ok, wantOK)
		}
	})
}

func isPermission(e event.Event) bool {
	switch e.(type) {
	case event.PermissionVerifyFail, event.UnmappedVerifyFail:
		return true
	}
	return false
}

// A page of an image is exempt only where one range of other covers it whole.
func TestOtherMustCoverImagePages(t *testing.T) {
	tr := newTruth(t, five().file(0xb000), 0)
	as := memory{0x402000: {make([]byte, page), rw}}
	for _, tc := range []struct {
		other mem.Range
		want  bool
	}{
		{mem.Range{Start: 0x402000, End: 0x403000}, true},
		{mem.Range{Start: 0x1000, End: 0x7000000}, true},
		{mem.Range{Start: 0x402001, End: 0x404000}, false},
		{mem.Range{Start: 0x401000, End: 0x402fff}, false},
		{mem.Range{Start: 0x403000, End: 0x402000}, false},
	} {
		if ok := verify.NewWitness(nil).Permissions(1, []*verify.Truth{tr}, as, []mem.Range{tc.other}); ok != tc.want {
			t.Errorf("other %v: %v, want %v", tc.other, ok, tc.want)
		}
	}
}

// A huge entry is judged at each of its 512 pages.
func TestHugeEntryPermissions(t *testing.T) {
	tr := newTruth(t, five().file(0xb000), 0)
	win, err := tr.Window(0x400000)
	if err != nil {
		t.Fatal(err)
	}
	as := memory{0x400000: {slices.Clone(win), rx}}
	w := verify.NewWitness(nil)
	if w.Permissions(1, []*verify.Truth{tr}, as, nil) {
		t.Error("Permissions found nothing")
	}
	var want []event.Event
	for p := mem.VirtAddr(0x400000); p < 0x600000; p += page {
		switch prot, ok := tr.Prot(p); {
		case !ok:
			want = append(want, event.UnmappedVerifyFail{PID: 1, VAddr: event.Addr(p), Actual: "r-x"})
		case prot&mem.ProtExec == 0:
			want = append(want, event.PermissionVerifyFail{PID: 1, VAddr: event.Addr(p), Expected: prot.String(), Actual: "r-x"})
		}
	}
	if d := cmp.Diff(want, w.Failures()); d != "" {
		t.Error(d)
	}
	// Its bytes are right all the same, where it has a VMA.
	w = verify.NewWitness(nil)
	if err := w.Space(1, []*verify.Truth{tr}, as, nil, nil); !errors.Is(err, verify.ErrMismatch) {
		t.Error(err)
	}
	if got, want := w.Tally(), (verify.Tally{Pages: 17, BytesCompared: 17 * page, Failures: len(want)}); got != want {
		t.Errorf("tally %+v, want %+v", got, want)
	}
}

// runs, split where answers change, agree with a look at each page.
func TestRunsAgreeWithPages(t *testing.T) {
	f := five().file(0xb000)
	pie := elf{typ: 3, segs: []seg{{0x10, 0x10, 100, 0x2000, rw}, {0x4000, 0, 100, 100, rx}}}.file(page)
	rapid.Check(t, func(t *rapid.T) {
		ts := []*verify.Truth{newTruth(t, f, 0), newTruth(t, pie, 0x420000)}
		var other []mem.Range
		for range rapid.IntRange(0, 3).Draw(t, "others") {
			s := mem.VirtAddr(rapid.Uint64Range(0x3ff000, 0x430000).Draw(t, "start"))
			other = append(other, mem.Range{Start: s, End: s + mem.VirtAddr(rapid.Uint64Range(0, 0x5000).Draw(t, "len"))})
		}
		prot := mem.Prot(rapid.Uint8Range(0, 7).Draw(t, "prot"))
		huge, small := verify.NewWitness(nil), verify.NewWitness(nil)
		okHuge := huge.Permissions(1, ts, memory{0x400000: {make([]byte, mem.HugeSize), prot}}, other)
		okSmall := true
		for p := mem.VirtAddr(0x400000); p < 0x600000; p += page {
			okSmall = small.Permissions(1, ts, memory{p: {make([]byte, page), prot}}, other) && okSmall
		}
		if d := cmp.Diff(small.Failures(), huge.Failures()); d != "" || okHuge != okSmall {
			t.Error(okHuge, okSmall, d)
		}
	})
}

func TestSpaceReadErrors(t *testing.T) {
	f := &brokenFile{File: five().file(0xb000), limit: 1 << 40}
	tr := newTruth(t, f, 0)
	as := image(t, tr)
	as[0x400000].data[0]++
	f.limit = 0x2000 // the second segment of the window cannot be read any more
	fresh := newTruth(t, f, 0)
	w := verify.NewWitness(nil)
	err := w.Space(1, []*verify.Truth{fresh}, as, nil, nil)
	if !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, verify.ErrMismatch) {
		t.Errorf("error %v, want the read error alone", err)
	}
	if got := w.Tally(); got != (verify.Tally{}) {
		t.Errorf("tally %+v, want none", got)
	}
	// What was found before the error is not lost.
	as[0x500000] = &entry{nil, ro}
	as[0x3ff000] = &entry{make([]byte, page), ro}
	if err := w.Space(1, []*verify.Truth{fresh}, as, nil, nil); !errors.Is(err, io.ErrClosedPipe) || !errors.Is(err, verify.ErrMismatch) {
		t.Errorf("error %v, want both", err)
	}
}

func TestPageWhereNoVMAIs(t *testing.T) {
	tr := newTruth(t, five().file(0xb000), 0)
	w := verify.NewWitness(nil)
	ok, err := w.Page(1, tr, 0x600123, make([]byte, page))
	if ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if want := []event.Event{event.UnmappedVerifyFail{PID: 1, VAddr: 0x600000, Actual: "readable"}}; !cmp.Equal(w.Failures(), want) {
		t.Errorf("failures %v, want %v", w.Failures(), want)
	}
	if _, err := w.Page(1, tr, 0x400000, make([]byte, 5)); err == nil {
		t.Error("Page took 5 bytes")
	}
}

func TestFailuresKeptUpToMax(t *testing.T) {
	tr := newTruth(t, five().file(0xb000), 0)
	var r recorder
	w := verify.NewWitness(&r)
	w.MaxKept = 2
	for i := range 5 {
		w.Page(i, tr, 0x600000, make([]byte, page))
	}
	if len(w.Failures()) != 2 || len(r.events) != 5 || w.Tally().Failures != 5 {
		t.Errorf("kept %d, emitted %d, counted %d, want 2, 5, 5", len(w.Failures()), len(r.events), w.Tally().Failures)
	}
	if e := w.Failures()[1].(event.UnmappedVerifyFail); e.PID != 1 {
		t.Errorf("second kept failure is of pid %d, want 1", e.PID)
	}
}

func TestWindowRight(t *testing.T) {
	var r recorder
	w := verify.NewWitness(&r)
	win := assemble(t, five().file(0xb000), 0, 0x400000)
	if err := w.Assembled(win); err != nil {
		t.Error(err)
	}
	if want := []event.Event{event.PageVerifyOK{PID: 130, Verified: 17}}; !cmp.Equal(r.events, want) {
		t.Errorf("events %v, want %v", r.events, want)
	}
	if got, want := w.Tally(), (verify.Tally{Windows: 1, WindowsVerified: 1, WindowPages: 17, BytesCompared: 17 * page}); got != want {
		t.Errorf("tally %+v, want %+v", got, want)
	}
}

func TestWindowPlanted(t *testing.T) {
	f := five().file(0xb000)
	vmaType := func(tr *verify.Truth, a mem.VirtAddr) (event.Addr, string) {
		start, typ, _ := tr.FileVMAAt(a)
		return event.Addr(start), typ
	}
	rapid.Check(t, func(t *rapid.T) {
		const base = mem.VirtAddr(0x400000)
		tr := newTruth(t, f, 0)
		right, err := tr.Window(base)
		if err != nil {
			t.Fatal(err)
		}
		win := mem.Window{PID: 2, Base: base, File: f, Data: slices.Clone(right)}
		for i := range 17 {
			win.SetPopulated(i)
		}
		var want []event.Event
		verified := 17
		switch rapid.SampledFrom([]string{"byte", "missing", "missing, zero", "stale", "unmapped", "unmapped, stale"}).Draw(t, "kind") {
		case "byte":
			at := rapid.IntRange(0, 17*page-1).Draw(t, "at")
			win.Data[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
			start, typ := vmaType(tr, base+mem.VirtAddr(at))
			want = append(want, event.HugePageVerifyFail{PID: 2, HugeBase: 0x400000, SubPage: at / page, FirstDiff: at % page,
				Expected: event.Byte(right[at]), Actual: event.Byte(win.Data[at]), VMAStart: start, VMAType: typ})
			verified--
		case "missing": // the bytes are there, the bit is not
			i := rapid.IntRange(0, 16).Draw(t, "sub")
			win.Populated[0] &^= 1 << i
			p := base + mem.VirtAddr(i)*page
			start, typ := vmaType(tr, p)
			b := event.Byte(right[i*page])
			want = append(want, event.HugePageVerifyFail{PID: 2, HugeBase: 0x400000, SubPage: i, Expected: b, Actual: b, VMAStart: start, VMAType: typ})
			verified--
		case "missing, zero":
			i := rapid.IntRange(0, 16).Draw(t, "sub")
			win.Populated[0] &^= 1 << i
			clear(win.Data[i*page:][:page])
			d := slices.IndexFunc(right[i*page:][:page], func(b byte) bool { return b != 0 })
			d = max(d, 0)
			start, typ := vmaType(tr, base+mem.VirtAddr(i*page+d))
			want = append(want, event.HugePageVerifyFail{PID: 2, HugeBase: 0x400000, SubPage: i, FirstDiff: d,
				Expected: event.Byte(right[i*page+d]), VMAStart: start, VMAType: typ})
			verified--
		case "stale": // bytes where no VMA is, not populated
			at := rapid.IntRange(17*page, mem.HugeSize-1).Draw(t, "at")
			win.Data[at] = 0x42
			want = append(want, event.HugePageVerifyFail{PID: 2, HugeBase: 0x400000, SubPage: at / page, FirstDiff: at % page,
				Actual: 0x42, VMAType: event.None})
		case "unmapped":
			i := rapid.IntRange(17, 511).Draw(t, "sub")
			win.SetPopulated(i)
			want = append(want, event.UnmappedVerifyFail{PID: 2, VAddr: event.Addr(base) + event.Addr(i*page), Actual: "populated"})
		case "unmapped, stale":
			at := rapid.IntRange(17*page, mem.HugeSize-1).Draw(t, "at")
			win.SetPopulated(at / page)
			win.Data[at] = 0x42
			want = append(want,
				event.UnmappedVerifyFail{PID: 2, VAddr: event.Addr(base) + event.Addr(at&^(page-1)), Actual: "populated"},
				event.HugePageVerifyFail{PID: 2, HugeBase: 0x400000, SubPage: at / page, FirstDiff: at % page, Actual: 0x42, VMAType: event.None})
		}
		var r recorder
		w := verify.NewWitness(&r)
		if err := w.Assembled(win); !errors.Is(err, verify.ErrMismatch) {
			t.Errorf("error %v, want ErrMismatch", err)
		}
		if d := cmp.Diff(append(want, event.PageVerifyOK{PID: 2, Verified: verified, Failed: 1}), r.events); d != "" {
			t.Error(d)
		}
		if got := w.Tally(); got.Failures != len(want) || got.Windows != 1 || got.WindowsVerified != 0 {
			t.Errorf("tally %+v", got)
		}
	})
}

// Every differing sub-page is one event, however many there are.
func TestWindowAllWrong(t *testing.T) {
	win := assemble(t, elf{segs: []seg{{0x400000, 0, mem.HugeSize, mem.HugeSize, rx}}}.file(mem.HugeSize), 0, 0x400000)
	for i := range win.Data {
		win.Data[i]++
	}
	w := verify.NewWitness(nil)
	if err := w.Assembled(win); !errors.Is(err, verify.ErrMismatch) {
		t.Error(err)
	}
	for i, e := range w.Failures() {
		if e := e.(event.HugePageVerifyFail); e.SubPage != i || e.FirstDiff != 0 {
			t.Fatalf("failure %d is %v", i, e)
		}
	}
	if n := w.Tally().Failures; n != 512 {
		t.Errorf("%d failures, want 512", n)
	}
}

// A sub-page that nothing may read may be populated, or not and zero.
func TestWindowUnreadable(t *testing.T) {
	f := elf{segs: []seg{{0x400000, 0, page, page, rx}, {0x401000, page, page, page, 0}}}.file(2 * page)
	win := assemble(t, f, 0, 0x400000)
	w := verify.NewWitness(nil)
	if err := w.Assembled(win); err != nil {
		t.Error(err)
	}
	win.Populated[0] &^= 2
	clear(subPage(win, 1))
	if err := w.Assembled(win); err != nil {
		t.Error(err)
	}
	subPage(win, 1)[7] = 9
	if err := w.Assembled(win); !errors.Is(err, verify.ErrMismatch) {
		t.Error(err)
	}
}

// What belongs to another file, another content or another bias is not taken for
// the cached truth.
func TestWindowTruthsAreKeyed(t *testing.T) {
	pie := func(seed int) mem.File {
		e := elf{typ: 3, segs: []seg{{0, 0, 600 * page, 600 * page, rx}}}
		return mem.NewBytesFile("pie", e.build(600*page, func(i int) byte { return pattern(i + seed) }))
	}
	w := verify.NewWitness(nil)
	r := rand.New(rand.NewPCG(1, 2))
	files := make([]mem.File, 20) // more than are kept
	for i := range files {
		files[i] = pie(i)
	}
	for range 60 {
		f := files[r.IntN(len(files))]
		bias := []uint64{0x200000, 0xa00000000, 0xa00001000}[r.IntN(3)]
		if err := w.Assembled(assemble(t, f, bias, mem.VirtAddr(bias).HugeDown())); err != nil {
			t.Fatal(err)
		}
	}
	win := assemble(t, files[0], 0x200000, 0x200000)
	win.File = files[1]
	if err := w.Assembled(win); !errors.Is(err, verify.ErrMismatch) {
		t.Errorf("another file's window: %v", err)
	}
	if n := w.Tally().WindowsVerified; n != 60 {
		t.Errorf("%d windows verified, want 60", n)
	}
}

// The File of an earlier window may be closed when its content comes again.
func TestWindowReadsTheFileItWasGiven(t *testing.T) {
	f := elf{segs: []seg{{0x400000, 0, 2 * mem.HugeSize, 2 * mem.HugeSize, rx}}}.file(2 * mem.HugeSize)
	first := &brokenFile{File: f, limit: 1 << 40}
	win := assemble(t, f, 0, 0x400000)
	next := assemble(t, f, 0, 0x600000)
	win.File = first
	w := verify.NewWitness(nil)
	if err := w.Assembled(win); err != nil {
		t.Error(err)
	}
	first.limit = 0 // closed
	if err := w.Assembled(next); err != nil {
		t.Error(err)
	}
}

func TestWindowErrorsAreNoMismatch(t *testing.T) {
	f := five().file(0xb000)
	win := assemble(t, f, 0, 0x400000)
	var r recorder
	w := verify.NewWitness(&r)
	check := func(name string, win mem.Window, want error) {
		t.Helper()
		if err := w.Assembled(win); err == nil || errors.Is(err, verify.ErrMismatch) || (want != nil && !errors.Is(err, want)) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	bad := win
	bad.File = &brokenFile{File: f, limit: 0x1000}
	check("read error", bad, io.ErrClosedPipe)
	bad = win
	bad.File = mem.NewBytesFile("x", []byte("#!"))
	check("no ELF", bad, verify.ErrFormat)
	bad = win
	bad.Bias = page
	check("wrong bias", bad, verify.ErrFormat)
	bad = win
	bad.Data = win.Data[:page]
	check("short", bad, nil)
	bad = win
	bad.File = nil
	check("no file", bad, nil)
	bad = win
	bad.Base += page
	check("unaligned", bad, nil)
	if len(r.events) != 0 || w.Tally() != (verify.Tally{Windows: 6}) {
		t.Errorf("events %v, tally %+v", r.events, w.Tally())
	}
}

// In a page of two file VMAs, the one that decides the byte is named.
func TestDecidingVMAIsNamed(t *testing.T) {
	f := five().file(0xb000)
	tr := newTruth(t, f, 0)
	for _, tc := range []struct {
		addr  mem.VirtAddr
		start event.Addr
	}{
		{0x407100, 0x405000},
		{0x407380, 0x405000}, // in the filler between the two
		{0x407400, 0x407400},
	} {
		win := assemble(t, f, 0, 0x400000)
		win.Data[tc.addr-win.Base]++
		w := verify.NewWitness(nil)
		if err := w.Assembled(win); !errors.Is(err, verify.ErrMismatch) {
			t.Error(err)
		}
		if _, err := w.Page(1, tr, tc.addr, subPage(win, 7)); err != nil {
			t.Error(err)
		}
		fails := w.Failures()
		if len(fails) != 2 {
			t.Fatalf("%v: failures %v, want 2", tc.addr, fails)
		}
		if e := fails[0].(event.HugePageVerifyFail); e.VMAStart != tc.start || e.VMAType != event.FileRO {
			t.Errorf("%v: %+v, want VMA %v", tc.addr, e, tc.start)
		}
		if e := fails[1].(event.PageVerifyFail); e.VMAStart != tc.start || e.FileOffset != 0x7000 {
			t.Errorf("%v: %+v, want VMA %v", tc.addr, e, tc.start)
		}
	}
}

// Where two images share a page, both permit.
func TestPermissionsOfTwoImages(t *testing.T) {
	text := newTruth(t, elf{segs: []seg{{0x400000, 0, page, page, rx}}}.file(page), 0)
	data := newTruth(t, elf{segs: []seg{{0x400000, 0, page, page, rw}}}.file(page), 0)
	as := memory{0x400000: {make([]byte, page), rx | rw}}
	for _, tc := range []struct {
		ts   []*verify.Truth
		want bool
	}{
		{[]*verify.Truth{text}, false},
		{[]*verify.Truth{data}, false},
		{[]*verify.Truth{text, data}, true},
	} {
		if ok := verify.NewWitness(nil).Permissions(1, tc.ts, as, nil); ok != tc.want {
			t.Errorf("%d truths: %v, want %v", len(tc.ts), ok, tc.want)
		}
	}
}

// An entry that claims to reach beyond the last address ends there.
func TestEntryAtTheEndOfTheAddressSpace(t *testing.T) {
	tr := newTruth(t, five().file(0xb000), 0)
	w := verify.NewWitness(nil)
	as := memory{1<<64 - 2*page: {make([]byte, mem.HugeSize), ro}}
	if w.Permissions(1, []*verify.Truth{tr}, as, nil) || w.Tally().Failures != 2 {
		t.Errorf("%d failures, want 2", w.Tally().Failures)
	}
}

// Entries are judged together where they lie side by side and grant the same,
// and only there: each wrong page is named, and no other.
func TestEntriesSideBySide(t *testing.T) {
	tr := newTruth(t, elf{segs: []seg{{0x400000, 0, 4 * page, 4 * page, ro}}}.file(4*page), 0)
	all := make([]byte, page)
	for _, tc := range []struct {
		name string
		as   memory
		want []event.Event
	}{
		{"none", memory{}, nil},
		{"right", memory{0x400000: {all, ro}, 0x401000: {all, ro}, 0x403000: {all, ro}}, nil},
		{"the last leaves the image", memory{0x402000: {all, ro}, 0x403000: {all, ro}, 0x404000: {all, ro}},
			[]event.Event{event.UnmappedVerifyFail{PID: 1, VAddr: 0x404000, Actual: "r--"}}},
		{"a gap", memory{0x3fe000: {all, ro}, 0x400000: {all, ro}},
			[]event.Event{event.UnmappedVerifyFail{PID: 1, VAddr: 0x3fe000, Actual: "r--"}}},
		{"a gap behind the image", memory{0x403000: {all, ro}, 0x405000: {all, ro}},
			[]event.Event{event.UnmappedVerifyFail{PID: 1, VAddr: 0x405000, Actual: "r--"}}},
		{"one grants more", memory{0x400000: {all, ro}, 0x401000: {all, rx}, 0x402000: {all, ro}},
			[]event.Event{event.PermissionVerifyFail{PID: 1, VAddr: 0x401000, Expected: "r--", Actual: "r-x"}}},
		{"two grant more", memory{0x400000: {all, rx}, 0x401000: {all, rx}, 0x402000: {all, ro}}, []event.Event{
			event.PermissionVerifyFail{PID: 1, VAddr: 0x400000, Expected: "r--", Actual: "r-x"},
			event.PermissionVerifyFail{PID: 1, VAddr: 0x401000, Expected: "r--", Actual: "r-x"}}},
		{"parts of pages", memory{0x400800: {all[:1], ro}, 0x404001: {all[:1], ro}, 0x404002: {all[:1], ro}}, []event.Event{
			event.UnmappedVerifyFail{PID: 1, VAddr: 0x404000, Actual: "r--"},
			event.UnmappedVerifyFail{PID: 1, VAddr: 0x404000, Actual: "r--"}}},
	} {
		w := verify.NewWitness(nil)
		ok := w.Permissions(1, []*verify.Truth{tr}, tc.as, nil)
		if got := w.Failures(); ok != (tc.want == nil) || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v, want %v", tc.name, ok, got, tc.want)
		}
	}
}

// What a truth's buffer held, of another window or of another file, shows in no
// page of a later one.
func TestBuffersAreUsedAgain(t *testing.T) {
	full := elf{segs: []seg{{0x400000, 0, mem.HugeSize, mem.HugeSize, ro}, {0x600000, mem.HugeSize, page, 100 * page, rw}}}
	small := elf{segs: []seg{{0x400000, 10, 0, page, rw}, {0x405000, 0, page, 50 * page, rw}}}
	w := verify.NewWitness(nil)
	for i, e := range []elf{full, small, full, small} {
		tr, err := w.Load(e.file(mem.HugeSize+page), 0)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, page)
		for p := range tr.TouchPages() {
			want, err := newTruth(t, tr.File(), 0).Window(p.HugeDown())
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.Page(p, got); err != nil || !bytes.Equal(got, want[p.SubPage()*page:][:page]) {
				t.Fatalf("file %d: page %v is not as a new truth has it (%v)", i, p, err)
			}
		}
		if _, err := tr.Window(0x400000); err != nil {
			t.Fatal(err)
		}
		w.Reset()
	}
}

// A witness that was reset is as a new one.
func TestReset(t *testing.T) {
	f := five().file(0xb000)
	w := verify.NewWitness(nil)
	for range 2 {
		tr, err := w.Load(f, 0)
		if err != nil {
			t.Fatal(err)
		}
		first := tr.StartupPages()[0]
		if ok, err := w.Page(1, tr, first, make([]byte, page)); ok || err != nil {
			t.Fatalf("a page of zeros is right (%v)", err)
		}
		if w.Tally().Failures != 1 || w.Tally().Pages != 1 || len(w.Failures()) != 1 {
			t.Errorf("%+v, %v", w.Tally(), w.Failures())
		}
		w.Reset()
		if w.Tally() != (verify.Tally{}) || len(w.Failures()) != 0 {
			t.Errorf("after Reset: %+v, %v", w.Tally(), w.Failures())
		}
	}
}
