package main

import (
	"fmt"

	"vmsim/internal/event"
)

// mostLines is how many different failures a table shows; --events has them
// all.
const mostLines = 10

// printFailures prints the lines of the first failures, equal ones once: a huge
// page that is wrong is wrong in each process that maps it. total is how many
// failures there were.
func printFailures(p *printer, failures []event.Event, total int) {
	shown := map[string]bool{}
	for _, e := range failures {
		line := fmt.Sprint(e)
		if shown[line] {
			continue
		}
		if len(shown) == mostLines {
			break
		}
		shown[line] = true
		p.f("%s\n", line)
	}
	if total > len(shown) {
		p.f("(%d failures, equal lines shown once; --events FILE has each with its PID)\n", total)
	}
}
