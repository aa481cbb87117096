package session

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
)

// A prediction of what the verify protocol reports on one file, from its headers
// and bytes alone: case A worked out byte by byte, without the simulator. Truth
// and permissions hold for any file, the cache, the assembly and the figures for
// those whose segments do not overlap in memory.
//
// Bytes are read only where they may matter: a whole page of one segment holds
// the same whether it is copied from a whole cached page or read from the file.

const (
	page   = 4096
	window = 512 * page
)

// prediction is what the protocol comes to at one threshold and set of bugs.
type prediction struct {
	windows                   int      // assembled
	bases                     []uint64 // of them
	fromCache, fromFile, zero int      // their sub-pages
	pages                     uint64   // touched by each of the three processes
	bytes                     uint64   // compared, by the formula of ARCHITECTURE.md
	memory                    uint64   // bytes with which nothing is evicted: twice the image, and what is written
	lines                     []line
}

// line is a sub-page that is wrong, the fields of a huge_page_verify_fail.
type line struct {
	pid              int
	base             uint64
	subPage          int
	firstDiff        int
	expected, actual byte
	vmaStart         uint64
	writable         bool
	fileOffset       uint64 // in that VMA, of the page
	unreadable       bool   // no process sees it
}

// area is a file VMA: a PT_LOAD at its place.
type area struct {
	start, end uint64
	filesz     uint64 // p_filesz
	fileEnd    uint64 // file bytes are [start, fileEnd): p_filesz, cut at the end of the file
	off        uint64 // of start
	flags      uint32 // PF_X, PF_W, PF_R
}

const (
	pfX = 1
	pfW = 2
	pfR = 4
)

func (a area) writable() bool { return a.flags&pfW != 0 }

// fileImage is a file as its VMAs show it.
type fileImage struct {
	file  io.ReaderAt
	size  uint64
	err   error                  // the first of reading it
	loads []area                 // in header order
	areas []area                 // ascending
	found []area                 // by on
	known map[uint64]*[page]byte // pages that truth worked out already
	cache map[uint64]*cachedPage // of touched, by page index
}

// cachedPage is an entry of the page cache.
type cachedPage struct {
	addr  uint64 // of the page whose fault inserted it: it holds what that page holds
	valid int    // bytes
}

// newFileImage is imageOf a file in memory.
func newFileImage(data []byte, base uint64) *fileImage {
	return imageOf(bytes.NewReader(data), int64(len(data)), base)
}

// imageOf reads the headers of a file of so many bytes. An ET_DYN goes to base.
func imageOf(file io.ReaderAt, size int64, base uint64) *fileImage {
	le := binary.LittleEndian
	im := &fileImage{file: file, size: uint64(size), known: map[uint64]*[page]byte{}}
	head := make([]byte, 64)
	im.read(head, 0)
	table := make([]byte, 56*int(le.Uint16(head[56:])))
	im.read(table, le.Uint64(head[32:]))
	bias := biasOf(head, table, base)
	for ; len(table) > 0; table = table[56:] {
		p := table
		vaddr, filesz, memsz := le.Uint64(p[16:]), le.Uint64(p[32:]), le.Uint64(p[40:])
		if le.Uint32(p) != 1 || memsz == 0 {
			continue
		}
		a := area{start: vaddr + bias, end: vaddr + bias + memsz, filesz: filesz, off: le.Uint64(p[8:]), flags: le.Uint32(p[4:]) & (pfR | pfW | pfX)}
		inFile := uint64(0)
		if a.off < im.size {
			inFile = im.size - a.off
		}
		a.fileEnd = a.start + min(filesz, inFile)
		im.loads, im.areas = append(im.loads, a), append(im.areas, a)
		for j := len(im.areas) - 1; j > 0 && im.areas[j].start < im.areas[j-1].start; j-- {
			im.areas[j], im.areas[j-1] = im.areas[j-1], im.areas[j]
		}
	}
	return im
}

// biasOf returns the load bias: the first PT_LOAD of an ET_DYN goes to base, or
// so far above that the lowest is not below 0.
func biasOf(head, table []byte, base uint64) uint64 {
	le := binary.LittleEndian
	if le.Uint16(head[16:]) == 2 {
		return 0
	}
	var vaddrs []uint64
	for p := table; len(p) > 0; p = p[56:] {
		if memsz := le.Uint64(p[40:]); le.Uint32(p) == 1 && (memsz > 0 || len(vaddrs) == 0) {
			vaddrs = append(vaddrs, le.Uint64(p[16:]))
		}
	}
	if len(vaddrs) == 0 {
		return 0
	}
	first, lowest := vaddrs[0], slices.Min(vaddrs)
	if where := (first + page - 1) / page * page; where > base+lowest/page*page { // the lowest would be below 0
		base += first/page*page - lowest/page*page
	}
	return (base - first) / page * page
}

