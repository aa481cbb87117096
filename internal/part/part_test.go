package part

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func header(shard, shards, files int) Header {
	return Header{Version: "v1", Shard: shard, Shards: shards, Files: files, ListSHA256: "abc",
		Options: map[string]any{"threshold": 128, "bug": []string{"x"}, "digest": false},
		NotELF:  map[string]int{"FIFO": 1}, PassedOver: map[string]int{}, Trouble: []string{"dir: permission denied"}}
}

// row is what became of file i: every third is no ELF file.
func row(i int) Row {
	if i%3 == 2 {
		return Row{Type: "row", Index: i, NotELF: "a script"}
	}
	return Row{Type: "row", Index: i, Seconds: 0.5, Result: json.RawMessage(fmt.Sprintf(`{"path":"/f%d"}`, i))}
}

// write makes the part of shard of shards: the files i with i%shards == shard-1.
func write(t testing.TB, path string, shard, shards, files int) {
	t.Helper()
	j, err := Create(path, header(shard, shards, files))
	if err != nil {
		t.Fatal(err)
	}
	for i := shard - 1; i < files; i += shards {
		if err := j.Add(row(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Finish(); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) (rows []Row) {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.All(func(row Row) error { rows = append(rows, row); return nil }); err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestResumeAnywhere: a run that is killed when any number of bytes is written,
// and one that damages what follows, loses no whole row, and ends with the same
// part as one that was not.
func TestResumeAnywhere(t *testing.T) {
	dir := t.TempDir()
	const files = 4
	whole := filepath.Join(dir, "whole")
	write(t, whole, 1, 1, files)
	data, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(whole + suffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished part is left: %v", err)
	}
	for cut := range len(data) + 1 {
		for _, tail := range []string{"", "\x00\x00", "{}\n", `{"type":"row","index":99}` + "\n"} {
			path := filepath.Join(dir, "part")
			os.Remove(path)
			if err := os.WriteFile(path+suffix, append(bytes.Clone(data[:cut]), tail...), 0o644); err != nil {
				t.Fatal(err)
			}
			next := 0
			j, err := Resume(path, header(1, 1, files), func(r Row) error {
				if r.Index != next {
					t.Fatalf("cut at %d: row %d, want %d", cut, r.Index, next)
				}
				next++
				return nil
			})
			lines := bytes.Count(data[:cut], []byte("\n"))
			if tail != "" && lines == 0 { // nothing of it can be trusted
				if lines := bytes.Count(append(data[:cut:cut], tail...), []byte("\n")); lines > 0 && !errors.Is(err, ErrFormat) {
					t.Fatalf("cut at %d with %q: %v", cut, tail, err)
				}
				if err != nil {
					continue
				}
			}
			if err != nil {
				t.Fatalf("cut at %d with %q: %v", cut, tail, err)
			}
			if want := max(0, min(lines-1, files)); next != want {
				t.Fatalf("cut at %d with %q: %d rows, want %d", cut, tail, next, want)
			}
			for ; next < files; next++ {
				if err := j.Add(row(next)); err != nil {
					t.Fatal(err)
				}
			}
			if err := j.Finish(); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("cut at %d with %q: %v, part\n%s\nwant\n%s", cut, tail, err, got, data)
			}
		}
	}
	// A complete one needs nothing more.
	n := 0
	j, err := Resume(whole, header(1, 1, files), func(Row) error { n++; return nil })
	if j != nil || err != nil || n != files {
		t.Errorf("complete: journal %v, %v, %d rows", j, err, n)
	}
}

// TestLeave: a run that ends early leaves a part that is no part yet.
func TestLeave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	j, err := Create(path, header(1, 1, 5))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Add(row(0)); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(path, header(1, 1, 5), nil); err == nil || !strings.Contains(err.Error(), "another run is writing it") {
		t.Errorf("resumed while it is written: %v", err)
	}
	if err := j.Leave(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrPartial) {
		t.Errorf("Open: %v", err)
	}
	if _, err := Merge([]string{path}); !errors.Is(err, ErrPartial) || strings.Count(err.Error(), path) != 1 {
		t.Errorf("Merge: %v", err)
	}
}

// TestMerge: parts in any order, of any number of shards, are the rows of one
// run.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		files := rapid.IntRange(0, 40).Draw(rt, "files")
		shards := rapid.IntRange(1, 6).Draw(rt, "shards")
		of := make([]int, files)
		for i := range of {
			of[i] = rapid.IntRange(1, shards).Draw(rt, "shard")
		}
		var paths []string
		for s := 1; s <= shards; s++ {
			paths = append(paths, filepath.Join(dir, fmt.Sprint(s)))
			j, err := Create(paths[s-1], header(s, shards, files))
			if err != nil {
				rt.Fatal(err)
			}
			for i := range files {
				if of[i] == s {
					if err := j.Add(row(i)); err != nil {
						rt.Fatal(err)
					}
				}
			}
			if err := j.Finish(); err != nil {
				rt.Fatal(err)
			}
		}
		m, err := Merge(rapid.Permutation(paths).Draw(rt, "order"))
		if err != nil {
			rt.Fatal(err)
		}
		defer m.Close()
		for i := range files {
			got, err := m.Next()
			if d := cmp.Diff(row(i), got); err != nil || d != "" {
				rt.Fatalf("row %d: %v\n%s", i, err, d)
			}
		}
		if _, err := m.Next(); err != io.EOF {
			rt.Fatalf("behind the last row: %v", err)
		}
		if !slices.Equal(m.Header.Trouble, []string{"dir: permission denied"}) {
			rt.Fatalf("troubles %q", m.Header.Trouble)
		}
	})
}

