package vmsim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmsim/mem"
)

// Sizes that the corpus keeps to, in bytes: it is part of every build.
const (
	maxFixture = 3_000_000
	maxCorpus  = 9 << 20
)

// image is a fixture and its PT_LOAD program headers.
type image struct {
	data     []byte
	segments []segment
}

type segment struct {
	flags                        uint32 // PF_R 4, PF_W 2, PF_X 1
	offset, vaddr, filesz, memsz uint64
}

// String formats s as testdata/elf/README.md does.
func (s segment) String() string {
	flags := []byte("   ")
	for i, bit := range []uint32{4, 2, 1} {
		if s.flags&bit != 0 {
			flags[i] = "RWE"[i]
		}
	}
	return fmt.Sprintf("%s 0x%06x 0x%06x 0x%06x 0x%06x", flags, s.offset, s.vaddr, s.filesz, s.memsz)
}

// filePages returns the pages of the file that hold bytes of s, as [from, to).
func (s segment) filePages() (from, to uint64) {
	return s.offset / mem.PageSize, (s.offset + s.filesz + mem.PageSize - 1) / mem.PageSize
}

// memoryPages returns the pages of memory that hold bytes of s, as [from, to).
func (s segment) memoryPages() (from, to uint64) {
	return s.vaddr / mem.PageSize, (s.vaddr + s.memsz + mem.PageSize - 1) / mem.PageSize
}

// sharers counts the segments in each page, and returns the page with the most
// and that number.
func (m image) sharers(pages func(segment) (from, to uint64)) (page uint64, n int) {
	count := map[uint64]int{}
	for _, s := range m.segments {
		from, to := pages(s)
		for p := from; p < to; p++ {
			if count[p]++; count[p] > n {
				page, n = p, count[p]
			}
		}
	}
	return page, n
}

// corpusImages returns the corpus by name. The headers are read here, not by
// the loader, and not by debug/elf, which refuses broken-sections.
func corpusImages(t *testing.T) map[string]image {
	t.Helper()
	images := map[string]image{}
	for _, f := range Corpus() {
		data, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		if err != nil {
			t.Fatalf("%s: %v", f.Name(), err)
		}
		m := image{data: data}
		phoff := binary.LittleEndian.Uint64(data[32:])
		for i := range uint64(binary.LittleEndian.Uint16(data[56:])) {
			h := data[phoff+i*56:][:56]
			if binary.LittleEndian.Uint32(h) != 1 { // PT_LOAD
				continue
			}
			m.segments = append(m.segments, segment{
				flags:  binary.LittleEndian.Uint32(h[4:]),
				offset: binary.LittleEndian.Uint64(h[8:]),
				vaddr:  binary.LittleEndian.Uint64(h[16:]),
				filesz: binary.LittleEndian.Uint64(h[32:]),
				memsz:  binary.LittleEndian.Uint64(h[40:]),
			})
		}
		images[path.Base(f.Name())] = m
	}
	return images
}

// The embedded files, the binaries in the directory and the ones that the
// Makefile builds are the same.
func TestCorpusIsComplete(t *testing.T) {
	var embedded, present []string
	total := 0
	for _, f := range Corpus() {
		embedded = append(embedded, f.Name())
		if f.Size() > maxFixture {
			t.Errorf("%s: %d bytes, at most %d are allowed", f.Name(), f.Size(), maxFixture)
		}
		total += int(f.Size())
	}
	if total > maxCorpus {
		t.Errorf("corpus: %d bytes, at most %d are allowed", total, maxCorpus)
	}
	if !slices.IsSorted(embedded) {
		t.Errorf("not in name order: %q", embedded)
	}

	for _, name := range corpusFiles(t) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(data, []byte("\x7fELF")) {
			continue
		}
		present = append(present, filepath.ToSlash(name))
		if fi, err := os.Stat(name); err != nil {
			t.Error(err)
		} else if fi.Mode().Perm()&0o111 != 0o111 {
			t.Errorf("%s: mode %v, not executable", name, fi.Mode())
		}
	}
	if !slices.Equal(embedded, present) {
		t.Errorf("embedded %q\nbut %s holds %q", embedded, corpusDir, present)
	}

	makefile, err := os.ReadFile(corpusDir + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(strings.ReplaceAll(string(makefile), "\\\n", " "), "FIXTURES = ")
	list, _, _ = strings.Cut(list, "\n")
	var built []string
	for _, name := range strings.Fields(list) {
		built = append(built, corpusDir+"/"+name)
	}
	if !slices.Equal(embedded, built) {
		t.Errorf("embedded %q\nbut the Makefile builds %q", embedded, built)
	}
}

