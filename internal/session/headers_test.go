package session

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vmsim/internal/hostexec"
	"vmsim/mem"
	"vmsim/vm"
)

// All that the verify protocol says of real files follows from their headers and
// bytes: predict_test.go works it out for every ELF file below some directories,
// and TestCorpus holds the simulator against it.
//
//	go test ./internal/session -run '^TestCorpus$' -v -timeout 1h -corpus /usr,/opt
var (
	corpusDirs = flag.String("corpus", "", "TestCorpus: `DIR,...` to walk, all of them (default: testdata/elf, and a tenth of /usr)")
	corpusPart = flag.String("corpus.part", "1/1", "TestCorpus: `I/N`, that part of the files by a hash of the path")
)

// elfFile is a file with ELF magic.
type elfFile struct {
	path string
	size int64
	id   mem.FileID
	gen  uint64   // its content, when it was found
	head [64]byte // zeros where it is shorter
}

// open opens f. It is nil, and that is logged, where f is no longer what was
// found: a machine whose packages are updated meanwhile proves nothing of it.
func (f *elfFile) open(t *testing.T) *mem.OSFile {
	in, err := mem.OpenFile(f.path)
	if err == nil && in.Identity() == f.id && in.Generation() == f.gen {
		return in
	}
	if err == nil {
		in.Close()
	}
	t.Logf("%s: left out: it changed since it was found (%v)", f.path, err)
	return nil
}

func (f *elfFile) u16(off int) int    { return int(binary.LittleEndian.Uint16(f.head[off:])) }
func (f *elfFile) u64(off int) uint64 { return binary.LittleEndian.Uint64(f.head[off:]) }

// isProgram reports whether f says that it is an x86-64 program or shared object,
// by what Linux looks at: neither class nor byte order.
func (f *elfFile) isProgram() bool { return (f.u16(16) == 2 || f.u16(16) == 3) && f.u16(18) == 62 }

// part is a share of a corpus.
type part struct{ i, n uint32 }

func parsePart(s string) (p part, err error) {
	a, b, ok := strings.Cut(s, "/")
	i, err1 := strconv.ParseUint(a, 10, 32)
	n, err2 := strconv.ParseUint(b, 10, 32)
	if !ok || err1 != nil || err2 != nil || i < 1 || i > n {
		return p, fmt.Errorf("%q is not I/N with I from 1 to N", s)
	}
	return part{uint32(i), uint32(n)}, nil
}

func (p part) has(path string) bool {
	h := fnv.New32a()
	io.WriteString(h, path)
	return h.Sum32()%p.n == p.i-1
}

// elfFiles walks dir: regular files with ELF magic, each once by device and
// inode. It counts the others.
func elfFiles(t *testing.T, dir string, p part) (files []elfFile, others int) {
	t.Helper()
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if d != nil && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)) {
				return nil
			}
			return err
		}
		if !d.Type().IsRegular() || p.n > 1 && !p.has(path) {
			return nil
		}
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return nil // removed since
		}
		if id := (inode{uint64(st.Dev), st.Ino}); seen[id] {
			return nil
		} else {
			seen[id] = true
		}
		in, err := mem.OpenFile(path)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer in.Close()
		f := elfFile{path: path, size: in.Size(), id: in.Identity(), gen: in.Generation()}
		if _, err := in.ReadAt(f.head[:], 0); err != nil && err != io.EOF {
			return err
		}
		if !bytes.HasPrefix(f.head[:], []byte("\x7fELF")) {
			others++
			return nil
		}
		files = append(files, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, others
}

// corpusOfTheRun is what TestCorpus looks at.
func corpusOfTheRun(t *testing.T) []elfFile {
	t.Helper()
	const builtIn = "../../testdata/elf"
	p, err := parsePart(*corpusPart)
	if err != nil {
		t.Fatalf("-corpus.part: %v", err)
	}
	dirs := strings.Split(*corpusDirs, ",")
	if *corpusDirs == "" {
		dirs = []string{builtIn}
		if hardening(t) == vm.Default && !testing.Short() {
			dirs = append(dirs, "/usr")
		}
	}
	var files []elfFile
	for _, dir := range dirs {
		p := p
		if *corpusDirs == "" && dir != builtIn {
			p = part{1, 10}
		}
		found, others := elfFiles(t, dir, p)
		t.Logf("%s, part %d/%d: %d ELF files, %d others", dir, p.i, p.n, len(found), others)
		files = append(files, found...)
	}
	return files
}

