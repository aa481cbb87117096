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
	MaxLine = 256 << 10     // bytes of a line, without its end
	MaxPID  = math.MaxInt32 // pid_t
	MaxArgs = 32 << 10      // bytes of all arguments of an exec
	MaxRuns = 2048          // runs of a PresentSet
	maxPath = 4095          // bytes of a path, a name or a note: PATH_MAX without its NUL
)

// DefaultValue is the byte that a touch for writing writes where the line names
// none.
const DefaultValue byte = 0x01

// Kind is what an operation does.
type Kind uint8

const (
	OpMark       Kind = iota + 1 // test "NAME": a new test starts here
	OpBoot                       // boot [FILE]: start init
	OpFork                       // fork = CHILD
	OpVfork                      // vfork = CHILD: in the parent's memory until it execs or exits
	OpThread                     // thread = TASK
	OpExec                       // exec FILE
	OpExit                       // exit [STATUS]
	OpMmap                       // mmap ADDR LEN PROT FLAGS anon|FILE+OFFSET
	OpMunmap                     // munmap ADDR LEN
	OpMprotect                   // mprotect ADDR LEN PROT
	OpMremap                     // mremap ADDR LEN NEWLEN FLAGS
	OpMadvise                    // madvise ADDR LEN ADVICE
	OpMlock                      // mlock ADDR LEN
	OpMunlock                    // munlock ADDR LEN
	OpMlockall                   // mlockall
	OpMunlockall                 // munlockall
	OpShmat                      // shmat ADDR LEN PROT FILE
	OpShmdt                      // shmdt ADDR
	OpBrk                        // brk ADDR
	OpTouch                      // touch r|w|x ADDR|FILE+OFFSET [BYTE]

	// What a recording says beside operations. None of it changes a process.
	OpFile    // file FILE: which file this path means from here on
	OpArea    // area POINT START-END PROT FLAGS SOURCE: what /proc/PID/maps had
	OpPresent // present POINT RUN...: which pages had an entry
	OpLost    // lost N: records that the recorder could not take
	OpNote    // note TEXT
)

// kindNames are the words of the text form, by Kind.
var kindNames = [...]string{
	OpMark: "test", OpBoot: "boot", OpFork: "fork", OpVfork: "vfork", OpThread: "thread", OpExec: "exec", OpExit: "exit",
	OpMmap: "mmap", OpMunmap: "munmap", OpMprotect: "mprotect", OpMremap: "mremap", OpMadvise: "madvise",
	OpMlock: "mlock", OpMunlock: "munlock", OpMlockall: "mlockall", OpMunlockall: "munlockall", OpShmat: "shmat",
	OpShmdt: "shmdt", OpBrk: "brk", OpTouch: "touch", OpFile: "file", OpArea: "area", OpPresent: "present", OpLost: "lost",
	OpNote: "note",
}

// ofTrace reports whether operations of kind k are of the whole trace: they name
// no process.
func (k Kind) ofTrace() bool { return k == OpMark || k == OpFile || k == OpLost }

// forks reports whether operations of kind k make a process.
func (k Kind) forks() bool { return k == OpFork || k == OpVfork }

// Describes reports whether k only says what was seen, and changes nothing.
func (k Kind) Describes() bool { return k >= OpFile || k == OpMark }

