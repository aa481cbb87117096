// Package elfhead reads what the front of an ELF file says of it, of either
// class and byte order and for any machine: the program headers, and through
// them the notes and the flags of the dynamic section. Section headers are
// never looked at. A core file is one of these; so is a library of another
// machine that a process maps.
//
// Package loader is stricter, as the kernel's exec is: it takes what x86-64 can
// run. Package verify has its own reader, so that it shares nothing.
package elfhead

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"vmsim/mem"
)

// ErrNotELF is returned for a file without ELF magic.
var ErrNotELF = errors.New("not an ELF file")

// Values of Head.Type and Prog.Type (the System V ABI).
const (
	TypeExec = 2 // ET_EXEC
	TypeDyn  = 3 // ET_DYN
	TypeCore = 4 // ET_CORE

	Load    = 1 // PT_LOAD
	Dynamic = 2 // PT_DYNAMIC
	Note    = 4 // PT_NOTE
)

// MaxProgs is the most program headers that are read: a core has one for each
// mapping, and the kernel's own limit of mappings (vm.max_map_count) is 65,530
// unless raised.
const MaxProgs = 1 << 20

// pnXnum in e_phnum says that sh_info of section header 0 has the number
// (PN_XNUM; Linux fs/binfmt_elf.c:fill_extnum_info).
const pnXnum = 0xffff

// Head is the ELF header with its program headers.
type Head struct {
	Class  int // 32 or 64: the size of an address, in bits
	Order  binary.ByteOrder
	Type   uint16 // e_type
	Entry  uint64 // e_entry, unbiased
	Progs  []Prog // in header order, of all types
	TextIn bool   // the dynamic section asks for relocations in segments that are not writable
}

// Prog is one program header; its fields are as written, sane or not, except
// that Off + Filesz does not exceed 2^63-1.
type Prog struct {
	Type                      uint32
	Prot                      mem.Prot
	Off, Vaddr, Filesz, Memsz uint64 // in bytes
	Align                     uint64
}

// Read reads the head of a file of size bytes.
//
// It returns ErrNotELF where there is no magic, an error that names the field
// where the header or the table is no good or cut off, or the wrapped read
// error. It allocates in proportion to the table that the file holds.
func Read(r io.ReaderAt, size int64) (*Head, error) {
	var eh [64]byte
	n, err := readAt(r, eh[:])
	if err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	if n < 16 || string(eh[:4]) != "\x7fELF" {
		return nil, ErrNotELF
	}
	h := &Head{Class: 64, Order: binary.LittleEndian}
	l := layout64
	if eh[4] == 1 { // ELFCLASS32
		h.Class, l = 32, layout32
	}
	if eh[5] == 2 { // ELFDATA2MSB
		h.Order = binary.BigEndian
	}
	if n < l.ehsize {
		return nil, fmt.Errorf("ELF header is cut off after %d bytes", n)
	}
	h.Type = h.Order.Uint16(eh[16:])
	h.Entry = h.word(eh[24:])
	phoff := h.word(eh[l.phoff:])
	if s := int(h.Order.Uint16(eh[l.phentsize:])); s != l.phsize {
		return nil, fmt.Errorf("e_phentsize %d is not %d", s, l.phsize)
	}
	num := uint64(h.Order.Uint16(eh[l.phnum:]))
	if num == pnXnum {
		var sh [64]byte
		at := h.word(eh[l.shoff:])
		if at == 0 || at > math.MaxInt64-64 {
			return nil, errors.New("e_phnum is PN_XNUM, and there is no section header 0")
		}
		if n, err := readAt(io.NewSectionReader(r, int64(at), 64), sh[:]); err != nil || n < l.shinfo+4 {
			return nil, fmt.Errorf("e_phnum is PN_XNUM, and section header 0 at 0x%x cannot be read", at)
		}
		num = uint64(h.Order.Uint32(sh[l.shinfo:]))
	}
	if num > MaxProgs {
		return nil, fmt.Errorf("%d program headers are more than %d", num, MaxProgs)
	}
	bytes := num * uint64(l.phsize)
	if size < 0 || phoff > uint64(size) || bytes > uint64(size)-phoff {
		return nil, fmt.Errorf("%d program headers at 0x%x: cut off by the end of the file", num, phoff)
	}
	table := make([]byte, bytes)
	if n, err := readAt(io.NewSectionReader(r, int64(phoff), int64(bytes)), table); err != nil || n < len(table) {
		return nil, fmt.Errorf("read %d program headers at 0x%x: %w", num, phoff, orEOF(err))
	}
	h.Progs = make([]Prog, 0, num)
	for ; len(table) > 0; table = table[l.phsize:] {
		p := h.prog(table)
		if p.Off > math.MaxInt64 || p.Filesz > math.MaxInt64-p.Off {
			return nil, fmt.Errorf("program header %d: offset 0x%x and size 0x%x are beyond any file", len(h.Progs), p.Off, p.Filesz)
		}
		h.Progs = append(h.Progs, p)
	}
	h.TextIn = h.textIn(r)
	return h, nil
}

