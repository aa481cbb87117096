package session

import (
	"cmp"
	"iter"
	"slices"

	"vmsim/mem"
	"vmsim/trace"
	"vmsim/vm"
)

// PresentCount holds the sets of pages that were present at one kind of point,
// recorded and simulated, against each other.
type PresentCount struct {
	Point         string          `json:"point"` // fork, exec, execve, exit
	Sets          int             `json:"sets"`
	Recorded      uint64          `json:"recorded_pages"`
	Simulated     uint64          `json:"simulated_pages"`
	Both          uint64          `json:"both"`
	OtherKind     uint64          `json:"other_kind"` // of both: a file's page here, an own copy there
	RecordedOnly  []PresentReason `json:"recorded_only"`
	SimulatedOnly []PresentReason `json:"simulated_only"`
}

// PresentReason is why pages are in one of two sets.
type PresentReason struct {
	Why   string `json:"why"`
	Pages uint64 `json:"pages"`
}

// Why a page was present when the trace was recorded, and is not here.
const (
	whyVdso        = "vdso and vvar"
	whyExec        = "written by exec itself"
	whyFaultAround = "fault-around"
	whyKernel      = "the kernel, without an exception"
	whyReclaimed   = "reclaimed here"
	whyRefused     = "a touch of it was refused here"
)

// Why it is present here, and was not then.
const (
	whyAssembly  = "assembly"
	whyPrefault  = "prefault"
	whyAround    = "prefault or fault-around"
	whyInherited = "inherited at fork"
	whyPopulated = "populated"
	whyUnknown   = "unknown"
)

// assembledAt names a window that was put together.
type assembledAt struct {
	file mem.FileID
	bias uint64
	base mem.VirtAddr
}

// presentLook is a recorded set whose lines are still being read.
type presentLook struct {
	p     *vm.Process
	m     *memory
	pid   int
	point trace.Point
	time  uint64
	runs  []trace.Run

	window    mem.VirtAddr // that wasAssembled was asked for last, of a file's page
	assembled bool         // and what it said
	asked     bool
}

// maxKernelRuns bounds what is remembered of a program's pages right after exec:
// its arguments, and the end of .data.
const maxKernelRuns = 64

// present takes a line of a set.
func (s *simulator) present(op *trace.Op, pid int) {
	p, m, err := s.process(pid)
	if err != nil {
		return
	}
	if s.pending == nil {
		s.pending = &presentLook{p: p, m: m, pid: op.PID, point: op.Point, time: op.Time}
	}
	s.pending.runs = append(s.pending.runs, op.Set.Runs...)
}

// before closes the set that op does not continue. The machine must not have
// moved since.
func (s *simulator) before(op *trace.Op) {
	l := s.pending
	if l == nil || op != nil && op.Kind == trace.OpPresent && op.PID == l.pid && op.Point == l.point && op.Time == l.time {
		return
	}
	s.pending = nil
	if l.point == trace.PointExec && l.m.kernel == nil {
		for _, r := range l.runs[:min(len(l.runs), maxKernelRuns)] {
			l.m.kernel = append(l.m.kernel, r.Range)
		}
	}
	s.compareSets(l)
}

// compareSets counts what is in one set, in the other, and in both.
func (s *simulator) compareSets(l *presentLook) {
	c := s.count.present(l.point)
	c.Sets++
	simulated, stop := iter.Pull(l.p.Present())
	defer stop()
	sim, ok := simulated()
	pages := func(r mem.Range) uint64 { return r.Len() / mem.PageSize }
	runs := l.runs
	for len(runs) > 0 || ok {
		switch {
		case !ok || len(runs) > 0 && runs[0].Start < sim.Start: // recorded alone, at least at first
			only := runs[0].Range
			if ok {
				only.End = min(only.End, sim.Start)
			}
			c.Recorded += pages(only)
			for at := only.Start; at < only.End; at += mem.PageSize {
				c.RecordedOnly = addReason(c.RecordedOnly, s.recordedOnly(l, at, runs[0].Kind))
			}
			if runs[0].Start = only.End; runs[0].Empty() {
				runs = runs[1:]
			}
		case len(runs) == 0 || sim.Start < runs[0].Start:
			only := sim.Range
			if len(runs) > 0 {
				only.End = min(only.End, runs[0].Start)
			}
			c.Simulated += pages(only)
			for at := only.Start; at < only.End; at += mem.PageSize {
				c.SimulatedOnly = addReason(c.SimulatedOnly, s.simulatedOnly(l, at, sim.Kind))
			}
			if sim.Start = only.End; sim.Empty() {
				sim, ok = simulated()
			}
		default:
			both := runs[0].Intersect(sim.Range)
			n := pages(both)
			c.Recorded, c.Simulated, c.Both = c.Recorded+n, c.Simulated+n, c.Both+n
			if recordedKind(sim.Kind) != runs[0].Kind {
				c.OtherKind += n
			}
			runs[0].Start, sim.Start = both.End, both.End
			if runs[0].Empty() {
				runs = runs[1:]
			}
			if sim.Empty() {
				sim, ok = simulated()
			}
		}
	}
}

