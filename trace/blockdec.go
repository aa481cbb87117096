package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"vmsim/mem"
)

// Touches is a run of plain touches by one task: no path, no answer, and a write
// writes DefaultValue. Reader.Touches fills it, as many as Touch has capacity for,
// at least one. The other slices are empty where no touch of the run has such a
// thing, and else as long as Touch.
type Touches struct {
	PID, TID int    // as in Op
	First    uint64 // number of the first in the trace, from 0
	Touch    []Touch
	Times    []uint64       // Op.Time
	IPs      []mem.VirtAddr // Op.IP
	Codes    []ErrorCode    // Op.Code
}

// blockDecoder takes a block apart again.
type blockDecoder struct {
	info    Block
	next    uint64 // number of the next operation
	strings []string
	tasks   []task
	states  []taskState
	ops     cursor
	heads   []byte // columns, what is left
	addrs   []byte // with behindColumn bytes more, so that any address can be loaded whole
	siteIPs cursor
	sites   []site // that were met
	ips     cursor
	codes   cursor
	code    [3]ErrorCode // the last of a run's touches, by access
	times   []byte
	highs   []byte
	wides   cursor
	unit    uint64 // of times, nanoseconds
	time    uint64 // of the operation before that had one
	child   int    // of the fork before

	run      uint64 // touches left of the run under way
	runFlags byte
	runTask  int
}

// errColumns is damage that no checksum shows: a program that writes traces is wrong.
var errColumns = errors.New("the columns of a block do not fit together")

// load begins a block. Each column must have behindColumn bytes of capacity
// behind its end.
func (d *blockDecoder) load(info Block, cols *[nColumns][]byte) error {
	*d = blockDecoder{info: info, next: info.First, strings: d.strings[:0], tasks: d.tasks[:0], states: d.states[:0],
		sites: d.sites[:0], unit: 1}
	if err := d.loadTables(cols[colStrings], cols[colTasks]); err != nil {
		return err
	}
	d.ops, d.siteIPs, d.ips = cursor{b: cols[colOps]}, cursor{b: cols[colSites]}, cursor{b: cols[colIPs]}
	d.codes, d.wides = cursor{b: cols[colCodes]}, cursor{b: cols[colWides]}
	d.heads, d.times, d.highs = cols[colHeads], cols[colTimes], cols[colHighs]
	d.addrs = cols[colAddrs]
	d.addrs = d.addrs[:len(d.addrs)+behindColumn]
	if len(d.times) != len(d.highs) {
		return errColumns
	}
	if len(d.times) > 0 {
		if d.unit = d.wides.uvarint(); d.unit != 1 && d.unit != microsecond {
			return errColumns
		}
	}
	return nil
}

// loadTables reads strings and tasks.
func (d *blockDecoder) loadTables(texts, tasks []byte) error {
	all := string(texts) // the strings are parts of it
	c := cursor{b: texts}
	for len(c.b) > 0 {
		n := c.uvarint()
		at := len(texts) - len(c.b)
		if c.take(n); c.failed || n == 0 {
			return errColumns
		}
		d.strings = append(d.strings, all[at:at+int(n)])
	}
	c = cursor{b: tasks}
	for len(c.b) > 0 {
		t := task{int(c.upTo(MaxPID)), int(c.upTo(MaxPID))}
		if c.failed || t.pid == 0 || t.tid == t.pid || uint64(len(d.tasks)) == d.info.Ops {
			return errColumns
		}
		if !d.info.Has(t.pid) {
			return fmt.Errorf("process %d is none that the block says it has", t.pid)
		}
		d.tasks = append(d.tasks, t)
		d.states = append(d.states, taskState{})
	}
	return nil
}

// nextTime reads a time.
func (d *blockDecoder) nextTime() uint64 {
	if len(d.times) == 0 || len(d.highs) == 0 {
		d.wides.fail()
		return 0
	}
	by := uint64(d.times[0]) | uint64(d.highs[0])<<8
	d.times, d.highs = d.times[1:], d.highs[1:]
	if by == wideTime {
		by = uint64(unzigzag(d.wides.uvarint()))
	}
	d.time += by * d.unit
	if d.time-d.info.From > d.info.To-d.info.From || d.time == 0 {
		d.wides.fail()
	}
	return d.time
}

// failed reports whether anything that was read cannot be.
func (d *blockDecoder) failed() bool {
	return d.ops.failed || d.siteIPs.failed || d.ips.failed || d.codes.failed || d.wides.failed
}

