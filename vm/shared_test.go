package vm

import (
	"strings"
	"syscall"
	"testing"

	"vmsim/mem"
)

// An object is the same memory for all who map it, and lives as long as it is
// held or mapped.
func TestSharedObject(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p, q := boot(t, m), boot(t, m)
	o := m.NewShared("/memfd:buffer (deleted)", 2*mem.PageSize)
	a := mmap(t, p, Mapping{Len: 2 * mem.PageSize, Prot: rw, Shared: true, Object: o})
	write(t, p, a, "kept")
	if err := p.Munmap(a, 2*mem.PageSize); err != nil { // held, though nobody maps it
		t.Fatal(err)
	}
	a = mmap(t, p, Mapping{Len: 2 * mem.PageSize, Prot: rw, Shared: true, Object: o})
	reads(t, p, a, "kept")
	b := mmap(t, q, Mapping{Len: mem.PageSize, Prot: rw, Shared: true, Object: o, Offset: mem.PageSize})
	private := mmap(t, q, Mapping{Len: 2 * mem.PageSize, Prot: rw, Object: o})
	write(t, p, a+mem.PageSize, "shared")
	reads(t, q, b, "shared")
	reads(t, q, private+mem.PageSize, "shared")
	write(t, q, b, "SHARED")
	reads(t, p, a+mem.PageSize, "SHARED")
	reads(t, q, private+mem.PageSize, "SHARED") // not copied yet
	write(t, q, private+mem.PageSize, "mine")
	write(t, p, a+mem.PageSize, "theirs")
	reads(t, q, private+mem.PageSize, "mineED")
	if o.Pages() != 2 {
		t.Errorf("%d pages", o.Pages())
	}
	for v := range p.Areas() {
		if !strings.HasSuffix(v.String(), "rw-s 00000000 /memfd:buffer (deleted)") {
			t.Error(v)
		}
	}
	o.Release()
	p.Exit()
	reads(t, q, b, "theirs")
	if _, err := q.Mmap(Mapping{Len: mem.PageSize, Shared: true, Object: o}); err != nil {
		t.Errorf("mapped once more while it is there: %v", err)
	}
	q.Exit()
	if n := m.CacheStats().Pages; n != 0 || o.Pages() != 0 {
		t.Errorf("%d pages are left", n)
	}
	q = boot(t, m)
	if _, err := q.Mmap(Mapping{Len: mem.PageSize, Shared: true, Object: o}); err != syscall.EBADF {
		t.Errorf("an object that is gone: %v", err)
	}
	other := newMachine(t, Config{Memory: 4 << 20})
	foreign := other.NewShared("foreign", 0)
	if _, err := q.Mmap(Mapping{Len: mem.PageSize, Shared: true, Object: foreign}); err != syscall.EBADF {
		t.Errorf("an object of another machine: %v", err)
	}
}

// What is written through a shared mapping of a file is seen by all its mappings,
// is known as dirty, and stays when memory runs low.
func TestSharedWrite(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p, q := boot(t, m), boot(t, m)
	f, data := pattern("written", 4)
	orig := string(data[mem.PageSize : mem.PageSize+6])
	shared := mmap(t, p, Mapping{Len: 4 * mem.PageSize, Prot: rw, Shared: true, SharedWrite: true, File: f})
	before := mmap(t, q, Mapping{Len: 4 * mem.PageSize, Prot: ro, Shared: true, File: f})
	reads(t, q, before+mem.PageSize, orig)
	touch(t, p, shared+mem.PageSize, mem.Read, Minor)
	if m.Dirty(f, 1) {
		t.Error("dirty after a read")
	}
	touch(t, p, shared+mem.PageSize, mem.Write, Minor) // as page_mkwrite
	touch(t, p, shared+mem.PageSize, mem.Write, NoFault)
	write(t, p, shared+mem.PageSize, "edited")
	for i := range mem.PageIndex(4) {
		if m.Dirty(f, i) != (i == 1) {
			t.Errorf("page %d: dirty %t", i, m.Dirty(f, i))
		}
	}
	reads(t, q, before+mem.PageSize, "edited")
	private := mmap(t, q, Mapping{Len: 4 * mem.PageSize, Prot: rw, File: f})
	reads(t, q, private+mem.PageSize, "edited")
	write(t, q, private+mem.PageSize, "copied")
	reads(t, p, shared+mem.PageSize, "edited")

	c := p.Fork()
	write(t, c, shared+mem.PageSize, "forked")
	reads(t, p, shared+mem.PageSize, "forked")
	if err := p.Munmap(shared, 4*mem.PageSize); err != nil {
		t.Fatal(err)
	}
	c.Exit()
	if err := q.Munmap(before, 4*mem.PageSize); err != nil {
		t.Fatal(err)
	}
	m.cache.Evict(1 << 20)
	m.cache.Evict(1 << 20)
	again := mmap(t, q, Mapping{Len: 4 * mem.PageSize, Prot: ro, File: f})
	reads(t, q, again+mem.PageSize, "forked")
	touch(t, q, again, mem.Read, Major)
	if _, err := q.Mmap(Mapping{Len: mem.PageSize, Prot: rw, Shared: true, File: f}); err != syscall.EACCES {
		t.Errorf("of a file open for reading: %v", err)
	}
}

