package session

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/trace"
	"vmsim/vm"
)

// replayText runs the lines of a trace that lies beside those of testdata.
// before is called before each operation, with how many were run; it may be
// nil.
func replayText(t testing.TB, opt Options, text string, before func(b *Rig, n int)) ReplayResult {
	t.Helper()
	b := newRig(t, opt)
	n := 0
	res, err := b.Replay(filepath.Join(traces, "t"), strings.NewReader("vmsim-trace 1\n"+text), func() bool {
		if before != nil {
			before(b, n)
		}
		n++
		return false
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Machine.Check(); err != nil {
		t.Error(err)
	}
	b.Reset() // panics if a frame was leaked
	return res
}

// TestTraces: the traces that explain fork and exec do what they say, the same
// in both hardenings.
func TestTraces(t *testing.T) {
	for _, name := range []string{"fork-cow.trace", "shell-loop.trace"} {
		var results []ReplayResult
		for _, h := range []vm.Hardening{vm.Default, vm.Fortress} {
			opt := options(t)
			opt.Hardening = h
			res := replay(t, opt, name)
			if !res.OK() || res.Skipped != 0 || len(res.Tests) != 5 && len(res.Tests) != 4 || res.Tally.Pages == 0 {
				t.Errorf("%s: %+v", name, res)
			}
			results = append(results, res)
		}
		if d := cmp.Diff(results[0], results[1]); d != "" {
			t.Errorf("%s: default and fortress differ:\n%s", name, d)
		}
	}
}

// TestAnswers: operations and what they come to, in one process after an exec of
// kevlar-layout. Each line is right; with another answer it must be reported.
func TestAnswers(t *testing.T) {
	const head = "1 fork = 2\n2 exec ../elf/kevlar-layout = 0\n"
	for _, c := range []struct {
		name, lines string
		wrong       string // answer for the last line
	}{
		{"first read of text", "2 touch r 0x400000 = major 0x7f", "minor 0x7f"},
		{"its byte", "2 touch r 0x400000 = 0x7f", "0x7e"},
		{"second read", "2 touch r 0x400000\n2 touch r 0x400001 = none 0x45", "minor 0x45"},
		{"write to .data", "2 touch r 0x51d008\n2 touch w 0x51d008 0x41 = none 0x41", "cow 0x41"},
		{"read of .bss", "2 touch r 0x524000 = minor 0x00", "none 0x00"},
		{"write of .bss", "2 touch r 0x524000\n2 touch w 0x524000 7 = cow 0x07", "minor 0x07"},
		{"stack", "2 touch w 0x7fffffffe000 9 = minor 0x09", "SEGV_MAPERR"},
		{"stack grows", "2 touch w 0x7fffff800000 9 = minor 0x09", "SEGV_MAPERR"},
		{"below the stack's limit", "2 touch w 0x7fffff7fefff 9 = SEGV_MAPERR", "SEGV_ACCERR"},
		{"nothing there", "2 touch r 0x10 = SEGV_MAPERR", "SEGV_ACCERR"},
		{"non-canonical", "2 touch r 0xffff800000000000 = SEGV_MAPERR", "SEGV_ACCERR"},
		{"write to text", "2 touch w 0x401000 1 = SEGV_ACCERR", "SEGV_MAPERR"},
		{"run data", "2 touch x 0x51d000 = SEGV_ACCERR", "major"},
		{"munmap", "2 munmap 0x401000 0x1000 = 0\n2 touch r 0x401000 = SEGV_MAPERR", "0x00"},
		{"munmap, unaligned", "2 munmap 0x401001 0x1000 = EINVAL", "0"},
		{"mprotect", "2 mprotect 0x51c000 0x1000 r-- = 0\n2 touch w 0x51cbf0 1 = SEGV_ACCERR", "0x01"},
		{"mprotect, writable text", "2 mprotect 0x401000 0x1000 rw- = 0\n2 touch w 0x401000 1 = 0x01", "0x02"},
		{"mprotect, a hole", "2 mprotect 0x10000 0x1000 r-- = ENOMEM", "0"},
		{"nothing may read", "2 mprotect 0x401000 0x1000 --- = 0\n2 touch r 0x401000 = SEGV_ACCERR", "SEGV_MAPERR"},
		{"brk asks", "2 brk 0 = 0x526000", "0x527000"},
		{"brk grows", "2 brk 0x530000 = 0x530000\n2 touch w 0x52ffff 5 = minor 0x05", "0x06"},
		{"brk shrinks", "2 brk 0x530000\n2 touch w 0x528000 5\n2 brk 0x527000\n2 brk 0x530000\n2 touch r 0x528000 = 0x00", "0x05"},
		{"brk, nothing behind", "2 brk 0x527000\n2 touch r 0x527000 = SEGV_MAPERR", "0x00"},
		{"mmap picks", "2 mmap 0 0x1000 rw- private anon = 0x7ffff7ffe000", "0x1000"},
		{"mmap, empty", "2 mmap 0x10000 0 rw- private anon = EINVAL", "0x10000"},
		{"mmap, taken", "2 mmap 0x401000 0x1000 rw- private,fixed,noreplace anon = EEXIST", "0x401000"},
		{"mmap over text", "2 mmap 0x401000 0x1000 rw- private,fixed anon\n2 touch r 0x401000 = 0x00", "0x01"},
		{"mmap of no file", "2 mmap 0 0x1000 r-- private ../elf/nothing+0 = ENOENT", "EACCES"},
		{"shared and writable", "2 mmap 0 0x1000 rw- shared ../elf/huge-text+0 = EACCES", "ENOENT"},
		{"mmap of a file", "2 mmap 0x10000000 0x2000 r-- private,fixed ../elf/kevlar-layout+0x11b000\n2 touch r 0x10000bf0 = 0xc0", "0x00"},
		{"written privately", "2 mmap 0x10000000 0x2000 rw- private,fixed ../elf/kevlar-layout+0x11b000\n2 touch w 0x10000bf0 1\n2 touch r 0x51cbf0 = 0xc0", "0x01"},
		{"beyond the end of the file", "2 mmap 0x10000000 0x4000 r-- private,fixed ../elf/static-pie+0x5000\n2 touch r 0x10003000 = 0x00", "SIGBUS"},
		{"exec of no file", "2 exec ../elf/nothing = ENOENT", "EACCES"},
		{"exec of a folder", "2 exec ../elf = EACCES", "ENOENT"},
		{"exec of text", "2 exec ../elf/Makefile = ENOEXEC", "EACCES"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res := replayText(t, options(t), head+c.lines, nil)
			if !res.OK() || res.Tally.Failures != 0 {
				t.Fatalf("mismatches %v, first crash %v, wrong line %q", res.Mismatches, res.FirstCrash, res.WrongLine)
			}
			at := strings.LastIndex(c.lines, "= ")
			res = replayText(t, options(t), head+c.lines[:at]+"= "+c.wrong, nil)
			if res.OK() || res.Mismatched != 1 || len(res.Mismatches) != 1 {
				t.Fatalf("%d mismatches with another answer", res.Mismatched)
			}
			line := 3 + strings.Count(head+c.lines, "\n")
			m := res.Mismatches[0]
			if m.Op.Line != line-1 || m.Want.String() != c.wrong || res.Wrong != 0 {
				t.Errorf("reported %v of line %d, want line %d and %s", m, m.Op.Line, line-1, c.wrong)
			}
		})
	}
}

// TestSharedMemory: all that map a page of shared anonymous memory see every
// write, across fork and after a part was unmapped; it goes with the last.
func TestSharedMemory(t *testing.T) {
	res := replayText(t, options(t), `
1 fork = 2
2 exec ../elf/static-nopie
2 mmap 0x20000000 0x4000 rw- shared,fixed anon
2 touch w 0x20000000 1
2 touch w 0x20003fff 4
2 fork = 3
3 fork = 4
4 touch r 0x20000000 = 0x01
4 touch w 0x20001000 2
2 touch r 0x20001000 = 0x02
3 touch r 0x20001000 = 0x02
3 munmap 0x20000000 0x2000
3 touch w 0x20002000 3
2 touch r 0x20002000 = 0x03
3 touch r 0x20003fff = 0x04
4 touch w 0x20003fff 5
3 touch r 0x20003fff = none 0x05
3 mmap 0x20000000 0x1000 rw- private,fixed anon
3 touch r 0x20000000 = 0x00
3 touch w 0x20000000 9
2 touch r 0x20000000 = 0x01
2 exit
4 touch r 0x20002000 = 0x03
4 exec ../elf/static-nopie
3 touch r 0x20003fff = 0x05
3 munmap 0x20002000 0x2000
3 mmap 0x20002000 0x2000 rw- shared,fixed anon
3 touch r 0x20003fff = minor 0x00
`, nil)
	if !res.OK() || res.Tally.Failures != 0 {
		t.Errorf("mismatches %v, first crash %v, wrong line %q", res.Mismatches, res.FirstCrash, res.WrongLine)
	}
}

// TestCorruptedFrame: who touches a page in a broken frame crashes, whoever maps
// it; the others go on.
func TestCorruptedFrame(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines string
		at    mem.VirtAddr // flipped in process 2 before the last three lines
		want  event.PageVerifyFail
	}{
		{"text in the page cache", "2 touch r 0x402000\n3 touch r 0x402000", 0x402007,
			event.PageVerifyFail{FirstDiff: 7, FileOffset: 0x2000, VMAStart: 0x400000}},
		{"written data, shared since the fork", "2 touch w 0x51d000 0x42\n2 fork = 5\n5 exit", 0x51d000,
			event.PageVerifyFail{VAddr: 0x51d000, Expected: 0x42, FileOffset: 0x11c000, VMAStart: 0x51cbf0}},
		{"private memory", "2 mmap 0x10000000 0x1000 rw- private,fixed anon\n2 touch w 0x10000fff 0x33", 0x10000fff,
			event.PageVerifyFail{VAddr: 0x10000000, FirstDiff: 0xfff, Expected: 0x33}},
		{"a mapped file", "2 mmap 0x10000000 0x1000 r-- private,fixed ../elf/kevlar-layout+0x1000\n2 touch r 0x10000000", 0x10000000,
			event.PageVerifyFail{VAddr: 0x10000000, FileOffset: 0x1000, VMAStart: 0x10000000}},
		{"shared memory", "2 mmap 0x10000000 0x1000 rw- shared,fixed anon\n2 touch w 0x10000001 0x44", 0x10000001,
			event.PageVerifyFail{VAddr: 0x10000000, FirstDiff: 1, Expected: 0x44, VMAStart: 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const head = "1 fork = 2\n2 exec ../elf/kevlar-layout\n1 fork = 3\n3 exec ../elf/kevlar-layout\n"
			lines := head + c.lines
			last := fmt.Sprintf("\n2 touch r %v\n2 touch r 0x400000\n3 touch r 0x403000 = %s\n", c.at, "0x00")
			n := strings.Count(lines, "\n") + 1
			data := make([]byte, 1)
			var rec recorder
			opt := options(t)
			opt.Events = &rec
			fx := fixture(t, "kevlar-layout")
			if _, err := fx.ReadAt(data, 0x3000); err != nil {
				t.Fatal(err)
			}
			last = strings.Replace(last, "0x00\n", fmt.Sprintf("0x%02x\n", data[0]), 1)
			res := replayText(t, opt, lines+last, func(b *Rig, ops int) {
				if ops != n {
					return
				}
				p, ok := b.Machine.Process(2)
				if !ok {
					t.Fatal("process 2 is gone")
				}
				if err := p.InjectByte(c.at, 0x10); err != nil {
					t.Fatal(err)
				}
			})
			want := c.want
			want.PID, want.VAddr = 2, event.Addr(c.at.PageDown())
			if want.Expected == 0 {
				if _, err := fx.ReadAt(data, int64(want.FileOffset)+int64(want.FirstDiff)); err != nil {
					t.Fatal(err)
				}
				want.Expected = event.Byte(data[0])
			}
			want.Actual = want.Expected ^ 0x10
			if d := cmp.Diff([]event.Event{want}, failures(rec.events)); d != "" {
				t.Errorf("failures (-want +got):\n%s", d)
			}
			if res.Wrong != 1 || res.Crashes != 1 || res.Skipped != 1 || res.FirstCrash.PID != 2 ||
				res.FirstWrong != (Moment{1, 2}) || res.WrongLine != want.String() {
				t.Errorf("%d wrong, %d crashes, %d skipped, %v, %+v, %q", res.Wrong, res.Crashes, res.Skipped, res.FirstCrash, res.FirstWrong, res.WrongLine)
			}
			if res.Mismatched != 0 {
				t.Errorf("mismatches: %v", res.Mismatches)
			}
			exits := of[event.ProcessExit](rec.events)
			if !slices.Contains(exits, event.ProcessExit{PID: 2, Reason: "wrong byte"}) {
				t.Errorf("exits: %+v", exits)
			}
		})
	}
}

