package trace

import (
	"encoding/binary"
	"slices"
	"syscall"

	"vmsim/mem"
)

// The fields of an operation in a block, one function to write them and one to
// read them. They stand in the order of the text form.

// other adds an operation that is not one of a run.
func (e *blockEncoder) other(op *Op) {
	tag := byte(op.Kind)
	if op.Want != nil {
		tag |= tagWant
	}
	if op.Time != 0 {
		tag |= tagTime
		e.times = append(e.times, op.Time)
	}
	var s taskState // of an operation of the whole trace
	at := &s
	e.byte(tag)
	if op.Kind.ofTrace() {
		e.pids[0] = struct{}{}
	} else {
		t := e.task(op)
		e.number(uint64(t))
		at = &e.states[t]
	}
	switch op.Kind {
	case OpMark, OpNote:
		e.text(op.Name)
	case OpBoot:
		e.text(op.Path)
	case OpFork, OpVfork, OpThread, OpMlockall:
		e.number(op.Bits)
	case OpExec:
		e.text(op.Path)
		e.start(op.Start)
	case OpExit:
		for _, v := range []uint64{uint64(op.Status), uint64(op.Signal), op.MinFlt, op.MajFlt} {
			e.number(v)
		}
	case OpMmap:
		e.place(at, op.Addr, op.Len)
		e.byte(byte(op.Prot))
		e.number(uint64(op.Flags))
		e.source(op)
	case OpMunmap, OpMunlock, OpMprotect, OpMremap, OpMadvise, OpMlock, OpShmat:
		e.place(at, op.Addr, op.Len)
		switch op.Kind {
		case OpMprotect:
			e.byte(byte(op.Prot))
		case OpMremap:
			e.number(op.NewLen)
			e.byte(byte(op.Remap))
			e.number(uint64(op.To))
		case OpMadvise:
			e.number(uint64(op.Advice))
		case OpMlock:
			e.number(op.Bits)
		case OpShmat:
			e.byte(byte(op.Prot))
			e.text(op.Path)
		}
	case OpBrk, OpShmdt:
		e.place(at, op.Addr, 0)
	case OpTouch:
		e.byte(byte(op.Access))
		e.number(uint64(op.Addr))
		e.source(op)
		if op.Access == mem.Write {
			e.byte(op.Value)
		}
		e.number(uint64(op.IP))
		e.number(uint64(op.Code))
	case OpFile:
		e.text(op.Path)
		e.file(op.File)
	case OpArea:
		e.byte(byte(op.Point))
		e.place(at, op.Addr, op.Len)
		e.byte(byte(op.Prot))
		e.byte(byte(op.Flags))
		e.source(op)
		e.text(op.Name)
	case OpPresent:
		e.byte(byte(op.Point))
		e.set(op.Set)
	case OpLost:
		e.number(op.Count)
	}
	if op.Want != nil {
		e.answer(at, op)
	}
}

func (e *blockEncoder) byte(b byte)      { e.cols[colOps] = append(e.cols[colOps], b) }
func (e *blockEncoder) number(v uint64)  { e.cols[colOps] = binary.AppendUvarint(e.cols[colOps], v) }
func (e *blockEncoder) integer(v uint64) { e.number(zigzag(int64(v))) }

// text adds the number of a string, from 1 by first use; 0 is the empty one.
func (e *blockEncoder) text(s string) {
	if s == "" {
		e.number(0)
		return
	}
	i, ok := e.strings[s]
	if !ok {
		i = uint64(len(e.strings) + 1)
		e.strings[s] = i
		e.cols[colStrings] = append(binary.AppendUvarint(e.cols[colStrings], uint64(len(s))), s...)
	}
	e.number(i)
}

// place adds an address and a length: pages from the end of the task's last
// place, offset in the page, bytes.
func (e *blockEncoder) place(s *taskState, addr mem.VirtAddr, n uint64) {
	e.addr(s, addr)
	e.number(n)
	if addr != 0 {
		s.place = uint64(addr) + n
	}
}

func (e *blockEncoder) addr(s *taskState, addr mem.VirtAddr) {
	e.integer(uint64(addr)>>mem.PageShift - s.place>>mem.PageShift)
	e.number(uint64(addr.PageOffset()))
}

