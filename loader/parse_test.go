package loader

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/elfgen"
	"vmsim/mem"
)

const (
	rx     = mem.ProtRead | mem.ProtExec
	rw     = mem.ProtRead | mem.ProtWrite
	rwx    = rw | mem.ProtExec
	interp = "./interp" // an interpreter that the oracle test can provide
)

// text is a read-only first segment of one page, with the headers.
var text = elfgen.Seg{Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx}

// exec returns an ET_EXEC of text and the given segments.
func exec(segs ...elfgen.Seg) elfgen.Spec {
	return elfgen.Spec{Type: elfgen.Exec, Entry: 0x400800, Segments: append([]elfgen.Seg{text}, segs...)}
}

// dyn returns an ET_DYN with an interpreter, of the given segments.
func dyn(segs ...elfgen.Seg) elfgen.Spec {
	return elfgen.Spec{Type: elfgen.Dyn, Entry: 0x800, Segments: segs, Interp: interp}
}

// static is dyn without an interpreter.
func static(segs ...elfgen.Seg) elfgen.Spec {
	s := dyn(segs...)
	s.Interp = ""
	return s
}

// with changes s.
func with(s elfgen.Spec, f func(*elfgen.Spec)) elfgen.Spec {
	f(&s)
	return s
}

// edit changes the built file.
type edit func(b []byte) []byte

func put16(off int, v uint16) edit {
	return func(b []byte) []byte { binary.LittleEndian.PutUint16(b[off:], v); return b }
}

func put32(off int, v uint32) edit {
	return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[off:], v); return b }
}

func put64(off int, v uint64) edit {
	return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[off:], v); return b }
}

func putByte(off int, v byte) edit { return func(b []byte) []byte { b[off] = v; return b } }

func cut(n int) edit { return func(b []byte) []byte { return b[:n] } }

func all(edits ...edit) edit {
	return func(b []byte) []byte {
		for _, e := range edits {
			b = e(b)
		}
		return b
	}
}

// ph returns where a field of program header i lies.
func ph(i, off int) int { return ehdrSize + i*phdrSize + off }

// extra turns program header i, a PT_LOAD of the Spec, into another.
func extra(i int, ptype uint32, flags uint32, offset, filesz uint64) edit {
	return all(put32(ph(i, 0), ptype), put32(ph(i, 4), flags), put64(ph(i, 8), offset), put64(ph(i, 32), filesz))
}

func bytesAt(off int, s string) edit { return func(b []byte) []byte { copy(b[off:], s); return b } }

