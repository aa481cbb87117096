package session

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmsim/internal/event"
	"vmsim/internal/live"
	"vmsim/internal/testchild"
	"vmsim/mem"
)

// looked is what a look at a process or a core found.
type looked struct {
	name     string
	mappings []MappingResult
	events   []event.Event
	tally    Tally
}

// look verifies a process.
func look(t *testing.T, pid int) looked {
	t.Helper()
	var rec recorder
	var l looked
	v := NewForeign(&rec, never)
	var err error
	l.name, err = v.Process(pid, func(r MappingResult) { l.mappings = append(l.mappings, r) })
	if err != nil {
		t.Fatal(err)
	}
	l.events, l.tally = rec.events, v.Tally()
	l.check(t)
	return l
}

// check is what holds of every result.
func (l looked) check(t *testing.T) {
	t.Helper()
	findings := 0
	for _, r := range l.mappings {
		if n := r.Verified + r.Differ + r.Findings + r.Unread + r.Unstable; r.Verdict != Skipped && n != r.Resident {
			t.Errorf("%v %s: %d of %d pages accounted for: %s", r.Range, r.Path, n, r.Resident, show(r))
		}
		if (r.Findings > 0) != (r.Verdict == Fail) || (r.Resident == 0 && r.Verdict == OK) || r.PrivateEqual > r.Private {
			t.Errorf("%s", show(r))
		}
		findings += r.Findings
	}
	if n := len(failures(l.events)); n != findings {
		t.Errorf("%d findings, %d events of failures", findings, n)
	}
	last, ok := l.events[len(l.events)-1].(event.PageVerifyOK)
	if !ok || last.Failed != findings || last.Verified+last.Failed != l.tally.Pages {
		t.Errorf("last event %+v, %d pages, %d findings", last, l.tally.Pages, findings)
	}
}

// show prints a result; %+v would print its range alone.
func show(r MappingResult) string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// found returns all findings.
func (l looked) found() (fs []Finding) {
	for _, r := range l.mappings {
		fs = append(fs, r.Found...)
	}
	return fs
}

// at returns the mapping that holds addr.
func (l looked) at(t *testing.T, addr mem.VirtAddr) MappingResult {
	t.Helper()
	i := slices.IndexFunc(l.mappings, func(r MappingResult) bool { return r.Contains(addr) })
	if i < 0 {
		t.Fatalf("no mapping holds %v", addr)
	}
	return l.mappings[i]
}

// poke writes into a process as a debugger does: over any permission.
func poke(t *testing.T, pid int, addr mem.VirtAddr, b ...byte) {
	t.Helper()
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, int64(addr)); err != nil {
		t.Fatal(err)
	}
}

// peek reads n bytes there.
func peek(t *testing.T, pid int, addr mem.VirtAddr, n int) []byte {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := f.ReadAt(b, int64(addr)); err != nil {
		t.Fatal(err)
	}
	return b
}

