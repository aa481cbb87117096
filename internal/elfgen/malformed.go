package elfgen

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"vmsim/mem"
)

// maxTable is how many program headers Linux takes
// (fs/binfmt_elf.c:load_elf_phdrs).
const maxTable = 65536 / phdrSize

// odd are the sizes, offsets and addresses at which arithmetic goes wrong.
var odd = []uint64{
	0, 1, 0xfff, 0x1000, 0x1001, 1 << 31, 1<<32 - 1, 1 << 32,
	1<<47 - 0x2000, 1<<47 - 0x1000, 1<<47 - 1, 1 << 47,
	math.MaxInt64 - 0xfff, math.MaxInt64, 1 << 63, 1<<63 + 0x1000,
	math.MaxUint64 - 0x1000, math.MaxUint64 - 0xfff, math.MaxUint64,
}

// breaker is one way to break a file: it changes b in place or returns another.
type breaker struct {
	name string
	f    func(r *rand.Rand, b []byte) []byte
}

var breakers = []breaker{
	{"empty", func(*rand.Rand, []byte) []byte { return nil }},
	{"script", func(*rand.Rand, []byte) []byte { return []byte("#!/bin/sh\nexit 0\n") }},
	{"text", func(*rand.Rand, []byte) []byte { return []byte("plain text\n") }},
	{"a bit of magic", func(r *rand.Rand, b []byte) []byte { return b[:1+r.IntN(4)] }},
	{"magic alone", func(r *rand.Rand, b []byte) []byte { clear(b[4:]); return b[:4+r.IntN(len(b)-4)] }},
	{"bad magic", func(r *rand.Rand, b []byte) []byte { b[r.IntN(4)] ^= 0x20; return b }},
	{"truncated in the headers", func(r *rand.Rand, b []byte) []byte { return b[:1+r.IntN(ehdrSize+4*phdrSize)] }},
	{"truncated", func(r *rand.Rand, b []byte) []byte { return b[:1+r.IntN(len(b)-1)] }},
	{"32-bit", func(_ *rand.Rand, b []byte) []byte {
		b[4] = 1
		return set16(set16(b, ehMachine, 3), ehPhentsize, 32)
	}},
	{"ELF32", func(r *rand.Rand, b []byte) []byte { return header32(r, b) }},
	{"x32", func(_ *rand.Rand, b []byte) []byte { b[4] = 1; return set16(b, ehPhentsize, 32) }},
	{"big-endian", func(_ *rand.Rand, b []byte) []byte {
		b[5] = 2
		return set16(set16(b, ehType, Exec<<8), ehMachine, machineX86_64<<8)
	}},
	{"other machine", func(r *rand.Rand, b []byte) []byte { return set16(b, ehMachine, machines[r.IntN(len(machines))]) }},
	{"ET_REL", func(_ *rand.Rand, b []byte) []byte { return set16(b, ehType, 1) }},
	{"other type", func(r *rand.Rand, b []byte) []byte { return set16(b, ehType, uint16(r.Uint32())) }},
	{"ET_CORE", func(_ *rand.Rand, b []byte) []byte { return set16(b, ehType, 4) }},
	{"phentsize", func(r *rand.Rand, b []byte) []byte { return set16(b, ehPhentsize, uint16(r.Uint32())) }},
	{"no program headers", func(_ *rand.Rand, b []byte) []byte { return set16(b, ehPhnum, 0) }},
	{"65535 program headers", func(_ *rand.Rand, b []byte) []byte { return set16(b, ehPhnum, 0xffff) }},
	{"PN_XNUM", func(_ *rand.Rand, b []byte) []byte { // 65535: the number is sh_info of section 0
		at := uint64(len(b))
		b = append(b, make([]byte, shdrSize)...)
		binary.LittleEndian.PutUint32(b[at+shInfo:], uint32(phnum(b)))
		b = set16(set16(set64(b, ehShoff, at), ehShentsize, shdrSize), ehShnum, 1)
		return set16(b, ehPhnum, 0xffff)
	}},
	{"long table", func(r *rand.Rand, b []byte) []byte {
		n := []int{maxTable - 1, maxTable, maxTable + 1, 2 * maxTable}[r.IntN(4)]
		if r.IntN(10) == 0 { // 3.7 MB
			n = 0xffff
		}
		return table(b, n, func(int, []byte) {})
	}},
	{"many segments", func(r *rand.Rand, b []byte) []byte {
		kind, n := r.IntN(4), 1+r.IntN(maxTable)
		if kind == 2 {
			n = 1 + n/16 // each takes some 512 pages to touch
		}
		return table(b, n, func(i int, p []byte) {
			at := uint64(0x600000 + i*0x1000)
			switch kind {
			case 0: // in one page
				at = 0x600000 + uint64(i)
			case 1: // each over its neighbours
				at = 0x600000 + uint64(i)*0x800
			case 2: // each in a window of its own
				at = 0x600000 + uint64(i)<<21
			}
			h := phdr(typeLoad, mem.Prot(r.IntN(8)), at%0x1000, at, uint64(r.IntN(0x1400)), 0x1400, 0x1000)
			copy(p, h[:])
		})
	}},
	{"section headers", func(r *rand.Rand, b []byte) []byte { // Linux does not look at them
		return set16(set16(set16(set64(b, ehShoff, pick(r)), ehShentsize, uint16(r.Uint32())), ehShnum, uint16(r.Uint32())), ehShnum+2, uint16(r.Uint32()))
	}},
	{"e_ident", func(r *rand.Rand, b []byte) []byte { // nor at these
		for i := 4; i < 16; i++ {
			b[i] = byte(r.Uint32())
		}
		b[4], b[5] = byte(r.IntN(3)), byte(r.IntN(3)) // class and byte order
		return b
	}},
	{"entry", func(r *rand.Rand, b []byte) []byte { return set64(b, ehEntry, pick(r)) }},
	{"interpreter", func(r *rand.Rand, b []byte) []byte {
		i := field(r, b, 0)
		return set64(set64(set32(b, i, typeInterp), i+phOffset, pick(r)), i+phFilesz, pick(r)%0x2000)
	}},
	{"permissions", func(r *rand.Rand, b []byte) []byte {
		for i := range phnum(b) {
			b = set32(b, ehdrSize+i*phdrSize+phFlags, uint32(r.IntN(8))|r.Uint32()<<(3+r.IntN(30)))
		}
		return b
	}},
	{"alignment", func(r *rand.Rand, b []byte) []byte { return set64(b, field(r, b, phAlign), pick(r)) }},
	{"far apart", func(r *rand.Rand, b []byte) []byte {
		i := field(r, b, phVaddr)
		return set64(b, i, binary.LittleEndian.Uint64(b[i:])+1<<(21+r.IntN(26)))
	}},
	{"large .bss", func(r *rand.Rand, b []byte) []byte { return set64(b, field(r, b, phMemsz), 1<<(13+r.IntN(35))) }},
	{"beyond the end of the file", func(r *rand.Rand, b []byte) []byte {
		i, n := field(r, b, 0), uint64(1)<<(13+r.IntN(35))
		return set64(set64(b, i+phFilesz, n), i+phMemsz, n+r.Uint64N(2)*0x3000)
	}},
	{"program headers elsewhere", func(r *rand.Rand, b []byte) []byte { return set64(b, ehPhoff, pick(r)) }},
	{"no PT_LOAD", func(_ *rand.Rand, b []byte) []byte {
		for i := range phnum(b) {
			binary.LittleEndian.PutUint32(b[ehdrSize+i*phdrSize+phType:], 4) // PT_NOTE
		}
		return b
	}},
	{"file size exceeds memory size", func(r *rand.Rand, b []byte) []byte {
		i := field(r, b, phMemsz)
		return set64(b, i, binary.LittleEndian.Uint64(b[i:])/2)
	}},
	{"incongruent", func(r *rand.Rand, b []byte) []byte {
		i := field(r, b, phOffset)
		return set64(b, i, binary.LittleEndian.Uint64(b[i:])+1+r.Uint64N(4095))
	}},
	{"overlapping", func(r *rand.Rand, b []byte) []byte {
		i, j := field(r, b, phVaddr), field(r, b, phVaddr)
		return set64(b, i, binary.LittleEndian.Uint64(b[j:])&^0xfff|binary.LittleEndian.Uint64(b[i:])&0xfff)
	}},
	{"unordered", func(r *rand.Rand, b []byte) []byte {
		n := phnum(b)
		r.Shuffle(n, func(i, j int) {
			var t [phdrSize]byte
			p, q := b[ehdrSize+i*phdrSize:][:phdrSize], b[ehdrSize+j*phdrSize:][:phdrSize]
			copy(t[:], p)
			copy(p, q)
			copy(q, t[:])
		})
		return b
	}},
	{"zero-sized", func(r *rand.Rand, b []byte) []byte {
		i := field(r, b, 0)
		return set64(set64(b, i+phFilesz, 0), i+phMemsz, 0)
	}},
	{"odd offset", func(r *rand.Rand, b []byte) []byte { return set64(b, field(r, b, phOffset), pick(r)) }},
	{"odd address", func(r *rand.Rand, b []byte) []byte { return set64(b, field(r, b, phVaddr), pick(r)) }},
	{"odd file size", func(r *rand.Rand, b []byte) []byte { return set64(b, field(r, b, phFilesz), pick(r)) }},
	{"odd memory size", func(r *rand.Rand, b []byte) []byte { return set64(b, field(r, b, phMemsz), pick(r)) }},
	{"odd sizes", func(r *rand.Rand, b []byte) []byte {
		i, v := field(r, b, 0), pick(r)
		return set64(set64(b, i+phFilesz, v), i+phMemsz, v)
	}},
	{"odd everything", func(r *rand.Rand, b []byte) []byte {
		for range 2 + r.IntN(4) {
			b = set64(b, field(r, b, 8+8*r.IntN(6)), pick(r))
		}
		return b
	}},
	{"random headers", func(r *rand.Rand, b []byte) []byte {
		for range 1 + r.IntN(8) {
			b[4+r.IntN(ehdrSize+4*phdrSize-4)] = byte(r.Uint32())
		}
		return b
	}},
}

