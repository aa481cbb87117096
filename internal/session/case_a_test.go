package session

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// TestCaseAFixture: each bug gives the diagnostic of the original kernel, in
// every field, and the two touches of the page that follow; repaired gives
// none.
func TestCaseAFixture(t *testing.T) {
	for _, h := range []vm.Hardening{vm.Default, vm.Fortress} {
		for _, v := range variants {
			t.Run(fmt.Sprintf("%s/%d", v.name, h), func(t *testing.T) {
				var rec recorder
				opt := options(t)
				opt.Bugs, opt.Hardening, opt.Events = v.bugs, h, &rec
				res := newRig(t, opt).Verify(fixture(t, "kevlar-layout"))
				want := event.HugePageVerifyFail{PID: 3, HugeBase: 0x400000, SubPage: 284,
					VMAStart: 0x51cbf0, VMAType: event.FileRW}
				switch v.name {
				case "boundary-copy", "both": // the copy wins where both are on
					want.FirstDiff, want.Expected, want.Actual = 0, 0x00, 0x65
				case "index-collision":
					want.FirstDiff, want.Expected, want.Actual = 0xbf0, 0xc0, 0x00
				default:
					if res.Verdict != OK || res.Failures != 0 || len(failures(rec.events)) != 0 {
						t.Errorf("repaired: %+v", res)
					}
					if res.Windows != 1 || res.Boundary != 3 || res.SharedIndexes != 1 || res.Pages != 0x126 {
						t.Errorf("figures of the layout: %+v", res)
					}
					return
				}
				all := []event.Event{want}
				for _, pid := range []int{3, 4} {
					all = append(all, event.PageVerifyFail{PID: pid, VAddr: 0x51c000, FirstDiff: want.FirstDiff,
						Expected: want.Expected, Actual: want.Actual, FileOffset: 0x11b000, VMAStart: 0x51cbf0})
				}
				if d := cmp.Diff(all, failures(rec.events)); d != "" {
					t.Errorf("failures (-want +got):\n%s", d)
				}
				if res.Verdict != Fail || res.Failures != 3 || res.Reason != "" {
					t.Errorf("%+v", res)
				}
				if d := cmp.Diff(all, res.FailureEvents); d != "" {
					t.Errorf("FailureEvents (-want +got):\n%s", d)
				}
			})
		}
	}
}

const (
	busyboxPath    = "/bin/busybox"
	busyboxPackage = "Debian's busybox-static 1:1.35.0-4+deb12u1+b1"
	busyboxSize    = 1982256
)

// busybox opens that build of BusyBox; another, or none, skips the test.
func busybox(t *testing.T) mem.File {
	t.Helper()
	f, err := mem.OpenFile(busyboxPath)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s is not there: install %s", busyboxPath, busyboxPackage)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	// .data as that build has it.
	if f.Size() == busyboxSize {
		for _, a := range imageOf(f, f.Size(), 0).areas {
			if a.start == 0x5db708 && a.off == 0x1da708 && a.writable() {
				return f
			}
		}
	}
	t.Skipf("%s is another build than that of %s", busyboxPath, busyboxPackage)
	return nil
}

// TestCaseABusyBox: a binary that people run has the shape too.
func TestCaseABusyBox(t *testing.T) {
	f := busybox(t)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			opt := options(t)
			opt.Bugs = v.bugs
			res := newRig(t, opt).Verify(f)
			want := ""
			switch v.name {
			case "boundary-copy", "both":
				want = "huge_page_verify_fail: sub_page=475, first_diff=0, expected=0x00, actual=0xff"
			case "index-collision":
				want = "huge_page_verify_fail: sub_page=475, first_diff=1801, expected=0x39, actual=0x00"
			default:
				if res.Verdict != OK {
					t.Errorf("%+v", res)
				}
				return
			}
			huge := of[event.HugePageVerifyFail](res.FailureEvents)
			if len(huge) != 1 || huge[0].String() != want {
				t.Fatalf("%v, want %s", huge, want)
			}
			if e := huge[0]; e.HugeBase != 0x400000 || e.VMAStart != 0x5db708 || e.VMAType != event.FileRW || e.PID != 3 {
				t.Errorf("fields: %+v", e)
			}
		})
	}
}

