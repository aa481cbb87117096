package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

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
	ips     cursor
	codes   cursor
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
		unit: 1}
	if err := d.loadTables(cols[colStrings], cols[colTasks]); err != nil {
		return err
	}
	d.ops, d.ips = cursor{b: cols[colOps]}, cursor{b: cols[colIPs]}
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
	return d.ops.failed || d.ips.failed || d.codes.failed || d.wides.failed
}

// more reports whether operations are left. At the end all columns must be.
func (d *blockDecoder) more() (bool, error) {
	if d.next < d.info.First+d.info.Ops {
		return true, nil
	}
	left := len(d.ops.b) + len(d.heads) + len(d.ips.b) + len(d.codes.b) + len(d.times) + len(d.wides.b)
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
	if err := d.addresses(touch[:]); err != nil {
		return err
	}
	head := d.heads[0]
	op.PID, op.TID, op.Kind = t.pid, t.tid, OpTouch
	op.Access, op.Addr, op.Value = touch[0].Access, touch[0].Addr, touch[0].Value
	if d.runFlags&runIPs != 0 {
		op.IP = d.ip(head, op.Addr)
	}
	if d.runFlags&runCodes != 0 {
		op.Code = d.code()
	}
	if d.runFlags&runTimes != 0 {
		op.Time = d.nextTime()
	}
	if d.failed() {
		return errColumns
	}
	d.heads = d.heads[1:]
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
	if err := d.addresses(dst.Touch); err != nil {
		return err
	}
	if d.runFlags&runIPs != 0 {
		for i, head := range d.heads[:n] {
			dst.IPs = append(dst.IPs, d.ip(head, dst.Touch[i].Addr))
		}
	}
	if d.runFlags&runCodes != 0 {
		for range n {
			dst.Codes = append(dst.Codes, d.code())
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
	d.heads = d.heads[n:]
	d.next += uint64(n)
	d.run -= uint64(n)
	return nil
}

func (d *blockDecoder) ip(head byte, addr mem.VirtAddr) mem.VirtAddr {
	s := &d.states[d.runTask]
	if head&headFetch != 0 {
		s.ip = uint64(addr)
	} else {
		s.ip += uint64(unzigzag(d.ips.uvarint()))
	}
	if s.ip == 0 {
		d.ips.fail() // it would be "not known"
	}
	return mem.VirtAddr(s.ip)
}

func (d *blockDecoder) code() ErrorCode { return ErrorCode(d.codes.upTo(uint64(maxCode))) | CodeKnown }

// sizeMasks cut a word to so many bytes.
var sizeMasks = [16]uint64{0, 1<<8 - 1, 1<<16 - 1, 1<<24 - 1, 1<<32 - 1, 1<<40 - 1, 1<<48 - 1, 1<<56 - 1, 1<<64 - 1}

// headSizes are the bytes of the address behind each head; 0x80 for a head that
// cannot be.
var headSizes = func() (sizes [256]byte) {
	for head := range sizes {
		size := head >> headSizeFrom & headSize
		if sizes[head] = byte(size); head&headUnused != 0 || head&headAccess > int(mem.Exec) || size > 8 {
			sizes[head] = 0x80
		}
	}
	return sizes
}()

// addresses takes access and address of the next touches of the run under way,
// of which there must be len(dst). Heads stay where they are. This is the loop
// that decoding spends its time in: no branch in it depends on what it reads, and
// nothing waits for more than the sum of the sizes.
func (d *blockDecoder) addresses(dst []Touch) error {
	heads, addrs := d.heads[:len(dst)], d.addrs
	s := &d.states[d.runTask]
	fetch, data := s.fetch, s.data
	never := byte(0) // bits of a head
	if d.runFlags&runIPs == 0 {
		never = headFetch
	}
	wrong := byte(0)
	for i, head := range heads {
		if len(addrs) < behindColumn {
			return errColumns
		}
		size := headSizes[head]
		wrong |= head&never | size&0x80
		size &= headSize
		delta := uint64(unzigzag(binary.LittleEndian.Uint64(addrs) & sizeMasks[size]))
		addrs = addrs[min(int(size), behindColumn):]
		isFetch := -uint64(head >> 1 & 1) // all ones for mem.Exec
		fetch += delta & isFetch
		data += delta &^ isFetch
		t := &dst[i]
		t.Access, t.Value = mem.Access(head&headAccess), head&1*DefaultValue // 1 is mem.Write
		t.Addr = mem.VirtAddr(data ^ (data^fetch)&isFetch)
	}
	if len(addrs) < behindColumn || wrong != 0 {
		return errColumns
	}
	d.addrs = addrs
	s.fetch, s.data = fetch, data
	return nil
}
