package explain

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/elfgen"
	"vmsim/loader"
	"vmsim/mem"
)

const (
	mib  = 1 << 20
	huge = mem.HugeSize
)

// explainSpec explains a synthetic file.
func explainSpec(t testing.TB, s elfgen.Spec, opt Options) *Report {
	t.Helper()
	if s.Type == 0 {
		s.Type = elfgen.Exec
	}
	if s.Entry == 0 {
		s.Entry = s.Segments[0].Vaddr
	}
	if s.Size == 0 { // elfgen sizes files by segments below 64 MiB
		for _, g := range s.Segments {
			s.Size = max(s.Size, int64(g.Offset+g.Filesz))
		}
	}
	f := &holes{BytesFile: mem.NewBytesFile("x", elfgen.Build(with(s, 8192), nil)), size: s.Size}
	r, err := Explain(f, opt)
	if err != nil {
		t.Fatalf("%+v: %v", s, err)
	}
	return r
}

func with(s elfgen.Spec, size int64) elfgen.Spec {
	s.Size = size
	return s
}

// holes is a file of which nothing but the head is there: the headers are all
// that is read.
type holes struct {
	*mem.BytesFile
	size int64
}

func (h *holes) Size() int64 { return h.size }

// seg is a segment with as much memory as file.
func seg(vaddr, off, size uint64, flags mem.Prot) elfgen.Seg {
	return elfgen.Seg{Vaddr: vaddr, Offset: off, Filesz: size, Memsz: size, Flags: flags}
}

// draw writes the windows of a report as text: base, number, and for each rule
// the answer and the codes of its obstacles.
func draw(r *Report) string {
	var b strings.Builder
	for _, w := range r.Windows {
		fmt.Fprintf(&b, "%v x%d", w.Base, w.N)
		for _, rule := range Rules {
			v := w.Verdicts[rule]
			var codes []string
			for _, o := range v.Obstacles {
				codes = append(codes, string(o.Code))
			}
			fmt.Fprintf(&b, " | %v %s", v.Answer, strings.Join(codes, " "))
		}
		b.WriteString("\n")
	}
	return strings.ReplaceAll(b.String(), " \n", "\n")
}

