package vm

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/mem"
)

// faultLog keeps the page faults of a machine.
type faultLog struct{ faults []event.PageFault }

func (l *faultLog) Emit(e event.Event) {
	if f, ok := e.(event.PageFault); ok {
		l.faults = append(l.faults, f)
	}
}

// last returns how the last fault was resolved and from where.
func (l *faultLog) last() string {
	if len(l.faults) == 0 {
		return "none"
	}
	f := l.faults[len(l.faults)-1]
	return strings.TrimSpace(f.Resolved + " " + f.Source)
}

// Where TestFaultKinds maps things.
const (
	anon   mem.VirtAddr = 0x10000000 // 8 pages, rw-
	script mem.VirtAddr = 0x20000000 // the file "small", private, r--
	data   mem.VirtAddr = 0x30000000 // the same, private, rw-
	common mem.VirtAddr = 0x40000000 // 8 pages, rw-, shared
)

// TestFaultKinds lists what each access costs, and where the page comes from.
// The process runs shared-memory-page, of which page 0x401000 is whole and
// read-only, 0x402000 is of two segments, and 0x403000 is writable.
func TestFaultKinds(t *testing.T) {
	type step struct {
		proc int // 0, or 1: the child that "fork" made
		do   string
		addr mem.VirtAddr
		want string // "minor cache"; none for no fault; SEGV_...
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"file, not cached", []step{{0, "r", 0x401000, "major file"}, {0, "r", 0x401fff, "none"}}},
		{"file, cached by another process", []step{
			{0, "fork", 0, ""}, {1, "r", 0x401000, "major file"}, {0, "r", 0x401000, "minor cache"}}},
		{"file, cached through another mapping", []step{
			{0, "r", script + 0x1000, "major file"}, {0, "r", data + 0x1000, "minor cache"}}},
		{"page of two segments, never cached", []step{
			{0, "fork", 0, ""}, {0, "r", 0x402000, "major file_own"}, {1, "r", 0x402000, "major file_own"}}},
		{"boundary page of a writable segment", []step{{0, "w", 0x403fff, "major file_own"}, {0, "w", 0x403fff, "none"}}},
		{"page of .bss", []step{{0, "r", 0x404010, "minor zero_page"}}},
		{"behind the last page", []step{{0, "r", 0x405000, "SEGV_MAPERR"}}},
		{"writable file page, read first", []step{{0, "r", data, "major file_own"}, {0, "w", data, "none"}}},
		{"writable file page, written first", []step{{0, "w", data, "major file_own"}}},
		{"writable file page, cached, written", []step{
			{0, "r", script, "major file"}, {0, "w", data, "minor cache_copy"}, {0, "r", script, "none"}}},
		{"writable file page, cached, read, written", []step{
			{0, "r", script, "major file"}, {0, "r", data, "minor cache"}, {0, "w", data, "cow copy"}, {0, "w", data, "none"}}},
		{"beyond the end of the file", []step{{0, "r", script + 0x7000, "major file"}}},
		{"anonymous, read, written", []step{
			{0, "r", anon, "minor zero_page"}, {0, "w", anon, "cow zero_fill"}, {0, "w", anon, "none"}}},
		{"anonymous, written", []step{{0, "w", anon, "minor zero_fill"}, {0, "r", anon, "none"}}},
		{"forked: copy, then reuse by the sole owner", []step{
			{0, "w", anon, "minor zero_fill"}, {0, "fork", 0, ""}, {0, "r", anon, "none"}, {1, "r", anon, "none"},
			{1, "w", anon, "cow copy"}, {1, "w", anon, "none"}, {0, "w", anon, "cow reuse"}, {0, "w", anon, "none"}}},
		{"forked: the parent first", []step{
			{0, "w", anon, "minor zero_fill"}, {0, "fork", 0, ""}, {0, "w", anon, "cow copy"}, {1, "w", anon, "cow reuse"}}},
		{"forked: the child exits before a write", []step{
			{0, "w", anon, "minor zero_fill"}, {0, "fork", 0, ""}, {1, "exit", 0, ""}, {0, "w", anon, "none"}}},
		{"forked: the child exits after a copy of the leaf", []step{
			{0, "w", anon, "minor zero_fill"}, {0, "w", anon + 0x1000, "minor zero_fill"}, {0, "fork", 0, ""},
			{1, "w", anon, "cow copy"}, {1, "exit", 0, ""}, {0, "w", anon + 0x1000, "cow reuse"}}},
		{"forked: the zero page", []step{
			{0, "r", anon, "minor zero_page"}, {0, "fork", 0, ""}, {1, "w", anon, "cow zero_fill"}, {0, "w", anon, "cow zero_fill"}}},
		{"shared anonymous", []step{
			{0, "fork", 0, ""}, {0, "w", common, "minor shared"}, {1, "r", common, "minor shared"}, {1, "w", common, "none"}}},
		{"shared anonymous, mapped before the fork", []step{
			{0, "w", common, "minor shared"}, {0, "fork", 0, ""}, {0, "w", common, "none"}, {1, "w", common, "none"}}},
		{"mprotect and back: what was written stays", []step{
			{0, "w", anon, "minor zero_fill"}, {0, "r--", anon, ""}, {0, "w", anon, "SEGV_ACCERR"}, {0, "r", anon, "none"},
			{0, "rw-", anon, ""}, {0, "w", anon, "cow reuse"}}},
		{"mprotect(RW) after fork does not break CoW", []step{
			{0, "w", anon, "minor zero_fill"}, {0, "fork", 0, ""}, {1, "rw-", anon, ""}, {1, "w", anon, "cow copy"}}},
		{"mprotect(RW) of a cached page does not make it writable", []step{
			{0, "r", script, "major file"}, {0, "rw-", script, ""}, {0, "w", script, "cow copy"}}},
		{"no access", []step{
			{0, "---", anon, ""}, {0, "r", anon, "SEGV_ACCERR"}, {0, "w", anon, "SEGV_ACCERR"}, {0, "x", anon, "SEGV_ACCERR"}}},
		{"no access to a present page", []step{
			{0, "w", anon, "minor zero_fill"}, {0, "---", anon, ""}, {0, "r", anon, "SEGV_ACCERR"}}},
		{"write only and exec only can be read", []step{
			{0, "-w-", anon, ""}, {0, "r", anon, "minor zero_page"}, {0, "--x", anon, ""}, {0, "r", anon, "none"}, {0, "x", anon, "none"},
			{0, "w", anon, "SEGV_ACCERR"}}},
		{"exec of what may not be executed, absent and present", []step{
			{0, "x", anon, "SEGV_ACCERR"}, {0, "r", anon, "minor zero_page"}, {0, "x", anon, "SEGV_ACCERR"}, {0, "x", anon, "SEGV_ACCERR"}}},
		{"exec of text", []step{{0, "x", 0x400100, "major file"}, {0, "x", 0x400101, "none"}}},
		{"write to text, absent and present", []step{
			{0, "w", 0x400100, "SEGV_ACCERR"}, {0, "r", 0x400100, "major file"}, {0, "w", 0x400100, "SEGV_ACCERR"}}},
		{"null pointer", []step{{0, "r", 0, "SEGV_MAPERR"}, {0, "x", 0, "SEGV_MAPERR"}}},
		{"end of user space and beyond", []step{
			{0, "w", mem.UserEnd - 1, "minor zero_fill"}, {0, "r", mem.UserEnd, "SEGV_MAPERR"}, {0, "r", 1 << 63, "SEGV_MAPERR"},
			{0, "w", ^mem.VirtAddr(0), "SEGV_MAPERR"}}},
		{"stack, to 8 MiB and not beyond", []step{
			{0, "w", StackTop - stackInitial, "minor zero_fill"}, {0, "r", StackTop - stackInitial - 1, "minor zero_page"},
			{0, "w", StackTop - StackLimit - 1, "SEGV_MAPERR"}, {0, "w", StackTop - StackLimit, "minor zero_fill"},
			{0, "r", StackTop - StackLimit - 1, "SEGV_MAPERR"}, {0, "r", StackTop - StackLimit + 0x5000, "minor zero_page"}}},
		{"stack in one step", []step{{0, "w", StackTop - StackLimit, "minor zero_fill"}}},
		{"stack, executed", []step{{0, "x", StackTop - 8, "SEGV_ACCERR"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var log faultLog
			m := newMachine(t, Config{Memory: 16 << 20, Policy: kevlar(t, 600), Events: &log, Hardening: Fortress})
			p := boot(t, m, "shared-memory-page")
			f := mustPrograms(t, "small")[0].images[0].file
			mmap(t, p, Mapping{Addr: anon, Len: 0x8000, Prot: rw})
			mmap(t, p, Mapping{Addr: script, Len: 0x8000, Prot: ro, File: f})
			mmap(t, p, Mapping{Addr: data, Len: 0x8000, Prot: rw, File: f})
			mmap(t, p, Mapping{Addr: common, Len: 0x8000, Prot: rw, Shared: true})
			procs := []*Process{p}
			for i, s := range tc.steps {
				q := procs[s.proc]
				switch s.do {
				case "fork":
					procs = append(procs, q.Fork())
				case "exit":
					q.Exit()
				case "r", "w", "x":
					a, err := mem.ParseAccess(s.do)
					if err != nil {
						t.Fatal(err)
					}
					if got := tryTouch(t, m, q, &log, s.addr, a); got != s.want {
						t.Fatalf("step %d, %s at %v: %s, want %s", i, s.do, s.addr, got, s.want)
					}
				default:
					prot, err := mem.ParseProt(s.do)
					if err == nil {
						err = q.Mprotect(s.addr, mem.PageSize, prot)
					}
					if err != nil {
						t.Fatalf("step %d: mprotect: %v", i, err)
					}
				}
			}
		})
	}
}

