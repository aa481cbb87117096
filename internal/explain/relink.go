package explain

import (
	"cmp"
	"errors"
	"slices"

	"vmsim/loader"
	"vmsim/mem"
)

// A linker that gets the same input with other options writes the same contents
// at other addresses and offsets. What its layout rules make of the contents,
// the size of the file above all, follows from the segments: their sizes stay,
// and what lies behind the last one (symbols, section headers) does too.
//
// The rules are those of GNU ld 2.40 (its default script, ldlang.c:
// lang_size_segment) and LLD 14 (ELF/Writer.cpp: setFileOffset,
// fixSectionAlignments), checked against both by the tests.
//
//	GNU ld, separate code  | hdrs, r-- | r-x  | r-- | rw-     each at a multiple of the page size
//	GNU ld, noseparate     | hdrs, r--, r-x, r--    | rw-
//	LLD                    | hdrs, r--       | r-x | rw- relro | rw-   offsets without gaps
//	LLD --no-rosegment     | hdrs, r--, r-x        | rw- relro | rw-
//
// Where a linker closes with PT_GNU_RELRO, GNU ld lets the end of it fall on a
// page, of max-page-size.

// contents are the parts of a file, as the linker got them.
type contents struct {
	head  uint64 // read-only before the text, with the headers
	text  uint64
	ro    uint64 // read-only behind the text
	relro uint64 // writable, read-only after relocation
	data  uint64 // writable, file bytes
	bss   uint64 // behind data
	tail  uint64 // not in a segment

	merged bool // head, text and ro are one segment, the text's
	lld    bool // the layout is LLD's

	entry uint64 // offset of the entry point in the text
}

// errLayout says that a file is not as linkers lay one out, or not as one of
// those whose rules are known here.
var errLayout = errors.New("the segments are not in the order of GNU ld or LLD: [r--] r-x [r--] rw-, from offset 0")

// contents takes the segments apart.
func (b *Binary) contents() (contents, error) {
	segs := slices.Clone(b.Image.Segments)
	slices.SortStableFunc(segs, func(x, y loader.Segment) int { return cmp.Compare(x.Vaddr, y.Vaddr) })
	var c contents
	const head, text, ro, data = 0, 1, 2, 3
	state := head
	var end, writable uint64 // file offsets
	for i, s := range segs {
		var kind int
		switch {
		case s.Prot&mem.ProtWrite != 0 && s.Prot&mem.ProtExec == 0:
			kind = data
		case s.Prot&mem.ProtWrite != 0:
			return c, errLayout
		case s.Prot&mem.ProtExec != 0:
			kind = text
		case state >= text:
			kind = ro
		}
		off := uint64(s.Offset)
		switch {
		case kind < state, kind == state && kind != data && i > 0:
			return c, errLayout
		case i == 0 && off != 0, s.Filesz > 0 && off < end, s.Filesz > 0 && off+s.Filesz > b.Size, s.Filesz == 0 && kind != data:
			return c, errLayout
		}
		switch kind {
		case head:
			c.head = s.Filesz
		case text:
			c.text, c.merged = s.Filesz, i == 0
			c.lld = i > 0 && off%mem.PageSize != 0
			c.entry = b.Image.Entry - s.Vaddr
		case ro:
			c.ro = s.Filesz
		case data:
			if writable == 0 && s.Filesz > 0 {
				writable = off
			}
			c.data += s.Filesz
			c.bss += s.Memsz - s.Filesz
		}
		state = kind
		if s.Filesz > 0 {
			end = off + s.Filesz
		}
	}
	if c.text == 0 {
		return c, errLayout
	}
	writableSegs := 0
	for _, s := range segs {
		if s.Prot&mem.ProtWrite != 0 {
			writableSegs++
		}
	}
	// LLD gives PT_GNU_RELRO a segment of its own, and has its read-only data in
	// front of the text.
	c.lld = c.lld || writableSegs > 1 || c.head > 0 && c.ro == 0 && !c.merged
	c.relro = min(b.Relro, c.data)
	c.data -= c.relro
	if writableSegs > 1 { // the relro segment is padded in memory, not in the file
		for _, s := range segs {
			if s.Prot&mem.ProtWrite != 0 {
				c.relro, c.data = s.Filesz, c.data+c.relro-s.Filesz
				break
			}
		}
	}
	c.tail = b.Size - end
	return c, nil
}

// output is a file being laid out.
type output struct {
	contents
	segs    []loader.Segment
	page    uint64    // max-page-size
	va, off uint64    // where the last segment ends
	instrs  mem.Range // where the text is in its segment
}

func alignUp(n, to uint64) uint64 { return (n + to - 1) &^ (to - 1) }

// put adds a segment at va, at the next offset that is congruent.
func (o *output) put(va, filesz, memsz uint64, prot mem.Prot) {
	off := o.off + (va-o.off)%o.page
	o.segs = append(o.segs, loader.Segment{Index: len(o.segs), Vaddr: va, Memsz: memsz, Filesz: filesz, Offset: int64(off),
		Prot: prot, Align: o.page})
	o.va, o.off = va+memsz, off+filesz
}

