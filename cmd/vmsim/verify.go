package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	root "vmsim"
	"vmsim/internal/part"
	"vmsim/internal/report"
	"vmsim/internal/session"
)

type verifyFlags struct {
	machineFlags
	foreign     memoryFlags
	filesFrom   string
	digest      bool
	jobs        int
	maxFailures int
	shard       string
	part        string
	resume      string
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

A directory is walked, links in it are not followed, and each file is verified
once, by device and inode. What is no ELF file is only counted. Without a PATH,
the corpus built into the program is verified.

The table has a line for each file: PAGES touched in each exec; faults of all
processes (MINOR, MAJOR, COW); WINDOWS assembled, and how many of their 512
sub-pages each came FROM CACHE, FROM FILE, or are ZERO; BOUNDARY pages, which
segments cover only in part; SHARED pages of the file, which two segments use;
bytes COMPARED.

A large corpus can be split: --shard I/N takes the files whose path hashes to I,
and --part FILE keeps their results for "vmsim report merge". A run that was
killed or interrupted goes on with --resume FILE; see docs/scale-out.md. How far a
run is, its speed and its slowest files are told on standard error.

Memory that is not ours is compared with the files that are mapped there. --pid
takes live Linux processes: the pages that are in memory, by Linux's rules, and
nothing is faulted in. --core takes ELF cores. The table has a line for each
mapping of a file: pages RESIDENT (or HELD), VERIFIED, PRIVATE to the process,
WRITTEN where the file's headers permit it, and with FINDINGS: modified text,
breakpoints, modified read-only data, clean pages that differ. --window takes 2
MiB that some kernel assembled for ELF at ADDR, and gives kwab-verify's events.`,
		Example: `  vmsim verify
  vmsim verify /bin/busybox /bin/ls
  vmsim verify --bug boundary-copy testdata/elf/kevlar-layout
  vmsim verify -o junit /usr/bin > report.xml
  vmsim verify --jobs 8 --shard 3/16 --part 3.part /usr
  find / -name '*.so*' -print0 | vmsim verify --files-from -
  vmsim verify --pid all
  vmsim verify --core core.1234 -o jsonl
  vmsim verify --window dump@0x400000 --truth linux /bin/busybox`,
		RunE: func(cmd *cobra.Command, paths []string) error { return f.run(cmd, paths) },
	}
	f.register(cmd, report.Formats...)
	f.foreign.register(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.filesFrom, "files-from", "", "verify also the paths listed in `FILE` (- is standard input), separated by NUL or newline")
	fs.BoolVar(&f.digest, "digest", false, "add the SHA-256 of each image, and of each window to its event")
	fs.IntVar(&f.jobs, "jobs", runtime.GOMAXPROCS(0), "verify `N` files at a time, each in a machine with --memory; with --events one")
	fs.Lookup("jobs").DefValue = "CPUs" // help and man page are the same on all machines
	fs.IntVar(&f.maxFailures, "max-failures", 0, "stop after `N` files have failed (0: never)")
	fs.StringVar(&f.shard, "shard", "", "verify shard `I/N` of the files only, I from 1 to N")
	fs.StringVar(&f.part, "part", "", "keep the results in `FILE`, for report merge and --resume")
	fs.StringVar(&f.resume, "resume", "", "go on with the run that was writing part `FILE`, or begin it")
	return cmd
}

func (f *verifyFlags) run(cmd *cobra.Command, paths []string) (err error) {
	if f.foreign.asked(cmd) {
		return f.foreign.run(cmd, &f.machineFlags, paths)
	}
	if f.jobs < 1 {
		return fmt.Errorf("--jobs: %d is less than 1", f.jobs)
	}
	if f.maxFailures < 0 {
		return fmt.Errorf("--max-failures: %d is negative", f.maxFailures)
	}
	shard, shards, err := parseShard(f.shard)
	if err != nil {
		return fmt.Errorf("--shard: %w", err)
	}
	ctx := cmd.Context()
	opt, format, err := f.options(ctx, append(paths, f.filesFrom)...)
	if err != nil {
		return err
	}
	defer f.finish(&err)
	opt.Digest = f.digest
	v := &verification{cmd: cmd, format: format}
	if v.out, err = newVerifyReport(cmd, format, f.digest); err != nil {
		return err
	}
	corpus, err := f.corpus(cmd, paths, v.listTrouble)
	if err != nil && ctx.Err() == nil { // interrupted: there is nothing, and that is told
		return err
	}
	for i, s := range corpus.Sources {
		if session.Shard(s.Path, shards) == shard {
			v.index = append(v.index, i)
			v.sources = append(v.sources, s)
		}
	}
	v.total = len(v.sources)
	v.out.addCounts(corpus.NotELF, corpus.PassedOver)
	if ctx.Err() == nil { // else the list is not whole: a part of it could not be resumed
		err = v.openPart(f, part.Header{Shard: shard, Shards: shards, Files: len(corpus.Sources), ListSHA256: corpus.Digest(),
			Options: f.partOptions(opt), NotELF: corpus.NotELF, PassedOver: corpus.PassedOver, Trouble: v.listTroubles})
		if err != nil {
			return err
		}
	}
	var enough atomic.Bool
	limit := func() {
		if f.maxFailures > 0 && v.out.sum.Failed >= f.maxFailures || v.err != nil {
			enough.Store(true)
		}
	}
	limit() // a part that is resumed may have reached it
	opt.Stop = func() bool { return enough.Load() || ctx.Err() != nil }
	p := startPace(cmd, format, len(v.sources), v.done)
	err = session.VerifyAll(opt, v.sources[v.done:], f.jobs, func(_ int, o session.Outcome) {
		v.take(o)
		p.step(v.out, o)
		limit()
	}, opt.Stop)
	p.stop()
	if v.err == nil {
		v.err = err
	}
	return v.end(ctx.Err() != nil)
}

