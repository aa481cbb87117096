package verify_test

import (
	"testing"

	"vmsim/mem"
	"vmsim/verify"
)

// Any bytes are a file: New gives an error or a Truth, never both, and a Truth
// answers every question without panic and in bounded time.
func FuzzNew(f *testing.F) {
	f.Add([]byte(nil), uint64(0))
	f.Add([]byte("\x7fELF"), uint64(0))
	f.Add(five().build(0xb000, pattern), uint64(0))
	f.Add(elf{typ: 3, segs: []seg{{0, 0, 100, 0x5000, rw}}}.build(200, pattern), uint64(0xa00000000))
	f.Add(elf{typ: 3, segs: []seg{{1 << 63, 0, 100, 1 << 46, rw}}}.build(200, pattern), uint64(1)<<63)
	f.Add(elf{segs: []seg{{0x400000, 0, 1 << 46, 1 << 46, rx}, {0x400000, 1 << 40, 1 << 40, 1 << 45, rw}}}.build(300, pattern), uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, bias uint64) {
		file := mem.NewBytesFile("fuzz", data)
		if tr, err := verify.Load(file, mem.VirtAddr(bias)); (tr == nil) == (err == nil) {
			t.Fatalf("Load: %v, %v", tr, err)
		}
		tr, err := verify.New(file, bias)
		if (tr == nil) == (err == nil) {
			t.Fatalf("New: %v, %v", tr, err)
		}
		if err != nil {
			return
		}
		ext := tr.Extent()
		if ext.Empty() || ext != ext.PageAlign() || ext.End > mem.UserEnd {
			t.Fatalf("extent %v", ext)
		}
		buf := make([]byte, page)
		n := 0
		last := ext.Start
		for p := range tr.TouchPages() {
			prot, ok := tr.Prot(p)
			if p < last || !ext.Contains(p) || !ok || prot == 0 {
				t.Fatalf("touch page %v after %v, %v", p, last, prot)
			}
			last = p + page
			if n++; n <= 50 {
				if err := tr.Page(p, buf); err != nil {
					t.Fatal(err)
				}
				tr.FileVMA(p)
				tr.FileVMAAt(p + 77)
			}
		}
		// File pages, at most those of the file for each segment, and two ends
		// of at most one run more.
		segs := len(data)/56 + 1
		if limit := segs*(len(data)/page+2) + (segs*2+1)*1024; n > limit {
			t.Fatalf("%d pages to touch, more than %d", n, limit)
		}
		if tr.BoundaryPages() < 0 || tr.SharedIndexes() > len(data)/page+1 || tr.ImagePageCount() > ext.Len()/page {
			t.Fatal("counts out of bounds")
		}
		for _, p := range tr.StartupPages() {
			if !ext.Contains(p) {
				t.Fatalf("start-up page %v outside %v", p, ext)
			}
		}
	})
}
