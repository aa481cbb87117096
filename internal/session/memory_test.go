package session

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/vm"
)

// bigFile is 24 MiB of read-only segments and writable KiB of .data.
func bigFile(writable uint64) *mem.BytesFile {
	const text, rodata = 16<<20 - 0x800, 8 << 20
	data := uint64(text + rodata)
	spec := elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: text, Memsz: text, Flags: mem.ProtRead | mem.ProtExec},
		{Vaddr: 0x402000 + text, Offset: text, Filesz: rodata, Memsz: rodata, Flags: mem.ProtRead},
		{Vaddr: 0x406000 + data, Offset: data, Filesz: writable << 10, Memsz: writable<<10 + 0x1234, Flags: mem.ProtRead | mem.ProtWrite},
	}}
	return mem.NewBytesFile(fmt.Sprintf("big-%d", writable), elfgen.Build(spec, nil))
}

func small(t testing.TB, h vm.Hardening, mib uint64) Options {
	opt := options(t)
	opt.Memory, opt.Hardening = mib<<20, h
	return opt
}

// TestVerifyInSmallMemory: a file larger than the machine is verified as in a
// large one, only slower.
func TestVerifyInSmallMemory(t *testing.T) {
	f := bigFile(512)
	sizes := []uint64{4, 8, 16}
	if testing.Short() {
		sizes = sizes[:1]
	}
	large := newRig(t, options(t)).Verify(f)
	if large.Verdict != OK || large.Windows < 10 {
		t.Fatalf("in a large machine: %+v", large)
	}
	for _, mib := range sizes {
		for _, h := range hardenings() {
			if h == vm.Fortress && mib > 4 {
				continue // slow, and nothing new
			}
			t.Run(fmt.Sprintf("%dMiB/%d", mib, h), func(t *testing.T) {
				b := newRig(t, small(t, h, mib))
				res := b.Verify(f)
				if res.Verdict != OK || res.Failures != 0 || res.Pages != large.Pages {
					t.Fatalf("%+v", res)
				}
				if tally := b.Witness.Tally(); tally.Pages != 3*large.Pages || tally.WindowsVerified != res.Windows {
					t.Errorf("tally %+v of %d pages, %d windows", tally, large.Pages, res.Windows)
				}
				evicted := b.Machine.CacheStats().Evicted
				if evicted < 1000 || b.Machine.Stats().ReclaimUnmaps < 1000 || b.Machine.Stats().OOMKills != 0 {
					t.Errorf("%d evicted, %+v", evicted, b.Machine.Stats())
				}
				if res.Faults.Major <= large.Faults.Major {
					t.Errorf("%d major faults, no more than the %d of a large machine", res.Faults.Major, large.Faults.Major)
				}
				if err := b.Machine.Check(); err != nil {
					t.Error(err)
				}
				b.Reset() // panics if a frame was leaked
			})
		}
	}
}

// TestOutOfMemory: memory that cannot be had kills the simulated process; the
// file is skipped with that reason.
func TestOutOfMemory(t *testing.T) {
	for _, c := range []struct {
		name     string
		writable uint64 // KiB
		pid      int    // that is killed
	}{
		{"the first process", 6 << 10, 2},
		{"the third, beside the second's copies", 3 << 10, 4},
	} {
		for _, h := range hardenings() {
			t.Run(fmt.Sprintf("%s/%d", c.name, h), func(t *testing.T) {
				var rec recorder
				opt := small(t, h, 4)
				opt.Events = &rec
				b := newRig(t, opt)
				res := b.Verify(bigFile(c.writable))
				if res.Verdict != Skipped || !strings.HasPrefix(res.Reason, fmt.Sprintf("out of memory: process %d was killed", c.pid)) {
					t.Errorf("%+v", res)
				}
				kills := of[event.OOMKill](rec.events)
				if len(kills) != 1 || kills[0].PID != c.pid || kills[0].Resident == 0 {
					t.Errorf("kills: %+v", kills)
				}
				if exits := of[event.ProcessExit](rec.events); len(exits) == 0 || exits[len(exits)-1] != (event.ProcessExit{PID: c.pid, Reason: "oom"}) {
					t.Errorf("exits: %+v", exits)
				}
				if n := len(failures(rec.events)); n > 0 {
					t.Errorf("%d failures", n)
				}
				if h == vm.Default {
					checkEnough(t, bigFile(c.writable), res.Reason)
				}
				if err := b.Machine.Check(); err != nil {
					t.Error(err)
				}
				// The machine goes on.
				if res := b.Verify(fixture(t, "kevlar-layout")); res.Verdict != OK {
					t.Errorf("the next file: %+v", res)
				}
			})
		}
	}
}

// enoughMiB returns how much memory would do, by the reason of a skip.
func enoughMiB(t *testing.T, reason string) (mib uint64) {
	t.Helper()
	_, after, _ := strings.Cut(reason, "; --memory ")
	if n, err := fmt.Sscanf(after, "%dM would do", &mib); n != 1 {
		t.Fatalf("%s: how much would do? %v", reason, err)
	}
	return mib
}

// checkEnough verifies f with the memory that the reason of its skip asks for,
// and with a fifth less of what is not for pages that take turns.
func checkEnough(t *testing.T, f mem.File, reason string) {
	t.Helper()
	mib := enoughMiB(t, reason)
	if res := newRig(t, small(t, vm.Default, mib)).Verify(f); res.Verdict != OK {
		t.Errorf("with %d MiB: %+v", mib, res)
	}
	opt := small(t, vm.Default, 0)
	opt.Memory = (mib - 4) << 20 / 5 * 4
	if res := newRig(t, opt).Verify(f); res.Verdict != Skipped {
		t.Errorf("with %d bytes: %+v", opt.Memory, res)
	}
}

