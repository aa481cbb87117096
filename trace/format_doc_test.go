package trace

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// docExample returns the text and the bytes of the last section of the document.
func docExample(t *testing.T) (text string, data []byte) {
	t.Helper()
	doc, err := os.ReadFile("../docs/trace-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(doc), "\n## A whole file\n")
	if !ok {
		t.Fatal("the document has no whole file")
	}
	row := regexp.MustCompile(`^    ([0-9a-f]{4})  ((?:[0-9a-f]{2} ?)+)(?:  |$)`)
	for line := range strings.Lines(section) {
		line = strings.TrimSuffix(line, "\n")
		if m := row.FindStringSubmatch(line); m != nil {
			at, err := strconv.ParseInt(m[1], 16, 64)
			b, err2 := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(m[2]), " ", ""))
			if err != nil || err2 != nil || int(at) != len(data) {
				t.Fatalf("%q is not at byte %#x", line, len(data))
			}
			data = append(data, b...)
		} else if line, ok := strings.CutPrefix(line, "    "); ok && len(data) == 0 {
			text += line + "\n"
		}
	}
	return text, data
}

// The file of the document is the text beside it, and what a Writer makes of it.
func TestDocumentedFile(t *testing.T) {
	text, data := docExample(t)
	s := mustOpen(t, data)
	h, err := s.Header()
	if err != nil {
		t.Fatal(err)
	}
	ops, err := readAll(s)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	e, err := NewEncoder(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range ops {
		if err := e.Encode(op); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(text, b.String()); d != "" || len(ops) != 4 {
		t.Errorf("-text +bytes\n%s", d)
	}
	var again bytes.Buffer
	w, err := newWriter(&again, h, func(n int) int { return n })
	if err != nil {
		t.Fatal(err)
	}
	for i := range ops {
		if err := w.Write(&ops[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(h); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again.Bytes(), data) {
		t.Errorf("the writer gives\n%swant\n%s", hex.Dump(again.Bytes()), hex.Dump(data))
	}
}

// The numbers of the binary form are those of the document: another order of
// constants would be another format.
func TestDocumentedNumbers(t *testing.T) {
	doc, err := os.ReadFile("../docs/trace-format.md")
	if err != nil {
		t.Fatal(err)
	}
	has := func(s string) {
		t.Helper()
		if !strings.Contains(strings.Join(strings.Fields(string(doc)), " "), s) {
			t.Errorf("the document does not say %q", s)
		}
	}
	for k := OpMark; k <= OpNote; k++ {
		switch k {
		case OpFork, OpVfork, OpThread:
			has("| 3, 4, 5 | fork, vfork, thread |")
		default:
			has(fmt.Sprintf("| %d | %v |", k, k))
		}
	}
	if OpFork != 3 || OpVfork != 4 || OpThread != 5 {
		t.Error("fork, vfork and thread are not 3, 4 and 5")
	}
	var words []string
	for i, f := range faults {
		words = append(words, fmt.Sprintf("%d %s", i+1, f))
	}
	has("fault: 0 any, " + strings.Join(words, ", "))
	words = nil
	for p := PointFork; p <= PointExit; p++ {
		words = append(words, fmt.Sprintf("%d %v", p, p))
	}
	has("**point**: a byte, " + strings.Join(words, ", "))
	words = []string{"1 shared"}
	for _, f := range flagNames {
		words = append(words, fmt.Sprintf("%d %s", f.flag, f.name))
	}
	has("of mmap: " + strings.Join(words, ", "))
	words = nil
	for i, name := range remapNames {
		words = append(words, fmt.Sprintf("%d %s", 1<<i, name))
	}
	has("of mremap: " + strings.Join(words, ", "))
	has(fmt.Sprintf("byte: %d %v, %d %v, %d %v, %d %v", RegularFile, RegularFile, MemoryFile, MemoryFile, SharedFile, SharedFile, DeviceFile, DeviceFile))
	has(fmt.Sprintf("plus %d %v, %d %v, %d %v", PageFile, PageFile, PageZero, PageZero, PageOwn, PageOwn))
	has("4,194,304")
	if maxBody != 4194304 || maxBlockOps != 1048576 || blockOps != 65536 || maxHeader != 1048576 {
		t.Error("a bound is not that of the document")
	}
}
