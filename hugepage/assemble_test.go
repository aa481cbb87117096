package hugepage

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vmsim/internal/phys"
	"vmsim/mem"
	"vmsim/pagecache"
	"vmsim/vma"
)

// testBase is the window that the tests assemble.
const testBase mem.VirtAddr = 0x400000

// recorder is a file that remembers its reads and can fail.
type recorder struct {
	*mem.BytesFile
	data   []byte
	reads  []read
	broken int64 // reads that touch this offset fail; 0 is none
}

type read struct{ off, n int64 }

var errBroken = errors.New("broken sector")

func (r *recorder) ReadAt(p []byte, off int64) (int, error) {
	r.reads = append(r.reads, read{off, int64(len(p))})
	if r.broken != 0 && off <= r.broken && r.broken < off+int64(len(p)) {
		return 0, errBroken
	}
	return r.BytesFile.ReadAt(p, off)
}

// content is 4 MiB without a zero byte: what is zero in a window is not the
// file's.
var content = func() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 4<<20)
	for i := range b {
		b[i] = byte(1 + rng.IntN(255))
	}
	return b
}()

// bench is an assembler with what it works on.
type bench struct {
	m     *phys.Memory
	cache *pagecache.Cache
	file  *recorder
	no    uint32
	set   *vma.Set
	held  map[mem.PageIndex]int // valid bytes of each cached page
	block mem.PFN
}

func newBench(t interface{ Fatal(...any) }, sizeBytes int) *bench {
	m, err := phys.New(6 * mem.HugeSize)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{m: m, cache: pagecache.New(m), set: vma.New(), held: map[mem.PageIndex]int{}}
	b.file = &recorder{BytesFile: mem.NewBytesFile("prog", content[:sizeBytes]), data: content[:sizeBytes]}
	b.no = b.cache.Open(b.file)
	var ok bool
	if b.block, ok = m.AllocHuge(); !ok {
		t.Fatal("no block")
	}
	return b
}

// segment adds [start, end) with file bytes up to fileEnd, and fillers in front
// of it from the last area on.
func (b *bench) segment(t interface{ Fatal(...any) }, start, fileEnd, end mem.VirtAddr, off int64, prot mem.Prot) {
	at := start.PageDown()
	if v, ok := b.set.FindBelow(start); ok {
		at = v.End
	}
	number := uint16(b.set.Len() + 1)
	b.filler(t, at, start)
	b.insert(t, vma.VMA{Range: mem.Range{Start: start, End: end}, Prot: prot, Kind: vma.File, File: b.file, FileNo: b.no,
		Offset: off, FileEnd: fileEnd, Segment: number})
}

func (b *bench) filler(t interface{ Fatal(...any) }, start, end mem.VirtAddr) {
	if start < end {
		b.insert(t, vma.VMA{Range: mem.Range{Start: start, End: end}, Prot: mem.ProtRead | mem.ProtWrite, Kind: vma.Filler})
	}
}

// finish fills the tail of the last page.
func (b *bench) finish(t interface{ Fatal(...any) }) {
	if v, ok := b.set.FindBelow(mem.UserEnd); ok {
		end, _ := v.End.PageUp()
		b.filler(t, v.End, end)
	}
	if err := b.set.Check(); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) insert(t interface{ Fatal(...any) }, v vma.VMA) {
	if err := b.set.Insert(v); err != nil {
		t.Fatal(err)
	}
}

// cachePage caches a page of the file of which the first valid bytes are the
// file's and the rest is zero, as a fault in a read-only area leaves it.
func (b *bench) cachePage(t interface{ Fatal(...any) }, index mem.PageIndex, valid int) {
	pfn, ok := b.m.Alloc()
	if !ok {
		t.Fatal("no frame")
	}
	clear(b.m.Page(pfn))
	copy(b.m.Page(pfn)[:valid], b.file.data[min(len(b.file.data), int(index)*mem.PageSize):])
	if b.cache.Insert(b.no, index, pfn, valid) {
		b.held[index] = valid
	}
	b.m.Put(pfn)
}

func (b *bench) areas() []vma.VMA {
	return slices.Collect(b.set.Overlapping(mem.WindowOf(testBase)))
}