// TestWindows: what is said of each window, and by how much.
func TestWindows(t *testing.T) {
	const rx, rw, ro = protRX, protRW, protR
	given := func(base mem.VirtAddr) Options { return Options{Threshold: 128, Base: base, BaseGiven: true} }
	align := func(g elfgen.Seg) elfgen.Seg { g.Align = huge; return g }
	bss := func(g elfgen.Seg, n uint64) elfgen.Seg { g.Memsz += n; return g }
	for _, c := range []struct {
		name string
		spec elfgen.Spec
		opt  Options
		want string // kevlar | linux | aligned | remap
		why  string // to be found in some reason
	}{
		{"a window of text", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, huge, rx)}}, defaults,
			"0x400000 x1 | yes  | yes  | yes  | yes\n", ""},
		{"a run of equal windows", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, 40*huge, rx)}}, defaults,
			"0x400000 x1 | yes  | yes  | yes  | yes\n0x600000 x39 | yes  | yes  | yes  | yes\n", "exec reads the headers first"},
		{"not congruent", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0x1000, huge, rx)}}, defaults,
			"0x400000 x1 | yes  | no incongruent | no incongruent | yes\n", "differ by 0x1ff000 modulo"},
		{"read-only data", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, huge, ro)}}, defaults,
			"0x400000 x1 | yes  | yes  | yes  | no not_exec\n", ""},
		{"writable", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, huge, rw)}}, defaults,
			"0x400000 x1 | no threshold | depends writable | no writable | no not_exec\n", "512 hold writable file bytes"},
		{"too short", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, huge-4097, rx)}}, defaults,
			"0x400000 x1 | 4 KiB no_area | no short | no short | no short\n", "4 KiB less than 2 MiB"},
		{"too short by less than a page: its last page is whole", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, huge-1, rx)}}, defaults,
			"0x400000 x1 | yes  | yes  | yes  | yes\n", ""},
		{"head and tail", elfgen.Spec{Segments: []elfgen.Seg{seg(0x401000, 0x1000, 2*huge, rx)}}, defaults,
			"0x400000 x1 | 4 KiB no_area | no outside | no outside | no outside\n" +
				"0x600000 x1 | yes  | yes  | yes  | yes\n" +
				"0x800000 x1 | no threshold | no outside | no outside | no outside\n", "begins 4 KiB into the window"},
		{"shared by two", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, mib, rx), seg(0x500000, mib, mib, ro)}}, defaults,
			"0x400000 x1 | 4 KiB permissions | no shared | no shared | no shared\n", "segment 0 (r-x), segment 1 (r--)"},
		{"two that merge", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, mib, rx), seg(0x500000, mib, mib, rx)}}, defaults,
			"0x400000 x1 | yes  | yes  | yes  | yes\n", ""},
		{"two that do not, by their offsets", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, mib, rx), seg(0x500000, 3*mib, mib, rx)}}, defaults,
			"0x400000 x1 | yes  | no shared | no shared | no shared\n", ""},
		{"a later one over the tail", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, huge, rx), seg(0x5ff000, huge, 4096, ro)}}, defaults,
			"0x400000 x1 | yes  | no shared | no shared | no shared\n", ""},
		{"the file ends in it", elfgen.Spec{Size: huge + 5000, Segments: []elfgen.Seg{seg(0x400000, 0, 2*huge, rx)}}, defaults,
			"0x400000 x1 | yes  | yes  | yes  | yes\n" +
				"0x600000 x1 | no threshold | no beyond_eof | no beyond_eof | yes\n", "its last 2040 KiB lie beyond"},
		{"the last page of the file is partial", elfgen.Spec{Size: huge - 5, Segments: []elfgen.Seg{seg(0x400000, 0, huge, rx)}}, defaults,
			"0x400000 x1 | yes  | yes  | yes  | yes\n", ""},
		{".bss", elfgen.Spec{Segments: []elfgen.Seg{bss(seg(0x400000, 0, 4096, rw), 3*huge-4096)}}, defaults,
			"0x400000 x1 | no threshold | no shared writable | no shared writable | no not_exec\n" +
				"0x600000 x2 | no anonymous | no anonymous | no anonymous | no not_exec\n", ""},
		{"far apart", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, huge, rx), seg(0x40000000, huge, huge, rx)}}, defaults,
			"0x400000 x1 | yes  | yes  | yes  | yes\n0x40000000 x1 | yes  | yes  | yes  | yes\n", ""},
		{"threshold", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, 127*4096, rx)}}, defaults,
			"0x400000 x1 | no threshold | no short | no short | no short\n", "at most 127 of its sub-pages"},
		{"threshold met", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, 128*4096, rx)}}, defaults,
			"0x400000 x1 | 4 KiB no_area | no short | no short | no short\n", ""},
		{"writable pages count where read-only ones have their index", elfgen.Spec{
			Segments: []elfgen.Seg{seg(0x400000, 0, mib, rx), seg(0x600000, 0, mib, rw)}}, defaults,
			"0x400000 x1 | 4 KiB permissions | no short | no short | no short\n" +
				"0x600000 x1 | 4 KiB no_area | no short writable | no short writable | no not_exec\n", ""},
		{"nothing may touch it", elfgen.Spec{Segments: []elfgen.Seg{seg(0x400000, 0, huge, 0)}}, Options{Base: defaults.Base},
			"0x400000 x1 | 4 KiB no_read | yes  | yes  | no not_exec\n", ""},

		{"PIE", elfgen.Spec{Type: elfgen.Dyn, Interp: "/ld", Segments: []elfgen.Seg{seg(0, 0, 2*huge, rx)}}, defaults,
			"0xa00000000 x1 | yes  | depends base | no p_align | yes\n0xa00200000 x1 | yes  | depends base | no p_align | yes\n", "0x555555554000 (without ASLR) is not right"},
		{"PIE whose text covers a window at some bases", elfgen.Spec{Type: elfgen.Dyn, Interp: "/ld", Segments: []elfgen.Seg{seg(0, 0, huge, rx)}}, defaults,
			"0xa00000000 x1 | yes  | depends base | no p_align | depends base\n", "0 to 1 window by the base, some at 1 of 512"},
		{"PIE with p_align", elfgen.Spec{Type: elfgen.Dyn, Interp: "/ld", Segments: []elfgen.Seg{align(seg(0, 0, huge, rx))}}, defaults,
			"0xa00000000 x1 | yes  | yes  | yes  | yes\n", ""},
		{"p_align of another segment does", elfgen.Spec{Type: elfgen.Dyn, Interp: "/ld", Segments: []elfgen.Seg{seg(0, 0, huge, rx), align(seg(huge, huge, 4096, rw))}}, defaults,
			"0xa00000000 x1 | yes  | yes  | yes  | yes\n0xa00200000 x1 | no threshold | no short writable | no short writable | no not_exec\n", ""},
		{"p_align that is no power of two", elfgen.Spec{Type: elfgen.Dyn, Interp: "/ld", Segments: []elfgen.Seg{{Filesz: huge, Memsz: huge, Flags: rx, Align: 3 * huge}}}, defaults,
			"0xa00000000 x1 | yes  | depends base | no p_align | depends base\n", ""},
		{"PIE at a base", elfgen.Spec{Type: elfgen.Dyn, Interp: "/ld", Segments: []elfgen.Seg{seg(0, 0, 2*huge, rx)}}, given(0x555555554000),
			"0x555555400000 x1 | 4 KiB no_area | no outside incongruent | no outside incongruent p_align | no outside\n" +
				"0x555555600000 x1 | yes  | no incongruent | no incongruent p_align | yes\n" +
				"0x555555800000 x1 | 4 KiB no_area | no outside incongruent | no outside incongruent p_align | no outside\n", "differ by 0x154000"},
		{"PIE at an aligned base", elfgen.Spec{Type: elfgen.Dyn, Interp: "/ld", Segments: []elfgen.Seg{seg(0, 0, huge, rx)}}, given(0x555555400000),
			"0x555555400000 x1 | yes  | yes  | no p_align | yes\n", ""},
		{"library, placed by mmap", elfgen.Spec{Type: elfgen.Dyn, Segments: []elfgen.Seg{seg(0, 0, 4096, ro), seg(0x1000, 0x1000, 2*huge, rx)}}, defaults,
			"0xa00000000 x1 | 4 KiB permissions | no shared | no shared | no shared\n" +
				"0xa00200000 x1 | yes  | depends base | no p_align | yes\n" +
				"0xa00400000 x1 | no threshold | no outside | no outside p_align | no outside\n", "ext4, XFS and Btrfs align it"},
		{"small library", elfgen.Spec{Type: elfgen.Dyn, Segments: []elfgen.Seg{seg(0, 0, 4096, rx)}}, defaults,
			"0xa00000000 x1 | no threshold | no short | no short p_align | no short\n", ""},
		{"library that glibc 2.44 aligns", elfgen.Spec{Type: elfgen.Dyn, Segments: []elfgen.Seg{seg(0, 0, huge, rx)}}, defaults,
			"0xa00000000 x1 | yes  | depends base | depends p_align | depends base\n", "glibc.elf.thp=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := explainSpec(t, c.spec, c.opt)
			if d := cmp.Diff(trim(c.want), trim(draw(r))); d != "" {
				t.Errorf("- want, + got:\n%s", d)
			}
			if why := reasonsOf(r); !strings.Contains(why, c.why) {
				t.Errorf("%q is in none of the reasons:\n%s", c.why, why)
			}
		})
	}
}

