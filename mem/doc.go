// Package mem is the leaf that every other package may import: the number
// spaces of virtual memory, each with its own type, and the narrow interfaces
// through which the layers see each other.
//
//	VirtAddr    a byte of an address space          0x51cbf0
//	PageIndex   a 4 KiB page of a file              0x11b
//	PFN         a 4 KiB frame of physical memory    1042
//	Range       half open, of addresses             [0x400000, 0x600000)
//	Prot        what an area or an entry permits    r-x
//	Access      what a touch wants                  read
//
// A File is what gets mapped. Inspector and AddressSpace are how a verifier
// looks at a machine (or at a live process, a core file, a dump) without
// knowing what it is.
package mem
