package vm

import (
	"fmt"
	"testing"

	"vmsim/mem"
)

// BenchmarkHit asks for accesses to pages that the TLB has, in order: what a
// replay does for most touches. The reference is a load from a flat array of the
// same pages' permissions.
func BenchmarkHit(b *testing.B) {
	const n, rounds = 64, 1000
	_, p := newBench(b, 16<<20)
	at := mmap(b, p, Mapping{Len: n * mem.PageSize, Prot: rw})
	var flat [n]mem.Prot
	for i := range flat {
		write(b, p, at+mem.VirtAddr(i*mem.PageSize), "x")
		flat[i] = rw
	}
	compare(b, &batch{n: n * rounds, run: func() {
		hits := 0
		for range rounds {
			for addr := at; addr < at+n*mem.PageSize; addr += mem.PageSize {
				if p.Hit(addr, mem.Write) {
					hits++
				}
			}
		}
		if hits != n*rounds {
			panic("missed")
		}
	}}, &batch{name: "array", n: n * rounds, run: func() {
		hits := 0
		for range rounds {
			for addr := at; addr < at+n*mem.PageSize; addr += mem.PageSize {
				if flat[(addr-at)/mem.PageSize&(n-1)]&mem.ProtWrite != 0 {
					hits++
				}
			}
		}
		if hits != n*rounds {
			panic("missed")
		}
	}})
}

// BenchmarkScale compares the cost of an operation among 1,000 live processes, and
// in a process of 100,000 areas, with that in a machine that has one small one. What
// goes through the pages of 100,000 areas is compared with the same pages in 100 areas:
// so many pages cost the host's cache and the TLB alike.
func BenchmarkScale(b *testing.B) {
	const areas, live, base = 100_000, 1000, mem.VirtAddr(0x100000000)
	world := func(procs, n, areas int) *Process {
		m := newMachine(b, Config{Memory: 1 << 30, MaxAreas: 2 * areas, Policy: kevlar(b, 600)})
		p := boot(b, m, "static-nopie")
		readAll(b, p)
		mmap(b, p, Mapping{Len: mem.PageSize, Prot: rw, Shared: true})
		for range procs - 1 {
			exec(b, p.Fork(), "static-nopie")
		}
		for i := range n {
			at := base + mem.VirtAddr(2*i*mem.PageSize)
			if each := n / areas; i%each == 0 { // and a gap, so that no two merge
				mmap(b, p, Mapping{Addr: at, Len: uint64((2*each - 1) * mem.PageSize), Prot: rw, Fixed: true})
			}
			touch(b, p, at, mem.Write, Minor)
		}
		return p
	}
	type op struct {
		name string
		// make returns the operation on p, which has n pages from base on.
		make func(p *Process, n int) func(i int)
		same bool // compare with the same pages in fewer areas
	}
	// spread goes through all pages, 16 neighbours at a time: programs have some
	// locality. Without it the host's own cache misses are half of what is measured.
	spread := func(i, n int) mem.VirtAddr { return base + mem.VirtAddr(2*((i/16*7919+i%16)%n)*mem.PageSize) }
	ops := []op{
		{"touch", func(p *Process, n int) func(int) {
			return func(i int) {
				_, err := p.Touch(spread(i, n), mem.Write)
				must(err)
			}
		}, true},
		{"fault", func(p *Process, n int) func(int) {
			return func(i int) {
				at := spread(i, n)
				must(p.Madvise(at, mem.PageSize, AdviseDontNeed))
				_, err := p.Touch(at, mem.Write)
				must(err)
			}
		}, true},
		{"mmap, munmap", func(p *Process, n int) func(int) {
			return func(int) {
				at, err := p.Mmap(Mapping{Len: mem.PageSize, Prot: ro})
				must(err)
				must(p.Munmap(at, mem.PageSize))
			}
		}, false},
		{"shared, munmap", func(p *Process, n int) func(int) {
			return func(int) {
				at, err := p.Mmap(Mapping{Len: mem.PageSize, Prot: rw, Shared: true})
				must(err)
				must(p.Munmap(at, mem.PageSize))
			}
		}, false},
		{"mprotect", func(p *Process, n int) func(int) {
			return func(i int) {
				at := spread(i, n)
				must(p.Mprotect(at, mem.PageSize, ro))
				must(p.Mprotect(at, mem.PageSize, rw))
			}
		}, false},
		{"fork, exit", func(p *Process, n int) func(int) {
			return func(int) { p.Fork().Exit() }
		}, false},
		{"fork, write, exit", func(p *Process, n int) func(int) {
			return func(i int) {
				c := p.Fork()
				_, err := c.Touch(spread(i, n), mem.Write)
				must(err)
				c.Exit()
			}
		}, true},
		{"fork, exec, exit", func(p *Process, n int) func(int) {
			prog := mustPrograms(b, "static-nopie")[0].prog
			return func(i int) {
				c := p.Fork()
				must(c.Exec(prog))
				c.Exit()
			}
		}, false},
	}
	const small = 100
	for _, o := range ops {
		b.Run(o.name, func(b *testing.B) {
			side := func(name string, procs, n, areas int) *batch {
				do, i := o.make(world(procs, n, areas), n), 0
				return &batch{name: name, n: 2000, run: func() {
					for range 2000 {
						do(i)
						i++
					}
				}}
			}
			b.Run(fmt.Sprintf("%d processes", live), func(b *testing.B) {
				compare(b, side("many", live, small, small), side("small", 1, small, small))
			})
			b.Run(fmt.Sprintf("%d areas", areas), func(b *testing.B) {
				if o.same {
					compare(b, side("many", 1, areas, areas), side("few", 1, areas, small))
				} else {
					compare(b, side("many", 1, areas, areas), side("small", 1, small, small))
				}
			})
		})
	}
}
