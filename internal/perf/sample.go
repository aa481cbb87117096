package perf

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// sample reads a SAMPLE up to its raw data. What comes after that (branches,
// registers, stacks, weights) is not looked at. The order of the fields is that of
// include/uapi/linux/perf_event.h.
func sample(a *Attr, b []byte, r *Record) error {
	c := cursor{b: b[HeaderSize:]}
	if a.Has(unix.PERF_SAMPLE_IDENTIFIER) {
		c.u64()
	}
	if a.Has(unix.PERF_SAMPLE_IP) {
		r.IP = c.u64()
	}
	if a.Has(unix.PERF_SAMPLE_TID) {
		r.PID, r.TID = c.pair()
	}
	if a.Has(unix.PERF_SAMPLE_TIME) {
		r.Time = c.u64()
	}
	if a.Has(unix.PERF_SAMPLE_ADDR) {
		r.Addr = mem.VirtAddr(c.u64())
	}
	if a.Has(unix.PERF_SAMPLE_ID) {
		c.u64()
	}
	if a.Has(unix.PERF_SAMPLE_STREAM_ID) {
		r.StreamID = c.u64()
	}
	if a.Has(unix.PERF_SAMPLE_CPU) {
		cpu, _ := c.pair()
		r.CPU = uint32(cpu)
	}
	if a.Has(unix.PERF_SAMPLE_PERIOD) {
		r.Period = c.u64()
	}
	if a.SampleType&(unix.PERF_SAMPLE_READ|unix.PERF_SAMPLE_CALLCHAIN) != 0 {
		skipCounts(a, &c)
	}
	if a.Has(unix.PERF_SAMPLE_RAW) && c.err == nil {
		if err := raw(&c, r); err != nil {
			return err
		}
	}
	return c.err
}

// skipCounts passes the values of READ and the addresses of CALLCHAIN.
func skipCounts(a *Attr, c *cursor) {
	if a.Has(unix.PERF_SAMPLE_READ) {
		skip(c, readWords(a.ReadFormat, c))
	}
	if a.Has(unix.PERF_SAMPLE_CALLCHAIN) {
		skip(c, c.u64())
	}
}

// readWords returns how many words of 8 bytes the values have, of a group after
// reading how many there are.
func readWords(format uint64, c *cursor) uint64 {
	const times = unix.PERF_FORMAT_TOTAL_TIME_ENABLED | unix.PERF_FORMAT_TOTAL_TIME_RUNNING
	const each = unix.PERF_FORMAT_ID | unix.PERF_FORMAT_LOST
	nTimes, nEach := uint64(bits.OnesCount64(format&times)), uint64(1+bits.OnesCount64(format&each))
	if format&unix.PERF_FORMAT_GROUP == 0 {
		return nEach + nTimes
	}
	n := c.u64()
	if n > maxRecord { // skip refuses it; the product would not fit
		return n
	}
	return nTimes + n*nEach
}

// skip passes n words of 8 bytes.
func skip(c *cursor, n uint64) {
	if n > uint64(len(c.b)/8) {
		c.bytes(len(c.b) + 1)
		return
	}
	c.b = c.b[n*8:]
}

// raw reads the size of the raw data, 32 bits, and the data. The kernel pads so
// that both are a multiple of 8 together, and counts the padding.
func raw(c *cursor, r *Record) error {
	if len(c.b) < 4 {
		return fmt.Errorf("%w: no room for the size of its raw data", ErrShort)
	}
	size := binary.LittleEndian.Uint32(c.b)
	c.b = c.b[4:]
	if uint64(size) > uint64(len(c.b)) {
		return fmt.Errorf("%w: %d bytes of raw data in %d", ErrShort, size, len(c.b))
	}
	r.Raw = c.bytes(int(size))
	return nil
}
