package session

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestExpand: a tree with everything that is not a file of its own.
func TestExpand(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"tree/b", "tree/a", "tree/sub/c", "elsewhere/d", "named"} {
		file(name)
	}
	for _, err := range []error{
		os.Link(filepath.Join(dir, "tree/a"), filepath.Join(dir, "tree/hard")),
		os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "tree/link")),
		os.Symlink("b", filepath.Join(dir, "tree/soft")),
		os.Symlink("tree", filepath.Join(dir, "bin")),
		syscall.Mkfifo(filepath.Join(dir, "tree/fifo"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		args  []string
		files []string // in dir
	}{
		{[]string{"tree"}, []string{"tree/a", "tree/b", "tree/sub/c"}},
		{[]string{"tree/"}, []string{"tree/a", "tree/b", "tree/sub/c"}},
		{[]string{"bin"}, []string{"bin/a", "bin/b", "bin/sub/c"}}, // a link that is named is followed
		{[]string{"bin", "tree"}, []string{"bin/a", "bin/b", "bin/sub/c"}},
		{[]string{"named", "missing", "tree/sub"}, []string{"named", "missing", "tree/sub/c"}},
	} {
		var args, got []string
		for _, a := range c.args {
			args = append(args, dir+"/"+a)
		}
		var troubles []string
		for _, s := range Expand(args, func(err error) { troubles = append(troubles, err.Error()) }) {
			got = append(got, strings.TrimPrefix(s.Path, dir+"/"))
			if named := slices.Contains(c.args, got[len(got)-1]); s.Named != named {
				t.Errorf("%v: %s: Named is %v", c.args, s.Path, s.Named)
			}
		}
		if !slices.Equal(got, c.files) {
			t.Errorf("%v: %v, want %v", c.args, got, c.files)
		}
		if missing := slices.Contains(c.args, "missing"); missing != strings.Contains(strings.Join(got, " "), "missing") || len(troubles) > 0 {
			t.Errorf("%v: troubles %v", c.args, troubles)
		}
	}
}

func TestReadList(t *testing.T) {
	for in, want := range map[string][]string{
		"":                  nil,
		"a\nb c\n\n/d":      {"a", "b c", "/d"},
		"a\x00b\nc\x00\x00": {"a", "b\nc"},
	} {
		got, err := ReadList(strings.NewReader(in))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, error %v, want %q", in, got, err, want)
		}
	}
}
