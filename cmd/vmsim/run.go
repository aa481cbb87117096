package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"vmsim/internal/event"
	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/vm"
)

type runFlags struct {
	machineFlags
	verbose bool
	execs   int
	write   bool
}

func newRunCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run ELF",
		Short: "Load one program and its interpreter, touch every page, show what happened",
		Long: `run execs a program, with the interpreter that it names, and touches every page.
It does so --execs times: the first exec finds an empty page cache, the later
ones a warm one. It prints the mappings as /proc/PID/maps would and, for each
exec: pages TOUCHED; faults by kind (MINOR, MAJOR, COW); cached pages that exec
mapped at once (PREFAULTED); HUGE WINDOWS that it mapped, and how many of them
it ASSEMBLED; RESIDENT pages, those of them that a cache or another process
holds too (SHARED), and those IN HUGE ENTRIES. With -v each fault is a line:
what was accessed (area, file+offset), why it faulted, and what was copied.`,
		Example: `  vmsim run -v /bin/true
  vmsim run -v --write testdata/elf/kevlar-layout
  vmsim run --execs 3 --threshold 1 /bin/ls`,
		Args: want("ELF file", false),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a[0]) },
	}
	f.register(cmd, report.Formats...)
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "say of each fault why it happened and what was done")
	cmd.Flags().IntVar(&f.execs, "execs", 2, "exec it `N` times")
	cmd.Flags().BoolVar(&f.write, "write", false, "write to every writable page too, after reading it")
	return cmd
}

func (f *runFlags) run(cmd *cobra.Command, path string) (err error) {
	if f.execs < 1 {
		return fmt.Errorf("--execs: %d is less than 1", f.execs)
	}
	ctx := cmd.Context()
	opt, format, err := f.options(ctx, path)
	if err != nil {
		return err
	}
	defer f.finish(&err)
	prog, closer, err := session.Open(path, true)
	if err != nil {
		return err
	}
	defer closer()
	out := printer{w: cmd.OutOrStdout()}
	if f.verbose {
		if format != report.Table {
			out.w = cmd.ErrOrStderr() // keep standard output to the one format
		}
		words := event.Func(func(e event.Event) {
			if line := session.Words(e); line != "" {
				out.f("%s\n", report.Printable(line))
			}
		})
		if opt.Events != nil {
			opt.Events = session.TeeSink(opt.Events, words)
		} else {
			opt.Events = words
		}
	}
	rig, err := session.NewRig(opt)
	if err != nil {
		return err
	}
	defer rig.Close()
	res, runErr := rig.Run(prog, f.execs, f.write)
	if f.verbose && format == report.Table {
		out.f("\n")
	}
	if out.err != nil {
		return out.err
	}
	if runErr == nil || len(res.Execs) > 0 || ctx.Err() != nil {
		if err := printRun(cmd.OutOrStdout(), format, path, res, runErr); err != nil {
			return err
		}
	}
	switch {
	case ctx.Err() != nil:
		return outcome(exitInterrupted)
	case runErr != nil:
		return fmt.Errorf("%s: %w", path, runErr)
	case res.Tally.Failures > 0:
		return outcome(exitMismatch)
	}
	return nil
}

// runJSON is the result in json and jsonl.
type runJSON struct {
	Type          string     `json:"type"`
	Path          string     `json:"path"`
	Maps          []string   `json:"maps"`
	Execs         []execJSON `json:"execs"`
	CachedPages   int        `json:"cached_pages"`
	HugePages     int        `json:"huge_pages"`
	BytesCompared uint64     `json:"bytes_compared"`
	Failures      int        `json:"failures"`
	Partial       bool       `json:"partial"`
}

type execJSON struct {
	PID        int       `json:"pid"`
	Pages      int       `json:"pages"`
	Faults     vm.Faults `json:"faults"`
	Prefaulted int       `json:"prefaulted"`
	Windows    int       `json:"huge_windows"`
	Assembled  int       `json:"assembled"`
	Resident   int       `json:"resident"`
	Shared     int       `json:"shared"`
	Huge       int       `json:"huge"`
}

