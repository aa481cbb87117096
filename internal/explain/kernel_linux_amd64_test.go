package explain

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmsim/internal/elfgen"
	"vmsim/mem"
)

// The host's kernel is the oracle for rule linux, where it can be one. A program
// is exec'ed under ptrace and stopped before its first instruction; its file is
// dropped from the page cache, its mappings get MADV_HUGEPAGE (by system calls
// made for it in its vDSO), and one address of each mapping in one window is
// read. FilePmdMapped of /proc/PID/smaps then says whether a huge entry came of
// that. Each window gets a process of its own, as a folio that one window's fault
// has read could stand in another's way.
//
// Checked so are the windows of ext4, XFS and the like with large folios, by the
// faults. Not checked: khugepaged and CONFIG_READ_ONLY_THP_FOR_FS, which the
// kernels here are built without, and tmpfs with huge=..., where the rule is the
// same (thp_vma_suitable_order) but for windows that reach beyond the end of the
// file, which it maps by one entry.

const madvHugepage = 14

// tracee is a program stopped before its first instruction.
type tracee struct {
	t    testing.TB
	pid  int
	path string
	regs syscall.PtraceRegs // at the stop
	gate uint64             // address of a syscall instruction
}

// start execs path. The calling goroutine must be locked to its thread.
func start(t testing.TB, path string) *tracee {
	t.Helper()
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	p := &tracee{t: t, pid: pid, path: path}
	t.Cleanup(p.end)
	if ws := p.wait(); !ws.Stopped() || ws.StopSignal() != syscall.SIGTRAP {
		t.Fatalf("%s: wait status 0x%x", path, uint32(ws))
	}
	if err := syscall.PtraceGetRegs(pid, &p.regs); err != nil {
		t.Fatal(err)
	}
	p.findGate()
	return p
}

func (p *tracee) wait() (ws syscall.WaitStatus) {
	p.t.Helper()
	for {
		if _, err := syscall.Wait4(p.pid, &ws, 0, nil); err == nil {
			return ws
		} else if !errors.Is(err, syscall.EINTR) {
			p.t.Fatal(err)
		}
	}
}

// end kills the program.
func (p *tracee) end() {
	if p.pid == 0 {
		return
	}
	syscall.Kill(p.pid, syscall.SIGKILL)
	p.wait()
	p.pid = 0
}

// findGate finds a syscall instruction in the vDSO.
func (p *tracee) findGate() {
	p.t.Helper()
	for _, m := range p.mappings() {
		if m.name != "[vdso]" {
			continue
		}
		code := make([]byte, m.Len())
		if _, err := syscall.PtracePeekText(p.pid, uintptr(m.Start), code); err != nil {
			p.t.Fatal(err)
		}
		if i := bytes.Index(code, []byte{0x0f, 0x05}); i >= 0 {
			p.gate = uint64(m.Start) + uint64(i)
			return
		}
	}
	p.t.Fatal("no syscall instruction in the vDSO")
}

// call makes the program do a system call.
func (p *tracee) call(nr int, args ...uint64) int64 {
	p.t.Helper()
	r := p.regs
	r.Orig_rax = ^uint64(0) // it is not to be restarted
	r.Rip, r.Rax = p.gate, uint64(nr)
	for i, a := range args {
		*[]*uint64{&r.Rdi, &r.Rsi, &r.Rdx, &r.R10, &r.R8, &r.R9}[i] = a
	}
	if err := syscall.PtraceSetRegs(p.pid, &r); err != nil {
		p.t.Fatal(err)
	}
	if err := syscall.PtraceSingleStep(p.pid); err != nil {
		p.t.Fatal(err)
	}
	p.wait()
	if err := syscall.PtraceGetRegs(p.pid, &r); err != nil {
		p.t.Fatal(err)
	}
	return int64(r.Rax)
}

