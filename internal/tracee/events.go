package tracee

import (
	"os"

	"vmsim/mem"
)

// Mode is how closely the command is followed.
type Mode uint8

const (
	Syscalls Mode = iota // stops at fork, exec and exit, and at system calls
	Complete             // and areas are cut, and present sets taken
	Untraced             // the command is started, and nothing told of it: others watch it, see Left
)

// Config says what to run.
type Config struct {
	Mode Mode
	Argv []string // Argv[0] is looked up as a shell does
	Env  []string // nil: ours
	Dir  string   // "": ours
	ASLR bool     // leave address space randomisation as it is; else it is off

	Stdin, Stdout, Stderr *os.File // the command gets them themselves; nil: /dev/null

	// Ready is called once, on the tracer's thread, when the command's process waits
	// before its execve: events can be attached to it. An error ends the session.
	Ready func(pid int) error

	// Choose, if set, is asked for the mode after Ready: what else sees the command may
	// be known only then. Mode Complete must be known before.
	Choose func() Mode

	// EndMaps fills Exit.Maps in mode Syscalls too.
	EndMaps bool

	// Signals: os.Interrupt and SIGQUIT are ignored, SIGTERM and SIGHUP passed on, while
	// the session lives.
	Signals bool
}

// Sink gets the events, one by one and in the order of their times, on the tracer's
// thread while the task that the event is of stands still. It must return soon: all
// other tasks that stop wait for it. It may keep what it is given.
type Sink interface{ Event(Event) }

// SinkFunc is a function as a Sink.
type SinkFunc func(Event)

// Event calls f.
func (f SinkFunc) Event(e Event) { f(e) }

// Event is one of *NewTask, *Started, *ExecEntry, *Exec, *ExecFailed, *Entered, *Call,
// *Exit, *Gone, *Injecting, *Injected, *Uncut and *Note.
type Event interface {
	// When is CLOCK_MONOTONIC in nanoseconds, read while the task stood still.
	When() int64
}

// Time is CLOCK_MONOTONIC in nanoseconds.
type Time int64

// When makes a Time the time of an Event.
func (t Time) When() int64 { return int64(t) }

// Flags of clone(2) that tell tasks apart (include/uapi/linux/sched.h).
const (
	CloneVM     = 0x100   // shares the parent's memory
	CloneVfork  = 0x4000  // the parent waits until the child execs or exits
	CloneThread = 0x10000 // belongs to the parent's process
)

// NewTask: a task made another. The new one has not run yet.
type NewTask struct {
	Time
	Parent, Child int    // TIDs
	Flags         uint64 // of clone without the exit signal; fork and vfork as clone would have them
	Known         bool   // false: the parent died before it could be asked; Flags holds CloneThread at most
}

// Started: the first stop of a task, before its first instruction.
type Started struct {
	Time
	TID, PID int
	Root     bool // the command itself, before its execve; no NewTask precedes it

	// Present is what a fork gave it. Complete only; nil for a task that shares memory.
	Present []Run

	// Maps is what a fork gave it where other threads of the parent were running: what
	// they had mapped or unmapped by then, nothing else tells. Complete only.
	Maps []Area
}

// ExecEntry: a task calls execve, which may fail. Complete only.
type ExecEntry struct {
	Time
	TID, PID int
	Present  []Run // of the old program; nil where it shares its memory with others (vfork)
	Shared   bool  // tasks of other processes, or other threads, use this memory too
}

// Exec: a process runs another program, and stands before its first instruction. All
// threads but one are gone; the thread that called had the number FormerTID.
type Exec struct {
	Time
	PID, FormerTID int

	Path   string   // of the program: /proc/PID/exe
	Interp string   // PT_INTERP of it, "" without
	Argv   []string // as the program gets it
	File   File     // identity of the program

	Entry, Phdr, Base mem.VirtAddr // AT_ENTRY, AT_PHDR, AT_BASE (of the interpreter)
	Bias              mem.VirtAddr // Entry less e_entry
	ExecFn            string       // what AT_EXECFN points at: the path that was executed, of a script the script's
	Stack             mem.Range    // [stack] of maps
	StackStart        mem.VirtAddr // mm->start_stack: field 28 of stat
	SP, IP            mem.VirtAddr // registers
	StartBrk          mem.VirtAddr // mm->start_brk: field 47 of stat
	VDSO, VVar        mem.Range    // empty where there is none; VVar is all of its areas

	// Counters of the process so far: of what it ran before, for the command the
	// faults of this program as the trampoline. See Exit.
	MinFlt, MajFlt, Injected uint64

	Maps    []Area
	Present []Run  // before anything is injected; Complete only
	Missing string // what could not be read of /proc, and why; "" as a rule
}

