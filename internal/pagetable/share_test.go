package pagetable

import (
	"errors"
	"strings"
	"testing"

	"vmsim/mem"
)

const rw = mem.ProtRead | mem.ProtWrite

// mustSet maps a fresh frame at addr and returns it.
func mustSet(t testing.TB, s *model, r *Root, addr mem.VirtAddr, prot mem.Prot) mem.PFN {
	t.Helper()
	p, ok := s.m.Alloc()
	if !ok {
		t.Fatal("out of frames")
	}
	old, err := s.t.Set(r, addr, Make(p, prot))
	if err != nil {
		t.Fatal(err)
	}
	s.t.Put(old)
	return p
}

func TestForkUnsharesOnePath(t *testing.T) {
	s := newModel(t, 8, 64)
	defer s.close()
	parent := &s.roots[0]
	a := mustSet(t, s, parent, 0x400000, rw)
	b := mustSet(t, s, parent, 0x401000, rw)
	far := mustSet(t, s, parent, 0x40000000, rw) // another PMD node, another leaf
	if got := s.t.Nodes(); got != 6 {
		t.Fatalf("%d nodes for two leaves in two GiB, want 6", got)
	}

	s.roots = append(s.roots, s.t.Fork(s.roots[0]))
	parent, child := &s.roots[0], &s.roots[1]
	if got := s.t.Nodes(); got != 6 {
		t.Fatalf("%d nodes after fork, want 6", got)
	}
	for _, r := range s.roots {
		if e, owned := s.t.Walk(r, 0x400000); owned || e.Prot() != rw {
			t.Errorf("after fork: %v, owned %t; want the entry as it was, not owned", e, owned)
		}
	}

	c := mustSet(t, s, child, 0x400000, rw)
	if got := s.t.Nodes(); got != 10 {
		t.Errorf("%d nodes after one write, want 10: the four of one path were copied", got)
	}
	s.checkTables(t)
	for _, w := range []struct {
		name  string
		root  Root
		addr  mem.VirtAddr
		frame mem.PFN
		prot  mem.Prot
		owned bool
	}{
		{"the child's new page", *child, 0x400000, c, rw, true},
		{"its neighbour", *child, 0x401000, b, mem.ProtRead, true},
		{"the other GiB", *child, 0x40000000, far, rw, false},
		{"the parent's page", *parent, 0x400000, a, mem.ProtRead, true},
		{"the parent's neighbour", *parent, 0x401000, b, mem.ProtRead, true},
		{"the parent's other GiB", *parent, 0x40000000, far, rw, false},
	} {
		e, owned := s.t.Walk(w.root, w.addr)
		if e.PFN() != w.frame || e.Prot() != w.prot || owned != w.owned {
			t.Errorf("%s: %v, owned %t; want frame %d %v, owned %t", w.name, e, owned, w.frame, w.prot, w.owned)
		}
	}
	if s.m.Refs(a) != 1 || s.m.Refs(b) != 2 || s.m.Refs(far) != 1 {
		t.Errorf("references %d, %d, %d; want 1, 2 (two leaves), 1 (one shared leaf)", s.m.Refs(a), s.m.Refs(b), s.m.Refs(far))
	}

	s.t.Free(child)
	if _, owned := s.t.Walk(*parent, 0x40000000); !owned {
		t.Error("sole owner again, but not owned")
	}
	s.checkTables(t)
}

// Clear gives back the nodes that it empties, but the root's.
func TestClearFreesNodes(t *testing.T) {
	s := newModel(t, 1, 64)
	defer s.close()
	mustSet(t, s, &s.roots[0], 0x400000, rw)
	mustSet(t, s, &s.roots[0], 0x401000, rw)
	mustSet(t, s, &s.roots[0], 0x600000, rw)
	for _, c := range []struct {
		clear mem.VirtAddr
		nodes int
	}{{0x400000, 5}, {0x401000, 4}, {0x500000, 4}, {0x600000, 1}} {
		if err := s.t.Clear(&s.roots[0], mem.PageOf(c.clear)); err != nil || s.t.Nodes() != c.nodes {
			t.Errorf("%v cleared: %d nodes, want %d (%v)", c.clear, s.t.Nodes(), c.nodes, err)
		}
		s.checkTables(t)
	}
}

