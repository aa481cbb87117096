package verify_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
)

// model is the truth byte by byte: the definition, written down as it reads.
type model struct {
	segs []seg // non-empty ones, in header order
	data []byte
	bias uint64
}

func (m model) start(s seg) mem.VirtAddr { return mem.VirtAddr(s.vaddr + m.bias) }

func (m model) inMem(s seg, a mem.VirtAddr) bool {
	return a >= m.start(s) && a < m.start(s)+mem.VirtAddr(s.memsz)
}

func (m model) inFile(s seg, a mem.VirtAddr) bool {
	return a >= m.start(s) && a < m.start(s)+mem.VirtAddr(s.filesz)
}

// byteAt returns the byte at a and whether it lies in the file.
func (m model) byteAt(a mem.VirtAddr) (b byte, fromFile bool) {
	for _, s := range m.segs {
		if m.inFile(s, a) {
			off := s.off + uint64(a-m.start(s))
			if off < uint64(len(m.data)) {
				b, fromFile = m.data[off], true
			} else {
				b, fromFile = 0, false
			}
		}
	}
	return b, fromFile
}

func (m model) page(p mem.VirtAddr) (want []byte, fileBytes bool) {
	want = make([]byte, page)
	for i := range want {
		b, fromFile := m.byteAt(p + mem.VirtAddr(i))
		want[i] = b
		fileBytes = fileBytes || fromFile
	}
	return want, fileBytes
}

func (m model) extent() mem.Range {
	r := mem.Range{Start: ^mem.VirtAddr(0)}
	for _, s := range m.segs {
		r.Start = min(r.Start, m.start(s).PageDown())
		r.End = max(r.End, (m.start(s)+mem.VirtAddr(s.memsz)-1).PageDown()+page)
	}
	return r
}

// overlap reports whether s has a byte in page p, in memory and in its file part.
func (m model) overlap(s seg, p mem.VirtAddr) (inMem, inFile, whole bool) {
	whole = true
	for i := mem.VirtAddr(0); i < page; i++ {
		inMem = inMem || m.inMem(s, p+i)
		inFile = inFile || m.inFile(s, p+i)
		whole = whole && m.inFile(s, p+i)
	}
	return inMem, inFile, whole
}

// prot is the union; image says whether a segment touches the page at all.
func (m model) prot(p mem.VirtAddr) (prot mem.Prot, image bool) {
	for _, s := range m.segs {
		if in, _, _ := m.overlap(s, p); in {
			prot |= s.prot
			image = true
		}
	}
	if !image {
		prot = rw
	}
	return prot, image
}

// vmaAt is the start and kind of the VMA that answers for byte a.
func (m model) vmaAt(a mem.VirtAddr) (start mem.VirtAddr, typ string) {
	kind := func(s seg) (mem.VirtAddr, string) {
		if s.prot&mem.ProtWrite != 0 {
			return m.start(s), event.FileRW
		}
		return m.start(s), event.FileRO
	}
	found := false
	for _, s := range m.segs {
		if m.inFile(s, a) {
			start, typ = kind(s)
			found = true
		}
	}
	if found {
		return start, typ
	}
	for _, s := range m.segs {
		if m.inMem(s, a) {
			start, typ = kind(s)
			found = true
		}
	}
	if found {
		return start, typ
	}
	byAddr := slices.Clone(m.segs)
	slices.SortStableFunc(byAddr, func(a, b seg) int { return int(int64(a.vaddr+m.bias) - int64(b.vaddr+m.bias)) })
	for _, s := range byAddr {
		if in, _, _ := m.overlap(s, a.PageDown()); in {
			return kind(s)
		}
	}
	// Walk down to where the filler begins.
	for a > m.extent().Start {
		for _, s := range m.segs {
			if m.inMem(s, a-1) {
				return a, event.Anon
			}
		}
		a--
	}
	return a, event.Anon
}

