// Package bug is the set of bug switches: the names of the mistakes that the
// machine can be built with. Each is one branch at the very place where the
// original kernel went wrong, with the repair beside it.
package bug

import (
	"fmt"
	"slices"
	"strings"
)

// Set holds the bugs that are switched on. The zero Set is the repaired
// machine.
type Set uint64

const (
	// BoundaryCopy: huge-page assembly copies all 4096 bytes of a cached page
	// over a page of which the area covers a part (case A, bug 1).
	BoundaryCopy Set = 1 << iota
	// IndexCollision: huge-page assembly takes a partly valid page from the
	// cache because its index matches (case A, bug 2).
	IndexCollision
)

var names = []struct {
	bit  Set
	name string
}{
	{BoundaryCopy, "boundary-copy"},
	{IndexCollision, "index-collision"},
}

// Has reports whether all bugs of b are on in s.
func (s Set) Has(b Set) bool { return s&b == b }

// Names returns the names of all bugs, in the order of the catalogue.
func Names() []string {
	var all []string
	for _, n := range names {
		all = append(all, n.name)
	}
	return all
}

// Parse returns the set of the named bugs.
func Parse(list []string) (Set, error) {
	var s Set
	for _, want := range list {
		i := slices.Index(Names(), want)
		if i < 0 {
			return 0, fmt.Errorf("unknown bug %q (known: %s)", want, strings.Join(Names(), ", "))
		}
		s |= names[i].bit
	}
	return s, nil
}
