package vm

import (
	"slices"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/mem"
)

// Which pages of a file a fault maps: those of its aligned block, its area and
// nothing else; not for a write, and none that is there.
func TestFaultAround(t *testing.T) {
	const pages = 40
	data := make([]byte, pages*mem.PageSize-100) // the last page in part
	elfgen.Pattern(1, data)
	const at mem.VirtAddr = 0x20005000 // slot 5 of its block
	type touched struct {
		page   int
		access mem.Access
	}
	span := func(from, to int) (s []int) {
		for i := from; i < to; i++ {
			s = append(s, i)
		}
		return s
	}
	for _, c := range []struct {
		name    string
		around  int
		prot    mem.Prot
		touches []touched
		want    []int // pages with an entry
		faulted int   // of those, around a fault
	}{
		{"off", 0, mem.ProtRead, []touched{{0, mem.Read}}, []int{0}, 0},
		{"one", 1, mem.ProtRead, []touched{{0, mem.Read}}, []int{0}, 0},
		{"to the end of the block", 16, mem.ProtRead, []touched{{0, mem.Read}}, span(0, 11), 10},
		{"a fetch", 16, mem.ProtRead | mem.ProtExec, []touched{{12, mem.Exec}}, span(11, 27), 15},
		{"to the end of the area", 16, mem.ProtRead, []touched{{30, mem.Read}}, span(27, 40), 12},
		{"not in a writable area", 16, mem.ProtRead | mem.ProtWrite, []touched{{0, mem.Read}}, []int{0}, 0},
		{"not for a write", 16, mem.ProtRead | mem.ProtWrite, []touched{{0, mem.Write}}, []int{0}, 0},
		{"what is there stays", 4, mem.ProtRead, []touched{{3, mem.Read}, {4, mem.Read}, {3, mem.Read}}, span(3, 7), 3},
		{"a window", MaxFaultAround, mem.ProtRead, []touched{{20, mem.Read}}, span(0, 40), 39},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t, Config{FaultAround: c.around})
			p := boot(t, m)
			f := mem.NewBytesFile("forty", data)
			mmap(t, p, Mapping{Addr: at, Len: pages * mem.PageSize, Prot: c.prot, Fixed: true, File: f})
			// The same file on both sides is another area.
			mmap(t, p, Mapping{Addr: at - mem.PageSize, Len: mem.PageSize, Prot: mem.ProtRead, Fixed: true, File: f})
			for _, x := range c.touches {
				if _, err := p.Touch(at+mem.VirtAddr(x.page)*mem.PageSize, x.access); err != nil {
					t.Fatal(err)
				}
			}
			var got []int
			for e := range p.Space().Entries(allUser) {
				got = append(got, int(e.Addr-at)/mem.PageSize)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("mapped %v, want %v", got, c.want)
			}
			if n := m.Stats().FaultedAround; n != c.faulted {
				t.Errorf("%d mapped around, want %d", n, c.faulted)
			}
			faults := m.Stats().Faults.Total()
			for _, i := range c.want {
				page, kind, err := p.ReadPage(at + mem.VirtAddr(i)*mem.PageSize)
				want := make([]byte, mem.PageSize)
				copy(want, data[i*mem.PageSize:])
				if c.touches[0].access != mem.Write && (err != nil || kind != NoFault || !slices.Equal(page, want)) {
					t.Errorf("page %d: %v, %v, or its bytes differ", i, kind, err)
				}
			}
			if n := m.Stats().Faults.Total() - faults; n != 0 {
				t.Errorf("%d faults on pages that are mapped", n)
			}
		})
	}
}

// What is mapped around a fault is cached, and so is in what a second process finds.
func TestFaultAroundCaches(t *testing.T) {
	m := newMachine(t, Config{FaultAround: 16})
	p := boot(t, m)
	exec(t, p, "kevlar-layout")
	touch(t, p, 0x50b000, mem.Read, Major) // block 0x50 of 16 pages: 0x500000 to 0x510000
	touch(t, p, 0x51a000, mem.Read, Major) // to 0x51b000, the last page of .rodata: cached in part
	c := p.Fork()
	exec(t, c, "kevlar-layout")
	touch(t, c, 0x500000, mem.Read, NoFault)
	touch(t, c, 0x50f000, mem.Read, NoFault)
	touch(t, c, 0x51b000, mem.Read, Major)
	if got := m.Stats().FaultedAround; got != 26 {
		t.Errorf("%d mapped around, want 26", got)
	}
}

// A page of which a segment has a part is not mapped from a frame that has the
// whole of it: whoever mapped the file put that into the cache.
func TestFaultAroundPartialPage(t *testing.T) {
	m := newMachine(t, Config{FaultAround: 16})
	p := boot(t, m)
	exec(t, p, "kevlar-layout")
	at, err := p.Mmap(Mapping{Len: mem.PageSize, Prot: mem.ProtRead, File: p.Objects()[0].Image.File, Offset: 0x11b000})
	if err != nil {
		t.Fatal(err)
	}
	touch(t, p, at, mem.Read, Major)       // page 0x11b of the file, whole
	touch(t, p, 0x51a000, mem.Read, Major) // beside .rodata's last page, which has 0x1f0 bytes of it
	data, kind, err := p.ReadPage(0x51b000)
	if err != nil || kind != Major {
		t.Errorf("%v, %v", kind, err)
	}
	if i := slices.IndexFunc(data[0x1f0:], func(b byte) bool { return b != 0 }); i >= 0 {
		t.Errorf("byte %#x behind the segment's end is not zero", 0x1f0+i)
	}
}
