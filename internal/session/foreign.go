package session

import (
	"slices"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
)

// Foreign compares memory that is not ours, of live processes and of cores,
// with the files that are mapped there. It is for one goroutine at a time.
type Foreign struct {
	witness   *verify.Witness
	stop      func() bool
	got, want []byte // 2 MiB each
}

// NewForeign returns a Foreign. events may be nil. When stop returns true, what
// is under way ends with ErrStopped.
func NewForeign(events event.Sink, stop func() bool) *Foreign {
	return &Foreign{witness: verify.NewWitness(events), stop: stop,
		got: make([]byte, mem.HugeSize), want: make([]byte, mem.HugeSize)}
}

// Tally counts what was compared.
func (v *Foreign) Tally() Tally { return v.witness.Tally() }

// What is kept of a mapping; the counts go on.
const (
	maxFindings  = 100  // findings
	maxStretches = 16   // stretches of a finding
	maxWritten   = 1000 // stretches of what was written
	maxSample    = 16   // bytes of a stretch that are shown
	maxRemarks   = 10   // lines

	// joinWritten merges written stretches that are closer than this, in
	// bytes: a relocated pointer keeps some of its eight.
	joinWritten = 8
)

// MappingResult is what was found in one mapping of a file. Counts are of pages
// of 4 KiB.
type MappingResult struct {
	PID     int
	Process string // name
	mem.Range
	Perms string // r-xp; without the last letter where a core does not tell it
	Off   uint64 // file offset of Start
	Path  string
	Kind  string // file, deleted, replaced, memfd, ...; missing: of a core, not on this machine

	// Verdict is Fail with findings, Skipped if the pages could not be
	// compared with the file, Absent if there is none, else OK. Reason is why
	// it was skipped.
	Verdict Verdict
	Reason  string
	Remarks []string // what else there is to know

	Held         string // of a core: whole, first page, part, nothing
	Resident     int    // present in the page table; of a core: held
	Verified     int    // compared, and what the file says
	Private      int    // copies that the process has of its own; a core does not tell them
	PrivateEqual int    // of these, equal to the file
	Differ       int    // compared, and differ without being a finding: written
	Swapped      int    // not in memory, private: not looked at
	Unread       int    // present, but cannot be read
	Unstable     int    // changed under each look, or went away

	Findings int       // pages
	Found    []Finding // the first maxFindings

	Written      int       // stretches of bytes that Differ pages differ in
	WrittenBytes uint64    // bytes that differ in them
	Stretches    []Stretch // the first maxWritten
}

// Finding is a page that is not what it ought to be.
type Finding struct {
	Kind    string // one of the constants below
	Page    mem.VirtAddr
	Private bool // a copy of the process's own; false if it is of the page cache, or a core
	Bytes   int  // that differ
	At      []Stretch
}

// Kinds of findings.
const (
	// Breakpoint: all differing bytes are 0xcc, int3, in executable memory
	// that is not writable by the file's headers: a debugger's, or a uprobe's.
	Breakpoint = "breakpoint"
	// TextModified: other bytes there.
	TextModified = "text modified"
	// ReadOnlyModified: bytes that the headers permit neither to write nor to
	// execute.
	ReadOnlyModified = "read-only data modified"
	// CleanDiffers: the page is of the page cache, and not what reading the
	// file gives. Linux never lets that happen.
	CleanDiffers = "page cache differs from the file"
	// TailNotZero: it is, but for the bytes behind the end of the file, which
	// ought to be zero. A process that maps the file shared and writable may
	// have put them there; else it is a bug of the file system.
	TailNotZero = "not zero behind the end of the file"
	// BeyondEnd: a page that lies wholly beyond the end of the file, where a
	// touch raises SIGBUS, is present.
	BeyondEnd = "present beyond the end of the file"
)

// Stretch is a run of bytes that differ.
type Stretch struct {
	Addr mem.VirtAddr
	Off  uint64 // in the file
	Len  int

	// Of findings alone, since what a process wrote is its own business.
	Want, Got []byte // the first maxSample
	Symbol    string // main+0x12; "" if the file names none
}

// stretch describes a span of the page of m at addr.
func stretch(m *verify.Mapping, addr mem.VirtAddr, s verify.Span) Stretch {
	at := addr + mem.VirtAddr(s.From)
	return Stretch{Addr: at, Off: m.Offset(at), Len: s.To - s.From}
}

// written counts a page that differs and may.
func (r *MappingResult) written(m *verify.Mapping, addr mem.VirtAddr, got, want []byte) {
	r.Differ++
	for i := range got {
		if got[i] != want[i] {
			r.WrittenBytes++
		}
	}
	spans := verify.Spans(got, want, joinWritten)
	r.Written += len(spans)
	for _, s := range spans[:min(len(spans), maxWritten-len(r.Stretches))] {
		r.Stretches = append(r.Stretches, stretch(m, addr, s))
	}
}

// remark adds a line once.
func (r *MappingResult) remark(line string) {
	if !slices.Contains(r.Remarks, line) && len(r.Remarks) < maxRemarks {
		r.Remarks = append(r.Remarks, line)
	}
}

// Absent is the verdict on a mapping without a page to compare: none is in
// memory, or in the core.
const Absent Verdict = "absent"

// finish sets the verdict of what was compared.
func (r *MappingResult) finish() {
	switch {
	case r.Findings > 0:
		r.Verdict = Fail
	case r.Verdict == "" && r.Resident == 0:
		r.Verdict = Absent
	case r.Verdict == "":
		r.Verdict = OK
	}
}

// find reports a page with a finding.
func (v *Foreign) find(r *MappingResult, o *object, m *verify.Mapping, f Finding, got, want []byte) {
	r.Findings++
	if f.Kind == BeyondEnd {
		v.witness.Beyond(r.PID, f.Page)
	} else {
		v.witness.Differs(r.PID, m, f.Page, got, want)
	}
	if len(r.Found) >= maxFindings {
		return
	}
	for _, s := range verify.Spans(got, want, 1) {
		f.Bytes += s.To - s.From
		if len(f.At) < maxStretches {
			at, n := stretch(m, f.Page, s), min(s.To-s.From, maxSample)
			at.Want, at.Got = slices.Clone(want[s.From:][:n]), slices.Clone(got[s.From:][:n])
			at.Symbol = o.symbol(at.Addr, at.Off)
			f.At = append(f.At, at)
		}
	}
	r.Found = append(r.Found, f)
}

// modified names a difference in memory that the headers do not let be written.
func modified(got, want []byte, exec bool) string {
	const int3 = 0xcc
	if !exec {
		return ReadOnlyModified
	}
	for i := range got {
		if got[i] != want[i] && got[i] != int3 {
			return TextModified
		}
	}
	return Breakpoint
}
