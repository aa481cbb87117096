package trace_test

import (
	"fmt"
	"log"
	"strings"

	"vmsim/mem"
	"vmsim/trace"
)

// Build a trace in Go and write it: a child writes a page of its parent's.
func ExampleFormat() {
	text, err := trace.Format([]trace.Op{
		{PID: 1, Kind: trace.OpBoot, Path: "../elf/kevlar-layout"},
		{Kind: trace.OpMark, Name: "CoW"},
		{PID: 1, Kind: trace.OpTouch, Access: mem.Write, Addr: 0x51d008, Value: 0x41},
		{PID: 1, Kind: trace.OpFork, Want: &trace.Answer{PID: 2}},
		{PID: 2, Kind: trace.OpTouch, Access: mem.Write, Addr: 0x51d008, Value: 0x42, Want: &trace.Answer{Fault: trace.FaultCoW}},
		{PID: 1, Kind: trace.OpTouch, Addr: 0x51d008, Want: &trace.Answer{HasByte: true, Byte: 0x41}},
		{PID: 2, Kind: trace.OpExit},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(text)
	// Output:
	// vmsim-trace 1
	// 1 boot ../elf/kevlar-layout
	// test "CoW"
	// 1 touch w 0x51d008 0x41
	// 1 fork = 2
	// 2 touch w 0x51d008 0x42 = cow
	// 1 touch r 0x51d008 = 0x41
	// 2 exit
}

// Errors name the line and the word.
func ExampleParse() {
	_, err := trace.Parse("shell-loop.trace", strings.NewReader("vmsim-trace 1\n1 fork = 2\n2 touch q 0x400000\n"))
	fmt.Println(err)
	// Output: shell-loop.trace:3: touch: access "q" is none of r, w, x
}