// assemble assembles the window over a block full of garbage.
func (b *bench) assemble(t interface{ Fatal(...any) }, p Policy) (Candidate, *Page, mem.Window) {
	a := NewAssembler(b.m, b.cache, p)
	c, ok := a.Candidate(testBase, 0x1000, b.areas())
	if !ok {
		t.Fatal("not a candidate")
	}
	b.poison()
	b.file.reads = nil
	page, win, err := a.Assemble(c, b.areas(), b.block)
	if err != nil {
		t.Fatal(err)
	}
	return c, page, win
}

// poison is what the block held before.
func (b *bench) poison() {
	data := b.m.Block(b.block)
	data[0] = 0xaa
	for n := 1; n < len(data); n *= 2 {
		copy(data[n:], data[:n])
	}
}

// part is a run of file bytes in a page, found by going through the areas.
type part struct {
	at, n int
	off   int64
}

// naive is one sub-page as the areas say.
type naive struct {
	mapped bool
	prot   mem.Prot
	parts  []part
}

func (b *bench) naive(i int) naive {
	page := mem.PageOf(testBase + mem.VirtAddr(i*mem.PageSize))
	var n naive
	files := false
	for v := range b.set.All() {
		lo, hi := max(v.Start, page.Start), min(v.End, page.End)
		if lo >= hi {
			continue
		}
		n.mapped = true
		if v.Kind == vma.File && !files {
			files, n.prot = true, 0
		}
		if (v.Kind == vma.File) == files {
			n.prot |= v.Prot
		}
		if hi = min(hi, v.FileEnd); v.Kind == vma.File && lo < hi {
			n.parts = append(n.parts, part{int(lo - page.Start), int(hi - lo), v.Offset + int64(lo-v.Start)})
		}
	}
	return n
}

// fromFile returns n bytes of the file; beyond its end they are zero.
func (b *bench) fromFile(off int64, n int) []byte {
	out := make([]byte, n)
	if off < int64(len(b.file.data)) {
		copy(out, b.file.data[off:])
	}
	return out
}

// frame is the cached page of a part, as it was inserted.
func (b *bench) frame(p part) (data []byte, valid int, hit bool) {
	index := mem.PageIndex(p.off / mem.PageSize)
	valid, hit = b.held[index]
	data = b.fromFile(int64(index)*mem.PageSize, mem.PageSize)
	clear(data[valid:])
	return data, valid, hit
}

// truth is what a sub-page has to hold.
func (b *bench) truth(n naive) []byte {
	page := make([]byte, mem.PageSize)
	for _, p := range n.parts {
		copy(page[p.at:], b.fromFile(p.off, p.n))
	}
	return page
}

// boundaryCopy is what bug 1 makes of it: a hit is copied whole.
func (b *bench) boundaryCopy(n naive) []byte {
	page := make([]byte, mem.PageSize)
	for _, p := range n.parts {
		if data, _, hit := b.frame(p); hit {
			copy(page, data)
		} else {
			copy(page[p.at:], b.fromFile(p.off, p.n))
		}
	}
	return page
}

// indexCollision is what bug 2 makes of it: the right part of any hit.
func (b *bench) indexCollision(n naive) []byte {
	page := make([]byte, mem.PageSize)
	for _, p := range n.parts {
		if data, _, hit := b.frame(p); hit {
			copy(page[p.at:p.at+p.n], data[p.at:])
		} else {
			copy(page[p.at:], b.fromFile(p.off, p.n))
		}
	}
	return page
}

// taken reports whether the repaired policy takes a sub-page from the cache.
func (b *bench) taken(n naive) bool {
	if len(n.parts) != 1 || n.parts[0].n != mem.PageSize {
		return false
	}
	_, valid, hit := b.frame(n.parts[0])
	return hit && valid == mem.PageSize
}

