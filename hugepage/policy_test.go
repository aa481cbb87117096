package hugepage

import (
	"fmt"
	"strings"
	"testing"
)

// TestPolicies: which windows each policy takes.
func TestPolicies(t *testing.T) {
	for _, c := range []struct {
		policy                    string
		threshold, cached, mapped int
		want                      bool
	}{
		{"kevlar", 128, 127, 512, false},
		{"kevlar", 128, 128, 512, true},
		{"kevlar", 128, 128, 200, true}, // holes do not matter
		{"kevlar", 0, 0, 1, true},
		{"kevlar", 513, 512, 512, false},
		{"covered", 128, 127, 512, false},
		{"covered", 128, 128, 512, true},
		{"covered", 128, 128, 511, false}, // one hole
		{"covered", 0, 0, 512, true},
		{"covered", 0, 511, 511, false},
		{"covered", 513, 512, 512, false},
		{"never", 0, 512, 512, false},
		{"never", 128, 128, 512, false},
	} {
		p, err := NewPolicy(c.policy, c.threshold)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Assemble(Candidate{Cached: c.cached, Mapped: c.mapped}); got != c.want {
			t.Errorf("%s at %d: %d cached, %d mapped: %v", c.policy, c.threshold, c.cached, c.mapped, got)
		}
	}
	want := []string{"hugepage.Kevlar", "hugepage.Covered", "hugepage.Never"}
	for i, name := range PolicyNames() {
		p, err := NewPolicy(name, 1, "index-collision")
		if got := fmt.Sprintf("%T", p); err != nil || got != want[i] {
			t.Errorf("%s: %s, %v", name, got, err)
		}
		if p, err := NewPolicy(name, 1, "no-such-bug"); err == nil || p != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	for _, name := range []string{"", "Kevlar", "kevlar,never", "always"} {
		if p, err := NewPolicy(name, 1); err == nil || p != nil || !strings.Contains(err.Error(), "is none of kevlar, covered, never") {
			t.Errorf("%q: %v, %v", name, p, err)
		}
	}
}
