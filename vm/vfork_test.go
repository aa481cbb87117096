package vm

import (
	"errors"
	"testing"

	"vmsim/mem"
	"vmsim/vma"
)

// What one of two processes in one memory does, the other sees, until it execs.
func TestVfork(t *testing.T) {
	m := newMachine(t, Config{Memory: 16 << 20, Hardening: Fortress})
	p := boot(t, m, "small")
	at := mmap(t, p, Mapping{Len: mem.PageSize, Prot: rw})
	write(t, p, at, "parent")
	c, d := p.Vfork(), p.Vfork()
	if !p.SharesMemory() || !c.SharesMemory() || c.PID == d.PID {
		t.Fatal("the memory is not shared")
	}
	touch(t, c, at, mem.Write, NoFault) // no copy
	write(t, c, at, "child!")
	reads(t, p, at, "child!")
	other := mmap(t, c, Mapping{Len: mem.PageSize, Prot: rw})
	write(t, p, other, "both")
	reads(t, d, other, "both")
	if got, want := d.Brk(d.Brk(0)+100), p.Brk(0); got != want {
		t.Errorf("brk is %v in the child, %v in the parent", got, want)
	}

	exec(t, c, "small")
	if _, err := c.Touch(at, mem.Read); err == nil {
		t.Error("the parent's memory is there after exec")
	}
	reads(t, p, at, "child!")
	p.Exit()
	reads(t, d, at, "child!") // until the last one leaves
	f := d.Fork()             // a copy of what was shared
	write(t, d, at, "third!")
	reads(t, f, at, "child!")
	before := m.FreeFrames()
	d.Exit()
	if m.FreeFrames() <= before {
		t.Error("the last exit freed nothing")
	}
}

// Of a memory that runs out all who share it are killed.
func TestOOMKillsSharers(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20})
	p := boot(t, m)
	at := mmap(t, p, Mapping{Len: 8 << 20, Prot: rw})
	c := p.Vfork()
	err := error(nil)
	for off := mem.VirtAddr(0); err == nil; off += mem.PageSize {
		_, err = c.Touch(at+off, mem.Write)
	}
	var oom *OOMKill
	if !errors.As(err, &oom) || oom.PID != c.PID {
		t.Fatal(err)
	}
	if !p.Ended() || !c.Ended() || len(m.Processes()) != 0 {
		t.Error("a process lives on")
	}
}

// What madvise and mlock named, a fork's child has otherwise.
func TestForkAdvice(t *testing.T) {
	for _, tc := range []struct {
		name   string
		advice []Advice
		child  string // what the child reads; empty: nothing is there
	}{
		{"none", nil, "data"},
		{"DONTFORK", []Advice{AdviseDontFork}, ""},
		{"DONTFORK, DOFORK", []Advice{AdviseDontFork, AdviseDoFork}, "data"},
		{"WIPEONFORK", []Advice{AdviseWipeOnFork}, "\x00\x00\x00\x00"},
		{"WIPEONFORK, KEEPONFORK", []Advice{AdviseWipeOnFork, AdviseKeepOnFork}, "data"},
		{"WIPEONFORK, DONTFORK", []Advice{AdviseWipeOnFork, AdviseDontFork}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
			p := boot(t, m)
			at := mmap(t, p, Mapping{Len: 3 * mem.PageSize, Prot: rw, Locked: true})
			for off := mem.VirtAddr(0); off < 3*mem.PageSize; off += mem.PageSize {
				write(t, p, at+off, "data")
			}
			for _, a := range tc.advice {
				if err := p.Madvise(at+mem.PageSize, mem.PageSize, a); err != nil {
					t.Fatal(err)
				}
			}
			c := p.Fork()
			reads(t, c, at, "data")
			reads(t, c, at+2*mem.PageSize, "data")
			reads(t, p, at+mem.PageSize, "data")
			if tc.child == "" {
				if _, err := c.Touch(at+mem.PageSize, mem.Read); err == nil {
					t.Error("the child has it")
				}
			} else {
				reads(t, c, at+mem.PageSize, tc.child)
				write(t, c, at+mem.PageSize, "data") // its own child has it, or zeros, as it had
				reads(t, c.Fork(), at+mem.PageSize, tc.child)
			}
			for v := range c.Areas() {
				if v.Flags&vma.Locked != 0 {
					t.Errorf("the child has locked memory: %v", v)
				}
			}
		})
	}
}
