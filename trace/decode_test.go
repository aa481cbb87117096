package trace

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"vmsim/mem"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		line      string
		want      Op     // without its line number, 2
		canonical string // "" where it is the line itself
	}{
		{"1 boot", Op{PID: 1, Kind: OpBoot}, ""},
		{"1 boot ../elf/kevlar-layout", Op{PID: 1, Kind: OpBoot, Path: "../elf/kevlar-layout"}, ""},
		{`test "a fork"`, Op{Kind: OpMark, Name: "a fork"}, ""},
		{`test fork`, Op{Kind: OpMark, Name: "fork"}, `test "fork"`},
		{"1 fork = 2", Op{PID: 1, Kind: OpFork, Want: &Answer{PID: 2}}, ""},
		{"0x1\tfork  =  0x2  # a child", Op{PID: 1, Kind: OpFork, Want: &Answer{PID: 2}}, "1 fork = 2"},
		{"2 exec x#y", Op{PID: 2, Kind: OpExec, Path: "x"}, "2 exec x"},
		{`2 exec "a b" = ENOENT`, Op{PID: 2, Kind: OpExec, Path: "a b", Want: &Answer{Errno: syscall.ENOENT}}, ""},
		{`2 exec "=" = 0`, Op{PID: 2, Kind: OpExec, Path: "=", Want: &Answer{}}, ""},
		{`2 exec "x" = E2`, Op{PID: 2, Kind: OpExec, Path: "x", Want: &Answer{Errno: syscall.ENOENT}}, "2 exec x = ENOENT"},
		{"2 exit", Op{PID: 2, Kind: OpExit}, ""},
		{"2 exit 0", Op{PID: 2, Kind: OpExit}, "2 exit"},
		{"2 exit 255", Op{PID: 2, Kind: OpExit, Status: 255}, ""},
		{"2 touch r 0x51c000 = minor 0xc0", Op{PID: 2, Kind: OpTouch, Addr: 0x51c000,
			Want: &Answer{Fault: FaultMinor, HasByte: true, Byte: 0xc0}}, ""},
		{"2 touch r 0x51c000 = 0x0", Op{PID: 2, Kind: OpTouch, Addr: 0x51c000, Want: &Answer{HasByte: true}}, "2 touch r 0x51c000 = 0x00"},
		{"2 touch w 0 = SEGV_MAPERR", Op{PID: 2, Kind: OpTouch, Access: mem.Write, Value: 1, Want: &Answer{Fault: SegvMapErr}}, ""},
		{"2 touch w 8 65", Op{PID: 2, Kind: OpTouch, Access: mem.Write, Addr: 8, Value: 0x41}, "2 touch w 0x8 0x41"},
		{"2 touch w 8 0x01", Op{PID: 2, Kind: OpTouch, Access: mem.Write, Addr: 8, Value: 1}, "2 touch w 0x8"},
		{"2 touch x /usr/bin/g+++0x1000", Op{PID: 2, Kind: OpTouch, Access: mem.Exec, Path: "/usr/bin/g++", Offset: 0x1000}, ""},
		{`2 touch w "a b"+0x0 = none`, Op{}, ""},
		{`2 touch w "a b+0x0" 0x02 = none`, Op{PID: 2, Kind: OpTouch, Access: mem.Write, Path: "a b", Value: 2, Want: &Answer{Fault: FaultNone}}, ""},
		{"2 mmap 0 0x3000 rw- private anon = 0x7ffff7ffc000", Op{PID: 2, Kind: OpMmap, Len: 0x3000,
			Prot: mem.ProtRead | mem.ProtWrite, Want: &Answer{Addr: 0x7ffff7ffc000}}, ""},
		{"2 mmap 4096 1 --- shared,noreplace,fixed x+16 = EEXIST", Op{PID: 2, Kind: OpMmap, Addr: 0x1000, Len: 1, Path: "x", Offset: 16,
			Flags: MapShared | MapFixed | MapNoReplace, Want: &Answer{Errno: syscall.EEXIST}}, "2 mmap 0x1000 0x1 --- shared,fixed,noreplace x+0x10 = EEXIST"},
		{"2 munmap 0 0xffffffffffffffff = EINVAL", Op{PID: 2, Kind: OpMunmap, Len: 1<<64 - 1, Want: &Answer{Errno: syscall.EINVAL}}, ""},
		{"2 mprotect 0x1000 0x1000 r-x = 0", Op{PID: 2, Kind: OpMprotect, Addr: 0x1000, Len: 0x1000, Prot: mem.ProtRead | mem.ProtExec, Want: &Answer{}}, ""},
		{"2 brk 0 = 0x532000", Op{PID: 2, Kind: OpBrk, Want: &Answer{Addr: 0x532000}}, ""},
	} {
		ops, err := Parse("t", strings.NewReader("vmsim-trace 1\n"+c.line+"\r\n"))
		if c.want == (Op{}) {
			if err == nil {
				t.Errorf("%s: got %v, want an error", c.line, ops)
			}
			continue
		}
		c.want.Line = 2
		if err != nil {
			t.Errorf("%s: %v", c.line, err)
			continue
		}
		if d := cmp.Diff([]Op{c.want}, ops); d != "" {
			t.Errorf("%s: -want +got\n%s", c.line, d)
			continue
		}
		if c.canonical == "" {
			c.canonical = c.line
		}
		if got := ops[0].String(); got != c.canonical {
			t.Errorf("%s: written as %s, want %s", c.line, got, c.canonical)
		}
	}
}

