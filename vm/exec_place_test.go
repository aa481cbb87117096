package vm

import (
	"errors"
	"strings"
	"testing"

	"vmsim/mem"
)

// drawMaps draws the areas of a process as /proc/PID/maps does.
func drawMaps(p *Process) string {
	var b strings.Builder
	for v := range p.Areas() {
		b.WriteString(v.String() + "\n")
	}
	return b.String()
}

// A recorded placement is what the process then has.
func TestPlacement(t *testing.T) {
	m := newMachine(t, Config{Memory: 16 << 20, Hardening: Fortress})
	p := boot(t, m)
	prog := mustPrograms(t, "permissions")[0]
	if !prog.prog.Image.Dynamic {
		t.Fatal("not a PIE")
	}
	at := Placement{Base: 0x555555554000, Stack: mem.Range{Start: 0x7ffffffdd000, End: 0x7fffffffe000}, Brk: 0x555555599123,
		Extra: []Extra{{mem.Range{Start: 0x7ffff7fc0000, End: 0x7ffff7fc4000}, ro, "[vvar]"},
			{mem.Range{Start: 0x7ffff7fc4000, End: 0x7ffff7fc6000}, rx, "[vdso]"}}}
	arg := prog.prog
	arg.At = &at
	for range 2 { // the second time from the layout cache
		if err := p.Exec(arg); err != nil {
			t.Fatal(err)
		}
		if got := p.Objects()[0].Extent().Start; got != at.Base {
			t.Errorf("the program is at %v", got)
		}
		maps := drawMaps(p)
		for _, line := range []string{
			"7ffff7fc0000-7ffff7fc4000 r--p 00000000 [vvar]\n7ffff7fc4000-7ffff7fc6000 r-xp 00000000 [vdso]\n",
			"7ffffffdd000-7fffffffe000 rwxp 00000000 [stack]\n",
		} {
			if !strings.Contains(maps, line) {
				t.Errorf("no line %q in\n%s", line, maps)
			}
		}
		// mmap goes around what exec put there; brk starts where it was.
		if got := mmap(t, p, Mapping{Addr: 0x7ffff7fc5000, Len: mem.PageSize, Prot: rw}); got == 0x7ffff7fc5000 {
			t.Error("mmap on the vdso")
		}
		if got := p.Brk(0); got != at.Brk {
			t.Errorf("brk %v", got)
		}
		if got := p.Brk(at.Brk + mem.PageSize); got != at.Brk+mem.PageSize {
			t.Errorf("brk to %v", got)
		}
		touch(t, p, 0x55555559a000, mem.Write, Minor)
		touch(t, p, 0x7ffff7fc4000, mem.Exec, Minor)
		touch(t, p, at.Stack.End-StackLimit, mem.Write, Minor)
		if _, err := p.Touch(at.Stack.End-StackLimit-1, mem.Write); err == nil {
			t.Error("the stack grew beyond its limit")
		}
	}
	at.Base += 0x10000 // all else as before
	if err := p.Exec(arg); err != nil || !strings.HasPrefix(drawMaps(p), "555555564000-") {
		t.Errorf("%v\n%s", err, drawMaps(p))
	}
	exec(t, p, "permissions") // without: as ever
	if got := p.Objects()[0].Extent().Start; got != PIEBase {
		t.Errorf("the program is at %v", got)
	}
}

// A program of which the first segment is not the lowest starts at its base too,
// and an interpreter at its own.
func TestPlacementOfObjects(t *testing.T) {
	const base, interp = mem.VirtAddr(0x7f1234560000), mem.VirtAddr(0x7f5555000000)
	for _, prog := range mustPrograms(t) {
		if prog.noRoom || !prog.prog.Image.Dynamic {
			continue
		}
		m := newMachine(t, Config{Memory: 16 << 20})
		p := boot(t, m)
		arg := prog.prog
		arg.At = &Placement{Base: base}
		if arg.Interp != nil && arg.Interp.Dynamic {
			arg.At.InterpBase = interp
		}
		if err := p.Exec(arg); err != nil {
			t.Errorf("%s: %v", prog.name, err)
			continue
		}
		if got := p.Objects()[0].Extent().Start; got != base {
			t.Errorf("%s: at %v", prog.name, got)
		}
		if arg.At.InterpBase != 0 {
			if got := p.Objects()[1].Extent().Start; got != interp {
				t.Errorf("%s: interpreter at %v", prog.name, got)
			}
		}
	}
}

