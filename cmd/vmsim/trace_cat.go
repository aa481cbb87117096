package main

import (
	"io"

	"github.com/spf13/cobra"

	"vmsim/trace"
)

func newTraceCatCommand() *cobra.Command {
	var f traceOutputFlags
	cmd := &cobra.Command{
		Use:   "cat FILE",
		Short: "Write a trace as text, or as binary",
		Long: `cat writes a trace as text, one operation a line; with --form binary, or to a
FILE that ends in .vmt, in the binary form. Nothing is lost either way: text that
went through the binary form is the same, but for comments and the way in which
numbers and words were written.`,
		Example: `  vmsim trace cat sh.vmt | grep ' exec '
  vmsim trace cat -o fork-cow.vmt testdata/traces/fork-cow.trace`,
		Args: want("trace", false),
		RunE: func(cmd *cobra.Command, a []string) error { return traceCat(cmd, f, a[0]) },
	}
	f.register(cmd)
	return cmd
}

func traceCat(cmd *cobra.Command, f traceOutputFlags, path string) error {
	in, err := openTrace(cmd, path)
	if err != nil {
		return troubled(cmd, err)
	}
	defer in.close()
	h, err := in.Header()
	if err != nil {
		return troubled(cmd, err)
	}
	out, err := f.open(cmd, in, h)
	if err != nil {
		return err
	}
	var trouble error
	for trouble == nil {
		var op trace.Op
		if op, trouble = in.Next(); trouble == nil {
			if err := out.write(&op); err != nil {
				out.closeFile()
				return err
			}
		}
	}
	if trouble == io.EOF {
		trouble = nil
		if h, err = in.Header(); err != nil { // a stream knows more at its end
			return err
		}
	}
	if err := out.end(h, trouble); err != nil {
		return err
	}
	return troubled(cmd, trouble)
}
