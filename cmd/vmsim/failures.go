package main

import (
	"fmt"

	"vmsim/internal/event"
)

// mostLines is how many failures a table shows; --events has them all.
const mostLines = 10

// printFailures prints the first failures, one a line, and how many more there
// were.
func printFailures(p *printer, failures []event.Event, total int) {
	for i, e := range failures {
		if i == mostLines {
			break
		}
		p.f("%s\n", fmt.Sprint(e))
	}
	if total > mostLines {
		p.f("... and %d more (--events FILE has them all)\n", total-mostLines)
	}
}