// A private page is a copy from its first write fault on, also where that writes
// nothing: what others write later is not seen.
func TestWriteFaultCopies(t *testing.T) {
	const page, at, elsewhere = mem.PageSize, mem.VirtAddr(0x40000000), mem.VirtAddr(0x50000000)
	touch := func(a mem.Access) func(*Process) error {
		return func(p *Process) error { _, err := p.Touch(at, a); return err }
	}
	mlock := func(onFault bool) func(*Process) error {
		return func(p *Process) error { return p.Mlock(at, page, onFault) }
	}
	advise := func(a Advice) func(*Process) error {
		return func(p *Process) error { return p.Madvise(at, page, a) }
	}
	for _, tc := range []struct {
		name   string
		m      Mapping              // of one page at at
		then   func(*Process) error // nil: nothing
		at     mem.VirtAddr         // the page to look at; 0: at
		copied bool
	}{
		{name: "mmap", m: Mapping{Prot: rw}},
		{name: "read", m: Mapping{Prot: rw}, then: touch(mem.Read)},
		{name: "write", m: Mapping{Prot: rw}, then: touch(mem.Write), copied: true},
		{name: "MAP_POPULATE", m: Mapping{Prot: rw, Populate: true}, copied: true},
		{name: "MAP_POPULATE, read-only", m: Mapping{Prot: ro, Populate: true}},
		{name: "MAP_LOCKED", m: Mapping{Prot: rw, Locked: true}, copied: true},
		{name: "mlock", m: Mapping{Prot: rw}, then: mlock(false), copied: true},
		{name: "mlock, read-only", m: Mapping{Prot: ro}, then: mlock(false)},
		{name: "mlock on fault", m: Mapping{Prot: rw}, then: mlock(true)},
		{name: "mlockall", m: Mapping{Prot: rw}, copied: true,
			then: func(p *Process) error { return p.Mlockall(LockAll{Current: true}) }},
		{name: "populate for writing", m: Mapping{Prot: rw}, then: advise(AdvisePopulateWrite), copied: true},
		{name: "populate for reading", m: Mapping{Prot: rw}, then: advise(AdvisePopulateRead)},
		{name: "locked, then writable", m: Mapping{Prot: ro, Locked: true}, copied: true,
			then: func(p *Process) error { return p.Mprotect(at, page, rw) }},
		{name: "locked, then grown", m: Mapping{Prot: rw, Locked: true}, at: elsewhere + page, copied: true,
			then: func(p *Process) error {
				_, err := p.Mremap(Remap{Old: at, OldLen: page, NewLen: 2 * page, MayMove: true, Fixed: true, New: elsewhere})
				return err
			}},
		{name: "dropped again", m: Mapping{Prot: rw, Populate: true}, then: advise(AdviseDontNeed)},
	} {
		for _, of := range []string{"object", "file"} {
			t.Run(tc.name+", "+of, func(t *testing.T) {
				m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
				p, q := boot(t, m), boot(t, m)
				shared := Mapping{Len: 2 * page, Prot: rw, Shared: true}
				if of == "file" {
					shared.File, _ = pattern("written", 2)
					shared.SharedWrite = true
				} else {
					shared.Object = m.NewShared("/memfd:x (deleted)", 2*page)
				}
				other := mmap(t, q, shared)
				write(t, q, other, "before")
				write(t, q, other+page, "before")
				tc.m.Addr, tc.m.Len, tc.m.Fixed, tc.m.File, tc.m.Object = at, page, true, shared.File, shared.Object
				mmap(t, p, tc.m)
				if tc.then != nil {
					if err := tc.then(p); err != nil {
						t.Fatal(err)
					}
				}
				write(t, q, other, "after")
				write(t, q, other+page, "after")
				look, want := max(tc.at, at), "aftere"
				if tc.copied {
					want = "before"
				}
				reads(t, p, look, want)
			})
		}
	}
}

