package vma

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vmsim/mem"
)

// The model is an array with one cell for each atom of 256 bytes of a small
// address space: bounds of areas lie on atoms, most of them inside pages.
const (
	atom       = 0x100
	perPage    = mem.PageSize / atom
	modelPages = 24
	modelAtoms = modelPages * perPage
	modelEnd   = modelPages * mem.PageSize
)

// cell is what an atom of memory is; the zero cell is unmapped.
type cell struct {
	mapped  bool
	prot    mem.Prot
	kind    Kind
	shared  bool
	flags   Flags
	backed  bool
	file    uint32 // FileNo
	offset  int64  // in the file
	bytes   bool   // file bytes, not zeros
	segment uint16
	overlap bool
}

type model [modelAtoms]cell

var (
	testFiles = []mem.File{nil, mem.NewBytesFile("one", nil), mem.NewBytesFile("two", nil)}
	prots     = []mem.Prot{mem.ProtNone, mem.ProtRead, mem.ProtRead | mem.ProtWrite, mem.ProtRead | mem.ProtExec}
)

// put writes v into the model.
func (m *model) put(v VMA) {
	for a := v.Start; a < v.End; a += atom {
		c := cell{mapped: true, prot: v.Prot, kind: v.Kind, shared: v.Shared, flags: v.Flags, segment: v.Segment, overlap: v.Overlap}
		if v.File != nil {
			c.backed, c.file, c.offset, c.bytes = true, v.FileNo, v.Offset+int64(a-v.Start), a < v.FileEnd
		}
		m[a/atom] = c
	}
}

func (m *model) each(r mem.Range, f func(c *cell)) {
	for a := r.Start; a < r.End; a += atom {
		f(&m[a/atom])
	}
}

// free reports whether all atoms of r are unmapped.
func (m *model) free(r mem.Range) bool {
	free := true
	m.each(r, func(c *cell) { free = free && !c.mapped })
	return free
}

// covers reports whether all atoms of r are mapped.
func (m *model) covers(r mem.Range) bool {
	all := true
	m.each(r, func(c *cell) { all = all && c.mapped })
	return all
}

// pair is a Set and what it should hold.
type pair struct {
	set   *Set
	model *model
}

func (p *pair) check(t *rapid.T) {
	if err := p.set.Check(); err != nil {
		t.Fatalf("%v\n%s", err, drawAreas(p.set))
	}
	var got model
	n := 0
	for v := range p.set.All() {
		got.put(v)
		n++
	}
	if n != p.set.Len() {
		t.Fatalf("%d areas, Len is %d", n, p.set.Len())
	}
	for i := range got {
		if got[i] != p.model[i] {
			t.Fatalf("%v: %+v, want %+v\n%s", mem.VirtAddr(i*atom), got[i], p.model[i], drawAreas(p.set))
		}
	}
}

// drawPages draws a range of whole pages.
func drawPages(t *rapid.T) mem.Range {
	a := rapid.IntRange(0, modelPages-1).Draw(t, "page")
	n := rapid.IntRange(1, min(6, modelPages-a)).Draw(t, "pages")
	return mem.Range{Start: mem.VirtAddr(a * mem.PageSize), End: mem.VirtAddr((a + n) * mem.PageSize)}
}

// drawAtoms draws a range of atoms, empty ones included.
func drawAtoms(t *rapid.T) mem.Range {
	a, b := rapid.IntRange(0, modelAtoms).Draw(t, "from"), rapid.IntRange(0, modelAtoms).Draw(t, "to")
	return mem.Range{Start: mem.VirtAddr(min(a, b) * atom), End: mem.VirtAddr(max(a, b) * atom)}
}

// drawMapping draws an area as mmap makes them: of whole pages.
func drawMapping(t *rapid.T, r mem.Range) VMA {
	v := VMA{Range: r, Prot: rapid.SampledFrom(prots).Draw(t, "prot")}
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		v.Kind = Anon
	case 1:
		v.Kind = rapid.SampledFrom([]Kind{Heap, Stack}).Draw(t, "grows")
	case 2: // offsets that let neighbours merge, half of the time
		v.Kind, v.FileNo = File, rapid.Uint32Range(1, 2).Draw(t, "file")
		v.Offset = int64(r.Start) + int64(rapid.IntRange(0, 1).Draw(t, "shift"))*mem.PageSize
		v.FileEnd = r.End
	case 3: // shared anonymous memory: backed, without file bytes
		v.Kind, v.Shared, v.FileNo = Anon, true, rapid.Uint32Range(1, 2).Draw(t, "object")
		v.Offset, v.FileEnd = int64(r.Start), r.Start
	}
	v.File = testFiles[v.FileNo]
	return v
}

