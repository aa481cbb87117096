package hugepage

import (
	"vmsim/internal/bug"
	"vmsim/internal/phys"
	"vmsim/mem"
	"vmsim/pagecache"
	"vmsim/vma"
)

// Fill takes each piece of the page from the page cache where that is allowed,
// and reads it from the file otherwise.
//
// Allowed is a whole page alone: the area covers all of it (offset in the page
// 0, 4096 bytes to copy) and all of the cached frame is valid. Both bugs of
// case A forget that.
func (k Kevlar) Fill(p *SubPage) error {
	for i := range p.Pieces {
		piece := &p.Pieces[i]
		cached, hit := p.Lookup(piece)
		switch {
		case hit && k.bugs.Has(bug.BoundaryCopy):
			// Bug 1: the frame is copied over the whole page, also over the
			// bytes that belong to another area: 0x65 of .rodata where the
			// gap in front of .data must be zero.
			p.Copy(cached, 0, mem.PageSize)
		case hit && k.bugs.Has(bug.IndexCollision):
			// Bug 2: the right part is copied, but from a frame that may hold
			// another area's part of the same file page: zeros where .data
			// starts.
			p.Copy(cached, piece.At, piece.Len)
		case hit && piece.Whole() && cached.Valid == mem.PageSize:
			// The repair of both.
			p.Copy(cached, 0, mem.PageSize)
		default:
			if err := p.Read(piece); err != nil {
				return err
			}
		}
	}
	return nil
}

// Cached is a frame of the page cache.
type Cached struct {
	Data  []byte // 4096
	Valid int    // of which so many are the file's; the rest is zero
}

// SubPage is one of the 512 pages of a window during assembly.
type SubPage struct {
	*vma.PageView // its areas, permission and file pieces

	asm       *Assembler
	dst       []byte // 4096, of the window
	started   bool   // some bytes were written, or will be by a pending read
	fromFile  bool
	fromCache bool
}

// Lookup returns the cached frame with the index of the piece's first byte:
// the page of the file that holds it, whichever area put it there.
func (p *SubPage) Lookup(piece *vma.Piece) (Cached, bool) {
	pfn, valid, ok := p.asm.cache.Lookup(piece.FileNo, piece.Index())
	if !ok {
		return Cached{}, false
	}
	return Cached{p.asm.phys.Page(pfn), valid}, true
}

// Copy writes n bytes of a cached frame at the same offset at of the sub-page.
func (p *SubPage) Copy(c Cached, at, n int) {
	if p.fromFile { // a read of this page may be pending: keep the order
		p.asm.failed(p.asm.flush())
	}
	p.prepare(n)
	copy(p.dst[at:at+n], c.Data[at:at+n])
	p.fromCache = true
}

// Read fills the piece from its file. The read may be put off until the end of
// the assembly, to be made together with its neighbours'.
func (p *SubPage) Read(piece *vma.Piece) error {
	p.prepare(piece.Len)
	p.fromFile = true
	return p.asm.read(piece.File, piece.Offset, p.dst[piece.At:piece.At+piece.Len])
}

// prepare clears the sub-page before its first write, unless that write fills
// it: frames come with what they held before.
func (p *SubPage) prepare(n int) {
	if !p.started && n < mem.PageSize {
		clear(p.dst)
	}
	p.started = true
}

// Assembler puts windows together, one at a time.
type Assembler struct {
	phys   *phys.Memory
	cache  *pagecache.Cache
	policy Policy

	// A pending read: bytes of file from offset, to be read into buf, which
	// lies in the window. Adjacent reads grow it.
	file   mem.File
	offset int64
	buf    []byte
	err    error // of a flush that had no caller to tell
}

// NewAssembler returns an Assembler that follows policy.
func NewAssembler(m *phys.Memory, c *pagecache.Cache, policy Policy) *Assembler {
	return &Assembler{phys: m, cache: c, policy: policy}
}

// Candidate scans a window for the policy. areas are those that overlap it, by
// ascending address. It is false where the window holds no file byte, or bytes
// of several files.
func (a *Assembler) Candidate(base mem.VirtAddr, bias uint64, areas []vma.VMA) (Candidate, bool) {
	c := Candidate{Base: base, Bias: bias}
	window := mem.WindowOf(base)
	for i := range areas {
		v := &areas[i]
		c.Mapped += int(v.Intersect(window).PageAlign().Len() / mem.PageSize)
		if i > 0 && max(v.Start, base).PageOffset() != 0 {
			c.Mapped-- // counted with the area before
		}
		f := v.FileRange().Intersect(window)
		if v.Kind != vma.File || f.Empty() {
			continue
		}
		if c.File != nil && c.File != v.File {
			return c, false
		}
		c.File = v.File
		first, _ := f.Start.PageUp()
		for at := first; at < f.End; at += mem.PageSize {
			if a.cache.Contains(v.FileNo, mem.PageIndex(v.OffsetOf(at)/mem.PageSize)) {
				c.Cached++
			}
		}
	}
	return c, c.File != nil
}

// Wanted asks the policy.
func (a *Assembler) Wanted(c Candidate) bool { return a.policy.Assemble(c) }

// Assemble fills the 512 frames from first on with the content of the
// candidate's window. areas are those that overlap it, by ascending address.
func (a *Assembler) Assemble(c Candidate, areas []vma.VMA, first mem.PFN) (*Page, mem.Window, error) {
	a.file, a.buf, a.err = nil, nil, nil
	data := a.phys.Block(first)
	win := mem.Window{Base: c.Base, File: c.File, Bias: c.Bias, Data: data}
	page := &Page{First: first}
	var view vma.PageView
	sub := SubPage{PageView: &view, asm: a} // one for all: it escapes to the policy
	for i := range mem.SubPages {
		at := c.Base + mem.VirtAddr(i*mem.PageSize)
		dst := data[i*mem.PageSize : (i+1)*mem.PageSize]
		if i == 0 || !view.Next() {
			for len(areas) > 0 && areas[0].End <= at {
				areas = areas[1:]
			}
			if !vma.ViewFrom(areas, at, &view) {
				clear(dst)
				win.Zero++
				continue
			}
		}
		win.SetPopulated(i)
		page.Populated++
		page.prot[i], page.present[i] = view.Prot, true
		sub.dst, sub.started, sub.fromFile, sub.fromCache = dst, false, false, false
		if len(view.Pieces) > 0 {
			if err := a.policy.Fill(&sub); err != nil {
				return nil, win, err
			}
		}
		switch {
		case !sub.started:
			clear(dst)
			win.Zero++
		case sub.fromFile:
			win.FromFile++
		default:
			win.FromCache++
		}
	}
	a.failed(a.flush())
	return page, win, a.err
}

// read makes dst the bytes of f from off on, now or with the next flush.
func (a *Assembler) read(f mem.File, off int64, dst []byte) error {
	n := len(a.buf)
	if len(dst) == 0 {
		return nil
	}
	if a.file == f && a.offset+int64(n) == off && cap(a.buf)-n >= len(dst) && &a.buf[:n+1][n] == &dst[0] {
		a.buf = a.buf[:n+len(dst)]
		return nil
	}
	err := a.flush()
	a.file, a.offset, a.buf = f, off, dst
	return err
}

// flush makes the pending read.
func (a *Assembler) flush() error {
	if a.file == nil {
		return nil
	}
	err := mem.ReadPadded(a.file, a.buf, a.offset)
	a.file, a.buf = nil, nil
	return err
}

func (a *Assembler) failed(err error) {
	if a.err == nil {
		a.err = err
	}
}