// rules has a row for each thing that Linux checks, and for each that one
// might think it checks. Linux 6.18 does what the row says, unless differs
// says that it does otherwise or cannot be asked, and why.
var rules = []struct {
	name    string
	spec    elfgen.Spec
	edit    edit
	err     error  // nil: accepted
	text    string // in the message
	differs string
}{
	// The ELF header.
	{name: "one segment", spec: exec()},
	{name: "empty", spec: exec(), edit: cut(0), err: ErrNotELF, text: "empty"},
	{name: "magic cut off", spec: exec(), edit: cut(3), err: ErrNotELF, text: "begins with 7f 45 4c"},
	{name: "magic", spec: exec(), edit: putByte(3, 'G'), err: ErrNotELF, text: "begins with 7f 45 4c 47"},
	{name: "script", spec: exec(), edit: bytesAt(0, "#!./interp\n"), err: ErrNotELF, text: "a script", differs: "Linux runs the interpreter, not the file"},
	{name: "class 32 alone is ignored", spec: exec(), edit: putByte(4, 1)},
	{name: "class 0 is ignored", spec: exec(), edit: putByte(4, 0)},
	{name: "byte order alone is ignored", spec: exec(), edit: putByte(5, 2)},
	{name: "e_ident version and ABI are ignored", spec: exec(), edit: all(putByte(6, 77), putByte(7, 77), putByte(8, 77))},
	{name: "e_version is ignored", spec: exec(), edit: put32(20, 77)},
	{name: "e_ehsize is ignored", spec: exec(), edit: put16(52, 1)},
	{name: "section headers are ignored", spec: exec(), edit: all(put64(40, math.MaxUint64), put16(58, 3), put16(60, 0xffff), put16(62, 0xffff))},
	{name: "ET_NONE", spec: exec(), edit: put16(16, 0), err: ErrUnsupported, text: "type 0x0"},
	{name: "ET_REL", spec: exec(), edit: put16(16, 1), err: ErrUnsupported, text: "relocatable"},
	{name: "ET_CORE", spec: exec(), edit: put16(16, 4), err: ErrUnsupported, text: "core file"},
	{name: "big-endian", spec: exec(), edit: all(putByte(5, 2), put16(16, 2<<8), put16(18, 62<<8)), err: ErrUnsupported, text: "big-endian"},
	{name: "i386", spec: exec(), edit: all(putByte(4, 1), put16(18, 3), put16(54, 32)), err: ErrUnsupported, text: "machine 3"},
	{name: "AArch64", spec: exec(), edit: put16(18, 183), err: ErrUnsupported, text: "machine 183"},
	{name: "x32", spec: exec(), edit: all(putByte(4, 1), put16(54, 32)), err: ErrUnsupported, text: "32-bit class"},
	{name: "e_phentsize 55", spec: exec(), edit: put16(54, 55), err: ErrMalformed, text: "entries of 55 bytes"},
	{name: "e_phentsize 64", spec: exec(), edit: put16(54, 64), err: ErrMalformed, text: "entries of 64 bytes"},
	{name: "e_phnum 0", spec: exec(), edit: put16(56, 0), err: ErrMalformed, text: "no program headers"},
	{name: "e_phnum 1170", spec: with(exec(), func(s *elfgen.Spec) { s.Size = 64 + 1170*56 }),
		edit: func(b []byte) []byte { clear(b[ph(1, 0):]); return put16(56, 1170)(b) }},
	{name: "e_phnum 1171", spec: with(exec(), func(s *elfgen.Spec) { s.Size = 64 + 1171*56 }),
		edit: func(b []byte) []byte { clear(b[ph(1, 0):]); return put16(56, 1171)(b) }, err: ErrMalformed, text: "1171 program headers, at most 1170"},
	{name: "e_phnum 65535", spec: exec(), edit: put16(56, 65535), err: ErrMalformed, text: "65535 program headers"},
	{name: "table cut off by one byte", spec: exec(), edit: cut(ph(1, 0) - 1), err: ErrMalformed, text: "ends 1 bytes before"},
	{name: "table ends with the file", spec: exec(), edit: cut(ph(1, 0))},
	{name: "e_phoff beyond the end", spec: exec(), edit: put64(32, 0x2000), err: ErrMalformed, text: "offset 0x2000"},
	{name: "e_phoff 2^63-1", spec: exec(), edit: put64(32, math.MaxInt64), err: ErrMalformed, text: "offset 0x7fffffffffffffff"},
	{name: "e_phoff 2^64-56", spec: exec(), edit: put64(32, math.MaxUint64-55), err: ErrMalformed, text: "offset 0xffffffffffffffc8"},
	{name: "e_phoff of any alignment", spec: exec(), edit: func(b []byte) []byte {
		copy(b[0x901:], b[ph(0, 0):ph(1, 0)])
		return put64(32, 0x901)(b)
	}},
	{name: "60 bytes, the table overlaps the cut header", spec: exec(), edit: func(b []byte) []byte {
		clear(b[4:16])
		clear(b[20:])
		return all(
			cut(60),
			put64(32, 4),        // e_phoff: p_type is e_ident[4:8]
			putByte(4, ptLoad),  //
			putByte(8, pfR|pfX), // e_ident[8:12] is p_flags
			put32(20, 0x500000), // e_version is p_vaddr
			put32(44, 0x1000),   // e_shoff's upper half is p_memsz
			put16(54, phdrSize),
			put16(56, 1),
		)(b)
	}},
	{name: "entry outside of all segments", spec: with(exec(), func(s *elfgen.Spec) { s.Entry = 0 })},
	{name: "entry in the last page", spec: with(exec(), func(s *elfgen.Spec) { s.Entry = uint64(mem.UserEnd) - 1 })},
	{name: "entry beyond user space", spec: with(exec(), func(s *elfgen.Spec) { s.Entry = uint64(mem.UserEnd) }), err: ErrMalformed, text: "entry point 0x7ffffffff000"},
	{name: "entry beyond user space, with interpreter", spec: with(exec(), func(s *elfgen.Spec) { s.Entry = math.MaxUint64; s.Interp = interp })},

	// PT_LOAD: sizes and addresses.
	{name: "no PT_LOAD", spec: exec(), edit: put32(ph(0, 0), 4), err: ErrMalformed, text: "nothing to map", differs: "Linux starts it; it dies at its first fetch"},
	{name: "only an empty PT_LOAD", spec: exec(), edit: all(put64(ph(0, 32), 0), put64(ph(0, 40), 0)), err: ErrMalformed, text: "nothing to map", differs: "Linux starts it; it dies at its first fetch"},
	{name: "empty PT_LOAD is skipped", spec: exec(elfgen.Seg{Vaddr: 0x500123, Offset: 0x77})},
	{name: "empty PT_LOAD comes first", spec: with(exec(), func(s *elfgen.Spec) { s.Segments = []elfgen.Seg{{Vaddr: 0x300123}, text} })},
	{name: "empty PT_LOAD beyond user space", spec: exec(elfgen.Seg{Vaddr: uint64(mem.UserEnd)}), err: ErrMalformed, text: "segment 1 at 0x7ffffffff000"},
	{name: "file part without memory", spec: exec(elfgen.Seg{Vaddr: 0x500000, Filesz: 1}), err: ErrMalformed, text: "segment 1 [0x500000, 0x500000): file size 0x1 exceeds memory size 0x0"},
	{name: "p_filesz exceeds p_memsz by one", spec: exec(elfgen.Seg{Vaddr: 0x500000, Filesz: 0x11, Memsz: 0x10, Flags: rw}), err: ErrMalformed, text: "segment 1 [0x500000, 0x500010): file size 0x11 exceeds memory size 0x10"},
	{name: "p_filesz 2^64-1", spec: exec(elfgen.Seg{Vaddr: 0x500001, Offset: 1, Filesz: math.MaxUint64, Memsz: 0x10, Flags: rw}), err: ErrMalformed, text: "file size 0xffffffffffffffff exceeds"},
	{name: "p_filesz and p_memsz 2^64-1", spec: exec(elfgen.Seg{Vaddr: 0x500001, Offset: 1, Filesz: math.MaxUint64, Memsz: math.MaxUint64, Flags: rw}), err: ErrMalformed, text: "memory size 0xffffffffffffffff: beyond the end"},
	{name: "p_memsz wraps to the start of user space", spec: exec(elfgen.Seg{Vaddr: 0x500000, Memsz: math.MaxUint64 - 0x4fffff + 0x1000}), err: ErrMalformed, text: "beyond the end"},
	{name: "p_memsz beyond user space", spec: exec(elfgen.Seg{Vaddr: 0x500000, Memsz: uint64(mem.UserEnd) - 0x500000 + 1}), err: ErrMalformed, text: "beyond the end"},
	{name: "p_memsz up to the end of user space", spec: exec(elfgen.Seg{Vaddr: 0x500000, Memsz: uint64(mem.UserEnd) - 0x500000, Flags: rw}), differs: "takes 128 TiB of commit"},
	{name: "last page of user space", spec: exec(elfgen.Seg{Vaddr: uint64(mem.UserEnd) - 0x1000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx}), differs: "the stack may be there"},
	{name: "kernel address", spec: exec(elfgen.Seg{Vaddr: 0xffffffff81000000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx}), err: ErrMalformed, text: "segment 1 at 0xffffffff81000000"},
	{name: "one byte", spec: exec(elfgen.Seg{Vaddr: 0x500fff, Offset: 0xfff, Filesz: 1, Memsz: 1, Flags: rw})},
	{name: "no permissions", spec: exec(elfgen.Seg{Vaddr: 0x500000, Filesz: 0x100, Memsz: 0x3000})},
	{name: "unknown flags are ignored", spec: exec(), edit: put32(ph(0, 4), 0xfffffff8|pfR|pfX)},
	{name: "ends beyond user space, ET_DYN", spec: dyn(elfgen.Seg{Vaddr: uint64(mem.UserEnd) - 0x1000, Filesz: 0x800, Memsz: 0x1001, Flags: rx}), err: ErrMalformed, text: "beyond the end"},
	{name: "high address, ET_DYN", spec: dyn(elfgen.Seg{Vaddr: uint64(mem.UserEnd) - 0x1000, Filesz: 0x800, Memsz: 0x1000, Flags: rx})},

	// PT_LOAD: offsets.
	{name: "incongruent", spec: exec(elfgen.Seg{Vaddr: 0x500010, Offset: 0x20, Filesz: 0x10, Memsz: 0x10, Flags: rw}), err: ErrMalformed, text: "segment 1 [0x500010, 0x500020): file offset 0x20 and address differ"},
	{name: "incongruent by half a page", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 0x800, Filesz: 0x10, Memsz: 0x10, Flags: rw}), err: ErrMalformed, text: "address differ"},
	{name: "incongruent modulo p_align", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 0x1000, Filesz: 0x10, Memsz: 0x10, Flags: rx, Align: 0x200000})},
	{name: "incongruent .bss", spec: exec(elfgen.Seg{Vaddr: 0x500010, Offset: 0x20, Memsz: 0x10, Flags: rw})},
	{name: ".bss at a huge offset", spec: exec(elfgen.Seg{Vaddr: 0x500010, Offset: math.MaxUint64, Memsz: 0x10, Flags: rw})},
	{name: "offset 2^63", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 1 << 63, Filesz: 0x10, Memsz: 0x10, Flags: rx}), err: ErrMalformed, text: "beyond the largest file"},
	{name: "offset 2^64-4096", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: math.MaxUint64 - 4095, Filesz: 0x1001, Memsz: 0x1001, Flags: rx}), err: ErrMalformed, text: "beyond the largest file"},
	{name: "offset 2^63-4096", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 1<<63 - 4096, Filesz: 1, Memsz: 1, Flags: rx}), err: ErrMalformed, text: "beyond the largest file"},
	{name: "offset 2^63-8192", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 1<<63 - 8192, Filesz: 0x1000, Memsz: 0x1000, Flags: rx})},
	{name: "offset 2^63-8192, 4097 bytes", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 1<<63 - 8192, Filesz: 0x1001, Memsz: 0x1001, Flags: rx}), err: ErrMalformed, text: "beyond the largest file"},
	{name: "offset 2^63-16384, first of an ET_DYN of 4 pages", spec: dyn(
		elfgen.Seg{Vaddr: 0, Offset: 1<<63 - 0x5000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx},
		elfgen.Seg{Vaddr: 0x3000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx})},
	{name: "offset 2^63-16384, first of an ET_DYN of 5 pages", spec: dyn(
		elfgen.Seg{Vaddr: 0, Offset: 1<<63 - 0x5000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx},
		elfgen.Seg{Vaddr: 0x4000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx}), err: ErrMalformed, text: "too large to map the 0x5000 bytes"},
	{name: "wholly beyond the end of the file", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 0x100000, Filesz: 0x2345, Memsz: 0x2345, Flags: rw}), edit: cut(0x1000)},
	{name: "read-only .bss begins beyond the end of the file", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 0x100000, Filesz: 0x2345, Memsz: 0x3000, Flags: rx}), edit: cut(0x1000)},
	{name: ".bss begins beyond the end of the file, at a page", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 0x100000, Filesz: 0x2000, Memsz: 0x3000, Flags: rw}), edit: cut(0x1000)},
	{name: ".bss begins beyond the end of the file", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 0x100000, Filesz: 0x2345, Memsz: 0x3000, Flags: rw}), edit: cut(0x1000), err: ErrMalformed, text: "segment 1 [0x500000, 0x503000): .bss begins in the page at file offset 0x102000"},
	{name: ".bss of one byte begins beyond the end of the file", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 0x1000, Filesz: 0x345, Memsz: 0x346, Flags: mem.ProtWrite}), edit: cut(0x1000), err: ErrMalformed, text: ".bss begins"},
	{name: ".bss begins in the last page of the file", spec: exec(elfgen.Seg{Vaddr: 0x500000, Offset: 0x1000, Filesz: 0x345, Memsz: 0x3000, Flags: rw}), edit: cut(0x1001)},

	// PT_LOAD: order, overlap, alignment.
	{name: "unordered", spec: exec(elfgen.Seg{Vaddr: 0x300000, Filesz: 0x1000, Memsz: 0x1000, Flags: rw})},
	{name: "unordered, ET_DYN", spec: dyn(elfgen.Seg{Vaddr: 0x5000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx}, elfgen.Seg{Vaddr: 0, Filesz: 0x1000, Memsz: 0x1000, Flags: rw})},
	{name: "overlapping", spec: exec(elfgen.Seg{Vaddr: 0x400000, Filesz: 0x800, Memsz: 0x3000, Flags: rw})},
	{name: "identical", spec: exec(text)},
	{name: "p_align 0", spec: exec(elfgen.Seg{Vaddr: 0x500000, Filesz: 8, Memsz: 8, Flags: rw}), edit: put64(ph(0, 48), 0)},
	{name: "p_align 3", spec: dyn(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx, Align: 3})},
	{name: "p_align 2^64-1", spec: dyn(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx, Align: math.MaxUint64})},
	{name: "p_align 1 GiB", spec: dyn(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx, Align: 1 << 30})},
	{name: "p_align 1 GiB, static", spec: static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx, Align: 1 << 30})},
	{name: "p_align 2^46, static", spec: static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx, Align: 1 << 46})},
	{name: "p_align 2^47, static", spec: static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx, Align: 1 << 47}), differs: "aligned down to address 0, which only root may map"},
	{name: "p_align 2^63, static", spec: static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx, Align: 1 << 63}), differs: "aligned down to address 0, which only root may map"},
	{name: "p_align 2^63", spec: dyn(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx, Align: 1 << 63}), differs: "aligned down to address 0, which only root may map"},

	// ET_DYN.
	{name: "PIE", spec: dyn(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx})},
	{name: "static PIE or shared object", spec: static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx})},
	{name: "shared object without an entry", spec: with(static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx}), func(s *elfgen.Spec) { s.Entry = 0 })},
	{name: "entry 2^56, static", spec: with(static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx}), func(s *elfgen.Spec) { s.Entry = 1 << 56 }), err: ErrMalformed, text: "entry point 0x100000000000000 lies beyond user space wherever segment 0"},
	{name: "entry 2^47-4096, static", spec: with(static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx}), func(s *elfgen.Spec) { s.Entry = uint64(mem.UserEnd) }), err: ErrMalformed, text: "wherever segment 0"},
	{name: "entry 2^56", spec: with(dyn(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx}), func(s *elfgen.Spec) { s.Entry = 1 << 56 })},
	{name: "entry before the first segment, static", spec: with(static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx}), func(s *elfgen.Spec) { s.Entry = math.MaxUint64 - 7 })},
	{name: "PIE, first segment .bss", spec: dyn(elfgen.Seg{Memsz: 0x1000, Flags: rw}, elfgen.Seg{Vaddr: 0x1000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx})},

	// PT_INTERP.
	{name: "interpreter", spec: with(exec(), func(s *elfgen.Spec) { s.Interp = interp })},
	{name: "interpreter of one letter", spec: exec(text), edit: all(extra(1, ptInterp, 4, 0x900, 2), bytesAt(0x900, "i\x00"))},
	{name: "interpreter path of one byte", spec: exec(text), edit: all(extra(1, ptInterp, 4, 0x900, 1), bytesAt(0x900, "\x00")), err: ErrMalformed, text: "0x1 bytes, not 2 to 4096"},
	{name: "interpreter path of PATH_MAX", spec: with(exec(text), func(s *elfgen.Spec) { s.Size = 0x3000 }), edit: all(extra(1, ptInterp, 4, 0x1000, 4096), bytesAt(0x1000, interp+"\x00"), putByte(0x1fff, 0))},
	{name: "interpreter path of PATH_MAX+1", spec: with(exec(text), func(s *elfgen.Spec) { s.Size = 0x3000 }), edit: all(extra(1, ptInterp, 4, 0x1000, 4097), bytesAt(0x1000, interp+"\x00"), putByte(0x2000, 0)), err: ErrMalformed, text: "0x1001 bytes, not 2 to 4096"},
	{name: "interpreter path without NUL", spec: exec(text), edit: all(extra(1, ptInterp, 4, 0x900, 8), bytesAt(0x900, interp)), err: ErrMalformed, text: "without a NUL"},
	{name: "interpreter path of NULs", spec: exec(text), edit: all(extra(1, ptInterp, 4, 0x900, 8), bytesAt(0x900, "\x00\x00\x00\x00\x00\x00\x00\x00")), err: ErrMalformed, text: "is empty"},
	{name: "interpreter path cut off", spec: exec(text), edit: all(extra(1, ptInterp, 4, 0xffa, 9), bytesAt(0xffa, interp)), err: ErrMalformed, text: "ends 3 bytes before"},
	{name: "interpreter path at 2^64-1", spec: exec(text), edit: extra(1, ptInterp, 4, math.MaxUint64, 9), err: ErrMalformed, text: "offset 0xffffffffffffffff"},
	{name: "interpreter path at 2^63", spec: exec(text), edit: extra(1, ptInterp, 4, 1<<63, 9), err: ErrMalformed, text: "offset 0x8000000000000000"},
	{name: "interpreter path at 2^63-1", spec: exec(text), edit: extra(1, ptInterp, 4, math.MaxInt64, 9), err: ErrMalformed, text: "offset 0x7fffffffffffffff"},
	{name: "second PT_INTERP is ignored", spec: with(exec(text), func(s *elfgen.Spec) { s.Interp = interp }), edit: extra(1, ptInterp, 4, math.MaxUint64, 1)},
	{name: "PT_INTERP after the PT_LOADs", spec: exec(text, text), edit: all(extra(2, ptInterp, 4, 0x900, 9), bytesAt(0x900, interp+"\x00"))},

	// Other program headers.
	{name: "PT_NOTE, PT_DYNAMIC, PT_TLS, PT_PHDR and unknown types are ignored", spec: exec(text, text, text, text, text), edit: all(
		extra(1, 4, 7, math.MaxUint64, math.MaxUint64), extra(2, 2, 7, math.MaxUint64, math.MaxUint64), extra(3, 7, 7, math.MaxUint64, math.MaxUint64),
		extra(4, 6, 7, math.MaxUint64, math.MaxUint64), extra(5, 0x70000001, 7, math.MaxUint64, math.MaxUint64))},
	{name: "PT_GNU_PROPERTY and PT_GNU_RELRO are ignored", spec: exec(text, text), edit: all(
		extra(1, 0x6474e553, 4, math.MaxUint64, math.MaxUint64), extra(2, 0x6474e552, 4, math.MaxUint64, math.MaxUint64))},
	{name: "PT_GNU_STACK", spec: with(exec(), func(s *elfgen.Spec) { s.Stack = rw })},
	{name: "PT_GNU_STACK with absurd sizes", spec: exec(text), edit: extra(1, ptGNUStack, 7, math.MaxUint64, math.MaxUint64)},
}

