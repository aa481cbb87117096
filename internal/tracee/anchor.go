//go:build linux && amd64

package tracee

import (
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An anchor is a thread that is kept at its PTRACE_EVENT_EXIT while the other threads of
// its process are killed, so that their memory stands until all of them have been seen.
//
// A thread that is killed in a stop leaves it. If it has come to its PTRACE_EVENT_EXIT by
// the time at which the tracer lets it go on from the former stop, it goes on from the
// latter, unseen: no request of ptrace names the stop that it is for. That happens to one
// process in a hundred with several threads, and if it were the last of them nobody
// would know which pages were present.

// missed, in tests, makes a PTRACE_EVENT_EXIT one that was not seen.
var missed func() bool

// anchor keeps t, which has come to its end, if all threads of its process end now and
// others are yet to come.
func (s *Session) anchor(t *task) bool {
	p := t.proc
	if s.cfg.Mode != Complete || !s.begun || p.threads == 0 || p.anchor != nil || !s.endsAll(t) {
		return false
	}
	p.anchor = t
	s.anchored[p] = time.Now().Add(patience)
	return true
}

// endsAll reports whether t has not come to its end by itself, nor since another thread execs.
func (s *Session) endsAll(t *task) bool {
	for _, other := range s.tasks {
		if nr := other.call.nr; other.proc == t.proc && other.inCall && (nr == unix.SYS_EXECVE || nr == unix.SYS_EXECVEAT) {
			return false
		}
	}
	var regs unix.PtraceRegs
	return getRegs(t.tid, &regs) == nil && regs.Orig_rax != unix.SYS_EXIT
}

// settle lets the anchor of p go once all other threads have ended.
func (s *Session) settle(p *process) {
	if a := p.anchor; a != nil && p.threads == 0 {
		s.loose(p)
		s.resume(a, 0)
	}
}

func (s *Session) loose(p *process) {
	p.anchor = nil
	delete(s.anchored, p)
}

// settleAll looks after the anchors that nothing was heard of: the end of the first thread
// is told only when the others are gone. One that has waited too long is let go: then it is
// an exec that ends the threads, and waits for it.
func (s *Session) settleAll() {
	for p, deadline := range s.anchored {
		a := p.anchor
		if first := s.tasks[p.pid]; p.threads == 1 && first != nil && !first.exiting {
			if state, _ := s.status(p.pid, "State"); strings.HasPrefix(state, "Z") {
				msg, _ := eventMsg(a.tid)
				s.ended(first, unix.WaitStatus(msg), a)
				s.settle(p)
				continue
			}
		}
		if time.Now().After(deadline) {
			s.loose(p)
			s.resume(a, 0)
		}
	}
}
