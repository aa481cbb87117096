package loader

import (
	"encoding/binary"

	"vmsim/mem"
)

// The parts of the ELF-64 format that Linux looks at when it runs a file
// (include/uapi/linux/elf.h).
const (
	ehdrSize = 64
	phdrSize = 56

	etExec   = 2
	etDyn    = 3
	emX86_64 = 62

	ptLoad     = 1
	ptInterp   = 3
	ptGNUStack = 0x6474e551

	pfX = 1
	pfW = 2
	pfR = 4

	// Bytes of e_ident that Linux ignores: they explain a refusal, no more.
	eiClass, class32   = 4, 1
	eiData, dataBigEnd = 5, 2
)

// ehdr is the ELF header.
type ehdr struct {
	class, data      byte
	etype, machine   uint16
	entry, phoff     uint64
	phentsize, phnum uint16
}

func decodeEhdr(b *[ehdrSize]byte) ehdr {
	le := binary.LittleEndian
	return ehdr{
		class:     b[eiClass],
		data:      b[eiData],
		etype:     le.Uint16(b[16:]),
		machine:   le.Uint16(b[18:]),
		entry:     le.Uint64(b[24:]),
		phoff:     le.Uint64(b[32:]),
		phentsize: le.Uint16(b[54:]),
		phnum:     le.Uint16(b[56:]),
	}
}

// phdr is one program header.
type phdr struct {
	ptype, flags                        uint32
	offset, vaddr, filesz, memsz, align uint64
}

// decodePhdr decodes the first phdrSize bytes of b.
func decodePhdr(b []byte) phdr {
	le := binary.LittleEndian
	return phdr{
		ptype:  le.Uint32(b),
		flags:  le.Uint32(b[4:]),
		offset: le.Uint64(b[8:]),
		vaddr:  le.Uint64(b[16:]),
		filesz: le.Uint64(b[32:]), // 24 is p_paddr
		memsz:  le.Uint64(b[40:]),
		align:  le.Uint64(b[48:]),
	}
}

// prot returns the permissions of a PT_LOAD; unknown flags are ignored.
// Compare Linux fs/binfmt_elf.c:make_prot.
func (p phdr) prot() mem.Prot {
	var prot mem.Prot
	if p.flags&pfR != 0 {
		prot |= mem.ProtRead
	}
	if p.flags&pfW != 0 {
		prot |= mem.ProtWrite
	}
	if p.flags&pfX != 0 {
		prot |= mem.ProtExec
	}
	return prot
}
