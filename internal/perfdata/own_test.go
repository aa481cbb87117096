package perfdata

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/perf"
)

// A program on a tmpfs without ASLR and environment, recorded by perf's recorder and by
// package perf: the same records.
func TestAsTheSession(t *testing.T) {
	perfFile := record(t, "-c 1", "touch", "1") // skips where something is missing, and mounts tracefs
	os.Remove(perfFile)
	dir, err := os.MkdirTemp("/dev/shm", "perfdata")
	if err != nil {
		t.Skip("needs a tmpfs on /dev/shm: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	child, file := filepath.Join(dir, "child"), filepath.Join(dir, "perf.data")
	if err := os.WriteFile(child, bin, 0o755); err != nil {
		t.Fatal(err)
	}
	// perf gives a PATH to what it runs, and so another stack: env takes it away.
	run := []string{"/usr/bin/env", "-i", child, "touch", "300"}

	command := append(RecordCommand(file), run...)
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	var want []string
	if err := load(t, file).Read(func(r *perf.Record) error {
		if r.Time > 0 {
			want = append(want, neutral(r))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	got := lastExec(session(t, append([]string{"setarch", "-R", child, "gate"}, run...)))
	want = lastExec(want)
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 300 {
		t.Errorf("%d records (-perf record, +session):\n%s", len(want), diff)
	}
}

// lastExec returns the records from the last exec on.
func lastExec(records []string) []string {
	for i := len(records) - 1; i >= 0; i-- {
		if records[i] == "COMM 0x2000 child" {
			return records[i:]
		}
	}
	return nil
}

// session records a command that waits for a byte and then execs.
func session(t *testing.T, command []string) []string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = []string{}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	exe := fmt.Sprintf("/proc/%d/exe", cmd.Process.Pid)
	for { // until setarch has become the gate: its exec must not begin the trace
		if path, _ := os.Readlink(exe); path == command[2] {
			break
		}
		time.Sleep(time.Millisecond)
	}
	s, err := perf.Open(perf.Config{PID: cmd.Process.Pid, Level: perf.LevelTracepoints, Syscalls: perf.MemoryAndExit})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.WriteString(in, "x"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		_, err := s.Read(20*time.Millisecond, func(r *perf.Record) { got = append(got, neutral(r)) })
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// neutral is a record without what differs from run to run and from recorder to recorder.
func neutral(r *perf.Record) string {
	switch r.Kind {
	case perf.KindSample:
		return fmt.Sprint(r.Event.Role, " ", r.Addr, " ", r.FaultIP, " ", r.ErrorCode, " ", r.Syscall, r.Args, r.Ret)
	case perf.KindMmap2:
		return fmt.Sprintf("%v %v +%#x at %#x of %d: %d %#x %s", r.Kind, r.Addr, r.Len, r.Offset, r.Inode, r.Prot, r.Flags, r.Name)
	}
	return fmt.Sprintf("%v %#x %s", r.Kind, r.Misc, r.Name)
}
