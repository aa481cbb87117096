package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"vmsim/hugepage"
	"vmsim/internal/bug"
	"vmsim/internal/event"
	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/vm"
)

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "vmsim",
		Short: "A virtual memory manager in user space",
		Long: `vmsim loads real ELF binaries into VMAs, demand-faults 4 KiB pages through an
indexed page cache, forks with copy-on-write, assembles 2 MiB huge pages, and
verifies every page against the file.

Results go to standard output, all else to standard error. Exit codes:

  0    verified
  1    a mismatch was found
  2    wrong usage, or trouble with input or output; it wins over 1
  130  interrupted; what was found until then is printed`,
		Example: `  vmsim verify                      # the corpus built into the program
  vmsim verify /bin/busybox /bin/ls
  vmsim run -v /bin/true            # why each page fault happened
  vmsim verify --bug boundary-copy testdata/elf/kevlar-layout
  vmsim stress --bug index-collision testdata/elf/kevlar-layout
  vmsim replay testdata/traces/shell-loop.trace
  vmsim explain testdata/elf/huge-incongruent
  vmsim sweep -o plot testdata/elf/kevlar-layout`,
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(newVerifyCommand(), newStressCommand(), newRunCommand(), newReplayCommand(), newReportCommand(),
		newSweepCommand(), newExplainCommand(), newRecordCommand(), newTraceCommand(), newManCommand())
	registerOutput(root)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Run, cmd.RunE = nil, help
		case "completion", "report", "trace":
			cmd.RunE, cmd.Args = help, cobra.ArbitraryArgs // without a command below it, or with an unknown one
		}
	}
	return root
}

// flagError sorts cobra's complaints about flags: a bad value is told in one
// line, a wrong flag with the usage.
func flagError(_ *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	if !errors.As(err, &bad) {
		return usageError{err}
	}
	cause := errors.Unwrap(bad)
	var num *strconv.NumError
	if errors.As(cause, &num) {
		cause = num.Err
	}
	switch {
	case errors.Is(cause, strconv.ErrSyntax) && bad.GetFlag().Value.Type() == "bool":
		cause = errors.New("not true or false")
	case errors.Is(cause, strconv.ErrSyntax) && bad.GetFlag().Value.Type() == "uint64":
		cause = errors.New("not a number from 0 on")
	case errors.Is(cause, strconv.ErrSyntax):
		cause = errors.New("not a whole number")
	}
	return fmt.Errorf("--%s: %q: %w", bad.GetFlag().Name, bad.GetValue(), cause)
}

// help shows the help of the command that a names, or of cmd's own level.
func help(cmd *cobra.Command, a []string) error {
	if cmd.Name() != "help" {
		if len(a) > 0 {
			return usageError{fmt.Errorf("unknown command %q for %q", a[0], cmd.CommandPath())}
		}
		return cmd.Help()
	}
	topic, rest, err := cmd.Root().Find(a)
	if err != nil || len(rest) > 0 {
		return usageError{fmt.Errorf("unknown help topic %q", strings.Join(a, " "))}
	}
	topic.InitDefaultHelpFlag()
	return topic.Help()
}

// want returns the check of a command's arguments: exactly one, or one or more.
func want(what string, more bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		switch {
		case len(a) == 0:
			return usageError{fmt.Errorf("%s: no %s given", cmd.Name(), what)}
		case len(a) > 1 && !more:
			return usageError{fmt.Errorf("%s: one %s expected, %d given", cmd.Name(), what, len(a))}
		}
		return nil
	}
}

// machineFlags are the flags of every command that builds a machine.
type machineFlags struct {
	threshold int
	bugs      []string
	hardening string
	around    int
	memory    string
	events    string
	format    string
	formats   []string // that the command writes

	file *os.File
	sink *event.Writer
}

func (f *machineFlags) register(cmd *cobra.Command, formats ...string) {
	fs := cmd.Flags()
	fs.IntVar(&f.threshold, "threshold", hugepage.DefaultThreshold,
		"assemble a 2 MiB window once `N` of its pages are cached (0: at the first exec; above 512: never)")
	fs.StringVar(&f.events, "events", "", "write the events to `FILE` as JSONL")
	f.registerMany(cmd, formats...)
}

