package session

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// Pattern says which pages an execution touches beyond the start-up set.
type Pattern string

const (
	Random Pattern = "random" // others each time
	Fixed  Pattern = "fixed"  // the same each time
)

// ParsePattern reads "random" or "fixed".
func ParsePattern(s string) (Pattern, error) {
	if p := Pattern(s); p == Random || p == Fixed {
		return p, nil
	}
	return "", fmt.Errorf("pattern %q is none of random, fixed", s)
}

// StressPlan is a run of fork+exec+touch+exit in one machine.
type StressPlan struct {
	Execs   int
	Touch   int // pages beyond the start-up set
	Pattern Pattern
	Seed    uint64
}

// Moment is when something first happened: in which execution, counted from 1,
// and which process. The zero Moment is never.
type Moment struct {
	Exec int `json:"exec"`
	PID  int `json:"pid"`
}

// StressResult is what a stress run found.
type StressResult struct {
	Execs, Passed int
	FirstAssembly Moment
	FirstWrong    Moment
	WrongLine     string // the failure that the first wrong byte is
	Stats         vm.Stats
	Tally         verify.Tally
	Failures      []event.Event
	CachedPages   int // of the file, at the end
}

// Stress boots PID 1 with prog, as init, lets it make the touches of one
// execution, and then forks, execs, touches and exits plan.Execs times. A
// process that reads a wrong byte counts as crashed there, and one that is
// killed for want of memory has not passed either. stop ends the run early when
// it returns true. The result holds what was run, with an error too.
func (rig *Rig) Stress(prog vm.Program, plan StressPlan, stop func() bool) (res StressResult, err error) {
	rig.Reset()
	defer func() {
		res.Stats, res.Tally, res.Failures = rig.Machine.Stats(), rig.Witness.Tally(), rig.Witness.Failures()
		res.CachedPages = rig.Machine.CachedPages(prog.Image.File)
	}()
	truth, err := verify.Load(prog.Image.File, vm.PIEBase)
	if err != nil {
		return res, err
	}
	draw := newDraw(truth, plan)
	init, err := rig.Machine.Boot(&prog)
	if err != nil {
		return res, err
	}
	if _, err = rig.execution(init, truth, draw.pages()); err != nil {
		return res, err
	}
	for n := 1; n <= plan.Execs && !stop(); n++ {
		p := init.Fork()
		err := p.Exec(prog)
		if killed(err) {
			res.Execs++
			continue
		}
		if err != nil {
			return res, err
		}
		at := Moment{n, p.PID}
		if res.FirstAssembly == (Moment{}) && rig.Machine.Stats().Assembled > 0 {
			res.FirstAssembly = at
		}
		wrong, err := rig.execution(p, truth, draw.pages())
		if err != nil && !killed(err) {
			return res, err
		}
		res.Execs++
		if err != nil {
			continue
		}
		if wrong == "" {
			res.Passed++
			p.Exit()
			continue
		}
		if res.FirstWrong == (Moment{}) {
			res.FirstWrong, res.WrongLine = at, wrong
		}
		p.Kill("wrong byte")
	}
	return res, rig.sound(prog)
}

// killed reports whether err says that a process was killed for want of memory:
// its execution did not pass, and the next one may.
func killed(err error) bool {
	var oom *vm.OOMKill
	return errors.As(err, &oom)
}

// execution touches pages, in order, and compares each with the truth. It ends
// at the first wrong byte, and returns what was wrong.
func (rig *Rig) execution(p *vm.Process, truth *verify.Truth, pages []mem.VirtAddr) (wrong string, err error) {
	for i, addr := range pages {
		ok, err := rig.comparePage(p, truth, addr)
		var segv *vm.Segfault
		if errors.As(err, &segv) {
			return segv.Error(), nil
		}
		if err != nil {
			return "", err
		}
		if !ok {
			rig.Witness.Done(p.PID, i, 1)
			return lastFailure(rig.Witness), nil
		}
	}
	rig.Witness.Done(p.PID, len(pages), 0)
	return "", nil
}

// lastFailure returns the line of the failure reported last.
func lastFailure(w *verify.Witness) string {
	f := w.Failures()
	if len(f) == 0 {
		return "wrong byte"
	}
	return fmt.Sprint(f[len(f)-1])
}

// draw picks the pages of each execution: the start-up set, then others.
type draw struct {
	plan    StressPlan
	startup []mem.VirtAddr
	others  []mem.VirtAddr // shuffled in part, again for each execution
	rng     *rand.Rand
	buf     []mem.VirtAddr
}

func newDraw(truth *verify.Truth, plan StressPlan) *draw {
	d := &draw{plan: plan, startup: truth.StartupPages(), rng: rand.New(rand.NewPCG(plan.Seed, 0))}
	in := map[mem.VirtAddr]bool{}
	for _, a := range d.startup {
		in[a] = true
	}
	for a := range truth.TouchPages() {
		if !in[a] {
			d.others = append(d.others, a)
		}
	}
	return d
}

// pages returns the next execution's pages; they are valid until the next call.
func (d *draw) pages() []mem.VirtAddr {
	n := min(d.plan.Touch, len(d.others))
	if d.plan.Pattern == Random || len(d.buf) == 0 {
		for i := range n {
			j := i + d.rng.IntN(len(d.others)-i)
			d.others[i], d.others[j] = d.others[j], d.others[i]
		}
	}
	d.buf = append(append(d.buf[:0], d.startup...), d.others[:n]...)
	return d.buf
}
