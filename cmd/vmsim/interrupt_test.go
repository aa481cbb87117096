package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestInterrupt: SIGINT in the middle of a job that would not end ends it with
// 130 and what was found until then, marked partial.
func TestInterrupt(t *testing.T) {
	root := repository(t)
	elf := filepath.Join(root, "testdata", "elf", "kevlar-layout")
	dir := t.TempDir()
	data, err := os.ReadFile(elf)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), data[:len(data)-i], 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		last string // type of the last line of standard output
	}{
		{"verify", []string{"verify", "-o", "jsonl", "--hardening", "fortress", dir}, "summary"},
		{"verify of a list that does not come", []string{"verify", "-o", "jsonl", "--files-from", "-"}, "summary"},
		{"stress", []string{"stress", "-o", "jsonl", "--execs", "1000000000", elf}, "stress"},
		{"run", []string{"run", "-o", "jsonl", "--execs", "1000000000", elf}, "run"},
		{"replay of a trace that does not come", []string{"replay", "-o", "jsonl", fifo}, "replay"},
		{"replay of a trace that does not end", []string{"replay", "-o", "jsonl", "/dev/stdin"}, "replay"},
	} {
		t.Run(c.name, func(t *testing.T) {
			events := filepath.Join(t.TempDir(), "events")
			code, out, errs := interrupt(t, events, syscall.SIGINT, c.args...)
			if code != exitInterrupted || errs != "vmsim: interrupted: the result is partial\n" {
				t.Errorf("code %d, error %q", code, errs)
			}
			lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
			var last struct {
				Type    string
				Partial bool
			}
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Type != c.last || !last.Partial {
				t.Errorf("last line %q: %v", lines[len(lines)-1], err)
			}
			// The events are whole as well.
			data, err := os.ReadFile(events)
			if err != nil || !bytes.HasPrefix(data, []byte(`{"type":"header"`)) || !bytes.Contains(data, []byte("\n"+`{"type":"summary"`)) {
				t.Errorf("events: %v", err)
			}
		})
	}
}

// TestTerminate: SIGTERM is treated alike.
func TestTerminate(t *testing.T) {
	elf := filepath.Join(repository(t), "testdata", "elf", "kevlar-layout")
	code, out, _ := interrupt(t, filepath.Join(t.TempDir(), "events"), syscall.SIGTERM, "stress", "--execs", "1000000000", elf)
	if code != exitInterrupted || !strings.Contains(out, "\ninterrupted: the result is partial\n") {
		t.Errorf("code %d, output %q", code, out)
	}
}

// interrupt starts the built program, with a standard input that stays open and
// holds half a trace, and signals it as soon as the file of --events is there:
// it is opened when signals are already caught.
func interrupt(t *testing.T, events string, sig os.Signal, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command("vmsim", append(args, "--events", events)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	io.WriteString(stdin, "vmsim-trace 1\n1 fork = 2\n")
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		if _, err := os.Stat(events); err == nil {
			break
		}
		select {
		case err := <-done:
			t.Fatalf("ended before it began: %v: %s", err, errs.String())
		case <-time.After(time.Millisecond):
		}
	}
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	select {
	case err = <-done:
	case <-time.After(time.Minute): // it hangs
		cmd.Process.Kill()
		t.Fatalf("does not end after %v", sig)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