// pages writes a file of 64 different pages.
func pages(t *testing.T, path string) []byte {
	t.Helper()
	b := make([]byte, 64*mem.PageSize)
	for i := range b {
		b[i] = byte(1 + (i*7+i/mem.PageSize*13)%255)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return b
}

// A process that nobody touched: relocated and written data is told apart, the
// rest is what the files say.
func TestProcessClean(t *testing.T) {
	c := testchild.Start(t, testchild.Build(t, t.TempDir()))
	l := look(t, c.PID)
	if l.name != "child" || len(l.found()) > 0 {
		t.Errorf("%s: %+v", l.name, l.found())
	}
	text := l.at(t, c.Addr)
	if text.Verdict != OK || text.Verified == 0 || text.Differ != 0 || text.Perms != "r-xp" || text.Kind != "file" {
		t.Errorf("text: %+v", text)
	}
	relro, data := 0, 0
	for _, r := range l.mappings {
		if r.Path != text.Path {
			continue
		}
		if r.Differ > 0 && r.Perms == "r--p" {
			relro++
		}
		if r.Perms == "rw-p" {
			data++
			if r.Differ == 0 || r.Written == 0 || r.WrittenBytes == 0 || len(r.Stretches) != r.Written {
				t.Errorf(".data: %s", show(r))
			}
		}
		for _, s := range r.Stretches {
			if !r.Contains(s.Addr) || s.Off != r.Off+uint64(s.Addr-r.Start) || s.Want != nil || s.Got != nil {
				t.Errorf("%+v in %+v", s, r.Range)
			}
		}
	}
	if relro != 1 || data != 1 {
		t.Errorf("%d RELRO mappings, %d of .data", relro, data)
	}
}

// A byte of a running program's text, and one of its constants.
func TestProcessModified(t *testing.T) {
	for _, c := range []struct {
		name, symbol string
		off          mem.VirtAddr // of the byte, in its symbol
		b            func(old byte) byte
		kind         string
	}{
		{"text", "work", 1, func(old byte) byte { return old ^ 1 }, TextModified},
		{"int3", "work", 1, func(byte) byte { return 0xcc }, Breakpoint},
		{"constants", "constants", 5000, func(old byte) byte { return old ^ 0x80 }, ReadOnlyModified},
	} {
		for build, builder := range map[string]func(testing.TB, string) string{"pie": testchild.Build, "static": testchild.BuildStatic} {
			t.Run(c.name+"/"+build, func(t *testing.T) {
				bin := builder(t, t.TempDir())
				child := testchild.Start(t, bin)
				addr := child.Addr + symbolAt(t, bin, c.symbol) - symbolAt(t, bin, "work") + c.off
				old := peek(t, child.PID, addr, 1)[0]
				poke(t, child.PID, addr, c.b(old))
				l := look(t, child.PID)
				fs := l.found()
				if len(fs) != 1 {
					t.Fatalf("%d findings: %+v", len(fs), fs)
				}
				f, r := fs[0], l.at(t, addr)
				want := Stretch{Addr: addr, Off: r.Off + uint64(addr-r.Start), Len: 1, Want: []byte{old}, Got: []byte{c.b(old)},
					Symbol: fmt.Sprintf("%s+0x%x", c.symbol, uint64(c.off))}
				if f.Kind != c.kind || f.Page != addr.PageDown() || !f.Private || f.Bytes != 1 || len(f.At) != 1 || fmt.Sprint(f.At[0]) != fmt.Sprint(want) {
					t.Errorf("%+v, want %+v", f, want)
				}
				e := failures(l.events)[0].(event.PageVerifyFail)
				if e.PID != child.PID || mem.VirtAddr(e.VAddr) != addr.PageDown() || e.FirstDiff != addr.PageOffset() || e.Expected != event.Byte(old) {
					t.Errorf("%+v", e)
				}
				// Put back: a private page that is equal.
				poke(t, child.PID, addr, old)
				l = look(t, child.PID)
				if r := l.at(t, addr); len(l.found()) != 0 || r.PrivateEqual != 1 || r.Private != 1 {
					t.Errorf("after it was put back: %s", show(r))
				}
			})
		}
	}
}

// symbolAt asks nm for an address.
func symbolAt(t *testing.T, bin, name string) mem.VirtAddr {
	t.Helper()
	out, err := exec.Command("nm", bin).Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		var addr mem.VirtAddr
		var typ, sym string
		if n, _ := fmt.Sscanf(line, "%x %s %s", &addr, &typ, &sym); n == 3 && sym == name {
			return addr
		}
	}
	t.Fatalf("%s has no symbol %s", bin, name)
	return 0
}

// A breakpoint that gdb set: while gdb holds the process, and after gdb died and
// left it running.
func TestProcessGDB(t *testing.T) {
	if _, err := exec.LookPath("gdb"); err != nil {
		t.Skip("needs gdb")
	}
	dir := t.TempDir()
	child := testchild.Start(t, testchild.Build(t, dir))
	flag := filepath.Join(dir, "set")
	gdb := exec.Command("gdb", "-q", "-nx", "-batch", "-p", fmt.Sprint(child.PID), "-ex", "set breakpoint always-inserted on",
		"-ex", "break never", "-ex", "shell echo > "+flag+"; exec sleep 1000")
	gdb.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out := &bytes.Buffer{}
	gdb.Stdout, gdb.Stderr = out, out
	gdb.Env = append(os.Environ(), "DEBUGINFOD_URLS=")
	if err := gdb.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		syscall.Kill(-gdb.Process.Pid, syscall.SIGKILL)
		gdb.Wait()
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(flag); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("gdb does not come: %s", out)
		}
	}
	never := func(l looked) Finding {
		var hits []Finding
		for _, f := range l.found() {
			// gdb sets one in the dynamic linker too, to see libraries come.
			if f.Kind != Breakpoint || !f.Private || f.Bytes == 0 || f.At[0].Got[0] != 0xcc {
				t.Errorf("%+v", f)
			}
			if strings.HasPrefix(f.At[0].Symbol, "never") {
				hits = append(hits, f)
			}
		}
		if len(hits) != 1 {
			t.Fatalf("%d breakpoints in never: %+v", len(hits), l.found())
		}
		return hits[0]
	}
	held := never(look(t, child.PID))
	syscall.Kill(-gdb.Process.Pid, syscall.SIGKILL)
	gdb.Wait()
	if running := never(look(t, child.PID)); running.At[0].Addr != held.At[0].Addr {
		t.Errorf("%+v, while it was held %+v", running, held)
	}
}

