package vma

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"vmsim/mem"
)

// drawAreas draws a set as /proc/PID/maps does, one area a line.
func drawAreas(s *Set) string {
	var b strings.Builder
	for v := range s.All() {
		fmt.Fprintln(&b, v)
	}
	return b.String()
}

// parseAreas reads areas in the form of drawAreas. Extra words, in front of the
// name, set what maps do not show: file=END where file bytes end before the
// area does, seg=N, filler, overlap.
func parseAreas(t testing.TB, text string) []VMA {
	t.Helper()
	files := map[string]mem.File{}
	var out []VMA
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var v VMA
		var err error
		hex := func(s string) uint64 {
			n, e := strconv.ParseUint(s, 16, 64)
			if e != nil && err == nil {
				err = e
			}
			return n
		}
		start, end, _ := strings.Cut(words[0], "-")
		v.Start, v.End = mem.VirtAddr(hex(start)), mem.VirtAddr(hex(end))
		v.Prot, err = mem.ParseProt(words[1][:3])
		v.Shared = words[1][3] == 's'
		v.Offset = int64(hex(words[2]))
		fileEnd := v.End
		for _, w := range words[3:] {
			switch {
			case w == "[heap]":
				v.Kind = Heap
			case w == "[stack]":
				v.Kind = Stack
			case w == "filler":
				v.Kind = Filler
			case w == "overlap":
				v.Overlap = true
			case strings.HasPrefix(w, "seg="):
				v.Segment = uint16(hex(w[4:]))
			case strings.HasPrefix(w, "file="):
				fileEnd = mem.VirtAddr(hex(w[5:]))
			default:
				if files[w] == nil {
					files[w] = mem.NewBytesFile(w, nil)
				}
				v.Kind, v.File, v.FileEnd = File, files[w], fileEnd
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		out = append(out, v)
	}
	return out
}

func parseSet(t testing.TB, text string) *Set {
	t.Helper()
	s := New()
	for _, v := range parseAreas(t, text) {
		if err := s.Insert(v); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	return s
}

// kevlar is the layout of case A, with a heap and a stack.
const kevlar = `
00400000-0051b1f0 r-xp 00000000 seg=1 busybox
0051b1f0-0051cbf0 rw-p 00000000 filler
0051cbf0-00525f64 rw-p 0011bbf0 seg=2 file=522e40 busybox
00525f64-00526000 rw-p 00000000 filler
00526000-00528000 rw-p 00000000 [heap]
7fffffffd000-7ffffffff000 rw-p 00000000 [stack]
`

// Each case draws a set before and after an operation.
func TestOperations(t *testing.T) {
	pages := func(start, end mem.VirtAddr) mem.Range { return mem.Range{Start: start, End: end} }
	insert := func(line string) func(*testing.T, *Set) {
		return func(t *testing.T, s *Set) {
			for _, v := range parseAreas(t, line) {
				// The same name is the same file.
				for old := range s.All() {
					if old.File != nil && v.File != nil && old.Name() == v.Name() {
						v.File = old.File
					}
				}
				if err := s.Insert(v); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, c := range []struct {
		name, before string
		op           func(*testing.T, *Set)
		after        string
	}{
		{"a split moves the file offset", `
00010000-00020000 r--p 00003000 lib`,
			func(_ *testing.T, s *Set) { s.Remove(pages(0x14000, 0x16000)) }, `
00010000-00014000 r--p 00003000 lib
00016000-00020000 r--p 00009000 lib`},
		{"and the hole that is mapped again merges on both sides", `
00010000-00014000 r--p 00003000 lib
00016000-00020000 r--p 00009000 lib`,
			insert("00014000-00016000 r--p 00007000 lib"), `
00010000-00020000 r--p 00003000 lib`},
		{"another offset does not merge", `
00010000-00014000 r--p 00003000 lib`,
			insert("00014000-00016000 r--p 00008000 lib"), `
00010000-00014000 r--p 00003000 lib
00014000-00016000 r--p 00008000 lib`},
		{"another file does not merge", `
00010000-00014000 r--p 00003000 lib`,
			insert("00014000-00016000 r--p 00007000 other"), `
00010000-00014000 r--p 00003000 lib
00014000-00016000 r--p 00007000 other`},
		{"a shared mapping does not merge with a private one", `
00010000-00014000 rw-p 00000000`,
			insert("00014000-00016000 rw-s 00000000"), `
00010000-00014000 rw-p 00000000
00014000-00016000 rw-s 00000000`},
		{"file bytes behind zeros do not merge", `
00010000-00014000 rw-p 00000000 file=13000 seg=1 prog`,
			insert("00014000-00015000 rw-p 00004000 seg=1 prog"), `
00010000-00014000 rw-p 00000000 prog
00014000-00015000 rw-p 00004000 prog`},
		{"zeros behind file bytes do", `
00010000-00014000 rw-p 00000000 seg=1 prog`,
			insert("00014000-00015000 rw-p 00004000 file=14000 seg=1 prog"), `
00010000-00015000 rw-p 00000000 prog`},
		{"mprotect of the middle, RELRO", `
00010000-00014000 rw-p 00003000 lib`,
			func(_ *testing.T, s *Set) { s.Protect(pages(0x11000, 0x12000), mem.ProtRead) }, `
00010000-00011000 rw-p 00003000 lib
00011000-00012000 r--p 00004000 lib
00012000-00014000 rw-p 00005000 lib`},
		{"and back", `
00010000-00011000 rw-p 00003000 lib
00011000-00012000 r--p 00004000 lib
00012000-00014000 rw-p 00005000 lib`,
			func(_ *testing.T, s *Set) {
				s.Protect(pages(0x11000, 0x12000), mem.ProtRead|mem.ProtWrite)
			}, `
00010000-00014000 rw-p 00003000 lib`},
		{"munmap of a boundary page of case A", kevlar,
			func(_ *testing.T, s *Set) { s.Remove(pages(0x51c000, 0x51d000)) }, `
00400000-0051b1f0 r-xp 00000000 busybox
0051b1f0-0051c000 rw-p 00000000
0051d000-00525f64 rw-p 0011c000 busybox
00525f64-00526000 rw-p 00000000
00526000-00528000 rw-p 00000000 [heap]
7fffffffd000-7ffffffff000 rw-p 00000000 [stack]`},
		{"mprotect of a page that three areas share", kevlar,
			func(_ *testing.T, s *Set) { s.Protect(pages(0x51b000, 0x51d000), mem.ProtRead) }, `
00400000-0051b000 r-xp 00000000 busybox
0051b000-0051b1f0 r--p 0011b000 busybox
0051b1f0-0051cbf0 r--p 00000000
0051cbf0-0051d000 r--p 0011bbf0 busybox
0051d000-00525f64 rw-p 0011c000 busybox
00525f64-00526000 rw-p 00000000
00526000-00528000 rw-p 00000000 [heap]
7fffffffd000-7ffffffff000 rw-p 00000000 [stack]`},
		{"a stack grows down", kevlar,
			func(_ *testing.T, s *Set) { s.Resize(0x7fffffffd000, pages(0x7fffffff0000, 0x7ffffffff000)) }, `
00400000-0051b1f0 r-xp 00000000 busybox
0051b1f0-0051cbf0 rw-p 00000000
0051cbf0-00525f64 rw-p 0011bbf0 busybox
00525f64-00526000 rw-p 00000000
00526000-00528000 rw-p 00000000 [heap]
7fffffff0000-7ffffffff000 rw-p 00000000 [stack]`},
		{"removing nothing", kevlar, func(_ *testing.T, s *Set) {
			s.Remove(pages(0x450000, 0x450000))
			s.Protect(pages(0x450000, 0x450000), 0)
		}, `
00400000-0051b1f0 r-xp 00000000 busybox
0051b1f0-0051cbf0 rw-p 00000000
0051cbf0-00525f64 rw-p 0011bbf0 busybox
00525f64-00526000 rw-p 00000000
00526000-00528000 rw-p 00000000 [heap]
7fffffffd000-7ffffffff000 rw-p 00000000 [stack]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := parseSet(t, c.before)
			for v := range s.All() { // what was found last must not outlive the operation
				s.Find(v.Start)
				break
			}
			c.op(t, s)
			if err := s.Check(); err != nil {
				t.Error(err)
			}
			if got, want := drawAreas(s), strings.TrimPrefix(c.after, "\n")+"\n"; got != want {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

// Splits at addresses that are no multiple of anything.
func TestClip(t *testing.T) {
	v := parseAreas(t, "0051cbf1-00525f64 rw-p 0011bbf1 seg=2 file=522e41 busybox")[0]
	for _, c := range []struct {
		start, end, fileEnd mem.VirtAddr
		offset              int64
	}{
		{0x51cbf1, 0x51d000, 0x51d000, 0x11bbf1}, // file bytes alone
		{0x522000, 0x523000, 0x522e41, 0x121000}, // both
		{0x523000, 0x524000, 0x523000, 0x122000}, // zeros alone
		{0x51cbf1, 0x525f64, 0x522e41, 0x11bbf1}, // all
	} {
		r := mem.Range{Start: c.start, End: c.end}
		got := v.Clip(mem.PageOf(c.start))
		if c.end-c.start > mem.PageSize {
			got = v.Clip(mem.Range{Start: 0, End: mem.UserEnd})
		}
		if got.Range != r || got.FileEnd != c.fileEnd || got.Offset != c.offset || got.Segment != 2 {
			t.Errorf("clip to %v: %v, file bytes to %v", r, got, got.FileEnd)
		}
	}
	a, b := v.Clip(mem.Range{Start: 0, End: 0x51d000}), v.Clip(mem.Range{Start: 0x51d000, End: mem.UserEnd})
	if !a.Continues(&b) || b.Continues(&a) {
		t.Error("the halves of a split do not continue each other in order")
	}
	if a.Extend(&b); a != v {
		t.Errorf("joined again: %v, file bytes to %v", a, a.FileEnd)
	}
}

func TestResizeMisuse(t *testing.T) {
	for name, start := range map[string]mem.VirtAddr{"no area": 0x1000, "the middle of one": 0x401000, "a file": 0x400000} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("resize of %s does not panic", name)
				}
			}()
			parseSet(t, kevlar).Resize(start, mem.Range{Start: 0x1000, End: 0x2000})
		}()
	}
}

// TestCheckFinds breaks a set in one way at a time.
func TestCheckFinds(t *testing.T) {
	change := func(start mem.VirtAddr, f func(v *VMA)) func(*Set) {
		return func(s *Set) {
			v, ok := s.tree.Get(VMA{Range: mem.Range{Start: start}})
			if !ok {
				panic("no such area")
			}
			s.tree.Delete(v)
			f(&v)
			s.tree.ReplaceOrInsert(v)
			s.last = VMA{}
		}
	}
	for _, c := range []struct {
		want   string
		damage func(*Set)
	}{
		{"is empty", change(0x526000, func(v *VMA) { v.End = v.Start })},
		{"overlap", change(0x400000, func(v *VMA) { v.End++ })},
		{"starts inside a page that no area covers", change(0x526000, func(v *VMA) { v.Start += 8 })},
		{"ends inside a page that no area covers", change(0x526000, func(v *VMA) { v.End -= 8 })},
		{"7fffffffe800 rw-p 00000000 [stack] ends inside", change(0x7fffffffd000, func(v *VMA) { v.End -= 0x800 })},
		{"starts inside", func(s *Set) { s.tree.Delete(VMA{Range: mem.Range{Start: 0x51b1f0}}) }},
		{"are not merged", change(0x526000, func(v *VMA) { v.Kind = Filler })},
		{"file bytes end at 0x3fffff", change(0x400000, func(v *VMA) { v.FileEnd = v.Start - 1 })},
		{"file bytes end at 0x51b1f1", change(0x400000, func(v *VMA) { v.FileEnd = v.End + 1 })},
		{"00400000-0051b1f0 r-xp -0000001 busybox", change(0x400000, func(v *VMA) { v.Offset = -1 })},
		{"00400000-0051b1f0 r-xp 00000000 has no file", change(0x400000, func(v *VMA) { v.File = nil })},
		{"found last", func(s *Set) { s.last = VMA{Range: mem.Range{Start: 0x1000, End: 0x2000}} }},
		{"found last", func(s *Set) { s.Find(0x526000); s.last.Prot = mem.ProtNone }},
	} {
		s := parseSet(t, kevlar)
		s.Find(0x526000)
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		c.damage(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// A view that is used again shows what the set holds now, in any order.
func TestViewAgain(t *testing.T) {
	s := parseSet(t, kevlar)
	clone := s.Clone()
	var w PageView
	see := func(s *Set, page mem.VirtAddr) {
		t.Helper()
		var fresh PageView
		if ok := s.View(page, &fresh); ok != s.View(page, &w) || fmt.Sprint(w) != fmt.Sprint(fresh) {
			t.Errorf("view of %v:\n%+v\nwant\n%+v", page, w, fresh)
		}
	}
	pages := []mem.VirtAddr{0x450000, 0x400000, 0x51a000, 0x51b000, 0x401000, 0x51d000, 0x522000, 0x526000, 0x527000, 0x528000, 0x526000, 0x400000, 0xfffffffffffff000}
	for _, page := range pages {
		see(s, page)
	}
	s.Protect(mem.Range{Start: 0x400000, End: 0x500000}, mem.ProtRead)
	for _, page := range pages {
		see(s, page)
		see(clone, page)
	}
}

// The two boundary pages of case A, as fault and assembly see them.
func TestPageViewCaseA(t *testing.T) {
	s := parseSet(t, kevlar)
	var w PageView
	for _, c := range []struct {
		page          mem.VirtAddr
		prot          string
		pieces        string
		areas         int
		first         mem.VirtAddr
		fromCache, to bool
	}{
		{0x51a000, "r-x", "[0x0+0x1000 of 0x11a]", 1, 0x400000, true, true},
		{0x51b000, "r-x", "[0x0+0x1f0 of 0x11b]", 1, 0x400000, false, true},
		{0x51c000, "rw-", "[0xbf0+0x410 of 0x11b]", 1, 0x51cbf0, false, false},
		{0x51d000, "rw-", "[0x0+0x1000 of 0x11c]", 1, 0x51cbf0, true, false},
		{0x522000, "rw-", "[0x0+0xe40 of 0x121]", 1, 0x51cbf0, false, false},
		{0x523000, "rw-", "[]", 1, 0x51cbf0, false, false},
		{0x526000, "rw-", "[]", 0, 0x526000, false, false},
	} {
		if !s.View(c.page+0xfff, &w) {
			t.Fatalf("%v is not mapped", c.page)
		}
		pieces := []string{}
		for i := range w.Pieces {
			p := &w.Pieces[i]
			pieces = append(pieces, fmt.Sprintf("%#x+%#x of %#x", p.At, p.Len, uint64(p.Index())))
		}
		_, from := w.FromCache()
		_, to := w.ToCache()
		if got := fmt.Sprint(pieces); got != c.pieces || w.Prot.String() != c.prot || w.Areas != c.areas || w.First.Start != c.first {
			t.Errorf("%v: %s %v, %d areas, first %v", c.page, got, w.Prot, w.Areas, w.First)
		}
		if from != c.fromCache || to != c.to {
			t.Errorf("%v: from the cache %t, to the cache %t", c.page, from, to)
		}
	}
	if s.View(0x600000, &w) || ViewFrom(nil, 0x400000, &w) {
		t.Error("a page without an area is seen")
	}
}