// What a private page that may be written was before its file was opened for
// writing, it stays: a copy from the first read on, or a frame of the cache. After
// OpenForWriting a read is no copy.
func TestOpenForWriting(t *testing.T) {
	const page = mem.PageSize
	for _, tc := range []struct {
		name   string
		early  bool     // opened before it is read
		cached bool     // in the page cache before it is read
		prot   mem.Prot // of the private mapping
		sees   string
	}{
		{"copied by the read", false, false, rw, "original"},
		{"cached", false, true, rw, "modified"},
		{"read-only", false, false, ro, "modified"},
		{"opened first", true, false, rw, "modified"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
			p, q := boot(t, m), boot(t, m)
			f := mem.NewBytesFile("written", []byte("original"))
			if tc.early {
				m.OpenForWriting(f)
			}
			if tc.cached {
				reads(t, q, mmap(t, q, Mapping{Len: page, Prot: ro, File: f}), "original")
			}
			at := mmap(t, p, Mapping{Len: page, Prot: tc.prot, File: f})
			reads(t, p, at, "original")
			write(t, q, mmap(t, q, Mapping{Len: page, Prot: rw, Shared: true, SharedWrite: true, File: f}), "modified")
			reads(t, p, at, tc.sees)
		})
	}
}

// An object that was released may be mapped over its own last mapping.
func TestMapReleasedObject(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p := boot(t, m)
	o := m.NewShared("/SYSV00000000 (deleted)", mem.PageSize)
	a := Mapping{Len: mem.PageSize, Prot: rw, Shared: true, Object: o}
	a.Addr = mmap(t, p, a)
	write(t, p, a.Addr, "kept")
	o.Release()
	a.Fixed = true
	mmap(t, p, a)
	reads(t, p, a.Addr, "kept")
	p.Exit()
	if n := o.Pages(); n != 0 {
		t.Errorf("%d pages are left", n)
	}
}

// A program's file that is written to: pages that exec cached in part do not hide
// it, and no window of it is assembled or shown as it was.
func TestSharedWriteOfProgram(t *testing.T) {
	m := newMachine(t, Config{Memory: 16 << 20, Policy: kevlar(t, 0), Hardening: Fortress})
	p, q := boot(t, m, "kevlar-layout"), boot(t, m)
	f := mustPrograms(t, "kevlar-layout")[0].images[0].file
	touch(t, p, 0x51b000, mem.Read, Major) // index 0x11b, 0x1f0 bytes
	old := mmap(t, q, Mapping{Len: mem.PageSize, Prot: ro, Shared: true, File: f, Offset: 0x11b000})
	touch(t, q, old, mem.Read, Major) // a frame of its own
	at := mmap(t, q, Mapping{Len: mem.PageSize, Prot: rw, Shared: true, SharedWrite: true, File: f, Offset: 0x11b000})
	write(t, q, at+0xbf0, "written")
	reads(t, q, old+0xbf0, "written")
	c := p.Fork()
	exec(t, c, "kevlar-layout")
	if n := m.Stats().Assembled; n != 0 {
		t.Errorf("%d windows assembled", n)
	}
	reads(t, c, 0x51cbf0, "written") // .data begins there, in the same page of the file
	reads(t, c, 0x51c000, "\x00\x00\x00\x00")
}

