package ldso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"vmsim/mem"
)

// Dynamic is what the dynamic section of a file says about libraries. Paths are
// as written, with $ORIGIN and the like in them.
type Dynamic struct {
	Interp  string // PT_INTERP; "" if none
	Soname  string
	Needed  []string
	Rpath   string // "" also where there is a DT_RUNPATH, which hides it
	Runpath string
	NoDef   bool // DF_1_NODEFLIB: not the default directories
}

// Errors of ReadDynamic.
var (
	// ErrNotLibrary: not an ELF64 program or library for x86-64.
	ErrNotLibrary = errors.New("not an ELF64 x86-64 program or library")
	// ErrMalformed: its dynamic section is broken.
	ErrMalformed = errors.New("malformed dynamic section")
)

const (
	ehdrSize, phdrSize, dynSize = 64, 56, 16

	class64, littleEndian = 2, 1
	etExec, etDyn         = 2, 3
	emX86_64              = 62

	ptLoad, ptDynamic, ptInterp = 1, 2, 3

	dtNull, dtNeeded, dtStrtab, dtStrsz = 0, 1, 5, 10
	dtSoname, dtRpath, dtRunpath        = 14, 15, 29
	dtFlags1                            = 0x6ffffffb
	df1NoDefLib                         = 0x800

	maxTable   = 64 << 10 // bytes of program headers, as Linux has it
	maxDynamic = 1 << 20  // bytes of dynamic section; real ones have some 500
	maxNeeded  = 4096     // libraries that one object may need
	maxString  = 4096     // bytes of a name or path, PATH_MAX
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

// segment is a PT_LOAD: where addresses are in the file.
type segment struct{ vaddr, off, filesz uint64 }

// dynReader reads one file.
type dynReader struct {
	f      io.ReaderAt
	loads  []segment
	strtab uint64 // offset in the file
	strsz  uint64
}

// ReadDynamic reads the program headers and the dynamic section of f, and no
// section headers. A file without a dynamic section needs nothing.
//
// It returns ErrNotLibrary, ErrMalformed with the reason, or a wrapped read
// error.
func ReadDynamic(f io.ReaderAt) (*Dynamic, error) {
	var eh [ehdrSize]byte
	if n, err := f.ReadAt(eh[:], 0); err != nil && err != io.EOF {
		return nil, fmt.Errorf("read ELF header: %w", err)
	} else if n < ehdrSize || !isLibrary(eh[:]) {
		return nil, ErrNotLibrary
	}
	le := binary.LittleEndian
	phoff, size := le.Uint64(eh[32:]), int(le.Uint16(eh[56:]))*phdrSize
	if le.Uint16(eh[54:]) != phdrSize || size > maxTable || phoff > 1<<62 {
		return nil, malformed("program headers: %d bytes at offset 0x%x", size, phoff)
	}
	table := make([]byte, size)
	if err := mem.ReadPadded(f, table, int64(phoff)); err != nil {
		return nil, fmt.Errorf("read program headers: %w", err)
	}
	r := &dynReader{f: f}
	d := &Dynamic{}
	var dynOff, dynLen uint64
	for ; len(table) > 0; table = table[phdrSize:] {
		off, vaddr, filesz := le.Uint64(table[8:]), le.Uint64(table[16:]), le.Uint64(table[32:])
		switch le.Uint32(table) {
		case ptLoad:
			r.loads = append(r.loads, segment{vaddr, off, filesz})
		case ptDynamic:
			dynOff, dynLen = off, filesz
		case ptInterp:
			s, err := r.str(off, filesz)
			if err != nil {
				return nil, malformed("interpreter path: %w", err)
			}
			d.Interp = s
		}
	}
	if dynLen == 0 {
		return d, nil
	}
	return d, r.dynamic(d, dynOff, dynLen)
}

// isLibrary looks at an ELF header as ld.so does (elf/dl-load.c:open_verify).
func isLibrary(eh []byte) bool {
	le := binary.LittleEndian
	typ := le.Uint16(eh[16:])
	return bytes.HasPrefix(eh, []byte("\x7fELF")) && eh[4] == class64 && eh[5] == littleEndian &&
		(typ == etDyn || typ == etExec) && le.Uint16(eh[18:]) == emX86_64
}

// dynamic reads the section at off.
func (r *dynReader) dynamic(d *Dynamic, off, size uint64) error {
	if off > 1<<62 {
		return malformed("offset 0x%x", off)
	}
	section := make([]byte, min(size, maxDynamic)/dynSize*dynSize)
	if err := mem.ReadPadded(r.f, section, int64(off)); err != nil {
		return fmt.Errorf("read dynamic section: %w", err)
	}
	le := binary.LittleEndian
	type entry struct{ tag, val uint64 }
	var strings []entry
	haveTable := false
	for ; len(section) > 0; section = section[dynSize:] {
		e := entry{le.Uint64(section), le.Uint64(section[8:])}
		switch e.tag {
		case dtNull:
			section = section[:dynSize]
		case dtStrtab:
			at, ok := r.offset(e.val)
			if !ok {
				return malformed("string table at 0x%x is in no segment", e.val)
			}
			r.strtab, haveTable = at, true
		case dtStrsz:
			r.strsz = e.val
		case dtFlags1:
			d.NoDef = e.val&df1NoDefLib != 0
		case dtNeeded, dtSoname, dtRpath, dtRunpath:
			if strings = append(strings, e); len(strings) > maxNeeded {
				return malformed("more than %d names", maxNeeded)
			}
		}
	}
	if len(strings) > 0 && !haveTable {
		return malformed("no string table")
	}
	for _, e := range strings {
		if e.val >= r.strsz {
			return malformed("name at 0x%x of a string table of 0x%x bytes", e.val, r.strsz)
		}
		s, err := r.str(r.strtab+e.val, r.strsz-e.val)
		if err != nil {
			return malformed("name at 0x%x: %w", e.val, err)
		}
		switch e.tag {
		case dtNeeded:
			d.Needed = append(d.Needed, s)
		case dtSoname:
			d.Soname = s
		case dtRpath:
			d.Rpath = s
		case dtRunpath:
			d.Runpath = s
		}
	}
	if slices.ContainsFunc(strings, func(e entry) bool { return e.tag == dtRunpath }) {
		d.Rpath = "" // elf/get-dynamic-info.h
	}
	return nil
}

// offset returns where in the file an unbiased address is.
func (r *dynReader) offset(vaddr uint64) (uint64, bool) {
	for _, s := range r.loads {
		if at := vaddr - s.vaddr; vaddr >= s.vaddr && at < s.filesz && s.off <= 1<<62 && at <= 1<<62 {
			return s.off + at, true
		}
	}
	return 0, false
}

// str reads a string of at most size bytes with its NUL.
func (r *dynReader) str(off, size uint64) (string, error) {
	if off > 1<<62 {
		return "", fmt.Errorf("offset 0x%x", off)
	}
	b := make([]byte, min(size, maxString))
	n, err := r.f.ReadAt(b, int64(off))
	if err != nil && err != io.EOF {
		return "", err
	}
	s, _, ok := bytes.Cut(b[:n], []byte{0})
	if !ok {
		return "", fmt.Errorf("no NUL within %d bytes", n)
	}
	return string(s), nil
}
