package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/mem"
)

const gib = 1 << 30

// sparse writes a file of size bytes in which headers and data lie, and zeros
// elsewhere, which take no room on disk.
func sparse(t *testing.T, name string, s elfgen.Spec, size int64, data map[int64][]byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.Size = 64 + 56*int64(len(s.Segments))
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	write := func(off int64, b []byte) {
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	write(0, elfgen.Build(s, nil))
	for off, b := range data {
		write(off, b)
	}
	return path
}

// figures are those of the row of a file.
type figures struct {
	Verdict, Reason, ImageSHA256              string
	Pages, Windows, FromCache, FromFile, Zero int
	BoundaryPages, SharedIndexes, Failures    int
	BytesCompared                             uint64
}

// oneRow returns the row of a file that was verified alone.
func oneRow(t *testing.T, out []byte) figures {
	t.Helper()
	var res struct{ Files []figures }
	out = bytes.ReplaceAll(out, []byte("_"), nil) // from_cache: names match without regard to case
	if err := json.Unmarshal(out, &res); err != nil || len(res.Files) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return res.Files[0]
}

// TestTwoGiB: a file of more than 2 GiB is verified to its last page in 64 MiB.
func TestTwoGiB(t *testing.T) {
	if testing.Short() {
		t.Skip("reads 2 GiB nine times: -short")
	}
	const size, pages = 2*gib + window, (2*gib + window) / page
	data := map[int64][]byte{size - 1: {0x99}}
	for off := int64(gib); off < size; off += 37 << 20 {
		data[off] = []byte(fmt.Sprint(off))
	}
	path := sparse(t, "text", elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: size, Memsz: size, Flags: mem.ProtRead | mem.ProtExec}}}, size, data)
	const jobs, memory = 1, 64 << 20
	out, peak := verifyPeak(t, append(smallFlags, "verify", "-o", "json", path)...)
	r := oneRow(t, out)
	if r.Verdict != "ok" || r.Reason != "" || r.Pages != pages || r.BoundaryPages != 0 || r.SharedIndexes != 0 || r.Failures != 0 {
		t.Errorf("%+v", r)
	}
	// Most windows are evicted before they are assembled; all have 512 pages.
	if r.Windows == 0 || r.Windows >= pages/512 || r.FromCache+r.FromFile != 512*r.Windows || r.Zero != 0 {
		t.Errorf("%d windows, %d sub-pages from the cache, %d from the file, %d zero", r.Windows, r.FromCache, r.FromFile, r.Zero)
	}
	if want := uint64(page * (3*pages + 512*r.Windows)); r.BytesCompared != want {
		t.Errorf("%d bytes compared, want %d", r.BytesCompared, want)
	}
	if bound := peakBound(memory, jobs); peak > bound {
		t.Errorf("took %d MiB at its peak, more than %d", peak>>20, bound>>20)
	}
	t.Logf("%d windows, %d MiB at the peak", r.Windows, peak>>20)
}

// TestTwoGiBWritable: written pages cannot be evicted, so 64 MiB are not enough,
// and the reason says what is.
func TestTwoGiBWritable(t *testing.T) {
	const size = 2 * gib
	path := sparse(t, "data", elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead | mem.ProtExec},
		{Vaddr: 0x401000, Offset: 0x1000, Filesz: size, Memsz: size + 0x5000, Flags: mem.ProtRead | mem.ProtWrite}}},
		size+0x1000, nil)
	code, out, errs := vmsim(t, append(smallFlags, "verify", path)...)
	if code != 2 || out != "" || !strings.HasPrefix(errs, "vmsim: "+path+": out of memory: process 2 was killed at 0x") ||
		!strings.HasSuffix(errs, "; --memory 4101M would do\n") { // two processes, and 4 MiB
		t.Errorf("code %d, output %q, error %q", code, out, errs)
	}
}

// TestOffsetsBeyond4GiB: a segment whose bytes lie there is compared with those,
// not with what lies 4 GiB, or 2^63 bytes, away.
func TestOffsetsBeyond4GiB(t *testing.T) {
	const size, at = 3 << 20, 5 * gib
	text, wrong := make([]byte, size), bytes.Repeat([]byte{0x77}, size)
	elfgen.Pattern(at, text)
	path := sparse(t, "far", elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead},
		{Vaddr: 0x600000, Offset: at, Filesz: size, Memsz: size, Flags: mem.ProtRead | mem.ProtExec}}},
		at+size, map[int64][]byte{at: text, at - 4*gib: wrong})
	first := make([]byte, page)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(first, 0); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append(first, text...))
	code, out, errs := vmsim(t, append(smallFlags, "verify", "--digest", "-o", "json", path)...)
	if code != 0 {
		t.Fatalf("code %d, error %q", code, errs)
	}
	const pages = 512 + size/page // from 0x400000 on
	r := oneRow(t, []byte(out))
	if r.Verdict != "ok" || r.Pages != pages || r.Windows != 2 || r.FromCache != size/page || r.Zero != window/page*2-size/page ||
		r.BytesCompared != page*(3*pages+size/page) || r.ImageSHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("%+v", r)
	}
}
