package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every process of a system of its own, in a PID namespace: nothing is found,
// and what ends meanwhile or has no memory is passed over.
func TestEveryProcess(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: unshare --pid")
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("needs util-linux")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "vmsim")
	if err := os.Symlink(exe, link); err != nil {
		t.Fatal(err)
	}
	// Two shells that stay, a zombie, and processes that come and go.
	const script = `
		sleep 1000 & sh -c 'while :; do /bin/true; done' & busy=$!
		sh -c '/bin/true & exec sleep 1000' &
		sleep 0.3
		"$0" verify --pid all -o jsonl; rc=$?
		"$0" verify --pid all | tail -2 >&2
		exit $rc`
	cmd := exec.Command("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script, link)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs.String())
	}
	procs := map[int]string{}
	var sum foreignSum
	for line := range strings.Lines(string(out)) {
		var o struct {
			foreignSum
			PID     int
			Process string
			Start   string
			Verdict string
		}
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch o.Type {
		case "mapping":
			procs[o.PID] = o.Process
			if o.Verdict == "FAIL" {
				t.Error(line)
			}
		case "summary":
			sum = o.foreignSum
		}
	}
	sleeps := 0
	for pid, name := range procs {
		if name == "sleep" {
			sleeps++
		}
		if name == "vmsim" {
			t.Errorf("process %d is the one that looks", pid)
		}
	}
	if sleeps != 2 || sum.Findings != 0 || sum.Processes < 4 || sum.Ended < 1 || sum.Resident == 0 || sum.KernelThreads != 0 {
		t.Errorf("%v\n%+v", procs, sum)
	}
	if !strings.Contains(errs.String(), "passed over: 0 kernel threads, ") {
		t.Error(errs.String())
	}
}