// drawBench draws a program around the window, and a page cache.
func drawBench(t *rapid.T) *bench {
	b := newBench(t, rapid.IntRange(1, len(content)).Draw(t, "file size"))
	at := testBase - 0x3000
	if rapid.Bool().Draw(t, "starts inside") {
		at = testBase + mem.VirtAddr(rapid.IntRange(0, 0x40000).Draw(t, "start"))
	}
	delta := uint64(testBase) - 0x18000 // p_vaddr - p_offset, grows from segment to segment
	shift := mem.VirtAddr(0)            // by how much it grew last
	end := testBase + mem.HugeSize + 0x5000
	for n := rapid.IntRange(1, 8).Draw(t, "segments"); n > 0 && at+0x100 < end; n-- {
		start := at + mem.VirtAddr(rapid.IntRange(0, 0x1fff).Draw(t, "gap"))
		if rapid.Bool().Draw(t, "goes on in the file") { // as ld -z noseparate-code has it
			start = at + shift
		}
		size := rapid.IntRange(1, 0x80000).Draw(t, "size")
		if rapid.Bool().Draw(t, "small") {
			size = size%0x1800 + 1
		}
		inFile := size
		if rapid.IntRange(0, 2).Draw(t, "bss") == 0 {
			inFile = rapid.IntRange(0, size).Draw(t, "filesz")
		}
		prot := rapid.SampledFrom([]mem.Prot{mem.ProtRead, mem.ProtRead | mem.ProtExec, mem.ProtRead | mem.ProtWrite, mem.ProtNone}).Draw(t, "prot")
		b.segment(t, start, start+mem.VirtAddr(inFile), start+mem.VirtAddr(size), int64(uint64(start)-delta), prot)
		at = start + mem.VirtAddr(size)
		shift = mem.VirtAddr(rapid.IntRange(0, 2).Draw(t, "shift") * mem.PageSize)
		delta += uint64(shift)
	}
	b.finish(t)

	// Mostly whole pages, as faults leave them; some partly valid, and above
	// all those at the ends of segments.
	step := rapid.IntRange(1, 40).Draw(t, "step")
	for i := rapid.IntRange(0, 40).Draw(t, "first"); i < 700; i += step {
		b.cachePage(t, mem.PageIndex(i), mem.PageSize)
	}
	for v := range b.set.All() {
		if v.Kind == vma.File && rapid.Bool().Draw(t, "end cached") {
			valid := int(v.FileEnd.PageOffset())
			if v.FileEnd > v.Start && valid > 0 {
				b.cachePage(t, mem.PageIndex(v.OffsetOf(v.FileEnd-1)/mem.PageSize), valid)
			}
		}
	}
	return b
}

func TestAssembleModel(t *testing.T) {
	policies := []struct {
		bugs []string
		page func(*bench, naive) []byte
	}{
		{nil, (*bench).truth},
		{[]string{"boundary-copy"}, (*bench).boundaryCopy},
		{[]string{"index-collision"}, (*bench).indexCollision},
		{[]string{"boundary-copy", "index-collision"}, (*bench).boundaryCopy},
	}
	wrong := make([]int, len(policies))
	assembled := 0
	rapid.Check(t, func(t *rapid.T) {
		b := drawBench(t)
		defer b.m.Close()
		pages := make([]naive, mem.SubPages)
		fileBytes := false
		for i := range pages {
			pages[i] = b.naive(i)
			fileBytes = fileBytes || len(pages[i].parts) > 0
		}
		b.checkCandidate(t, pages, fileBytes)
		if !fileBytes {
			return
		}
		assembled++
		for k, p := range policies {
			policy, err := NewKevlar(0, p.bugs...)
			if err != nil {
				t.Fatal(err)
			}
			_, page, win := b.assemble(t, policy)
			for i, n := range pages {
				got := win.Data[i*mem.PageSize:][:mem.PageSize]
				if want := p.page(b, n); !bytes.Equal(got, want) {
					t.Fatalf("%q: sub-page %d: %s; %+v", p.bugs, i, difference(got, want), n)
				}
				if !bytes.Equal(got, b.truth(n)) {
					wrong[k]++
				}
			}
			b.checkPage(t, pages, page, win)
			if k == 0 {
				b.checkCounts(t, pages, win)
			}
		}
	})
	if testing.Short() {
		return // too few windows to say
	}
	if assembled == 0 || wrong[0] != 0 || wrong[1] == 0 || wrong[2] == 0 || wrong[3] == 0 {
		t.Errorf("%d windows assembled; wrong sub-pages %v, want some but without bugs", assembled, wrong)
	}
}

func difference(got, want []byte) string {
	for i := range got {
		if got[i] != want[i] {
			return fmt.Sprintf("0x%02x at %#x, want 0x%02x", got[i], i, want[i])
		}
	}
	return "equal"
}

// checkCandidate compares the scan with a count page by page.
func (b *bench) checkCandidate(t *rapid.T, pages []naive, fileBytes bool) {
	c, ok := NewAssembler(b.m, b.cache, Kevlar{}).Candidate(testBase, 0x1000, b.areas())
	if ok != fileBytes {
		t.Fatalf("candidate: %t, file bytes: %t", ok, fileBytes)
	}
	var cached, mapped int
	for _, n := range pages {
		if n.mapped {
			mapped++
		}
		if len(n.parts) > 0 && n.parts[0].at == 0 {
			if _, _, hit := b.frame(n.parts[0]); hit {
				cached++
			}
		}
	}
	if c.Cached != cached || c.Mapped != mapped || c.Base != testBase || c.Bias != 0x1000 || ok != (c.File == mem.File(b.file)) {
		t.Fatalf("candidate %+v; want %d cached, %d mapped", c, cached, mapped)
	}
}