// Files that are not where they were, and memory that never was a file.
func TestProcessBacking(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: /proc/PID/map_files")
	}
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	path := filepath.Join(dir, "f")
	truncate := func(sizes ...int64) func() {
		return func() {
			for _, n := range sizes {
				if err := os.Truncate(path, n); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, c := range []struct {
		name, mode string
		then       func()
		tell       string // then
		kind       live.Kind
		least      int // pages resident
		most       int // after a truncation, what fault-around brings depends on the file system
	}{
		{"as it was", "map", func() {}, "", live.File, 64, 64},
		{"some pages", "some", func() {}, "", live.File, 2, 2},
		{"deleted", "map", func() { os.Remove(path) }, "", live.Deleted, 64, 64},
		{"replaced", "map", func() { os.Remove(path); os.WriteFile(path, []byte("another"), 0o644) }, "", live.Replaced, 64, 64},
		{"truncated in a page", "map", truncate(10*mem.PageSize + 100), "t", live.File, 10, 11},
		{"truncated between pages", "map", truncate(10 * mem.PageSize), "t", live.File, 10, 10},
		{"truncated and extended", "map", truncate(100, 1<<20), "t", live.File, 10, 64},
		{"truncated to nothing", "map", truncate(0), "", live.File, 0, 0},
		{"written in place", "map", func() { overwrite(t, path) }, "", live.File, 64, 64},
		{"without permission to read", "none", func() {}, "", live.File, 64, 64},
		{"memfd", "memfd", func() {}, "", live.Memfd, 64, 64},
		{"shm", "shm", func() {}, "", live.SysV, 64, 64},
		{"anon", "anon", func() {}, "", live.SharedAnon, 64, 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			pages(t, path)
			child := testchild.Start(t, bin, c.mode, path)
			c.then()
			if c.tell != "" {
				child.Tell(t, c.tell)
			}
			l := look(t, child.PID)
			r := l.at(t, child.Addr)
			verdict := OK
			if r.Resident == 0 {
				verdict = Absent
			}
			if r.Kind != string(c.kind) || r.Resident < c.least || r.Resident > c.most || r.Verified != r.Resident || r.Private != 0 ||
				r.Verdict != verdict || len(l.found()) != 0 {
				t.Error(show(r))
			}
			os.Remove(path)
		})
	}
}

// overwrite changes a byte of a file, through the page cache.
func overwrite(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("other"), 5*mem.PageSize); err != nil {
		t.Fatal(err)
	}
}

// Private copies in a file that is no ELF: one differs, one is equal; the
// mapping is read-only by now.
func TestProcessWritten(t *testing.T) {
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	path := filepath.Join(dir, "f")
	pages(t, path)
	child := testchild.Start(t, bin, "write", path)
	l := look(t, child.PID)
	r := l.at(t, child.Addr)
	if r.Verdict != OK || r.Resident != 64 || r.Verified != 63 || r.Private != 2 || r.PrivateEqual != 1 || r.Differ != 1 || r.WrittenBytes != 1 {
		t.Errorf("%s", show(r))
	}
	if len(r.Stretches) != 1 || r.Stretches[0].Addr != child.Addr+mem.PageSize+5 || r.Stretches[0].Off != mem.PageSize+5 || r.Stretches[0].Len != 1 {
		t.Errorf("%+v", r.Stretches)
	}
	if len(r.Remarks) != 1 || !strings.Contains(r.Remarks[0], "no ELF file") {
		t.Errorf("%q", r.Remarks)
	}
}

// A shared page that is written all the time is no finding.
func TestProcessBusy(t *testing.T) {
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	path := filepath.Join(dir, "f")
	pages(t, path)
	child := testchild.Start(t, bin, "shared", path)
	for range 20 {
		r := look(t, child.PID).at(t, child.Addr)
		if r.Findings != 0 || r.Verified+r.Unstable != 64 || r.Unstable > 1 {
			t.Fatalf("%s", show(r))
		}
	}
}

