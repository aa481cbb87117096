package session

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"vmsim/hugepage"
	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
	"vmsim/vma"
)

// What the witness sees: a fault is planted in a machine that is right, and the
// events of all processes must be those of the fault, all of them and no other.
// What they must be comes from the headers (predict_test.go) and from the frames
// of the page tables.

// scene is some processes that run one file.
type scene struct {
	*Rig
	im    *fileImage
	truth *verify.Truth
	rec   *recorder
	procs []*vm.Process
	dirty map[int]map[mem.VirtAddr]bool // pages that a process or its parent wrote, by PID
}

func newScene(t testing.TB, f *mem.BytesFile, opt Options, policy hugepage.Policy) *scene {
	t.Helper()
	data := make([]byte, f.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	truth, err := verify.Load(f, vm.PIEBase)
	if err != nil {
		t.Fatal(err)
	}
	s := &scene{im: newFileImage(data, uint64(vm.PIEBase)), truth: truth, rec: new(recorder), dirty: map[int]map[mem.VirtAddr]bool{}}
	opt.Events = s.rec
	s.Rig = newRig(t, opt)
	if policy != nil {
		if err := s.Machine.Close(); err != nil {
			t.Fatal(err)
		}
		s.Machine, err = vm.New(vm.Config{Memory: opt.Memory, Policy: policy, Inspector: inspector{s.Rig},
			Hardening: opt.Hardening, Events: opt.Events})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Machine.Boot(nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// exec starts another process of the file.
func (s *scene) exec(t testing.TB) *vm.Process {
	t.Helper()
	init, _ := s.Machine.Process(1)
	p := init.Fork()
	if err := p.Exec(program(t, s.truth.File())); err != nil {
		t.Fatal(err)
	}
	s.procs = append(s.procs, p)
	s.dirty[p.PID] = map[mem.VirtAddr]bool{}
	return p
}

func (s *scene) fork(p *vm.Process) *vm.Process {
	c := p.Fork()
	s.procs = append(s.procs, c)
	s.dirty[c.PID] = map[mem.VirtAddr]bool{}
	for a := range s.dirty[p.PID] {
		s.dirty[c.PID][a] = true
	}
	return c
}

// touch reads pages, percent of all.
func (s *scene) touch(t testing.TB, p *vm.Process, r *rand.Rand, percent int) {
	t.Helper()
	for a := range s.truth.TouchPages() {
		if r.IntN(100) < percent {
			if _, err := p.Touch(a, mem.Read); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// write writes to n random pages.
func (s *scene) write(t testing.TB, p *vm.Process, r *rand.Rand, n int) {
	t.Helper()
	var pages []mem.VirtAddr
	for a := range s.truth.TouchPages() {
		if s.im.prot(uint64(a))&pfW != 0 {
			pages = append(pages, a)
		}
	}
	for range min(n, len(pages)) {
		a := pages[r.IntN(len(pages))]
		if _, err := p.Write(a+mem.VirtAddr(r.IntN(page)), []byte{byte(r.Uint32())}); err != nil {
			t.Fatal(err)
		}
		s.dirty[p.PID][a] = true
	}
}

// end ends p, the last of the processes.
func (s *scene) end(p *vm.Process) {
	s.procs = s.procs[:len(s.procs)-1]
	delete(s.dirty, p.PID)
	p.Exit()
}

// mapping is a page that a process has mapped.
type mapping struct {
	p     *vm.Process
	addr  mem.VirtAddr
	frame mem.PFN
	entry mem.Entry
}

// mappings returns all mapped pages, by process and address.
func (s *scene) mappings() []mapping {
	var out []mapping
	for _, p := range s.procs {
		for e := range p.Space().Entries(mem.Range{Start: 0, End: mem.UserEnd}) {
			for i := range mem.VirtAddr(e.Size / page) {
				out = append(out, mapping{p, e.Addr + i*page, e.Frame + mem.PFN(i), e})
			}
		}
	}
	return out
}

// look has the witness look at all processes, with Permissions and with Space,
// and compares the failures with want, in the order of processes and addresses.
func (s *scene) look(t testing.TB, what string, want []event.Event) {
	t.Helper()
	var perms, all []event.Event
	for _, p := range s.procs {
		s.rec.events = nil
		ts := []*verify.Truth{s.truth}
		ok := s.Witness.Permissions(p.PID, ts, p.Space(), []mem.Range{stackOf(p)})
		got := failures(s.rec.events)
		if ok != (len(got) == 0) {
			t.Fatalf("%s: Permissions of %d is %v with %d failures", what, p.PID, ok, len(got))
		}
		perms = append(perms, got...)

		s.rec.events = nil
		err := s.Witness.Space(p.PID, ts, p.Space(), []mem.Range{stackOf(p)}, func(a mem.VirtAddr) bool { return s.dirty[p.PID][a] })
		got = failures(s.rec.events)
		if errors.Is(err, verify.ErrMismatch) != (len(got) > 0) || len(got) == 0 && err != nil {
			t.Fatalf("%s: Space of %d is %v with %d failures", what, p.PID, err, len(got))
		}
		all = append(all, got...)
		if d := gocmp.Diff(s.closing(p, got), of[event.PageVerifyOK](s.rec.events)); d != "" {
			t.Fatalf("%s: closing event of %d (-want +got):\n%s", what, p.PID, d)
		}
	}
	if d := gocmp.Diff(want, all); d != "" {
		t.Fatalf("%s: Space (-want +got):\n%s", what, d)
	}
	want = slices.DeleteFunc(slices.Clone(want), func(e event.Event) bool { _, bytes := e.(event.PageVerifyFail); return bytes })
	if d := gocmp.Diff(want, perms); len(want)+len(perms) > 0 && d != "" {
		t.Fatalf("%s: Permissions (-want +got):\n%s", what, d)
	}
	s.rec.events = nil
}

// closing is the PageVerifyOK behind failures: all pages of the image that p
// has mapped and did not write.
func (s *scene) closing(p *vm.Process, failed []event.Event) []event.PageVerifyOK {
	n := 0
	for _, m := range s.mappings() {
		if m.p == p && s.truth.Extent().Contains(m.addr) && !s.dirty[p.PID][m.addr] {
			n++
		}
	}
	for _, e := range failed {
		switch e := e.(type) {
		case event.UnmappedVerifyFail:
			continue
		case event.PermissionVerifyFail:
			if s.dirty[p.PID][mem.VirtAddr(e.VAddr)] {
				continue
			}
		}
		n--
	}
	return []event.PageVerifyOK{{PID: p.PID, Verified: n, Failed: len(failed)}}
}

// wrongPage is the event of a wrong byte d of the page at addr.
func (s *scene) wrongPage(pid int, addr mem.VirtAddr, d int, xor byte) event.PageVerifyFail {
	start, _, off := s.im.vma(uint64(addr), d)
	want := s.im.truth(uint64(addr))[d]
	return event.PageVerifyFail{PID: pid, VAddr: event.Addr(addr), FirstDiff: d, Expected: event.Byte(want),
		Actual: event.Byte(want ^ xor), FileOffset: event.Addr(off), VMAStart: event.Addr(start)}
}

// changed returns which unwritten pages differ from the file, found by reading
// all of them, without the witness and without frame numbers.
func (s *scene) changed(t testing.TB) []event.Event {
	t.Helper()
	var out []event.Event
	var got [page]byte
	for _, m := range s.mappings() {
		if s.dirty[m.p.PID][m.addr] || !s.truth.Extent().Contains(m.addr) {
			continue
		}
		if err := m.p.Space().Read(m.addr, got[:]); err != nil {
			t.Fatal(err)
		}
		want := s.im.truth(uint64(m.addr))
		if got == *want {
			continue
		}
		d := 0
		for got[d] == want[d] {
			d++
		}
		out = append(out, s.wrongPage(m.p.PID, m.addr, d, got[d]^want[d]))
	}
	return out
}

// flip flips a byte under m, looks, and flips it back. It returns the number of
// addresses at which the frame was mapped.
func (s *scene) flip(t testing.TB, m mapping, d int, xor byte) int {
	t.Helper()
	var want []event.Event
	n := 0
	for _, o := range s.mappings() {
		if o.frame != m.frame {
			continue
		}
		n++
		if !s.dirty[o.p.PID][o.addr] {
			want = append(want, s.wrongPage(o.p.PID, o.addr, d, xor))
		}
	}
	what := fmt.Sprintf("byte %d of %v flipped in process %d", d, m.addr, m.p.PID)
	inject := func() {
		if err := m.p.InjectByte(m.addr+mem.VirtAddr(d), xor); err != nil {
			t.Fatal(err)
		}
	}
	inject()
	if d := gocmp.Diff(want, s.changed(t)); d != "" {
		t.Fatalf("%s: the frame's addresses (-entries +bytes):\n%s", what, d)
	}
	s.look(t, what, want)
	inject()
	return n
}

// grant adds prot to the entry at m in a child of its own, looks, and ends the
// child. It returns whether that was more than the headers permit.
func (s *scene) grant(t testing.TB, m mapping, prot mem.Prot) bool {
	t.Helper()
	c := s.fork(m.p)
	granted := uint32(0)
	for e := range c.Space().Entries(mem.PageOf(m.addr)) { // without write permission, after the fork
		granted = pf(e.Prot | prot)
	}
	if err := c.InjectProt(m.addr, prot); err != nil {
		t.Fatal(err)
	}
	var want []event.Event
	for i := range mem.VirtAddr(m.entry.Size / page) {
		at := m.entry.Addr + i*page
		if allowed := s.im.prot(uint64(at)); granted&^allowed != 0 {
			want = append(want, event.PermissionVerifyFail{PID: c.PID, VAddr: event.Addr(at), Expected: rwx(allowed), Actual: rwx(granted)})
		}
	}
	s.look(t, fmt.Sprintf("%v added to %v", prot, m.addr), want)
	s.end(c)
	return len(want) > 0
}

// plant maps a page in a child of p where no area is, looks, and ends the child.
func (s *scene) plant(t testing.TB, p *vm.Process, addr mem.VirtAddr, prot mem.Prot) {
	t.Helper()
	c := s.fork(p)
	if err := c.InjectPage(addr, prot); err != nil {
		t.Fatal(err)
	}
	s.look(t, fmt.Sprintf("page mapped at %v", addr), []event.Event{
		event.UnmappedVerifyFail{PID: c.PID, VAddr: event.Addr(addr.PageDown()), Actual: rwx(pf(prot) | pfR)}})
	s.end(c)
}

// pf returns p as PF_ bits, and rwx prints those.
func pf(p mem.Prot) (flags uint32) {
	for bit, f := range map[mem.Prot]uint32{mem.ProtRead: pfR, mem.ProtWrite: pfW, mem.ProtExec: pfX} {
		if p&bit != 0 {
			flags |= f
		}
	}
	return flags
}

func rwx(flags uint32) string {
	b := []byte("---")
	for i, f := range []uint32{pfR, pfW, pfX} {
		if flags&f != 0 {
			b[i] = "rwx"[i]
		}
	}
	return string(b)
}

// check asks the machine for its own view: the reference counts above all.
func (s *scene) check(t testing.TB) {
	t.Helper()
	if err := s.Machine.Check(); err != nil {
		t.Fatal(err)
	}
}

var prots = []mem.Prot{mem.ProtRead, mem.ProtWrite, mem.ProtExec, mem.ProtRead | mem.ProtWrite, mem.ProtRead | mem.ProtWrite | mem.ProtExec}

// TestPlantedFaults plants each kind at random places of random binaries.
func TestPlantedFaults(t *testing.T) {
	first := seed(t)
	shared, beyond, within, windows := 0, 0, 0, 0
	for i := range uint64(rounds(hardening(t), 40)) {
		r := newRand(first, 1000+i)
		_, data := elfgen.Random(r)
		opt := options(t)
		opt.Threshold = []int{128, 1, 600}[r.IntN(3)]
		s := newScene(t, mem.NewBytesFile(fmt.Sprintf("random-%d", i), data), opt, nil)
		s.touch(t, s.exec(t), r, 100)
		for range 2 {
			s.touch(t, s.exec(t), r, 60)
		}
		s.write(t, s.procs[1], r, 5)
		s.touch(t, s.fork(s.procs[1]), r, 20)
		s.write(t, s.procs[3], r, 5)
		windows += s.Machine.Stats().Assembled
		s.look(t, "nothing planted", nil)

		for range 12 {
			ms := s.mappings()
			m := ms[r.IntN(len(ms))]
			if s.flip(t, m, r.IntN(page), byte(1+r.IntN(255))) > 1 {
				shared++
			}
		}
		for range 8 {
			ms := s.mappings()
			if s.grant(t, ms[r.IntN(len(ms))], prots[r.IntN(len(prots))]) {
				beyond++
			} else {
				within++
			}
		}
		e := s.truth.Extent()
		for _, addr := range []mem.VirtAddr{e.Start - page, e.End, e.End + page*mem.VirtAddr(r.IntN(1<<20)) + 123, 0x7f0000000000} {
			s.plant(t, s.procs[r.IntN(len(s.procs))], addr, prots[r.IntN(len(prots))])
		}
		s.check(t)
		s.look(t, "everything undone", nil)
		s.Reset() // panics if a frame was leaked
	}
	t.Logf("%d flips in shared frames, %d permissions beyond the headers, %d within, %d windows", shared, beyond, within, windows)
	if shared == 0 || beyond == 0 || within == 0 || windows == 0 {
		t.Error("a kind was never planted")
	}
}

// TestFrameAtSeveralAddresses: one page of the file in three segments, which
// read it through one frame.
func TestFrameAtSeveralAddresses(t *testing.T) {
	spec := elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x8000, Memsz: 0x8000, Flags: mem.ProtRead},
		{Vaddr: 0x500000, Offset: 0x2000, Filesz: 0x4000, Memsz: 0x4000, Flags: mem.ProtRead | mem.ProtExec},
		{Vaddr: 0x600000, Offset: 0x3000, Filesz: 0x2000, Memsz: 0x2000, Flags: mem.ProtRead | mem.ProtWrite},
	}}
	opt := options(t)
	opt.Threshold = 600
	s := newScene(t, mem.NewBytesFile("three-views", elfgen.Build(spec, nil)), opt, nil)
	r := newRand(seed(t), 0)
	for range 3 {
		s.touch(t, s.exec(t), r, 100)
	}
	at := func(p int, addr mem.VirtAddr) mapping {
		for _, m := range s.mappings() {
			if m.p == s.procs[p] && m.addr == addr {
				return m
			}
		}
		t.Fatalf("%v is not mapped", addr)
		return mapping{}
	}
	for _, addr := range []mem.VirtAddr{0x403000, 0x501000, 0x600000} {
		if n := s.flip(t, at(1, addr), 77, 0x80); n != 9 {
			t.Errorf("%v: mapped at %d addresses, want 3 in each of 3 processes", addr, n)
		}
	}
	// A write takes one of them out.
	if _, err := s.procs[0].Write(0x600000, []byte{1}); err != nil {
		t.Fatal(err)
	}
	s.dirty[s.procs[0].PID][0x600000] = true
	if n := s.flip(t, at(0, 0x403000), 4095, 1); n != 8 {
		t.Errorf("mapped at %d addresses after the write, want 8", n)
	}
	if n := s.flip(t, at(0, 0x600000), 9, 1); n != 1 {
		t.Errorf("the written copy is mapped at %d addresses, want 1", n)
	}
	// The zero page has as many as were read: the gaps, 0xf8 and 0xfc pages.
	if n := s.flip(t, at(2, 0x410000), 0, 0x55); n != 3*(0xf8+0xfc) {
		t.Errorf("the zero page is mapped at %d addresses, want %d", n, 3*(0xf8+0xfc))
	}
	s.check(t)
}

// TestHugeFrameAtSeveralAddresses: a window that one process maps with one huge
// entry, another in 4 KiB entries, into the same frames.
func TestHugeFrameAtSeveralAddresses(t *testing.T) {
	for _, c := range []struct {
		name  string
		split func(p *vm.Process) error
		dirty bool
	}{
		{"huge-text", func(p *vm.Process) error { return p.Mprotect(0x450000, page, mem.ProtRead) }, false},
		{"huge-data", func(p *vm.Process) error { _, err := p.Write(0x450000, []byte{1}); return err }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := options(t)
			opt.Threshold = 0
			s := newScene(t, fixture(t, c.name), opt, nil)
			for range 3 {
				s.exec(t)
			}
			s.fork(s.procs[0])
			if err := c.split(s.procs[1]); err != nil {
				t.Fatal(err)
			}
			s.dirty[s.procs[1].PID][0x450000] = c.dirty
			entries := func(p *vm.Process) (n int) {
				for range p.Space().Entries(mem.WindowOf(0x400000)) {
					n++
				}
				return n
			}
			for i, want := range []int{1, 512, 1, 1} {
				if n := entries(s.procs[i]); n != want {
					t.Fatalf("process %d has %d entries in the window, want %d", i, n, want)
				}
			}
			for _, m := range s.mappings() {
				want := 4 // processes
				switch {
				case m.addr == 0x450000 && c.dirty && m.p == s.procs[1]:
					want = 1
				case m.addr == 0x450000 && c.dirty:
					want = 3
				case m.addr != 0x400000 && m.addr != 0x450000 && m.addr != 0x5ff000:
					continue
				}
				if n := s.flip(t, m, 1234, 0xff); n != want {
					t.Errorf("%v of %d: mapped at %d addresses, want %d", m.addr, m.p.PID, n, want)
				}
			}
			for _, m := range s.mappings() {
				if m.addr == 0x480000 && !s.grant(t, m, mem.ProtWrite|mem.ProtExec) {
					t.Errorf("a permission beyond the headers in process %d was not seen", m.p.PID)
				}
			}
			s.check(t)
			s.look(t, "everything undone", nil)
			s.Reset()
		})
	}
}

// flipper is a policy that gets one byte of one sub-page wrong.
type flipper struct {
	hugepage.Kevlar
	addr  mem.VirtAddr // of the byte
	value byte
}

func (f *flipper) Fill(p *hugepage.SubPage) error {
	err := f.Kevlar.Fill(p)
	if err == nil && p.Addr == f.addr.PageDown() {
		p.Copy(hugepage.Cached{Data: slices.Repeat([]byte{f.value}, page), Valid: page}, f.addr.PageOffset(), 1)
	}
	return err
}

// TestWrongAssembly: one wrong byte in an assembled window is reported when it
// is put together, and then at its address in every process.
func TestWrongAssembly(t *testing.T) {
	first := seed(t)
	wrong := 0
	for i := range uint64(rounds(hardening(t), 40)) {
		r := newRand(first, 2000+i)
		_, data := elfgen.Random(r)
		threshold := []int{128, 1, 0}[r.IntN(3)]
		kevlar, err := hugepage.NewKevlar(threshold)
		if err != nil {
			t.Fatal(err)
		}
		bad := &flipper{Kevlar: kevlar, addr: mem.UserEnd}
		opt := options(t)
		s := newScene(t, mem.NewBytesFile(fmt.Sprintf("random-%d", i), data), opt, bad)
		p := s.im.predict(threshold, false, false)
		if p.windows == 0 {
			continue
		}
		// A page with file bytes in a window that will be assembled.
		var pages []uint64
		for _, base := range p.bases {
			for a := base; a < base+window; a += page {
				for _, v := range s.im.on(a, page) {
					if max(a, v.start) < min(a+page, v.fileEnd) {
						pages = append(pages, a)
						break
					}
				}
			}
		}
		addr := pages[r.IntN(len(pages))]
		d, xor := r.IntN(page), byte(1+r.IntN(255))
		bad.addr, bad.value = mem.VirtAddr(addr)+mem.VirtAddr(d), s.im.truth(addr)[d]^xor

		s.touch(t, s.exec(t), r, 100)
		s.exec(t)
		got := failures(s.rec.events)
		pid := s.procs[1].PID
		if threshold == 0 {
			pid = s.procs[0].PID
		}
		start, writable, _ := s.im.vma(addr, d)
		e := event.HugePageVerifyFail{PID: pid, HugeBase: event.Addr(addr / window * window), SubPage: int(addr % window / page),
			FirstDiff: d, Expected: event.Byte(bad.value ^ xor), Actual: event.Byte(bad.value), VMAStart: event.Addr(start), VMAType: event.FileRO}
		if writable {
			e.VMAType = event.FileRW
		}
		if diff := gocmp.Diff([]event.Event{e}, got); diff != "" {
			t.Fatalf("file %d, threshold %d (-want +got):\n%s", i, threshold, diff)
		}
		if st := s.Machine.Stats(); opt.Hardening == vm.Default && st.InspectorFails != 1 {
			t.Errorf("file %d: %d assemblies rejected", i, st.InspectorFails)
		}
		s.fork(s.exec(t))
		s.touch(t, s.procs[3], r, 50)
		var want []event.Event
		for _, m := range s.mappings() {
			if uint64(m.addr) == addr && (m.p != s.procs[0] || threshold == 0) {
				want = append(want, s.wrongPage(m.p.PID, m.addr, d, xor))
			}
		}
		slices.SortFunc(want, func(a, b event.Event) int {
			return cmp.Compare(a.(event.PageVerifyFail).PID, b.(event.PageVerifyFail).PID)
		})
		if len(want) < 3 {
			t.Fatalf("file %d: the wrong page is mapped in %d processes", i, len(want))
		}
		s.look(t, "a wrong assembly", want)
		wrong++
	}
	if wrong == 0 {
		t.Error("no window was assembled")
	}
}

// TestInjectRefuses: what cannot be injected changes nothing.
func TestInjectRefuses(t *testing.T) {
	s := newScene(t, fixture(t, "static-nopie"), options(t), nil)
	p := s.exec(t)
	if err := p.InjectByte(0x401000, 1); !errors.Is(err, mem.ErrNotPresent) {
		t.Errorf("byte of an absent page: %v", err)
	}
	if err := p.InjectProt(0x401000, mem.ProtWrite); !errors.Is(err, mem.ErrNotPresent) {
		t.Errorf("permission of an absent page: %v", err)
	}
	if err := p.InjectPage(0x401000, mem.ProtWrite); !errors.Is(err, vma.ErrExists) {
		t.Errorf("page where an area is: %v", err)
	}
	for _, addr := range []mem.VirtAddr{mem.UserEnd, 1 << 63, ^mem.VirtAddr(0)} {
		if p.InjectPage(addr, mem.ProtRead) == nil || p.InjectByte(addr, 1) == nil || p.InjectProt(addr, mem.ProtRead) == nil {
			t.Errorf("injected at %v", addr)
		}
	}
	s.check(t)
	s.look(t, "nothing planted", nil)
	s.end(p)
	if p.InjectPage(0x300000, mem.ProtRead) == nil || p.InjectByte(0x400000, 1) == nil || p.InjectProt(0x400000, mem.ProtRead) == nil {
		t.Error("injected in a process that ended")
	}
	s.check(t)
}

// TestFortressFindsInjections: what Check looks at, the machine finds itself.
func TestFortressFindsInjections(t *testing.T) {
	for name, inject := range map[string]func(p *vm.Process) error{
		"permission": func(p *vm.Process) error { return p.InjectProt(0x401000, mem.ProtWrite) },
		"page":       func(p *vm.Process) error { return p.InjectPage(0x300000, mem.ProtRead) },
	} {
		opt := options(t)
		opt.Hardening = vm.Fortress
		s := newScene(t, fixture(t, "static-nopie"), opt, nil)
		p := s.exec(t)
		if _, err := p.Touch(0x401000, mem.Read); err != nil {
			t.Fatal(err)
		}
		if err := inject(p); err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the next operation found nothing", name)
				}
			}()
			p.Touch(0x402000, mem.Read)
			p.Touch(0x403000, mem.Read)
		}()
		s.Reset()
	}
}
