package perfdata

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"vmsim/internal/perf"
)

// maxWindow is how far back compressed bytes may refer: what zstd's highest level asks for.
const maxWindow = 128 << 20

// open makes the record in buf, COMPRESSED or COMPRESSED2, the one whose bytes are inflated
// next. The second has the size of its bytes in front of them, since it is padded.
func (s *stream) open(h perf.Header) error {
	b := s.body(h)[perf.HeaderSize:]
	if h.Kind == kindCompressed2 {
		if len(b) < 8 {
			return s.damage(s.at, "COMPRESSED2 of %d bytes", h.Size)
		}
		n := binary.LittleEndian.Uint64(b)
		if b = b[8:]; n > uint64(len(b)) {
			return s.damage(s.at, "COMPRESSED2: %d bytes in %d", n, len(b))
		}
		b = b[:n]
	}
	s.chunk = b
	return nil
}

// inflate reads the records in the compressed bytes, from the one in buf to the end
// of the section. All of them are one zstd stream, which perf never ends, and a record of
// the kernel may begin in one of perf's and end in the next. So the decompressor pulls: it reads from
// chunks, which goes on to the next record where it must, and does what
// the records between ask for.
func (s *stream) inflate() error {
	zr, err := zstd.NewReader(chunks{s}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return s.damage(s.at, "zstd: %w", err)
	}
	defer zr.Close()
	for {
		n, err := io.ReadFull(zr, s.inner[:perf.HeaderSize])
		if n == 0 && s.outer != nil {
			return s.ended()
		}
		if err != nil {
			return s.inflateError(n, err)
		}
		h, err := perf.ParseHeader(s.inner[:])
		if err != nil {
			return s.damage(s.at, "inside COMPRESSED: %w", err)
		}
		if n, err := io.ReadFull(zr, s.inner[perf.HeaderSize:h.Size]); err != nil {
			return s.inflateError(n+perf.HeaderSize, err)
		}
		if h.Kind >= perf.KindUser {
			continue // perf compresses what comes from rings, and a few notes of its own
		}
		if err := s.f.order.add(h, s.inner[:h.Size], s.at); err != nil {
			return err
		}
	}
}

// ended returns why there are no more records: nil at the end.
func (s *stream) ended() error {
	if s.outer == io.EOF {
		return nil
	}
	return s.outer
}

// inflateError is why a record could not be read, of which n bytes were there.
func (s *stream) inflateError(n int, err error) error {
	if s.outer != nil && s.outer != io.EOF {
		return s.outer
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return s.damage(s.off, "the compressed records end after %d bytes of one", n)
	}
	return s.damage(s.at, "zstd: %w", err)
}

// chunks is an io.Reader of the compressed bytes of all records.
type chunks struct{ s *stream }

func (c chunks) Read(p []byte) (int, error) {
	s := c.s
	for len(s.chunk) == 0 {
		if s.outer == nil {
			s.outer = s.nextChunk()
		}
		if s.outer != nil {
			return 0, io.EOF // as the decompressor sees it
		}
	}
	n := copy(p, s.chunk)
	s.chunk = s.chunk[n:]
	return n, nil
}

// nextChunk goes on to the next compressed record.
func (s *stream) nextChunk() error {
	for {
		h, err := s.next()
		if err != nil {
			return err
		}
		if h.Kind == kindCompressed || h.Kind == kindCompressed2 {
			return s.open(h)
		}
		if err := s.record(h); err != nil {
			return err
		}
	}
}
