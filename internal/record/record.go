//go:build linux && amd64

package record

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
	"vmsim/internal/tracee"
	"vmsim/trace"
)

// Config says what to record.
type Config struct {
	Argv    []string
	Touches string // trace.TouchesComplete or trace.TouchesFaults
	ASLR    bool   // leave address space randomisation on

	Stdin, Stdout, Stderr *os.File // the command's own

	// Level bounds what is asked of perf: perf.LevelFaults records as without
	// root. The zero value takes the best that is permitted.
	Level perf.Level
}

// Result is how a recording went.
type Result struct {
	tracee.Result              // of the command
	Header        trace.Header // with all that the recording came to
	Ops           int          // written
}

// Writer takes the operations of a recording, and at the end the header that is
// known only then.
type Writer interface {
	Write(op *trace.Op) error
	Close(final trace.Header) error
}

// Run runs a command and writes what it did with its memory. open makes the
// Writer once the header is known as far as it can be before.
//
// The error is trouble of the recorder, or of the Writer; the command then has
// run all the same, if it was started.
func Run(cfg Config, open func(trace.Header) (Writer, error)) (res Result, err error) {
	r := &recorder{cfg: cfg, done: make(chan struct{})}
	if err := r.run(open); err != nil {
		return r.res, err
	}
	return r.res, nil
}

// recorder is the state of one Run.
type recorder struct {
	cfg    Config
	perf   *perf.Session // nil: the kernel permits none
	noPerf error
	mode   tracee.Mode // known once perf is attached
	conv   *Converter
	w      Writer
	res    Result
	done   chan struct{} // closed when the command and all that it started have ended

	mu      sync.Mutex // without perf: events come straight from the tracer
	waiting []tracee.Event
}

// ready attaches perf to the command before its exec.
func (r *recorder) ready(pid int) error {
	cfg := perf.Config{PID: pid, Level: r.cfg.Level, Release: tracee.CloseLater}
	if r.cfg.Touches != trace.TouchesComplete {
		cfg.Syscalls, cfg.Alone = perf.MemoryAndExit, true
	}
	r.perf, r.noPerf = perf.Open(cfg)
	if errors.Is(r.noPerf, perf.ErrNotPermitted) {
		return nil
	}
	return r.noPerf
}

// choose says how ptrace follows, once it is known what perf can do: not at all if perf
// has the calls, since each stop of a task costs more than all that it is recorded for.
func (r *recorder) choose() tracee.Mode {
	switch {
	case r.cfg.Touches == trace.TouchesComplete:
		r.mode = tracee.Complete
	case r.perf != nil && r.perf.Level() == perf.LevelTracepoints:
		r.mode = tracee.Untraced
		r.conv.CloneFlags()
		return r.mode
	default:
		r.mode = tracee.Syscalls
	}
	r.conv.Traced()
	return r.mode
}

// Event takes what ptrace saw, on the tracer's thread.
func (r *recorder) Event(e tracee.Event) {
	if r.perf != nil {
		r.perf.Post(e)
		return
	}
	r.mu.Lock()
	r.waiting = append(r.waiting, e)
	r.mu.Unlock()
}

func (r *recorder) run(open func(trace.Header) (Writer, error)) error {
	began := perf.Now()
	r.res.Header = r.header(time.Now())
	r.conv = NewConverter(began, func(op *trace.Op) error {
		if r.w == nil {
			return nil
		}
		r.res.Ops++
		return r.w.Write(op)
	})
	mode := tracee.Untraced // until it is chosen
	if r.cfg.Touches == trace.TouchesComplete {
		mode = tracee.Complete
	}
	s, err := tracee.Start(tracee.Config{Mode: mode, Choose: r.choose, Argv: r.cfg.Argv, ASLR: r.cfg.ASLR, Signals: true,
		Stdin: r.cfg.Stdin, Stdout: r.cfg.Stdout, Stderr: r.cfg.Stderr, Ready: r.ready}, r)
	if err != nil {
		return err
	}
	var werr error
	r.res.Header.Missing = r.missing()
	if r.w, werr = open(r.res.Header); werr != nil {
		r.w = nil // the command runs on: it is not its fault
	}
	go func() {
		r.res.Result, err = s.Wait()
		close(r.done)
	}()
	rerr := r.drain(s)
	<-r.done
	if r.w == nil {
		return werr
	}
	return r.finish(errors.Join(err, rerr))
}

