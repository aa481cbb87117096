package main

import (
	"fmt"
	"io"
	"strings"

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
	f.register(cmd, report.Formats...)
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
	if err := printStress(cmd.OutOrStdout(), format, path, res, interrupted); err != nil {
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

func toStressJSON(path string, r session.StressResult, partial bool) stressJSON {
	return stressJSON{"stress", path, r.Execs, r.Passed, moment(r.FirstAssembly), moment(r.FirstWrong), r.WrongLine,
		r.Stats.Faults, r.CachedPages, r.Tally.Windows, r.Tally.WindowsVerified, r.Tally.Pages, r.Tally.BytesCompared,
		r.Tally.Failures, r.Stats.OOMKills, partial}
}

// stressColumns are one row.
var stressColumns = []report.Column{
	{Key: "file", Title: "FILE", Text: true},
	{Key: "execs", Title: "EXECS"},
	{Key: "passed", Title: "PASSED"},
	{Key: "first_assembly_exec", Title: "FIRST ASSEMBLY"},
	{Key: "first_wrong_exec", Title: "FIRST WRONG"},
	{Key: "minor", Title: "MINOR"},
	{Key: "major", Title: "MAJOR"},
	{Key: "cow", Title: "COW"},
	{Key: "cached_pages", Title: "CACHED"},
	{Key: "windows", Title: "WINDOWS"},
	{Key: "windows_verified", Title: "VERIFIED"},
	{Key: "pages_compared", Title: "PAGES"},
	{Key: "bytes_compared", Title: "COMPARED"},
	{Key: "failures", Title: "FAILURES"},
	{Key: "oom_kills", Title: "OOM KILLS"},
}

// printStress writes a stress run: as one object, as a row, or in words.
func printStress(w io.Writer, format report.Format, path string, r session.StressResult, partial bool) error {
	j := toStressJSON(path, r, partial)
	switch format {
	case report.JSON:
		return report.WriteJSON(w, j)
	case report.JSONL:
		return report.WriteJSONL(w, j)
	}
	out := report.NewWriter(w, format, false, report.Doc{Name: "vmsim stress", Columns: stressColumns})
	it := report.Item{Case: report.Case{Class: path, Name: report.Count(r.Execs, "execution")}}
	if r.Passed < r.Execs || r.Tally.Failures > 0 {
		it.Case.Failure = fmt.Sprintf("%d of %d passed", r.Passed, r.Execs)
		it.Case.Body = strings.Join(failureLines(r.Failures), "\n")
	}
	lines := failureWords(r.Failures, r.Tally.Failures)
	if format == report.Table { // one row is read better in words
		lines = append(stressWords(path, r), lines...)
	} else {
		f := r.Stats.Faults
		it.Cells = []any{path, r.Execs, r.Passed, momentCell(r.FirstAssembly), momentCell(r.FirstWrong), f.Minor, f.Major, f.CoW,
			r.CachedPages, r.Tally.Windows, r.Tally.WindowsVerified, r.Tally.Pages, report.Size(r.Tally.BytesCompared),
			r.Tally.Failures, r.Stats.OOMKills}
	}
	if err := out.Add(it); err != nil {
		return err
	}
	if partial {
		lines = append(lines, "interrupted: the result is partial")
	}
	return out.Close(report.Summary{Object: j, Lines: lines})
}

// stressWords says what a stress run found.
func stressWords(path string, r session.StressResult) []string {
	lines := []string{
		fmt.Sprintf("%s: %s, %d passed", report.Printable(path), report.Count(r.Execs, "execution"), r.Passed),
		"  first assembly    " + momentWords(r.FirstAssembly),
		"  first wrong byte  " + momentWords(r.FirstWrong),
	}
	if r.WrongLine != "" {
		lines = append(lines, "                    "+r.WrongLine)
	}
	lines = append(lines, "  faults            "+faultWords(r.Stats.Faults),
		fmt.Sprintf("  page cache        %s of the file", report.Count(r.CachedPages, "page")))
	if r.Stats.OOMKills > 0 {
		lines = append(lines, fmt.Sprintf("  out of memory     %s killed", report.Count(r.Stats.OOMKills, "process")))
	}
	return append(lines, "  verified          "+tallyWords(r.Tally))
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

// momentCell is the exec of a moment; nothing for never.
func momentCell(m session.Moment) any {
	if m == (session.Moment{}) {
		return nil
	}
	return m.Exec
}

func faultWords(f vm.Faults) string {
	return fmt.Sprintf("%d minor, %d major, %d CoW", f.Minor, f.Major, f.CoW)
}
