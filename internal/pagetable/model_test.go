package pagetable

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vmsim/internal/phys"
	"vmsim/mem"
)

// The model knows what fork shares, and nothing of nodes: a root is a map to
// objects, two roots share an object by holding the same pointer, and whoever
// changes an object that is reachable from elsewhere copies it first.
type (
	// pte is one entry of the model.
	pte struct {
		pfn             mem.PFN
		prot            mem.Prot
		special, shared bool
	}
	// leaf is the 4 KiB entries of a 2 MiB window, by address.
	leaf struct{ pages map[mem.VirtAddr]pte }
	// directory is the windows of 1 GiB, by address: huge entries and leaves.
	directory struct {
		huge map[mem.VirtAddr]pte
		leaf map[mem.VirtAddr]*leaf
	}
	// space is one address space, by GiB.
	space map[mem.VirtAddr]*directory
)

const gib = 1 << 30

// model is Tables, its Roots, and what they should be.
type model struct {
	m      *phys.Memory
	t      *Tables
	zero   mem.PFN
	roots  []Root
	spaces []space
}

// windows are the 2 MiB windows that the operations use: neighbours, another
// GiB, another PUD and another PGD entry.
var windows = []mem.VirtAddr{0x400000, 0x600000, 0x40000000, 0x8000000000, 0x7f8000000000}

// slots in a window.
var slots = []int{0, 1, 255, 511}

// testPages are the single pages that the operations use.
var testPages = func() []mem.VirtAddr {
	pages := []mem.VirtAddr{mem.UserEnd - mem.PageSize}
	for _, w := range windows {
		for _, i := range slots {
			pages = append(pages, w+mem.VirtAddr(i*mem.PageSize))
		}
	}
	return pages
}()

var allUser = mem.Range{Start: 0, End: mem.UserEnd}

// protections of user mappings on x86-64.
var protections = []mem.Prot{mem.ProtNone, mem.ProtRead, mem.ProtRead | mem.ProtWrite, mem.ProtRead | mem.ProtExec,
	mem.ProtRead | mem.ProtWrite | mem.ProtExec}

func newModel(t interface{ Fatal(...any) }, blocks, nodes int) *model {
	m, err := phys.New(uint64(blocks) * mem.HugeSize)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := New(m, nodes)
	if err != nil {
		t.Fatal(err)
	}
	zero, _ := m.Alloc()
	return &model{m: m, t: tables, zero: zero, roots: make([]Root, 1), spaces: []space{{}}}
}

func (s *model) close() {
	s.t.Close()
	s.m.Close()
}

// holders counts the spaces that hold d.
func (s *model) holders(d *directory) int {
	n := 0
	for _, sp := range s.spaces {
		if sp[dirOf(sp, d)] == d {
			n++
		}
	}
	return n
}

func dirOf(sp space, d *directory) mem.VirtAddr {
	for at, x := range sp {
		if x == d {
			return at
		}
	}
	return 0
}

// directories yields each directory once.
func (s *model) directories() map[*directory]bool {
	set := map[*directory]bool{}
	for _, sp := range s.spaces {
		for _, d := range sp {
			set[d] = true
		}
	}
	return set
}

// leafHolders counts the directories that hold l.
func (s *model) leafHolders(l *leaf) int {
	n := 0
	for d := range s.directories() {
		for _, x := range d.leaf {
			if x == l {
				n++
			}
		}
	}
	return n
}

// protected takes write permission from the private entries of m and returns a
// copy: what both sides of a CoW keep.
func protected(m map[mem.VirtAddr]pte) map[mem.VirtAddr]pte {
	for at, e := range m {
		if !e.shared {
			e.prot &^= mem.ProtWrite
			m[at] = e
		}
	}
	return maps.Clone(m)
}

// ownDir makes the directory of addr space i's alone.
func (s *model) ownDir(i int, addr mem.VirtAddr) *directory {
	at := addr &^ (gib - 1)
	d := s.spaces[i][at]
	switch {
	case d == nil:
		d = &directory{map[mem.VirtAddr]pte{}, map[mem.VirtAddr]*leaf{}}
	case s.holders(d) > 1:
		d = &directory{protected(d.huge), maps.Clone(d.leaf)}
	}
	s.spaces[i][at] = d
	return d
}

