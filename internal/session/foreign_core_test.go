package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmsim/internal/core"
	"vmsim/internal/testchild"
	"vmsim/mem"
)

// lookCore verifies a core.
func lookCore(t *testing.T, path string) (looked, CoreInfo) {
	t.Helper()
	var rec recorder
	var l looked
	v := NewForeign(&rec, never)
	info, err := v.Core(path, func(r MappingResult) { l.mappings = append(l.mappings, r) })
	if err != nil {
		t.Fatal(err)
	}
	l.name, l.events, l.tally = info.Name, rec.events, v.Tally()
	l.check(t)
	return l, info
}

// kernelCore lets the kernel write a core of a child of bin, and returns its
// path and the address of work. filter is for coredump_filter.
func kernelCore(t *testing.T, bin, filter string) (path string, work mem.VirtAddr) {
	t.Helper()
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		t.Fatal(err)
	}
	if s := strings.TrimSpace(string(pattern)); s == "" || strings.ContainsAny(s, "|/") {
		t.Skipf("needs kernel.core_pattern to name a file in the directory of the process, not %q", s)
	}
	dir := filepath.Dir(bin)
	child := testchild.Start(t, bin)
	unlimited := unix.Rlimit{Cur: 1 << 30, Max: 1 << 30}
	if err := unix.Prlimit(child.PID, unix.RLIMIT_CORE, &unlimited, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/coredump_filter", child.PID), []byte(filter), 0); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child.PID, syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	if state, err := child.Cmd.Process.Wait(); err != nil || !state.Sys().(syscall.WaitStatus).CoreDump() {
		t.Fatalf("no core: %v, %v", state, err)
	}
	after, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, e := range before {
		known[e.Name()] = true
	}
	for _, e := range after {
		if !known[e.Name()] {
			return filepath.Join(dir, e.Name()), child.Addr
		}
	}
	t.Fatalf("no core in %s", dir)
	return "", 0
}

// inCore returns where the core at path has the byte at addr.
func inCore(t *testing.T, path string, addr mem.VirtAddr) int64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for at := le.Uint64(b[32:]); ; at += 56 {
		p := b[at:]
		if start := le.Uint64(p[16:]); le.Uint32(p) == 1 && start <= uint64(addr) && uint64(addr) < start+le.Uint64(p[32:]) {
			return int64(le.Uint64(p[8:]) + uint64(addr) - start)
		}
	}
}

// flip changes a byte of a file and returns what it was.
func flip(t *testing.T, path string, off int64) byte {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[0] ^ 0xff}, off); err != nil {
		t.Fatal(err)
	}
	return b[0]
}

func TestCoreOfKernel(t *testing.T) {
	for _, c := range []struct {
		name, filter, text, libc string
	}{
		// coredump_filter: 0 private anonymous, 2 private files, 4 ELF headers.
		{"the default", "0x33", "nothing", "first page"},
		{"with text", "0x37", "whole", "whole"},
		{"without headers", "0x23", "nothing", "nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin := testchild.Build(t, t.TempDir())
			path, work := kernelCore(t, bin, c.filter)
			l, info := lookCore(t, path)
			if info.Name != "child" || info.Signal != int(syscall.SIGSEGV) || info.PID == 0 || info.Cut != 0 || len(l.found()) != 0 {
				t.Errorf("%+v, %+v", info, l.found())
			}
			text := l.at(t, work)
			if text.Held != c.text || text.Perms != "r-x" || text.Path != bin || (text.Verdict == OK) != (c.text == "whole") {
				t.Error(show(text))
			}
			libc, written := "", 0
			for _, r := range l.mappings {
				if strings.Contains(r.Path, "libc.so") && r.Off == 0 {
					libc = r.Held
				}
				if r.Differ > 0 {
					written++
				}
			}
			if libc != c.libc || written < 3 {
				t.Errorf("libc's first mapping: %q, want %q; %d mappings with what was written", libc, c.libc, written)
			}
		})
	}
}

