package soundness

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmsim/mem"
	"vmsim/trace"
)

// Where the stub lies, and its pieces of code.
const (
	stubPage    = mem.VirtAddr(0x10000)
	stubSyscall = stubPage + 0x800 // syscall; int3
	stubLoad    = stubPage + 0x810 // mov al, [rdi]; int3
	stubStore   = stubPage + 0x820 // mov [rdi], al; int3
)

// stub returns an ELF program of one r-x page that the tests drive: every system
// call and every touch is one that the test asks for.
func stub() []byte {
	b := make([]byte, mem.PageSize)
	le := binary.LittleEndian
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)  // ET_EXEC
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], uint64(stubSyscall))
	le.PutUint64(b[32:], 64) // program headers
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	load, stack := b[64:], b[64+56:]
	le.PutUint32(load, 1)     // PT_LOAD
	le.PutUint32(load[4:], 5) // r-x
	le.PutUint64(load[16:], uint64(stubPage))
	le.PutUint64(load[32:], mem.PageSize)
	le.PutUint64(load[40:], mem.PageSize)
	le.PutUint64(load[48:], mem.PageSize)
	le.PutUint32(stack, 0x6474e551) // PT_GNU_STACK
	le.PutUint32(stack[4:], 6)
	copy(b[stubSyscall-stubPage:], "\x0f\x05\xcc")
	copy(b[stubLoad-stubPage:], "\x8a\x07\xcc")
	copy(b[stubStore-stubPage:], "\x88\x07\xcc")
	return b
}

// fataler is *testing.T or *rapid.T.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// driven is a stopped process that does what it is told, and tells a Checker so.
type driven struct {
	t    fataler
	kpid int // the kernel's number
	pid  int // the trace's
	brk  mem.VirtAddr
}

// rig drives processes and checks every step.
type rig struct {
	t     fataler
	c     *Checker
	log   []trace.Op
	bad   []Comparison
	procs []*driven
	next  int // number of the next process
	file  string
	shm   []mem.VirtAddr // where segments were attached
}

// newRig starts the stub with file as its descriptor 3. The caller holds its
// thread, and calls end.
func newRig(t fataler, path string, h trace.Header, opt Options) *rig {
	t.Helper()
	file := "mapped"
	fd, err := unix.MemfdCreate(file, unix.MFD_CLOEXEC) // tmpfs: no large folios, which a hole would split
	if err != nil {
		t.Fatalf("%v", err)
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	for range filePages {
		if _, err := f.Write(int3); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if err := f.Truncate(fileSize); err != nil {
		t.Fatalf("%v", err)
	}
	file = "/memfd:" + file
	const addrNoRandomize = 0x40000
	before, _, _ := syscall.Syscall(syscall.SYS_PERSONALITY, 0xffffffff, 0, 0)
	syscall.Syscall(syscall.SYS_PERSONALITY, addrNoRandomize, 0, 0)
	defer syscall.Syscall(syscall.SYS_PERSONALITY, before, 0, 0)
	kpid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2, f.Fd()}, Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		t.Fatalf("%v", err)
	}
	g := &rig{t: t, next: 3, file: file}
	p := &driven{t: t, kpid: kpid, pid: 2}
	g.procs = []*driven{p}
	if s := p.wait(); s != unix.SIGTRAP {
		t.Fatalf("stop by %v after exec", s)
	}
	if err := unix.PtraceSetOptions(kpid, unix.PTRACE_O_TRACEFORK|unix.PTRACE_O_TRACEVFORK|unix.PTRACE_O_EXITKILL); err != nil {
		t.Fatalf("%v", err)
	}
	opt.Each = func(r Comparison) {
		if !r.OK() || r.Skipped != "" {
			g.bad = append(g.bad, r)
		}
	}
	g.c = New(h, opt)
	g.op(trace.Op{Kind: trace.OpFile, Path: path, File: &trace.FileInfo{Size: mem.PageSize}})
	g.op(trace.Op{Kind: trace.OpFile, Path: file, File: &trace.FileInfo{Kind: trace.MemoryFile, Size: fileSize}})
	g.op(trace.Op{Kind: trace.OpFile, Path: shmPath, File: &trace.FileInfo{Kind: trace.SharedFile, Size: 4 * mem.PageSize}})
	g.op(trace.Op{PID: 1, Kind: trace.OpFork, Want: &trace.Answer{PID: 2}})
	g.op(trace.Op{PID: 2, Kind: trace.OpExec, Path: path})
	g.look(p, trace.PointExec)
	p.syscall(unix.SYS_PRCTL, unix.PR_SET_THP_DISABLE, 1)
	g.fetched(p)
	p.brk = mem.VirtAddr(p.syscall(unix.SYS_BRK))
	g.op(trace.Op{PID: 2, Kind: trace.OpBrk, Want: &trace.Answer{Addr: p.brk}})
	return g
}

func (g *rig) end() {
	for _, p := range g.procs {
		syscall.Kill(p.kpid, syscall.SIGKILL)
		var ws syscall.WaitStatus
		syscall.Wait4(p.kpid, &ws, syscall.WALL, nil)
	}
}

