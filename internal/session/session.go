// Package session drives a machine and a verifier together: the verify
// protocol, stress, run and replay. The machine knows nothing of the verifier,
// and the verifier nothing of the machine; they meet here.
package session

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"

	"vmsim/hugepage"
	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// Options are what all commands share.
type Options struct {
	Memory    uint64 // bytes; 0 is vm.DefaultMemory
	MaxAreas  int    // that a process may have; 0 is vm.MaxAreas
	Policy    string // one of hugepage.PolicyNames; "" is hugepage.DefaultPolicy
	Threshold int
	Bugs      []string
	Hardening vm.Hardening
	Events    event.Sink // may be nil
	Digest    bool       // SHA-256 of windows and images

	FaultAround int // vm.Config.FaultAround

	// Stop, if not nil, ends Verify and Run early, with ErrStopped, when it
	// returns true. It is asked before each page.
	Stop func() bool
}

// DefaultOptions is the repaired kevlar machine.
func DefaultOptions() Options { return Options{Threshold: hugepage.DefaultThreshold} }

// Tally counts what a Rig's witness compared.
type Tally = verify.Tally

// ErrStopped is the error of what was stopped early.
var ErrStopped = errors.New("stopped")

// Rig is a machine with a verifier that looks at it.
type Rig struct {
	Machine *vm.Machine
	Witness *verify.Witness
	opt     Options
	buf     hostBuffer // of the files that the machine maps in Verify

	onAssembled func(mem.Window) // of a replay: is told of each window; may be nil
}

// NewRig builds both. Close gives the machine's memory back.
func NewRig(opt Options) (*Rig, error) {
	policy, err := hugepage.NewPolicy(cmp.Or(opt.Policy, hugepage.DefaultPolicy), opt.Threshold, opt.Bugs...)
	if err != nil {
		return nil, err
	}
	return rigWith(policy, opt)
}

// rigWith is NewRig with this policy, whatever opt says of one.
func rigWith(policy hugepage.Policy, opt Options) (b *Rig, err error) {
	b = &Rig{opt: opt}
	b.Machine, err = vm.New(vm.Config{
		Memory: opt.Memory, MaxAreas: opt.MaxAreas, Policy: policy, Inspector: inspector{b},
		Hardening: opt.Hardening, Events: opt.Events, Digest: opt.Digest, FaultAround: opt.FaultAround,
	})
	if err != nil {
		return nil, err
	}
	b.Witness = verify.NewWitness(opt.Events)

	return b, nil
}

// Reset makes machine and verifier new.
func (rig *Rig) Reset() {
	rig.Machine.Reset()
	rig.Witness.Reset()
}

// stopped returns ErrStopped once Options.Stop asks for it.
func (rig *Rig) stopped() error {
	if rig.opt.Stop != nil && rig.opt.Stop() {
		return ErrStopped
	}
	return nil
}

// Close ends the machine.
func (rig *Rig) Close() error { return rig.Machine.Close() }

// inspector hands what the machine shows to the verifier, with the file itself:
// the machine may read it through a buffer, or a counter.
type inspector struct{ b *Rig }

func (i inspector) Assembled(w mem.Window) error {
	w.File = itself(w.File)
	if i.b.onAssembled != nil {
		i.b.onAssembled(w)
	}
	return i.b.Witness.Assembled(w)
}

func (i inspector) Mapped(pid int, f mem.File, bias uint64, addr mem.VirtAddr, data []byte) error {
	return i.b.Witness.Mapped(pid, itself(f), bias, addr, data)
}

// stackOf returns p's stack: what it has beside its image and what it maps.
func stackOf(p *vm.Process) mem.Range {
	for v := range p.Areas() {
		if v.Name() == "[stack]" {
			return v.Range
		}
	}
	return mem.Range{}
}

// ErrChanged is the error of a run whose file was written meanwhile: what was
// compared was of two contents.
var ErrChanged = errors.New("changed while it was used")

// sound returns why what a run of prog found cannot be relied on: a file was
// written meanwhile, or something could not be verified.
func (rig *Rig) sound(prog vm.Program) error {
	if err := unchanged(prog); err != nil {
		return err
	}
	return rig.Witness.Err()
}

// unchanged returns ErrChanged if a file of prog was written since it was
// opened.
func unchanged(prog vm.Program) error {
	for _, im := range []*loader.Image{prog.Image, prog.Interp} {
		if im == nil {
			continue
		}
		if f, ok := im.File.(interface{ Changed() bool }); ok && f.Changed() {
			return fmt.Errorf("%s: %w", im.File.Name(), ErrChanged)
		}
	}
	return nil
}

// Open opens and parses a program and, if interp is set, the interpreter that
// it names. close must be called when both are no longer used.
//
// Errors wrap fs.ErrNotExist and the like, mem.ErrNotRegular, or the loader's
// sentinels.
func Open(path string, interp bool) (prog vm.Program, closer func(), err error) {
	var open []*mem.OSFile
	closer = func() {
		for _, f := range open {
			f.Close()
		}
	}
	load := func(path string) (*loader.Image, error) {
		f, err := mem.OpenFile(path)
		if err != nil {
			return nil, err
		}
		open = append(open, f)
		im, err := loader.Parse(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return im, nil
	}
	if prog.Image, err = load(path); err == nil && interp && prog.Image.Interp != "" {
		if prog.Interp, err = load(prog.Image.Interp); err != nil {
			err = fmt.Errorf("%s: interpreter: %w", path, err)
		}
	}
	if err != nil {
		closer()
		return vm.Program{}, nil, err
	}
	return prog, closer, nil
}

// Reason is err without the path that callers print anyway.
func Reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

// truths returns the truth of each object of p.
func truths(p *vm.Process) ([]*verify.Truth, error) {
	var ts []*verify.Truth
	for _, o := range p.Objects() {
		t, err := verify.New(o.Image.File, o.Bias)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.Image.File.Name(), err)
		}
		ts = append(ts, t)
	}
	return ts, nil
}
