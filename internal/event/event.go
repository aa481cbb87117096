// Package event holds the events of a machine and of its verifier, and their
// JSONL form: one object a line, a header first, a summary last. Names and
// fields of the original kernel's events are kept (kwab-verify); addresses and
// byte values are hex strings, so that every reader of JSON gets them exact.
package event

import (
	"fmt"
	"strconv"
)

// Schema is the version of the form, in the header of every stream.
const Schema = 1

// Event is one of the structs of this package.
type Event interface {
	// Type is the value of the object's "type" field: huge_page_verify_fail.
	Type() string
}

// Sink takes events in the order in which they happen.
type Sink interface {
	Emit(Event)
}

// Func makes a Sink of a function.
type Func func(Event)

// Emit calls f.
func (f Func) Emit(e Event) { f(e) }

// Addr is an address, a file offset or a page index; its JSON is "0x51c000".
type Addr uint64

// MarshalJSON writes a as a hex string.
func (a Addr) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `"0x%x"`, uint64(a)), nil }

// UnmarshalJSON reads a hex string.
func (a *Addr) UnmarshalJSON(b []byte) error {
	v, err := unhex(b, 64)
	*a = Addr(v)
	return err
}

// Byte is the value of a byte; its JSON is "0x65", two digits always.
type Byte uint8

// MarshalJSON writes b as a hex string.
func (b Byte) MarshalJSON() ([]byte, error) { return fmt.Appendf(nil, `"0x%02x"`, uint8(b)), nil }

// UnmarshalJSON reads a hex string.
func (b *Byte) UnmarshalJSON(text []byte) error {
	v, err := unhex(text, 8)
	*b = Byte(v)
	return err
}

func unhex(b []byte, bits int) (uint64, error) {
	s, err := strconv.Unquote(string(b))
	if err != nil {
		return 0, fmt.Errorf("%s is no hex string", b)
	}
	return strconv.ParseUint(s, 0, bits)
}

// Kinds of VMA in vma_type.
const (
	FileRO = "file_ro" // maps a file, not writable
	FileRW = "file_rw" // maps a file, writable
	Anon   = "anon"    // anonymous, fillers included
	None   = "none"    // no VMA
)

// HugePageVerifyFail says that a sub-page of an assembled huge page differs
// from the file. One is emitted per differing sub-page.
type HugePageVerifyFail struct {
	PID       int    `json:"pid"`
	HugeBase  Addr   `json:"huge_base"`
	SubPage   int    `json:"sub_page"`   // 0 to 511
	FirstDiff int    `json:"first_diff"` // offset in the sub-page, 0 to 4095
	Expected  Byte   `json:"expected"`
	Actual    Byte   `json:"actual"`
	VMAStart  Addr   `json:"vma_start"` // of the file VMA of that sub-page, where there is one
	VMAType   string `json:"vma_type"`
}

func (HugePageVerifyFail) Type() string { return "huge_page_verify_fail" }

// String is the line of the original diagnostic.
func (e HugePageVerifyFail) String() string {
	return fmt.Sprintf("%s: sub_page=%d, first_diff=%d, expected=0x%02x, actual=0x%02x",
		e.Type(), e.SubPage, e.FirstDiff, uint8(e.Expected), uint8(e.Actual))
}

// PageVerifyOK closes one verification: of an assembled window, or of all
// pages that a process touched.
type PageVerifyOK struct {
	PID      int `json:"pid"`
	Verified int `json:"verified"` // pages that were equal
	Failed   int `json:"failed"`   // pages that were not
}

func (PageVerifyOK) Type() string { return "page_verify_ok" }

func (e PageVerifyOK) String() string {
	return fmt.Sprintf("%s: verified=%d, failed=%d", e.Type(), e.Verified, e.Failed)
}

// PageVerifyFail says that a process sees a wrong byte in a mapped page.
type PageVerifyFail struct {
	PID        int  `json:"pid"`
	VAddr      Addr `json:"vaddr"`      // of the page
	FirstDiff  int  `json:"first_diff"` // offset in the page, 0 to 4095
	Expected   Byte `json:"expected"`
	Actual     Byte `json:"actual"`
	FileOffset Addr `json:"file_offset"` // of vaddr in the file VMA of that page; 0 without one
	VMAStart   Addr `json:"vma_start"`
}

func (PageVerifyFail) Type() string { return "page_verify_fail" }

// String is like the line of a HugePageVerifyFail.
func (e PageVerifyFail) String() string {
	return fmt.Sprintf("%s: vaddr=0x%x, first_diff=%d, expected=0x%02x, actual=0x%02x",
		e.Type(), uint64(e.VAddr), e.FirstDiff, uint8(e.Expected), uint8(e.Actual))
}

// PermissionVerifyFail says that an entry grants more than the file's program
// headers allow for its page.
type PermissionVerifyFail struct {
	PID      int    `json:"pid"`
	VAddr    Addr   `json:"vaddr"`    // of the page
	Expected string `json:"expected"` // at most this: r-x
	Actual   string `json:"actual"`
}

func (PermissionVerifyFail) Type() string { return "permission_verify_fail" }

func (e PermissionVerifyFail) String() string {
	return fmt.Sprintf("%s: vaddr=0x%x, expected=%s, actual=%s", e.Type(), uint64(e.VAddr), e.Expected, e.Actual)
}

// UnmappedVerifyFail says that a page can be read where no VMA is.
type UnmappedVerifyFail struct {
	PID    int    `json:"pid"`
	VAddr  Addr   `json:"vaddr"` // of the page
	Actual string `json:"actual"`
}

