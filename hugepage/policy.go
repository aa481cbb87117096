package hugepage

import (
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