// op gives an operation to the checker.
func (g *rig) op(op trace.Op) {
	op.Line = len(g.log) + 1
	if err := op.Check(); err != nil {
		g.t.Fatalf("%v: %v", op, err)
	}
	g.log = append(g.log, op)
	g.c.Op(&op)
}

// fetched tells of the page that the stub's own instructions are on.
func (g *rig) fetched(p *driven) {
	g.op(trace.Op{PID: p.pid, Kind: trace.OpTouch, Access: mem.Exec, Addr: stubPage})
}

// check looks at all processes as a recorder would before an exec.
func (g *rig) check() {
	g.t.Helper()
	for _, p := range g.procs {
		g.look(p, trace.PointExecve)
	}
	g.fetched(g.procs[0])
	for _, p := range g.procs {
		g.fetched(p)
	}
	if len(g.bad) == 0 && g.c.report.Problems == 0 {
		return
	}
	var ops []string
	for _, op := range g.log {
		if !op.Kind.Describes() && !(op.Kind == trace.OpTouch && op.Addr == stubPage) {
			ops = append(ops, op.String())
		}
	}
	g.t.Fatalf("%v\n%v\n%s", g.bad, g.c.report.List, strings.Join(ops[max(0, len(ops)-60):], "\n"))
}

// look tells what the kernel says of p.
func (g *rig) look(p *driven, point trace.Point) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.kpid))
	if err != nil {
		g.t.Fatalf("%v", err)
	}
	for line := range strings.Lines(string(text)) {
		var r mem.Range
		var prot, dev, name string
		var off, ino uint64
		fmt.Sscanf(line, "%x-%x %s %x %s %d %s", &r.Start, &r.End, &prot, &off, &dev, &ino, &name)
		op := trace.Op{PID: p.pid, Kind: trace.OpArea, Point: point, Addr: r.Start, Len: r.Len()}
		op.Prot, _ = mem.ParseProt(prot[:3])
		if prot[3] == 's' {
			op.Flags = trace.MapShared
		}
		if strings.HasPrefix(name, "[") {
			op.Name = name
		} else if name != "" {
			op.Path, op.Offset = name, off
		}
		if r.Start < mem.UserEnd {
			g.op(op)
		}
	}
	g.op(trace.Op{PID: p.pid, Kind: trace.OpPresent, Point: point, Set: &trace.PresentSet{Runs: p.present()}})
}

// present asks PAGEMAP_SCAN (fs/proc/task_mmu.c).
func (p *driven) present() []trace.Run {
	const (
		isFile, isPresent, isZero = 1 << 2, 1 << 3, 1 << 5
		scan                      = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)
	)
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", p.kpid))
	if err != nil {
		p.t.Fatalf("%v", err)
	}
	defer f.Close()
	type region struct{ start, end, categories uint64 }
	vec := make([]region, 4096)
	arg := struct {
		size, flags, start, end, walkEnd, vec, vecLen, maxPages, inverted, mask, anyof, ret uint64
	}{size: 96, end: uint64(mem.UserEnd), vec: uint64(uintptr(unsafe.Pointer(&vec[0]))), vecLen: uint64(len(vec)),
		mask: isPresent, ret: isFile | isPresent | isZero}
	n, _, e := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), scan, uintptr(unsafe.Pointer(&arg)))
	runtime.KeepAlive(vec)
	if e != 0 || int(n) == len(vec) {
		p.t.Fatalf("PAGEMAP_SCAN: %d regions, %v", n, e)
	}
	var runs []trace.Run
	for _, v := range vec[:n] {
		k := trace.PageOwn
		if v.categories&isZero != 0 {
			k = trace.PageZero
		} else if v.categories&isFile != 0 {
			k = trace.PageFile
		}
		runs = append(runs, trace.Run{Range: mem.Range{Start: mem.VirtAddr(v.start), End: mem.VirtAddr(v.end)}, Kind: k})
	}
	return runs
}

// wait waits for the next stop.
func (p *driven) wait() unix.Signal {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(p.kpid, &ws, unix.WALL, nil)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			p.t.Fatalf("%v", err)
		}
	}
	if !ws.Stopped() {
		p.t.Fatalf("process %d ended: 0x%x", p.kpid, uint32(ws))
	}
	if ws.TrapCause() > 0 {
		return 0 // an event of fork
	}
	return ws.StopSignal()
}

// run runs from ip until a stop.
func (p *driven) run(ip, rax, rdi mem.VirtAddr, args ...uint64) (unix.Signal, unix.PtraceRegs) {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(p.kpid, &regs); err != nil {
		p.t.Fatalf("%v", err)
	}
	regs.Rip, regs.Rax, regs.Rdi, regs.Orig_rax = uint64(ip), uint64(rax), uint64(rdi), ^uint64(0)
	for i, r := range []*uint64{&regs.Rdi, &regs.Rsi, &regs.Rdx, &regs.R10, &regs.R8, &regs.R9} {
		if i < len(args) {
			*r = args[i]
		} else if len(args) > 0 {
			*r = 0
		}
	}
	if err := unix.PtraceSetRegs(p.kpid, &regs); err != nil {
		p.t.Fatalf("%v", err)
	}
	if err := unix.PtraceCont(p.kpid, 0); err != nil {
		p.t.Fatalf("%v", err)
	}
	sig := p.wait()
	for sig == unix.SIGCHLD {
		if err := unix.PtraceCont(p.kpid, 0); err != nil {
			p.t.Fatalf("%v", err)
		}
		sig = p.wait()
	}
	if err := unix.PtraceGetRegs(p.kpid, &regs); err != nil {
		p.t.Fatalf("%v", err)
	}
	return sig, regs
}

