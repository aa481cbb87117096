package session

import (
	"vmsim/mem"
	"vmsim/trace"
	"vmsim/vm"
)

// Batch is trace.Batcher's. A translation that the TLB has was looked at when a
// touch made it, unless it was made by an exec that prefaulted, or the like: such a
// touch needs nothing. Any other is visited.
func (s *simulator) Batch(pid int, ts *trace.Touches, from int, met []int) (n int, o trace.Outcome, err error) {
	p, m := s.lastProc, s.lastMem
	if s.lastPID != pid || p == nil || p.Ended() {
		if p, m, err = s.process(pid); err != nil {
			return 0, o, err
		}
		s.lastPID, s.lastProc, s.lastMem = pid, p, m
	}
	if s.pending != nil {
		s.before(nil)
	}
	var missed [faultKinds]int // the touches that were visited and went well
	touches := ts.Touch[from:]
	i := 0
	for ; i < len(touches); i++ {
		if i += untroubled(p, m, touches[i:]); i == len(touches) {
			break
		}
		about := trace.TouchInfo{Handled: true} // as far as a recording says
		if len(ts.IPs) > 0 {
			about.IP = ts.IPs[from+i]
		}
		if len(ts.Codes) > 0 {
			about.Code = ts.Codes[from+i]
		}
		kind, ill, e := s.visit(p, m, &touches[i], about)
		if e != nil || ill != nil {
			if err = e; ill != nil {
				o = *ill
			}
			break
		}
		missed[kind]++
		s.count.free = min(s.count.free, s.Machine.FreeFrames())
	}
	hits := i
	for kind, n := range missed {
		met[kind] += n
		hits -= n
	}
	met[vm.NoFault] += hits
	m.program.Untroubled += uint64(hits)
	done := touches[:min(i+1, len(touches))] // the one that went ill is a reference too
	m.program.Recorded.References += uint64(len(done))
	if len(ts.Codes) > 0 {
		for j := range done {
			m.program.Recorded.add(done[j].Access, ts.Codes[from+j])
		}
	}
	s.count.ops += uint64(i)
	if hits < i {
		s.count.attribute(s.Machine, m)
	}
	return i, o, err
}

// untroubled returns how many touches come before the first that must be visited. It
// is not part of Batch, among whose variables its own would lose their registers: that
// costs a tenth of a replay.
func untroubled(p *vm.Process, m *memory, touches []trace.Touch) int {
	if m.loose {
		for i := range touches {
			if t := &touches[i]; !p.Hit(t.Addr, t.Access) || !m.seen.has(t.Addr) {
				return i
			}
		}
		return len(touches)
	}
	for i := range touches {
		if t := &touches[i]; !p.Hit(t.Addr, t.Access) {
			return i
		}
	}
	return len(touches)
}

// faultKinds is how many vm.FaultKinds there are.
const faultKinds = int(vm.CoW) + 1

// visit does one touch of a recording, and compares its page if it is the first
// of it. Where it was refused, or a byte is wrong, ill has its outcome, until the
// next visit; it is nil where all is well, and with trouble, which err is.
func (s *simulator) visit(p *vm.Process, m *memory, t *trace.Touch, about trace.TouchInfo) (kind vm.FaultKind, ill *trace.Outcome, err error) {
	if about.IP != 0 {
		p.SetIP(about.IP)
	}
	dirty := s.writable > 0 && s.dirty(m, t.Addr) // before: a write makes it so
	data, kind, err := p.TouchPage(t.Addr, t.Access)
	if err != nil && s.unmapped && s.back(p, m, t.Addr, err) {
		data, kind, err = p.TouchPage(t.Addr, t.Access)
	}
	if err != nil && !about.Refused && p.RaiseStackLimit(t.Addr) { // ulimit -s is not in the trace
		m.stack.Start = min(m.stack.Start, t.Addr.PageDown())
		data, kind, err = p.TouchPage(t.Addr, t.Access)
	}
	if err != nil {
		if m.refused == nil {
			m.refused = newPageSet()
		}
		m.refused.add(t.Addr)
		s.ill, err = refused(p, about, err)
		return kind, s.illUnless(err), err
	}
	s.count.touched(s, p, m, t, about.IP, kind)
	first := m.seen.add(t.Addr)
	if first {
		ok, err := s.look(p, m, t.Addr, data, dirty)
		if err != nil {
			return kind, nil, err
		}
		if !ok {
			s.ill = trace.Outcome{Fault: trace.Fault(kind.String())}
			s.wrong(p, m, &s.ill)
			return kind, &s.ill, nil
		}
	}
	if t.Access == mem.Write {
		// What was written is not known, but that something was: a frame that is
		// somebody else's too must not change with it.
		s.inverted[0] = ^data[t.Addr.PageOffset()]
		if _, err := p.Write(t.Addr, s.inverted[:]); err != nil {
			s.ill, err = refused(p, about, err)
			return kind, s.illUnless(err), err
		}
	}
	return kind, nil, nil
}

// illUnless returns the outcome, or nil if err is trouble.
func (s *simulator) illUnless(err error) *trace.Outcome {
	if err != nil {
		return nil
	}
	return &s.ill
}
