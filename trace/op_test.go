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
	lowest := OpFork // a mark has tests of its own
	if first {
		lowest = OpBoot
	}
	digits := rapid.StringMatching(`[0-9a-f]{0,80}`)
	op := Op{
		Time:   rapid.OneOf(rapid.Just(uint64(0)), number).Draw(t, "time"),
		PID:    rapid.OneOf(rapid.IntRange(1, 5), rapid.IntRange(1, MaxPID)).Draw(t, "pid"),
		Kind:   Kind(rapid.IntRange(int(lowest), int(OpNote)).Draw(t, "kind")),
		Path:   text.Draw(t, "path"),
		Offset: number.Draw(t, "offset"),
		Addr:   mem.VirtAddr(number.Draw(t, "addr")),
		Len:    number.Draw(t, "len"),
		Prot:   mem.Prot(rapid.IntRange(0, 7).Draw(t, "prot")),
		Flags:  MapFlags(rapid.IntRange(0, int(mapFlags)).Draw(t, "flags")),
		Access: mem.Access(rapid.IntRange(0, 2).Draw(t, "access")),
		Value:  rapid.Byte().Draw(t, "value"),
		Status: rapid.IntRange(0, 255).Draw(t, "status"),
		Name:   text.Draw(t, "name"),
		NewLen: number.Draw(t, "new length"),
		Remap:  RemapFlags(rapid.IntRange(0, int(remapFlags)).Draw(t, "remap")),
		To:     mem.VirtAddr(number.Draw(t, "to")),
		Advice: Advice(rapid.OneOf(rapid.IntRange(0, 30), rapid.IntRange(0, MaxPID)).Draw(t, "advice")),
		Bits:   number.Draw(t, "bits"),
		IP:     mem.VirtAddr(number.Draw(t, "ip")),
		Signal: rapid.IntRange(0, 64).Draw(t, "signal"),
		MinFlt: number.Draw(t, "minflt"),
		MajFlt: number.Draw(t, "majflt"),
		Count:  number.Draw(t, "count"),
		Point:  Point(rapid.IntRange(1, int(PointExit)).Draw(t, "point")),
		Set:    &PresentSet{},
		File: &FileInfo{FileKind(rapid.IntRange(0, 3).Draw(t, "file kind")), number.Draw(t, "size") >> 1,
			rapid.Int64().Draw(t, "mtime"), number.Draw(t, "dev"), number.Draw(t, "ino"), digits.Draw(t, "build id")},
	}
	if rapid.Bool().Draw(t, "code known") {
		op.Code = CodeKnown | ErrorCode(rapid.IntRange(0, int(maxCode)).Draw(t, "code"))
	}
	if tid := rapid.IntRange(0, 3).Draw(t, "tid"); tid != op.PID {
		op.TID = tid
	}
	if rapid.Bool().Draw(t, "start") {
		op.Start = &Start{Base: mem.VirtAddr(number.Draw(t, "base")), SP: op.IP, Brk: op.To,
			Args: rapid.SliceOfN(text, 0, 3).Draw(t, "args")}
		if len(op.Start.Args) == 0 {
			op.Start.Args = nil
		}
		if rapid.Bool().Draw(t, "interp") {
			op.Start.Interp, op.Start.InterpBase = text.Draw(t, "interp path"), mem.VirtAddr(number.Draw(t, "ibase"))
		}
	}
	at := mem.VirtAddr(0)
	for range rapid.IntRange(0, 3).Draw(t, "runs") {
		at += mem.VirtAddr(rapid.IntRange(0, 1<<40).Draw(t, "gap")) * mem.PageSize
		r := Run{mem.Range{Start: at, End: at + mem.PageSize}, PageKind(rapid.IntRange(0, 2).Draw(t, "page kind"))}
		op.Set.Runs, at = append(op.Set.Runs, r), r.End
	}
	switch op.Kind {
	case OpMark, OpNote:
	case OpExec, OpFile, OpShmat:
	case OpArea:
		op.Flags &= MapShared
		op.Addr, op.Len = op.Addr>>1, op.Len>>1
		op.Name = rapid.SampledFrom([]string{"", "[stack]", "[anon: a b]"}).Draw(t, "area")
		if op.Name != "" {
			op.Path = ""
		}
	case OpBoot:
		op.PID, op.TID = 1, 0
		fallthrough
	default:
		if rapid.Bool().Draw(t, "no path") {
			op.Path = ""
		}
	}
	if op.Kind != OpArea && op.Kind != OpPresent {
		op.Point = 0
	}
	op = op.used()
	answers := op.Kind != OpMark && op.Kind != OpBoot && op.Kind != OpExit && op.Kind < OpFile
	forks := op.Kind == OpFork || op.Kind == OpVfork || op.Kind == OpThread
	if forks || answers && rapid.Bool().Draw(t, "has answer") {
		op.Want = anyAnswer(t, op.Kind, mem.VirtAddr(number.Draw(t, "answer")))
	}
	return op
}

func anyAnswer(t *rapid.T, k Kind, addr mem.VirtAddr) *Answer {
	e := syscall.Errno(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, maxErrno)).Draw(t, "errno"))
	switch k {
	case OpFork, OpVfork, OpThread:
		return &Answer{PID: rapid.IntRange(2, MaxPID).Draw(t, "child")}
	case OpMmap, OpMremap, OpShmat, OpBrk:
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
	return &Answer{Errno: e}
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
		{Op{PID: 1, Kind: OpMmap, Flags: 1 << 12}, "mmap: flags 0x1000 have unknown bits"},
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