// mapping is one of /proc/PID/smaps.
type mapping struct {
	mem.Range
	prot, name string
	offset     uint64
	filePmd    int // FilePmdMapped, in KiB
	anonHuge   int // AnonHugePages, in KiB
}

func (p *tracee) mappings() (all []mapping) {
	p.t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", p.pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); {
		line := s.Text()
		var m mapping
		var dev, inode string
		if n, _ := fmt.Sscanf(line, "%x-%x %s %x %s %s %s", &m.Start, &m.End, &m.prot, &m.offset, &dev, &inode, &m.name); n >= 6 {
			all = append(all, m)
			continue
		}
		last := &all[len(all)-1]
		fmt.Sscanf(line, "FilePmdMapped: %d", &last.filePmd)
		fmt.Sscanf(line, "AnonHugePages: %d", &last.anonHuge)
	}
	return all
}

// own returns the mappings of the program's file.
func (p *tracee) own() (own []mapping) {
	for _, m := range p.mappings() {
		if m.name == p.path {
			own = append(own, m)
		}
	}
	return own
}

// huge returns the KiB of the program's file in huge entries.
func (p *tracee) huge() (n int) {
	for _, m := range p.own() {
		n += m.filePmd
	}
	return n
}

// touch reads, or writes, one word.
func (p *tracee) touch(at mem.VirtAddr, write bool) {
	p.t.Helper()
	word := make([]byte, 8)
	if write {
		if _, err := syscall.PtracePokeData(p.pid, uintptr(at), word); err != nil {
			p.t.Fatalf("write %v: %v", at, err)
		}
		return
	}
	if _, err := syscall.PtracePeekData(p.pid, uintptr(at), word); err != nil && !errors.Is(err, syscall.EIO) { // beyond the end of the file
		p.t.Fatalf("read %v: %v", at, err)
	}
}

// drop takes the clean pages of a file that nobody maps out of the page cache.
func drop(t testing.TB, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
}

// measured is what the kernel did with one window.
type measured struct {
	huge      int  // KiB in huge entries after a read
	written   int  // after a write behind it
	writeable bool // it was written to
}

// measure execs path anew and faults in one window of it, cold; with headers: but
// for what exec itself read.
func measure(t testing.TB, path string, base mem.VirtAddr, headers bool) measured {
	t.Helper()
	drop(t, path)
	p := start(t, path)
	defer p.end()
	if !headers {
		drop(t, path) // the kernel has read the headers
	}
	var m measured
	for _, own := range p.own() {
		if err := p.call(unix.SYS_MADVISE, uint64(own.Start), own.Len(), madvHugepage); err != 0 {
			t.Fatalf("%s: madvise %v: %v", path, own.Range, err)
		}
	}
	var at []mem.VirtAddr
	for _, own := range p.own() {
		if r := own.Intersect(mem.WindowOf(base)); !r.Empty() {
			p.touch(r.Start, false)
			at = append(at, r.Start)
			m.writeable = m.writeable || own.prot[1] == 'w'
		}
	}
	if len(at) == 0 {
		t.Fatalf("%s: no mapping of the file at %v", path, base)
	}
	m.huge = p.huge()
	if m.writeable && m.huge > 0 {
		p.touch(at[0], true)
		m.written = p.huge()
	}
	return m
}

// kernel prepares a test that asks the kernel, in a directory whose file system
// has large folios.
func kernel(t *testing.T) (dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("not root: smaps of a program under ptrace may be hidden")
	}
	dir = t.TempDir()
	path := filepath.Join(dir, "folios")
	if err := os.WriteFile(path, make([]byte, 4*mem.HugeSize), 0o644); err != nil {
		t.Fatal(err)
	}
	drop(t, path)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 4*mem.HugeSize, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b)
	if err := unix.Madvise(b, unix.MADV_HUGEPAGE); err != nil {
		t.Skipf("the kernel has no transparent huge pages: %v", err)
	}
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (mem.HugeSize - 1) // to a window
	if sum := b[skip]; sum != 0 {
		t.Fatal("not zero")
	}
	self := &tracee{t: t, pid: os.Getpid(), path: path}
	if skip != 0 || self.huge() == 0 {
		var fs unix.Statfs_t
		unix.Statfs(dir, &fs)
		t.Skipf("no huge entry for a file in %s (file system 0x%x): no large folios, or it does not align mappings", dir, fs.Type)
	}
	return dir
}

