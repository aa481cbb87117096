package main

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/spf13/cobra"

	"vmsim/hugepage"
	"vmsim/internal/report"
	"vmsim/internal/session"
)

// Formats that sweep alone writes.
const (
	formatPlot    report.Format = "plot"
	formatGoBench report.Format = "gobench"
)

type sweepFlags struct {
	machineFlags
	plan       session.SweepPlan
	thresholds string
	touch      string
	seed       uint64
	jobs       int
}

func newSweepCommand() *cobra.Command {
	var f sweepFlags
	cmd := &cobra.Command{
		Use:   "sweep ELF...",
		Short: "Thresholds and policies against huge pages, reads, faults and memory",
		Long: `sweep runs each ELF file, mapped alone, at many thresholds and under several
policies. For each of these points a new machine execs it --execs times and
touches --touch of its pages; then one exec more, which touches the same pages,
is measured. Every assembled window and every touched page is verified.

Policies:

  kevlar   assembles a window once that many of its sub-pages are cached
  covered  the same, but only windows of which all 512 sub-pages have an area
  never    assembles nothing

Without --thresholds these are 0, the powers of two to 512, 513 (never), and
both sides of every change under one of the policies: where a window more or
less is assembled.

The table has a line for each run of thresholds with one result: WINDOWS
assembled in all execs, and their sub-pages FROM CACHE, FROM FILE and ZERO; huge
pages MAPPED by the measured exec, and those of them in ONE ENTRY; bytes READ of
the file by it, and READ IN ALL by all execs; its FAULTS, and how many were
AVOIDED, compared with nothing assembled; 4 KiB FRAMES in use when all is
touched, and how many of them were ADDED, compared in the same way. The other
formats have a row for each threshold.

With -o plot the results are bars of text; -o gobench is what benchstat reads:

  benchstat -row /file,/threshold -col /policy FILE`,
		Example: `  vmsim sweep testdata/elf/kevlar-layout
  vmsim sweep --thresholds 0,1,64-128,513 --policy kevlar,covered -o csv /bin/true
  vmsim sweep -o plot testdata/elf/huge-text
  vmsim sweep -o gobench --touch startup testdata/elf/kevlar-layout`,
		Args: want("ELF file", true),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a) },
	}
	f.registerMany(cmd, append(slices.Clone(report.Formats), string(formatPlot), string(formatGoBench))...)
	fs := cmd.Flags()
	fs.StringSliceVar(&f.plan.Policies, "policy", []string{hugepage.DefaultPolicy}, "`NAME` of a policy, repeatable, or several: kevlar,never")
	fs.StringVar(&f.thresholds, "thresholds", "", "`LIST` of thresholds, 0 to 513: 0,1,64-128,513")
	fs.StringVar(&f.touch, "touch", "all", "`PAGES` that each exec touches: all, startup, or N: the start-up set and N more")
	fs.Uint64Var(&f.seed, "seed", 1, "draw the N pages from seed `S`")
	fs.IntVar(&f.plan.Execs, "execs", 1, "exec `N` times before the exec that is measured")
	fs.IntVar(&f.jobs, "jobs", runtime.GOMAXPROCS(0), "use `N` machines at a time")
	fs.Lookup("jobs").DefValue = "CPUs" // help and man page are the same on all machines
	complete(cmd, "policy", hugepage.PolicyNames()...)
	complete(cmd, "touch", "all", "startup")
	return cmd
}

// parse turns the flags of the plan into it.
func (f *sweepFlags) parse() (err error) {
	for i, name := range f.plan.Policies {
		if _, err := hugepage.NewPolicy(name, 0); err != nil {
			return fmt.Errorf("--policy: %w", err)
		}
		if slices.Contains(f.plan.Policies[:i], name) {
			return fmt.Errorf("--policy: %s is named twice", name)
		}
	}
	if len(f.plan.Policies) == 0 {
		return fmt.Errorf("--policy: none is named")
	}
	if f.thresholds != "" {
		if f.plan.Thresholds, err = session.ParseThresholds(f.thresholds); err != nil {
			return fmt.Errorf("--thresholds: %w", err)
		}
	}
	if f.plan.Touch, err = session.ParseTouchSet(f.touch, f.seed); err != nil {
		return fmt.Errorf("--touch: %w", err)
	}
	if f.plan.Execs < 0 {
		return fmt.Errorf("--execs: %d is negative", f.plan.Execs)
	}
	if f.jobs < 1 {
		return fmt.Errorf("--jobs: %d is less than 1", f.jobs)
	}
	return nil
}

func (f *sweepFlags) run(cmd *cobra.Command, paths []string) error {
	if err := f.parse(); err != nil {
		return err
	}
	ctx := cmd.Context()
	opt, format, err := f.options(ctx)
	if err != nil {
		return err
	}
	color, err := colors(cmd)
	if err != nil {
		return err
	}
	out := f.writer(cmd.OutOrStdout(), format, color)
	var sum sweepSum
	var lost atomic.Bool // the output: what follows would be for nobody
	opt.Stop = func() bool { return lost.Load() || ctx.Err() != nil }
	err = session.Sweep(opt, f.plan, paths, f.jobs, func(r session.SweepResult) {
		if r.Err != nil && !errors.Is(r.Err, session.ErrStopped) {
			sum.trouble = true
			complain(cmd.ErrOrStderr(), fmt.Errorf("%s: %w", r.Path, r.Err))
		}
		if n, why := sum.add(r); n > 0 {
			sum.trouble = true
			complain(cmd.ErrOrStderr(), fmt.Errorf("%s: no result at %d of %s: %s", r.Path, n, report.Count(len(r.Points), "point"), why))
		}
		if sum.err == nil {
			sum.err = out.add(r)
			lost.Store(sum.err != nil)
		}
	})
	if err == nil {
		err = sum.err
	}
	if err != nil {
		return err
	}
	sum.Partial = ctx.Err() != nil
	if err := out.close(sum); err != nil {
		return err
	}
	switch {
	case sum.Partial:
		return outcome(exitInterrupted)
	case sum.trouble:
		return outcome(exitUsage)
	case sum.Failed > 0:
		return outcome(exitMismatch)
	}
	return nil
}

// sweepSum is the sum of all files: in json and jsonl as it is.
type sweepSum struct {
	Type    string `json:"type"`
	Files   int    `json:"files"`  // with a result
	Points  int    `json:"points"` // policies and thresholds of all files
	Failed  int    `json:"failed"` // points with a failure
	Killed  int    `json:"killed"` // points at which memory did not suffice
	Partial bool   `json:"partial"`

	trouble bool
	err     error // of writing
}

// add counts r; it returns how many of its points have no result, and why the
// first has none.
func (s *sweepSum) add(r session.SweepResult) (killed int, why string) {
	s.Type = "summary"
	if len(r.Points) > 0 {
		s.Files++
	}
	for _, p := range r.Points {
		s.Points++
		if p.Failures > 0 {
			s.Failed++
		}
		if p.Killed == "" {
			continue
		}
		if killed++; killed == 1 {
			why = p.Killed
		}
	}
	s.Killed += killed
	return killed, why
}

// sweepWriter writes the results of files, as they come or at the end.
type sweepWriter interface {
	add(session.SweepResult) error
	close(sweepSum) error
}

func (f *sweepFlags) writer(w io.Writer, format report.Format, color bool) sweepWriter {
	switch format {
	case formatPlot:
		return &sweepPlot{printer: printer{w: w}}
	case formatGoBench:
		return &sweepBench{printer: printer{w: w}, flags: f}
	}
	return newSweepRows(w, format, color)
}
