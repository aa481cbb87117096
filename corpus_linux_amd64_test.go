package vmsim

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// notRun has no entry point.
const notRun = "shared-object"

// Every fixture runs on the machine's kernel and finds its bytes in place.
func TestCorpusRuns(t *testing.T) {
	for _, f := range Corpus() {
		name := path.Base(f.Name())
		if name == notRun {
			continue
		}
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat("/lib64/ld-linux-x86-64.so.2"); name == "dynamic-pie" && errors.Is(err, fs.ErrNotExist) {
				t.Skip("its interpreter is not here: Debian package libc6")
			}
			if out, err := exec.Command("./" + f.Name()).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v, output %q", err, out)
			}
		})
	}
}

// The committed binaries are what their sources build, byte for byte.
func TestCorpusRebuilds(t *testing.T) {
	needTools(t)
	dir := t.TempDir()
	cmd := exec.Command("make", "-s", "-C", corpusDir, "OUT="+dir)
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("make: %v\n%s", err, out)
	}

	built, err := filepath.Glob(dir + "/*")
	if err != nil || len(built) != len(Corpus()) {
		t.Fatalf("make built %d files, want %d: %v", len(built), len(Corpus()), err)
	}
	for _, f := range Corpus() {
		want := make([]byte, f.Size())
		if _, err := f.ReadAt(want, 0); err != nil {
			t.Fatalf("%s: %v", f.Name(), err)
		}
		got, err := os.ReadFile(filepath.Join(dir, path.Base(f.Name())))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s: the rebuilt one differs", f.Name())
		}
	}
}

// needTools skips t unless the tools that testdata/elf/TOOLS names are here, in
// the same versions: others may place or encode things differently.
func needTools(t *testing.T) {
	t.Helper()
	const packages = "Debian 12 packages gcc, binutils, make"
	data, err := os.ReadFile(corpusDir + "/TOOLS")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(data)), "\n")
	tools := []string{"gcc", "as", "ld"}
	if len(want) != len(tools) {
		t.Fatalf("TOOLS: %d lines, want one for each of %v", len(want), tools)
	}
	for i, tool := range tools {
		out, err := exec.Command(tool, "--version").Output()
		if err != nil {
			t.Skipf("%v: %s", err, packages)
		}
		if line, _, _ := strings.Cut(string(out), "\n"); line != want[i] {
			t.Skipf("%s is %q, TOOLS says %q: %s", tool, line, want[i], packages)
		}
	}
	if _, err := exec.LookPath("make"); err != nil {
		t.Skipf("%v: %s", err, packages)
	}
}
