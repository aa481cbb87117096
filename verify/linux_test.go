package verify_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
)

// Where a page of a Linux image comes from.
type from struct {
	addr mem.VirtAddr
	prot mem.Prot
	anon bool
	off  uint64
	n    uint64 // pages
}

func layout(t *verify.Linux) (fs []from) {
	for _, a := range t.Areas() {
		fs = append(fs, from{a.Start, a.Prot, a.Anon, a.Off, a.Len() / page})
	}
	return fs
}

// The VMAs and bytes of each rule; TestLinuxOracle asks the kernel about the
// same files.
var linuxRows = []struct {
	name string
	elf  elf
	size int // of the file
	want []from
	// Bytes that tell: address, file offset whose byte is there; -1 is zero.
	bytes map[mem.VirtAddr]int
}{
	{"neighbours share a page", elf{segs: []seg{
		{0x400000, 0, 0x1800, 0x1800, rx}, {0x402900, 0x1900, 0x1000, 0x1000, rw}}}, 0x4000,
		[]from{{0x400000, rx, false, 0, 2}, {0x402000, rw, false, 0x1000, 2}},
		map[mem.VirtAddr]int{0x401900: 0x1900, 0x402800: 0x1800, 0x4038ff: 0x28ff, 0x403900: 0x2900}},
	{"the rest of .data's page is cleared", elf{segs: []seg{
		{0x400000, 0, 0x1000, 0x1000, rx}, {0x401100, 0x1100, 0x800, 0x3000, rw}}}, 0x4000,
		[]from{{0x400000, rx, false, 0, 1}, {0x401000, rw, false, 0x1000, 1}, {0x402000, rw, true, 0, 3}},
		map[mem.VirtAddr]int{0x401000: 0x1000, 0x4018ff: 0x18ff, 0x401900: -1, 0x401fff: -1, 0x402000: -1}},
	{"of a read-only one it is not", elf{segs: []seg{
		{0x400000, 0, 0x1000, 0x1000, rx}, {0x401100, 0x1100, 0x800, 0x3000, ro}}}, 0x4000,
		[]from{{0x400000, rx, false, 0, 1}, {0x401000, ro, false, 0x1000, 1}, {0x402000, rw, true, 0, 3}},
		map[mem.VirtAddr]int{0x4018ff: 0x18ff, 0x401900: 0x1900, 0x401fff: 0x1fff}},
	{"nor of an executable one, whose .bss may be executed", elf{segs: []seg{
		{0x400000, 0, 0x1100, 0x3000, rx}}}, 0x4000,
		[]from{{0x400000, rx, false, 0, 2}, {0x402000, rw | rx, true, 0, 1}},
		map[mem.VirtAddr]int{0x401100: 0x1100}},
	{"a .bss within the page of .data", elf{segs: []seg{
		{0x400000, 0, 0x1000, 0x1000, rx}, {0x401100, 0x1100, 0x800, 0x810, rw}}}, 0x4000,
		[]from{{0x400000, rx, false, 0, 1}, {0x401000, rw, false, 0x1000, 1}},
		map[mem.VirtAddr]int{0x401900: -1, 0x401fff: -1}},
	{"file part ends with a page", elf{segs: []seg{
		{0x400000, 0, 0x1000, 0x1000, rx}, {0x401100, 0x1100, 0xf00, 0x1f00, rw}}}, 0x4000,
		[]from{{0x400000, rx, false, 0, 1}, {0x401000, rw, false, 0x1000, 1}, {0x402000, rw, true, 0, 1}},
		map[mem.VirtAddr]int{0x401fff: 0x1fff}},
	{"a pure .bss takes the page that it starts in", elf{segs: []seg{
		{0x400000, 0, 0x1000, 0x1000, rx}, {0x401000, 0x1000, 0x800, 0x800, ro}, {0x401800, 0, 0, 0x1000, rw}}}, 0x4000,
		[]from{{0x400000, rx, false, 0, 1}, {0x401000, rw, true, 0, 2}},
		map[mem.VirtAddr]int{0x401000: -1}},
	{"the later one has a shared page, in the middle", elf{segs: []seg{
		{0x400000, 0, 0x1000, 0x1000, rx}, {0x401000, 0x1000, 0x3000, 0x3000, ro}, {0x402800, 0x5800, 0x100, 0x100, rw}}}, 0x7000,
		[]from{{0x400000, rx, false, 0, 1}, {0x401000, ro, false, 0x1000, 1}, {0x402000, rw, false, 0x5000, 1}, {0x403000, ro, false, 0x3000, 1}},
		map[mem.VirtAddr]int{0x402000: 0x5000, 0x403000: 0x3000}},
	{"the later one undoes what was cleared", elf{segs: []seg{
		{0x400000, 0, 0x1000, 0x1000, rx}, {0x401000, 0x1000, 0x800, 0x900, rw}, {0x401a00, 0x1a00, 0x100, 0x100, ro}}}, 0x4000,
		[]from{{0x400000, rx, false, 0, 1}, {0x401000, ro, false, 0x1000, 1}},
		map[mem.VirtAddr]int{0x401800: 0x1800}},
	{"the file ends in a page, and before one", elf{segs: []seg{
		{0x400000, 0, 0x1000, 0x1000, rx}, {0x401000, 0x1000, 0x3000, 0x3000, ro}}}, 0x2345,
		[]from{{0x400000, rx, false, 0, 1}, {0x401000, ro, false, 0x1000, 3}},
		map[mem.VirtAddr]int{0x402344: 0x2344, 0x402345: -1}},
	{"descending, with a gap", elf{segs: []seg{
		{0x410000, 0x1000, 0x1000, 0x1000, ro}, {0x400000, 0, 0x1000, 0x1000, rx}}}, 0x4000,
		[]from{{0x400000, rx, false, 0, 1}, {0x410000, ro, false, 0x1000, 1}},
		map[mem.VirtAddr]int{0x405000: -1, 0x410000: 0x1000}},
}