func TestForkOfNothing(t *testing.T) {
	s := newModel(t, 1, 8)
	defer s.close()
	r := s.t.Fork(Root{})
	if e, owned := s.t.Walk(r, 0x400000); e != 0 || owned || s.t.Nodes() != 0 {
		t.Errorf("empty root: %v, owned %t, %d nodes", e, owned, s.t.Nodes())
	}
	if err := errors.Join(s.t.Clear(&r, allUser), s.t.Update(&r, allUser, rw)); err != nil || s.t.Nodes() != 0 {
		t.Errorf("clear and update of an empty root: %v, %d nodes", err, s.t.Nodes())
	}
	s.t.Free(&r)
	if _, more := s.t.Reap(r, 0, nil); more {
		t.Error("reap of an empty root goes on")
	}
}

// The write bit of a shared mapping counts below shared nodes too, and stays
// in both copies.
func TestForkKeepsSharedMappings(t *testing.T) {
	s := newModel(t, 1, 64)
	defer s.close()
	p, _ := s.m.Alloc()
	if _, err := s.t.Set(&s.roots[0], 0x400000, Make(p, rw).Shared()); err != nil {
		t.Fatal(err)
	}
	s.roots = append(s.roots, s.t.Fork(s.roots[0]))
	if err := s.t.Own(&s.roots[1], 0x400000); err != nil {
		t.Fatal(err)
	}
	for i, r := range s.roots {
		if e, owned := s.t.Walk(r, 0x400000); e.Prot() != rw || !e.IsShared() || !owned {
			t.Errorf("root %d: %v, owned %t", i, e, owned)
		}
	}
	if s.m.Refs(p) != 2 {
		t.Errorf("%d references, want 2", s.m.Refs(p))
	}
}

// A huge page that is split in one process stays huge in the other, with a
// reference for each on all 512 frames.
func TestSplitAfterFork(t *testing.T) {
	s := newModel(t, 2, 64)
	defer s.close()
	first, _ := s.m.AllocHuge()
	if err := s.t.SetHuge(&s.roots[0], 0x400000, Make(first, rw)); err != nil {
		t.Fatal(err)
	}
	s.roots = append(s.roots, s.t.Fork(s.roots[0]))
	if err := s.t.Split(&s.roots[1], 0x5ff000); err != nil {
		t.Fatal(err)
	}
	for i := range mem.PFN(mem.SubPages) {
		at := 0x400000 + mem.VirtAddr(i)*mem.PageSize
		whole, _ := s.t.Walk(s.roots[0], at)
		part, owned := s.t.Walk(s.roots[1], at)
		if !whole.IsHuge() || part.IsHuge() || whole.Frame(at) != first+i || part.Frame(at) != first+i {
			t.Fatalf("%v: %v and %v, want frame %d", at, whole, part, first+i)
		}
		if whole.Prot() != mem.ProtRead || part.Prot() != mem.ProtRead || !owned || s.m.Refs(first+i) != 2 {
			t.Fatalf("%v: %v and %v, %d references; want both read-only, 2", at, whole.Prot(), part.Prot(), s.m.Refs(first+i))
		}
	}
	s.checkTables(t)
}

func TestWalkBeyondUserSpace(t *testing.T) {
	s := newModel(t, 1, 64)
	defer s.close()
	last := mem.UserEnd - mem.PageSize
	mustSet(t, s, &s.roots[0], last, rw)
	mustSet(t, s, &s.roots[0], 0, rw)
	if e, _ := s.t.Walk(s.roots[0], mem.UserEnd-1); !e.Present() {
		t.Error("the last byte of user space is not mapped")
	}
	for _, at := range []mem.VirtAddr{mem.UserEnd, 1 << 47, 1 << 48, 1<<48 + 1, ^mem.VirtAddr(0)} {
		if e, owned := s.t.Walk(s.roots[0], at); e != 0 || owned {
			t.Errorf("walk to %v: %v, owned %t", at, e, owned)
		}
	}
}

func TestEntry(t *testing.T) {
	for _, prot := range []mem.Prot{mem.ProtNone, mem.ProtRead, rw, mem.ProtRead | mem.ProtExec, rw | mem.ProtExec} {
		for _, pfn := range []mem.PFN{1, 0xffffffff} {
			for _, e := range []Entry{Make(pfn, prot), Make(pfn, prot).Special(), Make(pfn, prot).Shared(), Make(pfn, rw).WithProt(prot)} {
				if e.PFN() != pfn || e.Prot() != prot || !e.Mapped() || e.Present() != (prot != mem.ProtNone) || e.IsHuge() {
					t.Errorf("entry of frame %d %v: %v", pfn, prot, e)
				}
			}
		}
	}
	// An entry that may be written or executed may be read on x86-64.
	if got := Make(1, mem.ProtWrite).Prot(); got != rw {
		t.Errorf("write alone grants %v", got)
	}
	if Entry(0).Mapped() || Entry(0).String() != "none" {
		t.Error("the zero entry maps something")
	}
	if got, want := Make(7, rw).Shared().String(), "pfn 7 rw- huge=false special=false shared=true"; got != want {
		t.Errorf("String: %q, want %q", got, want)
	}
}

