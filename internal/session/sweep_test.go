package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	root "vmsim"
	"vmsim/internal/elfgen"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// onDisk writes files where a sweep can open them.
func onDisk(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func bytesOf(t testing.TB, f mem.File) []byte {
	t.Helper()
	data := make([]byte, f.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	return data
}

// fixtureOnDisk is the binary of the corpus with this name.
func fixtureOnDisk(t testing.TB, name string) string {
	t.Helper()
	return onDisk(t, name, bytesOf(t, fixture(t, name)))
}

// sweepOne sweeps one file.
func sweepOne(t testing.TB, opt Options, plan SweepPlan, path string, jobs int) SweepResult {
	t.Helper()
	var got []SweepResult
	if err := Sweep(opt, plan, []string{path}, jobs, func(r SweepResult) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Path != path {
		t.Fatalf("%d results, of one file", len(got))
	}
	return got[0]
}

// allThresholds are those that there are.
func allThresholds() []int {
	all, err := ParseThresholds("0-513")
	if err != nil || len(all) != 514 {
		panic(fmt.Sprint(len(all), err))
	}
	return all
}

var everyPage = TouchSet{All: true}

// sweepPrediction is what a sweep with one warm-up that touches every page comes
// to at one threshold, from headers and bytes alone: sub-pages by predict, and
// here, by the same rules, what is read, faults and frames.
//
// p is im.predict at that threshold. covered: of its windows, those of which each sub-page has a VMA or a filler.
func (im *fileImage) sweepPrediction(p prediction, threshold int, covered bool) SweepFigures {
	from, to := im.bounds()
	var f SweepFigures
	cold := map[uint64]*cachedPage{} // the page cache when nothing was touched
	warm := im.touched()
	assembled := map[uint64]bool{}
	for _, base := range p.bases {
		if covered && (base < from || base+window > to) {
			continue
		}
		assembled[base] = true
		f.Windows++
		oneProt := base >= from && base+window <= to && im.prot(base) != 0
		for addr := base; addr < base+window; addr += page {
			cache := warm
			if threshold == 0 {
				cache = cold
			}
			_, source := im.assemble(addr, cache, false, false)
			*map[byte]*int{'c': &f.FromCache, 'f': &f.FromFile, '0': &f.Zero}[source]++
			f.BytesRead += im.readsAt(addr, cache)
			oneProt = oneProt && im.prot(addr) == im.prot(base)
			if from <= addr && addr < to {
				f.BytesCompared += page
			}
		}
		f.Mapped++
		if oneProt {
			f.OneEntry++
		}
	}
	// The warm-up.
	seen := map[uint64]*cachedPage{}
	for addr := from; addr < to; addr += page {
		if threshold == 0 && assembled[addr/window*window] {
			continue
		}
		f.BytesReadAll += im.readsAt(addr, seen)
		im.insertAt(addr, seen)
	}
	if threshold == 0 {
		f.BytesReadAll, f.BytesRead = f.BytesReadAll+f.BytesRead, 0 // it assembled
	}
	f.Frames = 1 + len(seen) + 512*f.Windows // the zero page
	for addr := from; addr < to; addr += page {
		f.BytesCompared += 2 * page
		if assembled[addr/window*window] || im.mapped(addr, seen) {
			continue
		}
		f.Faults++
		f.BytesRead += im.readsAt(addr, seen)
		for _, a := range im.on(addr, page) {
			if max(addr, a.start) < min(addr+page, a.fileEnd) {
				f.Frames++ // its own: what may be cached is cached
				break
			}
		}
	}
	f.BytesReadAll += f.BytesRead
	return f
}

// readsAt is how many bytes of the file a page takes that the cache does not
// give whole.
func (im *fileImage) readsAt(addr uint64, cache map[uint64]*cachedPage) (n uint64) {
	if im.mapped(addr, cache) {
		return 0
	}
	for _, a := range im.on(addr, page) {
		if from, to := max(addr, a.start), min(addr+page, a.fileEnd); from < to {
			n += to - from
		}
	}
	return n
}

// mapped reports whether a page is mapped from the cache: it is a whole page of
// one VMA, and cached whole.
func (im *fileImage) mapped(addr uint64, cache map[uint64]*cachedPage) bool {
	on := im.on(addr, page)
	if len(on) != 1 || on[0].start > addr || on[0].fileEnd < addr+page {
		return false
	}
	c := cache[(on[0].off+addr-on[0].start)/page]
	return c != nil && c.valid == page
}

// insertAt is what touched does at one page.
func (im *fileImage) insertAt(addr uint64, cache map[uint64]*cachedPage) {
	on := im.on(addr, page)
	if len(on) != 1 || on[0].writable() || on[0].start > addr || on[0].fileEnd <= addr {
		return
	}
	if i := (on[0].off + addr - on[0].start) / page; cache[i] == nil {
		cache[i] = &cachedPage{valid: int(min(page, on[0].fileEnd-addr))}
	}
}

// TestSweepFollowsFromTheLayout: every figure at every threshold is the one that
// headers and bytes predict, on the corpus and on random files.
func TestSweepFollowsFromTheLayout(t *testing.T) {
	files := map[string][]byte{}
	var names []string
	for _, f := range root.Corpus() {
		data := bytesOf(t, f)
		if from, to := newFileImage(data, uint64(vm.PIEBase)).bounds(); to-from > 2*window {
			continue // of a long .bss only the ends are touched
		}
		names = append(names, filepath.Base(f.Name()))
		files[filepath.Base(f.Name())] = data
	}
	if len(names) < 12 {
		t.Errorf("%d files of the corpus", len(names))
	}
	s := seed(t)
	for i := range uint64(rounds(hardening(t), 12)) {
		name := fmt.Sprintf("random-%d", i)
		_, data := elfgen.Random(newRand(s, 7000+i))
		names, files[name] = append(names, name), data
	}
	assembled, changes := 0, 0
	for _, name := range names {
		im := newFileImage(files[name], uint64(vm.PIEBase))
		plan := SweepPlan{Policies: []string{"kevlar", "covered"}, Thresholds: allThresholds(), Touch: everyPage, Execs: 1}
		res := sweepOne(t, options(t), plan, onDisk(t, name, files[name]), 2)
		if res.Err != nil || len(res.Points) != 2*514 {
			t.Fatalf("%s: %d points, %v", name, len(res.Points), res.Err)
		}
		var byThreshold []prediction
		for threshold := range NeverThreshold + 1 {
			byThreshold = append(byThreshold, im.predict(threshold, false, false))
		}
		never := im.sweepPrediction(byThreshold[NeverThreshold], NeverThreshold, false)
		for i, p := range res.Points {
			want := im.sweepPrediction(byThreshold[p.Threshold], p.Threshold, p.Policy == "covered")
			want.Avoided, want.Added = never.Faults-want.Faults, want.Frames-never.Frames
			if d := cmp.Diff(want, p.SweepFigures); d != "" || p.Killed != "" || p.Threshold != i%514 {
				t.Fatalf("%s, %v (-predicted +reported):\n%s%s", name, p, d, p.Killed)
			}
			if p.Windows > 0 {
				assembled++
			}
			if i > 0 && p.SweepFigures != res.Points[i-1].SweepFigures {
				changes++
			}
		}
	}
	t.Logf("%d files, %d points with a window, %d changes", len(names), assembled, changes)
	if assembled < 1000 || changes < 2*len(names) {
		t.Errorf("%d points with a window, %d changes: too few to prove anything", assembled, changes)
	}
}

// TestSweepRunsEachThreshold: a result that is not measured at a threshold, but
// concluded from a run at another, is what a run there measures: with memory
// that suffices, and with so little that pages are evicted and windows
// assembled again, or processes killed.
func TestSweepRunsEachThreshold(t *testing.T) {
	many := elfgen.Spec{Type: elfgen.Exec, Entry: 0x400000} // windows with 7 to 397 pages that can be cached
	for i := range uint64(4) {
		n := (7 + 130*i) * page
		many.Segments = append(many.Segments, elfgen.Seg{Vaddr: 0x400000 + i*window, Offset: i * window / 2,
			Filesz: n, Memsz: n, Flags: mem.ProtRead})
	}
	manyWindows := onDisk(t, "many-windows", elfgen.Build(many, nil))
	for _, c := range []struct {
		name   string
		path   string
		memory uint64
		touch  TouchSet
		execs  int
		policy string
		runs   int  // different results at least
		evicts bool // at some threshold
	}{
		{"start-up", fixtureOnDisk(t, "kevlar-layout"), testMemory, TouchSet{}, 1, "kevlar", 3, false},
		{"drawn", fixtureOnDisk(t, "kevlar-layout"), testMemory, TouchSet{Random: 40, Seed: 3}, 3, "kevlar", 3, false},
		{"covered", fixtureOnDisk(t, "huge-text"), testMemory, everyPage, 2, "covered", 3, false},
		{"many windows", manyWindows, testMemory, everyPage, 1, "kevlar", 5, false},
		{"no warm-up", manyWindows, testMemory, everyPage, 0, "kevlar", 2, false},
		{"eviction", manyWindows, 4 << 20, everyPage, 1, "kevlar", 5, true},
		{"little memory", fixtureOnDisk(t, "huge-data"), 4 << 20, everyPage, 2, "kevlar", 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := options(t)
			opt.Memory = c.memory
			plan := SweepPlan{Policies: []string{c.policy}, Thresholds: allThresholds(), Touch: c.touch, Execs: c.execs}
			res := sweepOne(t, opt, plan, c.path, 1)
			if res.Err != nil || len(res.Points) != 514 {
				t.Fatalf("%d points, %v", len(res.Points), res.Err)
			}
			rig, err := newSweepRig(opt)
			if err != nil {
				t.Fatal(err)
			}
			defer rig.Close()
			f, err := mem.OpenFile(c.path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			truth, err := verify.Load(f, vm.PIEBase)
			if err != nil {
				t.Fatal(err)
			}
			different := map[SweepFigures]bool{}
			never, evicted := res.Points[NeverThreshold], 0
			for i, p := range res.Points {
				// All are run, but for a sample where that takes long.
				ends := i == 0 || i == NeverThreshold || p.Until == p.Threshold || res.Points[i-1].Until == i-1
				if rounds(opt.Hardening, 30) < 30 && !ends && i%29 != 0 {
					continue
				}
				run := sweepRun{policy: c.policy, threshold: p.Threshold}
				if err := rig.measure(f, c.touch.pages(truth), c.execs, &run); err != nil {
					t.Fatal(err)
				}
				want := run.figures
				if run.killed == "" {
					want.Avoided, want.Added = never.Faults-want.Faults, want.Frames-never.Frames
				}
				if d := cmp.Diff(want, p.SweepFigures); d != "" || run.killed != p.Killed {
					t.Fatalf("%v (-run +concluded):\n%s%q, %q", p, d, run.killed, p.Killed)
				}
				evicted += rig.Machine.CacheStats().Evicted
				different[p.SweepFigures] = true
				if p.Until < p.Threshold || p.Until < NeverThreshold && res.Points[p.Until].Until != p.Until {
					t.Errorf("%v: said to hold until %d", p, p.Until)
				}
			}
			if len(different) < c.runs || (evicted > 0) != c.evicts {
				t.Errorf("%d different results, want %d at least; %d pages evicted", len(different), c.runs, evicted)
			}
			// Without a list, every result is shown, at both sides of where it changes.
			plan.Thresholds = nil
			var last SweepPoint
			shown := map[SweepFigures]bool{}
			for i, p := range sweepOne(t, opt, plan, c.path, 1).Points {
				shown[p.SweepFigures] = true
				if d := cmp.Diff(res.Points[p.Threshold], p); d != "" {
					t.Errorf("%v (-list +no list):\n%s", p, d)
				}
				if i > 0 && p.SweepFigures != last.SweepFigures && p.Threshold != last.Threshold+1 {
					t.Errorf("it changes somewhere between %d and %d", last.Threshold, p.Threshold)
				}
				last = p
			}
			if len(shown) != len(different) {
				t.Errorf("%d of %d results are shown", len(shown), len(different))
			}
		})
	}
}

// TestSweepKevlarLayout: the figures of the README.
func TestSweepKevlarLayout(t *testing.T) {
	res := sweepOne(t, options(t), SweepPlan{Policies: []string{"kevlar", "never"}, Touch: everyPage, Execs: 1},
		fixtureOnDisk(t, "kevlar-layout"), 1)
	var got []string
	for _, r := range res.Ranges() {
		got = append(got, fmt.Sprintf("%s %d-%d: %d windows, %d+%d+%d, %d bytes, %d avoided, %d added", r.Policy, r.Threshold, r.Last,
			r.Windows, r.FromCache, r.FromFile, r.Zero, r.BytesRead, r.Avoided, r.Added))
	}
	want := []string{
		"kevlar 0-0: 1 windows, 0+291+221, 0 bytes, 11 avoided, 220 added",
		"kevlar 1-284: 1 windows, 283+8+221, 25664 bytes, 11 avoided, 504 added",
		"kevlar 285-513: 0 windows, 0+0+0, 25664 bytes, 0 avoided, 0 added",
		"never 0-513: 0 windows, 0+0+0, 25664 bytes, 0 avoided, 0 added",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestSweepFailures: a wrong window is a failure at the thresholds at which it is
// assembled, and no other.
func TestSweepFailures(t *testing.T) {
	path := fixtureOnDisk(t, "kevlar-layout")
	im := newFileImage(bytesOf(t, fixture(t, "kevlar-layout")), 0)
	for _, v := range variants {
		opt := options(t)
		opt.Bugs = v.bugs
		plan := SweepPlan{Policies: []string{"kevlar", "covered", "never"}, Thresholds: allThresholds(), Touch: everyPage, Execs: 1}
		for _, p := range sweepOne(t, opt, plan, path, 2).Points {
			want := 0
			if p.Policy == "kevlar" { // the window, and the page as the process sees it
				lines := im.predict(p.Threshold, slices.Contains(v.bugs, "boundary-copy"), slices.Contains(v.bugs, "index-collision")).lines
				want = 2 * len(lines)
			}
			if p.Failures != want || len(p.FailureEvents) != want {
				t.Errorf("%s, %v: %d failures, want %d: %v", v.name, p, p.Failures, want, p.FailureEvents)
			}
		}
	}
}

// TestSweepJobs: how many machines work changes neither results nor their order.
func TestSweepJobs(t *testing.T) {
	var paths []string
	for _, name := range []string{"kevlar-layout", "shared-three", "huge-text", "bss-only"} {
		paths = append(paths, fixtureOnDisk(t, name))
	}
	paths = append(paths, onDisk(t, "text", []byte("text")), filepath.Join(t.TempDir(), "missing"))
	plan := SweepPlan{Policies: []string{"kevlar", "covered", "never"}, Touch: TouchSet{Random: 20, Seed: 9}, Execs: 2}
	var want []SweepResult
	for _, jobs := range []int{1, 2, 7} {
		var got []SweepResult
		if err := Sweep(options(t), plan, paths, jobs, func(r SweepResult) { got = append(got, r) }); err != nil {
			t.Fatal(err)
		}
		if jobs == 1 {
			want = got
		}
		same := cmp.Comparer(func(a, b error) bool { return fmt.Sprint(a) == fmt.Sprint(b) })
		if d := cmp.Diff(want, got, same); d != "" || len(got) != len(paths) {
			t.Errorf("%d jobs: %d results:\n%s", jobs, len(got), d)
		}
	}
	for i, text := range []string{4: "not an ELF file", 5: "no such file or directory"} {
		if text == "" {
			if want[i].Err != nil || len(want[i].Points) < 20 {
				t.Errorf("%s: %d points, %v", paths[i], len(want[i].Points), want[i].Err)
			}
		} else if want[i].Err == nil || !strings.Contains(want[i].Err.Error(), text) || strings.Contains(want[i].Err.Error(), paths[i]) {
			t.Errorf("%s: %v, want %s", paths[i], want[i].Err, text)
		}
	}
}

// TestSweepStops: a sweep that is stopped gives what it found, and no file
// behind the one under way.
func TestSweepStops(t *testing.T) {
	paths := []string{fixtureOnDisk(t, "static-pie"), fixtureOnDisk(t, "huge-text"), fixtureOnDisk(t, "bss-only")}
	plan := SweepPlan{Policies: []string{"never", "kevlar"}, Touch: everyPage, Execs: 1}
	opt := options(t)
	asked := 0
	opt.Stop = func() bool { asked++; return asked > 2000 } // in the second run of the second file
	var got []SweepResult
	if err := Sweep(opt, plan, paths, 1, func(r SweepResult) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Err != nil || !errors.Is(got[1].Err, ErrStopped) {
		t.Fatalf("%d results: %+v", len(got), got)
	}
	// The run without assembly was made: it is all of never, and kevlar's end.
	policies := map[string]int{}
	for _, p := range got[1].Points {
		policies[p.Policy]++
	}
	if policies["never"] != len(usualThresholds()) || policies["kevlar"] != 1 { // 513
		t.Errorf("points: %v", policies)
	}
}

// TestSweepKilled: where memory does not suffice with nothing assembled, there is
// nothing to compare with.
func TestSweepKilled(t *testing.T) {
	opt := options(t)
	opt.Memory = 4 << 20
	spec := elfgen.Spec{Type: elfgen.Exec, Entry: 0x400000, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead | mem.ProtExec},
		{Vaddr: 0x800000, Offset: 0x1000, Filesz: 8 << 20, Memsz: 8 << 20, Flags: mem.ProtRead | mem.ProtWrite}}}
	res := sweepOne(t, opt, SweepPlan{Policies: []string{"kevlar"}, Touch: everyPage}, onDisk(t, "big", elfgen.Build(spec, nil)), 1)
	if res.Err == nil || !strings.HasPrefix(res.Err.Error(), "with nothing assembled: out of memory: ") || len(res.Points) != 0 {
		t.Errorf("%d points, %v", len(res.Points), res.Err)
	}
}

// TestSweepChanged: a file that is written while it is swept is told, and has no
// figures.
func TestSweepChanged(t *testing.T) {
	path := fixtureOnDisk(t, "static-pie")
	opt := options(t)
	asked := 0
	opt.Stop = func() bool {
		if asked++; asked == 3 {
			if err := os.WriteFile(path, []byte("\x7fELF no more"), 0o644); err != nil {
				t.Error(err)
			}
		}
		return false
	}
	res := sweepOne(t, opt, SweepPlan{Policies: []string{"kevlar"}, Touch: everyPage, Execs: 1}, path, 1)
	if !errors.Is(res.Err, ErrChanged) || len(res.Points) != 0 {
		t.Errorf("%d points, %v", len(res.Points), res.Err)
	}
}

// TestRanges: points are taken together only where those between are known.
func TestRanges(t *testing.T) {
	point := func(policy string, threshold, until, windows int) SweepPoint {
		return SweepPoint{Policy: policy, Threshold: threshold, Until: until, SweepFigures: SweepFigures{Windows: windows}}
	}
	killed := point("b", 9, 10, 0)
	killed.Killed = "out of memory"
	points := []SweepPoint{
		point("a", 0, 0, 2), point("a", 1, 3, 2), point("a", 3, 3, 2), // 0 to 3: nothing between 0 and 1
		point("a", 64, 100, 2), // 4 to 63 are not known
		point("a", 101, 513, 1), point("a", 513, 513, 1),
		point("b", 0, 7, 1), point("b", 8, 8, 0), killed,
	}
	var got []string
	for _, r := range (SweepResult{Points: points}).Ranges() {
		got = append(got, fmt.Sprintf("%s %d-%d: %d %s", r.Policy, r.Threshold, r.Last, r.Windows, r.Killed))
	}
	want := []string{"a 0-3: 2 ", "a 64-64: 2 ", "a 101-513: 1 ", "b 0-0: 1 ", "b 8-8: 0 ", "b 9-9: 0 out of memory"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestParseThresholds(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []int
	}{
		{"0", []int{0}},
		{"513", []int{513}},
		{"128,1,64-66,0,65", []int{0, 1, 64, 65, 66, 128}},
		{"7-7", []int{7}},
		{"512-513", []int{512, 513}},
	} {
		if got, err := ParseThresholds(c.in); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, %v", c.in, got, err)
		}
	}
	for _, s := range []string{"", ",", "1,", "-1", "1-", "-", "0-514", "514", "600", "1--2", "0x10", "1 2", "1.5", "2-1",
		"99999999999999999999", "1-99999999999999999999", "a"} {
		if got, err := ParseThresholds(s); err == nil || got != nil {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

// FuzzParseThresholds: a list or an error; what is read is ascending and in range.
func FuzzParseThresholds(f *testing.F) {
	for _, s := range []string{"0,1,64-128,513", "0-513,0-513", "1-0", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all, err := ParseThresholds(s)
		if err != nil {
			if all != nil {
				t.Fatalf("%q: %v and %v", s, all, err)
			}
			return
		}
		if len(all) == 0 || !slices.IsSortedFunc(all, func(a, b int) int {
			if a < b {
				return -1
			}
			return 1
		}) || all[0] < 0 || all[len(all)-1] > NeverThreshold {
			t.Fatalf("%q: %v", s, all)
		}
	})
}

func TestTouchSet(t *testing.T) {
	f := fixture(t, "kevlar-layout")
	truth, err := verify.Load(f, vm.PIEBase)
	if err != nil {
		t.Fatal(err)
	}
	startup := truth.StartupPages()
	for _, c := range []struct {
		in    string
		pages int
	}{{"all", 0x126}, {"startup", len(startup)}, {"0", len(startup)}, {"25", len(startup) + 25}, {"1000000", 0x126}} {
		s, err := ParseTouchSet(c.in, 5)
		if err != nil {
			t.Fatal(err)
		}
		pages := s.pages(truth)
		if len(pages) != c.pages || c.in != "all" && !slices.Equal(pages[:len(startup)], startup) {
			t.Errorf("%s: %d pages, want %d", c.in, len(pages), c.pages)
		}
		if !slices.Equal(pages, s.pages(truth)) {
			t.Errorf("%s: other pages the second time", c.in)
		}
		if other, _ := ParseTouchSet(c.in, 6); c.in == "25" && slices.Equal(pages, other.pages(truth)) {
			t.Error("another seed, the same pages")
		}
	}
	for _, s := range []string{"", "some", "-1", "1.5", "2147483648", "99999999999999999999"} {
		if got, err := ParseTouchSet(s, 1); err == nil || got != (TouchSet{}) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

// TestCounted: what a machine reads is counted, and what the witness reads is not.
func TestCounted(t *testing.T) {
	f := &counted{File: mem.NewBytesFile("five", []byte("12345"))}
	p := make([]byte, 4)
	for _, c := range []struct {
		off  int64
		want uint64
	}{{0, 4}, {3, 6}, {5, 6}, {9, 6}} {
		if err := mem.ReadPadded(f, p, c.off); err != nil || f.bytes != c.want {
			t.Errorf("at %d: %d bytes, want %d (%v)", c.off, f.bytes, c.want, err)
		}
	}
	if itself(f) != f.File || itself(f.File) != f.File {
		t.Error("not the file itself")
	}
	// A program whose windows and pages are all verified is read once.
	layout := newFileImage(bytesOf(t, fixture(t, "huge-text")), uint64(vm.PIEBase))
	from, to := layout.bounds()
	var want uint64
	for addr := from; addr < to; addr += page {
		want += layout.readsAt(addr, nil)
	}
	for _, threshold := range []int{0, NeverThreshold} {
		file := &counted{File: fixture(t, "huge-text")}
		opt := options(t)
		opt.Threshold, opt.Hardening = threshold, vm.Fortress
		rig := newRig(t, opt)
		im, err := loader.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		file.bytes = 0
		init, err := rig.Machine.Boot(nil)
		if err != nil {
			t.Fatal(err)
		}
		p := init.Fork()
		if err := p.Exec(vm.Program{Image: im}); err != nil {
			t.Fatal(err)
		}
		for addr := from; addr < to; addr += page {
			if _, err := p.Touch(mem.VirtAddr(addr), mem.Read); err != nil {
				t.Fatal(err)
			}
		}
		if n := rig.Witness.Tally(); n.Failures != 0 || n.Windows != 2*(1-threshold/NeverThreshold) || file.bytes != want {
			t.Errorf("threshold %d: %+v, %d bytes read, want %d", threshold, n, file.bytes, want)
		}
	}
}