// drawELF draws a small file: segments that overlap, share pages, are tiny, leave
// gaps, have .bss, reach beyond the end of the file.
func drawELF(t *rapid.T) (mem.File, model) {
	e := elf{typ: rapid.SampledFrom([]uint16{2, 3}).Draw(t, "type")}
	var m model
	base := rapid.SampledFrom([]uint64{0, 0x400000, 0x5fc000}).Draw(t, "base")
	size := rapid.IntRange(0, 7*page).Draw(t, "size")
	n := rapid.IntRange(1, 5).Draw(t, "segments")
	lengths := rapid.OneOf(rapid.Uint64Range(0, 40), rapid.Uint64Range(0, 3*page), rapid.Just(uint64(page)))
	for range n {
		s := seg{
			vaddr:  base + rapid.Uint64Range(0, 10*page).Draw(t, "vaddr"),
			filesz: lengths.Draw(t, "filesz"),
			prot:   mem.Prot(rapid.Uint8Range(0, 7).Draw(t, "prot")),
		}
		s.off = rapid.Uint64Range(0, 6).Draw(t, "offPage")*page + s.vaddr%page
		if rapid.IntRange(0, 9).Draw(t, "incongruent") == 0 {
			s.off = rapid.Uint64Range(0, 8*page).Draw(t, "off")
		}
		s.memsz = s.filesz + rapid.OneOf(rapid.Just(uint64(0)), lengths).Draw(t, "bss")
		e.segs = append(e.segs, s)
		if s.memsz > 0 {
			m.segs = append(m.segs, s)
		}
	}
	if len(m.segs) == 0 {
		s := seg{base, 0, 1, 1, ro}
		e.segs, m.segs = append(e.segs, s), append(m.segs, s)
	}
	if e.typ == 3 {
		m.bias = rapid.SampledFrom([]uint64{0, 0xa00000000, page}).Draw(t, "bias")
	}
	e.entry = base + rapid.Uint64Range(0, 12*page).Draw(t, "entry")
	seed := rapid.IntRange(0, 1000).Draw(t, "seed")
	m.data = e.build(size, func(i int) byte {
		if i/100%5 == seed%5 { // runs of zeros
			return 0
		}
		return pattern(i + seed)
	})
	return mem.NewBytesFile("random", m.data), m
}

func TestTruthIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, m := drawELF(t)
		tr, err := verify.New(f, m.bias)
		if err != nil {
			t.Fatal(err)
		}
		ext := m.extent()
		if tr.Extent() != ext {
			t.Fatalf("extent %v, want %v", tr.Extent(), ext)
		}
		var image, touch []mem.VirtAddr
		boundary := 0
		window := make(map[mem.VirtAddr][]byte)
		// Two pages more at either end, where there are no VMAs.
		from := mem.VirtAddr(0)
		if ext.Start >= 2*page {
			from = ext.Start - 2*page
		}
		for p := from; p < ext.End+2*page; p += page {
			want, fileBytes := m.page(p)
			wantProt, inImage := m.prot(p)
			has := ext.Contains(p)
			if !has {
				wantProt = 0
			}
			got := bytes.Repeat([]byte{0xee}, page)
			if err := tr.Page(p, got); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("page %v differs from the model", p)
			}
			if got := tr.HasFileBytes(p + 5); got != fileBytes {
				t.Fatalf("HasFileBytes(%v) = %v", p, got)
			}
			if prot, ok := tr.Prot(p + 9); prot != wantProt || ok != has {
				t.Fatalf("Prot(%v) = %v, %v, want %v, %v", p, prot, ok, wantProt, has)
			}
			if inImage {
				image = append(image, p)
			}
			if has && wantProt != 0 {
				touch = append(touch, p) // no run is longer than 1024 here
			}
			anyWhole := false
			for _, s := range m.segs {
				_, _, whole := m.overlap(s, p)
				anyWhole = anyWhole || whole
			}
			if fileBytes && !anyWhole {
				boundary++
			}
			if window[p.HugeDown()] == nil {
				window[p.HugeDown()] = make([]byte, mem.HugeSize)
			}
			copy(window[p.HugeDown()][p.SubPage()*page:], want)
		}
		for base, want := range window {
			if got, err := tr.Window(base); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("window %v differs from the model (%v)", base, err)
			}
		}
		if got := slices.Collect(tr.ImagePages()); !slices.Equal(got, image) {
			t.Fatalf("image pages %v, want %v", got, image)
		}
		if got := tr.ImagePageCount(); got != uint64(len(image)) {
			t.Fatalf("%d image pages, want %d", got, len(image))
		}
		if got := slices.Collect(tr.TouchPages()); !slices.Equal(got, touch) {
			t.Fatalf("touch pages %v, want %v", got, touch)
		}
		if got := tr.BoundaryPages(); got != boundary {
			t.Fatalf("%d boundary pages, want %d", got, boundary)
		}
		shared := 0
		for index := 0; index*page < len(m.data); index++ {
			users := 0
			for _, s := range m.segs {
				lo, hi := max(s.off, uint64(index*page)), min(s.off+s.filesz, uint64(index+1)*page, uint64(len(m.data)))
				if lo < hi {
					users++
				}
			}
			if users >= 2 {
				shared++
			}
		}
		if got := tr.SharedIndexes(); got != shared {
			t.Fatalf("%d shared indexes, want %d", got, shared)
		}
		start := map[mem.VirtAddr]bool{tr.Entry().PageDown(): true}
		for _, s := range m.segs {
			start[m.start(s).PageDown()] = true
			start[(m.start(s) + mem.VirtAddr(s.memsz) - 1).PageDown()] = true
		}
		var wantStart []mem.VirtAddr
		for p := range start {
			if prot, _ := m.prot(p); ext.Contains(p) && prot != 0 {
				wantStart = append(wantStart, p)
			}
		}
		slices.Sort(wantStart)
		if got := tr.StartupPages(); !slices.Equal(got, wantStart) {
			t.Fatalf("start-up pages %v, want %v", got, wantStart)
		}
		for range 20 {
			a := ext.Start + mem.VirtAddr(rapid.Uint64Range(0, ext.Len()-1).Draw(t, "byte"))
			wantVMA, wantTyp := m.vmaAt(a)
			if got, typ, _ := tr.FileVMAAt(a); got != wantVMA || typ != wantTyp {
				t.Fatalf("FileVMAAt(%v) = %v, %s, want %v, %s", a, got, typ, wantVMA, wantTyp)
			}
		}
	})
}

