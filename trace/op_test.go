package trace

import (
	"math"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"vmsim/mem"
)

// anyOp draws an operation that has a text form.
func anyOp(t *rapid.T, first bool) Op {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"=", "anon", "../elf/static-pie", "/usr/bin/g++", "a b", "#", "\"", `\`, "\xff\xfe", "\u00a0", "test", "0x10", "+", "\r", "\t",
	})).Filter(func(s string) bool { return s != "" && len(s) <= maxPath && strings.IndexByte(s, 0) < 0 })
	number := rapid.OneOf(rapid.Uint64(), rapid.SampledFrom([]uint64{0, 1, 0x51cbf0, math.MaxUint64}))
	kinds := []Kind{OpMark, OpFork, OpExec, OpExit, OpMmap, OpMunmap, OpMprotect, OpBrk, OpTouch}
	if first {
		kinds = append(kinds, OpBoot)
	}
	op := Op{
		PID:    rapid.OneOf(rapid.IntRange(1, 5), rapid.IntRange(1, MaxPID)).Draw(t, "pid"),
		Kind:   rapid.SampledFrom(kinds).Draw(t, "kind"),
		Path:   text.Draw(t, "path"),
		Offset: number.Draw(t, "offset"),
		Addr:   mem.VirtAddr(number.Draw(t, "addr")),
		Len:    number.Draw(t, "len"),
		Prot:   mem.Prot(rapid.IntRange(0, 7).Draw(t, "prot")),
		Flags:  MapFlags(rapid.IntRange(0, 7).Draw(t, "flags")),
		Access: mem.Access(rapid.IntRange(0, 2).Draw(t, "access")),
		Value:  rapid.Byte().Draw(t, "value"),
		Status: rapid.IntRange(0, 255).Draw(t, "status"),
		Name:   text.Draw(t, "name"),
	}
	if op.Kind != OpExec && rapid.Bool().Draw(t, "no path") {
		op.Path = ""
	}
	if op.Kind == OpBoot {
		op.PID = 1
	}
	op = op.used()
	if op.Kind == OpFork || rapid.Bool().Draw(t, "has answer") {
		op.Want = anyAnswer(t, op.Kind, mem.VirtAddr(number.Draw(t, "answer")))
	}
	return op
}

func anyAnswer(t *rapid.T, k Kind, addr mem.VirtAddr) *Answer {
	e := syscall.Errno(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, maxErrno)).Draw(t, "errno"))
	switch k {
	case OpFork:
		return &Answer{PID: rapid.IntRange(2, MaxPID).Draw(t, "child")}
	case OpExec, OpMunmap, OpMprotect:
		return &Answer{Errno: e}
	case OpMmap, OpBrk:
		if e != 0 {
			return &Answer{Errno: e}
		}
		return &Answer{Addr: addr}
	case OpTouch:
		a := &Answer{Fault: rapid.SampledFrom(append([]Fault{""}, faults...)).Draw(t, "fault")}
		if a.Fault == "" || !a.Fault.Fatal() && rapid.Bool().Draw(t, "has byte") {
			a.HasByte, a.Byte = true, rapid.Byte().Draw(t, "byte")
		}
		return a
	}
	return nil
}

// noLines returns ops without their line numbers.
func noLines(ops []Op) []Op {
	for i := range ops {
		ops[i].Line = 0
	}
	return ops
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ops := make([]Op, rapid.IntRange(1, 6).Draw(t, "ops"))
		for i := range ops {
			ops[i] = anyOp(t, i == 0)
		}
		text, err := Format(ops)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse("rapid", strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		for i := range got {
			if got[i].Line != i+2 {
				t.Errorf("operation %d has line %d", i, got[i].Line)
			}
		}
		if d := cmp.Diff(ops, noLines(got)); d != "" {
			t.Fatalf("-written +read\n%sin\n%s", d, text)
		}
	})
}

func TestCheck(t *testing.T) {
	pid := func(n int) *Answer { return &Answer{PID: n} }
	for _, c := range []struct {
		op   Op
		want string // "" is fine
	}{
		{Op{PID: 1, Kind: OpTouch}, ""},
		{Op{PID: 1, Kind: OpBoot}, ""},
		{Op{PID: 1, Kind: OpMunmap, Addr: math.MaxUint64, Len: math.MaxUint64}, ""},
		{Op{}, "operation Kind(0) does not exist"},
		{Op{PID: 1, Kind: 99}, "operation Kind(99) does not exist"},
		{Op{Kind: OpExit}, "exit: process 0 is not in 1 to 2147483647"},
		{Op{PID: MaxPID + 1, Kind: OpExit}, "exit: process 2147483648 is not in 1 to 2147483647"},
		{Op{PID: 1, Kind: OpExit, Line: -1}, "exit: line -1 is negative"},
		{Op{PID: 2, Kind: OpBoot}, "boot: process 2: init is process 1"},
		{Op{PID: 1, Kind: OpExit, Status: 256}, "exit: status 256 is not in 0 to 255"},
		{Op{PID: 1, Kind: OpExit, Addr: 1}, "exit: a field is set that this operation does not use"},
		{Op{PID: 1, Kind: OpTouch, Access: 3}, "touch: access 3 is none of read, write, exec"},
		{Op{PID: 1, Kind: OpTouch, Value: 1}, "touch: a field is set that this operation does not use"},
		{Op{PID: 1, Kind: OpTouch, Path: "x", Addr: 1}, "touch: a field is set that this operation does not use"},
		{Op{PID: 1, Kind: OpMmap, Offset: 1}, "mmap: a field is set that this operation does not use"},
		{Op{PID: 1, Kind: OpMmap, Prot: 8}, "mmap: protection 0x8 has unknown bits"},
		{Op{PID: 1, Kind: OpMmap, Flags: 8}, "mmap: flags 0x8 have unknown bits"},
		{Op{PID: 1, Kind: OpExec}, "exec: the file is missing"},
		{Op{PID: 1, Kind: OpExec, Path: "a\x00"}, `exec: path "a\x00" holds a NUL byte`},
		{Op{PID: 1, Kind: OpExec, Path: strings.Repeat("a", 4096)}, `exec: "` + strings.Repeat("a", 60) + `..." is longer than 4095 bytes`},
		{Op{Kind: OpMark}, "test: the name is missing"},
		{Op{PID: 1, Kind: OpMark, Name: "a"}, "test: a field is set that this operation does not use"},
		{Op{PID: 1, Kind: OpFork}, "fork: the child is missing: write = CHILD"},
		{Op{PID: 1, Kind: OpFork, Want: pid(2)}, ""},
		{Op{PID: 1, Kind: OpFork, Want: pid(1)}, "fork: child 1 is not in 2 to 2147483647"},
		{Op{PID: 1, Kind: OpExit, Want: pid(1)}, "exit: takes no answer"},
		{Op{PID: 1, Kind: OpBrk, Want: pid(1)}, "brk: a field of the answer is set that this operation does not use"},
		{Op{PID: 1, Kind: OpBrk, Want: &Answer{Addr: 1, Errno: 1}}, "brk: a field of the answer is set that this operation does not use"},
		{Op{PID: 1, Kind: OpBrk, Want: &Answer{Errno: 4096}}, "brk: answer E4096: error numbers end at 4095"},
		{Op{PID: 1, Kind: OpTouch, Want: &Answer{}}, "touch: the answer is empty"},
		{Op{PID: 1, Kind: OpTouch, Want: &Answer{Fault: "x"}}, `touch: answer "x" is none of none, minor, major, cow, SEGV_MAPERR, SEGV_ACCERR, SIGBUS, OOM`},
		{Op{PID: 1, Kind: OpTouch, Want: &Answer{Fault: OOM, HasByte: true}}, "touch: answer OOM 0x00: after OOM there is no byte"},
		{Op{PID: 1, Kind: OpTouch, Want: &Answer{Fault: FaultCoW, Byte: 1}}, "touch: a field of the answer is set that this operation does not use"},
	} {
		got := ""
		if err := c.op.Check(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: got %q, want %q", c.op, got, c.want)
		}
		if _, err := Format([]Op{c.op}); (err == nil) != (c.want == "") {
			t.Errorf("%v: Format and Check differ: %v", c.op, err)
		}
	}
}

func TestErrnoNames(t *testing.T) {
	for e := syscall.Errno(1); e <= maxErrno; e++ {
		if got, ok := parseErrno(errnoName(e)); !ok || got != e {
			t.Errorf("%d: %s is read as %d, %v", e, errnoName(e), got, ok)
		}
	}
	for _, s := range []string{"", "E", "E0", "E02", "E4096", "E99999999", "e2big", "ENONSENSE", "E+1", "2"} {
		if e, ok := parseErrno(s); ok {
			t.Errorf("%q is read as %d", s, e)
		}
	}
}
