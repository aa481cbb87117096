package hugepage

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"vmsim/internal/phys"
	"vmsim/mem"
)

func newMemory(t interface{ Fatal(...any) }, blocks int) *phys.Memory {
	m, err := phys.New(uint64(blocks) * mem.HugeSize)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func key(i int) Key { return Key{Bias: uint64(i), Base: testBase} }

// insert keeps a fresh block under key(i).
func insert(t interface{ Fatal(...any) }, m *phys.Memory, c *Cache, i int) *Page {
	first, ok := m.AllocHuge()
	if !ok {
		t.Fatal("no block")
	}
	p := &Page{First: first}
	c.Insert(key(i), p)
	return p
}

func TestKeyOf(t *testing.T) {
	f, g := mem.NewBytesFile("f", nil), mem.NewBytesFile("f", nil)
	a := KeyOf(Candidate{File: f, Bias: 1, Base: testBase, Cached: 3})
	if a != KeyOf(Candidate{File: f, Bias: 1, Base: testBase, Mapped: 9}) {
		t.Error("the same window has two keys")
	}
	for name, c := range map[string]Candidate{
		"file":       {File: g, Bias: 1, Base: testBase},
		"bias":       {File: f, Bias: 2, Base: testBase},
		"base":       {File: f, Bias: 1, Base: testBase + mem.HugeSize},
		"generation": {File: changed{f}, Bias: 1, Base: testBase},
	} {
		if KeyOf(c) == a {
			t.Errorf("another %s has the same key", name)
		}
	}
}

type changed struct{ *mem.BytesFile }

func (changed) Generation() uint64 { return 2 }

func TestUniform(t *testing.T) {
	full := func(prot mem.Prot) *Page {
		p := &Page{Populated: mem.SubPages}
		for i := range p.prot {
			p.prot[i], p.present[i] = prot, true
		}
		return p
	}
	if prot, ok := full(mem.ProtRead).Uniform(); !ok || prot != mem.ProtRead {
		t.Errorf("%v, %t", prot, ok)
	}
	if _, ok := full(mem.ProtNone).Uniform(); ok {
		t.Error("a window that nobody may read gets a huge entry")
	}
	p := full(mem.ProtRead)
	p.prot[511] |= mem.ProtExec
	if _, ok := p.Uniform(); ok {
		t.Error("two permissions under one entry")
	}
	p = full(mem.ProtRead)
	p.present[7], p.Populated = false, 511
	if _, ok := p.Uniform(); ok {
		t.Error("a sub-page without area under the entry (a bug of the Kevlar kernel)")
	}
}

func TestCacheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory(t, 8)
		defer m.Close()
		c := NewCache(m)
		type kept struct {
			key    int
			page   *Page
			mapped map[mem.PFN]int // references of mappings
		}
		var model []*kept // oldest first
		orphans := 0      // frames that are mapped, kept no more
		next := 0
		gone := func(k *kept) { // the cache dropped it
			orphans += len(k.mapped)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				var got []mem.PFN
				err := c.Check(func(first mem.PFN, n int) {
					if n != mem.SubPages {
						t.Fatalf("%d references on %d", n, first)
					}
					got = append(got, first)
				})
				if err != nil || len(got) != len(model) || c.Len() != len(model) {
					t.Fatalf("%v; %d and %d pages, want %d", err, len(got), c.Len(), len(model))
				}
				for i, k := range model {
					if p, ok := c.Lookup(key(k.key)); !ok || p != k.page || got[i] != k.page.First {
						t.Fatalf("page %d is not found, or not in order", k.key)
					}
					for j := range mem.PFN(mem.SubPages) {
						p := k.page.First + j
						if m.Refs(p) != uint32(1+k.mapped[p]) || m.Frame(p).Flags&phys.Huge == 0 {
							t.Fatalf("frame %d: %d references, flags %b; %d mappings", p, m.Refs(p), m.Frame(p).Flags, k.mapped[p])
						}
					}
				}
				if used := m.Frames() - m.FreeFrames(); used != len(model)*mem.SubPages+orphans {
					t.Fatalf("%d frames used; %d pages, %d orphans", used, len(model), orphans)
				}
			},
			"insert": func(t *rapid.T) {
				if first, ok := m.AllocHuge(); ok {
					k := &kept{next, &Page{First: first}, map[mem.PFN]int{}}
					if _, ok := c.Lookup(key(next)); ok {
						t.Fatalf("page %d is there before it is", next)
					}
					c.Insert(key(next), k.page)
					model = append(model, k)
					next++
				}
			},
			"map": func(t *rapid.T) {
				if len(model) > 0 {
					k := rapid.SampledFrom(model).Draw(t, "page")
					p := k.page.First + mem.PFN(rapid.SampledFrom([]int{0, 1, 511}).Draw(t, "sub-page"))
					m.Get(p)
					k.mapped[p]++
				}
			},
			"unmap": func(t *rapid.T) {
				if len(model) > 0 {
					k := rapid.SampledFrom(model).Draw(t, "page")
					for p, n := range k.mapped {
						for range n {
							m.Put(p)
						}
					}
					clear(k.mapped)
				}
			},
			"evict": func(t *rapid.T) {
				n := rapid.IntRange(0, 3).Draw(t, "n")
				freed := 0
				var left []*kept
				for _, k := range model {
					if freed < n && len(k.mapped) == 0 {
						freed++
					} else {
						left = append(left, k)
					}
				}
				if got := c.Evict(n); got != freed {
					t.Fatalf("evict %d: %d, want %d", n, got, freed)
				}
				model = left
			},
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 4).Draw(t, "really") != 0 {
					return
				}
				c.Reset()
				for _, k := range model {
					gone(k)
					for p, n := range k.mapped {
						if m.Refs(p) != uint32(n) || m.Frame(p).Flags != 0 {
							t.Fatalf("frame %d: %d references, flags %b; want %d mappings alone", p, m.Refs(p), m.Frame(p).Flags, n)
						}
					}
				}
				model = nil
			},
		})
	})
}

func TestInsertTwice(t *testing.T) {
	m := newMemory(t, 3)
	defer m.Close()
	c := NewCache(m)
	insert(t, m, c, 1)
	defer func() {
		if recover() == nil {
			t.Error("a window was inserted twice")
		}
	}()
	insert(t, m, c, 1)
}

// TestCheckFinds corrupts the cache in one way at a time.
func TestCheckFinds(t *testing.T) {
	for _, x := range []struct {
		want    string
		corrupt func(m *phys.Memory, c *Cache)
	}{
		{"2 pages, 1 keys", func(_ *phys.Memory, c *Cache) { delete(c.pages, key(1)) }},
		{"window 0x0 is not under its key", func(_ *phys.Memory, c *Cache) { c.order[1].key = Key{} }},
		{"starts at frame 513", func(_ *phys.Memory, c *Cache) { c.order[0].First++ }},
		{"frame 1535 of window 0x400000 is not marked huge", func(m *phys.Memory, _ *Cache) { m.Frame(1535).Flags = 0 }},
	} {
		m := newMemory(t, 4)
		c := NewCache(m)
		insert(t, m, c, 1)
		insert(t, m, c, 2)
		if err := c.Check(func(mem.PFN, int) {}); err != nil {
			t.Fatal(err)
		}
		x.corrupt(m, c)
		err := c.Check(func(mem.PFN, int) {})
		if err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("got %v, want %q", err, x.want)
		}
		m.Close()
	}
}
