package tracee

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"vmsim/mem"
)

// rangeSet against a plain set of pages.
func TestRangeSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s rangeSet
		model := map[mem.VirtAddr]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"add":    func(t *rapid.T) { change(t, &s, model, true) },
			"remove": func(t *rapid.T) { change(t, &s, model, false) },
			"": func(t *rapid.T) {
				for i, r := range s {
					if r.Empty() || i > 0 && s[i-1].End >= r.Start {
						t.Fatalf("%v", s)
					}
				}
				in := drawRange(t)
				parts := s.in(in)
				n := 0
				for p := mem.VirtAddr(0); p < 40*mem.PageSize; p += mem.PageSize {
					if s.overlaps(mem.PageOf(p)) != model[p] {
						t.Fatalf("page %v: %v", p, s)
					}
					if model[p] && in.Contains(p) {
						n++
					}
				}
				for _, part := range parts {
					n -= int(part.Len() / mem.PageSize)
				}
				if n != 0 || (len(parts) > 0) != s.overlaps(in) {
					t.Fatalf("%v in %v: %v", s, in, parts)
				}
			},
		})
	})
}

func drawRange(t *rapid.T) mem.Range {
	start := rapid.IntRange(0, 30).Draw(t, "start")
	n := rapid.IntRange(0, 10).Draw(t, "pages")
	return mem.Range{Start: mem.VirtAddr(start) * mem.PageSize, End: mem.VirtAddr(start+n) * mem.PageSize}
}

func change(t *rapid.T, s *rangeSet, model map[mem.VirtAddr]bool, in bool) {
	r := drawRange(t)
	had := uint64(0)
	for p := r.Start; p < r.End; p += mem.PageSize {
		if model[p] {
			had += mem.PageSize
		}
		model[p] = in
	}
	if in {
		s.add(r)
	} else if got := s.remove(r); got != had {
		t.Fatalf("removed %d bytes of %d", got, had)
	}
}

func TestParseMaps(t *testing.T) {
	const text = "1000-2000 r-xp 00001000 fd:01 7   /a b\n" +
		"2000-4000 r-xp 00002000 fd:01 7   /a b\n" + // goes on
		"4000-5000 r-xp 00005000 fd:01 7   /a b\n" + // a gap in the file
		"5000-6000 rw-p 00006000 fd:01 7   /a b\n" +
		"6000-7000 rw-p 00000000 00:00 0 \n" +
		"7000-8000 rw-p 00000000 00:00 0 \n" + // one with the area before
		"8000-9000 rw-p 00000000 00:00 0   [heap]\n" +
		"9000-a000 rw-s 00000000 00:01 9   /dev/zero (deleted)\n" +
		"a000-b000 rw-s 00001000 00:01 10  /dev/zero (deleted)\n" + // another
		"b000-c000 rw-s 00000000 00:01 0   /SYSV00000000 (deleted)\n" +
		"c000-d000 rw-s 00001000 00:01 0   /SYSV00000000 (deleted)\n" // goes on
	got, lines, err := parseMaps([]byte(text))
	if err != nil || lines != 11 {
		t.Fatalf("%d lines, %v", lines, err)
	}
	var b strings.Builder
	for _, a := range got {
		b.WriteString(a.Range.String() + " " + a.Prot.String() + " " + a.Path + "\n")
	}
	const want = `[0x1000, 0x4000) r-x /a b
[0x4000, 0x5000) r-x /a b
[0x5000, 0x6000) rw- /a b
[0x6000, 0x8000) rw- 
[0x8000, 0x9000) rw- [heap]
[0x9000, 0xa000) rw- /dev/zero (deleted)
[0xa000, 0xb000) rw- /dev/zero (deleted)
[0xb000, 0xd000) rw- /SYSV00000000 (deleted)
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(got, JoinAreas(got)); d != "" {
		t.Error(d)
	}
	if a := got[0]; a.Major != 0xfd || a.Minor != 1 || a.Ino != 7 || a.Off != 0x1000 || a.Shared || !got[6].Shared {
		t.Errorf("%+v", a)
	}
}

// FuzzMaps: areas or an error, never both.
func FuzzMaps(f *testing.F) {
	own, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		f.Skip("needs /proc")
	}
	f.Add(own)
	for _, bad := range []string{"", "\n", "1000", "2000-1000 r-xp 0 00:00 0", "1000-2000 r-xq 0 00:00 0", "1001-2000 r-xp 0 00:00 0", "1000-2000 r-xp", "1000-2000 r-xp 0 00:00 99999999999999999999"} {
		f.Add([]byte(bad))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		areas, lines, err := parseMaps(text)
		if err != nil && (areas != nil || lines != 0) || len(areas) > lines {
			t.Fatalf("%v, %d lines, %v", areas, lines, err)
		}
		for _, a := range areas {
			if a.Empty() || a.Start.PageOffset() != 0 || a.End.PageOffset() != 0 {
				t.Fatalf("%v", a)
			}
		}
	})
}