// TestFiguresFollowFromTheLayout compares what the simulator reports on random
// binaries with what predict_test.go works out from their headers and bytes.
func TestFiguresFollowFromTheLayout(t *testing.T) {
	failing, assembled := compareFigures(t, []int{128, 1, 0}, func(r *rand.Rand) []byte {
		_, data := elfgen.Random(r)
		return data
	})
	mustFail(t, failing, assembled)
}

// TestFiguresOfSharedFilePages does the same on small files whose segments show
// the same pages of the file, whole and in part, and some beyond its end.
func TestFiguresOfSharedFilePages(t *testing.T) {
	failing, assembled := compareFigures(t, []int{1, 4, 0}, sharedFilePages)
	mustFail(t, failing, assembled)
}

// mustFail: a good part of the files fails with each bug.
func mustFail(t *testing.T, failing map[string]int, assembled int) {
	t.Helper()
	n := rounds(hardening(t), 100)
	t.Logf("of %d files %d assemble a window; with a failure: %v", n, assembled, failing)
	for _, v := range variants[1:] {
		if failing[v.name]*8 < n && !testing.Short() { // of a handful it may be none
			t.Errorf("%s fails on %d of %d files: too few to prove anything", v.name, failing[v.name], n)
		}
	}
}

// sharedFilePages draws a file of some 20 pages with 2 to 7 segments, apart in
// memory and anywhere in the file.
func sharedFilePages(r *rand.Rand) []byte {
	s := elfgen.Spec{Type: elfgen.Exec, Entry: 0x400000}
	at := uint64(0x400000)
	for range 2 + r.IntN(6) {
		g := elfgen.Seg{Vaddr: at, Filesz: 1 + r.Uint64N(6*page),
			Flags: []mem.Prot{mem.ProtRead, mem.ProtRead | mem.ProtExec, mem.ProtRead | mem.ProtWrite}[r.IntN(3)]}
		if r.IntN(3) == 0 { // from the middle of a page
			g.Vaddr += r.Uint64N(page)
		}
		g.Offset = r.Uint64N(12)*page + g.Vaddr%page
		g.Memsz = g.Filesz
		if g.Flags&mem.ProtWrite != 0 {
			g.Memsz += r.Uint64N(2 * page)
		}
		at = g.Vaddr + g.Memsz // the same page
		if r.IntN(4) > 0 {
			at = (at + page - 1) / page * page
		}
		s.Segments = append(s.Segments, g)
	}
	last := s.Segments[len(s.Segments)-1]
	s.Size = int64(last.Offset + 1 + r.Uint64N(8*page)) // .bss needs its page of the file
	return elfgen.Build(s, nil)
}