// corpusFiles returns everything in the directory of the corpus. A pattern
// that matches nothing fails.
func corpusFiles(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(corpusDir + "/*")
	if err != nil || len(names) == 0 {
		t.Fatalf("%s/*: no file matches: %v", corpusDir, err)
	}
	return names
}

func TestCorpusKeepsIdentity(t *testing.T) {
	a, b := Corpus(), Corpus()
	for i := range a {
		if a[i].Identity() != b[i].Identity() {
			t.Errorf("%s: identity %v, then %v", a[i].Name(), a[i].Identity(), b[i].Identity())
		}
	}
	a[0] = nil
	if Corpus()[0] == nil {
		t.Error("a caller can change the corpus")
	}
}

// README.md draws every fixture as it is, and no other.
func TestReadmeDrawsTheLayouts(t *testing.T) {
	readme, err := os.ReadFile(corpusDir + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string][]string{}
	name := ""
	for line := range strings.Lines(string(readme)) {
		line, code := strings.CutPrefix(strings.TrimRight(line, "\n"), "    ")
		if !code {
			continue
		}
		if s, ok := strings.CutPrefix(line, "    "); ok {
			drawn[name] = append(drawn[name], s)
		} else {
			name, _, _ = strings.Cut(line, " ")
			drawn[name] = nil
		}
	}

	images := corpusImages(t)
	for name, m := range images {
		var want []string
		for _, s := range m.segments {
			want = append(want, s.String())
		}
		if !slices.Equal(drawn[name], want) {
			t.Errorf("%s is drawn as\n%s\nbut is\n%s", name,
				strings.Join(drawn[name], "\n"), strings.Join(want, "\n"))
		}
	}
	for name := range drawn {
		if _, ok := images[name]; !ok {
			t.Errorf("%s is drawn but not there", name)
		}
	}
}

// The numbers of the corruption at sub-page 284.
func TestKevlarLayout(t *testing.T) {
	m := corpusImages(t)["kevlar-layout"]
	if len(m.segments) != 2 {
		t.Fatalf("%d segments, want 2", len(m.segments))
	}
	ro, rw := m.segments[0], m.segments[1]
	if ro.offset != 0 || ro.vaddr != 0x400000 || ro.vaddr+ro.filesz != 0x51b1f0 || ro.memsz != ro.filesz || ro.flags != 5 {
		t.Errorf("read-only segment: %v", ro)
	}
	if rw.offset != 0x11bbf0 || rw.vaddr != 0x51cbf0 || rw.memsz < rw.filesz+2*mem.PageSize || rw.flags != 6 {
		t.Errorf("writable segment: %v", rw)
	}
	if data := mem.VirtAddr(rw.vaddr); data.SubPage() != 284 || data.PageOffset() != 0xbf0 {
		t.Errorf(".data starts at sub-page %d, offset 0x%x, want 284, 0xbf0", data.SubPage(), data.PageOffset())
	}
	if page, n := m.sharers(segment.filePages); page != 0x11b || n != 2 {
		t.Errorf("file page 0x%x is in %d segments, want 0x11b in 2", page, n)
	}
	if b := m.data[0x11b000]; b != 0x65 {
		t.Errorf("byte at offset 0x11b000 is 0x%02x, want 0x65", b)
	}
	if b := m.data[0x11bbf0]; b != 0xc0 {
		t.Errorf("byte at offset 0x11bbf0 is 0x%02x, want 0xc0", b)
	}
	if gap := m.data[0x11b1f0:0x11bbf0]; !bytes.Equal(gap, make([]byte, len(gap))) {
		t.Error("there are bytes between .rodata and .data")
	}
}

