package vm

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"vmsim/hugepage"
	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/vma"
)

// modelOps is how many operations TestModel makes. The full size is a million:
//
//	go test ./vm -run TestModel -vm.ops=1000000 -timeout=1h
var modelOps = flag.Int("vm.ops", defaultOps, "operations of the model test; 1000000 is the full size")

const defaultOps = 50_000

// opsPerCheck is the mean length of a sequence of operations on one machine.
const opsPerCheck = 400

// TestModel runs random operations on a machine and on a plain model of it (one
// record a page), compares every answer and every byte, and checks all
// structures after each operation. The seed is logged, and -rapid.seed sets it.
func TestModel(t *testing.T) {
	all := mustPrograms(t)
	seen := map[string]int{}
	base, ops := rapidSeed(t), *modelOps
	fifths := 1
	if testing.Short() {
		fifths = 5 // rapid makes a fifth of the checks that it is told to
	}
	if testing.Short() && ops == defaultOps {
		ops /= 10
	}
	for round := uint64(0); seen["operation"] < ops; round++ {
		setFlag(t, "rapid.seed", base+round)
		setFlag(t, "rapid.steps", opsPerCheck)
		setFlag(t, "rapid.checks", uint64(((ops-seen["operation"])/opsPerCheck+1)*fifths))
		t.Logf("round %d: -rapid.seed=%d", round, base+round)
		rapid.Check(t, func(t *rapid.T) { runModel(t, all, seen) })
	}
	t.Logf("%v", seen)
	if ops < defaultOps {
		return
	}
	for _, what := range []string{
		"fork", "vfork", "mremap", "madvise", "mlock", "mlockall", "populated", "remapped", "advised", "dirty", "rival",
		"opened for writing", "read before it was opened",
		"fork", "exec", "exec no room", "exit", "boot", "read", "write", "touch", "mmap", "munmap", "mprotect", "brk",
		"no fault", "minor", "major", "cow", "SEGV_MAPERR", "SEGV_ACCERR", "stack growth", "shared between processes",
		"EINVAL", "ENOMEM", "EEXIST", "EACCES", "EOVERFLOW",
		"Assembled", "FromCache", "FromFile", "HugeMapped", "HugeScattered", "Splits", "Prefaulted", "OOMKills",
		"ReclaimUnmaps", "HugeEvicted", "cache evictions",
	} {
		if seen[what] == 0 {
			t.Errorf("never happened: %s", what)
		}
	}
}

// rapidSeed returns the seed from the command line, or one of the clock.
func rapidSeed(t *testing.T) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(flag.Lookup("rapid.seed").Value.String(), 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	return seed
}

// setFlag sets a flag of rapid, which has no other way, for this test.
func setFlag(t *testing.T, name string, value uint64) {
	t.Helper()
	old := flag.Lookup(name).Value.String()
	if err := flag.Set(name, strconv.FormatUint(value, 10)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { flag.Set(name, old) })
}

// model is a machine, and what it must look like.
type model struct {
	t       *rapid.T
	m       *Machine
	all     []program
	files   []modelFile
	witness *witness
	objects []modelObject
	written bool // the last of objects is open for writing
	procs   []*modelProc
	seen    map[string]int
	oom     error // what was wrong with an out-of-memory kill
}

type modelProc struct {
	*plain
	p *Process
}

// modelObject is what mappings share.
type modelObject struct {
	file   *mem.BytesFile // nil for shared memory
	shared *SharedObject
	object *object
}

// modelFile is a file for mmap.
type modelFile struct {
	mem.File
	data []byte
}

// rewritten is a file with the identity of another one and a new content.
type rewritten struct {
	*mem.BytesFile
	id         mem.FileID
	generation uint64
}

func (r rewritten) Identity() mem.FileID { return r.id }
func (r rewritten) Generation() uint64   { return r.generation }

// modelFiles returns files to map: an odd size, three contents of one file, and
// the programs with small files, whose cached pages exec and mmap then share.
func modelFiles(all []program) []modelFile {
	var files []modelFile
	odd := make([]byte, 9*mem.PageSize+123)
	elfgen.Pattern(1<<20, odd)
	files = append(files, modelFile{mem.NewBytesFile("odd", odd), odd})
	id := mem.NewBytesFile("rewritten", nil).Identity()
	for g := range uint64(3) {
		data := make([]byte, (3+int(g))*mem.PageSize)
		elfgen.Pattern(int64(g+2)<<20, data)
		files = append(files, modelFile{rewritten{mem.NewBytesFile("rewritten", data), id, g}, data})
	}
	for _, p := range all {
		if f := p.prog.Image.File; p.prog.Interp == nil && f.Size() < 2<<20 {
			data := make([]byte, f.Size())
			if _, err := f.ReadAt(data, 0); err == nil {
				files = append(files, modelFile{f, data})
			}
		}
	}
	return files
}