// more reports whether operations are left. At the end all columns must be.
func (d *blockDecoder) more() (bool, error) {
	if d.next < d.info.First+d.info.Ops {
		return true, nil
	}
	left := len(d.ops.b) + len(d.heads) + len(d.siteIPs.b) + len(d.ips.b) + len(d.codes.b) + len(d.times) + len(d.wides.b)
	if d.run > 0 || left > 0 || len(d.addrs) > behindColumn {
		return false, errColumns
	}
	return false, nil
}

// op reads the next operation into op, which must be zero. It must not be called
// where more is false.
func (d *blockDecoder) op(op *Op) error {
	run, err := d.inRun()
	if err != nil {
		return err
	}
	if !run {
		if d.other(op, d.ops.byte()); d.failed() {
			return errColumns
		}
		return d.finish(op)
	}
	return d.one(op)
}

// finish checks an operation that is not one of a run.
func (d *blockDecoder) finish(op *Op) error {
	d.next++
	op.Line = lineOf(d.next)
	if err := op.Check(); err != nil {
		return err
	}
	if op.Kind == OpTouch && plainTouch(op) {
		return errColumns // it belongs in a run: there is one form of each trace
	}
	if !d.info.Has(op.PID) { // 0: of the whole trace
		return fmt.Errorf("process %d is none that the block says it has", op.PID)
	}
	if w := op.Want; w != nil && w.PID != 0 && !d.info.Has(w.PID) {
		return fmt.Errorf("process %d is none that the block says it has", w.PID)
	}
	return nil
}

// lineOf is the Op.Line of the operation with number n, from 1.
func lineOf(n uint64) int { return int(min(n, math.MaxInt)) }

// inRun reports whether the next operation is a touch of a run, and begins the run
// if need be.
func (d *blockDecoder) inRun() (bool, error) {
	if d.run > 0 {
		return true, nil
	}
	if len(d.ops.b) == 0 {
		return false, errColumns
	}
	tag := d.ops.b[0]
	if tag&kindBits != tagRun {
		return false, nil
	}
	d.ops.b = d.ops.b[1:]
	return true, d.startRun(tag)
}

// startRun reads the rest of a run's entry among the operations.
func (d *blockDecoder) startRun(tag byte) error {
	t, n := d.ops.uvarint(), d.ops.uvarint()
	if d.ops.failed || t >= uint64(len(d.tasks)) || n == 0 || n > uint64(len(d.heads)) ||
		n > d.info.First+d.info.Ops-d.next {
		return errColumns
	}
	d.runTask, d.runFlags, d.run = int(t), tag, n
	return nil
}

// one takes the next touch of the run under way as an operation. It sets what is
// not zero: an Op is large.
func (d *blockDecoder) one(op *Op) error {
	t := &d.tasks[d.runTask]
	var touch [1]Touch
	var ip [1]mem.VirtAddr
	if err := d.addresses(touch[:], ip[:]); err != nil {
		return err
	}
	op.PID, op.TID, op.Kind = t.pid, t.tid, OpTouch
	op.Access, op.Addr, op.Value, op.IP = touch[0].Access, touch[0].Addr, touch[0].Value, ip[0]
	if d.runFlags&runCodes != 0 {
		op.Code = d.nextCode(op.Access)
	}
	if d.runFlags&runTimes != 0 {
		op.Time = d.nextTime()
	}
	if d.failed() {
		return errColumns
	}
	d.next++
	d.run--
	op.Line = lineOf(d.next)
	return nil
}

// touches takes touches of the run under way, as many as dst has room for.
func (d *blockDecoder) touches(dst *Touches) error {
	t := &d.tasks[d.runTask]
	n := int(min(d.run, uint64(cap(dst.Touch))))
	*dst = Touches{PID: t.pid, TID: t.tid, First: d.next, Touch: dst.Touch[:n],
		Times: dst.Times[:0], IPs: dst.IPs[:0], Codes: dst.Codes[:0]}
	if d.runFlags&runIPs != 0 {
		dst.IPs = slices.Grow(dst.IPs, n)[:n]
	}
	if err := d.addresses(dst.Touch, dst.IPs); err != nil {
		return err
	}
	if d.runFlags&runCodes != 0 {
		for i := range dst.Touch {
			dst.Codes = append(dst.Codes, d.nextCode(dst.Touch[i].Access))
		}
	}
	if d.runFlags&runTimes != 0 {
		for range n {
			dst.Times = append(dst.Times, d.nextTime())
		}
	}
	if d.failed() {
		return errColumns
	}
	d.next += uint64(n)
	d.run -= uint64(n)
	return nil
}

