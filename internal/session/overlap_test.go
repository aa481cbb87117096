package session

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"vmsim/internal/elfgen"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/vm"
)

// drawOverlapping draws a file that no linker makes: segments in any order, over
// each other, in the same page, of a few bytes, .bss over file bytes, file bytes
// beyond the end of the file.
func drawOverlapping(t *rapid.T) elfgen.Spec {
	s := elfgen.Spec{Type: elfgen.Exec, Stack: mem.ProtRead | mem.ProtWrite}
	base := uint64(0x5f8000) // windows meet at 0x600000
	if rapid.Bool().Draw(t, "dyn") {
		s.Type = elfgen.Dyn
	}
	bytes := rapid.OneOf(rapid.Uint64Range(0, 40), rapid.Uint64Range(0, 3*page), rapid.Uint64Range(page-8, page+8))
	n := rapid.IntRange(1, 6).Draw(t, "segments")
	big := -1
	if rapid.IntRange(0, 2).Draw(t, "large") == 0 {
		big = rapid.IntRange(0, n-1).Draw(t, "which")
	}
	for i := range n {
		g := elfgen.Seg{
			Vaddr:  base + rapid.Uint64Range(0, 14).Draw(t, "page")*page + bytes.Draw(t, "in page")%page,
			Filesz: bytes.Draw(t, "filesz"),
			Flags:  mem.Prot(rapid.IntRange(0, 7).Draw(t, "flags")),
		}
		if i == big { // enough full pages for an assembly
			g.Filesz = rapid.Uint64Range(140, 300).Draw(t, "pages") * page
			g.Flags = mem.ProtRead
			g.Vaddr -= rapid.Uint64Range(0, 200).Draw(t, "below") * page
		}
		g.Memsz = g.Filesz + bytes.Draw(t, "bss")
		g.Offset = rapid.Uint64Range(0, 10).Draw(t, "file page")*page + g.Vaddr%page
		s.Segments = append(s.Segments, g)
	}
	s.Entry = s.Segments[0].Vaddr
	if rapid.Bool().Draw(t, "short") {
		s.Size = rapid.Int64Range(64+56*int64(n+1), 20*page).Draw(t, "size")
	}
	return s
}

// TestOverlappingSegments: whatever the headers say, machine and witness agree,
// and both with predict_test.go's byte by byte reading of them.
func TestOverlappingSegments(t *testing.T) {
	type setup struct {
		threshold int
		h         vm.Hardening
		bench     *Rig
	}
	var setups []setup
	for _, threshold := range []int{128, 1, 0} {
		for _, h := range []vm.Hardening{vm.Default, vm.Fortress} {
			opt := options(t)
			opt.Threshold, opt.Hardening = threshold, h
			setups = append(setups, setup{threshold, h, newRig(t, opt)})
		}
	}
	verified, refused, windows := 0, 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		data := elfgen.Build(drawOverlapping(rt), nil)
		f := mem.NewBytesFile("overlapping", data)
		im, err := loader.Parse(f)
		if err != nil {
			if !errors.Is(err, loader.ErrMalformed) {
				rt.Fatal(err)
			}
			refused++
			return
		}
		verified++
		model := newFileImage(data, uint64(vm.PIEBase))
		var normal FileResult
		for _, su := range setups {
			res := su.bench.Verify(f)
			if res.Verdict != OK || res.Failures != 0 {
				rt.Fatalf("threshold %d, hardening %d: %+v", su.threshold, su.h, res)
			}
			if su.h == vm.Default {
				normal = res
			} else if d := cmp.Diff(normal, res); d != "" {
				rt.Fatalf("threshold %d: default and fortress differ:\n%s", su.threshold, d)
			}
			windows += res.Windows
			init, _ := su.bench.Machine.Process(1)
			p := init.Fork()
			if err := p.Exec(vm.Program{Image: im}); err != nil {
				rt.Fatal(err)
			}
			compareModel(rt, model, p)
		}
	})
	t.Logf("%d files verified, %d refused, %d windows assembled", verified, refused, windows)
	if verified < refused || windows == 0 {
		t.Error("too few files are loadable to prove anything")
	}
}

// compareModel compares every page of p with the model: what it permits, and
// what it holds.
func compareModel(t *rapid.T, model *fileImage, p *vm.Process) {
	from, to := model.bounds()
	for addr := from; addr < to; addr += page {
		prot := model.prot(addr)
		for access, bit := range map[mem.Access]uint32{mem.Read: pfR, mem.Exec: pfX, mem.Write: pfW} {
			_, err := p.Touch(mem.VirtAddr(addr), access)
			var segv *vm.Segfault
			if allowed := prot&bit != 0; allowed != (err == nil) || err != nil && !errors.As(err, &segv) {
				t.Fatalf("%v of page 0x%x, which permits %s: %v", access, addr, rwx(prot), err)
			}
		}
		if prot == 0 {
			continue
		}
		got, _, err := p.ReadPage(mem.VirtAddr(addr))
		if err != nil {
			t.Fatal(err)
		}
		if want := model.truth(addr); *want != [page]byte(got) {
			d := 0
			for got[d] == want[d] {
				d++
			}
			t.Fatalf("page 0x%x, byte %d: 0x%02x, want 0x%02x", addr, d, got[d], want[d])
		}
	}
	for _, addr := range []uint64{from - page, to} {
		if _, err := p.Touch(mem.VirtAddr(addr), mem.Read); err == nil {
			t.Fatalf("page 0x%x is mapped beside the image", addr)
		}
	}
}