// ownLeaf makes the leaf of addr space i's alone.
func (s *model) ownLeaf(i int, addr mem.VirtAddr) *leaf {
	d := s.ownDir(i, addr)
	w := addr.HugeDown()
	l := d.leaf[w]
	switch {
	case l == nil:
		l = &leaf{map[mem.VirtAddr]pte{}}
	case s.leafHolders(l) > 1:
		l = &leaf{protected(l.pages)}
	}
	d.leaf[w] = l
	return l
}

// isHuge reports whether a huge entry maps addr in space i.
func (s *model) isHuge(i int, addr mem.VirtAddr) bool {
	d := s.spaces[i][addr&^(gib-1)]
	if d == nil {
		return false
	}
	_, ok := d.huge[addr.HugeDown()]
	return ok
}

// mapped is one line of what an address space looks like.
type mapped struct {
	addr  mem.VirtAddr
	size  uint64
	pte   pte
	owned bool
}

// want lists space i by ascending address.
func (s *model) want(i int) []mapped {
	var out []mapped
	for _, d := range s.spaces[i] {
		sole := s.holders(d) == 1
		for at, e := range d.huge {
			out = append(out, mapped{at, mem.HugeSize, e, sole})
		}
		for _, l := range d.leaf {
			owned := sole && s.leafHolders(l) == 1
			for at, e := range l.pages {
				out = append(out, mapped{at, mem.PageSize, e, owned})
			}
		}
	}
	slices.SortFunc(out, func(a, b mapped) int { return int(int64(a.addr) - int64(b.addr)) })
	return out
}

// got lists a root as Entries yields it.
func (s *model) got(r Root, over mem.Range) []mapped {
	var out []mapped
	for e := range s.t.Entries(r, over) {
		out = append(out, mapped{e.Addr, e.Size, modelled(e.Entry), e.Owned})
	}
	return out
}

func modelled(e Entry) pte { return pte{e.PFN(), e.Prot(), e.IsSpecial(), e.IsShared()} }

