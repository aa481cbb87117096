package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"vmsim/internal/event"
	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/mem"
)

// memoryFlags are the flags of verify for memory that is not ours.
type memoryFlags struct {
	pids   []string
	cores  []string
	window string
	truth  string
	base   string
}

func (f *memoryFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringSliceVar(&f.pids, "pid", nil, "verify the pages of files that are resident in live Linux processes: `PID`, a list, or all; repeatable")
	fs.StringArrayVar(&f.cores, "core", nil, "verify the pages of files that the core `FILE` holds; repeatable")
	fs.StringVar(&f.window, "window", "", "verify `DUMP@ADDR`: 2 MiB that some kernel assembled at ADDR for the ELF file that is the argument")
	fs.StringVar(&f.truth, "truth", session.TruthKevlar, "with --window: `RULE` that says what it ought to hold, kevlar or linux")
	fs.StringVar(&f.base, "base", "", "with --window: `ADDR` where a PIE was loaded (default 0xa00000000, with --truth linux 0x555555554000)")
	complete(cmd, "truth", session.TruthKevlar, session.TruthLinux)
}

// asked reports whether one of the flags is set.
func (f *memoryFlags) asked(cmd *cobra.Command) bool {
	return slices.ContainsFunc([]string{"pid", "core", "window", "truth", "base"}, cmd.Flags().Changed)
}

// machineOnly are the flags of verify that say something of a machine, or of a
// corpus of files: here is neither.
var machineOnly = []string{"threshold", "bug", "hardening", "memory", "digest", "files-from", "shard", "part", "resume", "max-failures"}

// run verifies memory; m are the flags shared with other commands.
func (f *memoryFlags) run(cmd *cobra.Command, m *machineFlags, args []string) (err error) {
	if err := f.check(cmd, args); err != nil {
		return err
	}
	m.formats = report.Formats
	inputs := append(slices.Clone(args), f.cores...)
	var d session.WindowDump
	if f.window != "" {
		if d, err = f.dump(args[0]); err != nil {
			return err
		}
		inputs = append(inputs, d.Dump)
	}
	opt, format, err := m.options(cmd.Context(), inputs...)
	if err != nil {
		return err
	}
	defer m.finish(&err)
	if f.window != "" {
		return f.verifyWindow(cmd, d, opt.Events, format)
	}
	return f.verifyForeign(cmd, opt, format)
}

// check refuses flags that do not go together.
func (f *memoryFlags) check(cmd *cobra.Command, args []string) error {
	var set []string
	for _, name := range []string{"pid", "core", "window"} {
		if cmd.Flags().Changed(name) {
			set = append(set, name)
		}
	}
	switch {
	case len(set) == 0:
		return usageError{errors.New("--truth and --base go with --window")}
	case len(set) > 1:
		return usageError{fmt.Errorf("--%s and --%s do not go together", set[0], set[1])}
	}
	for _, name := range machineOnly {
		if cmd.Flags().Changed(name) {
			return usageError{fmt.Errorf("--%s and --%s do not go together", set[0], name)}
		}
	}
	switch {
	case set[0] == "window" && len(args) != 1:
		return usageError{fmt.Errorf("--window: one ELF file expected, %d given", len(args))}
	case set[0] == "window":
		return nil
	case len(args) > 0:
		return usageError{fmt.Errorf("--%s takes no PATH, %d given", set[0], len(args))}
	case cmd.Flags().Changed("truth") || cmd.Flags().Changed("base"):
		return usageError{errors.New("--truth and --base go with --window")}
	}
	return nil
}

// dump reads --window, --truth and --base. The last @ counts: a path may hold
// one.
func (f *memoryFlags) dump(elf string) (d session.WindowDump, err error) {
	at := strings.LastIndexByte(f.window, '@')
	if at < 1 {
		return d, fmt.Errorf("--window: %q is not of the form DUMP@ADDR", f.window)
	}
	d = session.WindowDump{Dump: f.window[:at], ELF: elf, Truth: f.truth}
	if d.Addr, err = parseAddr(f.window[at+1:]); err != nil {
		return d, fmt.Errorf("--window: %w", err)
	}
	if d.Addr != d.Addr.HugeDown() || d.Addr >= mem.UserEnd {
		return d, fmt.Errorf("--window: address %v is not a multiple of 2 MiB in user space", d.Addr)
	}
	if f.truth != session.TruthKevlar && f.truth != session.TruthLinux {
		return d, fmt.Errorf("--truth: rule %q is none of kevlar, linux", f.truth)
	}
	if f.base == "" {
		return d, nil
	}
	if d.Base, err = parseAddr(f.base); err != nil {
		return d, fmt.Errorf("--base: %w", err)
	}
	if d.Base == 0 || d.Base.PageOffset() != 0 || d.Base >= mem.UserEnd {
		return d, fmt.Errorf("--base: address %v is not a multiple of 4096 in user space, or is 0", d.Base)
	}
	return d, nil
}