// apart reports whether no two VMAs overlap.
func (im *fileImage) apart() bool {
	for i := 1; i < len(im.areas); i++ {
		if im.areas[i].start < im.areas[i-1].end {
			return false
		}
	}
	return true
}

// read fills p with the bytes at off, as far as the file has them.
func (im *fileImage) read(p []byte, off uint64) {
	if _, err := im.file.ReadAt(p, int64(off)); err != nil && err != io.EOF && im.err == nil {
		im.err = err
	}
}

// on returns the VMAs that overlap [at, at+n), until the next call.
func (im *fileImage) on(at, n uint64) []area {
	im.found = im.found[:0]
	for i := range im.areas {
		if a := &im.areas[i]; a.start < at+n && at < a.end {
			im.found = append(im.found, *a)
		}
	}
	return im.found
}

// truth returns what the page at addr ought to hold. Of several VMAs with file
// bytes for an address the last in header order wins, also where those lie
// beyond the end of the file and are zero.
func (im *fileImage) truth(addr uint64) *[page]byte {
	if b := im.known[addr]; b != nil {
		return b
	}
	b := new([page]byte)
	im.known[addr] = b
	for _, a := range im.loads {
		from, to := max(addr, a.start), min(addr+page, a.start+a.filesz)
		if from < to {
			in := b[from-addr : to-addr]
			clear(in)
			im.read(in, a.off+from-a.start)
		}
	}
	return b
}

// bounds returns the pages from the first to the last VMA.
func (im *fileImage) bounds() (from, to uint64) {
	from, to = im.areas[0].start/page*page, 0
	for _, a := range im.areas {
		to = max(to, (a.end+page-1)/page*page)
	}
	return from, to
}

// touched returns the page cache after one touch of each page, ascending, in a
// machine that had nothing cached: what a fault in a read-only file VMA inserts
// that has the page's first byte and shares the page with no other. Nothing is
// replaced, and a page that nobody may read is not touched.
func (im *fileImage) touched() map[uint64]*cachedPage {
	if im.cache != nil {
		return im.cache
	}
	im.cache = map[uint64]*cachedPage{}
	for _, a := range im.areas {
		if a.writable() || a.flags == 0 {
			continue
		}
		for addr := (a.start + page - 1) / page * page; addr < a.fileEnd; addr += page {
			if len(im.on(addr, page)) != 1 {
				continue
			}
			index := (a.off + addr - a.start) / page
			if im.cache[index] == nil {
				im.cache[index] = &cachedPage{addr, int(min(page, a.fileEnd-addr))}
			}
		}
	}
	return im.cache
}

// predict returns what verifying the file reports. At threshold 0 windows are
// assembled by the first exec, PID 2, from an empty cache, and kept; else by the
// second, PID 3.
func (im *fileImage) predict(threshold int, boundaryCopy, indexCollision bool) prediction {
	p := prediction{pages: im.touchedPages()}
	pid, cache := 2, map[uint64]*cachedPage(nil)
	if threshold > 0 {
		pid, cache = 3, im.touched()
	}
	from, to := im.bounds()
	populated := uint64(0)
	for _, base := range im.windows() {
		if im.cachedIn(base, cache) < threshold {
			continue
		}
		p.windows++
		p.bases = append(p.bases, base)
		populated += (min(to, base+window) - max(from, base)) / page
		for i := range 512 {
			addr := base + uint64(i)*page
			wrong, source := im.assemble(addr, cache, boundaryCopy, indexCollision)
			switch source {
			case 'c':
				p.fromCache++
			case 'f':
				p.fromFile++
			default:
				p.zero++
			}
			if wrong == nil {
				continue
			}
			l := *wrong
			l.pid, l.base, l.subPage = pid, base, i
			l.vmaStart, l.writable, l.fileOffset = im.vma(addr, l.firstDiff)
			l.unreadable = im.prot(addr) == 0
			p.lines = append(p.lines, l)
		}
	}
	p.bytes = page * (3*p.pages + populated)
	p.memory = 2*page*p.pages + 2*window*uint64(len(im.windows())) + 2*page*im.writablePages() + window
	return p
}

// writablePages is at least how many pages a process has of its own.
func (im *fileImage) writablePages() (n uint64) {
	for _, a := range im.areas {
		if a.writable() {
			n += (a.end+page-1)/page - a.start/page
		}
	}
	return n
}