// build returns the file of row i of rules.
func build(i int) []byte {
	b := elfgen.Build(rules[i].spec, nil)
	if e := rules[i].edit; e != nil {
		b = e(b)
	}
	return b
}

func TestRules(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	for i, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			im, err := Parse(mem.NewBytesFile("x", build(i)))
			checkImage(t, im, err)
			if got := parseOnDisk(t, path, build(i)); (got == nil) != (err == nil) || err != nil && got.Error() != err.Error() {
				t.Errorf("on disk: error %v, in memory: %v", got, err)
			}
			if !errors.Is(err, r.err) {
				t.Fatalf("error %v, want %v", err, r.err)
			}
			if err != nil && !strings.Contains(err.Error(), r.text) {
				t.Errorf("error %q does not say %q", err, r.text)
			}
		})
	}
}

// parseOnDisk returns Parse's error for a real file, whose reads fail in ways
// of their own.
func parseOnDisk(t *testing.T, path string, data []byte) error {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := mem.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = Parse(f)
	return err
}

// checkImage checks what Parse promises: a value or one of the sentinels, and
// what holds of every segment.
func checkImage(t *testing.T, im *Image, err error) {
	t.Helper()
	if (im == nil) == (err == nil) {
		t.Fatalf("image %v and error %v", im, err)
	}
	if err != nil {
		kinds := 0
		for _, kind := range []error{ErrNotELF, ErrUnsupported, ErrMalformed} {
			if errors.Is(err, kind) {
				kinds++
			}
		}
		if kinds != 1 || strings.ContainsAny(err.Error(), "\n%") {
			t.Errorf("error %q is of %d kinds", err, kinds)
		}
		return
	}
	if len(im.Segments) == 0 {
		t.Error("no segment")
	}
	last := -1
	for _, s := range im.Segments {
		r, fr := s.Range(0), s.FileRange(0)
		switch {
		case s.Index <= last:
			t.Errorf("%v follows segment %d", s, last)
		case r.Empty() || r.End > mem.UserEnd || r.Len() != s.Memsz:
			t.Errorf("%v: bad range", s)
		case !r.Covers(fr) || fr.Start != r.Start || fr.Len() != s.Filesz:
			t.Errorf("%v: file part %v", s, fr)
		case s.Filesz > 0 && uint64(s.Offset)%mem.PageSize != s.Vaddr%mem.PageSize:
			t.Errorf("%v: offset 0x%x", s, s.Offset)
		case s.Offset < 0 || s.Offset > math.MaxInt64-int64(s.Filesz):
			t.Errorf("%v: offset 0x%x, size 0x%x", s, s.Offset, s.Filesz)
		case !im.Span().Covers(r.PageAlign()):
			t.Errorf("%v is not in the span %v", s, im.Span())
		}
		last = s.Index
	}
	if strings.Contains(im.Interp, "\x00") || len(im.Interp) >= pathMax {
		t.Errorf("interpreter %q", im.Interp)
	}
	if im.StackProt != rw && im.StackProt != rwx {
		t.Errorf("stack %v", im.StackProt)
	}
	if bias, err := im.BiasAt(0x555555554000); err == nil {
		checkBias(t, im, 0x555555554000, bias)
	}
}

