package vm

import (
	"errors"
	"syscall"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/mem"
)

// pattern returns a file of n pages.
func pattern(name string, nPages int) (*mem.BytesFile, []byte) {
	b := make([]byte, nPages*mem.PageSize)
	elfgen.Pattern(0, b)
	return mem.NewBytesFile(name, b), b
}

// sees demands that all pages of [at, at+len(want)) hold want.
func sees(t testing.TB, p *Process, at mem.VirtAddr, want []byte) {
	t.Helper()
	for off := 0; off < len(want); off += mem.PageSize {
		got, _, err := p.ReadPage(at + mem.VirtAddr(off))
		if err == nil {
			err = sameBytes(got, want[off:off+mem.PageSize])
		}
		if err != nil {
			t.Fatalf("process %d: page %v: %v", p.PID, at+mem.VirtAddr(off), err)
		}
	}
}

// exhaust writes page after page of new memory until p is killed.
func exhaust(t testing.TB, p *Process) *OOMKill {
	t.Helper()
	const step = 1 << 30
	at := mmap(t, p, Mapping{Len: step, Prot: rw})
	for end := at + step; at < end; at += mem.PageSize {
		_, err := p.Touch(at, mem.Write)
		var oom *OOMKill
		if errors.As(err, &oom) {
			if oom.PID != p.PID || oom.Addr != at {
				t.Fatalf("%v at %v of process %d", err, at, p.PID)
			}
			return oom
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%d MiB written to a machine of %d", step>>20, p.m.Frames()>>8)
	return nil
}

// A file three times the memory is read right, twice, by two processes. What is
// cached is evicted, and unmapped where it must be.
func TestReadMoreThanMemory(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20})
	f, data := pattern("large", 3*m.Frames())
	p := boot(t, m)
	at := mmap(t, p, Mapping{Len: uint64(len(data)), Prot: ro, File: f})
	c := p.Fork()
	for range 2 {
		sees(t, p, at, data)
		sees(t, c, at, data)
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
	}
	s, cache := m.Stats(), m.CacheStats()
	if s.ReclaimUnmaps == 0 || s.OOMKills != 0 || cache.Evicted < 2*m.Frames() || cache.Pages > m.Frames() {
		t.Errorf("%+v, %+v", s, cache)
	}
	if cache.Inserted-cache.Evicted != cache.Pages || s.Faults.Major != cache.Inserted {
		t.Errorf("%d read, %d inserted, %d evicted, %d cached", s.Faults.Major, cache.Inserted, cache.Evicted, cache.Pages)
	}
}

// Written pages of a private mapping have no other copy: they survive a working
// set of clean pages that does not fit beside them.
func TestReclaimKeepsWrittenPages(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20})
	f, data := pattern("large", 2*m.Frames())
	p := boot(t, m)
	at := mmap(t, p, Mapping{Len: uint64(len(data)), Prot: rw, File: f})
	anon := mmap(t, p, Mapping{Len: 64 * mem.PageSize, Prot: rw})
	clean := mmap(t, p, Mapping{Len: uint64(len(data)), Prot: ro, File: f})
	common := mmap(t, p, Mapping{Len: 64 * mem.PageSize, Prot: rw, Shared: true})
	want := make([]byte, 64*mem.PageSize)
	for i := range 64 {
		for _, a := range []mem.VirtAddr{anon, common} {
			write(t, p, a+mem.VirtAddr(i*mem.PageSize), "written")
		}
		copy(want[i*mem.PageSize:], "written")
		write(t, p, at+mem.VirtAddr(i*mem.PageSize), "written")
		copy(data[i*mem.PageSize:], "written") // a private page; the file's bytes are checked from page 64 on
	}
	sees(t, p, clean+64*mem.PageSize, data[64*mem.PageSize:])
	sees(t, p, at, data[:64*mem.PageSize])
	sees(t, p, anon, want)
	sees(t, p, common, want)
	if m.Stats().ReclaimUnmaps == 0 {
		t.Error("no reclaim")
	}
}

