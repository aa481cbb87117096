package main

import (
	"io"

	"github.com/spf13/cobra"

	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/vm"
)

type replayFlags struct {
	machineFlags
}

func newReplayCommand() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay TRACE...",
		Short: "Run traces of fork, exec, mmap and touches through the machine, verified",
		Long: `replay runs each trace in a machine of its own: several processes, one page
cache. Every page that is touched is compared with the file (or with zero, and
with what was written), every answer that the trace gives is checked. A process
that reads a wrong byte counts as crashed there. The format of traces is in
ARCHITECTURE.md.`,
		Example: `  vmsim replay testdata/traces/shell-loop.trace
  vmsim replay --bug index-collision testdata/traces/case-a.trace`,
		Args: want("trace", true),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a) },
	}
	f.register(cmd, "table", "json", "jsonl")
	return cmd
}

func (f *replayFlags) run(cmd *cobra.Command, paths []string) (err error) {
	ctx := cmd.Context()
	opt, format, err := f.options(ctx, paths...)
	if err != nil {
		return err
	}
	defer f.finish(&err)
	rig, err := session.NewRig(opt)
	if err != nil {
		return err
	}
	defer rig.Close()
	bad, trouble := false, false
	all := []replayJSON{}
	for _, path := range paths {
		in := openInput(ctx, openPath(path))
		res, err := rig.Replay(path, in, opt.Stop)
		in.Close()
		if err != nil && ctx.Err() == nil {
			trouble = true
			complain(cmd.ErrOrStderr(), err)
			if res.Ops == 0 {
				continue
			}
		}
		bad = bad || !res.OK() || res.Tally.Failures > 0
		partial := err != nil
		j := toReplayJSON(path, res, partial)
		switch format {
		case report.JSON:
			all = append(all, j)
		case report.JSONL:
			if err := report.WriteJSONL(cmd.OutOrStdout(), j); err != nil {
				return err
			}
		default:
			if err := printReplay(cmd.OutOrStdout(), path, res, partial); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	if format == report.JSON {
		if err := report.WriteJSON(cmd.OutOrStdout(), all); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return outcome(exitInterrupted)
	case trouble:
		return outcome(exitUsage)
	case bad:
		return outcome(exitMismatch)
	}
	return nil
}

// replayJSON is the result in json and jsonl.
type replayJSON struct {
	Type          string          `json:"type"`
	Path          string          `json:"path"`
	Ops           int             `json:"ops"`
	Skipped       int             `json:"skipped"`
	Processes     int             `json:"processes"`
	ExecPassed    int             `json:"execs_passed"`
	ExecFailed    int             `json:"execs_failed"`
	Tests         int             `json:"tests"`
	TestsPassed   int             `json:"tests_passed"`
	FailedTests   []string        `json:"failed_tests"`
	Faults        vm.Faults       `json:"faults"`
	Windows       int             `json:"windows"`
	FirstAssembly *session.Moment `json:"first_assembly"`
	FirstWrong    *session.Moment `json:"first_wrong"`
	WrongLine     string          `json:"wrong_line,omitempty"`
	Crashes       int             `json:"crashes"`
	FirstCrash    string          `json:"first_crash,omitempty"`
	Mismatches    []string        `json:"mismatches"`
	BytesCompared uint64          `json:"bytes_compared"`
	Failures      int             `json:"failures"`
	Partial       bool            `json:"partial"`
}

func toReplayJSON(path string, r session.ReplayResult, partial bool) replayJSON {
	j := replayJSON{Type: "replay", Path: path, Ops: r.Ops, Skipped: r.Skipped, Processes: r.Processes,
		ExecPassed: r.ExecPassed, ExecFailed: r.ExecFailed, Tests: len(r.Tests), TestsPassed: r.TestsPassed(),
		FailedTests: []string{}, Mismatches: []string{}, Faults: r.Stats.Faults, Windows: r.Stats.Assembled,
		FirstAssembly: moment(r.FirstAssembly), FirstWrong: moment(r.FirstWrong), WrongLine: r.WrongLine,
		Crashes: r.Crashes, BytesCompared: r.Tally.BytesCompared, Failures: r.Tally.Failures, Partial: partial}
	for _, t := range r.Tests {
		if !t.Passed {
			j.FailedTests = append(j.FailedTests, t.Name)
		}
	}
	if r.FirstCrash != nil {
		j.FirstCrash = r.FirstCrash.String()
	}
	for _, m := range r.Mismatches {
		j.Mismatches = append(j.Mismatches, m.String())
	}
	return j
}

func printReplay(w io.Writer, path string, r session.ReplayResult, partial bool) error {
	p := printer{w: w}
	p.f("%s: %s, %s, %s passed, %d failed\n", report.Printable(path), report.Count(r.Ops, "operation"),
		report.Count(r.Processes, "process"), report.Count(r.ExecPassed, "exec"), r.ExecFailed)
	if len(r.Tests) > 0 {
		p.f("  tests             %d of %d passed", r.TestsPassed(), len(r.Tests))
		for _, t := range r.Tests {
			if !t.Passed {
				p.f(", the first to fail is %q", t.Name)
				break
			}
		}
		p.f("\n")
	}
	p.f("  faults            %s\n", faultWords(r.Stats.Faults))
	p.f("  huge pages        %d assembled, %d mapped whole, %d in 4 KiB entries, %d split\n", r.Stats.Assembled,
		r.Stats.HugeMapped, r.Stats.HugeScattered, r.Stats.Splits)
	p.f("  first assembly    %s\n", momentWords(r.FirstAssembly))
	p.f("  first wrong byte  %s\n", momentWords(r.FirstWrong))
	if r.WrongLine != "" {
		p.f("                    %s\n", r.WrongLine)
	}
	p.f("  verified          %s\n", tallyWords(r.Tally))
	if r.Skipped > 0 {
		p.f("  skipped           %s of processes that had crashed\n", report.Count(r.Skipped, "operation"))
	}
	if r.FirstCrash != nil {
		p.f("  first crash       %s\n", r.FirstCrash)
	}
	shown := r.Mismatches[:min(len(r.Mismatches), mostLines)]
	for _, m := range shown {
		p.f("%s\n", m)
	}
	if left := r.Mismatched - len(shown); left > 0 {
		p.f("... and %d more answers that are not the trace's (-o json has 1000)\n", left)
	}
	printFailures(&p, r.Failures, r.Tally.Failures)
	if partial {
		p.f("  the trace was not run to its end: the result is partial\n")
	}
	return p.err
}