// windows returns the windows that hold a file byte, ascending.
func (im *fileImage) windows() []uint64 {
	var bases []uint64
	for _, a := range im.areas {
		if a.fileEnd == a.start {
			continue
		}
		for base := a.start / window * window; base < a.fileEnd; base += window {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return slices.Compact(bases)
}

// cachedIn counts the sub-pages of a window that count for the threshold.
func (im *fileImage) cachedIn(base uint64, cache map[uint64]*cachedPage) (n int) {
	for _, a := range im.on(base, window) {
		first := max(base, (a.start+page-1)/page*page)
		for addr := first; addr < min(base+window, a.fileEnd); addr += page {
			if cache[(a.off+addr-a.start)/page] != nil {
				n++
			}
		}
	}
	return n
}

// assemble works out a sub-page: if it is wrong, its first wrong byte, and where
// it is from: c, the cache alone; f, the file at least in part; 0, nowhere.
func (im *fileImage) assemble(addr uint64, cache map[uint64]*cachedPage, boundaryCopy, indexCollision bool) (wrong *line, source byte) {
	on := im.on(addr, page)
	if len(on) == 1 && on[0].start <= addr && addr+page <= on[0].fileEnd { // whole
		switch c := cache[(on[0].off+addr-on[0].start)/page]; {
		case c == nil:
			return nil, 'f'
		case c.valid == page:
			return nil, 'c'
		}
	}
	if len(on) == 0 {
		return nil, '0'
	}
	return im.compose(addr, cache, boundaryCopy, indexCollision)
}

// compose is assemble, byte by byte.
func (im *fileImage) compose(addr uint64, cache map[uint64]*cachedPage, boundaryCopy, indexCollision bool) (wrong *line, source byte) {
	var b [page]byte
	source = '0'
	for _, a := range im.on(addr, page) {
		from, to := max(addr, a.start), min(addr+page, a.fileEnd)
		if from >= to {
			continue
		}
		c := cache[(a.off+from-a.start)/page]
		switch {
		case c != nil && boundaryCopy:
			b = *im.truth(c.addr)
		case c != nil && indexCollision:
			copy(b[from-addr:to-addr], im.truth(c.addr)[from-addr:])
		case c != nil && to-from == page && c.valid == page:
			b = *im.truth(c.addr)
		default:
			im.read(b[from-addr:to-addr], a.off+from-a.start)
			source = 'f'
			continue
		}
		if source == '0' {
			source = 'c'
		}
	}
	want := im.truth(addr)
	for d := range b {
		if b[d] != want[d] {
			return &line{firstDiff: d, expected: want[d], actual: b[d]}, source
		}
	}
	return nil, source
}

// touchedPages counts the pages that each process touches: all of the image, but
// of each run without a file byte the first and the last 512 alone, and none
// that nobody may read.
func (im *fileImage) touchedPages() (n uint64) {
	from, to := im.bounds()
	cuts := []uint64{from, to}
	for _, a := range im.areas {
		cuts = append(cuts, a.start/page*page, (a.end+page-1)/page*page)
		if a.fileEnd > a.start {
			cuts = append(cuts, (a.fileEnd+page-1)/page*page)
		}
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	// Between two cuts all pages are alike.
	withFile := func(i int) bool {
		return slices.ContainsFunc(im.on(cuts[i], page), func(a area) bool { return max(a.start, cuts[i]) < min(a.fileEnd, cuts[i]+page) })
	}
	for i := 0; i+1 < len(cuts); i++ {
		if withFile(i) {
			if im.prot(cuts[i]) != 0 {
				n += (cuts[i+1] - cuts[i]) / page
			}
			continue
		}
		run := i // without a file byte: [cuts[run], cuts[i+1])
		for i+2 < len(cuts) && !withFile(i+1) {
			i++
		}
		head, tail := cuts[run]+window, cuts[i+1]-window
		for ; run <= i; run++ {
			if im.prot(cuts[run]) == 0 {
				continue
			}
			n += (cuts[run+1] - cuts[run]) / page
			if lo, hi := max(cuts[run], head), min(cuts[run+1], tail); cuts[i+1] > head && lo < hi {
				n -= (hi - lo) / page
			}
		}
	}
	return n
}

// vma returns the VMA of the byte d of the page at addr, or else the lowest of
// the page, and the offset of the page in it; of a page without one, where its
// filler starts.
func (im *fileImage) vma(addr uint64, d int) (start uint64, writable bool, offset uint64) {
	on := im.on(addr, page)
	if len(on) == 0 {
		for _, a := range im.areas {
			if a.end <= addr {
				start = max(start, a.end)
			}
		}
		return start, false, 0
	}
	a := on[0]
	for _, b := range on {
		if at := addr + uint64(d); b.start <= at && at < b.end {
			a = b
		}
	}
	switch before := a.start - addr; {
	case addr >= a.start:
		offset = a.off + (addr - a.start)
	case a.off >= before:
		offset = a.off - before
	}
	return a.start, a.writable(), offset
}

// prot returns the PF_ bits that a page permits: those of all its VMAs, to read
// and write where it has none. x86-64 reads what it may write or execute.
func (im *fileImage) prot(addr uint64) (flags uint32) {
	on := im.on(addr, page)
	for _, a := range on {
		flags |= a.flags
	}
	switch {
	case len(on) == 0:
		return pfR | pfW
	case flags != 0:
		flags |= pfR
	}
	return flags
}
