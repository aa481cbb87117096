package explain

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/internal/session"
	"vmsim/mem"
)

// machine verifies a file in the real machine of the kevlar profile.
func machine(t testing.TB, f mem.File, threshold int, bugs ...string) (res session.FileResult, hugeMapped int, events []event.Event) {
	t.Helper()
	opt := session.DefaultOptions()
	opt.Threshold, opt.Bugs = threshold, bugs
	opt.Memory = 256 << 20
	opt.Events = event.Func(func(e event.Event) {
		if _, ok := e.(event.HugePageVerifyFail); ok {
			events = append(events, e)
		}
	})
	rig, err := session.NewRig(opt)
	if err != nil {
		t.Fatal(err)
	}
	defer rig.Close()
	res = rig.Verify(f)
	if res.Verdict == session.Skipped {
		t.Fatalf("%s: %s", f.Name(), res.Reason)
	}
	return res, rig.Machine.Stats().HugeMapped, events
}

// checkKevlar compares the verdicts with what the machine does at each threshold
// at which they change, and the risks with what it does with either bug on.
// certain: no byte of the file is zero or equals another in its place.
func checkKevlar(t testing.TB, f mem.File, certain bool) {
	t.Helper()
	r, err := Explain(f, defaults)
	if err != nil {
		t.Fatal(err)
	}
	thresholds := []int{1, 128}
	for _, w := range r.Windows {
		if w.Cached > 0 {
			thresholds = append(thresholds, w.Cached, w.Cached+1)
		}
	}
	slices.Sort(thresholds)
	for _, n := range slices.Compact(thresholds) {
		opt := defaults
		opt.Threshold = n
		r, err := Explain(f, opt)
		if err != nil {
			t.Fatal(err)
		}
		windows, entries := 0, 0
		for _, w := range r.Windows {
			switch w.Verdicts[Kevlar].Answer {
			case Yes:
				windows, entries = windows+int(w.N), entries+int(w.N)
			case Frames:
				windows += int(w.N)
			}
		}
		res, huge, _ := machine(t, f, n)
		if res.Windows != windows || huge != 2*entries { // mapped by the second and the third exec
			t.Errorf("%s, threshold %d: %d windows, %d of them by one entry; the machine has %d, and maps %d twice",
				f.Name(), n, windows, entries, res.Windows, huge)
		}
		for _, bug := range []string{boundaryCopy, indexCollision} {
			var want, got []string
			for _, k := range r.Risks {
				if k.Bug == bug {
					want = append(want, fmt.Sprintf("%v sub_page=%d first_diff=%d", k.Base, k.SubPage, k.Diff))
				}
			}
			_, _, events := machine(t, f, n, bug)
			for _, e := range events {
				e := e.(event.HugePageVerifyFail)
				got = append(got, fmt.Sprintf("%v sub_page=%d first_diff=%d", mem.VirtAddr(e.HugeBase), e.SubPage, e.FirstDiff))
			}
			slices.Sort(want)
			slices.Sort(got)
			if d := cmp.Diff(want, got); certain && d != "" {
				t.Errorf("%s, threshold %d, %s: - predicted, + machine:\n%s", f.Name(), n, bug, d)
			}
			if !certain && len(got) > len(want) {
				t.Errorf("%s, threshold %d, %s: %d predicted, the machine has %v", f.Name(), n, bug, len(want), got)
			}
		}
	}
}

// fixture opens a file of the corpus.
func fixture(t testing.TB, name string) mem.File {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../testdata/elf", name))
	if err != nil {
		t.Fatal(err)
	}
	return mem.NewBytesFile(name, data)
}

// TestKevlarFixtures: what explain says of the corpus is what the machine does.
func TestKevlarFixtures(t *testing.T) {
	for _, name := range []string{"beyond-eof", "bss-large", "bss-only", "dynamic-pie", "huge-data", "huge-incongruent", "huge-text",
		"kevlar-layout", "shared-memory-page", "shared-object", "shared-three", "shared-two", "static-nopie", "static-pie"} {
		checkKevlar(t, fixture(t, name), false)
	}
}