// recordedKind is a page of the machine as PAGEMAP_SCAN would show it.
func recordedKind(k vm.PageKind) trace.PageKind {
	switch k {
	case vm.FilePage, vm.SharedPage:
		return trace.PageFile
	case vm.ZeroPage:
		return trace.PageZero
	}
	return trace.PageOwn
}

// recordedOnly says why a page was there.
func (s *simulator) recordedOnly(l *presentLook, at mem.VirtAddr, kind trace.PageKind) string {
	inside := func(r mem.Range) bool { return r.Contains(at) }
	switch {
	case slices.ContainsFunc(l.m.extra, func(a trace.Area) bool { return a.Contains(at) }):
		return whyVdso
	case l.point == trace.PointExec && kind == trace.PageOwn, slices.ContainsFunc(l.m.kernel, inside):
		return whyExec
	case l.m.seen.has(at) && s.Machine.Stats().ReclaimUnmaps > 0:
		return whyReclaimed
	case l.m.seen.has(at):
		return whyUnknown
	case l.m.refused != nil && l.m.refused.has(at):
		return whyRefused
	case s.count.rec.Header.Touches != trace.TouchesComplete && kind == trace.PageFile:
		return whyFaultAround
	case s.count.rec.Header.Touches == trace.TouchesNone:
		return whyUnknown
	}
	return whyKernel
}

// simulatedOnly says why a page is here.
func (s *simulator) simulatedOnly(l *presentLook, at mem.VirtAddr, kind vm.PageKind) string {
	if kind == vm.FilePage && s.wasAssembled(l, at.HugeDown()) {
		return whyAssembly
	}
	switch {
	case slices.ContainsFunc(l.m.extra, func(a trace.Area) bool { return a.Contains(at) }):
		return whyVdso // the kernel maps them without a struct page: PAGEMAP_SCAN does not show them
	case l.m.forked:
		return whyInherited
	case l.m.seen.has(at):
		return whyUnknown
	case kind == vm.FilePage && s.Rig.opt.FaultAround > 1 && l.point != trace.PointExec:
		return whyAround
	case kind == vm.FilePage:
		return whyPrefault
	}
	return whyPopulated
}

// wasAssembled reports whether the window at base, of a program of l's process, was
// ever put together.
func (s *simulator) wasAssembled(l *presentLook, base mem.VirtAddr) bool {
	if l.asked && l.window == base {
		return l.assembled
	}
	l.window, l.assembled, l.asked = base, false, true
	for _, o := range l.p.Objects() {
		if s.assembled[assembledAt{o.Image.File.Identity(), o.Bias, base}] {
			l.assembled = true
		}
	}
	return l.assembled
}

func addReason(rs []PresentReason, why string) []PresentReason {
	for i := range rs {
		if rs[i].Why == why {
			rs[i].Pages++
			return rs
		}
	}
	return append(rs, PresentReason{why, 1})
}

// present returns the count of a point.
func (c *replayCounter) present(point trace.Point) *PresentCount {
	for i := range c.rec.Present {
		if c.rec.Present[i].Point == point.String() {
			return &c.rec.Present[i]
		}
	}
	c.rec.Present = append(c.rec.Present, PresentCount{Point: point.String(), RecordedOnly: []PresentReason{}, SimulatedOnly: []PresentReason{}})
	slices.SortStableFunc(c.rec.Present, func(a, b PresentCount) int {
		order := func(p PresentCount) int { return slices.Index(points, p.Point) }
		return cmp.Compare(order(a), order(b))
	})
	return c.present(point)
}

var points = []string{trace.PointFork.String(), trace.PointExec.String(), trace.PointExecve.String(), trace.PointExit.String()}

// Contradicted returns how many pages were present when the recording was made
// though a touch of them met no memory here: what the machine maps is wrong.
func (r *Recording) Contradicted() uint64 {
	n := uint64(0)
	for _, c := range r.Present {
		for _, why := range c.RecordedOnly {
			if why.Why == whyRefused {
				n += why.Pages
			}
		}
	}
	return n
}

// sortReasons puts the largest first.
func (c *PresentCount) sortReasons() {
	for _, rs := range [][]PresentReason{c.RecordedOnly, c.SimulatedOnly} {
		slices.SortFunc(rs, func(a, b PresentReason) int { return cmp.Or(cmp.Compare(b.Pages, a.Pages), cmp.Compare(a.Why, b.Why)) })
	}
}