// textAt notes where the text of n bytes is.
func (o *output) textAt(va, n uint64) {
	o.instrs = mem.Range{Start: mem.VirtAddr(va), End: mem.VirtAddr(va + n)}
}

// size returns the size of the file.
func (o *output) size() uint64 { return o.off + o.tail }

const (
	protR  = mem.ProtRead
	protRX = mem.ProtRead | mem.ProtExec
	protRW = mem.ProtRead | mem.ProtWrite
)

// gnu lays c out as GNU ld does with -z max-page-size=2097152. separate: with -z
// separate-code; pad: the text is padded to whole windows, by a linker script.
func (c contents) gnu(base uint64, separate, pad bool) *output {
	o := &output{contents: c, page: mem.HugeSize}
	text := c.text
	if pad {
		text = alignUp(text, o.page)
	}
	if !separate {
		// The parts follow each other without a gap, but for the alignment of
		// sections.
		at, all := uint64(0), c.text
		if !c.merged {
			at = alignUp(c.head, 16)
			all = alignUp(at+c.text, 32) + c.ro
		}
		if pad {
			all = alignUp(all, o.page)
		}
		o.put(base, all, all, protRX)
		o.textAt(base+at, c.text)
	} else {
		o.put(base, c.head, c.head, protR)
		o.textAt(alignUp(o.va, o.page), c.text)
		o.put(alignUp(o.va, o.page), text, text, protRX)
		if c.ro > 0 {
			o.put(alignUp(o.va, o.page), c.ro, c.ro, protR)
		}
	}
	if size := c.relro + c.data; size+c.bss > 0 {
		o.put(o.dataSegment(size), size, size+c.bss, protRW)
	}
	return o
}

// dataSegment returns the address of the data segment: DATA_SEGMENT_ALIGN and
// DATA_SEGMENT_RELRO_END of the default script. size is that of its file bytes.
func (o *output) dataSegment(size uint64) uint64 {
	at := alignUp(o.va, o.page) + o.va%o.page // on the next page, at the same offset in it
	if o.relro > 0 {
		return alignUp(at+o.relro, o.page) - o.relro
	}
	// A page is saved where the data would end on one more page than it has to.
	end := alignUp(at+size+o.bss, 8)
	first, last := -at%mem.PageSize, end%mem.PageSize
	if first != 0 && last != 0 && at/mem.PageSize != end/mem.PageSize && first+last <= mem.PageSize {
		at = alignUp(o.va, o.page) + alignUp(o.va, mem.PageSize)%o.page
	}
	return at
}

// lldOptions are those of ld.lld that change the layout.
type lldOptions struct {
	separate    bool // -z separate-loadable-segments
	noRosegment bool // --no-rosegment
}

// lldLayout lays c out as LLD does with -z max-page-size=2097152. Of a merged
// text it cannot know which part is read-only data.
func (c contents) lldLayout(base uint64, opt lldOptions) *output {
	o := &output{contents: c, page: mem.HugeSize}
	next := func(filesz, memsz uint64, prot mem.Prot) {
		if filesz+memsz == 0 {
			return
		}
		va := base
		defer func() {
			if prot == protRX { // it ends with the text
				o.textAt(o.va-c.text, c.text)
			}
		}()
		if len(o.segs) > 0 {
			off := alignUp(o.off, 16)
			if opt.separate {
				off = alignUp(o.off, o.page)
			}
			o.off = off
			va = alignUp(o.va, o.page) + off%o.page
		}
		o.put(va, filesz, memsz, prot)
	}
	switch ro := c.head + c.ro; {
	case c.merged:
		next(c.text, c.text, protRX)
	case opt.noRosegment:
		next(ro+c.text, ro+c.text, protRX)
	default:
		next(ro, ro, protR)
		next(c.text, c.text, protRX)
	}
	next(c.relro, c.relro, protRW)
	next(c.data, c.data+c.bss, protRW)
	return o
}

// huge returns how many bytes of text and of read-only data the layout makes
// huge: its p_align is 2 MiB, and addresses and offsets are congruent. Where both
// are in one segment, each byte counts as what it is; padding counts as nothing.
func (o *output) huge() (text, ro uint64) {
	for _, s := range o.segs {
		if s.Prot&mem.ProtWrite != 0 {
			continue
		}
		r := wholeWindows(s.FileRange(0).PageAlign())
		t := r.Intersect(o.instrs).Len()
		text += t
		switch {
		case s.Prot&mem.ProtExec == 0:
			ro += min(r.Len(), s.Filesz)
		case s.Index == 0 && !o.merged: // with the read-only data
			ro += min(r.Len()-t, o.head+o.ro)
		}
	}
	return text, ro
}