// tracer makes the goroutine of a test one that can trace, with or without
// randomisation of what it execs: both are a thread's.
func tracer(t testing.TB, random bool) {
	t.Helper()
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	if random {
		return
	}
	const addrNoRandomize = 0x40000
	old, _, errno := syscall.RawSyscall(syscall.SYS_PERSONALITY, 0xffffffff, 0, 0)
	if errno == 0 {
		_, _, errno = syscall.RawSyscall(syscall.SYS_PERSONALITY, old|addrNoRandomize, 0, 0)
	}
	if errno != 0 {
		t.Fatalf("personality: %v", errno)
	}
	t.Cleanup(func() { syscall.RawSyscall(syscall.SYS_PERSONALITY, old, 0, 0) })
}

// checkLinux compares the verdict of every window that a file mapping overlaps
// with what the kernel does. want is how many windows must be yes.
func checkLinux(t *testing.T, path string) (yes, depends int) {
	t.Helper()
	p := start(t, path)
	first := p.own()
	p.end()
	if len(first) == 0 {
		t.Fatalf("%s: not mapped", path)
	}
	b := explainFile(t, path, defaults)
	opt := defaults
	opt.BaseGiven = b.Image.Dynamic
	opt.Base = first[0].Start
	if len(b.Image.Segments) > 0 { // the base is that of the first segment, not of the lowest mapping
		for _, m := range first {
			if m.offset == uint64(b.Image.Segments[0].Offset)&^(mem.PageSize-1) {
				opt.Base = m.Start
				break
			}
		}
	}
	r := explainFile(t, path, opt)
	for _, run := range r.Windows {
		v := run.Verdicts[Linux]
		want := v.Answer == Yes || v.Answer == Depends
		for i := range run.N {
			base := run.Base + mem.VirtAddr(i*mem.HugeSize)
			mapped := false
			for _, m := range first {
				mapped = mapped || m.Overlaps(mem.WindowOf(base))
			}
			if !mapped {
				if want {
					t.Errorf("%s: window %v: %v (%s), and no mapping there", path, base, v.Answer, v.Reason())
				}
				continue
			}
			m := measure(t, path, base, false)
			for try := 0; want && m.huge == 0 && try < 3; try++ { // memory may be short of 2 MiB for a moment
				m = measure(t, path, base, false)
			}
			if (m.huge == mem.HugeSize/1024) != want || m.huge > 0 && !want {
				t.Errorf("%s: window %v: %v (%s); FilePmdMapped is %d KiB", path, base, v.Answer, v.Reason(), m.huge)
			}
			if v.Answer == Depends && (!m.writeable || m.written != 0) {
				t.Errorf("%s: window %v: %v (%s); after a write FilePmdMapped is %d KiB", path, base, v.Answer, v.Reason(), m.written)
			}
			switch v.Answer {
			case Yes:
				yes++
			case Depends:
				depends++
			}
		}
	}
	return yes, depends
}

