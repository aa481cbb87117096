package elfgen

import (
	"bytes"
	"debug/elf"
	"io"
	"math"
	"math/rand/v2"
	"testing"

	"vmsim/mem"
)

// TestBuild reads a file back with debug/elf.
func TestBuild(t *testing.T) {
	spec := Spec{
		Type: Dyn, Entry: 0x1234, Interp: "/lib/ld.so", Stack: rw,
		Segments: []Seg{
			{Vaddr: 0, Filesz: 0x300, Memsz: 0x300, Flags: ro},
			{Vaddr: 0x51cbf0, Filesz: 0x123, Memsz: 0x4567, Offset: 0x1bf0, Flags: rw, Align: 0x200000},
			{Vaddr: math.MaxUint64, Filesz: 1 << 63, Memsz: 7, Offset: math.MaxUint64 - 5, Flags: rx},
		},
	}
	b := Build(spec, nil)
	if want := 0x1bf0 + 0x123; len(b) != want {
		t.Errorf("%d bytes, want %d", len(b), want)
	}
	if _, err := elf.NewFile(bytes.NewReader(b)); err == nil { // its check shows that the absurd one was written
		t.Error("debug/elf takes a negative offset")
	}
	spec.Segments[2] = Seg{Vaddr: 0x600000, Offset: 0x1000, Filesz: 0x10, Memsz: 0x10, Flags: rx}
	b = Build(spec, nil)
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_DYN || f.Machine != elf.EM_X86_64 || f.Entry != 0x1234 || len(f.Progs) != 5 {
		t.Errorf("header %+v with %d program headers", f.FileHeader, len(f.Progs))
	}
	checkProgs(t, spec, f)
	interp, err := io.ReadAll(f.Progs[0].Open())
	if err != nil || f.Progs[0].Type != elf.PT_INTERP || string(interp) != "/lib/ld.so\x00" {
		t.Errorf("interpreter %q, error %v, of %+v", interp, err, f.Progs[0])
	}
	if p := f.Progs[4]; p.Type != elf.PT_GNU_STACK || p.Flags != elf.PF_R|elf.PF_W {
		t.Errorf("stack %+v", p)
	}
}

// checkProgs compares the PT_LOADs of f with s.
func checkProgs(t *testing.T, s Spec, f *elf.File) {
	t.Helper()
	var loads []elf.ProgHeader
	for _, p := range f.Progs {
		if p.Type == elf.PT_LOAD {
			loads = append(loads, p.ProgHeader)
		}
	}
	if len(loads) != len(s.Segments) {
		t.Fatalf("%d PT_LOADs, want %d", len(loads), len(s.Segments))
	}
	bits := map[mem.Prot]elf.ProgFlag{ro: elf.PF_R, rx: elf.PF_R | elf.PF_X, rw: elf.PF_R | elf.PF_W}
	for i, g := range s.Segments {
		want := elf.ProgHeader{
			Type: elf.PT_LOAD, Flags: bits[g.Flags], Off: g.Offset, Vaddr: g.Vaddr, Paddr: g.Vaddr,
			Filesz: g.Filesz, Memsz: g.Memsz, Align: max(g.Align, mem.PageSize),
		}
		if loads[i] != want {
			t.Errorf("PT_LOAD %d is %+v, want %+v", i, loads[i], want)
		}
	}
}

func TestBuildSize(t *testing.T) {
	spec := Spec{Type: Exec, Segments: []Seg{{Filesz: 0x2000, Memsz: 0x2000}, {Offset: maxNeeded, Filesz: 1}, {Offset: 8, Filesz: math.MaxUint64 - 8}}}
	for _, c := range []struct{ size, want int64 }{{0, 0x2000}, {1, 1}, {70, 70}, {0x1234, 0x1234}, {0x5000, 0x5000}} {
		spec.Size = c.size
		if got := len(Build(spec, nil)); int64(got) != c.want {
			t.Errorf("Size %d: %d bytes, want %d", c.size, got, c.want)
		}
	}
	spec.Size = 0
	calls := 0
	b := Build(spec, func(off int64, p []byte) {
		calls++
		if off != 0 || len(p) != 0x2000 {
			t.Errorf("fill of %d bytes at %d", len(p), off)
		}
		for i := range p {
			p[i] = 0xee
		}
	})
	if calls != 1 || b[0x1fff] != 0xee || b[64+3*56] != 0xee || b[64+3*56-1] == 0xee {
		t.Errorf("%d calls of fill; around the end of the headers % x", calls, b[64+3*56-2:64+3*56+2])
	}
}

