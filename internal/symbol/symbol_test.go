package symbol

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"vmsim/mem"
)

// sym is a symbol of a hand-made file.
type sym struct {
	name        string
	info        byte // STB << 4 | STT
	section     uint16
	value, size uint64
}

const (
	local, global = 0 << 4, 1 << 4
	notype        = 0
	object        = 1
	function      = 2
	sectionSym    = 3
	tls           = 6
)

// build returns an ELF64 file with a table of the given type, 2 (SHT_SYMTAB) or
// 11 (SHT_DYNSYM), and its names.
func build(typ uint32, syms []sym) []byte {
	le := binary.LittleEndian
	names := []byte{0}
	table := make([]byte, 24)
	for _, s := range syms {
		at := uint32(len(names))
		if s.name == "" {
			at = 0
		} else {
			names = append(append(names, s.name...), 0)
		}
		table = le.AppendUint32(table, at)
		table = append(table, s.info, 0)
		table = le.AppendUint16(table, s.section)
		table = le.AppendUint64(table, s.value)
		table = le.AppendUint64(table, s.size)
	}
	shstr := []byte("\x00.shstrtab\x00")
	b := make([]byte, 64)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 3)
	le.PutUint16(b[18:], 62)
	le.PutUint32(b[20:], 1)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[58:], 64)
	le.PutUint16(b[60:], 4)
	le.PutUint16(b[62:], 3)
	offs := []uint64{}
	for _, part := range [][]byte{table, names, shstr} {
		offs = append(offs, uint64(len(b)))
		b = append(b, part...)
	}
	le.PutUint64(b[40:], uint64(len(b)))
	header := func(typ, link uint32, off uint64, size int, entsize uint64) {
		b = le.AppendUint32(b, 0)
		b = le.AppendUint32(b, typ)
		b = append(b, make([]byte, 16)...) // flags, addr
		b = le.AppendUint64(b, off)
		b = le.AppendUint64(b, uint64(size))
		b = le.AppendUint32(b, link)
		b = append(b, make([]byte, 12)...)
		b = le.AppendUint64(b, entsize)
	}
	header(0, 0, 0, 0, 0)
	header(typ, 2, offs[0], len(table), 24)
	header(3, 0, offs[1], len(names), 0)
	header(3, 0, offs[2], len(shstr), 0)
	return b
}

var some = []sym{
	{"alias", local | function, 1, 0x1000, 0x100},
	{"outer", global | function, 1, 0x1000, 0x100},
	{"inner", local | notype, 1, 0x1040, 0},
	{"nested", global | function, 1, 0x1080, 0x10},
	{"asm", global | notype, 1, 0x1200, 0},
	{"data", global | object, 2, 0x2000, 8},
	{"undefined", global | function, 0, 0x1800, 0x100},
	{"absolute", global | notype, 0xfff1, 0x1900, 0x100},
	{"thread", global | tls, 2, 0x1a00, 0x100},
	{"section", local | sectionSym, 1, 0x1b00, 0x100},
	{"", global | function, 1, 0x1c00, 0x100},
}

func TestName(t *testing.T) {
	f := mem.NewBytesFile("x", build(2, some))
	table := Open(f, "")
	defer table.Close()
	for _, c := range []struct {
		addr uint64
		want string
	}{
		{0xfff, ""},
		{0x1000, "outer"}, // global before local
		{0x1001, "outer+0x1"},
		{0x1050, "outer+0x50"}, // a label inside does not hide the function
		{0x1085, "nested+0x5"}, // a function inside does
		{0x1090, "outer+0x90"}, // behind it
		{0x10ff, "outer+0xff"}, // the last byte
		{0x1100, ""},           // behind it
		{0x1200, "asm"},        // without a size: up to the next
		{0x1fff, "asm+0xdff"},  //
		{0x2007, "data+0x7"},   //
		{0x2008, ""},           //
		{1<<64 - 1, ""},        //
	} {
		if got := table.Name(c.addr); got != c.want {
			t.Errorf("0x%x is %q, want %q", c.addr, got, c.want)
		}
	}
}

// .symtab, else the debug file, else .dynsym.
func TestSources(t *testing.T) {
	dir := t.TempDir()
	const id = "ab0123"
	at := func(name string) []sym { return []sym{{name, global | function, 1, 0x1000, 16}} }
	if err := os.MkdirAll(filepath.Join(dir, "ab"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ab", "0123.debug"), build(2, at("debug")), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, id, want string
		data           []byte
	}{
		{"symtab wins", id, "own", build(2, at("own"))},
		{"debug file", id, "debug", build(11, at("dynamic"))},
		{"another build id", "cd0123", "dynamic", build(11, at("dynamic"))},
		{"no build id", "", "dynamic", build(11, at("dynamic"))},
		{"no ELF", "", "", []byte("no ELF file")},
		{"empty table", "", "", build(2, nil)},
	} {
		table := open(mem.NewBytesFile("x", c.data), c.id, dir)
		if got := table.Name(0x1000); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		table.Close()
	}
}

// FuzzOpen: any bytes have symbols or none, and can be asked.
func FuzzOpen(f *testing.F) {
	f.Add(build(2, some), uint64(0x1001))
	f.Add(build(11, some), uint64(0x2001))
	huge := build(2, some)
	binary.LittleEndian.PutUint64(huge[len(huge)-3*64+32:], 1<<62) // the size of the table
	f.Add(huge, uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, addr uint64) {
		table := open(mem.NewBytesFile("fuzz", data), "", t.TempDir())
		defer table.Close()
		if len(table.syms) > len(data)/16 {
			t.Fatalf("%d symbols of %d bytes", len(table.syms), len(data))
		}
		if name := table.Name(addr); name != "" && !bytes.Contains(data, []byte(name[:1])) {
			t.Fatalf("%q is not in the file", name)
		}
	})
}
