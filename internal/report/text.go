package report

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable is s with everything that a terminal would not show as a character
// (line ends, control sequences, broken UTF-8) escaped as in Go: a file name
// may hold any of it.
func Printable(s string) string {
	var b strings.Builder
	for i, r := range s {
		_, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRune(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// Count formats n things: 1 window, 2 windows, 0 processes.
func Count(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "s"), strings.HasSuffix(noun, "ch"):
		noun += "es"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// Bytes formats n with a binary unit: 4.0 GiB.
func Bytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/1024, 0
	for f >= 1023.95 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	return fmt.Sprintf("%.1f %ciB", f, units[i])
}

// ParseBytes reads a size: 4096, 64K, 512M, 4GiB. It returns an error for what
// is negative, no number, or does not fit 64 bits.
func ParseBytes(s string) (uint64, error) {
	var n uint64
	i := 0
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		d := uint64(s[i] - '0')
		if n > (1<<64-1-d)/10 {
			return 0, fmt.Errorf("size %q does not fit 64 bits", s)
		}
		n = n*10 + d
	}
	unit := strings.ToUpper(strings.TrimSpace(s[i:]))
	unit = strings.TrimSuffix(strings.TrimSuffix(unit, "B"), "I")
	shift := map[string]int{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
	by, ok := shift[unit]
	if i == 0 || !ok {
		return 0, fmt.Errorf("size %q is not like 4096, 64K, 512M or 4GiB", s)
	}
	if n<<by>>by != n {
		return 0, fmt.Errorf("size %q does not fit 64 bits", s)
	}
	return n << by, nil
}
