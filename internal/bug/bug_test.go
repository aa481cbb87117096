package bug

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		list []string
		want Set
	}{
		{nil, 0},
		{[]string{"boundary-copy"}, BoundaryCopy},
		{[]string{"index-collision"}, IndexCollision},
		{[]string{"index-collision", "boundary-copy"}, BoundaryCopy | IndexCollision},
		{[]string{"boundary-copy", "boundary-copy"}, BoundaryCopy},
	} {
		if got, err := Parse(c.list); err != nil || got != c.want {
			t.Errorf("%q: %b, %v; want %b", c.list, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "Boundary-Copy", "boundary-copy ", "boundary-copy,index-collision"} {
		got, err := Parse([]string{"boundary-copy", bad})
		if err == nil || got != 0 {
			t.Errorf("%q: %b, %v", bad, got, err)
			continue
		}
		for _, name := range Names() {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%v: does not name %s", err, name)
			}
		}
	}
}

func TestNames(t *testing.T) {
	all := Names()
	sorted := slices.Clone(all)
	slices.Sort(sorted)
	if n := len(slices.Compact(sorted)); n != len(all) {
		t.Fatalf("a name twice in %q", all)
	}
	var seen Set
	for _, name := range all {
		s, err := Parse([]string{name})
		if err != nil || s == 0 || s&(s-1) != 0 || seen.Has(s) {
			t.Errorf("%s: %b, %v; want a bit of its own", name, s, err)
		}
		seen |= s
	}
	whole, err := Parse(all)
	if err != nil || whole != seen {
		t.Errorf("all: %b, %v; want %b", whole, err, seen)
	}
	all[0] = "changed"
	if Names()[0] == "changed" {
		t.Error("Names hands out its own list")
	}
}

func TestHas(t *testing.T) {
	both := BoundaryCopy | IndexCollision
	if !both.Has(BoundaryCopy) || !both.Has(both) || BoundaryCopy.Has(both) || Set(0).Has(IndexCollision) {
		t.Error("Has does not ask for all of its bugs")
	}
}
