package live

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vmsim/internal/testchild"
	"vmsim/mem"
)

const page = mem.PageSize

// open opens a child's process.
func open(t *testing.T, c *testchild.Child) *Process {
	t.Helper()
	p, err := Open(c.PID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// data writes a file of 64 pages.
func data(t *testing.T, path string) []byte {
	t.Helper()
	b := make([]byte, 64*page)
	for i := range b {
		b[i] = byte(i/page*7 + i%251)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

// mappingAt returns the mapping that holds addr.
func mappingAt(t *testing.T, p *Process, addr mem.VirtAddr) Mapping {
	t.Helper()
	i := slices.IndexFunc(p.Mappings(), func(m Mapping) bool { return m.Contains(addr) })
	if i < 0 {
		t.Fatalf("nothing is mapped at %v", addr)
	}
	return p.Mappings()[i]
}

// present lists the present pages of all mappings, by PAGEMAP_SCAN: the kernel's
// own list, not the one under test.
func present(t *testing.T, pid int, maps []Mapping) (pages []mem.Range) {
	t.Helper()
	const pageIsPresent = 1 << 3
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, m := range maps {
		if m.End > mem.UserEnd {
			continue
		}
		regions := make([][3]uint64, 4096)
		arg := scanArg{size: 96, start: uint64(m.Start), end: uint64(m.End), vec: &regions[0],
			vecLen: uint64(len(regions)), mask: pageIsPresent, returning: pageIsPresent}
		n, err := pagemapScan(f, &arg)
		if err != nil {
			t.Fatalf("PAGEMAP_SCAN (since Linux 6.7) of %v: %v", m.Range, err)
		}
		for _, r := range regions[:n] {
			pages = append(pages, mem.Range{Start: mem.VirtAddr(r[0]), End: mem.VirtAddr(r[1])})
		}
	}
	return pages
}

func TestEntriesAndRead(t *testing.T) {
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	want := data(t, filepath.Join(dir, "f"))
	c := testchild.Start(t, bin, "some", filepath.Join(dir, "f"))
	syscall.Kill(c.PID, syscall.SIGSTOP)
	p := open(t, c)
	m := mappingAt(t, p, c.Addr)
	var got []mem.VirtAddr
	for e := range p.Entries(m.Range) {
		if e.Size != page || e.Prot != mem.ProtRead {
			t.Errorf("%+v", e)
		}
		got = append(got, e.Addr)
	}
	if pages := []mem.VirtAddr{c.Addr + 20*page, c.Addr + 21*page}; !slices.Equal(got, pages) {
		t.Errorf("present: %v, want %v", got, pages)
	}
	b := make([]byte, 2*page)
	if err := p.Read(c.Addr+20*page, b); err != nil || !bytes.Equal(b, want[20*page:22*page]) {
		t.Errorf("%v", err)
	}
	for _, at := range []mem.VirtAddr{19, 21, 40} {
		if err := p.Read(c.Addr+at*page, b); !errors.Is(err, mem.ErrNotPresent) {
			t.Errorf("page %d: %v", at, err)
		}
	}
	// Without looking first, a read populates: that is why one looks.
	if n, err := p.ReadPresent(c.Addr+40*page, b[:page]); n != page || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := p.Read(c.Addr+40*page, b[:page]); err != nil {
		t.Errorf("/proc/PID/mem does not populate: %v", err)
	}
}

// Looking at all of a process leaves its page table and its counts of faults as
// they were.
func TestFaultsNothingIn(t *testing.T) {
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	data(t, filepath.Join(dir, "f"))
	c := testchild.Start(t, bin, "some", filepath.Join(dir, "f"))
	syscall.Kill(c.PID, syscall.SIGSTOP)
	p := open(t, c)
	before, beforeStat := present(t, c.PID, p.Mappings()), must(readStat(c.PID))
	buf := make([]byte, page)
	n := 0
	for e := range p.Entries(mem.Range{Start: 0, End: ^mem.VirtAddr(0)}) {
		if err := p.Read(e.Addr, buf); err != nil && !strings.Contains(err.Error(), "input/output error") { // [vvar]
			t.Errorf("page %v: %v", e.Addr, err)
		}
		n++
	}
	after, afterStat := present(t, c.PID, p.Mappings()), must(readStat(c.PID))
	if !slices.Equal(before, after) {
		t.Errorf("present before %v\nafter %v", before, after)
	}
	if beforeStat.minflt != afterStat.minflt || beforeStat.majflt != afterStat.majflt {
		t.Errorf("faults before %+v, after %+v", beforeStat, afterStat)
	}
	sum := 0
	for _, r := range before {
		sum += int(r.Len() / page)
	}
	if n != sum || n < 50 {
		t.Errorf("Entries has %d pages, PAGEMAP_SCAN %d", n, sum)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestPrivate(t *testing.T) {
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	data(t, filepath.Join(dir, "f"))
	c := testchild.Start(t, bin, "write", filepath.Join(dir, "f"))
	p := open(t, c)
	pages, err := p.Pages(mem.Range{Start: c.Addr, End: c.Addr + 64*page})
	if err != nil || len(pages) != 64 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	for i, pg := range pages {
		if own := i == 1 || i == 2; !pg.Present() || pg.Swapped() || pg.Private() != own {
			t.Errorf("page %d: 0x%x", i, uint64(pg))
		}
	}
}

func TestOpen(t *testing.T) {
	if p, err := Open(1 << 30); !errors.Is(err, ErrGone) || p != nil {
		t.Errorf("no such process: %v, %v", p, err)
	}
	if p, err := Open(2); !errors.Is(err, ErrKernelThread) && !errors.Is(err, ErrGone) { // in a PID namespace there is none
		t.Errorf("kthreadd: %v, %v", p, err)
	}
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	odd := filepath.Join(dir, "a) (b")
	if err := os.Rename(bin, odd); err != nil {
		t.Fatal(err)
	}
	c := testchild.Start(t, odd)
	p := open(t, c)
	if p.Name != "a) (b" {
		t.Errorf("name %q", p.Name)
	}
	exe := mappingAt(t, p, c.Addr)
	first := slices.IndexFunc(p.Mappings(), func(m Mapping) bool { return m.Ino == exe.Ino })
	if uint64(p.Mappings()[first].Start) != p.Bias() || p.Bias() == 0 {
		t.Errorf("bias 0x%x, first mapping %v", p.Bias(), p.Mappings()[first])
	}
	// It ends: what is open reads as gone.
	c.End()
	if _, err := p.Pages(exe.Range); !errors.Is(err, ErrGone) {
		t.Errorf("pagemap of an ended process: %v", err)
	}
	if _, err := p.ReadPresent(c.Addr, make([]byte, 1)); !errors.Is(err, ErrGone) {
		t.Errorf("memory of an ended process: %v", err)
	}
	if _, err := p.Reopen(); !errors.Is(err, ErrGone) {
		t.Errorf("reopen: %v", err)
	}
	pids, err := PIDs()
	if err != nil || !slices.IsSorted(pids) || !slices.Contains(pids, os.Getpid()) || slices.Contains(pids, c.PID) {
		t.Errorf("%v, %v", pids, err)
	}
}

// A zombie has no memory any more.
func TestZombie(t *testing.T) {
	pid, err := syscall.ForkExec("/bin/true", []string{"true"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Wait4(pid, nil, 0, nil)
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(pid); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
}

func TestBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: /proc/PID/map_files")
	}
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	path := filepath.Join(dir, "f")
	fifo := func() {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, mode string
		then       func() // after it was mapped
		kind       Kind   // by map_files
		pathKind   Kind   // without
		readable   bool   // without
	}{
		{"as it was", "map", func() {}, File, File, true},
		{"deleted", "map", func() { os.Remove(path) }, Deleted, Deleted, false},
		{"replaced", "map", func() { os.Remove(path); data(t, path) }, Replaced, Replaced, false},
		{"replaced by rename", "map", func() { data(t, path+"2"); os.Rename(path+"2", path) }, Replaced, Replaced, false},
		{"renamed", "map", func() { os.Rename(path, path+"3") }, File, File, true},
		{"replaced by a FIFO", "map", func() { os.Remove(path); fifo() }, Replaced, Replaced, false},
		{"hidden by a file of the deleted one's name", "map", func() { os.Remove(path); data(t, path+" (deleted)") }, Deleted, Replaced, false},
		{"memfd", "memfd", func() {}, Memfd, Memfd, false},
		{"shm", "shm", func() {}, SysV, SysV, false},
		{"anon", "anon", func() {}, SharedAnon, SharedAnon, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{path, path + "2", path + "3", path + " (deleted)"} {
				os.Remove(name)
			}
			data(t, path)
			child := testchild.Start(t, bin, c.mode, path)
			c.then()
			p := open(t, child)
			m := mappingAt(t, p, child.Addr)
			b := p.Back(m)
			defer b.Close()
			if b.Kind != c.kind || b.File == nil {
				t.Fatalf("%q: %+v", m.Path, b)
			}
			if strings.HasSuffix(b.Path, deletedMark) && c.mode == "map" && c.kind != File {
				t.Errorf("path %q", b.Path)
			}
			if b.File.Name() != b.Path {
				t.Errorf("file is called %q, path %q", b.File.Name(), b.Path)
			}
			// The very file that is mapped, whatever the path leads to.
			want, got := make([]byte, page), make([]byte, page)
			if err := p.Read(child.Addr, want); err != nil {
				t.Fatal(err)
			}
			if _, err := b.File.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
				t.Errorf("not the file that is mapped (%v)", err)
			}
			p.pathsOnly = true
			b = p.Back(m)
			defer b.Close()
			if b.Kind != c.pathKind || (b.File != nil) != c.readable || (b.Why == nil) != c.readable {
				t.Errorf("by path: %+v", b)
			}
		})
	}
}
