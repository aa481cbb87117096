package main

import (
	"fmt"
	"io"
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
verified.

The table has a line for each file: PAGES touched in each exec; faults of all
processes (MINOR, MAJOR, COW); WINDOWS assembled, and how many of their 512
sub-pages each came FROM CACHE, FROM FILE, or are ZERO; BOUNDARY pages, which
segments cover only in part; SHARED pages of the file, which two segments use;
bytes COMPARED.`,
		Example: `  vmsim verify
  vmsim verify /bin/busybox /bin/ls
  vmsim verify --bug boundary-copy testdata/elf/kevlar-layout
  find /usr/lib -name '*.so*' -print0 | vmsim verify --files-from - -o jsonl`,
		RunE: func(cmd *cobra.Command, paths []string) error { return f.run(cmd, paths) },
	}
	f.register(cmd, "table", "json", "jsonl")
	cmd.Flags().StringVar(&f.filesFrom, "files-from", "", "verify also the paths listed in `FILE` (- is standard input), separated by NUL or newline")
	cmd.Flags().BoolVar(&f.digest, "digest", false, "add the SHA-256 of each image, and of each window to its event")
	cmd.Flags().IntVar(&f.jobs, "jobs", runtime.NumCPU(), "verify `N` files at a time; with --events one")
	return cmd
}

func (f *verifyFlags) run(cmd *cobra.Command, paths []string) (err error) {
	if f.jobs < 1 {
		return fmt.Errorf("--jobs: %d is less than 1", f.jobs)
	}
	ctx := cmd.Context()
	opt, format, err := f.options(ctx, append(paths, f.filesFrom)...)
	if err != nil {
		return err
	}
	defer f.finish(&err)
	opt.Digest = f.digest
	trouble := 0
	tell := func(e error) {
		trouble++
		complain(cmd.ErrOrStderr(), e)
	}
	sources, err := f.sources(cmd, paths, tell)
	if err != nil && ctx.Err() == nil { // interrupted: there is nothing, and that is told
		return err
	}
	named := map[string]bool{} // arguments: one that is no good is an error, in a list or directory it is skipped
	for _, path := range paths {
		named[path] = true
	}
	out := newVerifyReport(cmd.OutOrStdout(), format, f.digest)
	notELF, err := session.VerifyAll(opt, sources, f.jobs, func(r session.FileResult) {
		if r.Verdict == session.Skipped && named[r.Path] && ctx.Err() == nil {
			tell(fmt.Errorf("%s: %s", r.Path, r.Reason))
			if len(sources) == 1 && format == report.Table {
				return // its line is enough
			}
		}
		out.add(r)
	}, opt.Stop)
	if err != nil {
		return err
	}
	interrupted := ctx.Err() != nil
	if trouble == 0 || interrupted || notELF > 0 || out.any() {
		if err := out.close(notELF, interrupted); err != nil {
			return err
		}
	}
	switch {
	case interrupted:
		return outcome(exitInterrupted)
	case trouble > 0:
		return outcome(exitUsage)
	case out.sum.failed > 0:
		return outcome(exitMismatch)
	}
	return nil
}

// sources lists what to verify: the arguments, the list of --files-from, or
// the corpus built in.
func (f *verifyFlags) sources(cmd *cobra.Command, paths []string, trouble func(error)) ([]session.Source, error) {
	if f.filesFrom != "" {
		open := openPath(f.filesFrom)
		if f.filesFrom == "-" {
			open = func() (io.ReadCloser, error) { return io.NopCloser(cmd.InOrStdin()), nil }
		}
		in := openInput(cmd.Context(), open)
		defer in.Close()
		list, err := session.ReadList(in)
		if err != nil {
			return nil, fmt.Errorf("--files-from: %w", err)
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

// sumJSON is the sum of all files: in json always, in jsonl as the last line of
// a run that was interrupted.
type sumJSON struct {
	Type          string `json:"type"`
	OK            int    `json:"ok"`
	Failed        int    `json:"failed"`
	Skipped       int    `json:"skipped"`
	NotELF        int    `json:"not_elf"`
	Windows       int    `json:"windows"`
	BytesCompared uint64 `json:"bytes_compared"`
	Failures      int    `json:"failures"`
	Partial       bool   `json:"partial"`
}

// verifyReport writes results as they come (jsonl) or at the end.
type verifyReport struct {
	w      io.Writer
	format report.Format
	digest bool
	rows   report.Rows
	notes  []string // below the table
	files  []fileJSON
	sum    verifySum
	err    error
}

type verifySum struct {
	ok, failed, skipped, windows, failures int
	bytes                                  uint64
}

func newVerifyReport(w io.Writer, format report.Format, digest bool) *verifyReport {
	v := &verifyReport{w: w, format: format, digest: digest, files: []fileJSON{}}
	v.rows = report.Rows{Left: 2, Header: []string{"FILE", "VERDICT", "PAGES", "MINOR", "MAJOR", "COW", "WINDOWS",
		"FROM CACHE", "FROM FILE", "ZERO", "BOUNDARY", "SHARED", "COMPARED"}}
	if digest {
		v.rows.Header = append(v.rows.Header, "IMAGE SHA256")
	}
	return v
}

// add takes a result.
func (v *verifyReport) add(r session.FileResult) {
	switch r.Verdict {
	case session.OK:
		v.sum.ok++
	case session.Fail:
		v.sum.failed++
	default:
		v.sum.skipped++
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
		v.addRow(r)
	}
}

func (v *verifyReport) addRow(r session.FileResult) {
	name := report.Printable(r.Path)
	if r.Verdict == session.Skipped {
		v.note("%s: skipped: %s", name, r.Reason)
		if r.BytesCompared == 0 {
			v.rows.Add(r.Path, string(r.Verdict))
			return
		}
	}
	cells := []any{r.Path, string(r.Verdict), r.Pages, r.Faults.Minor, r.Faults.Major, r.Faults.CoW, r.Windows,
		r.FromCache, r.FromFile, r.Zero, r.Boundary, r.SharedIndexes, report.Bytes(r.BytesCompared)}
	if v.digest {
		cells = append(cells, r.ImageSHA256)
	}
	v.rows.Add(cells...)
	if r.Verdict != session.Fail {
		return
	}
	if len(v.notes) > 0 {
		v.note("")
	}
	v.note("%s: %s", name, report.Count(r.Failures, "failure"))
	for _, e := range r.FailureEvents {
		v.note("%v", e)
	}
	if left := r.Failures - len(r.FailureEvents); left > 0 {
		v.note("... and %d more (--events FILE has them all)", left)
	}
	if r.Reason != "" {
		v.note("%s: ended early: %s", name, r.Reason)
	}
}

func (v *verifyReport) note(format string, a ...any) {
	v.notes = append(v.notes, fmt.Sprintf(format, a...))
}

// any reports whether there is a result to write: in json there always is.
func (v *verifyReport) any() bool { return len(v.rows.Rows) > 0 || v.format == report.JSON }

// close writes what was kept back.
func (v *verifyReport) close(notELF int, partial bool) error {
	if v.err != nil {
		return v.err
	}
	s := v.sum
	sum := sumJSON{"summary", s.ok, s.failed, s.skipped, notELF, s.windows, s.bytes, s.failures, partial}
	switch {
	case v.format == report.JSON:
		return report.WriteJSON(v.w, struct {
			Files []fileJSON `json:"files"`
			sumJSON
		}{v.files, sum})
	case v.format == report.JSONL && partial:
		return report.WriteJSONL(v.w, sum)
	case v.format == report.JSONL:
		return nil
	}
	p := printer{w: v.w}
	if len(v.rows.Rows) > 0 {
		p.err = v.rows.Write(v.w)
		p.f("\n")
	}
	for _, line := range v.notes {
		p.f("%s\n", line)
	}
	if len(v.notes) > 0 {
		p.f("\n")
	}
	p.f("%d ok, %d failed, %d skipped", s.ok, s.failed, s.skipped)
	if notELF > 0 {
		p.f(", %d not ELF", notELF)
	}
	p.f("; %s assembled, %s compared, %s\n", report.Count(s.windows, "window"), report.Bytes(s.bytes),
		report.Count(s.failures, "failure"))
	if partial {
		p.f("interrupted: the result is partial\n")
	}
	return p.err
}