// tryTouch makes an access and returns what it cost, as the fault's event says;
// the event, the result and the counters must agree.
func tryTouch(t *testing.T, m *Machine, p *Process, log *faultLog, addr mem.VirtAddr, a mem.Access) string {
	t.Helper()
	events, own, all := len(log.faults), p.Faults, m.Stats().Faults
	kind, err := p.Touch(addr, a)
	var segv *Segfault
	want := Faults{}
	got := kind.String()
	switch {
	case errors.As(err, &segv):
		got = segv.Code()
		if log.last() != "segv" || len(log.faults) != events+1 {
			t.Fatalf("refused, but the event says %s", log.last())
		}
	case err != nil:
		t.Fatal(err)
	case kind == NoFault:
		if len(log.faults) != events {
			t.Fatalf("no fault, but an event: %s", log.last())
		}
	default:
		got = log.last()
		if !strings.HasPrefix(got, kind.String()) || len(log.faults) != events+1 {
			t.Fatalf("%v, but the event says %s", kind, got)
		}
		want = map[FaultKind]Faults{Minor: {Minor: 1}, Major: {Major: 1}, CoW: {CoW: 1}}[kind]
	}
	if p.Faults.Sub(own) != want || m.Stats().Faults.Sub(all) != want {
		t.Fatalf("%s counts as %+v, want %+v", got, p.Faults.Sub(own), want)
	}
	return got
}