// drawProgram draws the areas of a program inside r, as exec lays them out:
// segments at any byte, some with .bss, some adjoining, fillers around.
func drawProgram(t *rapid.T, r mem.Range) []VMA {
	fileNo := rapid.Uint32Range(1, 2).Draw(t, "program")
	var out []VMA
	fill := func(from, to mem.VirtAddr) {
		if from < to {
			out = append(out, VMA{Range: mem.Range{Start: from, End: to}, Prot: mem.ProtRead | mem.ProtWrite, Kind: Filler})
		}
	}
	at := r.Start
	for seg := uint16(1); at < r.End && seg < 5; seg++ {
		room := int(r.End-at) / atom
		gap := rapid.IntRange(0, min(room-1, 20)).Draw(t, "gap")
		size := rapid.IntRange(1, min(room-gap, 40)).Draw(t, "size")
		inFile := rapid.IntRange(0, size).Draw(t, "filesz")
		v := VMA{Prot: rapid.SampledFrom(prots).Draw(t, "flags"), Kind: File, FileNo: fileNo, File: testFiles[fileNo],
			Segment: seg, Overlap: rapid.IntRange(0, 5).Draw(t, "overlap") == 0}
		v.Start = at + mem.VirtAddr(gap*atom)
		v.End = v.Start + mem.VirtAddr(size*atom)
		v.FileEnd = v.Start + mem.VirtAddr(inFile*atom)
		v.Offset = int64(v.Start) - int64(r.Start) // congruent, and file pages are shared
		fill(at, v.Start)
		out = append(out, v)
		at = v.End
	}
	end, _ := at.PageUp()
	fill(at, end)
	return out
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pairs := []pair{{New(), &model{}}}
		draw := func(t *rapid.T) pair { return rapid.SampledFrom(pairs).Draw(t, "set") }

		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for i := range pairs {
					pairs[i].check(t)
				}
			},
			"map": func(t *rapid.T) {
				p, v := draw(t), drawMapping(t, drawPages(t))
				p.set.Find(v.Start - 1) // the area found last may be the one that v merges with
				err := p.set.Insert(v)
				if want := p.model.free(v.Range); want != (err == nil) || !want && !errors.Is(err, ErrExists) {
					t.Fatalf("insert %v: %v, free: %t", v, err, want)
				}
				if err == nil {
					p.model.put(v)
				}
			},
			"map over": func(t *rapid.T) {
				p, v := draw(t), drawMapping(t, drawPages(t))
				p.set.Remove(v.Range)
				if err := p.set.Insert(v); err != nil {
					t.Fatal(err)
				}
				p.model.put(v)
			},
			"exec": func(t *rapid.T) {
				p, r := draw(t), drawPages(t)
				p.set.Remove(r)
				p.model.each(r, func(c *cell) { *c = cell{} })
				for _, v := range drawProgram(t, r) {
					if err := p.set.Insert(v); err != nil {
						t.Fatal(err)
					}
					p.model.put(v)
				}
			},
			"unmap": func(t *rapid.T) {
				p, r := draw(t), drawPages(t)
				p.set.Remove(r)
				p.model.each(r, func(c *cell) { *c = cell{} })
			},
			"protect": func(t *rapid.T) {
				p, r, prot := draw(t), drawPages(t), rapid.SampledFrom(prots).Draw(t, "prot")
				p.set.Protect(r, prot)
				p.model.each(r, func(c *cell) {
					if c.mapped {
						c.prot = prot
					}
				})
			},
			"flag": func(t *rapid.T) {
				p, r, flags := draw(t), drawPages(t), rapid.SampledFrom([]Flags{0, 0, Locked, DontFork}).Draw(t, "flags")
				p.set.Update(r, func(v *VMA) { v.Flags = flags })
				p.model.each(r, func(c *cell) {
					if c.mapped {
						c.flags = flags
					}
				})
			},
			"nothing": func(t *rapid.T) { // empty ranges change nothing
				p := draw(t)
				at := drawAtoms(t).Start
				r := mem.Range{Start: at, End: at}
				p.set.Remove(r)
				p.set.Protect(r, mem.ProtNone)
				if err := p.set.Insert(VMA{Range: r}); err == nil || errors.Is(err, ErrExists) {
					t.Fatalf("insert of an empty area: %v", err)
				}
			},
			"resize": func(t *rapid.T) {
				p, to := draw(t), drawPages(t)
				for v := range p.set.Overlapping(to) {
					if v.Backed() || v.Start.PageOffset() != 0 || v.End.PageOffset() != 0 {
						continue
					}
					without := *p.model
					without.each(v.Range, func(c *cell) { *c = cell{} })
					if !without.free(to) {
						continue
					}
					p.set.Resize(v.Start, to)
					*p.model = without
					v.Range = to
					p.model.put(v)
					return
				}
			},
			"clone": func(t *rapid.T) {
				if len(pairs) < 4 {
					p := draw(t)
					m := *p.model
					pairs = append(pairs, pair{p.set.Clone(), &m})
				}
			},
			"find": func(t *rapid.T) {
				for range 5 {
					draw(t).find(t)
				}
			},
			"range": func(t *rapid.T) {
				for range 5 {
					draw(t).overlapping(t)
				}
			},
			"gap": func(t *rapid.T) {
				p := draw(t)
				for range 5 {
					p.gap(t)
				}
			},
			"view": func(t *rapid.T) { draw(t).views(t) },
		})
	})
}