// checkTables verifies the tables, and their references against phys.
func (s *model) checkTables(t interface{ Fatalf(string, ...any) }) {
	refs := map[mem.PFN]uint32{s.zero: 1}
	err := s.t.Check(s.roots, func(first mem.PFN, n int) {
		for i := range mem.PFN(n) {
			refs[first+i]++
		}
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	for p, n := range refs {
		if s.m.Refs(p) != n {
			t.Fatalf("frame %d: %d references, %d are held", p, s.m.Refs(p), n)
		}
	}
	if used := s.m.Frames() - s.m.FreeFrames(); used != len(refs) {
		t.Fatalf("%d frames are allocated, %d are held", used, len(refs))
	}
}

// check compares everything with the model.
func (s *model) check(t *rapid.T) {
	s.checkTables(t)
	held := map[mem.PFN]uint32{s.zero: 1}
	for d := range s.directories() {
		for _, e := range d.huge {
			for i := range mem.PFN(mem.SubPages) {
				held[e.pfn+i]++
			}
		}
	}
	leaves := map[*leaf]bool{}
	for d := range s.directories() {
		for _, l := range d.leaf {
			leaves[l] = true
		}
	}
	for l := range leaves {
		for _, e := range l.pages {
			if !e.special {
				held[e.pfn]++
			}
		}
	}
	for p, n := range held {
		if s.m.Refs(p) != n {
			t.Fatalf("frame %d: %d references, the model holds %d", p, s.m.Refs(p), n)
		}
	}
	for i, r := range s.roots {
		want, got := s.want(i), s.got(r, allUser)
		if !slices.Equal(want, got) {
			t.Fatalf("root %d:\n got %v\nwant %v", i, got, want)
		}
		for _, at := range testPages {
			s.checkWalk(t, r, at+0x123, want)
		}
	}
}

// checkWalk compares one walk with the line of want that maps addr.
func (s *model) checkWalk(t *rapid.T, r Root, addr mem.VirtAddr, want []mapped) {
	e, owned := s.t.Walk(r, addr)
	for _, w := range want {
		if (mem.Range{Start: w.addr, End: w.addr + mem.VirtAddr(w.size)}).Contains(addr) {
			frame := w.pte.pfn + mem.PFN((addr-w.addr)/mem.PageSize)
			if modelled(e) != w.pte || owned != w.owned || e.Frame(addr) != frame {
				t.Fatalf("walk to %v: %v, owned %t; want %+v", addr, e, owned, w)
			}
			return
		}
	}
	if e != 0 {
		t.Fatalf("walk to %v: %v, want none", addr, e)
	}
}

// entry makes the Entry of e.
func (e pte) entry() Entry {
	x := Make(e.pfn, e.prot)
	if e.special {
		x = x.Special()
	}
	if e.shared {
		x = x.Shared()
	}
	return x
}

// draw returns a new entry with a reference on its frame: a fresh frame, one
// that is mapped already, or the zero page. It is false without a free frame.
func (s *model) draw(t *rapid.T) (pte, bool) {
	e := pte{prot: rapid.SampledFrom(protections).Draw(t, "prot"), shared: rapid.Bool().Draw(t, "shared")}
	switch rapid.IntRange(0, 3).Draw(t, "frame") {
	case 0:
		return pte{s.zero, e.prot &^ mem.ProtWrite, true, false}, true
	case 1:
		if lines := s.want(0); len(lines) > 0 {
			if l := rapid.SampledFrom(lines).Draw(t, "again"); !l.pte.special && l.size == mem.PageSize {
				e.pfn = l.pte.pfn
				s.m.Get(e.pfn)
				return e, true
			}
		}
	}
	var ok bool
	e.pfn, ok = s.m.Alloc()
	return e, ok
}

// splitEnds splits the huge entries that the bounds of r cut.
func (s *model) splitEnds(t *rapid.T, i int, r mem.Range) {
	for _, at := range []mem.VirtAddr{r.Start, r.End} {
		if at%mem.HugeSize != 0 && s.isHuge(i, at) {
			s.split(t, i, at)
		}
	}
}

func (s *model) split(t *rapid.T, i int, at mem.VirtAddr) {
	if err := s.t.Split(&s.roots[i], at); err != nil {
		t.Fatal(err)
	}
	d, w := s.ownDir(i, at), at.HugeDown()
	if e, ok := d.huge[w]; ok {
		delete(d.huge, w)
		l := &leaf{map[mem.VirtAddr]pte{}}
		for j := range mem.SubPages {
			l.pages[w+mem.VirtAddr(j*mem.PageSize)] = pte{e.pfn + mem.PFN(j), e.prot, e.special, e.shared}
		}
		d.leaf[w] = l
	}
}

// drawRange returns a page-aligned range between two of the test's pages.
func drawRange(t *rapid.T) mem.Range {
	if rapid.IntRange(0, 9).Draw(t, "all") == 0 {
		return allUser
	}
	a, b := rapid.SampledFrom(testPages).Draw(t, "from"), rapid.SampledFrom(testPages).Draw(t, "to")
	return mem.Range{Start: min(a, b), End: max(a, b) + mem.PageSize}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newModel(t, 24, 4096)
		defer s.close()
		root := func(t *rapid.T) int { return rapid.IntRange(0, len(s.roots)-1).Draw(t, "root") }
		window := func(t *rapid.T) mem.VirtAddr { return rapid.SampledFrom(windows).Draw(t, "window") }

		t.Repeat(map[string]func(*rapid.T){
			"": s.check,
			"set": func(t *rapid.T) {
				i, at := root(t), rapid.SampledFrom(testPages).Draw(t, "page")
				if s.isHuge(i, at) {
					return
				}
				e, ok := s.draw(t)
				if !ok {
					return
				}
				old, err := s.t.Set(&s.roots[i], at, e.entry())
				if err != nil {
					t.Fatal(err)
				}
				l := s.ownLeaf(i, at)
				if want, was := l.pages[at]; was != old.Mapped() || was && modelled(old) != want {
					t.Fatalf("set %v returned %v, want %v", at, old, want)
				}
				s.t.Put(old)
				l.pages[at] = e
			},
			"unset": func(t *rapid.T) {
				i, at := root(t), rapid.SampledFrom(testPages).Draw(t, "page")
				if s.isHuge(i, at) {
					return
				}
				old, err := s.t.Set(&s.roots[i], at, 0)
				if err != nil {
					t.Fatal(err)
				}
				s.t.Put(old)
				delete(s.ownLeaf(i, at).pages, at)
			},
			"set huge": func(t *rapid.T) {
				i, w := root(t), window(t)
				first, ok := s.m.AllocHuge()
				if !ok {
					return
				}
				e := pte{pfn: first, prot: rapid.SampledFrom(protections).Draw(t, "prot")}
				if err := s.t.SetHuge(&s.roots[i], w+0x5123, e.entry()); err != nil {
					t.Fatal(err)
				}
				d := s.ownDir(i, w)
				delete(d.leaf, w)
				d.huge[w] = e
			},
			"set window": func(t *rapid.T) {
				i, w := root(t), window(t)
				if s.isHuge(i, w) {
					return
				}
				step := rapid.IntRange(1, 100).Draw(t, "step")
				prot := rapid.SampledFrom(protections).Draw(t, "prot")
				set := map[mem.VirtAddr]pte{}
				err := s.t.SetWindow(&s.roots[i], w, func(j int) Entry {
					if j%step != 0 {
						return 0
					}
					p, ok := s.m.Alloc()
					if !ok {
						return 0
					}
					set[w+mem.VirtAddr(j*mem.PageSize)] = pte{pfn: p, prot: prot}
					return Make(p, prot)
				})
				if err != nil {
					t.Fatal(err)
				}
				maps.Copy(s.ownLeaf(i, w).pages, set)
			},
			"split": func(t *rapid.T) { s.split(t, root(t), window(t)+0x3000) },
			"own": func(t *rapid.T) {
				i, at := root(t), rapid.SampledFrom(testPages).Draw(t, "page")
				if s.isHuge(i, at) {
					return
				}
				if err := s.t.Own(&s.roots[i], at); err != nil {
					t.Fatal(err)
				}
				s.ownLeaf(i, at)
				if e, owned := s.t.Walk(s.roots[i], at); e != 0 && !owned {
					t.Fatalf("%v is not owned after Own", at)
				}
			},
			"clear": func(t *rapid.T) {
				i, r := root(t), drawRange(t)
				s.splitEnds(t, i, r)
				if err := s.t.Clear(&s.roots[i], r); err != nil {
					t.Fatal(err)
				}
				for at, d := range s.spaces[i] {
					if !(mem.Range{Start: at, End: at + gib}).Overlaps(r) {
						continue
					}
					if r.Covers(mem.Range{Start: at, End: at + gib}) {
						delete(s.spaces[i], at)
						continue
					}
					d = s.ownDir(i, at)
					maps.DeleteFunc(d.huge, func(w mem.VirtAddr, _ pte) bool { return r.Covers(mem.WindowOf(w)) })
					maps.DeleteFunc(d.leaf, func(w mem.VirtAddr, _ *leaf) bool { return r.Covers(mem.WindowOf(w)) })
					for w := range d.leaf {
						if r.Overlaps(mem.WindowOf(w)) {
							maps.DeleteFunc(s.ownLeaf(i, w).pages, func(p mem.VirtAddr, _ pte) bool { return r.Contains(p) })
						}
					}
				}
			},
			"update": func(t *rapid.T) {
				i, r := root(t), drawRange(t)
				prot := rapid.SampledFrom(protections).Draw(t, "prot")
				s.splitEnds(t, i, r)
				if err := s.t.Update(&s.roots[i], r, prot); err != nil {
					t.Fatal(err)
				}
				change := func(pages map[mem.VirtAddr]pte) {
					for at, e := range pages {
						if !r.Contains(at) {
							continue
						}
						if e.prot&mem.ProtWrite == 0 && !e.shared {
							e.prot = prot &^ mem.ProtWrite
						} else {
							e.prot = prot
						}
						pages[at] = e
					}
				}
				for at := range s.spaces[i] {
					if !(mem.Range{Start: at, End: at + gib}).Overlaps(r) {
						continue
					}
					d := s.ownDir(i, at)
					change(d.huge)
					for w := range d.leaf {
						if r.Overlaps(mem.WindowOf(w)) {
							change(s.ownLeaf(i, w).pages)
						}
					}
				}
			},
			"fork": func(t *rapid.T) {
				if len(s.roots) == 4 {
					return
				}
				i, before := root(t), s.t.Nodes()
				s.roots = append(s.roots, s.t.Fork(s.roots[i]))
				s.spaces = append(s.spaces, maps.Clone(s.spaces[i]))
				if s.t.Nodes() != before {
					t.Fatalf("fork: %d nodes, %d before", s.t.Nodes(), before)
				}
			},
			"free": func(t *rapid.T) {
				i := root(t)
				s.t.Free(&s.roots[i])
				s.spaces[i] = space{}
				if len(s.roots) > 1 {
					s.roots = slices.Delete(s.roots, i, i+1)
					s.spaces = slices.Delete(s.spaces, i, i+1)
				}
			},
			"reap": s.reap,
		})
		for i := range s.roots {
			s.t.Free(&s.roots[i])
			s.spaces[i] = space{}
		}
		s.check(t)
		if s.t.Nodes() != 0 {
			t.Fatalf("%d nodes in use without a root", s.t.Nodes())
		}
	})
}

