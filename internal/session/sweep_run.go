package session

import (
	"errors"

	"vmsim/hugepage"
	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// sweepRun is a machine's run at one policy and threshold, and its result.
type sweepRun struct {
	policy    string
	threshold int

	figures  SweepFigures // without Avoided and Added
	failures []event.Event
	killed   string
	asked    map[hugepage.Candidate]bool // what the machine asked the policy
	until    int                         // the highest threshold at which this would have been the same run
	err      error
}

// equal reports whether two runs came to the same.
func (r *sweepRun) equal(o *sweepRun) bool { return r.figures == o.figures && r.killed == o.killed }

// sweepKept is how many failures of a run are kept: there are many runs.
const sweepKept = 20

// sweepRig is a Rig whose policy can be exchanged.
type sweepRig struct {
	*Rig
	probe *probe
}

func newSweepRig(opt Options) (*sweepRig, error) {
	if _, err := hugepage.NewPolicy(hugepage.DefaultPolicy, 0, opt.Bugs...); err != nil {
		return nil, err // now, not with the first file
	}
	p := new(probe)
	rig, err := rigWith(p, opt)
	if err != nil {
		return nil, err
	}
	return &sweepRig{rig, p}, nil
}

// measure makes run r of f in a machine that is new: execs warm-ups, which touch
// the pages and exit, and the exec that is measured. A process that is killed for
// want of memory ends the run without figures; that is no error.
func (rig *sweepRig) measure(f mem.File, pages []mem.VirtAddr, execs int, r *sweepRun) error {
	policy, err := hugepage.NewPolicy(r.policy, r.threshold, rig.opt.Bugs...)
	if err != nil {
		return err
	}
	rig.probe.follow(policy)
	rig.Reset()
	rig.Witness.MaxKept = sweepKept
	file := &counted{File: f}
	im, err := loader.Parse(file)
	if err != nil {
		return err
	}
	file.bytes = 0
	truth, err := verify.Load(f, vm.PIEBase)
	if err != nil {
		return err
	}
	init, err := rig.Machine.Boot(nil)
	if err != nil {
		return err
	}
	var refused []event.Event
	for n := 0; n <= execs && err == nil; n++ {
		before, read := rig.Machine.Stats(), file.bytes
		p := init.Fork()
		if err = p.Exec(vm.Program{Image: im}); err == nil {
			err = rig.touch(p, truth, pages, &refused)
		}
		if n == execs && err == nil {
			now := rig.Machine.Stats()
			r.figures = SweepFigures{
				Windows: now.Assembled, FromCache: now.FromCache, FromFile: now.FromFile, Zero: now.Zero,
				OneEntry:  now.HugeMapped - before.HugeMapped,
				Mapped:    now.HugeMapped - before.HugeMapped + now.HugeScattered - before.HugeScattered,
				BytesRead: file.bytes - read, BytesReadAll: file.bytes,
				Faults: p.Faults.Total(), Frames: rig.Machine.Frames() - rig.Machine.FreeFrames(),
			}
		}
		p.Exit()
	}
	r.asked, r.until = rig.probe.asked, rig.probe.accept
	tally := rig.Witness.Tally()
	r.figures.BytesCompared, r.figures.Failures = tally.BytesCompared, tally.Failures+len(refused)
	r.failures = append(rig.Witness.Failures(), refused...)
	switch {
	case killed(err):
		r.killed, err = err.Error(), nil
	case err == nil:
		err = rig.Witness.Err()
	}
	return err
}

// touch reads pages as p does and compares each, then looks at what p's entries
// permit. An access that is refused goes to refused.
func (rig *sweepRig) touch(p *vm.Process, truth *verify.Truth, pages []mem.VirtAddr, refused *[]event.Event) error {
	good := 0
	for _, addr := range pages {
		if err := rig.stopped(); err != nil {
			return err
		}
		ok, err := rig.comparePage(p, truth, addr)
		var segv *vm.Segfault
		switch {
		case errors.As(err, &segv):
			*refused = append(*refused, event.Segfault{PID: p.PID, VAddr: event.Addr(segv.Addr), IP: event.Addr(p.IP()),
				Access: segv.Access.String(), Code: segv.Code()})
		case err != nil:
			return err
		case ok:
			good++
		}
	}
	rig.Witness.Done(p.PID, good, len(pages)-good)
	rig.Witness.Permissions(p.PID, []*verify.Truth{truth}, p.Space(), []mem.Range{stackOf(p)})
	return nil
}