// nextCode reads the code of a touch.
func (d *blockDecoder) nextCode(a mem.Access) ErrorCode {
	d.code[a] ^= ErrorCode(d.codes.upTo(uint64(maxCode)))
	return d.code[a] | CodeKnown
}

// nextSite reads of which site a touch is.
func (d *blockDecoder) nextSite() *site {
	n := d.ips.uvarint()
	if n > uint64(len(d.sites)) {
		d.ips.fail()
		n = 0
	}
	if n > 0 {
		return &d.sites[n-1]
	}
	ip := uint64(unzigzag(d.siteIPs.uvarint()))
	if i := len(d.sites); i > 0 {
		ip += d.sites[i-1].ip
	}
	if ip == 0 {
		d.siteIPs.fail() // it would be "not known"
	}
	d.sites = append(d.sites, site{ip: ip})
	return &d.sites[len(d.sites)-1]
}

// headWrong marks a byte that cannot be a head.
const headWrong = 1

// headInfo is what each byte says as a head.
var headInfo = func() (all [256]struct {
	mask   uint64 // cuts a word to the bytes of the address
	size   int    // bytes of the address
	access mem.Access
	value  byte // of a write
	flags  byte // headFetch, headSite, headWrong
}) {
	for head := range all {
		h := &all[head]
		h.access = mem.Access(head & headAccess)
		h.size = head >> headSizeFrom & headSize
		h.flags = byte(head & (headFetch | headSite))
		if h.access > mem.Exec || h.size > behindColumn || h.flags == headFetch|headSite {
			h.access, h.size, h.flags = 0, 0, headWrong
		}
		h.mask = 1<<(8*h.size) - 1
		if h.access == mem.Write {
			h.value = DefaultValue
		}
	}
	return all
}()

// addresses takes access and address of the next touches of the run under way, of
// which there must be len(dst), and their IPs where it has some. This is the loop that
// decoding spends its time in: no branch in it depends on what it reads, and nothing
// waits for more than the sum of the sizes.
func (d *blockDecoder) addresses(dst []Touch, ips []mem.VirtAddr) error {
	if d.runFlags&runIPs != 0 {
		return d.addressesAndIPs(dst, ips)
	}
	heads, addrs := d.heads[:len(dst)], d.addrs
	s := &d.states[d.runTask]
	last := s.last // a copy: dst cannot be part of it
	at, seen := 0, byte(0)
	for i, head := range heads {
		rest := addrs[at:]
		if len(rest) < behindColumn {
			return errColumns
		}
		h := &headInfo[head]
		seen |= h.flags
		at += h.size
		l := &last[head>>1&1]
		*l += uint64(unzigzag(binary.LittleEndian.Uint64(rest) & h.mask))
		dst[i] = Touch{h.access, mem.VirtAddr(*l), h.value}
	}
	if len(addrs)-at < behindColumn || seen != 0 {
		return errColumns
	}
	d.heads, d.addrs = d.heads[len(dst):], addrs[at:]
	s.last = last
	return nil
}

// addressesAndIPs is addresses for a run with IPs.
func (d *blockDecoder) addressesAndIPs(dst []Touch, ips []mem.VirtAddr) error {
	heads, addrs := d.heads[:len(dst)], d.addrs
	s := &d.states[d.runTask]
	at, seen := 0, byte(0)
	for i, head := range heads {
		rest := addrs[at:]
		if len(rest) < behindColumn {
			return errColumns
		}
		h := &headInfo[head]
		seen |= h.flags
		at += h.size
		delta := uint64(unzigzag(binary.LittleEndian.Uint64(rest) & h.mask))
		last := &s.last[head>>1&1]
		addr := *last + delta
		if head&headFetch != 0 {
			if addr == 0 {
				seen |= headWrong // its IP would be "not known"
			}
			ips[i] = mem.VirtAddr(addr)
		} else {
			site := d.nextSite()
			if head&headSite != 0 {
				addr = site.last + delta
			}
			site.last = addr
			ips[i] = mem.VirtAddr(site.ip)
		}
		*last = addr
		dst[i] = Touch{h.access, mem.VirtAddr(addr), h.value}
	}
	if len(addrs)-at < behindColumn || seen&headWrong != 0 {
		return errColumns
	}
	d.heads, d.addrs = d.heads[len(dst):], addrs[at:]
	return nil
}