// checkPage compares what is to be mapped.
func (b *bench) checkPage(t *rapid.T, pages []naive, page *Page, win mem.Window) {
	populated, uniform := 0, true
	for i, n := range pages {
		prot, ok := page.SubPage(i)
		if ok != n.mapped || prot != n.prot || win.IsPopulated(i) != n.mapped {
			t.Fatalf("sub-page %d: %v, %t, populated %t; want %v, %t", i, prot, ok, win.IsPopulated(i), n.prot, n.mapped)
		}
		if ok {
			populated++
		}
		uniform = uniform && n.mapped && n.prot == pages[0].prot && n.prot != mem.ProtNone
	}
	if prot, ok := page.Uniform(); ok != uniform || ok && prot != pages[0].prot {
		t.Fatalf("uniform: %v, %t; want %t", prot, ok, uniform)
	}
	if page.Populated != populated || page.First != b.block || &win.Data[0] != &b.m.Block(b.block)[0] || len(win.Data) != mem.HugeSize {
		t.Fatalf("page %d populated, first frame %d; want %d, %d", page.Populated, page.First, populated, b.block)
	}
	if win.Base != testBase || win.Bias != 0x1000 || win.File != mem.File(b.file) || win.FromCache+win.FromFile+win.Zero != mem.SubPages {
		t.Fatalf("window %v: %d + %d + %d sub-pages", win.Base, win.FromCache, win.FromFile, win.Zero)
	}
}

// checkCounts checks where the repaired policy took pages from, and that it
// read the others in as few reads as their order in the file allows.
func (b *bench) checkCounts(t *rapid.T, pages []naive, win mem.Window) {
	var fromCache, fromFile, zero int
	var want []read
	end := -1 // in the window, of the last read
	for i, n := range pages {
		switch {
		case len(n.parts) == 0:
			zero++
			continue
		case b.taken(n):
			fromCache++
			continue
		}
		fromFile++
		for _, p := range n.parts {
			at := i*mem.PageSize + p.at
			if last := len(want) - 1; at == end && want[last].off+want[last].n == p.off {
				want[last].n += int64(p.n)
			} else {
				want = append(want, read{p.off, int64(p.n)})
			}
			end = at + p.n
		}
	}
	if win.FromCache != fromCache || win.FromFile != fromFile || win.Zero != zero {
		t.Fatalf("%d from the cache, %d from the file, %d zero; want %d, %d, %d", win.FromCache, win.FromFile, win.Zero, fromCache, fromFile, zero)
	}
	if !slices.Equal(b.file.reads, want) {
		t.Fatalf("reads %v, want %v", b.file.reads, want)
	}
}

// kevlarLayout is the program of case A: .rodata and .data share file page
// 0x11b. Its pages up to there are cached, the last as a fault left it.
func kevlarLayout(t testing.TB) *bench {
	b := newBench(t, len(content))
	t.Cleanup(func() { b.m.Close() })
	b.segment(t, 0x400000, 0x51b1f0, 0x51b1f0, 0, mem.ProtRead|mem.ProtExec)
	b.segment(t, 0x51cbf0, 0x522e40, 0x525f64, 0x11bbf0, mem.ProtRead|mem.ProtWrite)
	b.finish(t)
	for i := range mem.PageIndex(128) {
		b.cachePage(t, i, mem.PageSize)
	}
	b.cachePage(t, 0x11b, 0x1f0)
	return b
}

