package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// pages are the man pages by file name.
func pages(t *testing.T) map[string]string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new", "man1")
	code, out, errs := vmsim(t, "man", dir)
	entries, err := os.ReadDir(dir)
	if code != 0 || errs != "" || err != nil {
		t.Fatalf("code %d, error %q, %v", code, errs, err)
	}
	all := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(data)
	}
	if want := regexp.MustCompile(`^\d+ man pages written to .*\n$`); !want.MatchString(out) {
		t.Errorf("output %q", out)
	}
	return all
}

// TestManPages: there is a page for each command, with its options, the same
// each time.
func TestManPages(t *testing.T) {
	all := pages(t)
	if d := cmp.Diff(all, pages(t)); d != "" {
		t.Errorf("other pages the second time:\n%s", d)
	}
	n := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Name() == "help" {
			return
		}
		n++
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1"
		want := []string{".SH NAME\n", ".SH SYNOPSIS\n", ".SH DESCRIPTION\n", ".SH OPTIONS\n", ".SH SEE ALSO\n"}
		if cmd.Example != "" {
			want = append(want, ".SH EXAMPLE\n")
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) { want = append(want, `\fB--`+f.Name+`\fP`) })
		for _, w := range want {
			if !strings.Contains(all[name], w) {
				t.Errorf("%s has no %q", name, w)
			}
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRootCommand())
	if n != len(all) || n < 10 {
		t.Errorf("%d commands, %d pages", n, len(all))
	}
	page := all["vmsim-verify.1"]
	if !strings.Contains(page, `\fB--jobs\fP=CPUs`) {
		t.Error("the page of verify names this machine's CPUs")
	}
	if !strings.Contains(page, "\n  1. exec with nothing cached, touch every page;\n  2. exec again:") {
		t.Errorf("the list of verify's execs is not as in its help:\n%s", page)
	}
}

// TestManLint: groff and mandoc take the pages, and only what is told as code is
// wider than a terminal.
func TestManLint(t *testing.T) {
	all := pages(t)
	dir := t.TempDir()
	for _, tool := range []struct {
		name, pkg string
		args      []string
		accept    string // lines of complaint
	}{
		{"groff", "groff-base", []string{"-man", "-ww", "-Tascii", "-z"}, ``},
		// What the library writes: no day in the date, empty lines, long lines.
		{"mandoc", "mandoc", []string{"-T", "lint", "-W", "error"}, ``},
	} {
		t.Run(tool.name, func(t *testing.T) {
			path, err := exec.LookPath(tool.name)
			if err != nil {
				t.Skipf("%s is not there: install Debian's %s", tool.name, tool.pkg)
			}
			for name, page := range all {
				file := filepath.Join(dir, name)
				if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
					t.Fatal(err)
				}
				var out bytes.Buffer
				cmd := exec.Command(path, append(tool.args, file)...)
				cmd.Stdout, cmd.Stderr = &out, &out
				err := cmd.Run() // mandoc: 2 for a warning
				if _, exited := err.(*exec.ExitError); err != nil && !exited {
					t.Fatal(err)
				}
				for line := range strings.Lines(out.String()) {
					if tool.accept == "" || !regexp.MustCompile(tool.accept).MatchString(strings.TrimSpace(line)) {
						t.Errorf("%s", line)
					}
				}
			}
		})
	}
}
