package vm

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
)

// readAll reads all pages of a process's program that it may read, and demands
// the bytes of the file.
func readAll(t testing.TB, p *Process) {
	t.Helper()
	for _, prog := range mustPrograms(t) {
		if len(p.Objects()) != 1 || len(prog.images) != 1 || prog.prog.Image != p.Objects()[0].Image {
			continue
		}
		ti := prog.images[0]
		for i := range ti.pages {
			if ti.pages[i].prot != mem.ProtNone {
				sees(t, p, ti.first+mem.VirtAddr(i*mem.PageSize), ti.pages[i].bytes())
			}
		}
		return
	}
	t.Fatalf("process %d runs none of the programs", p.PID)
}

// TestCaseA assembles the window of case A from a warm cache: with each bug the
// inspector finds the byte that Kevlar's did, and repaired it finds nothing.
func TestCaseA(t *testing.T) {
	for _, tc := range []struct {
		bugs []string
		want string
	}{
		{nil, ""},
		{[]string{"boundary-copy"}, "sub-page 284: byte 0x0 is 0x65, want 0x00"},
		{[]string{"index-collision"}, "sub-page 284: byte 0xbf0 is 0x00, want 0xc0"},
		{[]string{"index-collision", "boundary-copy"}, "sub-page 284: byte 0x0 is 0x65, want 0x00"},
	} {
		w := newWitness(mustPrograms(t, "kevlar-layout"))
		m := newMachine(t, Config{Memory: 16 << 20, Policy: kevlar(t, 128, tc.bugs...), Inspector: w})
		p := boot(t, m, "kevlar-layout")
		readAll(t, p)
		c := p.Fork()
		exec(t, c, "kevlar-layout")
		if w.windows != 1 || m.HugePages() != 1 {
			t.Fatalf("bugs %v: %d windows assembled", tc.bugs, w.windows)
		}
		if (tc.want == "") != (w.first == nil) || w.first != nil && !strings.Contains(w.first.Error(), tc.want) {
			t.Errorf("bugs %v: %v, want %q", tc.bugs, w.first, tc.want)
		}
		if got, want := m.Stats().InspectorFails, min(1, len(tc.bugs)); got != want {
			t.Errorf("bugs %v: %d failed inspections, want %d", tc.bugs, got, want)
		}
		// Wrong or not, the page is mapped and kept.
		b := make([]byte, 1)
		if err := c.Read(0x51cbf0, b); err != nil {
			t.Fatal(err)
		}
		if right := b[0] == 0xc0; right != (tc.want == "") {
			t.Errorf("bugs %v: .data starts with 0x%02x", tc.bugs, b[0])
		}
	}
}

// TestThreshold counts cached sub-pages around the threshold. Page 0x51c000,
// the boundary page of .data, does not count: its first byte is the gap's.
func TestThreshold(t *testing.T) {
	for _, tc := range []struct {
		cached, threshold, want int
	}{
		{127, 128, 0}, {128, 128, 1}, {129, 128, 1}, {0, 0, 1}, {0, 1, 0}, {284, 600, 0}, {284, 285, 0}, {284, 284, 1},
	} {
		m := newMachine(t, Config{Memory: 16 << 20, Policy: kevlar(t, tc.threshold)})
		p := boot(t, m, "kevlar-layout")
		c := p.Fork()
		for i := range tc.cached {
			touch(t, p, mem.VirtAddr(0x51b000-i*mem.PageSize), mem.Read, Major) // 0x51b000 is cached in part
		}
		exec(t, c, "kevlar-layout")
		if got := m.Stats().Assembled; got != tc.want {
			t.Errorf("%d pages cached, threshold %d: %d windows assembled, want %d", tc.cached, tc.threshold, got, tc.want)
		}
		s := m.Stats()
		if whole := max(0, tc.cached-1); tc.want == 1 && s.FromCache != whole || tc.want == 0 && s.Prefaulted != whole {
			t.Errorf("%d pages cached, threshold %d: %d sub-pages from the cache, %d prefaulted", tc.cached, tc.threshold,
				s.FromCache, s.Prefaulted)
		}
	}
}

// TestPrefault lists what exec maps of a program of which everything was read
// before: the whole pages in the cache, and no other. Boot maps nothing.
func TestPrefault(t *testing.T) {
	for _, tc := range []struct {
		program string
		want    []mem.VirtAddr
	}{
		{"shared-three", []mem.VirtAddr{0x400000}},
		{"twice", []mem.VirtAddr{0x400000, 0x403000}}, // index 1 is cached, in part: not for 0x402000
		{"permissions", []mem.VirtAddr{PIEBase, PIEBase + 0x1000}},
	} {
		m := newMachine(t, Config{Memory: 16 << 20, Policy: kevlar(t, 600), Hardening: Fortress})
		readAll(t, boot(t, m, tc.program))
		p := boot(t, m, tc.program)
		if r := p.Residency(); r.Resident != 0 {
			t.Errorf("%s: booted with %d resident pages", tc.program, r.Resident)
		}
		exec(t, p, tc.program)
		var present []mem.VirtAddr
		for e := range p.Space().Entries(allUser) {
			present = append(present, e.Addr)
		}
		if !slices.Equal(present, tc.want) {
			t.Errorf("%s: present after exec: %v, want %v", tc.program, present, tc.want)
		}
		readAll(t, p)
		for _, at := range present {
			touch(t, p, at, mem.Read, NoFault)
		}
	}
}

