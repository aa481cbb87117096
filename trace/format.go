package trace

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"vmsim/mem"
)

// Header is the first line of the text form.
const Header = "vmsim-trace 1"

// Format returns the canonical text of ops: the header, then one line each.
// Parsing it gives ops again, but for their Line. The error is that of the
// first Op whose Check fails.
func Format(ops []Op) (string, error) {
	var b strings.Builder
	b.WriteString(Header + "\n")
	for i, op := range ops {
		if err := op.Check(); err != nil {
			return "", fmt.Errorf("operation %d: %w", i, err)
		}
		b.WriteString(op.String())
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// String returns op's line, without its end, in canonical form. An Op whose
// Check fails gives a line that need not parse.
func (op Op) String() string {
	if op.Kind == OpMark {
		return "test " + strconv.Quote(op.Name)
	}
	b := fmt.Appendf(nil, "%d %v", op.PID, op.Kind)
	add := func(word string) { b = append(append(b, ' '), word...) }
	switch op.Kind {
	case OpBoot, OpExec:
		if op.Path != "" {
			add(quote(op.Path))
		}
	case OpExit:
		if op.Status != 0 {
			add(strconv.Itoa(op.Status))
		}
	case OpMmap:
		add(number(uint64(op.Addr)))
		add(number(op.Len))
		add(op.Prot.String())
		add(op.Flags.String())
		if op.Path == "" {
			add("anon")
		} else {
			add(place(op.Path, op.Offset))
		}
	case OpMunmap, OpMprotect:
		add(number(uint64(op.Addr)))
		add(number(op.Len))
		if op.Kind == OpMprotect {
			add(op.Prot.String())
		}
	case OpBrk:
		add(number(uint64(op.Addr)))
	case OpTouch:
		if op.Access <= mem.Exec {
			add(op.Access.Letter())
		} else {
			add("?")
		}
		if op.Path == "" {
			add(number(uint64(op.Addr)))
		} else {
			add(place(op.Path, op.Offset))
		}
		if op.Access == mem.Write && op.Value != DefaultValue {
			add(fmt.Sprintf("0x%02x", op.Value))
		}
	}
	if op.Want != nil {
		add("=")
		add(op.Want.String())
	}
	return string(b)
}

// number formats an address or a length: hex, but 0 as 0.
func number(n uint64) string {
	if n == 0 {
		return "0"
	}
	return "0x" + strconv.FormatUint(n, 16)
}

// place formats FILE+OFFSET.
func place(path string, off uint64) string {
	return quote(path + "+0x" + strconv.FormatUint(off, 16))
}

// quote returns s as a word, in double quotes where it needs them.
func quote(s string) string {
	if s == "" || s == "=" || !plain(s) {
		return strconv.Quote(s)
	}
	return s
}

// plain reports whether s may stand in a line without quotes.
func plain(s string) bool {
	for i, r := range s {
		switch {
		case r == ' ' || r == '#' || r == '"' || r == '\\' || !strconv.IsPrint(r):
			return false
		case r == utf8.RuneError:
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return false // not UTF-8
			}
		}
	}
	return true
}

// clip shortens s for a message.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
