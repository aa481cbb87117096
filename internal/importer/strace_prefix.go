package importer

import (
	"bytes"
	"strconv"
	"time"
)

// maxPID is the largest process number of Linux (PID_MAX_LIMIT): a larger number
// in front of a line is a time.
const maxPID = 4 << 20

// prefix is what strace writes in front of a line, by its options.
type prefix struct {
	pid   int  // -f; 0: none
	stamp bool // -t, -tt, -ttt, -r: at is the time of the line
	at    stamp
}

// stamp is a time of one of strace's three kinds, in nanoseconds.
type stamp struct {
	kind stampKind
	ns   uint64
}

type stampKind uint8

const (
	stampDay   stampKind = iota // -t, -tt: since midnight
	stampUnix                   // -ttt: since 1970
	stampDelta                  // -r: since the line before
)

// cutPrefix parts line into what stands in front and the rest: PID or [pid PID],
// the time, the call's number (-n), the instruction (-i), in this order, each
// where it was asked for.
func cutPrefix(line []byte) (p prefix, body []byte) {
	for {
		line = bytes.TrimLeft(line, " ")
		if len(line) == 0 {
			return p, line
		}
		switch {
		case line[0] >= '0' && line[0] <= '9':
			word := line
			if i := bytes.IndexByte(line, ' '); i >= 0 {
				word = line[:i]
			}
			n, digits := number(word)
			if !p.stamp && p.pid == 0 && digits == len(word) && n <= maxPID {
				p.pid = n
			} else if i := digits; !p.stamp && p.pid == 0 && i < len(word) && word[i] == '<' && bytes.IndexByte(line, '>') > i {
				p.pid, word = n, line[:bytes.IndexByte(line, '>')+1] // -Y: 123<tmux: server>
			} else if at, ok := parseStamp(word); ok {
				if !p.stamp || at.kind == stampDelta {
					p.stamp, p.at = true, at
				}
			} else {
				return p, line
			}
			line = line[len(word):]
		case bytes.HasPrefix(line, []byte("[pid ")):
			text := bytes.TrimLeft(line[5:], " ")
			n, digits := number(text)
			end := bytes.IndexByte(line, ']')
			if digits == 0 || end < 0 || n > maxPID {
				return p, line
			}
			if text = text[digits:]; text[0] == '<' { // -Y
				if end = bytes.Index(line, []byte(">]")) + 1; end == 0 {
					return p, line
				}
			}
			p.pid, line = n, line[end+1:]
		case bytes.HasPrefix(line, []byte("(+")):
			end := bytes.IndexByte(line, ')')
			if end < 0 {
				return p, line
			}
			if at, ok := parseStamp(bytes.TrimSpace(line[2:end])); ok && at.kind == stampDelta {
				p.stamp, p.at = true, at // finer than the -t beside it
			}
			line = line[end+1:]
		case line[0] == '[':
			end := bytes.IndexByte(line, ']')
			if end < 0 {
				return p, line
			}
			line = line[end+1:]
		default:
			return p, line
		}
	}
}

// number reads the digits that text starts with; a number of more than 9 digits
// is given as 1<<62.
func number(text []byte) (n, digits int) {
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		if n = n*10 + int(text[digits]-'0'); digits >= 9 {
			n = 1 << 62 / 10
		}
		digits++
	}
	return n, digits
}

// parseStamp reads 15:04:05, 15:04:05.123456, 1795187692.526804 or 0.000452.
func parseStamp(text []byte) (stamp, bool) {
	whole, frac, dot := bytes.Cut(text, []byte{'.'})
	ns, ok := uint64(0), true
	if dot {
		if ns, ok = fraction(frac); !ok {
			return stamp{}, false
		}
	}
	if parts := bytes.Split(whole, []byte{':'}); len(parts) == 3 {
		var s uint64
		for i, p := range parts {
			n, digits := number(p)
			if digits != 2 || len(p) != 2 || n >= [3]int{24, 60, 61}[i] {
				return stamp{}, false
			}
			s = s*60 + uint64(n)
		}
		return stamp{stampDay, s*1e9 + ns}, true
	}
	s, err := strconv.ParseUint(string(whole), 10, 33) // to the year 2242
	switch {
	case err != nil:
		return stamp{}, false
	case len(whole) >= 9:
		return stamp{stampUnix, s*1e9 + ns}, true
	case !dot:
		return stamp{}, false
	}
	return stamp{stampDelta, s*1e9 + ns}, true
}

// fraction reads up to 9 digits behind a dot, as nanoseconds.
func fraction(text []byte) (uint64, bool) {
	n, digits := number(text)
	if digits == 0 || digits > 9 || digits != len(text) {
		return 0, false
	}
	for ; digits < 9; digits++ {
		n *= 10
	}
	return uint64(n), true
}

// clock turns stamps into nanoseconds since the first.
type clock struct {
	began bool
	first stamp
	last  stamp
	now   uint64 // ns since the first line; never goes back
	back  int    // stamps that were earlier than the one before
}

// set moves the clock to at. A clock that was set back stands still until it has
// caught up; one of -t that passes midnight goes on.
func (c *clock) set(at stamp) {
	if !c.began {
		c.began, c.first, c.last = true, at, at
		return
	}
	const day = 86400 * uint64(time.Second)
	switch {
	case at.kind != c.last.kind:
		c.back++ // two kinds in one file: nothing can be said
	case at.kind == stampDelta:
		if next := c.now + at.ns; next >= c.now {
			c.now = next
		}
	case at.ns >= c.last.ns:
		if at.ns-c.last.ns <= 1<<62 && c.now < 1<<63 {
			c.now += at.ns - c.last.ns
		}
	case at.kind == stampDay && c.last.ns-at.ns > day/2:
		if c.now < 1<<63 {
			c.now += at.ns + day - c.last.ns
		}
	default:
		c.back++
		return
	}
	c.last = at
}
