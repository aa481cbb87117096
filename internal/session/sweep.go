package session

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"vmsim/hugepage"
	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// SweepPlan says what a sweep varies and what is run at each point.
type SweepPlan struct {
	Policies []string // of hugepage.PolicyNames
	Touch    TouchSet
	Execs    int // warm-ups before the exec that is measured

	// Thresholds ascend, each once, from 0 to NeverThreshold. nil stands for 0,
	// the powers of two, 513, and both sides of each change under one of the
	// policies.
	Thresholds []int
}

// SweepFigures are what one point of a sweep came to. Windows and their
// sub-pages are those of all execs, faults and huge mappings those of the
// measured one.
type SweepFigures struct {
	Windows   int // assembled
	FromCache int // their sub-pages, by origin
	FromFile  int
	Zero      int
	Mapped    int // huge pages that the exec mapped
	OneEntry  int // of those, by one huge entry; the others in 4 KiB entries

	BytesRead    uint64 // of the file, by the measured exec and its touches; not by the verifier
	BytesReadAll uint64 // of the file, with the warm-ups
	Faults       int    // page faults
	Avoided      int    // faults with nothing assembled, minus these
	Frames       int    // 4 KiB frames in use when all is touched
	Added        int    // these, minus those with nothing assembled

	BytesCompared uint64
	Failures      int // wrong bytes, permissions, and accesses refused
}

// SweepPoint is the result at one threshold.
type SweepPoint struct {
	Policy    string
	Threshold int
	Until     int // up to this threshold the result is the same, as the machine's decisions prove
	SweepFigures
	FailureEvents []event.Event // the first of them
	Killed        string        // why a process was killed; the figures are zero then, but for the failures
}

// SweepResult is the sweep of one file. With an error, it holds what was found
// until then.
type SweepResult struct {
	Path   string
	Points []SweepPoint // by policy, in the order of the plan, then by threshold
	Err    error        // without the path
}

// SweepRange is a run of thresholds with one result.
type SweepRange struct {
	SweepPoint     // of the first
	Last       int // threshold
}

// Ranges returns the points with neighbours of equal figures taken together,
// where those between are known to be equal too.
func (r SweepResult) Ranges() []SweepRange {
	var out []SweepRange
	until := 0
	for _, p := range r.Points {
		if n := len(out) - 1; n >= 0 && out[n].Policy == p.Policy && p.Threshold <= until+1 &&
			out[n].SweepFigures == p.SweepFigures && out[n].Killed == p.Killed {
			out[n].Last = p.Threshold
		} else {
			out = append(out, SweepRange{p, p.Threshold})
		}
		until = p.Until
	}
	return out
}

// Sweep runs plan on each file, mapped alone, and gives the results to each, in
// the order of paths. For each policy and threshold a machine that is new boots
// init, execs and touches plan.Execs times, and once more: that exec is measured.
// Every assembled window and every touched page is verified.
//
// It uses up to jobs machines at a time; the results do not depend on how many.
// opt.Policy, Threshold and Events are not looked at. With opt.Stop it ends
// early: the file under way has the error ErrStopped, those behind it no result.
func Sweep(opt Options, plan SweepPlan, paths []string, jobs int, each func(SweepResult)) error {
	opt.Events = nil
	jobs = max(1, min(jobs, NeverThreshold)) // of one file and policy there are no more runs
	first, err := newSweepRig(opt)
	if err != nil {
		return err
	}
	s := &sweeper{opt: opt, plan: plan, rigs: make(chan *sweepRig, jobs)}
	s.rigs <- first
	for range jobs - 1 {
		s.rigs <- nil // to be made when it is wanted
	}
	defer func() {
		for range jobs {
			if rig := <-s.rigs; rig != nil {
				rig.Close()
			}
		}
	}()
	results := make([]chan SweepResult, len(paths))
	for i := range results {
		results[i] = make(chan SweepResult, 1)
	}
	ahead := make(chan struct{}, jobs) // files under way, or waiting for their turn
	go func() {
		for i, path := range paths {
			ahead <- struct{}{}
			go func() { results[i] <- s.file(path) }()
		}
	}()
	stopped := false
	for i := range paths { // to the end: nothing may use a machine that is closed
		r := <-results[i]
		<-ahead
		if !stopped {
			each(r)
		}
		stopped = stopped || errors.Is(r.Err, ErrStopped)
	}
	return nil
}

// sweeper is a sweep under way.
type sweeper struct {
	opt  Options
	plan SweepPlan
	rigs chan *sweepRig // that are idle; nil: one that was not made yet
}

// file sweeps one file.
func (s *sweeper) file(path string) SweepResult {
	res := SweepResult{Path: path}
	if s.opt.Stop != nil && s.opt.Stop() {
		res.Err = ErrStopped
		return res
	}
	f, err := mem.OpenFile(path)
	if err != nil {
		res.Err = errors.New(Reason(err))
		return res
	}
	defer f.Close()
	res.Points, res.Err = s.points(f)
	if f.Changed() {
		res.Points, res.Err = nil, ErrChanged
	}
	return res
}

