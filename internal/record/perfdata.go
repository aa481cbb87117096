package record

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
	"vmsim/internal/perfdata"
	"vmsim/trace"
)

// ErrNoFile is the error of Perf where the input is no file that can be read at
// any place: a perf.data is not read in order.
var ErrNoFile = errors.New("a perf.data cannot be read from a pipe: save it first")

// Perf reads a perf.data and hands its operations to emit one by one, as package
// importer wants it. The same run recorded by Run with trace.TouchesFaults gives
// the same operations, but for what the header says is missing.
func Perf(name string, r io.Reader, emit func(*trace.Op) error) (trace.Header, error) {
	in, ok := r.(interface {
		io.ReaderAt
		io.Seeker
	})
	if !ok {
		return trace.Header{}, fmt.Errorf("%s: %w", name, ErrNoFile)
	}
	size, err := in.Seek(0, io.SeekEnd)
	if err != nil {
		return trace.Header{}, fmt.Errorf("%s: %w", name, ErrNoFile)
	}
	f, err := perfdata.Open(in, size)
	if err != nil {
		return trace.Header{}, fmt.Errorf("%s: %w", name, err)
	}
	c := NewConverter(0, emit)
	for _, e := range f.Events() {
		if e.Role == perf.RoleNewTask {
			c.CloneFlags()
		}
	}
	last := uint64(0)
	err = f.Read(func(r *perf.Record) error {
		if r.Time == 0 && f.Info().Clock >= 0 && r.Kind != perf.KindComm {
			return nil // noted by perf before the command began: not of the command
		}
		last = max(last, r.Time)
		c.Record(r)
		return c.Err()
	})
	if cerr := c.Close(last); cerr != nil {
		return trace.Header{}, cerr // of emit: not of the file
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return perfHeader(f, c, err == nil), err
}

// perfHeader says what a perf.data is of, and what it lacks.
func perfHeader(f *perfdata.File, c *Converter, whole bool) trace.Header {
	info, facts := f.Info(), f.Facts()
	h := trace.Header{Source: "perf", Tool: info.Version, Command: info.Command, Host: info.Host, Kernel: info.Release,
		Arch: info.Arch, PageSize: 4096, Clock: "perf", Touches: trace.TouchesFaults, Whole: whole,
		Lost: max(c.Lost(), facts.Lost, facts.LostSamples)}
	if info.HasClock && info.Clock == unix.CLOCK_MONOTONIC {
		h.Clock = "CLOCK_MONOTONIC"
	}
	faults := false
	for _, e := range f.Events() {
		faults = faults || e.Role == perf.RoleUserFault || e.Role == perf.RoleFault
	}
	if !faults {
		h.Touches = trace.TouchesNone
	}
	for _, m := range facts.Missing {
		h.Missing = append(h.Missing, m.What+": "+m.Why)
	}
	h.Missing = append(h.Missing, missingFaults...)
	h.Missing = append(h.Missing, "execs that failed", "arguments of execs", "where the heap starts")
	h.Missing = append(h.Missing, c.Missing()...)
	return h
}
