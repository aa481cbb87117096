package record

import (
	"fmt"
	"strings"
	"syscall"

	"vmsim/internal/tracee"
	"vmsim/mem"
	"vmsim/trace"
)

// Event takes what ptrace saw. time is where it belongs among perf's records, in
// ns of their clock.
func (c *Converter) Event(e tracee.Event, time uint64) {
	at := c.at(time)
	switch e := e.(type) {
	case *tracee.NewTask:
		if parent := c.tasks[e.Parent]; parent != nil && (c.tasks[e.Child] == nil) {
			parent.forked = false
			c.begin(parent, e.Child, e.Flags, e.Known, at)
		}
	case *tracee.Started:
		if e.Root {
			c.root(e.TID, at)
			c.command = e.PID
		} else if t := c.tasks[e.TID]; t != nil && e.Present != nil {
			c.areas(t, trace.PointFork, e.Maps, at)
			c.present(t, trace.PointFork, e.Present, at)
		}
	case *tracee.ExecEntry:
		if t := c.tasks[e.TID]; t != nil && e.Present != nil && !e.Shared {
			c.present(t, trace.PointExecve, e.Present, at)
		}
	case *tracee.Exec:
		c.execed(e, at)
	case *tracee.ExecFailed:
		if t := c.tasks[e.TID]; t != nil && e.Path != "" {
			op := t.op(trace.OpExec, at)
			op.Path, op.Want = e.Path, &trace.Answer{Errno: syscall.Errno(e.Errno)}
			c.out(op)
		}
	case *tracee.Entered:
		if t := c.tasks[e.TID]; t != nil {
			c.enter(t, e.Nr, [6]uint64{}, at)
		}
	case *tracee.Call:
		if t := c.tasks[e.TID]; t != nil {
			var f *mapped
			if e.File != nil {
				f = ofTracee(e.File)
			}
			c.leave(t, call{nr: e.Nr, args: e.Args, file: f}, e.Ret, e.Size, at)
		}
	case *tracee.Injecting:
		if t := c.tasks[e.TID]; t != nil {
			t.injected = true
		}
	case *tracee.Injected:
		if t := c.tasks[e.TID]; t != nil {
			t.injected = false
		}
	case *tracee.Exit:
		c.exiting(e, at)
	case *tracee.Gone:
		if c.tasks[e.PID] != nil {
			c.end(e.PID, at) // its EXIT is not to be had
		}
	case *tracee.Uncut:
		c.note(e.PID, at, uncut(e))
	case *tracee.Note:
		c.note(e.PID, at, e.Text)
	}
}

// uncutNote is how a note begins which says that areas of its process are not cut from
// here on, as soundness.UncutNote: touches near a fault are invisible there.
const uncutNote = "uncut: "

func uncut(e *tracee.Uncut) string {
	if e.Range.Empty() {
		return uncutNote + "all of the process: " + e.Reason
	}
	return fmt.Sprintf("%s%v, %d pages: %s", uncutNote, e.Range, e.Pages, e.Reason)
}

func (c *Converter) note(pid int, at uint64, text string) {
	if t := c.tasks[pid]; t != nil {
		op := t.op(trace.OpNote, at)
		op.Name = text
		c.out(op)
	}
}

