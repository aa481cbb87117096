package session

import (
	"math"

	"vmsim/hugepage"
)

// probe is a policy that can be exchanged in a machine that is new, and that
// remembers what the machine asked.
//
// All policies here are some condition that no threshold changes, and Cached >=
// threshold. So a run at threshold t tells for which others it would have been
// the same run, question by question: from t to the fewest cached sub-pages of a
// window that it accepted. What it refused at t it refuses there too.
type probe struct {
	hugepage.Policy
	asked  map[hugepage.Candidate]bool // each question once
	accept int                         // the fewest Cached of what was accepted; MaxInt: nothing was
}

// follow makes p the policy and forgets what was asked.
func (r *probe) follow(p hugepage.Policy) {
	*r = probe{Policy: p, asked: map[hugepage.Candidate]bool{}, accept: math.MaxInt}
}

// Assemble asks the policy.
func (r *probe) Assemble(c hugepage.Candidate) bool {
	ok := r.Policy.Assemble(c)
	c.File = nil // there is one, and the question outlives it
	r.asked[c] = true
	if ok {
		r.accept = min(r.accept, c.Cached)
	}
	return ok
}
