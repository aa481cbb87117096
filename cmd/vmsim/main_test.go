package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"vmsim/internal/elfgen"
	"vmsim/internal/tracee"
	"vmsim/mem"
)

// TestMain lets this binary be the vmsim that scripts and tests start, and one
// that tells what memory it took.
func TestMain(m *testing.M) {
	tracee.Trampoline() // vmsim record starts this very program for it
	testscript.Main(m, map[string]func(){"vmsim": main, "vmsim-peak": mainPeak})
}

// repository is the root of the checkout.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// vmsim runs the program in this process.
func vmsim(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// TestScripts runs testdata/script: each in a directory of its own, in which
// testdata is the repository's.
//
// Beside testscript's commands there are
//
//	bigelf FILE                a program with 6 MiB of .data
//	jsonl FILE [FIRST [LAST]]  each line is an object; types of the first and last
//	oneline FILE               FILE has one line
//	mkfifo, mksocket FILE
//	[exists:PATH]              a condition
func TestScripts(t *testing.T) {
	root := repository(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			return os.Symlink(filepath.Join(root, "testdata"), filepath.Join(env.WorkDir, "testdata"))
		},
		Condition: func(cond string) (bool, error) {
			if path, ok := strings.CutPrefix(cond, "exists:"); ok {
				_, err := os.Stat(path)
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"bigelf":   scriptBigELF,
			"jsonl":    scriptJSONL,
			"oneline":  scriptOneLine,
			"mkfifo":   scriptMkfifo,
			"mksocket": scriptMksocket,
		},
	})
}

func scriptBigELF(ts *testscript.TestScript, _ bool, args []string) {
	const size = 6 << 20
	spec := elfgen.Spec{Type: elfgen.Exec, Entry: 0x400000, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead | mem.ProtExec},
		{Vaddr: 0x401000, Filesz: size, Memsz: size, Offset: 0x1000, Flags: mem.ProtRead | mem.ProtWrite},
	}}
	for _, a := range args {
		ts.Check(os.WriteFile(ts.MkAbs(a), elfgen.Build(spec, nil), 0o755))
	}
}

func scriptJSONL(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 3 {
		ts.Fatalf("usage: jsonl FILE [FIRST [LAST]]")
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile(args[0]), "\n"), "\n")
	types := make([]string, len(lines))
	for i, line := range lines {
		var object struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			ts.Fatalf("%s:%d: %v: %s", args[0], i+1, err, line)
		}
		types[i] = object.Type
	}
	for i, want := range args[1:] {
		if got := types[[]int{0, len(types) - 1}[i]]; got != want {
			ts.Fatalf("%s: type %q, not %q", args[0], got, want)
		}
	}
}

func scriptOneLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: oneline FILE")
	}
	if s := ts.ReadFile(args[0]); strings.Count(s, "\n") != 1 || !strings.HasSuffix(s, "\n") {
		ts.Fatalf("%s: not one line: %q", args[0], s)
	}
}

func scriptMkfifo(ts *testscript.TestScript, _ bool, args []string) {
	for _, a := range args {
		ts.Check(syscall.Mkfifo(ts.MkAbs(a), 0o644))
	}
}

func scriptMksocket(ts *testscript.TestScript, _ bool, args []string) {
	for _, a := range args {
		l, err := net.Listen("unix", ts.MkAbs(a))
		ts.Check(err)
		ts.Defer(func() { l.Close() })
	}
}
