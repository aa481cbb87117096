package main

import (
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	root "vmsim"
	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/vm"
)

type verifyFlags struct {
	machineFlags
	filesFrom string
	digest    bool
	jobs      int
}

func newVerifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use:   "verify [PATH...]",
		Short: "Compare every page of ELF files with the truth, through three execs",
		Long: `verify maps each ELF64 x86-64 executable, PIE or shared object alone in a fresh
machine, and compares every byte that the process sees with the file:

  1. exec with nothing cached, touch every page;
  2. exec again: windows with enough cached pages are assembled into huge pages,
     each verified before it is mapped; touch again, check permissions;
  3. write to every writable page, exec a third time beside it.

A directory is walked. Without a PATH, the corpus built into the program is
verified.`,
		Example: `  vmsim verify
  vmsim verify /bin/busybox /bin/ls
  vmsim verify --bug boundary-copy testdata/elf/kevlar-layout
  find /usr/lib -name '*.so*' -print0 | vmsim verify --files-from - -o jsonl`,
		RunE: func(cmd *cobra.Command, paths []string) error { return f.run(cmd, paths) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.filesFrom, "files-from", "", "read paths from `FILE` (- is standard input), separated by NUL or newline")
	cmd.Flags().BoolVar(&f.digest, "digest", false, "add the SHA-256 of each assembled window and of each image")
	cmd.Flags().IntVar(&f.jobs, "jobs", runtime.NumCPU(), "files verified at a time; with --events one")
	return cmd
}

func (f *verifyFlags) run(cmd *cobra.Command, paths []string) (err error) {
	if f.jobs < 1 {
		return usageError{fmt.Errorf("--jobs: %d is less than 1", f.jobs)}
	}
	opt, format, err := f.options()
	if err != nil {
		return err
	}
	defer f.finish(&err)
	opt.Digest = f.digest
	trouble := 0
	sources, err := f.sources(cmd, paths, func(e error) {
		trouble++
		fmt.Fprintf(cmd.ErrOrStderr(), "vmsim: %v\n", e)
	})
	if err != nil {
		return err
	}
	jobs := f.jobs
	if f.events != "" {
		jobs = 1 // the events of one file after those of another
	}
	out := newVerifyReport(cmd.OutOrStdout(), format)
	single := len(sources) == 1 && sources[0].Named
	ctx := cmd.Context()
	notELF, err := session.VerifyAll(opt, sources, jobs, func(r session.FileResult) {
		out.add(r, single && format == report.Table)
	}, func() bool { return ctx.Err() != nil })
	if err != nil {
		return err
	}
	interrupted := ctx.Err() != nil
	if err := out.close(notELF, interrupted); err != nil {
		return err
	}
	switch {
	case interrupted:
		return outcome(exitInterrupted)
	case out.sum.failed > 0:
		return outcome(exitMismatch)
	case single && out.sum.skipped == 1:
		return fmt.Errorf("%s: skipped: %s", sources[0].Path, out.lastReason)
	case trouble > 0:
		return outcome(exitUsage)
	}
	return nil
}

// sources lists what to verify: the arguments, the list of --files-from, or
// the corpus built in.
func (f *verifyFlags) sources(cmd *cobra.Command, paths []string, trouble func(error)) ([]session.Source, error) {
	if f.filesFrom != "" {
		in := cmd.InOrStdin()
		if f.filesFrom != "-" {
			file, err := os.Open(f.filesFrom)
			if err != nil {
				return nil, err
			}
			defer file.Close()
			in = file
		}
		list, err := session.ReadList(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.filesFrom, err)
		}
		paths = append(paths, list...)
	}
	if len(paths) > 0 || f.filesFrom != "" {
		return session.Expand(paths, trouble), nil
	}
	var builtIn []session.Source
	for _, file := range root.Corpus() {
		builtIn = append(builtIn, session.Source{Path: file.Name(), File: file, Named: true})
	}
	return builtIn, nil
}

// fileJSON is a result in json and jsonl.
type fileJSON struct {
	Type          string    `json:"type"`
	Path          string    `json:"path"`
	Verdict       string    `json:"verdict"`
	Reason        string    `json:"reason"`
	Pages         int       `json:"pages"`
	Faults        vm.Faults `json:"faults"`
	Windows       int       `json:"windows"`
	FromCache     int       `json:"from_cache"`
	FromFile      int       `json:"from_file"`
	Zero          int       `json:"zero"`
	Boundary      int       `json:"boundary_pages"`
	SharedIndexes int       `json:"shared_indexes"`
	BytesCompared uint64    `json:"bytes_compared"`
	Failures      int       `json:"failures"`
	FailureLines  []string  `json:"failure_lines,omitempty"`
	ImageSHA256   string    `json:"image_sha256"`
}

