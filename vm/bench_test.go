package vm

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmsim/hugepage"
	"vmsim/internal/elfgen"
	"vmsim/internal/phys"
	"vmsim/internal/testchild"
	"vmsim/mem"
	"vmsim/pagecache"
	"vmsim/vma"
)

// A benchmark with a reference measures both in turns, batch by batch, in the
// same run, and reports the medians and their ratio. Absolute figures drift with
// the host; the ratio holds.

// batch is a side of a comparison. prepare and tidy are not timed.
type batch struct {
	name          string
	n             int // operations in one run
	prepare, tidy func()
	run           func()
}

// time runs the batch once and returns the nanoseconds of one operation.
func (s *batch) time() float64 {
	if s.prepare != nil {
		s.prepare()
	}
	start := time.Now()
	s.run()
	ns := float64(time.Since(start).Nanoseconds()) / float64(s.n)
	if s.tidy != nil {
		s.tidy()
	}
	return ns
}

// compare runs the sides in turns and reports ns of each; of the first, also as
// a multiple of each other one.
func compare(b *testing.B, sides ...*batch) {
	b.Helper()
	ns := make([][]float64, len(sides))
	for _, s := range sides {
		s.time() // warms up
	}
	for b.Loop() {
		for i, s := range sides {
			ns[i] = append(ns[i], s.time())
		}
	}
	b.ReportMetric(0, "ns/op") // of a round: says nothing
	for i := range sides {
		slices.Sort(ns[i])
		median := ns[i][len(ns[i])/2]
		if i == 0 {
			b.ReportMetric(median, "ns")
			continue
		}
		b.ReportMetric(median, "ns_"+sides[i].name)
		b.ReportMetric(ns[0][len(ns[0])/2]/median, "x_of_"+sides[i].name)
	}
}

// mapHost maps n bytes of the host: of a file, or anonymous where fd is -1.
func mapHost(b *testing.B, n, fd, prot, flags int) []byte {
	b.Helper()
	if fd < 0 {
		flags |= unix.MAP_ANONYMOUS
	}
	m, err := unix.Mmap(fd, 0, n, prot, flags)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Munmap(m) })
	return m
}

func advise(b *testing.B, m []byte, advice int) {
	if err := unix.Madvise(m, advice); err != nil {
		b.Fatal(err)
	}
}

// tempFile writes data to a file of the host, 4 KiB at a time, so that its
// cached pages are single ones.
func tempFile(b *testing.B, data []byte) *os.File {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "pages"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	for off := 0; off < len(data); off += mem.PageSize {
		if _, err := f.Write(data[off:min(off+mem.PageSize, len(data))]); err != nil {
			b.Fatal(err)
		}
	}
	return f
}

var sink byte // keeps reads alive

// coldPages is how many pages the large arenas have: more than the host's caches
// hold.
const coldPages = 64 << 20 / mem.PageSize

func newBench(b *testing.B, memory uint64) (*Machine, *Process) {
	b.Helper()
	m := newMachine(b, Config{Memory: memory})
	return m, boot(b, m)
}

// must is for what runs in a timed loop: it must not fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// BenchmarkFileReadFault maps cached pages of a file, one a fault. The kernel
// does it on areas of one page, where its fault-around has nothing to do.
func BenchmarkFileReadFault(b *testing.B) {
	const n, rounds = 4096, 16 // rounds of ours for one of the kernel's, which takes as long
	f, data := pattern("cached", n)
	m, p := newBench(b, 128<<20)
	at := mmap(b, p, Mapping{Len: uint64(len(data)), Prot: ro, File: f})
	warm := p.Fork()
	sees(b, warm, at, data)
	warm.Exit()
	if m.CachedPages(f) != n {
		b.Fatalf("%d pages cached", m.CachedPages(f))
	}

	host := tempFile(b, data)
	areas := mapHost(b, n*mem.PageSize, -1, unix.PROT_NONE, unix.MAP_PRIVATE)
	for i := range n { // neighbours come from pages that are none, so that no areas merge
		page := i * 1531 % n
		addr, err := unix.MmapPtr(int(host.Fd()), int64(page)*mem.PageSize, unsafe.Pointer(&areas[i*mem.PageSize]), mem.PageSize,
			unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_FIXED)
		if err != nil || areas[i*mem.PageSize] != data[page*mem.PageSize] {
			b.Fatal(addr, err)
		}
	}

	order := make([]int, n)
	for i := range order {
		order[i] = i * mem.PageSize
	}
	for _, name := range []string{"in order", "random"} {
		if name == "random" {
			rand.New(rand.NewPCG(1, 1)).Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
		}
		b.Run(name, func(b *testing.B) {
			var children [rounds]*Process
			compare(b, &batch{n: rounds * n,
				prepare: func() {
					for i := range children {
						children[i] = p.Fork()
					}
				},
				run: func() {
					for _, c := range children {
						for _, off := range order {
							if kind, err := c.Touch(at+mem.VirtAddr(off), mem.Read); kind != Minor {
								panic(err)
							}
						}
					}
				},
				tidy: func() {
					for _, c := range children {
						c.Exit()
					}
				},
			}, &batch{name: "kernel", n: n,
				prepare: func() { advise(b, areas, unix.MADV_DONTNEED) },
				run: func() {
					for _, off := range order {
						sink += areas[off]
					}
				},
			})
		})
	}
}