// TestCacheRule lists which faults insert a page into the page cache: those in a
// read-only segment that covers the page's first byte and shares the page with
// no other segment. How much of the page is valid is recorded.
func TestCacheRule(t *testing.T) {
	for _, tc := range []struct {
		name    string
		program string
		addr    mem.VirtAddr
		access  mem.Access
		index   mem.PageIndex
		valid   int // 0: not inserted
	}{
		{"whole page of text", "kevlar-layout", 0x400000, mem.Exec, 0, 4096},
		{"last page of .rodata, a part", "kevlar-layout", 0x51b000, mem.Read, 0x11b, 0x1f0},
		{"touched behind its last byte", "kevlar-layout", 0x51b800, mem.Read, 0x11b, 0x1f0},
		{".data from the middle of a page", "kevlar-layout", 0x51cbf0, mem.Read, 0x11b, 0},
		{"the gap in front of it", "kevlar-layout", 0x51c000, mem.Read, 0x11b, 0},
		{"writable, whole page", "kevlar-layout", 0x51d000, mem.Read, 0x11c, 0},
		{"writable, written", "kevlar-layout", 0x51d000, mem.Write, 0x11c, 0},
		{".bss", "kevlar-layout", 0x523000, mem.Read, 0x122, 0},
		{"read-only from the middle of a page", "shared-three", 0x402480, mem.Read, 1, 0},
		{"end of a read-only segment", "shared-three", 0x401000, mem.Read, 1, 0x400},
		{"two segments in the page", "shared-memory-page", 0x402000, mem.Read, 2, 0},
		{"one of two in the next", "shared-memory-page", 0x401000, mem.Read, 1, 4096},
		{"two read-only segments in the page", "neighbours", 0x401000, mem.Read, 1, 0},
		{"several segments' bytes", "overlap", 0x401000, mem.Read, 1, 0},
		{"no access", "permissions", PIEBase + 0x2000, mem.Read, 2, 0},
		{"exec only", "permissions", PIEBase + 0x1000, mem.Exec, 1, 4096},
		{"last bytes of the file", "truncated", 0x402000, mem.Read, 2, 0x400},
		{"behind the end of the file", "truncated", 0x403000, mem.Read, 3, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t, Config{Memory: 16 << 20})
			p := boot(t, m, tc.program)
			ti := mustPrograms(t, tc.program)[0].images[0]
			_, err := p.Touch(tc.addr, tc.access)
			if err != nil != (ti.at(tc.addr).prot == mem.ProtNone) {
				t.Fatal(err)
			}
			no := m.cache.Open(ti.file)
			pfn, valid, ok := m.cache.Lookup(no, tc.index)
			if valid != tc.valid || ok != (tc.valid > 0) || m.CachedPages(ti.file) > 1 {
				t.Fatalf("index %#x: %d bytes valid of %d cached pages, want %d", tc.index, valid, m.CachedPages(ti.file), tc.valid)
			}
			if ok && !bytes.Equal(m.phys.Page(pfn)[valid:], zeros[valid:]) {
				t.Error("bytes behind the valid ones are not zero")
			}
			if err != nil {
				return
			}
			got, _, err := p.ReadPage(tc.addr)
			if err == nil {
				err = sameBytes(got, ti.at(tc.addr).bytes())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A cached page is never replaced: who needs all of a page that is partly valid
// reads the file, and keeps the page to itself.
func TestCacheNeverReplaces(t *testing.T) {
	m := newMachine(t, Config{Memory: 16 << 20})
	p := boot(t, m, "kevlar-layout")
	ti := mustPrograms(t, "kevlar-layout")[0].images[0]
	no := m.cache.Open(ti.file)
	touch(t, p, 0x51b000, mem.Read, Major)
	first, _, _ := m.cache.Lookup(no, 0x11b)

	at := mmap(t, p, Mapping{Len: mem.PageSize, Prot: ro, File: ti.file, Offset: 0x11b000})
	for _, q := range []*Process{p.Fork(), p} {
		got, kind, err := q.ReadPage(at)
		if err != nil || kind != Major {
			t.Fatalf("%v, %v, want %v", kind, err, Major)
		}
		file := make([]byte, mem.PageSize)
		if err := mem.ReadPadded(ti.file, file, 0x11b000); err != nil {
			t.Fatal(err)
		}
		if err := sameBytes(got, file); err != nil {
			t.Error(err)
		}
	}
	if pfn, valid, _ := m.cache.Lookup(no, 0x11b); pfn != first || valid != 0x1f0 {
		t.Errorf("the cached frame is %d with %d valid bytes, was %d with %d", pfn, valid, first, 0x1f0)
	}
}

// The bytes of .data's boundary page come from .data and from the gap, however
// it is touched first (a bug of the Kevlar kernel).
func TestBoundaryPage(t *testing.T) {
	for _, first := range []mem.VirtAddr{0x51c000, 0x51cbf0} {
		m := newMachine(t, Config{Memory: 16 << 20})
		p := boot(t, m, "kevlar-layout")
		touch(t, p, first, mem.Write, Major)
		got, kind, err := p.ReadPage(0x51c000)
		if err == nil {
			err = sameBytes(got, mustPrograms(t, "kevlar-layout")[0].images[0].at(0x51c000).bytes())
		}
		if err != nil || kind != NoFault || got[0xbef] != 0 || got[0xbf0] != 0xc0 {
			t.Errorf("first touch at %v: %v, %v", first, kind, err)
		}
	}
}

// A write in a huge window splits it and copies one page: 511 stay where they
// were, in all processes.
func TestWriteSplitsHugePage(t *testing.T) {
	var log faultLog
	m := newMachine(t, Config{Memory: 16 << 20, Policy: kevlar(t, 0), Events: &log, Hardening: Fortress})
	p := boot(t, m)
	exec(t, p, "huge-data")
	c := p.Fork()
	const base, page = mem.VirtAddr(0x400000), mem.VirtAddr(0x400000 + 77*mem.PageSize)
	before, _ := m.tables.Walk(p.root, base)
	if !before.IsHuge() || p.Residency().Huge != mem.SubPages {
		t.Fatalf("not huge: %v", before)
	}
	free := m.FreeFrames()
	if got := tryTouch(t, m, c, &log, page+9, mem.Write); got != "cow copy" {
		t.Fatalf("write: %s", got)
	}
	if n := free - m.FreeFrames(); n != 1 {
		t.Errorf("%d frames used, want 1", n)
	}
	write(t, c, page+9, "written")
	if s := m.Stats(); s.Splits != 1 || s.Faults.CoW != 1 {
		t.Errorf("%d splits, %d CoW faults", s.Splits, s.Faults.CoW)
	}
	if e, _ := m.tables.Walk(p.root, base); !e.IsHuge() {
		t.Error("the parent's huge page was split too")
	}
	ti := mustPrograms(t, "huge-data")[0].images[0]
	for i := range mem.SubPages {
		at := base + mem.VirtAddr(i*mem.PageSize)
		e, _ := m.tables.Walk(c.root, at)
		if same := e.PFN() == before.PFN()+mem.PFN(i); same == (at == page) {
			t.Errorf("page %v: frame %d, the huge page is at %d", at, e.PFN(), before.PFN())
		}
		want := bytes.Clone(ti.at(at).bytes())
		if at == page {
			copy(want[9:], "written")
		}
		got, kind, err := c.ReadPage(at)
		if err == nil {
			err = sameBytes(got, want)
		}
		if err != nil || kind != NoFault {
			t.Fatalf("page %v: %v, %v", at, kind, err)
		}
	}
	// The parent, and the next exec, see the file.
	q := p.Fork()
	exec(t, q, "huge-data")
	for _, r := range []*Process{p, q} {
		got, kind, err := r.ReadPage(page)
		if err == nil {
			err = sameBytes(got, ti.at(page).bytes())
		}
		if err != nil || kind != NoFault {
			t.Errorf("process %d: %v, %v", r.PID, kind, err)
		}
	}
	if m.Stats().Assembled != 2 { // the window of text is the other
		t.Errorf("%d assemblies, want 2", m.Stats().Assembled)
	}
}

// failing is a file whose reads fail while broken is set.
type failing struct {
	*mem.BytesFile
	broken bool
}

var errBroken = errors.New("bad sector")

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.broken {
		return 0, errBroken
	}
	return f.BytesFile.ReadAt(p, off)
}

// A read error reaches the caller with the name of the file, changes nothing,
// and may be gone the next time.
func TestReadError(t *testing.T) {
	b := make([]byte, 4*mem.PageSize)
	elfgen.Pattern(0, b)
	f := &failing{mem.NewBytesFile("broken-disk", b), true}
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p := boot(t, m)
	at := mmap(t, p, Mapping{Len: uint64(len(b)), Prot: rw, File: f})
	free := m.FreeFrames()
	for _, a := range []mem.Access{mem.Read, mem.Write} {
		kind, err := p.Touch(at+0x2000, a)
		if !errors.Is(err, errBroken) || kind != NoFault || !strings.Contains(err.Error(), "read broken-disk at 0x2000") {
			t.Errorf("%v: %v, %v", a, kind, err)
		}
	}
	if e, _ := m.tables.Walk(p.root, at+0x2000); e.Mapped() || m.FreeFrames() != free || p.Faults.Total() != 0 {
		t.Errorf("entry %v, %d frames lost, faults %+v", e, free-m.FreeFrames(), p.Faults)
	}
	f.broken = false
	touch(t, p, at+0x2000, mem.Write, Major)
	reads(t, p, at+0x2000, string(b[0x2000:0x3000]))
}

// A read error during assembly leaves the window to single pages.
func TestReadErrorInAssembly(t *testing.T) {
	small := mustPrograms(t, "huge-text")[0]
	b := make([]byte, small.images[0].file.Size())
	if _, err := small.images[0].file.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	f := &failing{mem.NewBytesFile("broken-disk", b), true}
	im := *small.prog.Image
	im.File = f
	m := newMachine(t, Config{Memory: 8 << 20, Policy: kevlar(t, 0), Hardening: Fortress})
	p := boot(t, m)
	if err := p.Exec(Program{Image: &im}); err != nil {
		t.Fatal(err)
	}
	if m.Stats().Assembled != 0 || m.HugePages() != 0 {
		t.Errorf("%d windows assembled from a broken file", m.Stats().Assembled)
	}
	f.broken = false
	touch(t, p, p.IP(), mem.Exec, Major)
	if err := p.Exec(Program{Image: &im}); err != nil {
		t.Fatal(err)
	}
	touch(t, p, p.IP(), mem.Exec, NoFault)
	if m.Stats().HugeMapped != 1 {
		t.Errorf("%d huge mappings", m.Stats().HugeMapped)
	}
}
