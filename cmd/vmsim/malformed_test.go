package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	root "vmsim"
	"vmsim/internal/elfgen"
)

// smallFlags keep the machine small: a hostile file must not need a large one.
var smallFlags = []string{"--memory", "64M"}

// malformed writes n hostile files and truncations of the corpus to a new
// directory and returns their paths.
func malformed(t *testing.T, n int) (dir string, paths []string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name string, data []byte) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	r := rand.New(rand.NewPCG(2, 11))
	for i := range n {
		kind, data := elfgen.Malformed(r)
		write(fmt.Sprintf("%04d %s", i, kind), data)
	}
	for _, f := range root.Corpus() {
		data := make([]byte, f.Size())
		if _, err := f.ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 3, 4, 16, 63, 64, 65, 100, 0x40 + 56, 0x40 + 3*56, 0x1000, 0x1001, len(data) / 2, len(data) - 1} {
			if size < len(data) {
				write(fmt.Sprintf("%s cut to %d", filepath.Base(f.Name()), size), data[:size])
			}
		}
	}
	return dir, paths
}

// TestMalformedCorpus: a directory of hostile files is walked to its end; each
// file is verified, skipped with a reason, or no ELF file.
func TestMalformedCorpus(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 100
	}
	dir, paths := malformed(t, n)
	code, out, errs := vmsim(t, append(smallFlags, "verify", "-o", "json", dir)...)
	if code != 0 || errs != "" {
		t.Fatalf("code %d, error %q", code, errs)
	}
	var res struct {
		Files               []fileRecord
		OK, Failed, Skipped int
		NotELF              int `json:"not_elf"`
		Partial             bool
	}
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatal(err)
	}
	if res.Failed != 0 || res.Partial || res.OK+res.Skipped+res.NotELF != len(paths) || len(res.Files) != res.OK+res.Skipped {
		t.Errorf("%d files: %d ok, %d failed, %d skipped, %d not ELF, %d told", len(paths), res.OK, res.Failed, res.Skipped,
			res.NotELF, len(res.Files))
	}
	if res.OK < n/100 || res.Skipped < n/3 || res.NotELF < n/20 {
		t.Errorf("%d ok, %d skipped, %d not ELF: not what it ought to try", res.OK, res.Skipped, res.NotELF)
	}
	for _, f := range res.Files {
		if f.Verdict != "ok" && f.Verdict != "skipped" || (f.Verdict == "skipped") == (f.Reason == "") || f.Failures != 0 {
			t.Errorf("%s: %s, reason %q, %d failures", f.Path, f.Verdict, f.Reason, f.Failures)
		}
		if strings.Contains(f.Reason, "\n") || strings.Contains(f.Reason, dir) {
			t.Errorf("%s: reason %q", f.Path, f.Reason)
		}
	}
	t.Logf("%d ok, %d skipped, %d not ELF", res.OK, res.Skipped, res.NotELF)
}

// TestMalformedFile: one hostile file, named, is verified, or is one line on
// standard error and 2; so it is for stress, run and sweep.
func TestMalformedFile(t *testing.T) {
	_, paths := malformed(t, 200)
	for _, command := range [][]string{{"verify"}, {"stress", "--execs", "2"}, {"run"}, {"sweep"}} {
		refused := 0
		for i, path := range paths {
			if i%3 != 0 && command[0] != "verify" {
				continue
			}
			args := append(append([]string{}, command...), smallFlags...)
			code, out, errs := vmsim(t, append(args, path)...)
			switch {
			case code == 0 && errs == "" && out != "":
			case code == 2 && out == "":
				refused++
				oneError(t, errs, path)
			default:
				t.Errorf("%s %s: code %d, output %q, error %q", command[0], path, code, out, errs)
			}
		}
		if refused < 20 {
			t.Errorf("%s refused %d only", command[0], refused)
		}
	}
}

// oneError checks that errs is one line about path.
func oneError(t *testing.T, errs, path string) {
	t.Helper()
	if !strings.HasPrefix(errs, "vmsim: "+path+": ") || strings.Count(errs, "\n") != 1 || strings.Count(errs, path) != 1 ||
		len(errs) < len("vmsim: : ")+len(path)+5 {
		t.Errorf("not one line about %s: %q", path, errs)
	}
}

