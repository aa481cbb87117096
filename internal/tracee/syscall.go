//go:build linux && amd64

package tracee

import (
	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// Calls of x86-64 that Call tells, as far as they return: memory and processes.
var Calls = []int{
	unix.SYS_MMAP, unix.SYS_MPROTECT, unix.SYS_MUNMAP, unix.SYS_BRK, unix.SYS_MREMAP, unix.SYS_MADVISE,
	unix.SYS_SHMAT, unix.SYS_SHMDT, unix.SYS_MLOCK, unix.SYS_MLOCK2, unix.SYS_MLOCKALL, unix.SYS_MUNLOCK,
	unix.SYS_MUNLOCKALL, unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_EXECVE,
	unix.SYS_EXECVEAT, unix.SYS_REMAP_FILE_PAGES, unix.SYS_PKEY_MPROTECT, unix.SYS_PROCESS_MADVISE,
	unix.SYS_MSEAL, unix.SYS_PRCTL, unix.SYS_PERSONALITY, unix.SYS_SECCOMP,
}

// told is Calls as a table.
var told = func() (t [512]bool) {
	for _, nr := range Calls {
		t[nr] = true
	}
	return t
}()

// changesMemory reports whether nr is of Calls and of memory.
func changesMemory(nr int) bool {
	switch nr {
	case unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_FORK, unix.SYS_VFORK, unix.SYS_EXECVE, unix.SYS_EXECVEAT,
		unix.SYS_PRCTL, unix.SYS_PERSONALITY, unix.SYS_SECCOMP:
		return false
	}
	return nr >= 0 && nr < len(told) && told[nr]
}

// syscallStop handles the stop at the entry or the exit of a system call. It returns
// false if the task is not there any more, see killed.
func (s *Session) syscallStop(t *task) bool {
	var info syscallInfo
	if getSyscallInfo(t.tid, &info) != nil {
		return false
	}
	switch info.op {
	case infoEntry:
		s.enter(t, &info)
	case infoExit:
		s.exit(t, &info)
	default:
		return false
	}
	return true
}

// enter handles the entry of a call.
func (s *Session) enter(t *task, info *syscallInfo) {
	t.inCall = true
	t.call = call{nr: -1}
	if info.arch != unix.AUDIT_ARCH_X86_64 || info.nr >= uint64(len(told)) || !told[info.nr] {
		return
	}
	t.call = call{nr: int(info.nr), args: info.args, entry: now()}
	if t.call.nr == unix.SYS_MUNMAP || t.call.nr == unix.SYS_SHMDT {
		s.tell(&Entered{Time: t.call.entry, TID: t.tid, PID: t.proc.pid, Nr: t.call.nr})
	}
	if s.cfg.Mode != Complete || t.space == nil {
		return
	}
	switch t.call.nr {
	case unix.SYS_EXECVE, unix.SYS_EXECVEAT:
		e := &ExecEntry{TID: t.tid, PID: t.proc.pid, Shared: t.space.users > 1}
		if t.space.users == t.proc.threads {
			e.Present = t.space.own(s.present(t))
		}
		e.Time = now()
		s.tell(e)
	case unix.SYS_MREMAP, unix.SYS_REMAP_FILE_PAGES:
		if t.space.off == "" && t.space.cut.overlaps(oldRange(t.call.args)) {
			s.skip(t, info.ip)
		}
	}
}

// exit handles the return of a call.
func (s *Session) exit(t *task, info *syscallInfo) {
	if !t.inCall && !t.call.execed {
		return // of the call in which it was made
	}
	t.inCall = false
	c := t.call
	t.call = call{nr: -1}
	if c.execed { // told by PTRACE_EVENT_EXEC
		if s.cfg.Mode == Complete {
			s.cutProgram(t)
		}
		return
	}
	if c.nr < 0 {
		return
	}
	ret := info.ret()
	if c.skipped {
		s.redo(t, c)
		return
	}
	e := s.returned(t, c, ret)
	if s.cfg.Mode == Complete && t.space != nil && e != nil {
		s.follow(t, e)
	}
}

// returned tells of a call, and returns what it told; nil of an execve.
func (s *Session) returned(t *task, c call, ret int64) *Call {
	at := now()
	if c.nr == unix.SYS_EXECVE || c.nr == unix.SYS_EXECVEAT {
		e := &ExecFailed{Time: at, TID: t.tid, PID: t.proc.pid, Errno: int(-ret)}
		path := c.args[0]
		if c.nr == unix.SYS_EXECVEAT {
			path = c.args[1]
		}
		if e.Errno != int(unix.EFAULT) {
			e.Path, _ = readString(t.tid, path)
		}
		s.tell(e)
		return nil
	}
	e := &Call{Time: at, Entry: c.entry, TID: t.tid, PID: t.proc.pid, Nr: c.nr, Args: c.args, Ret: ret}
	if !failed(ret) {
		switch c.nr {
		case unix.SYS_MMAP:
			e.File = mmapFile(t.tid, c.args)
		case unix.SYS_SHMAT:
			e.File, e.Size = s.shmFile(t.tid, mem.VirtAddr(ret))
		case unix.SYS_CLONE, unix.SYS_CLONE3, unix.SYS_FORK, unix.SYS_VFORK:
			if !c.forked {
				s.note(t.proc.pid, "made task %d with CLONE_UNTRACED: it is not followed", ret)
			}
		}
	}
	s.tell(e)
	return e
}

// failed reports whether ret is an errno.
func failed(ret int64) bool { return ret < 0 && ret >= -4095 }

// callRange is the pages of addr and length as the kernel rounds them.
func callRange(addr, length uint64) mem.Range {
	a := mem.VirtAddr(addr)
	end, ok := a.Add(length)
	if !ok || end > mem.UserEnd {
		end = mem.UserEnd
	}
	if a > end {
		return mem.Range{}
	}
	return mem.Range{Start: a, End: end}.PageAlign()
}

// mmapFile identifies what a successful mmap mapped, nil for private anonymous memory.
func mmapFile(tid int, args [6]uint64) *File {
	flags := args[3]
	shared := flags&unix.MAP_TYPE != unix.MAP_PRIVATE
	if flags&unix.MAP_ANONYMOUS != 0 {
		switch {
		case flags&unix.MAP_HUGETLB != 0:
			return &File{Kind: Hugetlb}
		case shared:
			return &File{Kind: SharedAnon}
		}
		return nil
	}
	f, err := fdFile(tid, int(int32(args[4])))
	if err != nil {
		return &File{Kind: Device} // closed by another thread meanwhile: nothing is known, nothing is cut
	}
	if f.Kind == SharedAnon && f.Path == "/dev/zero" && !f.Deleted && !shared {
		f.Kind = Anonymous
	}
	return f
}

// shmFile identifies the segment that shmat mapped at addr, and its size.
func (s *Session) shmFile(tid int, addr mem.VirtAddr) (*File, uint64) {
	maps, _, err := s.readMaps(tid)
	if err != nil {
		return nil, 0
	}
	for _, a := range maps {
		if a.Start == addr {
			f, err := areaFile(tid, a)
			if err != nil {
				f = &File{Kind: SysV, Path: a.Path, Ino: a.Ino, Dev: unix.Mkdev(a.Major, a.Minor), Size: int64(a.Len())}
			}
			return f, a.Len()
		}
	}
	return nil, 0
}