func TestCoreFlipped(t *testing.T) {
	bin := testchild.Build(t, t.TempDir())
	path, work := kernelCore(t, bin, "0x37")
	at := inCore(t, path, work+2)
	old := flip(t, path, at)
	l, _ := lookCore(t, path)
	fs := l.found()
	if len(fs) != 1 || fs[0].Kind != TextModified || fs[0].Bytes != 1 || fs[0].At[0].Addr != work+2 || fs[0].At[0].Symbol != "work+0x2" ||
		fs[0].At[0].Want[0] != old || fs[0].Private {
		t.Errorf("%+v", fs)
	}
	flip(t, path, at)

	// In .data it is something written.
	table := work + symbolAt(t, bin, "table") - symbolAt(t, bin, "work") + 3000*4 - 8
	before := l.at(t, table)
	flip(t, path, inCore(t, path, table))
	l, _ = lookCore(t, path)
	if after := l.at(t, table); len(l.found()) != 0 || after.WrittenBytes != before.WrittenBytes+1 {
		t.Errorf("%s\nbefore %s", show(after), show(before))
	}
}

// A core that ends in the middle: what is there is compared, what is missing
// counted.
func TestCoreCut(t *testing.T) {
	bin := testchild.Build(t, t.TempDir())
	path, work := kernelCore(t, bin, "0x37")
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	at := inCore(t, path, work.PageDown()) + mem.PageSize
	if err := os.Truncate(path, at); err != nil {
		t.Fatal(err)
	}
	l, info := lookCore(t, path)
	if info.Cut != uint64(fi.Size()-at) {
		t.Errorf("%d bytes missing, want %d", info.Cut, fi.Size()-at)
	}
	if r := l.at(t, work); r.Verified != 1 || len(l.found()) != 0 {
		t.Error(show(r))
	}
	last := l.mappings[len(l.mappings)-1]
	if last.Held != "nothing" || last.Verdict != Absent {
		t.Error(show(last))
	}
}

// The file is another by now, or gone.
func TestCoreOfAnotherFile(t *testing.T) {
	for _, c := range []struct {
		name         string
		then         func(t *testing.T, bin string)
		kind, reason string
		filter       string
	}{
		{name: "deleted", filter: "0x37", kind: "missing", reason: "no such file or directory",
			then: func(t *testing.T, bin string) { os.Remove(bin) }},
		{name: "a FIFO", filter: "0x37", kind: "unknown", reason: "not a regular file",
			then: func(t *testing.T, bin string) { os.Remove(bin); syscall.Mkfifo(bin, 0o600) }},
		{name: "another build id", filter: "0x33", kind: "replaced", reason: "build id ",
			then: func(t *testing.T, bin string) { rebuild(t, bin, func(b, id []byte) { id[0] ^= 1 }) }},
		{name: "no ELF file", filter: "0x33", kind: "replaced", reason: "the file is none by now",
			then: func(t *testing.T, bin string) { rebuild(t, bin, func(b, id []byte) { b[0] = 0 }) }},
		{name: "without a build id, another entry point", filter: "0x33", kind: "replaced", reason: "its ELF headers are not those in the core",
			then: func(t *testing.T, bin string) {
				rebuild(t, bin, func(b, _ []byte) { b[24]++; hide(b) })
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin := testchild.Build(t, t.TempDir())
			path, work := kernelCore(t, bin, c.filter)
			c.then(t, bin)
			l, _ := lookCore(t, path)
			r := l.at(t, work)
			if r.Verdict != Skipped || r.Kind != c.kind || !strings.Contains(r.Reason, c.reason) || r.Verified != 0 || len(l.found()) != 0 {
				t.Error(show(r))
			}
		})
	}
}