// touchModel lists the pages of TouchPages the long way.
func touchModel(tr *verify.Truth) []mem.VirtAddr {
	var out, run []mem.VirtAddr
	flush := func() {
		for i, p := range run {
			if i < 512 || i >= len(run)-512 {
				out = append(out, p)
			}
		}
		run = nil
	}
	for p := tr.Extent().Start; p < tr.Extent().End; p += page {
		if tr.HasFileBytes(p) {
			flush()
			out = append(out, p)
		} else {
			run = append(run, p)
		}
	}
	flush()
	return slices.DeleteFunc(out, func(p mem.VirtAddr) bool { prot, _ := tr.Prot(p); return prot == 0 })
}

func TestTouchPagesSkipsLongRuns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e elf
		at := uint64(0x400000)
		lengths := rapid.SampledFrom([]uint64{0, 100, 511 * page, 512 * page, 1023 * page, 1024 * page, 1025 * page, 2000*page + 7})
		for range rapid.IntRange(1, 4).Draw(t, "segments") {
			s := seg{vaddr: at, off: at % page, filesz: rapid.Uint64Range(0, 2*page).Draw(t, "filesz"), prot: mem.Prot(rapid.Uint8Range(0, 7).Draw(t, "prot"))}
			s.memsz = s.filesz + lengths.Draw(t, "bss") + 1
			e.segs = append(e.segs, s)
			at += s.memsz + lengths.Draw(t, "gap")
		}
		tr, err := verify.New(e.file(3*page), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := slices.Collect(tr.TouchPages()), touchModel(tr); !slices.Equal(got, want) {
			t.Fatalf("%d pages, want %d", len(got), len(want))
		}
	})
}

// A gap of 2^46 bytes and a segment of 2^45 cost no more than small ones.
func TestHugeGapCostsNothing(t *testing.T) {
	e := elf{segs: []seg{
		{0x400000, 0, page, page, rx},
		{1 << 46, page, 1 << 45, 1 << 45, 0},
		{1<<46 + 1<<45, 0, page, 1 << 44, rw},
	}}
	tr, err := verify.New(e.file(3*page), 0)
	if err != nil {
		t.Fatal(err)
	}
	// The first page, both ends of the gap, none of the segment that nothing may
	// read, the third's file page, and both ends of its .bss.
	if got, want := len(slices.Collect(tr.TouchPages())), 1+1024+1+1024; got != want {
		t.Errorf("%d pages to touch, want %d", got, want)
	}
	n := 0
	for range tr.ImagePages() {
		if n++; n == 10 {
			break
		}
	}
	if got, want := tr.ImagePageCount(), uint64(1+1<<33+1<<32); got != want {
		t.Errorf("%d image pages, want %d", got, want)
	}
	if got := tr.SharedIndexes(); got != 1 {
		t.Errorf("%d shared indexes, want 1", got)
	}
	if got := tr.BoundaryPages(); got != 0 {
		t.Errorf("%d boundary pages, want 0", got)
	}
	if start, typ, _ := tr.FileVMA(1 << 45); start != 0x401000 || typ != event.Anon {
		t.Errorf("filler %v %s, want 0x401000 anon", start, typ)
	}
	if _, err := tr.ImageSHA256(memory{}); !errors.Is(err, verify.ErrTooLarge) {
		t.Errorf("digest: %v, want ErrTooLarge", err)
	}
}

