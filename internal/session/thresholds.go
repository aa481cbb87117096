package session

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"vmsim/mem"
)

// NeverThreshold is the lowest threshold at which nothing is assembled: a window
// has fewer sub-pages.
const NeverThreshold = mem.SubPages + 1

// ParseThresholds reads a list of thresholds and ranges of them, 0,1,64-128,513,
// and returns them ascending, each once.
func ParseThresholds(s string) ([]int, error) {
	var all []int
	for part := range strings.SplitSeq(s, ",") {
		first, last, ranged := strings.Cut(part, "-")
		from, err := threshold(part, first)
		if err != nil {
			return nil, err
		}
		to := from
		if ranged {
			if to, err = threshold(part, last); err != nil {
				return nil, err
			}
		}
		if to < from {
			return nil, fmt.Errorf("range %q runs backwards", part)
		}
		for t := from; t <= to; t++ {
			all = append(all, t)
		}
		if len(all) > 64*NeverThreshold { // the same again and again
			slices.Sort(all)
			all = slices.Compact(all)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// threshold reads one number of part.
func threshold(part, s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n > NeverThreshold {
		return 0, fmt.Errorf("%q is not like 0,1,64-128,513, of numbers from 0 to %d", part, NeverThreshold)
	}
	return int(n), nil
}

// usualThresholds are those that a sweep shows wherever the result changes.
func usualThresholds() []int {
	all := []int{0}
	for t := 1; t <= mem.SubPages; t *= 2 {
		all = append(all, t)
	}
	return append(all, NeverThreshold)
}
