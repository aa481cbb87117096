package record

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
	"vmsim/internal/tracee"
	"vmsim/mem"
	"vmsim/trace"
)

// feed gives a Converter what perf and ptrace would, one after the other, at
// times 1 ms, 1.01 ms, ...
type feed struct {
	t    *testing.T
	c    *Converter
	now  uint64
	text []string
}

func newFeed(t *testing.T) *feed {
	f := &feed{t: t, now: 990_000}
	f.c = NewConverter(1_000_000, func(op *trace.Op) error {
		if err := op.Check(); err != nil {
			t.Errorf("%v: %v", op, err)
		}
		f.text = append(f.text, op.String())
		return nil
	})
	return f
}

func (f *feed) record(r perf.Record) {
	f.now += 10_000
	r.Time = f.now
	f.c.Record(&r)
}

func (f *feed) event(e tracee.Event) { f.record(perf.Record{Kind: perf.KindPosted, Value: e}) }

func (f *feed) sample(role perf.Role, pid, tid int32, fill func(r *perf.Record)) {
	r := perf.Record{Kind: perf.KindSample, PID: pid, TID: tid, Event: &perf.Event{Role: role}}
	fill(&r)
	f.record(r)
}

func (f *feed) fault(pid, tid int32, addr, ip mem.VirtAddr, code uint64) {
	f.sample(perf.RoleUserFault, pid, tid, func(r *perf.Record) { r.Addr, r.FaultIP, r.ErrorCode = addr, ip, code })
}

func (f *feed) enter(tid int32, nr int, args ...uint64) {
	f.sample(perf.RoleSysEnter, tid, tid, func(r *perf.Record) { r.Syscall = int64(nr); copy(r.Args[:], args) })
}

func (f *feed) leave(tid int32, nr int, ret int64) {
	f.sample(perf.RoleSysExit, tid, tid, func(r *perf.Record) { r.Syscall, r.Ret = int64(nr), ret })
}

// fork is what the kernel writes at a clone by ptid: FORK, then task_newtask.
func (f *feed) fork(ppid, ptid, pid, tid int32, flags uint64) {
	f.record(perf.Record{Kind: perf.KindFork, ParentPID: ppid, ParentTID: ptid, TaskPID: pid, TaskTID: tid})
	f.sample(perf.RoleNewTask, ppid, ptid, func(r *perf.Record) { r.NewPID, r.CloneFlags = tid, flags })
}

func (f *feed) exit(pid, tid int32) {
	f.record(perf.Record{Kind: perf.KindExit, TaskPID: pid, TaskTID: tid})
}

func (f *feed) comm(pid int32) {
	f.record(perf.Record{Kind: perf.KindComm, Misc: perf.MiscCommExec, OfPID: pid, OfTID: pid, Name: []byte("x")})
}

func (f *feed) mmap2(tid int32, name string, addr mem.VirtAddr, n, off uint64, prot uint32) {
	f.record(perf.Record{Kind: perf.KindMmap2, OfPID: tid, OfTID: tid, Name: []byte(name), Addr: addr, Len: n, Offset: off,
		Prot: prot, Flags: unix.MAP_PRIVATE})
}