// reap drops some entries of a root, for all who share them.
func (s *model) reap(t *rapid.T) {
	i := rapid.IntRange(0, len(s.roots)-1).Draw(t, "root")
	from := mem.VirtAddr(0)
	if rapid.Bool().Draw(t, "later") {
		from = rapid.SampledFrom(testPages).Draw(t, "from")
	}
	budget := rapid.IntRange(1, 600).Draw(t, "budget")
	drops := func(p mem.PFN) bool { return p%3 != 0 }

	lines := slices.DeleteFunc(s.want(i), func(l mapped) bool {
		return l.pte.special || l.addr+mem.VirtAddr(l.size) <= from
	})
	wantNext, wantMore := mem.VirtAddr(0), false
	if len(lines) >= budget {
		last := lines[budget-1]
		wantNext, wantMore = last.addr+mem.VirtAddr(last.size), true
		lines = lines[:budget]
	}
	var visited []pte
	left := budget
	next, more := s.t.Reap(s.roots[i], from, func(e Entry) (bool, bool) {
		visited = append(visited, modelled(e))
		left--
		return drops(e.PFN()), left > 0
	})
	if next != wantNext || more != wantMore || len(visited) != len(lines) {
		t.Fatalf("reap from %v: visited %d, went to %v, %t; want %d, %v, %t", from, len(visited), next, more, len(lines), wantNext, wantMore)
	}
	for k, l := range lines {
		if visited[k] != l.pte {
			t.Fatalf("reap visited %v, want %v", visited[k], l)
		}
		if !drops(l.pte.pfn) {
			continue
		}
		d := s.spaces[i][l.addr&^(gib-1)]
		if l.size == mem.HugeSize {
			delete(d.huge, l.addr)
		} else {
			delete(d.leaf[l.addr.HugeDown()].pages, l.addr)
		}
	}
}

