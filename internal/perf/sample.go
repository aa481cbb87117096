package perf

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// sample reads a SAMPLE up to the program's stack. What comes after that, and behind
// branches, is not looked at. The order of the fields is that of
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
	if !a.Has(unix.PERF_SAMPLE_BRANCH_STACK) {
		userState(a, &c, r)
	}
	return c.err
}

// Numbers of registers (arch/x86/include/uapi/asm/perf_regs.h).
const (
	regSP = 7
	regIP = 8
)

// userState reads the program's registers and the top of its stack: as much as there was.
func userState(a *Attr, c *cursor, r *Record) {
	if a.Has(unix.PERF_SAMPLE_REGS_USER) {
		if r.UserABI = c.u64(); r.UserABI != ABINone {
			for regs := a.UserRegs; regs != 0; regs &= regs - 1 {
				switch v := mem.VirtAddr(c.u64()); bits.TrailingZeros64(regs) {
				case regSP:
					r.UserSP = v
				case regIP:
					r.UserIP = v
				}
			}
		}
	}
	if a.Has(unix.PERF_SAMPLE_STACK_USER) {
		if size := c.u64(); size > 0 {
			stack := c.bytes(int(min(size, maxRecord)))
			r.UserStack = stack[:min(uint64(len(stack)), c.u64())]
		}
	}
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