// layout is where fields of the two classes lie, in bytes.
type layout struct {
	ehsize, phoff, shoff, phentsize, phnum int
	phsize, shinfo                         int
}

var (
	layout64 = layout{ehsize: 64, phoff: 32, shoff: 40, phentsize: 54, phnum: 56, phsize: 56, shinfo: 44}
	layout32 = layout{ehsize: 52, phoff: 28, shoff: 32, phentsize: 42, phnum: 44, phsize: 32, shinfo: 28}
)

// word reads an address or offset of the file's class.
func (h *Head) word(b []byte) uint64 {
	if h.Class == 32 {
		return uint64(h.Order.Uint32(b))
	}
	return h.Order.Uint64(b)
}

// WordSize returns the size of an address in the file, in bytes.
func (h *Head) WordSize() int { return h.Class / 8 }

func (h *Head) prog(b []byte) Prog {
	u32, flags := h.Order.Uint32, uint32(0)
	p := Prog{Type: u32(b)}
	if h.Class == 32 {
		p.Off, p.Vaddr, p.Filesz, p.Memsz = uint64(u32(b[4:])), uint64(u32(b[8:])), uint64(u32(b[16:])), uint64(u32(b[20:]))
		flags, p.Align = u32(b[24:]), uint64(u32(b[28:]))
	} else {
		flags = u32(b[4:])
		p.Off, p.Vaddr = h.Order.Uint64(b[8:]), h.Order.Uint64(b[16:])
		p.Filesz, p.Memsz, p.Align = h.Order.Uint64(b[32:]), h.Order.Uint64(b[40:]), h.Order.Uint64(b[48:])
	}
	for i, prot := range []mem.Prot{mem.ProtExec, mem.ProtWrite, mem.ProtRead} {
		if flags>>i&1 != 0 {
			p.Prot |= prot
		}
	}
	return p
}

// textIn looks for DT_TEXTREL, or DF_TEXTREL in DT_FLAGS. What cannot be read
// asks for nothing.
func (h *Head) textIn(r io.ReaderAt) bool {
	const dtNull, dtTextrel, dtFlags, dfTextrel = 0, 22, 30, 4
	for _, p := range h.Progs {
		if p.Type != Dynamic {
			continue
		}
		table := make([]byte, min(p.Filesz, 64<<10))
		n, _ := readAt(io.NewSectionReader(r, int64(p.Off), int64(len(table))), table)
		w := h.WordSize()
		for b := table[:n]; len(b) >= 2*w; b = b[2*w:] {
			switch tag, val := h.word(b), h.word(b[w:]); {
			case tag == dtNull:
				return false
			case tag == dtTextrel, tag == dtFlags && val&dfTextrel != 0:
				return true
			}
		}
	}
	return false
}

// readAt fills b from the start of r as far as r goes. The end is no error.
func readAt(r io.ReaderAt, b []byte) (int, error) {
	n, err := r.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// orEOF names the cause of a short read.
func orEOF(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}