// registerMany is register for a command that makes many runs of its own choice:
// without a threshold and an event file, which are of one run.
func (f *machineFlags) registerMany(cmd *cobra.Command, formats ...string) {
	f.formats = formats
	fs := cmd.Flags()
	fs.StringArrayVar(&f.bugs, "bug", nil, "switch the bug `NAME` on, repeatable: "+strings.Join(bug.Names(), ", "))
	fs.StringVar(&f.hardening, "hardening", "default", "`LEVEL`: default, or fortress, which checks every structure after every operation")
	fs.IntVar(&f.around, "fault-around", 1, "a read fault on a page of a file maps the `N` pages of its aligned block; Linux: 16")
	fs.StringVar(&f.memory, "memory", "4GiB", "physical memory of the machine: `SIZE` in bytes, or 64M, 4GiB, ...")
	fs.StringVarP(&f.format, "output", "o", "table", "`FORMAT` of the result: "+strings.Join(formats, ", "))
	complete(cmd, "bug", bug.Names()...)
	complete(cmd, "hardening", "default", "fortress")
	complete(cmd, "output", formats...)
}

func complete(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err)
	}
}

// smallestMemory is what --memory must name at least: below it not even the
// huge page of one window fits.
const smallestMemory = 4 << 20

// largestMemory bounds --memory.
const largestMemory = 1 << 42

// options turns the flags into options and opens the event file. finish must
// be called with the command's error when all is done. The machine stops at its
// next page when ctx ends. The event file must be none of the inputs: it would
// be lost before it is read.
func (f *machineFlags) options(ctx context.Context, inputs ...string) (opt session.Options, format report.Format, err error) {
	bad := func(flag string, err error) (session.Options, report.Format, error) {
		return opt, "", fmt.Errorf("--%s: %w", flag, err)
	}
	opt = session.Options{Threshold: f.threshold, Bugs: f.bugs, Stop: func() bool { return ctx.Err() != nil }}
	if f.threshold < 0 {
		return bad("threshold", fmt.Errorf("%d is negative", f.threshold))
	}
	if _, err = bug.Parse(f.bugs); err != nil {
		return bad("bug", err)
	}
	if opt.Hardening, err = vm.ParseHardening(f.hardening); err != nil {
		return bad("hardening", err)
	}
	if opt.FaultAround, err = faultAround(f.around); err != nil {
		return bad("fault-around", err)
	}
	if opt.Memory, err = report.ParseBytes(f.memory); err != nil {
		return bad("memory", err)
	}
	if opt.Memory < smallestMemory || opt.Memory > largestMemory {
		return bad("memory", fmt.Errorf("size %q is not between 4 MiB and 4 TiB", f.memory))
	}
	if format, err = report.ParseFormat(f.format, f.formats); err != nil {
		return bad("output", err)
	}
	if f.events != "" {
		if out, err := os.Stat(f.events); err == nil {
			for _, path := range inputs {
				if in, err := os.Stat(path); err == nil && os.SameFile(in, out) {
					return bad("events", fmt.Errorf("%s is an input", f.events))
				}
			}
		}
		if f.file, err = os.Create(f.events); err != nil {
			return opt, "", err
		}
		f.sink = event.NewWriter(f.file)
		opt.Events = f.sink
	}
	return opt, format, nil
}

// faultAround checks the number of pages of --fault-around.
func faultAround(n int) (int, error) {
	if n < 1 || n > vm.MaxFaultAround || n&(n-1) != 0 {
		return 0, fmt.Errorf("%d is no power of two from 1 to %d", n, vm.MaxFaultAround)
	}
	return n, nil
}

// finish closes the event file. Its trouble matters more than a mismatch that
// was printed, so it replaces err.
func (f *machineFlags) finish(err *error) {
	if f.sink == nil {
		return
	}
	e := f.sink.Close()
	if ce := f.file.Close(); e == nil {
		e = ce
	}
	if e != nil {
		*err = fmt.Errorf("events: %w", e)
	}
}

// printer writes to w and remembers the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, a ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, a...)
	}
}