// TestOutOfMemoryInATrace: the one who wants the frame that is not there dies.
func TestOutOfMemoryInATrace(t *testing.T) {
	var text strings.Builder
	text.WriteString("1 fork = 2\n2 exec ../elf/static-nopie\n1 fork = 3\n3 exec ../elf/static-nopie\n")
	text.WriteString("3 touch r 0x401000\n2 mmap 0x10000000 0x400000 rw- private,fixed anon\n")
	pages := 1010
	for i := range pages {
		fmt.Fprintf(&text, "2 touch w 0x%x\n", 0x10000000+i*page)
	}
	filled := text.String()
	opt := small(t, hardening(t), 4)
	if res := replayText(t, opt, filled, nil); !res.OK() {
		t.Fatalf("%d pages: %v", pages, res.FirstCrash)
	}
	for i := range 14 {
		fmt.Fprintf(&text, "2 touch w 0x%x\n", 0x10000000+(pages+i)*page)
	}
	over := text.String()
	res := replayText(t, opt, over+"3 touch r 0x402000\n", nil)
	if res.Crashes != 1 || res.FirstCrash.PID != 2 || res.Faults[trace.OOM] != 1 || res.Stats.OOMKills != 1 || res.Wrong != 0 {
		t.Errorf("%d crashes, %v, %d kills", res.Crashes, res.FirstCrash, res.Stats.OOMKills)
	}
	if n := res.Kinds[trace.OpTouch]; n != 1+res.FirstCrash.Op.Line-8+2 { // the lines before, 3's two
		t.Errorf("%d touches, with the crash in line %d", n, res.FirstCrash.Op.Line)
	}
	// A trace may say so.
	lines := strings.Split(over, "\n")
	i := res.FirstCrash.Op.Line - 2
	lines[i] += " = OOM"
	if res := replayText(t, opt, strings.Join(lines, "\n"), nil); !res.OK() || res.Skipped == 0 {
		t.Errorf("foretold: %v", res.FirstCrash)
	}
}