// trim drops the blanks behind answers without an obstacle.
func trim(s string) string {
	s = strings.ReplaceAll(s, "  |", " |")
	return strings.ReplaceAll(s, " \n", "\n")
}

func reasonsOf(r *Report) string {
	var b strings.Builder
	for _, w := range r.Windows {
		for _, rule := range Rules {
			fmt.Fprintf(&b, "%v %v: %s\n", w.Base, rule, w.Verdicts[rule].Reason())
		}
	}
	return b.String()
}

// TestByBase: the figures by base are those of the same file at each of 512
// bases.
func TestByBase(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 5))
		spec := elfgen.Spec{Type: elfgen.Dyn, Interp: "/ld"}
		var vaddr, off uint64
		for range 1 + r.IntN(4) {
			n := 1 + r.Uint64N(3*huge)
			g := seg(vaddr, off, n, []mem.Prot{protR, protRX, protRX, protRW}[r.IntN(4)])
			spec.Segments = append(spec.Segments, g)
			up := alignUp(n, mem.PageSize)
			vaddr, off = vaddr+up+r.Uint64N(3)*mem.PageSize, off+up
		}
		got := explainSpec(t, spec, defaults)
		var want [nRules]ByBase
		for i := range mem.VirtAddr(nBases) {
			at := explainSpec(t, spec, Options{Threshold: 128, Base: 0x555555400000 + i*mem.PageSize, BaseGiven: true})
			for _, rule := range []Rule{Linux, Remap} {
				var text, ro uint64
				for _, w := range at.Windows {
					if w.Verdicts[rule].Answer != Yes {
						continue
					}
					if areaAt(at, w.Base).prot&mem.ProtExec != 0 {
						text += w.N * huge
					} else {
						ro += w.N * huge
					}
				}
				want[rule].add(text, ro)
			}
		}
		for _, rule := range []Rule{Linux, Remap} {
			if got.ByBase[rule] != want[rule] {
				t.Errorf("seed %d, %v: %+v, one by one %+v\n%+v", seed, rule, got.ByBase[rule], want[rule], spec)
			}
		}
	}
}

