package session

import (
	"fmt"
	"slices"
	"strconv"

	"vmsim/mem"
	"vmsim/verify"
)

// TouchSet says which pages of a program an execution touches, the same ones
// each time: all, or the start-up set and so many more, drawn from a seed.
type TouchSet struct {
	All    bool
	Random int
	Seed   uint64
}

// ParseTouchSet reads "all", "startup", or the number of pages beyond the
// start-up set.
func ParseTouchSet(s string, seed uint64) (TouchSet, error) {
	switch s {
	case "all":
		return TouchSet{All: true}, nil
	case "startup":
		return TouchSet{}, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return TouchSet{}, fmt.Errorf("%q is none of all, startup, or a number of pages", s)
	}
	return TouchSet{Random: int(n), Seed: seed}, nil
}

// pages returns the pages of a program, in the order of the touches.
func (s TouchSet) pages(truth *verify.Truth) []mem.VirtAddr {
	if s.All {
		return slices.Collect(truth.TouchPages())
	}
	return newDraw(truth, StressPlan{Touch: s.Random, Pattern: Fixed, Seed: s.Seed}).pages()
}
