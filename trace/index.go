package trace

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
)

// Index is the binary form of a trace whose index was read: its blocks can be
// read in any choice.
type Index struct {
	Blocks []Block // in the order of the file
	Ops    uint64  // of the whole trace

	name   string
	r      io.ReaderAt
	header Header
}

// OpenIndexed reads the index at the end of a trace of size bytes. What it
// allocates is in proportion to size. The errors are those of NewReader; a trace
// that was cut off has no index, but NewReader may read it.
func OpenIndexed(name string, r io.ReaderAt, size int64) (*Index, error) {
	x := &Index{name: name, r: r}
	// The front is read as a stream is, for its errors.
	front, err := NewReader(name, io.NewSectionReader(r, 0, size))
	if err != nil {
		return nil, err
	}
	at := size - trailerSize
	damage := func(format string, args ...any) error {
		return &DamageError{name, at, 0, fmt.Sprintf(format, args...)}
	}
	if at < front.offset {
		return nil, damage("the trace is cut off")
	}
	var b [trailerSize]byte
	if _, err := r.ReadAt(b[:], at); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	tailAt, err := parseTrailer(b[:])
	if err != nil {
		return nil, damage("%v: the trace is cut off", err)
	}
	if tailAt < front.offset || tailAt > at-frameSize {
		return nil, damage("the end is not at byte %d", tailAt)
	}
	end := at
	section := func(from int64) *Reader { // frames from byte from to the trailer
		s := newReader(name)
		s.offset = from
		s.restart(io.NewSectionReader(r, from, end-from))
		return s
	}
	at = tailAt
	head, body, err := section(at).frame()
	if err != nil {
		return nil, err
	}
	if head.tag != tagTail || tailAt+int64(frameSize+len(body)) != end {
		return nil, damage("the TAIL frame is not there")
	}
	t, h, err := parseTail(body)
	if err != nil {
		return nil, damage("%v", err)
	}
	x.header, x.Ops = h, t.ops
	if t.index < uint64(front.offset) || t.index > uint64(tailAt) {
		return nil, damage("the index is not at byte %d", t.index)
	}
	at = int64(t.index)
	frames, sum, next := section(at), uint32(0), front.offset
	for frames.offset < tailAt {
		at = frames.offset
		head, body, err := frames.frame()
		if err != nil {
			return nil, err
		}
		if head.tag != tagIndex {
			return nil, damage("a %s frame stands where it cannot", head.tag)
		}
		frames.offset += int64(frameSize + len(body))
		sum = crc32.Update(sum, castagnoli, body)
		if next, err = x.entries(body, next); err != nil {
			return nil, damage("%v", err)
		}
	}
	var ops uint64
	if n := len(x.Blocks); n > 0 {
		ops = x.Blocks[n-1].First + x.Blocks[n-1].Ops
	}
	if sum != t.sum || frames.offset != tailAt || uint64(len(x.Blocks)) != t.blocks || ops != t.ops || uint64(next) != t.index {
		return nil, damage("the index is not that of the blocks")
	}
	return x, nil
}

// entries adds the blocks of an INDX frame; the first of them must be at byte
// next. It returns where the last one ends.
func (x *Index) entries(body []byte, next int64) (int64, error) {
	c := cursor{b: body}
	for len(c.b) > 0 {
		b := Block{Offset: int64(c.upTo(1 << 62)), size: int(c.upTo(maxBody))}
		if err := b.parseInfo(&c); err != nil {
			return 0, err
		}
		first := uint64(0)
		if n := len(x.Blocks); n > 0 {
			first = x.Blocks[n-1].First + x.Blocks[n-1].Ops
		}
		if b.Offset != next || b.First != first {
			return 0, fmt.Errorf("block %d is not behind the one before", len(x.Blocks))
		}
		next += int64(frameSize + b.size)
		x.Blocks = append(x.Blocks, b)
	}
	return next, nil
}

// Header returns what was known at the end of the recording.
func (x *Index) Header() (Header, error) { return x.header, nil }

// Reader returns a Reader of the blocks for which keep is true, all where it is
// nil. The numbers of its operations are those of the whole trace.
func (x *Index) Reader(keep func(*Block) bool) *Reader {
	t := newReader(x.name)
	t.header, t.from = x.header, x.r
	n := 0
	t.fill = func(to *packedBlock) error {
		for ; n < len(x.Blocks); n++ {
			if b := &x.Blocks[n]; keep == nil || keep(b) {
				n++
				return t.indexed(to, b)
			}
		}
		return io.EOF
	}
	return t
}

// indexed reads the block that an index entry names, and compares both.
func (t *Reader) indexed(to *packedBlock, b *Block) error {
	t.offset = b.Offset
	t.restart(io.NewSectionReader(t.from, b.Offset, int64(frameSize+b.size)))
	head, body, err := t.frame()
	if err != nil {
		return err
	}
	if head.tag != tagBlock || len(body) != b.size {
		return t.damage("the index is not that of the blocks")
	}
	n, err := to.parse(body, b.Offset)
	if err != nil {
		return t.damage("%v", err)
	}
	if !bytes.Equal(b.appendInfo(nil), body[:n]) {
		return t.damage("the index is not that of the blocks")
	}
	t.total += b.Ops
	return nil
}
