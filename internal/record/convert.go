package record

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
	"vmsim/internal/tracee"
	"vmsim/mem"
	"vmsim/trace"
)

// Converter turns records and events into operations. They must come in the
// order of their times. It is for one goroutine.
type Converter struct {
	queue queue
	tasks map[int]*task      // that live, by the kernel's TID
	hosts map[int32]*process // theirs, by their numbers in the first PID namespace, as far as known
	last  int                // number of the last task; 1 is init
	files files
	began uint64 // time 0; 0: not known yet

	traced   bool // ptrace tells of execs, exits and calls
	command  int  // PID of the command; 0 where perf alone tells
	launched bool // it has exec'ed
	flags    bool // perf tells of clone flags

	lost  uint64
	lacks map[string]int // what could not be told, and how often
}

// NewConverter returns a Converter that gives operations to emit, which must not
// keep them. began is the time that the trace calls 0, in ns of the records'
// clock; 0 is that of the first record.
func NewConverter(began uint64, emit func(*trace.Op) error) *Converter {
	return &Converter{queue: queue{emit: emit}, tasks: map[int]*task{}, hosts: map[int32]*process{}, last: 1, began: began,
		files: files{map[string]trace.FileInfo{}, map[content]string{}}, lacks: map[string]int{}}
}

// Traced says that tracee events come too.
func (c *Converter) Traced() { c.traced = true }

// CloneFlags says that a sample of task_newtask follows each FORK record. Without
// them a vfork cannot be told from a fork.
func (c *Converter) CloneFlags() { c.flags = true }

// Err returns the first error of emit.
func (c *Converter) Err() error { return c.queue.err }

// Lost returns how many records the kernel could not write.
func (c *Converter) Lost() uint64 { return c.lost }

// missingFaults is what faults alone do not tell.
var missingFaults = []string{
	"touches of pages that fault-around mapped", "reads of pages that a fork inherits: they do not fault",
}

// missingAlone is what perf alone does not tell.
var missingAlone = []string{"execs that failed", "where the heap starts"}

// Missing returns what the recording lacks, as far as the records told, a
// sentence each.
func (c *Converter) Missing() []string {
	var s []string
	for _, what := range slices.Sorted(maps.Keys(c.lacks)) {
		s = append(s, fmt.Sprintf("%s (%d)", what, c.lacks[what]))
	}
	return s
}

func (c *Converter) lack(what string) { c.lacks[what]++ }

// out writes an operation that has its time.
func (c *Converter) out(op trace.Op) { c.queue.add(op) }

// unit is what times are rounded to, in ns: their digits are most of what a trace
// takes on disk, and the order of operations does not need them.
const unit = 1000

// at returns the trace's time; the first is one unit, since 0 is not known.
func (c *Converter) at(time uint64) uint64 {
	if c.began == 0 {
		c.began = time
	}
	return (max(time, c.began)-c.began)/unit*unit + unit
}

// Record takes a record of perf, or what was posted among them: a tracee.Event.
func (c *Converter) Record(r *perf.Record) {
	switch r.Kind {
	case perf.KindSample:
		c.sample(r)
	case perf.KindFork:
		c.forked(r)
	case perf.KindComm:
		c.comm(r)
	case perf.KindMmap, perf.KindMmap2:
		c.mapping(r)
	case perf.KindExit:
		if t := c.tasks[int(r.TaskTID)]; t != nil && c.traced && !t.told {
			t.left = true // unseen by ptrace, which is still to tell of it
		} else if t != nil {
			c.end(int(r.TaskTID), c.at(r.Time))
		}
	case perf.KindLost, perf.KindLostSamples:
		c.lost += r.Lost
		c.out(trace.Op{Time: c.at(r.Time), Kind: trace.OpLost, Count: r.Lost})
	case perf.KindPosted:
		if e, ok := r.Value.(tracee.Event); ok {
			c.Event(e, r.Time)
		}
	}
}

// sample takes a sample.
func (c *Converter) sample(r *perf.Record) {
	if r.Event.Role == perf.RoleSignal { // by anyone
		c.sent(r)
		return
	}
	t := c.tasks[int(r.TID)]
	if t == nil {
		if !c.traced {
			c.lack("processes that were there before the recording")
		}
		return
	}
	switch r.Event.Role {
	case perf.RoleUserFault, perf.RoleKernelFault, perf.RoleFault:
		c.fault(t, r)
	case perf.RoleNewTask:
		if t.forked {
			t.forked = false
			c.begin(t, t.child, r.CloneFlags, true, c.at(r.Time))
			c.named(c.tasks[t.child], r.NewPID)
		}
	case perf.RoleSysEnter:
		c.entered(t, int(r.Syscall), r.Args, c.at(r.Time))
	case perf.RoleSysExit:
		if r.UserStack != nil {
			c.returnedFromExec(t, r)
		}
		c.left(t, int(r.Syscall), r.Ret, c.at(r.Time))
	case perf.RoleDeliver:
		c.delivered(t, r)
	}
}

// fault writes a touch.
func (c *Converter) fault(t *task, r *perf.Record) {
	if t.injected || r.Addr >= mem.UserEnd { // beyond: a wild pointer, or the kernel's own
		return
	}
	op := t.op(trace.OpTouch, c.at(r.Time))
	op.Addr, op.IP = r.Addr, r.FaultIP
	if r.Event.Role == perf.RoleFault { // no error code: only a fetch shows
		if r.Addr.PageDown() == r.FaultIP.PageDown() {
			op.Access = mem.Exec
		}
	} else {
		op.Code = trace.CodeKnown | trace.ErrorCode(r.ErrorCode)&^trace.CodeKnown
		switch {
		case op.Code&trace.CodeFetch != 0:
			op.Access = mem.Exec
		case op.Code&trace.CodeWrite != 0:
			op.Access = mem.Write
		}
	}
	if op.Access == mem.Write {
		op.Value = trace.DefaultValue
	}
	if t.proc.execing {
		if c.traced || op.Code&trace.CodeUser == 0 && op.Code != 0 {
			t.proc.held = append(t.proc.held, op)
			return
		}
		c.ready(t.proc, op.Time)
	}
	c.out(op)
}

