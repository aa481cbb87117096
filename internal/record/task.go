package record

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"vmsim/internal/tracee"
	"vmsim/trace"
)

// process is one that lives.
type process struct {
	num  int   // in the trace
	pid  int   // the kernel's
	host int32 // in Converter.hosts
	end

	threads int     // that live
	dead    []*task // perf alone: ended threads whose exits are yet to be written

	compat bool // a 32-bit program: its calls have other numbers

	// Between the kernel's exec (COMM) and the moment at which all is known of
	// the new program, what it touches waits here.
	execing bool
	held    []trace.Op
	image   *image // what perf says of the new program; nil where ptrace does

	minflt, majflt uint64 // not the program's own
}

// end is what is known of how a process ends.
type end struct {
	over bool // the last of its threads is about to end

	// Where perf alone tells.
	exits  bool // it called exit_group
	status int
	killer int // the signal that was sent to it last, if it may kill
}

// task is a thread that lives.
type task struct {
	num  int // in the trace: that of its process if it is the first
	proc *process
	host int32 // in Converter.hosts, if it is not the first

	call     call // that it is in
	injected bool // what it does is the tracer's
	forked   bool // it called clone: a child is about to be told of
	child    int  // its TID, as the FORK record has it

	exits, killed  bool // it called exit, it got a deadly signal; perf alone
	status, signal int  // of its end
	told, left     bool // by ptrace, and by perf: it ends
	minflt, majflt uint64
}

// call is a system call between entry and return.
type call struct {
	nr    int // 0: none, since read is not recorded
	args  [6]uint64
	at    uint64 // of its entry
	place int    // in the queue, if hold
	hold  bool
	file  *mapped // what MMAP2 says it mapped, and how many bytes
	size  uint64
}

// maps reports whether it is one that an MMAP2 record describes.
func (c *call) maps() bool { return c.nr == unix.SYS_MMAP || c.nr == unix.SYS_SHMAT }

// op returns an operation by t.
func (t *task) op(kind trace.Kind, time uint64) trace.Op {
	op := trace.Op{Time: time, PID: t.proc.num, Kind: kind}
	if t.num != t.proc.num {
		op.TID = t.num
	}
	return op
}

// root makes the first process, and what init does for it.
func (c *Converter) root(tid int, at uint64) *task {
	c.last++
	t := &task{num: c.last, proc: &process{num: c.last, pid: tid, threads: 1}}
	c.tasks[tid] = t
	c.out(trace.Op{Time: at, PID: 1, Kind: trace.OpFork, Want: &trace.Answer{PID: t.num}})
	return t
}

// begin makes the task tid, a child of parent.
func (c *Converter) begin(parent *task, tid int, flags uint64, known bool, at uint64) {
	if old := c.tasks[tid]; old != nil {
		c.end(tid, at) // its EXIT was lost
	}
	c.last++
	t := &task{num: c.last}
	kind := trace.OpFork
	switch {
	case flags&tracee.CloneThread != 0:
		kind, t.proc = trace.OpThread, parent.proc
		t.proc.threads++
	case flags&tracee.CloneVM != 0:
		kind = trace.OpVfork
		fallthrough
	default:
		t.proc = &process{num: t.num, pid: tid, threads: 1, compat: parent.proc.compat}
	}
	c.tasks[tid] = t
	op := parent.op(kind, at)
	if op.Want = (&trace.Answer{PID: t.num}); known {
		op.Bits = flags
	}
	c.out(op)
}

// end takes the exit of the task tid.
func (c *Converter) end(tid int, at uint64) {
	t := c.tasks[tid]
	if t == nil {
		return
	}
	delete(c.tasks, tid)
	delete(c.hosts, t.host)
	t.proc.threads--
	if c.traced && t.proc.over && t.num == t.proc.num { // its other threads are on their way out too
		for _, other := range slices.Sorted(maps.Keys(c.tasks)) {
			if c.tasks[other].proc == t.proc {
				c.end(other, at)
			}
		}
	}
	c.drop(t) // killed in a call
	if im := t.proc.image; im != nil && len(im.files) == 0 && !t.killed {
		// It lives, unseen (fs/exec.c:begin_new_exec calls perf_event_exit_task).
		c.lack("programs that perf does not follow: set-user-ID, or not readable for their user")
		t.proc.execing, t.proc.image = false, nil
	}
	c.ready(t.proc, at) // killed in the middle of an exec
	if c.traced {
		c.exit(t, at)
	} else {
		c.ended(t, at)
	}
}

// exit writes the exit of a task.
func (c *Converter) exit(t *task, at uint64) {
	if !c.traced {
		t.status, t.signal = t.ending()
	}
	op := t.op(trace.OpExit, at)
	op.Status, op.Signal, op.MinFlt, op.MajFlt = t.status, t.signal, t.minflt, t.majflt
	c.out(op)
}
