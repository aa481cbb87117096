package report

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
)

func TestParseBytes(t *testing.T) {
	for _, c := range []struct {
		in   string
		want uint64
	}{
		{"0", 0},
		{"4096", 4096},
		{"007", 7},
		{"64K", 64 << 10},
		{"64k", 64 << 10},
		{"64KB", 64 << 10},
		{"64KiB", 64 << 10},
		{"512M", 512 << 20},
		{"4GiB", 4 << 30},
		{"4 GiB", 4 << 30},
		{"16T", 16 << 40},
		{"100B", 100},
		{"18446744073709551615", math.MaxUint64},
		{"16777215T", 16777215 << 40},
	} {
		if got, err := ParseBytes(c.in); err != nil || got != c.want {
			t.Errorf("%q: %d, %v; want %d", c.in, got, err, c.want)
		}
	}
	for _, c := range []struct{ in, want string }{
		{"", "is not like"},
		{"K", "is not like"},
		{"-1", "is not like"},
		{"+1", "is not like"},
		{"1.5G", "is not like"},
		{"0x1000", "is not like"},
		{"10Q", "is not like"},
		{"10KiBB", "is not like"},
		{"1e9", "is not like"},
		{"18446744073709551616", "does not fit"},
		{"99999999999999999999999", "does not fit"},
		{"16777216T", "does not fit"},
		{"18446744073709551615K", "does not fit"},
	} {
		if got, err := ParseBytes(c.in); err == nil || got != 0 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %d, %v; want an error, %q", c.in, got, err, c.want)
		}
	}
}

// FuzzParseBytes: a size that is taken is at least its digits, and never more
// than they and a unit can say.
func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"4GiB", "64K", "18446744073709551615", "10Q", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseBytes(s)
		if err != nil {
			if n != 0 {
				t.Fatalf("%q: %d and %v", s, n, err)
			}
			return
		}
		digits := strings.TrimRight(s, " KMGTIBkmgtib\t\n\v\f\r\u0085\u00a0")
		m, err := ParseBytes(digits)
		if err != nil || n < m || m != 0 && n%m != 0 || n > 0 && n/m > 1<<40 {
			t.Fatalf("%q is %d, %q is %d (%v)", s, n, digits, m, err)
		}
	})
}

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		n    uint64
		want string
	}{
		{0, "0 B"},
		{1023, "1023 B"},
		{1024, "1.0 KiB"},
		{4 << 30, "4.0 GiB"},
		{1<<20 - 1, "1.0 MiB"}, // not 1024.0 KiB
		{4816896, "4.6 MiB"},
		{math.MaxUint64, "16.0 EiB"},
	} {
		if got := Bytes(c.n); got != c.want {
			t.Errorf("%d: %s, want %s", c.n, got, c.want)
		}
	}
}

func TestCount(t *testing.T) {
	for want, got := range map[string]string{
		"0 windows":   Count(0, "window"),
		"1 window":    Count(1, "window"),
		"2 windows":   Count(2, "window"),
		"1 process":   Count(1, "process"),
		"2 processes": Count(2, "process"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"/usr/bin/[", "/usr/bin/["},
		{`a "quoted" \ name`, `a "quoted" \ name`},
		{"Z\u00fcrich \u65e5\u672c", "Z\u00fcrich \u65e5\u672c"},
		{"a\nb\tc\x00", `a\nb\tc\x00`},
		{"\x1b[31mred", `\x1b[31mred`},
		{"\xff\xfe", `\xff\xfe`},
		{"\ufffd", "\ufffd"},
		{"right\u202eleft", `right\u202eleft`},
	} {
		if got := Printable(c.in); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func TestRows(t *testing.T) {
	rows := Rows{Header: []string{"FILE", "PAGES", "COMPARED"}, Left: 1}
	rows.Add("/bin/true", 7, "84.0 KiB")
	rows.Add("a\nb", 1234567, "1.0 GiB")
	rows.Add("short")
	var b bytes.Buffer
	if err := rows.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := `FILE         PAGES  COMPARED
/bin/true        7  84.0 KiB
a\nb       1234567   1.0 GiB
short
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}

func TestParseFormat(t *testing.T) {
	for _, s := range Formats {
		if f, err := ParseFormat(s, Formats); err != nil || string(f) != s {
			t.Errorf("%q: %q, %v", s, f, err)
		}
	}
	for _, s := range []string{"", "JSON", "xml", "json "} {
		if f, err := ParseFormat(s, Formats); err == nil || f != "" {
			t.Errorf("%q: %q, %v", s, f, err)
		}
	}
}

func TestJSON(t *testing.T) {
	v := struct {
		A string `json:"a"`
		B int    `json:"b"`
	}{"<&>", 1}
	var b bytes.Buffer
	if err := WriteJSONL(&b, v); err != nil || b.String() != `{"a":"<&>","b":1}`+"\n" {
		t.Errorf("jsonl: %q, %v", b.String(), err)
	}
	b.Reset()
	if err := WriteJSON(&b, v); err != nil || b.String() != "{\n  \"a\": \"<&>\",\n  \"b\": 1\n}\n" {
		t.Errorf("json: %q, %v", b.String(), err)
	}
	for name, err := range map[string]error{"jsonl": WriteJSONL(full{}, v), "json": WriteJSON(full{}, v), "table": (&Rows{}).Write(full{})} {
		if !errors.Is(err, errFull) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

// Rare columns of figures that are 0 in all rows are left out, and no others.
func TestRareColumns(t *testing.T) {
	rows := Rows{Header: []string{"NAME", "A", "B", "C"}, Left: 1, Rare: true}
	rows.Add("x", 0, 1, 0)
	rows.Add("y", 0, 0, 0)
	var b strings.Builder
	if err := rows.Write(&b); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "NAME  B\nx     1\ny     0\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