func TestMisuse(t *testing.T) {
	s := newModel(t, 2, 64)
	defer s.close()
	r := &s.roots[0]
	first, _ := s.m.AllocHuge()
	if err := s.t.SetHuge(r, 0x400000, Make(first, rw)); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(){
		"a path through a huge entry":         func() { _ = s.t.Own(r, 0x401000) },
		"clearing a part of a huge entry":     func() { _ = s.t.Clear(r, mem.PageOf(0x401000)) },
		"setting a page below a huge entry":   func() { _, _ = s.t.Set(r, 0x401000, 0) },
		"setting the pages of a huge entry's": func() { _ = s.t.SetWindow(r, 0x401000, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s does not panic", name)
				}
			}()
			f()
		}()
	}
	s.checkTables(t)
}

// TestCheckFinds corrupts the tables in one way at a time.
func TestCheckFinds(t *testing.T) {
	// Nodes: 1 PGD, 2 PUD, 3 PMD, 4 PTE with two entries, 5 to 8 free.
	for _, c := range []struct {
		want    string
		corrupt func(t *Tables)
	}{
		{"node 4: 2 references, 1 parents", func(t *Tables) { t.refs[4]++ }},
		{"node 4: 2 entries, 3 counted", func(t *Tables) { t.used[4]++ }},
		{"node 3: 1 entries, 0 counted", func(t *Tables) { t.used[3]-- }},
		{"node 8: free with 1 entries", func(t *Tables) { t.used[8] = 1 }},
		{"node 8: free and not zero", func(t *Tables) { t.node(8)[5] = 1 }},
		{"node 8: free with lines 0x1 in use", func(t *Tables) { t.lines[8] = 1 }},
		{"node 4 entry 0: its line is not marked", func(t *Tables) { t.lines[4] = 2 }},
		{"cached walk from 1 to 0x400000 ends in node 3", func(t *Tables) { t.walks.fill(1, 0x400000, 3, true) }},
		{"ends in node 4, owned false; it is 4, owned true", func(t *Tables) { t.walks.fill(1, 0x400000, 4, false) }},
		{"4 free nodes, 3 on the free list", func(t *Tables) { t.free = t.free[1:] }},
		{"node 5: 1 references, 0 parents", func(t *Tables) { t.refs[5] = 1 }},
		{"node 7 at level 0: named by an entry, but free", func(t *Tables) { t.set(3, 9, childEntry(7)) }},
		{"node 99 at level 0: named by an entry, but free", func(t *Tables) { t.set(3, 9, childEntry(99)) }},
		{"node 2 entry 9: huge at level 2", func(t *Tables) { t.set(2, 9, Make(512, rw)|bitHuge) }},
		{"node 4 entry 9: huge at level 0", func(t *Tables) { t.set(4, 9, Make(512, rw)|bitHuge) }},
		{"node 3 entry 9: huge with unaligned frame 513", func(t *Tables) { t.set(3, 9, Make(513, rw)|bitHuge) }},
		{"node 4 entry 9: 0x200000 holds no frame", func(t *Tables) { t.set(4, 9, Entry(512)<<pfnShift) }},
		{"node 2 entry 0: permissions 0x5 above the leaves", func(t *Tables) { t.node(2)[0] &^= bitWrite }},
		{"node 2 entry 0: permissions 0x8000000000000007 above", func(t *Tables) { t.node(2)[0] |= bitNoExec }},
	} {
		s := newModel(t, 2, 64)
		r := &s.roots[0]
		mustSet(t, s, r, 0x400000, rw)
		mustSet(t, s, r, 0x401000, rw)
		gone := Root{}
		mustSet(t, s, &gone, 0x400000, rw)
		s.t.Free(&gone)
		s.checkTables(t)
		if c.corrupt != nil {
			c.corrupt(s.t)
			err := s.t.Check(s.roots, func(mem.PFN, int) {})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		}
		s.close()
	}
}

func TestNewAndClose(t *testing.T) {
	s := newModel(t, 1, -5)
	if s.t.max != 9 {
		t.Errorf("room for %d nodes, want at least 8", s.t.max-1)
	}
	if err := errors.Join(s.t.Close(), s.t.Close()); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	if _, err := New(s.m, 1<<50); err == nil {
		t.Error("4 EiB of nodes were mapped")
	}
	s.m.Close()
}
