package importer

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/mem"
	"vmsim/trace"
)

// traced runs a command under strace with these options, and returns its log.
func traced(t testing.TB, options []string, command ...string) []byte {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is missing (Debian package strace)")
	}
	log := filepath.Join(t.TempDir(), "log")
	cmd := exec.Command(strace, append(append(options, "-o", log), command...)...)
	if os.Geteuid() == 0 { // where the first System V segment has the number 0, as on a new machine
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWIPC}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("strace: %v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// zoo builds testdata/zoo.c.
func zoo(t testing.TB) string {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is missing (Debian package gcc)")
	}
	bin := filepath.Join(t.TempDir(), "zoo")
	if out, err := exec.Command(gcc, "-O1", "-o", bin, "testdata/zoo.c", "-lpthread").CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return bin
}

// imports imports a log that must be whole.
func imports(t testing.TB, log []byte) imported {
	t.Helper()
	got := run(t, Strace, bytes.NewReader(log))
	if got.err != nil || !got.header.Whole {
		t.Fatalf("error %v, missing %q\n%s", got.err, got.header.Missing, log)
	}
	return got
}

// page is what maps says of a page.
type page struct {
	prot   mem.Prot
	shared bool
	path   string
	offset uint64
}

// space is the pages of a process that its own calls mapped. It is not a model of
// the kernel: it believes every result.
type space struct {
	pages map[mem.VirtAddr]page
	start mem.VirtAddr // of the heap
	brk   mem.VirtAddr
}

func newSpace() *space { return &space{pages: map[mem.VirtAddr]page{}} }

func (s *space) clone() *space {
	c := newSpace()
	c.start, c.brk = s.start, s.brk
	for a, p := range s.pages {
		c.pages[a] = p
	}
	return c
}

// each calls f for the pages of [addr, addr+size).
func each(addr mem.VirtAddr, size uint64, f func(mem.VirtAddr, uint64)) {
	for off := uint64(0); off < size; off += mem.PageSize {
		f(addr+mem.VirtAddr(off), off)
	}
}

// do changes s as a call that succeeded did.
func (s *space) do(t *testing.T, op trace.Op) {
	if op.Want == nil || op.Want.Errno != 0 {
		return
	}
	switch op.Kind {
	case trace.OpMmap:
		each(op.Want.Addr, op.Len, func(a mem.VirtAddr, off uint64) {
			p := page{prot: op.Prot, shared: op.Flags&trace.MapShared != 0, path: op.Path}
			if op.Path != "" {
				p.offset = op.Offset + off
			} else if p.shared {
				p.path, p.offset = "/dev/zero", off
			}
			s.pages[a] = p
		})
	case trace.OpShmat:
		each(op.Want.Addr, op.Len, func(a mem.VirtAddr, off uint64) {
			s.pages[a] = page{op.Prot, true, "/SYSV", off}
		})
	case trace.OpShmdt:
		for a := op.Addr; s.pages[a].path == "/SYSV" && s.pages[a].offset == uint64(a-op.Addr); a += mem.PageSize {
			delete(s.pages, a)
		}
	case trace.OpMunmap:
		each(op.Addr, op.Len, func(a mem.VirtAddr, _ uint64) { delete(s.pages, a) })
	case trace.OpMprotect:
		each(op.Addr, op.Len, func(a mem.VirtAddr, _ uint64) {
			if p, ok := s.pages[a]; ok {
				p.prot = op.Prot
				s.pages[a] = p
			}
		})
	case trace.OpMremap:
		s.remap(op)
	case trace.OpBrk:
		now := (op.Want.Addr + mem.PageSize - 1) &^ (mem.PageSize - 1)
		if s.start == 0 {
			s.start, s.brk = now, now
		}
		if now > s.brk+1<<30 || s.brk > now+1<<30 {
			t.Fatalf("%v: the heap moves by more than 1 GiB", &op)
		}
		for ; s.brk < now; s.brk += mem.PageSize {
			s.pages[s.brk] = page{prot: mem.ProtRead | mem.ProtWrite, path: "[heap]"}
		}
		for ; s.brk > now; s.brk -= mem.PageSize {
			delete(s.pages, s.brk-mem.PageSize)
		}
	}
}