// Pages that look alike would hide that one was taken for another.
func TestPagesDiffer(t *testing.T) {
	images := corpusImages(t)
	seen := map[string]string{string(make([]byte, mem.PageSize)): "a page of zeros"}
	for _, name := range []string{"kevlar-layout", "huge-text", "huge-incongruent", "huge-data"} {
		m := images[name]
		n := 0
		for _, s := range m.segments {
			from, to := s.offset/mem.PageSize, (s.offset+s.filesz)/mem.PageSize
			for p := from; p < to; p++ {
				page := string(m.data[p*mem.PageSize:][:mem.PageSize])
				here := fmt.Sprintf("%s, page 0x%x", name, p)
				if there, ok := seen[page]; ok && there != here {
					t.Errorf("%s is the same as %s", here, there)
				}
				seen[page] = here
				n++
			}
		}
		if n < 256 {
			t.Errorf("%s: only %d whole pages", name, n)
		}
	}
}

// Each fixture has the property that it is there for.
func TestCorpusProperties(t *testing.T) {
	images := corpusImages(t)
	claim := func(name string, ok func(m image) bool) {
		t.Helper()
		if m, found := images[name]; !found || !ok(m) {
			t.Errorf("%s has not the layout it is there for: %v", name, m.segments)
		}
	}
	fileSharers := func(n int) func(image) bool {
		return func(m image) bool { _, got := m.sharers(segment.filePages); return got == n }
	}
	elfType := func(m image) uint16 { return binary.LittleEndian.Uint16(m.data[16:]) } // ET_EXEC 2, ET_DYN 3

	claim("static-nopie", func(m image) bool { return elfType(m) == 2 && fileSharers(1)(m) })
	claim("static-pie", func(m image) bool {
		return elfType(m) == 3 && !bytes.Contains(m.data, []byte("/lib64/"))
	})
	claim("dynamic-pie", func(m image) bool {
		return elfType(m) == 3 && bytes.Contains(m.data, []byte("/lib64/ld-linux-x86-64.so.2\x00"))
	})
	claim("shared-object", func(m image) bool {
		return elfType(m) == 3 && binary.LittleEndian.Uint64(m.data[24:]) == 0 // e_entry
	})
	claim("shared-two", fileSharers(2))
	claim("shared-three", fileSharers(3))
	claim("shared-memory-page", func(m image) bool {
		page, n := m.sharers(segment.memoryPages)
		return page == 0x402 && n == 2 && fileSharers(1)(m)
	})
	claim("bss-large", func(m image) bool {
		s := m.segments[1]
		end := s.offset + s.filesz
		return (s.vaddr+s.filesz)%mem.PageSize != 0 && s.memsz > s.filesz+mem.PageSize && m.data[end] != 0
	})
	claim("bss-only", func(m image) bool { return m.segments[1].filesz == 0 && m.segments[1].memsz > 0 })
	claim("beyond-eof", func(m image) bool {
		size := uint64(len(m.data))
		_, to := m.segments[1].filePages()
		return size%mem.PageSize != 0 && to > size/mem.PageSize+1 // a page in part, and a page wholly beyond
	})
	claim("broken-sections", func(m image) bool {
		return binary.LittleEndian.Uint64(m.data[40:]) > uint64(len(m.data)) // e_shoff
	})

	fillsWindow := func(s segment, flags uint32) bool {
		return s.flags == flags && s.vaddr%mem.HugeSize == 0 && s.filesz == mem.HugeSize && s.memsz == s.filesz
	}
	claim("huge-text", func(m image) bool { return fillsWindow(m.segments[0], 5) && m.segments[0].offset%mem.HugeSize == 0 })
	claim("huge-data", func(m image) bool { return fillsWindow(m.segments[0], 6) && m.segments[0].offset%mem.HugeSize == 0 })
	claim("huge-incongruent", func(m image) bool {
		off := m.segments[0].offset
		return fillsWindow(m.segments[0], 5) && off%mem.HugeSize != 0 && off%mem.PageSize == 0
	})
}