func toJSON(r session.FileResult) fileJSON {
	j := fileJSON{Type: "file", Path: r.Path, Verdict: string(r.Verdict), Reason: r.Reason, Pages: r.Pages,
		Faults: r.Faults, Windows: r.Windows, FromCache: r.FromCache, FromFile: r.FromFile, Zero: r.Zero,
		Boundary: r.Boundary, SharedIndexes: r.SharedIndexes, BytesCompared: r.BytesCompared,
		Failures: r.Failures, ImageSHA256: r.ImageSHA256}
	for _, e := range r.FailureEvents {
		j.FailureLines = append(j.FailureLines, fmt.Sprint(e))
	}
	return j
}

// verifyReport writes results as they come (jsonl) or at the end.
type verifyReport struct {
	w          io.Writer
	format     report.Format
	rows       report.Rows
	failures   []string
	files      []fileJSON
	sum        verifySum
	lastReason string
	err        error
}

type verifySum struct {
	ok, failed, skipped, windows, failures int
	bytes                                  uint64
}

func newVerifyReport(w io.Writer, format report.Format) *verifyReport {
	return &verifyReport{w: w, format: format, rows: report.Rows{Header: []string{"FILE", "VERDICT", "PAGES", "MINOR",
		"MAJOR", "COW", "WINDOWS", "FROM CACHE", "FROM FILE", "ZERO", "BOUNDARY", "SHARED", "COMPARED"}}}
}

// add takes a result. quiet leaves a skipped file to the error message.
func (v *verifyReport) add(r session.FileResult, quiet bool) {
	switch r.Verdict {
	case session.OK:
		v.sum.ok++
	case session.Fail:
		v.sum.failed++
	default:
		v.sum.skipped++
		v.lastReason = r.Reason
	}
	v.sum.windows += r.Windows
	v.sum.failures += r.Failures
	v.sum.bytes += r.BytesCompared
	switch v.format {
	case report.JSONL:
		if v.err == nil {
			v.err = report.WriteJSONL(v.w, toJSON(r))
		}
	case report.JSON:
		v.files = append(v.files, toJSON(r))
	default:
		v.addRow(r, quiet)
	}
}

func (v *verifyReport) addRow(r session.FileResult, quiet bool) {
	if r.Verdict == session.Skipped {
		if !quiet {
			v.rows.Add(r.Path, "skipped: "+r.Reason)
		}
		return
	}
	v.rows.Add(r.Path, string(r.Verdict), r.Pages, r.Faults.Minor, r.Faults.Major, r.Faults.CoW, r.Windows,
		r.FromCache, r.FromFile, r.Zero, r.Boundary, r.SharedIndexes, report.Bytes(r.BytesCompared))
	if r.Verdict != session.Fail {
		return
	}
	v.failures = append(v.failures, fmt.Sprintf("\n%s: %d failures", r.Path, r.Failures))
	for _, e := range r.FailureEvents {
		v.failures = append(v.failures, fmt.Sprint(e))
	}
	if left := r.Failures - len(r.FailureEvents); left > 0 {
		v.failures = append(v.failures, fmt.Sprintf("... and %d more", left))
	}
	if r.Reason != "" {
		v.failures = append(v.failures, "ended early: "+r.Reason)
	}
}

// close writes what was kept back.
func (v *verifyReport) close(notELF int, partial bool) error {
	if v.err != nil || v.format == report.JSONL {
		return v.err
	}
	s := v.sum
	if v.format == report.JSON {
		return report.WriteJSON(v.w, struct {
			Files         []fileJSON `json:"files"`
			OK            int        `json:"ok"`
			Failed        int        `json:"failed"`
			Skipped       int        `json:"skipped"`
			NotELF        int        `json:"not_elf"`
			Windows       int        `json:"windows"`
			BytesCompared uint64     `json:"bytes_compared"`
			Failures      int        `json:"failures"`
			Partial       bool       `json:"partial"`
		}{v.files, s.ok, s.failed, s.skipped, notELF, s.windows, s.bytes, s.failures, partial})
	}
	p := printer{w: v.w}
	if len(v.rows.Rows) > 0 {
		p.err = v.rows.Write(v.w)
	}
	for _, line := range v.failures {
		p.f("%s\n", line)
	}
	if len(v.rows.Rows) > 0 || notELF > 0 || partial {
		p.f("\n%d ok, %d failed, %d skipped", s.ok, s.failed, s.skipped)
		if notELF > 0 {
			p.f(", %d not ELF", notELF)
		}
		p.f("; %d windows assembled, %s compared, %d failures\n", s.windows, report.Bytes(s.bytes), s.failures)
		if partial {
			p.f("interrupted: the result is partial\n")
		}
	}
	return p.err
}