// TestBadTrace: what cannot be is an error with its line; what ran counts.
func TestBadTrace(t *testing.T) {
	for lines, want := range map[string]string{
		"1 fork = 2\n2 blah\n":             "t:3:",
		"1 fork = 2\n3 touch r 0\n":        "t:3:",
		"1 fork = 2\n2 exit\n2 exit\n":     "t:4:",
		"1 fork = 2\n2 touch r ../elf/x+0": "t:3:",
	} {
		b := newRig(t, options(t))
		res, err := b.Replay("t", strings.NewReader("vmsim-trace 1\n"+lines), never)
		if err == nil || !strings.Contains(err.Error(), want) || res.Processes != 2 {
			t.Errorf("%q: error %v, want one at %s; %d processes", lines, err, want, res.Processes)
		}
	}
	b := newRig(t, options(t))
	n := 0
	res, err := b.Replay("t", strings.NewReader("vmsim-trace 1\n1 fork = 2\n1 fork = 3\n"), func() bool { n++; return n > 1 })
	if err == nil || res.Processes != 2 {
		t.Errorf("stopped: error %v, %d processes", err, res.Processes)
	}
}

// author writes a trace line by line, each when all before it were run, so that
// it can look at the machine and go where something is.
type author struct {
	r     *rand.Rand
	bench *Rig
	lines int
	head  string          // behind the first line
	text  strings.Builder // all that was written, for the failure message
	rest  string
}

