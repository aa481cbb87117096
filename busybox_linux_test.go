package vmsim

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	busyboxDir    = "testdata/busybox"
	busyboxPath   = "/bin/busybox"
	busyboxTests  = 134
	busyboxGroups = 14
	// busyboxHangs is far above the few seconds that the suite takes: it ends a
	// test that waits for ever, and judges no speed.
	busyboxHangs = 5 * time.Minute
)

// needBusybox skips t unless the binary that the suite is written for is here: a
// dynamic one is another package, with fewer applets.
func needBusybox(t *testing.T) {
	t.Helper()
	f, err := elf.Open(busyboxPath)
	if err != nil {
		t.Skipf("%v: Debian package busybox-static", err)
	}
	defer f.Close()
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Skipf("%s is not static: Debian package busybox-static", busyboxPath)
	}
}

// suiteRun is one run of the suite.
type suiteRun struct {
	shell   []string            // the shell that reads suite.sh, BusyBox's if empty
	busybox string              // the binary under test, busyboxPath if empty
	user    *syscall.Credential // whose processes they are, this test's if nil
	args    []string
}

// suiteResult is what came of it.
type suiteResult struct {
	code        int
	out, errors string
}

// run runs a copy of the suite, in a folder that every user can read, and checks
// that it left no file and no process behind.
func (r suiteRun) run(t *testing.T) suiteResult {
	t.Helper()
	dir := openDir(t)
	if err := os.CopyFS(dir+"/suite", os.DirFS(busyboxDir)); err != nil {
		t.Fatal(err)
	}
	tmp := dir + "/tmp"
	if err := os.Mkdir(tmp, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tmp, 0o777); err != nil {
		t.Fatal(err)
	}
	if r.busybox == "" {
		r.busybox = busyboxPath
	}
	if r.shell == nil {
		r.shell = []string{busyboxPath, "sh"}
	}

	ctx, cancel := context.WithTimeout(context.Background(), busyboxHangs)
	defer cancel()
	args := append(slices.Clone(r.shell[1:]), append([]string{dir + "/suite/suite.sh"}, r.args...)...)
	cmd := exec.CommandContext(ctx, r.shell[0], args...)
	// Whatever the user has set must not matter, and the suite's processes are
	// known by TMPDIR.
	cmd.Env = append(os.Environ(), "BUSYBOX="+r.busybox, "TMPDIR="+tmp,
		"TZ=Asia/Tokyo", "LC_ALL=de_DE.UTF-8", "COLUMNS=3")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.user}
	cmd.WaitDelay = time.Second
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), errs.String())
	}

	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if left := processesOf(t, "TMPDIR="+tmp); left != nil {
		t.Errorf("processes left behind: %q", left)
	}
	return suiteResult{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// openDir is a temporary folder that all users can enter; t.TempDir is not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmsim-busybox")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// processesOf are the command lines of the processes with a word in their
// environment; those that are about to end get some time to do so.
func processesOf(t *testing.T, word string) []string {
	t.Helper()
	var left []string
	for range 200 {
		left = nil
		paths, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil || len(paths) == 0 {
			t.Fatalf("no processes: %v", err)
		}
		for _, path := range paths {
			env, _ := os.ReadFile(path) // it may have ended meanwhile
			if slices.Contains(strings.Split(string(env), "\x00"), word) {
				line, _ := os.ReadFile(filepath.Dir(path) + "/cmdline")
				left = append(left, string(line))
			}
		}
		if left == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return left
}

// suiteNames are the tests in the suite's files, GROUP/NAME, group by group.
func suiteNames(t *testing.T) []string {
	t.Helper()
	driver, err := os.ReadFile(busyboxDir + "/suite.sh")
	if err != nil {
		t.Fatal(err)
	}
	groups := regexp.MustCompile(`(?m)^groups='([a-z ]+)'$`).FindSubmatch(driver)
	if groups == nil {
		t.Fatal("suite.sh: no groups")
	}
	var names []string
	for _, group := range strings.Fields(string(groups[1])) {
		names = append(names, groupNames(t, group)...)
	}
	return names
}

// groupNames are the tests that a group lists, after a look at their functions.
func groupNames(t *testing.T, group string) []string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("%s/%s.sh", busyboxDir, group))
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^tests ` + group + ` ((?:[^\\\n]|\\\n)+)$`).FindSubmatch(text)
	if list == nil {
		t.Fatalf("%s.sh: no list of tests", group)
	}
	listed := strings.Fields(strings.ReplaceAll(string(list[1]), "\\\n", " "))

	var defined []string
	for _, f := range regexp.MustCompile(`(?ms)^`+group+`_(\w+)\(\) \{\n(.*?)^\}`).FindAllSubmatch(text, -1) {
		defined = append(defined, string(f[1]))
		if !regexp.MustCompile(`(?m)^\tis `).Match(f[2]) || !strings.Contains(string(f[2]), `"$BUSYBOX"`) {
			t.Errorf("%s/%s checks nothing, or nothing of BusyBox", group, f[1])
		}
	}
	if !slices.Equal(listed, defined) {
		t.Errorf("%s.sh lists\n%v and defines\n%v", group, listed, defined)
	}
	names := make([]string, len(listed))
	for i, name := range listed {
		names[i] = group + "/" + name
	}
	return names
}

func groupOf(name string) string {
	group, _, _ := strings.Cut(name, "/")
	return group
}

// There are 134 tests in 14 groups, each with a name of its own.
func TestBusyboxNames(t *testing.T) {
	names := suiteNames(t)
	if len(names) != busyboxTests {
		t.Errorf("%d tests, want %d", len(names), busyboxTests)
	}
	sorted := slices.Sorted(slices.Values(names))
	if len(slices.Compact(sorted)) != len(names) {
		t.Errorf("a name comes twice in %v", names)
	}
	groups := make(map[string]bool)
	for _, name := range names {
		groups[groupOf(name)] = true
	}
	if len(groups) != busyboxGroups {
		t.Errorf("%d groups, want %d", len(groups), busyboxGroups)
	}
	if files, err := filepath.Glob(busyboxDir + "/*"); err != nil || len(files) != busyboxGroups+1 {
		t.Errorf("files %v: want suite.sh and one for each group; %v", files, err)
	}
}

// The suite passes in BusyBox's shell and in another, which knows no applet: so
// nothing but BusyBox is executed, and all of it by exec. It passes for nobody, too.
func TestBusyboxPasses(t *testing.T) {
	needBusybox(t)
	rows := map[string]suiteRun{"busybox sh": {}, "sh": {shell: []string{"/bin/sh"}}}
	if os.Getuid() == 0 {
		rows["nobody"] = suiteRun{user: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	var want strings.Builder
	for _, name := range suiteNames(t) {
		fmt.Fprintf(&want, "ok %s\n", name)
	}
	fmt.Fprintf(&want, "%[1]d of %[1]d passed\n", busyboxTests)
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := row.run(t)
			if got != (suiteResult{0, want.String(), ""}) {
				t.Errorf("exit code %d\n%s\n%s", got.code, got.out, got.errors)
			}
		})
	}
}

// A wrapper notes each call, and lies where sort is called. The tests that depend
// on sort fail, and those that see the wrapper itself; no other. Before each test
// comes its marker.
func TestBusyboxLies(t *testing.T) {
	needBusybox(t)
	dir := openDir(t)
	wrapper, calls := dir+"/busybox", dir+"/calls"
	script := fmt.Sprintf(`#!%[1]s sh
printf '%%s\n' "$*" >>%[2]s
[ "$1" = sort ] || exec %[1]s "$@"
%[1]s "$@" | %[1]s sed '1s/./X/'
`, busyboxPath, calls)
	if err := os.WriteFile(wrapper, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	got := suiteRun{busybox: wrapper}.run(t)

	lie := []string{"text/sort", "text/sort_numeric", "text/sort_keys", "processes/env", "find/name", "find/type",
		"find/print0", "workloads/wordcount", "workloads/sort1000", "workloads/inventory", "workloads/logs"}
	see := []string{"proc/cmdline", "proc/environ", "proc/exe"}
	fails := regexp.MustCompile(`(?m)^FAIL (\S+): expected '.*' got '.*'$`).FindAllStringSubmatch(got.out, -1)
	var failed []string
	for _, f := range fails {
		failed = append(failed, f[1])
	}
	if want := slices.Concat(lie, see); !slices.Equal(failed, want) || got.code != 1 {
		t.Errorf("exit code %d, failed %v,\nwant %v\n%s", got.code, failed, want, got.errors)
	}
	last := fmt.Sprintf("\n%d of %d passed\n", busyboxTests-len(failed), busyboxTests)
	if !strings.HasSuffix(got.out, last) {
		t.Errorf("the last line is not %q:\n%s", last, got.out)
	}
	checkMarkers(t, calls)
}

// checkMarkers holds the markers in a file of calls against the tests: one before
// each, in order, and between two of them at least one other call.
func checkMarkers(t *testing.T, calls string) {
	t.Helper()
	data, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	var markers []string
	marker := false // the last call was one
	for line := range strings.Lines(string(data)) {
		name, ok := strings.CutPrefix(line, "true vmsim-test ")
		if ok && marker {
			t.Errorf("nothing is called by %s", markers[len(markers)-1])
		}
		if ok {
			markers = append(markers, strings.TrimSuffix(name, "\n"))
		}
		marker = ok
	}
	if want := suiteNames(t); marker || !slices.Equal(markers, want) {
		t.Errorf("markers\n%v, want\n%v", markers, want)
	}
}

// What is asked for is run or listed; what does not exist is one line and code 2.
func TestBusyboxArguments(t *testing.T) {
	needBusybox(t)
	all := strings.Join(suiteNames(t), "\n") + "\n"
	for name, row := range map[string]struct {
		run  suiteRun
		want suiteResult
	}{
		"list":        {suiteRun{args: []string{"-l"}}, suiteResult{0, all, ""}},
		"list of one": {suiteRun{args: []string{"-l", "stress/nested"}}, suiteResult{0, "stress/nested\n", ""}},
		"one":         {suiteRun{args: []string{"shell/trap"}}, suiteResult{0, "ok shell/trap\n1 of 1 passed\n", ""}},
		"in order given": {suiteRun{args: []string{"hashes/md5", "find/name"}},
			suiteResult{0, "ok hashes/md5\nok find/name\n2 of 2 passed\n", ""}},
		"no group":  {suiteRun{args: []string{"file"}}, suiteResult{2, "", "suite.sh: no such group or test: file\n"}},
		"no option": {suiteRun{args: []string{"-x"}}, suiteResult{2, "", "suite.sh: unknown option: -x\n"}},
		"relative": {suiteRun{busybox: "bin/busybox"},
			suiteResult{2, "", "suite.sh: BUSYBOX is not an absolute path: bin/busybox\n"}},
		"missing": {suiteRun{busybox: "/nonexistent/busybox"},
			suiteResult{2, "", "suite.sh: cannot execute /nonexistent/busybox: Debian package busybox-static\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := row.run.run(t); got != row.want {
				t.Errorf("got %+v\nwant %+v", got, row.want)
			}
		})
	}
}

// The table of groups in the documentation is that of the suite.
func TestBusyboxDocs(t *testing.T) {
	text, err := os.ReadFile("docs/busybox-suite.md")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, row := range regexp.MustCompile(`(?m)^\| (\w+) \| (\d+) \| .+ \|$`).FindAllStringSubmatch(string(text), -1) {
		got[row[1]] = row[2]
	}
	want := make(map[string]string)
	counts := make(map[string]int)
	for _, name := range suiteNames(t) {
		counts[groupOf(name)]++
		want[groupOf(name)] = fmt.Sprint(counts[groupOf(name)])
	}
	if !maps.Equal(got, want) {
		t.Errorf("the table says\n%v, the suite\n%v", got, want)
	}
}
