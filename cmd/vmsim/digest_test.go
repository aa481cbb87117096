package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const page, window = 4096, 2 << 20

// memoryOf is what a file's headers and bytes say of memory, without anything
// of the simulator: each PT_LOAD's [p_vaddr, p_vaddr+p_memsz), moved by bias,
// filled from the file as far as p_filesz and the file go, zero after; where two
// overlap, the later one's file bytes win.
type memoryOf struct {
	bytes map[uint64]*[page]byte // by page address: pages that hold a byte of a segment
}

func newMemoryOf(t *testing.T, file []byte, pieBase uint64) (m memoryOf, bias uint64) {
	t.Helper()
	le := binary.LittleEndian
	if le.Uint16(file[16:]) == 3 { // ET_DYN
		bias = pieBase
	}
	phoff, phnum := le.Uint64(file[32:]), int(le.Uint16(file[56:]))
	m.bytes = map[uint64]*[page]byte{}
	for i := range phnum {
		ph := file[phoff+uint64(i)*56:]
		if le.Uint32(ph) != 1 { // PT_LOAD
			continue
		}
		offset, vaddr, filesz, memsz := le.Uint64(ph[8:]), le.Uint64(ph[16:])+bias, le.Uint64(ph[32:]), le.Uint64(ph[40:])
		for a := vaddr; a < vaddr+memsz; a++ {
			b := m.bytes[a&^(page-1)]
			if b == nil {
				b = new([page]byte)
				m.bytes[a&^(page-1)] = b
			}
			if at := a - vaddr; at < filesz {
				b[a%page] = 0
				if offset+at < uint64(len(file)) {
					b[a%page] = file[offset+at]
				}
			}
		}
	}
	return m, bias
}

// image is the SHA-256 of all pages in ascending order.
func (m memoryOf) image() string {
	h := sha256.New()
	for _, a := range slices.Sorted(maps.Keys(m.bytes)) {
		h.Write(m.bytes[a][:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// window is the SHA-256 of the 2 MiB at base, zero where no segment is.
func (m memoryOf) window(base uint64) string {
	h := sha256.New()
	var zero [page]byte
	for a := base; a < base+window; a += page {
		if b := m.bytes[a]; b != nil {
			h.Write(b[:])
		} else {
			h.Write(zero[:])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestDigests: image_sha256 and the sha256 of each assembled window are those of
// the file's bytes, for the whole corpus, assembled from cached pages (threshold
// 1 and 128), from the file alone (0), or not at all (600).
func TestDigests(t *testing.T) {
	const pieBase = 0xa00000000
	dir := filepath.Join(repository(t), "testdata", "elf")
	files := []string{"kevlar-layout", "static-pie", "shared-three", "shared-memory-page", "beyond-eof", "bss-large", "huge-text",
		"huge-incongruent", "huge-data", "shared-object"}
	windows := map[string]int{} // by threshold
	for _, name := range files {
		path := filepath.Join(dir, name)
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, bias := newMemoryOf(t, file, pieBase)
		image := want.image()
		for _, threshold := range []string{"0", "1", "128", "600"} {
			events := filepath.Join(t.TempDir(), "events")
			code, out, errs := vmsim(t, "verify", "--digest", "-o", "jsonl", "--threshold", threshold, "--events", events, path)
			if code != 0 {
				t.Fatalf("%s: code %d, %s", name, code, errs)
			}
			var res struct {
				ImageSHA256 string `json:"image_sha256"`
				Windows     int
			}
			if err := json.NewDecoder(strings.NewReader(out)).Decode(&res); err != nil {
				t.Fatal(err)
			}
			if res.ImageSHA256 != image {
				t.Errorf("%s, threshold %s: image_sha256 %s, want %s", name, threshold, res.ImageSHA256, image)
			}
			found := assembled(t, events)
			if len(found) != res.Windows {
				t.Errorf("%s, threshold %s: %d windows with a digest, %d in the result", name, threshold, len(found), res.Windows)
			}
			windows[threshold] += len(found)
			for base, sum := range found {
				if bias != 0 && base < bias {
					t.Errorf("%s: window at 0x%x, below the bias 0x%x", name, base, bias)
				}
				if want := want.window(base); sum != want {
					t.Errorf("%s, threshold %s: window 0x%x: sha256 %s, want %s", name, threshold, base, sum, want)
				}
			}
		}
	}
	if windows["0"] < len(files) || windows["1"] < len(files) || windows["128"] < 3 || windows["600"] != 0 {
		t.Errorf("windows assembled: %v", windows)
	}
}

// TestWrongDigest: with a bug the digest of the window is that of the wrong
// bytes, not of the truth.
func TestWrongDigest(t *testing.T) {
	path := filepath.Join(repository(t), "testdata", "elf", "kevlar-layout")
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wrong, _ := newMemoryOf(t, file, 0)
	// boundary-copy: all of the cached page, of which 0x1f0 bytes are .rodata's.
	*wrong.bytes[0x51c000] = [page]byte{}
	copy(wrong.bytes[0x51c000][:0x1f0], file[0x11b000:])
	events := filepath.Join(t.TempDir(), "events")
	code, out, _ := vmsim(t, "verify", "--digest", "-o", "jsonl", "--bug", "boundary-copy", "--events", events, path)
	if code != 1 {
		t.Fatalf("code %d", code)
	}
	if got, want := assembled(t, events)[0x400000], wrong.window(0x400000); got != want {
		t.Errorf("window sha256 %s, want %s", got, want)
	}
	var res struct {
		ImageSHA256 string `json:"image_sha256"`
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&res); err != nil || res.ImageSHA256 != wrong.image() {
		t.Errorf("image_sha256 %s, want %s (%v)", res.ImageSHA256, wrong.image(), err)
	}
}

// assembled returns the digests of the windows in an event file, by base.
func assembled(t *testing.T, path string) map[uint64]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found := map[uint64]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e struct {
			Type, SHA256 string
			HugeBase     string `json:"huge_base"`
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		if e.Type != "huge_page_assembled" {
			continue
		}
		base, err := strconv.ParseUint(e.HugeBase, 0, 64)
		if err != nil || base%window != 0 || len(e.SHA256) != 64 {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		if _, ok := found[base]; ok {
			t.Errorf("window 0x%x assembled twice", base)
		}
		found[base] = e.SHA256
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}