var (
	opGen        = rapid.SampledFrom(weighted("write", 6, "touch", 6, "rival", 2, "open", 1, "read", 4, "fork", 4, "mmap", 4, "munmap", 2, "mprotect", 3, "mremap", 4, "madvise", 4, "mlock", 2, "mlockall", 1, "vfork", 1, "release", 1, "exec", 3, "exit", 2, "brk", 2, "compare", 2))
	accessGen    = rapid.SampledFrom([]mem.Access{mem.Read, mem.Write, mem.Exec})
	protGen      = rapid.SampledFrom([]mem.Prot{rw, ro, rx, mem.ProtNone, rwx, mem.ProtWrite, mem.ProtExec})
	backingGen   = rapid.SampledFrom([]string{"object", "file", "anonymous"})
	placeGen     = rapid.SampledFrom(weighted("mapped", 9, "edge", 3, "object", 3, "stack", 2, "wild", 1))
	memoryGen    = rapid.SampledFrom([]uint64{4 << 20, 8 << 20, 12 << 20, 24 << 20})
	thresholdGen = rapid.SampledFrom([]int{0, 1, 16, hugepage.DefaultThreshold, 600})
	wildGen      = rapid.SampledFrom([]mem.VirtAddr{0, mem.PageSize, 0x400000, PIEBase - 1, MmapBase, StackTop - 1, StackTop,
		StackTop + mem.PageSize, 1 << 47, 1 << 63, ^mem.VirtAddr(0) - mem.PageSize, ^mem.VirtAddr(0)})
)

// weighted repeats each name as often as the number behind it says, in turns:
// rapid prefers what comes first.
func weighted(pairs ...any) []string {
	var out []string
	for turn, more := 0, true; more; turn++ {
		more = false
		for i := 0; i < len(pairs); i += 2 {
			if turn < pairs[i+1].(int) {
				out, more = append(out, pairs[i].(string)), true
			}
		}
	}
	return out
}

// maxProcs bounds the processes of a model.
const maxProcs = 8