// TestLinuxKernel: binaries linked on purpose each way.
func TestLinuxKernel(t *testing.T) {
	dir := kernel(t)
	need(t, "gcc", "gcc", "ld")
	const mib = 1 << 20
	const hugePage = "-z max-page-size=2097152"
	const interp = " -pie --dynamic-linker=/lib64/ld-linux-x86-64.so.2"
	for _, c := range []struct {
		name         string
		p            program
		link         string
		yes, depends int
	}{
		{"congruent text, a window of its own", program{text: 5 * mib, ro: mib, data: 100, bss: 10}, "ld " + hugePage, 2, 0},
		{"congruent text behind the headers", program{text: 5 * mib, ro: mib, data: 100}, "ld", 1, 0},
		{"text and all with the headers", program{text: 5 * mib, ro: mib, data: 100}, "ld -z noseparate-code", 3, 0},
		{"not congruent", program{text: 5 * mib, ro: mib, data: 100}, "ld -z noseparate-code -Ttext-segment=0x401000", 0, 0},
		{"too short", program{text: mib, ro: 100, data: 100}, "ld " + hugePage, 0, 0},
		{"2 MiB and more, and no whole window", program{text: 2*mib + mib/2, ro: 2 * mib, data: 100}, "ld", 0, 0},
		{"exactly 2 MiB", program{text: 2 * mib, ro: 100, data: 100}, "ld " + hugePage, 1, 0},
		{"one page less", program{text: 2*mib - 4096, ro: 100, data: 100}, "ld " + hugePage, 0, 0},
		{"read-only data", program{text: 100, ro: 5 * mib, data: 100}, "ld " + hugePage, 2, 0},
		{"writable", program{text: 100, ro: 100, data: 5 * mib}, "ld -z norelro " + hugePage, 0, 2},
		{"writable, with .bss", program{text: 100, ro: 100, data: 5 * mib, bss: 3 * mib}, "ld -z norelro " + hugePage, 0, 2},
		{"writable, not congruent", program{text: 100, ro: 100, data: 5 * mib}, "ld -z norelro -z noseparate-code -Ttext-segment=0x402000", 0, 0},
		{"several segments in each window", program{text: mib, ro: mib, relro: mib, data: mib, bss: mib}, "ld", 0, 0},
		{"PIE without p_align", program{text: 5 * mib, ro: mib, data: 100}, "ld" + interp, 0, 0},
		{"PIE with p_align", program{text: 5 * mib, ro: mib, data: 100}, "ld " + hugePage + interp, 2, 0},
		{"static PIE, placed by mmap", program{text: 5 * mib, ro: mib, data: 100}, "ld -pie --no-dynamic-linker", 1, 0},
		{"static PIE with p_align", program{text: 5 * mib, ro: mib, data: 100}, "ld -pie --no-dynamic-linker " + hugePage, 2, 0},
		{"LLD", program{text: 5 * mib, ro: mib, data: 100}, "ld.lld " + hugePage, 2, 0},
		{"LLD, 4 KiB pages", program{text: 5 * mib, ro: mib, data: 100}, "ld.lld", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			tracer(t, false)
			words := strings.Fields(c.link)
			need(t, "lld", words[0])
			path := filepath.Join(dir, strings.NewReplacer(" ", "-", ",", "").Replace(c.name))
			command(t, dir, words[0], append(words[1:], "-o", path, c.p.object(t, dir))...)
			if yes, depends := checkLinux(t, path); yes != c.yes || depends != c.depends {
				t.Errorf("%d windows yes and %d depend, want %d and %d", yes, depends, c.yes, c.depends)
			}
		})
	}

	t.Run("cut off in the text", func(t *testing.T) {
		tracer(t, false)
		path := filepath.Join(dir, "cut-off")
		p := program{text: 6 * mib, ro: 100, data: 100}
		command(t, dir, "ld", "-z", "max-page-size=2097152", "-o", path, p.object(t, dir))
		if err := os.Truncate(path, 5*mib+100); err != nil { // the text begins at 2 MiB
			t.Fatal(err)
		}
		if yes, depends := checkLinux(t, path); yes != 1 || depends != 0 {
			t.Errorf("%d windows yes and %d depend, want 1 and 0", yes, depends)
		}
	})

	t.Run("p_align edited", func(t *testing.T) {
		tracer(t, false)
		path := filepath.Join(dir, "edited")
		p := program{text: 5 * mib, ro: mib, data: 100}
		command(t, dir, "ld", "-pie", "--dynamic-linker=/lib64/ld-linux-x86-64.so.2", "-o", path, p.object(t, dir))
		before := explainFile(t, path, defaults)
		e := before.Edit
		if e == nil {
			t.Fatal("no edit of p_align")
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0, 0, 0x20, 0, 0, 0, 0, 0}, int64(e.Offset)); err != nil || e.To != 0x200000 {
			t.Fatal(err, e.To)
		}
		f.Close()
		r := explainFile(t, path, defaults)
		if h := r.ByBase[Aligned]; r.Placement != ByAlign || h.Text.Min != e.Text || e.Text == 0 {
			t.Errorf("placement %v, %d bytes of text, the edit promised %d", r.Placement, h.Text.Min, e.Text)
		}
		if yes, _ := checkLinux(t, path); uint64(yes)*mem.HugeSize != e.Text+e.ReadOnly {
			t.Errorf("%d windows, the edit promised %d bytes", yes, e.Text+e.ReadOnly)
		}
	})
}

