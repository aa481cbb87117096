package vma

import "vmsim/mem"

// Piece is a run of file bytes that a page is made of.
type Piece struct {
	FileNo uint32
	File   mem.File
	Offset int64 // in the file, of the first byte
	At     int   // offset in the page, of the first byte
	Len    int   // bytes; At+Len <= 4096
	Prot   mem.Prot
}

// Index is the page of the file that holds the piece's first byte: the page
// cache's index.
func (p *Piece) Index() mem.PageIndex { return mem.PageIndex(p.Offset / mem.PageSize) }

// Whole reports whether the piece is a whole page of the file in its place:
// only such a page may be taken from the page cache.
func (p *Piece) Whole() bool { return p.At == 0 && p.Len == mem.PageSize && p.Offset%mem.PageSize == 0 }

// PageView is what one 4 KiB page sees of the areas of a set: the single place
// that turns byte-precise areas into the permission and the content of a page.
// Fault, prefault and assembly all look at pages through it.
//
// Slices are reused from view to view.
type PageView struct {
	Addr  mem.VirtAddr // of the page
	First VMA          // the first area; of the file areas where there are any
	Areas int          // file areas that share the page; fillers do not count

	// Prot is what the page permits: the union of its file areas'
	// permissions, or of its other areas' where it has no file area.
	Prot mem.Prot
	// Pieces are the file bytes, by ascending address; all other bytes are
	// zero.
	Pieces []Piece
	// Overlap: bytes of the page lie in several segments.
	Overlap bool

	alone   bool   // the page lies in First wholly
	version uint64 // of the set that w is a view of; 0 is none
}

// View fills w with what the page at addr sees. It is false where no area
// holds the page. A w that is used again for a page of the same area is only
// moved.
func (s *Set) View(addr mem.VirtAddr, w *PageView) bool {
	page := mem.PageOf(addr)
	if w.version == s.version && w.move(page) {
		return true
	}
	*w = PageView{Addr: page.Start, Pieces: w.Pieces[:0], version: s.version}
	if s.find(page.Start) && s.last.End >= page.End {
		w.add(&s.last, page)
		return true
	}
	for v := range s.Overlapping(page) {
		w.add(&v, page)
	}
	return w.First.End != 0
}

// ViewFrom is View for a caller that walks the areas itself: vs are those that
// overlap the page, by ascending address.
func ViewFrom(vs []VMA, addr mem.VirtAddr, w *PageView) bool {
	page := mem.PageOf(addr)
	*w = PageView{Addr: page.Start, Pieces: w.Pieces[:0]}
	for i := range vs {
		if vs[i].Start >= page.End {
			break
		}
		if vs[i].Overlaps(page) {
			w.add(&vs[i], page)
		}
	}
	return w.First.End != 0
}

// Next moves w to the following page where that is as easy as counting: both
// lie wholly in the file part of one area, or in one area without a file. It is
// false, and w unchanged, where they do not.
func (w *PageView) Next() bool { return w.move(mem.PageOf(w.Addr + mem.PageSize)) }

// move is Next for any page.
func (w *PageView) move(to mem.Range) bool {
	if !w.alone || !w.First.Contains(to.Start) || to.End > w.First.End {
		return false
	}
	if _, whole := w.FromCache(); whole && to.End <= w.First.FileEnd {
		w.Pieces[0].Offset = w.First.OffsetOf(to.Start)
	} else if w.First.Kind == File {
		return false
	}
	w.Addr = to.Start
	return true
}

// Alike returns pages, w's among them, that permit what w's does: those that lie
// wholly in its one area, or w's alone where it has several.
func (w *PageView) Alike() mem.Range {
	if !w.alone {
		return mem.PageOf(w.Addr)
	}
	start, _ := w.First.Start.PageUp()
	return mem.Range{Start: start, End: w.First.End.PageDown()}
}

func (w *PageView) add(v *VMA, page mem.Range) {
	w.alone = v.Covers(page)
	if v.Kind != File {
		if w.Areas == 0 {
			if w.First.End == 0 {
				w.First = *v
			}
			w.Prot |= v.Prot
		}
		return
	}
	if w.Areas == 0 {
		w.First, w.Prot = *v, 0
	}
	w.Areas++
	w.Prot |= v.Prot
	w.Overlap = w.Overlap || v.Overlap
	if f := v.FileRange().Intersect(page); !f.Empty() {
		// In place: a literal is built on the stack and copied, and the copy
		// waits for the stores, for a quarter of a fault.
		w.Pieces = append(w.Pieces, Piece{})
		p := &w.Pieces[len(w.Pieces)-1]
		p.FileNo, p.File, p.Offset = v.FileNo, v.File, v.OffsetOf(f.Start)
		p.At, p.Len = f.Start.PageOffset(), int(f.Len())
		p.Prot = v.Prot
	}
}

// FirstByte returns the piece that holds the page's first byte, if one does.
func (w *PageView) FirstByte() (*Piece, bool) {
	if len(w.Pieces) > 0 && w.Pieces[0].At == 0 {
		return &w.Pieces[0], true
	}
	return nil, false
}

// FromCache returns the piece that may be taken from the page cache: the page
// is one whole page of one file area (the repair of case A).
func (w *PageView) FromCache() (*Piece, bool) {
	if w.Areas == 1 && !w.Overlap && len(w.Pieces) == 1 && w.Pieces[0].Whole() {
		return &w.Pieces[0], true
	}
	return nil, false
}

// ToCache returns the piece under which a fault inserts the page into the page
// cache: of a read-only file area that holds the page's first byte and shares
// the page with no other file area. The page may be partly valid.
func (w *PageView) ToCache() (*Piece, bool) {
	if w.Areas != 1 || w.Overlap || w.Prot&mem.ProtWrite != 0 {
		return nil, false
	}
	return w.FirstByte()
}

// FileBytes returns how many bytes of the page come from a file.
func (w *PageView) FileBytes() int {
	n := 0
	for i := range w.Pieces {
		n += w.Pieces[i].Len
	}
	return n
}
