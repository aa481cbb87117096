package importer

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// errnos are the names of error numbers that strace writes.
var errnos = func() map[string]syscall.Errno {
	m := map[string]syscall.Errno{"EWOULDBLOCK": syscall.EAGAIN, "ENOTSUP": syscall.EOPNOTSUPP, "EDEADLOCK": syscall.EDEADLK}
	for e := syscall.Errno(1); e < 134; e++ {
		if name := unix.ErrnoName(e); name != "" {
			m[name] = e
		}
	}
	return m
}()

// skip returns the index behind the item of text that starts at i: a string, a
// comment, the <path> of a descriptor, or else one byte.
func skip(text string, i int) int {
	rest := text[i:]
	switch {
	case rest[0] == '"':
		for j := 1; j < len(rest); j++ {
			if rest[j] == '\\' {
				j++
			} else if rest[j] == '"' {
				return i + j + 1
			}
		}
		return len(text)
	case strings.HasPrefix(rest, "/*"):
		if end := strings.Index(rest, "*/"); end >= 0 {
			return i + end + 2
		}
		return len(text)
	case rest[0] == '<' && strings.HasPrefix(rest, "<<"):
		return i + 2
	case rest[0] == '<' && i > 0 && annotates(text[i-1]):
		return i + skipAnnotation(rest)
	}
	return i + 1
}

// annotates reports whether a < behind c starts what -y or -Y say of a number.
func annotates(c byte) bool { return c >= '0' && c <= '9' || c == 'D' || c == '/' } // AT_FDCWD, or its comment

// maxAnnotation bounds how far an annotation is looked for: a path of 4,095 bytes,
// each in octal, and some.
const maxAnnotation = 5 * 4096

// skipAnnotation returns the length of the <...> that text starts with. In paths
// strace escapes both brackets; -yy adds <char 1:5> inside, and writes sockets
// as <TCP:[127.0.0.1:1->127.0.0.1:2]>.
func skipAnnotation(text string) int {
	text = text[:min(len(text), maxAnnotation)]
	if c := strings.Index(text, ":["); c > 0 && !strings.HasPrefix(text, "</") && strings.IndexByte(text[:c], '>') < 0 {
		if end := strings.Index(text, "]>"); end >= 0 {
			return end + 2
		}
	}
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '<':
			depth++
		case '>':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

// splitArgs parts `a, {b, c}, "d")` at the commas of its own level, and returns
// what follows the closing bracket. closed is false where that is missing.
func splitArgs(text string) (args []string, rest string, closed bool) {
	depth, from := 0, 0
	add := func(to int) {
		if a := strings.TrimSpace(text[from:to]); a != "" || len(args) > 0 {
			args = append(args, a)
		}
	}
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '(' || c == '[' || c == '{':
			depth++
		case depth > 0 && (c == ')' || c == ']' || c == '}'):
			depth--
		case c == ')':
			add(i)
			return args, text[i+1:], true
		case depth == 0 && c == ',':
			add(i)
			from = i + 1
		}
		i = skip(text, i)
	}
	add(len(text))
	return args, "", false
}

// field returns the value of NAME in {NAME=value, ...}.
func field(text, name string) (string, bool) {
	open := strings.IndexByte(text, '{')
	if open < 0 {
		return "", false
	}
	args, _, _ := splitArgs(strings.Replace(text[open+1:], "}", ")", 1))
	for _, a := range args {
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// uncomment removes the comments of a value: 0x3 /* PROT_READ|PROT_WRITE */.
func uncomment(s string) string {
	for {
		from := strings.Index(s, "/*")
		if from < 0 {
			return strings.TrimSpace(s)
		}
		to := strings.Index(s[from+2:], "*/")
		if to < 0 {
			return strings.TrimSpace(s[:from])
		}
		s = s[:from] + s[from+2+to+2:]
	}
}

// parseNumber reads an address or a number as strace writes them: NULL, hex,
// octal with a leading 0, decimal, negative.
func parseNumber(s string) (uint64, error) {
	s = uncomment(s)
	if s == "NULL" {
		return 0, nil
	}
	if strings.HasPrefix(s, "-") {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number", clip(s))
		}
		return uint64(n), nil
	}
	if strings.ContainsAny(s, "_bBoOpP") && !strings.HasPrefix(s, "0x") {
		return 0, fmt.Errorf("%q is not a number", clip(s)) // Go's own forms
	}
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil || strings.ContainsRune(s, '_') {
		return 0, fmt.Errorf("%q is not a 64-bit number", clip(s))
	}
	return n, nil
}

// parseFlags reads words and numbers that are or'ed, as MAP_PRIVATE|0x100 or
// 21<<MAP_HUGE_SHIFT.
func parseFlags(s string, words map[string]uint64) (uint64, error) {
	var all uint64
	for word := range strings.SplitSeq(uncomment(s), "|") {
		word = strings.TrimSpace(word)
		if v, ok := words[word]; ok {
			all |= v
			continue
		}
		if n, shift, ok := strings.Cut(word, "<<"); ok {
			by, known := words[shift]
			if v, err := parseNumber(n); err == nil && known && v < 64 {
				all |= v << by
				continue
			}
		}
		v, err := parseNumber(word)
		if err != nil {
			return 0, fmt.Errorf("flag %q is neither known nor a number", clip(word))
		}
		all |= v
	}
	return all, nil
}

// parseString reads a string in C's quotes. whole is false where strace cut it
// short: "abc"...
func parseString(s string) (text string, whole bool, err error) {
	if len(s) < 2 || s[0] != '"' {
		return "", false, fmt.Errorf("%q is no string in quotes", clip(s))
	}
	end := skip(s, 0)
	if s[end-1] != '"' || end < 2 {
		return "", false, fmt.Errorf("the quotes of %q are not closed", clip(s))
	}
	return unescape(s[1 : end-1]), end == len(s), nil
}

// unescape resolves C's escapes; strace writes bytes that do not print in octal,
// with -x in hex.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		if simple := strings.IndexByte("ntvfra", s[i]); simple >= 0 {
			b.WriteByte("\n\t\v\f\r\a"[simple])
			continue
		}
		base, from, most := 8, i, 3
		if s[i] == 'x' {
			base, from, most = 16, i+1, 2
		}
		to := from
		for to < len(s) && to-from < most && int(hexDigit[s[to]]) < base {
			to++
		}
		n, err := strconv.ParseUint(s[from:to], base, 8)
		if err != nil {
			b.WriteByte(s[i]) // \" and \\
			continue
		}
		b.WriteByte(byte(n))
		i = to - 1
	}
	return b.String()
}

