package hugepage

import (
	"fmt"
	"slices"
	"strings"

	"vmsim/internal/bug"
	"vmsim/mem"
)

// Candidate is a window that might become a huge page.
type Candidate struct {
	Base   mem.VirtAddr // 2 MiB aligned
	File   mem.File     // the one file that its file bytes come from
	Bias   uint64
	Cached int // sub-pages whose first byte is a file's and whose index is in the page cache
	Mapped int // sub-pages that have an area
}

// Policy says when a window becomes a huge page and what its sub-pages are
// filled with. The verifier does not trust it.
type Policy interface {
	// Assemble reports whether the window is to be assembled now.
	Assemble(c Candidate) bool
	// Fill writes the content of one sub-page that has file bytes. What it
	// does not write is zero. An error abandons the window: its pages are
	// mapped one by one.
	Fill(p *SubPage) error
}

// DefaultThreshold is the ASSEMBLE_THRESHOLD of the Kevlar kernel: a quarter
// of a window.
const DefaultThreshold = 128

// Kevlar is the policy of the Kevlar kernel (case A). Make it with NewKevlar.
type Kevlar struct {
	// Threshold is the number of cached sub-pages from which a window is
	// assembled: 0 assembles at the first exec, more than 512 never.
	Threshold int

	bugs bug.Set
}

// NewKevlar returns the Kevlar policy with the named bugs, none for the
// repaired one: "boundary-copy", "index-collision".
func NewKevlar(threshold int, bugs ...string) (Kevlar, error) {
	set, err := bug.Parse(bugs)
	return Kevlar{threshold, set}, err
}

// Assemble compares the cached sub-pages with the threshold.
func (k Kevlar) Assemble(c Candidate) bool { return c.Cached >= k.Threshold }

// Covered is Kevlar with one demand more: every one of the 512 sub-pages has an
// area. A window that it assembles leaves no hole that a later mapping could
// come to lie in, and can be mapped by one entry if one permission covers it.
type Covered struct{ Kevlar }

// Assemble asks Kevlar where the window is covered.
func (k Covered) Assemble(c Candidate) bool {
	return c.Mapped == mem.SubPages && k.Kevlar.Assemble(c)
}

// Never assembles nothing: what a huge page costs and brings is measured
// against it.
type Never struct{ Kevlar }

// Assemble refuses.
func (Never) Assemble(Candidate) bool { return false }

// DefaultPolicy is the name of the policy of a machine that is told no other.
const DefaultPolicy = "kevlar"

// PolicyNames returns the names that NewPolicy knows.
func PolicyNames() []string { return []string{DefaultPolicy, "covered", "never"} }

// NewPolicy returns the policy of that name at a threshold, with the named bugs
// (see NewKevlar).
func NewPolicy(name string, threshold int, bugs ...string) (Policy, error) {
	if !slices.Contains(PolicyNames(), name) {
		return nil, fmt.Errorf("policy %q is none of %s", name, strings.Join(PolicyNames(), ", "))
	}
	k, err := NewKevlar(threshold, bugs...)
	switch {
	case err != nil:
		return nil, err
	case name == "covered":
		return Covered{k}, nil
	case name == "never":
		return Never{k}, nil
	}
	return k, nil
}