// TestOddFiles: what is not a regular file, or cannot be read, is refused
// without waiting for it when it is named, and passed over in a directory.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		syscall.Mkfifo(in("fifo"), 0o644),
		os.Mkdir(in("dir"), 0o755),
		os.WriteFile(in("empty"), nil, 0o644),
		os.Symlink("nowhere", in("dangling")),
		os.Symlink("loop", in("loop")),
		os.WriteFile(in("secret"), []byte("\x7fELF"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", in("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []struct{ path, want string }{
		{in("fifo"), "not a regular file"},
		{in("socket"), ""},
		{in("dir"), "not a regular file"},
		{"/dev/null", "not a regular file"},
		{"/dev/zero", "not a regular file"},
		{in("empty"), "not an ELF file"},
		{in("dangling"), "no such file or directory"},
		{in("loop"), "too many levels of symbolic links"},
		{in("missing"), "no such file or directory"},
		{in("empty/below"), "not a directory"},
		{in("secret"), "permission denied"},
		{in(strings.Repeat("x", 300)), "file name too long"},
	} {
		if c.path == in("secret") && os.Geteuid() == 0 {
			continue // root reads it
		}
		for _, command := range []string{"verify", "stress", "run"} {
			if command == "verify" && c.path == in("dir") {
				continue // walks it
			}
			code, out, errs := vmsim(t, command, c.path)
			if code != 2 || out != "" || !strings.Contains(errs, c.want) {
				t.Errorf("%s %s: code %d, output %q, error %q, want %q", command, c.path, code, out, errs, c.want)
			}
			oneError(t, errs, c.path)
		}
	}
	os.Remove(in("secret"))
	code, out, errs := vmsim(t, "verify", dir)
	if code != 0 || errs != "" || !strings.HasPrefix(out, "0 ok, 0 failed, 0 skipped, 3 not ELF; ") {
		t.Errorf("verify DIR: code %d, output %q, error %q", code, out, errs)
	}
}

// TestHostileNames: a name with a line end or a control sequence neither breaks
// a line nor reaches the terminal.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a\nvmsim: forged\x1b[31m")
	data, err := os.ReadFile("../../testdata/elf/bss-only")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", path},
		{"verify", dir},
		{"run", "-v", path},
		{"stress", "--execs", "1", path},
		{"verify", path + "missing"},
		{"run", path + "missing"},
		{"replay", path},
	} {
		_, out, errs := vmsim(t, args...)
		if all := out + errs; strings.Contains(all, "\nvmsim: forged") || strings.Contains(all, "\x1b") || !strings.Contains(all, `a\nvmsim: forged\x1b[31m`) {
			t.Errorf("%s: output %q, error %q", args[0], out, errs)
		}
	}
}

// TestMalformedTraces: a broken trace is one line, with the file and the line in
// it, and 2.
func TestMalformedTraces(t *testing.T) {
	elf, err := filepath.Abs("../../testdata/elf/kevlar-layout")
	if err != nil {
		t.Fatal(err)
	}
	const head = "vmsim-trace 1\n"
	for _, c := range []struct {
		trace string
		line  int
		want  string
	}{
		{"", 1, "is missing"},
		{"vmsim-trace 2\n", 1, ""},
		{"\x7fELF\x02\x01\x01\x00", 1, ""},
		{"\x00\x00\x00\x00", 1, ""},
		{head + "1 frobnicate\n", 2, `"frobnicate"`},
		{head + "\n# a comment\n\nx fork = 2\n", 5, `"x"`},
		{head + "0 fork = 2\n", 2, ""},
		{head + "-1 fork = 2\n", 2, ""},
		{head + "99999999999999999999 fork = 2\n", 2, ""},
		{head + "1 fork\n", 2, ""},
		{head + "1 fork = 1\n", 2, ""},
		{head + "7 exit\n", 2, "never forked"},
		{head + "1 fork = 2\n1 fork = 2\n", 3, ""},
		{head + "1 fork = 2\n2 exit\n2 exit\n", 4, "has exited in line 3"},
		{head + "1 exec\n", 2, ""},
		{head + "1 exec a b\n", 2, ""},
		{head + "1 touch\n", 2, ""},
		{head + "1 touch q 0x1000\n", 2, `"q"`},
		{head + "1 touch r 0x\n", 2, ""},
		{head + "1 touch r 0x10000000000000000\n", 2, ""},
		{head + "1 touch w 0x1000 0x100\n", 2, ""},
		{head + "1 touch r 0x1000 = 0x100\n", 2, ""},
		{head + "1 touch r 0x1000 = perhaps\n", 2, ""},
		{head + "1 touch r " + elf + "+0x0\n", 2, ""},
		{head + "1 mmap 0 0x1000 rwz private anon\n", 2, ""},
		{head + "1 mmap 0 0x1000 rw- sideways anon\n", 2, ""},
		{head + "1 mprotect 0x1000\n", 2, ""},
		{head + "1 boot " + elf + "\n1 boot " + elf + "\n", 3, ""},
		{head + "test \"open\n", 2, ""},
		{head + strings.Repeat("x", 1<<21) + "\n", 2, ""},
		{head + "1 exec \"" + strings.Repeat("x", 1<<16) + "\"\n", 2, ""},
		{head + "1 touch r 0x1000 = \xff\xfe\n", 2, ""},
	} {
		path := filepath.Join(t.TempDir(), "trace")
		if err := os.WriteFile(path, []byte(c.trace), 0o644); err != nil {
			t.Fatal(err)
		}
		code, _, errs := vmsim(t, append([]string{"replay", path}, smallFlags...)...)
		name := c.trace[:min(len(c.trace), 80)]
		if prefix := fmt.Sprintf("vmsim: %s:%d: ", path, c.line); code != 2 || !strings.HasPrefix(errs, prefix) ||
			strings.Count(errs, "\n") != 1 || len(errs) < len(prefix)+5 || len(errs) > len(prefix)+400 || !strings.Contains(errs, c.want) {
			t.Errorf("%q: code %d, error %.300q, want line %d, %q", name, code, errs, c.line, c.want)
		}
	}
}