func (UnmappedVerifyFail) Type() string { return "unmapped_verify_fail" }

func (e UnmappedVerifyFail) String() string {
	return fmt.Sprintf("%s: vaddr=0x%x, expected=none, actual=%s", e.Type(), uint64(e.VAddr), e.Actual)
}

// PageFault is one fault and how it was resolved.
type PageFault struct {
	PID      int    `json:"pid"`
	VAddr    Addr   `json:"vaddr"`
	IP       Addr   `json:"ip"`       // last address fetched; the entry point after exec
	Reason   string `json:"reason"`   // read, write or exec
	Resolved string `json:"resolved"` // minor, major, cow, segv or oom

	// How, in the terms of the source constants below; empty where the fault
	// was not resolved.
	Source string `json:"source,omitempty"`

	// The area that decided: [VMAStart, VMAEnd), its permissions and, for a
	// file, where in it the page lies.
	VMAStart   Addr   `json:"vma_start"`
	VMAEnd     Addr   `json:"vma_end"`
	VMAType    string `json:"vma_type"`
	VMAName    string `json:"vma_name,omitempty"` // file name, [heap], [stack]
	Prot       string `json:"prot"`               // of the page: the union of its areas'
	FileOffset Addr   `json:"file_offset"`        // of the page's first file byte
	FileBytes  int    `json:"file_bytes"`         // of the page, 0 to 4096
	Areas      int    `json:"areas"`              // file VMAs that share the page
	Frame      uint32 `json:"pfn"`                // 0 where not resolved
	Copied     uint32 `json:"copied_from_pfn,omitempty"`
}

func (PageFault) Type() string { return "page_fault" }

// Values of PageFault.Source.
const (
	SourceCache     = "cache"      // mapped the frame of the page cache
	SourceCacheCopy = "cache_copy" // copied it to a private frame, for writing
	SourceFile      = "file"       // read from the file into a new frame of the cache
	SourceFileOwn   = "file_own"   // read from the file into a private frame
	SourceZeroPage  = "zero_page"  // mapped the shared zero page
	SourceZeroFill  = "zero_fill"  // a private frame, cleared
	SourceCopy      = "copy"       // CoW: copied the frame that was mapped
	SourceReuse     = "reuse"      // CoW: sole owner, the frame became writable
	SourceShared    = "shared"     // a frame of shared anonymous memory
)

// ProcessFork says that PID forked Child.
type ProcessFork struct {
	PID   int `json:"pid"`
	Child int `json:"child"`
}

func (ProcessFork) Type() string { return "process_fork" }

// ProcessExec says that PID runs a new program.
type ProcessExec struct {
	PID       int    `json:"pid"`
	File      string `json:"file"`
	Entry     Addr   `json:"entry"`
	Bias      Addr   `json:"bias"`
	Prefault  int    `json:"prefaulted"`   // cached pages mapped at once
	HugePages int    `json:"huge_windows"` // windows mapped from a huge page
}

func (ProcessExec) Type() string { return "process_exec" }

// ProcessExit says that PID ended: by itself, or why it was killed.
type ProcessExit struct {
	PID    int    `json:"pid"`
	Reason string `json:"reason"` // exit; or killed: segv, oom, wrong byte
}

func (ProcessExit) Type() string { return "process_exit" }

// HugePageAssembled says where a huge page came from. The three counts add up
// to 512.
type HugePageAssembled struct {
	PID       int    `json:"pid"`
	HugeBase  Addr   `json:"huge_base"`
	File      string `json:"file"`
	FromCache int    `json:"from_cache"`
	FromFile  int    `json:"from_file"`
	Zero      int    `json:"zero"`
	SHA256    string `json:"sha256,omitempty"` // of its 2 MiB, zero where no VMA is
}

func (HugePageAssembled) Type() string { return "huge_page_assembled" }

// HugePageSplit says that PID's huge entry became 512 entries of 4 KiB.
type HugePageSplit struct {
	PID      int    `json:"pid"`
	HugeBase Addr   `json:"huge_base"`
	Reason   string `json:"reason"` // write, munmap, mprotect
}

func (HugePageSplit) Type() string { return "huge_page_split" }

// CoWBreak says that a write got PID a frame of its own.
type CoWBreak struct {
	PID   int    `json:"pid"`
	VAddr Addr   `json:"vaddr"`
	From  uint32 `json:"from_pfn"`
	To    uint32 `json:"to_pfn"` // equal to From where the frame was reused
}

func (CoWBreak) Type() string { return "cow_break" }

// Segfault says that an access was refused.
type Segfault struct {
	PID    int    `json:"pid"`
	VAddr  Addr   `json:"vaddr"`
	IP     Addr   `json:"ip"`
	Access string `json:"access"` // read, write or exec
	Code   string `json:"code"`   // SEGV_MAPERR or SEGV_ACCERR
}

func (Segfault) Type() string { return "segfault" }

func (e Segfault) String() string {
	return fmt.Sprintf("%s: vaddr=0x%x, access=%s, code=%s", e.Type(), uint64(e.VAddr), e.Access, e.Code)
}

// OOMKill says that PID was killed because no frame could be freed.
type OOMKill struct {
	PID      int  `json:"pid"`
	VAddr    Addr `json:"vaddr"`    // whose fault it was
	Resident int  `json:"resident"` // pages that PID had mapped
}

func (OOMKill) Type() string { return "oom_kill" }

func (e OOMKill) String() string {
	return fmt.Sprintf("%s: vaddr=0x%x, resident=%d", e.Type(), uint64(e.VAddr), e.Resident)
}