// ExecFailed: execve returned.
type ExecFailed struct {
	Time
	TID, PID int
	Errno    int
	Path     string // as it was given; "" where it cannot be read
}

// Entered: a task calls munmap or shmdt. Others may be given the addresses before the
// call returns, so that it counts from here; the Call follows.
type Entered struct {
	Time
	TID, PID int
	Nr       int
}

// Call: a system call of memory or processes returned. A call that
// does not return (exit, execve that succeeds) has an event of its own.
type Call struct {
	Time          // at its return
	Entry    Time // at its entry
	TID, PID int  //
	Nr       int  // of x86-64
	Args     [6]uint64
	Ret      int64  // or -errno
	File     *File  // what a successful mmap of a descriptor, or shmat, mapped; nil else
	Size     uint64 // of shmat: bytes mapped
}

// Kind is what stands behind an area.
type Kind uint8

const (
	Anonymous  Kind = iota
	Regular         // a regular file
	Memfd           // memfd_create
	SysV            // shmget
	SharedAnon      // MAP_SHARED | MAP_ANONYMOUS, or /dev/zero shared
	Hugetlb         // any of hugetlbfs
	Device          // what is no regular file
)

// String returns the kind in words.
func (k Kind) String() string {
	names := [...]string{"anonymous", "file", "memfd", "sysv", "shared", "hugetlb", "device"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// File identifies a file as stat(2) has it. On btrfs and overlayfs Dev is not that
// of Area.
type File struct {
	Kind     Kind
	Path     string // without " (deleted)"
	Deleted  bool
	Dev, Ino uint64
	Size     int64 // bytes
	Mtime    int64 // ns since 1970
}

// Exit: a task is about to end; its memory still stands.
type Exit struct {
	Time
	TID, PID   int
	Status     int  // exit status, if Signal is 0
	Signal     int  // that killed it
	Core       bool // a core dump was written
	LastThread bool // of its process
	LastUser   bool // of its memory: no thread, and no vfork child or parent, is left

	// Counters of the process at its last thread, since it was made: field 10 and 12 of
	// stat. Injected of MinFlt are of our own calls.
	MinFlt, MajFlt, Injected uint64

	Maps    []Area // at the last user; joined
	Present []Run  // at the last user, Complete only
	Seen    bool   // false: it was gone before it could be asked; Maps and Present are unknown
}

// Gone: a process was reaped, with the status that its parent gets.
type Gone struct {
	Time
	PID            int
	Status, Signal int
}

// Injecting: from here to its Injected, task TID does what the tracer makes it do: its
// faults and calls are not the program's.
type Injecting struct {
	Time
	TID, PID int
}

// Injected: between From and Time, task TID did what the tracer made it do. Where the
// task died of it there is only the Injecting.
type Injected struct {
	Time
	From     Time
	TID, PID int
	Calls    int // how many
	Areas    int // pages whose advice was changed
}

// Uncut: pages of files stay as they are: touches near a fault are invisible there.
type Uncut struct {
	Time
	PID    int
	Range  mem.Range // empty: all of the process from here on
	Pages  int
	Reason string
}

// Note is something that the reader of a trace should know.
type Note struct {
	Time
	PID  int
	Text string
}

// Area is a line of /proc/PID/maps, or several that are one but for the cutting:
// neighbours equal in permissions and file, with contiguous offsets.
type Area struct {
	mem.Range
	Prot         mem.Prot
	Shared       bool
	Off          uint64 // file offset, bytes
	Major, Minor uint32
	Ino          uint64 // 0 where there is no file, and of the first System V segment
	Path         string // with " (deleted)" as maps has it; [heap], [stack], ...
}

// PageKind is what a present page is.
type PageKind uint8

const (
	FilePage PageKind = iota // of a file or shared memory
	ZeroPage                 // the shared zero page
	OwnPage                  // anonymous, or a private copy of a file's page
)

// String returns file, zero or own.
func (k PageKind) String() string {
	names := [...]string{"file", "zero", "own"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}

// Run is present pages of one kind in a row. A present set is ascending and as short
// as can be.
type Run struct {
	Start mem.VirtAddr
	Pages uint64
	Kind  PageKind
}

// Result is how the command ended.
type Result struct {
	Status int   // exit status; 126 or 127 if it could not be executed
	Signal int   // that killed it, or 0
	Err    error // why it could not be executed
}

// ExitCode is that of a shell: the status, or 128 and the signal.
func (r Result) ExitCode() int {
	if r.Signal != 0 {
		return 128 + r.Signal
	}
	return r.Status
}
