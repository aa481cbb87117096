package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"

	"vmsim/hugepage"
	"vmsim/internal/bug"
	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/vm"
)

// other is the machine that --compare names: that of opt, but for what its flags
// say.
func (f *replayFlags) other(opt session.Options) (session.Options, error) {
	fs := pflag.NewFlagSet("compare", pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	threshold := fs.Int("threshold", opt.Threshold, "")
	policy := fs.String("policy", opt.Policy, "")
	bugs := fs.StringArray("bug", nil, "")
	hardening := fs.String("hardening", f.hardening, "")
	memory := fs.String("memory", f.memory, "")
	around := fs.Int("fault-around", f.around, "")
	if err := fs.Parse(strings.Fields(f.compare)); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			err = errors.New("it takes --threshold, --policy, --bug, --fault-around, --hardening, --memory")
		}
		return opt, err
	}
	if fs.NArg() > 0 {
		return opt, fmt.Errorf("%q is no flag", fs.Arg(0))
	}
	opt.Events = nil // they are of one run
	opt.Threshold, opt.Policy = *threshold, *policy
	if *threshold < 0 {
		return opt, fmt.Errorf("--threshold: %d is negative", *threshold)
	}
	if len(*bugs) > 0 {
		opt.Bugs = *bugs
	}
	if _, err := bug.Parse(opt.Bugs); err != nil {
		return opt, fmt.Errorf("--bug: %w", err)
	}
	if _, err := hugepage.NewPolicy(opt.Policy, opt.Threshold, opt.Bugs...); err != nil {
		return opt, fmt.Errorf("--policy: %w", err)
	}
	var err error
	if opt.Hardening, err = vm.ParseHardening(*hardening); err != nil {
		return opt, fmt.Errorf("--hardening: %w", err)
	}
	if opt.FaultAround, err = faultAround(*around); err != nil {
		return opt, fmt.Errorf("--fault-around: %w", err)
	}
	if opt.Memory, err = report.ParseBytes(*memory); err != nil {
		return opt, fmt.Errorf("--memory: %w", err)
	}
	if opt.Memory < smallestMemory || opt.Memory > largestMemory {
		return opt, fmt.Errorf("--memory: size %q is not between 4 MiB and 4 TiB", *memory)
	}
	return opt, nil
}

// printCompared prints what differs between two machines, and what does not, side
// by side.
func printCompared(p *printer, first, second replayed) error {
	rows := report.Rows{Header: []string{"COMPARED", "THIS", second.flags}, Left: 1}
	add := func(what string, of func(r *session.ReplayResult) any) {
		rows.Add(what, of(&first.res), of(&second.res))
	}
	count := func(what string, of func(r *session.ReplayResult) int) {
		add(what, func(r *session.ReplayResult) any { return of(r) })
	}
	if len(first.res.Tests) > 0 {
		count("tests passed", func(r *session.ReplayResult) int { return r.TestsPassed() })
	}
	count("execs passed", func(r *session.ReplayResult) int { return r.ExecPassed })
	count("execs failed", func(r *session.ReplayResult) int { return r.ExecFailed })
	count("minor faults", func(r *session.ReplayResult) int { return r.Stats.Faults.Minor })
	count("major faults", func(r *session.ReplayResult) int { return r.Stats.Faults.Major })
	count("CoW faults", func(r *session.ReplayResult) int { return r.Stats.Faults.CoW })
	count("prefaulted pages", func(r *session.ReplayResult) int { return r.Stats.Prefaulted })
	count("windows assembled", func(r *session.ReplayResult) int { return r.Stats.Assembled })
	count("windows mapped whole", func(r *session.ReplayResult) int { return r.Stats.HugeMapped })
	count("windows mapped in 4 KiB", func(r *session.ReplayResult) int { return r.Stats.HugeScattered })
	count("windows split", func(r *session.ReplayResult) int { return r.Stats.Splits })
	if first.res.Recording != nil && second.res.Recording != nil {
		count("cache hits", func(r *session.ReplayResult) int { return r.Recording.Total.CacheHits })
		count("copies", func(r *session.ReplayResult) int { return r.Recording.Total.Copies })
		add("memory, peak", func(r *session.ReplayResult) any { return report.Bytes(r.Recording.Peak) })
	}
	add("first assembly", func(r *session.ReplayResult) any { return momentWords(r.FirstAssembly) })
	add("first wrong byte", func(r *session.ReplayResult) any { return momentWords(r.FirstWrong) })
	count("crashes", func(r *session.ReplayResult) int { return r.Crashes })
	count("other answers", func(r *session.ReplayResult) int { return r.Mismatched })
	count("failures", func(r *session.ReplayResult) int { return r.Tally.Failures })
	var b strings.Builder
	if err := rows.Write(&b); err != nil {
		return err
	}
	printIndented(p, b.String())
	return p.err
}

// printIndented prints a table below a trace's name.
func printIndented(p *printer, text string) {
	for line := range strings.Lines(text) {
		p.f("  %s", line)
	}
}
