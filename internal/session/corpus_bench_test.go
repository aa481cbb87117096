package session

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"hash/fnv"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// Benchmarks of verify over real files, beside a reference: the reads of files
// that machine and witness make, of the same sizes in the same order, and the
// comparisons of the witness, and nothing else. Both run in turns, with the files
// in the host's page cache, and of each the best round counts. File data is what
// was compared, in bytes: each page of a file as often as it was.
//
//	go test ./internal/session -run '^$' -bench Corpus
//	go test ./internal/session -run '^$' -bench Corpus -corpus-bench=/usr/lib -benchtime=5x

var corpusBench = flag.String("corpus-bench", "", "verify the ELF files in `DIR` in BenchmarkCorpus, not a sample of /usr/lib and /usr/bin")

// The sample is files of at most maxSampleFile, in the order of a hash of their
// path, until it has sampleBytes.
const (
	sampleBytes   = 300 << 20
	maxSampleFile = 64 << 20
)

// benchSources returns the ELF files of the benchmark, those of least bytes or
// more, and their size in bytes.
func benchSources(b *testing.B, least int64) (sources []Source, size int64) {
	b.Helper()
	whole, dirs := true, []string{*corpusBench}
	if *corpusBench == "" {
		whole, dirs = false, []string{"/usr/lib", "/usr/bin"}
	}
	found := Find(dirs, nil, func(err error) { b.Log(err) }, never).Sources
	if !whole {
		slices.SortFunc(found, func(a, b Source) int { return cmp.Compare(pathHash(a.Path), pathHash(b.Path)) })
	}
	for _, s := range found {
		if !whole && size >= sampleBytes {
			break
		}
		f, err := mem.OpenFile(s.Path)
		if err != nil {
			continue
		}
		_, err = loader.Parse(f)
		f.Close()
		if err == nil && f.Size() >= least && (whole || f.Size() <= maxSampleFile) {
			sources = append(sources, s)
			size += f.Size()
		}
	}
	if len(sources) == 0 {
		b.Fatalf("no ELF file in %q", dirs)
	}
	return sources, size
}

func pathHash(path string) uint64 {
	h := fnv.New64a()
	io.WriteString(h, path)
	return h.Sum64()
}

// pool is a piece of the reference's memory.
type pool uint8

const (
	// inFrames is what the machine has read of a file, in the order in which it
	// did; as its own frames are, it is used again for the next file.
	inFrames pool = iota
	// inWindow is what the witness has read, at its file offset modulo 2 MiB.
	inWindow
	// inHuge is as large as the huge pages of a file. Nobody assembles them here,
	// so they are zeros, and compared with some: bytes that differ would end a
	// comparison early.
	inHuge
	inZeros
	nPools
)

// site is a place in the reference's memory: bytes from the start of a pool.
type site struct {
	pool
	off int
}

// step is what the reference does: it reads n bytes of the file at off to a, or
// compares n bytes at a and b.
type step struct {
	off  int64 // compares: no read
	n    int
	a, b site
}

const compares = -1

// script is what verifying one file reads and compares.
type script struct {
	path  string
	steps []step
	sizes [nPools]int // bytes of each pool
	data  uint64      // bytes compared
}

// scribe writes the script of a verification. It stands in for the file, takes
// the events, and is asked before each page whether to stop.
type scribe struct {
	mem.File
	script
	rig   *Rig
	truth *verify.Truth
	have  [inWindow + 1]map[int64]site // where pages of the file are, by offset

	pages   []mem.VirtAddr // that are touched in each exec
	touched int            // of this exec: the last of them is not compared yet
	windows map[mem.VirtAddr]int
	last    mem.VirtAddr // of windows
	asm     bool         // last is being verified
}

