// Package core reads ELF core files, as the kernel and gdb's gcore write them,
// as a mem.AddressSpace with the files that were mapped.
//
//	PT_LOAD   a VMA each; the first p_filesz of its p_memsz bytes are in the file
//	PT_NOTE   NT_PRSTATUS   signal and thread
//	          NT_PRPSINFO   process and its name
//	          NT_SIGINFO    signal
//	          NT_AUXV       the entry point
//	          NT_FILE       which file was mapped where, at which offset
//
// A core need not hold what was mapped. By default the kernel leaves out the
// pages of files, but for the first page of each ELF file and for mappings that
// were written to (coredump_filter; Linux fs/coredump.c:vma_dump_size); and a
// core may be cut off. A page that the kernel could not read is a hole in the
// file and reads as zeros; nothing tells it from a page of zeros.
//
// There are no page tables in a core: a page that differs from its file may be
// a copy that was written to, or not.
package core

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"vmsim/internal/elfhead"
	"vmsim/mem"
)

// ErrNotCore is returned for an ELF file that is no core.
var ErrNotCore = errors.New("not a core file")

// Core is a core file. Its methods may be called by any number of goroutines.
type Core struct {
	PID    int    // 0 where no note says it
	Name   string // of the program, at most 15 bytes, any bytes; "" where no note says it
	Signal int    // that ended it; 0 for a gcore of a process that ran on

	// Segments are the VMAs that the core lists, by ascending address and
	// without overlap.
	Segments []Segment

	// Files are the mappings of files that NT_FILE lists, by ascending
	// address; HasFiles tells an empty list from none.
	Files    []Mapping
	HasFiles bool

	// Cut is how many bytes the segments claim beyond the end of the file.
	Cut uint64

	r    io.ReaderAt
	bias uint64
}

// Segment is a VMA.
type Segment struct {
	mem.Range
	Prot mem.Prot
	Held uint64 // bytes from Start on that the core has, up to its own end
	off  int64  // where in the core
}

// Mapping is a mapping of a file.
type Mapping struct {
	mem.Range
	Off  uint64 // in bytes
	Path string
}

var _ mem.AddressSpace = (*Core)(nil)

// Parse reads a core file of size bytes. Sizes in it are checked against size
// before they are believed.
//
// It returns elfhead.ErrNotELF, ErrNotCore, or what is wrong with the headers.
func Parse(r io.ReaderAt, size int64) (*Core, error) {
	h, err := elfhead.Read(r, size)
	if err != nil {
		return nil, err
	}
	if h.Type != elfhead.TypeCore {
		return nil, ErrNotCore
	}
	c := &Core{r: r}
	if err := c.segments(h, size); err != nil {
		return nil, err
	}
	if err := c.notes(h, r); err != nil {
		return nil, err
	}
	return c, nil
}