// compareFigures verifies random files of a kind with all variants at all
// thresholds. It returns how many have a failure at the first threshold, by
// variant, and how many a window.
func compareFigures(t *testing.T, thresholds []int, draw func(*rand.Rand) []byte) (failing map[string]int, assembled int) {
	t.Helper()
	type setup struct {
		variant, threshold int
		bench              *Rig
		rec                *recorder
	}
	var setups []setup
	for v := range variants {
		for _, threshold := range thresholds {
			rec := new(recorder)
			opt := options(t)
			opt.Threshold, opt.Bugs, opt.Events = threshold, variants[v].bugs, rec
			setups = append(setups, setup{v, threshold, newRig(t, opt), rec})
		}
	}
	failing = map[string]int{}
	s := seed(t)
	for i := range uint64(rounds(hardening(t), 100)) {
		data := draw(newRand(s, i))
		f := mem.NewBytesFile(fmt.Sprintf("random-%d", i), data)
		if _, err := loader.Parse(f); err != nil {
			continue // .bss in a page beyond the end of the file
		}
		im := newFileImage(data, uint64(vm.PIEBase))
		for _, su := range setups {
			bugs := variants[su.variant].bugs
			p := im.predict(su.threshold, slices.Contains(bugs, "boundary-copy"), slices.Contains(bugs, "index-collision"))
			su.rec.events = nil
			res := su.bench.Verify(f)
			name := fmt.Sprintf("file %d, %s, threshold %d", i, variants[su.variant].name, su.threshold)
			comparePrediction(t, name, p, res, failures(su.rec.events))
			if len(p.lines) > 0 && su.threshold == thresholds[0] {
				failing[variants[su.variant].name]++
			}
			if len(p.lines) > 0 && (len(bugs) == 0 || su.threshold == 0) {
				t.Errorf("%s: the prediction is wrong: %+v", name, p.lines)
			}
			if su.threshold == thresholds[0] && len(bugs) == 0 && p.windows > 0 {
				assembled++
			}
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	return failing, assembled
}

// comparePrediction compares all that p says with what was reported: the result,
// and the failures, as far as they were kept.
func comparePrediction(t *testing.T, name string, p prediction, res FileResult, failures []event.Event) {
	t.Helper()
	var all []event.Event
	for _, l := range p.lines {
		typ := event.FileRO
		if l.writable {
			typ = event.FileRW
		}
		all = append(all, event.HugePageVerifyFail{PID: l.pid, HugeBase: event.Addr(l.base), SubPage: l.subPage,
			FirstDiff: l.firstDiff, Expected: event.Byte(l.expected), Actual: event.Byte(l.actual),
			VMAStart: event.Addr(l.vmaStart), VMAType: typ})
	}
	// Each process after the assembly sees the wrong page: phases 2 and 3.
	for _, pid := range []int{3, 4} {
		for _, l := range p.lines {
			if l.unreadable {
				continue
			}
			all = append(all, event.PageVerifyFail{PID: pid, VAddr: event.Addr(l.base + uint64(l.subPage)*page),
				FirstDiff: l.firstDiff, Expected: event.Byte(l.expected), Actual: event.Byte(l.actual),
				FileOffset: event.Addr(l.fileOffset), VMAStart: event.Addr(l.vmaStart)})
		}
	}
	kept := all
	if len(failures) == verify.DefaultMaxKept {
		kept = all[:min(len(all), len(failures))]
	}
	if d := cmp.Diff(kept, failures); d != "" {
		t.Errorf("%s: failures (-predicted +reported):\n%s", name, d)
	}
	want := FileResult{Path: res.Path, Verdict: OK, Windows: p.windows, FromCache: p.fromCache, FromFile: p.fromFile,
		Zero: p.zero, Pages: int(p.pages), BytesCompared: p.bytes, Failures: len(all)}
	if want.Failures > 0 {
		want.Verdict = Fail
	}
	got := FileResult{Path: res.Path, Verdict: res.Verdict, Reason: res.Reason, Windows: res.Windows,
		FromCache: res.FromCache, FromFile: res.FromFile, Zero: res.Zero, Pages: res.Pages, BytesCompared: res.BytesCompared,
		Failures: res.Failures}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-predicted +reported):\n%s", name, d)
	}
}

// TestPredictionOfTheFixture: the prediction itself hits the figures of case A.
func TestPredictionOfTheFixture(t *testing.T) {
	f := fixture(t, "kevlar-layout")
	data := make([]byte, f.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	im := newFileImage(data, 0)
	boundary := line{pid: 3, base: 0x400000, subPage: 284, expected: 0x00, actual: 0x65,
		vmaStart: 0x51cbf0, writable: true, fileOffset: 0x11b000}
	collision := boundary
	collision.firstDiff, collision.expected, collision.actual = 3056, 0xc0, 0x00
	for _, c := range []struct {
		boundary, collision bool
		want                []line
	}{{false, false, nil}, {true, false, []line{boundary}}, {false, true, []line{collision}}, {true, true, []line{boundary}}} {
		if got := im.predict(128, c.boundary, c.collision).lines; !slices.Equal(got, c.want) {
			t.Errorf("%v, %v: %+v, want %+v", c.boundary, c.collision, got, c.want)
		}
	}
	page := im.truth(0x51c000)
	if !bytes.Equal(page[0xbf0:], data[0x11bbf0:0x11c000]) || !bytes.Equal(page[:0xbf0], make([]byte, 0xbf0)) {
		t.Error("truth of the boundary page")
	}
}