// transcribe runs verifyFile once on the file at path and returns its script.
func transcribe(b *testing.B, path string, threshold int, verifyFile func(*Rig, mem.File) error) script {
	b.Helper()
	f, err := mem.OpenFile(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	s := &scribe{File: f, script: script{path: path}, windows: map[mem.VirtAddr]int{}}
	s.have = [...]map[int64]site{{}, {}}
	s.sizes = [nPools]int{inWindow: 2 * mem.HugeSize, inZeros: mem.HugeSize + mem.PageSize}
	if s.truth, err = verify.Load(f, vm.PIEBase); err != nil {
		b.Fatalf("%s: %v", path, err)
	}
	s.pages = slices.Collect(s.truth.TouchPages())
	opt := DefaultOptions()
	opt.Threshold, opt.Events, opt.Stop = threshold, s, s.touch
	if s.rig, err = NewRig(opt); err != nil {
		b.Fatal(err)
	}
	defer s.rig.Close()
	if err := verifyFile(s.rig, s); err != nil {
		b.Fatalf("%s: %v", path, err)
	}
	s.data = s.rig.Witness.Tally().BytesCompared
	s.sizes[inHuge] = len(s.windows) * mem.HugeSize
	return s.script
}

// ReadAt reads, and notes the read.
func (s *scribe) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.File.ReadAt(p, off)
	if n == 0 {
		return n, err
	}
	to := site{inWindow, int(off % mem.HugeSize)}
	if s.byMachine(p) {
		to = site{inFrames, s.sizes[inFrames]}
		s.sizes[inFrames] += (n + mem.PageSize - 1) &^ (mem.PageSize - 1)
	}
	s.steps = append(s.steps, step{off: off, n: n, a: to})
	skip := int(-off & (mem.PageSize - 1))
	for ; skip+mem.PageSize <= n; skip += mem.PageSize {
		s.have[to.pool][off+int64(skip)] = site{to.pool, to.off + skip}
	}
	return n, err
}

// byMachine reports whether the machine reads into p: its host buffer, or a huge
// page in its arena, which is no memory of Go. The reads of headers, which are
// short, count as the witness's.
func (s *scribe) byMachine(p []byte) bool {
	at := uintptr(unsafe.Pointer(&p[0]))
	buf := uintptr(unsafe.Pointer(&s.rig.buf.data[0]))
	goHeap := uintptr(unsafe.Pointer(s))
	return at >= buf && at < buf+hostRead || at>>40 != goHeap>>40
}

// touch is Options.Stop: the page before has been compared.
func (s *scribe) touch() bool {
	s.compareTouched()
	s.touched++
	return false
}

func (s *scribe) compareTouched() {
	if s.touched > 0 {
		s.compare(s.pages[s.touched-1])
	}
}

// Emit takes the events that tell what is compared.
func (s *scribe) Emit(e event.Event) {
	switch e := e.(type) {
	case event.HugePageAssembled:
		s.last, s.asm = mem.VirtAddr(e.HugeBase), true
	case event.PageVerifyOK: // of a window, or of all pages of an exec
		if !s.asm {
			s.compareTouched()
			s.touched = 0
			return
		}
		for i := range mem.SubPages {
			s.compare(s.last + mem.VirtAddr(i*mem.PageSize))
		}
		s.asm = false
		s.windows[s.last] = len(s.windows)
	}
}

// compare notes the comparison of a page.
func (s *scribe) compare(page mem.VirtAddr) {
	c := step{off: compares, n: mem.PageSize, a: site{inZeros, 0}, b: site{inZeros, mem.PageSize}}
	_, _, off := s.truth.FileVMA(page)
	frame, ok1 := s.have[inFrames][int64(off)]
	want, ok2 := s.have[inWindow][int64(off)]
	window, isHuge := s.windows[page.HugeDown()]
	sub := page.SubPage() * mem.PageSize
	switch {
	case !s.truth.HasFileBytes(page):
	case isHuge:
		c.a, c.b = site{inHuge, window*mem.HugeSize + sub}, site{inZeros, sub}
	case ok1 && ok2:
		c.a, c.b = frame, want
	}
	s.steps = append(s.steps, c)
}

// referee runs scripts: it is one worker of the reference.
type referee [nPools][]byte

func newReferee(b *testing.B, scripts []script) *referee {
	var r referee
	for i := range r {
		n := 0
		for j := range scripts {
			n = max(n, scripts[j].sizes[i])
		}
		r[i] = hugeMemory(b, n)
		clear(r[i])
	}
	return &r
}

// hugeMemory maps memory as the machine's arena is.
func hugeMemory(b *testing.B, n int) []byte {
	b.Helper()
	m, err := unix.Mmap(-1, 0, n+mem.HugeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Munmap(m) })
	if err := unix.Madvise(m, unix.MADV_HUGEPAGE); err != nil {
		b.Log(err)
	}
	head := int(-uintptr(unsafe.Pointer(&m[0])) % mem.HugeSize)
	return m[head:][:n]
}

