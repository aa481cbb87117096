package loader

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"

	"vmsim/mem"
)

// Why Parse refuses a file. The message says more.
var (
	// ErrNotELF: the file does not begin with \x7fELF.
	ErrNotELF = errors.New("not an ELF file")
	// ErrUnsupported: an ELF file, but not an x86-64 program or shared object.
	ErrUnsupported = errors.New("unsupported ELF file")
	// ErrMalformed: an x86-64 ELF file with headers that Linux does not run.
	ErrMalformed = errors.New("malformed ELF file")
)

const (
	// maxTable is the largest program header table: 1170 entries
	// (fs/binfmt_elf.c:load_elf_phdrs).
	maxTable = 64 << 10
	// pathMax is PATH_MAX, of the interpreter's path with its NUL.
	pathMax = 4096
	// maxRead is an offset at which a read of headers does not overflow.
	maxRead = math.MaxInt64 - maxTable
	// maxFileEnd is the highest offset at which mmap lets a mapping of a file
	// end, in whole pages (mm/mmap.c:file_mmap_ok).
	maxFileEnd = math.MaxInt64 &^ (mem.PageSize - 1)
)

// Parse reads the headers of f, at most 69 KiB of it.
//
// It returns ErrNotELF, ErrUnsupported or ErrMalformed, wrapped with the
// reason, if Linux would not run f; and the wrapped error of f.ReadAt, which
// is none of these. The messages do not name the file.
//
// Compare Linux fs/binfmt_elf.c:load_elf_binary.
func Parse(f mem.File) (*Image, error) {
	h, err := readEhdr(f)
	if err != nil {
		return nil, err
	}
	table, err := readTable(f, h)
	if err != nil {
		return nil, err
	}
	im := &Image{File: f, Dynamic: h.etype == etDyn, Entry: h.entry, StackProt: stackProt(table)}
	if im.Interp, err = readInterp(f, table); err != nil {
		return nil, err
	}
	if err := im.addSegments(table); err != nil {
		return nil, err
	}
	if err := im.checkEntry(); err != nil {
		return nil, err
	}
	return im, nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

// read is f.ReadAt, but the end of the file is not an error.
func read(f mem.File, p []byte, off int64, what string) (int, error) {
	n, err := f.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return n, fmt.Errorf("read %s: %w", what, err)
	}
	return n, nil
}

// readEhdr reads and checks the ELF header. Linux takes the bytes beyond the
// end of a short file as zero, so the header itself may be cut off.
func readEhdr(f mem.File) (ehdr, error) {
	var b [ehdrSize]byte
	n, err := read(f, b[:], 0, "ELF header")
	if err != nil {
		return ehdr{}, err
	}
	switch {
	case n == 0:
		return ehdr{}, fmt.Errorf("%w: empty", ErrNotELF)
	case bytes.HasPrefix(b[:], []byte("#!")):
		return ehdr{}, fmt.Errorf("%w: a script", ErrNotELF)
	case !bytes.HasPrefix(b[:], []byte("\x7fELF")):
		return ehdr{}, fmt.Errorf("%w: it begins with % x", ErrNotELF, b[:min(n, 4)])
	}
	h := decodeEhdr(&b)
	switch {
	case h.etype != etExec && h.etype != etDyn:
		return h, fmt.Errorf("%w: %s", ErrUnsupported, describeType(h))
	case h.machine != emX86_64:
		return h, fmt.Errorf("%w: machine %d, not x86-64 (%d)", ErrUnsupported, h.machine, emX86_64)
	case h.phentsize != phdrSize && h.class == class32: // x32, where Linux was built without it
		return h, fmt.Errorf("%w: 32-bit class", ErrUnsupported)
	case h.phentsize != phdrSize:
		return h, malformed("program header entries of %d bytes, not %d", h.phentsize, phdrSize)
	}
	return h, nil
}

// describeType says why e_type is none that runs.
func describeType(h ehdr) string {
	if h.data == dataBigEnd {
		return "big-endian"
	}
	switch h.etype {
	case 1:
		return "relocatable object (ET_REL), not a program"
	case 4:
		return "core file (ET_CORE), not a program"
	}
	return fmt.Sprintf("type 0x%x, neither ET_EXEC nor ET_DYN", h.etype)
}

// readTable reads the program header table.
// Compare Linux fs/binfmt_elf.c:load_elf_phdrs.
func readTable(f mem.File, h ehdr) ([]phdr, error) {
	size := int(h.phnum) * phdrSize
	switch {
	case size == 0:
		return nil, malformed("no program headers")
	case size > maxTable:
		return nil, malformed("%d program headers, at most %d are allowed", h.phnum, maxTable/phdrSize)
	case h.phoff > maxRead:
		return nil, malformed("program headers at offset 0x%x", h.phoff)
	}
	b := make([]byte, size)
	n, err := read(f, b, int64(h.phoff), "program headers")
	if err != nil {
		return nil, err
	}
	if n < size {
		return nil, malformed("program headers at offset 0x%x: the file ends %d bytes before their end", h.phoff, size-n)
	}
	table := make([]phdr, h.phnum)
	for i := range table {
		table[i] = decodePhdr(b[i*phdrSize:])
	}
	return table, nil
}

// stackProt returns the permissions of the stack. The last PT_GNU_STACK
// counts; without one the stack of an x86-64 program is not executable.
func stackProt(table []phdr) mem.Prot {
	prot := mem.ProtRead | mem.ProtWrite
	for _, p := range table {
		if p.ptype == ptGNUStack {
			prot = mem.ProtRead | mem.ProtWrite | p.prot()&mem.ProtExec
		}
	}
	return prot
}