func TestPattern(t *testing.T) {
	whole, part := make([]byte, 0x3000), make([]byte, 0x1001)
	Pattern(0, whole)
	Pattern(0x1333, part)
	if !bytes.Equal(part, whole[0x1333:0x2334]) {
		t.Error("the pattern depends on where filling starts")
	}
	if bytes.IndexByte(whole, 0) >= 0 {
		t.Error("the pattern has a zero")
	}
	if bytes.Equal(whole[:0x1000], whole[0x1000:0x2000]) {
		t.Error("two pages of the pattern are equal")
	}
}

// TestRandom checks what Random promises, of each file and of most.
func TestRandom(t *testing.T) {
	const n = 50
	var dense, middle, sharedFile, sharedMem, bss, dyn, zeros int
	for seed := range uint64(n) {
		s, b := Random(rand.New(rand.NewPCG(seed, 0)))
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		checkProgs(t, s, f)
		if again, c := Random(rand.New(rand.NewPCG(seed, 0))); !bytes.Equal(b, c) || again.Entry != s.Entry {
			t.Errorf("seed %d: two files", seed)
		}
		if int64(len(b)) != s.Size || len(b) > maxRandomFile+64<<10 {
			t.Errorf("seed %d: %d bytes, Size %d", seed, len(b), s.Size)
		}
		var mid, shFile, shMem bool
		windows, entry := map[uint64]int{}, false
		for i, g := range s.Segments {
			if g.Filesz > g.Memsz || g.Memsz == 0 || g.Filesz > 0 && (g.Offset-g.Vaddr)%mem.PageSize != 0 || g.Offset+g.Filesz > uint64(len(b)) {
				t.Errorf("seed %d: segment %d is malformed: %+v", seed, i, g)
			}
			entry = entry || g.Flags == rx && s.Entry >= g.Vaddr && s.Entry < g.Vaddr+g.Filesz
			if g.Flags == rw && g.Memsz > g.Filesz {
				bss++
			}
			if g.Flags != rw {
				if g.Memsz != g.Filesz {
					t.Errorf("seed %d: read-only segment %d has .bss: %+v", seed, i, g)
				}
				for a := (g.Vaddr + mem.PageSize - 1) / mem.PageSize; (a+1)*mem.PageSize <= g.Vaddr+g.Filesz; a++ {
					windows[a/mem.SubPages]++
				}
			}
			if i == 0 {
				continue
			}
			prev := s.Segments[i-1]
			if g.Vaddr < prev.Vaddr+prev.Memsz || g.Filesz > 0 && g.Offset < prev.Offset+prev.Filesz {
				t.Errorf("seed %d: segment %d overlaps its predecessor: %+v, %+v", seed, i, prev, g)
			}
			mid = mid || g.Vaddr%mem.PageSize != 0
			shFile = shFile || g.Filesz > 0 && g.Offset/mem.PageSize == (prev.Offset+prev.Filesz-1)/mem.PageSize
			shMem = shMem || g.Vaddr/mem.PageSize == (prev.Vaddr+prev.Memsz-1)/mem.PageSize
		}
		if !entry {
			t.Errorf("seed %d: entry 0x%x is in no executable segment", seed, s.Entry)
		}
		for _, pages := range windows {
			if pages >= 128 {
				dense++
				break
			}
		}
		count := func(n *int, b bool) {
			if b {
				*n++
			}
		}
		count(&middle, mid)
		count(&sharedFile, shFile)
		count(&sharedMem, shMem)
		count(&dyn, s.Type == Dyn)
		zeros += bytes.Count(b, []byte{0}) * 100 / len(b)
	}
	t.Logf("of %d: %d dense, %d start in the middle of a page, %d share a file page, %d a page of memory, %d ET_DYN, %d .bss, %d%% zeros",
		n, dense, middle, sharedFile, sharedMem, dyn, bss, zeros/n)
	if dense < 38 || middle < 30 || sharedFile < 25 || sharedMem < 5 || dyn < 10 || dyn > 30 || bss < 25 || zeros/n < 20 || zeros/n > 60 {
		t.Error("the shape of random files has drifted")
	}
}

// TestMalformed: every kind comes up, none panics, and few are long.
func TestMalformed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	seen := map[string]bool{}
	long := 0
	for range 100 * len(breakers) {
		name, b := Malformed(r)
		seen[name] = true
		if len(b) > 136<<10 {
			long++
			if want := 0xffff * phdrSize; name != "long table" || len(b) > want+0x3000 {
				t.Errorf("%s: %d bytes", name, len(b))
			}
		}
	}
	if len(seen) != len(breakers) || len(Kinds()) != len(breakers) {
		t.Errorf("%d kinds of %d", len(seen), len(breakers))
	}
	if long < 1 || long > len(breakers) {
		t.Errorf("%d long files", long)
	}
}