// points finds the results for one file, policy by policy. With an error it
// returns those that are known.
//
// Not every threshold has a run of its own: each run proves its result for a
// range of them (see probe), and those that were not asked for are left out.
// Which thresholds are tried follows from what the machine asks with nothing
// assembled; where that guess leaves a gap, further runs fill it.
func (s *sweeper) points(f mem.File) ([]SweepPoint, error) {
	if _, err := loader.Parse(f); err != nil {
		return nil, err
	}
	truth, err := verify.Load(f, vm.PIEBase)
	if err != nil {
		return nil, err
	}
	pages := s.plan.Touch.pages(truth)
	never := &sweepRun{policy: "never", threshold: NeverThreshold}
	if s.run(f, pages, []*sweepRun{never}); never.err != nil {
		return nil, never.err
	}
	if never.killed != "" {
		return nil, fmt.Errorf("with nothing assembled: %s", never.killed)
	}
	var curves []*curve
	for _, name := range s.plan.Policies {
		c, err := newCurve(name, s.opt.Bugs, never, s.plan.Thresholds)
		if err != nil {
			return nil, err
		}
		curves = append(curves, c)
	}
	for err == nil {
		var runs []*sweepRun
		for _, c := range curves {
			runs = append(runs, c.missing()...)
		}
		if len(runs) == 0 {
			break
		}
		s.run(f, pages, runs)
		for _, r := range runs {
			if r.err != nil {
				err = r.err
			}
		}
		for _, c := range curves {
			c.take(runs)
		}
	}
	show := s.plan.Thresholds
	if show == nil { // the same for all policies: they are compared
		show = usualThresholds()
		for _, c := range curves {
			show = append(show, c.changes()...)
		}
		slices.Sort(show)
		show = slices.Compact(show)
	}
	var points []SweepPoint
	for _, c := range curves {
		points = append(points, c.points(show, &never.figures)...)
	}
	return points, err
}

// run makes runs, as many at a time as there are machines.
func (s *sweeper) run(f mem.File, pages []mem.VirtAddr, runs []*sweepRun) {
	var wg sync.WaitGroup
	for _, r := range runs {
		rig := <-s.rigs
		wg.Go(func() {
			defer func() { s.rigs <- rig }()
			if rig == nil {
				if rig, r.err = newSweepRig(s.opt); r.err != nil {
					return
				}
			}
			r.err = rig.measure(f, pages, s.plan.Execs, r)
		})
	}
	wg.Wait()
}

// curve is the results of one policy by threshold.
type curve struct {
	policy string
	want   []int                         // thresholds to find
	starts [NeverThreshold + 1]bool      // where a result may begin: a guess
	at     [NeverThreshold + 1]*sweepRun // nil: not known yet
}

// newCurve begins with what the run without assembly tells: above the most
// cached pages of a window that the policy might have taken, nothing changes;
// below, the numbers that were seen are where something may.
func newCurve(policy string, bugs []string, never *sweepRun, thresholds []int) (*curve, error) {
	c := &curve{policy: policy, want: thresholds}
	if thresholds == nil {
		for t := range NeverThreshold + 1 {
			c.want = append(c.want, t)
		}
	}
	most := -1
	for asked := range never.asked {
		p, err := hugepage.NewPolicy(policy, asked.Cached, bugs...)
		if err != nil {
			return nil, err
		}
		if p.Assemble(asked) {
			c.starts[asked.Cached+1] = true
			most = max(most, asked.Cached)
		}
	}
	for t := most + 1; t <= NeverThreshold; t++ {
		c.at[t] = never
	}
	return c, nil
}

// missing returns runs for what is not known yet: one for each gap, and one for
// each guess in it.
func (c *curve) missing() []*sweepRun {
	var runs []*sweepRun
	known := true // the threshold before
	next := 0     // the first that starts was not looked at for
	for _, t := range c.want {
		guess := slices.Contains(c.starts[next:t+1], true)
		next = t + 1
		if c.at[t] != nil {
			known = true
			continue
		}
		if known || guess {
			runs = append(runs, &sweepRun{policy: c.policy, threshold: t})
		}
		known = false
	}
	return runs
}

// take fills in what runs of this policy prove.
func (c *curve) take(runs []*sweepRun) {
	for _, r := range runs {
		if r.policy != c.policy || r.err != nil {
			continue
		}
		for t := r.threshold; t <= min(r.until, NeverThreshold); t++ {
			c.at[t] = r
		}
	}
}

// changes returns both sides of each change.
func (c *curve) changes() []int {
	var all []int
	for t := 1; t <= NeverThreshold; t++ {
		if a, b := c.at[t-1], c.at[t]; a != nil && b != nil && !a.equal(b) {
			all = append(all, t-1, t)
		}
	}
	return all
}

// points returns the results at the thresholds to show, as far as they are known.
func (c *curve) points(show []int, never *SweepFigures) []SweepPoint {
	var points []SweepPoint
	for _, t := range show {
		r := c.at[t]
		if r == nil {
			continue // stopped before
		}
		p := SweepPoint{Policy: c.policy, Threshold: t, Until: t, SweepFigures: r.figures, Killed: r.killed,
			FailureEvents: r.failures}
		for p.Until < NeverThreshold && c.at[p.Until+1] == r {
			p.Until++
		}
		if p.Killed == "" {
			p.Avoided, p.Added = never.Faults-p.Faults, p.Frames-never.Frames
		}
		points = append(points, p)
	}
	return points
}

// String names the point in messages.
func (p SweepPoint) String() string { return fmt.Sprintf("%s, threshold %d", p.Policy, p.Threshold) }
