package perfdata

import (
	"fmt"

	"vmsim/internal/perf"
)

// tracingMagic begins the feature TRACING_DATA, which is a header of trace-cmd's files.
const tracingMagic = "\x17\x08\x44tracing"

// readTracingData reads the layouts of tracepoints: those of the kernel that recorded,
// since numbers and offsets differ from kernel to kernel.
//
//	magic, version, byte order, size of a long, of a page
//	"header_page", text; "header_event", text
//	number of formats of ftrace; each: its text
//	number of systems; each: its name, number of formats; each: its text
//	kernel symbols, strings and names of tasks, which are not needed
//
// Compare tools/perf/util/trace-event-read.c:trace_report.
func (f *File) readTracingData(b []byte) error {
	c := cursor{b: b}
	if magic := c.bytes(len(tracingMagic)); string(magic) != tracingMagic {
		return fmt.Errorf("%w: the layouts of tracepoints begin with %q", ErrDamaged, magic)
	}
	c.cstring() // version
	if order := c.bytes(1); len(order) == 1 && order[0] != 0 {
		return fmt.Errorf("%w: raw data of the other byte order", ErrUnsupported)
	}
	c.bytes(1) // size of a long
	c.u32()    // size of a page
	for _, name := range []string{"header_page", "header_event"} {
		if got := c.cstring(); got != name && c.err == nil {
			return fmt.Errorf("%w: %q where %s is expected", ErrDamaged, got, name)
		}
		c.block()
	}
	for range c.u32() {
		if c.block(); c.err != nil {
			return c.err
		}
	}
	for range c.u32() {
		system := c.cstring()
		for range c.u32() {
			format := c.block()
			if c.err != nil {
				return c.err
			}
			p, err := perf.ParseTracepoint(system, string(format))
			if err != nil {
				return fmt.Errorf("%w: a tracepoint of %s: %w", ErrDamaged, system, err)
			}
			f.points[p.ID] = p
		}
		if c.err != nil {
			return c.err
		}
	}
	return c.err
}
