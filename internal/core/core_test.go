package core

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/elfhead"
	"vmsim/mem"
)

const (
	page = mem.PageSize
	ro   = mem.ProtRead
	rx   = mem.ProtRead | mem.ProtExec
	rw   = mem.ProtRead | mem.ProtWrite
)

// seg is a PT_LOAD of a hand-made core; the pages that it holds are filled with
// its number.
type seg struct {
	start, memsz, filesz uint64
	prot                 mem.Prot
}

// made is a hand-made core, of either class.
type made struct {
	class int
	segs  []seg
	notes []byte
	xnum  bool
}

func (m made) word(b []byte, v uint64) []byte {
	if m.class == 32 {
		return binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	return binary.LittleEndian.AppendUint64(b, v)
}

func (m made) note(typ uint32, desc []byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 5)
	b = le.AppendUint32(b, uint32(len(desc)))
	b = le.AppendUint32(b, typ)
	b = append(append(b, "CORE\x00\x00\x00\x00"...), desc...)
	return append(b, make([]byte, -len(desc)&3)...)
}

// files returns an NT_FILE note.
func (m made) files(unit uint64, files ...Mapping) []byte {
	b := m.word(m.word(nil, uint64(len(files))), unit)
	for _, f := range files {
		b = m.word(m.word(m.word(b, uint64(f.Start)), uint64(f.End)), f.Off/unit)
	}
	for _, f := range files {
		b = append(append(b, f.Path...), 0)
	}
	return m.note(ntFile, b)
}