// setting is a machine that files are verified in.
type setting struct {
	variant   int // of variants
	threshold int
}

func (s setting) String() string {
	return fmt.Sprintf("%s, threshold %d", variants[s.variant].name, s.threshold)
}

// settings has the repaired machine at the default threshold first.
func settings() (all []setting) {
	for v := range variants {
		for _, threshold := range []int{128, 1, 0} {
			all = append(all, setting{v, threshold})
		}
	}
	return all
}

// TestCorpus: of each file of the corpus, in each setting and with memory for
// all of it, the windows, their sub-pages by origin, the pages, the bytes
// compared, the verdict, and every failure in all its fields are those that the
// headers and bytes foretell. What is skipped is skipped for a reason that the
// header shows, and Linux does not run it.
func TestCorpus(t *testing.T) {
	files := corpusOfTheRun(t)
	slices.SortStableFunc(files, func(a, b elfFile) int { return int(b.size - a.size) }) // the longest first: workers end together
	predictions := make([]map[setting]prediction, len(files))                            // nil: skipped
	reasons := make([]string, len(files))
	for i, s := range settings() {
		start := time.Now()
		var sum tally
		each(t, s, len(files), func(k int, v *verifier) {
			f := &files[k]
			if i == 0 {
				reasons[k], predictions[k] = v.first(t, f)
			}
			if predictions[k] != nil {
				v.compare(t, f, s, predictions[k][s], &sum)
			}
		})
		t.Logf("%v: %s, %.1f s", s, &sum, time.Since(start).Seconds())
	}
	count := map[string]int{}
	for i, reason := range reasons {
		if reason != "" {
			count[reason]++
			checkReason(t, &files[i], reason)
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(count)) {
		t.Logf("%d skipped: %s", count[reason], reason)
	}
	askLinux(t, files, reasons)
}

// tally sums the results of a setting.
type tally struct {
	sync.Mutex
	files, failing, windows int
	bytes                   uint64
}

func (s *tally) add(r FileResult) {
	s.Lock()
	defer s.Unlock()
	s.files++
	s.windows += r.Windows
	s.bytes += r.BytesCompared
	if r.Verdict == Fail {
		s.failing++
	}
}

func (s *tally) String() string {
	return fmt.Sprintf("%d files, %d failing, %d windows, %d bytes compared", s.files, s.failing, s.windows, s.bytes)
}

// each calls do for 0 to n-1, on all CPUs, until the test has failed: a corpus
// says the same thing a thousand times.
func each(t *testing.T, s setting, n int, do func(i int, v *verifier)) {
	t.Helper()
	var next struct {
		sync.Mutex
		i int
	}
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		v := &verifier{setting: s, hardening: hardening(t)}
		wg.Go(func() {
			defer v.close()
			for !t.Failed() {
				next.Lock()
				i := next.i
				next.i++
				next.Unlock()
				if i >= n {
					return
				}
				do(i, v)
			}
		})
	}
	wg.Wait()
}

// verifier verifies files in one setting, one after the other.
type verifier struct {
	setting
	hardening vm.Hardening
	rig       *Rig
	memory    uint64 // of rig
}

func (v *verifier) close() {
	if v.rig != nil {
		v.rig.Close()
		v.rig = nil
	}
}

// verify verifies f in a machine with at least so many bytes. It is false where
// f has changed.
func (v *verifier) verify(t *testing.T, f *elfFile, memory uint64) (res FileResult, ok bool) {
	in := f.open(t)
	if in == nil {
		return res, false
	}
	defer in.Close()
	size := uint64(256 << 20)
	for size < memory {
		size *= 2
	}
	if v.rig == nil || v.memory != size { // a large one is not kept
		v.close()
		opt := DefaultOptions()
		opt.Memory, opt.Hardening = size, v.hardening
		opt.Threshold, opt.Bugs = v.threshold, variants[v.variant].bugs
		rig, err := NewRig(opt)
		if err != nil {
			t.Error(err)
			return res, false
		}
		v.rig = rig
		v.memory = size
	}
	res = v.rig.Verify(in)
	if n := v.rig.Machine.CacheStats().Evicted; n > 0 && memory > 0 {
		t.Errorf("%s: %d pages evicted of %d bytes of memory", f.path, n, size)
	}
	return res, res.Reason != "changed while it was read"
}

