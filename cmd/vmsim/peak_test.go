package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// peakFile is the variable with the name of the file to which vmsim-peak writes
// its peak memory.
const peakFile = "VMSIM_PEAK"

// mainPeak is main, and writes VmHWM, the most memory that was ever resident, at
// its end. What wait4 reports is not that: there, a program starts with the peak
// of the process that started it.
func mainPeak() {
	code := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	status, err := os.ReadFile("/proc/self/status")
	if err == nil {
		err = os.WriteFile(os.Getenv(peakFile), status, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = exitUsage
	}
	os.Exit(code)
}

// verifyPeak runs the program as a process of its own, which must succeed, and
// returns its results and its peak memory in bytes.
func verifyPeak(t *testing.T, args ...string) (stdout []byte, peak uint64) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "status")
	cmd := exec.Command("vmsim-peak", args...)
	cmd.Env = append(os.Environ(), peakFile+"="+path)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("vmsim %s: %v, error %q", strings.Join(args, " "), err, errs.String())
	}
	status, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := bytes.Cut(status, []byte("\nVmHWM:"))
	var kib uint64
	if _, err := fmt.Fscan(bytes.NewReader(line), &kib); err != nil {
		t.Fatalf("VmHWM: %v in %s", err, status)
	}
	return stdout, kib << 10
}

// peakBound is how much memory `vmsim verify` may take, in bytes, with so much
// --memory and so many --jobs, whatever the files:
//
//	each job      the frames; a page-table node of 4 KiB for each four of them, and 256 more, with their
//	              counts; the table of frames, 16 bytes each; the index of the page cache, 4 bytes for each
//	              page of a file
//	              two windows of 2 MiB that the witness read, as many again until the collector finds them,
//	              and the headers of a file, 64 KiB and what is made of them, 1170 segments: 4 MiB in all
//	the program   itself, the Go runtime, the rows: 64 MiB
func peakBound(memory, jobs uint64) uint64 {
	const windows, headers, program = 4 * window, 4 << 20, 64 << 20
	frames := memory / page
	nodes := (frames/4 + 256) * (page + 8)
	return jobs*(memory+nodes+frames*(16+4)+windows+headers) + program
}

// openTempDir is t.TempDir, but every user may walk it.
func openTempDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// vmsimAsNobody runs the program as a user to whom nothing belongs, if this is
// root, else as this one.
func vmsimAsNobody(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	path := filepath.Join(openTempDir(t), "vmsim") // this one may lie where that user may not look
	program, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(program, self); err != nil {
		t.Fatal(err)
	}
	if err := program.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}
