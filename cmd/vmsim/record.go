package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"vmsim/internal/record"
	"vmsim/internal/report"
	"vmsim/trace"
)

type recordFlags struct {
	out     string
	touches string
	aslr    bool
}

func newRecordCommand() *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use:   "record [-o FILE] [flags] -- COMMAND [ARGUMENT...]",
		Short: "Record the forks, execs, mapping calls and page faults of a command",
		Long: `record runs a command and writes a trace of what it and all that it starts do
with their memory: forks, execs, mapping calls with their results, page faults.
Streams, signals and exit code are the command's; one that a signal N ends gives
128+N. It ends when the last process that was started has ended.

  --touches complete   every first touch of a page that has no page-table entry:
                       mapped files are cut into areas of one page, so that the
                       kernel cannot map the neighbours of a page. The command
                       sees it in /proc/self/maps, and that it is traced.
  --touches faults     what faults by itself: nothing is changed, nobody is traced
                       where perf has tracepoints, and it is faster

Addresses are not randomised (--aslr leaves them), huge pages are off. Reads of
pages that a fork inherits do not fault, so no recording has them. What else is
missing, without root above all, is in the header: vmsim trace info FILE. The
exit code is 1 if the kernel lost records.`,
		Example: `  vmsim record -- ls -l /bin
  vmsim record -o git.vmt --touches faults -- git --version`,
		Args: want("command", true),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a) },
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false)
	fs.StringVarP(&f.out, "output", "o", "vmsim.vmt", "write the trace to this `file`")
	fs.StringVar(&f.touches, "touches", trace.TouchesComplete, "complete or faults")
	fs.BoolVar(&f.aslr, "aslr", false, "leave address space randomisation on")
	return cmd
}

func (f *recordFlags) run(cmd *cobra.Command, argv []string) error {
	if f.touches != trace.TouchesComplete && f.touches != trace.TouchesFaults {
		return fmt.Errorf("--touches: %q is neither complete nor faults", f.touches)
	}
	defer untilClosed()()
	file, err := os.Create(f.out)
	if err != nil {
		return err
	}
	defer file.Close()
	stdin, _ := cmd.InOrStdin().(*os.File)
	stdout, _ := cmd.OutOrStdout().(*os.File)
	cfg := record.Config{Argv: argv, Touches: f.touches, ASLR: f.aslr, Stdin: stdin, Stdout: stdout, Stderr: os.Stderr}
	res, err := record.Run(cfg, func(h trace.Header) (record.Writer, error) {
		h.Tool = "vmsim " + version()
		return trace.NewWriter(file, h)
	})
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("%s: %w", f.out, err)
	}
	stderr := cmd.ErrOrStderr()
	if res.Err != nil {
		complain(stderr, res.Err)
	}
	if res.Header.Lost > 0 {
		fmt.Fprintf(stderr, "vmsim: %s: %s lost: the trace is not complete\n", f.out, report.Count(int(res.Header.Lost), "record"))
	}
	if !quiet(cmd) {
		fmt.Fprintf(stderr, "vmsim: %s: %s\n", f.out, report.Count(res.Ops, "operation"))
	}
	if code := cmp.Or(res.ExitCode(), lostCode(res.Header.Lost)); code != 0 {
		return exited(code)
	}
	return nil
}

// untilClosed keeps the terminal's signals from ending this program before the trace is
// closed: they are meant for the command, which may have ended of them already. It
// returns what ends that.
func untilClosed() func() {
	c := make(chan os.Signal, 1) // never read: what does not fit is dropped
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(c, s)
		}
	}
	return func() { signal.Stop(c) }
}

func lostCode(lost uint64) int {
	if lost > 0 {
		return exitMismatch
	}
	return 0
}
