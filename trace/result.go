package trace

import "fmt"

// maxKept is how many mismatches a Result keeps; it counts all.
const maxKept = 1000

// Result is what a run came to.
type Result struct {
	Ops       int // operations run, without marks
	Skipped   int // operations not run, since their process was gone or never was
	Processes int // that lived: init and every child
	Threads   int // that processes started beside their first

	// Programs started by exec. One has failed if its process crashed before
	// it ended or saw a wrong byte, unless the trace foretold the crash.
	ExecPassed, ExecFailed int

	Kinds  map[Kind]int  // operations run, by kind
	Faults map[Fault]int // touches, by what they met

	Wrong      int        // touches that saw a wrong byte
	Crashes    int        // processes that crashed though the trace did not foretell it
	FirstCrash *Crash     // nil if none
	Mismatched int        // answers that differed
	Mismatches []Mismatch // the first 1000 of them

	// Refused are touches of a recording that met no memory, or no permission, and
	// of which it does not say whether the kernel refused them too: a process may
	// handle the signal. They are no crashes.
	Refused      int
	FirstRefused *Refusal // nil if none

	// Incomparable are answers of a recording that differed, about memory of a
	// program that lay elsewhere than here, which the trace does not say, or beyond
	// the end of a file, or for want of memory that the process might not have.
	Incomparable int

	Tests []Test // one for each mark
}

// OK reports whether nothing went wrong: no crash that was not foretold, no
// wrong byte, no other answer than the one wanted, and no failed test.
func (r *Result) OK() bool {
	return r.Crashes == 0 && r.Wrong == 0 && r.Mismatched == 0 && r.TestsPassed() == len(r.Tests)
}

// TestsPassed returns how many of the tests passed.
func (r *Result) TestsPassed() int {
	n := 0
	for _, t := range r.Tests {
		if t.Passed {
			n++
		}
	}
	return n
}

// Test is what lies between a mark and the next.
type Test struct {
	Name    string
	Line    int // of its mark
	Ops     int // run
	Skipped int
	Passed  bool   // no crash, no wrong byte, no other answer, no operation lost to an earlier crash
	Reason  string // the first thing that went wrong, with its position; "" if passed
}

// Mismatch is an answer that was not the one wanted.
type Mismatch struct {
	File string // name of the trace
	Op   Op
	Want Answer
	Got  Answer
}

// String returns `fork-cow.trace:9: 2 touch r 0x51d008 = cow 0x41: got minor 0x01`.
func (m Mismatch) String() string {
	m.Op.Want = &m.Want
	return fmt.Sprintf("%s: %s: got %v", position(m.File, m.Op.Line), m.Op.Brief(), m.Got)
}

// Crash is the death of a process that the trace did not foretell.
type Crash struct {
	File   string // name of the trace
	Op     Op     // in which it died, by its trace PID
	PID    int    // its number in the machine
	Exec   int    // which exec of the run started its program, from 1; 0: none did
	Reason string
}

// String returns `case-a.trace:3611: 132 touch r 0x51c000: crashed: SEGV_MAPERR (exec 131, machine PID 132)`.
func (c Crash) String() string {
	return fmt.Sprintf("%s: %s: crashed: %s (exec %d, machine PID %d)",
		position(c.File, c.Op.Line), c.Op.Brief(), c.Reason, c.Exec, c.PID)
}

// Refusal is a touch that was refused though the trace did not foretell it.
type Refusal struct {
	File   string // name of the trace
	Op     Op
	Reason string
}

// String returns `java.vmt:2014: 2/3 touch r 0: segmentation fault: read at 0x0 (SEGV_MAPERR)`.
func (r Refusal) String() string {
	return fmt.Sprintf("%s: %s: %s", position(r.File, r.Op.Line), r.Op.Brief(), r.Reason)
}

// position formats file:line; a trace without a name gives line 7.
func position(file string, line int) string {
	if file == "" {
		return fmt.Sprintf("line %d", line)
	}
	return fmt.Sprintf("%s:%d", file, line)
}
