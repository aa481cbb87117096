package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"vmsim/mem"
)

// A block is up to 64 Ki operations in columns, packed with zstd. Columns, since of
// what a recording repeats (a shell starts the same programs again and again)
// addresses come again byte for byte, but times never do; side by side neither
// would be found.
//
//	strings  paths, names, arguments; each once
//	tasks    processes and threads; each once
//	sites    instructions that touch data; each once
//	ops      what happens: an operation with its fields, or "n touches by this task"
//	heads    of each touch a byte: access, how many bytes its address takes
//	addrs    of each touch: how far from the task's or the site's last one, in so
//	         many bytes
//	ips      of each touch, where it has one that is not its address: its site
//	codes    of each touch, where it has one: what differs from the last one
//	times    of each operation that has one, since the one before: the low byte,
//	highs    the high byte,
//	wides    and what does not fit the two
//
// Each column is packed by itself: bytes that are noise, as the low ones of times
// are, would spoil the statistics of the others. The length of an address stands
// apart from its bytes so that decoding does not wait for one to find the next.
//
// Data is touched from few instructions, and each goes on near where it was last, in
// whatever process: of a build, numbers of sites take half the bytes of distances
// between IPs, and distances from a site's last address three quarters of others.

// The columns, in their order in a block.
const (
	colStrings = iota
	colTasks
	colSites
	colOps
	colHeads
	colAddrs
	colIPs
	colCodes
	colTimes
	colHighs
	colWides
	nColumns
)

// The tag of an operation: its Kind in the low bits, or tagRun.
const (
	tagRun   = 0    // a run of plain touches by one task
	kindBits = 0x1f // of the tag

	// of an operation
	tagWant = 1 << 5 // it has an answer
	tagTime = 1 << 6 // it has a time

	// of a run: what each of its touches has
	runTimes = 1 << 5
	runIPs   = 1 << 6
	runCodes = 1 << 7
)

// The head of a touch.
const (
	headAccess   = 3      // mem.Access
	headSize     = 0xf    // bytes of its address, 0 to 8, from bit 2
	headSizeFrom = 2      //
	headFetch    = 1 << 6 // its IP is its address: an instruction fetch
	headSite     = 1 << 7 // its address counts from its site's
)

// task is who does an operation.
type task struct{ pid, tid int }

// taskState is what deltas of a task's operations start from. Fetches and data
// have each their own.
type taskState struct {
	last  [2]uint64 // address touched: data, fetched
	place uint64    // end of the last range of another operation
}

// site is an instruction that touches data.
type site struct {
	ip   uint64
	last uint64 // address touched
}

// Block says what a block holds.
type Block struct {
	Offset int64  // of its frame in the file, bytes
	First  uint64 // number of its first operation, from 0
	Ops    uint64
	Raw    uint64 // bytes, unpacked
	From   uint64 // least and greatest Op.Time that is known, nanoseconds; both 0 where none is
	To     uint64

	// PIDs are the processes that its operations name, children included, ascending;
	// 0 is first where an operation is of the whole trace.
	PIDs []int

	size int // bytes of its frame's body
}

// appendInfo appends what a block says of itself.
func (b *Block) appendInfo(dst []byte) []byte {
	for _, v := range []uint64{b.First, b.Ops, b.Raw, b.From, b.To - b.From, uint64(len(b.PIDs))} {
		dst = binary.AppendUvarint(dst, v)
	}
	last := 0
	for _, pid := range b.PIDs {
		dst = binary.AppendUvarint(dst, uint64(pid-last))
		last = pid
	}
	return dst
}

