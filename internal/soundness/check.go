package soundness

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"vmsim/mem"
	"vmsim/trace"
)

// Options say how a trace is checked.
type Options struct {
	Strict bool             // nothing is excepted as Kernel
	Each   func(Comparison) // is told every comparison, in order; nil: nobody
	Stop   func() bool      // asked every 4096 operations: true ends the check; nil: never
}

// Check checks a recording: next returns its operations, and io.EOF behind the
// last one. The error is that of next; the report holds what was found until then.
func Check(h trace.Header, next func() (trace.Op, error), opt Options) (Report, error) {
	c := New(h, opt)
	for {
		op, err := next()
		if err == io.EOF {
			return c.End(true), nil
		}
		if err != nil {
			return c.End(false), err
		}
		c.Op(&op)
		if opt.Stop != nil && c.report.Ops%4096 == 0 && opt.Stop() {
			return c.End(false), nil
		}
	}
}

// Checker is Check for operations that come one by one.
type Checker struct {
	header    trace.Header
	opt       Options
	report    Report
	processes map[int]*process // live, by PID
	tasks     map[int]*process // live threads, by TID, processes' first ones too
	used      *spans[bool]     // numbers of tasks, as pages
	files     map[string]*trace.FileInfo
	sources   map[string]*source
	anonymous *source  // private
	shared    *source  // shared anonymous memory, as areas name it
	leaving   *process // has exited; its last look may follow
	leftBy    int      // the signal that killed it
	noCodes   bool     // the header says that it is not known whether a touch read or wrote
	noKernel  bool     // and that touches of the kernel are not recorded
	time      uint64   // of the last operation that has one
	init      bool     // process 1 is counted
}

// process is one that lives.
type process struct {
	pid     int
	program string
	space   *space
	threads map[int]mem.VirtAddr // live, by TID: the address it touched last
	lasts   []mem.VirtAddr       // of the threads that have ended: the last few
	ended   int                  // threads that have ended
	look    *look                // not evaluated yet
	looked  bool                 // at its exit
	exited  bool
	inherit bool // its present set at fork, or exec, has not come yet
	torn    bool // forked while other threads ran: what they had done by then, only the recorder's look tells
}

// New returns a Checker of a trace with header h.
func New(h trace.Header, opt Options) *Checker {
	c := &Checker{header: h, opt: opt, processes: map[int]*process{}, tasks: map[int]*process{}, used: newSpans[bool](),
		files: map[string]*trace.FileInfo{}, sources: map[string]*source{}}
	c.anonymous = &source{class: classAnon, name: "anonymous"}
	c.shared = &source{class: classFile, key: "shared", name: "shared anonymous"}
	c.sources[c.anonymous.key], c.sources[c.shared.key] = c.anonymous, c.shared
	c.report.Lost = h.Lost
	c.noCodes, c.noKernel = h.Lacks(trace.MissingCodes), h.Lacks(trace.MissingKernelFaults)
	c.start(1, newSpace())
	c.report.Processes = 0 // unless it does more than to fork
	return c
}

// start makes a process known.
func (c *Checker) start(pid int, s *space) *process {
	p := &process{pid: pid, space: s, threads: map[int]mem.VirtAddr{pid: 0}}
	s.users[pid] = p
	c.processes[pid], c.tasks[pid] = p, p
	c.used.set(number(pid), true)
	c.report.Processes++
	return p
}

// number is a task's number as a page.
func number(n int) mem.Range { return mem.PageOf(mem.VirtAddr(n) << mem.PageShift) }

// problem takes an operation that cannot be.
func (c *Checker) problem(op *trace.Op, format string, args ...any) {
	if c.report.Problems++; len(c.report.List) < mostProblems {
		p := Problem{Text: fmt.Sprintf(format, args...)}
		if op != nil {
			p.Line, p.Time, p.PID = op.Line, op.Time, op.PID
		}
		c.report.List = append(c.report.List, p)
	}
}

// complete reports whether the header promises present sets.
func (c *Checker) complete() bool { return c.header.Touches == trace.TouchesComplete }

// Op takes the next operation.
func (c *Checker) Op(op *trace.Op) {
	c.report.Ops++
	if op.Time != 0 {
		if op.Time < c.time {
			c.problem(op, "%v: the time goes back by %d ns", op.Kind, c.time-op.Time)
		}
		c.time = max(c.time, op.Time)
	}
	if c.leaving != nil && !(c.leaving.pid == op.PID && op.Point == trace.PointExit) {
		c.left()
	}
	switch op.Kind {
	case trace.OpMark:
	case trace.OpFile:
		c.named(op)
	case trace.OpLost:
		c.report.Lost += op.Count
	default:
		if p := c.who(op); p != nil {
			c.act(p, op)
		}
	}
}

