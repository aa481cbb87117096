package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"vmsim/hugepage"
	"vmsim/internal/explain"
	"vmsim/internal/ldso"
	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/vm"
)

type explainFlags struct {
	threshold int
	base      string
	deps      bool
	filesFrom string
	top       int
	format    string
}

func newExplainCommand() *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain ELF...",
		Short: "Why is this binary not huge? Per segment and 2 MiB window, and what would change it",
		Long: `explain reads the headers of ELF files and says of every segment and 2 MiB
window whether it can be a huge page, and if not, why not. Four rules:

  kevlar   the Kevlar kernel assembles a window at exec once --threshold of its
           sub-pages are cached. "yes": one huge entry; "4 KiB": assembled, but
           mapped by 4 KiB entries, as permissions differ
  linux    Linux maps 2 MiB of a file by one entry (read-only file THP and
           khugepaged; or MADV_HUGEPAGE on a file system with large folios): the
           window lies in one mapping, whose address and offset are congruent
           modulo 2 MiB. "depends": on the base, or on nobody writing to it
  aligned  what loaders guarantee at every run: congruent, not writable, 2 MiB
           at least, and for a PIE or library a p_align of 2 MiB
  remap    the program copies its text to huge pages at run time: takes a whole
           window of an executable segment

A PIE or library is shown at a base of 2 MiB, or at --base; an ET_EXEC lies
where it was linked. Then follow what would change it, with the size that the
file would have (computed from the segments, for GNU ld and LLD), and what huge
pages bring.

Of one file every segment and window is shown; of several, of a directory, and
with --deps, one line a file, totals, and the top candidates: those of which
other linker flags would make the most text huge.`,
		Example: `  vmsim explain testdata/elf/huge-incongruent
  vmsim explain --deps /bin/ls
  vmsim explain --top 20 /usr/bin
  vmsim explain -o json testdata/elf/kevlar-layout`,
		RunE: func(cmd *cobra.Command, paths []string) error { return f.run(cmd, paths) },
	}
	fs := cmd.Flags()
	fs.IntVar(&f.threshold, "threshold", hugepage.DefaultThreshold, "kevlar: a window is assembled once `N` of its pages are cached (0: at the first exec; above 512: never)")
	fs.StringVar(&f.base, "base", "", "a PIE or library lies at `ADDR`, a multiple of 4096 (without: at a multiple of 2 MiB)")
	fs.BoolVar(&f.deps, "deps", false, "explain also the interpreter and the libraries that each file needs")
	fs.StringVar(&f.filesFrom, "files-from", "", "explain also the paths listed in `FILE` (- is standard input), separated by NUL or newline")
	fs.IntVar(&f.top, "top", 10, "show the `N` top candidates")
	fs.StringVarP(&f.format, "output", "o", "table", "`FORMAT` of the result: "+strings.Join(report.Formats, ", "))
	complete(cmd, "output", report.Formats...)
	return cmd
}

func (f *explainFlags) run(cmd *cobra.Command, paths []string) error {
	if len(paths) == 0 && f.filesFrom == "" {
		return usageError{errors.New("explain: no ELF file given")}
	}
	opt, err := f.options()
	if err != nil {
		return err
	}
	format, err := report.ParseFormat(f.format, report.Formats)
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	e := &explaining{cmd: cmd, opt: opt, top: f.top, seen: map[mem.FileID]bool{}}
	if e.color, err = colors(cmd); err != nil {
		return err
	}
	if f.deps {
		if e.ldso, err = ldso.Host(); err != nil {
			return fmt.Errorf("--deps: %w", err)
		}
	}
	corpus, err := findFiles(cmd, paths, f.filesFrom, e.tell)
	if err != nil && cmd.Context().Err() == nil {
		return err
	}
	if len(corpus.Sources) == 1 && corpus.Sources[0].Named && !f.deps {
		err = e.one(corpus.Sources[0], format)
	} else {
		err = e.many(corpus, format)
	}
	switch {
	case err != nil:
		return err
	case cmd.Context().Err() != nil:
		return outcome(exitInterrupted)
	case e.trouble > 0:
		return outcome(exitUsage)
	}
	return nil
}

