package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	root "vmsim"
	"vmsim/internal/elfgen"
)

// smallFlags keep the machine small: a hostile file must not need a large one.
var smallFlags = []string{"--memory", "64M"}

// malformedN is how many hostile files TestMalformedCorpus makes. All of them:
//
//	go test ./cmd/vmsim -run '^TestMalformedCorpus$' -v -malformed.n 10000
var malformedN = flag.Int("malformed.n", 1000, "TestMalformedCorpus: make `N` hostile files")

// malformed writes n hostile files to a new directory, one in eight a truncation
// of a file of the corpus, and returns their paths.
func malformed(t *testing.T, n int) (dir string, paths []string) {
	t.Helper()
	dir = t.TempDir()
	r := rand.New(rand.NewPCG(2, 11))
	corpus := root.Corpus()
	for i := range n {
		kind, data := elfgen.Malformed(r)
		if i%8 == 0 {
			f := corpus[r.IntN(len(corpus))]
			data = make([]byte, r.Int64N([]int64{5, 64, 400, f.Size()}[r.IntN(4)]))
			if _, err := f.ReadAt(data, 0); err != nil {
				t.Fatal(err)
			}
			kind = fmt.Sprintf("%s cut to %d", filepath.Base(f.Name()), len(data))
		}
		paths = append(paths, filepath.Join(dir, fmt.Sprintf("%05d %s", i, kind)))
		if err := os.WriteFile(paths[i], data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, paths
}

// oddFiles makes what has no content to map, none of which may be waited for:
// FIFO, socket, devices where this user may make them; and links and a directory.
// It returns the number of the former.
func oddFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		syscall.Mkfifo(in("fifo"), 0o644),
		os.Mkdir(in("dir"), 0o755),
		os.Symlink("nowhere", in("dangling")),
		os.Symlink("loop", in("loop")),
		os.Symlink("..", in("up")),
		os.Symlink("/dev/zero", in("link to a device")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", in("socket"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	n = 2
	for name, dev := range devices {
		if err := unix.Mknod(in(name), dev.mode|0o666, int(unix.Mkdev(dev.major, dev.minor))); err != nil {
			t.Logf("%s: %v", name, err) // root may, but not in every container
			continue
		}
		n++
	}
	return n
}

// devices are those that oddFiles makes: with drivers that give bytes for ever,
// or wait for a terminal, and without one.
var devices = map[string]struct{ mode, major, minor uint32 }{
	"zero":      {unix.S_IFCHR, 1, 5},
	"full":      {unix.S_IFCHR, 1, 7},
	"tty":       {unix.S_IFCHR, 5, 0},
	"no driver": {unix.S_IFCHR, 510, 77},
	"block":     {unix.S_IFBLK, 7, 200},
}

// corpusResult is what `vmsim verify -o json` says of a directory.
type corpusResult struct {
	Files               []json.RawMessage
	OK, Failed, Skipped int
	NotELF              int `json:"not_elf"`
	Partial             bool
}

// row is what every file has a row with.
type row struct {
	Path, Verdict, Reason string
	Failures              int
}

// rows returns the rows by path, which is cut off dir.
func (c corpusResult) rows(t *testing.T, dir string) (rows map[string]row, raw map[string]string) {
	t.Helper()
	rows, raw = map[string]row{}, map[string]string{}
	for _, f := range c.Files {
		var r row
		if err := json.Unmarshal(f, &r); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(r.Path, dir), "/")
		if _, twice := rows[name]; twice {
			t.Errorf("%s: two rows", r.Path)
		}
		rows[name], raw[name] = r, strings.Replace(string(f), r.Path, "", 1)
	}
	return rows, raw
}

// TestMalformedCorpus: a directory of hostile files is walked to its end, in
// bounded memory; each is verified, skipped with its reason, or counted as no
// ELF, and each with ELF magic has a row. Those that are right, which lie among
// them, have the rows that they have alone.
func TestMalformedCorpus(t *testing.T) {
	n := *malformedN
	if testing.Short() {
		n = min(n, 100)
	}
	dir, _ := malformed(t, n)
	good := map[string]string{} // name: its row alone
	for i, f := range root.Corpus() {
		data := make([]byte, f.Size())
		if _, err := f.ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%05d good", i*n/len(root.Corpus()))
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			t.Fatal(err)
		}
		code, out, errs := vmsim(t, append(smallFlags, "verify", "-o", "json", filepath.Join(dir, name))...)
		var alone corpusResult
		if err := json.Unmarshal([]byte(out), &alone); err != nil || code != 0 {
			t.Fatalf("%s: code %d, error %q, %v", f.Name(), code, errs, err)
		}
		_, raw := alone.rows(t, dir)
		good[name] = raw[name]
	}
	odd := oddFiles(t, dir)

	const jobs = 2
	out, peak := verifyPeak(t, append(smallFlags, "verify", "-o", "json", "--jobs", fmt.Sprint(jobs), dir)...)
	var res corpusResult
	if err := json.Unmarshal(out, &res); err != nil {
		t.Fatal(err)
	}
	if total := n + len(good) + odd; res.Failed != 0 || res.Partial || res.OK+res.Skipped+res.NotELF != total || len(res.Files) != res.OK+res.Skipped {
		t.Errorf("%d files: %d ok, %d failed, %d skipped, %d not ELF, %d told", total, res.OK, res.Failed, res.Skipped,
			res.NotELF, len(res.Files))
	}
	if res.OK < n/10 || res.Skipped < n/3 || res.NotELF < n/20 {
		t.Errorf("%d ok, %d skipped, %d not ELF: not what it ought to try", res.OK, res.Skipped, res.NotELF)
	}
	rows, raw := res.rows(t, dir)
	for name, r := range rows {
		if r.Verdict != "ok" && r.Verdict != "skipped" || (r.Verdict == "skipped") == (r.Reason == "") || r.Failures != 0 {
			t.Errorf("%s: %s, reason %q, %d failures", name, r.Verdict, r.Reason, r.Failures)
		}
		if strings.Contains(r.Reason, "\n") || strings.Contains(r.Reason, dir) {
			t.Errorf("%s: reason %q", name, r.Reason)
		}
	}
	for name, alone := range good {
		if raw[name] != alone {
			t.Errorf("%s: among others\n%s\nalone\n%s", name, raw[name], alone)
		}
	}
	magic := 0
	for name := range elfNames(t, dir) {
		magic++
		if _, ok := rows[name]; !ok {
			t.Errorf("%s has ELF magic and no row", name)
		}
	}
	if magic != len(rows) {
		t.Errorf("%d rows for %d files with ELF magic", len(rows), magic)
	}
	if bound := peakBound(64<<20, jobs); peak > bound {
		t.Errorf("took %d MiB at its peak, more than %d", peak>>20, bound>>20)
	}
	t.Logf("%d ok, %d skipped, %d not ELF; %d MiB at the peak", res.OK, res.Skipped, res.NotELF, peak>>20)
}

