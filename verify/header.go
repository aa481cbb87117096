package verify

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"vmsim/mem"
)

// Sizes and values of ELF64 (the System V ABI, "Object Files").
const (
	ehdrSize = 64
	phdrSize = 56

	// maxPhdrs is what Linux takes at most: a table of 64 KiB
	// (fs/binfmt_elf.c:load_elf_phdrs).
	maxPhdrs = 65536 / phdrSize

	typeExec      = 2  // ET_EXEC
	typeDyn       = 3  // ET_DYN
	machineX86_64 = 62 // EM_X86_64
	ptLoad        = 1  // PT_LOAD
	flagExec      = 1  // PF_X
	flagWrite     = 2  // PF_W
	flagRead      = 4  // PF_R
)

// header is what the truth needs of an ELF file.
type header struct {
	dynamic bool   // ET_DYN
	entry   uint64 // e_entry
	loads   []load // all PT_LOADs in header order, empty ones included
}

// load is one PT_LOAD, without bias.
type load struct {
	index  int // in the program header table
	prot   mem.Prot
	off    uint64
	vaddr  uint64
	filesz uint64
	memsz  uint64
	align  uint64 // as written: Linux lets any value pass
}

// String names l as messages do: segment 2 [0x400000, 0x401000). The end may
// wrap; it is printed as it comes.
func (l load) String() string {
	return fmt.Sprintf("segment %d [0x%x, 0x%x)", l.index, l.vaddr, l.vaddr+l.memsz)
}

// readHeader reads the ELF header and the program header table of f, 65,584
// bytes at most. It looks at what Linux looks at: class and byte order in
// e_ident are not among it, the sizes and the machine give them away.
//
// It returns ErrFormat, or the wrapped read error.
func readHeader(f mem.File) (*header, error) {
	var eh [ehdrSize]byte
	n, err := readAt(f, eh[:], 0)
	if err != nil {
		return nil, fmt.Errorf("read ELF header: %w", err)
	}
	if n < 4 || string(eh[:4]) != "\x7fELF" {
		return nil, fmt.Errorf("%w: no ELF magic", ErrFormat)
	}
	// Of a shorter file Linux takes the rest of the header as zero
	// (fs/exec.c:prepare_binprm), and so does this: the table may lie in it.
	le := binary.LittleEndian
	h := &header{entry: le.Uint64(eh[24:])}
	switch typ := le.Uint16(eh[16:]); typ {
	case typeExec:
	case typeDyn:
		h.dynamic = true
	default:
		return nil, fmt.Errorf("%w: e_type %d is neither ET_EXEC nor ET_DYN", ErrFormat, typ)
	}
	if m := le.Uint16(eh[18:]); m != machineX86_64 {
		return nil, fmt.Errorf("%w: e_machine %d is not EM_X86_64", ErrFormat, m)
	}
	if s := le.Uint16(eh[54:]); s != phdrSize {
		return nil, fmt.Errorf("%w: e_phentsize %d is not %d", ErrFormat, s, phdrSize)
	}
	phnum := int(le.Uint16(eh[56:]))
	if phnum < 1 || phnum > maxPhdrs {
		return nil, fmt.Errorf("%w: e_phnum %d is not in 1 to %d", ErrFormat, phnum, maxPhdrs)
	}
	phoff := le.Uint64(eh[32:])
	if phoff > math.MaxInt64-phdrSize*maxPhdrs {
		return nil, fmt.Errorf("%w: e_phoff 0x%x is beyond any file", ErrFormat, phoff)
	}
	table := make([]byte, phnum*phdrSize)
	n, err = readAt(f, table, int64(phoff))
	if err != nil {
		return nil, fmt.Errorf("read program headers: %w", err)
	}
	if n < len(table) {
		return nil, fmt.Errorf("%w: %d program headers at 0x%x: cut off by the end of the file", ErrFormat, phnum, phoff)
	}
	for i := range phnum {
		p := table[i*phdrSize:][:phdrSize]
		if le.Uint32(p) != ptLoad {
			continue
		}
		l := load{
			index:  i,
			prot:   protOf(le.Uint32(p[4:])),
			off:    le.Uint64(p[8:]),
			vaddr:  le.Uint64(p[16:]),
			filesz: le.Uint64(p[32:]),
			memsz:  le.Uint64(p[40:]),
			align:  le.Uint64(p[48:]),
		}
		if l.filesz > l.memsz {
			return nil, fmt.Errorf("%w: %v: file size 0x%x exceeds memory size 0x%x", ErrFormat, l, l.filesz, l.memsz)
		}
		if l.filesz > 0 && (l.off > math.MaxInt64 || l.filesz > math.MaxInt64-l.off) {
			return nil, fmt.Errorf("%w: %v: file offset 0x%x and size 0x%x are beyond any file", ErrFormat, l, l.off, l.filesz)
		}
		h.loads = append(h.loads, l)
	}
	if len(h.loads) == 0 {
		return nil, fmt.Errorf("%w: no PT_LOAD", ErrFormat)
	}
	return h, nil
}

// readZeroed fills p with the bytes of f from off on, and zeros beyond the end of
// the file. The witness has its own, so that a mistake in the machine's is seen.
func readZeroed(f io.ReaderAt, p []byte, off int64) error {
	n, err := readAt(f, p, off)
	if err != nil {
		return err
	}
	clear(p[n:])
	return nil
}

// FilePage returns the 4096 bytes of a file from off on, zeros beyond its end:
// what a page that maps the file there ought to hold. Read errors are returned
// wrapped.
func FilePage(f mem.File, off int64) (page [mem.PageSize]byte, err error) {
	if err = readZeroed(f, page[:], off); err != nil {
		err = fmt.Errorf("read %s at 0x%x: %w", f.Name(), off, err)
	}
	return page, err
}

// readAt reads as much of p as the file has. The end of the file is no error.
func readAt(f io.ReaderAt, p []byte, off int64) (int, error) {
	n, err := f.ReadAt(p, off)
	if err == io.EOF || n == len(p) {
		err = nil
	}
	return n, err
}

func protOf(flags uint32) mem.Prot {
	var p mem.Prot
	if flags&flagRead != 0 {
		p |= mem.ProtRead
	}
	if flags&flagWrite != 0 {
		p |= mem.ProtWrite
	}
	if flags&flagExec != 0 {
		p |= mem.ProtExec
	}
	return p
}

// place gives each PT_LOAD with a memory size to each, with its range at a load
// bias. It returns ErrFormat if the bias does not fit the image, or a segment
// leaves user space there, and the error of each.
func (h *header) place(bias uint64, each func(load, mem.Range) error) error {
	if bias%mem.PageSize != 0 {
		return fmt.Errorf("%w: load bias 0x%x is no multiple of the page size", ErrFormat, bias)
	}
	if !h.dynamic && bias != 0 {
		return fmt.Errorf("%w: load bias 0x%x of an ET_EXEC", ErrFormat, bias)
	}
	n := 0
	for _, l := range h.loads {
		if l.memsz == 0 {
			continue
		}
		start := mem.VirtAddr(l.vaddr + bias)
		end, ok := start.Add(l.memsz)
		if !ok || end > mem.UserEnd {
			return fmt.Errorf("%w: %v: leaves user space at load bias 0x%x", ErrFormat, l, bias)
		}
		if err := each(l, mem.Range{Start: start, End: end}); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return fmt.Errorf("%w: no PT_LOAD with a memory size", ErrFormat)
	}
	return nil
}
