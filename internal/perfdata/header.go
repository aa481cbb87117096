package perfdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Returned by Open, wrapped.
var (
	// ErrNotPerf: the file does not begin as perf.data files do.
	ErrNotPerf = errors.New("not a perf.data file")

	// ErrUnsupported: it is one of a kind that is not read, which the text names.
	ErrUnsupported = errors.New("not supported")

	// ErrDamaged: it contradicts itself, or ends too early.
	ErrDamaged = errors.New("damaged")
)

// section is a part of the file (struct perf_file_section).
type section struct {
	off, size uint64
}

// fits reports whether the section is within a file of size bytes.
func (s section) fits(size int64) bool { return s.off <= uint64(size) && s.size <= uint64(size)-s.off }

// header is struct perf_file_header. A pipe has magic and size alone.
type header struct {
	attrSize uint64 // of an entry of attrs
	attrs    section
	data     section
	features [256 / 64]uint64 // one bit each
	pipe     bool
}

// Sizes of the header, in bytes.
const (
	fileHeaderSize = 104
	pipeHeaderSize = 16
)

func (h *header) has(f feature) bool { return h.features[f/64]&(1<<(f%64)) != 0 }

// readHeader reads the header.
func readHeader(r io.ReaderAt, size int64) (h header, err error) {
	var b [fileHeaderSize]byte
	n, err := r.ReadAt(b[:min(size, fileHeaderSize)], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return h, err
	}
	if n < pipeHeaderSize {
		return h, fmt.Errorf("%w: it has %d bytes", ErrNotPerf, n)
	}
	switch magic := string(b[:8]); magic {
	case "PERFILE2":
	case "2ELIFREP":
		return h, fmt.Errorf("%w: it is of a machine with the other byte order", ErrUnsupported)
	case "PERFFILE":
		return h, fmt.Errorf("%w: it is of version 1, written by a perf of before Linux 3.7", ErrUnsupported)
	default:
		return h, fmt.Errorf("%w: it begins with %q", ErrNotPerf, magic)
	}
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }
	switch headerSize := u64(8); {
	case headerSize == pipeHeaderSize:
		h.pipe = true
		return h, nil
	case headerSize != fileHeaderSize:
		return h, fmt.Errorf("%w at 0x8: a header of %d bytes", ErrDamaged, headerSize)
	case n < fileHeaderSize:
		return h, fmt.Errorf("%w: it ends in its header, after %d bytes", ErrDamaged, n)
	}
	h.attrSize = u64(16)
	h.attrs = section{u64(24), u64(32)}
	h.data = section{u64(40), u64(48)}
	for i := range h.features {
		h.features[i] = u64(72 + 8*i)
	}
	return h, nil
}

// read returns the bytes of a section of at most limit bytes.
func read(r io.ReaderAt, size int64, s section, limit uint64) ([]byte, error) {
	if !s.fits(size) {
		return nil, fmt.Errorf("%w: [%#x, +%#x) is beyond the end of the file", ErrDamaged, s.off, s.size)
	}
	if s.size > limit {
		return nil, fmt.Errorf("%w at %#x: %d bytes, more than %d", ErrDamaged, s.off, s.size, limit)
	}
	b := make([]byte, s.size)
	if _, err := r.ReadAt(b, int64(s.off)); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}
