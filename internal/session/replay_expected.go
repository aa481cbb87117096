package session

import (
	"fmt"

	"vmsim/mem"
	"vmsim/verify"
)

// expectedPages keeps what pages of programs and files ought to hold. A recording
// touches them in no order, in one process after the other: each is read once, and
// nothing around it.
type expectedPages struct {
	blocks map[expectedKey]*expectedBlock
	pages  int // in all blocks
	key    expectedKey
	block  *expectedBlock // of key; nil: none
}

// expectedKey names so many pages side by side: of a truth, or of a file.
type expectedKey struct {
	truth  *verify.Truth // nil: of a file
	id     mem.FileID
	gen    uint64
	number uint64
}

// expectedBlock is 256 KiB; what is nil was not read yet.
type expectedBlock [64]*[mem.PageSize]byte

// maxExpected bounds the pages that are kept: 64 MiB. Where they are too many all
// are forgotten.
const maxExpected = 16 << 10

// slot returns the place of the page with this number, of what key names but for
// its number.
func (e *expectedPages) slot(key expectedKey, page uint64) **[mem.PageSize]byte {
	const n = uint64(len(expectedBlock{}))
	key.number = page / n
	if e.block == nil || e.key != key {
		b := e.blocks[key]
		if b == nil {
			if e.blocks == nil {
				e.blocks = map[expectedKey]*expectedBlock{}
			}
			b = &expectedBlock{}
			e.blocks[key] = b
		}
		e.key, e.block = key, b
	}
	return &e.block[page%n]
}

// page returns the page of a slot, which read fills if need be. It must not be
// written.
func (e *expectedPages) page(slot **[mem.PageSize]byte, read func(dst []byte) error) ([]byte, error) {
	if *slot != nil {
		return (*slot)[:], nil
	}
	p := new([mem.PageSize]byte)
	if err := read(p[:]); err != nil {
		return nil, err
	}
	if e.pages++; e.pages > maxExpected {
		*e = expectedPages{}
	} else {
		*slot = p
	}
	return p[:], nil
}

// ofTruth returns what addr's page ought to hold by t.
func (e *expectedPages) ofTruth(t *verify.Truth, addr mem.VirtAddr) ([]byte, error) {
	slot := e.slot(expectedKey{truth: t}, uint64(addr)/mem.PageSize)
	want, err := e.page(slot, func(dst []byte) error { return t.PageAlone(addr, dst) })
	if err != nil {
		return nil, fmt.Errorf("verify page %v: %w", addr.PageDown(), err)
	}
	return want, nil
}

// ofFile returns the 4096 bytes of f from at on, a multiple of that; zeros beyond
// its end.
func (e *expectedPages) ofFile(f mem.File, at uint64) ([]byte, error) {
	slot := e.slot(expectedKey{id: f.Identity(), gen: f.Generation()}, at/mem.PageSize)
	return e.page(slot, func(dst []byte) error {
		page, err := verify.FilePage(f, int64(at))
		copy(dst, page[:])
		return err
	})
}
