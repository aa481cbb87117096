package perfdata

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"vmsim/internal/perf"
)

// Records of perf's own making (enum perf_user_event_type) that mean something here. The
// others are skipped.
const (
	kindAttr          perf.Kind = 64
	kindTracingData   perf.Kind = 66
	kindFinishedRound perf.Kind = 68
	kindAuxtrace      perf.Kind = 71
	kindEventUpdate   perf.Kind = 78
	kindFeature       perf.Kind = 80
	kindCompressed    perf.Kind = 81
	kindCompressed2   perf.Kind = 83
)

// stream is the section of records, read from its beginning to its end.
type stream struct {
	f   *File
	in  *bufio.Reader
	off int64 // of the next record in the file
	end int64

	at    int64         // of the record in buf
	buf   [1 << 16]byte // one record
	chunk []byte        // what is left of the compressed bytes in buf
	outer error         // why there are no more records, for the reader of chunk

	inner [1 << 16]byte // one record out of the compressed bytes
	held  *perf.Header  // a record that readHead read, but left to run
}

// damage is an error at an offset of the file.
func (s *stream) damage(at int64, format string, args ...any) error {
	return fmt.Errorf("%w at %#x: %w", ErrDamaged, at, fmt.Errorf(format, args...))
}

// next reads a record into buf. The error is io.EOF at the end of the section.
func (s *stream) next() (h perf.Header, err error) {
	if s.held != nil {
		h, s.held = *s.held, nil
		return h, nil
	}
	left := s.end - s.off
	if left == 0 {
		return h, io.EOF
	}
	if left < perf.HeaderSize {
		return h, s.damage(s.off, "%d bytes, too few for a record", left)
	}
	if err := s.fill(s.buf[:perf.HeaderSize]); err != nil {
		return h, err
	}
	s.at = s.off
	if h, err = perf.ParseHeader(s.buf[:perf.HeaderSize]); err != nil {
		return h, s.damage(s.at, "%w", err)
	}
	if int64(h.Size) > left {
		return h, s.damage(s.at, "%v of %d bytes, and %d are left", h.Kind, h.Size, left)
	}
	if err := s.fill(s.buf[perf.HeaderSize:h.Size]); err != nil {
		return h, err
	}
	s.off += int64(h.Size)
	return h, nil
}

// fill reads len(b) bytes.
func (s *stream) fill(b []byte) error {
	if _, err := io.ReadFull(s.in, b); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return s.damage(s.off, "the file became shorter")
		}
		return err
	}
	return nil
}

// body returns the bytes of the record in buf.
func (s *stream) body(h perf.Header) []byte { return s.buf[:h.Size] }

// take returns the n bytes behind the record in buf, which belong to it.
func (s *stream) take(n uint64) ([]byte, error) {
	if n > uint64(s.end-s.off) || n > maxFeature {
		return nil, s.damage(s.at, "%d bytes behind it, and %d are left", n, s.end-s.off)
	}
	b := make([]byte, n)
	if err := s.fill(b); err != nil {
		return nil, err
	}
	s.off += int64(n)
	return b, nil
}

// skip passes the n bytes behind the record in buf.
func (s *stream) skip(n uint64) error {
	if n > uint64(s.end-s.off) {
		return s.damage(s.at, "%d bytes behind it, and %d are left", n, s.end-s.off)
	}
	s.off += int64(n)
	s.f.facts.Skipped += n
	s.in.Reset(io.NewSectionReader(s.f.r, s.off, s.end-s.off))
	return nil
}

// readHead reads what a pipe says of itself before the first record of the kernel.
func (s *stream) readHead() error {
	for {
		h, err := s.next()
		if err != nil {
			if err == io.EOF {
				err = s.damage(s.off, "it has no record of the kernel")
			}
			return err
		}
		if h.Kind < perf.KindUser || h.Kind == kindCompressed || h.Kind == kindCompressed2 {
			s.held = &h
			return s.f.addEvents()
		}
		if err := s.own(h); err != nil {
			return err
		}
	}
}

// run reads all records.
func (s *stream) run() error {
	for {
		h, err := s.next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = s.record(h)
		}
		if err != nil {
			return err
		}
	}
}

// record does what the record in buf asks for.
func (s *stream) record(h perf.Header) error {
	switch {
	case h.Kind < perf.KindUser:
		return s.f.order.add(h, s.body(h), s.at)
	case h.Kind == kindCompressed || h.Kind == kindCompressed2:
		if err := s.open(h); err != nil {
			return err
		}
		return s.inflate()
	}
	return s.own(h)
}

// own does what a record of perf's asks for.
func (s *stream) own(h perf.Header) error {
	b := s.body(h)[perf.HeaderSize:]
	switch h.Kind {
	case kindFinishedRound:
		return s.f.order.round()
	case kindAuxtrace:
		if len(b) < 8 {
			return s.damage(s.at, "AUXTRACE of %d bytes", h.Size)
		}
		return s.skip(binary.LittleEndian.Uint64(b))
	case kindTracingData:
		if len(b) < 4 {
			return s.damage(s.at, "TRACING_DATA of %d bytes", h.Size)
		}
		data, err := s.take(uint64(binary.LittleEndian.Uint32(b)))
		if err != nil {
			return err
		}
		return s.describes(s.f.readTracingData(data))
	case kindAttr:
		return s.describes(s.attr(b))
	case kindFeature:
		return s.describes(s.feature(b))
	case kindEventUpdate:
		return s.describes(s.update(b))
	}
	return nil
}

// describes adds to an error of what a pipe says of itself where that is.
func (s *stream) describes(err error) error {
	if err != nil {
		return fmt.Errorf("at %#x: %w", s.at, err)
	}
	return nil
}

// attr reads HEADER_ATTR: attributes, whose own size says where the ids begin.
func (s *stream) attr(b []byte) error {
	if s.f.ready {
		return fmt.Errorf("%w: an event behind the first records", ErrUnsupported)
	}
	if len(b) < perf.MinAttrSize {
		return fmt.Errorf("%w: HEADER_ATTR of %d bytes", ErrDamaged, len(b))
	}
	size := uint64(binary.LittleEndian.Uint32(b[4:]))
	if size < perf.MinAttrSize || size > uint64(len(b)) {
		return fmt.Errorf("%w: attributes of %d bytes in %d", ErrDamaged, size, len(b))
	}
	return s.f.describe(b[:size], b[size:])
}

// feature reads HEADER_FEATURE: its number, and what a file has in its section.
func (s *stream) feature(b []byte) error {
	c := cursor{b: b}
	if n := c.u64(); n < uint64(numFeatures) && featureReaders[feature(n)] != nil {
		return featureReaders[feature(n)](s.f, c.b)
	}
	return c.err
}

// update reads EVENT_UPDATE: of its kinds, the one that gives an event a name.
func (s *stream) update(b []byte) error {
	const name = 2 // PERF_EVENT_UPDATE__NAME
	c := cursor{b: b}
	kind, id := c.u64(), c.u64()
	if kind != name || c.err != nil {
		return c.err
	}
	if d := s.f.byID(id); d != nil {
		d.name = c.cstring()
	}
	return c.err
}
