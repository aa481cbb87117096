package trace

import (
	"io"

	"vmsim/mem"
)

// touchBatch is how many touches are decoded at once: enough that the loops
// around them cost nothing, and few enough for the first-level cache.
const touchBatch = 512

// toucher is a Source that gives runs of touches without making operations of
// them.
type toucher interface {
	Touches(dst *Touches) bool
}

// RunSource runs all operations of src, as Run does. Of the touches of a recording
// only those are made operations of, and shown to After, that went ill (Batcher):
// an Op is large, and almost all of a recording is touches.
func (r *Runner) RunSource(src Source) (Result, error) {
	s := r.start()
	s.checked = true
	err := s.source(src)
	return s.end(err)
}

func (s *run) source(src Source) error {
	batcher, ok := s.Machine.(Batcher)
	fast, ok2 := src.(toucher)
	ts := Touches{}
	if ok && ok2 && s.Header.Recorded() {
		ts.Touch = make([]Touch, 0, touchBatch)
		ts.IPs, ts.Codes, ts.Times = make([]mem.VirtAddr, 0, touchBatch), make([]ErrorCode, 0, touchBatch), make([]uint64, 0, touchBatch)
	}
	for {
		if cap(ts.Touch) > 0 && fast.Touches(&ts) {
			if err := s.touches(batcher, &ts); err != nil {
				return err
			}
			if s.Stop != nil && s.Stop() {
				return s.Stopped
			}
			continue
		}
		op, err := src.Next()
		if s.Stop != nil && s.Stop() {
			err = s.Stopped
		}
		if err == nil {
			err = s.take(&op)
		}
		if err != nil {
			if e := s.release(); e != nil { // what was read before the trouble happened, happens
				return e
			}
			if err == io.EOF {
				err = nil
			}
			return err
		}
	}
}

// touches runs a run of touches by one task.
func (s *run) touches(batcher Batcher, ts *Touches) error {
	if err := s.release(); err != nil { // no touch belongs to an exec
		return err
	}
	for from := 0; from < len(ts.Touch); from++ {
		p := s.procs[ts.PID]
		if p == nil || p.state != alive {
			op := ts.op(from)
			if err := s.take(&op); err != nil {
				return err
			}
			continue
		}
		n, o, err := batcher.Batch(p.pid, ts, from, s.faults[:nSurvived])
		s.survived(n)
		if from += n; from == len(ts.Touch) && err == nil {
			return nil
		}
		if err := s.illMet(p, ts, from, o, err); err != nil {
			return err
		}
	}
	return nil
}

// illMet enters touch i, which the machine has done with this outcome.
func (s *run) illMet(p *proc, ts *Touches, i int, o Outcome, err error) error {
	op := ts.op(i)
	s.begin(&op)
	s.step.PID, s.step.Addr = p.pid, op.Addr
	if err := s.met(p, o, err, true); err != nil {
		return s.trouble(err)
	}
	s.count()
	if s.After != nil {
		s.After(&s.step)
	}
	return nil
}

// survived counts n touches, whose faults are counted.
func (s *run) survived(n int) {
	if n == 0 {
		return
	}
	s.n += n
	s.res.Ops += n
	s.kinds[OpTouch] += n
	if t := s.test(); t != nil {
		t.Ops += n
	}
}

// op returns touch i as an operation.
func (ts *Touches) op(i int) Op {
	t := &ts.Touch[i]
	op := Op{Line: lineOf(ts.First + uint64(i) + 1), PID: ts.PID, TID: ts.TID, Kind: OpTouch, Access: t.Access, Addr: t.Addr, Value: t.Value}
	if len(ts.Times) > 0 {
		op.Time = ts.Times[i]
	}
	if len(ts.IPs) > 0 {
		op.IP = ts.IPs[i]
	}
	if len(ts.Codes) > 0 {
		op.Code = ts.Codes[i]
	}
	return op
}
