package soundness

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/trace"
)

// prelude starts process 2: a program of four read-only and two writable pages, and
// two pages more of a file that has one and a half.
const prelude = `
file a size=24576
file short size=6000
1 fork = 2
2 exec a base=0x400000 brk=0x500000 = 0
2 area exec 0x400000-0x404000 r-x private a+0x0
2 area exec 0x404000-0x406000 rw- private a+0x4000
2 area exec 0x7ffff7fc0000-0x7ffff7fc2000 r-x private [vdso]
2 area exec 0x7ffffffde000-0x7ffffffff000 rw- private [stack]
2 area exec 0xffffffffff600000-0xffffffffff601000 --x private [vsyscall]
2 present exec own:0x7fffffffe000-0x7ffffffff000
`

// check checks a trace and writes what it found, a line each.
func check(t *testing.T, header, body string, opt Options) (Report, string) {
	t.Helper()
	var b strings.Builder
	opt.Each = func(c Comparison) {
		if c.Skipped != "" {
			fmt.Fprintf(&b, "%d %v: skipped: %s\n", c.PID, c.Point, c.Skipped)
		}
		for _, d := range c.List {
			fmt.Fprintf(&b, "%d %v: %v\n", c.PID, c.Point, d)
		}
	}
	d := trace.NewDecoder("test", strings.NewReader(trace.Magic+"\n"+header+body))
	h, err := d.Header()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Check(h, d.Next, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.List {
		p.Line = 0
		fmt.Fprintln(&b, p)
	}
	return r, b.String()
}

const (
	completeHeader = "header source test\nheader touches complete\nheader whole yes\n"
	faultsHeader   = "header source test\nheader touches faults\nheader whole yes\n"
	sp             = "own:0x7fffffffe000-0x7ffffffff000"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		header string // "": completeHeader
		strict bool
		body   string
		want   string
		ok     bool
	}{
		{name: "kinds", ok: true, body: `
2 touch r 0x400fff
2 touch x 0x402000
2 touch r 0x404000
2 touch w 0x404123
2 touch r 0x405000
2 mmap 0 0x3000 rw- private anon = 0x10000
2 touch r 0x10000
2 touch w 0x11000
2 touch r 0x12000
2 touch w 0x12000
2 mmap 0 0x2000 rw- shared anon = 0x20000
2 touch r 0x20000
2 touch w 0x21000
2 present exit zero:0x10000-0x11000 own:0x11000-0x13000 file:0x20000-0x22000 file:0x400000-0x401000 file:0x402000-0x403000 own:0x404000-0x405000 file:0x405000-0x406000 ` + sp + `
2 exit
`},
		{name: "refused touches add nothing", ok: true, body: `
2 touch w 0x400000
2 touch r 0x300000
2 touch r 0x401000 = SEGV_ACCERR
2 mmap 0 0x2000 --- private anon = 0x10000
2 touch r 0x10000
2 present exit ` + sp + `
2 exit
`},
		{name: "a fetch from data brings the page in", ok: true, body: `
2 touch x 0x404000
2 present exit file:0x404000-0x405000 ` + sp + `
2 exit
`},
		{name: "a touch is missing in text", body: `
2 touch r 0x400000
2 present exit file:0x400000-0x402000 ` + sp + `
2 exit
`, want: "2 exit: [0x401000, 0x402000): absent, recorded file (r-xp 0x1000 a)\n"},
		{name: "a page is missing, another is of another kind", body: `
2 touch r 0x400000
2 touch w 0x404000
2 present exit file:0x404000-0x405000 ` + sp + `
2 exit
`, want: "2 exit: [0x400000, 0x401000): file, recorded absent (r-xp 0x0 a)\n" +
			"2 exit: [0x404000, 0x405000): own, recorded file (rw-p 0x4000 a)\n"},
		{name: "futex or O_DIRECT", ok: true, body: `
2 touch r 0x404000
2 present exit own:0x404000-0x405000 file:0x405000-0x406000 ` + sp + `
2 exit
`, want: "2 exit: [0x404000, 0x405000): file, recorded own (rw-p 0x4000 a): kernel without an exception\n" +
			"2 exit: [0x405000, 0x406000): absent, recorded file (rw-p 0x5000 a): kernel without an exception\n"},
		{name: "strict", strict: true, body: `
2 present exit own:0x404000-0x405000 ` + sp + `
2 exit
`, want: "2 exit: [0x404000, 0x405000): absent, recorded own (rw-p 0x4000 a)\n"},
		{name: "too many for the kernel", body: `
2 present exit own:0x7ffffffed000-0x7ffffffff000
2 exit
`, want: "2 exit: [0x7ffffffed000, 0x7fffffffe000): absent, recorded own (rw-p anonymous)\n"},
		{name: "a kind that the area cannot have", body: `
2 mmap 0 0x1000 rw- shared anon = 0x20000
2 present exit own:0x20000-0x21000 zero:0x405000-0x406000 ` + sp + `
2 exit
`, want: "2 exit: [0x20000, 0x21000): absent, recorded own (rw-s 0x0 shared anonymous)\n" +
			"2 exit: [0x405000, 0x406000): absent, recorded zero (rw-p 0x5000 a)\n"},
		{name: "vdso", ok: true, body: `
2 touch x 0x7ffff7fc0000
2 present exit file:0x7ffff7fc0000-0x7ffff7fc1000 ` + sp + `
2 exit
`, want: "2 exit: [0x7ffff7fc0000, 0x7ffff7fc1000): absent, recorded file (r-xp [vdso]): vdso and vvar\n"},
		{name: "the last fault before a signal", ok: true, body: `
2 touch r 0x400000
2 touch r 0x403000
2 present exit file:0x400000-0x401000 ` + sp + `
2 exit signal=9
`, want: "2 exit: [0x403000, 0x404000): file, recorded absent (r-xp 0x3000 a): fatal signal\n"},
		{name: "no signal, no excuse", body: `
2 touch r 0x403000
2 present exit ` + sp + `
2 exit
`, want: "2 exit: [0x403000, 0x404000): file, recorded absent (r-xp 0x3000 a)\n"},
		{name: "not the last fault", body: `
2 touch r 0x402000
2 touch r 0x403000
2 present exit ` + sp + `
2 exit signal=9
`, want: "2 exit: [0x402000, 0x403000): file, recorded absent (r-xp 0x2000 a)\n" +
			"2 exit: [0x403000, 0x404000): file, recorded absent (r-xp 0x3000 a): fatal signal\n"},
		{name: "the look comes behind the exit", ok: true, body: `
2 touch r 0x403000
2 exit signal=9
2 present exit ` + sp + `
`, want: "2 exit: [0x403000, 0x404000): file, recorded absent (r-xp 0x3000 a): fatal signal\n"},
		{name: "fault-around", header: faultsHeader, ok: true, body: `
2 touch r 0x400000
2 present exit file:0x400000-0x403000 ` + sp + `
2 exit
`, want: "2 exit: [0x401000, 0x403000): absent, recorded file (r-xp 0x1000 a): fault-around\n"},
		{name: "too far for fault-around", header: faultsHeader, body: `
file big size=40000000
2 mmap 0x800000 0x800000 r-- private,fixed big+0x0 = 0x800000
2 touch r 0x800000
2 present exit file:0x800000-0x1000000 ` + sp + `
2 exit
`, want: "2 exit: [0x801000, 0xc00000): absent, recorded file (r--p 0x1000 big): fault-around\n" +
			"2 exit: [0xc00000, 0x1000000): absent, recorded file (r--p 0x400000 big)\n"},
		{name: "what the header says is missing", ok: true, strict: true, header: completeHeader +
			"header missing \"error codes of faults: needs root\"\nheader missing \"faults taken by the kernel: needs root\"\n", body: `
2 touch r 0x400000
2 touch r 0x404000
2 present exit file:0x400000-0x402000 own:0x404000-0x405000 ` + sp + `
2 exit
`, want: "2 exit: [0x401000, 0x402000): absent, recorded file (r-xp 0x1000 a): not recorded, as the header says\n" +
			"2 exit: [0x404000, 0x405000): file, recorded own (rw-p 0x4000 a): not recorded, as the header says\n"},
		{name: "it does not say that pages go", header: completeHeader +
			"header missing \"error codes of faults: needs root\"\nheader missing \"faults taken by the kernel: needs root\"\n", body: `
2 touch r 0x400000
2 present exit ` + sp + `
2 exit
`, want: "2 exit: [0x400000, 0x401000): file, recorded absent (r-xp 0x0 a)\n"},
		{name: "a process that was not cut", ok: true, body: `
2 note "uncut: seccomp"
2 touch r 0x400000
2 present exit file:0x400000-0x403000 ` + sp + `
2 exit
`, want: "2 exit: [0x401000, 0x403000): absent, recorded file (r-xp 0x1000 a): fault-around\n"},
		{name: "beyond the end of the file", ok: true, body: `
2 mmap 0 0x3000 rw- private short+0x0 = 0x10000
2 touch r 0x11000
2 touch r 0x12000
2 present exit file:0x11000-0x12000 ` + sp + `
2 exit
`, want: "2 exit: [0x12000, 0x13000): file, recorded absent (rw-p 0x2000 short): beyond the end of the file\n"},
		{name: "freed", ok: true, body: `
2 mmap 0 0x2000 rw- private,populate anon = 0x10000
2 madvise 0x10000 0x1000 free = 0
2 present exit own:0x11000-0x12000 ` + sp + `
2 exit
`, want: "2 exit: [0x10000, 0x11000): own, recorded absent (rw-p anonymous): freed by the kernel\n"},
		{name: "the stack grows, to its limit", ok: true, body: `
2 touch w 0x7ffffffd0000
2 touch w 0x7ffffffcf000 = SEGV_MAPERR
2 touch r 0x7fffff7ff000
2 touch r 0x7fffff7fe000
2 area exit 0x400000-0x404000 r-x private a+0x0
2 area exit 0x404000-0x406000 rw- private a+0x4000
2 area exit 0x7ffff7fc0000-0x7ffff7fc2000 r-x private [vdso]
2 area exit 0x7fffff7ff000-0x7ffffffff000 rw- private [stack]
2 present exit zero:0x7fffff7ff000-0x7fffff800000 own:0x7ffffffd0000-0x7ffffffd1000 ` + sp + `
2 exit
`},
		{name: "areas", body: `
2 mmap 0 0x2000 rw- private anon = 0x10000
2 mprotect 0x11000 0x1000 r-- = 0
2 munmap 0x405000 0x1000 = 0
2 area exit 0x10000-0x12000 rw- private anon
2 area exit 0x400000-0x404000 r-x private a+0x0
2 area exit 0x404000-0x405000 rw- private a+0x0
2 area exit 0x7ffff7fc0000-0x7ffff7fc2000 r-x private [vdso]
2 area exit 0x7ffffffde000-0x7ffffffff000 rw- private [stack]
2 present exit ` + sp + `
2 exit
`, want: "2 exit: [0x11000, 0x12000): r--p anonymous, recorded rw-p anonymous\n" +
			"2 exit: [0x404000, 0x405000): rw-p 0x4000 a, recorded rw-p 0x0 a\n"},
		{name: "areas joined on both sides", ok: true, body: `
2 brk 0x501800 = 0x501800
2 mmap 0x502000 0x1000 rw- private,fixed anon = 0x502000
2 munmap 0x400000 0x6000 = 0
2 mmap 0x400000 0x1000 r-- private,fixed a+0x0 = 0x400000
2 mmap 0x401000 0x1000 r-- private,fixed a+0x1000 = 0x401000
2 area exit 0x400000-0x402000 r-- private a+0x0
2 area exit 0x500000-0x502000 rw- private [heap]
2 area exit 0x502000-0x503000 rw- private anon
2 area exit 0x7ffff7fc0000-0x7ffff7fc2000 r-x private [vdso]
2 area exit 0x7ffffffde000-0x7ffffffff000 rw- private [stack]
2 present exit ` + sp + `
2 exit
`},
		{name: "brk goes down", ok: true, body: `
2 brk 0x503000 = 0x503000
2 touch w 0x500000
2 touch w 0x502000
2 brk 0x501001 = 0x501001
2 present exit own:0x500000-0x501000 ` + sp + `
2 exit
`},
		{name: "a look in two, and an exec that fails", ok: true, body: `
2 touch r 0x400000
2 touch r 0x403000
@7 2 present execve file:0x400000-0x401000
@7 2 present execve file:0x403000-0x404000 ` + sp + `
@8 2 exec nothing = ENOENT
@9 2 touch r 0x401000
@9 2 present exit file:0x400000-0x402000 file:0x403000-0x404000 ` + sp + `
@9 2 exit
`},
		{name: "a fork", ok: true, body: `
2 touch w 0x404000
2 touch r 0x400000
2 fork = 3
2 touch r 0x401000
3 present fork own:0x404000-0x405000 ` + sp + `
3 touch r 0x402000
3 present exit file:0x402000-0x403000 own:0x404000-0x405000 ` + sp + `
3 exit
2 present exit file:0x400000-0x402000 own:0x404000-0x405000 ` + sp + `
2 exit
`},
		{name: "a child that has what it cannot, and lacks what it must have", body: `
2 touch w 0x404000
2 fork = 3
3 present fork file:0x400000-0x401000 ` + sp + `
3 present exit file:0x400000-0x401000 ` + sp + `
3 exit
2 present exit own:0x404000-0x405000 ` + sp + `
2 exit
`, want: "3 fork: [0x400000, 0x401000): absent, recorded file (r-xp 0x0 a)\n" +
			"3 fork: [0x404000, 0x405000): own, recorded absent (rw-p 0x4000 a)\n"},
		{name: "a vfork child is in its parent's memory", ok: true, body: `
2 vfork = 3
3 touch w 0x404000
3 present execve own:0x404000-0x405000 ` + sp + `
3 exec a = 0
3 area exec 0x400000-0x404000 r-x private a+0x0
3 present exec
3 touch r 0x400000
2 touch r 0x400000
3 present exit file:0x400000-0x401000
3 exit
2 vfork = 4
4 touch r 0x401000
4 exit 127
2 present exit file:0x400000-0x402000 own:0x404000-0x405000 ` + sp + `
2 exit
`},
		{name: "threads", ok: true, body: `
2 thread = 3
2/3 touch r 0x400000
2/3 present execve ` + sp + `
2/3 touch r 0x401000
2/3 exit
2 present exit file:0x400000-0x401000 ` + sp + `
2 exit
`, want: "2 execve: skipped: other threads were running\n" +
			"2 exit: [0x401000, 0x402000): file, recorded absent (r-xp 0x1000 a): fatal signal\n"},
		{name: "shm", ok: true, body: `
file "/SYSV00000000 (deleted)" kind=shared size=16384
2 shmat 0 0x4000 rw- "/SYSV00000000 (deleted)" = 0x10000
2 touch w 0x10000
2 munmap 0x11000 0x1000 = 0
2 mmap 0x11000 0x1000 rw- private,fixed,populate anon = 0x11000
2 shmat 0 0x4000 rw- "/SYSV00000000 (deleted)" = 0x20000
2 touch w 0x20000
2 shmdt 0x10000 = 0
2 present exit own:0x11000-0x12000 file:0x20000-0x21000 ` + sp + `
2 exit
`},
		{name: "huge lengths", ok: true, body: `
2 mmap 0x1000000000 0x6ff000000000 rw- private,populate,fixed anon = 0x1000000000
2 mlock 0 0xffffffffffffffff = ENOMEM
2 madvise 0x1000000000 0x6fe000000000 dontneed = 0
2 present exit own:0x6ff000000000-0x700000000000 ` + sp + `
2 exit
`},
		{name: "operations that cannot be", body: `
@5 2 touch r 0x400000
@4 2 touch r 0x400000
7 touch r 0x400000
2 fork = 3
3 present fork ` + sp + `
3 present exit ` + sp + `
3 exit
3 touch r 0x400000
2 fork = 3
2/9 touch r 0x400000
2 mmap 0 0x1000 r-- private other+0x0 = 0x10000
2 mmap 0 0x1000 r-- private a+0x0 = 0x403000
2 mmap 0x5000 0x1000 r-- private,fixed a+0x0 = 0x6000
2 mmap 0 0x1000 r-- private a+0x0 = 0x7fffffffffff000
2 area exit 0x1000-0x3000 r-- private anon
2 area exit 0x2000-0x3000 r-- private anon
lost 3
`, want: "2 exit: [0x1000, 0x3000): nothing, recorded r--p anonymous\n" +
			"2 exit: [0x6000, 0x7000): r--p 0x0 a, recorded nothing\n" +
			"2 exit: [0x10000, 0x11000): r--p 0x0 other, recorded nothing\n" +
			"2 exit: [0x400000, 0x403000): r-xp 0x0 a, recorded nothing\n" +
			"2 exit: [0x403000, 0x404000): r--p 0x0 a, recorded nothing\n" +
			"2 exit: [0x404000, 0x406000): rw-p 0x4000 a, recorded nothing\n" +
			"2 exit: [0x7ffff7fc0000, 0x7ffff7fc2000): r-xp [vdso], recorded nothing\n" +
			"2 exit: [0x7ffffffde000, 0x7ffffffff000): rw-p anonymous, recorded nothing\n" +
			"at 4 ns: process 2: touch: the time goes back by 1 ns\n" +
			"process 7: touch: the process was never started\n" +
			"process 3: touch: the process has ended\n" +
			"process 2: fork: 3 was the number of another task before\n" +
			"process 2: touch: thread 9 does not live\n" +
			"process 2: mmap: no file line says what \"other\" is\n" +
			"process 2: mmap: the result [0x403000, 0x404000) lies on [0x403000, 0x404000) r-xp 0x3000 a\n" +
			"process 2: mmap: the result 0x6000 is not the fixed address 0x5000\n" +
			"process 2: mmap: the result 0x7fffffffffff000 of 0x1000 bytes is no place in user space\n" +
			"process 2: area: [0x2000, 0x3000) lies on another area\n" +
			"process 2: its end is not recorded\n" +
			"process 3: its end is not recorded\n"},
		{name: "no look at the end", body: `
2 exit
`, want: "process 2: exit: no present set was recorded\nheader: touches are complete, but no present set was recorded to show it\n"},
		{name: "not closed", header: "header source test\nheader touches complete\n", body: `
2 present exit ` + sp + `
2 exit
`, want: "header: the recording was not closed\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := c.header
			if header == "" {
				header = completeHeader
			}
			r, got := check(t, header, prelude+c.body, Options{Strict: c.strict})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if r.OK() != c.ok {
				t.Errorf("OK %t: %+v", r.OK(), r)
			}
		})
	}
}
