package session

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"syscall"

	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/trace"
	"vmsim/verify"
	"vmsim/vm"
)

// ReplayResult is what a replay found.
type ReplayResult struct {
	trace.Result
	FirstAssembly Moment
	FirstWrong    Moment // the first crash by a wrong byte
	WrongLine     string
	Stats         vm.Stats
	Tally         verify.Tally
	Failures      []event.Event
}

// Replay runs a trace through a new machine. Every touch of a page is compared:
// with the truth of the program or the mapped file, or zero, changed by what
// the process and its ancestors wrote.
//
// The error is bad input (*trace.SyntaxError, with its line) or trouble; the
// result then holds what was run until there. stop ends the run early when it
// returns true, with ErrStopped.
func (rig *Rig) Replay(path string, r io.Reader, stop func() bool) (ReplayResult, error) {
	rig.Reset()
	sim := &simulator{Rig: rig, files: map[string]*opened{}, procs: map[int]*memory{}}
	defer sim.close()
	var res ReplayResult
	execs := 0
	runner := trace.Runner{Machine: sim, Name: path, Dir: filepath.Dir(path), After: func(s trace.Step) {
		if s.Skipped {
			return
		}
		if s.Op.Kind == trace.OpExec {
			execs++
			if m, ok := sim.procs[s.PID]; ok {
				m.exec = execs
			}
			if res.FirstAssembly == (Moment{}) && rig.Machine.Stats().Assembled > 0 {
				res.FirstAssembly = Moment{execs, s.PID}
			}
		}
	}}
	var err error
	res.Result, err = runner.Run(until(stop, trace.NewDecoder(path, r).All()))
	if err == nil {
		err = sim.unchanged()
	}
	res.FirstWrong, res.WrongLine = sim.firstWrong, sim.wrongLine
	res.Stats, res.Tally, res.Failures = rig.Machine.Stats(), rig.Witness.Tally(), rig.Witness.Failures()
	return res, err
}

// until yields ops until stop returns true.
func until(stop func() bool, ops iter.Seq2[trace.Op, error]) iter.Seq2[trace.Op, error] {
	return func(yield func(trace.Op, error) bool) {
		for op, err := range ops {
			if stop() {
				yield(trace.Op{}, ErrStopped)
				return
			}
			if !yield(op, err) {
				return
			}
		}
	}
}

// simulator is the machine of this package as a trace drives it.
type simulator struct {
	*Rig
	files      map[string]*opened
	procs      map[int]*memory // by machine PID
	firstWrong Moment
	wrongLine  string
}

// opened is a file that a trace names, open until the replay ends.
type opened struct {
	file *mem.OSFile
	im   *loader.Image // nil until it was parsed
	err  error         // of opening
	perr error         // of parsing
}

func (s *simulator) close() {
	for _, o := range s.files {
		if o.file != nil {
			o.file.Close()
		}
	}
}

// unchanged returns ErrChanged for the first file, by name, that was written
// since it was opened.
func (s *simulator) unchanged() error {
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		if f := s.files[path].file; f != nil && f.Changed() {
			return fmt.Errorf("%s: %w", path, ErrChanged)
		}
	}
	return nil
}

func (s *simulator) open(path string) *opened {
	if o, ok := s.files[path]; ok {
		return o
	}
	o := &opened{}
	o.file, o.err = mem.OpenFile(path)
	s.files[path] = o
	return o
}

// image returns the parsed program at path, or the errno that execve gives.
func (s *simulator) image(path string) (*loader.Image, error) {
	o := s.open(path)
	if o.err != nil {
		return nil, errnoOf(o.err)
	}
	if o.im == nil && o.perr == nil {
		o.im, o.perr = loader.Parse(o.file)
	}
	if o.perr != nil {
		return nil, syscall.ENOEXEC
	}
	return o.im, nil
}

func errnoOf(err error) error {
	var no syscall.Errno
	switch {
	case errors.As(err, &no):
		return no
	case errors.Is(err, mem.ErrNotRegular), errors.Is(err, fs.ErrPermission):
		return syscall.EACCES
	case errors.Is(err, fs.ErrNotExist):
		return syscall.ENOENT
	}
	return err
}

func (s *simulator) program(path string) (vm.Program, error) {
	im, err := s.image(path)
	if err != nil {
		return vm.Program{}, err
	}
	prog := vm.Program{Image: im}
	if im.Interp != "" {
		if prog.Interp, err = s.image(im.Interp); err != nil {
			return vm.Program{}, err
		}
	}
	return prog, nil
}

// process returns a live process, or ESRCH.
func (s *simulator) process(pid int) (*vm.Process, *memory, error) {
	p, ok := s.Machine.Process(pid)
	if !ok {
		return nil, nil, syscall.ESRCH
	}
	return p, s.procs[pid], nil
}

