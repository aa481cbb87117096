package live

import (
	"encoding/binary"
	"fmt"
	"io"
	"iter"

	"vmsim/mem"
)

// Page is what pagemap says of a page. Documentation/admin-guide/mm/pagemap.rst.
type Page uint64

const (
	pmPresent = 1 << 63
	pmSwap    = 1 << 62 // in swap, or a special entry: being migrated, a marker
	pmFile    = 1 << 61
	pmGuard   = 1 << 58 // a guard region (since 6.15): a marker, there is no page
)

// Present reports whether the page table has the page: reading it faults
// nothing in.
func (p Page) Present() bool { return p&pmPresent != 0 }

// Private reports whether the page is the process's own (or shared with its
// forks), not of a file or of shared memory. In a private mapping of a file it
// is a copy that a write made.
func (p Page) Private() bool { return p&(pmPresent|pmFile) == pmPresent }

// Swapped reports whether there is a page that is not in memory.
func (p Page) Swapped() bool { return p&(pmPresent|pmSwap|pmFile|pmGuard) == pmSwap }

// Pages looks at the first pages of r, up to 512 of them and in one read. The
// result is valid until the next call.
func (p *Process) Pages(r mem.Range) (pages []Page, err error) {
	r = r.PageAlign()
	n := int(min(r.Len()/mem.PageSize, mem.SubPages))
	got, err := p.pagemap.ReadAt(p.entries[:n*8], int64(r.Start/mem.PageSize*8))
	if got < 8 {
		if err == io.EOF || err == nil {
			return nil, ErrGone // pagemap reaches the end of user space
		}
		return nil, fmt.Errorf("pagemap of %v: %w", r, gone(err))
	}
	pages = p.pages[:0]
	for b := p.entries[:got&^7]; len(b) > 0; b = b[8:] {
		pages = append(pages, Page(binary.NativeEndian.Uint64(b)))
	}
	return pages, nil
}

// Entries yields the present pages that overlap r, with the permission of their
// mapping: what an entry itself grants is not told. It ends early where the
// process does.
func (p *Process) Entries(r mem.Range) iter.Seq[mem.Entry] {
	return func(yield func(mem.Entry) bool) {
		for _, m := range p.maps {
			in := m.Intersect(r)
			if in.Empty() || in.End > mem.UserEnd {
				continue
			}
			for in = in.PageAlign(); !in.Empty(); {
				pages, err := p.Pages(in)
				if err != nil {
					return
				}
				for i, pg := range pages {
					e := mem.Entry{Addr: in.Start + mem.VirtAddr(i)*mem.PageSize, Size: mem.PageSize, Prot: m.Prot, Frame: mem.NoFrame}
					if pg.Present() && !yield(e) {
						return
					}
				}
				in.Start += mem.VirtAddr(len(pages)) * mem.PageSize
			}
		}
	}
}
