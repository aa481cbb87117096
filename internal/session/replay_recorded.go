package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"vmsim/mem"
	"vmsim/trace"
	"vmsim/vm"
)

// ErrFaultsAlone refuses what a recording of faults cannot answer.
var ErrFaultsAlone = errors.New("the trace holds faults alone: which pages would have been touched under another policy is unknown; " +
	"--force replays what is there")

// answers returns ErrFaultsAlone if a recording does not say what a machine with
// these options would have been asked.
func answers(h trace.Header, opt Options, force bool) error {
	if h.Touches != trace.TouchesFaults || force || opt.usual() {
		return nil
	}
	return ErrFaultsAlone
}

// usual reports whether policy, threshold and fault-around are the default ones.
func (opt Options) usual() bool {
	d := DefaultOptions()
	return opt.Threshold == d.Threshold && opt.FaultAround <= 1 && (opt.Policy == "" || opt.Policy == defaultPolicy)
}

// limits says what the replay of a recording does not know; unplaced is how many
// execs have no trace.Start.
func limits(h trace.Header, opt Options, unplaced, incomparable int) []string {
	out := []string{}
	if unplaced > 0 {
		out = append(out, fmt.Sprintf("the place of the program is not in the trace (%d of the execs): the machine's own is taken", unplaced))
	}
	if incomparable > 0 {
		out = append(out, fmt.Sprintf("%d answers differ for reasons that are not in the trace: places, limits of memory, ends of files", incomparable))
	}
	if h.Touches == trace.TouchesFaults && !opt.usual() {
		out = append(out, "touches that did not fault when this was recorded are not in the trace: "+
			"faults under another policy are a lower bound, and what is cached is too little")
	}
	if h.Touches == trace.TouchesNone {
		out = append(out, "touches are not in the trace: nothing was faulted in, nothing was compared but assembled windows")
	}
	if h.Lost > 0 {
		out = append(out, "records were lost: what they said did not happen here")
	}
	if !h.Whole {
		out = append(out, "the recording was not closed: its end may be missing")
	}
	return append(out, h.Missing...)
}

// withoutMappings reports whether a recording does not say what is mapped, as
// those of valgrind's lackey.
func withoutMappings(h trace.Header) bool {
	return h.Source == "lackey" || slices.ContainsFunc(h.Missing, func(s string) bool {
		return strings.Contains(s, "mappings are missing")
	})
}

// touchRecorded does an access of a recording that is an operation of its own.
func (s *simulator) touchRecorded(p *vm.Process, m *memory, t trace.Touch, about trace.TouchInfo) (trace.Outcome, error) {
	m.program.Recorded.References++
	if about.Code != 0 {
		m.program.Recorded.add(t.Access, about.Code)
	}
	kind, ill, err := s.visit(p, m, &t, about)
	switch {
	case err != nil:
		return trace.Outcome{}, err
	case ill != nil:
		return *ill, nil
	}
	return trace.Outcome{Fault: trace.Fault(kind.String())}, nil
}

// backing is how much memory is put under an access to what nobody mapped.
const backing = mem.HugeSize

// back maps zeros where a recording without mappings touches nothing. It is false
// where err was something else.
func (s *simulator) back(p *vm.Process, m *memory, addr mem.VirtAddr, err error) bool {
	var segv *vm.Segfault
	if !errors.As(err, &segv) || segv.Mapped || addr >= mem.UserEnd {
		return false
	}
	all := mem.ProtRead | mem.ProtWrite | mem.ProtExec
	for _, size := range []mem.VirtAddr{backing, mem.PageSize} {
		at := addr &^ (size - 1)
		r := mem.Range{Start: at, End: min(at+size, mem.UserEnd)}
		if _, err := p.Mmap(vm.Mapping{Addr: at, Len: r.Len(), Prot: all, Fixed: true, NoReplace: true}); err == nil {
			m.replace(region{Range: r, unknown: unknownUnmapped})
			return true
		}
	}
	return false
}
