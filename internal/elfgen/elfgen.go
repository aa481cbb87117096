// Package elfgen writes synthetic ELF-64 files for tests: sane ones in the
// shape that linkers make, and broken ones. It shares no code with what reads
// them.
//
// A file is laid out as
//
//	0          ELF header, 64 bytes
//	0x40       program headers: PT_INTERP if any, the PT_LOADs, PT_GNU_STACK if any
//	after it   the interpreter's path with its NUL
//	elsewhere  the caller's bytes, also where segments cover the headers
package elfgen

import (
	"encoding/binary"

	"vmsim/mem"
)

// Values of Spec.Type.
const (
	Exec = 2 // ET_EXEC
	Dyn  = 3 // ET_DYN
)

const (
	ehdrSize = 64
	phdrSize = 56

	machineX86_64 = 62
	typeLoad      = 1
	typeInterp    = 3
	typeGNUStack  = 0x6474e551

	// Where the fields that Malformed breaks lie: in the ELF header, in a program
	// header, in a section header.
	ehType, ehMachine, ehEntry, ehPhoff, ehShoff = 16, 18, 24, 32, 40
	ehPhentsize, ehPhnum, ehShentsize, ehShnum   = 54, 56, 58, 60
	phType, phFlags, phOffset, phVaddr           = 0, 4, 8, 16
	phFilesz, phMemsz, phAlign                   = 32, 40, 48
	shdrSize, shInfo                             = 64, 44 // of a section header

	// maxNeeded bounds the size of a file whose Spec does not say it.
	maxNeeded = 64 << 20
)

// Spec describes a file. Nothing in it is checked.
type Spec struct {
	Type     uint16 // Exec or Dyn
	Entry    uint64 // e_entry
	Segments []Seg
	Interp   string   // "": no PT_INTERP
	Stack    mem.Prot // flags of PT_GNU_STACK; ProtNone: no PT_GNU_STACK

	// Size of the file in bytes; it cuts off or extends what is needed. 0: as
	// needed by the headers and by all segments that end below 64 MiB.
	Size int64
}

// Seg is one PT_LOAD, its fields written as given, sane or not.
type Seg struct {
	Vaddr, Filesz, Memsz uint64 // p_vaddr, p_filesz, p_memsz, in bytes
	Offset               uint64 // p_offset
	Flags                mem.Prot
	Align                uint64 // p_align; 0 is written as 4096
}

// Build returns the file that s describes. fill provides its bytes by file
// offset, and the headers are written over them; nil stands for Pattern. It is
// called once, for the whole file.
func Build(s Spec, fill func(off int64, p []byte)) []byte {
	head := headers(s)
	size := s.Size
	if size == 0 {
		size = needed(s, len(head))
	}
	if fill == nil {
		fill = Pattern
	}
	file := make([]byte, size)
	fill(0, file)
	copy(file, head)
	return file
}

// needed returns where the last of headers and segments ends.
func needed(s Spec, head int) int64 {
	end := uint64(head)
	for _, g := range s.Segments {
		if g.Offset < maxNeeded && g.Filesz < maxNeeded {
			end = max(end, g.Offset+g.Filesz)
		}
	}
	return int64(end)
}

// headers returns the ELF header, the program headers and the interpreter's
// path.
func headers(s Spec) []byte {
	var table [][phdrSize]byte
	if s.Interp != "" {
		table = append(table, [phdrSize]byte{}) // filled in once the table's size is known
	}
	for _, g := range s.Segments {
		align := g.Align
		if align == 0 {
			align = mem.PageSize
		}
		table = append(table, phdr(typeLoad, g.Flags, g.Offset, g.Vaddr, g.Filesz, g.Memsz, align))
	}
	if s.Stack != mem.ProtNone {
		table = append(table, phdr(typeGNUStack, s.Stack, 0, 0, 0, 0, 16))
	}
	if s.Interp != "" {
		off, n := uint64(ehdrSize+phdrSize*len(table)), uint64(len(s.Interp)+1)
		table[0] = phdr(typeInterp, mem.ProtRead, off, off, n, n, 1)
	}

	le := binary.LittleEndian
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...) // 64 bits, little endian, version 1
	b = le.AppendUint16(b, s.Type)
	b = le.AppendUint16(b, machineX86_64)
	b = le.AppendUint32(b, 1) // e_version
	b = le.AppendUint64(b, s.Entry)
	b = le.AppendUint64(b, ehdrSize) // e_phoff
	b = le.AppendUint64(b, 0)        // e_shoff: no sections
	b = le.AppendUint32(b, 0)        // e_flags
	b = le.AppendUint16(b, ehdrSize)
	b = le.AppendUint16(b, phdrSize)
	b = le.AppendUint16(b, uint16(len(table)))
	b = append(b, make([]byte, 6)...) // e_shentsize, e_shnum, e_shstrndx
	for _, p := range table {
		b = append(b, p[:]...)
	}
	if s.Interp != "" {
		b = append(append(b, s.Interp...), 0)
	}
	return b
}

func phdr(typ uint32, flags mem.Prot, off, vaddr, filesz, memsz, align uint64) (b [phdrSize]byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], typ)
	le.PutUint32(b[4:], pf(flags))
	le.PutUint64(b[8:], off)
	le.PutUint64(b[16:], vaddr)
	le.PutUint64(b[24:], vaddr) // p_paddr
	le.PutUint64(b[32:], filesz)
	le.PutUint64(b[40:], memsz)
	le.PutUint64(b[48:], align)
	return b
}

// pf returns the PF_ bits of p: execute is 1, read is 4, the reverse of mmap's.
func pf(p mem.Prot) uint32 {
	f := uint32(p & mem.ProtWrite)
	if p&mem.ProtRead != 0 {
		f |= 4
	}
	if p&mem.ProtExec != 0 {
		f |= 1
	}
	return f
}

// Pattern fills p with pseudo-random bytes that depend on the offset alone and
// are never 0, so that a byte from a wrong place, or a missing one, shows.
func Pattern(off int64, p []byte) {
	for i := range p {
		p[i] = patternAt(uint64(off) + uint64(i))
	}
}

// patternAt hashes off with the finaliser of MurmurHash3 (Austin Appleby,
// public domain constants) into 1 to 255.
func patternAt(off uint64) byte {
	h := off + 1
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return byte(h>>33%255) + 1
}
