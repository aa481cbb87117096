package trace

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Touch sets that a recording can hold: Header.Touches.
const (
	TouchesComplete = "complete" // every first touch of a page, but reads of what a fork inherits
	TouchesFaults   = "faults"   // what faulted: fault-around hides the others
	TouchesAll      = "all"      // every reference, as lackey writes them
	TouchesNone     = "none"     // mapping calls alone
)

// Header says what a recording is of, and what it lacks. The zero Header is that
// of a trace that somebody wrote.
type Header struct {
	Source   string   `json:"source,omitempty"`    // who saw it: vmsim record, perf, strace, lackey; "": written, not recorded
	Tool     string   `json:"tool,omitempty"`      // what wrote the file, and its version
	Command  []string `json:"command,omitempty"`   // that was recorded
	Host     string   `json:"host,omitempty"`      // its name
	Kernel   string   `json:"kernel,omitempty"`    // uname -r
	Arch     string   `json:"arch,omitempty"`      // uname -m
	PageSize uint64   `json:"page_size,omitempty"` // bytes
	Clock    string   `json:"clock,omitempty"`     // of which Op.Time counts the nanoseconds
	Began    string   `json:"began,omitempty"`     // wall clock at time 0, RFC 3339
	Touches  string   `json:"touches,omitempty"`   // complete, faults, all, none; "" in a written trace
	Missing  []string `json:"missing,omitempty"`   // what the recording lacks, a sentence each
	Lost     uint64   `json:"lost"`                // records
	Whole    bool     `json:"whole"`               // it was closed: nothing is cut off
}

// What Header.Missing may begin with, and a reader acts on; what follows a colon says why.
const (
	MissingCodes        = "error codes of faults"      // whether a touch read or wrote is not known
	MissingKernelFaults = "faults taken by the kernel" // touches in system calls are absent
)

// Lacks reports whether Missing has what.
func (h *Header) Lacks(what string) bool {
	for _, m := range h.Missing {
		if rest, ok := strings.CutPrefix(m, what); ok && (rest == "" || rest[0] == ':') {
			return true
		}
	}
	return false
}

// Recorded reports whether the trace was recorded: its writes carry no contents,
// and its processes live as long as it says.
func (h *Header) Recorded() bool { return h.Source != "" }

// keys returns the lines of the text form, in canonical order.
func (h *Header) keys() []headerKey {
	return []headerKey{
		{"source", &h.Source}, {"tool", &h.Tool}, {"command", &h.Command}, {"host", &h.Host}, {"kernel", &h.Kernel},
		{"arch", &h.Arch}, {"page_size", &h.PageSize}, {"clock", &h.Clock}, {"began", &h.Began}, {"touches", &h.Touches},
		{"missing", &h.Missing}, {"lost", &h.Lost}, {"whole", &h.Whole},
	}
}

type headerKey struct {
	name  string
	value any // *string, *uint64, *bool, or *[]string, which takes a line for each
}

// lines returns the text form: header source "vmsim record".
func (h *Header) lines() []string {
	var lines []string
	for _, k := range h.keys() {
		add := func(v string) { lines = append(lines, "header "+k.name+" "+quote(v)) }
		switch v := k.value.(type) {
		case *string:
			if *v != "" {
				add(*v)
			}
		case *uint64:
			if *v != 0 {
				add(strconv.FormatUint(*v, 10))
			}
		case *bool:
			if *v {
				add("yes")
			}
		case *[]string:
			for _, s := range *v {
				add(s)
			}
		}
	}
	return lines
}

// parse reads the words of one line behind "header".
func (h *Header) parse(words []word) error {
	if len(words) != 2 {
		return fmt.Errorf("header: a key and its value are wanted")
	}
	key, text := words[0].text, words[1].text
	var names []string
	for _, k := range h.keys() {
		if names = append(names, k.name); k.name != key {
			continue
		}
		switch v := k.value.(type) {
		case *string:
			if *v != "" {
				return fmt.Errorf("header: %s comes twice", key)
			}
			*v = text
		case *uint64:
			n, err := parseNumber(text, math.MaxUint64)
			if err != nil {
				return fmt.Errorf("header: %s: %w", key, err)
			}
			*v = n
		case *bool:
			if text != "yes" {
				return fmt.Errorf("header: %s is not yes", key)
			}
			*v = true
		case *[]string:
			if len(*v) >= maxHeaderList {
				return fmt.Errorf("header: more than %d lines of %s", maxHeaderList, key)
			}
			*v = append(*v, text)
		}
		return h.Check()
	}
	return fmt.Errorf("header: key %q is none of %s", clip(key), strings.Join(names, ", "))
}

const maxHeaderList = 1000

// Check returns an error if a value of h cannot be.
func (h *Header) Check() error {
	switch h.Touches {
	case "", TouchesComplete, TouchesFaults, TouchesAll, TouchesNone:
	default:
		return fmt.Errorf("header: touches %q is none of complete, faults, all, none", clip(h.Touches))
	}
	if h.PageSize != 0 && h.PageSize != 4096 {
		return fmt.Errorf("header: pages of %d bytes: this program knows 4096 alone", h.PageSize)
	}
	return nil
}