// syscall does a system call.
func (p *driven) syscall(nr int, args ...uint64) int64 {
	if len(args) == 0 {
		args = []uint64{0}
	}
	sig, regs := p.run(stubSyscall, mem.VirtAddr(nr), 0, args...)
	if sig != unix.SIGTRAP {
		p.t.Fatalf("system call %d: %v", nr, sig)
	}
	return int64(regs.Rax)
}

// answer returns what a system call came to, as an answer.
func answer(r int64, place bool) *trace.Answer {
	if r < 0 && r >= -4095 {
		return &trace.Answer{Errno: syscall.Errno(-r)}
	}
	if !place {
		return &trace.Answer{}
	}
	return &trace.Answer{Addr: mem.VirtAddr(r)}
}

// touch touches a page, and tells; the outcome is not told.
func (g *rig) touch(p *driven, at mem.VirtAddr, k mem.Access) {
	switch k {
	case mem.Read:
		p.run(stubLoad, 0, at)
	case mem.Write:
		p.run(stubStore, 0xcc, at)
	case mem.Exec: // int3, or add [0], al, which must not reach into the next page
		at = at.PageDown()
		p.run(at, 0, 0)
	}
	op := trace.Op{PID: p.pid, Kind: trace.OpTouch, Access: k, Addr: at}
	if k == mem.Write {
		op.Value = trace.DefaultValue
	}
	g.op(op)
}

// fork forks p; the child is looked at before its first instruction.
func (g *rig) fork(p *driven) {
	sig, _ := p.run(stubSyscall, unix.SYS_FORK, 0, 0)
	if sig != 0 {
		g.t.Fatalf("fork: %v", sig)
	}
	kpid, err := unix.PtraceGetEventMsg(p.kpid)
	if err != nil {
		g.t.Fatalf("%v", err)
	}
	child := &driven{t: p.t, kpid: int(kpid), pid: g.next, brk: p.brk}
	g.next++
	child.wait()
	g.op(trace.Op{PID: p.pid, Kind: trace.OpFork, Want: &trace.Answer{PID: child.pid}})
	g.look(child, trace.PointFork)
	g.fetched(child)
	for _, p := range []*driven{p, child} {
		if err := unix.PtraceCont(p.kpid, 0); err != nil {
			g.t.Fatalf("%v", err)
		}
		if sig := p.wait(); sig != unix.SIGTRAP {
			g.t.Fatalf("after fork: %v", sig)
		}
	}
	g.procs = append(g.procs, child)
}

// exit looks at the end of p, and ends it.
func (g *rig) exit(p *driven) {
	g.look(p, trace.PointExit)
	g.op(trace.Op{PID: p.pid, Kind: trace.OpExit})
	syscall.Kill(p.kpid, syscall.SIGKILL)
	var ws syscall.WaitStatus
	syscall.Wait4(p.kpid, &ws, syscall.WALL, nil)
	g.procs = slices.DeleteFunc(g.procs, func(q *driven) bool { return q == p })
}

// cut gives every other page of the areas of files another advice, as a recorder
// does, so that a fault brings in one page; uncut undoes it before an mremap.
func (g *rig) cut(p *driven) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.kpid))
	for line := range strings.Lines(string(text)) {
		var r mem.Range
		fmt.Sscanf(line, "%x-%x", &r.Start, &r.End)
		if r.Start < 0x200000000 || r.Len() < 2*mem.PageSize || !strings.Contains(line, "/") || r.Start > 1<<40 {
			continue
		}
		for at := r.Start; at < r.End; at += mem.PageSize {
			if at/mem.PageSize%2 == 1 {
				p.syscall(unix.SYS_MADVISE, uint64(at), mem.PageSize, unix.MADV_RANDOM)
			}
		}
	}
}

func (g *rig) uncut(p *driven, r mem.Range) {
	p.syscall(unix.SYS_MADVISE, uint64(r.Start), r.Len(), unix.MADV_NORMAL)
}

// arena is where the tests map; a page table ends in its middle.
var arena = mem.Range{Start: 0x2001e0000, End: 0x200220000}

// setup writes the stub to a folder.
func setup(t testing.TB) (path string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, for mlockall and MADV_POPULATE of more than the limit")
	}
	path = filepath.Join(t.TempDir(), "stub")
	if err := os.WriteFile(path, stub(), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// The file that is mapped: int3, ends within a page.
const (
	filePages = 2000
	fileSize  = filePages*mem.PageSize - 100
)

var int3 = bytes.Repeat([]byte{0xcc}, mem.PageSize)