// parseInfo reads what appendInfo wrote, and leaves the rest in c.
func (b *Block) parseInfo(c *cursor) error {
	b.First, b.Ops, b.Raw, b.From = c.uvarint(), c.uvarint(), c.uvarint(), c.uvarint()
	b.To = b.From + c.uvarint()
	n := c.uvarint()
	switch {
	case c.failed:
		return errors.New("what a block says of itself is cut off")
	case b.Raw > maxBody:
		return fmt.Errorf("a block of %d bytes is larger than %d", b.Raw, maxBody)
	case b.Ops == 0 || b.Ops > min(b.Raw, maxBlockOps) || b.First+b.Ops < b.First:
		return fmt.Errorf("a block of %d bytes cannot hold %d operations from %d on", b.Raw, b.Ops, b.First)
	case b.To < b.From:
		return errors.New("a block ends before it begins")
	case n > min(uint64(len(c.b)), 2*b.Ops): // each takes a byte, and an operation names two at most
		return fmt.Errorf("%d processes are more than the block can hold", n)
	}
	b.PIDs = make([]int, 0, n)
	last := uint64(0)
	for i := range n {
		d := c.uvarint()
		if d > MaxPID || i > 0 && d == 0 || last+d > MaxPID {
			return errors.New("the processes of a block do not ascend")
		}
		last += d
		b.PIDs = append(b.PIDs, int(last))
	}
	if c.failed {
		return errors.New("what a block says of itself is cut off")
	}
	return nil
}

// Has reports whether an operation of the block names process pid.
func (b *Block) Has(pid int) bool {
	_, ok := slices.BinarySearch(b.PIDs, pid)
	return ok
}

// blockEncoder gathers the operations of one block.
type blockEncoder struct {
	cols    [nColumns][]byte
	strings map[string]uint64
	tasks   map[task]int
	states  []taskState
	sites   []site
	siteOf  map[mem.VirtAddr]int // by IP
	codes   [3]ErrorCode         // the last of a run's touches, by access
	pids    map[int]struct{}
	info    Block
	times   []uint64 // of the operations that have one
	child   int      // of the fork before

	last     task // that cur belongs to
	cur      int  // number of the task of the operation before
	run      int  // touches of the run under way
	runFlags byte
	runTask  int
}

func newBlockEncoder() *blockEncoder {
	return &blockEncoder{strings: map[string]uint64{}, tasks: map[task]int{}, siteOf: map[mem.VirtAddr]int{},
		pids: map[int]struct{}{}}
}

// reset begins a block whose first operation has number first.
func (e *blockEncoder) reset(first uint64) {
	for i := range e.cols {
		e.cols[i] = e.cols[i][:0]
	}
	clear(e.strings)
	clear(e.tasks)
	clear(e.siteOf)
	clear(e.pids)
	*e = blockEncoder{cols: e.cols, strings: e.strings, tasks: e.tasks, states: e.states[:0], sites: e.sites[:0],
		siteOf: e.siteOf, pids: e.pids, times: e.times[:0], info: Block{First: first}}
}

// full reports whether the block should end.
func (e *blockEncoder) full() bool { return e.info.Ops >= blockOps || e.bytes() >= blockBytes }

func (e *blockEncoder) bytes() int {
	n := 2 * len(e.times)
	for i := range e.cols {
		n += len(e.cols[i])
	}
	return n
}

// finish ends the block: what is in it, and its columns.
func (e *blockEncoder) finish() (Block, *[nColumns][]byte) {
	e.endRun()
	e.packTimes()
	info := e.info
	for _, col := range e.cols {
		info.Raw += uint64(len(col))
	}
	info.PIDs = slices.Sorted(maps.Keys(e.pids))
	return info, &e.cols
}

// packTimes writes the times: the unit, then of each how many units it is behind
// the one before. Recorders round to microseconds: nanoseconds are noise, a byte
// of it an operation.
func (e *blockEncoder) packTimes() {
	if len(e.times) == 0 {
		return
	}
	unit := uint64(microsecond)
	for _, t := range e.times {
		if t%microsecond != 0 {
			unit = 1
			break
		}
	}
	wides := binary.AppendUvarint(e.cols[colWides], unit)
	last := uint64(0)
	for _, t := range e.times {
		d := t/unit - last
		last += d
		if d >= wideTime {
			wides = binary.AppendUvarint(wides, zigzag(int64(d)))
			d = wideTime
		}
		e.cols[colTimes] = append(e.cols[colTimes], byte(d))
		e.cols[colHighs] = append(e.cols[colHighs], byte(d>>8))
	}
	e.cols[colWides] = wides
}

// Units of time in a block, nanoseconds, and what both bytes of a time say where
// it stands among the wides: it is long, or it goes back.
const (
	microsecond = 1000
	wideTime    = 1<<16 - 1
)

// add takes an operation whose Check has passed.
func (e *blockEncoder) add(op *Op) {
	e.info.Ops++
	if t := op.Time; t != 0 {
		if e.info.From == 0 || t < e.info.From {
			e.info.From = t
		}
		e.info.To = max(e.info.To, t)
	}
	if plainTouch(op) {
		e.touch(op)
		return
	}
	e.endRun()
	e.other(op)
}