// TestHeadersKernel: the note on windows that begin at offset 0 of the file.
func TestHeadersKernel(t *testing.T) {
	dir := kernel(t)
	need(t, "gcc", "gcc", "ld")
	tracer(t, false)
	path := filepath.Join(dir, "headers")
	command(t, dir, "ld", "-z", "noseparate-code", "-o", path, program{text: 5 << 20, ro: 100, data: 100}.object(t, dir))
	for i, w := range explainFile(t, path, defaults).Windows[:1] {
		if note := w.Verdicts[Linux].Note; w.Verdicts[Linux].Answer != Yes || !strings.Contains(note, "exec reads the headers first") {
			t.Errorf("window %d: %v, %q", i, w.Verdicts[Linux].Answer, note)
		}
		if m := measure(t, path, w.Base, true); m.huge != 0 {
			t.Errorf("FilePmdMapped is %d KiB with the headers in the cache", m.huge)
		}
		if m := measure(t, path, w.Base, false); m.huge != mem.HugeSize/1024 {
			t.Errorf("FilePmdMapped is %d KiB without", m.huge)
		}
	}
}

// TestBaseKernel: with randomisation, what the placement says of the base holds.
func TestBaseKernel(t *testing.T) {
	dir := kernel(t)
	need(t, "gcc", "gcc", "ld")
	tracer(t, true)
	p := program{text: 5 << 20, ro: 100, data: 100}
	obj := p.object(t, dir)
	for _, c := range []struct {
		link    string
		want    Placement
		aligned bool
	}{
		{"-pie --dynamic-linker=/lib64/ld-linux-x86-64.so.2", AnyPage, false},
		{"-pie --dynamic-linker=/lib64/ld-linux-x86-64.so.2 -z max-page-size=2097152", ByAlign, true},
		{"-pie --no-dynamic-linker", ByMmap, true}, // this file system aligns: kernel checked that
		{"-pie --no-dynamic-linker -z max-page-size=2097152", ByAlign, true},
	} {
		path := filepath.Join(dir, "base")
		command(t, dir, "ld", append(strings.Fields(c.link), "-o", path, obj)...)
		if r := explainFile(t, path, defaults); r.Placement != c.want {
			t.Errorf("%s: placement %v, want %v", c.link, r.Placement, c.want)
		}
		const runs = 12
		aligned := 0
		for range runs {
			p := start(t, path)
			if p.own()[0].Start%mem.HugeSize == 0 {
				aligned++
			}
			p.end()
		}
		// Of 12 random pages all are multiples of 2 MiB once in 512^12 tries.
		if (aligned == runs) != c.aligned {
			t.Errorf("%s: %d of %d bases are multiples of 2 MiB", c.link, aligned, runs)
		}
	}
}

