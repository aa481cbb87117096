package explain

import (
	"fmt"
	"slices"

	"vmsim/mem"
)

// Risk is a sub-page of an assembled window that a bug of case A fills with
// wrong bytes, if every page was touched before: predicted from the headers.
// Where the bytes in question happen to be equal, nothing shows.
type Risk struct {
	Bug     string
	Base    mem.VirtAddr // of the window
	SubPage int
	Index   uint64 // of the cached page that is used wrongly
	Diff    int    // offset in the sub-page of the first byte from the wrong place
	Why     string
}

// String reads as the events of the verifier begin.
func (r Risk) String() string {
	return fmt.Sprintf("%s: sub_page=%d of the window at %v, from byte %d on: %s", r.Bug, r.SubPage, r.Base, r.Diff, r.Why)
}

// maxSuspects bounds how many pages are looked at; linkers write files with some
// ten.
const maxSuspects = 1 << 14

// The names of the bugs, as internal/bug has them.
const (
	boundaryCopy   = "boundary-copy"
	indexCollision = "index-collision"
)

// symbol is what a byte of a page is: a byte of the file by its offset, or zero.
type symbol int64

const zero symbol = -1

// symbols is a page.
type symbols [mem.PageSize]symbol

// cachedPage is what the page cache holds for an index.
type cachedPage struct {
	page  mem.VirtAddr // that put it there
	valid int
}

// risks predicts the wrong sub-pages of the windows that are assembled.
func (x *explainer) risks(runs []Run) []Risk {
	if x.opt.Threshold == 0 {
		return nil // the first exec assembles, with nothing cached, and keeps what it made
	}
	var out []Risk
	cache := map[uint64]*cachedPage{}
	for _, page := range x.suspects() {
		base := page.HugeDown()
		if !assembled(runs, base) {
			continue
		}
		want := x.content(page)
		for _, bug := range []string{boundaryCopy, indexCollision} {
			got, index, used := x.assemble(page, bug, cache)
			if !used || got == want {
				continue
			}
			d := 0
			for got[d] == want[d] {
				d++
			}
			owner := cache[index].page
			why := fmt.Sprintf("page %d of the file was cached for %v with %d bytes", index, owner, cache[index].valid)
			out = append(out, Risk{bug, base, page.SubPage(), index, d, why})
		}
	}
	return out
}

// assembled reports whether the window at base can be.
func assembled(runs []Run, base mem.VirtAddr) bool {
	for _, r := range runs {
		if r.Range().Contains(base) {
			return r.Verdicts[Kevlar].Answer >= Frames
		}
	}
	return false
}

// suspects returns the pages, ascending, that are not one whole page of one area
// whose index was cached whole: those in which a file part begins or ends, and
// all that use the index of a page which was cached in part. The first
// maxSuspects of them.
func (x *explainer) suspects() []mem.VirtAddr {
	var pages []mem.VirtAddr
	var partial []uint64
	for i := range x.kevlar {
		a := &x.kevlar[i]
		if a.file.Empty() {
			continue
		}
		last := (a.file.End - 1).PageDown()
		pages = append(pages, a.Start.PageDown(), last)
		if r := insertablePages(x.kevlar, i); r.Contains(last) && a.file.End < last+mem.PageSize {
			partial = append(partial, (a.off+uint64(last-a.Start))/mem.PageSize)
		}
	}
	slices.Sort(partial)
	for _, index := range slices.Compact(partial) {
		if len(pages) < maxSuspects {
			pages = append(pages, x.using(index)...)
		}
	}
	slices.Sort(pages)
	pages = slices.Compact(pages)
	return pages[:min(len(pages), maxSuspects)]
}

// using returns the pages that have a byte of page index of the file.
func (x *explainer) using(index uint64) []mem.VirtAddr {
	var pages []mem.VirtAddr
	from, to := index*mem.PageSize, (index+1)*mem.PageSize
	for i := range x.kevlar {
		a := &x.kevlar[i]
		n := a.file.Len()
		if a.file.Empty() || a.off >= to || a.off+n <= from {
			continue
		}
		at := a.Start
		if from > a.off {
			at += mem.VirtAddr(from - a.off)
		}
		pages = append(pages, at.PageDown())
	}
	return pages
}

// content returns what the page ought to hold.
func (x *explainer) content(page mem.VirtAddr) symbols {
	s := blank()
	x.pieces(page, func(a *area, r mem.Range) {
		for at := r.Start; at < r.End; at++ {
			s[at-page] = symbol(a.off + uint64(at-a.Start))
		}
	})
	return s
}

func blank() symbols {
	var s symbols
	for i := range s {
		s[i] = zero
	}
	return s
}

// pieces calls f for each area with file bytes in the page, ascending.
func (x *explainer) pieces(page mem.VirtAddr, f func(a *area, r mem.Range)) {
	areas := overlapping(x.kevlar, mem.PageOf(page))
	for i := range areas {
		if r := areas[i].file.Intersect(mem.PageOf(page)); !r.Empty() {
			f(&areas[i], r)
		}
	}
}

// assemble fills a sub-page as the kernel with the bug does. used: a cached page
// went in; index is that of the last one. Compare hugepage.Kevlar.Fill.
func (x *explainer) assemble(page mem.VirtAddr, bug string, cache map[uint64]*cachedPage) (s symbols, index uint64, used bool) {
	s = blank()
	x.pieces(page, func(a *area, r mem.Range) {
		i := (a.off + uint64(r.Start-a.Start)) / mem.PageSize
		from, to := int(r.Start-page), int(r.End-page)
		c := x.cached(i, cache)
		if c == nil {
			for at := r.Start; at < r.End; at++ {
				s[at-page] = symbol(a.off + uint64(at-a.Start))
			}
			return
		}
		index, used = i, true
		frame := x.content(c.page)
		if bug == boundaryCopy {
			s = frame
		} else {
			copy(s[from:to], frame[from:to])
		}
	})
	return s, index, used
}

// cached returns what touching every page in ascending order puts into the cache
// under index: the lowest page that inserts it; nil if none does.
func (x *explainer) cached(index uint64, cache map[uint64]*cachedPage) *cachedPage {
	if c, ok := cache[index]; ok {
		return c
	}
	var best *cachedPage
	for i := range x.kevlar {
		a := &x.kevlar[i]
		r := insertablePages(x.kevlar, i)
		if r.Empty() {
			continue
		}
		first := (a.off + uint64(r.Start-a.Start)) / mem.PageSize
		if index < first || index-first >= r.Len()/mem.PageSize {
			continue
		}
		page := r.Start + mem.VirtAddr((index-first)*mem.PageSize)
		if best == nil || page < best.page {
			best = &cachedPage{page, int(min(mem.PageSize, uint64(a.file.End-page)))}
		}
	}
	cache[index] = best
	return best
}