// parseAddr reads an address: 0x400000, or decimal.
func parseAddr(s string) (mem.VirtAddr, error) {
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		return 0, fmt.Errorf("address %q is not a number like 0x400000", s)
	}
	return mem.VirtAddr(n), nil
}

// parsePIDs reads the values of --pid. all stands for every process but this.
func parsePIDs(values []string) (pids []int, all bool, err error) {
	for _, s := range values {
		pid, err := strconv.Atoi(s)
		switch {
		case s == "all":
			all = true
		case err != nil || pid < 1:
			return nil, false, fmt.Errorf("--pid: %q is neither a process number nor all", s)
		case !slices.Contains(pids, pid):
			pids = append(pids, pid)
		}
	}
	if all && len(pids) > 0 {
		return nil, false, errors.New("--pid: all includes every number")
	}
	return pids, all, nil
}

// verifyForeign verifies processes or cores.
func (f *memoryFlags) verifyForeign(cmd *cobra.Command, opt session.Options, format report.Format) error {
	pids, all, err := parsePIDs(f.pids)
	if err != nil {
		return err
	}
	if all {
		if pids, err = session.PIDs(); err != nil {
			return err
		}
	}
	isCore := len(f.cores) > 0
	color, err := colors(cmd)
	if err != nil {
		return err
	}
	out := newForeignReport(cmd.OutOrStdout(), format, color, isCore, all)
	v := session.NewForeign(opt.Events, opt.Stop)
	trouble := false
	tell := func(e error) {
		trouble = true
		complain(cmd.ErrOrStderr(), e)
	}
	for _, path := range f.cores {
		info, err := v.Core(path, func(r session.MappingResult) { out.add(path, r) })
		out.core(path, info, err)
		if errors.Is(err, session.ErrStopped) {
			break
		}
		if err != nil {
			tell(err)
		}
	}
	for _, pid := range pids {
		if all && pid == os.Getpid() {
			continue
		}
		name, err := v.Process(pid, func(r session.MappingResult) { out.add("", r) })
		out.process(pid, name, err)
		if errors.Is(err, session.ErrStopped) {
			break
		}
		if err != nil && !all {
			tell(fmt.Errorf("process %d: %w", pid, err))
		}
	}
	interrupted := cmd.Context().Err() != nil
	if trouble && out.sum.Mappings == 0 && format == report.Table && !interrupted {
		return outcome(exitUsage) // what was told is enough
	}
	if err := out.close(v.Tally(), interrupted); err != nil {
		return err
	}
	switch {
	case interrupted:
		return outcome(exitInterrupted)
	case trouble:
		return outcome(exitUsage)
	case out.sum.Findings > 0:
		return outcome(exitMismatch)
	}
	return nil
}

// signalWords names a signal: killed by signal 11 (SIGSEGV).
func signalWords(n int) string {
	if n == 0 {
		return "not killed"
	}
	if name := unix.SignalName(unix.Signal(n)); name != "" {
		return fmt.Sprintf("signal %d (%s)", n, name)
	}
	return fmt.Sprintf("signal %d", n)
}

// verifyWindow verifies a dump of a huge page.
func (f *memoryFlags) verifyWindow(cmd *cobra.Command, d session.WindowDump, events event.Sink, format report.Format) error {
	out := newWindowReport(cmd.OutOrStdout(), format, d)
	sink := event.Func(out.emit)
	all := event.Sink(sink)
	if events != nil {
		all = session.TeeSink(events, sink)
	}
	if err := session.VerifyWindow(d, all); err != nil && !session.IsMismatch(err) {
		return err
	}
	if err := out.close(); err != nil {
		return err
	}
	if out.end.Failed > 0 {
		return outcome(exitMismatch)
	}
	return nil
}
