package pagetable

import (
	"fmt"

	"vmsim/mem"
)

// Entry is a page-table entry, with the bits of x86-64
// (arch/x86/include/asm/pgtable_types.h). The zero Entry maps nothing.
type Entry uint64

const (
	bitPresent  Entry = 1 << 0
	bitWrite    Entry = 1 << 1
	bitUser     Entry = 1 << 2
	bitHuge     Entry = 1 << 7  // in a PMD: maps 2 MiB
	bitProtNone Entry = 1 << 8  // holds a frame that no access may reach
	bitSpecial  Entry = 1 << 9  // the frame is not reference counted: the zero page
	bitShared   Entry = 1 << 10 // of a shared mapping: fork leaves it writable
	bitNoExec   Entry = 1 << 63

	pfnShift       = mem.PageShift
	pfnMask  Entry = 0xffffffff << pfnShift

	// table is what an entry above the leaves holds beside the node number.
	// It permits everything: permissions live in the leaves alone.
	table = bitPresent | bitWrite | bitUser
)

// Make returns an entry for frame pfn that grants prot.
func Make(pfn mem.PFN, prot mem.Prot) Entry {
	return Entry(pfn)<<pfnShift&pfnMask | protBits(prot)
}

func protBits(prot mem.Prot) Entry {
	if prot == mem.ProtNone {
		return bitProtNone | bitNoExec
	}
	e := bitPresent | bitUser
	if prot&mem.ProtWrite != 0 {
		e |= bitWrite
	}
	if prot&mem.ProtExec == 0 {
		e |= bitNoExec
	}
	return e
}

// Special returns e marked as naming a frame without a reference count.
func (e Entry) Special() Entry { return e | bitSpecial }

// Shared returns e marked as part of a shared mapping.
func (e Entry) Shared() Entry { return e | bitShared }

// WithProt returns e granting prot.
func (e Entry) WithProt(prot mem.Prot) Entry {
	return e&(pfnMask|bitHuge|bitSpecial|bitShared) | protBits(prot)
}

// PFN is the frame that e names, the first of 512 for a huge entry.
func (e Entry) PFN() mem.PFN { return mem.PFN(e & pfnMask >> pfnShift) }

// Mapped reports whether e holds a frame, reachable or not.
func (e Entry) Mapped() bool { return e&(bitPresent|bitProtNone) != 0 }

// Present reports whether accesses reach the frame.
func (e Entry) Present() bool { return e&bitPresent != 0 }

// IsHuge reports whether e maps 2 MiB.
func (e Entry) IsHuge() bool { return e&bitHuge != 0 }

// IsSpecial reports whether e's frame is not reference counted.
func (e Entry) IsSpecial() bool { return e&bitSpecial != 0 }

// IsShared reports whether e belongs to a shared mapping.
func (e Entry) IsShared() bool { return e&bitShared != 0 }

// Prot is what e grants by itself; a shared node above takes writing away.
func (e Entry) Prot() mem.Prot {
	if !e.Present() {
		return mem.ProtNone
	}
	p := mem.ProtRead
	if e&bitWrite != 0 {
		p |= mem.ProtWrite
	}
	if e&bitNoExec == 0 {
		p |= mem.ProtExec
	}
	return p
}

// writeProtected returns e as a CoW leaves it on both sides.
func (e Entry) writeProtected() Entry {
	if e.IsShared() {
		return e
	}
	return e &^ bitWrite
}

func (e Entry) String() string {
	if !e.Mapped() {
		return "none"
	}
	return fmt.Sprintf("pfn %d %v huge=%v special=%v shared=%v", e.PFN(), e.Prot(), e.IsHuge(), e.IsSpecial(), e.IsShared())
}
