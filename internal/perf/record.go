package perf

import "vmsim/mem"

// Bits of Record.Misc (PERF_RECORD_MISC_*). One bit means different things in
// records of different kinds.
const (
	MiscMmapData    = 1 << 13 // MMAP, MMAP2: not executable
	MiscCommExec    = 1 << 13 // COMM: by an exec, not by a thread that renames itself
	MiscMmapBuildID = 1 << 14 // MMAP2: has a build id in the place of device and inode
)

// Record is one record. Which fields it has depends on Kind and, of a sample, on
// Event.Role; the others are 0. The slices are of the bytes that were decoded,
// and may be overwritten once whoever got the record returns.
//
// PIDs are those of the PID namespace of the process that opened the events, with one
// exception (NewPID).
type Record struct {
	Kind Kind
	Misc uint16
	CPU  uint32 // on which it was written; 0 if records do not say

	// Time in ns of the events' clock; 0 if records do not say.
	Time uint64

	// Who was running: PID is the process, TID the thread. -1 is a task that
	// has gone too far in exiting to have a number.
	PID, TID int32

	ID       uint64 // of the event, a number that the kernel chose; 0 if records do not say
	StreamID uint64
	Event    *Event // that wrote it; in a record that is no sample, one of those that ask for such records

	// SAMPLE.
	IP     uint64 // of a tracepoint's sample an address in the kernel
	Period uint64
	Raw    []byte // the tracepoint's own fields; nil if the sample has none

	// Samples by Event.Role. Addr is a fault's address, to the byte, and FaultIP the
	// instruction that took it; ErrorCode has the bits Fault*. Without tracepoints
	// (RoleFault) the code is not known.
	Addr      mem.VirtAddr // MMAP, MMAP2: where the mapping starts
	FaultIP   mem.VirtAddr
	ErrorCode uint64

	// Of events that ask for them: the program's registers and its stack from SP upwards,
	// as far as there was room. UserABI is ABINone for a task that has no program.
	UserABI        uint64
	UserSP, UserIP mem.VirtAddr
	UserStack      []byte

	// RoleNewTask. The number of the new task is that of the first PID
	// namespace, not the reader's: the FORK record before it has the reader's.
	NewPID     int32
	CloneFlags uint64

	// RoleSignal: a signal is sent to task Target. RoleDeliver: the task that runs takes one.
	Signal  int32
	Target  int32        // a number of the first PID namespace, as NewPID
	Result  int32        // 0: it was queued; ignored, or pending already
	Handler mem.VirtAddr // of the program; 0: SIG_DFL, 1: SIG_IGN

	// RoleSysEnter, RoleSysExit. HostTID is of RoleSysExit: the number of the task that runs in
	// the first PID namespace.
	HostTID int32
	Syscall int64
	Args    [6]uint64
	Ret     int64 // as the kernel returns it: errors are -errno

	// FORK: the new task and its parent. EXIT: the task that ends. Time, PID
	// and TID are of the trailer.
	TaskPID, TaskTID     int32
	ParentPID, ParentTID int32

	// COMM: whose name it is. MMAP, MMAP2: whose mapping. In live
	// records it is PID and TID; perf's own records have no trailer to speak of.
	OfPID, OfTID int32
	Name         []byte // COMM: at most 15 bytes. MMAP, MMAP2: the path, [stack], [heap], //anon

	// MMAP, MMAP2.
	Len          uint64
	Offset       uint64 // in the file, in bytes; anonymous memory has its address here, in bytes or in pages
	Major, Minor uint32 // of the file system's device, 0 in MMAP
	Inode        uint64
	InodeGen     uint64
	BuildID      []byte // if Misc has MiscMmapBuildID; then there is no device and no inode
	Prot, Flags  uint32 // PROT_*, MAP_*; 0 in MMAP

	// LOST, LOST_SAMPLES: how many records or samples there was no room for.
	Lost uint64

	// POSTED.
	Value any
}

// Values of Record.UserABI (PERF_SAMPLE_REGS_ABI_*).
const (
	ABINone = 0
	ABI32   = 1
	ABI64   = 2
)

// Bits of a page fault's error code (arch/x86/include/asm/trap_pf.h).
const (
	FaultPresent = 1 << 0 // the page was mapped: it forbade the access
	FaultWrite   = 1 << 1
	FaultUser    = 1 << 2 // by an instruction of the program, not by the kernel on its behalf
	FaultFetch   = 1 << 4 // of an instruction
)
