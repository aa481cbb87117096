package vm

import (
	"maps"
	"slices"

	"vmsim/internal/pagetable"
	"vmsim/mem"
	"vmsim/vma"
)

// mm is an address space (Linux: mm_struct). A process has one; after Vfork
// several processes have the same, until each execs or ends.
type mm struct {
	areas *vma.Set
	root  pagetable.Root
	tag   uint64 // of its translations in the TLB
	users int    // processes that run in it

	brkStart, brk mem.VirtAddr
	stackTop      mem.VirtAddr // end of the stack that exec made; 0 without one
	stackLimit    uint64       // bytes that the stack may grow to, beyond StackLimit; 0: StackLimit
	objects       []Object

	shared  map[uint32]int // pages mapped of each shared object, by its number; nil: none
	locking vma.Flags      // what new areas get: mlockall(MCL_FUTURE)
	flagged bool           // an area has, or had, a flag that a fork's child does not get
}

func (m *Machine) newMM(areas *vma.Set) *mm {
	return &mm{areas: areas, tag: m.tlb.NewTag(), users: 1}
}

// forkMM returns a copy of s (Linux: dup_mmap), and gives s a new TLB tag: a
// writable translation from before would write to the shared page.
func (m *Machine) forkMM(s *mm) *mm {
	c := m.newMM(s.areas.Clone())
	c.root = m.tables.Fork(s.root)
	c.brkStart, c.brk, c.stackTop, c.objects = s.brkStart, s.brk, s.stackTop, s.objects
	c.flagged, c.stackLimit = s.flagged, s.stackLimit
	if len(s.shared) > 0 {
		c.shared = maps.Clone(s.shared)
		for no := range c.shared {
			m.shared[no].spaces++
		}
	}
	s.tag = m.tlb.NewTag()
	return c
}

// leave ends one process's use of s. With the last one all that s holds goes.
func (m *Machine) leave(s *mm) {
	if s.users--; s.users > 0 {
		return
	}
	m.tables.Free(&s.root)
	m.forgetObjects(s)
}

// forgetObjects takes away all that s maps of shared objects.
func (m *Machine) forgetObjects(s *mm) {
	if len(s.shared) == 0 {
		return
	}
	for _, no := range slices.Sorted(maps.Keys(s.shared)) { // in order: frames are freed
		m.dropShared(s, no, s.shared[no])
	}
}

// spaces returns each address space of ps once.
func spaces(ps []*Process) []*mm {
	out := make([]*mm, 0, len(ps))
	for _, p := range ps {
		if p.users == 1 || !slices.Contains(out, p.mm) {
			out = append(out, p.mm)
		}
	}
	return out
}