// plainTouch reports whether op can be one of a run.
func plainTouch(op *Op) bool {
	return op.Kind == OpTouch && op.Path == "" && op.Want == nil && op.Value == plainValue(op)
}

func plainValue(op *Op) byte {
	if op.Access == 1 { // mem.Write
		return DefaultValue
	}
	return 0
}

// task returns the number of op's task.
func (e *blockEncoder) task(op *Op) int {
	t := task{op.PID, op.TID}
	if t == e.last && len(e.states) > 0 {
		return e.cur
	}
	i, ok := e.tasks[t]
	if !ok {
		i = len(e.states)
		e.tasks[t] = i
		e.states = append(e.states, taskState{})
		e.pids[op.PID] = struct{}{}
		e.cols[colTasks] = binary.AppendUvarint(e.cols[colTasks], uint64(op.PID))
		e.cols[colTasks] = binary.AppendUvarint(e.cols[colTasks], uint64(op.TID))
	}
	e.last, e.cur = t, i
	return i
}

// touch adds a plain touch to the run under way, or begins one.
func (e *blockEncoder) touch(op *Op) {
	var flags byte
	if op.Time != 0 {
		flags |= runTimes
	}
	if op.IP != 0 {
		flags |= runIPs
	}
	if op.Code != 0 {
		flags |= runCodes
	}
	t := e.task(op)
	if e.run == 0 || t != e.runTask || flags != e.runFlags {
		e.endRun()
		e.runTask, e.runFlags = t, flags
	}
	e.run++
	s := &e.states[t]
	head := byte(op.Access)
	last := &s.last[op.Access>>1] // mem.Exec is 2
	delta := zigzag(int64(uint64(op.Addr) - *last))
	*last = uint64(op.Addr)
	switch {
	case flags&runIPs == 0:
	case op.IP == op.Addr:
		head |= headFetch
	default:
		site := e.site(op.IP)
		if d := zigzag(int64(uint64(op.Addr) - site.last)); d < delta {
			head |= headSite
			delta = d
		}
		site.last = uint64(op.Addr)
	}
	n := (bits.Len64(delta) + 7) / 8
	head |= byte(n) << headSizeFrom
	e.cols[colAddrs] = binary.LittleEndian.AppendUint64(e.cols[colAddrs], delta)
	e.cols[colAddrs] = e.cols[colAddrs][:len(e.cols[colAddrs])-8+n]
	e.cols[colHeads] = append(e.cols[colHeads], head)
	if flags&runCodes != 0 {
		code := op.Code & maxCode
		e.cols[colCodes] = binary.AppendUvarint(e.cols[colCodes], uint64(code^e.codes[op.Access]))
		e.codes[op.Access] = code
	}
	if flags&runTimes != 0 {
		e.times = append(e.times, op.Time)
	}
}

// site adds the number of ip's site, from 1 by first use; 0 is one that is new.
func (e *blockEncoder) site(ip mem.VirtAddr) *site {
	i, ok := e.siteOf[ip]
	if ok {
		e.cols[colIPs] = binary.AppendUvarint(e.cols[colIPs], uint64(i+1))
		return &e.sites[i]
	}
	before := uint64(0)
	if i = len(e.sites); i > 0 {
		before = e.sites[i-1].ip
	}
	e.siteOf[ip] = i
	e.sites = append(e.sites, site{ip: uint64(ip)})
	e.cols[colSites] = binary.AppendUvarint(e.cols[colSites], zigzag(int64(uint64(ip)-before)))
	e.cols[colIPs] = append(e.cols[colIPs], 0)
	return &e.sites[i]
}

// endRun writes the run under way.
func (e *blockEncoder) endRun() {
	if e.run == 0 {
		return
	}
	ops := append(e.cols[colOps], tagRun|e.runFlags)
	ops = binary.AppendUvarint(ops, uint64(e.runTask))
	e.cols[colOps] = binary.AppendUvarint(ops, uint64(e.run))
	e.run = 0
}

// zigzag maps small numbers of either sign to small numbers.
func zigzag(n int64) uint64   { return uint64(n<<1) ^ uint64(n>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
