package trace

import (
	"cmp"
	"io"
	"maps"
	"slices"
)

// Summary is what a trace holds.
type Summary struct {
	Header    Header
	Ops       uint64
	Kinds     map[Kind]uint64
	Processes int       // that are named, init included where it does anything
	Threads   int       // beside the first of each process
	Programs  []Program // that were started, the most often first
	Failed    uint64    // execs whose answer is an error
	From, To  uint64    // least and greatest time, nanoseconds since the recording began; both 0: not known
	Lost      uint64    // records, by the operations that say so
}

// Program is one that a trace starts.
type Program struct {
	Path  string
	Execs uint64
}

// Summarize reads a trace to its end. The error is that of s.Next; the Summary is
// then of what came before.
func Summarize(s Source) (Summary, error) {
	c := census{sum: Summary{Kinds: map[Kind]uint64{}}, tasks: map[task]struct{}{}, pids: map[int]struct{}{}, execs: map[string]uint64{}}
	var err error
	if c.sum.Header, err = s.Header(); err != nil {
		return c.sum, err
	}
	run := Touches{Touch: make([]Touch, 0, 1024)}
	r, _ := s.(*Reader)
	for err == nil {
		for r != nil && r.Touches(&run) {
			c.touches(&run)
		}
		var op Op
		if op, err = s.Next(); err == nil {
			c.add(&op)
		}
	}
	if err == io.EOF {
		c.sum.Header, err = s.Header() // the binary form may know more at its end
	}
	return c.end(), err
}

// census counts.
type census struct {
	sum   Summary
	tasks map[task]struct{} // threads
	pids  map[int]struct{}
	execs map[string]uint64
	last  task // of the operation before
}

func (c *census) task(pid, tid int) {
	t := task{pid, tid}
	if t == c.last || pid == 0 {
		return
	}
	c.last = t
	if c.pids[pid] = struct{}{}; tid != 0 {
		c.tasks[t] = struct{}{}
	}
}

func (c *census) time(t uint64) {
	if t == 0 {
		return
	}
	if c.sum.From == 0 || t < c.sum.From {
		c.sum.From = t
	}
	c.sum.To = max(c.sum.To, t)
}

func (c *census) touches(run *Touches) {
	c.task(run.PID, run.TID)
	n := uint64(len(run.Touch))
	c.sum.Ops += n
	c.sum.Kinds[OpTouch] += n
	for _, t := range run.Times {
		c.time(t)
	}
}

func (c *census) add(op *Op) {
	c.sum.Ops++
	c.sum.Kinds[op.Kind]++
	c.task(op.PID, op.TID)
	c.time(op.Time)
	switch op.Kind {
	case OpFork, OpVfork:
		c.pids[op.Want.PID] = struct{}{}
	case OpThread:
		c.tasks[task{op.PID, op.Want.PID}] = struct{}{}
	case OpExec:
		if op.Want != nil && op.Want.Errno != 0 {
			c.sum.Failed++
		} else {
			c.execs[op.Path]++
		}
	case OpLost:
		c.sum.Lost += op.Count
	}
}

func (c *census) end() Summary {
	c.sum.Processes, c.sum.Threads = len(c.pids), len(c.tasks)
	for _, path := range slices.Sorted(maps.Keys(c.execs)) {
		c.sum.Programs = append(c.sum.Programs, Program{path, c.execs[path]})
	}
	slices.SortStableFunc(c.sum.Programs, func(a, b Program) int { return cmp.Compare(b.Execs, a.Execs) })
	return c.sum
}
