package trace

import (
	"fmt"
	"slices"
	"strings"

	"vmsim/mem"
)

// Point is when a recorder looked at a process.
type Point uint8

const (
	PointFork   Point = iota + 1 // the child, before its first instruction
	PointExec                    // after an exec, before the program's first instruction
	PointExecve                  // before an exec: the end of what was there
	PointExit                    // the end
)

var pointNames = [...]string{PointFork: "fork", PointExec: "exec", PointExecve: "execve", PointExit: "exit"}

// String returns the word of the text form: fork.
func (p Point) String() string {
	if p >= PointFork && int(p) < len(pointNames) {
		return pointNames[p]
	}
	return fmt.Sprintf("Point(%d)", uint8(p))
}

func parsePoint(s string) (Point, bool) {
	i := slices.Index(pointNames[:], s)
	return Point(max(i, 0)), i > 0
}

func pointList() string { return strings.Join(pointNames[PointFork:], ", ") }

// PageKind is what a present page is.
type PageKind uint8

const (
	PageFile PageKind = iota // of a file or of shared memory
	PageZero                 // the zero page
	PageOwn                  // the process's own: anonymous, or a copy of a file's
)

var pageKindNames = [...]string{PageFile: "file", PageZero: "zero", PageOwn: "own"}

// String returns the word of the text form: file.
func (k PageKind) String() string {
	if int(k) < len(pageKindNames) {
		return pageKindNames[k]
	}
	return fmt.Sprintf("PageKind(%d)", uint8(k))
}

// Run is present pages of one kind, next to each other.
type Run struct {
	mem.Range
	Kind PageKind
}

// PresentSet is pages that have a page-table entry (PAGEMAP_SCAN), by address.
// One look may take several operations: those of one process that follow each
// other with the same Point and Time add up.
type PresentSet struct {
	Runs []Run // ascending, without overlap, of whole pages; at most MaxRuns
}

func (s *PresentSet) check() error {
	if s == nil {
		return nil
	}
	if len(s.Runs) > MaxRuns {
		return fmt.Errorf("%d runs are more than %d", len(s.Runs), MaxRuns)
	}
	var last mem.VirtAddr
	for _, r := range s.Runs {
		if r.Empty() || r.Start < last || (r.Start|r.End).PageOffset() != 0 {
			return fmt.Errorf("run %v is empty, not of whole pages, or not above the one before", r.Range)
		}
		if int(r.Kind) >= len(pageKindNames) {
			return fmt.Errorf("kind %d of run %v is none of %s", r.Kind, r.Range, strings.Join(pageKindNames[:], ", "))
		}
		last = r.End
	}
	return nil
}

// String returns the words of the text form: file:0x400000-0x402000.
func (s *PresentSet) String() string {
	var b []byte
	for i, r := range s.Runs {
		if i > 0 {
			b = append(b, ' ')
		}
		b = fmt.Appendf(b, "%v:%s", r.Kind, span(r.Range))
	}
	return string(b)
}

// span formats a range as /proc/PID/maps does, with 0x.
func span(r mem.Range) string { return number(uint64(r.Start)) + "-" + number(uint64(r.End)) }

// parseSpan is the inverse of span.
func parseSpan(s string) (mem.Range, error) {
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return mem.Range{}, fmt.Errorf("%q is not of the form START-END", clip(s))
	}
	a, err := parseNumber(from, ^uint64(0))
	if err != nil {
		return mem.Range{}, err
	}
	b, err := parseNumber(to, ^uint64(0))
	if err == nil && b < a {
		err = fmt.Errorf("%q ends before it starts", clip(s))
	}
	return mem.Range{Start: mem.VirtAddr(a), End: mem.VirtAddr(b)}, err
}

func parseRun(s string) (Run, error) {
	kind, text, ok := strings.Cut(s, ":")
	k := slices.Index(pageKindNames[:], kind)
	if !ok || k < 0 {
		return Run{}, fmt.Errorf("run %q does not start with one of %s and a colon", clip(s), strings.Join(pageKindNames[:], ", "))
	}
	r, err := parseSpan(text)
	return Run{r, PageKind(k)}, err
}

// Start is how the kernel laid out a program, as exec left it. Areas and present
// pages follow in operations of their own.
type Start struct {
	Base       mem.VirtAddr // of the program's lowest page; 0: not known
	Interp     string       // path of its interpreter; "": none
	InterpBase mem.VirtAddr // of the interpreter's lowest page
	SP         mem.VirtAddr // the stack pointer; above it lie arguments and environment. 0: not known
	Brk        mem.VirtAddr // where the heap starts; 0: not known
	Args       []string     // argv, cut where it is longer than MaxArgs
}

func (s *Start) check() error {
	if s == nil {
		return nil
	}
	n := 0
	for _, a := range s.Args {
		n += len(a) + 1
		if strings.IndexByte(a, 0) >= 0 {
			return fmt.Errorf("argument %q holds a NUL byte", clip(a))
		}
	}
	switch {
	case n > MaxArgs:
		return fmt.Errorf("arguments of %d bytes are longer than %d", n, MaxArgs)
	case len(s.Interp) > maxPath || strings.IndexByte(s.Interp, 0) >= 0:
		return fmt.Errorf("interpreter %q is longer than %d bytes or holds a NUL byte", clip(s.Interp), maxPath)
	case s.Interp == "" && s.InterpBase != 0:
		return fmt.Errorf("base %v of an interpreter without a name", s.InterpBase)
	}
	return nil
}

// FileKind is what a recorded path was.
type FileKind uint8

const (
	RegularFile FileKind = iota // with bytes that a replay can read
	MemoryFile                  // memfd, or a file that had been deleted: gone with its processes
	SharedFile                  // shared anonymous or System V shared memory: zeros at first
	DeviceFile                  // a device: not known
)

var fileKindNames = [...]string{RegularFile: "regular", MemoryFile: "memory", SharedFile: "shared", DeviceFile: "device"}

// String returns the word of the text form: regular.
func (k FileKind) String() string {
	if int(k) < len(fileKindNames) {
		return fileKindNames[k]
	}
	return fmt.Sprintf("FileKind(%d)", uint8(k))
}

// FileInfo is the identity of a file when it was used.
type FileInfo struct {
	Kind     FileKind
	Size     uint64 // bytes
	MTime    int64  // nanoseconds since 1970; 0: not known
	Dev, Ino uint64 // st_dev and st_ino; 0: not known
	BuildID  string // of an ELF file, lower-case hex; "": none
}

// maxBuildID is what fits the kernel's own (BUILD_ID_SIZE_MAX is 20), twice over.
const maxBuildID = 80

func (f *FileInfo) check() error {
	switch {
	case f == nil:
		return nil
	case int(f.Kind) >= len(fileKindNames):
		return fmt.Errorf("kind %d of file is none of %s", f.Kind, strings.Join(fileKindNames[:], ", "))
	case f.Kind == RegularFile && f.Size > 1<<63-1:
		return fmt.Errorf("size %d is larger than a file can be", f.Size)
	case len(f.BuildID) > maxBuildID || strings.Trim(f.BuildID, "0123456789abcdef") != "":
		return fmt.Errorf("build id %q is longer than %d digits or no hex number", clip(f.BuildID), maxBuildID)
	}
	return nil
}

// bracketed reports whether s is a name such as [stack].
func bracketed(s string) bool {
	return len(s) > 2 && strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]")
}
