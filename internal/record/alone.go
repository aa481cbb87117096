package record

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
	"vmsim/mem"
)

// What perf tells where nobody traces the tasks: the stack of a new program, and how
// tasks end.

// returnedFromExec takes the return of an execve that succeeded, of a 64-bit program: to a
// 32-bit one it returns as execve of those, which has the number of munmap
// (arch/x86/kernel/process_64.c:__set_personality_ia32).
func (c *Converter) returnedFromExec(t *task, r *perf.Record) {
	delete(c.hosts, t.host) // a thread that has become the first of its process
	t.host = 0
	c.named(t, r.HostTID)
	im := t.proc.image
	if im == nil || r.UserABI != perf.ABI64 {
		return
	}
	im.sp = r.UserSP
	args, whole := argsOf(r.UserStack, r.UserSP)
	if im.args = bounded(args); !whole {
		c.lack("arguments of execs, those that perf cannot read: beyond 64 KiB, or with --aslr behind an untouched page")
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

// named notes a task's number in the first PID namespace: signals are told with those. The
// first thread's is that of the process, which still gets signals when that thread has ended.
func (c *Converter) named(t *task, host int32) {
	if t == nil || host <= 0 {
		return
	}
	if t.num == t.proc.num {
		t.proc.host = host
	} else {
		t.host = host
	}
	c.hosts[host] = t.proc
}

// harmless are the signals that end nobody by default (signal(7)).
var harmless = map[int32]bool{
	int32(unix.SIGCHLD): true, int32(unix.SIGCONT): true, int32(unix.SIGSTOP): true, int32(unix.SIGTSTP): true,
	int32(unix.SIGTTIN): true, int32(unix.SIGTTOU): true, int32(unix.SIGURG): true, int32(unix.SIGWINCH): true,
}

// Values of Record.Result of signals that are on their way (include/trace/events/signal.h).
const (
	queued   = 0
	loseInfo = 4 // without its siginfo: RLIMIT_SIGPENDING
)

// sent takes a signal that somebody sends to one of the tasks.
func (c *Converter) sent(r *perf.Record) {
	p := c.hosts[r.Target]
	if p == nil || p.over || harmless[r.Signal] || r.Result != queued && r.Result != loseInfo {
		return
	}
	p.killer = int(r.Signal)
}

// defaultAction is Record.Handler of SIG_DFL.
const defaultAction = 0

// delivered takes a signal that a task gets. One that ends a process without a core dump
// has marked all of its threads for SIGKILL when it was sent, and that is what they get
// (kernel/signal.c:complete_signal); what is sent to it from then on is not queued. But
// they get it too if another thread execs.
func (c *Converter) delivered(t *task, r *perf.Record) {
	if r.Handler != defaultAction || harmless[r.Signal] {
		return
	}
	t.killed = true
	if r.Signal != int32(unix.SIGKILL) {
		t.proc.killer, t.proc.over = int(r.Signal), true
	}
}

// ended takes the end of a task that nobody traces. What a thread was killed for is known
// when its process has ended or exec'ed; and the first thread's end is that of the
// process, though others may still be on their way out.
func (c *Converter) ended(t *task, at uint64) {
	p := t.proc
	switch first := t.num == p.num; {
	case p.threads > 0 && (first && p.over || t.killed && !p.over):
		p.dead = append(p.dead, t)
	case p.threads > 0:
		c.exit(t, at)
	default:
		delete(c.hosts, p.host)
		p.dead, p.killer = append(p.dead, t), cmp.Or(p.killer, int(unix.SIGKILL))
		c.bury(p, at)
	}
}

// survived takes an exec, which has ended all other threads of its process, with status 0
// (kernel/exit.c:do_group_exit). A signal that is on its way stays so.
func (c *Converter) survived(p *process, at uint64) {
	p.end, p.threads = end{killer: p.killer}, 1
	for _, t := range p.dead {
		t.killed = false
	}
	c.bury(p, at)
}

// bury writes the ends that waited, the first thread's last.
func (c *Converter) bury(p *process, at uint64) {
	slices.SortFunc(p.dead, func(a, b *task) int { return cmp.Compare(b.num, a.num) })
	for _, t := range p.dead {
		c.exit(t, at)
	}
	p.dead = nil
}

// ending returns what the status of a task says that has ended.
func (t *task) ending() (status, signal int) {
	switch p := t.proc; {
	case p.exits:
		return p.status, 0
	case t.exits:
		return t.status, 0
	case t.killed:
		return 0, p.killer
	}
	return 0, 0
}
