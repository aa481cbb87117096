package session

import (
	"errors"
	"fmt"
	"syscall"

	"vmsim/mem"
	"vmsim/trace"
	"vmsim/verify"
	"vmsim/vm"
)

// simulator is the machine of this package as a trace drives it.
type simulator struct {
	*Rig
	opt       ReplayOptions
	recording bool // rules of recordings hold: trace/recorded.go
	unmapped  bool // memory that nobody mapped is there, as zeros
	files     map[string]*opened
	infos     map[string]trace.FileInfo
	objects   map[string]*sharedObject
	writable  int             // shared mappings of files that were made writable
	procs     map[int]*memory // by machine PID
	truths    map[truthKey]*verify.Truth
	count     *replayCounter // of a recording; else nil
	assembled map[assembledAt]bool

	firstWrong Moment
	wrongLine  string

	lastPID  int // of the process that Batch was asked for last
	lastProc *vm.Process
	lastMem  *memory

	expected expectedPages // what pages that were compared ought to hold

	ill      trace.Outcome // of the visit before
	inverted [1]byte       // what it wrote

	leaving *memory      // of the process that the operation under way has ended
	pending *presentLook // nil: none
}

var (
	_ trace.Machine     = (*simulator)(nil)
	_ trace.Batcher     = (*simulator)(nil)
	_ trace.HeapStarter = (*simulator)(nil)
	_ trace.Adopter     = (*simulator)(nil)
)

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
		loaded, err := s.program(path, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		prog = &loaded
	}
	p, err := s.Machine.Boot(prog)
	if err != nil {
		return err
	}
	m := &memory{}
	if s.recording {
		m = newRecordedMemory()
		m.program = s.count.program(path)
	}
	s.procs[p.PID] = m
	return s.start(p, m)
}

// truthKey names what a truth is of: an object at its place.
type truthKey struct {
	id   mem.FileID
	gen  uint64
	bias uint64
}

// maxTruths bounds the truths that are kept for the next exec: each may hold 2 MiB
// of its file.
const maxTruths = 32

// start makes m the memory of p right after an exec or a boot. Programs that run
// often are read once.
func (s *simulator) start(p *vm.Process, m *memory) error {
	var ts []*verify.Truth
	for _, o := range p.Objects() {
		f := o.Image.File
		key := truthKey{f.Identity(), f.Generation(), o.Bias}
		t := s.truths[key]
		if t == nil {
			var err error
			if t, err = verify.New(f, o.Bias); err != nil {
				return fmt.Errorf("%s: %w", f.Name(), err)
			}
			if len(s.truths) >= maxTruths {
				clear(s.truths)
			}
			s.truths[key] = t
		}
		ts = append(ts, t)
	}
	m.start(ts)
	return nil
}

func (s *simulator) Fork(pid int) (int, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return 0, err
	}
	child := p.Fork()
	if child.Ended() {
		return 0, syscall.ENOMEM
	}
	s.procs[child.PID] = m.clone()
	return child.PID, nil
}

func (s *simulator) Vfork(pid int) (int, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return 0, err
	}
	child := p.Vfork()
	s.procs[child.PID] = m
	return child.PID, nil
}

func (s *simulator) Exec(pid int, path string, at *trace.Layout) error {
	p, m, err := s.process(pid)
	if err != nil {
		return err
	}
	prog, err := s.program(path, at)
	if err != nil {
		return err
	}
	if err := p.Exec(prog); err != nil {
		switch {
		case isOOM(err):
			return oomKilled()
		case errors.Is(err, vm.ErrNoRoom):
			return syscall.ENOMEM
		}
		return err
	}
	next := &memory{}
	if s.recording {
		next = newRecordedMemory()
		next.program = s.count.program(path)
		next.program.Execs++
		if !at.Placed() {
			s.count.unplaced++
		}
		next.laidOut(p, at)
	}
	next.exec = m.exec // m may be the parent's too: it stays as it is
	s.procs[pid] = next
	return s.start(p, next)
}