// coldArena is a large piece of the host's memory, in huge pages as the
// machine's is, that is walked page by page.
func coldArena(b *testing.B) []byte {
	a := mapHost(b, coldPages*mem.PageSize, -1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	advise(b, a, unix.MADV_HUGEPAGE)
	elfgen.Pattern(0, a)
	return a
}

// BenchmarkCoWFault copies a page that is shared after fork. The kernel copies
// pages of a private file mapping: a fork of the test process is not to be had.
func BenchmarkCoWFault(b *testing.B) {
	_, p := newBench(b, 512<<20)
	at := mmap(b, p, Mapping{Len: coldPages * mem.PageSize, Prot: rw})
	for i := range coldPages {
		write(b, p, at+mem.VirtAddr(i*mem.PageSize), "before")
	}
	c := p.Fork()
	write(b, c, at, "after")
	reads(b, p, at, "before")
	reads(b, c, at, "after")
	c.Exit()

	const nHost = 4096
	_, data := pattern("private", nHost)
	private := mapHost(b, nHost*mem.PageSize, int(tempFile(b, data).Fd()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	compareWrites(b, p, at, CoW, private)
}

// kernelWrite writes to each page of a private mapping that has none yet.
func kernelWrite(b *testing.B, private []byte) *batch {
	return &batch{name: "kernel", n: len(private) / mem.PageSize,
		prepare: func() { advise(b, private, unix.MADV_DONTNEED) },
		run: func() {
			for off := 0; off < len(private); off += mem.PageSize {
				private[off] = 1
			}
		},
	}
}

// BenchmarkPrivateWriteFault copies a cached page of a file for its writer.
func BenchmarkPrivateWriteFault(b *testing.B) {
	f, data := pattern("cached", coldPages)
	_, p := newBench(b, 512<<20)
	at := mmap(b, p, Mapping{Len: uint64(len(data)), Prot: rw, File: f})
	warm := p.Fork()
	ro1 := mmap(b, warm, Mapping{Len: uint64(len(data)), Prot: ro, File: f})
	sees(b, warm, ro1, data)
	warm.Exit()

	private := mapHost(b, 4096*mem.PageSize, int(tempFile(b, data[:4096*mem.PageSize]).Fd()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	compareWrites(b, p, at, Minor, private)
}

// compareWrites times the first write to each of coldPages pages at at in a child
// of p, which costs a fault of this kind and a copy, against a cold memcpy and
// the kernel's own private write fault.
func compareWrites(b *testing.B, p *Process, at mem.VirtAddr, want FaultKind, private []byte) {
	b.Helper()
	src, dst := coldArena(b), coldArena(b)
	var q *Process
	compare(b, &batch{n: coldPages,
		prepare: func() { q = p.Fork() },
		run: func() {
			for i := range coldPages {
				if kind, err := q.Touch(at+mem.VirtAddr(i*mem.PageSize), mem.Write); kind != want {
					panic(err)
				}
			}
		},
		tidy: func() { q.Exit() },
	}, &batch{name: "memcpy", n: coldPages, run: func() {
		for off := 0; off < len(dst); off += mem.PageSize {
			copy(dst[off:off+mem.PageSize], src[off:])
		}
	}}, kernelWrite(b, private))
}

// BenchmarkAnonWriteFault clears a page.
func BenchmarkAnonWriteFault(b *testing.B) {
	_, p := newBench(b, 256<<20)
	at := mmap(b, p, Mapping{Len: coldPages * mem.PageSize, Prot: rw})
	arena := coldArena(b)
	private := mapHost(b, 4096*mem.PageSize, -1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	advise(b, private, unix.MADV_NOHUGEPAGE)
	var q *Process
	compare(b, &batch{n: coldPages,
		prepare: func() { q = p.Fork() },
		run: func() {
			for i := range coldPages {
				if kind, err := q.Touch(at+mem.VirtAddr(i*mem.PageSize), mem.Write); kind != Minor {
					panic(err)
				}
			}
		},
		tidy: func() { q.Exit() },
	}, &batch{name: "clear", n: coldPages, run: func() {
		for off := 0; off < len(arena); off += mem.PageSize {
			clear(arena[off : off+mem.PageSize])
		}
	}}, kernelWrite(b, private))
}

// BenchmarkFork forks a process with 1 GiB resident, and one with 1 MiB.
func BenchmarkFork(b *testing.B) {
	side := func(name string, resident int) *batch {
		_, p := newBench(b, uint64(resident)+64<<20)
		at := mmap(b, p, Mapping{Len: uint64(resident), Prot: rw})
		for off := 0; off < resident; off += mem.PageSize {
			touch(b, p, at+mem.VirtAddr(off), mem.Write, Minor)
		}
		c := p.Fork()
		if n := c.Residency().Resident; n != resident/mem.PageSize {
			b.Fatalf("the child has %d pages", n)
		}
		c.Exit()
		var children [64]*Process
		return &batch{name: name, n: len(children), run: func() {
			for i := range children {
				children[i] = p.Fork()
			}
		}, tidy: func() {
			for _, c := range children {
				c.Exit()
			}
		}}
	}
	compare(b, side("1GiB", 1<<30), side("1MiB", 1<<20))
}

// BenchmarkForkExecExit runs a static program, once it is cached, that touches as many
// pages as the host's BusyBox faults in for true: the reference, started in posix_spawn's way.
func BenchmarkForkExecExit(b *testing.B) {
	const name = "static-nopie"
	host, nTouches := testchild.Cycle(b)
	m := newMachine(b, Config{Memory: 64 << 20, Policy: kevlar(b, hugepage.DefaultThreshold)})
	p := boot(b, m, name)
	readAll(b, p)
	prog := mustPrograms(b, name)[0]
	var pages []mem.VirtAddr
	var kinds []mem.Access
	for at, ti := prog.images[0].first, prog.images[0]; at < ti.end(); at += mem.PageSize {
		a := mem.Read
		if ti.at(at).prot.Allows(mem.Write) {
			a = mem.Write
		}
		pages, kinds = append(pages, at), append(kinds, a)
	}
	for at := StackTop - mem.PageSize; len(pages) < nTouches; at -= mem.PageSize {
		pages, kinds = append(pages, at), append(kinds, mem.Write)
	}
	once := func() *Process {
		c := p.Fork()
		must(c.Exec(prog.prog))
		for i, at := range pages {
			_, err := c.Touch(at, kinds[i])
			must(err)
		}
		return c
	}
	c := once()
	b.Logf("%d touches, %+v", nTouches, c.Faults)
	c.Exit()

	compare(b, &batch{n: 500, run: func() {
		for range 500 {
			once().Exit()
		}
	}}, &batch{name: "host", n: 10, run: func() { host(10) }})
}

// BenchmarkAssemble fills one block, over and over, with the window of
// huge-text.
func BenchmarkAssemble(b *testing.B) {
	const base = mem.VirtAddr(0x400000)
	ti := mustPrograms(b, "huge-text")[0].images[0]
	data := make([]byte, ti.file.Size())
	if _, err := ti.file.ReadAt(data, 0); err != nil {
		b.Fatal(err)
	}
	host := tempFile(b, data)
	f, err := mem.OpenFile(host.Name())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	ram, err := phys.New(64 << 20)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ram.Close() })
	first, _ := ram.AllocHuge()

	assemble := func(b *testing.B, frames []mem.PFN) func() {
		cache := pagecache.New(ram)
		no := cache.Open(f)
		for i, pfn := range frames {
			copy(ram.Page(pfn), data[i*mem.PageSize:])
			cache.Insert(no, mem.PageIndex(i), pfn, mem.PageSize)
		}
		asm := hugepage.NewAssembler(ram, cache, kevlar(b, 0))
		window := mem.WindowOf(base)
		areas := []vma.VMA{{Range: window, Prot: rx, Kind: vma.File, File: f, FileNo: no, FileEnd: window.End, Segment: 1}}
		c, ok := asm.Candidate(base, 0, areas)
		if !ok || c.Cached != len(frames) {
			b.Fatalf("%+v", c)
		}
		run := func() {
			_, win, err := asm.Assemble(c, areas, first)
			must(err)
			if win.FromCache != len(frames) || win.FromFile != mem.SubPages-len(frames) {
				panic("not from where it should be")
			}
		}
		clear(ram.Block(first))
		run()
		if err := sameBytes(ram.Block(first), data[:mem.HugeSize]); err != nil {
			b.Fatal(err)
		}
		return run
	}

	src := mapHost(b, mem.HugeSize, -1, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	copy(src, data)
	second, _ := ram.AllocHuge()
	memcpy := &batch{name: "memcpy", n: 1, run: func() { copy(ram.Block(second), src) }}
	pread := &batch{name: "pread", n: 1, run: func() {
		_, err := host.ReadAt(ram.Block(second), 0)
		must(err)
	}}
	frames := make([]mem.PFN, mem.SubPages)
	block, _ := ram.AllocHuge()
	for i := range frames {
		frames[i] = block + mem.PFN(i)
	}
	b.Run("contiguous", func(b *testing.B) { compare(b, &batch{n: 1, run: assemble(b, frames)}, memcpy) })
	// Scattered over 32 MiB.
	var many []mem.PFN
	for range 16 * mem.SubPages {
		pfn, _ := ram.Alloc()
		many = append(many, pfn)
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(many), func(i, j int) { many[i], many[j] = many[j], many[i] })
	b.Run("scattered", func(b *testing.B) { compare(b, &batch{n: 1, run: assemble(b, many[:mem.SubPages])}, memcpy) })
	b.Run("file", func(b *testing.B) { compare(b, &batch{n: 1, run: assemble(b, nil)}, pread) })
}

// BenchmarkTranslate translates addresses of mapped pages: by the TLB, and by a
// walk of four levels. The reference is the least that any translation can do:
// a load from a flat array of frame numbers.
func BenchmarkTranslate(b *testing.B) {
	const n, rounds = 64, 1000
	m, p := newBench(b, 16<<20)
	at := mmap(b, p, Mapping{Len: n * mem.PageSize, Prot: rw})
	var flat [n]mem.PFN
	for i := range flat {
		write(b, p, at+mem.VirtAddr(i*mem.PageSize), "x")
		e, _ := m.tables.Walk(p.root, at+mem.VirtAddr(i*mem.PageSize))
		flat[i] = e.PFN()
	}
	each := func(translate func(i int) mem.PFN) func() {
		return func() {
			for range rounds {
				for i := range n {
					if translate(i) != flat[i] {
						b.Fatalf("page %d is not in frame %d", i, flat[i])
					}
				}
			}
		}
	}
	array := &batch{name: "array", n: n * rounds, run: each(func(i int) mem.PFN { return flat[i] })}
	b.Run("TLB hit", func(b *testing.B) {
		compare(b, &batch{n: n * rounds, run: each(func(i int) mem.PFN {
			pfn, _, _ := p.translate(at+mem.VirtAddr(i*mem.PageSize), mem.Read)
			return pfn
		})}, array)
	})
	b.Run("walk", func(b *testing.B) {
		compare(b, &batch{n: n * rounds, run: each(func(i int) mem.PFN {
			e, _ := m.tables.Walk(p.root, at+mem.VirtAddr(i*mem.PageSize))
			return e.PFN()
		})}, array)
	})
}
