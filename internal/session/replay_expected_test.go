package session

import (
	"bytes"
	"testing"

	"vmsim/mem"
	"vmsim/verify"
)

// TestExpectedPages: pages that are kept are those of the truth and of the file, in
// any order, also after more of them than are kept.
func TestExpectedPages(t *testing.T) {
	f, err := mem.OpenFile("../../testdata/elf/kevlar-layout")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	truth, err := verify.New(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	again, err := verify.New(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	var e expectedPages
	check := func() {
		var want [mem.PageSize]byte
		x := truth.Extent()
		for i, n := 0, int(x.Len()/mem.PageSize); i < n; i++ {
			addr := x.Start + mem.VirtAddr(i*7%n)*mem.PageSize + 5
			got, err := e.ofTruth(truth, addr)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Page(addr, want[:]); err != nil || !bytes.Equal(got, want[:]) {
				t.Fatalf("page %v of the program differs, %v", addr, err)
			}
		}
		for at := uint64(0); at < uint64(f.Size())+2*mem.PageSize; at += mem.PageSize {
			got, err := e.ofFile(f, at)
			if err != nil {
				t.Fatal(err)
			}
			if want, err := verify.FilePage(f, int64(at)); err != nil || !bytes.Equal(got, want[:]) {
				t.Fatalf("page 0x%x of the file differs, %v", at, err)
			}
		}
	}
	check()
	had := e.pages
	check()
	if e.pages != had || had == 0 {
		t.Errorf("%d pages are kept after the second round, %d after the first", e.pages, had)
	}
	zeros := mem.NewBytesFile("zeros", nil)
	for i := range uint64(maxExpected) {
		if _, err := e.ofFile(zeros, i*mem.PageSize); err != nil {
			t.Fatal(err)
		}
		if e.pages > maxExpected {
			t.Fatalf("%d pages are kept", e.pages)
		}
	}
	check()
}
