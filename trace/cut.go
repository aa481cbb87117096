package trace

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Cut says which part of a trace is wanted. What it gives can be replayed: it
// also has what the part needs of the past.
//
//   - Of processes: the ancestors of each, with all that they did until the fork
//     that leads to it. A child that is not wanted stays as a fork and an exit where
//     it leaves its parent's memory, at its first exec or its end; until then a
//     vfork's child is kept, since it works in that memory.
//   - Of a time: what came before, without touches and present sets. Present sets
//     of processes that exec'ed before are left out later too: their touches are.
type Cut struct {
	PIDs     []int  // processes; none: all
	Tree     bool   // and their descendants
	From, To uint64 // nanoseconds since the recording began, both included; To 0: to the end
}

// Plan reads the whole trace to find out what c needs of it. Its error is that c
// cannot be, and begins with name; or it is that of s.Next, and the CutPlan is of
// what came before.
func (c Cut) Plan(name string, s Source) (*CutPlan, error) {
	p := &CutPlan{cut: c, parents: map[int]birth{}, until: map[int]uint64{}}
	if c.To == 0 {
		p.cut.To = math.MaxUint64
	}
	if p.cut.From > p.cut.To {
		return nil, fmt.Errorf("%s: the cut ends before it starts", name)
	}
	seen, times, trouble := p.scan(s)
	if (c.From > 0 || c.To > 0) && !times && trouble == nil {
		return nil, fmt.Errorf("%s: the trace has no times to cut it by", name)
	}
	for _, pid := range c.PIDs {
		if _, ok := p.parents[pid]; !ok && !seen[pid] {
			return nil, cmp.Or(trouble, fmt.Errorf("%s: process %d is not in the trace", name, pid))
		}
		p.until[pid] = math.MaxUint64
	}
	if c.Tree {
		p.addTree()
	}
	for _, pid := range slices.Sorted(maps.Keys(p.until)) {
		for { // up to init, or to an ancestor that is there for long enough
			b, ok := p.parents[pid]
			if !ok || p.until[b.parent] >= b.at {
				break
			}
			p.until[b.parent] = b.at
			pid = b.parent
		}
	}
	return p, trouble
}

// CutPlan is a Cut of one trace.
type CutPlan struct {
	cut     Cut
	parents map[int]birth
	until   map[int]uint64 // processes that are kept, and the number of the last operation that is
}

// birth is the fork of a process.
type birth struct {
	parent int
	at     uint64 // number of the fork, from 1
}

// scan reads who is whose child, which processes do anything, and whether there
// are times.
func (p *CutPlan) scan(s Source) (seen map[int]bool, times bool, err error) {
	seen = map[int]bool{}
	run := Touches{Touch: make([]Touch, 0, 1024)}
	r, _ := s.(*Reader)
	for n := uint64(0); ; {
		for r != nil && r.Touches(&run) {
			n += uint64(len(run.Touch))
			seen[run.PID] = true
			times = times || len(run.Times) > 0
		}
		op, err := s.Next()
		if err == io.EOF {
			return seen, times, nil
		}
		if err != nil {
			return seen, times, err
		}
		n++
		seen[op.PID] = true
		times = times || op.Time != 0
		if op.Kind == OpFork || op.Kind == OpVfork {
			if _, ok := p.parents[op.Want.PID]; !ok && op.Want.PID != op.PID {
				p.parents[op.Want.PID] = birth{op.PID, n}
			}
		}
	}
}

// addTree adds the descendants of the wanted processes.
func (p *CutPlan) addTree() {
	children := map[int][]int{}
	for child, b := range p.parents {
		children[b.parent] = append(children[b.parent], child)
	}
	todo := slices.Clone(p.cut.PIDs)
	for len(todo) > 0 {
		pid := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, child := range children[pid] {
			if p.until[child] == 0 {
				p.until[child] = math.MaxUint64
				todo = append(todo, child)
			}
		}
	}
}

