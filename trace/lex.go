package trace

import (
	"fmt"
	"strconv"
	"strings"
)

// word is a word of a line. Quotes are gone from text; sep is set for the
// equals sign that parts operation and answer (in quotes it is a plain word).
type word struct {
	text string
	sep  bool
}

// split appends the words of a line to dst: separated by spaces or tabs, in Go
// double quotes where they hold anything special, up to a # outside of quotes.
func split(dst []word, line string) ([]word, error) {
	for {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			return dst, nil
		}
		if line[0] == '"' {
			q, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("%q: the quotes are not closed, or hold a wrong escape", clip(line))
			}
			text, err := strconv.Unquote(q)
			if err != nil {
				return nil, fmt.Errorf("word %q: %w", clip(q), err)
			}
			if line = line[len(q):]; line != "" && !strings.ContainsRune(" \t#", rune(line[0])) {
				return nil, fmt.Errorf("a space is missing behind the quoted word %q", clip(text))
			}
			dst = append(dst, word{text: text})
			continue
		}
		end := strings.IndexAny(line, " \t#")
		if end < 0 {
			end = len(line)
		}
		text := line[:end]
		if !plain(text) {
			return nil, fmt.Errorf("word %q holds a character that needs double quotes around the word", clip(text))
		}
		dst = append(dst, word{text: text, sep: text == "="})
		line = line[end:]
	}
}

// parseNumber reads a decimal number or a hex one after 0x, at most most.
func parseNumber(s string, most uint64) (uint64, error) {
	digits, base := s, 10
	if h, ok := strings.CutPrefix(s, "0x"); ok {
		digits, base = h, 16
	} else if len(s) > 1 && s[0] == '0' {
		return 0, fmt.Errorf("%q has a leading zero: decimal numbers have none, hex ones start with 0x", clip(s))
	}
	n, err := strconv.ParseUint(digits, base, 64)
	switch {
	case err != nil && err.(*strconv.NumError).Err == strconv.ErrRange, err == nil && n > most:
		return 0, fmt.Errorf("%q is larger than %s", clip(s), bound(most))
	case err != nil:
		return 0, fmt.Errorf("%q is not a number", clip(s))
	}
	return n, nil
}

// bound formats the largest number allowed.
func bound(n uint64) string {
	if n > MaxPID {
		return number(n)
	}
	return strconv.FormatUint(n, 10)
}