func runModel(t *rapid.T, all []program, seen map[string]int) {
	s := &model{t: t, all: all, files: modelFiles(all), witness: newWitness(all), seen: seen}
	policy, err := hugepage.NewKevlar(thresholdGen.Draw(t, "threshold"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Memory: memoryGen.Draw(t, "memory"), Policy: policy, Inspector: s.witness,
		FaultAround: rapid.SampledFrom([]int{0, 0, 4, 16}).Draw(t, "fault-around")}
	if rapid.Bool().Draw(t, "fortress") {
		cfg.Hardening = Fortress
	}
	if rapid.Bool().Draw(t, "events") {
		cfg.Events, cfg.Digest = event.Func(s.event), true
	}
	if s.m, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	defer s.m.Close()
	s.makeObjects()
	t.Repeat(map[string]func(*rapid.T){"": s.check, "op": s.op})
	s.m.cfg.Hardening = Default // one check for all that follows
	for _, p := range slices.Clone(s.procs) {
		if !p.p.Ended() { // killed with one before, whose memory it shared
			s.compare(p, true)
		}
	}
	s.check(t)
	s.addStats()
	s.m.Reset() // panics on a leak
	if s.m.FreeFrames() != s.m.Frames()-1 {
		t.Fatalf("%d of %d frames free after Reset", s.m.FreeFrames(), s.m.Frames())
	}
	s.procs = nil
	s.check(t)
}

// event looks at the machine in the moment of a kill: nothing may be left that
// reclaim could free.
func (s *model) event(e event.Event) {
	if e.Type() != (event.OOMKill{}).Type() || s.oom != nil {
		return
	}
	// One page: the source of the copy that failed was pinned.
	if n := s.m.FreeFrames(); n > 0 {
		s.oom = fmt.Errorf("killed with %d frames free", n)
	} else if n := s.m.cache.Evict(s.m.Frames()); n > 1 {
		s.oom = fmt.Errorf("killed with %d pages in the page cache that nobody maps", n)
	} else if n := s.m.huge.Evict(s.m.Frames()); n > 0 {
		s.oom = fmt.Errorf("killed with %d huge pages that nobody maps", n)
	} else if n := s.m.unmap(1); n > 0 {
		s.oom = fmt.Errorf("killed with %d cached pages mapped", n)
	}
}

// addStats adds the machine's counters to seen.
func (s *model) addStats() {
	v := reflect.ValueOf(s.m.Stats())
	for i := range v.NumField() {
		if f := v.Field(i); f.CanInt() {
			s.seen[v.Type().Field(i).Name] += int(f.Int())
		}
	}
	s.seen["cache evictions"] += s.m.CacheStats().Evicted
}

func (s *model) check(t *rapid.T) {
	if err := s.m.Check(); err != nil {
		t.Fatal(err)
	}
	if s.witness.first != nil {
		t.Fatalf("inspector: %v", s.witness.first)
	}
	if s.oom != nil {
		t.Fatal(s.oom)
	}
	if got, want := len(s.m.Processes()), len(s.procs); got != want {
		t.Fatalf("%d processes, want %d", got, want)
	}
	for _, p := range s.procs {
		if q, ok := s.m.Process(p.p.PID); !ok || q != p.p {
			t.Fatalf("process %d is gone", p.p.PID)
		}
	}
}

// op makes one operation.
func (s *model) op(t *rapid.T) {
	s.t = t
	s.seen["operation"]++
	if len(s.procs) == 0 {
		s.boot()
		return
	}
	p := s.procs[s.draw("process", 0, len(s.procs)-1)]
	name := opGen.Draw(t, "operation")
	s.seen[name]++
	map[string]func(*modelProc){
		"touch": s.touch, "read": s.read, "write": s.write, "rival": s.rival, "open": s.open, "fork": s.fork, "exec": s.exec, "mmap": s.mmap,
		"munmap": s.munmap, "mprotect": s.mprotect, "mremap": s.mremap, "madvise": s.madvise,
		"mlock": s.mlock, "mlockall": s.mlockall, "vfork": s.vfork, "release": s.release, "brk": s.setBrk, "exit": s.exit,
		"compare": func(p *modelProc) { s.compare(p, s.draw("fault in", 0, 7) == 7) },
	}[name](p)
}

func (s *model) draw(label string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(s.t, label) }

// uniform is draw without rapid's preference for what is near lo.
func (s *model) uniform(label string, lo, hi int) int {
	n := s.draw(label, lo, hi)
	if rapid.Bool().Draw(s.t, label+" from the end") {
		return hi - (n - lo)
	}
	return n
}

// drop takes a process out of the model.
func (s *model) drop(p *modelProc) {
	for i := range s.procs {
		if s.procs[i] == p {
			s.procs = append(s.procs[:i:i], s.procs[i+1:]...)
			return
		}
	}
}

// killed reports whether err is the kill of p, which is then dropped.
func (s *model) killed(p *modelProc, err error) bool {
	var oom *OOMKill
	if !errors.As(err, &oom) {
		return false
	}
	if oom.PID != p.p.PID {
		s.t.Fatalf("process %d was killed in the place of %d", oom.PID, p.p.PID)
	}
	for _, q := range slices.Clone(s.procs) {
		if q.plain == p.plain { // who shares its memory goes with it
			s.drop(q)
		}
	}
	s.drop(p)
	return true
}

// program draws one.
func (s *model) program() *program {
	return &s.all[s.uniform("program", 0, len(s.all)-1)]
}

func (s *model) boot() {
	s.seen["boot"]++
	p := &modelProc{plain: &plain{}}
	var prog *program
	var arg *Program
	if rapid.Bool().Draw(s.t, "with a program") {
		prog = s.program()
		arg = &prog.prog
	}
	q, err := s.m.Boot(arg)
	switch {
	case prog != nil && prog.noRoom:
		if !errors.Is(err, ErrNoRoom) {
			s.t.Fatalf("boot %s: %v, want %v", prog.name, err, ErrNoRoom)
		}
		return
	case err != nil:
		s.t.Fatalf("boot: %v", err)
	case prog != nil:
		p.plain = p.plain.exec(prog, nil)
	}
	p.p = q
	s.procs = append(s.procs, p)
}

func (s *model) fork(p *modelProc) {
	if len(s.procs) >= maxProcs {
		s.exit(p)
		return
	}
	c := p.p.Fork()
	if c.Ended() {
		s.seen["fork without nodes"]++
		return
	}
	s.procs = append(s.procs, &modelProc{p.plain.fork(), c})
}

func (s *model) vfork(p *modelProc) {
	if len(s.procs) < maxProcs {
		s.procs = append(s.procs, &modelProc{p.plain, p.p.Vfork()})
	}
}

// makeObjects makes what mappings will share: two shared objects, and a file,
// which some machines have open for writing from the start: see opened.
func (s *model) makeObjects() {
	for _, name := range []string{"/memfd:one (deleted)", "/SYSV00000000 (deleted)"} {
		s.objects = append(s.objects, modelObject{shared: s.m.NewShared(name, 0), object: &object{data: map[int][]byte{}}})
	}
	data := make([]byte, 6*mem.PageSize+77)
	elfgen.Pattern(9<<20, data)
	o := modelObject{file: mem.NewBytesFile("written", data), object: &object{data: map[int][]byte{}, base: data}}
	s.objects = append(s.objects, o)
	if rapid.Bool().Draw(s.t, "open from the start") {
		s.m.OpenForWriting(o.file)
		s.written = true
	}
}

// open opens the file for writing, seldom, after p has read a private mapping of it.
func (s *model) open(p *modelProc) {
	if s.written || s.draw("open", 0, 3) > 0 {
		s.touch(p)
		return
	}
	o := s.objects[len(s.objects)-1]
	a := Mapping{Len: uint64(s.draw("pages", 1, 7) * mem.PageSize), Prot: rw, File: o.file}
	s.mapping(p, a, nil, o.object)
	for i := 0; !p.p.Ended() && i < len(p.pages); i++ {
		if page := p.pages[i]; page.object == o.object && !page.shared && page.prot != mem.ProtNone {
			_, err := p.p.Touch(page.at, mem.Read)
			s.killed(p, err)
		}
	}
	s.m.OpenForWriting(o.file)
	s.opened()
}

// opened looks whether the file is open for writing since the last mmap. Up to
// then, what a read of a private page that may be written got is not the model's
// to know: a copy of its own, or the cache's frame, if the file was cached. In
// Linux it is always the frame, which shows what is written later; here copies
// stay what they are, see Machine.OpenForWriting.
func (s *model) opened() {
	o := &s.objects[len(s.objects)-1]
	if s.written || !s.m.cache.Writable(s.m.cache.Open(o.file)) {
		return
	}
	s.written = true
	s.seen["opened for writing"]++
	for _, p := range s.procs {
		for run := range p.p.Present() {
			for i := p.search(run.Start); run.Kind == FileCopy && i < p.search(run.End); i++ {
				if page := &p.pages[i]; page.object == o.object && !page.shared && page.own == nil {
					page.copied()
					s.seen["read before it was opened"]++
				}
			}
		}
	}
}

// release lets go of one shared object, seldom.
func (s *model) release(*modelProc) {
	for i := range s.objects {
		if o := &s.objects[i]; o.shared != nil && s.draw("release", 0, 19) == 19 {
			o.shared.Release()
			*o = modelObject{shared: s.m.NewShared("/memfd:next (deleted)", 0), object: &object{data: map[int][]byte{}}}
		}
	}
}

func (s *model) exec(p *modelProc) {
	prog := s.program()
	arg := prog.prog
	if !prog.noRoom && rapid.Bool().Draw(s.t, "placed") {
		end := mem.VirtAddr(0x7ff000000000 - s.draw("stack", 0, 9)*mem.PageSize)
		arg.At = &Placement{Stack: mem.Range{Start: end - mem.VirtAddr(s.draw("stack pages", 1, 40)*mem.PageSize), End: end},
			Brk: 0x7f0000000000, Extra: []Extra{{mem.Range{Start: 0x7ff100000000, End: 0x7ff100002000}, rx, "[vdso]"}}}
	}
	shared := p.p.SharesMemory()
	before := p.plain
	if !prog.noRoom {
		p.plain = &plain{} // its own now
	}
	err := p.p.Exec(arg)
	switch {
	case s.killed(p, err):
	case prog.noRoom:
		s.seen["exec no room"]++
		if !errors.Is(err, ErrNoRoom) {
			s.t.Fatalf("exec %s: %v, want %v", prog.name, err, ErrNoRoom)
		}
		p.plain = before
	case err != nil:
		s.t.Fatalf("exec %s: %v", prog.name, err)
	default:
		if shared {
			s.seen["exec after vfork"]++
		}
		p.plain = p.plain.exec(prog, arg.At)
		if got, want := p.p.IP(), prog.images[len(prog.images)-1].entry; got != want {
			s.t.Fatalf("exec %s: IP %v, want %v", prog.name, got, want)
		}
	}
}

func (s *model) exit(p *modelProc) {
	if rapid.Bool().Draw(s.t, "killed") {
		p.p.Kill("segv")
	} else {
		p.p.Exit()
	}
	s.drop(p)
}

// addr draws an address: most often in a page of p, and then more often than not
// in one that permits a; sometimes in one of an object, beside one, in reach of the
// stack, or anywhere.
func (s *model) addr(p *modelProc, a mem.Access) mem.VirtAddr {
	place := placeGen.Draw(s.t, "place")
	off := mem.VirtAddr(s.uniform("offset", 0, mem.PageSize-1))
	switch {
	case place == "stack":
		n := s.draw("pages below the top", 1, 60)
		if n == 60 && s.draw("deep", 0, 3) == 0 {
			n = StackLimit/mem.PageSize + s.draw("beyond the limit", 0, 2)
		}
		return max(p.stackTop, 1<<24) - mem.VirtAddr(n*mem.PageSize) + off
	case place == "wild" || len(p.pages) == 0:
		return wildGen.Draw(s.t, "address")
	}
	i := s.uniform("page", 0, len(p.pages)-1)
	if place == "object" { // what others see too
		for n := 0; n < len(p.pages) && p.pages[i].object == nil; n++ {
			i = (i + 1) % len(p.pages)
		}
		return p.pages[i].at + off
	}
	if place == "edge" {
		return p.pages[i].at + mem.VirtAddr(s.draw("pages off", -2, 2)*mem.PageSize) + off
	}
	if s.draw("any permission", 0, 3) != 3 {
		for n := 0; n < len(p.pages) && !p.pages[i].prot.Allows(a); n++ {
			i = (i + 1) % len(p.pages)
		}
	}
	return p.pages[i].at + off
}

// outcome compares the error of an access with the model's. It is false where
// the access failed.
func (s *model) outcome(p *modelProc, addr mem.VirtAddr, a mem.Access, err error) (*plainPage, bool) {
	if s.killed(p, err) {
		return nil, false
	}
	before := len(p.pages)
	page, code := p.access(addr, a)
	if len(p.pages) > before {
		s.seen["stack growth"]++
	}
	got := ""
	var segv *Segfault
	if errors.As(err, &segv) {
		got = segv.Code()
		if segv.Addr != addr || segv.Access != a {
			s.t.Fatalf("%v at %v: %v", a, addr, err)
		}
	} else if err != nil {
		s.t.Fatalf("%v at %v: %v", a, addr, err)
	}
	if got != code {
		s.t.Fatalf("process %d: %v at %v: %q, want %q", p.p.PID, a, addr, got, code)
	}
	if code != "" {
		s.seen[code]++
	}
	return page, code == ""
}

func (s *model) touch(p *modelProc) {
	a := accessGen.Draw(s.t, "access")
	addr := s.addr(p, a)
	kind, err := p.p.Touch(addr, a)
	page, ok := s.outcome(p, addr, a, err)
	if !ok {
		return
	}
	if a == mem.Write {
		page.copied()
	}
	s.seen[map[FaultKind]string{NoFault: "no fault", Minor: "minor", Major: "major", CoW: "cow"}[kind]]++
	if kind, err := p.p.Touch(addr, a); kind != NoFault || err != nil {
		s.t.Fatalf("process %d: %v at %v again: %v, %v", p.p.PID, a, addr, kind, err)
	}
	if a == mem.Exec && p.p.IP() != addr {
		s.t.Fatalf("IP is %v after a fetch at %v", p.p.IP(), addr)
	}
}

// span cuts [addr, addr+n) at page boundaries.
func span(addr mem.VirtAddr, n int) (parts []mem.Range) {
	for n > 0 {
		k := min(n, mem.PageSize-addr.PageOffset())
		parts = append(parts, mem.Range{Start: addr, End: addr + mem.VirtAddr(k)})
		addr, n = addr+mem.VirtAddr(k), n-k
	}
	return parts
}

func (s *model) read(p *modelProc) {
	addr, b := s.addr(p, mem.Read), make([]byte, s.draw("length", 0, 3*mem.PageSize))
	err := p.p.Read(addr, b)
	at := 0
	for _, r := range span(addr, len(b)) {
		var here error
		if failedAt(err, r.Start) {
			here = err
		}
		page, ok := s.outcome(p, r.Start, mem.Read, here)
		if !ok {
			return
		}
		n := int(r.Len())
		if e := sameBytes(b[at:at+n], page.bytes()[r.Start.PageOffset():][:n]); e != nil {
			s.t.Fatalf("process %d: read at %v: %v", p.p.PID, r.Start, e)
		}
		at += n
	}
	if err != nil {
		s.t.Fatalf("read %d bytes at %v: %v", len(b), addr, err)
	}
}

// failedAt reports whether err is that of an access to addr.
func failedAt(err error, addr mem.VirtAddr) bool {
	var segv *Segfault
	var oom *OOMKill
	switch {
	case errors.As(err, &segv):
		return segv.Addr == addr
	case errors.As(err, &oom):
		return oom.Addr == addr
	}
	return err != nil
}

// rival writes to what private pages are of, through a shared mapping of it, and
// compares those: copies must not change, all others must.
func (s *model) rival(p *modelProc) {
	type key struct {
		of    *object
		index int
	}
	private := map[key]bool{}
	s.eachOfObject(func(_ *modelProc, page *plainPage) {
		if !page.shared {
			private[key{page.object, page.index}] = true
		}
	})
	type target struct {
		p  *modelProc
		at mem.VirtAddr
	}
	var targets []target
	s.eachOfObject(func(q *modelProc, page *plainPage) {
		if page.shared && page.prot&mem.ProtWrite != 0 && private[key{page.object, page.index}] {
			targets = append(targets, target{q, page.at})
		}
	})
	if len(targets) == 0 {
		s.mmap(p)
		return
	}
	s.seen["rival"]++
	to := targets[s.uniform("target", 0, len(targets)-1)]
	s.writeAt(to.p, to.at, make([]byte, s.draw("length", 1, mem.PageSize)))
	for _, q := range slices.Clone(s.procs) {
		s.compare(q, false)
	}
}

// eachOfObject calls f for all pages of objects.
func (s *model) eachOfObject(f func(*modelProc, *plainPage)) {
	for _, p := range s.procs {
		for i := range p.pages {
			if p.pages[i].object != nil {
				f(p, &p.pages[i])
			}
		}
	}
}

func (s *model) write(p *modelProc) {
	s.writeAt(p, s.addr(p, mem.Write), make([]byte, s.draw("length", 0, 3*mem.PageSize)))
}

// writeAt fills b and writes it.
func (s *model) writeAt(p *modelProc, addr mem.VirtAddr, b []byte) {
	r := rand.New(rand.NewPCG(uint64(s.draw("bytes", 1, 1<<20)), 0))
	for i := range b {
		b[i] = byte(r.Uint32() >> 7)
	}
	_, err := p.p.Write(addr, b)
	data := b
	for _, r := range span(addr, len(b)) {
		var here error
		if failedAt(err, r.Start) {
			here = err
		}
		page, ok := s.outcome(p, r.Start, mem.Write, here)
		if !ok {
			return
		}
		page.write(r.Start.PageOffset(), data[:r.Len()])
		data = data[r.Len():]
		if page.shared && page.what == plainFile {
			s.seen["dirty"]++
			if o := s.objects[len(s.objects)-1]; !s.m.Dirty(o.file, mem.PageIndex(page.index)) {
				s.t.Fatalf("page %d of the file is not dirty", page.index)
			}
		}
		if page.shared && len(s.procs) > 1 {
			s.seen["shared between processes"]++
		}
	}
	if err != nil {
		s.t.Fatalf("write %d bytes at %v: %v", len(b), addr, err)
	}
}

// errno compares the errors of a system call.
func (s *model) errno(what string, got, want error) {
	if got != want {
		s.t.Fatalf("%s: %v, want %v", what, got, want)
	}
	if want != nil {
		s.seen[map[error]string{syscall.EINVAL: "EINVAL", syscall.ENOMEM: "ENOMEM", syscall.EEXIST: "EEXIST",
			syscall.EACCES: "EACCES", syscall.EOVERFLOW: "EOVERFLOW", syscall.EFAULT: "EFAULT", syscall.EOPNOTSUPP: "EOPNOTSUPP"}[want]]++
	}
}

// length draws a size in bytes: pages, seldom a broken one.
func (s *model) length() uint64 {
	switch s.draw("kind of length", 0, 30) {
	case 30:
		return rapid.SampledFrom([]uint64{0, 1 << 47, 1 << 63, ^uint64(0), ^uint64(0) - mem.PageSize + 1}).Draw(s.t, "length")
	case 29:
		return uint64(s.draw("length", 0, 2000) * mem.PageSize)
	case 28:
		return uint64(s.draw("length", 1, 20*mem.PageSize))
	}
	return uint64(s.draw("length", 1, 24) * mem.PageSize)
}

// start draws the start of a range for a system call: a page of p or near one.
func (s *model) start(p *modelProc) mem.VirtAddr {
	a := s.addr(p, mem.Read)
	if s.draw("aligned", 0, 15) == 15 {
		return a
	}
	return a.PageDown()
}

func (s *model) mmap(p *modelProc) {
	a := Mapping{Len: s.length(), Prot: protGen.Draw(s.t, "protection"), Shared: rapid.Bool().Draw(s.t, "shared")}
	a.GrowsDown = s.draw("grows down", 0, 15) == 15
	a.Locked = s.draw("locked", 0, 15) == 15
	a.Populate = s.draw("populate", 0, 15) == 15
	var data []byte
	var of *object
	switch backingGen.Draw(s.t, "backing") {
	case "object":
		o := s.objects[s.uniform("object", 0, len(s.objects)-1)]
		of, a.Object = o.object, o.shared
		if o.file != nil {
			a.File = o.file
			a.SharedWrite = s.draw("open for writing", 0, 5) < map[bool]int{false: 1, true: 5}[s.written]
		}
		a.Offset = int64(s.draw("offset", 0, 8) * mem.PageSize)
	case "file":
		f := s.files[s.uniform("file", 0, len(s.files)-1)]
		a.File, data = f.File, f.data
		a.Offset = int64(s.draw("offset", 0, int(f.Size()/mem.PageSize)+1) * mem.PageSize)
		switch s.draw("odd offset", 0, 40) {
		case 40:
			a.Offset++
		case 39:
			a.Offset = -mem.PageSize
		case 38:
			a.Offset = 1<<63 - mem.PageSize
		}
	}
	switch s.draw("placement", 0, 4) {
	case 1:
		a.Addr = s.start(p)
	case 2:
		a.Addr, a.Fixed = s.start(p), true
	case 3:
		a.Addr, a.Fixed, a.NoReplace = s.start(p), true, true
	case 4:
		a.Addr = MmapBase - mem.VirtAddr(s.draw("hint", 0, 64)*mem.PageSize)
	}
	s.mapping(p, a, data, of)
}

// mapping maps a, of a file with this data or of an object.
func (s *model) mapping(p *modelProc, a Mapping, data []byte, of *object) {
	got, err := p.p.Mmap(a)
	dead := s.killed(p, err)
	s.opened()
	if dead {
		return
	}
	want, wantErr := p.plain.mmap(a, data, of)
	s.errno(fmt.Sprintf("mmap %+v", a), err, wantErr)
	if got != want {
		s.t.Fatalf("mmap %+v: at %v, want %v", a, got, want)
	}
}

func (s *model) munmap(p *modelProc) {
	addr, n := s.start(p), s.length()
	s.errno(fmt.Sprintf("munmap %v, %#x", addr, n), p.p.Munmap(addr, n), p.plain.munmap(addr, n))
}

func (s *model) mprotect(p *modelProc) {
	addr, n, prot := s.start(p), s.length(), protGen.Draw(s.t, "protection")
	err := p.p.Mprotect(addr, n, prot)
	if s.killed(p, err) {
		return
	}
	s.errno(fmt.Sprintf("mprotect %v, %#x, %v", addr, n, prot), err, p.plain.mprotect(addr, n, prot))
}

func (s *model) mremap(p *modelProc) {
	a := Remap{Old: s.start(p), OldLen: s.length(), NewLen: s.length()}
	v, ok := p.p.areas.Find(a.Old)
	switch s.draw("lengths", 0, 5) {
	case 0:
		a.NewLen = a.OldLen
	case 1:
		a.OldLen = 0
	case 2, 3: // to the end of the area
		if ok && v.End.PageOffset() == 0 && v.Len() < 1<<22 {
			a.OldLen = uint64(v.End - a.Old)
		}
	}
	if a.OldLen > 1<<23 || a.NewLen > 1<<23 && a.NewLen < 1<<46 {
		return // the model has a record for every page
	}
	a.MayMove, a.Fixed = s.draw("may move", 0, 3) > 0, rapid.Bool().Draw(s.t, "fixed")
	if a.DontUnmap = s.draw("don't unmap", 0, 3) == 3; a.DontUnmap && s.draw("other length", 0, 3) > 0 {
		a.NewLen = a.OldLen
	}
	if a.Fixed || a.DontUnmap {
		a.New = s.start(p)
	}
	if s.draw("known", 0, 3) == 3 {
		a.At = s.start(p)
	}
	for i := p.search(a.Old.PageDown()); i < p.search(a.Old+mem.VirtAddr(a.OldLen)+mem.PageSize); i++ {
		if p.pages[i].what == plainProgram && (a.NewLen > a.OldLen || a.Fixed || a.DontUnmap) {
			return // their areas end within pages
		}
	}
	if a.Fixed && a.DontUnmap {
		for v := range p.p.areas.Overlapping(mem.Range{Start: a.Old, End: a.Old + mem.VirtAddr(a.OldLen)}) {
			if v.Flags&vma.Locked != 0 {
				return // all of each area is unlocked, and the model has none: TestKernel compares that
			}
		}
	}
	got, err := p.p.Mremap(a)
	if s.killed(p, err) {
		return
	}
	want, wantErr := p.plain.mremap(a, v.Range)
	s.errno(fmt.Sprintf("mremap %+v of %v", a, v), err, wantErr)
	if got != want {
		s.t.Fatalf("mremap %+v of %v: to %v, want %v", a, v, got, want)
	}
	if err == nil && got != a.Old {
		s.seen["remapped"]++
	}
}

func (s *model) madvise(p *modelProc) {
	addr, n := s.start(p), s.length()
	advice := rapid.SampledFrom([]Advice{AdviseDontNeed, AdviseDontNeed, AdviseDontNeedLocked, AdviseFree, AdviseRemove,
		AdviseDontFork, AdviseDoFork, AdviseWipeOnFork, AdviseKeepOnFork, AdvisePopulateRead, AdvisePopulateWrite,
		AdviseWillNeed, AdviseRandom}).Draw(s.t, "advice")
	if advice == AdviseRemove || advice == AdviseFree || advice == AdviseWipeOnFork {
		for i := p.search(addr.PageDown()); i < p.search(addr+mem.VirtAddr(n)); i++ {
			if p.pages[i].what == plainProgram {
				return // of a page that fillers share, each area has its own answer
			}
		}
	}
	before := p.p.Populated.Total()
	err := p.p.Madvise(addr, n, advice)
	if s.killed(p, err) {
		return
	}
	s.seen["populated"] += p.p.Populated.Total() - before
	s.errno(fmt.Sprintf("madvise %v, %#x, %d", addr, n, advice), err, p.plain.madvise(addr, n, advice))
	if err == nil {
		s.seen["advised"]++
	}
}

func (s *model) mlock(p *modelProc) {
	addr, n := s.addr(p, mem.Read), s.length()
	var err error
	flags := vma.Flags(0)
	switch s.draw("lock", 0, 2) {
	case 0:
		err = p.p.Munlock(addr, n)
	case 1:
		flags = vma.Locked
		err = p.p.Mlock(addr, n, false)
	case 2:
		flags = vma.Locked | vma.OnFault
		err = p.p.Mlock(addr, n, true)
	}
	if s.killed(p, err) {
		return
	}
	s.errno(fmt.Sprintf("mlock %v, %#x, %v", addr, n, flags), err, p.plain.mlock(addr, n, flags))
	s.checkFlags(p)
}

func (s *model) mlockall(p *modelProc) {
	if s.draw("unlock", 0, 2) > 0 {
		s.errno("munlockall", p.p.Munlockall(), nil)
		p.lockAll(0, 0)
		return
	}
	a := LockAll{Current: s.draw("current", 0, 3) == 3, Future: rapid.Bool().Draw(s.t, "future"), OnFault: rapid.Bool().Draw(s.t, "on fault")}
	err := p.p.Mlockall(a)
	if s.killed(p, err) {
		return
	}
	if !a.Current && !a.Future {
		s.errno("mlockall", err, syscall.EINVAL)
		return
	}
	s.errno("mlockall", err, nil)
	flags, future := vma.Locked, vma.Flags(0)
	if a.OnFault {
		flags |= vma.OnFault
	}
	if a.Future {
		future = flags
	}
	if a.Current {
		p.lockAll(flags, future)
		_ = p.populate(0, plainEnd, true)
	}
	p.locking = future
	s.checkFlags(p)
}

// lockAll gives all pages the flags of mlockall, and future ones theirs.
func (s *plain) lockAll(flags, future vma.Flags) {
	for i := range s.pages {
		s.pages[i].flags = s.pages[i].flags&^(vma.Locked|vma.OnFault) | flags
	}
	s.locking = future
}

// checkFlags compares the flags of areas with those of pages.
func (s *model) checkFlags(p *modelProc) {
	for v := range p.p.Areas() {
		for at := v.Start.PageDown(); at < v.End; at += mem.PageSize {
			if page, ok := p.page(at); !ok {
				s.t.Fatalf("process %d: page %v of %v is unknown", p.p.PID, at, v)
			} else if page.flags != v.Flags {
				s.t.Fatalf("process %d: page %v of %v has flags %b, want %b", p.p.PID, at, v, v.Flags, page.flags)
			}
		}
	}
}

func (s *model) setBrk(p *modelProc) {
	addr := p.brk + mem.VirtAddr(s.draw("pages", -8, 12)*mem.PageSize+s.draw("bytes", -9, 9))
	if s.draw("odd", 0, 15) == 15 {
		addr = s.addr(p, mem.Read)
		if addr < StackTop && addr > p.brk+1<<24 {
			addr = 0 // the model has a record for every page
		}
	}
	got := p.p.Brk(addr)
	if p.p.Ended() { // locked memory that could not be populated
		s.killed(p, &OOMKill{PID: p.p.PID})
		return
	}
	if want := p.plain.setBrk(addr); got != want {
		s.t.Fatalf("brk %v: %v, want %v", addr, got, want)
	}
}

// compare compares all of a process: what is present, and with faultIn all
// pages that can be read.
func (s *model) compare(p *modelProc, faultIn bool) {
	var b [mem.PageSize]byte
	space := p.p.Space()
	for e := range space.Entries(allUser) {
		for at := e.Addr; at < e.Addr+mem.VirtAddr(e.Size); at += mem.PageSize {
			page, ok := p.page(at)
			if !ok || e.Prot&^page.prot != 0 {
				s.t.Fatalf("process %d: page %v is present with %v, want %+v", p.p.PID, at, e.Prot, page)
			}
			if err := space.Read(at, b[:]); err != nil {
				s.t.Fatalf("process %d: page %v: %v", p.p.PID, at, err)
			}
			if err := sameBytes(b[:], page.bytes()); err != nil {
				s.t.Fatalf("process %d: page %v: %v", p.p.PID, at, err)
			}
		}
	}
	for i := range p.pages {
		page := &p.pages[i]
		if !faultIn || page.prot == mem.ProtNone {
			continue
		}
		got, _, err := p.p.ReadPage(page.at)
		if s.killed(p, err) {
			return
		}
		if err == nil {
			err = sameBytes(got, page.bytes())
		}
		if err != nil {
			s.t.Fatalf("process %d: page %v: %v", p.p.PID, page.at, err)
		}
	}
}
