package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmsim/internal/report"
)

// splitCorpus is a tree with files of every fate, and a list of more.
func splitCorpus(t *testing.T) (dir, list string) {
	t.Helper()
	dir, _ = malformed(t, 60)
	if err := os.CopyFS(filepath.Join(dir, "good"), os.DirFS(filepath.Join(repository(t), "testdata", "elf"))); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o644),
		os.Symlink("fifo", filepath.Join(dir, "link")),
		os.WriteFile(filepath.Join(dir, "not UTF-8 \xff"), []byte("\x7fELF\x02\x01\x01 and no more"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	list = filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(list, []byte(dir+"/missing\n"+dir+"/good\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, list
}

// TestMergedShards: the parts of any number of shards give, byte for byte, what
// one run gives, in every format, with its troubles and exit code.
func TestMergedShards(t *testing.T) {
	dir, list := splitCorpus(t)
	for _, c := range []struct {
		shards int
		args   []string // one file named that is no good: trouble
	}{
		{1, []string{dir}},
		{3, []string{"--files-from", list, dir, dir + "/nowhere", dir + "/good/Makefile"}},
		{5, []string{"--bug", "boundary-copy", "--digest", dir}},
	} {
		var parts []string
		args := append(append([]string{"verify"}, smallFlags...), c.args...)
		for i := 1; i <= c.shards; i++ {
			p := filepath.Join(t.TempDir(), "part")
			parts = append(parts, p)
			code, _, errs := vmsim(t, append(args, "--shard", fmt.Sprintf("%d/%d", i, c.shards), "--part", p)...)
			if code > 2 {
				t.Fatalf("%v, shard %d: code %d, %s", c.args, i, code, errs)
			}
		}
		slices.Reverse(parts)
		for _, format := range report.Formats {
			wantCode, want, wantErrs := vmsim(t, append(args, "-o", format)...)
			code, out, errs := vmsim(t, append([]string{"report", "merge", "-o", format}, parts...)...)
			if code != wantCode || out != want || errs != wantErrs {
				t.Errorf("%v, %d shards, %s: code %d, error %q, output\n%s\nwant code %d, error %q, output\n%s", c.args, c.shards,
					format, code, errs, out, wantCode, wantErrs, want)
			}
		}
	}
}

// TestResume: a run that is killed again and again ends, with the part and the
// report of one that was not, and does none of the work twice.
func TestResume(t *testing.T) {
	dir, _ := splitCorpus(t)
	args := append(append([]string{"verify"}, smallFlags...), "--hardening", "fortress", dir)
	_, want, _ := vmsim(t, args...)
	path := filepath.Join(t.TempDir(), "part")
	args = append(args, "--resume", path)
	rows := func() int {
		data, err := os.ReadFile(path + ".partial")
		if err != nil {
			return 0
		}
		return strings.Count(string(data), "\n")
	}
	kills := 0
	for last := 0; ; {
		cmd := exec.Command("vmsim", args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() { cmd.Wait(); close(done) }()
		for ended := false; !ended && (kills == 3 || rows() <= last+1); {
			select {
			case <-done:
				ended = true
			case <-time.After(time.Millisecond):
			}
		}
		if kills == 3 {
			break
		}
		cmd.Process.Kill()
		<-done
		kills++
		if _, err := os.Stat(path); err == nil {
			break // it ended before
		}
		if n := rows(); n < last {
			t.Fatalf("%d rows were known, now %d", last, n)
		} else {
			last = n
		}
	}
	code, out, errs := vmsim(t, args...)
	if code != 0 || out != want || errs != "" {
		t.Errorf("resumed: code %d, error %q, output\n%s\nwant\n%s", code, errs, out, want)
	}
	if code, out, errs = vmsim(t, "report", "merge", path); code != 0 || out != want || errs != "" {
		t.Errorf("merged: code %d, error %q, output\n%s\nwant\n%s", code, errs, out, want)
	}
	code, out, errs = vmsim(t, append(args, "--threshold", "1")...)
	if code != 2 || out != "" || errs != "vmsim: --resume: is of another run: its option threshold is 128, not 1\n" {
		t.Errorf("resumed with another option: code %d, output %q, error %q", code, out, errs)
	}
}

// TestMaxFailures: the run ends with the file that is the last failure allowed,
// whatever --jobs, and is marked partial; a part of it can be resumed.
func TestMaxFailures(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile(filepath.Join(repository(t), "testdata", "elf", "kevlar-layout"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "part")
	var first string
	for _, jobs := range []string{"1", "4"} {
		code, out, errs := vmsim(t, "verify", "-o", "json", "--bug", "boundary-copy", "--max-failures", "3", "--jobs", jobs, "--part", path, dir)
		var res struct {
			Failed  int
			Partial bool
			Files   []fileRecord
		}
		if err := json.Unmarshal([]byte(out), &res); err != nil {
			t.Fatal(err)
		}
		if code != 1 || errs != "" || res.Failed != 3 || len(res.Files) != 3 || !res.Partial {
			t.Errorf("code %d, error %q, %+v", code, errs, res)
		}
		if first == "" {
			first = out
		} else if out != first {
			t.Errorf("--jobs %s: %s\nwant\n%s", jobs, out, first)
		}
	}
	_, out, _ := vmsim(t, "verify", "--bug", "boundary-copy", "--max-failures", "1", dir)
	if !strings.HasSuffix(out, "\nstopped after 1 failed file: the result is partial\n") {
		t.Errorf("table: %s", out)
	}
	code, out, errs := vmsim(t, "report", "merge", path)
	if code != 2 || out != "" || errs != "vmsim: "+path+" is partial: its run did not end\n" {
		t.Errorf("merge: code %d, output %q, error %q", code, out, errs)
	}
	code, out, _ = vmsim(t, "verify", "--bug", "boundary-copy", "--max-failures", "3", "--resume", path, dir)
	if code != 1 || !strings.Contains(out, "\n0 ok, 3 failed, 0 skipped; ") {
		t.Errorf("resumed at the limit: code %d, output %s", code, out)
	}
	code, out, _ = vmsim(t, "verify", "--bug", "boundary-copy", "--resume", path, dir)
	if code != 1 || !strings.Contains(out, "\n0 ok, 8 failed, 0 skipped; ") {
		t.Errorf("resumed: code %d, output %s", code, out)
	}
}
