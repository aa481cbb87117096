//go:build linux && amd64

package tracee

import (
	"testing"

	"pgregory.net/rapid"

	"vmsim/mem"
)

// Whatever the program advised and wherever it is cut: no two neighbours have the same
// advice.
func TestNeighboursDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sp := &space{}
		cut := mem.Range{Start: 2 * mem.PageSize, End: 60 * mem.PageSize}
		now := map[mem.VirtAddr]int{} // as the kernel has it
		sp.cut.add(cut)
		give := func(all []advisedPages) {
			for _, a := range all {
				for _, p := range a.pages {
					now[p] = a.advice
				}
			}
		}
		give(sp.pages([]mem.Range{cut}))
		for range rapid.IntRange(0, 8).Draw(t, "calls") {
			r := drawRange(t).Intersect(cut)
			advice := rapid.IntRange(0, 2).Draw(t, "advice")
			for p := r.Start; p < r.End; p += mem.PageSize {
				now[p] = advice
			}
			sp.advice.set(r, advice)
			give(sp.pages([]mem.Range{r}))
		}
		for p := cut.Start; p+mem.PageSize < cut.End; p += mem.PageSize {
			if now[p] == now[p+mem.PageSize] {
				t.Fatalf("pages %v and its neighbour have advice %d", p, now[p])
			}
			if p.SubPage()%2 == 0 && now[p] != sp.advice.at(p) {
				t.Fatalf("page %v has advice %d, not the program's", p, now[p])
			}
		}
	})
}
