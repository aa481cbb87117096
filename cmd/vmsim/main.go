// Command vmsim is a virtual memory manager in user space: it loads real ELF
// binaries, faults their pages in, assembles huge pages, and verifies what
// processes see against the files.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes, one for each meaning.
const (
	exitOK          = 0   // verified
	exitMismatch    = 1   // a mismatch or a failed case was found
	exitUsage       = 2   // wrong usage, or trouble with input or output
	exitInterrupted = 130 // ended by Ctrl-C; what was known is printed
)

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var done outcome
	if errors.As(err, &done) {
		return int(done)
	}
	fmt.Fprintf(os.Stderr, "vmsim: %v\n", err)
	var usage usageError
	if errors.As(err, &usage) || cmd == root {
		fmt.Fprintf(os.Stderr, "\n%s", cmd.UsageString())
	}
	return exitUsage
}

// outcome is the error of a command that did its work and printed what it
// found: the exit code alone is left to say.
type outcome int

func (o outcome) Error() string { return fmt.Sprintf("exit code %d", int(o)) }

// usageError is an error in how the command was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