// want compares the operations.
func (f *feed) want(want string) {
	f.t.Helper()
	if err := f.c.Close(f.now + 10_000); err != nil {
		f.t.Error(err)
	}
	got := strings.Join(f.text, "\n")
	if want = strings.TrimSpace(strings.ReplaceAll(want, "\t", "")); got != want {
		f.t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A file that is nowhere: nothing but its name is known.
const gone = "/nowhere/prog"

// exec is what ptrace tells of one.
func exec(pid, former int) *tracee.Exec {
	return &tracee.Exec{PID: pid, FormerTID: former, Path: gone, File: tracee.File{Kind: tracee.Regular, Path: gone, Size: 5},
		Argv: []string{"prog"}, SP: 0x7ffffffde000, StartBrk: 0x600000,
		Maps:    []tracee.Area{{Range: mem.Range{Start: 0x400000, End: 0x401000}, Prot: 5, Path: gone}},
		Present: []tracee.Run{{Start: 0x400000, Pages: 1, Kind: tracee.OwnPage}}}
}

func TestTraced(t *testing.T) {
	f := newFeed(t)
	f.c.Traced()
	f.event(&tracee.Started{TID: 50, PID: 50, Root: true})
	f.comm(50)
	f.fault(50, 50, 0x400ff8, 0xffffffff81000000, perf.FaultWrite) // by exec, in the new memory: after it
	f.event(exec(50, 50))
	f.fault(50, 50, 0x400010, 0x400010, perf.FaultUser|perf.FaultFetch)
	f.fault(50, 50, 0xffff800000000000, 0x400010, perf.FaultUser) // a wild pointer
	f.event(&tracee.Call{TID: 50, PID: 50, Nr: unix.SYS_BRK, Ret: 0x600000})
	f.event(&tracee.Call{TID: 50, PID: 50, Nr: unix.SYS_READ, Ret: 0})
	f.event(&tracee.Call{TID: 50, PID: 50, Nr: unix.SYS_MMAP, Ret: 0x7000, Args: [6]uint64{0, 0x1000, 3, unix.MAP_PRIVATE, 3, 0x2000},
		File: &tracee.File{Kind: tracee.Memfd, Path: "/memfd:a b", Ino: 7, Size: 9}})
	f.event(&tracee.Call{TID: 50, PID: 50, Nr: unix.SYS_MMAP, Ret: -19, Args: [6]uint64{0, 0x1000, 3, unix.MAP_PRIVATE, 3}})
	f.fork(50, 50, 51, 51, 0x4100)
	f.sample(perf.RoleKernelFault, 51, 51, func(r *perf.Record) { r.Addr, r.ErrorCode = 0x7008, 2 }) // before ptrace knows
	f.event(&tracee.NewTask{Parent: 50, Child: 51, Flags: 0x4100, Known: true})
	f.event(&tracee.Started{TID: 51, PID: 51})
	f.event(&tracee.ExecFailed{TID: 51, PID: 51, Errno: 2, Path: "/no"})
	f.event(&tracee.Exit{TID: 51, PID: 51, Status: 127, LastThread: true, MinFlt: 9, Injected: 4})
	f.exit(51, 51)
	f.fork(50, 50, 52, 52, 0x1200000)
	f.event(&tracee.Started{TID: 52, PID: 52, Present: []tracee.Run{{Start: 0x7000, Pages: 2}, {Start: 0x9000, Pages: 1, Kind: tracee.ZeroPage}}})
	f.event(&tracee.Exit{TID: 52, PID: 52, Signal: 11, LastThread: true, LastUser: true, Seen: true, Present: []tracee.Run{},
		Maps: []tracee.Area{{Range: mem.Range{Start: 0x7000, End: 0x8000}, Prot: 3, Shared: true, Path: "/dev/zero (deleted)"},
			{Range: mem.Range{Start: 0x9000, End: 0xa000}, Prot: 3, Path: "[heap]"}}})
	f.sample(perf.RoleKernelFault, 52, 52, func(r *perf.Record) { r.Addr, r.ErrorCode = 0x9008, 2 }) // clear_child_tid
	f.exit(52, 52)
	f.record(perf.Record{Kind: perf.KindLost, Lost: 3})
	f.want(`
		@1000 1 fork = 2
		@31000 file /nowhere/prog size=5
		@31000 2 exec /nowhere/prog base=0x400000 sp=0x7ffffffde000 brk=0x600000 arg=prog = 0
		@31000 2 area exec 0x400000-0x401000 r-x private /nowhere/prog+0x0
		@31000 2 touch w 0x400ff8 ip=0xffffffff81000000 err=2
		@31000 2 present exec own:0x400000-0x401000
		@41000 2 touch x 0x400010 ip=0x400010 err=20
		@61000 2 brk 0 = 0x600000
		@81000 file "/memfd:a b" kind=memory size=9 ino=7
		@81000 2 mmap 0 0x1000 rw- private "/memfd:a b+0x2000" = 0x7000
		@91000 2 note "mmap of descriptor 3: the file is not known: ENODEV"
		@111000 2 vfork flags=0x4100 = 3
		@121000 3 touch w 0x7008 err=2
		@151000 3 exec /no = ENOENT
		@171000 3 exit 127 minflt=5
		@191000 2 fork flags=0x1200000 = 4
		@201000 4 present fork file:0x7000-0x9000 zero:0x9000-0xa000
		@211000 4 area exit 0x7000-0x8000 rw- shared anon
		@211000 4 area exit 0x9000-0xa000 rw- private [heap]
		@211000 4 present exit
		@221000 4 touch w 0x9008 err=2
		@231000 4 exit signal=11
		@241000 lost 3`)
	if f.c.Lost() != 3 {
		t.Errorf("%d records lost", f.c.Lost())
	}
}

// perf alone: an exec is what MMAP2 records say until it returns.
func TestPerfAlone(t *testing.T) {
	f := newFeed(t)
	f.c.CloneFlags()
	f.comm(50)
	f.mmap2(50, gone, 0x555555554000, 0x3000, 0, 1)
	f.mmap2(50, gone, 0x555555555000, 0x1000, 0x1000, 5)
	f.mmap2(50, "//anon", 0x555555556000, 0x1000, 0, 3)
	f.mmap2(50, "/nowhere/ld.so", 0x7ffff7fca000, 0x1000, 0, 1)
	f.mmap2(50, "[stack]", 0x7ffffffde000, 0x21000, 0, 3)
	f.sample(perf.RoleKernelFault, 50, 50, func(r *perf.Record) { r.Addr, r.ErrorCode = 0x555555556008, 2 })
	f.leave(50, unix.SYS_EXECVE, 0)
	f.fault(50, 50, 0x7ffff7fca010, 0x7ffff7fca010, perf.FaultUser|perf.FaultFetch)
	f.enter(50, unix.SYS_MMAP, 0, 0x2000, 1, unix.MAP_PRIVATE, 3, 0x1000)
	f.mmap2(50, "/nowhere/lib (deleted)", 0x7ffff7fc0000, 0x2000, 0x1000, 1)
	f.leave(50, unix.SYS_MMAP, 0x7ffff7fc0000)
	f.fork(50, 50, 50, 51, 0x3d0f00)
	f.fault(50, 51, 0x555555556010, 0x555555555010, perf.FaultUser|perf.FaultWrite|perf.FaultPresent)
	f.enter(51, unix.SYS_MUNMAP, 0x7ffff7fc0000, 0x2000)
	f.enter(50, unix.SYS_MMAP, 0, 0x1000, 3, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	f.leave(50, unix.SYS_MMAP, 0x7ffff7fc0000) // what the other is giving back
	f.leave(51, unix.SYS_MUNMAP, 0)
	f.enter(51, unix.SYS_MUNMAP, 0x1000, 0x1000)
	f.exit(50, 51) // killed in it
	f.fork(50, 50, 52, 52, 0x1200000)
	f.exit(50, 50)
	f.fork(52, 52, 50, 50, 0) // the number of one that has ended
	f.comm(50)
	f.fault(50, 50, 0x401000, 0x401000, perf.FaultUser|perf.FaultFetch) // nothing said what was mapped
	f.want(`
		@1000 1 fork = 2
		@71000 file /nowhere/prog
		@71000 file /nowhere/ld.so
		@71000 2 exec /nowhere/prog base=0x555555554000 interp=/nowhere/ld.so ibase=0x7ffff7fca000 = 0
		@71000 2 area exec 0x555555554000-0x555555555000 r-- private /nowhere/prog+0x0
		@71000 2 area exec 0x555555555000-0x555555556000 r-x private /nowhere/prog+0x1000
		@71000 2 area exec 0x555555556000-0x555555557000 rw- private anon
		@71000 2 area exec 0x7ffff7fca000-0x7ffff7fcb000 r-- private /nowhere/ld.so+0x0
		@71000 2 area exec 0x7ffffffde000-0x7ffffffff000 rw- private [stack]
		@71000 2 touch w 0x555555556008 err=2
		@81000 2 touch x 0x7ffff7fca010 ip=0x7ffff7fca010 err=20
		@111000 file /nowhere/lib kind=memory
		@111000 2 mmap 0 0x2000 r-- private /nowhere/lib+0x1000 = 0x7ffff7fc0000
		@131000 2 thread flags=0x3d0f00 = 3
		@141000 2/3 touch w 0x555555556010 ip=0x555555555010 err=7
		@151000 2/3 munmap 0x7ffff7fc0000 0x2000 = 0
		@171000 2 mmap 0 0x1000 rw- private,populate anon = 0x7ffff7fc0000
		@201000 2/3 exit
		@221000 2 fork flags=0x1200000 = 4
		@231000 2 exit
		@251000 4 fork = 5
		@271000 5 touch x 0x401000 ip=0x401000 err=20`)
	if got := f.c.Missing(); len(got) != 2 || got[0] != "programs of execs that nothing named (1)" || got[1] != "the ends of tasks that lived on (2)" {
		t.Errorf("missing: %q", got)
	}
}

// What the tracer makes a task do is not the program's, and a munmap counts from
// its entry.
func TestInjected(t *testing.T) {
	f := newFeed(t)
	f.c.Traced()
	f.event(&tracee.Started{TID: 50, PID: 50, Root: true})
	f.comm(50)
	e := exec(50, 50)
	e.MinFlt, e.Injected = 100, 1
	f.event(e)
	f.event(&tracee.Injecting{TID: 50, PID: 50})
	f.fault(50, 50, 0x7ffff7fc1000, 0x7ffff7fc1000, perf.FaultUser|perf.FaultFetch)
	f.event(&tracee.Injected{TID: 50, PID: 50})
	f.fork(50, 50, 50, 51, 0x3d0f00)
	f.event(&tracee.Entered{TID: 51, PID: 50, Nr: unix.SYS_MUNMAP})
	f.fault(50, 50, 0x400010, 0x400010, perf.FaultUser|perf.FaultFetch)
	f.event(&tracee.Call{TID: 50, PID: 50, Nr: unix.SYS_MMAP, Ret: 0x7000, Args: [6]uint64{0, 0x1000, 3, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS}})
	f.event(&tracee.Call{TID: 51, PID: 50, Nr: unix.SYS_MUNMAP, Args: [6]uint64{0x7000, 0x1000}})
	f.event(&tracee.Entered{TID: 51, PID: 50, Nr: unix.SYS_MUNMAP})
	f.event(&tracee.Exit{TID: 51, PID: 50})
	f.exit(50, 51)
	f.event(&tracee.Exit{TID: 50, PID: 50, LastThread: true, MinFlt: 107, Injected: 3})
	f.exit(50, 50)
	f.want(`
		@1000 1 fork = 2
		@21000 file /nowhere/prog size=5
		@21000 2 exec /nowhere/prog base=0x400000 sp=0x7ffffffde000 brk=0x600000 arg=prog = 0
		@21000 2 area exec 0x400000-0x401000 r-x private /nowhere/prog+0x0
		@21000 2 present exec own:0x400000-0x401000
		@71000 2 thread flags=0x3d0f00 = 3
		@81000 2/3 munmap 0x7000 0x1000 = 0
		@91000 2 touch x 0x400010 ip=0x400010 err=20
		@101000 2 mmap 0 0x1000 rw- private anon = 0x7000
		@141000 2/3 exit
		@161000 2 exit minflt=5`)
}

// Another thread than the first execs: the others end, it takes the number of the
// first, and its later end is that of the process.
func TestExecByAThread(t *testing.T) {
	f := newFeed(t)
	f.c.Traced()
	f.event(&tracee.Started{TID: 50, PID: 50, Root: true})
	f.fork(50, 50, 50, 51, 0x3d0f00)
	f.fork(50, 50, 50, 52, 0x3d0f00)
	f.exit(50, 52) // ptrace missed it, and tells of it later
	f.event(&tracee.Exit{TID: 52, PID: 50})
	f.exit(50, 50)
	f.comm(50)
	f.event(exec(50, 51))
	f.fault(50, 50, 0x400010, 0x400010, perf.FaultUser|perf.FaultFetch)
	f.event(&tracee.Exit{TID: 50, PID: 50, Status: 3, LastThread: true})
	f.exit(50, 50)
	f.want(`
		@1000 1 fork = 2
		@21000 2 thread flags=0x3d0f00 = 3
		@41000 2 thread flags=0x3d0f00 = 4
		@61000 2/4 exit
		@81000 2 exit
		@91000 file /nowhere/prog size=5
		@91000 2 exec /nowhere/prog base=0x400000 sp=0x7ffffffde000 brk=0x600000 arg=prog = 0
		@91000 2 area exec 0x400000-0x401000 r-x private /nowhere/prog+0x0
		@91000 2 present exec own:0x400000-0x401000
		@101000 2 touch x 0x400010 ip=0x400010 err=20
		@121000 2 exit 3`)
}

// Of threads that end together the first one's EXIT may come before the others'. It is
// the end of the process all the same, and the last that is told of it.
func TestEndsTogether(t *testing.T) {
	f := newFeed(t)
	f.c.Traced()
	f.event(&tracee.Started{TID: 50, PID: 50, Root: true})
	for tid := 51; tid <= 52; tid++ {
		f.event(&tracee.NewTask{Parent: 50, Child: tid, Flags: tracee.CloneThread | tracee.CloneVM, Known: true})
	}
	for tid := 52; tid >= 50; tid-- {
		f.event(&tracee.Exit{TID: tid, PID: 50, Signal: 9, LastThread: tid == 50, LastUser: tid == 50})
	}
	f.exit(50, 51)
	f.exit(50, 50)
	f.exit(50, 52)
	f.want(`
		@1000 1 fork = 2
		@11000 2 thread flags=0x10100 = 3
		@21000 2 thread flags=0x10100 = 4
		@61000 2/3 exit signal=9
		@71000 2/4 exit signal=9
		@71000 2 exit signal=9`)
}

// Of a thread whose end ptrace missed perf tells first: what was there at the end comes all
// the same.
func TestEndUnseen(t *testing.T) {
	f := newFeed(t)
	f.c.Traced()
	f.event(&tracee.Started{TID: 50, PID: 50, Root: true})
	f.event(&tracee.NewTask{Parent: 50, Child: 51, Flags: tracee.CloneThread | tracee.CloneVM, Known: true})
	f.event(&tracee.Exit{TID: 50, PID: 50, Signal: 15})
	f.exit(50, 51)
	f.event(&tracee.Exit{TID: 51, PID: 50, Signal: 15, LastThread: true, LastUser: true, Seen: true,
		Present: []tracee.Run{{Start: 0x7000, Pages: 2}}})
	f.exit(50, 50)
	f.want(`
		@1000 1 fork = 2
		@11000 2 thread flags=0x10100 = 3
		@41000 2/3 present exit file:0x7000-0x9000
		@41000 2/3 exit signal=15
		@51000 2 exit signal=15`)
}

// Where nothing is changed perf tells how large a segment of shared memory is.
func TestShmat(t *testing.T) {
	f := newFeed(t)
	f.comm(50)
	f.mmap2(50, gone, 0x400000, 0x1000, 0, 5)
	f.leave(50, unix.SYS_EXECVE, 0)
	f.enter(50, unix.SYS_SHMAT, 7, 0, 0)
	f.mmap2(50, "/SYSV00000000 (deleted)", 0x7000, 0x3000, 0, 3)
	f.leave(50, unix.SYS_SHMAT, 0x7000)
	f.event(&tracee.Uncut{PID: 50, Range: mem.Range{Start: 0x1000, End: 0x3000}, Pages: 2, Reason: "enough"})
	f.event(&tracee.Uncut{PID: 50, Reason: "a seccomp filter"})
	f.want(`
		@1000 1 fork = 2
		@21000 file /nowhere/prog
		@21000 2 exec /nowhere/prog base=0x400000 = 0
		@21000 2 area exec 0x400000-0x401000 r-x private /nowhere/prog+0x0
		@51000 file /SYSV00000000 kind=shared
		@51000 2 shmat 0 0x3000 rw- /SYSV00000000 = 0x7000
		@61000 2 note "uncut: [0x1000, 0x3000), 2 pages: enough"
		@71000 2 note "uncut: all of the process: a seccomp filter"`)
}
