package trace

import (
	"fmt"
	"math"
	"strings"

	"vmsim/mem"
)

// Bounds of what a line may say. Addresses and lengths are bounded by their 64
// bits alone: a trace may ask for what a machine must refuse.
const (
	MaxLine = 64 << 10      // bytes of a line, without its end
	MaxPID  = math.MaxInt32 // pid_t
	maxPath = 4095          // bytes of a path or of a test's name: PATH_MAX without its NUL
)

// DefaultValue is the byte that a touch for writing writes where the line names
// none.
const DefaultValue byte = 0x01

// Kind is what an operation does.
type Kind uint8

const (
	OpMark     Kind = iota + 1 // test "NAME": a new test starts here
	OpBoot                     // boot [FILE]: start init
	OpFork                     // fork = CHILD
	OpExec                     // exec FILE
	OpExit                     // exit [STATUS]
	OpMmap                     // mmap ADDR LEN PROT FLAGS anon|FILE+OFFSET
	OpMunmap                   // munmap ADDR LEN
	OpMprotect                 // mprotect ADDR LEN PROT
	OpBrk                      // brk ADDR
	OpTouch                    // touch r|w|x ADDR|FILE+OFFSET [BYTE]
)

// kindNames are the words of the text form, by Kind.
var kindNames = [...]string{
	OpMark: "test", OpBoot: "boot", OpFork: "fork", OpExec: "exec", OpExit: "exit", OpMmap: "mmap",
	OpMunmap: "munmap", OpMprotect: "mprotect", OpBrk: "brk", OpTouch: "touch",
}