func areaAt(r *Report, at mem.VirtAddr) area {
	return overlapping(linuxAreas(r.Image, r.Bias), mem.PageOf(at))[0]
}

// TestPlacement: how the base comes about.
func TestPlacement(t *testing.T) {
	small, large := seg(0, 0, 4096, protRX), seg(0, 0, huge, protRX)
	aligned := large
	aligned.Align = 4 * huge
	for _, c := range []struct {
		name   string
		typ    uint16
		interp string
		seg    elfgen.Seg
		given  bool
		want   Placement
	}{
		{"ET_EXEC", elfgen.Exec, "", seg(0x400000, 0, huge, protRX), false, Linked},
		{"ET_EXEC does not move", elfgen.Exec, "", seg(0x400000, 0, huge, protRX), true, Linked},
		{"PIE", elfgen.Dyn, "/ld", large, false, AnyPage},
		{"PIE, p_align", elfgen.Dyn, "/ld", aligned, false, ByAlign},
		{"library", elfgen.Dyn, "", large, false, ByMmap},
		{"small library", elfgen.Dyn, "", small, false, AnyPage},
		{"2 MiB, but no window of the file", elfgen.Dyn, "", seg(0, 0x1000, huge, protRX), false, AnyPage},
		{"library, p_align", elfgen.Dyn, "", aligned, false, ByAlign},
		{"given", elfgen.Dyn, "/ld", aligned, true, Given},
	} {
		opt := defaults
		opt.BaseGiven = c.given
		if r := explainSpec(t, elfgen.Spec{Type: c.typ, Interp: c.interp, Segments: []elfgen.Seg{c.seg}}, opt); r.Placement != c.want {
			t.Errorf("%s: %v, want %v", c.name, r.Placement, c.want)
		}
	}
}

// TestGain: pages, entries and what a start reads.
func TestGain(t *testing.T) {
	r := explainSpec(t, elfgen.Spec{Entry: 0x433210, Segments: []elfgen.Seg{seg(0x400000, 0, 3*huge+5000, protRX), seg(0xa02000, 3*huge+2*4096, huge, protRW)}}, defaults)
	// The start touches the first page and that of the entry, in one window, and the last page, outside of the windows.
	want := Gain{Pages: 3*512 + 2, Huge: 3, Rest: 2, Text: 3 * huge, Extra: huge - 2*4096, Startup: 3}
	if d := cmp.Diff(want, r.Gain); d != "" {
		t.Error(d)
	}
	if r.Gain.Entries() != 5 {
		t.Errorf("%d entries", r.Gain.Entries())
	}
}

