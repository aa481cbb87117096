package vm

import (
	"errors"
	"syscall"
	"testing"

	"vmsim/mem"
)

// A part of a program that is one huge entry moves: whole where the distance
// allows it, split otherwise. No page is read again, and the bytes stay.
func TestMremapHuge(t *testing.T) {
	for _, tc := range []struct {
		name    string
		old, to mem.VirtAddr
		n       uint64
		splits  int
	}{
		{"whole, to a window", PIEBase, 0x40000000, mem.HugeSize, 0},
		{"whole, elsewhere", PIEBase, 0x40001000, mem.HugeSize, 1},
		{"half of it", PIEBase, 0x40000000, mem.HugeSize / 2, 1},
		{"the middle, cut twice", PIEBase + 0x10000, 0x40010000, 0x10000, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t, Config{Memory: 16 << 20, Policy: kevlar(t, 0), Hardening: Fortress})
			p := boot(t, m)
			exec(t, p, "windows")
			want := make([]byte, tc.n)
			if err := p.Read(tc.old, want); err != nil {
				t.Fatal(err)
			}
			faults := p.Faults
			got, err := p.Mremap(Remap{Old: tc.old, OldLen: tc.n, NewLen: tc.n, MayMove: true, Fixed: true, New: tc.to})
			if got != tc.to || err != nil {
				t.Fatal(got, err)
			}
			sees(t, p, tc.to, want)
			if p.Faults != faults {
				t.Errorf("faults: %+v, before %+v", p.Faults, faults)
			}
			if n := m.Stats().Splits; n != tc.splits {
				t.Errorf("%d splits, want %d", n, tc.splits)
			}
			if _, err := p.Touch(tc.old, mem.Read); err == nil {
				t.Error("still there")
			}
		})
	}
}

// Entries that a fork shares are moved on one side, and copied on write on both.
func TestMremapAfterFork(t *testing.T) {
	m := newMachine(t, Config{Memory: 16 << 20, Hardening: Fortress})
	p := boot(t, m)
	at := mmap(t, p, Mapping{Len: 4 << 20, Prot: rw})
	write(t, p, at, "first")
	write(t, p, at+3<<20, "last")
	c := p.Fork()
	to, err := c.Mremap(Remap{Old: at, OldLen: 4 << 20, NewLen: 5 << 20, MayMove: true, At: 0x40003000})
	if to != 0x40003000 || err != nil {
		t.Fatal(to, err)
	}
	reads(t, c, to, "first")
	touch(t, c, to, mem.Write, CoW)
	write(t, c, to, "child")
	reads(t, p, at, "first")
	reads(t, p, at+3<<20, "last")
	reads(t, c, to+3<<20, "last")
	p.Exit()
	touch(t, c, to+3<<20, mem.Write, CoW) // taken over
	reads(t, c, to+3<<20, "last")
}

// Where the result lies if nothing says where.
func TestMremapPlacement(t *testing.T) {
	const page = mem.PageSize
	for _, tc := range []struct {
		name string
		a    Remap // Old is counted from the mapping of 4 pages
		want func(at mem.VirtAddr) mem.VirtAddr
		err  error
	}{
		{"grows in place", Remap{OldLen: 4 * page, NewLen: 6 * page}, func(at mem.VirtAddr) mem.VirtAddr { return at }, nil},
		{"not its end", Remap{OldLen: 3 * page, NewLen: 6 * page}, nil, syscall.ENOMEM},
		{"moves", Remap{OldLen: 3 * page, NewLen: 6 * page, MayMove: true},
			func(at mem.VirtAddr) mem.VirtAddr { return MmapBase - 6*page }, nil},
		{"known to have moved", Remap{OldLen: 4 * page, NewLen: 6 * page, MayMove: true, At: 0x50000000},
			func(mem.VirtAddr) mem.VirtAddr { return 0x50000000 }, nil},
		{"may not move, whatever is known", Remap{OldLen: 4 * page, NewLen: 6 * page, At: 0x50000000},
			func(at mem.VirtAddr) mem.VirtAddr { return at }, nil},
		{"DONTUNMAP with a hint", Remap{OldLen: 2 * page, NewLen: 2 * page, MayMove: true, DontUnmap: true, New: 0x50000000},
			func(mem.VirtAddr) mem.VirtAddr { return 0x50000000 }, nil},
		{"no room at all", Remap{OldLen: 4 * page, NewLen: uint64(mem.UserEnd), MayMove: true}, nil, syscall.ENOMEM},
		{"longer than memory", Remap{OldLen: 4 * page, NewLen: uint64(mem.UserEnd) + page, MayMove: true}, nil, syscall.EINVAL},
	} {
		m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
		p := boot(t, m)
		const at = mem.VirtAddr(0x40000000)
		mmap(t, p, Mapping{Addr: at, Len: 4 * page, Prot: rw, Fixed: true})
		tc.a.Old = at
		got, err := p.Mremap(tc.a)
		if err != tc.err || err == nil && got != tc.want(at) {
			t.Errorf("%s: %v, %v", tc.name, got, err)
		}
	}
}

// Pages that several areas of a program share stay where they are.
func TestMremapOfSharedPages(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p := boot(t, m, "shared-memory-page")
	for _, fixed := range []bool{false, true} {
		a := Remap{Old: 0x402000, OldLen: mem.PageSize, NewLen: 2 * mem.PageSize, MayMove: true, Fixed: fixed, New: 0x50000000}
		if _, err := p.Mremap(a); err != syscall.EFAULT {
			t.Errorf("fixed %t: %v", fixed, err)
		}
	}
}