// run runs a script and calls unequal, which may be nil, with what differed.
func (r *referee) run(s *script, unequal func(*step)) error {
	fd, err := unix.Open(s.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for i := range s.steps {
		st := &s.steps[i]
		a := r[st.a.pool][st.a.off:][:st.n]
		switch {
		case st.off != compares:
			if n, err := unix.Pread(fd, a, st.off); err != nil || n != st.n {
				return errors.Join(err, io.ErrUnexpectedEOF)
			}
		case !bytes.Equal(a, r[st.b.pool][st.b.off:][:st.n]) && unequal != nil:
			unequal(st)
		}
	}
	return nil
}

// runAll runs scripts with all of refs at once.
func runAll(refs []*referee, scripts []script) error {
	var next atomic.Int64
	errs := make([]error, len(refs))
	var wg sync.WaitGroup
	for w, r := range refs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(scripts) && errs[w] == nil; i = int(next.Add(1)) - 1 {
				errs[w] = r.run(&scripts[i], nil)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// level makes a script's comparisons end at their ends: where two pages of the
// file have had the same place in the window, and so what is compared differs, it
// compares zeros instead.
func (r *referee) level(b *testing.B, s *script) {
	n := 0
	if err := r.run(s, func(st *step) { st.a, st.b, n = site{inZeros, 0}, site{inZeros, mem.PageSize}, n+1 }); err != nil {
		b.Fatal(err)
	}
	if n > 64 && n > len(s.steps)/50 {
		b.Errorf("%s: %d of %d comparisons of the reference differ", s.path, n, len(s.steps))
	}
}

// side is one of the things that are timed in turns.
type side struct {
	run  func() error
	best time.Duration
}

// timeInTurns runs all sides in turns, and keeps the best time of each.
func timeInTurns(b *testing.B, sides ...*side) {
	b.Helper()
	const rounds = 3 // of one iteration: with one, nothing would be the best
	for _, s := range sides {
		if err := s.run(); err != nil { // warms up, and checks
			b.Fatal(err)
		}
	}
	for b.Loop() {
		for range rounds {
			for _, s := range sides {
				start := time.Now()
				if err := s.run(); err != nil {
					b.Fatal(err)
				}
				if d := time.Since(start); s.best == 0 || d < s.best {
					s.best = d
				}
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of a round: says nothing
}

func perSecond(bytes uint64, s *side) float64 { return float64(bytes) / s.best.Seconds() / 1e9 }

func ratio(a, b *side) float64 { return b.best.Seconds() / a.best.Seconds() }

// total returns the bytes that scripts compare.
func total(scripts []script) (n uint64) {
	for i := range scripts {
		n += scripts[i].data
	}
	return n
}

// verifySide verifies sources with rigs; all must be ok, and want bytes compared.
func verifySide(rigs []*Rig, sources []Source, want uint64) *side {
	return &side{run: func() error {
		var compared uint64
		var errs []error
		verifyWith(rigs, sources, func(_ int, o Outcome) {
			compared += o.Result.BytesCompared
			if o.Result.Verdict != OK {
				errs = append(errs, errors.New(o.Result.Path+": "+o.Result.Reason))
			}
		}, never)
		if compared != want {
			errs = append(errs, errors.New("not the same bytes compared"))
		}
		return errors.Join(errs...)
	}}
}

// BenchmarkCorpusVerify verifies as vmsim verify does, with three execs.
func BenchmarkCorpusVerify(b *testing.B) {
	sources, size := benchSources(b, 0)
	var scripts []script
	for _, s := range sources {
		scripts = append(scripts, transcribe(b, s.Path, DefaultOptions().Threshold, func(rig *Rig, f mem.File) error {
			res := rig.Verify(f)
			if res.Verdict != OK {
				return errors.New(res.Reason)
			}
			return nil
		}))
	}
	refs := []*referee{newReferee(b, scripts), newReferee(b, scripts)}
	for i := range scripts {
		refs[0].level(b, &scripts[i])
	}
	rigs := newBenchRigs(b, DefaultOptions().Threshold)
	compared := total(scripts)
	one, two := verifySide(rigs[:1], sources, compared), verifySide(rigs, sources, compared)
	refOne := &side{run: func() error { return runAll(refs[:1], scripts) }}
	refTwo := &side{run: func() error { return runAll(refs, scripts) }}
	timeInTurns(b, one, refOne, two, refTwo)
	b.Logf("%d files of %d MB, %d MB compared", len(sources), size/1e6, compared/1e6)
	b.ReportMetric(perSecond(compared, one), "GB/s")
	b.ReportMetric(perSecond(compared, refOne), "GB/s_reference")
	b.ReportMetric(ratio(one, refOne), "x_of_reference")
	b.ReportMetric(perSecond(compared, two), "GB/s_2workers")
	b.ReportMetric(ratio(two, refTwo), "x_of_reference_2workers")
	b.ReportMetric(ratio(two, one), "gain_2workers")
	b.ReportMetric(ratio(refTwo, refOne), "gain_2workers_reference")
	b.ReportMetric(perSecond(uint64(size), one), "GB/s_of_files")
}

// newBenchRigs returns two machines that have been used: their memory is there.
func newBenchRigs(b *testing.B, threshold int) []*Rig {
	opt := DefaultOptions()
	opt.Threshold = threshold
	rigs, err := newRigs(opt, 2)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { closeRigs(rigs) })
	return rigs
}

// assembleAll execs f once, at threshold 0: each window is put together from one
// read of the file, and compared once.
func assembleAll(rig *Rig, f mem.File) error {
	im, err := rig.parse(f)
	if err != nil {
		return err
	}
	rig.Reset()
	init, err := rig.Machine.Boot(nil)
	if err != nil {
		return err
	}
	if _, err := rig.Witness.Load(f, vm.PIEBase); err != nil {
		return err
	}
	if err := init.Fork().Exec(vm.Program{Image: im}); err != nil {
		return err
	}
	if t := rig.Witness.Tally(); t.Failures != 0 || t.WindowsVerified != rig.Machine.Stats().Assembled {
		return errors.New("windows are not verified")
	}
	return nil
}

// BenchmarkCorpusAssemble assembles each window of a file once and compares it
// once. The files have 2 MiB or more: the windows of smaller ones are mostly
// zeros, which cat does not read.
func BenchmarkCorpusAssemble(b *testing.B) {
	sources, size := benchSources(b, mem.HugeSize)
	var scripts []script
	for _, s := range sources {
		scripts = append(scripts, transcribe(b, s.Path, 0, assembleAll))
	}
	refs := []*referee{newReferee(b, scripts)}
	for i := range scripts {
		refs[0].level(b, &scripts[i])
	}
	rig := newBenchRigs(b, 0)[0]
	ours := &side{run: func() error {
		for _, s := range sources {
			f, err := mem.OpenFile(s.Path)
			if err == nil {
				err = assembleAll(rig, f)
				f.Close()
			}
			if err != nil {
				return err
			}
		}
		return nil
	}}
	reference := &side{run: func() error { return runAll(refs, scripts) }}
	buf := make([]byte, 128<<10)
	cat := &side{run: func() error {
		for _, s := range sources {
			if err := readOnce(s.Path, buf); err != nil {
				return err
			}
		}
		return nil
	}}
	x, y := hugeMemory(b, 64<<20), hugeMemory(b, 64<<20)
	clear(x)
	clear(y)
	memcmp := &side{run: func() error {
		for off := 0; off < len(x); off += mem.PageSize {
			if !bytes.Equal(x[off:off+mem.PageSize], y[off:off+mem.PageSize]) {
				return errors.New("zeros differ")
			}
		}
		return nil
	}}
	timeInTurns(b, ours, reference, cat, memcmp)
	var file uint64 // bytes that one of the two reads
	for i := range scripts {
		file += uint64(scripts[i].sizes[inFrames])
	}
	b.Logf("%d files of %d MB, %d MB of them assembled", len(sources), size/1e6, file/1e6)
	b.ReportMetric(perSecond(file, ours), "GB/s")
	b.ReportMetric(perSecond(file, reference), "GB/s_reference")
	b.ReportMetric(perSecond(uint64(size), cat), "GB/s_cat")
	b.ReportMetric(perSecond(64<<20, memcmp), "GB/s_memcmp")
	b.ReportMetric(ratio(ours, reference), "x_of_reference")
	b.ReportMetric(perSecond(file, ours)/perSecond(uint64(size), cat), "x_of_cat")
}

// readOnce reads a file from its start to its end.
func readOnce(path string, buf []byte) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		if n, err := unix.Read(fd, buf); n <= 0 {
			return err
		}
	}
}
