package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"vmsim/internal/report"
)

// replayPace is a trace that is read, with a progress bar where it is long.
type replayPace struct {
	io.Reader
	show *report.Progress // nil: none
	read int
}

// longTrace is the size, in bytes, from which a trace is worth a bar.
const longTrace = 1 << 20

// startReplayPace shows how much of the trace at path, which in reads, was read.
func startReplayPace(cmd *cobra.Command, path string, in io.Reader) *replayPace {
	p := &replayPace{Reader: in}
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() < longTrace || quiet(cmd) {
		return p
	}
	w := cmd.ErrOrStderr()
	p.show = report.NewProgress(w, terminal(w), "bytes", int(st.Size()))
	return p
}

func (p *replayPace) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.read += n
	if p.show != nil {
		p.show.Set(p.read, "")
	}
	return n, err
}

func (p *replayPace) stop() {
	if p.show != nil {
		p.show.Stop()
	}
}
