package session

import "encoding/binary"

// A prediction of what the verify protocol reports on one file, from its headers
// and bytes alone: case A worked out byte by byte, without the simulator. Truth
// and permissions hold for any file, the cache and the assembly for those whose
// segments do not overlap in memory.

const (
	page   = 4096
	window = 512 * page
)

// prediction is what the protocol comes to at one threshold and set of bugs.
type prediction struct {
	windows                   int      // assembled
	bases                     []uint64 // of them
	fromCache, fromFile, zero int      // their sub-pages
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
	data  []byte
	loads []area                 // in header order
	areas []area                 // ascending
	known map[uint64]*[page]byte // pages that truth worked out already
}

// cachedPage is an entry of the page cache.
type cachedPage struct {
	data  *[page]byte
	valid int
}

// newFileImage reads the headers. An ET_DYN goes to base.
func newFileImage(data []byte, base uint64) *fileImage {
	le := binary.LittleEndian
	im := &fileImage{data: data, known: map[uint64]*[page]byte{}}
	phoff, n := le.Uint64(data[32:]), int(le.Uint16(data[56:]))
	bias, placed := uint64(0), le.Uint16(data[16:]) == 2
	for i := range n {
		p := data[phoff+56*uint64(i):]
		if le.Uint32(p) != 1 {
			continue
		}
		vaddr, filesz, memsz := le.Uint64(p[16:]), le.Uint64(p[32:]), le.Uint64(p[40:])
		if !placed {
			bias, placed = (base-vaddr)/page*page, true
		}
		if memsz == 0 {
			continue
		}
		a := area{start: vaddr + bias, end: vaddr + bias + memsz, filesz: filesz, off: le.Uint64(p[8:]), flags: le.Uint32(p[4:]) & (pfR | pfW | pfX)}
		inFile := uint64(0)
		if size := uint64(len(data)); a.off < size {
			inFile = size - a.off
		}
		a.fileEnd = a.start + min(filesz, inFile)
		im.loads, im.areas = append(im.loads, a), append(im.areas, a)
		for j := len(im.areas) - 1; j > 0 && im.areas[j].start < im.areas[j-1].start; j-- {
			im.areas[j], im.areas[j-1] = im.areas[j-1], im.areas[j]
		}
	}
	return im
}

// on returns the VMAs that overlap [at, at+n).
func (im *fileImage) on(at, n uint64) []area {
	var out []area
	for _, a := range im.areas {
		if a.start < at+n && at < a.end {
			out = append(out, a)
		}
	}
	return out
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
		for at := max(addr, a.start); at < min(addr+page, a.start+a.filesz); at++ {
			if off := a.off + (at - a.start); off < uint64(len(im.data)) {
				b[at-addr] = im.data[off]
			} else {
				b[at-addr] = 0
			}
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
// replaced.
func (im *fileImage) touched() map[uint64]*cachedPage {
	cache := map[uint64]*cachedPage{}
	from, to := im.bounds()
	for addr := from; addr < to; addr += page {
		on := im.on(addr, page)
		if len(on) != 1 || on[0].writable() || on[0].start > addr || on[0].fileEnd <= addr {
			continue
		}
		a := on[0]
		index := (a.off + addr - a.start) / page
		if cache[index] == nil {
			cache[index] = &cachedPage{im.truth(addr), int(min(page, a.fileEnd-addr))}
		}
	}
	return cache
}

// predict returns what verifying the file reports. At threshold 0 windows are
// assembled by the first exec, PID 2, from an empty cache, and kept; else by the
// second, PID 3.
func (im *fileImage) predict(threshold int, boundaryCopy, indexCollision bool) prediction {
	var p prediction
	pid, cache := 2, map[uint64]*cachedPage{}
	if threshold > 0 {
		pid, cache = 3, im.touched()
	}
	from, to := im.bounds()
	for base := from / window * window; base < to; base += window {
		hasFile, cached := false, 0
		for addr := base; addr < base+window; addr += page {
			for _, a := range im.on(addr, page) {
				hasFile = hasFile || max(a.start, addr) < min(a.fileEnd, addr+page)
				if a.start <= addr && addr < a.fileEnd && cache[(a.off+addr-a.start)/page] != nil {
					cached++
				}
			}
		}
		if !hasFile || cached < threshold {
			continue
		}
		p.windows++
		p.bases = append(p.bases, base)
		for i := range 512 {
			addr := base + uint64(i)*page
			got, source := im.assemble(addr, cache, boundaryCopy, indexCollision)
			*map[byte]*int{'c': &p.fromCache, 'f': &p.fromFile, '0': &p.zero}[source]++
			want := im.truth(addr)
			if got == *want {
				continue
			}
			d := 0
			for got[d] == want[d] {
				d++
			}
			l := line{pid: pid, base: base, subPage: i, firstDiff: d, expected: want[d], actual: got[d]}
			l.vmaStart, l.writable, l.fileOffset = im.vma(addr, d)
			p.lines = append(p.lines, l)
		}
	}
	return p
}

// assemble returns the content of a sub-page and where it is from: c, the cache
// alone; f, the file at least in part; 0, nowhere.
func (im *fileImage) assemble(addr uint64, cache map[uint64]*cachedPage, boundaryCopy, indexCollision bool) (b [page]byte, source byte) {
	source = '0'
	for _, a := range im.on(addr, page) {
		from, to := max(addr, a.start), min(addr+page, a.fileEnd)
		if from >= to {
			continue
		}
		c := cache[(a.off+from-a.start)/page]
		switch {
		case c != nil && boundaryCopy:
			b = *c.data
		case c != nil && indexCollision:
			copy(b[from-addr:to-addr], c.data[from-addr:])
		case c != nil && to-from == page && c.valid == page:
			b = *c.data
		default:
			copy(b[from-addr:], im.data[a.off+from-a.start:][:to-from])
			source = 'f'
			continue
		}
		if source == '0' {
			source = 'c'
		}
	}
	return b, source
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
