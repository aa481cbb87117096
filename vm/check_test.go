package vm

import (
	"strings"
	"testing"

	"vmsim/internal/pagetable"
	"vmsim/internal/phys"
	"vmsim/mem"
)

// The places of the process that TestCheckFinds breaks.
const (
	hugeText  = PIEBase               // r-x, one huge entry
	hugeData  = PIEBase + 0x200000    // rw-, one huge entry, then a page of .bss
	anonPage  = mem.VirtAddr(1 << 30) // written, rw-
	zeroRead  = anonPage + 0x1000     // read, rw-
	fileRead  = anonPage + 0x2000     // of the page cache, r--
	shared    = anonPage + 0x3000     // shared anonymous memory, written
	forkWrite = anonPage + 0x4000     // written before the fork, and in no other page table now
)

// TestCheckFinds breaks each structure of a machine in turn.
func TestCheckFinds(t *testing.T) {
	entry := func(p *Process, addr mem.VirtAddr) pagetable.Entry {
		e, _ := p.m.tables.Walk(p.root, addr)
		return e
	}
	// replace changes an entry and no reference.
	replace := func(p *Process, addr mem.VirtAddr, e pagetable.Entry) {
		if _, err := p.m.tables.Set(&p.root, addr, e); err != nil {
			panic(err)
		}
	}
	for _, tc := range []struct {
		name string
		do   func(m *Machine, p *Process)
		want string
	}{
		{"nothing", func(m *Machine, p *Process) {}, ""},
		{"leaked frame", func(m *Machine, p *Process) { m.phys.Alloc() }, "has 1 references, 0 are held"},
		{"leaked reference", func(m *Machine, p *Process) { m.phys.Get(entry(p, anonPage).PFN()) }, "writable, but its frame"},
		{"leaked reference of a cached page", func(m *Machine, p *Process) {
			m.phys.Get(entry(p, fileRead).PFN())
		}, "has 3 references, 2 are held"},
		{"leaked reference of a huge page", func(m *Machine, p *Process) {
			m.phys.Get(entry(p, hugeText).PFN() + 7)
		}, "has 3 references, 2 are held"},
		{"lost reference", func(m *Machine, p *Process) { m.phys.Put(entry(p, fileRead).PFN()) }, "has 1 references, 2 are held"},
		{"lost reference of a huge page", func(m *Machine, p *Process) {
			m.phys.Put(entry(p, hugeText).PFN() + 511)
		}, "has 1 references, 2 are held"},
		{"lost entry", func(m *Machine, p *Process) { replace(p, fileRead, 0); p.flushTLB() }, "has 2 references, 1 are held"},
		{"freed under a mapping", func(m *Machine, p *Process) { m.phys.Put(entry(p, shared).PFN()); m.phys.Put(entry(p, shared).PFN()) }, "frame"},
		{"beyond the permission", func(m *Machine, p *Process) {
			replace(p, fileRead, entry(p, fileRead).WithProt(rx))
		}, "page 0x40002000: entry grants r-x, areas permit r--"},
		{"permission of the area taken", func(m *Machine, p *Process) {
			p.areas.Protect(mem.PageOf(anonPage), ro)
		}, "page 0x40000000: entry grants rw-, areas permit r--"},
		{"huge entry beyond the permission", func(m *Machine, p *Process) {
			p.areas.Protect(mem.PageOf(hugeText+0x1ff000), ro)
		}, "page 0xa001ff000: entry grants r-x, areas permit r--"},
		{"no area", func(m *Machine, p *Process) { p.areas.Remove(mem.PageOf(anonPage)) }, "page 0x40000000 is mapped where no area is"},
		{"no area under a huge entry", func(m *Machine, p *Process) {
			p.areas.Remove(mem.PageOf(hugeText + 0x5000))
		}, "page 0xa00005000 is mapped where no area is"},
		{"broken areas", func(m *Machine, p *Process) {
			p.areas.Resize(StackTop-stackInitial, mem.Range{Start: StackTop - stackInitial, End: StackTop + 1})
		}, "ends inside a page"},
		{"cached page writable", func(m *Machine, p *Process) {
			p.areas.Protect(mem.PageOf(fileRead), rw)
			replace(p, fileRead, entry(p, fileRead).WithProt(rw))
		}, "page 0x40002000 is writable, but its frame"},
		{"huge page writable", func(m *Machine, p *Process) {
			if err := m.tables.Split(&p.root, hugeData); err != nil {
				panic(err)
			}
			replace(p, hugeData, entry(p, hugeData).WithProt(rw))
		}, "page 0xa00200000 is writable, but its frame"},
		{"zero page writable", func(m *Machine, p *Process) {
			replace(p, zeroRead, pagetable.Make(m.zero, rw).Special())
		}, "page 0x40001000 is writable, but its frame"},
		{"zero page written", func(m *Machine, p *Process) { m.phys.Page(m.zero)[4095] = 1 }, "is not zero"},
		{"another frame as the zero page", func(m *Machine, p *Process) {
			replace(p, anonPage, entry(p, anonPage).Special())
		}, "is mapped as the zero page"},
		{"two writers of one frame", func(m *Machine, p *Process) {
			pfn := entry(p, forkWrite).PFN()
			m.phys.Get(pfn)
			m.tables.Put(entry(p, anonPage))
			replace(p, anonPage, pagetable.Make(pfn, rw))
		}, "has 2 references"},
		{"stale translation", func(m *Machine, p *Process) {
			old := entry(p, anonPage)
			replace(p, anonPage, 0)
			m.tables.Put(old)
		}, "page 0x40000000: the TLB grants rw-"},
		{"stale permission in the TLB", func(m *Machine, p *Process) {
			replace(p, anonPage, entry(p, anonPage).WithProt(ro))
		}, "page 0x40000000: the TLB grants rw-"},
		{"no flush at fork", func(m *Machine, p *Process) {
			tag := p.tag
			p.Fork()
			p.tag = tag // a bug of the Kevlar kernel
		}, "the TLB grants rw-"},
		{"cache loses a page", func(m *Machine, p *Process) {
			m.phys.Frame(entry(p, fileRead).PFN()).Flags &^= phys.Cached
		}, "page cache: frame"},
		{"huge cache loses a frame", func(m *Machine, p *Process) {
			m.phys.Frame(entry(p, hugeText).PFN() + 9).Flags &^= phys.Huge
		}, "huge-page cache: frame"},
		{"process outside the machine", func(m *Machine, p *Process) { delete(m.procs, p.PID) }, "references"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, err := New(Config{Memory: 16 << 20, Policy: kevlar(t, 0)})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close() // not Reset: the machine is broken
			p := boot(t, m)
			exec(t, p, "windows")
			mmap(t, p, Mapping{Addr: anonPage, Len: 2 * mem.PageSize, Prot: rw})
			mmap(t, p, Mapping{Addr: fileRead, Len: mem.PageSize, Prot: ro, File: mustPrograms(t, "small")[0].images[0].file})
			mmap(t, p, Mapping{Addr: shared, Len: mem.PageSize, Prot: rw, Shared: true})
			mmap(t, p, Mapping{Addr: forkWrite, Len: mem.PageSize, Prot: rw})
			touch(t, p, forkWrite, mem.Write, Minor)
			p.Fork().Exit()
			touch(t, p, zeroRead, mem.Read, Minor)
			touch(t, p, fileRead, mem.Read, Major)
			touch(t, p, shared, mem.Write, Minor)
			touch(t, p, anonPage, mem.Write, Minor)
			touch(t, p, forkWrite, mem.Write, NoFault) // the child is gone: the nodes are p's alone
			for _, at := range []mem.VirtAddr{hugeText, hugeData} {
				if !entry(p, at).IsHuge() {
					t.Fatalf("no huge entry at %v", at)
				}
			}

			tc.do(m, p)
			switch err := m.Check(); {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("Check: %v\nwant %s", err, tc.want)
			}
		})
	}
}

// A machine in Fortress that breaks an invariant panics at the next operation.
func TestFortressPanics(t *testing.T) {
	m, err := New(Config{Memory: 4 << 20, Hardening: Fortress})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p := boot(t, m)
	m.phys.Alloc()
	defer func() {
		if r := recover(); r == nil {
			t.Error("no panic")
		}
	}()
	p.Fork()
}

// Reset says how many frames were lost.
func TestResetPanicsOnLeak(t *testing.T) {
	m, err := New(Config{Memory: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.phys.Alloc()
	defer func() {
		if r := recover(); r != "vm: 1 frames leaked" {
			t.Errorf("panic: %v", r)
		}
	}()
	m.Reset()
}
