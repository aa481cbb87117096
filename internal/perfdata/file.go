package perfdata

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
)

const typeTracepoint = unix.PERF_TYPE_TRACEPOINT

// Info is where and how a file was recorded, as far as it says so.
type Info struct {
	Host       string
	Release    string   // of the kernel: 6.18.44
	Version    string   // of perf
	Arch       string   // x86_64
	CPUs       int      // that were online
	Command    []string // of perf, with its arguments
	BuildIDs   []BuildID
	Compressed bool // perf record -z
	Pipe       bool // perf record -o -

	// Clock is what the times are of (CLOCK_MONOTONIC is 1), if HasClock; else they
	// are of perf's own clock, which no program can read.
	Clock    int32
	HasClock bool
}

// Facts is what was not recorded, and how reading went. It is complete after Read.
type Facts struct {
	Missing []perf.Missing

	Lost        uint64 // records, by LOST
	LostSamples uint64 // samples, by LOST_SAMPLES; with Linux 6.0 perf writes these beside LOST
	Throttled   uint64 // how often the kernel held an event back because it was too frequent
	Late        uint64 // records that were delivered after a younger one
	Skipped     uint64 // bytes of AUX data, which is of hardware tracers
}

// What a file may lack, beside what package perf has names for.
const (
	MissingSamples  = "every occurrence"       // Why says of which event
	MissingDataMaps = "mappings of data"       // all that is not executable
	MissingMaps     = "mappings"               // no event asks for them
	MissingTasks    = "forks and exits"        // likewise
	MissingExecs    = "execs"                  // no event asks for names, or exec is not told from renaming
	MissingChildren = "children"               // events are not inherited
	MissingTimes    = "times"                  // so the order is that of the file
	MissingLayouts  = "layouts of tracepoints" // their raw data is not understood
	MissingInfo     = "features"               // host, command, names: the end of the file is gone
)

// File is a perf.data file.
type File struct {
	r      io.ReaderAt
	size   int64
	header header
	info   Info
	facts  Facts

	described []described
	ids       int                         // of all events
	owner     map[uint64]int              // by id, the event's place in described
	points    map[uint64]*perf.Tracepoint // by id
	dec       perf.Decoder
	ready     bool // dec has the events

	stream  stream
	order   order
	damaged error // found in Open: Read returns it at the end
}

// Open reads what a file of size bytes says of itself. The errors wrap ErrNotPerf,
// ErrUnsupported or ErrDamaged, or are of reading.
//
// A file that perf did not finish, or that was cut off, opens if its attributes are
// there: Read delivers what it has and then returns why that is not all.
func Open(r io.ReaderAt, size int64) (*File, error) {
	h, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	f := &File{r: r, size: size, header: h, points: map[uint64]*perf.Tracepoint{}, owner: map[uint64]int{}}
	f.info.Pipe = h.pipe
	f.order.f, f.order.limit = f, maxHeld
	if h.pipe {
		f.newStream(section{pipeHeaderSize, uint64(max(size-pipeHeaderSize, 0))})
		if err := f.stream.readHead(); err != nil {
			return nil, err
		}
		return f, nil
	}
	if err := f.readAttrs(); err != nil {
		return nil, err
	}
	data := f.checkData()
	if f.damaged == nil {
		if err := f.readFeatures(); err != nil {
			if errors.Is(err, ErrUnsupported) {
				return nil, err
			}
			f.damaged = err
		}
	}
	if f.damaged != nil {
		f.miss(MissingInfo, f.damaged.Error())
	}
	if err := f.addEvents(); err != nil {
		return nil, err
	}
	f.newStream(data)
	return f, nil
}

// checkData returns the section of records, up to the end of the file at most.
func (f *File) checkData() section {
	data, size := f.header.data, uint64(f.size)
	switch {
	case data.off < fileHeaderSize || data.off > size:
		f.damaged = fmt.Errorf("%w at 0x28: its records begin at %#x, and it ends at %#x", ErrDamaged, data.off, size)
		return section{size, 0}
	case data.size == 0:
		f.damaged = fmt.Errorf("%w at 0x30: perf record was ended before it wrote how many records there are", ErrDamaged)
		data.size = size - data.off
	case data.size > size-data.off:
		f.damaged = fmt.Errorf("%w at %#x: it is cut off, %d bytes before the end of its records", ErrDamaged, size,
			data.size-(size-data.off))
		data.size = size - data.off
	}
	return data
}

func (f *File) newStream(data section) {
	end := int64(data.off + data.size)
	f.stream = stream{f: f, off: int64(data.off), end: end}
	f.stream.in = bufio.NewReaderSize(io.NewSectionReader(f.r, f.stream.off, end-f.stream.off), 64<<10)
}

// Info returns where and how the file was recorded.
func (f *File) Info() Info { return f.info }

// Facts returns what the file lacks, and how Read went.
func (f *File) Facts() Facts { return f.facts }

// Events returns the events in the order of the file.
func (f *File) Events() []*perf.Event { return f.dec.Events() }

// Read calls fn for each record of the kernel, in the order of their times. What perf
// noted of what was there before it began has the time 0, and comes where the file has it.
// The record is fn's until fn returns.
//
// An error of fn ends reading and is returned. The other errors wrap ErrDamaged or ErrUnsupported and say
// at which offset; everything before it was delivered. Read may be called once.
func (f *File) Read(fn func(*perf.Record) error) error {
	f.order.fn = fn
	err := f.stream.run()
	if stop := f.order.stop; stop != nil {
		return stop
	}
	if flushErr := f.order.flush(); flushErr != nil {
		return flushErr
	}
	if err == nil {
		err = f.order.bad
	}
	if err == nil {
		err = f.damaged
	}
	return err
}
