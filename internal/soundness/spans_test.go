package soundness

import (
	"testing"

	"pgregory.net/rapid"

	"vmsim/mem"
)

// TestSpans holds spans against one value for each page.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const n = 24
		type both struct {
			m    *spans[int]
			want [n]int // 0: none
		}
		sets := []*both{{m: newSpans[int]()}}
		draw := func(t *rapid.T) (r mem.Range, first, last int) {
			first = rapid.IntRange(0, n-1).Draw(t, "first")
			last = rapid.IntRange(first, min(first+4, n)).Draw(t, "last")
			return mem.Range{Start: mem.VirtAddr(first) * mem.PageSize, End: mem.VirtAddr(last) * mem.PageSize}, first, last
		}
		pick := func(t *rapid.T) *both { return sets[rapid.IntRange(0, len(sets)-1).Draw(t, "set")] }
		put := func(t *rapid.T, b *both, r mem.Range, first, last int) {
			v := rapid.IntRange(1, 3).Draw(t, "value")
			b.m.set(r, v)
			for i := first; i < last; i++ {
				b.want[i] = v
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				r, first, last := draw(t)
				put(t, pick(t), r, first, last)
			},
			"set a run": func(t *rapid.T) {
				b, at := pick(t), rapid.IntRange(0, n-1).Draw(t, "at")
				if s, ok := b.m.at(mem.VirtAddr(at) * mem.PageSize); ok {
					put(t, b, s.Range, int(s.Start/mem.PageSize), int(s.End/mem.PageSize))
				}
			},
			"clear": func(t *rapid.T) {
				b := pick(t)
				r, first, last := draw(t)
				b.m.clear(r)
				clear(b.want[first:last])
			},
			"clone": func(t *rapid.T) {
				if b := pick(t); len(sets) < 4 {
					sets = append(sets, &both{b.m.clone(), b.want})
				}
			},
			"": func(t *rapid.T) {
				b, at := pick(t), rapid.IntRange(0, n-1).Draw(t, "at")
				if s, ok := b.m.at(mem.VirtAddr(at) * mem.PageSize); ok != (b.want[at] != 0) || s.v != b.want[at] && ok {
					t.Fatalf("at %d: %v %v, want %d", at, s, ok, b.want[at])
				}
			},
		})
		for _, b := range sets {
			var last span[int]
			var got [n]int
			b.m.tree.Ascend(func(s span[int]) bool {
				if s.Empty() || s.Start < last.End || s.Start == last.End && s.v == last.v {
					rt.Fatalf("%v behind %v", s, last)
				}
				for at := s.Start; at < s.End; at += mem.PageSize {
					got[at/mem.PageSize] = s.v
				}
				last = s
				return true
			})
			if got != b.want {
				rt.Fatalf("%v, want %v", got, b.want)
			}
		}
	})
}