// laidOut notes what a recording says of a program's place.
func (m *memory) laidOut(p *vm.Process, at *trace.Layout) {
	stack := stackOf(p)
	m.stack = mem.Range{Start: stack.End - vm.StackLimit, End: stack.End}
	m.args = stack // where they begin is not known
	m.brk = p.Brk(0)
	if at == nil {
		return
	}
	if at.Start != nil && at.Start.SP != 0 {
		m.args.Start = at.Start.SP.PageDown()
	}
	for _, a := range at.Areas {
		if a.Name != "[stack]" && a.Name != "[heap]" {
			m.extra = append(m.extra, a)
		}
	}
}

func (s *simulator) Exit(pid, status int) error {
	p, m, err := s.process(pid)
	if err != nil {
		return err
	}
	s.leaving = m
	p.Exit()
	delete(s.procs, pid)
	return nil
}

// isOOM reports whether err has killed the process.
func isOOM(err error) bool {
	var oom *vm.OOMKill
	return errors.As(err, &oom)
}

func oomKilled() error { return &trace.KilledError{Reason: string(trace.OOM)} }

// answer is the error of a system call as a trace has it.
func answer(err error) error {
	if isOOM(err) {
		return oomKilled()
	}
	return err
}

// Adopt is trace.Adopter's.
func (s *simulator) Adopt(pid int, a trace.Mapping) error {
	p, _, err := s.process(pid)
	if err != nil {
		return nil // it is no more
	}
	next, end := a.Addr, a.Addr+mem.VirtAddr(a.Len)
	var gaps []mem.Range
	for v := range p.Areas() {
		if v.End <= next {
			continue
		}
		if v.Start >= end {
			break
		}
		if start := v.Start.PageDown(); start > next {
			gaps = append(gaps, mem.Range{Start: next, End: start})
		}
		next = mem.Range{Start: next, End: v.End}.PageAlign().End
	}
	if next < end {
		gaps = append(gaps, mem.Range{Start: next, End: end})
	}
	for _, g := range gaps {
		part := a
		part.Addr, part.Len, part.Offset = g.Start, g.Len(), a.Offset+uint64(g.Start-a.Addr)
		part.Flags |= trace.MapFixed | trace.MapNoReplace
		if a.Path == "" {
			part.Offset = 0
		}
		var no syscall.Errno
		if _, err := s.Mmap(pid, part); err != nil && !errors.As(err, &no) {
			return err
		}
	}
	return nil
}

func (s *simulator) Mmap(pid int, a trace.Mapping) (mem.VirtAddr, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return 0, err
	}
	arg := vm.Mapping{Addr: a.Addr, Len: a.Len, Prot: a.Prot, Shared: a.Flags&trace.MapShared != 0,
		NoReplace: a.Flags&trace.MapNoReplace != 0, Offset: int64(a.Offset),
		GrowsDown: a.Flags&trace.MapGrowsDown != 0, Locked: a.Flags&trace.MapLocked != 0,
		Populate: a.Flags&trace.MapPopulate != 0 && a.Flags&trace.MapNonBlock == 0}
	arg.Fixed = a.Flags&trace.MapFixed != 0 || arg.NoReplace
	if !arg.Fixed && a.At != 0 {
		arg.Addr = a.At
	}
	var src source
	switch {
	case a.Path != "" && s.recording:
		src = s.source(a.Path, arg.Shared)
		if arg.File = src.file; src.object != nil {
			arg.Object = src.object.vm
		}
		arg.SharedWrite = arg.Shared && arg.File != nil && a.Prot&mem.ProtWrite != 0
	case a.Path != "":
		o := s.open(a.Path)
		if o.err != nil {
			return 0, errnoOf(o.err)
		}
		arg.File = o.file
	}
	if arg.File == nil && arg.Object == nil {
		arg.Offset = 0
	}
	at, err := p.Mmap(arg)
	if err != nil {
		return 0, answer(err)
	}
	if arg.SharedWrite {
		s.writable++
	}
	r := mem.Range{Start: at, End: at + mem.VirtAddr(a.Len)}.PageAlign()
	if s.recording {
		m.mappedRecorded(r, arg, src)
	} else {
		m.mapped(r, arg)
	}
	return at, nil
}

// mappedRecorded is mapped for a recording.
func (m *memory) mappedRecorded(r mem.Range, a vm.Mapping, src source) {
	g := region{Range: r, file: a.File, offset: a.Offset, object: src.object, unknown: src.unknown}
	if a.Shared && a.File == nil && g.object == nil {
		g.object = &sharedObject{seen: newPageSet()}
	}
	m.replace(g)
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
	return answer(p.Mprotect(addr, n, prot))
}

