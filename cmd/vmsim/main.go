// Command vmsim is a virtual memory manager in user space: it loads real ELF
// binaries, faults their pages in, assembles huge pages, and verifies what
// processes see against the files.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"vmsim/internal/report"
	"vmsim/internal/tracee"
)

// Exit codes, one for each meaning.
const (
	exitOK          = 0   // verified
	exitMismatch    = 1   // a mismatch or a failed case was found
	exitUsage       = 2   // wrong usage, or trouble with input or output
	exitInterrupted = 130 // ended by Ctrl-C; what was known is printed
)

func main() {
	tracee.Trampoline() // of vmsim record
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: it returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := interruptible()
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(&sharedWriter{w: stderr})
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var done outcome
	if errors.As(err, &done) {
		if done == exitInterrupted {
			fmt.Fprintln(stderr, "vmsim: interrupted: the result is partial")
		}
		return int(done)
	}
	var other exited
	if errors.As(err, &other) {
		return int(other)
	}
	var usage usageError
	if errors.As(err, &usage) || cmd == root { // root: an unknown command
		fmt.Fprintf(stderr, "vmsim: %v\n\n%s", err, cmd.UsageString())
		return exitUsage
	}
	complain(stderr, err)
	return exitUsage
}

// interruptible returns a context that Ctrl-C and SIGTERM cancel, but for those that are
// ignored: whoever started the program, nohup or a shell's trap, wanted that.
func interruptible() (context.Context, context.CancelFunc) {
	var signals []os.Signal
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		if !signal.Ignored(s) {
			signals = append(signals, s)
		}
	}
	if len(signals) == 0 { // NotifyContext would take that for all
		return context.WithCancel(context.Background())
	}
	return signal.NotifyContext(context.Background(), signals...)
}

// outcome is the error of a command that did its work and printed what it
// found: the exit code alone is left to say.
type outcome int

func (o outcome) Error() string { return fmt.Sprintf("exit code %d", int(o)) }

// exited is the error of a command that stands for another program: the exit code is
// that one's, and means what it means there.
type exited int

func (e exited) Error() string { return fmt.Sprintf("the command's exit code is %d", int(e)) }

// usageError is an error in how the command was called, one that the list of
// flags helps with. A bad value of a right flag is none: its line says all.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// plain is the text of err for a person: where a file is the trouble, its name
// once, and not the system call that failed.
func plain(err error) string {
	s := err.Error()
	var p *fs.PathError
	if errors.As(err, &p) {
		if before, ok := strings.CutSuffix(s, p.Error()); ok {
			s = p.Path + ": " + p.Err.Error()
			if before != p.Path+": " {
				s = before + s
			}
		}
	}
	return s
}

// complain prints err as one line.
func complain(w io.Writer, err error) { fmt.Fprintf(w, "vmsim: %s\n", report.Printable(plain(err))) }