// TestEdit: where the p_align is in the file.
func TestEdit(t *testing.T) {
	spec := elfgen.Spec{Type: elfgen.Dyn, Interp: "/ld", Segments: []elfgen.Seg{seg(0, 0, 4096, protR), seg(0x1000, 0x1000, 2*huge, protRX), seg(2*huge+0x2000, 2*huge+0x1000, 4096, protRW)}}
	r := explainSpec(t, spec, defaults)
	want := &Edit{Segment: 2, Offset: 64 + 2*56 + 48, From: 4096, To: huge, Text: huge} // behind PT_INTERP
	if d := cmp.Diff(want, r.Edit); d != "" {
		t.Fatal(d)
	}
	spec.Segments[1].Align = huge
	if r := explainSpec(t, spec, defaults); r.Edit != nil || r.ByBase[Aligned].Text.Min != want.Text {
		t.Errorf("with p_align: %+v, edit %+v", r.ByBase[Aligned], r.Edit)
	}
	spec.Segments[1].Align = 0
	spec.Segments[1].Offset, spec.Segments[1].Vaddr = 0x1000, 0x2000
	if r := explainSpec(t, spec, defaults); r.Edit != nil {
		t.Errorf("not congruent: %+v", r.Edit)
	}
}

// TestNoLayout: files that no linker wrote have no fix.
func TestNoLayout(t *testing.T) {
	for name, segs := range map[string][]elfgen.Seg{
		"no text":                 {seg(0x400000, 0, huge, protR)},
		"not from 0":              {seg(0x400000, 0x1000, huge, protRX)},
		"rwx":                     {seg(0x400000, 0, huge, protRX|mem.ProtWrite)},
		"text twice":              {seg(0x400000, 0, huge, protRX), seg(0x600000, huge, huge, protRX)},
		"offsets not ascending":   {seg(0x400000, 0, huge, protR), seg(0x600000, 0x1000, huge, protRX)},
		"writable before text":    {seg(0x400000, 0, 4096, protRW), seg(0x600000, huge, huge, protRX)},
		"one over the other file": {seg(0x400000, 0, huge, protRX), seg(0x600000, huge-4096, huge, protRW)},
	} {
		if r := explainSpec(t, elfgen.Spec{Segments: segs}, defaults); len(r.Fixes) != 0 {
			t.Errorf("%s: %+v", name, r.Fixes)
		}
	}
}

// TestDeterministic: the same headers give the same report.
func TestDeterministic(t *testing.T) {
	for seed := range uint64(20) {
		_, data := elfgen.Random(rand.New(rand.NewPCG(seed, 9)))
		f := mem.NewBytesFile("x", data)
		first, err := Explain(f, defaults)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Explain(f, defaults)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(first.Windows, second.Windows) || !reflect.DeepEqual(first.Risks, second.Risks) || first.Gain != second.Gain {
			t.Errorf("seed %d differs", seed)
		}
	}
}

// TestExtremes: many segments, far apart, over each other, and of any size, are
// answered or refused.
func TestExtremes(t *testing.T) {
	const most = 1000
	many := func(f func(i uint64) elfgen.Seg) elfgen.Spec {
		s := elfgen.Spec{Size: 1 << 40}
		for i := range uint64(most) {
			s.Segments = append(s.Segments, f(i))
		}
		return s
	}
	for name, s := range map[string]elfgen.Spec{
		"far apart":          many(func(i uint64) elfgen.Seg { return seg(0x400000+i<<32, i<<22, huge, protRX) }),
		"one over the other": many(func(i uint64) elfgen.Seg { return seg(0x400000+i<<12, i<<12, 1<<32, protRX) }),
		"nested":             many(func(i uint64) elfgen.Seg { return seg(0x400000+i<<12, i<<12, 1<<32-i<<13, protR) }),
		"much memory":        {Segments: []elfgen.Seg{{Vaddr: 0x400000, Filesz: 1, Memsz: 1 << 46, Flags: protRW}}},
		"a large file":       {Size: 1 << 46, Segments: []elfgen.Seg{seg(0x400000, 0, 1<<45, protRX)}},
		"all of one index":   many(func(i uint64) elfgen.Seg { return seg(0x400000+i<<12, 0, 100, protR) }),
		"each index by many": many(func(i uint64) elfgen.Seg {
			if i%2 == 0 {
				return seg(0x400000+i<<32, i<<21, 4000, protR)
			}
			return seg(0x400000+i<<32, 0, most<<21, protRW)
		}),
	} {
		s.Type, s.Entry = elfgen.Exec, 0x400000
		f := &holes{BytesFile: mem.NewBytesFile(name, elfgen.Build(with(s, 1<<17), nil)), size: max(s.Size, 1<<17)}
		r, err := Explain(f, Options{Threshold: 1, Base: defaults.Base})
		if tooMany := name == "each index by many"; errors.Is(err, ErrTooMany) != tooMany || err != nil && !tooMany {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			checkReport(t, r)
		}
	}
}