// TestKevlarRandom does the same for random files, whose bytes are such that a
// wrong one shows.
func TestKevlarRandom(t *testing.T) {
	n := uint64(60)
	if testing.Short() {
		n = 10
	}
	for seed := range n {
		r := rand.New(rand.NewPCG(seed, 7))
		spec, _ := elfgen.Random(r)
		if seed%3 == 0 { // a segment over the one before
			i := 1 + r.IntN(len(spec.Segments)-1)
			spec.Segments[i].Vaddr -= min(1+r.Uint64N(8), (spec.Segments[i].Vaddr-spec.Segments[0].Vaddr)/mem.PageSize) * mem.PageSize
		}
		if seed%3 == 1 { // pages of the file that are mapped whole, too, behind or in front of the segment that has them in part
			g := spec.Segments[r.IntN(len(spec.Segments)-1)]
			last := spec.Segments[len(spec.Segments)-1]
			alias := elfgen.Seg{Vaddr: alignUp(last.Vaddr+last.Memsz, mem.PageSize) + r.Uint64N(3)*mem.PageSize,
				Offset: (g.Offset + g.Filesz - 1) &^ (mem.PageSize - 1), Flags: []mem.Prot{protR, protRW}[r.IntN(2)]}
			if g.Offset+g.Filesz < 64 || alias.Offset < 4*mem.PageSize {
				alias.Offset = 0
			} else {
				alias.Offset -= r.Uint64N(4) * mem.PageSize
			}
			alias.Filesz = 5*mem.PageSize + r.Uint64N(5000)
			alias.Memsz = alias.Filesz
			if low := spec.Segments[0].Vaddr; spec.Type == elfgen.Exec && r.IntN(2) == 0 && low > 1<<20 {
				alias.Vaddr = low&^(mem.PageSize-1) - 16*mem.PageSize
			}
			spec.Segments = append(spec.Segments, alias)
		}
		f := mem.NewBytesFile(fmt.Sprintf("random %d", seed), elfgen.Build(spec, distinct))
		checkKevlar(t, f, true)
		if t.Failed() {
			t.Fatalf("%+v", spec)
		}
	}
}

// distinct fills with bytes that are never zero and differ from those a page
// further: a byte from a wrong place shows at once.
func distinct(off int64, p []byte) {
	for i := range p {
		at := off + int64(i)
		p[i] = byte(1 + (at/mem.PageSize+at)%251)
	}
}

// TestCaseA: the sub-pages of the two binaries of CASES.
func TestCaseA(t *testing.T) {
	for _, c := range []struct {
		path          string
		subPage       int
		first, second int // first byte from a wrong place, by bug
	}{
		{"../../testdata/elf/kevlar-layout", 284, 0, 3056},
		{"/bin/busybox", 475, 0, 1800}, // the byte at 1800 is zero by chance: the verifier says 1801
	} {
		f, err := mem.OpenFile(c.path)
		if errors.Is(err, os.ErrNotExist) {
			t.Logf("no %s (Debian package busybox-static)", c.path)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		r, err := Explain(f, defaults)
		if err != nil {
			t.Fatal(err)
		}
		if c.path == "/bin/busybox" && r.Size != 1982256 {
			t.Logf("another busybox than 1:1.35.0-4+deb12u1+b1: %d bytes", r.Size)
			continue
		}
		var got []string
		for _, k := range r.Risks {
			got = append(got, fmt.Sprintf("%s %v %d %d", k.Bug, k.Base, k.SubPage, k.Diff))
		}
		want := []string{
			fmt.Sprintf("boundary-copy 0x400000 %d %d", c.subPage, c.first),
			fmt.Sprintf("index-collision 0x400000 %d %d", c.subPage, c.second),
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s:\n%s", c.path, d)
		}
		checkKevlar(t, f, false)
	}
}