// TestExhaustion runs out of nodes: what fails leaves every address space as a
// walk sees it, and no reference is lost.
func TestExhaustion(t *testing.T) {
	var failed, moved, unmoved int
	run := func(t *rapid.T) {
		s := newModel(t, 8, rapid.IntRange(8, 16).Draw(t, "nodes"))
		defer s.close()
		root := func(t *rapid.T) *Root { return &s.roots[rapid.IntRange(0, len(s.roots)-1).Draw(t, "root")] }
		snapshot := func() (all [][]mapped) {
			for _, r := range s.roots {
				lines := s.got(r, allUser)
				for k := range lines {
					if !lines[k].owned && !lines[k].pte.shared {
						lines[k].pte.prot &^= mem.ProtWrite
					}
					// To own a part of the path early is no change.
					lines[k].owned = false
				}
				all = append(all, lines)
			}
			return all
		}
		// try runs op, which must be all or nothing.
		try := func(t *rapid.T, op func() error) error {
			before := snapshot()
			err := op()
			if err == nil {
				return nil
			}
			failed++
			if !errors.Is(err, ErrNoMemory) {
				t.Fatal(err)
			}
			if !slices.EqualFunc(before, snapshot(), slices.Equal[[]mapped]) {
				t.Fatalf("changed by an operation that failed:\nwas %v\nnow %v", before, snapshot())
			}
			return err
		}
		huge := func(r Root, at mem.VirtAddr) bool { e, _ := s.t.Walk(r, at); return e.IsHuge() }
		cut := func(t *rapid.T, r *Root, over mem.Range) bool {
			for _, at := range []mem.VirtAddr{over.Start, over.End} {
				if at%mem.HugeSize != 0 && huge(*r, at) && try(t, func() error { return s.t.Split(r, at) }) != nil {
					return false
				}
			}
			return true
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { s.checkTables(t) },
			"set": func(t *rapid.T) {
				r, at := root(t), rapid.SampledFrom(testPages).Draw(t, "page")
				if huge(*r, at) {
					return
				}
				p, ok := s.m.Alloc()
				if !ok {
					return
				}
				var old Entry
				if try(t, func() (err error) {
					old, err = s.t.Set(r, at, Make(p, mem.ProtRead|mem.ProtWrite))
					return err
				}) != nil {
					s.m.Put(p)
				}
				s.t.Put(old)
			},
			"set huge": func(t *rapid.T) {
				r, w := root(t), rapid.SampledFrom(windows).Draw(t, "window")
				p, ok := s.m.AllocHuge()
				if ok && try(t, func() error { return s.t.SetHuge(r, w, Make(p, mem.ProtRead|mem.ProtWrite)) }) != nil {
					s.m.PutBlock(p)
				}
			},
			"set window": func(t *rapid.T) {
				r, w := root(t), rapid.SampledFrom(windows).Draw(t, "window")
				if !huge(*r, w) {
					called := false
					err := try(t, func() error {
						return s.t.SetWindow(r, w, func(int) Entry { called = true; return 0 })
					})
					if called != (err == nil) {
						t.Fatalf("SetWindow: error %v, entries asked for: %t", err, called)
					}
				}
			},
			"split": func(t *rapid.T) {
				r, w := root(t), rapid.SampledFrom(windows).Draw(t, "window")
				_ = try(t, func() error { return s.t.Split(r, w) })
			},
			"own": func(t *rapid.T) {
				r, at := root(t), rapid.SampledFrom(testPages).Draw(t, "page")
				if !huge(*r, at) {
					_ = try(t, func() error { return s.t.Own(r, at) })
				}
			},
			"clear": func(t *rapid.T) {
				r, over := root(t), drawRange(t)
				if cut(t, r, over) && try(t, func() error { return s.t.Clear(r, over) }) == nil && len(s.got(*r, over)) > 0 {
					t.Fatalf("entries left in %v", over)
				}
			},
			"move": func(t *rapid.T) {
				r, from := root(t), drawRange(t)
				free := slices.DeleteFunc(slices.Clone(testPages), func(at mem.VirtAddr) bool {
					e, _ := s.t.Walk(*r, at)
					return e.Mapped()
				})
				if len(free) == 0 {
					return
				}
				to := rapid.SampledFrom(free).Draw(t, "to")
				if all := s.got(*r, allUser); len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "range") > 0 {
					// One entry, to a place of its alignment: most ranges lie where they cannot move.
					one := rapid.SampledFrom(all).Draw(t, "entry")
					from = mem.Range{Start: one.addr, End: one.addr + mem.VirtAddr(one.size)}
					to -= to % mem.VirtAddr(one.size)
				}
				into := mem.Range{Start: to, End: to + mem.VirtAddr(from.Len())}
				if into.Overlaps(from) || into.End > mem.UserEnd || !cut(t, r, from) || len(s.got(*r, into)) > 0 {
					return
				}
				want := s.got(*r, from)
				for i := range want {
					want[i].addr += into.Start - from.Start
					if want[i].addr%mem.VirtAddr(want[i].size) != 0 {
						return // a huge entry that ought to be split
					}
					if !want[i].owned && !want[i].pte.shared {
						want[i].pte.prot &^= mem.ProtWrite
					}
					want[i].owned = true
				}
				if try(t, func() error { return s.t.Move(r, from, into.Start) }) != nil {
					unmoved++
					return
				}
				if got := s.got(*r, into); !slices.Equal(got, want) || len(s.got(*r, from)) > 0 {
					t.Fatalf("move of %v to %v: %v, want %v; left %v", from, into, got, want, s.got(*r, from))
				}
				moved += len(want)
			},
			"discard": func(t *rapid.T) {
				r, over := root(t), drawRange(t)
				s.t.Discard(*r, over)
				for _, l := range s.got(*r, over) {
					if l.size == mem.PageSize {
						t.Fatalf("%+v after Discard of %v", l, over)
					}
				}
			},
			"update": func(t *rapid.T) {
				r, over := root(t), drawRange(t)
				if cut(t, r, over) && try(t, func() error { return s.t.Update(r, over, mem.ProtNone) }) == nil {
					for _, l := range s.got(*r, over) {
						if l.pte.prot != mem.ProtNone {
							t.Fatalf("%+v after Update of %v", l, over)
						}
					}
				}
			},
			"fork": func(t *rapid.T) {
				if len(s.roots) < 4 {
					s.roots = append(s.roots, s.t.Fork(*root(t)))
				}
			},
			"free": func(t *rapid.T) { s.t.Free(root(t)) },
		})
	}
	// Once is enough, but for one time in thousands, or with few checks.
	for round := 0; failed == 0 || moved == 0 || unmoved == 0; round++ {
		if round == 100 {
			t.Fatalf("ran out of nodes %d times, %d of them in a move; moved %d entries", failed, unmoved, moved)
		}
		rapid.Check(t, run)
	}
	t.Logf("ran out of nodes %d times, %d of them in a move; moved %d entries", failed, unmoved, moved)
}