func (s *space) remap(op trace.Op) {
	var moved []page
	each(op.Addr, op.Len, func(a mem.VirtAddr, _ uint64) {
		moved = append(moved, s.pages[a])
		if op.Remap&trace.RemapDontUnmap == 0 {
			delete(s.pages, a)
		}
	})
	each(op.Want.Addr, op.NewLen, func(a mem.VirtAddr, off uint64) {
		p := moved[min(int(off/mem.PageSize), len(moved)-1)]
		s.pages[a] = p
	})
}

// spaces follows all processes, and returns each as it was at its end or its last
// exec.
func spaces(t *testing.T, ops []trace.Op) map[int]*space {
	all := map[int]*space{1: newSpace()}
	for _, op := range ops {
		s := all[op.PID]
		switch op.Kind {
		case trace.OpFork:
			all[op.Want.PID] = s.clone()
		case trace.OpVfork:
			all[op.Want.PID] = s
		case trace.OpExec:
			if op.Want.Errno == 0 {
				all[op.PID] = newSpace()
			}
		case trace.OpFile, trace.OpThread, trace.OpExit:
		default:
			s.do(t, op)
		}
	}
	return all
}

// readMaps reads a copy of /proc/PID/maps, page by page.
func readMaps(t *testing.T, path string) map[mem.VirtAddr]page {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pages := map[mem.VirtAddr]page{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to, offset uint64
		var perms, dev, name string
		var inode uint64
		if n, err := fmt.Sscanf(lines.Text(), "%x-%x %s %x %s %d", &from, &to, &perms, &offset, &dev, &inode); n != 6 {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		if words := strings.Fields(lines.Text()); len(words) > 5 {
			name = strings.Join(words[5:], " ")
		}
		prot, err := mem.ParseProt(perms[:3])
		if err != nil {
			t.Fatal(err)
		}
		each(mem.VirtAddr(from), to-from, func(a mem.VirtAddr, off uint64) {
			p := page{prot: prot, shared: perms[3] == 's', path: name}
			if inode != 0 || strings.HasPrefix(name, "/") { // the first System V segment has the inode 0
				p.offset = offset + off
			}
			pages[a] = p
		})
	}
	return pages
}

// sameFile reports whether a name of the trace is what maps calls so.
func sameFile(t *testing.T, ours, maps string) bool {
	switch {
	case strings.HasPrefix(ours, "/SYSV"), strings.HasPrefix(ours, "/memfd:zoo"), ours == "/dev/zero":
		return strings.HasPrefix(maps, ours) && strings.HasSuffix(maps, " (deleted)")
	case ours == "" || ours == "[heap]":
		return maps == ours || maps == ""
	}
	real, err := filepath.EvalSymlinks(ours)
	if err != nil {
		t.Fatalf("the trace names %s: %v", ours, err)
	}
	return real == maps
}

// TestStraceMaps: the areas of a program rebuilt from the operations are those
// that the kernel lists, but for what exec mapped.
func TestStraceMaps(t *testing.T) {
	bin := zoo(t)
	for _, options := range [][]string{{"-f"}, {"-f", "-y", "-ttt"}, {"-f", "-yy", "-tt", "-T", "-i", "-n"},
		{"-f", "-y", "-ttt", "-s", "4096", "-e", "trace=%memory,%process,%desc,chdir,fchdir,shmget"}, {"-f", "-X", "raw"}} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			dir := t.TempDir()
			got := imports(t, traced(t, options, bin, dir))
			all := spaces(t, got.ops)
			// 2: the program; 3 and 4: its threads; 5: the fork's child; 6: the vfork's.
			for pid, role := range map[int]string{2: "parent", 5: "child"} {
				compareMaps(t, role, bin, all[pid], readMaps(t, filepath.Join(dir, role)))
			}
			if n := len(all[2].pages); n < 40 {
				t.Errorf("%d pages: too few to mean anything", n)
			}
			zooTasks(t, got)
			if got.missing("2 files") || got.missing("1 files") {
				t.Errorf("%q", got.header.Missing)
			}
		})
	}
}