func (s *simulator) Mremap(pid int, a trace.Remapping) (mem.VirtAddr, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return 0, err
	}
	arg := vm.Remap{Old: a.Addr, OldLen: a.Len, NewLen: a.NewLen, New: a.To, At: a.At,
		MayMove: a.Flags&trace.RemapMayMove != 0, Fixed: a.Flags&trace.RemapFixed != 0, DontUnmap: a.Flags&trace.RemapDontUnmap != 0}
	var parts []mem.Range
	if arg.Fixed && arg.OldLen == arg.NewLen { // it moves areas, and leaves what their gaps come to lie on
		for v := range p.Areas() {
			if r := v.Intersect(mem.Range{Start: a.Addr, End: a.Addr + mem.VirtAddr(a.Len)}); !r.Empty() {
				parts = append(parts, r.PageAlign())
			}
		}
	}
	at, err := p.Mremap(arg)
	from := mem.Range{Start: a.Addr, End: a.Addr + mem.VirtAddr(a.Len)}.PageAlign()
	if err != nil && err != syscall.EINVAL && arg.Fixed && !p.Ended() {
		// The new place may be empty, and what lies before the area that it failed at
		// may have moved there.
		for r, n := range map[mem.VirtAddr]uint64{a.Addr: a.Len, a.To: max(a.Len, a.NewLen)} {
			m.lose(mem.Range{Start: r, End: r + mem.VirtAddr(n)}.PageAlign(), unknownMoved)
		}
	}
	if err != nil {
		return 0, answer(err)
	}
	to := mem.Range{Start: at, End: at + mem.VirtAddr(a.NewLen)}.PageAlign()
	if parts == nil {
		m.remapped(from, to, arg.DontUnmap)
	}
	for _, r := range parts {
		shift := r.Start - from.Start
		m.remapped(r, mem.Range{Start: to.Start + shift, End: to.Start + shift + mem.VirtAddr(r.Len())}, arg.DontUnmap)
	}
	return at, nil
}

func (s *simulator) Madvise(pid int, addr mem.VirtAddr, n uint64, advice trace.Advice) error {
	p, m, err := s.process(pid)
	if err != nil {
		return err
	}
	err = p.Madvise(addr, n, vm.Advice(advice))
	r := mem.Range{Start: addr, End: addr + mem.VirtAddr(n)}.PageAlign()
	drops := advice == trace.AdviceDontNeed || advice == trace.AdviceDontNeedLock
	if err != nil && drops && !p.Ended() { // what lies before the area that it failed at is gone
		at := r.Start
		for e := range p.Space().Entries(r) {
			m.dropped(mem.Range{Start: at, End: max(at, e.Addr)})
			at = e.Addr + mem.VirtAddr(e.Size)
		}
		m.dropped(mem.Range{Start: at, End: max(at, r.End)})
		return answer(err)
	}
	if err == syscall.EINVAL && (advice == trace.AdviceWipeOnFork || advice == trace.AdviceKeepOnFork) && !r.Empty() {
		m.vague = append(m.vague[:len(m.vague):len(m.vague)], r)
	}
	if err != nil && err != syscall.ENOMEM { // over holes the rest is done
		return answer(err)
	}
	switch advice {
	case trace.AdviceDontNeed, trace.AdviceDontNeedLock:
		m.dropped(r)
	case trace.AdviceRemove:
		m.removed(r)
	case trace.AdviceWipeOnFork, trace.AdviceKeepOnFork:
		m.wipe(r, advice == trace.AdviceWipeOnFork)
	case trace.AdviceDontFork, trace.AdviceDoFork:
		m.partFrom(r, advice == trace.AdviceDontFork)
	}
	return err
}