// Malformed returns one of many kinds of hostile file and the name of its
// kind. Linux refuses most; it runs those with overlapping and unordered
// segments, and those that are odd where it does not look. One in some 500 files
// has 3.7 MB, the others at most 136 KiB.
func Malformed(r *rand.Rand) (name string, data []byte) {
	k := breakers[r.IntN(len(breakers))]
	return k.name, k.f(r, Build(victim(r), nil))
}

// Kinds returns the names that Malformed knows.
func Kinds() (names []string) {
	for _, k := range breakers {
		names = append(names, k.name)
	}
	return names
}

// victim is a file that Linux runs, to be broken.
func victim(r *rand.Rand) Spec {
	return Spec{
		Type:   Exec + uint16(r.IntN(2)),
		Stack:  rw,
		Entry:  0x400000,
		Interp: []string{"", "/lib64/ld-linux-x86-64.so.2"}[r.IntN(2)],
		Segments: []Seg{
			{Vaddr: 0x400000, Filesz: 0x1234, Memsz: 0x1234, Flags: rx},
			{Vaddr: 0x402234, Filesz: 0xdcd, Memsz: 0x2000, Offset: 0x1234, Flags: rw},
			{Vaddr: 0x405001, Filesz: 0x10, Memsz: 0x10, Offset: 0x2001, Flags: ro},
		},
	}
}