// first finds out whether f is skipped, and why; else it predicts all settings.
func (v *verifier) first(t *testing.T, f *elfFile) (reason string, all map[setting]prediction) {
	if f.isProgram() { // its headers say how much memory it takes
		in := f.open(t)
		if in == nil {
			return "", nil
		}
		defer in.Close()
		if skipped, ok := v.verify(t, f, 0); ok && skipped.Verdict == Skipped && !strings.HasPrefix(skipped.Reason, "out of memory") {
			return skipped.Reason, nil
		}
		im := imageOf(in, f.size, uint64(vm.PIEBase))
		all = map[setting]prediction{}
		for _, s := range settings() {
			bugs := variants[s.variant].bugs
			all[s] = im.predict(s.threshold, slices.Contains(bugs, "boundary-copy"), slices.Contains(bugs, "index-collision"))
		}
		if im.err != nil {
			t.Errorf("%s: %v", f.path, im.err)
		}
		if in.Changed() {
			return "", nil
		}
		return "", all
	}
	res, ok := v.verify(t, f, 0)
	if !ok {
		return "", nil
	}
	if res.Verdict != Skipped {
		t.Errorf("%s: %s, though its header says that it is no x86-64 program", f.path, res.Verdict)
	}
	return res.Reason, nil
}

// compare verifies f, compares the result with p, and adds it to sum.
func (v *verifier) compare(t *testing.T, f *elfFile, s setting, p prediction, sum *tally) {
	if res, ok := v.verify(t, f, p.memory); ok {
		comparePrediction(t, fmt.Sprintf("%s, %v", f.path, s), p, res, res.FailureEvents)
		sum.add(res)
	}
}

// knownReasons has every reason for which a file of a corpus is skipped, and how
// the header shows it.
var knownReasons = []struct {
	reason *regexp.Regexp
	shown  func(f *elfFile, m []string) bool
}{
	{regexp.MustCompile(`^unsupported ELF file: big-endian$`), func(f *elfFile, _ []string) bool { return f.head[5] == 2 && !f.isProgram() }},
	{regexp.MustCompile(`^unsupported ELF file: relocatable object \(ET_REL\), not a program$`), func(f *elfFile, _ []string) bool { return f.u16(16) == 1 }},
	{regexp.MustCompile(`^unsupported ELF file: core file \(ET_CORE\), not a program$`), func(f *elfFile, _ []string) bool { return f.u16(16) == 4 }},
	{regexp.MustCompile(`^unsupported ELF file: type 0x([0-9a-f]+), neither ET_EXEC nor ET_DYN$`), func(f *elfFile, m []string) bool {
		return strconv.FormatInt(int64(f.u16(16)), 16) == m[1] && f.u16(16) != 2 && f.u16(16) != 3
	}},
	{regexp.MustCompile(`^unsupported ELF file: machine (\d+), not x86-64 \(62\)$`), func(f *elfFile, m []string) bool {
		return strconv.Itoa(f.u16(18)) == m[1] && f.u16(18) != 62
	}},
	{regexp.MustCompile(`^unsupported ELF file: 32-bit class$`), func(f *elfFile, _ []string) bool { return f.head[4] == 1 && f.u16(54) != 56 }},
	{regexp.MustCompile(`^malformed ELF file: program header entries of (\d+) bytes, not 56$`), func(f *elfFile, m []string) bool {
		return strconv.Itoa(f.u16(54)) == m[1] && f.u16(54) != 56
	}},
	{regexp.MustCompile(`^malformed ELF file: no program headers$`), func(f *elfFile, _ []string) bool { return f.u16(56) == 0 }},
	{regexp.MustCompile(`^malformed ELF file: (\d+) program headers, at most 1170 are allowed$`), func(f *elfFile, m []string) bool {
		return strconv.Itoa(f.u16(56)) == m[1] && f.u16(56)*56 > 65536
	}},
	{regexp.MustCompile(`^malformed ELF file: program headers at offset 0x([0-9a-f]+): the file ends (\d+) bytes before their end$`), func(f *elfFile, m []string) bool {
		return strconv.FormatUint(f.u64(32), 16) == m[1] && f.u64(32)+uint64(f.u16(56))*56 > uint64(f.size)
	}},
	{regexp.MustCompile(`^malformed ELF file: no PT_LOAD segment: nothing to map$`), func(f *elfFile, _ []string) bool {
		return !slices.ContainsFunc(f.headers(), func(p []byte) bool {
			return binary.LittleEndian.Uint32(p) == 1 && binary.LittleEndian.Uint64(p[40:]) > 0
		})
	}},
	{regexp.MustCompile(`^malformed ELF file: interpreter path \(program header (\d+)\) of 0x([0-9a-f]+) bytes, not 2 to 4096$`), func(f *elfFile, m []string) bool {
		i, _ := strconv.Atoi(m[1])
		all := f.headers()
		if i >= len(all) {
			return false
		}
		n := binary.LittleEndian.Uint64(all[i][32:])
		return binary.LittleEndian.Uint32(all[i]) == 3 && strconv.FormatUint(n, 16) == m[2] && (n < 2 || n > 4096)
	}},
}

