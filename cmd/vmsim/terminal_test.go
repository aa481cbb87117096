package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// onTerminal runs the built program on a new terminal, with env beside a clean
// environment, and returns what it was sent. results: standard output is the
// terminal too, not only standard error.
func onTerminal(t *testing.T, results bool, env []string, args ...string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 120})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("vmsim", args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TERM=xterm"}, env...)
	cmd.Stderr = slave
	if results {
		cmd.Stdout = slave
	}
	err = cmd.Start()
	slave.Close()
	if err != nil {
		t.Fatal(err)
	}
	var sent bytes.Buffer
	io.Copy(&sent, master) // ends with EIO, when nobody has the terminal open any more
	cmd.Wait()
	return sent.String()
}

// TestTerminal: colours and a bar are for terminals, and only where the user
// wants them.
func TestTerminal(t *testing.T) {
	elf := filepath.Join(repository(t), "testdata", "elf", "bss-only")
	const green, bar = "\x1b[32mok\x1b[0m", " ok, 0 failed, 0 skipped, "
	for _, c := range []struct {
		results bool
		env     string
		args    string
		color   bool
		bar     bool
	}{
		{results: true, color: true, bar: true},
		{results: true, env: "NO_COLOR=", color: true, bar: true}, // empty: not set
		{results: true, env: "NO_COLOR=1", bar: true},
		{results: true, env: "NO_COLOR=1", args: "--color=always", color: true, bar: true},
		{results: true, env: "TERM=dumb"},
		{results: true, args: "--color=never", bar: true},
		{results: true, args: "--quiet", color: true},
		{results: true, args: "-o=jsonl"}, // lines come between the redraws
		{results: false, args: "-o=jsonl", bar: true},
		{results: false, bar: true},
		{results: false, args: "--quiet"},
	} {
		args := []string{"verify", elf}
		if c.args != "" {
			args = append(args, c.args)
		}
		sent := onTerminal(t, c.results, []string{c.env}, args...)
		if got := strings.Contains(sent, green); got != c.color {
			t.Errorf("%+v: colours: %v: %q", c, got, sent)
		}
		if got := strings.Contains(sent, bar); got != c.bar {
			t.Errorf("%+v: bar: %v: %q", c, got, sent)
		}
		if got := strings.Contains(sent, "bss-only"); got != c.results {
			t.Errorf("%+v: results: %q", c, sent)
		}
	}
}
