// Package perfdata reads the files of Linux's perf record: perf.data, plain,
// compressed (-z), or written to a pipe (-o -).
//
//	a file:  header | ids | attributes | records ... | table of features | features
//	a pipe:  header | records ..., among them attributes and features
//
//	records   COMPRESSED --zstd--+
//	          FORK, MMAP2, ... --+--> until FINISHED_ROUND --> by time --> perf.Decoder --> perf.Record
//
// The records are those of the kernel's rings, with a few of perf's own between them, and package
// perf decodes them. What perf writes is per CPU: it empties one ring after the other and ends each
// round with FINISHED_ROUND, so that what is older than the youngest record of
// the round before can be put in order and passed on. Memory is bounded by two rounds.
//
// A file may come from anywhere. Every size in it is held against the size of the file
// before it is used, and errors say at which offset the file is damaged; what comes
// before is delivered.
//
// Sources: tools/perf/Documentation/perf.data-file-format.txt, tools/perf/util/header.c,
// session.c, ordered-events.c, zstd.c and trace-event-read.c of Linux 6.18.
package perfdata
