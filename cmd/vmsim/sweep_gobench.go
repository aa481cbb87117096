package main

import (
	"fmt"
	"net/url"

	"vmsim/internal/session"
)

// sweepBench writes a sweep in the Go benchmark format
// (https://go.dev/design/14313-benchmark-format), a line for each threshold.
//
// The configuration lines hold what the machine was made to do: benchstat puts
// results with different ones into different tables. What one compares, a bug
// or a size of memory, is not there, but in the name of the result file.
type sweepBench struct {
	printer
	flags *sweepFlags
	begun bool
}

// sweepUnits are the units that every line has, in the order of sweepValues.
// There is one of each and no noise: benchstat takes them as exact. It scales
// what is in B as bytes.
var sweepUnits = []string{"windows", "cache-pages", "file-pages", "zero-pages", "mapped", "one-entry", "read-B", "read-all-B",
	"faults", "avoided-faults", "frames", "added-frames", "failures"}

func sweepValues(p session.SweepPoint) []any {
	return []any{p.Windows, p.FromCache, p.FromFile, p.Zero, p.Mapped, p.OneEntry, p.BytesRead, p.BytesReadAll,
		p.Faults, p.Avoided, p.Frames, p.Added, p.Failures}
}

func (b *sweepBench) header() {
	b.f("touch: %s\n", b.flags.touch)
	if b.flags.plan.Touch.Random > 0 {
		b.f("seed: %d\n", b.flags.seed)
	}
	b.f("execs: %d\n", b.flags.plan.Execs)
	for _, u := range sweepUnits {
		b.f("Unit %s assume=exact\n", u)
	}
	b.f("\n")
}

func (b *sweepBench) add(r session.SweepResult) error {
	for _, p := range r.Points {
		if p.Killed != "" {
			continue
		}
		if !b.begun {
			b.header()
			b.begun = true
		}
		b.f("%s 1", benchName(r.Path, p))
		for i, v := range sweepValues(p) {
			b.f(" %d %s", v, sweepUnits[i])
		}
		b.f("\n")
	}
	return b.err
}

func (b *sweepBench) close(sweepSum) error { return b.err }

// benchName is the name of a point. A name holds no space, and / ends a part of
// it, so the path is escaped as in a URL.
func benchName(path string, p session.SweepPoint) string {
	return fmt.Sprintf("BenchmarkSweep/file=%s/policy=%s/threshold=%d", url.PathEscape(path), p.Policy, p.Threshold)
}
