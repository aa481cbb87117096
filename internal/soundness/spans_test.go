package soundness

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vmsim/mem"
)

// check returns what is wrong with m.
func (m *spans[T]) check() error {
	var none, last T
	if len(m.blocks) == 0 || len(m.starts) != len(m.blocks) || m.blocks[0].steps[0].start() != 0 || m.blocks[0].value(0) != none {
		return fmt.Errorf("%d starts of %d blocks, or no step to nothing at 0", len(m.starts), len(m.blocks))
	}
	at := mem.VirtAddr(0)
	for i, b := range m.blocks {
		n := len(b.steps)
		switch {
		case n == 0 || n > m.most:
			return fmt.Errorf("block %d has %d steps", i, n)
		case i > 0 && len(m.blocks[i-1].steps)+n <= m.most/2:
			return fmt.Errorf("blocks %d and %d have %d and %d steps", i-1, i, len(m.blocks[i-1].steps), n)
		case m.starts[i] != b.steps[0]&^stepValue:
			return fmt.Errorf("block %d starts at %v, not at %v", i, b.steps[0].start(), m.starts[i].start())
		case len(b.values) > 3*m.most+2+recent || len(b.values) > int(stepValue)+1:
			return fmt.Errorf("block %d has %d values for %d steps", i, len(b.values), n)
		}
		for j, s := range b.steps {
			if int(s&stepValue) >= len(b.values) {
				return fmt.Errorf("%v: there is no value %d", s.start(), s&stepValue)
			}
			if first := i == 0 && j < 2; s.start() < at || !first && s.start() == at || i+j > 0 && b.value(j) == last {
				return fmt.Errorf("%v: a step to %v behind one at %v to %v", s.start(), b.value(j), at, last)
			}
			at, last = s.start(), b.value(j)
		}
	}
	return nil
}

// modelPages is how many pages the model of spans has.
const modelPages = 48

// modelled is spans and one value for each page, 0 for none.
type modelled struct {
	m    *spans[int]
	want [modelPages]int
}

func (b *modelled) each(first, last int, f func(int) int) {
	for i := first; i < last; i++ {
		b.want[i] = f(b.want[i])
	}
}

// runs returns what in(r) ought to.
func (b *modelled) runs(first, last int) (list []span[int]) {
	for i := first; i < last; i++ {
		pg := mem.PageOf(mem.VirtAddr(i) * mem.PageSize)
		if n := len(list); n > 0 && list[n-1].End == pg.Start && list[n-1].v == b.want[i] {
			list[n-1].End = pg.End
		} else if b.want[i] != 0 {
			list = append(list, span[int]{pg, b.want[i]})
		}
	}
	return list
}

// around returns the pages around one that have its value.
func (b *modelled) around(at int) mem.Range {
	r := mem.Range{End: ^mem.VirtAddr(0)}
	for i, v := range b.want {
		switch pg := mem.PageOf(mem.VirtAddr(i) * mem.PageSize); {
		case v == b.want[at]:
		case i < at:
			r.Start = pg.End
		case r.End > pg.Start:
			r.End = pg.Start
		}
	}
	if b.want[at] != 0 {
		r.End = min(r.End, modelPages*mem.PageSize)
	}
	return r
}

// TestSpans holds spans, of small blocks, against one value for each page.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newSpans[int]()
		m.most = rapid.IntRange(4, 9).Draw(rt, "most")
		kinds := rapid.SampledFrom([]int{3, 1000}).Draw(rt, "kinds")
		sets := []*modelled{{m: m}}
		draw := func(t *rapid.T) (b *modelled, r mem.Range, first, last int) {
			b = sets[rapid.IntRange(0, len(sets)-1).Draw(t, "set")]
			first = rapid.IntRange(0, modelPages-1).Draw(t, "first")
			last = min(first+rapid.SampledFrom([]int{0, 1, 1, 1, 2, 4, modelPages}).Draw(t, "pages"), modelPages)
			return b, mem.Range{Start: mem.VirtAddr(first) * mem.PageSize, End: mem.VirtAddr(last) * mem.PageSize}, first, last
		}
		rt.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				b, r, first, last := draw(t)
				v := rapid.IntRange(1, kinds).Draw(t, "value")
				b.m.set(r, v)
				b.each(first, last, func(int) int { return v })
			},
			"set pages": func(t *rapid.T) {
				b, _, first, last := draw(t)
				v := rapid.IntRange(1, kinds).Draw(t, "value")
				for i := first; i < last; i++ {
					v++
					b.m.set(mem.PageOf(mem.VirtAddr(i)*mem.PageSize), v)
					b.want[i] = v
				}
			},
			"set a page again and again": func(t *rapid.T) {
				b, _, first, _ := draw(t)
				for range 60 {
					b.want[first]++
					b.m.set(mem.PageOf(mem.VirtAddr(first)*mem.PageSize), b.want[first])
				}
			},
			"clear": func(t *rapid.T) {
				b, r, first, last := draw(t)
				b.m.clear(r)
				b.each(first, last, func(int) int { return 0 })
			},
			"update": func(t *rapid.T) {
				b, r, first, last := draw(t)
				f := func(v int) int {
					if v == 0 {
						return 0
					}
					return v / 2
				}
				b.m.update(r, f)
				b.each(first, last, f)
			},
			"clone": func(t *rapid.T) {
				if b, _, _, _ := draw(t); len(sets) < 4 {
					sets = append(sets, &modelled{b.m.clone(), b.want})
				}
			},
			"": func(t *rapid.T) {
				for _, b := range sets {
					if err := b.m.check(); err != nil {
						t.Fatal(err)
					}
					if got, want := b.m.in(whole), b.runs(0, modelPages); !slices.Equal(got, want) {
						t.Fatalf("%v, want %v", got, want)
					}
				}
				b, r, first, last := draw(t)
				if got, want := b.m.in(r), b.runs(first, last); !slices.Equal(got, want) {
					t.Fatalf("in %v: %v, want %v", r, got, want)
				}
				want := slices.Index(b.want[first:last], 0)
				if hole, ok := b.m.covered(r); ok != (want < 0) || !ok && hole != r.Start+mem.VirtAddr(want)*mem.PageSize {
					t.Fatalf("%v: covered but for %v: %v, want %d", r, hole, ok, want)
				}
				s, ok := b.m.at(r.Start + 1)
				if s.v != b.want[first] || ok != (s.v != 0) || s.Range != b.around(first) {
					t.Fatalf("at %v: %v %v, want %d in %v", r.Start, s, ok, b.want[first], b.around(first))
				}
			},
		})
	})
}

// TestFloor holds the search against a look at every step.
func TestFloor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pages := rapid.SliceOfN(rapid.IntRange(0, 300), 1, 200).Draw(t, "pages")
		slices.Sort(pages)
		steps, a, want := make([]step, len(pages)), rapid.IntRange(0, 300).Draw(t, "page"), 0
		for i, p := range pages {
			steps[i] = step(p)*mem.PageSize | step(i)
			if p <= a {
				want = i
			}
		}
		if got := floor(steps, mem.VirtAddr(a)*mem.PageSize+mem.VirtAddr(rapid.IntRange(0, mem.PageSize-1).Draw(t, "offset"))); got != want {
			t.Fatalf("%d, want %d", got, want)
		}
	})
}
