package verify_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The witness shares no code with what it checks: besides the standard library
// it may import mem and event, and these nothing of the module.
func TestImports(t *testing.T) {
	for dir, allowed := range map[string][]string{
		".":                 {"vmsim/mem", "vmsim/internal/event"},
		"../mem":            nil,
		"../internal/event": nil,
	} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no Go files (%v)", dir, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, imp := range f.Imports {
				path, err := strconv.Unquote(imp.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				if !allowedImport(path, allowed) {
					t.Errorf("%s imports %s", name, path)
				}
			}
		}
	}
}

// It reads the file by itself too: the helpers of mem are what the machine reads
// with, and a mistake in one would be in both.
func TestReadsByItself(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no Go files (%v)", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(name, "_test.go") && strings.Contains(string(text), "mem.ReadPadded") {
			t.Errorf("%s reads with the machine's helper", name)
		}
	}
}

// allowedImport takes the listed paths and the standard library's, whose first
// element has no dot.
func allowedImport(path string, allowed []string) bool {
	for _, a := range allowed {
		if path == a {
			return true
		}
	}
	first, _, _ := strings.Cut(path, "/")
	return first != "vmsim" && first != "C" && !strings.Contains(first, ".")
}