// TestRefused: what is not all shards of one run, each once and complete, is not
// merged, and what is of another run is not resumed.
func TestRefused(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	for s := 1; s <= 3; s++ {
		write(t, in(fmt.Sprint(s)), s, 3, 9)
	}
	write(t, in("2of2"), 2, 2, 9)
	change := func(name, old, new string) {
		data, err := os.ReadFile(in("2"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(data, []byte(old)) {
			t.Fatalf("no %s in the part", old)
		}
		if err := os.WriteFile(in(name), bytes.Replace(data, []byte(old), []byte(new), 1), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	change("version", `"version":"v1"`, `"version":"v2"`)
	change("list", `"abc"`, `"abd"`)
	change("threshold", `"threshold":128`, `"threshold":1`)
	change("bugs", `["x"]`, `["x","y"]`)
	change("more", `"digest":false`, `"digest":false,"new":1`)
	change("files", `"files":9`, `"files":10`)
	change("schema", `"schema":1`, `"schema":2`)
	change("shard0", `"shard":2`, `"shard":0`)
	change("lost row", row0(4), "")
	change("cut short", row0(7), "")
	change("wrong end", `"rows":3`, `"rows":4`)
	change("no end", `{"type":"end","rows":3}`, "")
	change("order", `"index":4`, `"index":0`)
	change("beyond", `"index":7`, `"index":9`)
	change("stolen", `"index":4`, `"index":5`)
	change("no result", `,"result":{"path":"/f1"}`, "")
	if err := os.WriteFile(in("elf"), []byte("\x7fELF\x02\x01\x01"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("long"), bytes.Repeat([]byte("x"), maxLine+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("empty"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		parts []string
		is    error
		want  string
	}{
		{[]string{"1", "3"}, ErrSet, "not all shards of one run: of 3, missing: 2"},
		{[]string{"1"}, ErrSet, "of 3, missing: 2, 3"},
		{nil, ErrSet, "no part"},
		{[]string{"1", "2", "2", "3"}, ErrSet, "/2: not all shards of one run: shard 2 is also in " + in("2")},
		{[]string{"1", "2of2", "3"}, ErrOther, "/2of2: is of another run: its number of shards is 2, not 3"},
		{[]string{"1", "version", "3"}, ErrOther, "/version: is of another run: its version is v2, not v1"},
		{[]string{"1", "list", "3"}, ErrOther, "its list of files is abd, not abc"},
		{[]string{"1", "threshold", "3"}, ErrOther, "its option threshold is 1, not 128"},
		{[]string{"1", "bugs", "3"}, ErrOther, `its option bug is ["x","y"], not ["x"]`},
		{[]string{"1", "more", "3"}, ErrOther, "its option new is 1, not null"},
		{[]string{"1", "files", "3"}, ErrOther, "its number of files is 10, not 9"},
		{[]string{"1", "schema", "3"}, ErrFormat, "schema 2, not 1"},
		{[]string{"1", "shard0", "3"}, ErrFormat, "shard 0 of 3"},
		{[]string{"1", "lost row", "3"}, ErrFormat, "row 4 is in none of the parts, or in two"},
		{[]string{"1", "cut short", "3"}, ErrFormat, "/cut short: not a part report: 2 rows, its end says 3"},
		{[]string{"1", "wrong end", "3"}, ErrFormat, "3 rows, its end says 4"},
		{[]string{"1", "no end", "3"}, ErrFormat, "not a row"},
		{[]string{"1", "order", "3"}, ErrFormat, "/order: line 3: not a part report: row 0 behind row 1"},
		{[]string{"1", "beyond", "3"}, ErrFormat, "row 9 of a list of 9"},
		{[]string{"1", "stolen", "3"}, ErrFormat, "row 4 is in none of the parts, or in two"},
		{[]string{"1", "no result", "3"}, ErrFormat, "row 1 has no result"},
		{[]string{"1", "elf", "3"}, ErrFormat, "/elf: not a part report"},
		{[]string{"1", "long", "3"}, ErrFormat, "/long: not a part report: a line of more than"},
		{[]string{"1", "empty", "3"}, ErrFormat, "/empty: not a part report: empty"},
		{[]string{"1", "missing", "3"}, os.ErrNotExist, "missing"},
		{[]string{"1", ".", "3"}, nil, "directory"},
	} {
		var paths []string
		for _, p := range c.parts {
			paths = append(paths, in(p))
		}
		m, err := Merge(paths)
		for err == nil {
			_, err = m.Next()
		}
		if err == io.EOF || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want %q", c.parts, err, c.want)
		}
	}
	for name, change := range map[string]func(*Header){
		"shard":   func(h *Header) { h.Shard = 1 },
		"version": func(h *Header) { h.Version = "v3" },
		"option":  func(h *Header) { h.Options["threshold"] = 1 },
		"list":    func(h *Header) { h.ListSHA256 = "" },
	} {
		h := header(2, 3, 9)
		change(&h)
		if j, err := Resume(in("2"), h, func(Row) error { return nil }); j != nil || !errors.Is(err, ErrOther) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// row0 is row i as it stands in a part.
func row0(i int) string {
	data, err := json.Marshal(row(i))
	if err != nil {
		panic(err)
	}
	return string(data) + "\n"
}

// TestNothingElseIsReplaced: a part takes the place of a part, or of an empty
// file, and of nothing else.
func TestNothingElseIsReplaced(t *testing.T) {
	dir := t.TempDir()
	program, empty := filepath.Join(dir, "program"), filepath.Join(dir, "empty")
	for path, data := range map[string]string{program: "\x7fELF", empty: ""} {
		if err := os.WriteFile(path, []byte(data), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Create(program, header(1, 1, 1)); !errors.Is(err, ErrFormat) || !strings.HasPrefix(err.Error(), program+": ") {
		t.Errorf("a program: %v", err)
	}
	if _, err := os.Stat(program + suffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("beside the program: %v", err)
	}
	if _, err := Create(dir, header(1, 1, 1)); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a directory: %v", err)
	}
	write(t, empty, 1, 1, 3)
	write(t, empty, 1, 1, 4)
	if rows := read(t, empty); len(rows) != 4 {
		t.Errorf("%d rows", len(rows))
	}
}

// TestAtomic: a part is whole or not there, also when there was one before.
func TestAtomic(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	write(t, path, 1, 1, 3)
	before := read(t, path)
	j, err := Create(path, header(1, 1, 6))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if d := cmp.Diff(before, read(t, path)); d != "" {
			t.Fatalf("while it is written anew:\n%s", d)
		}
		if err := j.Add(row(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); len(got) != 6 {
		t.Errorf("%d rows", len(got))
	}
}

// TestFullDisk: what cannot be written is an error at the latest when the part
// ends, and then there is none.
func TestFullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	j := newJournal(path, full)
	for i := range 3 {
		if err := j.Add(row(i)); err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
	}
	if err := j.Finish(); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Finish: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a part: %v", err)
	}
}

// TestFinishedMeanwhile: a run that comes just when another one ends its part
// leaves the complete part alone, though it may have opened it by its old name.
func TestFinishedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	for range 100 {
		j, err := Create(path, header(1, 1, 3))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 2 { // that begin the part anew as soon as they can
			wg.Go(func() {
				for {
					f, err := lock(path, os.O_TRUNC)
					if err == nil {
						f.Close()
						return
					}
					runtime.Gosched()
				}
			})
		}
		for i := range 3 {
			if err := j.Add(row(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Finish(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if rows := read(t, path); len(rows) != 3 {
			t.Fatalf("%d rows are left of a complete part", len(rows))
		}
	}
}

// FuzzOpen: any bytes give rows or an error, and end.
func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "p")
	write(f, path, 2, 3, 9)
	data, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add([]byte(`{"type":"part","schema":1,"shard":1,"shards":9223372036854775807}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "p")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path)
		if err != nil {
			if r != nil {
				t.Fatalf("a reader and %v", err)
			}
			return
		}
		defer r.Close()
		last := -1
		if err := r.All(func(row Row) error {
			if row.Index <= last || row.Index >= r.Header.Files {
				t.Fatalf("row %d behind %d of %d", row.Index, last, r.Header.Files)
			}
			last = row.Index
			return nil
		}); err == nil && !bytes.Contains(data, []byte("end")) {
			t.Fatal("no end, no error")
		}
	})
}
