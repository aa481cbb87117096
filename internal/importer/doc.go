// Package importer reads recordings that other programs made: the text of
// strace and the memory references of valgrind's lackey.
//
// Each importer turns foreign text into operations of a trace, line by line, and
// at the end into the trace's header. It never guesses: what the text does not
// say is left out, and Header.Missing has a sentence for it.
//
//	text --lines--> calls --tasks, descriptors--> Op --emit--> the caller
//	                                    |
//	                                    +---- at the end: Header
//
// An importer's memory is bounded by what is unfinished: a line, the processes
// that live, their descriptors, and the lines behind a child that appeared
// before its parent's call returned.
//
// Process 1 of the trace is the empty init; whoever appears first is 2, and
// processes and threads are numbered as they appear.
package importer