// What does not fit is refused, and leaves the process as it was.
func TestPlacementErrors(t *testing.T) {
	stack := mem.Range{Start: 0x7ffffffde000, End: 0x7ffffffff000}
	for _, tc := range []struct {
		name, program string
		at            Placement
		want          string // "": it runs
	}{
		{"nothing said", "small", Placement{}, ""},
		{"ET_EXEC at its address", "shared-memory-page", Placement{Base: 0x400000}, ""},
		{"ET_EXEC elsewhere", "shared-memory-page", Placement{Base: 0x500000}, "linked to 0x400000"},
		{"base in a page", "permissions", Placement{Base: PIEBase + 8}, "not the start of a page"},
		{"base at the end", "permissions", Placement{Base: mem.UserEnd - mem.PageSize}, "no room"},
		{"stack on the program", "shared-memory-page", Placement{Stack: mem.Range{Start: 0x402000, End: 0x403000}}, "reaches into the stack"},
		{"stack in a page", "small", Placement{Stack: mem.Range{Start: 8, End: 0x2000}}, "no room"},
		{"stack reversed", "small", Placement{Stack: mem.Range{Start: 0x3000, End: 0x2000}}, "no room"},
		{"heap beyond user space", "small", Placement{Brk: mem.UserEnd}, "no room"},
		{"vdso on the stack", "small", Placement{Stack: stack, Extra: []Extra{{mem.Range{Start: 0x7ffffffde000, End: 0x7ffffffe0000}, rx, "[vdso]"}}}, "[vdso] at"},
		{"vdso in a page", "small", Placement{Extra: []Extra{{mem.Range{Start: 0x7ffff0000001, End: 0x7ffff0001000}, rx, "[vdso]"}}}, "[vdso] at"},
		{"vdso twice", "small", Placement{Extra: []Extra{{mem.Range{Start: 0x7ffff0000000, End: 0x7ffff0001000}, rx, "[vdso]"},
			{mem.Range{Start: 0x7ffff0000000, End: 0x7ffff0001000}, rx, "[vvar]"}}}, "[vvar] at"},
	} {
		m := newMachine(t, Config{Memory: 16 << 20, Hardening: Fortress})
		p := boot(t, m, "small")
		before := drawMaps(p)
		arg := mustPrograms(t, tc.program)[0].prog
		arg.At = &tc.at
		err := p.Exec(arg)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (!errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && drawMaps(p) != before:
			t.Errorf("%s: the process changed", tc.name)
		}
		if _, berr := m.Boot(&arg); (berr == nil) != (err == nil) {
			t.Errorf("%s: boot: %v", tc.name, berr)
		}
	}
}

// vm.max_map_count is the machine's.
func TestMaxAreas(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20, MaxAreas: 8})
	p := boot(t, m)
	at := mmap(t, p, Mapping{Len: 64 * mem.PageSize, Prot: rw})
	n := 0
	for ; n < 64; n += 2 {
		if p.Mprotect(at+mem.VirtAddr(n*mem.PageSize), mem.PageSize, ro) != nil {
			break
		}
	}
	if p.AreaCount() > 8 || p.AreaCount() < 7 {
		t.Errorf("%d areas", p.AreaCount())
	}
	if _, err := p.Mremap(Remap{Old: at, OldLen: mem.PageSize, NewLen: mem.PageSize, MayMove: true, Fixed: true, New: at - 1<<30}); err == nil {
		t.Error("mremap: no error")
	}
}

// Hit says what the TLB permits, and nothing that the page table does not.
func TestHit(t *testing.T) {
	m := newMachine(t, Config{Memory: 4 << 20, Hardening: Fortress})
	p := boot(t, m)
	at := mmap(t, p, Mapping{Len: 2 * mem.PageSize, Prot: rw})
	all := []mem.Access{mem.Read, mem.Write, mem.Exec}
	hits := func(q *Process, addr mem.VirtAddr, want ...bool) {
		t.Helper()
		for i, a := range all {
			if got := q.Hit(addr, a); got != want[i] {
				t.Errorf("process %d: %v at %v: %t", q.PID, a, addr, got)
			}
		}
	}
	hits(p, at, false, false, false)
	touch(t, p, at, mem.Read, Minor)
	hits(p, at, true, false, false)
	hits(p, at+mem.PageSize, false, false, false)
	touch(t, p, at, mem.Write, CoW)
	hits(p, at+100, true, true, false)
	hits(p, at+1<<47, false, false, false)
	hits(p, at+1<<63, false, false, false)
	v := p.Vfork()
	hits(v, at, true, true, false)
	c := p.Fork()
	hits(p, at, false, false, false)
	hits(c, at, false, false, false)
	touch(t, c, at, mem.Read, NoFault)
	hits(c, at, true, false, false)
	p.Exit()
	hits(p, at, false, false, false)
	p.SetIP(42)
	if p.IP() != 42 {
		t.Error(p.IP())
	}
}
