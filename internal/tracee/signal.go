//go:build linux && amd64

package tracee

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// handleSignals makes this process live as long as the command does: the terminal's
// signals are not for us, others are passed on. A signal that was ignored when this
// program started stays so, for the command too.
func (s *Session) handleSignals() (stopIt func()) {
	if !s.cfg.Signals {
		return func() {}
	}
	c := make(chan os.Signal, 16)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
	go func() {
		for sig := range c {
			if sig == syscall.SIGTERM || sig == syscall.SIGHUP {
				s.pass(sig.(syscall.Signal))
			}
		}
	}()
	return func() {
		signal.Stop(c)
		close(c)
	}
}

// pass sends sig to the command, or once it is gone to all processes that it left. Of one
// that is not traced those are not known: the session ends.
func (s *Session) pass(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live[s.pid] {
		unix.Kill(s.pid, sig)
		return
	}
	for pid := range s.live {
		unix.Kill(pid, sig)
	}
	if s.cfg.Mode == Untraced {
		s.left()
	}
}
