package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vmsim/trace"
)

type traceCutFlags struct {
	traceOutputFlags
	pids     string
	tree     bool
	from, to string
}

func newTraceCutCommand() *cobra.Command {
	var f traceCutFlags
	cmd := &cobra.Command{
		Use:   "cut FILE",
		Short: "Write a part of a trace, by process or time, that can be replayed",
		Long: `cut writes the part of a trace that some processes or a span of time make, with
what a replay of it needs of the rest; the header of the result says what is
missing.

  --pid   also keeps each ancestor, with all that it did before the fork that
          leads to the process. Of other children the fork is kept, and an exit
          where they leave their parent's memory.
  --from  also keeps what came before, but for touches: processes, programs,
          mapping calls, files. Present sets of processes that exec'ed before
          are left out, since their touches are.

A trace that is not a file is kept in a temporary one, since cut reads it twice.`,
		Example: `  vmsim trace cut --pid 12 --tree -o make.vmt build.vmt
  vmsim trace cut --from 1.5s --to 1600ms build.vmt`,
		Args: want("trace", false),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a[0]) },
	}
	f.register(cmd)
	fs := cmd.Flags()
	fs.StringVar(&f.pids, "pid", "", "keep processes `N[,N]`, in the trace's own counting")
	fs.BoolVar(&f.tree, "tree", false, "with --pid: and their descendants")
	fs.StringVar(&f.from, "from", "", "keep what is not before `TIME` since the recording began: 1.5s, 20ms, 300us, 5ns")
	fs.StringVar(&f.to, "to", "", "keep what is not after `TIME`")
	return cmd
}

// cut parses the flags.
func (f *traceCutFlags) cut() (c trace.Cut, err error) {
	c.Tree = f.tree
	for word := range strings.SplitSeq(f.pids, ",") {
		if f.pids == "" {
			break
		}
		pid, err := strconv.Atoi(word)
		if err != nil || pid < 1 || pid > trace.MaxPID {
			return c, fmt.Errorf("--pid: %q is no process, 1 to %d", word, trace.MaxPID)
		}
		c.PIDs = append(c.PIDs, pid)
	}
	if c.From, err = parseTime("from", f.from); err == nil {
		c.To, err = parseTime("to", f.to)
	}
	switch {
	case err != nil:
		return c, err
	case f.tree && len(c.PIDs) == 0:
		return c, errors.New("--tree: it goes with --pid")
	case f.to != "" && c.To < max(c.From, 1):
		return c, fmt.Errorf("--to: %q is before %s", f.to, time.Duration(max(c.From, 1)))
	case len(c.PIDs) == 0 && c.From == 0 && c.To == 0:
		return c, errors.New("nothing to cut by: name --pid, --from or --to")
	}
	return c, nil
}

func parseTime(flag, s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("--%s: time %q is not like 1.5s, 20ms, 300us or 5ns", flag, s)
	}
	return uint64(d), nil
}

func (f *traceCutFlags) run(cmd *cobra.Command, path string) error {
	c, err := f.cut()
	if err != nil {
		return err
	}
	in, err := openTraceBytes(cmd, path)
	if err != nil {
		return troubled(cmd, err)
	}
	defer func() { in.close() }()
	if err := in.keep(cmd.Context()); err != nil {
		return troubled(cmd, err)
	}
	if err := in.start(); err != nil {
		return troubled(cmd, err)
	}
	plan, trouble := c.Plan(in.name, in)
	if plan == nil {
		return troubled(cmd, trouble)
	}
	if err := in.start(); err != nil {
		return troubled(cmd, err)
	}
	h, err := in.Header()
	if err != nil {
		return troubled(cmd, err)
	}
	h = plan.Header(h)
	out, err := f.open(cmd, in, h)
	if err != nil {
		return err
	}
	for op, err := range plan.Ops(in.All()) {
		if err != nil {
			trouble = err
			break
		}
		if err := out.write(&op); err != nil {
			out.closeFile()
			return err
		}
	}
	if err := out.end(h, trouble); err != nil {
		return err
	}
	return troubled(cmd, trouble)
}

// keep copies what is not a file into a temporary one, to be read twice.
func (in *traceInput) keep(ctx context.Context) error {
	if in.file != nil {
		return nil
	}
	f, err := os.CreateTemp("", "vmsim-cut-")
	if err != nil {
		return err
	}
	os.Remove(f.Name()) // it lives as long as it is open
	if _, err := io.Copy(f, in.read); err != nil {
		f.Close()
		return fmt.Errorf("%s: %w", in.name, err)
	}
	in.close()
	in.use(ctx, f)
	return nil
}
