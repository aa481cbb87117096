//go:build linux && amd64

package tracee

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"vmsim/internal/elfhead"
	"vmsim/mem"
)

// execed handles PTRACE_EVENT_EXEC: the new program stands before its first
// instruction, all other threads are gone. If one that is not the leader called
// execve it has the leader's number by now. It returns the task as it is.
func (s *Session) execed(t *task) *task {
	if msg, err := eventMsg(t.tid); err == nil {
		if f := s.tasks[int(msg)]; f != nil && f != t {
			// The old leader was told to exit, or is gone without.
			if !t.exiting {
				s.leave(t)
			}
			delete(s.tasks, f.tid)
			former := f.tid
			*t = task{tid: t.tid, proc: f.proc, space: f.space, started: true, call: f.call, inCall: f.inCall}
			s.newProgram(t, former)
			return t
		}
	}
	s.newProgram(t, t.tid)
	return t
}

// newProgram gives t memory of its own and tells of the exec.
func (s *Session) newProgram(t *task, former int) {
	if t.tid == s.pid {
		s.begun = true
	}
	if t.space != nil {
		t.space.users--
	}
	t.space = &space{users: 1}
	t.proc.threads = 1
	t.call.execed = true
	e := &Exec{PID: t.proc.pid, FormerTID: former}
	missing := s.describe(t, e)
	e.Missing = strings.Join(missing, "; ")
	if s.cfg.Mode == Complete {
		e.Present = s.present(t)
	}
	e.Time = now()
	s.tell(e)
	if t.proc.compat {
		s.note(e.PID, "a 32-bit program: its calls are not told, its areas not cut")
	}
	if os.Geteuid() != 0 && s.setuid(t) {
		s.note(e.PID, "set-user-ID or set-group-ID is not honoured under an unprivileged tracer")
	}
}

func (s *Session) setuid(t *task) bool {
	var st unix.Stat_t
	return unix.Stat(procPath(t.tid, "exe"), &st) == nil && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0
}

// describe fills e from /proc and the registers. It returns what could not be read.
func (s *Session) describe(t *task, e *Exec) (missing []string) {
	miss := func(err error) bool {
		if err != nil {
			missing = append(missing, err.Error())
		}
		return err != nil
	}
	var regs unix.PtraceRegs
	if !miss(getRegs(t.tid, &regs)) {
		e.SP, e.IP = mem.VirtAddr(regs.Rsp), mem.VirtAddr(regs.Rip)
	}
	maps, lines, err := s.readMaps(t.tid)
	miss(err)
	e.Maps, t.space.areas = maps, lines
	for _, a := range maps {
		switch {
		case a.Path == "[stack]":
			e.Stack = a.Range
		case a.Path == "[vdso]":
			e.VDSO = a.Range
		case strings.HasPrefix(a.Path, "[vvar"):
			if e.VVar.Empty() {
				e.VVar.Start = a.Start
			}
			e.VVar.End = a.End
		}
	}
	st, err := s.readStat(t.tid)
	miss(err)
	e.MinFlt, e.MajFlt, e.Injected = st.minflt, st.majflt, t.proc.injected
	e.StackStart, e.StartBrk = mem.VirtAddr(st.startStack), mem.VirtAddr(st.startBrk)
	e.Argv, err = s.readArgv(t.tid)
	miss(err)
	auxv, err := s.readAuxv(t.tid)
	miss(err)
	e.Entry, e.Phdr, e.Base = mem.VirtAddr(auxv[atEntry]), mem.VirtAddr(auxv[atPhdr]), mem.VirtAddr(auxv[atBase])
	if fn := auxv[atExecFn]; fn != 0 {
		e.ExecFn, _ = readString(t.tid, fn)
	}
	file, err := identify(procPath(t.tid, "exe"))
	if miss(err) {
		return missing
	}
	e.File, e.Path = *file, file.Path
	h, err := s.head(t.tid, file)
	if miss(err) {
		return missing
	}
	e.Interp = h.interp
	t.proc.compat = h.Class != 64
	if h.Type == elfhead.TypeDyn && e.Entry != 0 {
		e.Bias = e.Entry - mem.VirtAddr(h.Entry)
	}
	if s.vdsoEntry >= 0 && !e.VDSO.Empty() && uint64(s.vdsoEntry) < e.VDSO.Len() {
		t.space.vdsoCall = uint64(e.VDSO.Start) + uint64(s.vdsoEntry)
	}
	return missing
}

// head reads the ELF header of tid's program, once for each file.
func (s *Session) head(tid int, file *File) (*head, error) {
	key := headKey{file.Dev, file.Ino, file.Size, file.Mtime}
	if h := s.heads[key]; h != nil {
		return h, nil
	}
	f, err := os.Open(procPath(tid, "exe"))
	if err != nil {
		return nil, fmt.Errorf("/proc/PID/exe: %w", err)
	}
	defer f.Close()
	eh, err := elfhead.Read(f, file.Size)
	if err != nil {
		return nil, fmt.Errorf("/proc/PID/exe: %w", err)
	}
	h := &head{Head: eh}
	const ptInterp, pathMax = 3, 4096
	for _, p := range eh.Progs {
		if p.Type == ptInterp && p.Filesz > 1 && p.Filesz <= pathMax {
			b := make([]byte, p.Filesz)
			if _, err := io.ReadFull(io.NewSectionReader(f, int64(p.Off), int64(p.Filesz)), b); err == nil {
				h.interp, _, _ = strings.Cut(string(b), "\x00")
			}
			break
		}
	}
	const keep = 4096 // programs; more are read anew
	if len(s.heads) < keep {
		s.heads[key] = h
	}
	return h, nil
}