// end closes part and report; its error says how it went.
func (v *verification) end(interrupted bool) error {
	partial := ""
	switch {
	case interrupted:
		partial = "interrupted"
	case v.done < v.total:
		partial = "stopped after " + report.Count(v.out.sum.Failed, "failed file")
	}
	if v.journal != nil {
		end := v.journal.Finish
		if partial != "" || v.err != nil {
			end = v.journal.Leave
		}
		if err := end(); v.err == nil {
			v.err = err
		}
	}
	if v.err == nil && (v.troubles == 0 || partial != "" || v.out.any()) {
		v.err = v.out.close(partial)
	}
	switch {
	case v.err != nil:
		return v.err
	case interrupted:
		return outcome(exitInterrupted)
	case v.troubles > 0:
		return outcome(exitUsage)
	case v.out.sum.Failed > 0:
		return outcome(exitMismatch)
	}
	return nil
}

// parseShard reads I/N, from 1. The empty one is all there is.
func parseShard(s string) (shard, shards int, err error) {
	if s == "" {
		return 1, 1, nil
	}
	i, n, ok := strings.Cut(s, "/")
	if ok {
		shard, err = strconv.Atoi(i)
	}
	if ok && err == nil {
		shards, err = strconv.Atoi(n)
	}
	if !ok || err != nil || shard < 1 || shard > shards {
		return 0, 0, fmt.Errorf("%q is not I/N with I from 1 to N", s)
	}
	return shard, shards, nil
}

// partOptions are the options that change what is found.
func (f *verifyFlags) partOptions(opt session.Options) map[string]any {
	bugs := slices.Sorted(slices.Values(opt.Bugs))
	return map[string]any{"threshold": opt.Threshold, "bug": slices.Compact(bugs), "memory": opt.Memory, "digest": opt.Digest}
}

// corpus lists what to verify: what the user named, or the files built in.
func (f *verifyFlags) corpus(cmd *cobra.Command, paths []string, trouble func(error)) (c session.Corpus, err error) {
	if len(paths) > 0 || f.filesFrom != "" {
		return findFiles(cmd, paths, f.filesFrom, trouble)
	}
	for _, file := range root.Corpus() {
		c.Sources = append(c.Sources, session.Source{Path: file.Name(), File: file, Named: true})
	}
	return c, nil
}

// verification is a run of verify over a corpus, or over a shard of one.
type verification struct {
	cmd    *cobra.Command
	format report.Format
	out    *verifyReport

	sources []session.Source // of this shard
	index   []int            // of each in the list of all shards
	total   int              // of them; or in all parts
	done    int              // how many have an outcome

	listTroubles []string
	troubles     int
	journal      *part.Journal // nil without a part
	err          error         // of verifying, or of writing
}

// trouble tells what was wrong with the input; the exit code is then 2.
func (v *verification) trouble(text string) {
	v.troubles++
	complain(v.cmd.ErrOrStderr(), errors.New(text))
}

func (v *verification) listTrouble(err error) {
	v.listTroubles = append(v.listTroubles, plain(err))
	v.trouble(plain(err))
}

// openPart begins or resumes the part of --part or --resume, and takes the rows
// that are there.
func (v *verification) openPart(f *verifyFlags, h part.Header) (err error) {
	h.Version = version()
	switch {
	case f.part != "" && f.resume != "" && f.part != f.resume:
		return errors.New("--part and --resume name two files")
	case f.resume != "":
		v.journal, err = part.Resume(f.resume, h, v.takeRow)
		if err != nil {
			return fmt.Errorf("--resume: %w", err)
		}
	case f.part != "":
		if v.journal, err = part.Create(f.part, h); err != nil {
			return fmt.Errorf("--part: %w", err)
		}
	}
	return nil
}

// takeRow takes a file's outcome from the part that is resumed.
func (v *verification) takeRow(row part.Row) error {
	if v.done >= len(v.index) || row.Index != v.index[v.done] {
		return fmt.Errorf("%w: row %d is not the next of the shard", part.ErrFormat, row.Index)
	}
	return v.addRow(row)
}

// take takes a file's outcome.
func (v *verification) take(o session.Outcome) {
	if v.err != nil {
		return
	}
	if o.Result.Reason == session.ErrStopped.Error() { // what is known of it; a resumed run begins with it
		v.err = v.out.add(newFileRecord(o.Result))
		return
	}
	source := v.sources[v.done]
	row := part.Row{Index: v.index[v.done], Seconds: o.Elapsed.Seconds(), NotELF: o.NotELF}
	if o.NotELF == "" {
		r := newFileRecord(o.Result)
		if row.Result, v.err = json.Marshal(r); v.err != nil {
			return
		}
		if source.Named && o.Result.Verdict == session.Skipped {
			row.Trouble = r.Path + ": " + r.Reason
		}
	}
	if v.journal != nil {
		v.err = v.journal.Add(row)
	}
	if v.err == nil {
		v.err = v.addRow(row)
	}
}

// addRow reports a file's outcome, from this run or from a part.
func (v *verification) addRow(row part.Row) error {
	v.done++
	if row.NotELF != "" {
		v.out.addNotELF(row.NotELF)
		return nil
	}
	if row.Trouble != "" {
		v.trouble(row.Trouble)
		if v.total == 1 && v.format == report.Table {
			return nil // its line is enough
		}
	}
	r, err := parseFileRecord(row.Result)
	if err != nil {
		return fmt.Errorf("%w: row %d: %w", part.ErrFormat, row.Index, err)
	}
	return v.out.add(r)
}