func TestParseFields(t *testing.T) {
	spec := elfgen.Spec{
		Type: elfgen.Dyn, Entry: 0x1234, Interp: "/lib/ld.so", Stack: rwx,
		Segments: []elfgen.Seg{
			{Vaddr: 0x000000, Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead},
			{Vaddr: 0x001010, Filesz: 0x0fff, Memsz: 0x0fff, Offset: 0x1010, Flags: rx, Align: 0x200000},
			{Vaddr: 0x700000}, // empty
			{Vaddr: 0x003008, Filesz: 0x0123, Memsz: 0x4567, Offset: 0x2008, Flags: rw},
			{Vaddr: 0x009001, Memsz: 0x0010, Offset: 77, Flags: mem.ProtWrite | mem.ProtExec},
		},
	}
	f := mem.NewBytesFile("x", elfgen.Build(spec, nil))
	im, err := Parse(f)
	checkImage(t, im, err)
	if im.File != f || !im.Dynamic || im.Entry != 0x1234 || im.Interp != "/lib/ld.so" || im.StackProt != rwx {
		t.Errorf("image %+v", im)
	}
	want := []Segment{
		{Index: 1, Vaddr: 0, Memsz: 0x1000, Filesz: 0x1000, Prot: mem.ProtRead, Align: 0x1000},
		{Index: 2, Vaddr: 0x1010, Memsz: 0xfff, Filesz: 0xfff, Offset: 0x1010, Prot: rx, Align: 0x200000},
		{Index: 4, Vaddr: 0x3008, Memsz: 0x4567, Filesz: 0x123, Offset: 0x2008, Prot: rw, Align: 0x1000},
		{Index: 5, Vaddr: 0x9001, Memsz: 0x10, Prot: mem.ProtWrite | mem.ProtExec, Align: 0x1000},
	}
	if d := cmp.Diff(want, im.Segments); d != "" {
		t.Errorf("segments (-want +got)\n%s", d)
	}
	if got, want := im.Span(), (mem.Range{Start: 0, End: 0xa000}); got != want {
		t.Errorf("span %v, want %v", got, want)
	}
	if got, want := im.Segments[2].String(), "segment 4 [0x3008, 0x756f)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// stacks are the flags of the PT_GNU_STACKs of a file and its stack: the last
// counts, and of that the execute flag alone.
var stacks = []struct {
	flags []uint32
	want  mem.Prot
}{
	{nil, rw},
	{[]uint32{6}, rw},
	{[]uint32{0}, rw},
	{[]uint32{7}, rwx},
	{[]uint32{1}, rwx},
	{[]uint32{7, 6}, rw},
	{[]uint32{6, 7}, rwx},
}

// buildStack returns a file with a PT_GNU_STACK for each of flags.
func buildStack(flags []uint32) []byte {
	b := elfgen.Build(exec(make([]elfgen.Seg, len(flags))...), nil)
	for i, f := range flags {
		b = extra(i+1, ptGNUStack, f, 0, 0)(b)
	}
	return b
}

func TestStackProt(t *testing.T) {
	for _, c := range stacks {
		im, err := Parse(mem.NewBytesFile("x", buildStack(c.flags)))
		if err != nil {
			t.Fatal(err)
		}
		if im.StackProt != c.want {
			t.Errorf("PT_GNU_STACK flags %v: %v, want %v", c.flags, im.StackProt, c.want)
		}
	}
}

// failing fails each read from the n-th on.
type failing struct {
	*mem.BytesFile
	n int
}

var errDisk = errors.New("disk on fire")

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.n--; f.n < 0 {
		return 0, errDisk
	}
	return f.BytesFile.ReadAt(p, off)
}

