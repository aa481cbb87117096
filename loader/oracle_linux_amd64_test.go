package loader

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/internal/hostexec"
	"vmsim/mem"
)

// The host's kernel is the oracle: every crafted file is exec'ed (hostexec.Run).

// kernel runs files in a directory that has what they need.
type kernel struct {
	t    *testing.T
	dir  string
	path string
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	k := &kernel{t: t, dir: t.TempDir()}
	k.path = filepath.Join(k.dir, "x")
	interp := elfgen.Build(static(elfgen.Seg{Filesz: 0x1000, Memsz: 0x1000, Flags: rx}), nil)
	for _, name := range []string{"interp", "i"} {
		if err := os.WriteFile(filepath.Join(k.dir, name), interp, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.exec(elfgen.Build(exec(), nil), nil); err != nil {
		t.Fatalf("this system does not let a test trace a program that it wrote: %v", err)
	}
	return k
}

// exec returns why Linux refuses the file, or nil if it runs; stopped is then
// called before its first instruction.
func (k *kernel) exec(data []byte, stopped func(pid int)) error {
	return hostexec.RunBytes(k.path, k.dir, data, stopped)
}

// TestRulesOracle asks the kernel about every row of rules.
func TestRulesOracle(t *testing.T) {
	k := newKernel(t)
	for i, r := range rules {
		err := k.exec(build(i), nil)
		switch {
		case r.differs != "":
			t.Logf("%s: Linux says %v (%s)", r.name, err, r.differs)
		case (err == nil) != (r.err == nil):
			t.Errorf("%s: Linux says %v, want %v", r.name, err, r.err)
		}
	}
}

// TestMalformedOracle asks the kernel about random broken files, both ways: what
// it runs is accepted, and what it refuses is refused.
func TestMalformedOracle(t *testing.T) {
	k := newKernel(t)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	asked, ran, n := 0, 0, 4000
	if testing.Short() {
		n = 400
	}
	of := map[string][2]int{} // by kind: run, refused
	for i := range n {
		name, data := elfgen.Malformed(r)
		// An interpreter that exists, in as many bytes.
		data = bytes.ReplaceAll(data, []byte("/lib64/ld-linux-x86-64.so.2"), []byte(".//////////////////./interp"))
		im, err := Parse(mem.NewBytesFile(name, data))
		if why := undecided(im, err); why != "" {
			continue
		}
		asked++
		linux := k.exec(data, nil)
		answers := of[name]
		if linux == nil {
			ran++
			answers[0]++
		} else {
			answers[1]++
		}
		of[name] = answers
		if (err == nil) != (linux == nil) {
			t.Errorf("seed %d, file %d, %s: Linux says %v, Parse says %v\n%+v", seed, i, name, linux, err, im)
		}
	}
	t.Logf("seed %d: %d files, of which Linux runs %d; by kind, run and refused: %v", seed, asked, ran, of)
	if asked < n/2 || ran < n/20 || ran > asked-n/20 {
		t.Errorf("seed %d: Linux runs %d of %d files: this says little", seed, ran, asked)
	}
}

// undecided says why Linux's answer for an accepted file depends on more than
// the file, or is known to differ.
func undecided(im *Image, err error) string {
	if err != nil {
		if msg := err.Error(); strings.Contains(msg, "nothing to map") || strings.Contains(msg, "a script") {
			return "a deviation of the package comment"
		}
		if errors.Is(err, ErrUnsupported) && (strings.Contains(err.Error(), "machine 3,") || strings.Contains(err.Error(), "machine 6,")) {
			return "Linux may have been built to run i386 programs"
		}
		return ""
	}
	if im.Interp != "" && !strings.HasSuffix(im.Interp, "./interp") {
		return "another interpreter"
	}
	var size uint64
	for _, s := range im.Segments {
		size += s.Memsz
		if s.Vaddr < 1<<20 && !im.Dynamic {
			return "below mmap_min_addr"
		}
		if s.Range(0).End > 0x7f0000000000 && !im.Dynamic {
			return "where the stack and the vDSO are"
		}
	}
	if size > 64<<20 {
		return "commits more memory than there may be"
	}
	if im.Dynamic {
		if im.first().Filesz == 0 && im.Interp == "" {
			return "maps from address 0 on"
		}
		if d := int64(im.Entry - im.first().Vaddr); im.Interp == "" && (d > 1<<30 || d < -1<<30) {
			return "the entry may leave user space where Linux loads it"
		}
		if im.Span().Len() > 1<<30 || im.reserved() > 1<<30 {
			return "may not fit where Linux loads it"
		}
	}
	for _, s := range append(im.Segments, im.empty...) {
		if s.Align > 1<<40 {
			return "an alignment that may not fit"
		}
	}
	return ""
}

// TestRandomOracle compares the maps of sane files with their Images.
func TestRandomOracle(t *testing.T) {
	k := newKernel(t)
	for seed := range uint64(40) {
		_, data := elfgen.Random(rand.New(rand.NewPCG(seed, 1)))
		data = bytes.ReplaceAll(data, []byte("/lib64/ld-linux-x86-64.so.2"), []byte(".//////////////////./interp"))
		im, err := Parse(mem.NewBytesFile("x", data))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		err = k.exec(data, func(pid int) { compareMaps(t, seed, im, pid) })
		if err != nil {
			t.Errorf("seed %d: Linux says %v", seed, err)
		}
	}
}

// TestBiasOracle: Linux rounds the load bias of a first PT_LOAD in the middle
// of a page down. An alignment of 1 GiB gives its random base away.
func TestBiasOracle(t *testing.T) {
	k := newKernel(t)
	const gib = 1 << 30
	spec := dyn(elfgen.Seg{Vaddr: 0x10123, Offset: 0x123, Filesz: 0x1000, Memsz: 0x1000, Flags: rx, Align: gib})
	data := elfgen.Build(spec, nil)
	im, err := Parse(mem.NewBytesFile("x", data))
	if err != nil {
		t.Fatal(err)
	}
	err = k.exec(data, func(pid int) {
		linux := entry(t, pid) - im.Entry
		base := mem.VirtAddr(linux+gib-1) &^ (gib - 1)
		if bias, err := im.BiasAt(base); err != nil || bias != linux {
			t.Errorf("BiasAt(%v) = 0x%x, %v; Linux has 0x%x", base, bias, err, linux)
		}
		compareMaps(t, 0, im, pid)
	})
	if err != nil {
		t.Error(err)
	}
}

// compareMaps checks that the file pages of each segment are where the Image
// says, with its permissions and offsets. The last of the segments that touch
// a page owns it, as in Linux.
func compareMaps(t *testing.T, seed uint64, im *Image, pid int) {
	t.Helper()
	bias := entry(t, pid) - im.Entry
	base, _ := mem.VirtAddr(im.Segments[0].Vaddr + bias).PageUp()
	if got, err := im.BiasAt(base); err != nil || got != bias {
		t.Errorf("seed %d: BiasAt(%v) = 0x%x, %v; Linux has 0x%x", seed, base, got, err, bias)
	}
	type page struct {
		prot string
		off  uint64
	}
	want := map[mem.VirtAddr]page{}
	for _, s := range im.Segments {
		pages := s.Range(bias).PageAlign()
		file := s.FileRange(bias)
		for a := pages.Start; a < pages.End; a += mem.PageSize {
			if file.Overlaps(mem.PageOf(a)) {
				want[a] = page{s.Prot.String() + "p", uint64(s.Offset)&^(mem.PageSize-1) + uint64(a-pages.Start)}
			} else {
				delete(want, a)
			}
		}
	}
	got := map[mem.VirtAddr]page{}
	for _, m := range readMaps(t, pid) {
		if !strings.HasSuffix(m.name, "/x") {
			continue
		}
		for ; m.start < m.end; m.start += mem.PageSize {
			got[m.start] = page{m.prot, m.off}
			m.off += mem.PageSize
		}
	}
	for a, p := range want {
		if got[a] != p {
			t.Fatalf("seed %d: page %v is %+v in Linux, want %+v", seed, a, got[a], p)
		}
	}
	if len(got) != len(want) {
		t.Errorf("seed %d: Linux maps %d pages of the file, want %d", seed, len(got), len(want))
	}
}

// mapping is a line of /proc/PID/maps.
type mapping struct {
	start, end mem.VirtAddr
	prot       string // r-xp
	off        uint64
	name       string
}

func readMaps(t *testing.T, pid int) (maps []mapping) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var m mapping
		var dev, ino string
		if n, err := fmt.Sscanf(line, "%x-%x %s %x %s %s %s", &m.start, &m.end, &m.prot, &m.off, &dev, &ino, &m.name); n < 6 {
			t.Fatalf("%q: %v", line, err)
		}
		maps = append(maps, m)
	}
	return maps
}

// TestStackOracle compares the permissions of the stack.
func TestStackOracle(t *testing.T) {
	k := newKernel(t)
	for _, c := range stacks {
		seen := false
		err := k.exec(buildStack(c.flags), func(pid int) {
			for _, m := range readMaps(t, pid) {
				if m.name != "[stack]" {
					continue
				}
				seen = true
				if want := c.want.String() + "p"; m.prot != want {
					t.Errorf("PT_GNU_STACK flags %v: stack is %s in Linux, want %s", c.flags, m.prot, want)
				}
			}
		})
		if err != nil || !seen {
			t.Errorf("PT_GNU_STACK flags %v: stack seen %v, error %v", c.flags, seen, err)
		}
	}
}

// entry returns AT_ENTRY of a process: e_entry with the load bias.
func entry(t *testing.T, pid int) uint64 {
	t.Helper()
	const atEntry = 9
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	if err != nil {
		t.Fatal(err)
	}
	for ; len(b) >= 16; b = b[16:] {
		if binary.LittleEndian.Uint64(b) == atEntry {
			return binary.LittleEndian.Uint64(b[8:])
		}
	}
	t.Fatal("no AT_ENTRY")
	return 0
}