func TestLinux(t *testing.T) {
	for _, r := range linuxRows {
		t.Run(r.name, func(t *testing.T) {
			data := r.elf.build(r.size, pattern)
			im, err := verify.NewLinux(mem.NewBytesFile("x", data), 0)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(r.want, layout(im), cmp.AllowUnexported(from{})); d != "" {
				t.Error(d)
			}
			win, err := im.Window(0x400000)
			if err != nil {
				t.Fatal(err)
			}
			for addr, off := range r.bytes {
				want := byte(0)
				if off >= 0 {
					want = data[off]
				}
				if got := win[addr-0x400000]; got != want {
					t.Errorf("byte at %v is 0x%02x, want 0x%02x", addr, got, want)
				}
			}
		})
	}
}

func TestLinuxVMA(t *testing.T) {
	im, err := verify.NewLinux(linuxRows[1].elf.file(0x4000), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		addr, start mem.VirtAddr
		typ         string
		off         uint64
		prot        mem.Prot
		ok          bool
	}{
		{0x3fffff, 0, event.None, 0, 0, false},
		{0x400fff, 0x400000, event.FileRO, 0, rx, true},
		{0x401fff, 0x401000, event.FileRW, 0x1000, rw, true},
		{0x403123, 0x402000, event.Anon, 0, rw, true},
		{0x405000, 0, event.None, 0, 0, false},
	} {
		start, typ, off := im.FileVMAAt(c.addr)
		if prot, ok := im.Prot(c.addr); start != c.start || typ != c.typ || off != c.off || prot != c.prot || ok != c.ok {
			t.Errorf("%v: %v %s 0x%x %v %v, want %+v", c.addr, start, typ, off, prot, ok, c)
		}
	}
}

func TestLoadLinux(t *testing.T) {
	const base = 0x555555554000
	e := elf{typ: 3, segs: []seg{{0x2123, 0x123, 0x1000, 0x1000, rx}}}
	im, err := verify.LoadLinux(e.file(0x2000), base)
	if err != nil || im.Bias() != base-0x2000-0x1000 && im.Areas()[0].Start != base-0x1000 {
		t.Errorf("%+v, %v", im, err)
	}
	for name, bad := range map[string]struct {
		e    elf
		bias uint64
	}{
		"bias in the middle of a page": {e, 0x800},
		"bias of an ET_EXEC":           {elf{segs: e.segs}, 0x1000},
		"beyond user space":            {e, 1 << 47},
		"wraps":                        {elf{typ: 3, segs: []seg{{1 << 63, 0, 1, 1 << 63, rx}}}, 1 << 63},
		"not congruent":                {elf{segs: []seg{{0x400000, 0x800, 0x100, 0x100, rx}}}, 0},
		"offset below the page":        {elf{segs: []seg{{0x400800, 0x10, 0x100, 0x100, rx}}}, 0},
		"nothing in memory":            {elf{segs: []seg{{0x400000, 0, 0, 0, rx}}}, 0},
	} {
		if im, err := verify.NewLinux(bad.e.file(0x2000), bad.bias); !errors.Is(err, verify.ErrFormat) || im != nil {
			t.Errorf("%s: %v, %v", name, im, err)
		}
	}
}

// Any bytes are a file, as in FuzzNew.
func FuzzNewLinux(f *testing.F) {
	for _, r := range linuxRows {
		f.Add(r.elf.build(r.size, pattern), uint64(0))
	}
	f.Add(elf{typ: 3, segs: []seg{{1 << 63, 0, 100, 1 << 46, rw}}}.build(200, pattern), uint64(1)<<63)
	f.Fuzz(func(t *testing.T, data []byte, bias uint64) {
		file := mem.NewBytesFile("fuzz", data)
		if im, err := verify.LoadLinux(file, mem.VirtAddr(bias)); (im == nil) == (err == nil) {
			t.Fatalf("LoadLinux: %v, %v", im, err)
		}
		im, err := verify.NewLinux(file, bias)
		if (im == nil) == (err == nil) {
			t.Fatalf("NewLinux: %v, %v", im, err)
		}
		if err != nil {
			return
		}
		end := mem.VirtAddr(0)
		for _, a := range im.Areas() {
			if a.Empty() || a.Start < end || a.Range != a.PageAlign() || a.End > mem.UserEnd || a.Off%page != 0 {
				t.Fatalf("area %+v behind %v", a, end)
			}
			end = a.End
		}
		a := im.Areas()[0]
		if _, err := im.Window(a.Start.HugeDown()); err != nil {
			t.Fatal(err)
		}
	})
}
