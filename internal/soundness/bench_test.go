package soundness

import (
	"fmt"
	"testing"

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

// BenchmarkOps is the cost of an operation (a touch, or every eighth one an
// mprotect of a page) by the number of live processes and of areas.
//
// Operations on 200,000 pages that are drawn from all over cost more than those on
// 20 pages whoever has them: what is known of the pages no longer fits the data
// cache. So 100,000 areas of one process are to be held against as many pages of
// 10,000 processes.
func BenchmarkOps(b *testing.B) {
	for _, c := range []struct{ processes, areas int }{{1, 10}, {10, 10}, {100, 10}, {1000, 10}, {10000, 10}, {1, 1000}, {1, 10000}, {1, 100000}} {
		b.Run(fmt.Sprintf("processes=%d/areas=%d", c.processes, c.areas), func(b *testing.B) {
			checker := New(trace.Header{}, Options{})
			area := mem.Range{Start: 0x10000000, End: 0x10000000 + mem.VirtAddr(2*c.areas)*mem.PageSize}
			do := func(op trace.Op) { checker.Op(&op) }
			for i := range c.processes {
				do(trace.Op{Kind: trace.OpFork, PID: 1, Want: &trace.Answer{PID: i + 2}})
				for _, op := range startOps(i+2, area) {
					do(op)
				}
				for a := range c.areas {
					do(trace.Op{Kind: trace.OpMprotect, PID: i + 2, Addr: area.Start + mem.VirtAddr(2*a)*mem.PageSize, Len: mem.PageSize, Prot: 1})
				}
			}
			if n := checker.processes[2].space.areas.tree.Len(); n != 2*c.areas {
				b.Fatal(n)
			}
			touch := trace.Op{Kind: trace.OpTouch, Access: mem.Read}
			protect := trace.Op{Kind: trace.OpMprotect, Len: mem.PageSize, Prot: 1}
			i := 0
			for b.Loop() {
				i++
				op := &touch
				if i%8 == 0 {
					op = &protect
					op.Prot = mem.Prot(1 + i/8%2*4)
				}
				op.PID = 2 + i*7919%c.processes
				op.Addr = area.Start + mem.VirtAddr((i+i/c.processes)*104729%(2*c.areas))*mem.PageSize
				checker.Op(op)
			}
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