// headers reads the program headers of f, as far as it has them.
func (f *elfFile) headers() (all [][]byte) {
	in, err := os.Open(f.path)
	if err != nil {
		return nil
	}
	defer in.Close()
	table := make([]byte, 56*f.u16(56))
	n, _ := in.ReadAt(table, int64(f.u64(32)))
	for table = table[:n]; len(table) >= 56; table = table[56:] {
		all = append(all, table[:56])
	}
	return all
}

// checkReason looks at the header for the reason.
func checkReason(t *testing.T, f *elfFile, reason string) {
	t.Helper()
	for _, r := range knownReasons {
		if m := r.reason.FindStringSubmatch(reason); m != nil {
			if !r.shown(f, m) {
				t.Errorf("%s: %s: the header does not say so: % x", f.path, reason, f.head)
			}
			return
		}
	}
	t.Errorf("%s: %s: not a reason to skip a file of a corpus", f.path, reason)
}

// askLinux execs each file that was skipped though it says that it is an x86-64
// program, which must be refused, and some that were not, which must run.
func askLinux(t *testing.T, files []elfFile, reasons []string) {
	t.Helper()
	const (
		sample  = 100      // of those that were verified; all where -corpus asks for all
		largest = 16 << 20 // bytes: they are copied
	)
	dir := t.TempDir()
	refused, ran, asked := 0, 0, 0
	step := max(1, len(files)/sample)
	if *corpusDirs != "" {
		step = 1
	}
	for i := range files {
		f := &files[i]
		skipped := reasons[i] != ""
		if !f.isProgram() || !skipped && (i%step != 0 || f.size > largest) {
			continue
		}
		data, err := f.read(t)
		if err != nil {
			t.Error(err)
		}
		if data == nil {
			continue
		}
		asked++
		err = hostexec.RunBytes(filepath.Join(dir, "x"), dir, data, nil)
		switch {
		case err == nil:
			ran++
		default:
			refused++
		}
		if interp := f.interp(data); !skipped && err != nil && interp != "" {
			if _, e := os.Stat(interp); errors.Is(e, fs.ErrNotExist) && errors.Is(err, fs.ErrNotExist) {
				continue // of the machine, not of the file
			}
		}
		if (err == nil) == skipped {
			t.Errorf("%s: Linux says %v; skipped: %v, %s", f.path, err, skipped, reasons[i])
		}
	}
	t.Logf("Linux runs %d of %d files that it was asked about", ran, asked)
}

// read returns the bytes of f; nil where it has changed.
func (f *elfFile) read(t *testing.T) ([]byte, error) {
	in := f.open(t)
	if in == nil {
		return nil, nil
	}
	defer in.Close()
	return io.ReadAll(io.NewSectionReader(in, 0, f.size))
}

// interp returns the path in the first PT_INTERP of f.
func (f *elfFile) interp(data []byte) string {
	for _, p := range f.headers() {
		if binary.LittleEndian.Uint32(p) == 3 {
			off, n := binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[32:])
			if off > uint64(len(data)) || n > uint64(len(data))-off {
				return ""
			}
			path, _, _ := bytes.Cut(data[off:off+n], []byte{0})
			return string(path)
		}
	}
	return ""
}
