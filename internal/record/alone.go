package record

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
	"vmsim/mem"
)

// What perf tells where nobody traces the tasks: the stack of a new program, and how
// tasks end.

// returnedFromExec takes the return of an execve that succeeded.
func (c *Converter) returnedFromExec(t *task, r *perf.Record) {
	c.named(t, r.HostTID)
	im := t.proc.image
	if t.proc.compat = r.UserABI == perf.ABI32; im == nil || r.UserABI == perf.ABINone {
		return
	}
	im.sp = r.UserSP
	if t.proc.compat {
		c.lack("calls of 32-bit programs")
		return
	}
	args, whole := argsOf(r.UserStack, r.UserSP)
	if im.args = bounded(args); !whole {
		c.lack("arguments of execs, those beyond 64 KiB of the stack")
	}
}

// argsOf returns the arguments that exec put on the stack, which begins at sp
// (fs/binfmt_elf.c:create_elf_tables): their number, their addresses, and further up they
// themselves. whole is false if the stack ends before they do.
func argsOf(stack []byte, sp mem.VirtAddr) (args []string, whole bool) {
	word := func(i uint64) uint64 { return binary.LittleEndian.Uint64(stack[8*i:]) }
	words := uint64(len(stack) / 8)
	if words == 0 {
		return nil, false
	}
	n := word(0)
	for i := uint64(1); i <= n; i++ {
		if i >= words || word(i)-uint64(sp) >= uint64(len(stack)) {
			return args, false
		}
		text := stack[word(i)-uint64(sp):]
		end := bytes.IndexByte(text, 0)
		if end < 0 {
			return args, false
		}
		args = append(args, string(text[:end]))
	}
	return args, true
}

// named notes a task's number in the first PID namespace: signals are told with those.
func (c *Converter) named(t *task, host int32) {
	if t == nil || host <= 0 {
		return
	}
	c.unnamed(t) // a thread that has become the first of its process
	t.host = host
	c.hosts[host] = t
}

// unnamed forgets that number.
func (c *Converter) unnamed(t *task) {
	if c.hosts[t.host] == t {
		delete(c.hosts, t.host)
	}
}

// harmless are the signals that end nobody by default (signal(7)).
var harmless = map[int32]bool{
	int32(unix.SIGCHLD): true, int32(unix.SIGCONT): true, int32(unix.SIGSTOP): true, int32(unix.SIGTSTP): true,
	int32(unix.SIGTTIN): true, int32(unix.SIGTTOU): true, int32(unix.SIGURG): true, int32(unix.SIGWINCH): true,
}

// sent takes a signal that was queued for one of the tasks.
func (c *Converter) sent(r *perf.Record) {
	if t := c.hosts[r.Target]; t != nil && r.Result == 0 && !harmless[r.Signal] {
		t.proc.killer = int(r.Signal)
	}
}

// Values of Record.Handler.
const (
	defaultAction = 0 // SIG_DFL
	ignored       = 1 // SIG_IGN
)

// delivered takes a signal that a task gets. One that ends a process without a core dump
// has marked all of its threads for SIGKILL when it was sent, and that is what they get
// (kernel/signal.c:complete_signal); what is sent to it from then on is not queued.
func (c *Converter) delivered(t *task, r *perf.Record) {
	switch p := t.proc; {
	case r.Handler == ignored || harmless[r.Signal]:
	case r.Handler != defaultAction:
		if p.killer == int(r.Signal) {
			p.killer = 0
		}
	case r.Signal != int32(unix.SIGKILL):
		p.killer, p.over = int(r.Signal), true
		t.signal = p.killer
	case p.killer != 0:
		t.signal, p.over = p.killer, true
	default: // by another thread's exit or exec
		t.signal = int(r.Signal)
	}
}

// ending returns what the status of a task says that has ended.
func (t *task) ending() (status, signal int) {
	switch {
	case t.proc.exits:
		return t.proc.status, 0
	case t.exits:
		return t.status, 0
	}
	return 0, t.signal
}
