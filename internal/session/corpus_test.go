package session

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestFind: a tree with everything that is not a file of its own.
func TestFind(t *testing.T) {
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
	l, err := net.Listen("unix", filepath.Join(dir, "tree/socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	links, again := "symbolic link", "the same file again"
	special := Reasons{"FIFO": 1, "socket": 1}
	for _, c := range []struct {
		named, listed []string
		files         []string // in dir; those with a ! are Named
		notELF        Reasons
		passedOver    Reasons
	}{
		{[]string{"tree"}, nil, []string{"tree/a", "tree/b", "tree/sub/c"}, special, Reasons{links: 2, again: 1}},
		{[]string{"tree/"}, nil, []string{"tree/a", "tree/b", "tree/sub/c"}, special, Reasons{links: 2, again: 1}},
		// A link that is named, or listed, is followed.
		{[]string{"bin"}, nil, []string{"bin/a", "bin/b", "bin/sub/c"}, special, Reasons{links: 2, again: 1}},
		{nil, []string{"bin", "tree/link"}, []string{"bin/a", "bin/b", "bin/sub/c", "tree/link/d"}, special, Reasons{links: 2, again: 1}},
		{[]string{"bin", "tree"}, nil, []string{"bin/a", "bin/b", "bin/sub/c"}, Reasons{"FIFO": 2, "socket": 2}, Reasons{links: 4, again: 5}},
		{[]string{"named", "missing", "tree/sub"}, nil, []string{"!named", "!missing", "tree/sub/c"}, Reasons{}, Reasons{}},
		// What is named is Named though a directory had it first.
		{[]string{"tree/sub", "tree/sub/c"}, nil, []string{"!tree/sub/c"}, Reasons{}, Reasons{again: 1}},
		{[]string{"named"}, []string{"named", "missing", "tree/soft", "tree/b"}, []string{"!named", "missing", "tree/soft"}, Reasons{}, Reasons{again: 2}},
		// What is no regular file: named, its error is told; listed, it is counted.
		{[]string{"tree/fifo"}, []string{"tree/fifo", "tree/socket"}, []string{"!tree/fifo"}, special, Reasons{}},
	} {
		in := func(names []string) (paths []string) {
			for _, name := range names {
				paths = append(paths, dir+"/"+name)
			}
			return paths
		}
		corpus := Find(in(c.named), in(c.listed), func(err error) { t.Errorf("%v: %v", c.named, err) }, never)
		got := Corpus{NotELF: corpus.NotELF, PassedOver: corpus.PassedOver}
		for _, s := range corpus.Sources {
			name := strings.TrimPrefix(s.Path, dir+"/")
			if s.Named {
				name = "!" + name
			}
			got.Sources = append(got.Sources, Source{Path: name})
		}
		want := Corpus{NotELF: c.notELF, PassedOver: c.passedOver}
		for _, name := range c.files {
			want.Sources = append(want.Sources, Source{Path: name})
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("named %v, listed %v (-want +got):\n%s", c.named, c.listed, d)
		}
	}
}

// TestFindTrouble: a directory that cannot be read is told, the rest goes on.
func TestFindTrouble(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "z"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Deeper than PATH_MAX from here on: no user reads it by its path.
	at, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	long := strings.Repeat("x", 250)
	fd := int(at.Fd())
	for range 20 {
		if err := unix.Mkdirat(fd, long, 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(fd, long, unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(next)
		fd = next
	}
	var troubles []error
	c := Find([]string{dir}, nil, func(err error) { troubles = append(troubles, err) }, never)
	if len(c.Sources) != 2 || len(troubles) != 1 || !errors.Is(troubles[0], syscall.ENAMETOOLONG) {
		t.Errorf("%d files, %v", len(c.Sources), troubles)
	}
}

// TestShards: each path is in one shard, of about the same size, and where it
// is does not change: parts of several machines are merged.
func TestShards(t *testing.T) {
	for _, n := range []int{1, 2, 7, 64} {
		count := make([]int, n+1)
		for i := range 10000 {
			count[Shard(fmt.Sprintf("/usr/lib/x86_64-linux-gnu/lib%d.so.%d", i, i%7), n)]++
		}
		if count[0] != 0 || slices.Min(count[1:]) < 10000/n*7/10 || slices.Max(count) > 10000/n*13/10 {
			t.Errorf("%d shards: %v", n, count)
		}
	}
	for path, want := range map[string]int{"": 6, "/bin/sh": 16, "/usr/lib/\xff": 7} {
		if got := Shard(path, 16); got != want {
			t.Errorf("%q: shard %d of 16, was %d", path, got, want)
		}
	}
	a := Corpus{Sources: []Source{{Path: "ab"}, {Path: "c"}}}
	b := Corpus{Sources: []Source{{Path: "a"}, {Path: "bc"}}}
	if a.Digest() == b.Digest() || len(a.Digest()) != 64 {
		t.Errorf("digests %s and %s", a.Digest(), b.Digest())
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
