package perf

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"
)

// Sizes of struct perf_event_attr, in bytes: the first that was published, and
// the most that Linux accepts (PERF_ATTR_SIZE_VER0, PAGE_SIZE).
const (
	MinAttrSize = 64
	MaxAttrSize = 4096
)

// Attr is what a reader of records must know of an event's struct perf_event_attr.
type Attr struct {
	Type       uint32 // PERF_TYPE_*
	Config     uint64 // of a tracepoint its id
	Period     uint64 // every how many occurrences there is a sample; a frequency if Flags has PerfBitFreq
	SampleType uint64 // PERF_SAMPLE_*: which fields a sample has
	ReadFormat uint64 // PERF_FORMAT_*
	Flags      uint64 // unix.PerfBit*
	ClockID    int32  // of the times, if Flags has PerfBitUseClockID
	UserRegs   uint64 // which of the program's registers a sample has, by the kernel's numbers (perf_regs.h)
}

// ParseAttr returns the attributes in b, which is a struct perf_event_attr of any
// version, little endian. Bytes beyond the fields that are needed are not looked at.
func ParseAttr(b []byte) (Attr, error) {
	if len(b) < MinAttrSize {
		return Attr{}, fmt.Errorf("attributes of %d bytes: at least %d are needed", len(b), MinAttrSize)
	}
	a := Attr{
		Type:       binary.LittleEndian.Uint32(b),
		Config:     binary.LittleEndian.Uint64(b[8:]),
		Period:     binary.LittleEndian.Uint64(b[16:]),
		SampleType: binary.LittleEndian.Uint64(b[24:]),
		ReadFormat: binary.LittleEndian.Uint64(b[32:]),
		Flags:      binary.LittleEndian.Uint64(b[40:]),
	}
	const userRegsAt, clockidAt = 80, 92 // since PERF_ATTR_SIZE_VER3, 96 bytes
	if len(b) >= clockidAt+4 {
		a.UserRegs = binary.LittleEndian.Uint64(b[userRegsAt:])
		a.ClockID = int32(binary.LittleEndian.Uint32(b[clockidAt:]))
	}
	return a, nil
}

// Has reports whether a sample has the fields of the mask bits, PERF_SAMPLE_*.
func (a Attr) Has(sample uint64) bool { return a.SampleType&sample == sample }

// Every reports whether each occurrence of the event gives a sample.
func (a Attr) Every() bool { return a.Period == 1 && a.Flags&unix.PerfBitFreq == 0 }

// idSample are the fields of a sample that the trailer of all other records
// repeats (struct sample_id), in this order: TID, TIME, ID, STREAM_ID, CPU, IDENTIFIER.
const idSample = unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME | unix.PERF_SAMPLE_ID | unix.PERF_SAMPLE_STREAM_ID |
	unix.PERF_SAMPLE_CPU | unix.PERF_SAMPLE_IDENTIFIER

// trailerSize returns the size in bytes of the trailer: each field has eight.
func (a Attr) trailerSize() int {
	return 8 * bits.OnesCount64(a.SampleType&idSample)
}

// before counts the fields of fields that samples have, in bytes.
func (a Attr) before(fields uint64) int { return 8 * bits.OnesCount64(a.SampleType&fields) }

// idAt returns where the event's id is: so many bytes after a sample's header,
// and so many before the end of any other record. ok is false if records
// have none. Compare tools/perf/util/evsel.c:__perf_evsel__calc_id_pos.
func (a Attr) idAt() (sample, fromEnd int, ok bool) {
	switch {
	case a.Has(unix.PERF_SAMPLE_IDENTIFIER):
		return 0, 8, true
	case a.Has(unix.PERF_SAMPLE_ID):
		const before = unix.PERF_SAMPLE_IP | unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME | unix.PERF_SAMPLE_ADDR
		const after = unix.PERF_SAMPLE_STREAM_ID | unix.PERF_SAMPLE_CPU
		return a.before(before), a.before(after) + 8, true
	}
	return 0, 0, false
}

// timeAt is idAt for the time, of the clock that the event was opened with.
func (a Attr) timeAt() (sample, fromEnd int, ok bool) {
	if !a.Has(unix.PERF_SAMPLE_TIME) {
		return 0, 0, false
	}
	const before = unix.PERF_SAMPLE_IDENTIFIER | unix.PERF_SAMPLE_IP | unix.PERF_SAMPLE_TID
	const after = unix.PERF_SAMPLE_ID | unix.PERF_SAMPLE_STREAM_ID | unix.PERF_SAMPLE_CPU | unix.PERF_SAMPLE_IDENTIFIER
	return a.before(before), a.before(after) + 8, true
}