// drain feeds the Converter until nothing comes any more.
func (r *recorder) drain(s *tracee.Session) error {
	if r.perf == nil {
		return r.drainEvents()
	}
	defer s.Left()
	ended := false
	for !ended {
		select {
		case <-r.done:
			ended = true
		default:
		}
		switch _, err := r.perf.Read(20*time.Millisecond, r.conv.Record); {
		case err == io.EOF: // all tasks have ended; a tracer still hears of the last one's end
			s.Left()
			<-r.done
			if r.mode == tracee.Untraced {
				return nil // Read has given all that there was
			}
			ended = true
		case err != nil:
			return fmt.Errorf("perf: %w", err)
		}
	}
	if _, err := r.perf.Flush(r.conv.Record); err != nil {
		return fmt.Errorf("perf: %w", err)
	}
	return nil
}

// drainEvents is drain without perf.
func (r *recorder) drainEvents() error {
	for ended := false; !ended; {
		select {
		case <-r.done:
			ended = true
		case <-time.After(5 * time.Millisecond):
		}
		r.mu.Lock()
		events := r.waiting
		r.waiting = nil
		r.mu.Unlock()
		for _, e := range events {
			r.conv.Event(e, uint64(e.When()))
		}
	}
	return nil
}

// finish closes what is open and writes the final header, which says that the trace
// is whole if there was no trouble until here.
func (r *recorder) finish(trouble error) error {
	err := errors.Join(trouble, r.conv.Close(perf.Now()))
	h := &r.res.Header
	h.Lost = r.conv.Lost()
	if r.perf != nil {
		stats, cerr := r.perf.Close()
		err = errors.Join(err, cerr)
		h.Lost = max(h.Lost, stats.Lost)
	}
	h.Missing = append(r.missing(), r.conv.Missing()...)
	h.Whole = err == nil
	return errors.Join(err, r.w.Close(*h))
}

// header says what is known before the command runs.
func (r *recorder) header(now time.Time) trace.Header {
	h := trace.Header{Source: "vmsim record", Command: bounded(r.cfg.Argv), PageSize: 4096, Clock: "CLOCK_MONOTONIC",
		Began: now.UTC().Format(time.RFC3339Nano), Touches: r.cfg.Touches}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Host, h.Kernel, h.Arch = unix.ByteSliceToString(u.Nodename[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])
	}
	return h
}

// missing says what is not recorded, and why.
func (r *recorder) missing() []string {
	var s []string
	if r.perf == nil {
		s = append(s, fmt.Sprintf("touches: %v", r.noPerf))
	} else {
		for _, m := range r.perf.Missing() {
			if r.mode != tracee.Untraced && (m.What == perf.MissingSyscalls || m.What == perf.MissingCloneFlags) {
				continue // ptrace has them
			}
			s = append(s, m.What+": "+m.Why)
		}
	}
	switch r.mode {
	case tracee.Complete:
		s = append(s, "reads of pages that a fork inherits: they do not fault")
	default:
		s = append(s, missingFaults...)
	}
	if r.mode == tracee.Untraced {
		s = append(s, missingAlone...)
	}
	if all := len(r.cfg.Argv); len(bounded(r.cfg.Argv)) < all {
		s = append(s, fmt.Sprintf("arguments of the command, all but the first: it had %d", all))
	}
	for i := range s {
		s[i] = strings.ToValidUTF8(s[i], "?")
	}
	return s
}