// source adds a file and where in it; an offset without a file is none.
func (e *blockEncoder) source(op *Op) {
	if e.text(op.Path); op.Path != "" {
		e.number(op.Offset)
	}
}

func (e *blockEncoder) start(s *Start) {
	if s == nil {
		e.byte(0)
		return
	}
	e.byte(1)
	e.number(uint64(s.Base))
	e.text(s.Interp)
	for _, a := range []mem.VirtAddr{s.InterpBase, s.SP, s.Brk} {
		e.number(uint64(a))
	}
	e.number(uint64(len(s.Args)))
	for _, a := range s.Args {
		e.text(a)
	}
}

func (e *blockEncoder) file(f *FileInfo) {
	e.byte(byte(f.Kind))
	e.number(f.Size)
	e.integer(uint64(f.MTime))
	e.number(f.Dev)
	e.number(f.Ino)
	e.text(f.BuildID)
}

// set adds runs: pages from the end of the one before, and how many, with the
// kind in two bits.
func (e *blockEncoder) set(s *PresentSet) {
	e.number(uint64(len(s.Runs)))
	var last mem.VirtAddr
	for _, r := range s.Runs {
		e.number(uint64(r.Start-last) >> mem.PageShift)
		e.number(r.Len()>>mem.PageShift<<2 | uint64(r.Kind))
		last = r.End
	}
}

// answer adds op.Want.
func (e *blockEncoder) answer(s *taskState, op *Op) {
	w := op.Want
	switch op.Kind {
	case OpFork, OpVfork, OpThread:
		e.integer(uint64(w.PID - e.child))
		e.child = w.PID
		e.pids[w.PID] = struct{}{}
	case OpMmap, OpMremap, OpShmat, OpBrk:
		if e.number(uint64(w.Errno)); w.Errno == 0 {
			e.addr(s, w.Addr)
			s.place = uint64(w.Addr) + op.Len
		}
	case OpTouch:
		e.number(uint64(slices.Index(faults, w.Fault) + 1))
		if w.HasByte {
			e.byte(1)
			e.byte(w.Byte)
		} else {
			e.byte(0)
		}
	default:
		e.number(uint64(w.Errno))
	}
}

// other reads an operation that is not one of a run. Check has not passed.
func (d *blockDecoder) other(op *Op, tag byte) {
	c := &d.ops
	op.Kind = Kind(tag & kindBits)
	if tag&^(kindBits|tagWant|tagTime) != 0 {
		c.fail()
	}
	if tag&tagTime != 0 {
		op.Time = d.nextTime()
	}
	var s taskState
	at := &s
	if !op.Kind.ofTrace() {
		t := c.uvarint()
		if t >= uint64(len(d.tasks)) {
			c.fail()
			return
		}
		op.PID, op.TID = d.tasks[t].pid, d.tasks[t].tid
		at = &d.states[t]
	}
	switch op.Kind {
	case OpMark, OpNote:
		op.Name = d.text()
	case OpBoot:
		op.Path = d.text()
	case OpFork, OpVfork, OpThread, OpMlockall:
		op.Bits = c.uvarint()
	case OpExec:
		op.Path = d.text()
		op.Start = d.start()
	case OpExit:
		op.Status, op.Signal = c.small(), c.small()
		op.MinFlt, op.MajFlt = c.uvarint(), c.uvarint()
	case OpMmap:
		op.Addr, op.Len = d.place(at)
		op.Prot = mem.Prot(c.byte())
		op.Flags = MapFlags(c.small())
		d.source(op)
	case OpMunmap, OpMunlock, OpMprotect, OpMremap, OpMadvise, OpMlock, OpShmat:
		op.Addr, op.Len = d.place(at)
		switch op.Kind {
		case OpMprotect:
			op.Prot = mem.Prot(c.byte())
		case OpMremap:
			op.NewLen = c.uvarint()
			op.Remap = RemapFlags(c.byte())
			op.To = mem.VirtAddr(c.uvarint())
		case OpMadvise:
			op.Advice = Advice(c.upTo(MaxPID))
		case OpMlock:
			op.Bits = c.uvarint()
		case OpShmat:
			op.Prot = mem.Prot(c.byte())
			op.Path = d.text()
		}
	case OpBrk, OpShmdt:
		op.Addr, op.Len = d.place(at)
	case OpTouch:
		op.Access = mem.Access(c.byte())
		op.Addr = mem.VirtAddr(c.uvarint())
		d.source(op)
		if op.Access == mem.Write {
			op.Value = c.byte()
		}
		op.IP = mem.VirtAddr(c.uvarint())
		op.Code = ErrorCode(c.small())
	case OpFile:
		op.Path = d.text()
		op.File = d.file()
	case OpArea:
		op.Point = Point(c.byte())
		op.Addr, op.Len = d.place(at)
		op.Prot = mem.Prot(c.byte())
		op.Flags = MapFlags(c.byte())
		d.source(op)
		op.Name = d.text()
	case OpPresent:
		op.Point = Point(c.byte())
		op.Set = d.set()
	case OpLost:
		op.Count = c.uvarint()
	case OpMunlockall:
	default:
		c.fail()
	}
	if tag&tagWant != 0 {
		op.Want = d.answer(at, op)
	}
}

