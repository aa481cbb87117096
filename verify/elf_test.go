package verify_test

import (
	"bytes"
	"encoding/binary"

	"vmsim/mem"
)

const (
	page = mem.PageSize
	rw   = mem.ProtRead | mem.ProtWrite
	rx   = mem.ProtRead | mem.ProtExec
	ro   = mem.ProtRead
)

// seg is a PT_LOAD of a hand-made file, written as given.
type seg struct {
	vaddr, off, filesz, memsz uint64
	prot                      mem.Prot
}

// elf is a hand-made file.
type elf struct {
	typ   uint16 // 0: ET_EXEC
	entry uint64
	segs  []seg
}

// header returns the ELF header and program headers of e.
func (e elf) header() []byte {
	typ := e.typ
	if typ == 0 {
		typ = 2
	}
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01" + string(make([]byte, 9)))
	put := func(vs ...any) {
		for _, v := range vs {
			binary.Write(&b, binary.LittleEndian, v)
		}
	}
	put(typ, uint16(62), uint32(1), e.entry, uint64(64), uint64(0), uint32(0))
	put(uint16(64), uint16(56), uint16(len(e.segs)), uint16(64), uint16(0), uint16(0))
	for _, s := range e.segs {
		var flags uint32
		for i, p := range []mem.Prot{mem.ProtExec, mem.ProtWrite, mem.ProtRead} {
			if s.prot&p != 0 {
				flags |= 1 << i
			}
		}
		put(uint32(1), flags, s.off, s.vaddr, s.vaddr, s.filesz, s.memsz, uint64(page))
	}
	return b.Bytes()
}

// build returns a file of size bytes that starts with e's headers; byte i of the
// rest is fill(i).
func (e elf) build(size int, fill func(i int) byte) []byte {
	h := e.header()
	data := make([]byte, max(size, len(h)))
	for i := copy(data, h); i < len(data); i++ {
		data[i] = fill(i)
	}
	return data
}

// pattern is never zero and differs between neighbouring pages.
func pattern(i int) byte { return byte(1 + (i*7+i/page*13)%255) }

// file is build, as a mem.File.
func (e elf) file(size int) mem.File {
	return mem.NewBytesFile("hand-made", e.build(size, pattern))
}