// Bytes behind the end of the file: who may have written them is told so, who
// may not sees a finding.
func TestProcessTail(t *testing.T) {
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	path := filepath.Join(dir, "f")
	if err := os.WriteFile(path, []byte("a file of some bytes"), 0o644); err != nil {
		t.Fatal(err)
	}
	writer := testchild.Start(t, bin, "tail", path)
	r := look(t, writer.PID).at(t, writer.Addr)
	if r.Verdict != OK || r.Verified != 1 || len(r.Remarks) != 1 {
		t.Errorf("%s", show(r))
	}
	reader := testchild.Start(t, bin, "one", path)
	r = look(t, reader.PID).at(t, reader.Addr)
	if r.Findings != 1 || r.Found[0].Kind != TailNotZero || r.Found[0].At[0].Off != 4095 || r.Found[0].Private {
		t.Errorf("%s", show(r))
	}
}

// tmpfs maps a huge page whole, with the pages behind the end of the file.
func TestProcessHugeTmpfs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mount")
	}
	dir := t.TempDir()
	mnt := filepath.Join(dir, "mnt")
	if err := os.Mkdir(mnt, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", mnt, "tmpfs", 0, "size=16m,huge=always"); err != nil {
		t.Skipf("needs tmpfs with huge pages, CONFIG_TRANSPARENT_HUGEPAGE: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(mnt, syscall.MNT_DETACH) })
	child := testchild.Start(t, testchild.Build(t, dir), "huge", filepath.Join(mnt, "f"))
	l := look(t, child.PID)
	r := l.at(t, child.Addr)
	if r.Resident != mem.SubPages || r.Verified != mem.SubPages || len(l.found()) != 0 {
		t.Error(show(r))
	}
}

// Linux never shows a clean page that differs from its file. Here the file is
// another than the one that is mapped.
func TestProcessCleanDiffers(t *testing.T) {
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	path := filepath.Join(dir, "f")
	right := pages(t, path)
	child := testchild.Start(t, bin, "map", path)
	for _, c := range []struct {
		name string
		file func() mem.File
		want MappingResult
		kind string
	}{
		{"the file itself", func() mem.File { return mem.NewBytesFile("f", right) }, MappingResult{Verified: 64}, ""},
		{"a byte", func() mem.File {
			b := slices.Clone(right)
			b[7*mem.PageSize+9] ^= 1
			return mem.NewBytesFile("f", b)
		}, MappingResult{Verified: 63, Findings: 1}, CleanDiffers},
		{"it ends before", func() mem.File { return mem.NewBytesFile("f", right[:60*mem.PageSize]) },
			MappingResult{Verified: 60, Findings: 4}, BeyondEnd},
		{"the end is not zero", func() mem.File { return mem.NewBytesFile("f", right[:64*mem.PageSize-5]) },
			MappingResult{Verified: 63, Findings: 1}, TailNotZero},
		{"it never holds still", func() mem.File { return &restless{File: mem.NewBytesFile("f", right), at: 3 * mem.PageSize} },
			MappingResult{Verified: 63, Unstable: 1}, ""},
		{"it was wrong for a moment", func() mem.File { return &restless{File: mem.NewBytesFile("f", right), at: 3 * mem.PageSize, until: 3} },
			MappingResult{Verified: 64}, ""},
		{"it cannot be read", func() mem.File { return failing{mem.NewBytesFile("f", right)} }, MappingResult{Unread: 64}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := live.Open(child.PID)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			m := p.Mappings()[slices.IndexFunc(p.Mappings(), func(m live.Mapping) bool { return m.Contains(child.Addr) })]
			var rec recorder
			check := &processCheck{v: NewForeign(&rec, never), p: p, last: m, backing: &live.Backing{Kind: live.File, File: c.file()}}
			defer check.close()
			r, err := check.mapping(m)
			if err != nil || r.Resident != 64 || r.Verified != c.want.Verified || r.Findings != c.want.Findings || r.Unstable != c.want.Unstable || r.Unread != c.want.Unread {
				t.Fatalf("%s, %v", show(r), err)
			}
			for _, f := range r.Found {
				if f.Kind != c.kind || f.Private {
					t.Errorf("%+v", f)
				}
			}
			if len(failures(rec.events)) != c.want.Findings {
				t.Errorf("%v", rec.events)
			}
		})
	}
}

// restless is a file with a byte that changes with each read, until it was read
// so often; 0 is for ever.
type restless struct {
	mem.File
	at, until, reads int
}

func (f *restless) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.reads++
	if i := f.at - int(off); i >= 0 && i < n && (f.until == 0 || f.reads < f.until) {
		p[i] += byte(1 + f.reads%200)
	}
	return n, err
}

type failing struct{ mem.File }

func (failing) ReadAt([]byte, int64) (int, error) { return 0, syscall.EIO }

