// Package hugepage decides when a 2 MiB window of a program becomes a huge
// page, assembles it, and keeps it for the next exec.
//
// At exec the machine walks the windows that hold a file byte. For each:
//
//	in Cache? ----yes----------------------------------> map it
//	   | no
//	Policy.Assemble(candidate) ---no---> prefault the cached 4 KiB pages
//	   | yes
//	512 times Policy.Fill(sub-page) -> Inspector.Assembled -> Cache -> map it
//
// A sub-page is filled from frames of the page cache and from the file:
//
//	page cache  [ . P P . P P P P . . ]      P whole page, p partly valid
//	                | |   | | | |
//	window      [ f c c f c c c c f f 0 0 ]  c copied, f read, 0 zero
//
// Case A of the catalogue lives in Fill (assemble.go): which cached page may
// be copied, and how much of it. A kernel developer who wants to test a policy
// of their own implements Policy, usually by embedding Kevlar.
package hugepage