// Header returns h with what the cut leaves out among what is missing.
func (p *CutPlan) Header(h Header) Header {
	h.Missing = slices.Clone(h.Missing)
	c := p.cut
	if len(c.PIDs) > 0 {
		words := make([]string, len(c.PIDs))
		for i, pid := range c.PIDs {
			words[i] = fmt.Sprint(pid)
		}
		who := "process " + strings.Join(words, ", ")
		if c.Tree {
			who += " and its descendants"
		}
		h.Missing = append(h.Missing, "cut: all but "+who+", and what its ancestors did before they forked it")
	}
	if c.From > 0 {
		h.Missing = append(h.Missing, fmt.Sprintf("cut: touches before %v", time.Duration(c.From)))
	}
	if c.To < math.MaxUint64 {
		h.Missing = append(h.Missing, fmt.Sprintf("cut: what came after %v", time.Duration(c.To)))
	}
	return h
}

// Ops yields the part of ops, which must be the trace that the plan is of. An
// error comes last.
func (p *CutPlan) Ops(ops iter.Seq2[Op, error]) iter.Seq2[Op, error] {
	return func(yield func(Op, error) bool) {
		k := &cutter{CutPlan: p, guests: map[int]bool{}, whole: map[int]bool{}}
		for op, err := range ops {
			if err != nil {
				yield(Op{}, err)
				return
			}
			if op, ok := k.take(op); ok && !yield(op, nil) {
				return
			}
		}
	}
}

// cutter is a cut under way.
type cutter struct {
	*CutPlan
	n      uint64       // operations seen
	now    uint64       // time of the last one that had one
	guests map[int]bool // children that are not wanted, until they end; true: in their parent's memory, by vfork
	whole  map[int]bool // processes whose memory began in the time that is wanted
}

// take returns what becomes of op, and whether anything does.
func (k *cutter) take(op Op) (Op, bool) {
	k.n++
	if op.Time != 0 {
		k.now = op.Time
	}
	if k.now > k.cut.To {
		return op, false
	}
	op, ok := k.byProcess(op)
	if !ok {
		return op, false
	}
	return op, k.byTime(&op)
}

// byProcess keeps what wanted processes and their ancestors do.
func (k *cutter) byProcess(op Op) (Op, bool) {
	if len(k.cut.PIDs) == 0 || op.Kind.ofTrace() || op.Kind == OpBoot {
		return op, true
	}
	if shares, guest := k.guests[op.PID]; guest {
		left := op.Kind == OpExit && op.TID == 0 || op.Kind == OpExec && (op.Want == nil || op.Want.Errno == 0)
		if left {
			delete(k.guests, op.PID)
			return Op{Line: op.Line, Time: op.Time, PID: op.PID, Kind: OpExit}, true
		}
		return op, shares && !op.Kind.Describes() && op.Kind != OpFork && op.Kind != OpVfork && op.Kind != OpThread && op.TID == 0
	}
	if k.n > k.until[op.PID] {
		return op, false
	}
	if op.Kind == OpFork || op.Kind == OpVfork {
		if _, ok := k.until[op.Want.PID]; !ok {
			k.guests[op.Want.PID] = op.Kind == OpVfork
		}
	}
	return op, true
}

// byTime keeps what is in the wanted time or needed of what was before.
func (k *cutter) byTime(op *Op) bool {
	before := k.now < k.cut.From
	switch op.Kind {
	case OpTouch, OpMark, OpLost:
		return !before
	case OpPresent:
		return k.cut.From == 0 || !before && k.whole[op.PID]
	case OpExec:
		if op.Want == nil || op.Want.Errno == 0 {
			k.whole[op.PID] = !before
		}
	case OpFork, OpVfork:
		k.whole[op.Want.PID] = k.whole[op.PID]
	case OpExit:
		if op.TID == 0 {
			defer delete(k.whole, op.PID)
		}
	}
	return true
}
