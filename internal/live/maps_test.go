package live

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/mem"
)

func TestParseMaps(t *testing.T) {
	const text = "55d3f6a01000-55d3f6a02000 r-xp 00001000 fd:01 393402                     /usr/bin/a  b (deleted)\n" +
		"7f0000000000-7f0000002000 rw-s 00000000 00:05 7                          /memfd:x (deleted)\n" +
		"7f0000002000-7f0000003000 ---p 123456789000 103:0a 18446744073709551615  /new\\012line\\134\n" +
		"7ffc00000000-7ffc00021000 rwxp 00000000 00:00 0                          [stack]\n" +
		"7ffc00021000-7ffc00022000 rw-p 00000000 00:00 0 \n" +
		"ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n"
	got, err := parseMaps([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	rng := func(a, b mem.VirtAddr) mem.Range { return mem.Range{Start: a, End: b} }
	want := []Mapping{
		{rng(0x55d3f6a01000, 0x55d3f6a02000), mem.ProtRead | mem.ProtExec, false, 0x1000, Dev{0xfd, 1}, 393402, "/usr/bin/a  b (deleted)"},
		{rng(0x7f0000000000, 0x7f0000002000), mem.ProtRead | mem.ProtWrite, true, 0, Dev{0, 5}, 7, "/memfd:x (deleted)"},
		{rng(0x7f0000002000, 0x7f0000003000), mem.ProtNone, false, 0x123456789000, Dev{0x103, 10}, 1<<64 - 1, "/new\nline\\134"},
		{rng(0x7ffc00000000, 0x7ffc00021000), mem.ProtRead | mem.ProtWrite | mem.ProtExec, false, 0, Dev{}, 0, "[stack]"},
		{rng(0x7ffc00021000, 0x7ffc00022000), mem.ProtRead | mem.ProtWrite, false, 0, Dev{}, 0, ""},
		{rng(0xffffffffff600000, 0xffffffffff601000), mem.ProtExec, false, 0, Dev{}, 0, "[vsyscall]"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got[0].Perms() != "r-xp" || got[1].Perms() != "rw-s" || got[0].IsFile() == got[3].IsFile() ||
		!(Mapping{Path: "/SYSV00000000 (deleted)"}).IsFile() {
		t.Errorf("%s, %s", got[0].Perms(), got[1].Perms())
	}
}

func TestParseMapsRefuses(t *testing.T) {
	const good = "1000-2000 r-xp 0 00:00 0 x"
	for _, c := range []struct{ old, new string }{
		{good, "1000-2000 r-xp 0 00:00"}, {good, ""}, {"1000-2000", "1000"}, {"1000-2000", "2000-1000"}, {"1000-2000", "1000-2001"},
		{"r-xp", "r-x"}, {"r-xp", "r-xq"}, {"r-xp", "rrxp"}, {" 0 00", " x 00"}, {"00:00", "0000"}, {"00:00", "00:100000000"}, {"0 x", "-1 x"},
	} {
		line := strings.Replace(good, c.old, c.new, 1)
		if got, err := parseMaps([]byte(good + "\n" + line + "\n" + good)); err == nil || got != nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v, %v", line, got, err)
		}
	}
}

// FuzzMaps: lines or an error, never both; what is taken is whole pages.
func FuzzMaps(f *testing.F) {
	own, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte("1000-2000 r-xp 0 00:00 0"))
	f.Fuzz(func(t *testing.T, text []byte) {
		maps, err := parseMaps(text)
		if err != nil && maps != nil {
			t.Fatalf("%v and %v", maps, err)
		}
		for _, m := range maps {
			if m.Empty() || m.PageAlign() != m.Range && m.End <= mem.UserEnd {
				t.Fatalf("%v", m)
			}
		}
	})
}

// The names that the kernel gives to what never had a path.
func TestNameless(t *testing.T) {
	for _, c := range []struct {
		path  string
		major uint32
		want  Kind
	}{
		{"/memfd:x (deleted)", 0, Memfd},
		{"/memfd: (deleted)", 0, Memfd},
		{"/SYSV00000000 (deleted)", 0, SysV},
		{"/dev/zero (deleted)", 0, SharedAnon},
		{"/dev/zero", 0, ""},
		{"/memfd:x", 0, ""},
		{"/memfd:x (deleted)", 8, ""}, // a file of a disk may be called so
		{"/usr/lib/x.so (deleted)", 0, ""},
	} {
		if got, ok := nameless(Mapping{Path: c.path, Dev: Dev{Major: c.major}}); got != c.want || ok != (c.want != "") {
			t.Errorf("%s on %d: %q, %v", c.path, c.major, got, ok)
		}
	}
}