func toRunJSON(path string, r session.RunResult, partial bool) runJSON {
	j := runJSON{Type: "run", Path: path, Maps: []string{}, CachedPages: r.Cache, HugePages: r.Huge,
		BytesCompared: r.Tally.BytesCompared, Failures: r.Tally.Failures, Partial: partial}
	for _, m := range r.Maps {
		j.Maps = append(j.Maps, m.String())
	}
	for _, e := range r.Execs {
		j.Execs = append(j.Execs, execJSON{e.PID, e.Pages, e.Faults, e.Prefaulted, e.Windows, e.Assembled,
			e.Residency.Resident, e.Residency.Shared, e.Residency.Huge})
	}
	return j
}

// runColumns are a row for each exec.
var runColumns = []report.Column{
	{Key: "file"},
	{Key: "exec", Title: "EXEC"},
	{Key: "pid", Title: "PID"},
	{Key: "pages", Title: "TOUCHED"},
	{Key: "minor", Title: "MINOR"},
	{Key: "major", Title: "MAJOR"},
	{Key: "cow", Title: "COW"},
	{Key: "prefaulted", Title: "PREFAULTED"},
	{Key: "huge_windows", Title: "HUGE WINDOWS"},
	{Key: "assembled", Title: "ASSEMBLED"},
	{Key: "resident", Title: "RESIDENT"},
	{Key: "shared", Title: "SHARED"},
	{Key: "huge", Title: "IN HUGE ENTRIES"},
	{Key: "failures"},
}

// printRun writes a run, to its end or as far as it came: as one object, or as a
// row for each exec.
func printRun(w io.Writer, format report.Format, path string, r session.RunResult, trouble error) error {
	j := toRunJSON(path, r, trouble != nil)
	switch format {
	case report.JSON:
		return report.WriteJSON(w, j)
	case report.JSONL:
		return report.WriteJSONL(w, j)
	}
	doc := report.Doc{Name: "vmsim run", Columns: runColumns}
	for _, m := range r.Maps {
		doc.Above = append(doc.Above, report.Printable(m.String()))
	}
	out := report.NewWriter(w, format, false, doc)
	for i, e := range r.Execs {
		it := report.Item{Cells: []any{path, i + 1, e.PID, e.Pages, e.Faults.Minor, e.Faults.Major, e.Faults.CoW, e.Prefaulted,
			e.Windows, e.Assembled, e.Residency.Resident, e.Residency.Shared, e.Residency.Huge, e.Failures},
			Case: report.Case{Class: path, Name: fmt.Sprintf("exec %d", i+1)}}
		if e.Failures > 0 {
			it.Case.Failure = report.Count(e.Failures, "failure")
			it.Case.Body = strings.Join(failureLines(e.FailureEvents), "\n")
		}
		if err := out.Add(it); err != nil {
			return err
		}
	}
	if trouble != nil && format == report.JUnit { // the exec that did not come to its end
		c := report.Case{Class: path, Name: fmt.Sprintf("exec %d", len(r.Execs)+1)}
		if errors.Is(trouble, session.ErrStopped) {
			c.Skipped = "interrupted"
		} else {
			c.Failure = session.Reason(trouble)
		}
		if err := out.Add(report.Item{Case: c}); err != nil {
			return err
		}
	}
	return out.Close(report.Summary{Object: j, Lines: runLines(r, trouble != nil)})
}

// runLines are what a run left behind.
func runLines(r session.RunResult, partial bool) []string {
	huge := fmt.Sprintf("huge pages  %d kept", r.Huge)
	if r.Stats.Assembled > 0 {
		huge += fmt.Sprintf("; their sub-pages: %d from the cache, %d from the file, %d zero", r.Stats.FromCache,
			r.Stats.FromFile, r.Stats.Zero)
	}
	lines := []string{
		fmt.Sprintf("page cache  %s (%s)", report.Count(r.Cache, "page"), report.Bytes(uint64(r.Cache)<<12)),
		huge,
		"verified    " + tallyWords(r.Tally),
	}
	lines = append(lines, failureWords(r.Failures, r.Tally.Failures)...)
	if partial {
		lines = append(lines, "not all was run: the result is partial")
	}
	return lines
}
