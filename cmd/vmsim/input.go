package main

import (
	"context"
	"io"
	"os"
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