func (s *simulator) Lock(pid int, l trace.Lock) error {
	p, _, err := s.process(pid)
	if err != nil {
		return err
	}
	// include/uapi/asm-generic/mman.h
	const mlockOnFault, mclCurrent, mclFuture, mclOnFault = 1, 1, 2, 4
	switch l.Kind {
	case trace.OpMlock:
		if l.Flags&^mlockOnFault != 0 {
			return syscall.EINVAL
		}
		err = p.Mlock(l.Addr, l.Len, l.Flags&mlockOnFault != 0)
	case trace.OpMunlock:
		err = p.Munlock(l.Addr, l.Len)
	case trace.OpMlockall:
		if l.Flags&^(mclCurrent|mclFuture|mclOnFault) != 0 {
			return syscall.EINVAL
		}
		err = p.Mlockall(vm.LockAll{Current: l.Flags&mclCurrent != 0, Future: l.Flags&mclFuture != 0, OnFault: l.Flags&mclOnFault != 0})
	default:
		err = p.Munlockall()
	}
	return answer(err)
}

// Shmdt unmaps what is left of the shared memory that begins at addr: each region
// of its object that lies at the distance of its offset (Linux:
// ipc/shm.c:ksys_shmdt).
func (s *simulator) Shmdt(pid int, addr mem.VirtAddr) error {
	p, m, err := s.process(pid)
	if err != nil {
		return err
	}
	if addr.PageOffset() != 0 {
		return syscall.EINVAL
	}
	if m.regions == nil {
		return syscall.EINVAL
	}
	var object *sharedObject
	var found []mem.Range
	m.regions.AscendGreaterOrEqual(region{Range: mem.Range{Start: addr}}, func(g region) bool {
		if g.object == nil || g.object.vm == nil || object != nil && g.object != object {
			return true
		}
		if mem.VirtAddr(g.offset) != g.Start-addr {
			return object != nil || g.Start == addr
		}
		object = g.object
		found = append(found, g.Range)
		return true
	})
	if object == nil {
		return syscall.EINVAL
	}
	for _, r := range found {
		if err := p.Munmap(r.Start, r.Len()); err != nil {
			return err
		}
		m.forget(r)
	}
	return nil
}

// StartHeap is trace.HeapStarter's.
func (s *simulator) StartHeap(pid int, at mem.VirtAddr) {
	if p, m, err := s.process(pid); err == nil {
		p.StartHeap(at)
		m.brk = p.Brk(0)
	}
}

func (s *simulator) Brk(pid int, addr mem.VirtAddr) (mem.VirtAddr, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return 0, err
	}
	before := p.Brk(0)
	after := p.Brk(addr)
	if p.Ended() {
		return 0, oomKilled()
	}
	if after < before {
		m.forget(mem.Range{Start: (after + mem.PageSize - 1).PageDown(), End: (before + mem.PageSize - 1).PageDown()})
	}
	return after, nil
}

func (s *simulator) Touch(pid int, t trace.Touch, about trace.TouchInfo) (trace.Outcome, error) {
	p, m, err := s.process(pid)
	if err != nil {
		return trace.Outcome{}, err
	}
	if s.recording {
		return s.touchRecorded(p, m, t, about)
	}
	var kind vm.FaultKind
	if t.Access == mem.Write {
		kind, err = p.Write(t.Addr, []byte{t.Value})
	} else {
		kind, err = p.Touch(t.Addr, t.Access)
	}
	if err != nil {
		return refused(p, about, err)
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
	s.wrong(p, m, &out)
	return out, nil
}

// refused is the outcome of an access that failed with err.
func refused(p *vm.Process, about trace.TouchInfo, err error) (trace.Outcome, error) {
	var segv *vm.Segfault
	var oom *vm.OOMKill
	switch {
	case errors.As(err, &segv):
		if !about.Handled {
			p.Kill("segv")
		}
		return trace.Outcome{Fault: trace.Fault(segv.Code()), Crashed: !about.Handled, Reason: segv.Error()}, nil
	case errors.As(err, &oom):
		return trace.Outcome{Fault: trace.OOM, Crashed: true, Reason: oom.Error()}, nil
	}
	return trace.Outcome{}, err
}

// wrong ends p, which has read a wrong byte: it would have crashed sooner or
// later.
func (s *simulator) wrong(p *vm.Process, m *memory, out *trace.Outcome) {
	out.Wrong, out.Crashed, out.Reason = true, true, lastFailure(s.Witness)
	if s.firstWrong == (Moment{}) {
		s.firstWrong, s.wrongLine = Moment{m.exec, p.PID}, out.Reason
		if s.recording {
			s.count.rec.WrongIn = m.program.Path
		}
	}
	p.Kill("wrong byte")
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