// forked takes a FORK record: the clone flags follow, from perf or from ptrace.
func (c *Converter) forked(r *perf.Record) {
	parent := c.tasks[int(r.ParentTID)]
	if parent == nil {
		return
	}
	parent.forked, parent.child = true, int(r.TaskTID)
	if !c.traced && !c.flags {
		parent.forked = false
		flags := uint64(0)
		if r.TaskPID != r.TaskTID {
			flags = tracee.CloneThread | tracee.CloneVM
		}
		c.begin(parent, int(r.TaskTID), flags, false, c.at(r.Time))
	}
}

// entered takes the entry of a system call from perf.
func (c *Converter) entered(t *task, nr int, args [6]uint64, at uint64) {
	switch {
	case c.traced || t.proc.compat:
	case nr == unix.SYS_EXIT:
		t.exits, t.status = true, int(args[0]&0xff)
	case nr == unix.SYS_EXIT_GROUP:
		t.proc.exits, t.proc.over, t.proc.status = true, true, int(args[0]&0xff)
	default:
		c.enter(t, nr, args, at)
	}
}

// left takes the return from a system call from perf.
func (c *Converter) left(t *task, nr int, ret int64, at uint64) {
	if c.traced {
		return
	}
	if t.proc.image != nil {
		c.ready(t.proc, at)
	}
	if t.proc.compat {
		return
	}
	if t.call.nr == nr {
		c.leave(t, t.call, ret, t.call.size, at)
	}
	c.drop(t)
}

// enter begins a call; one that frees addresses keeps its place.
func (c *Converter) enter(t *task, nr int, args [6]uint64, at uint64) {
	c.drop(t)
	t.call = call{nr: nr, args: args, at: at}
	if frees(nr) {
		t.call.hold, t.call.place = true, c.queue.hold()
	}
}

// drop forgets the call that t is in: it does not return.
func (c *Converter) drop(t *task) {
	if t.call.hold {
		c.queue.settle(t.call.place, nil)
	}
	t.call = call{}
}

// leave writes a call that returned.
func (c *Converter) leave(t *task, in call, ret int64, size, at uint64) {
	held := t.call.hold && t.call.nr == in.nr
	if held {
		at = t.call.at
	}
	op, ok := c.returned(t, in.nr, in.args, ret, in.file, size, at)
	switch {
	case !ok:
	case held:
		c.queue.settle(t.call.place, &op)
		t.call = call{}
	default:
		c.out(op)
	}
	c.drop(t)
}

// comm takes a COMM record: an exec has given the process another memory.
func (c *Converter) comm(r *perf.Record) {
	if r.Misc&perf.MiscCommExec == 0 {
		return
	}
	t := c.tasks[int(r.OfTID)]
	if t != nil && t.left { // another thread has taken its number
		c.end(int(r.OfTID), c.at(r.Time))
		t = nil
	}
	if t == nil && !c.traced {
		if t = c.leader(int(r.OfTID)); t == nil {
			t = c.root(int(r.OfTID), c.at(r.Time))
		}
	}
	if t == nil {
		return
	}
	c.alone(t)
	c.drop(t)
	t.proc.execing, t.proc.held = true, nil
	if !c.traced {
		t.proc.image = &image{}
		c.survived(t.proc, c.at(r.Time))
	}
}

// alone makes the task that exec'ed the first of its process: the others are
// gone, and it has taken the number of the first.
func (c *Converter) alone(t *task) { t.num = t.proc.num }

// leader returns the thread that has taken the number of its process's first, whose end was
// told already; nil if there is none. perf does not say which number it had.
func (c *Converter) leader(pid int) *task {
	for tid, t := range c.tasks { // the other threads have ended too
		if t.proc.pid == pid {
			delete(c.tasks, tid)
			c.tasks[pid] = t
			return t
		}
	}
	return nil
}

// mapping takes an MMAP2 record: a mapping of the call that the task is in, or
// of exec.
func (c *Converter) mapping(r *perf.Record) {
	t := c.tasks[int(r.OfTID)]
	if t == nil {
		return
	}
	switch {
	case t.proc.execing && t.proc.image != nil:
		t.proc.image.add(r)
	case !t.call.maps() || t.call.file != nil || len(r.Name) == 0 || r.Name[0] != '/' || strings.HasPrefix(string(r.Name), "//"):
	default:
		t.call.file, t.call.size = ofPath(string(r.Name), r.Major, r.Minor, r.Inode), r.Len
	}
}

// ready ends an exec that perf alone told of: what comes now is the program's.
func (c *Converter) ready(p *process, at uint64) {
	if !p.execing {
		return
	}
	p.execing = false
	if p.image != nil {
		if p.compat = p.image.compat(); p.compat {
			c.lack("calls and exit statuses of 32-bit programs")
		}
		c.started(p, p.image, at)
		p.image = nil
	}
	for _, op := range p.held {
		op.Time = max(op.Time, at)
		c.out(op)
	}
	p.held = nil
}

// Close ends what is still under way.
func (c *Converter) Close(time uint64) error {
	at := c.at(time)
	for _, tid := range slices.Sorted(maps.Keys(c.tasks)) {
		c.lack("the ends of tasks that lived on")
		c.drop(c.tasks[tid])
		c.ready(c.tasks[tid].proc, at)
		c.bury(c.tasks[tid].proc, at)
	}
	return c.queue.err
}
