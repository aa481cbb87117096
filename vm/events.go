package vm

import (
	"io"

	"vmsim/internal/event"
)

// EventLog returns a sink for Config.Events and verify.NewWitness that writes
// JSONL to w: a header, one event a line, and a summary when it is closed.
func EventLog(w io.Writer) *event.Writer { return event.NewWriter(w) }