// find compares the lookups of one address with a scan of all areas.
func (p pair) find(t *rapid.T) {
	addr := mem.VirtAddr(rapid.IntRange(0, modelEnd+1).Draw(t, "addr"))
	var in, below, above VMA
	for v := range p.set.All() {
		if v.Start <= addr {
			below = v
		}
		if v.Contains(addr) {
			in = v
		}
		if v.End > addr && above.Empty() {
			above = v
		}
	}
	for range 2 { // the second time from the last-VMA cache
		if v, ok := p.set.Find(addr); ok != !in.Empty() || ok && v != in {
			t.Fatalf("find %v: %v, %t; want %v", addr, v, ok, in)
		}
	}
	if v, ok := p.set.FindBelow(addr); ok != !below.Empty() || v != below {
		t.Fatalf("find below %v: %v, %t; want %v", addr, v, ok, below)
	}
	if v, ok := p.set.FindAbove(addr); ok != !above.Empty() || v != above {
		t.Fatalf("find above %v: %v, %t; want %v", addr, v, ok, above)
	}
}

// overlapping compares the range queries with the model.
func (p pair) overlapping(t *rapid.T) {
	r := drawAtoms(t)
	var want, got []VMA
	for v := range p.set.All() {
		if v.Overlaps(r) {
			want = append(want, v)
		}
	}
	for v := range p.set.Overlapping(r) {
		got = append(got, v)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("overlapping %v: %v, want %v", r, got, want)
	}
	for v := range p.set.Overlapping(r) { // may be left early
		if v != want[0] {
			t.Fatalf("first of %v: %v", r, v)
		}
		break
	}
	if p.set.Mapped(r) != !p.model.free(r) {
		t.Fatalf("mapped %v: %t", r, p.set.Mapped(r))
	}
	if p.set.Covers(r) != p.model.covers(r) {
		t.Fatalf("covers %v: %t\n%s", r, p.set.Covers(r), drawAreas(p.set))
	}
}

// gap compares GapBelow with a scan of all starts.
func (p pair) gap(t *rapid.T) {
	n := uint64(rapid.IntRange(1, 6*mem.PageSize).Draw(t, "bytes"))
	bottom := mem.VirtAddr(rapid.IntRange(0, modelAtoms).Draw(t, "bottom") * atom)
	top := mem.VirtAddr(rapid.IntRange(0, modelAtoms).Draw(t, "top") * atom)
	guard := uint64(rapid.IntRange(0, 4).Draw(t, "guard")) * mem.PageSize

	blocked := *p.model // and the guards below stacks
	for v := range p.set.All() {
		if v.Kind != Stack {
			continue
		}
		low := v.Start.PageDown()
		low -= min(low, mem.VirtAddr(guard))
		blocked.each(mem.Range{Start: low, End: v.Start}, func(c *cell) { c.mapped = true })
	}
	var want mem.VirtAddr
	found := false
	for at := top.PageDown(); !found; at -= mem.PageSize {
		end := at + mem.VirtAddr(n)
		found = at >= bottom && end <= top && blocked.free(mem.Range{Start: at, End: end})
		want = at
		if at <= bottom {
			break
		}
	}
	if !found {
		want = 0
	}
	if at, ok := p.set.GapBelow(n, bottom, top, guard); ok != found || at != want {
		t.Fatalf("gap of 0x%x in [%v, %v), guard 0x%x: %v, %t; want %v, %t\n%s", n, bottom, top, guard, at, ok, want, found, drawAreas(p.set))
	}
}