// options checks the flags.
func (f *explainFlags) options() (explain.Options, error) {
	opt := explain.Options{Threshold: f.threshold, Base: vm.PIEBase}
	if f.threshold < 0 {
		return opt, fmt.Errorf("--threshold: %d is negative", f.threshold)
	}
	if f.top < 0 {
		return opt, fmt.Errorf("--top: %d is negative", f.top)
	}
	if f.base != "" {
		base, err := parseBase(f.base)
		if err != nil {
			return opt, fmt.Errorf("--base: %w", err)
		}
		opt.Base, opt.BaseGiven = base, true
	}
	return opt, nil
}

// parseBase reads the address of a page of user space: 0x555555554000.
func parseBase(s string) (mem.VirtAddr, error) {
	var n uint64
	if _, err := fmt.Sscanf(s, "%v", &n); err != nil || fmt.Sprint(n) != s && fmt.Sprintf("%#x", n) != strings.ToLower(s) {
		return 0, fmt.Errorf("%q is not an address like 0x555555554000", s)
	}
	switch a := mem.VirtAddr(n); {
	case a.PageOffset() != 0:
		return 0, fmt.Errorf("%s is not a multiple of 4096", s)
	case a >= mem.UserEnd:
		return 0, fmt.Errorf("%s lies beyond user space, which ends at %v", s, mem.UserEnd)
	default:
		return a, nil
	}
}

// explaining is a run of the command.
type explaining struct {
	cmd     *cobra.Command
	opt     explain.Options
	top     int
	ldso    *ldso.Resolver // nil without --deps
	color   bool           // in tables
	seen    map[mem.FileID]bool
	trouble int // what was told on standard error
}

// tell prints an error as one line.
func (e *explaining) tell(err error) {
	e.trouble++
	complain(e.cmd.ErrOrStderr(), err)
}

// open explains one file. first is false where it was explained before, under
// another name.
func (e *explaining) open(path string) (r *explain.Report, first bool, err error) {
	f, err := mem.OpenFile(path)
	if err != nil {
		return nil, true, err
	}
	defer f.Close()
	if e.seen[f.Identity()] {
		return nil, false, nil
	}
	e.seen[f.Identity()] = true
	r, err = explain.Explain(f, e.opt)
	if err == nil && f.Changed() {
		err = session.ErrChanged
	}
	return r, true, err
}

// all explains the sources, each with its libraries where that was asked for, in
// order, and gives what it finds to one of the functions. It ends early when ctx
// does.
func (e *explaining) all(ctx context.Context, sources []session.Source, each func(path string, r *explain.Report), skip func(path string, err error), notELF func()) {
	for _, s := range sources {
		if ctx.Err() != nil {
			return
		}
		r, first, err := e.open(s.Path)
		switch {
		case !first:
			continue
		case errors.Is(err, loader.ErrNotELF) && !s.Named:
			notELF()
			continue
		case err != nil:
			if s.Named {
				e.tell(withPath(s.Path, err))
			}
			skip(s.Path, err)
			continue
		}
		each(s.Path, r)
		for _, lib := range e.libraries(s.Path) {
			switch r, first, err := e.open(lib); {
			case !first:
			case err != nil:
				e.tell(withPath(lib, err))
				skip(lib, err)
			default:
				each(lib, r)
			}
		}
	}
}

// withPath puts the path in front of an error that does not have it.
func withPath(path string, err error) error {
	if strings.Contains(plain(err), path) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// libraries returns the paths of what path needs, and tells what is missing.
func (e *explaining) libraries(path string) []string {
	if e.ldso == nil {
		return nil
	}
	deps, err := e.ldso.Deps(path)
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range several.Unwrap() {
			e.tell(err)
		}
	} else if err != nil {
		e.tell(withPath(path, err))
	}
	var paths []string
	for _, d := range deps {
		if d.Path != "" {
			paths = append(paths, d.Path)
		}
	}
	return paths
}