func TestCaseA(t *testing.T) {
	for _, c := range []struct {
		bugs    []string
		diff    int // first wrong byte of sub-page 284; all others are right
		counts  [3]int
		zeroAt  int // a byte of the wrong page that is zero
		fileOff int64
	}{
		{nil, -1, [3]int{128, 163, 221}, 0, 0},
		{[]string{"boundary-copy"}, 0, [3]int{130, 161, 221}, 0x1f0, 0x11b000},
		{[]string{"index-collision"}, 0xbf0, [3]int{130, 161, 221}, 0xbf0, 0},
	} {
		b := kevlarLayout(t)
		policy, err := NewKevlar(DefaultThreshold, c.bugs...)
		if err != nil {
			t.Fatal(err)
		}
		cand, _, win := b.assemble(t, policy)
		if cand.Cached != 129 || cand.Mapped != 294 || !policy.Assemble(cand) {
			t.Errorf("%q: %+v, wanted %t", c.bugs, cand, policy.Assemble(cand))
		}
		if got := [3]int{win.FromCache, win.FromFile, win.Zero}; got != c.counts {
			t.Errorf("%q: %v sub-pages from cache, file and zero; want %v", c.bugs, got, c.counts)
		}
		for i := range mem.SubPages {
			got, want := win.Data[i*mem.PageSize:][:mem.PageSize], b.truth(b.naive(i))
			diff := -1
			for j := range got {
				if got[j] != want[j] {
					diff = j
					break
				}
			}
			if i == 284 && diff == c.diff {
				if diff >= 0 && got[c.zeroAt] != 0 {
					t.Errorf("%q: byte %#x is not zero", c.bugs, c.zeroAt)
				}
				if c.fileOff != 0 && got[0] != content[c.fileOff] {
					t.Errorf("%q: byte 0 is not the first of .rodata's page", c.bugs)
				}
				continue
			}
			if diff >= 0 || i == 284 {
				t.Errorf("%q: sub-page %d differs at %d", c.bugs, i, diff)
			}
		}
	}
}

func TestThreshold(t *testing.T) {
	for _, c := range []struct {
		threshold, cached int
		want              bool
	}{{0, 0, true}, {128, 127, false}, {128, 128, true}, {512, 512, true}, {600, 512, false}} {
		k, err := NewKevlar(c.threshold)
		if err != nil || k.Assemble(Candidate{Cached: c.cached}) != c.want {
			t.Errorf("threshold %d, %d cached: want %t (%v)", c.threshold, c.cached, c.want, err)
		}
	}
	if _, err := NewKevlar(0, "no-such-bug"); err == nil {
		t.Error("an unknown bug is taken")
	}
}

func TestCandidateOfTwoFiles(t *testing.T) {
	b := newBench(t, 0x1000)
	defer b.m.Close()
	b.segment(t, 0x400000, 0x401000, 0x401000, 0, mem.ProtRead)
	other := mem.NewBytesFile("other", content[:0x1000])
	b.insert(t, vma.VMA{Range: mem.PageOf(0x402000), Prot: mem.ProtRead, Kind: vma.File, File: other, FileNo: b.cache.Open(other), FileEnd: 0x403000})
	a := NewAssembler(b.m, b.cache, Kevlar{})
	if c, ok := a.Candidate(testBase, 0, b.areas()); ok {
		t.Errorf("a window of two files is a candidate: %+v", c)
	}
	if c, ok := a.Candidate(testBase, 0, nil); ok {
		t.Errorf("a window without areas is a candidate: %+v", c)
	}
}

// policyFunc is a policy that is a Fill.
type policyFunc func(p *SubPage) error

func (policyFunc) Assemble(Candidate) bool { return true }
func (f policyFunc) Fill(p *SubPage) error { return f(p) }

