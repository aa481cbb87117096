package main

import (
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
	f.register(cmd, report.Formats...)
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
	out := newReplayReport(cmd.OutOrStdout(), format)
	bad, trouble := false, false
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
		if err := out.add(path, res, err); err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if err := out.close(); err != nil {
		return err
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
