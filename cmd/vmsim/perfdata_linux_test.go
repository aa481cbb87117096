package main

import (
	"encoding/json"
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
	"vmsim/internal/session"
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
func opsOf(t *testing.T, path, program string) (_ trace.Header, ops []trace.Op) {
	t.Helper()
	in := openTraceFile(t, path)
	h, err := in.Header()
	if err != nil || h.Lost > 0 || !h.Whole {
		t.Fatalf("%s: %+v, %v", path, h, err)
	}
	for op, err := range in.All() {
		if err != nil {
			t.Fatal(err)
		}
		op.Time, op.MinFlt, op.MajFlt = 0, 0, 0
		if op.Kind == trace.OpExec && op.Path == program {
			ops = nil
		}
		if op.Start != nil {
			op.Start.Args, op.Start.SP, op.Start.Brk = nil, 0, 0
		}
		if op.Kind != trace.OpFile { // which were named before differs
			ops = append(ops, op)
		}
	}
	return h, ops
}

// opLines are the lines of operations.
func opLines(ops []trace.Op) (lines []string) {
	for _, op := range ops {
		lines = append(lines, op.String())
	}
	return lines
}

// replayOf is the result of a replay of ops, which are of a recording with this
// header and of process 2, without the header.
func replayOf(t *testing.T, path string, h trace.Header, ops []trace.Op) (res replayJSON) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e, err := trace.NewEncoder(f, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range append([]trace.Op{{PID: 1, Kind: trace.OpFork, Want: &trace.Answer{PID: ops[0].PID}}}, ops...) {
		if err := e.Encode(op); err != nil {
			t.Fatal(err)
		}
	}
	res = replayFile(t, path)
	res.Path, res.Recording.Header, res.Recording.Limits = "", trace.Header{}, nil
	return res
}

// replayFile is the result of a replay of a file, in which nothing was wrong.
func replayFile(t *testing.T, path string) replayJSON {
	t.Helper()
	code, out, errs := vmsim(t, "replay", "-o", "json", "--quiet", path)
	var res []replayJSON
	if err := json.Unmarshal([]byte(out), &res); err != nil || code != 0 || len(res) != 1 {
		t.Fatalf("replay: code %d, %v, %s", code, err, errs)
	}
	return res[0]
}

// facts are what the replay of a whole recording has in common with that of
// another one of the same run of program: its own row, the answers,
// the windows. perf does not count faults.
func facts(res replayJSON, program string) (p session.Program, mismatches []string, windows int) {
	for _, p = range res.Recording.Programs {
		if p.Path == program {
			break
		}
	}
	p.Recorded.MinFlt, p.Recorded.MajFlt = 0, 0
	return p, res.Mismatches, res.Windows
}

// The same program, recorded by perf and by vmsim record: the same
// operations, and the same replay.
func TestPerfDataIsTheSame(t *testing.T) {
	tool, err := exec.LookPath("perf")
	if err != nil {
		t.Skip("perf is missing (Debian package linux-perf)")
	}
	dir := tmpfs(t)
	busybox := copyOf(t, dir, "/bin/busybox")
	pie := filepath.Join(dir, "pie")
	gcc := exec.Command("gcc", "-x", "c", "-O1", "-static-pie", "-o", pie, "-")
	gcc.Stdin = strings.NewReader("#include <stdlib.h>\nint main() { char *p = malloc(60000); for (int i = 0; i < 60000; i += 4096) p[i] = 1; return p[1]; }\n")
	if out, err := gcc.CombinedOutput(); err != nil {
		t.Skipf("gcc with a static libc is missing (Debian package libc6-dev): %v\n%s", err, out)
	}
	for _, command := range [][]string{
		{busybox, "sha256sum", busybox},
		{busybox, "sh", "-c", "i=0; while [ $i -lt 300 ]; do i=$((i+1)); x=$x$i; done; echo ${#x}"},
		{busybox, "sort", "/proc/self/status"},
		{pie}, // its heap does not start behind it
	} {
		program := command[0]
		t.Run(strings.Join(command[:min(len(command), 2)], " "), func(t *testing.T) {
			data, imported, native := filepath.Join(dir, "perf.data"), filepath.Join(dir, "perf.vmt"), filepath.Join(dir, "native.vmt")
			command := append([]string{"/usr/bin/env", "-i"}, command...)
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
			wantHeader, want := opsOf(t, imported, program)
			gotHeader, got := opsOf(t, native, program)
			if len(got) < 40 {
				t.Errorf("only %d operations: %s", len(got), strings.Join(opLines(got), "\n"))
			}
			if d := cmp.Diff(opLines(want), opLines(got)); d != "" {
				t.Errorf("-perf +native\n%s", d)
			}

			// From the program's exec on every figure is the same, if neither knows of
			// arguments, stack pointer and heap.
			wantPart := replayOf(t, filepath.Join(dir, "perf.trace"), wantHeader, want)
			gotPart := replayOf(t, filepath.Join(dir, "native.trace"), gotHeader, got)
			if d := cmp.Diff(wantPart, gotPart); d != "" {
				t.Errorf("replay: -perf +native\n%s", d)
			}
			if faults := gotPart.Faults.Total(); faults < 30 || gotPart.BytesCompared == 0 {
				t.Errorf("%d faults, %d bytes compared", faults, gotPart.BytesCompared)
			}

			// And in the whole recordings, as a user replays them, what the program did.
			p, mismatches, windows := facts(replayFile(t, imported), program)
			q, mismatches2, windows2 := facts(replayFile(t, native), program)
			if d := cmp.Diff(p, q) + cmp.Diff(mismatches, mismatches2) + cmp.Diff(windows, windows2); d != "" || len(mismatches) > 0 {
				t.Errorf("replay of all: -perf +native\n%s%v", d, mismatches)
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
	if want := perf.SyscallFilter(perf.MemoryAndExit); !ok || !ok2 || got != want {
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
