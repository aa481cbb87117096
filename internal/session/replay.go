package session

import (
	"fmt"
	"io"
	"path/filepath"

	"vmsim/hugepage"
	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/trace"
	"vmsim/verify"
	"vmsim/vm"
)

const defaultPolicy = hugepage.DefaultPolicy

// ReplayOptions are those of a replay alone.
type ReplayOptions struct {
	Sysroot string   // the folder below which a recording's files lie; "": /
	Force   bool     // run binaries that are other files today; answer what the trace does not tell
	Profile *Profile // takes the faults of a recording; may be nil
}

// ReplayResult is what a replay found.
type ReplayResult struct {
	trace.Result
	FirstAssembly Moment
	FirstWrong    Moment // the first crash by a wrong byte
	WrongLine     string
	Stats         vm.Stats
	Tally         verify.Tally
	Failures      []event.Event
	Recording     *Recording // nil for a trace that somebody wrote
}

// OK reports whether nothing went wrong: nothing of Result, no page that was found
// wrong, and no touch refused of which the recording shows that it was not.
func (r *ReplayResult) OK() bool {
	return r.Result.OK() && r.Tally.Failures == 0 && (r.Recording == nil || r.Recording.Contradicted() == 0)
}

// Replay runs a trace through a new machine. Every touch of a page is compared:
// with the truth of the program or the mapped file, or zero, changed by what
// the process and its ancestors wrote. Of a recording, whose writes carry no
// contents, the first touch is.
//
// The error is bad input (*trace.SyntaxError, with its line) or trouble; the
// result then holds what was run until there. stop ends the run early when it
// returns true, with ErrStopped.
func (rig *Rig) Replay(path string, r io.Reader, stop func() bool) (ReplayResult, error) {
	return rig.ReplayWith(path, r, stop, ReplayOptions{})
}

// ReplayWith is Replay with options. The error is, beside Replay's,
// ErrFaultsAlone, or wraps ErrOtherFile.
func (rig *Rig) ReplayWith(path string, r io.Reader, stop func() bool, opt ReplayOptions) (ReplayResult, error) {
	rig.Reset()
	src, err := trace.Open(path, r)
	if err != nil {
		return ReplayResult{}, err
	}
	h, err := src.Header()
	if err != nil {
		return ReplayResult{}, err
	}
	sim := rig.newSimulator(h, opt)
	defer sim.close()
	if opt.Profile != nil {
		defer opt.Profile.close()
	}
	defer func() { rig.onAssembled = nil }()
	if sim.recording {
		if err := answers(h, rig.opt, opt.Force); err != nil {
			return ReplayResult{}, fmt.Errorf("%s: %w", path, err)
		}
	}
	var res ReplayResult
	runner := trace.Runner{Machine: sim, Name: path, Dir: filepath.Dir(path), Header: h, Stop: stop, Stopped: ErrStopped}
	execs := 0
	runner.After = func(s *trace.Step) {
		sim.after(s)
		if s.Skipped || s.Op.Kind != trace.OpExec || sim.recording && s.Got.Errno != 0 {
			return
		}
		execs++
		m, ok := sim.procs[s.PID]
		if ok {
			m.exec = execs
		}
		if res.FirstAssembly == (Moment{}) && rig.Machine.Stats().Assembled > 0 {
			res.FirstAssembly = Moment{execs, s.PID}
			if ok && sim.recording {
				sim.count.rec.AssembledIn = m.program.Path
			}
		}
	}
	if sim.recording {
		runner.Before = sim.before
	}
	res.Result, err = runner.RunSource(src)
	written, changed := sim.unchanged()
	if err == nil {
		err = changed
	}
	if sim.recording {
		sim.before(nil)
		res.Recording = sim.count.end(rig.Machine)
		res.Recording.Limits = limits(h, rig.opt, sim.count.unplaced, res.Incomparable)
		for _, path := range written {
			res.Recording.Limits = append(res.Recording.Limits, path+" was written during the replay: what differed from it then counts as not known")
		}
	}
	res.FirstWrong, res.WrongLine = sim.firstWrong, sim.wrongLine
	res.Stats, res.Tally, res.Failures = rig.Machine.Stats(), rig.Witness.Tally(), rig.Witness.Failures()
	return res, err
}

// newSimulator returns a machine for a trace with this header.
func (rig *Rig) newSimulator(h trace.Header, opt ReplayOptions) *simulator {
	s := &simulator{Rig: rig, opt: opt, recording: h.Recorded(), files: map[string]*opened{}, infos: map[string]trace.FileInfo{},
		objects: map[string]*sharedObject{}, procs: map[int]*memory{}, truths: map[truthKey]*verify.Truth{}}
	if s.recording {
		s.unmapped = withoutMappings(h)
		s.count = newCounter(h)
		s.assembled = map[assembledAt]bool{}
		rig.onAssembled = func(w mem.Window) {
			s.assembled[assembledAt{w.File.Identity(), w.Bias, w.Base}] = true
		}
	}
	return s
}

// after takes an operation that was run.
func (s *simulator) after(st *trace.Step) {
	if st.Op.Kind != trace.OpTouch && s.lastPID == st.PID { // it may have ended, or exec'ed
		s.lastPID, s.lastProc, s.lastMem = 0, nil, nil
	}
	if !s.recording || st.Skipped {
		return
	}
	op := &st.Op
	m := s.procs[st.PID]
	switch {
	case op.Kind == trace.OpPresent:
		s.present(op, st.PID)
	case op.Kind == trace.OpExit && m == nil && s.leaving != nil:
		m = s.leaving
	}
	if op.Kind == trace.OpExit && m != nil {
		m.program.Recorded.MinFlt += op.MinFlt
		m.program.Recorded.MajFlt += op.MajFlt
	}
	if st.Outcome.Crashed && m != nil {
		m.program.Crashed++
	}
	if !op.Kind.Describes() {
		s.count.step(s.Machine, m, op.Kind == trace.OpTouch)
	}
	s.leaving = nil
}