// REMOVE makes a hole for all who map the object; private copies stay.
func TestRemove(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p, q := boot(t, m), boot(t, m)
	o := m.NewShared("shm", 0)
	a := mmap(t, p, Mapping{Len: 3 * mem.PageSize, Prot: rw, Shared: true, Object: o})
	b := mmap(t, q, Mapping{Len: 3 * mem.PageSize, Prot: rw, Object: o})
	for off := mem.VirtAddr(0); off < 3*mem.PageSize; off += mem.PageSize {
		write(t, p, a+off, "data")
		reads(t, q, b+off, "data")
	}
	write(t, q, b+2*mem.PageSize, "copy")
	if err := p.Madvise(a+mem.PageSize, 2*mem.PageSize, AdviseRemove); err != nil {
		t.Fatal(err)
	}
	reads(t, q, b, "data")
	reads(t, q, b+mem.PageSize, "\x00\x00\x00\x00")
	reads(t, q, b+2*mem.PageSize, "copy")
	reads(t, p, a+2*mem.PageSize, "\x00\x00\x00\x00")
	if o.Pages() != 3 {
		t.Errorf("%d pages", o.Pages()) // two of them new
	}
}

// pagesOf lists what Present yields of a range.
func pagesOf(p *Process, r mem.Range) string {
	var out []string
	for x := range p.Present() {
		if x.Overlaps(r) {
			s := x.Kind.String()
			if x.Huge {
				s += " huge"
			}
			for range x.Intersect(r).Len() / mem.PageSize {
				out = append(out, s)
			}
		}
	}
	return strings.Join(out, ",")
}

func TestPresent(t *testing.T) {
	m := newMachine(t, Config{Memory: 16 << 20, Hardening: Fortress})
	p := boot(t, m)
	f, _ := pattern("file", 4)
	at := func(a Mapping) mem.VirtAddr { return mmap(t, p, a) }
	anon := at(Mapping{Len: 4 * mem.PageSize, Prot: rw})
	file := at(Mapping{Len: 3 * mem.PageSize, Prot: ro, File: f})
	own := at(Mapping{Len: 2 * mem.PageSize, Prot: rw, File: f})
	shm := at(Mapping{Len: mem.PageSize, Prot: rw, Shared: true})
	if got := m.Usage(); got.Total() != got.PageTables {
		t.Errorf("%+v", got)
	}
	touch(t, p, anon, mem.Read, Minor)
	touch(t, p, anon+mem.PageSize, mem.Write, Minor)
	touch(t, p, anon+2*mem.PageSize, mem.Write, Minor)
	touch(t, p, file, mem.Read, Major)
	touch(t, p, own, mem.Read, Minor)
	touch(t, p, own+mem.PageSize, mem.Write, Major)
	touch(t, p, shm, mem.Write, Minor)
	if err := p.Mprotect(anon+2*mem.PageSize, mem.PageSize, mem.ProtNone); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		at   mem.VirtAddr
		n    int
		want string
	}{
		{anon, 4, "zero,anon,anon"}, {file, 3, "file"}, {own, 2, "file,copy"}, {shm, 1, "shared"},
	} {
		r := mem.Range{Start: tc.at, End: tc.at + mem.VirtAddr(tc.n*mem.PageSize)}
		if got := pagesOf(p, r); got != tc.want {
			t.Errorf("%v: %s, want %s", r, got, tc.want)
		}
	}
	const page = mem.PageSize
	if got := m.Usage(); got.PageCache != page || got.Shared != page || got.HugePages != 0 || got.Anonymous != 3*page || got.PageTables == 0 {
		t.Errorf("%+v", got)
	}
}

// A huge entry is one run, and windows that are kept are counted.
func TestPresentHuge(t *testing.T) {
	m := newMachine(t, Config{Memory: 16 << 20, Policy: kevlar(t, 0), Hardening: Fortress})
	p := boot(t, m)
	exec(t, p, "windows")
	r := mem.WindowOf(PIEBase)
	if got := pagesOf(p, r); got != strings.Repeat("file huge,", 511)+"file huge" {
		t.Errorf("%.100s", got)
	}
	if got, want := m.Usage().HugePages, uint64(m.HugePages())*mem.HugeSize; got != want || got == 0 {
		t.Errorf("%d bytes of huge pages, want %d", got, want)
	}
	if p.HugeWindows == 0 {
		t.Error("no windows counted")
	}
}