// machines are values of e_machine: SPARC, i386, 68k, MIPS, PowerPC, PowerPC64,
// s390, ARM, Itanium, x86-64's neighbours, AArch64, RISC-V, LoongArch, none.
var machines = []uint16{2, 3, 4, 8, 20, 21, 22, 40, 50, 61, 63, 183, 243, 258, 0, 0xffff}

// header32 makes the header of b an ELF32 one, with program headers of 32 bytes
// behind it.
func header32(r *rand.Rand, b []byte) []byte {
	const ehdr32, phdr32 = 52, 32
	le := binary.LittleEndian
	h := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, ehdr32+phdr32-7)...)
	le.PutUint16(h[16:], Exec+uint16(r.IntN(2)))
	le.PutUint16(h[18:], []uint16{3, 40, machineX86_64}[r.IntN(3)]) // i386, ARM, x32
	le.PutUint32(h[20:], 1)
	le.PutUint32(h[24:], 0x8048000) // e_entry
	le.PutUint32(h[28:], ehdr32)    // e_phoff
	le.PutUint16(h[40:], ehdr32)
	le.PutUint16(h[42:], phdr32)
	le.PutUint16(h[44:], 1)
	for i, v := range []uint32{typeLoad, 0, 0x8048000, 0x8048000, 0x1000, 0x1000, 5, 0x1000} {
		le.PutUint32(h[ehdr32+4*i:], v)
	}
	copy(b, h)
	return b
}

// table moves the program headers of b to its end and adds others up to n in
// all, each filled by fill, which gets its number and 56 zeros.
func table(b []byte, n int, fill func(i int, p []byte)) []byte {
	had := min(phnum(b), n)
	t := make([]byte, n*phdrSize)
	copy(t, b[ehdrSize:ehdrSize+had*phdrSize])
	for i := had; i < n; i++ {
		fill(i, t[i*phdrSize:][:phdrSize])
	}
	b = set16(set64(b, ehPhoff, uint64(len(b))), ehPhnum, uint16(n))
	return append(b, t...)
}

// pick returns an odd number, or one near it, or any.
func pick(r *rand.Rand) uint64 {
	switch v := odd[r.IntN(len(odd))]; r.IntN(4) {
	case 0:
		return v + r.Uint64N(5) - 2
	case 1:
		return r.Uint64() >> r.IntN(64)
	default:
		return v
	}
}

// field returns where in b a field of one of its PT_LOADs lies.
func field(r *rand.Rand, b []byte, off int) int {
	var loads []int
	for i := range phnum(b) {
		at := ehdrSize + i*phdrSize
		if binary.LittleEndian.Uint32(b[at+phType:]) == typeLoad {
			loads = append(loads, at)
		}
	}
	return loads[r.IntN(len(loads))] + off
}

func phnum(b []byte) int { return int(binary.LittleEndian.Uint16(b[ehPhnum:])) }

func set16(b []byte, off int, v uint16) []byte {
	binary.LittleEndian.PutUint16(b[off:], v)
	return b
}

func set32(b []byte, off int, v uint32) []byte {
	binary.LittleEndian.PutUint32(b[off:], v)
	return b
}

func set64(b []byte, off int, v uint64) []byte {
	binary.LittleEndian.PutUint64(b[off:], v)
	return b
}