// Looking at a process changes nothing in it.
func TestProcessFaultsNothingIn(t *testing.T) {
	dir := t.TempDir()
	bin := testchild.Build(t, dir)
	path := filepath.Join(dir, "f")
	pages(t, path)
	child := testchild.Start(t, bin, "some", path)
	poke(t, child.PID, child.Addr+21*mem.PageSize, 0xcc)
	syscall.Kill(child.PID, syscall.SIGSTOP)
	for !strings.Contains(procFile(t, child.PID, "status"), "T (stopped)") {
		time.Sleep(time.Millisecond)
	}
	present := func() (pages []mem.VirtAddr) {
		p, err := live.Open(child.PID)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for e := range p.Entries(mem.Range{Start: 0, End: mem.UserEnd}) {
			pages = append(pages, e.Addr)
		}
		return pages
	}
	before, faults := present(), faultsOf(t, child.PID)
	for range 3 {
		look(t, child.PID)
	}
	if after := present(); !slices.Equal(before, after) || len(before) < 50 {
		t.Errorf("%d pages present before, %d after", len(before), len(after))
	}
	if now := faultsOf(t, child.PID); now != faults {
		t.Errorf("faults before %v, after %v", faults, now)
	}
}

func procFile(t *testing.T, pid int, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// faultsOf returns min_flt and maj_flt.
func faultsOf(t *testing.T, pid int) [2]string {
	t.Helper()
	_, rest, _ := strings.Cut(procFile(t, pid, "stat"), ") ")
	f := strings.Fields(rest)
	return [2]string{f[7], f[9]}
}

func TestProcessErrors(t *testing.T) {
	v := NewForeign(nil, never)
	none := func(MappingResult) { t.Error("a result") }
	if _, err := v.Process(1<<30, none); !errors.Is(err, ErrGone) {
		t.Errorf("%v", err)
	}
	stopped := NewForeign(nil, func() bool { return true })
	if _, err := stopped.Process(os.Getpid(), none); !errors.Is(err, ErrStopped) {
		t.Errorf("%v", err)
	}
}

// modified has three names for what differs.
func TestModified(t *testing.T) {
	want := bytes.Repeat([]byte{0x90}, 16)
	for _, c := range []struct {
		at   map[int]byte
		exec bool
		kind string
	}{
		{map[int]byte{3: 0xcc}, true, Breakpoint},
		{map[int]byte{3: 0xcc, 9: 0xcc}, true, Breakpoint},
		{map[int]byte{3: 0xcc, 9: 0xcd}, true, TextModified},
		{map[int]byte{3: 0xcc}, false, ReadOnlyModified},
	} {
		got := slices.Clone(want)
		for i, b := range c.at {
			got[i] = b
		}
		if kind := modified(got, want, c.exec); kind != c.kind {
			t.Errorf("%v: %s", c.at, kind)
		}
	}
}

// BenchmarkProcess looks at a process that maps 256 MiB of a cached file. ref is
// what cannot be avoided: reading the memory, reading the file, comparing.
func BenchmarkProcess(b *testing.B) {
	dir := b.TempDir()
	bin := testchild.Build(b, dir)
	path := filepath.Join(dir, "f")
	const size = 256 << 20
	data := bytes.Repeat([]byte("some bytes that are not zero, and 64 of them, to fill the file.\n"), size/64)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.Fatal(err)
	}
	child := testchild.Start(b, bin, "all", path)
	v := NewForeign(nil, never)
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", child.PID))
	if err != nil {
		b.Fatal(err)
	}
	defer memory.Close()
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	got, want := make([]byte, mem.HugeSize), make([]byte, mem.HugeSize)
	var ours, ref time.Duration
	for b.Loop() {
		start := time.Now()
		_, err := v.Process(child.PID, func(r MappingResult) {
			if r.Contains(child.Addr) && r.Verified != size/mem.PageSize {
				b.Fatal(r.Verified)
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		for at := int64(0); at < size; at += mem.HugeSize {
			if _, err := memory.ReadAt(got, int64(child.Addr)+at); err != nil {
				b.Fatal(err)
			}
			if _, err := file.ReadAt(want, at); err != nil || !bytes.Equal(got, want) {
				b.Fatal(err)
			}
		}
		ours, ref = ours+middle.Sub(start), ref+time.Since(middle)
	}
	n := float64(b.N) * size
	b.ReportMetric(n/float64(ours.Nanoseconds()), "GB/s")
	b.ReportMetric(n/float64(ref.Nanoseconds()), "ref-GB/s")
	b.ReportMetric(float64(ref)/float64(ours), "x-ref")
}