// String returns the word of the text form: fork.
func (k Kind) String() string {
	if k >= OpMark && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// parseKind is the inverse of String for operations of a process.
func parseKind(s string) (Kind, bool) {
	for k := OpBoot; int(k) < len(kindNames); k++ {
		if kindNames[k] == s {
			return k, true
		}
	}
	return 0, false
}

// MapFlags are the flags of mmap. Zero is MAP_PRIVATE.
type MapFlags uint8

const (
	MapShared    MapFlags = 1 << iota // MAP_SHARED
	MapFixed                          // MAP_FIXED
	MapNoReplace                      // MAP_FIXED_NOREPLACE
)

// flagNames are the words behind private or shared, in canonical order.
var flagNames = []struct {
	flag MapFlags
	name string
}{{MapFixed, "fixed"}, {MapNoReplace, "noreplace"}}

// String returns the word of the text form: private,fixed.
func (f MapFlags) String() string {
	s := "private"
	if f&MapShared != 0 {
		s = "shared"
	}
	for _, n := range flagNames {
		if f&n.flag != 0 {
			s += "," + n.name
		}
	}
	return s
}

// parseMapFlags is the inverse of String; the words behind the first may come
// in any order, each once.
func parseMapFlags(s string) (MapFlags, error) {
	words := strings.Split(s, ",")
	var f MapFlags
	switch words[0] {
	case "private":
	case "shared":
		f = MapShared
	default:
		return 0, fmt.Errorf("flags %q start with neither private nor shared", clip(s))
	}
next:
	for _, w := range words[1:] {
		for _, n := range flagNames {
			if w == n.name && f&n.flag == 0 {
				f |= n.flag
				continue next
			}
		}
		return 0, fmt.Errorf("flag %q is none of fixed, noreplace, or comes twice", clip(w))
	}
	return f, nil
}

// Op is one line of a trace. Fields that its Kind does not use are zero.
type Op struct {
	Line int // where it stands in its file, from 1; 0 where it was built in Go
	PID  int // the process in the trace's own counting, 1 to MaxPID; 0 in a mark
	Kind Kind

	// Path is the file of boot, exec, mmap and touch, relative to the trace's
	// folder. Empty means: an empty init, anonymous memory, or a touch of Addr.
	// Offset is where in that file mmap and touch mean, in bytes.
	Path   string
	Offset uint64

	Addr   mem.VirtAddr // of mmap, munmap, mprotect, brk, and of touch without a Path
	Len    uint64       // of mmap, munmap, mprotect, in bytes
	Prot   mem.Prot     // of mmap, mprotect
	Flags  MapFlags     // of mmap
	Access mem.Access   // of touch
	Value  byte         // what a touch for writing writes; the text form's default is DefaultValue
	Status int          // of exit, 0 to 255
	Name   string       // of a mark

	// Want is the answer that the trace expects; nil checks nothing, except
	// that exec must succeed. Fork always has one: it names the child.
	Want *Answer
}

// Check returns an error, without position, if op has no text form: a field is
// out of its bounds, or set though the Kind does not use it, or the answer is
// not one that the Kind can have.
func (op Op) Check() error {
	if op.Kind < OpMark || int(op.Kind) >= len(kindNames) {
		return fmt.Errorf("operation %v does not exist", op.Kind)
	}
	if err := op.check(); err != nil {
		return fmt.Errorf("%v: %w", op.Kind, err)
	}
	return nil
}

func (op Op) check() error {
	switch {
	case op.Line < 0:
		return fmt.Errorf("line %d is negative", op.Line)
	case op.Kind != OpMark && (op.PID < 1 || op.PID > MaxPID):
		return fmt.Errorf("process %d is not in 1 to %d", op.PID, MaxPID)
	case op.Kind == OpBoot && op.PID != 1:
		return fmt.Errorf("process %d: init is process 1", op.PID)
	case op.Status < 0 || op.Status > 255:
		return fmt.Errorf("status %d is not in 0 to 255", op.Status)
	case op.Access > mem.Exec:
		return fmt.Errorf("access %d is none of read, write, exec", op.Access)
	case op.Prot > mem.ProtRead|mem.ProtWrite|mem.ProtExec:
		return fmt.Errorf("protection %#x has unknown bits", uint8(op.Prot))
	case op.Flags > MapShared|MapFixed|MapNoReplace:
		return fmt.Errorf("flags %#x have unknown bits", uint8(op.Flags))
	case op.Kind == OpExec && op.Path == "":
		return fmt.Errorf("the file is missing")
	case op.Kind == OpMark && op.Name == "":
		return fmt.Errorf("the name is missing")
	case len(op.Path) > maxPath || len(op.Name) > maxPath:
		return fmt.Errorf("%q is longer than %d bytes", clip(op.Path+op.Name), maxPath)
	case strings.IndexByte(op.Path, 0) >= 0:
		return fmt.Errorf("path %q holds a NUL byte", clip(op.Path))
	case op != op.used():
		return fmt.Errorf("a field is set that this operation does not use")
	}
	return op.Want.check(op.Kind)
}

// used returns op with only the fields that its Kind uses.
func (op Op) used() Op {
	u := Op{Line: op.Line, PID: op.PID, Kind: op.Kind, Want: op.Want}
	switch op.Kind {
	case OpMark:
		u.PID, u.Name = 0, op.Name
	case OpBoot, OpExec:
		u.Path = op.Path
	case OpExit:
		u.Status = op.Status
	case OpMmap:
		u.Addr, u.Len, u.Prot, u.Flags, u.Path = op.Addr, op.Len, op.Prot, op.Flags, op.Path
		if op.Path != "" {
			u.Offset = op.Offset
		}
	case OpMunmap:
		u.Addr, u.Len = op.Addr, op.Len
	case OpMprotect:
		u.Addr, u.Len, u.Prot = op.Addr, op.Len, op.Prot
	case OpBrk:
		u.Addr = op.Addr
	case OpTouch:
		u.Access, u.Path = op.Access, op.Path
		if op.Path != "" {
			u.Offset = op.Offset
		} else {
			u.Addr = op.Addr
		}
		if op.Access == mem.Write {
			u.Value = op.Value
		}
	}
	return u
}