func (s *simulator) Boot(path string) error {
	var prog *vm.Program
	if path != "" {
		loaded, err := s.program(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		prog = &loaded
	}
	p, err := s.Machine.Boot(prog)
	if err != nil {
		return err
	}
	s.procs[p.PID] = &memory{}
	return s.procs[p.PID].start(p)
}

func (s *simulator) Fork(pid int) (int, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return 0, err
	}
	child := p.Fork()
	s.procs[child.PID] = m.clone()
	return child.PID, nil
}

func (s *simulator) Exec(pid int, path string) error {
	p, m, err := s.process(pid)
	if err != nil {
		return err
	}
	prog, err := s.program(path)
	if err != nil {
		return err
	}
	if err := p.Exec(prog); err != nil {
		var oom *vm.OOMKill
		switch {
		case errors.As(err, &oom):
			return &trace.KilledError{Reason: string(trace.OOM)}
		case errors.Is(err, vm.ErrNoRoom):
			return syscall.ENOMEM
		}
		return err
	}
	return m.start(p)
}

func (s *simulator) Exit(pid, status int) error {
	p, _, err := s.process(pid)
	if err != nil {
		return err
	}
	p.Exit()
	delete(s.procs, pid)
	return nil
}

func (s *simulator) Mmap(pid int, a trace.Mapping) (mem.VirtAddr, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return 0, err
	}
	arg := vm.Mapping{Addr: a.Addr, Len: a.Len, Prot: a.Prot, Shared: a.Flags&trace.MapShared != 0,
		NoReplace: a.Flags&trace.MapNoReplace != 0, Offset: int64(a.Offset)}
	arg.Fixed = a.Flags&trace.MapFixed != 0 || arg.NoReplace
	if a.Path != "" {
		o := s.open(a.Path)
		if o.err != nil {
			return 0, errnoOf(o.err)
		}
		arg.File = o.file
	}
	at, err := p.Mmap(arg)
	if err != nil {
		return 0, err
	}
	r := mem.Range{Start: at, End: at + mem.VirtAddr(a.Len)}.PageAlign()
	m.mapped(r, arg)
	return at, nil
}

func (s *simulator) Munmap(pid int, addr mem.VirtAddr, n uint64) error {
	p, m, err := s.process(pid)
	if err != nil {
		return err
	}
	if err := p.Munmap(addr, n); err != nil {
		return err
	}
	m.forget(mem.Range{Start: addr, End: addr + mem.VirtAddr(n)}.PageAlign())
	return nil
}

func (s *simulator) Mprotect(pid int, addr mem.VirtAddr, n uint64, prot mem.Prot) error {
	p, _, err := s.process(pid)
	if err != nil {
		return err
	}
	return p.Mprotect(addr, n, prot)
}

func (s *simulator) Brk(pid int, addr mem.VirtAddr) (mem.VirtAddr, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return 0, err
	}
	before := p.Brk(0)
	after := p.Brk(addr)
	if after < before {
		m.forget(mem.Range{Start: (after + mem.PageSize - 1).PageDown(), End: (before + mem.PageSize - 1).PageDown()})
	}
	return after, nil
}

func (s *simulator) Touch(pid int, t trace.Touch) (trace.Outcome, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return trace.Outcome{}, err
	}
	var kind vm.FaultKind
	if t.Access == mem.Write {
		kind, err = p.Write(t.Addr, []byte{t.Value})
	} else {
		kind, err = p.Touch(t.Addr, t.Access)
	}
	var segv *vm.Segfault
	var oom *vm.OOMKill
	switch {
	case errors.As(err, &segv):
		p.Kill("segv")
		return trace.Outcome{Fault: trace.Fault(segv.Code()), Crashed: true, Reason: segv.Error()}, nil
	case errors.As(err, &oom):
		return trace.Outcome{Fault: trace.OOM, Crashed: true, Reason: oom.Error()}, nil
	case err != nil:
		return trace.Outcome{}, err
	}
	if t.Access == mem.Write {
		m.wrote(t.Addr, t.Value)
	}
	out := trace.Outcome{Fault: trace.Fault(kind.String())}
	data, _, err := p.ReadPage(t.Addr)
	if err != nil {
		return trace.Outcome{}, err
	}
	out.Byte = data[t.Addr.PageOffset()]
	ok, err := m.compare(s.Witness, p.PID, t.Addr.PageDown(), data)
	if err != nil || ok {
		return out, err
	}
	out.Wrong, out.Crashed, out.Reason = true, true, lastFailure(s.Witness)
	if s.firstWrong == (Moment{}) {
		s.firstWrong, s.wrongLine = Moment{m.exec, p.PID}, out.Reason
	}
	p.Kill("wrong byte")
	return out, nil
}

func (s *simulator) Resolve(pid int, path string, off uint64) (mem.VirtAddr, bool) {
	p, _, err := s.process(pid)
	o := s.open(path)
	if err != nil || o.err != nil {
		return 0, false
	}
	for v := range p.Areas() {
		if v.File == nil || v.File.Identity() != o.file.Identity() || v.FileRange().Empty() {
			continue
		}
		if d := int64(off) - v.Offset; d >= 0 && uint64(d) < v.FileRange().Len() {
			return v.Start + mem.VirtAddr(d), true
		}
	}
	return 0, false
}
