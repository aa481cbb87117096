package verify_test

import (
	"errors"
	"slices"
	"testing"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
)

// busybox is the BusyBox of case A around its boundary: .rodata ends 0x1f0 bytes
// into file page 0x11b, and .data starts in the same file page, at 0xbf0, one
// page higher in memory.
func busybox() mem.File {
	e := elf{entry: 0x401000, segs: []seg{
		{0x400000, 0, 0x1000, 0x1000, ro},
		{0x401000, 0x1000, 0xff000, 0xff000, rx},
		{0x500000, 0x100000, 0x1b1f0, 0x1b1f0, ro},
		{0x51cbf0, 0x11bbf0, 0x3410, 0x8000, rw},
	}}
	data := e.build(0x11f000, pattern)
	data[0x11b000] = 0x65
	data[0x11bbf0] = 0xc0
	return mem.NewBytesFile("busybox", data)
}

const (
	caseABase = mem.VirtAddr(0x400000)
	caseAPage = mem.VirtAddr(0x51c000)
)

// assemble returns what a correct machine puts together.
func assemble(t testing.TB, f mem.File, bias uint64, base mem.VirtAddr) mem.Window {
	t.Helper()
	tr, err := verify.New(f, bias)
	if err != nil {
		t.Fatal(err)
	}
	data, err := tr.Window(base)
	if err != nil {
		t.Fatal(err)
	}
	w := mem.Window{PID: 130, Base: base, File: f, Bias: bias, Data: slices.Clone(data)}
	for i := range mem.SubPages {
		if _, ok := tr.Prot(base + mem.VirtAddr(i)*page); ok {
			w.SetPopulated(i)
		}
	}
	return w
}

// subPage returns sub-page i of w.
func subPage(w mem.Window, i int) []byte { return w.Data[i*page:][:page] }

// recorder keeps events.
type recorder struct{ events []event.Event }

func (r *recorder) Emit(e event.Event) { r.events = append(r.events, e) }

func TestLinesOfCaseA(t *testing.T) {
	f := busybox()
	filePage := make([]byte, page)
	if _, err := f.ReadAt(filePage, 0x11b000); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		corrupt func(sub []byte)
		line    string
		first   int
	}{
		{"boundary copy", func(sub []byte) { copy(sub, filePage) },
			"huge_page_verify_fail: sub_page=284, first_diff=0, expected=0x00, actual=0x65", 0},
		{"index collision", func(sub []byte) { clear(sub[0xbf0:]) },
			"huge_page_verify_fail: sub_page=284, first_diff=3056, expected=0xc0, actual=0x00", 3056},
	} {
		t.Run(tc.name, func(t *testing.T) {
			win := assemble(t, f, 0, caseABase)
			tc.corrupt(subPage(win, 284))
			var r recorder
			err := verify.NewWitness(&r).Assembled(win)
			if !errors.Is(err, verify.ErrMismatch) {
				t.Errorf("error %v, want ErrMismatch", err)
			}
			if len(r.events) != 2 {
				t.Fatalf("events %v, want a failure and the closing one", r.events)
			}
			e, ok := r.events[0].(event.HugePageVerifyFail)
			if !ok || e.String() != tc.line {
				t.Errorf("got  %v\nwant %s", r.events[0], tc.line)
			}
			if e.VMAStart != 0x51cbf0 || e.VMAType != event.FileRW || e.HugeBase != 0x400000 || e.PID != 130 {
				t.Errorf("fields %+v", e)
			}
			// 0x400000 to 0x525000 is populated.
			if got, want := r.events[1], (event.PageVerifyOK{PID: 130, Verified: 0x124, Failed: 1}); got != want {
				t.Errorf("closing %+v, want %+v", got, want)
			}
		})
	}
}

func TestTruthOfCaseA(t *testing.T) {
	tr, err := verify.New(busybox(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tr.Extent(), (mem.Range{Start: 0x400000, End: 0x525000}); got != want {
		t.Errorf("extent %v, want %v", got, want)
	}
	type vma struct {
		start mem.VirtAddr
		typ   string
		off   uint64
	}
	for _, tc := range []struct {
		addr mem.VirtAddr
		prot mem.Prot
		has  bool
		vma  vma
	}{
		{0x3ff000, 0, false, vma{0, event.None, 0}},
		{0x400000, ro, true, vma{0x400000, event.FileRO, 0}},
		{0x4fffff, rx, true, vma{0x401000, event.FileRO, 0xff000}},
		{0x51b000, ro, true, vma{0x500000, event.FileRO, 0x11b000}},
		{caseAPage, rw, true, vma{0x51cbf0, event.FileRW, 0x11b000}},
		{0x524bef, rw, true, vma{0x51cbf0, event.FileRW, 0x123000}},
		{0x525000, 0, false, vma{0, event.None, 0}},
	} {
		if prot, has := tr.Prot(tc.addr); prot != tc.prot || has != tc.has {
			t.Errorf("Prot(%v) = %v, %v, want %v, %v", tc.addr, prot, has, tc.prot, tc.has)
		}
		for name, fn := range map[string]func(mem.VirtAddr) (mem.VirtAddr, string, uint64){"FileVMA": tr.FileVMA, "FileVMAAt": tr.FileVMAAt} {
			if start, typ, off := fn(tc.addr); (vma{start, typ, off}) != tc.vma {
				t.Errorf("%s(%v) = %v, %s, 0x%x, want %+v", name, tc.addr, start, typ, off, tc.vma)
			}
		}
	}
	if got, want := tr.StartupPages(), []mem.VirtAddr{0x400000, 0x401000, 0x4ff000, 0x500000, 0x51b000, 0x51c000, 0x524000}; !slices.Equal(got, want) {
		t.Errorf("start-up pages %v, want %v", got, want)
	}
	// Boundary: the ends of .rodata and both ends of .data's file part, which
	// runs from 0x51cbf0 to 0x520000: a page boundary.
	if got := tr.BoundaryPages(); got != 2 {
		t.Errorf("%d boundary pages, want 2", got)
	}
	if got := tr.SharedIndexes(); got != 1 {
		t.Errorf("%d shared indexes, want 1", got)
	}
	// .data and .bss end in page 0x524; the page of the filler alone does not
	// exist here, .rodata and .data lie in neighbouring pages.
	if got, want := tr.ImagePageCount(), uint64(0x125); got != want {
		t.Errorf("%d image pages, want %d", got, want)
	}
}
