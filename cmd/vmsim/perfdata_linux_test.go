package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/perf"
	"vmsim/internal/perfdata"
	"vmsim/trace"
)

// tmpfs mounts one, where each page is its own: what a fault maps of a file does
// not depend on how the file was written or read.
func tmpfs(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mount, tracepoints")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "huge=never"); err != nil {
		t.Skipf("needs a tmpfs: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// copyOf copies a program into dir, and reads the copy so that all of it is cached.
func copyOf(t *testing.T, dir, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("%s is missing (Debian package busybox-static)", path)
	}
	to := filepath.Join(dir, filepath.Base(path))
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// opsOf returns the operations of a trace from its exec of program on, without what
// a perf.data cannot know: times, arguments, the stack pointer, where the heap
// starts, what the kernel counted.
func opsOf(t *testing.T, path, program string) (lines []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in, err := trace.Open(path, f)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := in.Header(); err != nil || h.Lost > 0 || !h.Whole {
		t.Fatalf("%s: %+v, %v", path, h, err)
	}
	for op, err := range in.All() {
		if err != nil {
			t.Fatal(err)
		}
		op.Time, op.MinFlt, op.MajFlt = 0, 0, 0
		if op.Kind == trace.OpExec && op.Path == program {
			lines = nil
		}
		if op.Start != nil {
			op.Start.Args, op.Start.SP, op.Start.Brk = nil, 0, 0
		}
		if op.Kind != trace.OpFile { // which were named before differs
			lines = append(lines, op.String())
		}
	}
	return lines
}

// The same program, recorded by perf and by vmsim record: the same
// operations.
func TestPerfDataIsTheSame(t *testing.T) {
	tool, err := exec.LookPath("perf")
	if err != nil {
		t.Skip("perf is missing (Debian package linux-perf)")
	}
	dir := tmpfs(t)
	busybox := copyOf(t, dir, "/bin/busybox")
	for _, args := range [][]string{
		{"sha256sum", busybox},
		{"sh", "-c", "i=0; while [ $i -lt 300 ]; do i=$((i+1)); x=$x$i; done; echo ${#x}"},
		{"sort", "/proc/self/status"},
	} {
		t.Run(args[0], func(t *testing.T) {
			data, imported, native := filepath.Join(dir, "perf.data"), filepath.Join(dir, "perf.vmt"), filepath.Join(dir, "native.vmt")
			command := append([]string{"/usr/bin/env", "-i", busybox}, args...)
			words := append(perfdata.RecordCommand(data), command...)
			words[slices.Index(words, "perf")] = tool
			if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if code, _, errs := vmsim(t, "trace", "import", "--from", "perf", "-o", imported, data); code != 0 {
				t.Fatalf("import: code %d, %s", code, errs)
			}
			if code, _, errs := vmsim(t, append([]string{"record", "--quiet", "--touches", "faults", "-o", native, "--"}, command...)...); code != 0 {
				t.Fatalf("record: code %d, %s", code, errs)
			}
			want, got := opsOf(t, imported, busybox), opsOf(t, native, busybox)
			if len(got) < 40 {
				t.Errorf("only %d operations: %s", len(got), strings.Join(got, "\n"))
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-perf +native\n%s", d)
			}
		})
	}
}

// The filter of docs/recording.md is that of the recorder.
func TestRecordingDocs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository(t), "docs/recording.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, filter, ok := strings.Cut(string(text), "F='")
	filter, _, ok2 := strings.Cut(filter, "'")
	got := strings.Join(strings.Fields(filter), " ")
	if want := perf.SyscallFilter(perf.MemorySyscalls); !ok || !ok2 || got != want {
		t.Errorf("the filter is %q, want %q", got, want)
	}
	words := perfdata.RecordCommand("perf.data")
	for i, w := range words {
		if w == filter || w == "-o" || i > 0 && words[i-1] == "-o" || strings.HasPrefix(w, "id == ") {
			continue
		}
		if !strings.Contains(string(text), w) {
			t.Errorf("the command lacks %q", w)
		}
	}
}
