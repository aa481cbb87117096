// Package perf reads the events of Linux's perf_event_open(2): which page faults a
// tree of processes takes, what it maps, which of its tasks fork, exec and exit,
// and which memory calls it makes, in the order in which it all happened.
//
//	CPU 0   task A   fault  mmap       fork
//	                   |     |          |       records, written by the kernel
//	                   v     v          v
//	        ring 0   [ ..... one ring a CPU ....... ] --copy--+
//	                                                          +--> ordered by time --> Decoder --> Record
//	        ring 1   [ ............................ ] --copy--+          ^
//	                   ^          ^                                      |
//	CPU 1   task B   fault      exit              Post: events of the reader's own
//
// A [Session] is the live end: it attaches events to a process that has not begun to run
// and drains the rings. What the bytes mean is the [Decoder]'s: it knows the
// attributes with which events were opened and the layout of tracepoints, and turns the
// bytes of a record into a [Record], without allocating. A perf.data file carries the
// same bytes; package perfdata feeds them to the same Decoder.
//
// Sources: include/uapi/linux/perf_event.h, kernel/events/core.c and
// tools/perf/Documentation/perf.data-file-format.txt of Linux 6.18.
package perf
