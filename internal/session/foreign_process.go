package session

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"vmsim/internal/live"
	"vmsim/mem"
	"vmsim/verify"
)

// ErrGone is the error of a process that has ended, or runs another program.
var ErrGone = live.ErrGone

// ErrKernelThread is the error of a process without memory of its own.
var ErrKernelThread = live.ErrKernelThread

// PIDs returns the numbers of all processes, ascending.
func PIDs() ([]int, error) { return live.PIDs() }

// Process compares the pages of files that are present in a live process with
// the files, and gives the results to each, by ascending address. It changes
// nothing in the process, and faults nothing in.
//
// It returns the name of the process; ErrGone, ErrKernelThread or a wrapped
// fs.ErrPermission where it cannot be looked at, ErrGone also where it ends
// meanwhile, after the results so far; ErrStopped.
func (v *Foreign) Process(pid int, each func(MappingResult)) (name string, err error) {
	p, err := live.Open(pid)
	if err != nil {
		return "", err
	}
	defer p.Close()
	c := &processCheck{v: v, p: p}
	defer c.close()
	for _, m := range p.Mappings() {
		c.uprobes = c.uprobes || m.Path == "[uprobes]"
	}
	before := v.witness.Tally()
	failed := 0
	for _, m := range p.Mappings() {
		if v.stop() {
			return p.Name, ErrStopped
		}
		if !m.IsFile() {
			continue
		}
		var r MappingResult
		if r, err = c.mapping(m); err != nil {
			return p.Name, err
		}
		r.finish()
		failed += r.Findings
		each(r)
	}
	v.witness.Done(pid, v.witness.Tally().Pages-before.Pages-failed, failed)
	return p.Name, nil
}

// processCheck is one call of Process.
type processCheck struct {
	v       *Foreign
	p       *live.Process
	uprobes bool // the process has a page of uprobe slots

	// The file of the mapping before: the next one is often of the same.
	last    live.Mapping
	backing *live.Backing
	object  *object

	again *live.Process // p opened anew, for the mapping at hand; nil before it is needed
}

func (c *processCheck) close() {
	c.object.close()
	if c.backing != nil {
		c.backing.Close()
	}
	c.drop()
}

// drop closes again.
func (c *processCheck) drop() {
	if c.again != nil {
		c.again.Close()
		c.again = nil
	}
}

// back finds the file of m.
func (c *processCheck) back(m live.Mapping) *live.Backing {
	same := m.Dev == c.last.Dev && m.Ino == c.last.Ino && m.Path == c.last.Path
	if c.backing != nil && same {
		return c.backing
	}
	c.close()
	c.last, c.backing, c.object = m, c.p.Back(m), nil
	return c.backing
}

// objectOf returns the headers of the file of m, which back has opened.
func (c *processCheck) objectOf(m live.Mapping) *object {
	if c.object == nil {
		var places []spot
		for _, o := range c.p.Mappings() {
			if o.Dev == m.Dev && o.Ino == m.Ino {
				places = append(places, spot{o.Range, o.Off})
			}
		}
		c.object = newObject(c.backing.File, places)
	}
	return c.object
}

// mapping looks at one mapping. The error is ErrGone or ErrStopped.
func (c *processCheck) mapping(m live.Mapping) (MappingResult, error) {
	defer c.drop()
	b := c.back(m)
	r := MappingResult{PID: c.p.PID, Process: c.p.Name, Range: m.Range, Perms: m.Perms(), Off: m.Off,
		Path: b.Path, Kind: string(b.Kind)}
	if b.File == nil {
		r.Verdict, r.Reason = Skipped, Reason(b.Why)
	}
	for rest := m.Range; !rest.Empty(); {
		if c.v.stop() {
			return r, ErrStopped
		}
		block := rest
		block.End = min(rest.End, rest.Start.HugeDown()+mem.HugeSize)
		pages, err := c.p.Pages(block)
		if err != nil {
			return r, err
		}
		if err := c.block(&r, m, block.Start, pages); err != nil {
			return r, err
		}
		rest.Start += mem.VirtAddr(len(pages)) * mem.PageSize
	}
	if r.Unread > 0 && r.Unread == r.Resident {
		r.Verdict, r.Reason = Skipped, "its pages cannot be read"
	}
	return r, nil
}

