package mem

import (
	"errors"
	"iter"
)

// ErrNotPresent is returned by AddressSpace.Read where no entry maps an
// address.
var ErrNotPresent = errors.New("page not present")

// Window is a huge page that was just put together, as an Inspector sees it.
type Window struct {
	PID  int
	Base VirtAddr // of the 2 MiB window, 2 MiB aligned
	File File     // the file that all its file bytes come from
	Bias uint64   // load bias of that file: address = p_vaddr + Bias
	Data []byte   // the 2 MiB; valid during the call only

	// Populated has a bit for each of the 512 sub-pages that has an area and
	// will be mapped; the other sub-pages are zero and stay unmapped.
	Populated [SubPages / 64]uint64

	// Where the sub-pages' bytes came from. The three add up to 512.
	FromCache, FromFile, Zero int
}

// IsPopulated reports whether sub-page i will be mapped.
func (w *Window) IsPopulated(i int) bool { return w.Populated[i/64]>>(i%64)&1 != 0 }

// SetPopulated marks sub-page i as one that will be mapped.
func (w *Window) SetPopulated(i int) { w.Populated[i/64] |= 1 << (i % 64) }

// Inspector looks at every huge page after its assembly and before it is
// mapped or cached. Its error is reported and changes nothing else: the page
// is mapped all the same, so that what follows can be watched.
type Inspector interface {
	Assembled(Window) error
}

// Entry is one present page-table entry.
type Entry struct {
	Addr  VirtAddr
	Size  uint64 // PageSize or HugeSize
	Prot  Prot   // what the entry grants now; less than the area's before a CoW
	Frame PFN    // the first of Size/PageSize consecutive frames; NoFrame if unknown
}

// AddressSpace is memory that can be verified: a process of the machine, a
// live process, a core file, a dump.
type AddressSpace interface {
	// Read fills p with what the process sees at addr. It faults nothing in:
	// where a page is not present it returns ErrNotPresent.
	Read(addr VirtAddr, p []byte) error
	// Entries yields the present entries that overlap r, by ascending address.
	Entries(r Range) iter.Seq[Entry]
	// Bias is the load bias of the main program.
	Bias() uint64
}

// MappedInspector is an Inspector that also wants to see single pages: a
// machine in fortress shows it every file page of a program that it maps. Pages
// that a process wrote are not shown.
type MappedInspector interface {
	Inspector
	// Mapped gets the 4096 bytes that process pid sees at addr, a page of
	// file f loaded with this bias.
	Mapped(pid int, f File, bias uint64, addr VirtAddr, data []byte) error
}
