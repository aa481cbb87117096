package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"vmsim/hugepage"
	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/vm"
)

type replayFlags struct {
	machineFlags
	policy  string
	areas   int
	sysroot string
	force   bool
	compare string
	pprof   string
	by      string
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
ARCHITECTURE.md; - is standard input.

A recording says nothing of what was written: a page is compared when it is
first touched, and not once it may be dirty. What nothing is known of (the vdso,
arguments, files that are gone or changed) is counted and named. The programs
must be the files that were recorded, there or below --sysroot.

A touch that meets no memory does not end the process, its recorded exit does:
it may have handled the signal. Such touches are counted.

--compare runs the trace a second time, on a machine with other flags:
--threshold, --policy, --bug, --fault-around, --hardening, --memory.`,
		Example: `  vmsim replay testdata/traces/shell-loop.trace
  vmsim replay --bug index-collision testdata/traces/case-a.trace
  vmsim replay --compare '--threshold 600' --pprof faults.pb.gz build.vmt`,
		Args: want("trace", true),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a) },
	}
	f.register(cmd, report.Formats...)
	fs := cmd.Flags()
	fs.StringVar(&f.policy, "policy", hugepage.DefaultPolicy, "`NAME` of the policy that assembles")
	fs.IntVar(&f.areas, "max-areas", vm.MaxAreas, "let a process have `N` areas (vm.max_map_count)")
	fs.StringVar(&f.sysroot, "sysroot", "", "look for the files of a recording below the folder `DIR`")
	fs.BoolVar(&f.force, "force", false, "run binaries that are other files today, and answer what the trace does not tell")
	fs.StringVar(&f.compare, "compare", "", "run the trace again with other `FLAGS`, and print both")
	fs.StringVar(&f.pprof, "pprof", "", "write a profile of a recording's faults to `FILE`, for go tool pprof")
	fs.StringVar(&f.by, "by", "trace", "a row of csv and markdown is a `WHAT`: trace, or program of a recording")
	complete(cmd, "policy", hugepage.PolicyNames()...)
	complete(cmd, "by", "trace", "program")
	return cmd
}

// mostAreas bounds --max-areas: so many take a gigabyte.
const mostAreas = 1 << 22

// check checks the flags that replay has alone, and completes opt.
func (f *replayFlags) check(opt *session.Options) error {
	if _, err := hugepage.NewPolicy(f.policy, f.threshold); err != nil {
		return fmt.Errorf("--policy: %w", err)
	}
	if f.areas < 1 || f.areas > mostAreas {
		return fmt.Errorf("--max-areas: %d is not in 1 to %d", f.areas, mostAreas)
	}
	opt.Policy, opt.MaxAreas = f.policy, f.areas
	if f.by != "trace" && f.by != "program" {
		return fmt.Errorf("--by: %q is none of trace, program", f.by)
	}
	if f.sysroot != "" {
		if st, err := os.Stat(f.sysroot); err != nil {
			return fmt.Errorf("--sysroot: %w", err)
		} else if !st.IsDir() {
			return fmt.Errorf("--sysroot: %s is not a folder", f.sysroot)
		}
	}
	return nil
}

func (f *replayFlags) run(cmd *cobra.Command, paths []string) (err error) {
	ctx := cmd.Context()
	opt, format, err := f.options(ctx, paths...)
	if err != nil {
		return err
	}
	defer f.finish(&err)
	if err := f.check(&opt); err != nil {
		return err
	}
	r := replayer{cmd: cmd, flags: f, format: format}
	r.machines = []replayMachine{{opt: opt, replay: session.ReplayOptions{Sysroot: f.sysroot, Force: f.force}}}
	if f.pprof != "" {
		if same(f.pprof, paths) {
			return fmt.Errorf("--pprof: %s is an input", f.pprof)
		}
		r.machines[0].replay.Profile = &session.Profile{}
	}
	if f.compare != "" {
		if slices.Contains(paths, "-") {
			return errors.New("--compare: standard input cannot be read twice")
		}
		other, err := f.other(opt)
		if err != nil {
			return fmt.Errorf("--compare: %w", err)
		}
		r.machines = append(r.machines, replayMachine{name: f.compare, opt: other, replay: session.ReplayOptions{Sysroot: f.sysroot, Force: f.force}})
	}
	for i := range r.machines {
		m := &r.machines[i]
		if m.rig, err = session.NewRig(m.opt); err != nil {
			return err
		}
		defer m.rig.Close()
	}
	result := r.all(ctx, paths)
	if p := r.machines[0].replay.Profile; p != nil {
		if err := writeProfile(f.pprof, p); err != nil {
			return fmt.Errorf("--pprof: %w", err)
		}
	}
	return result
}

// same reports whether out is one of the inputs.
func same(out string, inputs []string) bool {
	o, err := os.Stat(out)
	for _, path := range inputs {
		if in, e := os.Stat(path); err == nil && e == nil && os.SameFile(in, o) {
			return true
		}
	}
	return false
}

func writeProfile(path string, p *session.Profile) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(p.Write(out), out.Close())
}

// replayMachine is a machine that traces are run on.
type replayMachine struct {
	name   string // flags of --compare; "" is the command's own
	opt    session.Options
	replay session.ReplayOptions
	rig    *session.Rig
}

// replayer runs traces on one machine, or on two.
type replayer struct {
	cmd      *cobra.Command
	flags    *replayFlags
	format   report.Format
	machines []replayMachine

	bad, trouble bool
}

// all runs all traces and writes what they came to.
func (r *replayer) all(ctx context.Context, paths []string) error {
	out := newReplayReport(r.cmd.OutOrStdout(), r.format, r.flags.by == "program", len(r.machines) > 1)
	for _, path := range paths {
		if err := r.one(ctx, out, path); err != nil {
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
	case r.trouble:
		return outcome(exitUsage)
	case r.bad:
		return outcome(exitMismatch)
	}
	return nil
}

// one runs a trace on each machine. The error is one of writing.
func (r *replayer) one(ctx context.Context, out *replayReport, path string) error {
	var results []replayed
	for _, m := range r.machines {
		res, err := r.replay(ctx, &m, path)
		if err != nil && ctx.Err() == nil {
			r.trouble = true
			if len(results) == 0 || results[0].err == nil { // it would say the same again
				complain(r.cmd.ErrOrStderr(), err)
			}
			if res.Ops == 0 {
				break
			}
		}
		r.bad = r.bad || !res.OK()
		results = append(results, replayed{m.name, res, err})
		if ctx.Err() != nil {
			break
		}
	}
	if len(results) == 0 {
		return nil
	}
	return out.add(path, results)
}

// replay runs a trace on a machine.
func (r *replayer) replay(ctx context.Context, m *replayMachine, path string) (session.ReplayResult, error) {
	name, open := path, openPath(path)
	if path == "-" {
		name = "standard input"
		open = func() (io.ReadCloser, error) { return io.NopCloser(r.cmd.InOrStdin()), nil }
	}
	in := openInput(ctx, open)
	defer in.Close()
	show := startReplayPace(r.cmd, path, in)
	defer show.stop()
	return m.rig.ReplayWith(name, show, m.opt.Stop, m.replay)
}