// zooTasks checks who did what in the zoo.
func zooTasks(t *testing.T, got imported) {
	t.Helper()
	var tasks []string
	for _, op := range got.ops {
		switch op.Kind {
		case trace.OpFork, trace.OpVfork, trace.OpThread, trace.OpExit:
			op.Time, op.Bits = 0, 0
			tasks = append(tasks, op.String())
		case trace.OpExec:
			tasks = append(tasks, fmt.Sprintf("%d exec %s", op.PID, filepath.Base(op.Path)))
		}
	}
	for thread := 3; thread <= 4; thread++ { // their ends come in any order
		tasks = remove(t, tasks, fmt.Sprintf("2/%d exit", thread))
	}
	want := []string{"1 fork = 2", "2 exec zoo", "2 thread = 3", "2 thread = 4", "2 fork = 5", "5 exit 3",
		"2 vfork = 6", "6 exec true", "6 exit", "2 exit"}
	if diff := cmp.Diff(want, tasks); diff != "" {
		t.Errorf("tasks (-want +got):\n%s", diff)
	}
}

func remove(t *testing.T, list []string, s string) []string {
	t.Helper()
	for i := range list {
		if list[i] == s {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	t.Errorf("%q is missing", s)
	return list
}

// compareMaps holds pages that calls mapped against all that are there.
func compareMaps(t *testing.T, role, bin string, ours *space, maps map[mem.VirtAddr]page) {
	t.Helper()
	bad := 0
	complain := func(format string, args ...any) {
		if bad++; bad <= 10 {
			t.Errorf(role+": "+format, args...)
		}
	}
	for a, p := range ours.pages {
		m, ok := maps[a]
		if !ok || m.prot != p.prot || m.shared != p.shared || m.offset != p.offset || !sameFile(t, p.path, m.path) {
			complain("%v: the operations give %+v, the kernel has %+v (%v)", a, p, m, ok)
		}
	}
	inExec := func(a mem.VirtAddr, m page) bool { // what exec maps; the program and its .bss lie below the heap
		switch m.path {
		case bin, "":
			return a < ours.start
		case "[stack]", "[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]":
			return true
		}
		return strings.Contains(m.path, "/ld-linux") || strings.Contains(m.path, "/ld-2")
	}
	for a, m := range maps {
		if _, ok := ours.pages[a]; !ok && !inExec(a, m) {
			complain("%v: the kernel has %+v, the operations nothing", a, m)
		}
	}
}

// TestStraceCounts: as many calls as strace itself counts in the same run.
func TestStraceCounts(t *testing.T) {
	for name, command := range map[string][]string{
		"shell":  {"sh", "-c", "for i in 1 2 3 4 5 6 7 8; do /bin/true; done; (exit 3); /bin/true | /bin/true"},
		"python": {"python3", "-c", "import json"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Skipf("%s is missing (Debian package %s)", command[0], command[0])
			}
			log := traced(t, []string{"-f", "-y", "-ttt", "-s", "4096", "-C"}, command...)
			got := imports(t, log)
			want := summary(t, string(log))
			for _, row := range []struct {
				kind  trace.Kind
				calls []string
			}{
				{trace.OpMmap, []string{"mmap"}}, {trace.OpMunmap, []string{"munmap"}}, {trace.OpMprotect, []string{"mprotect"}},
				{trace.OpBrk, []string{"brk"}}, {trace.OpMremap, []string{"mremap"}}, {trace.OpMadvise, []string{"madvise"}},
				{trace.OpExec, []string{"execve"}},
			} {
				calls := 0
				for _, c := range row.calls {
					calls += want[c]
				}
				ops := 0
				for _, op := range got.ops {
					if op.Kind == row.kind {
						ops++
					}
				}
				if ops != calls {
					t.Errorf("%d operations %v, strace counted %d calls", ops, row.kind, calls)
				}
			}
			if want["mmap"] < 10 {
				t.Errorf("strace counted %d calls of mmap", want["mmap"])
			}
			for _, op := range got.ops {
				if op.Kind == trace.OpMmap && op.Path != "" && op.Want.Errno == 0 {
					if _, err := os.Stat(op.Path); err != nil {
						t.Errorf("%v: %v", &op, err)
					}
				}
			}
		})
	}
}