// readInterp returns the path of the first PT_INTERP, or "" if there is none;
// Linux does not look at further ones.
func readInterp(f mem.File, table []phdr) (string, error) {
	for i, p := range table {
		if p.ptype != ptInterp {
			continue
		}
		if p.filesz < 2 || p.filesz > pathMax {
			return "", malformed("interpreter path (program header %d) of 0x%x bytes, not 2 to %d", i, p.filesz, pathMax)
		}
		if p.offset > maxRead {
			return "", malformed("interpreter path (program header %d) at offset 0x%x", i, p.offset)
		}
		b := make([]byte, p.filesz)
		n, err := read(f, b, int64(p.offset), "interpreter path")
		if err != nil {
			return "", err
		}
		if n < len(b) {
			return "", malformed("interpreter path (program header %d) at offset 0x%x: the file ends %d bytes before its end", i, p.offset, len(b)-n)
		}
		if b[n-1] != 0 {
			return "", malformed("interpreter path (program header %d) without a NUL at its end", i)
		}
		path, _, _ := bytes.Cut(b, []byte{0})
		if len(path) == 0 {
			return "", malformed("interpreter path (program header %d) is empty", i)
		}
		return string(path), nil
	}
	return "", nil
}

// addSegments takes the PT_LOADs of the table into im.
func (im *Image) addSegments(table []phdr) error {
	for i, p := range table {
		if p.ptype != ptLoad {
			continue
		}
		if err := checkLoad(i, p); err != nil {
			return err
		}
		s := Segment{Index: i, Vaddr: p.vaddr, Memsz: p.memsz, Filesz: p.filesz, Prot: p.prot(), Align: p.align}
		if s.Memsz == 0 {
			im.empty = append(im.empty, s)
			continue
		}
		if s.Filesz > 0 {
			s.Offset = int64(p.offset)
		}
		if err := checkPad(s, im.File.Size()); err != nil {
			return err
		}
		im.Segments = append(im.Segments, s)
	}
	if len(im.Segments) == 0 {
		return malformed("no PT_LOAD segment: nothing to map")
	}
	if first := im.first(); im.Dynamic && first.Filesz > 0 {
		page := uint64(first.Offset) &^ (mem.PageSize - 1)
		if size := im.reserved(); size > maxFileEnd-page {
			return malformed("%v: file offset 0x%x is too large to map the 0x%x bytes of all segments from there", first, first.Offset, size)
		}
	}
	return nil
}

// checkEntry refuses an entry point that lies beyond user space, wherever the
// file is loaded. With an interpreter Linux does not look at it.
func (im *Image) checkEntry() error {
	const end = uint64(mem.UserEnd)
	if im.Interp != "" {
		return nil
	}
	if !im.Dynamic {
		if im.Entry >= end {
			return malformed("entry point 0x%x lies beyond the end of user space, %v", im.Entry, mem.UserEnd)
		}
		return nil
	}
	// The sum with the load bias wraps, so both sides of the first are near.
	first := im.first()
	if above, below := im.Entry-first.Vaddr, first.Vaddr-im.Entry; above >= end && below >= end {
		return malformed("entry point 0x%x lies beyond user space wherever %v is", im.Entry, first)
	}
	return nil
}

// checkLoad checks what Segment guarantees.
// Compare Linux fs/binfmt_elf.c:load_elf_binary and elf_load, mm/mmap.c:do_mmap.
func checkLoad(i int, p phdr) error {
	const end = uint64(mem.UserEnd)
	if p.vaddr >= end || p.memsz > end-p.vaddr {
		return malformed("segment %d at 0x%x, memory size 0x%x: beyond the end of user space, %v", i, p.vaddr, p.memsz, mem.UserEnd)
	}
	s := Segment{Index: i, Vaddr: p.vaddr, Memsz: p.memsz}
	if p.filesz > p.memsz {
		return malformed("%v: file size 0x%x exceeds memory size 0x%x", s, p.filesz, p.memsz)
	}
	if p.filesz == 0 { // Linux maps no file here and ignores the offset
		return nil
	}
	if (p.offset-p.vaddr)%mem.PageSize != 0 {
		return malformed("%v: file offset 0x%x and address differ modulo the page size", s, p.offset)
	}
	if p.offset > maxFileEnd || p.filesz > maxFileEnd-p.offset {
		return malformed("%v: file offset 0x%x and size 0x%x reach beyond the largest file", s, p.offset, p.filesz)
	}
	return nil
}

// checkPad refuses a writable segment whose .bss begins in a page that lies
// wholly beyond the end of the file: Linux zeroes the rest of that page, gets
// SIGBUS's EFAULT, and gives up. A segment that ends in such a page without
// .bss, or may not be written, runs.
// Compare Linux fs/binfmt_elf.c:padzero.
func checkPad(s Segment, size int64) error {
	end := uint64(s.Offset) + s.Filesz
	if s.Filesz == 0 || s.Memsz == s.Filesz || s.Prot&mem.ProtWrite == 0 || end%mem.PageSize == 0 {
		return nil
	}
	if page := end &^ (mem.PageSize - 1); page >= uint64(max(size, 0)) {
		return malformed("%v: .bss begins in the page at file offset 0x%x, beyond the end of the file", s, page)
	}
	return nil
}