// elfNames returns the names of the regular files in dir that begin with ELF
// magic.
func elfNames(t *testing.T, dir string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		var magic [4]byte
		f.ReadAt(magic[:], 0)
		f.Close()
		if string(magic[:]) == "\x7fELF" {
			names[e.Name()] = true
		}
	}
	return names
}

// TestMalformedFile: one hostile file, named, is verified, or is one line on
// standard error and 2; so it is for stress, run and sweep.
func TestMalformedFile(t *testing.T) {
	_, paths := malformed(t, 300)
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
	odd := oddFiles(t, dir)
	if err := os.WriteFile(in("empty"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	named := map[string]string{
		in("fifo"):                   "not a regular file",
		in("socket"):                 "not a regular file",
		in("dir"):                    "not a regular file",
		in("link to a device"):       "not a regular file",
		"/dev/null":                  "not a regular file",
		"/dev/zero":                  "not a regular file",
		in("empty"):                  "not an ELF file",
		in("dangling"):               "no such file or directory",
		in("loop"):                   "too many levels of symbolic links",
		in("missing"):                "no such file or directory",
		in("empty/below"):            "not a directory",
		in(strings.Repeat("x", 300)): "file name too long",
	}
	for name := range devices {
		if _, err := os.Lstat(in(name)); err == nil {
			named[in(name)] = "not a regular file"
		}
	}
	for path, want := range named {
		for _, command := range []string{"verify", "stress", "run"} {
			if command == "verify" && path == in("dir") {
				continue // walks it
			}
			code, out, errs := vmsim(t, command, path)
			if code != 2 || out != "" || !strings.Contains(errs, want) {
				t.Errorf("%s %s: code %d, output %q, error %q, want %q", command, path, code, out, errs, want)
			}
			oneError(t, errs, path)
		}
	}
	code, out, errs := vmsim(t, "verify", dir)
	if code != 0 || errs != "" || !strings.HasPrefix(out, fmt.Sprintf("0 ok, 0 failed, 0 skipped, %d not ELF; ", odd+1)) {
		t.Errorf("verify DIR: code %d, output %q, error %q", code, out, errs)
	}
}

// TestUnreadableFiles: what the user may not read is skipped with that reason,
// also in a directory; root is made another user first, since it reads all.
func TestUnreadableFiles(t *testing.T) {
	dir := openTempDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	elf, err := os.ReadFile("../../testdata/elf/bss-only")
	if err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"a secret": 0, "good": 0o644, "write only": 0o222} {
		if err := os.WriteFile(in(name), elf, mode); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := vmsimAsNobody(t, "verify", "-o", "json", dir)
	var res corpusResult
	if err := json.Unmarshal([]byte(out), &res); err != nil {
		t.Fatalf("code %d, output %q, error %q: %v", code, out, errs, err)
	}
	rows, _ := res.rows(t, dir)
	want := map[string]row{
		"good":       {Path: in("good"), Verdict: "ok"},
		"a secret":   {Path: in("a secret"), Verdict: "skipped", Reason: "permission denied"},
		"write only": {Path: in("write only"), Verdict: "skipped", Reason: "permission denied"},
	}
	if d := cmp.Diff(want, rows); d != "" || code != 0 || errs != "" {
		t.Errorf("code %d, error %q (-want +got):\n%s", code, errs, d)
	}
	for _, command := range []string{"verify", "stress", "run"} {
		code, out, errs := vmsimAsNobody(t, command, in("a secret"))
		if code != 2 || out != "" || errs != "vmsim: "+in("a secret")+": permission denied\n" {
			t.Errorf("%s: code %d, output %q, error %q", command, code, out, errs)
		}
	}
	// A directory that cannot be walked is trouble, and what is beside it is
	// verified.
	if err := os.Mkdir(in("closed"), 0); err != nil {
		t.Fatal(err)
	}
	code, out, errs = vmsimAsNobody(t, "verify", dir)
	if code != 2 || errs != "vmsim: "+in("closed")+": permission denied\n" || !strings.Contains(out, "1 ok, 0 failed, 2 skipped") {
		t.Errorf("closed directory: code %d, output %q, error %q", code, out, errs)
	}
}

// TestFileRewritten: a file of the host that somebody rewrites all the time is
// skipped as changed, or was right when it was read; never a mismatch. The file
// beside it is not affected.
func TestFileRewritten(t *testing.T) {
	dir := t.TempDir()
	read := func(name string) []byte {
		data, err := os.ReadFile("../../testdata/elf/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	a, b := read("kevlar-layout"), read("huge-text")
	flipped := append(append([]byte(nil), a[:0x1000]...), b[:len(a)-0x1000]...) // the same headers and size
	victim, good := filepath.Join(dir, "victim"), filepath.Join(dir, "z good")
	for _, path := range []string{victim, good} {
		if err := os.WriteFile(path, a, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	stopped := make(chan error)
	go func() {
		f, err := os.OpenFile(victim, os.O_RDWR, 0)
		for i := 0; err == nil; i++ {
			select {
			case <-done:
				stopped <- f.Close()
				return
			default:
			}
			switch i % 4 {
			case 0:
				_, err = f.WriteAt(flipped, 0)
			case 1:
				_, err = f.WriteAt(a, 0)
			case 2:
				err = f.Truncate(int64(len(a)) / 2)
			default:
				_, err = f.WriteAt(b, int64(len(a))/2)
			}
		}
		stopped <- err
	}()
	changed, rounds := 0, 0
	for ; rounds < 200 && changed < 20; rounds++ {
		code, out, errs := vmsim(t, "verify", "-o", "json", dir)
		var res corpusResult
		if err := json.Unmarshal([]byte(out), &res); err != nil || code != 0 || errs != "" {
			t.Fatalf("code %d, error %q, output %s: %v", code, errs, out, err)
		}
		rows, _ := res.rows(t, dir)
		if r := rows["z good"]; r.Verdict != "ok" {
			t.Errorf("the file beside it: %+v", r)
		}
		switch r, ok := rows["victim"]; {
		case !ok, r.Verdict == "ok":
		case r.Verdict != "skipped" || r.Failures != 0:
			t.Fatalf("%+v", r)
		case r.Reason == "changed while it was read":
			changed++
		}
	}
	close(done)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	t.Logf("changed in %d of %d rounds", changed, rounds)
	if changed == 0 {
		t.Error("it was never seen to change: this proves nothing")
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
