package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/vm"
)

type stressFlags struct {
	machineFlags
	plan    session.StressPlan
	pattern string
}

func newStressCommand() *cobra.Command {
	var f stressFlags
	cmd := &cobra.Command{
		Use:   "stress ELF",
		Short: "Fork, exec, touch and exit, many times in one machine, verified",
		Long: `stress boots PID 1 with the program, as init, and then forks, execs, touches and
exits --execs times in one machine with one page cache. Every execution touches
the start-up set (the entry page, the first and the last page of each segment)
and --touch pages more; each touch reads all 4096 bytes and compares them. A
process that reads a wrong byte counts as crashed, and so does one that is
killed because memory ran out. The result names the exec, counted from 1, and
the PID of the first huge page assembled and of the first wrong byte.`,
		Example: `  vmsim stress --execs 300 --touch 25 --bug index-collision testdata/elf/kevlar-layout
  vmsim stress --pattern fixed --touch 20 --bug boundary-copy testdata/elf/kevlar-layout`,
		Args: want("ELF file", false),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a[0]) },
	}
	f.register(cmd, "table", "json", "jsonl")
	cmd.Flags().IntVar(&f.plan.Execs, "execs", 300, "fork and exec `N` times after init")
	cmd.Flags().IntVar(&f.plan.Touch, "touch", 20, "touch `N` pages beyond the start-up set")
	cmd.Flags().StringVar(&f.pattern, "pattern", "random", "`PATTERN` of the touches: random, new pages each time, or fixed, the same each time")
	cmd.Flags().Uint64Var(&f.plan.Seed, "seed", 1, "draw the pages from seed `N`")
	complete(cmd, "pattern", "random", "fixed")
	return cmd
}

func (f *stressFlags) run(cmd *cobra.Command, path string) (err error) {
	if f.plan.Pattern, err = session.ParsePattern(f.pattern); err != nil {
		return fmt.Errorf("--pattern: %w", err)
	}
	if f.plan.Execs < 0 {
		return fmt.Errorf("--execs: %d is negative", f.plan.Execs)
	}
	if f.plan.Touch < 0 {
		return fmt.Errorf("--touch: %d is negative", f.plan.Touch)
	}
	ctx := cmd.Context()
	opt, format, err := f.options(ctx, path)
	if err != nil {
		return err
	}
	defer f.finish(&err)
	prog, closer, err := session.Open(path, false)
	if err != nil {
		return err
	}
	defer closer()
	rig, err := session.NewRig(opt)
	if err != nil {
		return err
	}
	defer rig.Close()
	res, err := rig.Stress(prog, f.plan, func() bool { return ctx.Err() != nil })
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	interrupted := ctx.Err() != nil
	if err := f.print(cmd, format, path, res, interrupted); err != nil {
		return err
	}
	switch {
	case interrupted:
		return outcome(exitInterrupted)
	case res.Passed < res.Execs || res.Tally.Failures > 0:
		return outcome(exitMismatch)
	}
	return nil
}

// stressJSON is the result in json and jsonl.
type stressJSON struct {
	Type          string          `json:"type"`
	Path          string          `json:"path"`
	Execs         int             `json:"execs"`
	Passed        int             `json:"passed"`
	FirstAssembly *session.Moment `json:"first_assembly"`
	FirstWrong    *session.Moment `json:"first_wrong"`
	WrongLine     string          `json:"wrong_line,omitempty"`
	Faults        vm.Faults       `json:"faults"`
	CachedPages   int             `json:"cached_pages"`
	Windows       int             `json:"windows"`
	WindowsOK     int             `json:"windows_verified"`
	PagesCompared int             `json:"pages_compared"`
	BytesCompared uint64          `json:"bytes_compared"`
	Failures      int             `json:"failures"`
	OOMKills      int             `json:"oom_kills"`
	Partial       bool            `json:"partial"`
}

func moment(m session.Moment) *session.Moment {
	if m == (session.Moment{}) {
		return nil
	}
	return &m
}

func (f *stressFlags) print(cmd *cobra.Command, format report.Format, path string, r session.StressResult, partial bool) error {
	w := cmd.OutOrStdout()
	j := stressJSON{"stress", path, r.Execs, r.Passed, moment(r.FirstAssembly), moment(r.FirstWrong), r.WrongLine,
		r.Stats.Faults, r.CachedPages, r.Tally.Windows, r.Tally.WindowsVerified, r.Tally.Pages, r.Tally.BytesCompared,
		r.Tally.Failures, r.Stats.OOMKills, partial}
	switch format {
	case report.JSON:
		return report.WriteJSON(w, j)
	case report.JSONL:
		return report.WriteJSONL(w, j)
	}
	p := printer{w: w}
	p.f("%s: %s, %d passed\n", report.Printable(path), report.Count(r.Execs, "execution"), r.Passed)
	p.f("  first assembly    %s\n", momentWords(r.FirstAssembly))
	p.f("  first wrong byte  %s\n", momentWords(r.FirstWrong))
	if r.WrongLine != "" {
		p.f("                    %s\n", r.WrongLine)
	}
	p.f("  faults            %s\n", faultWords(r.Stats.Faults))
	p.f("  page cache        %s of the file\n", report.Count(r.CachedPages, "page"))
	if r.Stats.OOMKills > 0 {
		p.f("  out of memory     %s killed\n", report.Count(r.Stats.OOMKills, "process"))
	}
	p.f("  verified          %s\n", tallyWords(r.Tally))
	printFailures(&p, r.Failures, r.Tally.Failures)
	if partial {
		p.f("interrupted: the result is partial\n")
	}
	return p.err
}

// tallyWords says how much was compared.
func tallyWords(t session.Tally) string {
	return fmt.Sprintf("%d of %d assembled windows, %s, %s compared, %s", t.WindowsVerified, t.Windows,
		report.Count(t.Pages, "page"), report.Bytes(t.BytesCompared), report.Count(t.Failures, "failure"))
}

func momentWords(m session.Moment) string {
	if m == (session.Moment{}) {
		return "never"
	}
	return fmt.Sprintf("at exec %d, PID %d", m.Exec, m.PID)
}

func faultWords(f vm.Faults) string {
	return fmt.Sprintf("%d minor, %d major, %d CoW", f.Minor, f.Major, f.CoW)
}
