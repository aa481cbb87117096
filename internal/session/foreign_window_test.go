package session

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	root "vmsim"
	"vmsim/hugepage"
	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// shown is a window that a machine showed, with what the witness said of it.
type shown struct {
	base   mem.VirtAddr
	data   []byte
	events []string
}

// windowsOf runs the verify protocol on f and returns the windows that the
// machine assembled.
func windowsOf(t *testing.T, f mem.File, threshold int, bugs []string) (ws []shown) {
	t.Helper()
	opt := options(t)
	policy, err := hugepage.NewKevlar(threshold, bugs...)
	if err != nil {
		t.Fatal(err)
	}
	rig := &Rig{opt: opt, Witness: verify.NewWitness(nil)}
	rig.Machine, err = vm.New(vm.Config{Memory: opt.Memory, Policy: policy, Inspector: taker(func(w mem.Window) error {
		var rec recorder
		err := verify.NewWitness(&rec).Assembled(w)
		ws = append(ws, shown{w.Base, slices.Clone(w.Data), lines(rec.events)})
		return err
	})})
	if err != nil {
		t.Fatal(err)
	}
	defer rig.Close()
	rig.Verify(f)
	return ws
}

// taker is an Inspector.
type taker func(mem.Window) error

func (f taker) Assembled(w mem.Window) error { return f(w) }

// lines formats events without their PID: a dump has none.
func lines(events []event.Event) (out []string) {
	for _, e := range events {
		switch e := e.(type) {
		case event.HugePageVerifyFail:
			e.PID = 0
			out = append(out, fmt.Sprintf("%#v", e))
		case event.PageVerifyOK:
			e.PID = 0
			out = append(out, fmt.Sprintf("%#v", e))
		default:
			out = append(out, fmt.Sprintf("%#v", e))
		}
	}
	return out
}

// A dump of what the project's own machine assembles gives the very events that
// the machine's witness gave: of each file of the corpus, with each bug.
func TestWindowAsVerify(t *testing.T) {
	dir := t.TempDir()
	windows, failed := 0, 0
	for _, f := range root.Corpus() {
		for _, v := range variants {
			for _, threshold := range []int{hugepage.DefaultThreshold, 1} {
				for _, w := range windowsOf(t, f, threshold, v.bugs) {
					dump := filepath.Join(dir, "dump@0x1") // the last @ counts, in the command
					if err := os.WriteFile(dump, w.data, 0o644); err != nil {
						t.Fatal(err)
					}
					var rec recorder
					d := WindowDump{Dump: dump, Addr: w.base, ELF: filepath.Join("../../testdata/elf", path.Base(f.Name())), Truth: TruthKevlar}
					err := VerifyWindow(d, &rec)
					if got := lines(rec.events); !slices.Equal(got, w.events) || IsMismatch(err) != (len(got) > 1) {
						t.Errorf("%s, %s, threshold %d, window %v: %v\ngot  %q\nwant %q", f.Name(), v.name, threshold, w.base, err, got, w.events)
					}
					windows++
					if err != nil {
						failed++
					}
				}
			}
		}
	}
	t.Logf("%d windows, of which %d fail", windows, failed)
	if windows < 50 || failed < 3 {
		t.Errorf("%d windows, of which %d fail: this says little", windows, failed)
	}
}

// Case A in its figures, from a dump.
func TestWindowCaseA(t *testing.T) {
	f := fixture(t, "kevlar-layout")
	dump := filepath.Join(t.TempDir(), "dump")
	for _, c := range []struct {
		bugs []string
		want []string
	}{
		{nil, []string{"page_verify_ok: verified=294, failed=0"}},
		{[]string{"boundary-copy"}, []string{"huge_page_verify_fail: sub_page=284, first_diff=0, expected=0x00, actual=0x65", "page_verify_ok: verified=293, failed=1"}},
		{[]string{"index-collision"}, []string{"huge_page_verify_fail: sub_page=284, first_diff=3056, expected=0xc0, actual=0x00", "page_verify_ok: verified=293, failed=1"}},
	} {
		ws := windowsOf(t, f, hugepage.DefaultThreshold, c.bugs)
		if err := os.WriteFile(dump, ws[0].data, 0o644); err != nil {
			t.Fatal(err)
		}
		var rec recorder
		VerifyWindow(WindowDump{Dump: dump, Addr: 0x400000, ELF: "../../testdata/elf/kevlar-layout", Truth: TruthKevlar}, &rec)
		var got []string
		for _, e := range rec.events {
			got = append(got, fmt.Sprint(e))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%v: got %q, want %q", c.bugs, got, c.want)
		}
	}
}

