package elfgen

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

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
	{"bad magic", func(r *rand.Rand, b []byte) []byte { b[r.IntN(4)] ^= 0x20; return b }},
	{"truncated in the headers", func(r *rand.Rand, b []byte) []byte { return b[:1+r.IntN(ehdrSize+4*phdrSize)] }},
	{"truncated", func(r *rand.Rand, b []byte) []byte { return b[:1+r.IntN(len(b)-1)] }},
	{"32-bit", func(_ *rand.Rand, b []byte) []byte {
		b[4] = 1
		return set16(set16(b, ehMachine, 3), ehPhentsize, 32)
	}},
	{"x32", func(_ *rand.Rand, b []byte) []byte { b[4] = 1; return set16(b, ehPhentsize, 32) }},
	{"big-endian", func(_ *rand.Rand, b []byte) []byte {
		b[5] = 2
		return set16(set16(b, ehType, Exec<<8), ehMachine, machineX86_64<<8)
	}},
	{"other machine", func(_ *rand.Rand, b []byte) []byte { return set16(b, ehMachine, 183) }}, // AArch64
	{"ET_REL", func(_ *rand.Rand, b []byte) []byte { return set16(b, ehType, 1) }},
	{"ET_CORE", func(_ *rand.Rand, b []byte) []byte { return set16(b, ehType, 4) }},
	{"phentsize", func(r *rand.Rand, b []byte) []byte { return set16(b, ehPhentsize, uint16(r.Uint32())) }},
	{"no program headers", func(_ *rand.Rand, b []byte) []byte { return set16(b, ehPhnum, 0) }},
	{"65535 program headers", func(_ *rand.Rand, b []byte) []byte { return set16(b, ehPhnum, 0xffff) }},
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
// kind. Linux refuses most; overlapping and unordered segments it runs.
func Malformed(r *rand.Rand) (name string, data []byte) {
	s := Spec{
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
	k := breakers[r.IntN(len(breakers))]
	return k.name, k.f(r, Build(s, nil))
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

func set64(b []byte, off int, v uint64) []byte {
	binary.LittleEndian.PutUint64(b[off:], v)
	return b
}
