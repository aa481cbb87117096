package mem

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"
)

func write(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) *OSFile {
	t.Helper()
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestOSFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prog")
	write(t, path, "0123456789")
	f := open(t, path)
	if f.Name() != path || f.Size() != 10 {
		t.Errorf("%s of %d bytes", f.Name(), f.Size())
	}
	b := make([]byte, 4)
	if n, err := f.ReadAt(b, 3); n != 4 || err != nil || string(b) != "3456" {
		t.Errorf("read %d %q, %v", n, b, err)
	}
	if n, err := f.ReadAt(b, 8); n != 2 || err != io.EOF {
		t.Errorf("read at the end: %d, %v", n, err)
	}

	again := open(t, path)
	if again.Identity() != f.Identity() || again.Generation() != f.Generation() {
		t.Error("the same content, opened twice, is two")
	}
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if l := open(t, link); l.Identity() != f.Identity() || l.Name() != link {
		t.Error("a link is another file, or has not the name it was opened by")
	}
	write(t, path+".copy", "0123456789")
	if open(t, path+".copy").Identity() == f.Identity() {
		t.Error("a copy has the identity of the original")
	}
}

func TestChanged(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"extended":  func(p string) error { return os.Truncate(p, 20) },
		"truncated": func(p string) error { return os.Truncate(p, 3) },
		// Of the same size; the clock of the file system may be coarse.
		"rewritten": func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 5)) },
	} {
		path := filepath.Join(t.TempDir(), "prog")
		write(t, path, "0123456789")
		f := open(t, path)
		if f.Changed() {
			t.Errorf("%s: changed before it is", name)
		}
		if err := change(path); err != nil {
			t.Fatal(err)
		}
		if !f.Changed() {
			t.Errorf("%s: not noticed", name)
		}
		if now := open(t, path); now.Identity() != f.Identity() || now.Generation() == f.Generation() {
			t.Errorf("%s: want the same file of another generation", name)
		}
	}
	f := open(t, os.Args[0])
	f.Close()
	if !f.Changed() {
		t.Error("a closed file counts as unchanged")
	}
}

// A closed file has no descriptor any more, which may be another file's by now.
func TestClosedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "prog")
	write(t, path, "0123456789")
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	other := open(t, path)
	if n, err := f.ReadAt(make([]byte, 4), 0); n != 0 || !errors.Is(err, syscall.EBADF) {
		t.Errorf("read: %d bytes, %v", n, err)
	}
	if err := f.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("second close: %v", err)
	}
	if n, err := other.ReadAt(make([]byte, 4), 0); n != 4 || err != nil {
		t.Errorf("the file opened since: %d bytes, %v", n, err)
	}
	if n, err := other.ReadAt(make([]byte, 4), -1); n != 0 || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("read at -1: %d bytes, %v", n, err)
	}
}

// What has no content to map is refused, without waiting for a writer.
func TestOpenNotRegular(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	// The path of a socket has a limit of 108 bytes.
	short, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(short)
	socket := filepath.Join(short, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	for _, path := range []string{dir, fifo, socket, "/dev/null", "/dev/zero"} {
		f, err := OpenFile(path)
		if f != nil || !errors.Is(err, ErrNotRegular) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
	for path, want := range map[string]error{
		filepath.Join(dir, "none"):   fs.ErrNotExist,
		filepath.Join(fifo, "x"):     syscall.ENOTDIR,
		strings.Repeat("x", 300):     syscall.ENAMETOOLONG,
		filepath.Join(dir, "a\x00b"): syscall.EINVAL,
		"":                           fs.ErrNotExist,
	} {
		if f, err := OpenFile(path); f != nil || !errors.Is(err, want) {
			t.Errorf("%q: %v, %v; want %v", path, f, err, want)
		}
	}
}

func TestBytesFile(t *testing.T) {
	data := []byte("0123456789")
	f, g := NewBytesFile("f", data), NewBytesFile("f", data)
	if f.Identity() == g.Identity() || f.Generation() != g.Generation() {
		t.Error("two files are one")
	}
	if f.Name() != "f" || f.Size() != 10 {
		t.Errorf("%s of %d bytes", f.Name(), f.Size())
	}
	if err := iotest.TestReader(io.NewSectionReader(f, 0, f.Size()), data); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		off  int64
		n    int
		want string
		err  error
	}{
		{0, 4, "0123", nil},
		{6, 4, "6789", nil}, // all there is: no EOF needed
		{7, 4, "789", io.EOF},
		{10, 4, "", io.EOF},
		{1 << 62, 4, "", io.EOF},
		{3, 0, "", nil},
	} {
		b := make([]byte, c.n)
		n, err := f.ReadAt(b, c.off)
		if string(b[:n]) != c.want || err != c.err {
			t.Errorf("%d bytes at %d: %q, %v; want %q, %v", c.n, c.off, b[:n], err, c.want, c.err)
		}
	}
	if n, err := f.ReadAt(make([]byte, 1), -1); n != 0 || err == nil || err == io.EOF {
		t.Errorf("negative offset: %d, %v", n, err)
	}
}

func TestReadPadded(t *testing.T) {
	f := NewBytesFile("f", []byte("0123456789"))
	for _, c := range []struct {
		off  int64
		want string
	}{
		{0, "0123"}, {6, "6789"}, {8, "89\x00\x00"}, {10, "\x00\x00\x00\x00"}, {1 << 40, "\x00\x00\x00\x00"},
	} {
		p := bytes.Repeat([]byte{0xaa}, 4) // what the buffer held before must not show
		if err := ReadPadded(f, p, c.off); err != nil || string(p) != c.want {
			t.Errorf("at %d: %q, %v; want %q", c.off, p, err, c.want)
		}
	}
	if err := ReadPadded(f, make([]byte, 1), -1); err == nil {
		t.Error("no error at a negative offset")
	}
	broken := errors.New("broken disk")
	if err := ReadPadded(brokenFile{broken}, make([]byte, 4), 0); err != broken {
		t.Errorf("got %v, want the error of the read", err)
	}
}

type brokenFile struct{ err error }

func (b brokenFile) ReadAt([]byte, int64) (int, error) { return 2, b.err }
