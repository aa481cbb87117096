package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

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

Exit codes: 0 verified, 1 a mismatch was found, 2 wrong usage or input or output
trouble, 130 interrupted.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newVerifyCommand(), newStressCommand(), newRunCommand(), newReplayCommand())
	return root
}

// args makes cobra's complaints about arguments usage errors.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usageError{err}
		}
		return nil
	}
}

// machineFlags are the flags of every command that builds a machine.
type machineFlags struct {
	threshold int
	bugs      []string
	hardening string
	memory    string
	events    string
	format    string

	file *os.File
	sink *event.Writer
}

func (f *machineFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.IntVar(&f.threshold, "threshold", hugepage.DefaultThreshold,
		"cached sub-pages from which a 2 MiB window is assembled: 0 at the first exec, 513 or more never")
	fs.StringArrayVar(&f.bugs, "bug", nil, "switch a bug on (repeatable): "+fmt.Sprint(bug.Names()))
	fs.StringVar(&f.hardening, "hardening", "default", "default, or fortress: check every structure after every operation")
	fs.StringVar(&f.memory, "memory", "4GiB", "physical memory of the machine")
	fs.StringVar(&f.events, "events", "", "write the events to `FILE` as JSONL")
	fs.StringVarP(&f.format, "output", "o", "table", fmt.Sprintf("format of the result: %v", report.Formats))
	complete(cmd, "bug", bug.Names()...)
	complete(cmd, "hardening", "default", "fortress")
	complete(cmd, "output", report.Formats...)
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

// options turns the flags into options and opens the event file. finish must
// be called with the command's error when all is done.
func (f *machineFlags) options() (opt session.Options, format report.Format, err error) {
	bad := func(flag string, err error) (session.Options, report.Format, error) {
		return opt, "", usageError{fmt.Errorf("--%s: %w", flag, err)}
	}
	opt = session.Options{Threshold: f.threshold, Bugs: f.bugs}
	if f.threshold < 0 {
		return bad("threshold", fmt.Errorf("%d is negative", f.threshold))
	}
	if _, err = bug.Parse(f.bugs); err != nil {
		return bad("bug", err)
	}
	if opt.Hardening, err = vm.ParseHardening(f.hardening); err != nil {
		return bad("hardening", err)
	}
	if opt.Memory, err = report.ParseBytes(f.memory); err != nil {
		return bad("memory", err)
	}
	if opt.Memory < smallestMemory || opt.Memory > 1<<42 {
		return bad("memory", fmt.Errorf("%s is not between 4 MiB and 4 TiB", f.memory))
	}
	if format, err = report.ParseFormat(f.format); err != nil {
		return bad("output", err)
	}
	if f.events != "" {
		if f.file, err = os.Create(f.events); err != nil {
			return opt, "", err
		}
		f.sink = event.NewWriter(f.file)
		opt.Events = f.sink
	}
	return opt, format, nil
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
		*err = fmt.Errorf("%s: %w", f.events, e)
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
