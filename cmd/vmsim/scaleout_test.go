package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scaleOutFiles are docs/scale-out.md and the files beside it, by path.
func scaleOutFiles(t *testing.T) map[string]string {
	t.Helper()
	docs := filepath.Join(repository(t), "docs")
	paths, err := filepath.Glob(filepath.Join(docs, "scale-out", "*"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, path := range append(paths, filepath.Join(docs, "scale-out.md")) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := filepath.Rel(docs, path)
		files[name] = strings.ReplaceAll(string(data), "\\\n", " ") // lines that go on
	}
	return files
}

// TestScaleOutCommands: the lines that call vmsim in docs/scale-out* name
// commands and flags that exist, with values that they take.
func TestScaleOutCommands(t *testing.T) {
	call := regexp.MustCompile(`(?m)(?:^ *|- |')vmsim ((?:verify|report) .*)`)
	found := map[string]int{}
	for name, text := range scaleOutFiles(t) {
		for _, m := range call.FindAllStringSubmatch(text, -1) {
			line, _, _ := strings.Cut(m[1], ">")
			line, _, _ = strings.Cut(line, " # ")
			line = strings.NewReplacer("'", "", `"$@"`, "", `"`, "", "$shard", "1", "{}", "1").Replace(line)
			cmd, args, err := newRootCommand().Find(strings.Fields(line))
			if err == nil && cmd.Name() != "verify" && cmd.Name() != "merge" {
				err = errors.New("no such command")
			}
			if err == nil {
				err = cmd.ParseFlags(args)
			}
			if err == nil && cmd.Flags().Changed("shard") {
				_, _, err = parseShard(cmd.Flag("shard").Value.String())
			}
			if err != nil {
				t.Errorf("%s: vmsim %s: %v", name, line, err)
			}
			found[name]++
		}
	}
	for name, want := range map[string]int{"scale-out.md": 6, "scale-out/verify.sbatch": 1, "scale-out/merge.sbatch": 1,
		"scale-out/verify-job.yaml": 1, "scale-out/merge-job.yaml": 1} {
		if found[name] < want {
			t.Errorf("%s: %d calls of vmsim, want %d", name, found[name], want)
		}
	}
}

// TestScaleOutN: the number of shards is a number, the same in each place of a
// file, and no number of tasks is read from the environment.
func TestScaleOutN(t *testing.T) {
	files := scaleOutFiles(t)
	for _, c := range []struct {
		file   string
		places []string // with N for the group to match
	}{
		{"scale-out/verify.sbatch",
			[]string{`(?m)^#SBATCH --array=1-(N)$`, `--shard "\$shard/(N)"`, `(?m)^# Verifies .* in (N) shards`}},
		{"scale-out/verify-job.yaml",
			[]string{`(?m)^  completions: (N)$`, `--shard "\$shard/(N)"`, `(?m)^# Verifies .* in (N) shards`}},
		{"scale-out.md", []string{`(?m)^seq (N) \| parallel `, `--shard \{\}/(N) `}},
	} {
		for _, place := range c.places {
			all := regexp.MustCompile(strings.Replace(place, "N", "[0-9]+", 1)).FindAllStringSubmatch(files[c.file], -1)
			if len(all) != 1 || all[0][1] != "16" {
				t.Errorf("%s: %s is there %d times, want once with 16: %v", c.file, place, len(all), all)
			}
		}
	}
	for name, text := range files {
		if name == "scale-out.md" {
			continue // says why not
		}
		for _, word := range []string{"TASK_COUNT", "TASK_MAX", "SLURM_NTASKS", "completions"} {
			if strings.Contains(text, "$"+word) || strings.Contains(text, "_"+word) {
				t.Errorf("%s reads %s", name, word)
			}
		}
	}
}

// split is a folder with what the files of docs/scale-out work on.
type split struct{ dir string }

// newSplit makes the folder, with testdata/elf in files.list.
func newSplit(t *testing.T) split {
	t.Helper()
	s := split{dir: t.TempDir()}
	elves, err := filepath.Glob(filepath.Join(repository(t), "testdata", "elf", "*"))
	if err != nil || len(elves) < 15 {
		t.Fatal(err, elves)
	}
	list := strings.Join(elves, "\x00") + "\x00"
	if err := errors.Join(os.WriteFile(filepath.Join(s.dir, "files.list"), []byte(list), 0o644),
		os.Mkdir(filepath.Join(s.dir, "parts"), 0o755)); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a program in the folder.
func (s split) run(t *testing.T, env []string, name string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, append(os.Environ(), env...), &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// job is the shell of a Kubernetes file: the last of its command, a block or one
// line. Its volume is the folder.
func (s split) job(t *testing.T, name string) string {
	t.Helper()
	text := scaleOutFiles(t)["scale-out/"+name]
	_, shell, ok := strings.Cut(text, "        command:\n        - /bin/sh\n        - -c\n        - ")
	end := strings.Index(shell, "\n      volumes:\n")
	if !ok || end < 0 {
		t.Fatalf("%s: no shell in %s", name, text)
	}
	shell = strings.TrimPrefix(shell[:end], "|\n")
	return strings.ReplaceAll(shell, "/vmsim", s.dir)
}

// one is what one run says of the list.
func (s split) one(t *testing.T, flags ...string) (code int, stdout string) {
	t.Helper()
	args := []string{"verify", "--files-from", filepath.Join(s.dir, "files.list")}
	code, stdout, errs := vmsim(t, append(args, flags...)...)
	if errs != "" {
		t.Fatal(errs)
	}
	return code, stdout
}

// same checks the report that a merge wrote.
func (s split) same(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(s.dir, path))
	if err != nil || string(got) != want {
		t.Errorf("merged: %v\n%s\nwant\n%s", err, got, want)
	}
}

var withBug = []string{"--bug", "boundary-copy"}

// TestScaleOutKubernetes runs the shell of the two Jobs as the pods of all
// indexes would: twice, since a complete part is no work. A mismatch is no
// failure of a pod, trouble is.
func TestScaleOutKubernetes(t *testing.T) {
	for _, flags := range [][]string{nil, withBug} {
		s := newSplit(t)
		shell := strings.Replace(s.job(t, "verify-job.yaml"), " --quiet ", " --quiet "+strings.Join(flags, " ")+" ", 1)
		for i := range 32 {
			index := fmt.Sprintf("JOB_COMPLETION_INDEX=%d", i%16)
			if code, out, errs := s.run(t, []string{index}, "/bin/sh", "-c", shell); code != 0 || out+errs != "" {
				t.Errorf("%v, %s: code %d, output %q, error %q", flags, index, code, out, errs)
			}
		}
		wantCode, want := s.one(t, flags...)
		code, out, errs := s.run(t, nil, "/bin/sh", "-c", s.job(t, "merge-job.yaml"))
		if code != wantCode || out+errs != "" {
			t.Errorf("%v: merge: code %d, output %q, error %q", flags, code, out, errs)
		}
		s.same(t, "report", want)
		code, _, errs = s.run(t, []string{"JOB_COMPLETION_INDEX=16"}, "/bin/sh", "-c", shell)
		if code != 2 || !strings.Contains(errs, `--shard: "17/16" is not I/N`) {
			t.Errorf("index 16: code %d, error %q", code, errs)
		}
	}
}

// TestScaleOutSlurm runs the two files of Slurm without it, with what it puts into
// the environment. .ci/slurm runs them with it.
func TestScaleOutSlurm(t *testing.T) {
	for _, flags := range [][]string{nil, withBug} {
		s := newSplit(t)
		file := func(name string) string { return filepath.Join(repository(t), "docs", "scale-out", name) }
		for i := range 16 {
			env := []string{fmt.Sprintf("SLURM_ARRAY_TASK_ID=%d", i+1), "SLURM_ARRAY_TASK_COUNT=1"}
			args := append([]string{file("verify.sbatch"), "files.list", "parts"}, flags...)
			if code, out, errs := s.run(t, env, "/bin/bash", args...); code != 0 || out+errs != "" {
				t.Errorf("%v, task %d: code %d, output %q, error %q", flags, i+1, code, out, errs)
			}
		}
		wantCode, want := s.one(t, append(flags, "-o", "csv")...)
		code, out, errs := s.run(t, nil, "/bin/bash", file("merge.sbatch"), "parts", "-o", "csv")
		if code != wantCode || out+errs != "" {
			t.Errorf("%v: merge: code %d, output %q, error %q", flags, code, out, errs)
		}
		s.same(t, "parts/report", want)
	}
}

// TestScaleOutParallel runs the lines of GNU parallel as they stand in the
// documentation, with this machine as the only node.
func TestScaleOutParallel(t *testing.T) {
	if _, err := exec.LookPath("parallel"); err != nil {
		t.Skip("needs GNU parallel (Debian package parallel)")
	}
	_, text, _ := strings.Cut(scaleOutFiles(t)["scale-out.md"], "<!-- parallel -->\n```sh\n")
	shell, _, ok := strings.Cut(text, "```\n")
	if !ok {
		t.Fatal("no lines of parallel in scale-out.md")
	}
	s := newSplit(t)
	if err := os.WriteFile(filepath.Join(s.dir, "nodes"), []byte("4/:\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, want := s.one(t)
	for range 2 { // the second goes on where the first ended
		if code, out, errs := s.run(t, nil, "/bin/sh", "-c", shell); code != 0 || out != want || errs != "" {
			t.Errorf("code %d, error %q, output\n%s\nwant\n%s", code, errs, out, want)
		}
	}
}

// TestScaleOutSignals: the shell of a pod passes SIGTERM on and waits for vmsim;
// that of a Slurm task does so too, and puts its own task, not the array, back
// into the queue when the time limit is near, unless that happened too often.
func TestScaleOutSignals(t *testing.T) {
	for _, c := range []struct {
		name     string
		signal   syscall.Signal
		env      []string
		slurm    bool
		requeued string
	}{
		{"pod", syscall.SIGTERM, []string{"JOB_COMPLETION_INDEX=2"}, false, ""},
		{"cancelled task", syscall.SIGTERM, nil, true, ""},
		{"task near its limit", syscall.SIGUSR1, nil, true, "requeue 70_3\n"},
		{"task near its limit again", syscall.SIGUSR1, []string{"SLURM_RESTART_COUNT=19"}, true, "requeue 70_3\n"},
		{"task that does not end", syscall.SIGUSR1, []string{"SLURM_RESTART_COUNT=20"}, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSplit(t)
			fifo := filepath.Join(s.dir, "files.list") // a list that does not come: vmsim waits for it
			scontrol := "#!/bin/sh\necho \"$@\" >>requeued\n"
			if err := errors.Join(os.Remove(fifo), syscall.Mkfifo(fifo, 0o644),
				os.WriteFile(filepath.Join(s.dir, "scontrol"), []byte(scontrol), 0o755)); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/bin/sh", "-c", s.job(t, "verify-job.yaml"))
			if c.slurm {
				file := filepath.Join(repository(t), "docs", "scale-out", "verify.sbatch")
				cmd = exec.Command("/bin/bash", file, "files.list", "parts")
			}
			errs, err := os.Create(filepath.Join(s.dir, "errors")) // a file: Wait waits for the shell alone
			if err != nil {
				t.Fatal(err)
			}
			defer errs.Close()
			cmd.Dir, cmd.Stderr = s.dir, errs
			cmd.Env = append(os.Environ(), "PATH="+s.dir+":"+os.Getenv("PATH"), "SLURM_JOB_ID=70", "SLURM_ARRAY_JOB_ID=70",
				"SLURM_ARRAY_TASK_ID=3")
			cmd.Env = append(cmd.Env, c.env...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			until(t, ended, "vmsim opens the list, and by then catches signals", func() bool {
				w, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
				if err == nil {
					t.Cleanup(func() { w.Close() })
				}
				return err == nil
			})
			until(t, ended, "the shell catches the signal", func() bool { return catches(t, cmd.Process.Pid, c.signal) })
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			<-ended
			if got, want := cmd.ProcessState.ExitCode(), 128+int(c.signal); got != want {
				t.Errorf("code %d, want %d", got, want)
			}
			got, err := os.ReadFile(errs.Name())
			if err != nil || !strings.Contains(string(got), "vmsim: interrupted: the result is partial\n") {
				t.Errorf("error %q: vmsim was not told to end, or not waited for: %v", got, err)
			}
			if left, err := os.ReadDir(filepath.Join(s.dir, "parts")); err != nil || len(left) > 0 {
				t.Errorf("a part of half a list is there, which no run can resume: %v %v", left, err)
			}
			if got, _ := os.ReadFile(filepath.Join(s.dir, "requeued")); string(got) != c.requeued {
				t.Errorf("scontrol %q, want %q", got, c.requeued)
			}
		})
	}
}

// until waits for what, which is not to come after the end.
func until(t *testing.T, ended <-chan error, what string, ok func() bool) {
	t.Helper()
	hangs := time.After(time.Minute)
	for !ok() {
		select {
		case err := <-ended:
			t.Fatalf("ended (%v) before %s", err, what)
		case <-hangs:
			t.Fatalf("waited for ever until %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// catches reports whether process pid has a handler for sig.
func catches(t *testing.T, pid int, sig syscall.Signal) bool {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^SigCgt:\s*([0-9a-f]+)$`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no SigCgt in %s", status)
	}
	set, err := strconv.ParseUint(string(m[1]), 16, 64)
	return err == nil && set&(1<<(sig-1)) != 0
}