// summary reads the table of strace -C: calls by name.
func summary(t *testing.T, log string) map[string]int {
	_, table, ok := strings.Cut(log, "% time ")
	if !ok {
		t.Fatalf("strace wrote no table:\n%s", log)
	}
	calls := map[string]int{}
	for line := range strings.Lines(table) {
		words := strings.Fields(line)
		if len(words) < 5 {
			continue
		}
		if n, err := strconv.Atoi(words[3]); err == nil {
			calls[words[len(words)-1]] = n
		}
	}
	return calls
}

// TestStraceTerminal: what strace writes to stderr says the same as what it writes
// to a file, with and without the ends of processes.
func TestStraceTerminal(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is missing (Debian package strace)")
	}
	const script = "/bin/true; (/bin/true; :); (exit 3)"
	shape := func(got imported) (lines []string) {
		for _, op := range got.ops {
			op.Addr, op.Time = 0, 0 // randomised
			if op.Want != nil {
				op.Want.Addr = 0
			}
			lines = append(lines, op.String())
		}
		return lines
	}
	want := shape(imports(t, traced(t, []string{"-f", "-y", "-s", "4096", "-I", "4"}, "sh", "-c", script+"; exit 0")))
	for _, quiet := range []string{"", "-q", "-qq"} {
		options := []string{"-f", "-y", "-s", "4096"}
		if quiet != "" {
			options = append(options, quiet)
		}
		cmd := exec.Command(strace, append(options, "sh", "-c", script+"; exit 0")...)
		var log bytes.Buffer
		cmd.Stderr = &log
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, log.Bytes())
		}
		got := shape(imports(t, log.Bytes()))
		if quiet == "-qq" { // ends come late
			got, want = withoutExits(got), withoutExits(want)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("strace %s (-file +stderr):\n%s", quiet, diff)
		}
	}
}

func withoutExits(lines []string) (kept []string) {
	for _, l := range lines {
		if !strings.Contains(l, " exit") || strings.Contains(l, "arg=") {
			kept = append(kept, l)
		}
	}
	return kept
}

func FuzzStrace(f *testing.F) {
	for _, row := range straceRows {
		if len(row.log) < 64<<10 {
			f.Add([]byte(row.log))
		}
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		if len(log) > 64<<10 {
			return
		}
		got := run(t, Strace, bytes.NewReader(log))
		if lines := bytes.Count(log, []byte{'\n'}); len(got.ops) > 1+4*lines {
			t.Errorf("%d operations of %d lines", len(got.ops), lines)
		}
		if _, err := trace.Format(got.ops); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkStrace reads the log of a shell that starts programs, beside a count of
// its lines.
func BenchmarkStrace(b *testing.B) {
	log := traced(b, []string{"-f", "-y", "-ttt"}, "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done")
	b.Run("lines", func(b *testing.B) {
		b.SetBytes(int64(len(log)))
		for b.Loop() {
			if bytes.Count(log, []byte{'\n'}) == 0 {
				b.Fatal("no lines")
			}
		}
	})
	b.Run("import", func(b *testing.B) {
		b.SetBytes(int64(len(log)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Strace("x", bytes.NewReader(log), func(*trace.Op) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