// build returns the core.
func (m made) build() []byte {
	le := binary.LittleEndian
	eh, ph := uint64(64), uint64(56)
	if m.class == 32 {
		eh, ph = 52, 32
	}
	num := uint64(1 + len(m.segs))
	at := eh + num*ph
	sh := uint64(0)
	if m.xnum {
		sh, at = at, at+64
	}
	b := append([]byte("\x7fELF"), byte(m.class/32), 1, 1)
	b = append(b, make([]byte, 9)...)
	b = le.AppendUint16(b, elfhead.TypeCore)
	b = le.AppendUint16(b, 62)
	b = le.AppendUint32(b, 1)
	b = m.word(m.word(m.word(b, 0), eh), sh)
	b = le.AppendUint32(b, 0)
	phnum := uint16(num)
	if m.xnum {
		phnum = 0xffff
	}
	for _, v := range []uint16{uint16(eh), uint16(ph), phnum, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	prog := func(typ uint32, prot mem.Prot, off, vaddr, filesz, memsz uint64) {
		flags := uint32(0)
		for i, p := range []mem.Prot{mem.ProtExec, mem.ProtWrite, mem.ProtRead} {
			if prot&p != 0 {
				flags |= 1 << i
			}
		}
		b = le.AppendUint32(b, typ)
		if m.class == 64 {
			b = le.AppendUint32(b, flags)
		}
		for _, v := range []uint64{off, vaddr, 0, filesz, memsz} {
			b = m.word(b, v)
		}
		if m.class == 32 {
			b = le.AppendUint32(b, flags)
		}
		b = m.word(b, page)
	}
	prog(elfhead.Note, 0, at, 0, uint64(len(m.notes)), 0)
	off := at + uint64(len(m.notes))
	for _, s := range m.segs {
		prog(elfhead.Load, s.prot, off, s.start, s.filesz, s.memsz)
		off += s.filesz
	}
	if m.xnum {
		s := make([]byte, 64)
		le.PutUint32(s[44:], uint32(num))
		if m.class == 32 {
			s = make([]byte, 64)
			le.PutUint32(s[28:], uint32(num))
		}
		b = append(b, s...)
	}
	b = append(b, m.notes...)
	for i, s := range m.segs {
		b = append(b, bytes.Repeat([]byte{byte(i + 1)}, int(s.filesz))...)
	}
	return b
}

func parse(data []byte) (*Core, error) { return Parse(bytes.NewReader(data), int64(len(data))) }

func at(start, end mem.VirtAddr) mem.Range { return mem.Range{Start: start, End: end} }

// sample has a whole segment, one of which the first page is there, one without
// any, and a hole between.
func sample(class int, unit uint64) made {
	m := made{class: class, segs: []seg{
		{0x10000, 2 * page, 2 * page, rw}, {0x14000, 3 * page, page, ro}, {0x20000, page, 0, rx}}}
	status := make([]byte, 400)
	le := binary.LittleEndian
	le.PutUint16(status[12:], 11)
	le.PutUint32(status[16+2*class/8:], 4243)
	second := slices.Clone(status)
	le.PutUint16(second[12:], 5)
	info := make([]byte, 140)
	pid := 24
	if class == 32 {
		pid = 12
	}
	le.PutUint32(info[pid:], 4242)
	copy(info[pid+16:], "a name\x00rest")
	m.notes = slices.Concat(m.note(ntPrstatus, status), m.note(ntPrpsinfo, info), m.note(ntPrstatus, second),
		m.files(unit, Mapping{at(0x14000, 0x17000), 3 * page, "/bin/a b (deleted)"}, Mapping{at(0x10000, 0x12000), 0, "/bin/c"}))
	return m
}

func TestParse(t *testing.T) {
	for _, class := range []int{64, 32} {
		for _, unit := range []uint64{1, page} {
			for _, xnum := range []bool{false, true} {
				m := sample(class, unit)
				m.xnum = xnum
				c, err := parse(m.build())
				if err != nil {
					t.Fatal(err)
				}
				files := []Mapping{{at(0x10000, 0x12000), 0, "/bin/c"}, {at(0x14000, 0x17000), 3 * page, "/bin/a b (deleted)"}}
				if d := cmp.Diff(files, c.Files); d != "" || !c.HasFiles {
					t.Errorf("%d bits, unit %d: %s", class, unit, d)
				}
				if c.PID != 4242 || c.Name != "a name" || c.Signal != 11 || c.Cut != 0 || c.Bias() != 0 {
					t.Errorf("%d bits: %+v", class, c)
				}
				var parts []Part
				for p := range c.Held(at(0x11000, 0x30000)) {
					parts = append(parts, p)
				}
				if d := cmp.Diff([]Part{{at(0x11000, 0x12000), rw}, {at(0x14000, 0x15000), ro}}, parts); d != "" {
					t.Error(d)
				}
			}
		}
	}
}

func TestRead(t *testing.T) {
	c, err := parse(sample(64, 1).build())
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	for _, r := range []struct {
		addr mem.VirtAddr
		want byte // 0: not held
	}{{0x10000, 1}, {0x11ffd, 1}, {0x11ffe, 0}, {0xffff, 0}, {0x14000, 2}, {0x14ffd, 2}, {0x14fff, 0}, {0x15000, 0}, {0x20000, 0}, {1 << 63, 0}, {^mem.VirtAddr(0), 0}} {
		clear(b)
		err := c.Read(r.addr, b)
		if r.want == 0 && !errors.Is(err, mem.ErrNotPresent) || r.want != 0 && (err != nil || !bytes.Equal(b, []byte{r.want, r.want, r.want})) {
			t.Errorf("%v: %v, %v", r.addr, b, err)
		}
	}
	for addr, want := range map[mem.VirtAddr]mem.Prot{0x10000: rw, 0x16fff: ro, 0x20fff: rx} {
		if prot, ok := c.Prot(addr); !ok || prot != want {
			t.Errorf("%v: %v, %v", addr, prot, ok)
		}
	}
	if _, ok := c.Prot(0x13000); ok {
		t.Error("a hole has permissions")
	}
	var got []mem.VirtAddr
	for e := range c.Entries(at(0, ^mem.VirtAddr(0))) {
		got = append(got, e.Addr)
	}
	if !slices.Equal(got, []mem.VirtAddr{0x10000, 0x11000, 0x14000}) {
		t.Errorf("entries %v", got)
	}
}

// A core that is cut off anywhere: an error, or what is there and how much is
// missing.
func TestCut(t *testing.T) {
	data := sample(64, 1).build()
	for n := range data {
		c, err := parse(data[:n])
		if err != nil {
			if c != nil {
				t.Fatalf("%d bytes: both", n)
			}
			continue
		}
		missing := uint64(min(len(data)-n, 3*page))
		if c.Cut != missing {
			t.Fatalf("%d bytes: %d missing, want %d", n, c.Cut, missing)
		}
		held := uint64(0)
		for p := range c.Held(at(0, 1<<40)) {
			held += p.Len()
			if err := c.Read(p.Start, make([]byte, p.Len())); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
		if held > 3*page-missing {
			t.Fatalf("%d bytes: %d held, %d missing", n, held, missing)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := sample(64, page)
	for _, c := range []struct {
		name string
		make func(m *made)
		want string
	}{
		{"a segment in the middle of a page", func(m *made) { m.segs[0].start++ }, "no range of whole pages"},
		{"a segment of half a page", func(m *made) { m.segs[0].memsz -= 7 }, "no range of whole pages"},
		{"a segment that wraps", func(m *made) { m.segs[2].start = 1<<64 - page }, "no range of whole pages"},
		{"segments that overlap", func(m *made) { m.segs[2].start = 0x16000 }, "overlap"},
		{"NT_FILE cut off", func(m *made) { m.notes = m.note(ntFile, []byte{1}) }, "cut off after 1 bytes"},
		{"more files than fit", func(m *made) { m.notes = m.note(ntFile, m.word(m.word(nil, 1<<60), 1)) }, "do not fit its 0 bytes"},
		{"a name cut off", func(m *made) {
			n := m.files(1, Mapping{at(0x1000, 0x2000), 0, "name"})
			b := slices.Clone(n[20 : len(n)-4])
			m.notes = m.note(ntFile, b)
		}, "is cut off"},
		{"offset beyond any file", func(m *made) {
			b := m.word(m.word(nil, 1), 1<<60)
			m.notes = m.note(ntFile, append(m.word(m.word(m.word(b, 0x1000), 0x2000), 1<<60), 'x', 0))
		}, "beyond any file"},
		{"offset in the middle of a page", func(m *made) { m.notes = m.files(1, Mapping{at(0x1000, 0x2000), 5, "x"}) }, "in the middle of a page"},
		{"a mapping that ends before it starts", func(m *made) { m.notes = m.files(1, Mapping{at(0x3000, 0x2000), 0, "x"}) }, "no range of whole pages"},
		{"mappings that overlap", func(m *made) {
			m.notes = m.files(1, Mapping{at(0x1000, 0x3000), 0, "x"}, Mapping{at(0x2000, 0x4000), 0, "y"})
		}, "overlap"},
	} {
		m := good
		m.segs = slices.Clone(good.segs)
		c.make(&m)
		if got, err := parse(m.build()); err == nil || got != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", c.name, got, err, c.want)
		}
	}
	data := good.build()
	data[16] = 3
	if _, err := parse(data); !errors.Is(err, ErrNotCore) {
		t.Errorf("ET_DYN: %v", err)
	}
	if _, err := parse([]byte("no core")); !errors.Is(err, elfhead.ErrNotELF) {
		t.Errorf("text: %v", err)
	}
}

// FuzzParse: a core or an error, never both; what a core says it holds can be
// read.
func FuzzParse(f *testing.F) {
	for _, class := range []int{32, 64} {
		m := sample(class, page)
		f.Add(m.build())
		m.xnum = true
		f.Add(m.build())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parse(data)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if err != nil {
			return
		}
		if len(c.Files) > len(data) || len(c.Segments) > len(data)/32 {
			t.Fatalf("%d files and %d segments of %d bytes", len(c.Files), len(c.Segments), len(data))
		}
		end := mem.VirtAddr(0)
		for p := range c.Held(at(0, ^mem.VirtAddr(0))) {
			if p.Start < end || p.Empty() || p.Start.PageOffset() != 0 || p.Len()%page != 0 || p.Len() > uint64(len(data)) {
				t.Fatalf("part %v behind %v", p.Range, end)
			}
			end = p.End
			if err := c.Read(p.Start, make([]byte, page)); err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
	})
}
