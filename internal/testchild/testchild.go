// Package testchild starts processes for tests to look at: a C program, built
// once a run, that maps a file in one of several ways and waits.
package testchild

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"vmsim/mem"
)

//go:embed testdata/child.c
var source []byte

// Programs, each compiled once for all tests of a process.
var (
	pie    = sync.OnceValues(func() ([]byte, error) { return compile("-fPIE", "-pie") })
	static = sync.OnceValues(func() ([]byte, error) { return compile("-fno-pie", "-no-pie", "-static") })
)

// compile returns child.c as a program.
func compile(flags ...string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "testchild")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	src, bin := filepath.Join(dir, "child.c"), filepath.Join(dir, "child")
	if err := os.WriteFile(src, source, 0o644); err != nil {
		return nil, err
	}
	args := append([]string{"-O1", "-g", "-Wl,--build-id", "-o", bin, src}, flags...)
	out, err := exec.Command("gcc", args...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("gcc: %w\n%s", err, out)
	}
	return os.ReadFile(bin)
}

// Build writes the program, a PIE, to dir/child and returns its path. It skips
// the test where gcc is missing.
func Build(t testing.TB, dir string) string {
	t.Helper()
	return build(t, dir, pie)
}

// BuildStatic is Build, without libraries and at a fixed address: file offsets
// and addresses differ by more than the load bias.
func BuildStatic(t testing.TB, dir string) string {
	t.Helper()
	return build(t, dir, static)
}

func build(t testing.TB, dir string, program func() ([]byte, error)) string {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc, and libc6-dev")
	}
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "child")
	if err := os.WriteFile(path, bin, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// Child is a running process.
type Child struct {
	PID  int
	Addr mem.VirtAddr // of what its mode maps; of the function work in mode plain
	Cmd  *exec.Cmd

	stdin  io.WriteCloser
	stdout *bufio.Reader
	once   sync.Once
}

// Start runs the program at path in a mode (testdata/child.c has them), and returns when
// it has done what the mode says. It ends with the test.
func Start(t testing.TB, path string, args ...string) *Child {
	t.Helper()
	c := &Child{Cmd: exec.Command(path, args...)}
	c.Cmd.Dir = filepath.Dir(path)
	c.Cmd.Stderr = os.Stderr
	in, err := c.Cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.PID, c.stdin = c.Cmd.Process.Pid, in
	t.Cleanup(c.End)
	c.stdout = bufio.NewReader(out)
	line, err := c.stdout.ReadString('\n')
	if _, serr := fmt.Sscanf(line, "ready %v", (*uint64)(&c.Addr)); serr != nil {
		t.Fatalf("%s %v: %q, %v", path, args, line, err)
	}
	return c
}

// Tell gives a command to the process, and returns when it was done.
func (c *Child) Tell(t testing.TB, command string) {
	t.Helper()
	if _, err := io.WriteString(c.stdin, command); err != nil {
		t.Fatal(err)
	}
	if line, err := c.stdout.ReadString('\n'); line != "done\n" {
		t.Fatalf("command %s: %q, %v", command, line, err)
	}
}

// End ends the process and waits for it.
func (c *Child) End() {
	c.once.Do(func() {
		c.stdin.Close()
		c.Cmd.Process.Kill() // it may be stopped
		c.Cmd.Wait()
	})
}