// segments takes the PT_LOADs.
func (c *Core) segments(h *elfhead.Head, size int64) error {
	for i, p := range h.Progs {
		if p.Type != elfhead.Load || p.Memsz == 0 {
			continue
		}
		end, ok := mem.VirtAddr(p.Vaddr).Add(p.Memsz)
		if !ok || p.Vaddr%mem.PageSize != 0 || p.Memsz%mem.PageSize != 0 {
			return fmt.Errorf("segment %d: 0x%x bytes at 0x%x are no range of whole pages", i, p.Memsz, p.Vaddr)
		}
		s := Segment{Range: mem.Range{Start: mem.VirtAddr(p.Vaddr), End: end}, Prot: p.Prot, off: int64(p.Off)}
		claimed := min(p.Filesz, p.Memsz)
		if p.Off < uint64(size) {
			s.Held = min(claimed, uint64(size)-p.Off)
		}
		c.Cut += claimed - s.Held
		c.Segments = append(c.Segments, s)
	}
	slices.SortStableFunc(c.Segments, func(a, b Segment) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(c.Segments); i++ {
		if a, b := c.Segments[i-1], c.Segments[i]; a.End > b.Start {
			return fmt.Errorf("segments %v and %v overlap", a.Range, b.Range)
		}
	}
	return nil
}

// Values of Item.Type for notes that CORE defines (include/uapi/linux/elf.h).
const (
	ntPrstatus = 1
	ntPrpsinfo = 3
	ntAuxv     = 6
	ntFile     = 0x46494c45
	ntSiginfo  = 0x53494749
)

func (c *Core) notes(h *elfhead.Head, r io.ReaderAt) error {
	threads := 0
	for n := range h.Notes(r) {
		if n.Name != "CORE" {
			continue
		}
		switch n.Type {
		case ntPrstatus: // of each thread; the first is the one that was hit
			if threads++; threads == 1 {
				c.prstatus(h, n.Desc)
			}
		case ntPrpsinfo:
			c.prpsinfo(h, n.Desc)
		case ntSiginfo:
			if c.Signal == 0 && len(n.Desc) >= 4 {
				c.Signal = int(int32(h.Order.Uint32(n.Desc)))
			}
		case ntAuxv:
			c.auxv(h, n.Desc)
		case ntFile:
			var err error
			if c.Files, err = parseFiles(h, n.Desc); err != nil {
				return fmt.Errorf("NT_FILE: %w", err)
			}
			c.HasFiles = true
		}
	}
	c.bias = c.loadBias(c.bias)
	return nil
}

// prstatus takes pr_cursig and, until NT_PRPSINFO says the process, the thread
// (struct elf_prstatus: siginfo of three ints, then cursig; pr_pid behind two
// longs).
func (c *Core) prstatus(h *elfhead.Head, b []byte) {
	w := h.WordSize()
	if len(b) < 16+2*w+4 {
		return
	}
	c.Signal = int(h.Order.Uint16(b[12:]))
	if c.PID == 0 {
		c.PID = int(int32(h.Order.Uint32(b[16+2*w:])))
	}
}

// prpsinfo takes pr_pid and pr_fname (struct elf_prpsinfo: four chars, a long,
// uid and gid of 4 bytes each, or of 2 each for i386, four pids, 16 bytes of
// name).
func (c *Core) prpsinfo(h *elfhead.Head, b []byte) {
	pid := 24
	if h.Class == 32 {
		pid = 12
	}
	if len(b) < pid+16+16 {
		return
	}
	c.PID = int(int32(h.Order.Uint32(b[pid:])))
	c.Name, _, _ = strings.Cut(string(b[pid+16:][:16]), "\x00")
}

// auxv keeps AT_ENTRY until loadBias knows what it is relative to.
func (c *Core) auxv(h *elfhead.Head, b []byte) {
	const atEntry = 9
	for w := h.WordSize(); len(b) >= 2*w; b = b[2*w:] {
		if word(h, b) == atEntry {
			c.bias = word(h, b[w:])
		}
	}
}

// loadBias returns AT_ENTRY minus e_entry, which stands in the ELF header in
// memory: at the lowest mapping of the file that the entry point is in. Without
// it the bias is 0.
func (c *Core) loadBias(entry uint64) uint64 {
	at := slices.IndexFunc(c.Files, func(m Mapping) bool { return m.Contains(mem.VirtAddr(entry)) })
	if at < 0 {
		return 0
	}
	first := slices.IndexFunc(c.Files, func(m Mapping) bool { return m.Off == 0 && m.Path == c.Files[at].Path })
	if first < 0 {
		return 0
	}
	var page [mem.PageSize]byte
	if c.Read(c.Files[first].Start, page[:]) != nil || string(page[:5]) != "\x7fELF\x02" {
		return 0
	}
	if binary.LittleEndian.Uint16(page[16:]) != elfhead.TypeDyn {
		return 0
	}
	return entry - binary.LittleEndian.Uint64(page[24:])
}

// maxFiles bounds the mappings of NT_FILE.
const maxFiles = elfhead.MaxProgs

// parseFiles reads the content of NT_FILE (fs/binfmt_elf.c:fill_files_note), in
// words of the file's class:
//
//	count, unit
//	count times: start, end, offset in units
//	count times: path, ended by NUL
//
// The unit is the page size in cores of the kernel, and 1 in gdb's.
func parseFiles(h *elfhead.Head, b []byte) ([]Mapping, error) {
	w := h.WordSize()
	if len(b) < 2*w {
		return nil, fmt.Errorf("cut off after %d bytes", len(b))
	}
	count, unit := word(h, b), word(h, b[w:])
	b = b[2*w:]
	if count > maxFiles || count > uint64(len(b)/(3*w)) {
		return nil, fmt.Errorf("%d mappings do not fit its %d bytes", count, len(b))
	}
	names := b[count*3*uint64(w):]
	files := make([]Mapping, 0, count)
	for ; count > 0; count, b = count-1, b[3*w:] {
		m := Mapping{Range: mem.Range{Start: mem.VirtAddr(word(h, b)), End: mem.VirtAddr(word(h, b[w:]))}}
		units := word(h, b[2*w:])
		m.Off = units * unit
		if m.Empty() || m.Start.PageOffset() != 0 || m.End.PageOffset() != 0 || m.End > mem.UserEnd {
			return nil, fmt.Errorf("mapping %d: %v is no range of whole pages in user space", len(files), m.Range)
		}
		if unit != 0 && m.Off/unit != units || m.Off%mem.PageSize != 0 || m.Off > 1<<63-1-m.Len() {
			return nil, fmt.Errorf("mapping %d: offset of 0x%x times %d bytes is beyond any file, or in the middle of a page", len(files), units, unit)
		}
		end := slices.Index(names, 0)
		if end < 0 {
			return nil, fmt.Errorf("the name of mapping %d is cut off", len(files))
		}
		m.Path, names = string(names[:end]), names[end+1:]
		files = append(files, m)
	}
	slices.SortStableFunc(files, func(a, b Mapping) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(files); i++ {
		if files[i-1].End > files[i].Start {
			return nil, fmt.Errorf("mappings %v and %v overlap", files[i-1].Range, files[i].Range)
		}
	}
	return files, nil
}

func word(h *elfhead.Head, b []byte) uint64 {
	if h.Class == 32 {
		return uint64(h.Order.Uint32(b))
	}
	return h.Order.Uint64(b)
}

// Part is a stretch of whole pages inside one segment.
type Part struct {
	mem.Range
	Prot mem.Prot
}

// Held yields the whole pages of r that the core has, by ascending address, with
// the permissions of their segments.
func (c *Core) Held(r mem.Range) iter.Seq[Part] {
	return func(yield func(Part) bool) {
		for _, s := range c.from(r.Start) {
			if s.Start >= r.End {
				return
			}
			have := mem.Range{Start: s.Start, End: s.Start + mem.VirtAddr(s.Held)&^(mem.PageSize-1)}
			if in := have.Intersect(r); !in.Empty() && !yield(Part{in, s.Prot}) {
				return
			}
		}
	}
}

// Prot returns the permissions of the segment that holds addr, in the core or
// not. It is false where there is none.
func (c *Core) Prot(addr mem.VirtAddr) (mem.Prot, bool) {
	if s := c.from(addr); len(s) > 0 && s[0].Contains(addr) {
		return s[0].Prot, true
	}
	return 0, false
}

// from returns the segments that end above addr.
func (c *Core) from(addr mem.VirtAddr) []Segment {
	i, _ := slices.BinarySearchFunc(c.Segments, addr, func(s Segment, a mem.VirtAddr) int {
		if s.End <= a {
			return -1
		}
		return +1
	})
	return c.Segments[i:]
}

// Read fills b with the bytes at addr. It returns mem.ErrNotPresent if the core
// does not have them all, or the wrapped read error.
func (c *Core) Read(addr mem.VirtAddr, b []byte) error {
	for len(b) > 0 {
		s := c.from(addr)
		if len(s) == 0 || !s[0].Contains(addr) || uint64(addr-s[0].Start) >= s[0].Held {
			return fmt.Errorf("address %v: %w", addr, mem.ErrNotPresent)
		}
		skip := uint64(addr - s[0].Start)
		n := int(min(uint64(len(b)), s[0].Held-skip))
		if got, err := c.r.ReadAt(b[:n], s[0].off+int64(skip)); got < n {
			return fmt.Errorf("address %v: read %d bytes of the core: %w", addr, n, err)
		}
		b, addr = b[n:], addr+mem.VirtAddr(n)
	}
	return nil
}

// Entries yields the pages that the core has and that overlap r. Which frames
// they had is not told.
func (c *Core) Entries(r mem.Range) iter.Seq[mem.Entry] {
	return func(yield func(mem.Entry) bool) {
		for part := range c.Held(mem.Range{Start: r.Start.PageDown(), End: r.End}) {
			for a := part.Start; a < part.End; a += mem.PageSize {
				if !yield(mem.Entry{Addr: a, Size: mem.PageSize, Prot: part.Prot, Frame: mem.NoFrame}) {
					return
				}
			}
		}
	}
}

// Bias returns the load bias of the main program; 0 where the core does not
// tell.
func (c *Core) Bias() uint64 { return c.bias }