// rebuild puts an edited copy in the place of a file; id are the bytes of its
// build id.
func rebuild(t *testing.T, path string, edit func(b, id []byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte("\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00")) // a SHA-1
	if at < 0 {
		t.Fatal("no build id")
	}
	edit(b, b[at+12:][:20])
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// hide turns the build id of an ELF file into another note.
func hide(b []byte) {
	at := bytes.Index(b, []byte("\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00"))
	b[at+4] = 99
}

// A file whose identity the core does not prove, and that was written after it:
// differences are told and are no findings.
func TestCoreOlderThanFile(t *testing.T) {
	for _, c := range []struct {
		name     string
		when     time.Duration // the file is older than the core by
		findings int
	}{{"file written before", time.Hour, 1}, {"file written after", -time.Hour, 0}} {
		t.Run(c.name, func(t *testing.T) {
			bin := testchild.Build(t, t.TempDir())
			path, work := kernelCore(t, bin, "0x37")
			// Without build ids on either side.
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for at := 0; ; {
				i := bytes.Index(b[at:], []byte("\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00"))
				if i < 0 {
					break
				}
				at += i
				b[at+4] = 99
				at += 8
			}
			b[inCore(t, path, work+2)] ^= 0xff
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
			rebuild(t, bin, func(b, _ []byte) { hide(b) })
			when := time.Now().Add(-c.when)
			if err := os.Chtimes(bin, when, when); err != nil {
				t.Fatal(err)
			}
			l, _ := lookCore(t, path)
			r := l.at(t, work)
			if r.Findings != c.findings || r.Differ != 1-c.findings || (len(r.Remarks) > 0) != (c.findings == 0) {
				t.Error(show(r))
			}
		})
	}
}

// gdb's gcore writes other units into NT_FILE, and leaves out other pages.
func TestCoreOfGDB(t *testing.T) {
	if _, err := exec.LookPath("gcore"); err != nil {
		t.Skip("needs gdb")
	}
	dir := t.TempDir()
	child := testchild.Start(t, testchild.Build(t, dir))
	core := filepath.Join(dir, "core")
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/coredump_filter", child.PID), []byte("0x37"), 0); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("gcore", "-o", core, fmt.Sprint(child.PID))
	cmd.Env = append(os.Environ(), "DEBUGINFOD_URLS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := fmt.Sprintf("%s.%d", core, child.PID)
	l, info := lookCore(t, path)
	text := l.at(t, child.Addr)
	if info.PID != child.PID || info.Name != "child" || text.Held != "whole" || text.Verdict != OK || len(l.found()) != 0 {
		t.Errorf("%+v, %s", info, show(text))
	}
	// The same offsets as the process has.
	live := look(t, child.PID)
	for _, r := range l.mappings {
		if m := live.at(t, r.Start); m.Range != r.Range || m.Off != r.Off || m.Path != r.Path {
			t.Errorf("%s\nin the process %s", show(r), show(m))
		}
	}
	flip(t, path, inCore(t, path, child.Addr+2))
	if l, _ := lookCore(t, path); len(l.found()) != 1 || l.found()[0].At[0].Symbol != "work+0x2" {
		t.Errorf("%+v", l.found())
	}
}

func TestCoreErrors(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	noFiles := make([]byte, 64)
	copy(noFiles, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(noFiles[16:], 4)
	binary.LittleEndian.PutUint16(noFiles[54:], 56)
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want error
	}{
		{filepath.Join(dir, "none"), os.ErrNotExist},
		{fifo, mem.ErrNotRegular},
		{dir, mem.ErrNotRegular},
		{"/bin/true", core.ErrNotCore},
		{write("text", []byte("no core")), nil},
		{write("nofiles", noFiles), ErrNoFiles},
	} {
		_, err := NewForeign(nil, never).Core(c.path, func(MappingResult) { t.Errorf("%s: a result", c.path) })
		if err == nil || c.want != nil && !errors.Is(err, c.want) || strings.Count(err.Error(), c.path) != 1 {
			t.Errorf("%s: %v", c.path, err)
		}
	}
}
