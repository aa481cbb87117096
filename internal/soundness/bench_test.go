package soundness

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"vmsim/mem"
	"vmsim/trace"
)

// startOps are a program that was just started, with one area of n pages.
func startOps(pid int, area mem.Range) []trace.Op {
	return []trace.Op{
		{Kind: trace.OpExec, PID: pid, Path: "a"},
		{Kind: trace.OpArea, PID: pid, Point: trace.PointExec, Addr: area.Start, Len: area.Len(), Prot: 3},
		{Kind: trace.OpPresent, PID: pid, Point: trace.PointExec, Set: &trace.PresentSet{}},
	}
}

// crowd is processes that all have so many areas of a page, and as many between
// them.
type crowd struct {
	processes, areas int
	different        bool // areas: each maps another page of a file than its place says
	checker          *Checker
	random           *rand.Rand
}

const crowdStart mem.VirtAddr = 0x10000000

// page returns page i of each process.
func (c *crowd) page(i int) mem.VirtAddr { return crowdStart + mem.VirtAddr(i)*mem.PageSize }

// start starts the processes, and lets them run until as many pages come as go.
func (c *crowd) start(b *testing.B) {
	c.checker, c.random = New(trace.Header{}, Options{}), rand.New(rand.NewPCG(1, 2))
	do := func(op trace.Op) { c.checker.Op(&op) }
	do(trace.Op{Kind: trace.OpFile, Path: "data", File: &trace.FileInfo{Kind: trace.RegularFile, Size: 1 << 40}})
	for pid := 2; pid < c.processes+2; pid++ {
		do(trace.Op{Kind: trace.OpFork, PID: 1, Want: &trace.Answer{PID: pid}})
		for _, op := range startOps(pid, mem.Range{Start: crowdStart, End: c.page(2 * c.areas)}) {
			do(op)
		}
		for i := range 2 * c.areas {
			if c.different {
				do(trace.Op{Kind: trace.OpMmap, PID: pid, Addr: c.page(i), Len: mem.PageSize, Prot: 3,
					Flags: trace.MapFixed, Path: "data", Offset: uint64(2*i) * mem.PageSize})
			}
			if i%2 == 0 {
				do(trace.Op{Kind: trace.OpMprotect, PID: pid, Addr: c.page(i), Len: mem.PageSize, Prot: 1})
			}
		}
	}
	c.run(10 * c.processes * c.areas)
	if n := len(c.checker.processes[2].space.areas.in(whole)); n != 2*c.areas {
		b.Fatal(n)
	}
}

// run does n operations, anywhere: of eight six are touches, one is an mprotect, one
// takes a page away.
func (c *crowd) run(n int) {
	touch := trace.Op{Kind: trace.OpTouch, Access: mem.Read}
	drop := trace.Op{Kind: trace.OpMadvise, Len: mem.PageSize, Advice: trace.AdviceDontNeed}
	protect := trace.Op{Kind: trace.OpMprotect, Len: mem.PageSize}
	for i := range n {
		op, at := &touch, c.random.IntN(2*c.areas)
		switch i % 8 {
		case 3:
			op = &drop
		case 7:
			op, at = &protect, at&^1
			op.Prot = mem.Prot(1 + i/8%2*4)
		}
		op.PID, op.Addr = 2+c.random.IntN(c.processes), c.page(at)
		c.checker.Op(op)
	}
}

// BenchmarkOps is the cost of an operation by the number of areas and of live
// processes: the median, beside that of one process with 10 areas in the same run.
//
// The operations are drawn from all over, and what is known of 10,000 processes, or
// of 100,000 areas that are all different, does not fit the data caches.
func BenchmarkOps(b *testing.B) {
	for _, c := range []*crowd{
		{processes: 1, areas: 10},
		{processes: 1, areas: 1000},
		{processes: 1, areas: 100000},
		{processes: 1, areas: 100000, different: true},
		{processes: 1000, areas: 10},
		{processes: 10000, areas: 10},
	} {
		name := fmt.Sprintf("processes=%d/areas=%d", c.processes, c.areas)
		if c.different {
			name += "/different"
		}
		b.Run(name, func(b *testing.B) {
			few := &crowd{processes: 1, areas: 10, different: c.different}
			c.start(b)
			few.start(b)
			defer func() { c.checker = nil }()
			const ops = 20000
			var ns [2][]float64
			for b.Loop() {
				for i, c := range []*crowd{c, few} {
					c.run(ops / 4) // what it needs is in the caches again
					start := time.Now()
					c.run(ops)
					ns[i] = append(ns[i], float64(time.Since(start).Nanoseconds())/ops)
				}
			}
			for i := range ns {
				slices.Sort(ns[i])
			}
			ours, ref := ns[0][len(ns[0])/2], ns[1][len(ns[1])/2]
			b.ReportMetric(0, "ns/op") // of a round: says nothing
			b.ReportMetric(ours, "ns")
			b.ReportMetric(ref, "ns_areas=10")
			b.ReportMetric(ours/ref, "x_of_areas=10")
		})
	}
}

// BenchmarkFork forks a process with many areas and pages; the child writes a page
// and ends.
func BenchmarkFork(b *testing.B) {
	for _, n := range []int{10, 1000, 100000} {
		b.Run(fmt.Sprintf("areas=%d", n), func(b *testing.B) {
			checker := New(trace.Header{}, Options{})
			area := mem.Range{Start: 0x10000000, End: 0x10000000 + mem.VirtAddr(2*n)*mem.PageSize}
			do := func(op trace.Op) { checker.Op(&op) }
			for _, op := range startOps(1, area) {
				do(op)
			}
			for a := range n {
				at := area.Start + mem.VirtAddr(2*a)*mem.PageSize
				do(trace.Op{Kind: trace.OpMprotect, PID: 1, Addr: at, Len: mem.PageSize, Prot: 1})
				do(trace.Op{Kind: trace.OpTouch, PID: 1, Addr: at})
			}
			child := 1
			for b.Loop() {
				child++
				do(trace.Op{Kind: trace.OpFork, PID: 1, Want: &trace.Answer{PID: child}})
				do(trace.Op{Kind: trace.OpTouch, PID: child, Access: mem.Write, Addr: area.Start + mem.PageSize})
				do(trace.Op{Kind: trace.OpExit, PID: child})
			}
		})
	}
}
