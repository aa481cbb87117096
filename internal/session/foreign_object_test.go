package session

import (
	"bytes"
	"encoding/binary"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/mem"
)

// object of a hand-made ET_DYN.
func madeObject(t *testing.T, spots []spot, segs ...elfgen.Seg) *object {
	t.Helper()
	data := elfgen.Build(elfgen.Spec{Type: elfgen.Dyn, Segments: segs, Size: 0x10000}, nil)
	o := newObject(mem.NewBytesFile("made", data), spots)
	if o.head == nil {
		t.Fatal("no headers")
	}
	return o
}

func at(start mem.VirtAddr, pages uint64, off uint64) spot {
	return spot{mem.Range{Start: start, End: start + mem.VirtAddr(pages)*mem.PageSize}, off}
}

// What the headers say of a page, where segments share one of the file, where
// they follow each other without a gap, and where the file is data.
func TestRight(t *testing.T) {
	const rx, ro, rw = mem.ProtRead | mem.ProtExec, mem.ProtRead, mem.ProtRead | mem.ProtWrite
	// Text and data share file page 1, as ld -z noseparate-code makes them.
	shared := []elfgen.Seg{
		{Vaddr: 0, Filesz: 0x1800, Memsz: 0x1800, Offset: 0, Flags: rx},
		{Vaddr: 0x2800, Filesz: 0x1000, Memsz: 0x1000, Offset: 0x1800, Flags: rw}}
	loaded := []spot{at(0x7000000, 2, 0), at(0x7002000, 2, 0x1000)}
	// Read-only data and text are one mapping, whose segments have one flag each.
	merged := []elfgen.Seg{
		{Vaddr: 0, Filesz: 0x2000, Memsz: 0x2000, Offset: 0, Flags: ro},
		{Vaddr: 0x2000, Filesz: 0x2000, Memsz: 0x2000, Offset: 0x2000, Flags: rx}}
	// RELRO: data that begins where the read-only segment ends in the file.
	relro := []elfgen.Seg{
		{Vaddr: 0, Filesz: 0x1100, Memsz: 0x1100, Offset: 0, Flags: ro},
		{Vaddr: 0x2100, Filesz: 0x2000, Memsz: 0x2000, Offset: 0x1100, Flags: rw}}
	relroLoaded := []spot{at(0x7000000, 2, 0), at(0x7002000, 1, 0x1000), at(0x7003000, 2, 0x2000)}
	relroSplit := []spot{at(0x7000000, 1, 0), at(0x7001000, 1, 0x1000), at(0x7002000, 1, 0x1000), at(0x7003000, 2, 0x2000)}
	for _, c := range []struct {
		name  string
		segs  []elfgen.Seg
		spots []spot
		p     spot
		off   uint64
		want  right
	}{
		{"text", shared, loaded, loaded[0], 0, text},
		{"the shared page, in text", shared, loaded, loaded[0], 0x1000, text},
		{"the shared page, in data", shared, loaded, loaded[1], 0x1000, writable},
		{"data", shared, loaded, loaded[1], 0x2000, writable},
		{"the first of two in one mapping", merged, []spot{at(0x7000000, 4, 0)}, at(0x7000000, 4, 0), 0x1000, readOnly},
		{"the second", merged, []spot{at(0x7000000, 4, 0)}, at(0x7000000, 4, 0), 0x2000, text},
		{"RELRO, read-only by now", relro, relroLoaded, relroLoaded[1], 0x1000, writable},
		{"the same page of the read-only segment", relro, relroLoaded, relroLoaded[0], 0x1000, readOnly},
		{"that page as a mapping of its own", relro, relroSplit, relroSplit[1], 0x1000, readOnly},
		{"behind all segments", shared, loaded, at(0x8000000, 1, 0x8000), 0x8000, asData},
		{"the whole file, as data", shared, []spot{at(0x9000000, 16, 0)}, at(0x9000000, 16, 0), 0, asData},
		{"loaded twice", shared, append(loaded, at(0xa000000, 2, 0), at(0xa002000, 2, 0x1000)), at(0xa002000, 2, 0x1000), 0x1000, writable},
	} {
		o := madeObject(t, c.spots, c.segs...)
		for range 2 { // the second answer comes from the cache
			if got := o.right(c.p, c.off); got != c.want {
				t.Errorf("%s: %d, want %d", c.name, got, c.want)
			}
		}
	}
	none := newObject(mem.NewBytesFile("text", []byte("no ELF file")), nil)
	if got := none.right(at(0x7000000, 1, 0), 0); got != noELF || none.symbol(0x7000000, 0) != "" {
		t.Errorf("no ELF file: %d", got)
	}
	none.close()
}

// DT_TEXTREL in a segment that is not writable.
func TestRightTextRel(t *testing.T) {
	const rx = mem.ProtRead | mem.ProtExec
	segs := []elfgen.Seg{{Filesz: 0x2000, Memsz: 0x2000, Flags: rx}, {Vaddr: 0x800, Offset: 0x800, Filesz: 32, Memsz: 32, Flags: rx}}
	data := elfgen.Build(elfgen.Spec{Type: elfgen.Dyn, Segments: segs}, nil)
	binary.LittleEndian.PutUint32(data[64+56:], 2) // PT_DYNAMIC
	copy(data[0x800:], bytes.Repeat([]byte{0}, 32))
	data[0x800] = 22
	o := newObject(mem.NewBytesFile("x", data), []spot{at(0x7000000, 2, 0)})
	if got := o.right(at(0x7000000, 2, 0), 0x1000); got != textRel {
		t.Errorf("%d", got)
	}
}