// TestReadErrors: the file's own errors come through and are none of the
// sentinels.
func TestReadErrors(t *testing.T) {
	data := elfgen.Build(with(exec(), func(s *elfgen.Spec) { s.Interp = interp }), nil)
	for n, what := range []string{"ELF header", "program headers", "interpreter path"} {
		_, err := Parse(&failing{mem.NewBytesFile("x", data), n})
		if !errors.Is(err, errDisk) || errors.Is(err, ErrMalformed) || errors.Is(err, ErrNotELF) || !strings.Contains(err.Error(), what) {
			t.Errorf("read %d: error %v", n, err)
		}
	}
	if _, err := Parse(&failing{mem.NewBytesFile("x", data), 3}); err != nil {
		t.Errorf("three reads: error %v", err)
	}
}

// bounded counts what is read.
type bounded struct {
	*mem.BytesFile
	n int
}

func (f *bounded) ReadAt(p []byte, off int64) (int, error) {
	f.n += len(p)
	return f.BytesFile.ReadAt(p, off)
}

// TestReadBound: Parse asks for no more than it says.
func TestReadBound(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 2000 {
		name, data := elfgen.Malformed(r)
		f := &bounded{mem.NewBytesFile(name, data), 0}
		Parse(f)
		if f.n > ehdrSize+maxTable+pathMax {
			t.Fatalf("%s: read %d bytes", name, f.n)
		}
	}
}

