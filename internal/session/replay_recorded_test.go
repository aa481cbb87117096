package session

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/mem"
	"vmsim/trace"
)

// recordedHead begins the recordings of these tests.
const recordedHead = "vmsim-trace 1\nheader source test\nheader touches complete\nheader whole yes\n"

// replayRecorded runs the lines of a recording that lies beside the traces of
// testdata. before is as in replayText.
func replayRecorded(t testing.TB, opt Options, ropt ReplayOptions, text string, before func(b *Rig, n int)) (ReplayResult, error) {
	t.Helper()
	b := newRig(t, opt)
	n := 0
	if !strings.HasPrefix(text, "vmsim-trace") {
		text = recordedHead + text
	}
	res, err := b.ReplayWith(filepath.Join(traces, "t"), strings.NewReader(text), func() bool {
		if before != nil {
			before(b, n)
		}
		n++
		return false
	}, ropt)
	if e := b.Machine.Check(); e != nil {
		t.Error(e)
	}
	b.Reset() // panics if a frame was leaked
	return res, err
}

// kevlarExec starts process 2 with a layout as a recorder writes it.
const kevlarExec = `1 fork = 2
2 exec ../elf/kevlar-layout base=0x400000 sp=0x7fffffffe800 brk=0x5a0000 arg=kevlar = 0
2 area exec 0x7ffff7fc8000-0x7ffff7fca000 r-x private [vdso]
2 area exec 0x7ffffffde000-0x7ffffffff000 rw- private [stack]
`