// who returns the process that does op, or nil, with a problem, if there is none.
func (c *Checker) who(op *trace.Op) *process {
	p := c.processes[op.PID]
	if p == nil && c.leaving != nil && c.leaving.pid == op.PID {
		p = c.leaving
	}
	switch {
	case p == nil && c.used.has(op.PID):
		c.problem(op, "%v: the process has ended", op.Kind)
	case p == nil:
		c.problem(op, "%v: the process was never started", op.Kind)
	case op.TID != 0 && c.tasks[op.TID] != p && p != c.leaving:
		c.problem(op, "%v: thread %d does not live", op.Kind, op.TID)
	}
	return p
}

func (m *spans[T]) has(n int) bool { _, ok := m.at(number(n).Start); return ok }

// named takes a file line.
func (c *Checker) named(op *trace.Op) {
	f := *op.File
	c.files[strings.TrimSuffix(op.Path, " (deleted)")] = &f
}

// file returns what the trace said of a path; nil if nothing.
func (c *Checker) file(path string) *trace.FileInfo {
	return c.files[strings.TrimSuffix(path, " (deleted)")]
}

// mustBeNamed complains about a path that no file line came before.
func (c *Checker) mustBeNamed(op *trace.Op) {
	if anon := strings.HasPrefix(op.Path, "/dev/zero"); !anon && op.Path != "" && c.header.Recorded() && c.file(op.Path) == nil {
		c.problem(op, "%v: no file line says what %q is", op.Kind, op.Path)
		c.named(&trace.Op{Path: op.Path, File: &trace.FileInfo{Kind: trace.MemoryFile}}) // once
	}
}

// act is an operation of a process that lives.
func (c *Checker) act(p *process, op *trace.Op) {
	if p.pid == 1 && !c.init && op.Kind != trace.OpFork {
		c.init = true
		c.report.Processes++
	}
	switch op.Kind {
	case trace.OpNote:
		p.space.uncut = p.space.uncut || strings.HasPrefix(op.Name, UncutNote)
		return
	case trace.OpArea, trace.OpPresent:
		c.see(p, op)
		return
	}
	if p.space.looking != nil && op.Kind != trace.OpExit {
		c.flush(p.space.looking, 0)
	}
	switch op.Kind {
	case trace.OpBoot:
	case trace.OpFork, trace.OpVfork, trace.OpThread:
		c.fork(p, op)
	case trace.OpExec:
		if errno(op) == 0 {
			c.mustBeNamed(op)
			c.exec(p, op)
		}
	case trace.OpExit:
		c.exit(p, op)
	case trace.OpTouch:
		c.touch(p, op)
	default:
		if errno(op) == 0 {
			c.mustBeNamed(op)
		}
		if p.space.known {
			c.call(p.space, op)
		}
	}
}

// UncutNote is how a note begins which says that areas of a process are not cut
// into pages: fault-around may show in a complete recording.
const UncutNote = "uncut"

// touch is a touch of memory.
func (c *Checker) touch(p *process, op *trace.Op) {
	c.report.Touches++
	if op.Path != "" {
		return // of a trace that somebody wrote: at a place in a file
	}
	p.threads[op.Thread()] = op.Addr
	if op.Want != nil && op.Want.Fault.Fatal() {
		return
	}
	if p.space.known {
		p.space.touch(op.Addr, op.Access)
	}
}

// Flags of clone, include/uapi/linux/sched.h.
const cloneVM = 0x100

// fork also is vfork and thread.
func (c *Checker) fork(p *process, op *trace.Op) {
	child := op.Want.PID
	if c.used.has(child) {
		c.problem(op, "%v: %d was the number of another task before", op.Kind, child)
		if c.tasks[child] != nil {
			return
		}
	}
	if op.Kind == trace.OpThread {
		p.threads[child] = 0
		c.tasks[child] = p
		c.used.set(number(child), true)
		c.report.Threads++
		return
	}
	if op.Kind == trace.OpVfork || op.Bits&cloneVM != 0 {
		c.start(child, p.space).program = p.program
		return
	}
	others := len(p.threads) > 1 || len(p.space.users) > 2 // two: it is a vfork child, and its parent waits
	for _, o := range p.space.users {
		others = others || len(o.threads) > 1
	}
	q := c.start(child, p.space.fork())
	q.torn = others
	q.program, q.inherit = p.program, true
}

// exec makes the address space anew; areas and pages follow in lines of their own.
func (c *Checker) exec(p *process, op *trace.Op) {
	c.report.Execs++
	c.leave(p)
	for tid := range p.threads {
		if tid != p.pid {
			delete(c.tasks, tid)
		}
	}
	p.threads, p.lasts, p.ended = map[int]mem.VirtAddr{p.pid: 0}, nil, 0
	p.space, p.program, p.inherit = newSpace(), op.Path, true
	p.space.users[p.pid] = p
	if op.Start != nil && op.Start.Brk != 0 {
		p.space.brk, p.space.brkKnown = op.Start.Brk, true
	}
}

// leave takes p out of its space.
func (c *Checker) leave(p *process) {
	if p.space.looking == p {
		p.space.looking = nil
	}
	delete(p.space.users, p.pid)
}