func TestLoadBias(t *testing.T) {
	const base = 0xa00000000
	for _, tc := range []struct {
		name  string
		typ   uint16
		first uint64
		want  uint64
	}{
		{"exec", 2, 0x400000, 0},
		{"pie at 0", 3, 0, base},
		{"in a page", 3, 0x123, base - page}, // page of base - 0x123
		{"above", 3, 0x7000, base - 0x7000},
		{"wraps", 3, 0xb00000000, 1<<64 - 0x100000000},
	} {
		e := elf{typ: tc.typ, segs: []seg{{tc.first, tc.first % page, 10, 10, ro}, {tc.first + page, 0, 0, 1, rw}}}
		tr, err := verify.Load(e.file(page), base)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		} else if tr.Bias() != tc.want {
			t.Errorf("%s: bias 0x%x, want 0x%x", tc.name, tr.Bias(), tc.want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := elf{segs: []seg{{0x400000, 0, page, page, ro}}}.build(page, pattern)
	patch := func(at int, b ...byte) []byte {
		d := slices.Clone(good)
		copy(d[at:], b)
		return d
	}
	one := func(s seg) []byte { return elf{segs: []seg{s}}.build(page, pattern) }
	ones := []byte{255, 255, 255, 255, 255, 255, 255, 255}
	for _, tc := range []struct {
		name string
		data []byte
		bias uint64
	}{
		{"empty", nil, 0},
		{"script", []byte("#!/bin/sh\n"), 0},
		{"magic alone", good[:4], 0},
		{"cut off in the header", good[:63], 0},
		{"cut off in the table", good[:64+55], 0},
		{"relocatable", patch(16, 1, 0), 0},
		{"core", patch(16, 4, 0), 0},
		{"i386", patch(18, 3, 0), 0},
		{"big endian", patch(18, 0, 62), 0},
		{"entry size", patch(54, 32, 0), 0},
		{"no headers", patch(56, 0, 0), 0},
		{"1171 headers", append(patch(56, 0x93, 0x04), make([]byte, 1<<17)...), 0},
		{"table far away", patch(32, ones...), 0},
		{"table behind the end", patch(32, 0, 16), 0},
		{"no PT_LOAD", patch(64, 2), 0},
		{"nothing in memory", one(seg{0x400000, 0, 0, 0, ro}), 0},
		{"more file than memory", one(seg{0x400000, 0, 2, 1, ro}), 0},
		{"wraps", one(seg{1<<64 - page, 0, 0, 2 * page, ro}), 0},
		{"leaves user space", one(seg{uint64(mem.UserEnd) - page, 0, 0, page + 1, ro}), 0},
		{"offset beyond 2^63", one(seg{0x400000, 1 << 63, 1, 1, ro}), 0},
		{"offset overflow", one(seg{0x400000, 1<<63 - 1, 1 << 40, 1 << 40, ro}), 0},
		{"bias of an ET_EXEC", good, page},
		{"bias in a page", patch(16, 3), 1},
		{"bias out of user space", patch(16, 3), uint64(mem.UserEnd) - 0x400000},
	} {
		tr, err := verify.New(mem.NewBytesFile(tc.name, tc.data), tc.bias)
		if tr != nil || !errors.Is(err, verify.ErrFormat) {
			t.Errorf("%s: %v, %v, want ErrFormat", tc.name, tr, err)
		}
	}
	if _, err := verify.New(mem.NewBytesFile("good", good), 0); err != nil {
		t.Errorf("good file: %v", err)
	}
	// 1170 headers are the most.
	many := append(patch(56, 0x92, 0x04), make([]byte, 1<<17)...)
	if _, err := verify.New(mem.NewBytesFile("many", many), 0); err != nil {
		t.Errorf("1170 headers: %v", err)
	}
}

// brokenFile fails every read at or behind limit.
type brokenFile struct {
	mem.File
	limit int64
	reads int
}

func (b *brokenFile) ReadAt(p []byte, off int64) (int, error) {
	b.reads++
	if off >= b.limit {
		return 0, io.ErrClosedPipe
	}
	return b.File.ReadAt(p, off)
}

func TestReadErrors(t *testing.T) {
	f := elf{segs: []seg{{0x400000, page, page, page, ro}}}.file(2 * page)
	for _, limit := range []int64{0, 64} {
		if _, err := verify.New(&brokenFile{File: f, limit: limit}, 0); !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, verify.ErrFormat) {
			t.Errorf("limit %d: %v, want the read error", limit, err)
		}
	}
	b := &brokenFile{File: f, limit: page}
	tr, err := verify.New(b, 0)
	if err != nil {
		t.Fatal(err)
	}
	buf := bytes.Repeat([]byte{7}, page)
	if err := tr.Page(0x400000, buf); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("Page: %v, want the read error", err)
	}
	// A failed window is not taken for a good one, and a later read heals it.
	b.limit = 2 * page
	if err := tr.Page(0x400000, buf); err != nil || buf[0] != pattern(page) {
		t.Errorf("Page after the repair: %v, first byte 0x%x", err, buf[0])
	}
	if err := tr.Page(0x400000, buf[1:]); err == nil {
		t.Error("Page took a short buffer")
	}
	if _, err := tr.Window(0x401000); err == nil {
		t.Error("Window took a base that is not aligned")
	}
}

