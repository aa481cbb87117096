package elfhead

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/mem"
)

// file is a hand-made file of either class and byte order.
type file struct {
	class int
	order binary.AppendByteOrder
	typ   uint16
	progs []Prog
	xnum  bool   // e_phnum is PN_XNUM
	tail  []byte // behind the program headers
}

func (f file) word(b []byte, v uint64) []byte {
	if f.class == 32 {
		return f.order.AppendUint32(b, uint32(v))
	}
	return f.order.AppendUint64(b, v)
}

// head returns the sizes of the ELF header and of a program header.
func (f file) head() (eh, ph uint64) {
	if f.class == 32 {
		return 52, 32
	}
	return 64, 56
}

func (f file) build() []byte {
	eh, ph := f.head()
	sh := uint64(0)
	if f.xnum {
		sh = eh + ph*uint64(len(f.progs))
	}
	b := append([]byte("\x7fELF"), byte(f.class/32), 1, 1)
	if f.order.String() == binary.BigEndian.String() {
		b[5] = 2
	}
	b = append(b, make([]byte, 9)...)
	b = f.order.AppendUint16(b, f.typ)
	b = f.order.AppendUint16(b, 62)
	b = f.order.AppendUint32(b, 1)
	b = f.word(b, 0x1234)
	b = f.word(b, eh)
	b = f.word(b, sh)
	b = f.order.AppendUint32(b, 0)
	num := uint16(len(f.progs))
	if f.xnum {
		num = 0xffff
	}
	for _, v := range []uint16{uint16(eh), uint16(ph), num, 0, 0, 0} {
		b = f.order.AppendUint16(b, v)
	}
	for _, p := range f.progs {
		b = f.order.AppendUint32(b, p.Type)
		flags := uint32(0)
		for i, prot := range []mem.Prot{mem.ProtExec, mem.ProtWrite, mem.ProtRead} {
			if p.Prot&prot != 0 {
				flags |= 1 << i
			}
		}
		if f.class == 64 {
			b = f.order.AppendUint32(b, flags)
		}
		for _, v := range []uint64{p.Off, p.Vaddr, p.Vaddr, p.Filesz, p.Memsz} {
			b = f.word(b, v)
		}
		if f.class == 32 {
			b = f.order.AppendUint32(b, flags)
		}
		b = f.word(b, p.Align)
	}
	if f.xnum {
		s := make([]byte, 64)
		at := 44
		if f.class == 32 {
			at = 28
		}
		f.order.(binary.ByteOrder).PutUint32(s[at:], uint32(len(f.progs)))
		b = append(b, s...)
	}
	return append(b, f.tail...)
}

var classes = []file{
	{class: 64, order: binary.LittleEndian}, {class: 64, order: binary.BigEndian},
	{class: 32, order: binary.LittleEndian}, {class: 32, order: binary.BigEndian},
}