// Assembled huge pages are evicted when nobody maps them, unmapped and evicted
// when somebody does, and assembled again at the next exec.
func TestReclaimHugePages(t *testing.T) {
	w := newWitness(mustPrograms(t, "huge-text"))
	m := newMachine(t, Config{Memory: 8 << 20, Policy: kevlar(t, 0), Inspector: w})
	ti := mustPrograms(t, "huge-text")[0].images[0]
	f, data := pattern("large", 2*m.Frames())
	for _, mapped := range []bool{false, true} {
		p := boot(t, m)
		exec(t, p, "huge-text")
		before := m.Stats()
		if m.HugePages() != 2 || p.Residency().Huge != mem.SubPages {
			t.Fatalf("%d huge pages", m.HugePages())
		}
		if !mapped {
			p.Exit()
		}
		q := boot(t, m)
		at := mmap(t, q, Mapping{Len: uint64(len(data)), Prot: ro, File: f})
		sees(t, q, at, data)
		s := m.Stats()
		if m.HugePages() != 0 || s.HugeEvicted-before.HugeEvicted != 2 {
			t.Errorf("mapped %t: %d huge pages left, %d evicted", mapped, m.HugePages(), s.HugeEvicted-before.HugeEvicted)
		}
		if mapped {
			touch(t, p, 0x400000, mem.Exec, Major)
			for i := range ti.pages {
				sees(t, p, ti.first+mem.VirtAddr(i*mem.PageSize), ti.pages[i].bytes())
			}
			p.Exit()
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		q.Exit()
	}
	if w.first != nil {
		t.Error(w.first)
	}
}

// A page that is mapped when its frame is wanted loses its entry first: what a
// process reads through an old translation is never another page's.
func TestReclaimFlushesTranslations(t *testing.T) {
	m := newMachine(t, Config{Memory: 2 << 20, Hardening: Fortress})
	f, data := pattern("large", 2*m.Frames())
	p := boot(t, m)
	at := mmap(t, p, Mapping{Len: uint64(len(data)), Prot: ro, File: f})
	var b [8]byte
	for off := 0; off < len(data); off += mem.PageSize {
		for _, o := range []int{off, 0, off / 2 &^ (mem.PageSize - 1)} { // the new page, and old ones
			if err := p.Read(at+mem.VirtAddr(o), b[:]); err != nil {
				t.Fatal(err)
			}
			if err := sameBytes(b[:], data[o:o+8]); err != nil {
				t.Fatalf("page %d after page %d: %v", o/mem.PageSize, off/mem.PageSize, err)
			}
		}
	}
}

// The source of a copy is pinned: reclaim takes another cached page for it (a
// bug of the Kevlar kernel).
func TestCopySourceIsPinned(t *testing.T) {
	m := newMachine(t, Config{Memory: 2 << 20})
	f, data := pattern("file", 4)
	p := boot(t, m)
	ro1 := mmap(t, p, Mapping{Len: 4 * mem.PageSize, Prot: ro, File: f})
	rw1 := mmap(t, p, Mapping{Len: 4 * mem.PageSize, Prot: rw, File: f})
	sees(t, p, ro1, data)
	if err := p.Munmap(ro1, 4*mem.PageSize); err != nil {
		t.Fatal(err)
	}
	// Fill the memory to the last frame; the four cached pages are all that
	// reclaim can take.
	q := boot(t, m)
	at := mmap(t, q, Mapping{Len: uint64(m.Frames()) * mem.PageSize, Prot: rw})
	for ; m.FreeFrames() > 0; at += mem.PageSize {
		touch(t, q, at, mem.Write, Minor)
	}
	touch(t, p, rw1+0x2000, mem.Write, Minor)
	if no := m.cache.Open(f); !m.cache.Contains(no, 2) || m.CachedPages(f) == 4 {
		t.Errorf("%d pages cached, the source is: %t", m.CachedPages(f), m.cache.Contains(no, 2))
	}
	sees(t, p, rw1+0x2000, data[0x2000:0x3000])
	if err := m.Check(); err != nil {
		t.Error(err)
	}
}

// When anonymous memory is all there is, the process that wants more is killed;
// the others keep every byte, and the memory can be used again.
func TestOutOfMemory(t *testing.T) {
	var kills []event.OOMKill
	m := newMachine(t, Config{Memory: 4 << 20, Events: event.Func(func(e event.Event) {
		if k, ok := e.(event.OOMKill); ok {
			kills = append(kills, k)
		}
	})})
	f, data := pattern("large", m.Frames())
	p := boot(t, m)
	own := mmap(t, p, Mapping{Len: 200 * mem.PageSize, Prot: rw})
	file := mmap(t, p, Mapping{Len: uint64(len(data)), Prot: ro, File: f})
	want := make([]byte, 200*mem.PageSize)
	elfgen.Pattern(1<<30, want)
	if _, err := p.Write(own, want); err != nil {
		t.Fatal(err)
	}
	for round := 1; round <= 3; round++ {
		q := p.Fork()
		exhaust(t, q)
		if _, ok := m.Process(q.PID); ok || len(m.Processes()) != 1 {
			t.Fatalf("the killed process is still there: %d processes", len(m.Processes()))
		}
		if len(kills) != round || kills[round-1].PID != q.PID || m.Stats().OOMKills != round {
			t.Fatalf("events %+v, %d kills", kills, m.Stats().OOMKills)
		}
		// All that p does not hold itself was free for the taking.
		if n := kills[round-1].Resident; n < m.Frames()-1 {
			t.Errorf("killed with %d of %d frames", n, m.Frames())
		}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		sees(t, p, own, want)
		sees(t, p, file, data)
		if _, err := q.Touch(own, mem.Read); err == nil {
			t.Error("a dead process can still read")
		}
	}
}

// The page tables' memory ends too. The process whose fault wants a node is
// killed; a system call fails with ENOMEM and changes nothing.
func TestOutOfPageTables(t *testing.T) {
	m := newMachine(t, Config{Memory: 2 << 20}) // 512/4 + 256 nodes
	limit := tableNodes(m.Frames())
	p := boot(t, m)
	exec(t, p, "static-nopie")
	at := mmap(t, p, Mapping{Len: 8 * mem.PageSize, Prot: rw})
	write(t, p, at, "mine")
	write(t, p, at+4*mem.PageSize, "mine too")

	// One page in each 2 MiB: each wants a node, and the zero page is enough.
	q := boot(t, m)
	const step = mem.HugeSize
	sparse := mmap(t, q, Mapping{Len: 1000 * step, Prot: rw})
	n := 0
	for m.tables.Nodes() < limit {
		touch(t, q, sparse+mem.VirtAddr(n*step), mem.Read, Minor)
		n++
	}

	// A fork costs nothing; to change what it shares, nodes are needed.
	c := p.Fork()
	if err := c.Munmap(at, mem.PageSize); err != syscall.ENOMEM {
		t.Errorf("munmap: %v, want ENOMEM", err)
	}
	if err := c.Mprotect(at, 8*mem.PageSize, mem.ProtNone); err != syscall.ENOMEM {
		t.Errorf("mprotect: %v, want ENOMEM", err)
	}
	if _, err := c.Mmap(Mapping{Addr: at, Len: mem.PageSize, Prot: rw, Fixed: true}); err != syscall.ENOMEM {
		t.Errorf("mmap: %v, want ENOMEM", err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*Process{p, c} {
		reads(t, r, at, "mine")
		reads(t, r, at+4*mem.PageSize, "mine too")
	}

	var oom *OOMKill
	if _, err := c.Touch(at, mem.Write); !errors.As(err, &oom) || oom.PID != c.PID {
		t.Errorf("write: %v, want an OOM kill", err)
	}
	if _, err := q.Touch(sparse+mem.VirtAddr(n*step), mem.Read); !errors.As(err, &oom) || oom.PID != q.PID {
		t.Errorf("read: %v, want an OOM kill", err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	reads(t, p, at, "mine")
	write(t, p.Fork(), at, "free again")
	reads(t, p, at, "mine")
}

// Some nodes, but not enough, are left: mprotect over several leaves changes all
// of them or none, and munmap loses nothing.
func TestPageTablesRunOutHalfWay(t *testing.T) {
	for left := range 12 {
		m := newMachine(t, Config{Memory: 2 << 20})
		p := boot(t, m)
		const n = 4 // windows
		at := mmap(t, p, Mapping{Addr: 1 << 30, Len: n * mem.HugeSize, Prot: rw})
		for i := range n {
			write(t, p, at+mem.VirtAddr(i*mem.HugeSize+mem.HugeSize/2), "first")
			write(t, p, at+mem.VirtAddr(i*mem.HugeSize+mem.HugeSize/2+mem.PageSize), "second")
		}
		q := boot(t, m)
		sparse := mmap(t, q, Mapping{Len: 1000 * mem.HugeSize, Prot: rw})
		for i := 0; m.tables.Nodes() < tableNodes(m.Frames())-left; i++ {
			touch(t, q, sparse+mem.VirtAddr(i*mem.HugeSize), mem.Read, Minor)
		}
		c := p.Fork()
		errProtect := c.Mprotect(at, n*mem.HugeSize, mem.ProtNone)
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		if errProtect == nil {
			if err := c.Mprotect(at, n*mem.HugeSize, rw); err != nil {
				t.Fatal(err)
			}
		}
		// From the second page of the first window to the first of the last.
		from := at + mem.HugeSize/2 + mem.PageSize
		errUnmap := c.Munmap(from, (n-1)*mem.HugeSize)
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			page := at + mem.VirtAddr(i*mem.HugeSize+mem.HugeSize/2)
			reads(t, p, page, "first")
			reads(t, p, page+mem.PageSize, "second")
			if errUnmap != nil || i == 0 {
				reads(t, c, page, "first")
			}
			if errUnmap != nil || i == n-1 {
				reads(t, c, page+mem.PageSize, "second")
			}
		}
		// Wanted are the three levels above the leaves, and the four leaves: mprotect
		// changes all of those, and munmap, which comes after it, the outer two.
		if fails := left < 3+n; fails != (errProtect != nil) || fails != (errUnmap != nil) {
			t.Errorf("%d nodes left: mprotect %v, munmap %v", left, errProtect, errUnmap)
		}
	}
}

// To take a frame over needs no other one: a sole owner that writes after a fork
// is not killed for want of memory.
func TestReuseNeedsNoFrame(t *testing.T) {
	m := newMachine(t, Config{Memory: 2 << 20, Hardening: Fortress})
	p := boot(t, m)
	at, err := p.Mmap(Mapping{Len: 4 << 20, Prot: mem.ProtRead | mem.ProtWrite})
	if err != nil {
		t.Fatal(err)
	}
	touch := func(p *Process, addr mem.VirtAddr, want FaultKind) {
		t.Helper()
		if kind, err := p.Write(addr, []byte{1}); err != nil || kind != want {
			t.Fatalf("write at %v: %v, %v; want %v", addr, kind, err, want)
		}
	}
	touch(p, at, Minor)
	child := p.Fork()
	touch(child, at, CoW) // splits the leaf: both entries are write-protected
	child.Exit()
	for next := at + mem.PageSize; m.FreeFrames() > 0; next += mem.PageSize {
		touch(p, next, Minor)
	}
	touch(p, at, CoW)
	if m.Stats().OOMKills != 0 {
		t.Error("somebody was killed")
	}
}