// checkReport checks what holds of every report.
func checkReport(t testing.TB, r *Report) {
	t.Helper()
	var end mem.VirtAddr
	for i, w := range r.Windows {
		if w.N == 0 || w.Base%huge != 0 || w.Base < end || w.Cached < 0 || w.Cached > mem.SubPages || len(w.Segments) == 0 {
			t.Fatalf("window %d: %+v behind %v", i, w, end)
		}
		end = w.Range().End
		for _, rule := range Rules {
			if v := w.Verdicts[rule]; v.Answer != Yes && len(v.Obstacles) == 0 {
				t.Fatalf("window %v, %v: %v without a reason", w.Base, rule, v.Answer)
			}
		}
		if a, l := w.Verdicts[Aligned].Answer, w.Verdicts[Linux].Answer; a == Yes && l != Yes {
			t.Fatalf("window %v: what a loader guarantees Linux has not: %v", w.Base, w.Verdicts[Linux].Reason())
		}
	}
	for _, s := range r.Image.Segments {
		if at := (s.Range(r.Bias).Start).HugeDown(); !slices.ContainsFunc(r.Windows, func(w Run) bool { return w.Range().Contains(at) }) {
			t.Fatalf("%v is in no window", s)
		}
	}
	for _, f := range r.Fixes {
		if int64(r.Size)+f.Cost != int64(f.FileSize) || f.Text > r.Text {
			t.Fatalf("fix %+v of %d bytes, %d of text", f, r.Size, r.Text)
		}
		f.Gain()
	}
	for _, rule := range Rules {
		if h := r.ByBase[rule]; h.Of == 0 || h.Windows.Min > h.Windows.Max || h.Text.Max+h.ReadOnly.Max < h.Windows.Max*huge {
			t.Fatalf("%v: %+v", rule, h)
		}
	}
}

// TestMalformed: random broken files are refused as the loader refuses them, or
// explained.
func TestMalformed(t *testing.T) {
	for seed := range uint64(2000) {
		name, data := elfgen.Malformed(rand.New(rand.NewPCG(seed, 11)))
		f := mem.NewBytesFile(name, data)
		_, parse := loader.Parse(f)
		r, err := Explain(f, defaults)
		if parse != nil && (err == nil || err.Error() != parse.Error()) {
			t.Fatalf("seed %d, %s: %v, the loader says %v", seed, name, err, parse)
		}
		if err == nil {
			checkReport(t, r)
		}
	}
}

// FuzzExplain: a report or an error, whatever the bytes.
func FuzzExplain(f *testing.F) {
	for _, name := range []string{"kevlar-layout", "dynamic-pie", "shared-object", "shared-three", "beyond-eof"} {
		data, err := os.ReadFile("../../testdata/elf/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[:min(len(data), 4096)], int64(len(data)), uint8(128))
	}
	f.Fuzz(func(t *testing.T, data []byte, size int64, threshold uint8) {
		file := &holes{BytesFile: mem.NewBytesFile("x", data), size: size}
		r, err := Explain(file, Options{Threshold: int(threshold), Base: defaults.Base})
		if (r == nil) != (err != nil) {
			t.Fatalf("%v and %v", r, err)
		}
		if err == nil {
			checkReport(t, r)
		}
	})
}