func TestSyntaxErrors(t *testing.T) {
	long := strings.Repeat("a", 100)
	for _, c := range []struct{ line, want string }{
		{"fork", `"fork": the process that does it is missing in front`},
		{"frok", `"frok" is neither a process, 1 to 2147483647, nor one of test, file, lost`},
		{"0 fork = 2", `"0" is neither a process, 1 to 2147483647, nor one of test, file, lost`},
		{"-1 fork = 2", `"-1" is neither a process, 1 to 2147483647, nor one of test, file, lost`},
		{"2147483648 fork = 2", `"2147483648" is neither a process, 1 to 2147483647, nor one of test, file, lost`},
		{long, `"` + long[:60] + `..." is neither a process, 1 to 2147483647, nor one of test, file, lost`},
		{"= 2", `"=" is neither a process, 1 to 2147483647, nor one of test, file, lost`},
		{"1", "process 1 does nothing: the operation is missing"},
		{"1 frok = 2", `operation "frok" is none of boot, fork, vfork, thread, exec, exit, mmap, munmap, mprotect, mremap, madvise, mlock, munlock, mlockall, munlockall, shmat, shmdt, brk, touch, area, present, note`},
		{"1 test x", `operation "test" is none of boot, fork, vfork, thread, exec, exit, mmap, munmap, mprotect, mremap, madvise, mlock, munlock, mlockall, munlockall, shmat, shmdt, brk, touch, area, present, note`},
		{"2 boot", "boot: process 2: init is process 1"},
		{"1 boot = 0", "boot: takes no answer"},
		{`1 boot ""`, "boot: the name of the file is empty"},
		{"1 fork", "fork: the child is missing: write = CHILD"},
		{"1 fork =", "fork: nothing behind ="},
		{"1 fork = 1", "fork: child 1 is not in 2 to 2147483647"},
		{"1 fork = ENOMEM", `fork: child "ENOMEM" is not a number`},
		{"1 fork 2", `fork: "2" is one word too many`},
		{"1 fork = 2 3", `fork: "3" is one word too many`},
		{"1 fork = 2 = 3", `fork: "=" is one word too many`},
		{"1 exec", "exec: the file is missing"},
		{"1 exec x y", `exec: "y" is one word too many`},
		{"1 exec x = 1", "exec: the answer is neither 0 nor an error as in ENOMEM"},
		{"1 exec x = ENONSENSE", `exec: answer "ENONSENSE" is no error known here`},
		{"1 exit 256", `exit: status "256" is larger than 255`},
		{"1 exit = 0", "exit: takes no answer"},
		{"1 touch", "touch: the access is missing"},
		{"1 touch q 0", `touch: access "q" is none of r, w, x`},
		{"1 touch r", "touch: the address is missing"},
		{"1 touch r zz", `touch: address "zz" is not a number`},
		{"1 touch r 010", `touch: address "010" has a leading zero: decimal numbers have none, hex ones start with 0x`},
		{"1 touch r 0X10", `touch: address "0X10" has a leading zero: decimal numbers have none, hex ones start with 0x`},
		{"1 touch r 1_0", `touch: address "1_0" is not a number`},
		{"1 touch r 0x", `touch: address "0x" is not a number`},
		{"1 touch r 0x10000000000000000", `touch: address "0x10000000000000000" is larger than 0xffffffffffffffff`},
		{"1 touch r 0 1", `touch: "1" is one word too many`},
		{"1 touch w 0 256", `touch: value "256" is larger than 255`},
		{"1 touch r +0x0", `touch: the file is missing in front of "+0x0"`},
		{"1 touch r x+y", `touch: "x+y": offset "y" is not a number`},
		{"1 touch r 0 = ", "touch: nothing behind ="},
		{"1 touch r 0 = 256", `touch: byte "256" is larger than 255`},
		{"1 touch r 0 = maybe", `touch: answer "maybe" is neither a byte nor one of none, minor, major, cow, SEGV_MAPERR, SEGV_ACCERR, SIGBUS, OOM`},
		{"1 touch r 0 = 0x41 cow", `touch: "cow" is one word too many`},
		{"1 touch r 0 = cow none", `touch: byte "none" is not a number`},
		{"1 touch r 0 = SIGBUS 0x00", "touch: answer SIGBUS 0x00: after SIGBUS there is no byte"},
		{"1 mmap 0 1", "mmap: the protection is missing"},
		{"1 mmap 0 1 rw private anon", `mmap: protection "rw" is not of the form rwx, r--, ---`},
		{"1 mmap 0 1 rw- fixed anon", `mmap: flags "fixed" start with neither private nor shared`},
		{"1 mmap 0 1 rw- private,fixd anon", `mmap: flag "fixd" is none of fixed, noreplace, populate, locked, noreserve, stack, growsdown, hugetlb, 32bit, nonblock, sync, or comes twice`},
		{"1 mmap 0 1 rw- private,fixed,fixed anon", `mmap: flag "fixed" is none of fixed, noreplace, populate, locked, noreserve, stack, growsdown, hugetlb, 32bit, nonblock, sync, or comes twice`},
		{"1 mmap 0 1 rw- private", "mmap: the source, anon or FILE+OFFSET, is missing"},
		{"1 mmap 0 1 rw- private x", `mmap: source "x" is neither anon nor FILE+OFFSET`},
		{"1 munmap 0", "munmap: the length is missing"},
		{"1 brk", "brk: the address is missing"},
		{"1 brk 0 = x", `brk: answer "x" is not a number`},
		{"2/0 exit", `"2/0": the thread is 0, or the first, which is not written`},
		{"2/2 exit", `"2/2": the thread is 0, or the first, which is not written`},
		{"@x 1 exit", `time "x" is not a number`},
		{"@5", "nothing behind the time"},
		{"@5 fork", `"fork": the process that does it is missing in front`},
		{"1 exit signal=65", `exit: signal "65" is larger than 64`},
		{"1 exit signal=1 signal=2", "exit: signal= comes twice"},
		{"1 exit ip=1", `exit: "ip=" is no field of exit`},
		{"1 exec x brk=y", `exec: brk "y" is not a number`},
		{"1 exec x ibase=0x1000", "exec: base 0x1000 of an interpreter without a name"},
		{`1 exec x "arg=\x00"`, `exec: argument "\x00" holds a NUL byte`},
		{"1 mremap 0 1 2 fixed,maymove", `mremap: flags "fixed,maymove" are neither stay nor maymove, fixed, dontunmap in this order`},
		{"1 madvise 0 1 wont", `madvise: advice "wont" is neither a known word nor a number`},
		{"1 touch r 0 err=0x8000", `touch: err "0x8000" is larger than 32767`},
		{"1 area boot 0x1000-0x2000 r-- private anon", `area: point "boot" is none of fork, exec, execve, exit`},
		{"1 area exec 0x2000-0x1000 r-- private anon", `area: "0x2000-0x1000" ends before it starts`},
		{"1 area exec 0x1000-0x2000 r-- private,fixed anon", "area: flags 0x2 have unknown bits"},
		{"1 present exec file:0x1000", `present: "0x1000" is not of the form START-END`},
		{"1 present exec huge:0x1000-0x2000", `present: run "huge:0x1000-0x2000" does not start with one of file, zero, own and a colon`},
		{"1 present exec file:0x2000-0x3000 own:0x1000-0x2000", "present: run [0x1000, 0x2000) is empty, not of whole pages, or not above the one before"},
		{"file x kind=odd", `file: kind "odd" is none of regular, memory, shared, device`},
		{"file x build=XY", `file: build id "XY" is longer than 80 digits or no hex number`},
		{"lost", "lost: the count is missing"},
		{"1 lost 5", `operation "lost" is none of boot, fork, vfork, thread, exec, exit, mmap, munmap, mprotect, mremap, madvise, mlock, munlock, mlockall, munlockall, shmat, shmdt, brk, touch, area, present, note`},
		{"header lost 5", "header: it belongs in front of the first operation"},
		{"test", "test: the name is missing"},
		{"test a b", `test: "b" is one word too many`},
		{"test a = 0", "test: takes no answer"},
		{`test "a`, `"\"a": the quotes are not closed, or hold a wrong escape`},
		{`test "\q"`, `"\"\\q\"": the quotes are not closed, or hold a wrong escape`},
		{`test "a"b`, `a space is missing behind the quoted word "a"`},
		{`test a"b"`, `word "a\"b\"" holds a character that needs double quotes around the word`},
		{"test a\x01", `word "a\x01" holds a character that needs double quotes around the word`},
		{"test \xff", `word "\xff" holds a character that needs double quotes around the word`},
	} {
		_, err := Parse("x.trace", strings.NewReader("# a comment\n\nvmsim-trace 1\n1 exec a\n\n"+c.line+"\n"))
		var s *SyntaxError
		if !errors.As(err, &s) || s.File != "x.trace" || s.Line != 6 || s.Msg != c.want {
			t.Errorf("%s\n got %v\nwant x.trace:6: %s", c.line, err, c.want)
		}
	}
}

func TestHeaderErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", `x.trace:1: the line "vmsim-trace 1" is missing`},
		{"# nothing\n", `x.trace:2: the line "vmsim-trace 1" is missing`},
		{"1 fork = 2\n", `x.trace:1: "1": the first line must be "vmsim-trace 1"`},
		{"vmsim-trace\n", `x.trace:1: the first line must be "vmsim-trace 1"`},
		{"vmsim-trace 1 2\n", `x.trace:1: the first line must be "vmsim-trace 1"`},
		{"\nvmsim-trace 2\n", `x.trace:2: version "2" of the format is unknown: this program reads 1`},
		{"\x7fELF\x02\x01\x01\x00\n", `x.trace:1: no trace: it begins neither with "vmsim-trace 1" nor as the binary form does`},
		{"vmsim-trace 1\nheader\n", "x.trace:2: header: a key and its value are wanted"},
		{"vmsim-trace 1\nheader lost many\n", `x.trace:2: header: lost: "many" is not a number`},
		{"vmsim-trace 1\nheader touches some\n", `x.trace:2: header: touches "some" is none of complete, faults, all, none`},
		{"vmsim-trace 1\nheader page_size 16384\n", "x.trace:2: header: pages of 16384 bytes: this program knows 4096 alone"},
		{"vmsim-trace 1\nheader host a\nheader host b\n", "x.trace:3: header: host comes twice"},
		{"vmsim-trace 1\nheader whole no\n", "x.trace:2: header: whole is not yes"},
		{"vmsim-trace 1\nheader colour red\n", `x.trace:2: header: key "colour" is none of source, tool, command, host, kernel, arch, page_size, clock, began, touches, missing, lost, whole`},
		{"vmsim-trace 1\n1 fork = 2\n1 boot\n", "x.trace:3: boot: only the first operation can be one"},
		{"vmsim-trace 1\n1 boot\n1 boot", "x.trace:3: boot: only the first operation can be one"},
	} {
		if _, err := Parse("x.trace", strings.NewReader(c.text)); err == nil || err.Error() != c.want {
			t.Errorf("%q: got %v, want %s", c.text, err, c.want)
		}
	}
}