// TestLinuxKernelRandom: random segments of some MiB, at page granularity, some
// of them side by side so that they merge, some one over the other.
func TestLinuxKernelRandom(t *testing.T) {
	dir := kernel(t)
	tracer(t, false)
	n := 12
	if testing.Short() {
		n = 3
	}
	total := 0
	for seed := range n {
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		spec := elfgen.Spec{Type: elfgen.Exec, Entry: 0x400000, Stack: mem.ProtRead | mem.ProtWrite}
		var vaddr, off uint64 = 0x400000, 0
		for range 2 + r.IntN(4) {
			pages := 1 + r.Uint64N(1200)
			g := elfgen.Seg{Vaddr: vaddr, Offset: off, Filesz: pages * mem.PageSize, Memsz: pages * mem.PageSize,
				Flags: []mem.Prot{protR, protRX, protRX, protRW}[r.IntN(4)]}
			spec.Segments = append(spec.Segments, g)
			vaddr, off = vaddr+g.Memsz, off+g.Filesz
			switch r.IntN(6) {
			case 0: // a gap in memory, congruent or not
				vaddr += r.Uint64N(4) * mem.HugeSize / 2
			case 1: // over the end of this one
				vaddr -= r.Uint64N(min(pages, 50)) * mem.PageSize
			case 2: // not congruent
				off += r.Uint64N(3) * mem.PageSize
			}
		}
		path := filepath.Join(dir, fmt.Sprintf("random-%d", seed))
		if err := os.WriteFile(path, elfgen.Build(spec, nil), 0o755); err != nil {
			t.Fatal(err)
		}
		yes, depends := checkLinux(t, path)
		total += yes + depends
		if t.Failed() {
			t.Fatalf("seed %d: %+v", seed, spec)
		}
		os.Remove(path)
	}
	if total == 0 {
		t.Error("no huge window in any of them")
	}
}

// TestRemapKernel: text that a program copies to anonymous memory in its place is
// huge in as many windows as rule remap says, congruent or not.
func TestRemapKernel(t *testing.T) {
	dir := kernel(t)
	need(t, "gcc", "gcc", "ld")
	tracer(t, false)
	for _, c := range []struct {
		text uint64
		link string
	}{
		{5 << 20, "ld"},
		{5 << 20, "ld -z noseparate-code -Ttext-segment=0x401000"},
		{2<<20 + 1<<19, "ld"},
		{5 << 20, "ld -pie --dynamic-linker=/lib64/ld-linux-x86-64.so.2"},
	} {
		path := filepath.Join(dir, "remap")
		words := strings.Fields(c.link)
		command(t, dir, words[0], append(words[1:], "-o", path, program{text: c.text, ro: 100, data: 100}.object(t, dir))...)
		p := start(t, path)
		opt := defaults
		own := p.own()
		opt.Base, opt.BaseGiven = own[0].Start, own[0].Start > 0x10000000
		r := explainFile(t, path, opt)
		var text mem.Range
		for _, m := range own {
			if m.prot[2] == 'x' {
				text = m.Range
			}
		}
		const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED
		if got := p.call(unix.SYS_MMAP, uint64(text.Start), text.Len(), unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, flags, ^uint64(0), 0); got != int64(text.Start) {
			t.Fatalf("mmap: %d", got)
		}
		if err := p.call(unix.SYS_MADVISE, uint64(text.Start), text.Len(), madvHugepage); err != 0 {
			t.Fatalf("madvise: %d", err)
		}
		for at := text.Start; at < text.End; at += mem.HugeSize / 4 {
			p.touch(at, true)
		}
		huge := 0
		for _, m := range p.mappings() {
			if m.Overlaps(text) {
				huge += m.anonHuge
			}
		}
		p.end()
		var want uint64
		for _, run := range r.Windows {
			if run.Verdicts[Remap].Answer == Yes {
				want += run.N
			}
		}
		if uint64(huge)*1024 != want*mem.HugeSize || r.ByBase[Remap].Windows.Min != want {
			t.Errorf("%s, %d bytes of text: AnonHugePages %d KiB, %d windows by the rule, %+v by base", c.link, c.text, huge, want, r.ByBase[Remap])
		}
	}
}
