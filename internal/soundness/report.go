package soundness

import (
	"fmt"

	"vmsim/mem"
	"vmsim/trace"
)

// Reason is why a page may be other than predicted though nothing is wrong.
type Reason int

const (
	NoReason Reason = iota
	// Kernel: a page came, or was copied, without an exception: get_user_pages for a
	// futex, O_DIRECT, vmsplice, process_vm_writev. Writable areas only, and few: at
	// most mostKernel of a look.
	Kernel
	VDSO        // vdso and vvar: the kernel's own pages
	Device      // device memory and hugetlb are not modelled
	Fatal       // the last fault of a thread, which a fatal signal ended
	FaultAround // around one that was touched, or of one large folio; not where the recording is complete
	Freed       // the kernel took it: MADV_FREE, MADV_PAGEOUT
	PastEnd     // beyond the end that the file had when the trace named it
	Missing     // what the header says is not recorded: faults of the kernel, whether a touch wrote
	nReasons
)

// Reasons are those that a Comparison counts.
var Reasons = []Reason{Kernel, VDSO, Device, Fatal, FaultAround, Freed, PastEnd, Missing}

// String returns the reason in words.
func (r Reason) String() string {
	return [...]string{"", "kernel without an exception", "vdso and vvar", "device", "fatal signal", "fault-around",
		"freed by the kernel", "beyond the end of the file", "not recorded, as the header says"}[r]
}

// mostKernel is how many of n pages may be excepted as Kernel; more are missing
// touches. Whole programs (shells, python3, git status, go build) had none.
func mostKernel(n uint64) uint64 { return 16 + n/64 }

// Difference is something that the recorder saw and the trace does not explain, or
// the other way round.
type Difference struct {
	Range  mem.Range
	Area   bool   // of areas, else of pages
	Want   string // what the operations come to: file, absent; rw-p anonymous
	Got    string // what the recorder saw
	Where  string // pages: the area
	Reason Reason // NoReason: it is an error
}

// Pages returns the length of d.
func (d Difference) Pages() uint64 { return d.Range.Len() / mem.PageSize }

// String returns `[0x1000, 0x3000) 2 pages: own, recorded absent (rw-p anonymous)`.
func (d Difference) String() string {
	if d.Area {
		return fmt.Sprintf("%v: %s, recorded %s", d.Range, d.Want, d.Got)
	}
	s := fmt.Sprintf("%v: %s, recorded %s (%s)", d.Range, d.Want, d.Got, d.Where)
	if d.Reason != NoReason {
		s += ": " + d.Reason.String()
	}
	return s
}

// mostDifferences is how many a Comparison lists; it counts all.
const mostDifferences = 100

// Comparison is one look of the recorder, held against the prediction.
type Comparison struct {
	PID     int
	Program string // of the last exec; "" before
	Point   trace.Point
	Line    int    // of the look in the trace; 0: binary
	Time    uint64 // nanoseconds
	Skipped string // why nothing was compared; "": it was

	Areas     int    // that the recorder saw, neighbours joined
	BadAreas  uint64 // pages of address space that are mapped otherwise than predicted
	Pages     uint64 // predicted or recorded, without those excepted as VDSO
	Equal     uint64 // predicted and recorded alike
	Excepted  [nReasons]uint64
	Different uint64       // neither equal nor excepted
	List      []Difference // the first mostDifferences
}

// OK reports whether nothing was different.
func (c *Comparison) OK() bool { return c.Different == 0 && c.BadAreas == 0 }

// add takes a difference.
func (c *Comparison) add(d Difference) {
	switch n := d.Pages(); {
	case d.Area:
		c.BadAreas += n
	case d.Reason != NoReason:
		c.Excepted[d.Reason] += n
	default:
		c.Different += n
	}
	if len(c.List) < mostDifferences {
		c.List = append(c.List, d)
	}
}

// Problem is an operation that cannot be.
type Problem struct {
	Line int // in the trace; 0: binary
	Time uint64
	PID  int // 0: of the whole trace
	Text string
}

// String returns `line 12: process 2: mmap: ...`.
func (p Problem) String() string {
	s := ""
	if p.Line != 0 {
		s = fmt.Sprintf("line %d: ", p.Line)
	} else if p.Time != 0 {
		s = fmt.Sprintf("at %d ns: ", p.Time)
	}
	if p.PID != 0 {
		s += fmt.Sprintf("process %d: ", p.PID)
	}
	return s + p.Text
}

// mostProblems is how many a Report lists; it counts all.
const mostProblems = 1000

// Report is what a check came to.
type Report struct {
	Ops       int
	Touches   int
	Processes int // that lived
	Threads   int // beside the first ones
	Execs     int

	Looks     int // compared, at execve and exit
	Forks     int // present sets of fork children compared
	Skipped   int // looks not compared
	Pages     uint64
	Equal     uint64
	Excepted  [nReasons]uint64
	Different uint64
	BadAreas  uint64

	Lost     uint64 // records that the recorder could not take
	Problems int
	List     []Problem // the first mostProblems
}

// OK reports whether the recording is sound as far as it can be told.
func (r *Report) OK() bool {
	return r.Different == 0 && r.BadAreas == 0 && r.Lost == 0 && r.Problems == 0
}

// add takes a comparison.
func (r *Report) add(c Comparison) {
	switch {
	case c.Skipped != "":
		r.Skipped++
		return
	case c.Point == trace.PointFork:
		r.Forks++
	default:
		r.Looks++
	}
	r.Pages += c.Pages
	r.Equal += c.Equal
	r.Different += c.Different
	r.BadAreas += c.BadAreas
	for i, n := range c.Excepted {
		r.Excepted[i] += n
	}
}