func TestRead(t *testing.T) {
	progs := []Prog{
		{Type: Load, Prot: mem.ProtRead | mem.ProtExec, Off: 0, Vaddr: 0x1000, Filesz: 0x234, Memsz: 0x234, Align: 0x1000},
		{Type: Load, Prot: mem.ProtRead | mem.ProtWrite, Off: 0x234, Vaddr: 0x2234, Filesz: 0x10, Memsz: 0x999, Align: 0x1000},
		{Type: 0x6474e551, Prot: mem.ProtRead | mem.ProtWrite},
	}
	for _, f := range classes {
		for _, f.xnum = range []bool{false, true} {
			f.typ, f.progs = TypeDyn, progs
			data := f.build()
			h, err := Read(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				t.Fatalf("%d bits, %v: %v", f.class, f.order, err)
			}
			want := &Head{Class: f.class, Type: TypeDyn, Entry: 0x1234, Progs: progs}
			want.Order = f.order.(binary.ByteOrder)
			if d := cmp.Diff(want, h, cmp.Comparer(func(a, b binary.ByteOrder) bool { return a == b })); d != "" {
				t.Errorf("%d bits, %v: %s", f.class, f.order, d)
			}
			// Cut anywhere: an error, and never part of a table.
			for n := range data {
				if h, err := Read(bytes.NewReader(data[:n]), int64(n)); err == nil && len(h.Progs) != len(progs) {
					t.Fatalf("%d bits, %v, cut to %d bytes: %+v", f.class, f.order, n, h)
				}
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	good := file{class: 64, order: binary.LittleEndian, typ: TypeDyn, progs: []Prog{{Type: Load, Filesz: 10}}}
	le := binary.LittleEndian
	for _, c := range []struct {
		name  string
		spoil func(b []byte)
		want  string
	}{
		{"magic", func(b []byte) { b[0] = 0 }, "not an ELF file"},
		{"e_phentsize", func(b []byte) { b[54] = 32 }, "e_phentsize 32 is not 56"},
		{"e_phoff", func(b []byte) { le.PutUint64(b[32:], 1<<63) }, "cut off by the end of the file"},
		{"e_phoff near 2^64", func(b []byte) { le.PutUint64(b[32:], 1<<64-1) }, "cut off by the end of the file"},
		{"PN_XNUM without sections", func(b []byte) { le.PutUint16(b[56:], 0xffff) }, "there is no section header 0"},
		{"PN_XNUM, section headers elsewhere", func(b []byte) { le.PutUint16(b[56:], 0xffff); le.PutUint64(b[40:], 1<<40) }, "cannot be read"},
		{"p_filesz", func(b []byte) { le.PutUint64(b[64+32:], 1<<63) }, "beyond any file"},
		{"p_offset", func(b []byte) { le.PutUint64(b[64+8:], 1<<63-5) }, "beyond any file"},
	} {
		data := good.build()
		c.spoil(data)
		h, err := Read(bytes.NewReader(data), int64(len(data)))
		if err == nil || h != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want %q", c.name, h, err, c.want)
		}
		if errors.Is(err, ErrNotELF) != (c.name == "magic") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// So many program headers would be read if the file had them.
	f := file{class: 64, order: binary.LittleEndian, xnum: true}
	data := f.build()
	le.PutUint32(data[64+44:], MaxProgs+1)
	if _, err := Read(bytes.NewReader(data), 1<<40); err == nil || !strings.Contains(err.Error(), "are more than") {
		t.Errorf("%v", err)
	}
}

// note returns a note as it lies in a segment.
func (f file) note(name string, typ uint32, desc []byte, align int) []byte {
	b := f.order.AppendUint32(nil, uint32(len(name)+1))
	b = f.order.AppendUint32(b, uint32(len(desc)))
	b = append(f.order.AppendUint32(b, typ), name...)
	b = append(b, 0)
	for len(b)%align != 0 {
		b = append(b, 0)
	}
	b = append(b, desc...)
	for len(b)%align != 0 {
		b = append(b, 0)
	}
	return b
}

func TestNotes(t *testing.T) {
	for _, f := range classes {
		eh, ph := f.head()
		at := eh + 3*ph
		one := append(f.note("GNU", 5, []byte{1, 2, 3}, 8), f.note("long name", 9, nil, 8)...)
		two := append(f.note("CORE", 3, []byte("not it"), 4), f.note("GNU", 3, []byte{0xab, 0xcd, 0xef}, 4)...)
		cut := f.note("GNU", 3, []byte("claims more"), 4)
		cut = cut[:len(cut)-3]
		f.progs = []Prog{
			{Type: Note, Off: at, Filesz: uint64(len(one)), Align: 8},
			{Type: Note, Off: at + uint64(len(one)), Filesz: uint64(len(two)), Align: 4},
			{Type: Note, Off: at + uint64(len(one)+len(two)), Filesz: 1 << 50, Align: 4},
		}
		if f.class == 32 {
			f.progs[2].Filesz = 1 << 31
		}
		f.tail = append(append(one, two...), cut...)
		data := f.build()
		h, err := Read(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		var got []Item
		for it := range h.Notes(bytes.NewReader(data)) {
			got = append(got, it)
		}
		want := []Item{{"GNU", 5, []byte{1, 2, 3}}, {"long name", 9, []byte{}}, {"CORE", 3, []byte("not it")}, {"GNU", 3, []byte{0xab, 0xcd, 0xef}}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%d bits, %v: %s", f.class, f.order, d)
		}
		if id := h.BuildID(bytes.NewReader(data)); id != "abcdef" {
			t.Errorf("build id %q", id)
		}
	}
}

func TestTextIn(t *testing.T) {
	for _, f := range classes {
		eh, ph := f.head()
		for _, c := range []struct {
			name string
			dyn  []uint64
			want bool
		}{
			{"none", []uint64{1, 2, 30, 8, 0, 0}, false},
			{"DT_TEXTREL", []uint64{1, 2, 22, 0, 0, 0}, true},
			{"DF_TEXTREL", []uint64{30, 12, 0, 0}, true},
			{"behind the end", []uint64{0, 0, 22, 0}, false},
			{"cut off", []uint64{22}, false},
		} {
			f.tail = nil
			for _, v := range c.dyn {
				f.tail = f.word(f.tail, v)
			}
			f.progs = []Prog{{Type: Dynamic, Off: eh + ph, Filesz: uint64(len(f.tail))}}
			data := f.build()
			h, err := Read(bytes.NewReader(data), int64(len(data)))
			if err != nil || h.TextIn != c.want {
				t.Errorf("%d bits, %v, %s: %+v, %v", f.class, f.order, c.name, h, err)
			}
		}
	}
}

// FuzzRead: an error or a Head, never both, and what a Head offers can be asked.
func FuzzRead(f *testing.F) {
	for _, c := range classes {
		c.progs = []Prog{{Type: Note, Off: 64, Filesz: 200, Align: 4}, {Type: Dynamic, Off: 10, Filesz: 1 << 20}}
		f.Add(c.build())
		c.xnum = true
		f.Add(c.build())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, err := Read(r, int64(len(data)))
		if (h == nil) == (err == nil) {
			t.Fatalf("%v, %v", h, err)
		}
		if err != nil {
			return
		}
		if len(h.Progs) > len(data)/32 {
			t.Fatalf("%d program headers of %d bytes", len(h.Progs), len(data))
		}
		n := 0
		for it := range h.Notes(r) {
			if n += len(it.Desc) + 12; len(it.Desc) > len(data) {
				t.Fatalf("note of %d bytes", len(it.Desc))
			}
		}
		h.BuildID(r)
	})
}

// A read error is returned as it is.
func TestReadError(t *testing.T) {
	if _, err := Read(broken{}, 1000); !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

var errBroken = errors.New("broken")

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

var _ io.ReaderAt = broken{}
