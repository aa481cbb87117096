// Package symbol names addresses of an ELF file: main+0x12. Names come from the
// file's .symtab, else from the debug file that its build id leads to, else
// from .dynsym.
//
// A file may be broken or hostile: what is read of it is bounded, and a file
// whose symbols cannot be read has none.
package symbol

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"vmsim/mem"
)

const (
	// maxSymbols bounds a table in memory: 24 bytes each.
	maxSymbols = 1 << 22

	// maxHead bounds what is read to find the tables: section headers and
	// their names.
	maxHead = 64 << 20

	maxName = 4096 // bytes of a name
)

// DebugDir is where distributions install debug files by build id.
const DebugDir = "/usr/lib/debug/.build-id"

// Table has the symbols of one file. The zero value has none. It is for any
// number of goroutines.
type Table struct {
	syms    []entry // by value
	names   io.ReaderAt
	closers []io.Closer
}

// entry is a symbol that has an address.
type entry struct {
	value, size uint64
	name        uint32 // offset in names
	rank        uint8  // of several at one address the lowest is taken
}

// Open reads the symbols of f, an ELF file of any class, whose build id in hex
// is buildID or "". f must stay open as long as the Table is asked; Close
// closes what else was opened.
func Open(f mem.File, buildID string) *Table { return open(f, buildID, DebugDir) }

func open(f mem.File, buildID, debugDir string) *Table {
	t := &Table{}
	if t.load(f, elf.SHT_SYMTAB) == nil {
		return t
	}
	if len(buildID) > 2 {
		path := filepath.Join(debugDir, buildID[:2], buildID[2:]+".debug")
		if d, err := mem.OpenFile(path); err == nil {
			if t.load(d, elf.SHT_SYMTAB) == nil {
				t.closers = append(t.closers, d)
				return t
			}
			d.Close()
		}
	}
	if t.load(f, elf.SHT_DYNSYM) != nil {
		return &Table{}
	}
	return t
}

// Close closes what Open opened.
func (t *Table) Close() {
	for _, c := range t.closers {
		c.Close()
	}
}

// load fills t from the first section of a type, SHT_SYMTAB or SHT_DYNSYM. On
// error t is empty.
func (t *Table) load(f mem.File, typ elf.SectionType) (err error) {
	defer func() {
		// debug/elf has been made to panic by broken files.
		if r := recover(); r != nil {
			err = fmt.Errorf("section headers: %v", r)
		}
		if err != nil {
			t.syms, t.names = nil, nil
		}
	}()
	ef, err := elf.NewFile(&budget{r: f, left: maxHead})
	if err != nil {
		return err
	}
	sec := ef.SectionByType(typ)
	if sec == nil || sec.Link == 0 || int(sec.Link) >= len(ef.Sections) {
		return errors.New("no symbol table")
	}
	names := ef.Sections[sec.Link]
	size, class64 := 24, ef.Class == elf.ELFCLASS64
	if !class64 {
		size = 16
	}
	n := min(sec.FileSize, uint64(max(f.Size(), 0))) / uint64(size)
	if n > maxSymbols {
		return fmt.Errorf("%d symbols are more than %d", n, maxSymbols)
	}
	if sec.Offset > 1<<62 || names.Offset > 1<<62 || names.FileSize > 1<<62 {
		return errors.New("symbol table beyond any file")
	}
	buf := make([]byte, 1024*size)
	for i := uint64(0); i < n; i += 1024 {
		b := buf[:min(1024, n-i)*uint64(size)]
		if _, err := f.ReadAt(b, int64(sec.Offset+i*uint64(size))); err != nil {
			return err
		}
		for ; len(b) > 0; b = b[size:] {
			if e, ok := symbol(b, class64, ef); ok {
				t.syms = append(t.syms, e)
			}
		}
	}
	if len(t.syms) == 0 {
		return errors.New("no symbol with an address")
	}
	slices.SortStableFunc(t.syms, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.value, b.value), cmp.Compare(a.rank, b.rank))
	})
	t.names = io.NewSectionReader(f, int64(names.Offset), int64(names.FileSize))
	return nil
}

// symbol decodes an Elf64_Sym or Elf32_Sym. It is false for what names no
// address: undefined and absolute ones, sections, files, thread-local offsets.
func symbol(b []byte, class64 bool, ef *elf.File) (e entry, ok bool) {
	order := ef.ByteOrder
	var info uint8
	var section uint16
	e.name = order.Uint32(b)
	if class64 {
		info, section = b[4], order.Uint16(b[6:])
		e.value, e.size = order.Uint64(b[8:]), order.Uint64(b[16:])
	} else {
		info, section = b[12], order.Uint16(b[14:])
		e.value, e.size = uint64(order.Uint32(b[4:])), uint64(order.Uint32(b[8:]))
	}
	switch elf.ST_TYPE(info) {
	case elf.STT_FUNC, elf.STT_GNU_IFUNC:
	case elf.STT_OBJECT:
		e.rank = 2
	case elf.STT_NOTYPE:
		e.rank = 4
	default:
		return e, false
	}
	if elf.ST_BIND(info) == elf.STB_LOCAL {
		e.rank++
	}
	if e.size == 0 {
		e.rank += 8
	}
	absolute := elf.SectionIndex(section) == elf.SHN_ABS
	return e, section != uint16(elf.SHN_UNDEF) && !absolute && e.name != 0
}

// nearby is how many symbols below an address are asked whether they cover it:
// functions with entry points or labels of their own inside.
const nearby = 64

// Name returns the symbol that covers the unbiased address vaddr, with the
// distance from its start: main, main+0x12. A symbol without a size reaches to
// the next. It is "" where none covers it.
func (t *Table) Name(vaddr uint64) string {
	i, _ := slices.BinarySearchFunc(t.syms, vaddr, func(e entry, v uint64) int {
		if e.value <= v {
			return -1
		}
		return +1
	})
	best := -1
	for j := i - 1; j >= 0 && j >= i-nearby; j-- {
		e := t.syms[j]
		if vaddr-e.value < e.size {
			best = j
			break
		}
		// Without a size: only the nearest, whatever lies further down.
		if best < 0 && e.size == 0 && e.value == t.syms[i-1].value {
			best = j
		}
	}
	if best < 0 {
		return ""
	}
	// The first of those at the same address that covers it has the best rank.
	for best > 0 && t.syms[best-1].value == t.syms[best].value && t.covers(best-1, vaddr) {
		best--
	}
	name := t.name(t.syms[best].name)
	if d := vaddr - t.syms[best].value; d > 0 && name != "" {
		name += fmt.Sprintf("+0x%x", d)
	}
	return name
}

// covers reports whether symbol i, which starts at or below v, reaches v.
func (t *Table) covers(i int, v uint64) bool {
	return t.syms[i].size == 0 || v-t.syms[i].value < t.syms[i].size
}

// name reads a name; "" if it is cut off.
func (t *Table) name(off uint32) string {
	buf := make([]byte, maxName)
	n, _ := t.names.ReadAt(buf, int64(off))
	if end := slices.Index(buf[:n], 0); end >= 0 {
		return string(buf[:end])
	}
	return ""
}

// budget lets so many bytes be read and then fails, so that sizes which a file
// merely claims cost nothing.
type budget struct {
	r    io.ReaderAt
	left int64
}

func (b *budget) ReadAt(p []byte, off int64) (int, error) {
	if b.left -= int64(len(p)); b.left < 0 {
		return 0, errors.New("section headers are too large")
	}
	return b.r.ReadAt(p, off)
}
