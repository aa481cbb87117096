package trace

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// headerJSON returns h as JSON. JSON holds no bytes that are not UTF-8, but an
// argument of a command may: such a string, and one that starts with a quote, is
// written in Go's quotes within the JSON string.
func headerJSON(h Header) ([]byte, error) {
	if err := h.Check(); err != nil {
		return nil, err
	}
	h = h.each(func(s string) string {
		if !utf8.ValidString(s) || strings.HasPrefix(s, `"`) {
			return strconv.Quote(s)
		}
		return s
	})
	b, err := json.Marshal(h)
	if err == nil && len(b) > maxHeader {
		err = fmt.Errorf("header: %d bytes are more than %d", len(b), maxHeader)
	}
	return b, err
}

// parseHeaderJSON is the inverse of headerJSON. Keys that are not known are
// passed over.
func parseHeaderJSON(b []byte) (Header, error) {
	var h Header
	if err := json.Unmarshal(b, &h); err != nil {
		return Header{}, fmt.Errorf("header: %w", err)
	}
	var wrong error
	h = h.each(func(s string) string {
		if !strings.HasPrefix(s, `"`) {
			return s
		}
		text, err := strconv.Unquote(s)
		if err != nil && wrong == nil {
			wrong = fmt.Errorf("header: %q: the quotes are not closed, or hold a wrong escape", clip(s))
		}
		return text
	})
	if len(h.Command) > maxHeaderList || len(h.Missing) > maxHeaderList {
		wrong = fmt.Errorf("header: a list of more than %d", maxHeaderList)
	}
	if wrong == nil {
		wrong = h.Check()
	}
	if wrong != nil {
		return Header{}, wrong
	}
	return h, nil
}

// each returns h with change applied to its strings. An empty list becomes nil.
func (h Header) each(change func(string) string) Header {
	for _, k := range h.keys() {
		switch v := k.value.(type) {
		case *string:
			*v = change(*v)
		case *[]string:
			list := slices.Clone(*v)
			for i := range list {
				list[i] = change(list[i])
			}
			if *v = list; len(list) == 0 {
				*v = nil
			}
		}
	}
	return h
}
