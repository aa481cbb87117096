package perf

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ring is the ring buffer of one CPU: one page that the kernel and the reader share
// (struct perf_event_mmap_page), and a power of two of pages of data.
type ring struct {
	fd   int // of the event that owns it
	cpu  int
	mem  []byte // the whole mapping
	head *uint64
	tail *uint64
	data []byte
}

// mapRing maps a ring of size bytes of data, a power of two of at least a page, for the
// event fd. The mapping is writable, so that the kernel keeps what was not read
// and drops new records instead. The error is the kernel's: EPERM if so much
// memory may not be locked.
func mapRing(fd, cpu, size int) (*ring, error) {
	page := os.Getpagesize()
	b, err := unix.Mmap(fd, 0, page+size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	meta := (*unix.PerfEventMmapPage)(unsafe.Pointer(&b[0]))
	return &ring{fd: fd, cpu: cpu, mem: b, head: &meta.Data_head, tail: &meta.Data_tail, data: b[page : page+size]}, nil
}

func (r *ring) unmap() error { return unix.Munmap(r.mem) }

// copyOut appends what the kernel has written since the last call to buf, and
// gives its room back. It appends at most the size of the ring, whole records.
func (r *ring) copyOut(buf []byte) []byte {
	// Paired with the kernel's store (perf_output_put_handle): the data was written
	// before the head, and is read before the tail.
	head, tail := atomic.LoadUint64(r.head), *r.tail
	from, to := tail&uint64(len(r.data)-1), head&uint64(len(r.data)-1)
	switch {
	case head == tail:
		return buf
	case from < to:
		buf = append(buf, r.data[from:to]...)
	default:
		buf = append(buf, r.data[from:]...)
		buf = append(buf, r.data[:to]...)
	}
	atomic.StoreUint64(r.tail, head)
	return buf
}

// queue holds the records of one CPU, copied out of its ring, until all older ones
// of the other CPUs are there.
//
// The order of the ring is kept even where times go backwards: the fast
// monotonic clock may step back by some ns when the kernel adjusts it
// (ktime_get_mono_fast_ns), and an interrupt may write between a record's time and
// the record. So a record's place is the largest time up to it.
type queue struct {
	buf   []byte
	start int    // of the first record that was not delivered
	key   uint64 // its place, if there is one
	size  int    // its size in bytes, 0 if there is none
}

// fill takes what is new in the ring. It moves what is left to the front of the buffer
// first, so that the buffer stays as large as two rounds need.
func (q *queue) fill(r *ring, d *Decoder) error {
	if q.start > 0 {
		q.buf = q.buf[:copy(q.buf, q.buf[q.start:])]
		q.start = 0
	}
	q.buf = r.copyOut(q.buf)
	if q.size == 0 {
		return q.peek(d)
	}
	return nil
}

// peek looks at the record at start.
func (q *queue) peek(d *Decoder) error {
	b := q.buf[q.start:]
	if q.size = 0; len(b) == 0 {
		return nil
	}
	h, err := ParseHeader(b)
	if err == nil && h.Size > len(b) {
		err = fmt.Errorf("%w: %d bytes of %d", ErrShort, len(b), h.Size)
	}
	if err != nil {
		return fmt.Errorf("ring buffer: %w", err)
	}
	q.size = h.Size
	q.key = max(q.key, d.Time(h, b[:h.Size]))
	return nil
}

// record returns the bytes of the record at start.
func (q *queue) record() []byte { return q.buf[q.start : q.start+q.size] }

// drop passes it.
func (q *queue) drop(d *Decoder) error {
	q.start += q.size
	return q.peek(d)
}

// readCounts returns an event's count, and how many records it lost, which
// ok says that the kernel knows (PERF_FORMAT_LOST, Linux 6.0).
func readCounts(fd int) (count, lost uint64, ok bool, err error) {
	var b [16]byte
	n, err := unix.Read(fd, b[:])
	if err != nil {
		return 0, 0, false, err
	}
	if n >= 8 {
		count = binary.LittleEndian.Uint64(b[:])
	}
	if n >= 16 {
		lost, ok = binary.LittleEndian.Uint64(b[8:]), true
	}
	return count, lost, ok, nil
}