// TestRecordedPages: which pages are compared, which are not known, and why.
func TestRecordedPages(t *testing.T) {
	for _, c := range []struct {
		name, lines string
		pages       int    // compared
		unknown     string // "2 [vdso], 1 x"
	}{
		{"text", "2 touch x 0x401000\n2 touch r 0x401008\n2 touch r 0x402000", 2, ""},
		{"a write, compared before it", "2 touch w 0x51d008\n2 touch r 0x51d008\n2 touch w 0x51d010", 1, ""},
		{"not again by a child", "2 touch w 0x51d008\n2 fork = 3\n3 touch r 0x51d008\n3 touch w 0x51d008", 1, ""},
		{"by a child first", "2 fork = 3\n3 touch w 0x51d008\n2 touch r 0x51d008", 2, ""},
		{"stack below its pointer", "2 touch w 0x7fffffffd000", 1, ""},
		{"arguments", "2 touch r 0x7fffffffe800\n2 touch r 0x7fffffffe010", 0, "1 arguments and environment"},
		{"vdso", "2 touch x 0x7ffff7fc8100\n2 touch r 0x7ffff7fc9000", 0, "2 [vdso]"},
		{"over the vdso", "2 mmap 0x7ffff7fc8000 0x2000 rw- private,fixed anon = 0x7ffff7fc8000\n2 touch r 0x7ffff7fc9000", 1, ""},
		{"heap", "2 brk 0x5a2000 = 0x5a2000\n2 touch w 0x5a1000", 1, ""},
		{"mapped, written, dropped", "2 mmap 0 0x1000 rw- private anon = 0x7ffff7000000\n2 touch w 0x7ffff7000000\n2 madvise 0x7ffff7000000 0x1000 dontneed = 0\n2 touch r 0x7ffff7000000", 2, ""},
		{"mapped again", "2 mmap 0 0x1000 rw- private anon = 0x7ffff7000000\n2 touch w 0x7ffff7000000\n2 munmap 0x7ffff7000000 0x1000 = 0\n2 mmap 0 0x1000 rw- private anon = 0x7ffff7000000\n2 touch r 0x7ffff7000000", 2, ""},
		{"a file", "2 mmap 0 0x2000 rw- private ../elf/huge-text+0x1000 = 0x7ffff7000000\n2 touch r 0x7ffff7000000\n2 touch w 0x7ffff7001000", 2, ""},
		{"anonymous memory in the place of a file", "2 mmap 0 0x2000 r-- private ../elf/huge-text+0x1000 = 0x7ffff7000000\n2 touch r 0x7ffff7000000\n2 munmap 0x7ffff7000000 0x2000 = 0\n2 mmap 0 0x2000 rw- private anon = 0x7ffff7000000\n2 touch r 0x7ffff7000000", 2, ""},
		{"a file that is gone", "file ../elf/nothing size=8192\n2 mmap 0 0x2000 rw- private ../elf/nothing+0 = 0x7ffff7000000\n2 touch r 0x7ffff7000000", 0, "1 ../../testdata/elf/nothing (gone)"},
		{"a file that has changed", "file ../elf/huge-text size=8192\n2 mmap 0 0x2000 rw- private ../elf/huge-text+0 = 0x7ffff7000000\n2 touch r 0x7ffff7000000", 0, "1 ../../testdata/elf/huge-text (changed)"},
		{"a memfd", "file /memfd:x kind=memory size=8192\n2 mmap 0 0x2000 rw- shared /memfd:x+0 = 0x7ffff7000000\n2 touch r 0x7ffff7000000", 0, "1 /memfd:x (memory)"},
		{"shared memory, zero until it is written", "file /SYSV1 kind=shared size=8192\n2 shmat 0 0x2000 rw- /SYSV1 = 0x7ffff7000000\n2 fork = 3\n3 touch w 0x7ffff7000000\n2 touch r 0x7ffff7000000\n2 touch r 0x7ffff7001000\n2 shmdt 0x7ffff7000000 = 0",
			2, "1 shared memory that was written"},
		{"shared anonymous memory", "2 mmap 0 0x2000 rw- shared anon = 0x7ffff7000000\n2 fork = 3\n3 touch w 0x7ffff7000000\n2 touch r 0x7ffff7000000", 1, "1 shared memory that was written"},
		{"a file written through a shared mapping", "2 mmap 0 0x2000 rw- shared ../elf/huge-text+0x1000 = 0x7ffff7000000\n2 touch w 0x7ffff7000000\n2 mmap 0 0x2000 r-- private ../elf/huge-text+0x1000 = 0x7ffff6000000\n2 touch r 0x7ffff6000000\n2 touch r 0x7ffff6001000",
			2, "1 files written through a shared mapping"},
		{"moved", "2 mmap 0 0x1000 rw- private anon = 0x7ffff7000000\n2 touch w 0x7ffff7000000\n2 mremap 0x7ffff7000000 0x1000 0x2000 maymove = 0x7ffff6000000\n2 touch r 0x7ffff6000000\n2 touch r 0x7ffff6001000", 2, ""},
		{"in the parent's memory", "2 vfork = 3\n3 touch w 0x51d008\n2 touch r 0x51d008\n3 exec ../elf/static-nopie = 0\n3 touch x 0x401000\n2 touch r 0x51e000", 3, ""},
		{"populated", "2 mmap 0 0x2000 rw- private,populate anon = 0x7ffff7000000\n2 touch w 0x7ffff7000000", 1, ""},
		{"a handled signal", "2 touch r 0x10 = SEGV_MAPERR\n2 touch w 0x401000 = SEGV_ACCERR\n2 touch r 0x401000", 1, ""},
		{"a signal, and nothing says what became of it", "2 touch r 0x10\n2 touch w 0x401000\n2 touch r 0x401000\n2 exit signal=11", 1, ""},
		{"a stack larger than 8 MiB", "2 touch w 0x7fffff000000\n2 fork = 3\n3 touch w 0x7ffffe000000\n2 touch w 0x7ffffd000000 = SEGV_MAPERR", 2, ""},
		{"beyond the end of a file", "2 mmap 0 0x9000000 r-- private ../elf/static-nopie+0 = 0x7fff00000000\n2 touch r 0x7fff08000000 = SIGBUS", 1, ""},
		{"a heap that starts where its first brk says", "2 exec ../elf/kevlar-layout base=0x400000 = 0\n2 brk 0 = 0x700000\n2 brk 0x702000 = 0x702000\n2 touch w 0x701000", 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := replayRecorded(t, options(t), ReplayOptions{}, kevlarExec+c.lines, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !res.OK() || res.Skipped != 0 {
				t.Fatalf("mismatches %v, crash %v, wrong line %q", res.Mismatches, res.FirstCrash, res.WrongLine)
			}
			var unknown []string
			for _, u := range res.Recording.Unknown {
				unknown = append(unknown, fmt.Sprintf("%d %s", u.Pages, u.What))
			}
			if got := strings.Join(unknown, ", "); got != c.unknown || res.Tally.Pages != c.pages {
				t.Errorf("%d pages compared, want %d; unknown %q, want %q", res.Tally.Pages, c.pages, got, c.unknown)
			}
		})
	}
}

