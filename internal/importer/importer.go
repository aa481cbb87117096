package importer

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"vmsim/internal/record"
	"vmsim/trace"
)

// Importer reads a recording from r, hands its operations to emit one by one and
// returns its header, which is known last.
//
// The Op is valid until emit returns. An error of emit ends the import and is
// returned as it is. A *trace.SyntaxError, which begins with name, says what is
// wrong with a line; what came before it was emitted, and the header tells of
// that.
type Importer func(name string, r io.Reader, emit func(*trace.Op) error) (trace.Header, error)

// importers are the kinds of recordings by the name that a command takes.
var importers = map[string]Importer{
	"strace": Strace,
	"lackey": Lackey,
	"perf":   record.Perf,
}

// Kinds returns the names that From knows, in order.
func Kinds() []string { return slices.Sorted(maps.Keys(importers)) }

// From returns the importer of a kind of recording: strace.
func From(kind string) (Importer, error) {
	if i, ok := importers[kind]; ok {
		return i, nil
	}
	return nil, fmt.Errorf("recording %q is none of %s", kind, strings.Join(Kinds(), ", "))
}