// descriptor is a file descriptor as an argument or a result.
type descriptor struct {
	fd      int    // unix.AT_FDCWD: the current folder
	note    string // what -y says: a path or anon_inode:[x]; "": nothing
	deleted bool   // -y: its name is gone
	device  bool   // -yy: a device
}

// parseDescriptor reads 3, 3</lib/x.so>, 4</dev/zero<char 1:5>>, AT_FDCWD</tmp>
// or 3</tmp/x>(deleted).
func parseDescriptor(s string) (descriptor, error) {
	d := descriptor{}
	number := uncomment(s)
	if open := strings.IndexByte(number, '<'); open >= 0 {
		note := number[open:]
		end := skipAnnotation(note)
		d.deleted = strings.HasPrefix(note[end:], "(deleted)")
		number, note = number[:open], strings.TrimSuffix(note[1:end], ">")
		if inner := strings.IndexByte(note, '<'); inner >= 0 {
			d.device = strings.HasPrefix(note[inner:], "<char ") || strings.HasPrefix(note[inner:], "<block ")
			note = note[:inner]
		}
		if d.note = unescape(note); strings.HasSuffix(d.note, " (deleted)") { // strace before 5.6
			d.note, d.deleted = strings.TrimSuffix(d.note, " (deleted)"), true
		}
	}
	number = strings.TrimSpace(number)
	if number == "AT_FDCWD" {
		d.fd = unix.AT_FDCWD
		return d, nil
	}
	n, err := parseNumber(number)
	if fd := int64(n); err != nil || fd < -1<<31 || fd >= 1<<32 {
		return d, fmt.Errorf("%q is no descriptor", clip(s))
	}
	d.fd = int(int32(n))
	return d, nil
}

// result is what stands behind the equals sign.
type result struct {
	none     bool // ?: strace did not see it
	restart  bool // the call had no effect and is made again
	injected bool // by strace, instead of the call
	errno    syscall.Errno
	value    uint64
	text     string // as written
}

// parseResult reads 0x7f.., 3</x>, -1 ENOENT (..), ?, ? ERESTARTSYS (..).
func parseResult(s string) (result, error) {
	r := result{text: s, injected: strings.Contains(s, "(INJECTED)")}
	first, rest, _ := strings.Cut(s, " ")
	switch {
	case first == "?":
		r.none, r.restart = true, strings.Contains(rest, "ERESTART")
		return r, nil
	case first == "-1" && rest != "":
		name, _, _ := strings.Cut(rest, " ")
		e, ok := errnos[name]
		if n, found := strings.CutPrefix(rest, "(errno "); !ok && found {
			digits, _, _ := strings.Cut(n, ")")
			v, err := strconv.ParseUint(digits, 10, 12)
			e, ok = syscall.Errno(v), err == nil
		}
		if !ok || e == 0 {
			return r, fmt.Errorf("error %q is not known", clip(name))
		}
		r.errno = e
		return r, nil
	}
	if open := strings.IndexByte(first, '<'); open > 0 {
		first = first[:open]
	}
	v, err := parseNumber(first)
	if err != nil {
		return r, fmt.Errorf("result %w", err)
	}
	r.value = v
	return r, nil
}