// block counts up to 512 pages and compares each run of those that are present.
func (c *processCheck) block(r *MappingResult, m live.Mapping, at mem.VirtAddr, pages []live.Page) error {
	for i := 0; i < len(pages); {
		switch {
		case !pages[i].Present():
			if pages[i].Swapped() && !m.Shared {
				r.Swapped++
			}
			i++
			continue
		case c.backing.File == nil:
			r.Resident++
			if pages[i].Private() && !m.Shared {
				r.Private++
			}
			i++
			continue
		}
		n := 1
		for i+n < len(pages) && pages[i+n].Present() {
			n++
		}
		if err := c.run(r, m, at+mem.VirtAddr(i)*mem.PageSize, pages[i:i+n]); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// run compares consecutive pages that are present.
func (c *processCheck) run(r *MappingResult, m live.Mapping, at mem.VirtAddr, pages []live.Page) error {
	vm := &verify.Mapping{Range: m.Range, File: c.backing.File, Off: m.Off}
	for len(pages) > 0 {
		got := c.v.got[:len(pages)*mem.PageSize]
		n, err := c.p.ReadPresent(at, got)
		if errors.Is(err, live.ErrGone) {
			return err
		}
		whole := n / mem.PageSize
		if whole > 0 {
			if err := c.compare(r, m, vm, at, pages[:whole], got[:whole*mem.PageSize]); err != nil {
				return err
			}
		}
		if whole < len(pages) {
			r.Resident++
			r.Unread++
			if err != nil {
				r.remark(fmt.Sprintf("%v: cannot be read: %s", at+mem.VirtAddr(whole)*mem.PageSize, Reason(err)))
			}
			whole++
		}
		at, pages = at+mem.VirtAddr(whole)*mem.PageSize, pages[whole:]
	}
	return nil
}

// compare compares pages that were read.
func (c *processCheck) compare(r *MappingResult, m live.Mapping, vm *verify.Mapping, at mem.VirtAddr, pages []live.Page, got []byte) error {
	var trouble error
	differ, own := 0, 0 // pages that differ; of them private ones
	err := c.v.witness.Compare(vm, at, got, c.v.want[:len(got)], func(addr mem.VirtAddr, got, want []byte, beyond bool) {
		differ++
		page := pages[int(addr-at)/mem.PageSize]
		if page.Private() && !m.Shared {
			own++
		}
		if trouble == nil {
			trouble = c.differs(r, m, vm, sight{page: page, addr: addr, got: got, want: want, beyond: beyond})
		}
	})
	if err != nil { // of the file
		r.Resident += len(pages)
		r.Unread += len(pages)
		r.remark(Reason(err))
		return nil
	}
	r.Resident += len(pages)
	r.Verified += len(pages) - differ
	for _, p := range pages {
		if p.Private() && !m.Shared {
			r.Private++
			r.PrivateEqual++
		}
	}
	r.PrivateEqual -= own
	return trouble
}

// sight is a page at one moment.
type sight struct {
	page      live.Page
	addr      mem.VirtAddr
	got, want []byte
	beyond    bool // wholly beyond the end of the file
}

// differs judges a page that differs, after a second look if it would be a
// finding.
func (c *processCheck) differs(r *MappingResult, m live.Mapping, vm *verify.Mapping, l sight) error {
	mayWrite := m.Shared && m.Prot&mem.ProtWrite != 0
	if l.beyond && c.backing.Tmpfs && (mayWrite || bytes.Equal(l.got, l.want)) {
		// A huge page of tmpfs is mapped whole, and the file may end inside of
		// it (mm/memory.c:finish_fault).
		r.Verified++
		return nil
	}
	kind := c.judge(r, m, l)
	if kind == "" {
		r.written(vm, l.addr, l.got, l.want)
		return nil
	}
	settled, state, err := c.settle(m, vm, l.addr)
	if err != nil {
		return err
	}
	switch state {
	case equal:
		r.Verified++
		return nil
	case moved:
		r.Unstable++
		return nil
	}
	if kind = c.judge(r, m, settled); kind == "" {
		r.written(vm, settled.addr, settled.got, settled.want)
		return nil
	}
	if kind == CleanDiffers && c.tailOnly(vm, settled) {
		if kind = TailNotZero; mayWrite {
			r.remark("bytes behind the end of the file are not zero: a shared mapping may write there, and the file never sees it")
			r.Verified++
			return nil
		}
	}
	f := Finding{Kind: kind, Page: settled.addr, Private: settled.page.Private() && !m.Shared}
	c.v.find(r, c.objectOf(m), vm, f, settled.got, settled.want)
	return nil
}

// judge says what a differing page is: "" if the process wrote it and may have.
func (c *processCheck) judge(r *MappingResult, m live.Mapping, l sight) string {
	switch {
	case l.beyond:
		return BeyondEnd
	case !l.page.Private() || m.Shared:
		return CleanDiffers
	}
	switch c.objectOf(m).right(spot{m.Range, m.Off}, m.Off+uint64(l.addr-m.Start)) {
	case text:
		if c.uprobes {
			r.remark("uprobes are set in this process: a breakpoint may be one")
		}
		return modified(l.got, l.want, true)
	case readOnly:
		return modified(l.got, l.want, false)
	case textRel:
		r.remark("the file asks for relocations in its text (DT_TEXTREL)")
	case noELF:
		if m.Prot&mem.ProtWrite == 0 {
			r.remark("no ELF file: whether what is read-only now was written before, no header tells")
		}
	case asData:
		r.remark("not mapped as its program headers say: taken as data")
	}
	return ""
}

// tailOnly reports whether l differs behind the end of the file alone.
func (c *processCheck) tailOnly(vm *verify.Mapping, l sight) bool {
	n, _ := c.backing.File.ReadAt(make([]byte, mem.PageSize), int64(vm.Offset(l.addr)))
	return bytes.Equal(l.got[:n], l.want[:n])
}

// state is how a second look at a page ended.
type state int

const (
	differing state = iota // it stays different
	equal                  // it is what the file says
	moved                  // it is gone, another mapping is there, or it never holds still
)

// settle looks again at a page that differed, until three looks in a row see the
// same: memory, page-table entry and file. A process that runs changes its pages,
// and files change too: one look at each, one after the other, proves nothing.
// The mapping must still be the same, in files of /proc opened after the
// difference was seen, so that an exec between them is not taken for a finding.
func (c *processCheck) settle(m live.Mapping, vm *verify.Mapping, addr mem.VirtAddr) (sight, state, error) {
	if c.again == nil {
		again, err := c.p.Reopen()
		if err != nil {
			return sight{}, moved, err
		}
		c.again = again
	}
	if !slices.ContainsFunc(c.again.Mappings(), func(o live.Mapping) bool {
		return o.Contains(addr) && o.Dev == m.Dev && o.Ino == m.Ino && o.Shared == m.Shared && o.Off-uint64(o.Start) == m.Off-uint64(m.Start)
	}) {
		return sight{}, moved, nil
	}
	const tries, enough = 32, 3
	var last sight
	same := 0
	for range tries {
		l := sight{addr: addr, got: make([]byte, mem.PageSize), want: make([]byte, mem.PageSize)}
		var err error
		if l.page, err = c.present(addr); err != nil {
			return sight{}, moved, err
		}
		if !l.page.Present() {
			return sight{}, moved, nil
		}
		if n, err := c.again.ReadPresent(addr, l.got); n < mem.PageSize {
			if errors.Is(err, live.ErrGone) {
				return sight{}, moved, err
			}
			return sight{}, moved, nil
		}
		reach, err := vm.Want(addr, l.want)
		if err != nil {
			return sight{}, moved, nil
		}
		if l.beyond = reach == 0; !l.beyond && bytes.Equal(l.got, l.want) {
			return l, equal, nil
		}
		if last.got != nil && l.page == last.page && l.beyond == last.beyond && bytes.Equal(l.got, last.got) && bytes.Equal(l.want, last.want) {
			same++
		} else {
			same = 1
		}
		if last = l; same == enough {
			return l, differing, nil
		}
	}
	return sight{}, moved, nil
}

// present looks at the page-table entry of one page, through again.
func (c *processCheck) present(addr mem.VirtAddr) (live.Page, error) {
	pages, err := c.again.Pages(mem.PageOf(addr))
	if err != nil {
		return 0, err
	}
	return pages[0], nil
}
