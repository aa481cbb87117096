package verify_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"vmsim/mem"
	"vmsim/verify"
)

// A dump is judged by content alone: the same events as for the window that a
// machine shows, PID apart.
func TestDump(t *testing.T) {
	f := busybox()
	for _, c := range []struct {
		name    string
		corrupt func(data []byte)
		want    []string
	}{
		{"right", func([]byte) {}, []string{"page_verify_ok: verified=293, failed=0"}},
		{"the filler's part of a page", func(d []byte) { d[0x11c000] = 0x65 },
			[]string{"huge_page_verify_fail: sub_page=284, first_diff=0, expected=0x00, actual=0x65", "page_verify_ok: verified=292, failed=1"}},
		{"a sub-page without a mapping", func(d []byte) { d[511*page+7] = 1 },
			[]string{"huge_page_verify_fail: sub_page=511, first_diff=7, expected=0x00, actual=0x01", "page_verify_ok: verified=293, failed=1"}},
		{"first and last", func(d []byte) { d[0] ^= 1; d[292*page+4095] ^= 0xff },
			[]string{"huge_page_verify_fail: sub_page=0, first_diff=0, expected=0x7f, actual=0x7e",
				"huge_page_verify_fail: sub_page=292, first_diff=4095, expected=0x00, actual=0xff", "page_verify_ok: verified=291, failed=2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := assemble(t, f, 0, caseABase).Data
			c.corrupt(data)
			im, err := verify.New(f, 0)
			if err != nil {
				t.Fatal(err)
			}
			var rec recorder
			err = verify.NewWitness(&rec).Dump(caseABase, data, im)
			if errors.Is(err, verify.ErrMismatch) != (len(c.want) > 1) {
				t.Errorf("error %v", err)
			}
			var got []string
			for _, e := range rec.events {
				got = append(got, fmt.Sprint(e))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// By Linux's rules the filler's part of the page is the file's.
func TestDumpLinux(t *testing.T) {
	f := busybox()
	im, err := verify.NewLinux(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	right, err := im.Window(caseABase)
	if err != nil {
		t.Fatal(err)
	}
	data := slices.Clone(right)
	if data[0x11c000] != 0x65 {
		t.Errorf("the neighbours' bytes are not in the page of .data")
	}
	var rec recorder
	if err := verify.NewWitness(&rec).Dump(caseABase, data, im); err != nil {
		t.Error(err)
	}
	data[0x11c000] = 0
	if err := verify.NewWitness(&rec).Dump(caseABase, data, im); !errors.Is(err, verify.ErrMismatch) {
		t.Errorf("%v", err)
	}
}

// A page that nothing may read holds zeros, or what the file says.
func TestDumpProtNone(t *testing.T) {
	f := elf{segs: []seg{{0x400000, 0, page, page, rx}, {0x401000, page, page, page, 0}}}.file(2 * page)
	im, err := verify.New(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	win, err := im.Window(0x400000)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		fill func(p []byte)
		ok   bool
	}{
		"the file's":    {func([]byte) {}, true},
		"zeros":         {func(p []byte) { clear(p) }, true},
		"anything else": {func(p []byte) { clear(p); p[9] = 1 }, false},
	} {
		data := slices.Clone(win)
		c.fill(data[page : 2*page])
		if err := verify.NewWitness(nil).Dump(0x400000, data, im); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDumpSize(t *testing.T) {
	im, err := verify.New(busybox(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify.NewWitness(nil).Dump(caseABase, make([]byte, page), im); err == nil || errors.Is(err, verify.ErrMismatch) {
		t.Errorf("%v", err)
	}
	if err := verify.NewWitness(nil).Dump(mem.VirtAddr(page), make([]byte, mem.HugeSize), im); err == nil || errors.Is(err, verify.ErrMismatch) {
		t.Errorf("%v", err)
	}
}