// TestRecordedCorruption: a broken frame is found by who touches it first, and by
// nobody once it may be dirty.
func TestRecordedCorruption(t *testing.T) {
	const head = kevlarExec + "1 fork = 3\n3 exec ../elf/kevlar-layout = 0\n"
	for _, c := range []struct {
		name, first, then string
		at                mem.VirtAddr // flipped in process 2 in between
		wrong             bool
	}{
		{"text that another touches next", "2 touch r 0x402000", "3 touch r 0x402000", 0x402010, true},
		{"text that the same touches again", "2 touch r 0x402000", "2 fork = 4\n4 touch r 0x402000", 0x402010, false},
		{"written data", "2 touch w 0x51d008", "2 touch w 0x51d010\n2 fork = 4\n4 touch w 0x51d008", 0x51d020, false},
		{"after the page was dropped", "2 touch r 0x402000", "2 madvise 0x402000 0x1000 dontneed = 0\n2 touch r 0x402000", 0x402010, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			lines := head + c.first + "\n"
			n := strings.Count(lines, "\n")
			res, err := replayRecorded(t, options(t), ReplayOptions{}, lines+c.then, func(b *Rig, ops int) {
				if p, ok := b.Machine.Process(2); ok && ops == n {
					if err := p.InjectByte(c.at, 0x10); err != nil {
						t.Fatal(err)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			if (res.Wrong == 1) != c.wrong || res.OK() == c.wrong {
				t.Errorf("%d wrong, crash %v", res.Wrong, res.FirstCrash)
			}
			if c.wrong && (res.Recording.WrongIn != "../../testdata/elf/kevlar-layout" || res.FirstWrong == (Moment{})) {
				t.Errorf("in %q, %+v", res.Recording.WrongIn, res.FirstWrong)
			}
		})
	}
}

// TestOtherFile: a binary that is not the one recorded is refused by name.
func TestOtherFile(t *testing.T) {
	elf, err := os.Stat(filepath.Join(traces, "../elf/static-nopie"))
	if err != nil {
		t.Fatal(err)
	}
	size, mtime := elf.Size(), elf.ModTime().UnixNano()
	for _, c := range []struct {
		file, want string
	}{
		{fmt.Sprintf("size=%d mtime=%d", size, mtime), ""},
		{fmt.Sprintf("size=%d", size), ""},
		{fmt.Sprintf("size=%d", size+1), fmt.Sprintf("%d bytes now, %d then", size, size+1)},
		{fmt.Sprintf("size=%d mtime=1000000000", size), "modified "},
		{fmt.Sprintf("size=%d build=abcdef0123456789", size), "build id none now, abcdef012345 then"},
		{fmt.Sprintf("kind=memory size=%d", size), "it was run from a memory file"},
	} {
		text := "file ../elf/static-nopie " + c.file + "\n1 fork = 2\n2 exec ../elf/static-nopie = 0\n2 touch r 0x401000\n"
		res, err := replayRecorded(t, options(t), ReplayOptions{}, text, nil)
		switch {
		case c.want == "" && (err != nil || !res.OK() || res.Tally.Pages != 1):
			t.Errorf("%s: %v", c.file, err)
		case c.want != "" && (!errors.Is(err, ErrOtherFile) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "t:7: ")):
			t.Errorf("%s: error %v, want %s", c.file, err, c.want)
		}
		if res, err = replayRecorded(t, options(t), ReplayOptions{Force: true}, text, nil); err != nil || !res.OK() || res.Tally.Pages != 1 {
			t.Errorf("%s, forced: %v", c.file, err)
		}
	}
	gone := "file ../elf/nothing size=1\n1 fork = 2\n2 exec ../elf/nothing = 0\n2 touch r 0x401000\n"
	if _, err := replayRecorded(t, options(t), ReplayOptions{}, gone, nil); !errors.Is(err, ErrOtherFile) {
		t.Errorf("gone: %v", err)
	}
	if res, err := replayRecorded(t, options(t), ReplayOptions{Force: true}, gone, nil); err != nil || res.Mismatched != 1 || res.Skipped != 1 {
		t.Errorf("gone, forced: %v, %+v", err, res.Mismatches)
	}
}

// TestSysroot: the files of a recording are looked for below the folder.
func TestSysroot(t *testing.T) {
	root := t.TempDir()
	data, err := os.ReadFile(filepath.Join(traces, "../elf/static-nopie"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "no/such"), 0o755), os.WriteFile(filepath.Join(root, "no/such/prog"), data, 0o644)); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("file /no/such/prog size=%d\n1 fork = 2\n2 exec /no/such/prog = 0\n2 touch r 0x401000\n", len(data))
	res, err := replayRecorded(t, options(t), ReplayOptions{Sysroot: root}, text, nil)
	if err != nil || !res.OK() || res.Tally.Pages != 1 || res.Recording.Programs[0].Path != "/no/such/prog" {
		t.Errorf("%v, %+v", err, res.Recording)
	}
	if _, err := replayRecorded(t, options(t), ReplayOptions{}, text, nil); !errors.Is(err, ErrOtherFile) {
		t.Errorf("without it: %v", err)
	}
}

// TestScript: of a script, which strace names, the interpreter runs, unless the
// recording says where that lay: then it would have named it.
func TestScript(t *testing.T) {
	elf, err := filepath.Abs(filepath.Join(traces, "../elf/static-nopie"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"script": "#! " + elf + " -x\n", "nested": "#!" + filepath.Join(dir, "script"), "loop": "#!" + filepath.Join(dir, "loop") + "\n",
		"no": "#!\n", "gone": "#!/no/such/file\n", "cut": "#!/" + strings.Repeat("x", 300)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, layout, got string }{
		{"script", "", "0"}, {"nested", "", "0"}, {"loop", "", "ENOEXEC"}, {"no", "", "ENOEXEC"}, {"gone", "", "ENOENT"}, {"cut", "", "ENOEXEC"},
		{"script", " base=0x400000", "ENOEXEC"},
	} {
		res, err := replayRecorded(t, options(t), ReplayOptions{}, "1 fork = 2\n2 exec "+filepath.Join(dir, c.name)+c.layout+" = 0\n2 touch r 0x401000\n", nil)
		got := "0"
		if err == nil && res.Mismatched == 1 {
			got = res.Mismatches[0].Got.String()
		}
		if err != nil || got != c.got || (res.Tally.Pages == 1) != (c.got == "0") {
			t.Errorf("%s%s: %v, got %s, want %s; %d pages compared", c.name, c.layout, err, got, c.got, res.Tally.Pages)
		}
	}
}

// TestFaultsAlone: a recording of faults does not tell what another policy would
// do.
func TestFaultsAlone(t *testing.T) {
	faults := strings.Replace(recordedHead, "complete", "faults", 1) + "1 fork = 2\n2 exec ../elf/static-nopie = 0\n"
	for _, c := range []struct {
		threshold int
		policy    string
		force, ok bool
	}{{128, "", false, true}, {128, "kevlar", false, true}, {64, "", false, false}, {128, "never", false, false}, {64, "never", true, true}} {
		opt := options(t)
		opt.Threshold, opt.Policy = c.threshold, c.policy
		res, err := replayRecorded(t, opt, ReplayOptions{Force: c.force}, faults, nil)
		if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrFaultsAlone) {
			t.Errorf("%+v: %v", c, err)
		}
		if limited := res.Recording != nil && len(res.Recording.Limits) > 1; limited != c.force { // one is that its exec has no base
			t.Errorf("%+v: limits %v", c, res.Recording)
		}
	}
}

// TestUnmapped: memory that a recording without mappings touches is there.
func TestUnmapped(t *testing.T) {
	text := "vmsim-trace 1\nheader source lackey\nheader touches all\n1 fork = 2\n2 touch r 0x4000000\n2 touch w 0x4001000\n2 touch x 0x7fff00001000\n2 touch r 0x4000008\n"
	res, err := replayRecorded(t, options(t), ReplayOptions{}, text, nil)
	want := []Unknown{{unknownUnmapped, 3}}
	if err != nil || !res.OK() || cmp.Diff(want, res.Recording.Unknown) != "" || res.Recording.Total.Recorded.References != 4 {
		t.Errorf("%v, %v, %+v", err, res.FirstCrash, res.Recording)
	}
	res, err = replayRecorded(t, options(t), ReplayOptions{}, strings.Replace(text, "lackey", "other", 1), nil)
	if err != nil || res.Refused != 4 || len(res.Recording.Unknown) != 0 {
		t.Errorf("mapped memory: %v, %d refused", err, res.Refused)
	}
}

// TestPresentSets: what explains the difference between a recorded set and the
// machine's.
func TestPresentSets(t *testing.T) {
	text := kevlarExec + `2 present exec own:0x51c000-0x51d000 own:0x7fffffffe000-0x7ffffffff000
2 touch r 0x401000
2 touch r 0x402000
2 touch w 0x51d008
1 fork = 3
3 exec ../elf/kevlar-layout base=0x400000 = 0
3 present exec own:0x7fffffffe000-0x7ffffffff000
3 touch r 0x403000
3 present exit file:0x403000-0x405000
3 present exit own:0x7fffffffe000-0x7ffffffff000
3 exit minflt=7 majflt=1
2 fork = 4
4 touch r 0x402000
4 present exit file:0x402000-0x403000
4 exit
2 present exit file:0x401000-0x403000 own:0x51c000-0x51e000 own:0x7fffffffe000-0x7ffffffff000
2 exit
`
	res, err := replayRecorded(t, options(t), ReplayOptions{}, text, nil)
	if err != nil || !res.OK() {
		t.Fatal(err, res.FirstCrash)
	}
	want := []PresentCount{
		{"exec", 2, 3, 2, 0, 0, []PresentReason{{whyExec, 3}}, []PresentReason{{whyPrefault, 2}}},
		{"exit", 3, 9, 9, 5, 0, []PresentReason{{whyExec, 3}, {whyKernel, 1}}, []PresentReason{{whyInherited, 2}, {whyPrefault, 2}}},
	}
	if d := cmp.Diff(want, res.Recording.Present); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	p := res.Recording.Programs
	if len(p) != 1 || p[0].Execs != 2 || p[0].Prefaulted != 2 || p[0].Recorded.MinFlt != 7 || p[0].Recorded.MajFlt != 1 ||
		p[0].Simulated.Total() != 4 || p[0].Untroubled != 1 {
		t.Errorf("%+v", p)
	}
	if res.Recording.Peak < 4*mem.PageSize || len(res.Recording.Series) == 0 || len(res.Recording.Series) > maxSamples {
		t.Errorf("peak %d, %d samples", res.Recording.Peak, len(res.Recording.Series))
	}
}

// TestContradicted: a touch that is refused here, of a page that was there.
func TestContradicted(t *testing.T) {
	for _, c := range []struct {
		present string
		pages   uint64
	}{{"0x10000000-0x10001000", 1}, {"0x20000000-0x20001000", 0}} {
		res, err := replayRecorded(t, options(t), ReplayOptions{}, kevlarExec+"2 touch w 0x10000000\n2 fork = 3\n3 present exit own:"+c.present+"\n3 exit\n2 exit signal=11\n", nil)
		if err != nil || res.Refused != 1 || res.Recording.Contradicted() != c.pages || res.OK() != (c.pages == 0) {
			t.Errorf("%s: %v, refused %d, contradicted %d, %+v", c.present, err, res.Refused, res.Recording.Contradicted(), res.Recording.Present)
		}
	}
}

// ficklePages is a file that may say that it was written since it was opened.
type ficklePages struct {
	*mem.BytesFile
	changed bool
}

func (f *ficklePages) Changed() bool { return f.changed }

// TestWrittenMeanwhile: a page of a data file that is another one by now is not
// known, and not wrong, if the file was written since it was opened.
func TestWrittenMeanwhile(t *testing.T) {
	for _, changed := range []bool{false, true} {
		rig := newRig(t, options(t))
		sim := rig.newSimulator(trace.Header{Source: "test"}, ReplayOptions{})
		m := newRecordedMemory()
		m.start(nil)
		p, err := rig.Machine.Boot(nil)
		if err != nil {
			t.Fatal(err)
		}
		page := mem.Range{Start: 0x10000, End: 0x11000}
		m.replace(region{Range: page, file: &ficklePages{mem.NewBytesFile("data", bytes.Repeat([]byte{1}, mem.PageSize)), changed}})
		ok, err := sim.look(p, m, page.Start, zeros[:], false)
		if err != nil || ok != changed || sim.count.unknowns["data (changed)"] != map[bool]int{true: 1}[changed] {
			t.Errorf("changed %v: %v, %v, %v", changed, ok, err, sim.count.unknowns)
		}
	}
}

// TestProfile: go tool pprof opens what a replay writes, and the same replay
// writes the same bytes.
func TestProfile(t *testing.T) {
	text := kevlarExec + "2 touch r 0x402000 ip=0x401000 err=4\n2 touch w 0x51d008 ip=0x401004 err=6\n2 touch w 0x7fffffffd000 ip=0x7ffff7fc8001 err=6\n2 touch r 0x403000\n"
	write := func() []byte {
		var p Profile
		if _, err := replayRecorded(t, options(t), ReplayOptions{Profile: &p}, text, nil); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	first := write()
	if !bytes.Equal(first, write()) {
		t.Error("two replays differ")
	}
	path := filepath.Join(t.TempDir(), "faults.pb.gz")
	if err := os.WriteFile(path, first, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "tool", "pprof", "-traces", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"kevlar-layout r-x", "kevlar-layout rw-", "[stack]", "[vdso]", "PID 2", "kind:", "access:", noInstruction} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestRecordedDeterminism: the same recording gives the same result, whatever the
// hardening, in text and in binary.
func TestRecordedDeterminism(t *testing.T) {
	src := trace.NewDecoder("t", strings.NewReader(recordedHead+kevlarExec+"2 touch r 0x402000\n2 touch r 0x402010\n2 fork = 3\n3 touch w 0x51d000\n3 exit\n"+
		"1 fork = 4\n4 exec ../elf/kevlar-layout = 0\n4 touch r 0x402000\n4 mmap 0 0x2000 rw- private,populate anon = 0x7ffff7000000\n4 touch w 0x7ffff7000000\n4 exit\n"))
	h, err := src.Header()
	if err != nil {
		t.Fatal(err)
	}
	var bin bytes.Buffer
	w, err := trace.NewWriter(&bin, h)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	e, err := trace.NewEncoder(&text, h)
	if err != nil {
		t.Fatal(err)
	}
	for op, err := range src.All() {
		if err = errors.Join(err, w.Write(&op), e.Encode(op)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(h); err != nil {
		t.Fatal(err)
	}
	var results []ReplayResult
	for _, in := range []string{text.String(), bin.String()} {
		for _, hardening := range []string{"default", "fortress"} {
			opt := options(t)
			if hardening == "fortress" {
				opt.Hardening = 1
			}
			b := newRig(t, opt)
			res, err := b.ReplayWith(filepath.Join(traces, "t"), strings.NewReader(in), never, ReplayOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if res.Tally.Pages != 4 { // a page that exec prefaulted, and one that mmap populated, are looked at too
				t.Errorf("%d pages compared", res.Tally.Pages)
			}
			results = append(results, res)
		}
	}
	for _, r := range results[1:] {
		if d := cmp.Diff(results[0], r); d != "" {
			t.Errorf("-first +this\n%s", d)
		}
	}
}