func TestWindowBase(t *testing.T) {
	dir := t.TempDir()
	const ro = mem.ProtRead
	build := func(name string, typ uint16, vaddr, align uint64) string {
		p := filepath.Join(dir, name)
		data := elfgen.Build(elfgen.Spec{Type: typ, Segments: []elfgen.Seg{{Vaddr: vaddr, Filesz: 0x1000, Memsz: 0x1000, Flags: ro, Align: align}}}, nil)
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	pie, exe, aligned := build("pie", elfgen.Dyn, 0, 0), build("exe", elfgen.Exec, 0x400000, 0), build("aligned", elfgen.Dyn, 0, 2<<20)
	page := func(file string, sub int) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, mem.HugeSize)
		copy(data[sub*mem.PageSize:], b[:mem.PageSize])
		p := filepath.Join(dir, "dump")
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		elf, truth string
		addr, base mem.VirtAddr
		sub        int    // sub-page that holds the file's page
		want       string // of the error
	}{
		{pie, TruthKevlar, vm.PIEBase, 0, 0, ""},
		{pie, TruthLinux, 0x555555400000, 0, 0x154, ""},
		{aligned, TruthLinux, 0x555555400000, 0, 0, ""},
		{pie, TruthLinux, 0x7f0000000000, 0x7f0000003000, 3, ""},
		{pie, TruthKevlar, 0x7f0000000000, 0x7f0000003000, 3, ""},
		{exe, TruthKevlar, 0x400000, 0, 0, ""},
		{exe, TruthLinux, 0x400000, 0, 0, ""},
		{exe, TruthLinux, 0x400000, 0, 1, "memory differs"},
		{exe, TruthKevlar, 0x400000, 0x7f0000003000, 0, "it is loaded where it says itself"},
		{pie, TruthKevlar, 0x400000, 0, 0, "nothing of it lies in the window"},
		{pie, TruthKevlar, 0x400000, mem.UserEnd - mem.PageSize*2, 0, "nothing of it lies"},
	} {
		err := VerifyWindow(WindowDump{Dump: page(c.elf, c.sub), Addr: c.addr, ELF: c.elf, Truth: c.truth, Base: c.base}, nil)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestWindowErrors(t *testing.T) {
	dir := t.TempDir()
	short, long, good := filepath.Join(dir, "short"), filepath.Join(dir, "long"), filepath.Join(dir, "good")
	for p, n := range map[string]int{short: mem.HugeSize - 1, long: mem.HugeSize + 1, good: mem.HugeSize} {
		if err := os.WriteFile(p, make([]byte, n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	const elf = "../../testdata/elf/kevlar-layout"
	for _, c := range []struct {
		dump, elf, want string
		is              error
	}{
		{short, elf, "2097151 bytes, not the 2097152 of a huge page", nil},
		{long, elf, "2097153 bytes, not the 2097152 of a huge page", nil},
		{filepath.Join(dir, "none"), elf, "none", os.ErrNotExist},
		{fifo, elf, "fifo", mem.ErrNotRegular},
		{good, fifo, "fifo", mem.ErrNotRegular},
		{good, good, "not a loadable x86-64 ELF file", verify.ErrFormat},
	} {
		err := VerifyWindow(WindowDump{Dump: c.dump, Addr: 0x400000, ELF: c.elf, Truth: TruthKevlar}, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) || IsMismatch(err) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