// String returns the word of the text form: fork.
func (k Kind) String() string {
	if k >= OpMark && int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// parseKind is the inverse of String.
func parseKind(s string) (Kind, bool) {
	for k := OpMark; int(k) < len(kindNames); k++ {
		if kindNames[k] == s {
			return k, true
		}
	}
	return 0, false
}

// Op is one line of a trace. Fields that its Kind does not use are zero.
type Op struct {
	Line int    // where it stands in its file, from 1; 0 where it was built in Go
	Time uint64 // nanoseconds since the recording began; 0: not known
	PID  int    // the process in the trace's own counting, 1 to MaxPID; 0 where it is of the whole trace
	TID  int    // the thread, counted with the processes; 0: the process's first
	Kind Kind

	// Path is the file of boot, exec, mmap, shmat, touch, file and area, relative
	// to the trace's folder. Empty means: an empty init, anonymous memory, or a
	// touch of Addr. Offset is where in that file mmap, touch and area mean, in
	// bytes.
	Path   string
	Offset uint64

	Addr   mem.VirtAddr // of the mmap family, area, and of touch without a Path
	Len    uint64       // of the mmap family and area, in bytes
	Prot   mem.Prot     // of mmap, mprotect, shmat, area
	Flags  MapFlags     // of mmap, area
	Access mem.Access   // of touch
	Value  byte         // what a touch for writing writes; the text form's default is DefaultValue
	Status int          // of exit, 0 to 255
	Name   string       // of a mark; the text of a note; what an area without a Path is called: [stack]

	NewLen uint64       // of mremap, in bytes
	Remap  RemapFlags   // of mremap
	To     mem.VirtAddr // of mremap: its fifth argument; 0 is none
	Advice Advice       // of madvise
	Bits   uint64       // the flags of clone (fork, vfork, thread), mlock2 and mlockall, as the kernel has them

	IP   mem.VirtAddr // of a recorded touch: the instruction; 0: not known
	Code ErrorCode    // of a recorded touch

	Signal int    // of exit: that killed it, 0 to 64; 0 is none
	MinFlt uint64 // of exit: minor and major faults of the process, as the kernel counted them
	MajFlt uint64

	Point Point       // of area, present
	Set   *PresentSet // of present
	Start *Start      // of exec: how the program was laid out; nil: not known
	File  *FileInfo   // of file
	Count uint64      // of lost

	// Want is the answer that the trace expects; nil checks nothing, except
	// that exec must succeed. Fork, vfork and thread always have one: it names
	// the child.
	Want *Answer
}

// Thread returns the number of the thread that does op: the process's first has
// its number.
func (op *Op) Thread() int {
	if op.TID != 0 {
		return op.TID
	}
	return op.PID
}

// Check returns an error, without position, if op has no text form: a field is
// out of its bounds, or set though the Kind does not use it, or the answer is
// not one that the Kind can have.
func (op *Op) Check() error {
	if op.Kind < OpMark || int(op.Kind) >= len(kindNames) {
		return fmt.Errorf("operation %v does not exist", op.Kind)
	}
	if err := op.check(); err != nil {
		return fmt.Errorf("%v: %w", op.Kind, err)
	}
	return nil
}

func (op *Op) check() error {
	switch {
	case op.Line < 0:
		return fmt.Errorf("line %d is negative", op.Line)
	case !op.Kind.ofTrace() && (op.PID < 1 || op.PID > MaxPID):
		return fmt.Errorf("process %d is not in 1 to %d", op.PID, MaxPID)
	case op.TID < 0 || op.TID > MaxPID || op.TID != 0 && op.TID == op.PID:
		return fmt.Errorf("thread %d of process %d is not in 1 to %d, or is its first", op.TID, op.PID, MaxPID)
	case op.Kind == OpBoot && op.PID != 1:
		return fmt.Errorf("process %d: init is process 1", op.PID)
	case op.Status < 0 || op.Status > 255:
		return fmt.Errorf("status %d is not in 0 to 255", op.Status)
	case op.Signal < 0 || op.Signal > 64:
		return fmt.Errorf("signal %d is not in 1 to 64", op.Signal)
	case op.Access > mem.Exec:
		return fmt.Errorf("access %d is none of read, write, exec", op.Access)
	case op.Prot > mem.ProtRead|mem.ProtWrite|mem.ProtExec:
		return fmt.Errorf("protection %#x has unknown bits", uint8(op.Prot))
	case op.Flags > mapFlags || op.Kind == OpArea && op.Flags > MapShared:
		return fmt.Errorf("flags %#x have unknown bits", uint16(op.Flags))
	case op.Remap > remapFlags:
		return fmt.Errorf("flags %#x have unknown bits", uint8(op.Remap))
	case op.Advice < 0:
		return fmt.Errorf("advice %d is negative", op.Advice)
	case op.Code > CodeKnown|maxCode || op.Code != 0 && op.Code&CodeKnown == 0:
		return fmt.Errorf("error code %#x is larger than %#x", uint16(op.Code), uint16(maxCode))
	case op.Point > PointExit || (op.Point == 0) == (op.Kind == OpArea || op.Kind == OpPresent):
		return fmt.Errorf("point %d is none of %s", op.Point, pointList())
	case (op.Kind == OpExec || op.Kind == OpFile || op.Kind == OpShmat) && op.Path == "":
		return fmt.Errorf("the file is missing")
	case op.Kind == OpMark && op.Name == "":
		return fmt.Errorf("the name is missing")
	case op.Kind == OpNote && op.Name == "":
		return fmt.Errorf("the text is missing")
	case op.Kind == OpArea && op.Path != "" && op.Name != "":
		return fmt.Errorf("it has a file and a name")
	case op.Kind == OpArea && op.Name != "" && !bracketed(op.Name):
		return fmt.Errorf("name %q is not in brackets", clip(op.Name))
	case op.Kind == OpArea && uint64(op.Addr)+op.Len < op.Len:
		return fmt.Errorf("the area at %v of 0x%x bytes ends beyond 64 bits", op.Addr, op.Len)
	case len(op.Path) > maxPath || len(op.Name) > maxPath:
		return fmt.Errorf("%q is longer than %d bytes", clip(op.Path+op.Name), maxPath)
	case strings.IndexByte(op.Path, 0) >= 0:
		return fmt.Errorf("path %q holds a NUL byte", clip(op.Path))
	case *op != op.used():
		return fmt.Errorf("a field is set that this operation does not use")
	case op.Kind == OpFile && op.File == nil:
		return fmt.Errorf("what is known of the file is missing")
	case op.Kind == OpPresent && op.Set == nil:
		return fmt.Errorf("the set is missing")
	}
	if err := op.Set.check(); err != nil {
		return err
	}
	if err := op.Start.check(); err != nil {
		return err
	}
	if err := op.File.check(); err != nil {
		return err
	}
	return op.Want.check(op.Kind)
}

// used returns op with only the fields that its Kind uses.
func (op *Op) used() Op {
	u := Op{Line: op.Line, Time: op.Time, PID: op.PID, TID: op.TID, Kind: op.Kind, Want: op.Want}
	if op.Kind.ofTrace() {
		u.PID, u.TID = 0, 0
	}
	switch op.Kind {
	case OpMark, OpNote:
		u.Name = op.Name
	case OpBoot:
		u.Path = op.Path
	case OpFork, OpVfork, OpThread, OpMlockall:
		u.Bits = op.Bits
	case OpExec:
		u.Path, u.Start = op.Path, op.Start
	case OpExit:
		u.Status, u.Signal, u.MinFlt, u.MajFlt = op.Status, op.Signal, op.MinFlt, op.MajFlt
	case OpMmap:
		u.Addr, u.Len, u.Prot, u.Flags, u.Path = op.Addr, op.Len, op.Prot, op.Flags, op.Path
		if op.Path != "" {
			u.Offset = op.Offset
		}
	case OpMunmap, OpMunlock:
		u.Addr, u.Len = op.Addr, op.Len
	case OpMlock:
		u.Addr, u.Len, u.Bits = op.Addr, op.Len, op.Bits
	case OpMprotect:
		u.Addr, u.Len, u.Prot = op.Addr, op.Len, op.Prot
	case OpMremap:
		u.Addr, u.Len, u.NewLen, u.Remap, u.To = op.Addr, op.Len, op.NewLen, op.Remap, op.To
	case OpMadvise:
		u.Addr, u.Len, u.Advice = op.Addr, op.Len, op.Advice
	case OpShmat:
		u.Addr, u.Len, u.Prot, u.Path = op.Addr, op.Len, op.Prot, op.Path
	case OpBrk, OpShmdt:
		u.Addr = op.Addr
	case OpTouch:
		u.Access, u.Path, u.IP, u.Code = op.Access, op.Path, op.IP, op.Code
		if op.Path != "" {
			u.Offset = op.Offset
		} else {
			u.Addr = op.Addr
		}
		if op.Access == mem.Write {
			u.Value = op.Value
		}
	case OpFile:
		u.Path, u.File = op.Path, op.File
	case OpArea:
		u.Point, u.Addr, u.Len, u.Prot, u.Flags = op.Point, op.Addr, op.Len, op.Prot, op.Flags
		if u.Name, u.Path = op.Name, op.Path; op.Path != "" {
			u.Offset = op.Offset
		}
	case OpPresent:
		u.Point, u.Set = op.Point, op.Set
	case OpLost:
		u.Count = op.Count
	}
	return u
}
