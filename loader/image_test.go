package loader

import (
	"strings"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/mem"
)

func TestBiasAt(t *testing.T) {
	const base = 0x555555554000
	seg := func(vaddr, filesz, memsz uint64) elfgen.Seg {
		return elfgen.Seg{Vaddr: vaddr, Offset: vaddr % mem.PageSize, Filesz: filesz, Memsz: memsz, Flags: rx}
	}
	end := uint64(mem.UserEnd)
	for _, c := range []struct {
		name string
		spec elfgen.Spec
		base mem.VirtAddr
		want uint64
		err  string
	}{
		{"ET_EXEC stays", exec(), base, 0, ""},
		{"ET_EXEC stays, whatever the base", exec(), mem.UserEnd, 0, ""},
		{"at 0", dyn(seg(0, 0x1000, 0x1000)), base, base, ""},
		{"base 0", dyn(seg(0, 0x1000, 0x1000)), 0, 0, ""},
		{"at 64 KiB", dyn(seg(0x10000, 0x1000, 0x1000)), base, base - 0x10000, ""},
		{"from the middle of a page", dyn(seg(0x10123, 0x100, 0x100)), base, base - 0x11000, ""},
		{"below the link address: the bias wraps", dyn(seg(0x10000, 0x1000, 0x1000)), 0x1000, ^uint64(0xf000 - 1), ""},
		{"the first counts, not the lowest", dyn(seg(0x5000, 0x1000, 0x1000), seg(0, 0x1000, 0x1000)), base, base - 0x5000, ""},
		{"an empty first one counts", dyn(elfgen.Seg{Vaddr: 0x2000}, seg(0, 0x1000, 0x1000)), base, base - 0x2000, ""},
		{"an empty later one does not", dyn(seg(0x1000, 0x1000, 0x1000), elfgen.Seg{}), base, base - 0x1000, ""},
		{"up to the end", dyn(seg(0, 0x1000, end-base)), base, base, ""},
		{"one byte too many", dyn(seg(0, 0x1000, end-base+1)), base, 0, "0x2aaaaaaac000 bytes from 0x555555554000 on do not fit"},
		{"second one leaves", dyn(seg(0, 0, 0x1000), seg(end-base, 0x1000, 0x1000)), base, 0, "segment 2 [0x2aaaaaaab000, 0x2aaaaaaac000): with load bias 0x555555554000 it leaves"},
		{"second one leaves below", dyn(seg(0x5000, 0x1000, 0x1000), seg(0, 0x1000, 0x1000)), 0x4000, 0, "segment 2 [0x0, 0x1000): with load bias 0xfffffffffffff000 it leaves"},
		{"the span is reserved above the first", dyn(seg(0x5000, 0x1000, 0x1000), seg(0, 0x1000, 0x1000)), mem.UserEnd - 0x5000, 0, "0x6000 bytes from 0x7fffffffa000"},
		{"an empty one counts in the span", dyn(seg(0, 0x1000, 0x1000), elfgen.Seg{Vaddr: 0x5000}), mem.UserEnd - 0x2000, 0, "0x5000 bytes from 0x7fffffffd000"},
		{"last page, from its middle", dyn(seg(0x10123, 0x100, 0x100)), mem.UserEnd, end - 0x11000, ""},
		{"base beyond user space", dyn(seg(0, 0x1000, 0x1000)), mem.UserEnd, 0, "do not fit"},
		{"base at the end of the address space", dyn(seg(0, 0x1000, 0x1000)), 1<<64 - 0x1000, 0, "do not fit"},
		{"entry leaves", with(static(seg(0, 0x1000, 0x1000)), func(s *elfgen.Spec) { s.Entry = end - base }), base, 0, "entry point 0x2aaaaaaab000"},
		{"entry wraps into user space", with(static(seg(0, 0x1000, 0x1000)), func(s *elfgen.Spec) { s.Entry = 1<<64 - 8 }), base, base, ""},
		{"entry leaves, with interpreter", with(dyn(seg(0, 0x1000, 0x1000)), func(s *elfgen.Spec) { s.Entry = end - base }), base, base, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			im, err := Parse(mem.NewBytesFile("x", elfgen.Build(c.spec, nil)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := im.BiasAt(c.base)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("bias 0x%x, error %v; want %q", got, err, c.err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Fatalf("bias 0x%x, error %v; want 0x%x", got, err, c.want)
			}
			checkBias(t, im, c.base, got)
		})
	}
}

func TestBiasAtNothing(t *testing.T) {
	if bias, err := new(Image).BiasAt(0); err == nil {
		t.Errorf("bias 0x%x of an image without segments", bias)
	}
	if bias, err := new(Image).BiasFrom(0x1000); err == nil {
		t.Errorf("bias 0x%x of an image without segments", bias)
	}
}

// TestBiasFrom: the first PT_LOAD at base, or else the lowest, or else nowhere.
func TestBiasFrom(t *testing.T) {
	const base = 0xa00000000
	seg := func(vaddr uint64) elfgen.Seg {
		return elfgen.Seg{Vaddr: vaddr, Offset: vaddr % mem.PageSize, Filesz: 0x1000, Memsz: 0x1000, Flags: rx}
	}
	for _, c := range []struct {
		name string
		spec elfgen.Spec
		want uint64
		err  string
	}{
		{"ET_EXEC", exec(seg(0x300000)), 0, ""},
		{"the first", dyn(seg(0x10000), seg(0x30000)), base - 0x10000, ""},
		{"lower ones that fit", dyn(seg(base), seg(0x1234)), 0, ""},
		{"one page too low", dyn(seg(base+0x1000), seg(0x234)), base, ""},
		{"low, from the middle of pages", dyn(seg(1<<40+0x123), seg(0x2234), seg(0x5000)), base - 0x3000, ""},
		{"an empty one comes first", dyn(elfgen.Seg{Vaddr: 1 << 40}, seg(0x2000)), base - 0x2000, ""},
		{"too far apart", dyn(seg(uint64(mem.UserEnd)-0x2000), seg(0)), 0, "do not fit below the end of user space"},
		{"a hair too low", dyn(seg(base+0x123), seg(0x10)), base - 0x1000, ""},
	} {
		im, err := Parse(mem.NewBytesFile("x", elfgen.Build(c.spec, nil)))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, err := im.BiasFrom(base)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: bias 0x%x, error %v; want %q", c.name, got, err, c.err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: bias 0x%x, error %v; want 0x%x", c.name, got, err, c.want)
		}
	}
}

// checkBias checks what BiasAt promises of its result.
func checkBias(t *testing.T, im *Image, base mem.VirtAddr, bias uint64) {
	t.Helper()
	if bias%mem.PageSize != 0 || !im.Dynamic && bias != 0 {
		t.Errorf("bias 0x%x", bias)
	}
	for _, s := range im.Segments {
		if r := s.Range(bias); r.Empty() || r.End > mem.UserEnd || r.Len() != s.Memsz {
			t.Errorf("%v: %v with bias 0x%x", s, r, bias)
		}
	}
	if !im.Dynamic {
		return
	}
	want := base
	if im.first().Vaddr%mem.PageSize != 0 {
		want -= mem.PageSize
	}
	if first := im.first().Range(bias).Start.PageDown(); first != want {
		t.Errorf("page of the first PT_LOAD at %v, want %v for base %v", first, want, base)
	}
}