func TestLineLength(t *testing.T) {
	pad := func(n int) string { return "1 exit" + strings.Repeat(" ", n-len("1 exit")) }
	for _, end := range []string{"", "\n"} {
		if ops, err := Parse("t", strings.NewReader("vmsim-trace 1\n"+pad(MaxLine)+end)); err != nil || len(ops) != 1 {
			t.Errorf("%d bytes: %v, %v", MaxLine, ops, err)
		}
		_, err := Parse("t", strings.NewReader("vmsim-trace 1\n"+pad(MaxLine+1)+end))
		if err == nil || err.Error() != "t:2: the line is longer than 262144 bytes" {
			t.Errorf("%d bytes: %v", MaxLine+1, err)
		}
	}
}

func TestDecoderStreams(t *testing.T) {
	d := NewDecoder("t", iotest.OneByteReader(strings.NewReader("vmsim-trace 1\n1 fork = 2\n2 oops\n2 exit\n")))
	if op, err := d.Next(); err != nil || op.Kind != OpFork {
		t.Fatal(op, err)
	}
	_, first := d.Next()
	if op, err := d.Next(); first == nil || err != first || op != (Op{}) {
		t.Errorf("got %v, %v after %v: errors must stick", op, err, first)
	}
	for range d.All() {
		break // the error, and no panic for a consumer that leaves
	}

	d = NewDecoder("t", strings.NewReader("vmsim-trace 1\n1 exit"))
	if _, err := d.Next(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := d.Next(); err != io.EOF {
			t.Errorf("got %v at the end, want EOF", err)
		}
	}

	broken := errors.New("disk on fire")
	_, err := Parse("t", io.MultiReader(strings.NewReader("vmsim-trace 1\n1 exit\n"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || err.Error() != "t: disk on fire" {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"shell-loop.trace", "fork-cow.trace"} {
		b, err := os.ReadFile(tracesDir + "/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("vmsim-trace 1\n1 mmap 0 1 --- shared,fixed \"a b+0x0\" = E133\n2 touch w x+0 = cow 1\n"))
	f.Add([]byte("vmsim-trace 1\ntest \"\\xff\\u00a0=\"\n1 exec \"=\" = ENOENT # end"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ops, err := Parse("fuzz", bytes.NewReader(b))
		if err != nil {
			var s *SyntaxError
			if ops != nil || !errors.As(err, &s) || s.Line < 1 || strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Fatalf("%v with %d operations", err, len(ops))
			}
			if len(err.Error()) > 1000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		text, err := Format(ops)
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := Parse("fuzz", strings.NewReader(text))
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if d := cmp.Diff(noLines(ops), noLines(again)); d != "" {
			t.Fatalf("-read +read again\n%s", d)
		}
		if text2, err := Format(again); err != nil || text2 != text {
			t.Fatalf("not canonical: %v\n%s\n%s", err, text, text2)
		}
	})
}
