package mem

import (
	"fmt"
	"math/bits"
)

// Page sizes of x86-64, in bytes, and their base-two logarithms.
const (
	PageShift = 12
	PageSize  = 1 << PageShift // 4 KiB, what one PTE maps
	HugeShift = 21
	HugeSize  = 1 << HugeShift      // 2 MiB, what one PMD entry maps
	SubPages  = HugeSize / PageSize // 512 pages of 4 KiB in a huge page
)

// UserEnd is the first address beyond user space: TASK_SIZE_MAX of x86-64 with
// four-level page tables (arch/x86/include/asm/page_64_types.h).
const UserEnd VirtAddr = 1<<47 - PageSize

// VirtAddr is a virtual address, in bytes.
type VirtAddr uint64

// PageDown returns the start of the 4 KiB page that holds a.
func (a VirtAddr) PageDown() VirtAddr { return a &^ (PageSize - 1) }

// PageUp returns a rounded up to a page boundary. It is false where the result
// would not fit 64 bits.
func (a VirtAddr) PageUp() (VirtAddr, bool) {
	up, ok := a.Add(PageSize - 1)
	return up.PageDown(), ok
}

// PageOffset returns the offset of a in its 4 KiB page, 0 to 4095.
func (a VirtAddr) PageOffset() int { return int(a & (PageSize - 1)) }

// HugeDown returns the start of the 2 MiB window that holds a.
func (a VirtAddr) HugeDown() VirtAddr { return a &^ (HugeSize - 1) }

// SubPage returns the number of a's page in its 2 MiB window, 0 to 511.
func (a VirtAddr) SubPage() int { return int(a>>PageShift) & (SubPages - 1) }

// Add returns a+n. It is false where the sum does not fit 64 bits.
func (a VirtAddr) Add(n uint64) (VirtAddr, bool) {
	sum, carry := bits.Add64(uint64(a), n, 0)
	return VirtAddr(sum), carry == 0
}

// String formats a as C prints a pointer: 0x51cbf0.
func (a VirtAddr) String() string { return fmt.Sprintf("0x%x", uint64(a)) }

// PageIndex is the number of a 4 KiB page in a file (Linux: pgoff_t).
type PageIndex uint64

// PFN is the number of a 4 KiB frame of physical memory. NoFrame is none.
type PFN uint32

// NoFrame is never handed out, so that the zero value of an index means
// "nothing here".
const NoFrame PFN = 0

// Range is the half-open range of addresses [Start, End).
type Range struct {
	Start, End VirtAddr
}

// PageOf returns the 4 KiB page that holds a, as a range.
func PageOf(a VirtAddr) Range {
	return Range{a.PageDown(), a.PageDown() + PageSize}
}

// WindowOf returns the 2 MiB window that holds a, as a range.
func WindowOf(a VirtAddr) Range {
	return Range{a.HugeDown(), a.HugeDown() + HugeSize}
}

// Len returns the length of r in bytes.
func (r Range) Len() uint64 { return uint64(r.End - r.Start) }

// Empty reports whether r holds no address.
func (r Range) Empty() bool { return r.End <= r.Start }

// Contains reports whether a lies in r.
func (r Range) Contains(a VirtAddr) bool { return r.Start <= a && a < r.End }

// Covers reports whether all of o lies in r.
func (r Range) Covers(o Range) bool { return r.Start <= o.Start && o.End <= r.End }

// Overlaps reports whether r and o share an address.
func (r Range) Overlaps(o Range) bool {
	return max(r.Start, o.Start) < min(r.End, o.End)
}

// Intersect returns the addresses that r and o share; it is empty where they
// share none.
func (r Range) Intersect(o Range) Range {
	i := Range{max(r.Start, o.Start), min(r.End, o.End)}
	if i.Empty() {
		return Range{i.Start, i.Start}
	}
	return i
}

// PageAlign returns the whole pages that r touches. r.End must not lie in the
// last page of the 64-bit space.
func (r Range) PageAlign() Range {
	return Range{r.Start.PageDown(), (r.End + PageSize - 1).PageDown()}
}

// String formats r as [0x1000, 0x2000).
func (r Range) String() string { return fmt.Sprintf("[%v, %v)", r.Start, r.End) }
