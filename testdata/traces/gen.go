//go:build ignore

// Gen writes case-a.trace: a test suite that runs its 134 tests one by one, each
// in a shell of its own that forks and execs one applet. Init, shells and
// applets are one binary, as with BusyBox; its page cache fills slowly.
//
//	go run gen.go > case-a.trace
//
// The same text comes out every time.
package main

import (
	"bufio"
	"fmt"
	"log"
	"os"
	"slices"
	"strings"

	"vmsim/mem"
	"vmsim/trace"
)

const program = "../elf/kevlar-layout"

// The pages of the program, by the address of their first byte.
const (
	firstText = 0x400000 // first of the read-only segment, with the ELF header
	entry     = 0x401000
	lastRO    = 0x51b000 // last of it: the end of .rodata, 0x1f0 bytes
	firstData = 0x51c000 // .data starts in its middle
	variable  = 0x51d010 // what a shell writes, in the second page of .data
	lastBSS   = 0x525000
)

// startup is what every program touches before it does anything else: its entry
// page, and the first and last page of each segment.
var startup = []mem.VirtAddr{entry, firstText, lastRO, firstData, lastBSS}

// How the number of distinct read-only pages that were touched grows: atBoot by
// init; then 8 more every 5 tests, which makes threshold in test full; then one
// more every second test.
const (
	atBoot    = 24
	threshold = 128
	full      = 65
)

// seen returns that number at the end of a test, from 1; 0 is after boot.
func seen(test int) int {
	if test <= full {
		return atBoot + test*(threshold-atBoot)/full
	}
	return threshold + (test-full)/2
}

// Every process touches the first pages of the common code; a shell more of
// them than an applet.
const (
	shellPages  = 14
	appletPages = 9
)

// applets are the names of the tests.
var applets = strings.Fields(`
	ar arch ash awk base64 basename bc bunzip2 bzcat bzip2 cal cat chgrp chmod chown clear cmp cp
	cpio crc32 cut date dc dd df diff dirname dos2unix du echo ed egrep env expand expr factor
	fallocate false fgrep find fold free getopt grep groups gunzip gzip head hexdump hostid
	hostname id ipcalc kill last less link ln logger logname ls lzcat lzma lzop md5sum mkdir mkfifo
	mknod mktemp more mv nl nproc od paste patch printf ps pwd readlink realpath rev rm rmdir
	rpm2cpio run-parts sed seq sh sha1sum sha256sum sha3sum sha512sum shred shuf sleep sort stat
	strings sync tac tail tar tee test time timeout touch tr true truncate ts uname uncompress
	unexpand uniq unix2dos unlink unlzma unxz unzip uptime uudecode uuencode wc which who whoami
	xargs xxd xz xzcat yes zcat
`)

func main() {
	log.SetFlags(0)
	log.SetPrefix("gen: ")
	if n := len(applets); n != 134 {
		log.Fatalf("%d applets, want 134", n)
	}
	g := &gen{w: bufio.NewWriter(os.Stdout), rand: 0x51cbf0}
	for p := mem.VirtAddr(firstText); p <= lastRO; p += mem.PageSize {
		if !slices.Contains(startup, p) {
			g.order = append(g.order, p)
		}
	}
	for i := len(g.order) - 1; i > 0; i-- { // Fisher and Yates
		j := g.below(i + 1)
		g.order[i], g.order[j] = g.order[j], g.order[i]
	}
	g.trace()
	if err := g.w.Flush(); err != nil {
		log.Fatal(err)
	}
}

type gen struct {
	w    *bufio.Writer
	rand uint64

	// order is the order in which the suite reaches the read-only pages beyond
	// the start-up set.
	order []mem.VirtAddr
}

// below returns a pseudo-random number from 0 to n-1 (xorshift64*, Vigna 2016).
func (g *gen) below(n int) int {
	g.rand ^= g.rand >> 12
	g.rand ^= g.rand << 25
	g.rand ^= g.rand >> 27
	return int((g.rand * 0x2545f4914f6cdd1d >> 33) % uint64(n))
}

// known returns the read-only pages, without the start-up set, that were
// touched at the end of a test.
func (g *gen) known(test int) []mem.VirtAddr { return g.order[:seen(test)-roStartup()] }

// roStartup returns how many pages of the start-up set are read-only.
func roStartup() int {
	n := 0
	for _, p := range startup {
		if p <= lastRO {
			n++
		}
	}
	return n
}

func (g *gen) trace() {
	fmt.Fprintf(g.w, `%s

# Written by gen.go.
#
# A suite of %d tests on one binary. Init (PID 1) is booted. Each test takes two
# processes: a shell, forked from init, and the applet under test, forked from
# the shell. Each execs the binary and touches 20 to 30 of its pages; always the
# start-up set: entry page, first and last page of each segment.
#
# No page comes into the page cache but by a touch, so what counts is how many
# distinct read-only pages (0x400000 to 0x51b000, %d of them) were touched so
# far. Shells touch known ones only. The %dth is reached by the applet of test
# %d, process %d, so a kernel that assembles a huge page from %d cached pages
# does so first at the next exec: the shell of test %d, process %d. If it
# assembles a wrong one, %d tests pass and no later one does.

`, trace.Magic, len(applets), (lastRO-firstText)/mem.PageSize+1, threshold,
		full, 2*full+1, threshold, full+1, 2*(full+1), full)
	g.op(trace.Op{PID: 1, Kind: trace.OpBoot, Path: program})
	g.read(1, startup)
	g.read(1, g.known(0))
	for i, name := range applets {
		g.test(i+1, name)
	}
}

// test writes test number n.
func (g *gen) test(n int, name string) {
	shell, applet := 2*n, 2*n+1
	fmt.Fprintln(g.w)
	g.op(trace.Op{Kind: trace.OpMark, Name: fmt.Sprintf("%03d %s", n, name)})

	known := g.known(n - 1)
	g.start(1, shell)
	g.read(shell, g.pick(known[:shellPages], known[shellPages:], 1+g.below(5)))
	g.op(trace.Op{PID: shell, Kind: trace.OpTouch, Access: mem.Write, Addr: variable, Value: byte(n)})

	g.start(shell, applet)
	g.read(applet, g.pick(known[:appletPages], known[appletPages:], 6+g.below(5)))
	g.read(applet, g.known(n)[len(known):])
	g.op(trace.Op{PID: applet, Kind: trace.OpExit})
	g.op(trace.Op{PID: shell, Kind: trace.OpExit})
}

// start forks a process from parent and execs the program in it.
func (g *gen) start(parent, pid int) {
	g.op(trace.Op{PID: parent, Kind: trace.OpFork, Want: &trace.Answer{PID: pid}})
	g.op(trace.Op{PID: pid, Kind: trace.OpExec, Path: program, Want: &trace.Answer{}})
	g.read(pid, startup)
}

// pick returns all pages of common and n of others, each once, ascending.
func (g *gen) pick(common, others []mem.VirtAddr, n int) []mem.VirtAddr {
	pages := slices.Clone(common)
	for n = min(n, len(others)); n > 0; {
		if p := others[g.below(len(others))]; !slices.Contains(pages, p) {
			pages = append(pages, p)
			n--
		}
	}
	slices.Sort(pages)
	return pages
}

func (g *gen) read(pid int, pages []mem.VirtAddr) {
	for _, p := range pages {
		g.op(trace.Op{PID: pid, Kind: trace.OpTouch, Access: mem.Read, Addr: p})
	}
}

func (g *gen) op(op trace.Op) {
	if err := op.Check(); err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(g.w, op)
}
