package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"vmsim/internal/session"
)

// openInput reads what open opens. Both may wait for ever, for the other end of
// a FIFO or for a terminal; Read then returns ctx's error when ctx ends.
//
// The error of open is that of the first Read. Close must be called.
func openInput(ctx context.Context, open func() (io.ReadCloser, error)) io.ReadCloser {
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		defer stop()
		f, err := open()
		if err == nil {
			_, err = io.Copy(w, f)
			f.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}

// openPath opens a file for openInput.
func openPath(path string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return os.Open(path) }
}

// findFiles lists the files that the arguments and the list of --files-from name
// (- is standard input).
func findFiles(cmd *cobra.Command, paths []string, filesFrom string, trouble func(error)) (session.Corpus, error) {
	ctx := cmd.Context()
	var listed []string
	if filesFrom != "" {
		open := openPath(filesFrom)
		if filesFrom == "-" {
			open = func() (io.ReadCloser, error) { return io.NopCloser(cmd.InOrStdin()), nil }
		}
		in := openInput(ctx, open)
		defer in.Close()
		var err error
		if listed, err = session.ReadList(in); err != nil {
			return session.Corpus{}, fmt.Errorf("--files-from: %w", err)
		}
	}
	return session.Find(paths, listed, trouble, func() bool { return ctx.Err() != nil }), nil
}