// A locked area that grows is populated; so is one that becomes writable.
func TestLockedMemoryIsPopulated(t *testing.T) {
	const page = mem.PageSize
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p := boot(t, m, "small")
	count := func(what string, want Faults, f func() error) {
		t.Helper()
		before := p.Populated
		if err := f(); err != nil {
			t.Fatal(what, err)
		}
		if got := p.Populated.Sub(before); got != want || p.Faults != (Faults{}) {
			t.Errorf("%s: %+v populated, want %+v; %+v touched", what, got, want, p.Faults)
		}
	}
	const at = mem.VirtAddr(0x40000000)
	count("mmap locked", Faults{Minor: 2}, func() error {
		_, err := p.Mmap(Mapping{Addr: at, Len: 2 * page, Prot: rw, Fixed: true, Locked: true})
		return err
	})
	count("mremap", Faults{Minor: 3}, func() error {
		_, err := p.Mremap(Remap{Old: at, OldLen: 2 * page, NewLen: 5 * page})
		return err
	})
	count("mprotect to read", Faults{}, func() error { return p.Mprotect(at, page, ro) })
	count("mlock of a file", Faults{Major: 2}, func() error {
		f, _ := pattern("file", 2)
		_, err := p.Mmap(Mapping{Addr: at + 16*page, Len: 2 * page, Prot: ro, Fixed: true, File: f})
		if err == nil {
			err = p.Mlock(at+16*page+1, page, false)
		}
		return err
	})
	count("mprotect to write", Faults{CoW: 2}, func() error { return p.Mprotect(at+16*page, 2*page, rw) })
	count("mlock on fault", Faults{}, func() error {
		_, err := p.Mmap(Mapping{Addr: at + 32*page, Len: 2 * page, Prot: rw, Fixed: true})
		if err == nil {
			err = p.Mlock(at+32*page, 2*page, true)
		}
		return err
	})
	count("mlockall", Faults{}, func() error { return p.Mlockall(LockAll{Future: true}) })
	count("mmap, to come", Faults{Minor: 1}, func() error {
		_, err := p.Mmap(Mapping{Addr: at + 48*page, Len: page, Prot: rw, Fixed: true})
		return err
	})
	count("brk", Faults{Minor: 1}, func() error { p.Brk(p.Brk(0) + page); return nil })
	count("munlockall", Faults{}, p.Munlockall)
	count("mmap, no more", Faults{}, func() error {
		_, err := p.Mmap(Mapping{Addr: at + 64*page, Len: page, Prot: rw, Fixed: true})
		return err
	})
	count("populate", Faults{Minor: 1}, func() error { return p.Madvise(at+64*page, page, AdvisePopulateRead) })
	count("populate for writing", Faults{CoW: 1}, func() error { return p.Madvise(at+64*page, page, AdvisePopulateWrite) })
	if got := m.Stats(); got.Populated != p.Populated || got.Faults.Total() != 0 {
		t.Errorf("%+v", got)
	}
}

// Populating more than there is kills, as a touch does.
func TestPopulateOOM(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	var oom *OOMKill
	for name, do := range map[string]func(p *Process) error{
		"mmap": func(p *Process) error {
			_, err := p.Mmap(Mapping{Len: 8 << 20, Prot: rw, Populate: true})
			return err
		},
		"mlock": func(p *Process) error {
			return p.Mlock(mmap(t, p, Mapping{Len: 8 << 20, Prot: rw}), 8<<20, false)
		},
		"madvise": func(p *Process) error {
			return p.Madvise(mmap(t, p, Mapping{Len: 8 << 20, Prot: rw}), 8<<20, AdvisePopulateWrite)
		},
	} {
		p := boot(t, m)
		if err := do(p); !errors.As(err, &oom) || !p.Ended() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A mapping that grows down does, to 8 MiB below its end, and not over another.
func TestGrowsDown(t *testing.T) {
	const page = mem.PageSize
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p := boot(t, m)
	const at = mem.VirtAddr(0x40000000)
	mmap(t, p, Mapping{Addr: at, Len: page, Prot: rw, Fixed: true, GrowsDown: true})
	touch(t, p, at-3*page, mem.Write, Minor)
	touch(t, p, at+page-StackLimit, mem.Write, Minor)
	if _, err := p.Touch(at+page-StackLimit-1, mem.Read); err == nil {
		t.Error("grew beyond the limit")
	}
	mmap(t, p, Mapping{Addr: 2 * at, Len: page, Prot: rw, Fixed: true, GrowsDown: true})
	mmap(t, p, Mapping{Addr: 2*at - 2*page, Len: page, Prot: ro, Fixed: true})
	touch(t, p, 2*at-1, mem.Write, Minor)
	if _, err := p.Touch(2*at-2*page, mem.Write); err == nil {
		t.Error("grew over another mapping")
	}
	f, _ := pattern("file", 1)
	for _, a := range []Mapping{{Shared: true}, {File: f}} {
		a.Len, a.GrowsDown = page, true
		if _, err := p.Mmap(a); err != syscall.EINVAL {
			t.Errorf("%+v: %v", a, err)
		}
	}
}