// farAndReadOnly is a file of a hundred segments of 1 GiB each, which take many
// nodes of the page tables and no frame of their own.
func farAndReadOnly() []byte {
	s := elfgen.Spec{Type: elfgen.Exec, Entry: 0x40000000}
	for i := range uint64(100) {
		s.Segments = append(s.Segments, elfgen.Seg{Vaddr: (i + 1) << 30, Filesz: page, Memsz: 1 << 30, Flags: mem.ProtRead})
	}
	return elfgen.Build(s, nil)
}

// TestEnoughMemory: so it is for hostile files, and where page tables take more
// than pages.
func TestEnoughMemory(t *testing.T) {
	first := seed(t)
	rig := newRig(t, small(t, vm.Default, 4))
	starved := 0
	check := func(name string, data []byte) {
		t.Helper()
		f := mem.NewBytesFile(name, data)
		res := rig.Verify(f)
		if !strings.HasPrefix(res.Reason, "out of memory") {
			return
		}
		starved++
		// More takes its time.
		if mib := enoughMiB(t, res.Reason); mib <= 512 {
			if res := newRig(t, small(t, vm.Default, mib)).Verify(f); res.Verdict != OK {
				t.Errorf("%s with %d MiB: %+v", name, mib, res)
			}
		}
	}
	check("page tables", farAndReadOnly())
	if starved != 1 {
		t.Error("page tables of 800 nodes fit into a machine with 512")
	}
	for i := range uint64(rounds(vm.Default, 600)) {
		name, data := elfgen.Malformed(newRand(first, 12000+i))
		check(fmt.Sprintf("file %d, %s", i, name), data)
	}
	t.Logf("%d files need more than 4 MiB", starved)
	if starved < 5 && !testing.Short() {
		t.Error("few need more memory: this proves nothing")
	}
}

// TestStoryInSmallMemory: stress and suite end as in a large machine.
func TestStoryInSmallMemory(t *testing.T) {
	for _, h := range hardenings() {
		for _, mib := range []uint64{2, 4} {
			opt := small(t, h, mib)
			res := stress(t, opt, StressPlan{Execs: rounds(vm.Default, 200), Touch: 25, Pattern: Random, Seed: seed(t)})
			if res.Passed != res.Execs || res.Tally.Failures != 0 {
				t.Errorf("%d MiB: %d of %d passed: %s", mib, res.Passed, res.Execs, res.WrongLine)
			}
			// 2 MiB less the frame 0 that is never used: no room for a window.
			if assembled := res.Stats.Assembled > 0; assembled != (mib > 2) && !testing.Short() {
				t.Errorf("%d MiB: %d windows assembled", mib, res.Stats.Assembled)
			}
			if res := replay(t, opt, "case-a.trace"); !res.OK() || res.TestsPassed() != 134 {
				t.Errorf("%d MiB: %d tests, %v", mib, res.TestsPassed(), res.FirstCrash)
			}
		}
	}
}

// TestBigStress: the working set of the stress is larger than memory.
func TestBigStress(t *testing.T) {
	var results []StressResult
	for _, h := range hardenings() {
		opt := small(t, h, 6)
		opt.Threshold = 64
		b := newRig(t, opt)
		res, err := b.Stress(program(t, bigFile(64)), StressPlan{Execs: 20, Touch: 300, Pattern: Random, Seed: seed(t)}, never)
		if err != nil {
			t.Fatal(err)
		}
		if res.Passed != res.Execs || res.Tally.Failures != 0 || b.Machine.CacheStats().Evicted == 0 {
			t.Errorf("%+v", res)
		}
		if res.Stats.Assembled == 0 || res.Stats.HugeEvicted == 0 {
			t.Errorf("%d windows assembled, %d evicted", res.Stats.Assembled, res.Stats.HugeEvicted)
		}
		if err := b.Machine.Check(); err != nil {
			t.Error(err)
		}
		results = append(results, res)
	}
	if d := cmp.Diff(results[0], results[len(results)-1]); d != "" {
		t.Errorf("default and fortress differ:\n%s", d)
	}
}

// TestStressOutOfMemory: an execution that is killed has not passed; it is no
// wrong byte, and the next one runs.
func TestStressOutOfMemory(t *testing.T) {
	spec := elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead | mem.ProtExec},
		{Vaddr: 0x401000, Offset: 0x1000, Filesz: 8 << 20, Memsz: 8 << 20, Flags: mem.ProtRead | mem.ProtWrite},
	}}
	f := mem.NewBytesFile("writable", elfgen.Build(spec, nil))
	for _, c := range []struct{ touch, passed int }{{400, 5}, {600, 0}} { // as many frames, in init and in its child
		b := newRig(t, small(t, hardening(t), 4))
		res, err := b.Stress(program(t, f), StressPlan{Execs: 5, Touch: c.touch, Pattern: Random, Seed: seed(t)}, never)
		if err != nil {
			t.Fatal(err)
		}
		if res.Execs != 5 || res.Passed != c.passed || res.Stats.OOMKills != 5-c.passed || res.FirstWrong != (Moment{}) || res.Tally.Failures != 0 {
			t.Errorf("%d pages: %+v", c.touch, res)
		}
		if err := b.Machine.Check(); err != nil {
			t.Error(err)
		}
	}
}
