package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadme runs the commands that the README shows with their output, from the
// root of the repository: each line that it shows comes, in this order, and where
// it shows no "..." nothing comes between. What depends on the machine (/usr, a
// PID, a recording made there) is not run.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(repository(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(repository(t))
	ran := 0
	for i, block := range strings.Split(string(data), "\n```") {
		if i%2 == 0 { // between blocks
			continue
		}
		var command string
		var shown []string
		check := func() {
			if command != "" && readmeRuns(command) {
				ran++
				checkShown(t, command, shown)
			}
		}
		for _, line := range strings.Split(block, "\n")[1:] {
			if rest, ok := strings.CutPrefix(line, "$ "); ok {
				check()
				command, shown = strings.TrimPrefix(rest, "go run ./cmd/"), nil
				continue
			}
			shown = append(shown, line)
		}
		check()
	}
	if ran < 4 {
		t.Errorf("only %d commands with output", ran)
	}
}

// readmeRuns reports whether a command gives the same on all machines.
func readmeRuns(command string) bool {
	return strings.HasPrefix(command, "vmsim ") && !strings.Contains(command, " /") && !strings.Contains(command, "$") &&
		!strings.ContainsAny(command, "|>'") && (!strings.HasSuffix(command, ".vmt") || strings.Contains(command, "testdata/"))
}

func checkShown(t *testing.T, command string, shown []string) {
	t.Helper()
	_, out, errs := vmsim(t, strings.Fields(command)[1:]...)
	got := strings.Split(strings.TrimSuffix(errs+out, "\n"), "\n")
	at, free := 0, false
	for _, line := range shown {
		if line == "..." {
			free = true
			continue
		}
		found := at
		for found < len(got) && got[found] != line && free {
			found++
		}
		if found == len(got) || got[found] != line {
			t.Errorf("%s: %q is not line %d of\n%s", command, line, at+1, strings.Join(got, "\n"))
			return
		}
		at, free = found+1, false
	}
	if !free && at != len(got) {
		t.Errorf("%s: more than shown from line %d on:\n%s", command, at+1, strings.Join(got, "\n"))
	}
}
