package importer

import (
	"fmt"
	"strings"

	"vmsim/mem"
	"vmsim/trace"
)

// segment is a System V shared-memory segment.
type segment struct {
	key  uint64 // 0: IPC_PRIVATE
	size uint64 // bytes
}

// pagesOf rounds an address down as SHM_RND does (SHMLBA is a page on x86-64).
func pagesOf(a mem.VirtAddr) mem.VirtAddr { return a &^ (mem.PageSize - 1) }

func (s *strace) shmget(t *task, c *call) error {
	if c.result.none || c.result.errno != 0 {
		return nil
	}
	r := c.read()
	var key uint64
	if text := arg(c.args, 0); !strings.Contains(text, "IPC_PRIVATE") {
		key = r.number(0, "key")
	}
	size, flags := r.number(1, "size"), r.flags(2, "flags", shmWords)
	if r.err != nil {
		return r.err
	}
	id := c.result.value
	switch made := key == 0 || flags&(ipcCreate|ipcExclusive) == ipcCreate|ipcExclusive; {
	case made || s.shm[id].size == 0 && flags&ipcCreate != 0:
		if !made {
			s.lacks.sizes++
		}
		s.shm[id] = segment{key, size}
	case s.shm[id].size == 0:
		delete(s.shm, id) // it was there before: its size is not that of the call
	}
	return nil
}

// shmctl learns a segment's size from IPC_STAT.
func (s *strace) shmctl(t *task, c *call) error {
	if c.result.none || c.result.errno != 0 || !strings.Contains(arg(c.args, 1), "IPC_STAT") {
		return nil
	}
	id, err := parseNumber(arg(c.args, 0))
	text, ok := field(arg(c.args, 2), "shm_segsz")
	if size, bad := parseNumber(text); err == nil && ok && bad == nil {
		s.shm[id] = segment{s.shm[id].key, size}
	}
	return nil
}

func (s *strace) shmat(t *task, c *call) error {
	r := c.read()
	id := r.number(0, "segment")
	op := trace.Op{Kind: trace.OpShmat, Addr: r.addr(1), Prot: mem.ProtRead}
	flags := r.flags(2, "flags", shmWords)
	if r.err != nil || c.result.none || c.result.errno != 0 || c.result.injected {
		if r.err == nil && c.result.errno == 0 {
			s.lacks.unanswered++
		}
		return r.err // a failed one changes nothing, and has no file
	}
	if flags&shmReadOnly == 0 {
		op.Prot |= mem.ProtWrite
	}
	if flags&shmExec != 0 {
		op.Prot |= mem.ProtExec
	}
	if flags&shmRound != 0 {
		op.Addr = pagesOf(op.Addr)
	}
	if flags&shmRemap != 0 {
		s.lacks.remaps++
	}
	g, ok := s.shm[id]
	if !ok {
		s.lacks.segments++
		return nil
	}
	op.Len = g.size
	op.Path = fmt.Sprintf("/SYSV%08x#%d", g.key, id)
	if err := s.describe(op.Path, nil, trace.FileInfo{Kind: trace.SharedFile, Size: g.size}); err != nil {
		return err
	}
	return s.answered(t, c, op, nil)
}

func (s *strace) shmdt(t *task, c *call) error {
	r := c.read()
	return s.answered(t, c, trace.Op{Kind: trace.OpShmdt, Addr: r.addr(0)}, r.err)
}
