package session

import (
	"maps"
	"testing"

	"pgregory.net/rapid"

	"vmsim/mem"
)

// TestPageSet holds sets against plain maps: what is not yet in the tree must not
// be lost, nor be seen by a clone that has it not.
func TestPageSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type both struct {
			set  *pageSet
			want map[mem.VirtAddr]bool
		}
		sets := []both{{newPageSet(), map[mem.VirtAddr]bool{}}}
		const span = 3 * mem.SubPages
		at := func(name string) mem.VirtAddr {
			return mem.VirtAddr(rapid.IntRange(0, span-1).Draw(t, name)) * mem.PageSize
		}
		draw := func() mem.Range {
			start := at("start")
			return mem.Range{Start: start, End: start + mem.VirtAddr(rapid.IntRange(0, 700).Draw(t, "pages"))*mem.PageSize}
		}
		pick := func() both { return sets[rapid.IntRange(0, len(sets)-1).Draw(t, "set")] }
		drop := func(b both, r mem.Range) {
			maps.DeleteFunc(b.want, func(a mem.VirtAddr, _ bool) bool { return r.Contains(a) })
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				b, a := pick(), at("page")
				if b.set.add(a) == b.want[a] {
					t.Fatalf("add %v: it was there: %v", a, b.want[a])
				}
				b.want[a] = true
			},
			"remove": func(*rapid.T) {
				b, r := pick(), draw()
				b.set.remove(r)
				drop(b, r)
			},
			"move": func(*rapid.T) {
				b, r := pick(), draw()
				to := at("to")
				moved := map[mem.VirtAddr]bool{}
				for a := range b.want {
					if r.Contains(a) {
						moved[a-r.Start+to] = true
					}
				}
				b.set.move(r, to)
				drop(b, r)
				drop(b, mem.Range{Start: to, End: to + mem.VirtAddr(r.Len())})
				maps.Copy(b.want, moved)
			},
			"merge": func(*rapid.T) {
				b, o, r := pick(), pick(), draw()
				if b.set == o.set {
					return
				}
				b.set.merge(o.set, r)
				for a := range o.want {
					if r.Contains(a) {
						b.want[a] = true
					}
				}
			},
			"clone": func(*rapid.T) {
				if b := pick(); len(sets) < 5 {
					sets = append(sets, both{b.set.clone(), maps.Clone(b.want)})
				}
			},
			"": func(t *rapid.T) {
				b, a := pick(), at("look")
				if b.set.has(a) != b.want[a] {
					t.Fatalf("has %v: %v", a, !b.want[a])
				}
			},
		})
		for i, b := range sets {
			for a := mem.VirtAddr(0); a < 3*span*mem.PageSize; a += mem.PageSize {
				if b.set.has(a) != b.want[a] {
					t.Fatalf("set %d has %v: %v", i, a, !b.want[a])
				}
			}
		}
	})
}