// exit ends a thread, or the process.
func (c *Checker) exit(p *process, op *trace.Op) {
	tid := op.Thread()
	if p.exited {
		c.problem(op, "exit: the process has ended")
		return
	}
	pending := p.look != nil && p.look.point == trace.PointExit
	if len(p.threads) > 1 && (op.TID != 0 || !pending) {
		if at := p.threads[tid]; len(p.lasts) < 64 && at != 0 {
			p.lasts = append(p.lasts, at)
		}
		p.ended++
		delete(p.threads, tid)
		if tid != p.pid {
			delete(c.tasks, tid)
		}
		return
	}
	if p.space.looking != nil {
		c.flush(p.space.looking, op.Signal)
	}
	p.exited = true
	delete(c.processes, p.pid)
	c.leaving, c.leftBy = p, op.Signal
	if p.looked {
		c.left()
	}
}

// left forgets the process that is leaving; its last look has come, or does not.
func (c *Checker) left() {
	p := c.leaving
	c.leaving = nil
	if p.space.looking == p {
		c.flush(p, c.leftBy)
	}
	if c.complete() && !p.looked && len(p.space.users) < 2 && p.space.known {
		c.problem(&trace.Op{PID: p.pid}, "exit: no present set was recorded")
	}
	for tid := range p.threads {
		delete(c.tasks, tid)
	}
	delete(c.tasks, p.pid)
	c.leave(p)
}

// see takes a line of a look.
func (c *Checker) see(p *process, op *trace.Op) {
	if l := p.look; l != nil && (l.point != op.Point || l.time != op.Time) {
		c.flush(p, c.leftBy)
	}
	if p.look == nil {
		if p.space.looking != nil {
			c.flush(p.space.looking, 0)
		}
		p.look, p.space.looking = newLook(op), p
	}
	l := p.look
	if op.Kind == trace.OpPresent {
		l.hasPages = true
		for _, r := range op.Set.Runs {
			if r.End > mem.UserEnd {
				c.problem(op, "present: %v lies beyond user space", r.Range)
				continue
			}
			if len(l.pages.in(r.Range)) > 0 {
				c.problem(op, "present: %v comes twice", r.Range)
			}
			l.pages.set(r.Range, pageOf(r.Kind))
		}
		return
	}
	c.mustBeNamed(op)
	l.hasAreas = true
	r, ok := pagesOf(op.Addr, op.Len)
	switch {
	case op.Addr >= mem.UserEnd: // [vsyscall] is no area of the process
	case !ok || r.Empty() || r.Len() != op.Len:
		c.problem(op, "area: %v of 0x%x bytes is no range of whole pages in user space", op.Addr, op.Len)
	default:
		if len(l.areas.in(r)) > 0 {
			c.problem(op, "area: %v lies on another area", r)
		}
		l.areas.set(r, c.areaOf(op, r.Start))
	}
}

// flush evaluates the look of p.
func (c *Checker) flush(p *process, signal int) {
	l, s := p.look, p.space
	p.look, s.looking = nil, nil
	switch l.point {
	case trace.PointExec:
		if l.hasAreas {
			s.areas, s.known = l.areas, true
		}
		if l.hasPages {
			s.adopt(l)
		}
		p.inherit = p.inherit && !l.hasPages
		return
	case trace.PointFork:
		if l.hasPages {
			c.tell(c.compareFork(p, l))
			s.adopt(l)
			p.inherit = false
		}
		if l.hasAreas && p.torn {
			s.adoptAreas(l)
		}
		return
	case trace.PointExit:
		p.looked = p.looked || l.hasPages
	}
	if p.inherit && c.complete() {
		p.inherit = false
		s.pagesKnown = false
		c.problem(&trace.Op{PID: p.pid, Line: l.line, Time: l.time}, "present: no set was recorded after its fork or exec")
	}
	r := c.compare(p, l, signal)
	c.tell(r)
	if l.point == trace.PointExecve && l.hasPages && r.Skipped == "" { // so that nothing is told twice
		s.adopt(l)
	}
}

// tell hands a comparison on.
func (c *Checker) tell(r Comparison) {
	c.report.add(r)
	if c.opt.Each != nil {
		c.opt.Each(r)
	}
}

// End returns the report. whole says that the trace was read to its end.
func (c *Checker) End(whole bool) Report {
	if c.leaving != nil {
		c.left()
	}
	for _, pid := range slices.Sorted(maps.Keys(c.processes)) {
		p := c.processes[pid]
		if p.look != nil {
			c.flush(p, 0)
		}
		if whole && c.header.Recorded() && c.header.Whole && pid != 1 {
			c.problem(&trace.Op{PID: pid}, "its end is not recorded")
		}
	}
	switch {
	case !whole || !c.header.Recorded():
	case c.complete() && c.report.Looks+c.report.Skipped == 0:
		c.problem(nil, "header: touches are complete, but no present set was recorded to show it")
	}
	if whole && c.header.Recorded() && !c.header.Whole {
		c.problem(nil, "header: the recording was not closed")
	}
	return c.report
}