// text reads the number of a string.
func (d *blockDecoder) text() string {
	i := d.ops.uvarint()
	switch {
	case i == 0:
		return ""
	case i > uint64(len(d.strings)):
		d.ops.fail()
		return ""
	}
	return d.strings[i-1]
}

func (d *blockDecoder) place(s *taskState) (addr mem.VirtAddr, n uint64) {
	addr = d.addr(s)
	n = d.ops.uvarint()
	if addr != 0 {
		s.place = uint64(addr) + n
	}
	return addr, n
}

func (d *blockDecoder) addr(s *taskState) mem.VirtAddr {
	page := s.place>>mem.PageShift + uint64(unzigzag(d.ops.uvarint()))
	return mem.VirtAddr(page<<mem.PageShift | d.ops.upTo(mem.PageSize-1))
}

func (d *blockDecoder) source(op *Op) {
	if op.Path = d.text(); op.Path != "" {
		op.Offset = d.ops.uvarint()
	}
}

func (d *blockDecoder) start() *Start {
	c := &d.ops
	if !c.flag() {
		return nil
	}
	s := &Start{Base: mem.VirtAddr(c.uvarint()), Interp: d.text()}
	for _, a := range []*mem.VirtAddr{&s.InterpBase, &s.SP, &s.Brk} {
		*a = mem.VirtAddr(c.uvarint())
	}
	for range c.upTo(MaxArgs) {
		if s.Args = append(s.Args, d.text()); c.failed {
			return nil
		}
	}
	return s
}

func (d *blockDecoder) file() *FileInfo {
	c := &d.ops
	return &FileInfo{Kind: FileKind(c.byte()), Size: c.uvarint(), MTime: unzigzag(c.uvarint()), Dev: c.uvarint(),
		Ino: c.uvarint(), BuildID: d.text()}
}

func (d *blockDecoder) set() *PresentSet {
	c := &d.ops
	s := &PresentSet{}
	n := c.upTo(MaxRuns)
	if n > 0 {
		s.Runs = make([]Run, 0, n)
	}
	last := uint64(0) // page
	for range n {
		start := last + c.upTo(1<<52)
		v := c.uvarint()
		if last = start + v>>2; last > 1<<52-1 || c.failed {
			c.fail()
			return nil
		}
		s.Runs = append(s.Runs, Run{mem.Range{Start: mem.VirtAddr(start << mem.PageShift), End: mem.VirtAddr(last << mem.PageShift)},
			PageKind(v & 3)})
	}
	return s
}

func (d *blockDecoder) answer(s *taskState, op *Op) *Answer {
	c := &d.ops
	w := &Answer{}
	switch op.Kind {
	case OpFork, OpVfork, OpThread:
		d.child += int(unzigzag(c.uvarint()))
		w.PID = d.child
	case OpMmap, OpMremap, OpShmat, OpBrk:
		if w.Errno = syscall.Errno(c.upTo(maxErrno)); w.Errno == 0 {
			w.Addr = d.addr(s)
			s.place = uint64(w.Addr) + op.Len
		}
	case OpTouch:
		if i := c.upTo(uint64(len(faults))); i > 0 {
			w.Fault = faults[i-1]
		}
		if c.flag() {
			w.HasByte, w.Byte = true, c.byte()
		}
	default:
		w.Errno = syscall.Errno(c.upTo(maxErrno))
	}
	return w
}
