package main

import (
	"fmt"
	"slices"

	"vmsim/internal/event"
)

// mostLines is how many different failures a table shows; --events has them
// all.
const mostLines = 10

// failureWords are the lines of the first failures, equal ones once: a huge page
// that is wrong is wrong in each process that maps it. total is how many failures
// there were; where not all are shown, the last line says so.
func failureWords(failures []event.Event, total int) []string {
	lines := failureLines(failures)
	if total > len(lines) {
		lines = append(lines, fmt.Sprintf("(%d failures, equal lines shown once; --events FILE has each with its PID)", total))
	}
	return lines
}

// failureLines returns the lines of the first failures, equal ones once.
func failureLines(failures []event.Event) []string {
	var lines []string
	for _, e := range failures {
		line := fmt.Sprint(e)
		if slices.Contains(lines, line) {
			continue
		}
		if len(lines) == mostLines {
			break
		}
		lines = append(lines, line)
	}
	return lines
}
