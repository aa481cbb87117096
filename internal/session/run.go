package session

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// RunResult is what running a program showed, exec by exec.
type RunResult struct {
	Execs    []ExecResult
	Maps     []MapLine // of the last exec
	Stats    vm.Stats
	Cache    int // pages in the page cache at the end
	Huge     int // huge pages kept
	Tally    verify.Tally
	Failures []event.Event
}

// ExecResult is one execution.
type ExecResult struct {
	PID        int
	Pages      int // touched
	Faults     vm.Faults
	Prefaulted int // cached 4 KiB pages that exec mapped
	Windows    int // huge windows that exec mapped
	Assembled  int // of those, put together now
	Residency  vm.Residency
	Failures   int // of the windows that it assembled and the pages that it saw

	FailureEvents []event.Event // the first of them
}

// MapLine is a line of /proc/PID/maps.
type MapLine struct {
	Start, End mem.VirtAddr
	Prot       mem.Prot
	Shared     bool
	Offset     int64
	Dev, Ino   uint64
	Name       string
}

// String formats m as the kernel does.
func (m MapLine) String() string {
	sharing := "p"
	if m.Shared {
		sharing = "s"
	}
	s := fmt.Sprintf("%08x-%08x %v%s %08x %02x:%02x %d", uint64(m.Start), uint64(m.End), m.Prot, sharing,
		m.Offset, unix.Major(m.Dev), unix.Minor(m.Dev), m.Ino)
	if m.Name == "" {
		return s
	}
	return fmt.Sprintf("%-72s %s", s, m.Name)
}

// Run execs prog n times, one process after the other, and touches every page
// of it and of its interpreter for reading; with write it then writes to each
// page that is writable the byte that is there already, so that CoW is seen and
// nothing changes. The first exec finds an empty page
// cache, the later ones a warm one. What is read is compared with the truth.
// With an error, the result holds what was found until then.
func (rig *Rig) Run(prog vm.Program, n int, write bool) (res RunResult, err error) {
	rig.Reset()
	defer func() {
		res.Stats, res.Cache, res.Huge = rig.Machine.Stats(), rig.Machine.CacheStats().Pages, rig.Machine.HugePages()
		res.Tally, res.Failures = rig.Witness.Tally(), rig.Witness.Failures()
	}()
	init, err := rig.Machine.Boot(nil)
	if err != nil {
		return res, err
	}
	for i := range n {
		before, failed, kept := rig.Machine.Stats(), rig.Witness.Tally().Failures, len(rig.Witness.Failures())
		p := init.Fork()
		if err := p.Exec(prog); err != nil {
			return res, err
		}
		warm := rig.Machine.Stats()
		e := ExecResult{PID: p.PID, Prefaulted: warm.Prefaulted - before.Prefaulted,
			Windows:   warm.HugeMapped + warm.HugeScattered - before.HugeMapped - before.HugeScattered,
			Assembled: warm.Assembled - before.Assembled}
		if e.Pages, err = rig.touchAll(p, write); err != nil {
			return res, err
		}
		e.Faults, e.Residency = p.Faults, p.Residency()
		e.Failures, e.FailureEvents = rig.Witness.Tally().Failures-failed, rig.Witness.Failures()[kept:]
		res.Execs = append(res.Execs, e)
		if i == n-1 {
			res.Maps = mapsOf(p)
		}
		p.Exit()
	}
	return res, rig.sound(prog)
}

// touchAll reads every page of p's objects and compares it. A page that the
// headers let nobody read is no page to touch.
func (rig *Rig) touchAll(p *vm.Process, write bool) (pages int, err error) {
	ts, err := truths(p)
	if err != nil {
		return 0, err
	}
	good := 0
	for _, t := range ts {
		for addr := range t.TouchPages() {
			if err := rig.stopped(); err != nil {
				return pages, err
			}
			ok, err := rig.comparePage(p, t, addr)
			var segv *vm.Segfault
			if err != nil && !errors.As(err, &segv) {
				return pages, err
			}
			pages++
			if ok {
				good++
			}
			if prot, _ := t.Prot(addr); write && prot&mem.ProtWrite != 0 {
				if err := rewrite(p, addr); err != nil {
					return pages, err
				}
			}
		}
	}
	rig.Witness.Done(p.PID, good, pages-good)
	rig.Witness.Permissions(p.PID, ts, p.Space(), []mem.Range{stackOf(p)})
	return pages, nil
}

// rewrite writes the byte at addr over itself.
func rewrite(p *vm.Process, addr mem.VirtAddr) error {
	var b [1]byte
	err := p.Read(addr, b[:])
	if err == nil {
		_, err = p.Write(addr, b[:])
	}
	return err
}

func mapsOf(p *vm.Process) []MapLine {
	var lines []MapLine
	for v := range p.Areas() {
		l := MapLine{Start: v.Start, End: v.End, Prot: v.Prot, Shared: v.Shared, Name: v.Name()}
		if v.Backed() {
			l.Offset, l.Dev, l.Ino = v.Offset, v.File.Identity().Dev, v.File.Identity().Ino
		}
		lines = append(lines, l)
	}
	return lines
}

// TeeSink gives every event to all of sinks.
func TeeSink(sinks ...event.Sink) event.Sink {
	return event.Func(func(e event.Event) {
		for _, s := range sinks {
			s.Emit(e)
		}
	})
}
