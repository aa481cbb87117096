//go:build linux && amd64

package tracee

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// driver starts a recorder of argv in a process of its own, and returns when the
// command has written a line.
func driver(t *testing.T, mode string, argv ...string) (*exec.Cmd, string) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, argv...)
	cmd.Env = append(os.Environ(), driverEnv+"="+mode)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	t.Cleanup(func() { stuck.Stop() })
	r := bufio.NewReader(out)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, r)
	return cmd, line
}

// Signals to the recorder: those of the terminal are not for it, others go to the
// command, or to what it left behind.
func TestSignalsToUs(t *testing.T) {
	z := zoo(t, "zoo")
	for _, c := range []struct {
		name string
		argv []string
		sigs []syscall.Signal
		code int
	}{
		{"passed on", []string{z, "pause"}, []syscall.Signal{syscall.SIGTERM}, 128 + 15},
		{"hangup", []string{z, "pause"}, []syscall.Signal{syscall.SIGHUP}, 128 + 1},
		{"the terminal's", []string{z, "pause"}, []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM}, 128 + 15},
		{"handled by the command", []string{"sh", "-c", "trap 'exit 9' TERM; echo on; while :; do sleep 0.01; done"}, []syscall.Signal{syscall.SIGTERM}, 9},
		{"a daemon", []string{"sh", "-c", "setsid -f " + z + " pause; exit 6"}, []syscall.Signal{syscall.SIGTERM}, 6},
	} {
		for _, mode := range []string{"syscalls", "complete", "untraced"} {
			if c.name == "a daemon" && mode == "untraced" {
				continue // nobody knows of it
			}
			cmd, line := driver(t, mode, c.argv...)
			if c.name == "a daemon" {
				time.Sleep(100 * time.Millisecond) // until its parent is reaped; else the signal goes there, and again
			}
			for _, sig := range c.sigs {
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Millisecond)
			}
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("%s, %s: exit code %d after %q, want %d", mode, c.name, code, line, c.code)
			}
		}
	}
}
