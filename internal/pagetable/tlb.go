package pagetable

import "vmsim/mem"

// TLB caches translations of one simulated CPU. Entries carry a 64-bit tag of
// their address space that is never used again, so that a flush is the choice
// of a new tag and no dead entry can match (the x86 PCID wraps at 4096, and
// kernels have had that bug).
type TLB struct {
	entries [tlbSize]tlbEntry
	lastTag uint64
}

const tlbSize = 512 // direct mapped

type tlbEntry struct {
	vpn  uint64
	tag  uint64 // 0: empty
	pfn  mem.PFN
	prot mem.Prot
}

// NewTag returns a tag that no entry carries.
func (t *TLB) NewTag() uint64 {
	t.lastTag++
	return t.lastTag
}

// Lookup returns the frame of addr's page where a cached entry of the address
// space tag permits prot (one bit).
func (t *TLB) Lookup(tag uint64, addr mem.VirtAddr, prot mem.Prot) (mem.PFN, bool) {
	vpn := uint64(addr) >> mem.PageShift
	e := &t.entries[vpn%tlbSize]
	if e.vpn == vpn && e.tag == tag && e.prot&prot != 0 {
		return e.pfn, true
	}
	return mem.NoFrame, false
}

// Permits reports whether a cached entry of the address space tag permits an
// access to addr's page.
func (t *TLB) Permits(tag uint64, addr mem.VirtAddr, a mem.Access) bool {
	vpn := uint64(addr) >> mem.PageShift
	e := &t.entries[vpn%tlbSize]
	return e.vpn == vpn && e.tag == tag && e.prot>>(a&3)&1 != 0 // the bits of Prot are in the order of Access
}

// Fill caches a translation. prot must be what a walk just granted: without
// ProtWrite where a node on the path is shared.
func (t *TLB) Fill(tag uint64, addr mem.VirtAddr, pfn mem.PFN, prot mem.Prot) {
	vpn := uint64(addr) >> mem.PageShift
	t.entries[vpn%tlbSize] = tlbEntry{vpn, tag, pfn, prot}
}

// Entries calls f for every cached translation of tag; for checkers.
func (t *TLB) Entries(tag uint64, f func(addr mem.VirtAddr, pfn mem.PFN, prot mem.Prot)) {
	for _, e := range t.entries {
		if e.tag == tag && tag != 0 {
			f(mem.VirtAddr(e.vpn<<mem.PageShift), e.pfn, e.prot)
		}
	}
}