// A window that could not be read leaves nothing of itself in the one before.
func TestFailedWindowIsForgotten(t *testing.T) {
	e := elf{segs: []seg{{0x400000, 0, page, page, ro}, {0x600000, page, page, page, ro}, {0x602000, 2 * page, page, page, ro}}}
	f := &brokenFile{File: e.file(3 * page), limit: 2 * page}
	tr, err := verify.New(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	first, err := tr.Window(0x400000)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Clone(first)
	if _, err := tr.Window(0x600000); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatalf("second window: %v, want the read error", err)
	}
	if got, err := tr.Window(0x400000); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the first window changed (%v)", err)
	}
}

func TestAscendingPagesReadOnce(t *testing.T) {
	e := elf{segs: []seg{{0x400000, 0, 300 * page, 300 * page, ro}, {0x400000 + 300*page, 300 * page, 400 * page, 400 * page, rx}}}
	f := &brokenFile{File: e.file(700 * page), limit: 1 << 62}
	tr, err := verify.New(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	if tr.File() != f {
		t.Error("File is not the file")
	}
	f.reads = 0
	buf := make([]byte, page)
	for p := range tr.TouchPages() {
		if err := tr.Page(p, buf); err != nil {
			t.Fatal(err)
		}
	}
	if f.reads != 3 { // two segments in the first window, one in the second
		t.Errorf("%d reads, want 3", f.reads)
	}
}

func TestImageSHA256(t *testing.T) {
	e := elf{segs: []seg{{0x400000, 0, page + 5, page + 5, ro}, {0x405ff0, 0x1ff0, 0x20, 3 * page, rw}}}
	tr, err := verify.New(e.file(4*page), 0)
	if err != nil {
		t.Fatal(err)
	}
	as := image(t, tr)
	h := sha256.New()
	buf := make([]byte, page)
	for _, p := range []mem.VirtAddr{0x400000, 0x401000, 0x405000, 0x406000, 0x407000, 0x408000} {
		if err := tr.Page(p, buf); err != nil {
			t.Fatal(err)
		}
		h.Write(buf)
	}
	want := hex.EncodeToString(h.Sum(nil))
	if got, err := tr.ImageSHA256(as); err != nil || got != want {
		t.Errorf("digest %s, %v, want %s", got, err, want)
	}
	delete(as, 0x407000) // .bss: counts as zeros
	if got, err := tr.ImageSHA256(as); err != nil || got != want {
		t.Errorf("digest without a .bss page %s, %v, want %s", got, err, want)
	}
	as[0x406000].data[9]++
	if got, err := tr.ImageSHA256(as); err != nil || got == want {
		t.Errorf("digest of a changed byte %s, %v", got, err)
	}
	delete(as, 0x401000)
	if _, err := tr.ImageSHA256(as); !errors.Is(err, mem.ErrNotPresent) {
		t.Errorf("digest without a file page: %v, want ErrNotPresent", err)
	}
}