func (a *author) Read(p []byte) (int, error) {
	if a.rest == "" {
		if a.lines == 0 {
			return 0, io.EOF
		}
		a.lines--
		a.rest = a.line() + "\n"
		a.text.WriteString(a.rest)
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *author) line() string {
	if a.text.Len() == 0 {
		return "vmsim-trace 1" + a.head
	}
	procs := a.bench.Machine.Processes()
	if len(procs) == 0 {
		return "1 boot"
	}
	p := procs[a.r.IntN(len(procs))]
	if p.PID == 1 && len(procs) > 1 && a.r.IntN(8) > 0 {
		p = procs[1+a.r.IntN(len(procs)-1)]
	}
	n := a.r.IntN(100)
	if p.PID == 1 {
		n = 97 // forks
	}
	addr := a.place(p)
	down, size := addr.PageDown(), (1+a.r.IntN(6))*page
	prot := mem.Prot(a.r.IntN(8))
	if a.r.IntN(3) > 0 {
		prot = mem.ProtRead | mem.ProtWrite
	}
	pool := mem.VirtAddr(0x10000000 + a.r.IntN(16)*page)
	if n != 97 && a.r.IntN(10) == 0 {
		return a.rarer(p, down, size, pool, len(procs))
	}
	switch {
	case n < 30:
		return a.touch(p, mem.Read, addr)
	case n < 62:
		return a.touch(p, mem.Write, addr)
	case n < 66:
		return a.touch(p, mem.Exec, addr)
	case n < 72:
		return fmt.Sprintf("%d mprotect %v %d %v", p.PID, down, size, prot)
	case n < 76:
		return fmt.Sprintf("%d munmap %v %d", p.PID, down, size)
	case n < 80:
		return fmt.Sprintf("%d mmap %v %d %v %s,fixed anon", p.PID, pool, size, prot, []string{"private", "shared"}[a.r.IntN(2)])
	case n < 83:
		return fmt.Sprintf("%d mmap %v %d %v private,fixed anon", p.PID, down, size, prot)
	case n < 86:
		return fmt.Sprintf("%d mmap %v %d %v private,fixed ../elf/%s+%d", p.PID, pool, size, prot, a.elf(), a.r.IntN(8)*page)
	case n < 88:
		return fmt.Sprintf("%d brk %d", p.PID, uint64(p.Brk(0))+uint64(a.r.IntN(8*page))-4*page)
	case n < 92:
		return fmt.Sprintf("%d exec ../elf/%s", p.PID, a.elf())
	case n < 95 && len(procs) > 3:
		return fmt.Sprintf("%d exit", p.PID)
	case len(procs) < 7:
		return fmt.Sprintf("%d fork = %d", p.PID, a.nextPID())
	}
	return a.touch(p, mem.Read, addr)
}

func (a *author) elf() string {
	return []string{"kevlar-layout", "shared-two", "static-pie", "bss-large", "shared-memory-page", "huge-text"}[a.r.IntN(6)]
}

// nextPID: no fork of a trace ever fails here, so machine and trace count alike.
func (a *author) nextPID() int { return 2 + strings.Count(a.text.String(), "fork = ") }

// rarer is a line for an operation that programs do now and then.
func (a *author) rarer(p *vm.Process, down mem.VirtAddr, size int, pool mem.VirtAddr, procs int) string {
	n := a.r.IntN(30)
	if n < 11 { // a program's own pages are in nobody's mremap, and are moved as areas precise to the byte
		down = mem.VirtAddr(0x10000000 + a.r.IntN(16)*page)
	}
	switch {
	case n < 4:
		return fmt.Sprintf("%d mremap %v %d %d maymove", p.PID, down, size, (1+a.r.IntN(8))*page)
	case n < 7:
		return fmt.Sprintf("%d mremap %v %d %d maymove,fixed to=%v", p.PID, down, size, (1+a.r.IntN(8))*page, pool)
	case n < 9:
		return fmt.Sprintf("%d mremap %v %d %d stay", p.PID, down, size, (1+a.r.IntN(4))*page)
	case n < 10:
		return fmt.Sprintf("%d mremap %v %d %d maymove,dontunmap", p.PID, down, size, size)
	case n < 11:
		return fmt.Sprintf("%d mremap %v 0 %d maymove", p.PID, down, size)
	case n < 21:
		advice := []trace.Advice{trace.AdviceDontNeed, trace.AdviceDontNeed, trace.AdviceDontNeed, trace.AdviceFree, trace.AdviceRemove,
			trace.AdviceWipeOnFork, trace.AdviceKeepOnFork, trace.AdviceDontFork, trace.AdviceDoFork, trace.AdvicePopulateRead, trace.AdvicePopulateWrite}
		is := advice[a.r.IntN(len(advice))]
		if is == trace.AdviceRemove {
			size = page // of several areas it would do some, and fail
		}
		return fmt.Sprintf("%d madvise %v %d %v", p.PID, down, size, is)
	case n < 23:
		return fmt.Sprintf("%d mlock %v %d flags=%d", p.PID, down, size, a.r.IntN(2))
	case n < 24:
		return fmt.Sprintf("%d munlock %v %d", p.PID, down, size)
	case n < 25:
		return fmt.Sprintf("%d munlockall", p.PID)
	case n < 27:
		return fmt.Sprintf("%d mmap %v %d rw- %s,fixed,populate anon", p.PID, pool, size, []string{"private", "shared"}[a.r.IntN(2)])
	case procs < 7:
		return fmt.Sprintf("%d vfork = %d", p.PID, a.nextPID())
	}
	return fmt.Sprintf("%d brk 0", p.PID)
}

// place picks an address in one of p's areas.
func (a *author) place(p *vm.Process) mem.VirtAddr {
	n := p.AreaCount()
	if n == 0 {
		return 0x1000
	}
	i := a.r.IntN(n)
	for v := range p.Areas() {
		if i--; i < 0 {
			// Near its start or its end, where things go wrong, or anywhere.
			off := a.r.Uint64N(v.Len())
			switch near := min(v.Len(), 3*page); a.r.IntN(3) {
			case 0:
				off = a.r.Uint64N(near)
			case 1:
				off = v.Len() - 1 - a.r.Uint64N(near)
			}
			return v.Start + mem.VirtAddr(off)
		}
	}
	return 0
}

// touch is a line for an access that p's page permits; one that it does not is
// written rarely, so that processes live for some time.
func (a *author) touch(p *vm.Process, access mem.Access, addr mem.VirtAddr) string {
	line := fmt.Sprintf("%d touch %s %v", p.PID, access.Letter(), addr)
	if access == mem.Write {
		line += fmt.Sprintf(" %d", a.r.IntN(256))
	}
	prot := mem.ProtNone
	backed := false
	for v := range p.Areas() {
		if !v.Overlaps(mem.PageOf(addr)) {
			continue
		}
		if file := v.Segment > 0; file || !backed {
			if file && !backed {
				prot = 0
			}
			prot |= v.Prot
			backed = file
		}
	}
	if !prot.Allows(access) && a.r.IntN(100) > 0 {
		return fmt.Sprintf("%d brk 0", p.PID)
	}
	return line
}

// TestRandomTraces: whatever a trace does, the replay's idea of memory and the
// machine agree in every byte of every page that is touched.
func TestRandomTraces(t *testing.T) {
	first := seed(t)
	touches := 0
	for i := range uint64(rounds(hardening(t), 60)) {
		r := newRand(first, 4000+i)
		opt := options(t)
		opt.Threshold = []int{0, 1, 128}[r.IntN(3)]
		opt.Memory = []uint64{6 << 20, 64 << 20}[r.IntN(2)]
		a := &author{r: r, bench: newRig(t, opt), lines: 1500}
		if i%3 == 2 {
			a.head = "\nheader source test\nheader touches complete" // its writes have no contents, its pages are compared once
		}
		res, err := a.bench.Replay(filepath.Join(traces, "random"), a, never)
		if err != nil {
			t.Fatalf("trace %d: %v\n%s", i, err, tail(a.text.String()))
		}
		if res.Wrong != 0 || res.Tally.Failures != 0 || res.Mismatched != 0 && res.Mismatches[0].Op.Kind != trace.OpExec {
			t.Fatalf("trace %d: %d wrong: %s\nmismatches %v\nlast lines:\n%s", i, res.Wrong, res.WrongLine, res.Mismatches, tail(a.text.String()))
		}
		if err := a.bench.Machine.Check(); err != nil {
			t.Fatalf("trace %d: %v", i, err)
		}
		touches += res.Tally.Pages
	}
	t.Logf("%d touches compared", touches)
	if touches < 1000 {
		t.Error("too few to prove anything")
	}
}

func tail(s string) string {
	lines := strings.Split(s, "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// Many mappings, and touches among them: what is kept beside the machine finds
// each again, and cuts the right ones.
func TestManyMappings(t *testing.T) {
	const n = 20_000
	var text strings.Builder
	text.WriteString("vmsim-trace 1\n1 boot\n")
	at := func(i int) int { return 0x100000000 + 2*i*0x1000 } // with holes, so that none merge
	for i := range n {
		fmt.Fprintf(&text, "1 mmap 0x%x 0x1000 rw- private,fixed anon\n", at(i))
	}
	for i := 0; i < n; i += 100 {
		fmt.Fprintf(&text, "1 touch w 0x%x 0x%02x\n", at(i)+8, 1+i%250)
	}
	fmt.Fprintf(&text, "1 munmap 0x%x 0x%x = 0\n1 mmap 0x%x 0x1000 rw- private,fixed anon\n", at(5000), at(10_000)-at(5000), at(6000))
	for i := 0; i < n; i += 100 {
		switch {
		case i == 6000:
			fmt.Fprintf(&text, "1 touch r 0x%x = 0x00\n", at(i)+8)
		case i < 5000 || i >= 10_000:
			fmt.Fprintf(&text, "1 touch r 0x%x = 0x%02x\n", at(i)+8, 1+i%250)
		}
	}
	fmt.Fprintf(&text, "1 touch r 0x%x = SEGV_MAPERR\n", at(7000))
	b, err := NewRig(DefaultOptions())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	res, err := b.Replay("many.trace", strings.NewReader(text.String()), func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	if !res.OK() || res.Tally.Failures > 0 {
		t.Errorf("%d failures, mismatches %v", res.Tally.Failures, res.Mismatches)
	}
}