// views compares PageView with the model, page by page.
func (p pair) views(t *rapid.T) {
	all := slices.Collect(p.set.All())
	var w, from PageView
	for page := mem.VirtAddr(0); page < modelEnd; page += mem.PageSize {
		at := page + mem.VirtAddr(rapid.IntRange(0, mem.PageSize-1).Draw(t, "in page"))
		ok := p.set.View(at, &w)
		okFrom := ViewFrom(all, at, &from)
		from.version = w.version // ViewFrom knows of no set
		if ok != okFrom || fmt.Sprint(w) != fmt.Sprint(from) {
			t.Fatalf("View and ViewFrom of %v:\n%+v\n%+v", page, w, from)
		}
		if from.Pieces = slices.Clone(w.Pieces); ok && from.Next() {
			var next PageView
			p.set.View(page+mem.PageSize, &next)
			if fmt.Sprint(from) != fmt.Sprint(next) {
				t.Fatalf("after %v, Next and View:\n%+v\n%+v", page, from, next)
			}
		}
		if ok != p.model[page/atom].mapped {
			t.Fatalf("view of %v: %t", page, ok)
		}
		if ok {
			p.model.checkView(t, page, all, &w)
			p.checkAlike(t, &w)
		}
	}
}

// checkAlike looks at all pages that are said to permit the same.
func (p pair) checkAlike(t *rapid.T, w *PageView) {
	alike := w.Alike()
	if !alike.Contains(w.Addr) || alike != alike.PageAlign() {
		t.Fatalf("view of %v: alike are %v", w.Addr, alike)
	}
	var other PageView
	for page := alike.Start; page < alike.End; page += mem.PageSize {
		if !p.set.View(page, &other) || other.Prot != w.Prot {
			t.Fatalf("view of %v, %v: page %v of %v permits %v", w.Addr, w.Prot, page, alike, other.Prot)
		}
	}
}

// checkView composes the page atom by atom, and its answers from areas.
func (m *model) checkView(t *rapid.T, page mem.VirtAddr, all []VMA, w *PageView) {
	cells := m[page/atom:][:perPage]
	var want, got [perPage]int64 // file offset of each atom, and its file; -1 is zeros
	for i, c := range cells {
		want[i], got[i] = -1, -1
		if c.kind == File && c.bytes {
			want[i] = c.offset<<8 | int64(c.file)
		}
	}
	end := 0
	for _, p := range w.Pieces {
		if p.At < end || p.Len <= 0 || p.At+p.Len > mem.PageSize || p.At%atom != 0 || p.Len%atom != 0 {
			t.Fatalf("view of %v: piece %+v", page, p)
		}
		end = p.At + p.Len
		for i := p.At / atom; i < end/atom; i++ {
			got[i] = (p.Offset+int64(i*atom-p.At))<<8 | int64(p.FileNo)
			if p.Prot != cells[i].prot || p.File != testFiles[p.FileNo] {
				t.Fatalf("view of %v: piece %+v of %+v", page, p, cells[i])
			}
		}
	}
	if got != want {
		t.Fatalf("view of %v: %x, want %x", page, got, want)
	}

	var files, others []VMA
	bytes, overlap := 0, false
	for _, v := range all {
		switch {
		case !v.Overlaps(mem.PageOf(page)):
		case v.Kind == File:
			files = append(files, v)
			overlap = overlap || v.Overlap
		default:
			others = append(others, v)
		}
	}
	decide := others
	if len(files) > 0 {
		decide = files
	}
	prot := mem.ProtNone
	for _, v := range decide {
		prot |= v.Prot
	}
	for _, o := range want {
		if o >= 0 {
			bytes += atom
		}
	}
	if w.Addr != page || w.First != decide[0] || w.Areas != len(files) || w.Prot != prot || w.Overlap != overlap || w.FileBytes() != bytes {
		t.Fatalf("view of %v: %+v, %d file bytes; want first %v, %d areas, %v, overlap %t, %d bytes",
			page, w, w.FileBytes(), decide[0], len(files), prot, overlap, bytes)
	}

	// What may come from the page cache, and what may go there.
	whole := bytes == mem.PageSize && len(files) == 1 && !overlap
	if p, ok := w.FromCache(); ok != whole || ok && (p.Offset != cells[0].offset || p.Index() != mem.PageIndex(p.Offset/mem.PageSize)) {
		t.Fatalf("view of %v: FromCache %+v, %t; want %t", page, p, ok, whole)
	}
	first := want[0] >= 0
	if p, ok := w.FirstByte(); ok != first || ok && p.Offset != cells[0].offset {
		t.Fatalf("view of %v: FirstByte %+v, %t; want %t", page, p, ok, first)
	}
	cacheable := first && len(files) == 1 && !overlap && prot&mem.ProtWrite == 0
	if p, ok := w.ToCache(); ok != cacheable || ok && p.Offset != cells[0].offset {
		t.Fatalf("view of %v: ToCache %+v, %t; want %t", page, p, ok, cacheable)
	}
}
