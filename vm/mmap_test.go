package vm

import (
	"errors"
	"syscall"
	"testing"

	"vmsim/mem"
)

// What is too large for the model, which has a record for every page.
func TestHugeRanges(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p := boot(t, m)
	const tib = 1 << 40
	for _, tc := range []struct {
		name string
		a    Mapping
		at   mem.VirtAddr
		err  error
	}{
		{"the largest gap", Mapping{Len: uint64(MmapBase - MmapMin), Prot: rw}, MmapMin, nil},
		{"no gap left", Mapping{Len: mem.PageSize, Prot: rw}, 0, syscall.ENOMEM},
		{"over all of it", Mapping{Addr: 0, Len: uint64(mem.UserEnd), Prot: ro, Fixed: true}, 0, nil},
		{"a page more than there is", Mapping{Addr: 0, Len: uint64(mem.UserEnd) + 1, Prot: ro, Fixed: true}, 0, syscall.ENOMEM},
		{"shared, 8 TiB", Mapping{Addr: 8 * tib, Len: 8 * tib, Prot: rw, Shared: true, Fixed: true}, 8 * tib, nil},
		{"shared, more", Mapping{Addr: 8 * tib, Len: 8*tib + 1, Prot: rw, Shared: true, Fixed: true}, 0, syscall.ENOMEM},
	} {
		if at, err := p.Mmap(tc.a); at != tc.at || err != tc.err {
			t.Errorf("%s: %v, %v, want %v, %v", tc.name, at, err, tc.at, tc.err)
		}
	}
	touch(t, p, 16*tib-1, mem.Write, Minor)
	c := p.Fork()
	write(t, p, 16*tib-4, "last")
	reads(t, c, 16*tib-4, "last")
	if err := p.Munmap(0, uint64(mem.UserEnd)); err != nil || p.AreaCount() != 0 {
		t.Errorf("%v, %d areas left", err, p.AreaCount())
	}
	reads(t, c, 16*tib-4, "last")
}

// A process that never exec'ed has no heap to grow from address 0.
func TestBrkWithoutProgram(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20})
	p := boot(t, m)
	if got := p.Brk(0x10000); got != 0 || p.AreaCount() != 0 {
		t.Errorf("brk: %v, %d areas", got, p.AreaCount())
	}
}

// Shared anonymous memory goes with its last mapping, however that is lost.
func TestSharedMemoryIsFreed(t *testing.T) {
	for name, lose := range map[string]func(p *Process, at mem.VirtAddr) error{
		"munmap": func(p *Process, at mem.VirtAddr) error { return p.Munmap(at, mem.PageSize) },
		"mmap over it": func(p *Process, at mem.VirtAddr) error {
			_, err := p.Mmap(Mapping{Addr: at, Len: mem.PageSize, Prot: ro, Fixed: true})
			return err
		},
		"exit": func(p *Process, _ mem.VirtAddr) error { p.Exit(); return nil },
		"exec": func(p *Process, _ mem.VirtAddr) error { return p.Exec(mustPrograms(t, "small")[0].prog) },
		"kill": func(p *Process, _ mem.VirtAddr) error { p.Kill("segv"); return nil },
	} {
		m := newMachine(t, Config{Memory: 4 << 20})
		p := boot(t, m)
		at := mmap(t, p, Mapping{Len: mem.PageSize, Prot: rw, Shared: true})
		touch(t, p, at, mem.Write, Minor)
		c := p.Fork()
		for i, q := range []*Process{p, c} {
			if err := lose(q, at); err != nil {
				t.Fatal(err)
			}
			if n := m.CacheStats().Pages; n != 1-i {
				t.Errorf("%s of process %d: %d pages of shared memory left, want %d", name, q.PID, n, 1-i)
			}
		}
	}
}

// A process that ended holds nothing and is given nothing.
func TestEndedProcess(t *testing.T) {
	m, err := New(Config{Memory: 4 << 20, Hardening: Fortress})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := m.Boot(nil)
	if err != nil {
		t.Fatal(err)
	}
	at, err := p.Mmap(Mapping{Len: mem.PageSize, Prot: mem.ProtRead | mem.ProtWrite})
	if err != nil {
		t.Fatal(err)
	}
	p.Exit()
	if _, err := p.Mmap(Mapping{Len: mem.PageSize}); err != syscall.ESRCH {
		t.Errorf("mmap: %v", err)
	}
	if err := p.Munmap(at, mem.PageSize); err != syscall.ESRCH {
		t.Errorf("munmap: %v", err)
	}
	if err := p.Mprotect(at, mem.PageSize, mem.ProtRead); err != syscall.ESRCH {
		t.Errorf("mprotect: %v", err)
	}
	if err := p.Exec(Program{}); err != syscall.ESRCH {
		t.Errorf("exec: %v", err)
	}
	var segv *Segfault
	if _, err := p.Touch(at, mem.Read); !errors.As(err, &segv) {
		t.Errorf("touch: %v", err)
	}
	if got := p.Brk(at); got != 0 {
		t.Errorf("brk: %v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("fork did not panic")
		}
	}()
	p.Fork()
}

// Splitting an area needs room for one more, as vm.max_map_count has it.
func TestSplitAtMaxAreas(t *testing.T) {
	m, err := New(Config{Memory: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := m.Boot(nil)
	if err != nil {
		t.Fatal(err)
	}
	const base = mem.VirtAddr(1 << 32)
	rw := mem.ProtRead | mem.ProtWrite
	if _, err := p.Mmap(Mapping{Addr: base, Fixed: true, Len: 2 * MaxAreas * mem.PageSize, Prot: rw}); err != nil {
		t.Fatal(err)
	}
	for p.AreaCount()+2 <= MaxAreas { // every other page
		at := base + mem.VirtAddr(p.AreaCount()*mem.PageSize)
		if err := p.Mprotect(at, mem.PageSize, mem.ProtRead); err != nil {
			t.Fatalf("%d areas: %v", p.AreaCount(), err)
		}
	}
	last := base + (2*MaxAreas-3)*mem.PageSize
	if p.AreaCount() == MaxAreas-1 {
		if err := p.Mprotect(last+2*mem.PageSize, mem.PageSize, mem.ProtRead); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Mprotect(last, mem.PageSize, mem.ProtRead); err != syscall.ENOMEM {
		t.Errorf("mprotect with %d areas: %v", p.AreaCount(), err)
	}
	if err := p.Munmap(last, mem.PageSize); err != syscall.ENOMEM {
		t.Errorf("munmap with %d areas: %v", p.AreaCount(), err)
	}
	if err := p.Munmap(base, mem.PageSize); err != nil {
		t.Errorf("munmap of a whole area: %v", err)
	}
}