// Reads may be put off, but the last write to a byte wins.
func TestFillOrder(t *testing.T) {
	whole := func(p *SubPage) *vma.Piece { return &p.Pieces[0] }
	frame := Cached{Data: bytes.Repeat([]byte{0xcc}, mem.PageSize), Valid: mem.PageSize}
	for _, c := range []struct {
		name string
		fill policyFunc
		// How many of the 512 sub-pages, and of their bytes, are the frame's.
		fromCache, fromFile, ccBytes int
	}{
		{"read, then copy", func(p *SubPage) error {
			err := p.Read(whole(p))
			p.Copy(frame, 0, mem.PageSize)
			return err
		}, 0, 512, mem.PageSize},
		{"read, then copy a part", func(p *SubPage) error {
			err := p.Read(whole(p))
			p.Copy(frame, 8, 16)
			return err
		}, 0, 512, 16},
		{"copy, then read", func(p *SubPage) error {
			p.Copy(frame, 0, mem.PageSize)
			return p.Read(whole(p))
		}, 0, 512, 0},
		{"copy a part, then nothing", func(p *SubPage) error {
			p.Copy(frame, 100, 50)
			return nil
		}, 512, 0, 50},
		{"read a part, then copy another", func(p *SubPage) error {
			piece := *whole(p)
			piece.Len = 100
			err := p.Read(&piece)
			p.Copy(frame, 200, 50)
			return err
		}, 0, 512, 50},
		{"nothing", func(*SubPage) error { return nil }, 0, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, len(content))
			defer b.m.Close()
			b.segment(t, testBase, testBase+mem.HugeSize, testBase+mem.HugeSize, 0, mem.ProtRead)
			_, _, win := b.assemble(t, c.fill)
			if win.FromCache != c.fromCache || win.FromFile != c.fromFile || win.Zero != mem.SubPages-c.fromCache-c.fromFile {
				t.Errorf("%d from the cache, %d from the file, %d zero", win.FromCache, win.FromFile, win.Zero)
			}
			for i := range mem.SubPages {
				cc := 0
				for j, x := range win.Data[i*mem.PageSize:][:mem.PageSize] {
					switch x {
					case 0: // not written
					case content[i*mem.PageSize+j]:
						if x == 0xcc {
							cc++ // it may be either
						}
					case 0xcc:
						cc++
					default:
						t.Fatalf("sub-page %d byte %d: 0x%02x is neither the file's nor the frame's", i, j, x)
					}
				}
				// One byte in 255 of the file is 0xcc too.
				if cc < c.ccBytes || cc > c.ccBytes+100 {
					t.Fatalf("sub-page %d: %d bytes of the frame, want %d", i, cc, c.ccBytes)
				}
			}
		})
	}
}

// A window of file bytes that nothing interrupts is one read.
func TestReadsAreCoalesced(t *testing.T) {
	b := newBench(t, len(content))
	defer b.m.Close()
	b.segment(t, testBase, testBase+mem.HugeSize, testBase+mem.HugeSize, 0x1000, mem.ProtRead)
	b.assemble(t, Kevlar{})
	if want := []read{{0x1000, mem.HugeSize}}; !slices.Equal(b.file.reads, want) {
		t.Errorf("reads %v, want %v", b.file.reads, want)
	}
	b.cachePage(t, 1+100, mem.PageSize)
	b.assemble(t, Kevlar{})
	if want := []read{{0x1000, 100 * mem.PageSize}, {102 * mem.PageSize, 411 * mem.PageSize}}; !slices.Equal(b.file.reads, want) {
		t.Errorf("reads %v, want %v", b.file.reads, want)
	}
}

// A read error reaches the caller whenever the read is made, and leaves
// nothing behind for the next assembly.
func TestReadError(t *testing.T) {
	for name, fill := range map[string]policyFunc{
		"at once or at the end": Kevlar{}.Fill,
		"in the flush of a copy": func(p *SubPage) error {
			err := p.Read(&p.Pieces[0])
			p.Copy(Cached{Data: content[:mem.PageSize], Valid: mem.PageSize}, 0, 8)
			return err
		},
	} {
		for _, broken := range []int64{1, 0x3005, mem.HugeSize - 1} {
			b := newBench(t, len(content))
			b.segment(t, testBase, testBase+mem.HugeSize, testBase+mem.HugeSize, 0, mem.ProtRead)
			for i := mem.PageIndex(0); i < mem.SubPages; i += 7 {
				b.cachePage(t, i+1, mem.PageSize)
			}
			a := NewAssembler(b.m, b.cache, fill)
			c, _ := a.Candidate(testBase, 0, b.areas())
			b.file.broken = broken
			if _, _, err := a.Assemble(c, b.areas(), b.block); !errors.Is(err, errBroken) {
				t.Errorf("%s, sector %#x: %v", name, broken, err)
			}
			b.file.broken = 0
			b.poison()
			_, win, err := a.Assemble(c, b.areas(), b.block)
			if err != nil || !bytes.Equal(win.Data[mem.PageSize+8:2*mem.PageSize], content[mem.PageSize+8:2*mem.PageSize]) {
				t.Errorf("%s, sector %#x: the next assembly: %v", name, broken, err)
			}
			b.m.Close()
		}
	}
}

// An error of the policy abandons the window.
func TestFillError(t *testing.T) {
	b := kevlarLayout(t)
	a := NewAssembler(b.m, b.cache, policyFunc(func(p *SubPage) error {
		if p.Addr == 0x500000 {
			return errBroken
		}
		return p.Read(&p.Pieces[0])
	}))
	c, _ := a.Candidate(testBase, 0, b.areas())
	if page, _, err := a.Assemble(c, b.areas(), b.block); page != nil || err != errBroken {
		t.Errorf("%v, %v", page, err)
	}
}