// execed writes an exec that ptrace stopped behind.
func (c *Converter) execed(e *tracee.Exec, at uint64) {
	if e.FormerTID != e.PID { // another thread than the first called it, and is the first now
		if t := c.tasks[e.FormerTID]; t != nil {
			delete(c.tasks, e.FormerTID)
			if c.tasks[e.PID] == nil {
				c.tasks[e.PID] = t
			}
		}
	}
	t := c.tasks[e.PID]
	if t == nil {
		return
	}
	c.alone(t)
	if e.PID == c.command && !c.launched { // what the process that became the command took before
		c.launched, t.proc.minflt, t.proc.majflt = true, e.MinFlt-e.Injected, e.MajFlt
	}
	program := ofTracee(&e.File)
	program.path = e.Path
	c.file(program, at)
	op := t.op(trace.OpExec, at)
	op.Path, op.Want = e.Path, &trace.Answer{}
	op.Start = &trace.Start{SP: e.SP, Brk: e.StartBrk, Args: bounded(e.Argv)}
	for _, a := range e.Maps {
		if a.Path == "" || a.Path[0] != '/' {
			continue
		}
		switch {
		case op.Start.Base == 0 && a.Path == e.Path:
			op.Start.Base = a.Start
		case op.Start.Interp == "" && e.Base != 0 && a.Contains(e.Base):
			op.Start.Interp, op.Start.InterpBase = a.Path, a.Start
			f := ofPath(a.Path, a.Major, a.Minor, a.Ino)
			c.file(f, at)
		}
	}
	c.out(op)
	c.areas(t, trace.PointExec, e.Maps, at)
	t.proc.execing = false
	for _, h := range t.proc.held {
		h.Time = at
		c.out(h)
	}
	t.proc.held = nil
	if e.Present != nil {
		c.present(t, trace.PointExec, e.Present, at)
	}
}

// mostArgs is how many arguments a header holds.
const mostArgs = 1000

// bounded cuts arguments to what an operation and a header can hold.
func bounded(args []string) []string {
	args = args[:min(len(args), mostArgs)]
	n := 0
	for i, a := range args {
		if n += len(a) + 1; n > trace.MaxArgs {
			return args[:i]
		}
	}
	return args
}

// exiting notes how a task ends; the operation itself comes with its EXIT, since
// the kernel still touches memory for it.
func (c *Converter) exiting(e *tracee.Exit, at uint64) {
	t := c.tasks[e.TID]
	if t == nil {
		return
	}
	t.told, t.status, t.signal = true, e.Status, e.Signal
	if e.Signal != 0 {
		t.status = 0
	}
	if e.LastThread {
		t.proc.over = true
		t.minflt = e.MinFlt - min(e.MinFlt, e.Injected+t.proc.minflt)
		t.majflt = e.MajFlt - min(e.MajFlt, t.proc.majflt)
	}
	if e.LastUser && e.Seen {
		if e.Maps != nil {
			c.areas(t, trace.PointExit, e.Maps, at)
		}
		if e.Present != nil {
			c.present(t, trace.PointExit, e.Present, at)
		}
	}
	if t.left {
		c.end(e.TID, at)
	}
}

// areas writes lines of /proc/PID/maps.
func (c *Converter) areas(t *task, p trace.Point, areas []tracee.Area, at uint64) {
	for _, a := range areas {
		if a.Start >= mem.UserEnd {
			continue // [vsyscall]: the same for all, and of no process
		}
		op := t.op(trace.OpArea, at)
		op.Point, op.Addr, op.Len, op.Prot = p, a.Start, a.Len(), a.Prot
		if a.Shared {
			op.Flags = trace.MapShared
		}
		path, _ := strings.CutSuffix(a.Path, " (deleted)")
		switch {
		case path == "" || path == "/dev/zero" && a.Shared: // shared anonymous memory
		case path[0] == '[':
			op.Name = path
		default:
			op.Path, op.Offset = path, a.Off
		}
		c.out(op)
	}
}

// present writes a present set, in as many operations as it takes.
func (c *Converter) present(t *task, p trace.Point, runs []tracee.Run, at uint64) {
	for {
		n := min(len(runs), trace.MaxRuns)
		op := t.op(trace.OpPresent, at)
		op.Point, op.Set = p, &trace.PresentSet{Runs: make([]trace.Run, n)}
		for i, r := range runs[:n] {
			end := r.Start + mem.VirtAddr(r.Pages)*mem.PageSize
			op.Set.Runs[i] = trace.Run{Range: mem.Range{Start: r.Start, End: end}, Kind: trace.PageKind(r.Kind)}
		}
		c.out(op)
		if runs = runs[n:]; len(runs) == 0 {
			return
		}
	}
}