// TestRandom: what elfgen wrote comes back.
func TestRandom(t *testing.T) {
	windows := 0
	const n = 30
	for seed := range uint64(n) {
		spec, data := elfgen.Random(rand.New(rand.NewPCG(seed, 1)))
		im, err := Parse(mem.NewBytesFile("x", data))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		checkImage(t, im, err)
		var got []elfgen.Seg
		for _, s := range im.Segments {
			got = append(got, elfgen.Seg{Vaddr: s.Vaddr, Filesz: s.Filesz, Memsz: s.Memsz, Offset: uint64(s.Offset), Flags: s.Prot})
		}
		if d := cmp.Diff(spec.Segments, got); d != "" {
			t.Errorf("seed %d: segments (-want +got)\n%s", seed, d)
		}
		if im.Dynamic != (spec.Type == elfgen.Dyn) || im.Entry != spec.Entry || im.Interp != spec.Interp || im.StackProt != spec.Stack {
			t.Errorf("seed %d: image %+v of spec %+v", seed, im, spec)
		}
		if fullPages(im) >= 128 {
			windows++
		}
	}
	if windows < n*2/3 {
		t.Errorf("%d of %d files have a window with 128 full read-only pages", windows, n)
	}
}

// fullPages returns the most full read-only pages that any window of im holds.
func fullPages(im *Image) int {
	count := map[mem.VirtAddr]int{}
	most := 0
	for _, s := range im.Segments {
		if s.Prot&mem.ProtWrite != 0 {
			continue
		}
		for a := s.Range(0).PageAlign().Start; a < s.Range(0).End; a += mem.PageSize {
			if s.FileRange(0).Covers(mem.PageOf(a)) {
				count[a.HugeDown()]++
				most = max(most, count[a.HugeDown()])
			}
		}
	}
	return most
}

func FuzzParse(f *testing.F) {
	for i := range rules {
		f.Add(build(i)[:min(len(build(i)), 0x1000)])
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		_, data := elfgen.Malformed(r)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		im, err := Parse(mem.NewBytesFile("x", data))
		checkImage(t, im, err)
		again, _ := Parse(mem.NewBytesFile("x", data))
		if im != nil {
			im.File, again.File = nil, nil
			if d := cmp.Diff(im, again, cmp.AllowUnexported(Image{})); d != "" {
				t.Errorf("two images of the same bytes\n%s", d)
			}
		}
	})
}
