// Package record turns what the kernel tells of a tree of processes into the
// operations of a trace.
//
//	perf rings   --Record--+
//	                       +--> Converter --Op--> trace.Writer
//	ptrace stops --Event---+      |
//	                              tasks by number, files by identity, calls half done
//
// The Converter takes both streams in the order of their times. It also takes
// perf records alone, where nothing is cut and so nobody traced, and as a perf.data file
// holds them: an import and a recording of the same run give the same operations.
package record