// The huge-page cache tells load biases and files apart (a bug of the Kevlar kernel).
func TestHugePageKey(t *testing.T) {
	w := newWitness(mustPrograms(t))
	m := newMachine(t, Config{Policy: kevlar(t, 0), Inspector: w, Hardening: Fortress})
	p := boot(t, m)
	for range 2 {
		for _, name := range []string{"huge-text", "huge-incongruent", "huge-data", "windows", "huge-text+windows", "high+windows"} {
			exec(t, p, name)
			if w.first != nil {
				t.Fatalf("%s: %v", name, w.first)
			}
			for _, ti := range mustPrograms(t, name)[0].images {
				for i := range ti.pages {
					at := ti.first + mem.VirtAddr(i*mem.PageSize)
					got, _, err := p.ReadPage(at)
					if err == nil {
						err = sameBytes(got, ti.pages[i].bytes())
					}
					if err != nil {
						t.Fatalf("%s: page %v: %v", name, at, err)
					}
				}
			}
		}
	}
	first := m.Stats().Assembled
	exec(t, p, "huge-text")
	if n := m.Stats().Assembled; n != first {
		t.Errorf("assembled again: %d windows, then %d", first, n)
	}
	if n := p.Residency().Huge; n != mem.SubPages {
		t.Errorf("%d pages in huge entries", n)
	}
}

// A program that does not fit leaves the process as it was.
func TestExecNoRoom(t *testing.T) {
	var execs int
	m := newMachine(t, Config{Memory: 8 << 20, Hardening: Fortress, Events: event.Func(func(e event.Event) {
		if e.Type() == (event.ProcessExec{}).Type() {
			execs++
		}
	})})
	p := boot(t, m, "small")
	write(t, p, 0x402900, "still here")
	ip, areas := p.IP(), p.AreaCount()
	if err := p.Exec(mustPrograms(t, "in the stack")[0].prog); !errors.Is(err, ErrNoRoom) {
		t.Errorf("%v, want %v", err, ErrNoRoom)
	}
	reads(t, p, 0x402900, "still here")
	if p.IP() != ip || p.AreaCount() != areas || execs != 0 {
		t.Errorf("IP %v, %d areas, %d events; were %v, %d, 0", p.IP(), p.AreaCount(), execs, ip, areas)
	}
	if _, err := m.Boot(&mustPrograms(t, "in the stack")[0].prog); !errors.Is(err, ErrNoRoom) || len(m.Processes()) != 1 {
		t.Errorf("%v, %d processes", err, len(m.Processes()))
	}
}

// Exec drops shared anonymous memory that nobody else maps, and only that.
func TestExecDropsSharedMemory(t *testing.T) {
	m := newMachine(t, Config{Memory: 8 << 20, Hardening: Fortress})
	p := boot(t, m)
	at := mmap(t, p, Mapping{Len: mem.PageSize, Prot: rw, Shared: true})
	write(t, p, at, "shared")
	c := p.Fork()
	exec(t, p, "small")
	reads(t, c, at, "shared")
	pages := m.CacheStats().Pages
	exec(t, c, "small")
	if n := m.CacheStats().Pages; n != pages-1 {
		t.Errorf("%d pages cached, were %d", n, pages)
	}
	if _, err := c.Touch(at, mem.Read); err == nil {
		t.Error("the mapping survived exec")
	}
}

// A program that was rewritten is another one: its pages, its huge pages and its
// layout are not those of before (two bugs of the Kevlar kernel).
func TestExecRewritten(t *testing.T) {
	const base = mem.VirtAddr(0x400000)
	spec := elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: uint64(base), Filesz: mem.HugeSize, Memsz: mem.HugeSize, Flags: rx},
	}}
	id := mem.NewBytesFile("rewritten", nil).Identity()
	var versions [3]struct {
		data []byte
		prog Program
	}
	for g := range versions {
		v := &versions[g]
		spec.Segments[0].Memsz = mem.HugeSize + uint64(g)*mem.PageSize
		v.data = elfgen.Build(spec, func(off int64, p []byte) { elfgen.Pattern(off+int64(g)<<30, p) })
		im, err := loader.Parse(rewritten{mem.NewBytesFile("rewritten", v.data), id, uint64(g)})
		if err != nil {
			t.Fatal(err)
		}
		v.prog = Program{Image: im}
	}
	for _, threshold := range []int{0, 600} {
		m := newMachine(t, Config{Memory: 16 << 20, Policy: kevlar(t, threshold), Hardening: Fortress})
		p := boot(t, m)
		for _, g := range []int{0, 0, 1, 1, 2, 0, 2} {
			if err := p.Exec(versions[g].prog); err != nil {
				t.Fatal(err)
			}
			sees(t, p, base, versions[g].data[:mem.HugeSize])
			end := base + mem.HugeSize + mem.VirtAddr(g*mem.PageSize)
			if _, err := p.Touch(end, mem.Read); err == nil {
				t.Errorf("version %d reaches beyond %v", g, end)
			}
		}
	}
}

// A machine that runs many programs does not remember them all.
func TestLayoutsAreBounded(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20})
	p := boot(t, m)
	f := mustPrograms(t, "small")[0].images[0].file
	for range 2*maxLayouts + 1 {
		im, err := loader.Parse(f)
		if err == nil {
			err = p.Exec(Program{Image: im})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := len(m.layouts); n == 0 || n > maxLayouts {
		t.Errorf("%d layouts kept, at most %d", n, maxLayouts)
	}
}
