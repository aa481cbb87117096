package trace

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
)

// Reader reads the binary form of a trace, block by block. Its memory is bounded
// by two blocks, whatever it reads: while one is taken apart the next is unpacked.
type Reader struct {
	name   string
	header Header
	ops    uint64 // delivered
	block  blockDecoder
	loaded bool                     // block was
	taken  uint64                   // blocks that were loaded
	fill   func(*packedBlock) error // reads the next block, or says why there is none
	ahead  *packedBlock             // the one behind that of block
	spare  *packedBlock             // that of block: its columns are in use
	begun  bool                     // ahead is being unpacked
	failed error                    // of reading ahead: it comes behind the block under way
	err    error                    // sticks

	body   []byte // of the frame read last
	total  uint64 // operations of the blocks read
	r      *bufio.Reader
	offset int64

	// of a stream
	blocks uint64
	sum    uint32 // of the index as it must be

	from io.ReaderAt // of an Index
}

// NewReader returns a Reader of r that has read the header. Errors begin with
// name: a *DamageError, a *VersionError, or a wrapped error of r.
func NewReader(name string, r io.Reader) (*Reader, error) {
	t := newReader(name)
	t.r, t.fill = bufio.NewReaderSize(r, 64<<10), t.stream
	var b [prologueSize]byte
	if err := t.full(b[:]); err != nil {
		return nil, err
	}
	if err := t.prologue(b[:]); err != nil {
		return nil, err
	}
	t.offset += int64(len(b))
	head, body, err := t.frame()
	if err != nil {
		return nil, err
	}
	if head.tag != tagHead {
		return nil, t.damage("the HEAD frame is missing")
	}
	if t.header, err = parseHeaderJSON(body); err != nil {
		return nil, t.damage("%v", err)
	}
	t.offset += int64(frameSize + len(body))
	return t, nil
}

func newReader(name string) *Reader {
	return &Reader{name: name, ahead: newPackedBlock(), spare: newPackedBlock()}
}

// prologue checks the first bytes of a file.
func (t *Reader) prologue(b []byte) error {
	if string(b[:len(ContainerMagic)]) != ContainerMagic {
		return t.damage("the first bytes are not those of a trace")
	}
	if v := binary.LittleEndian.Uint32(b[len(ContainerMagic):]); v != ContainerVersion {
		return &VersionError{t.name, v}
	}
	return nil
}

// Header returns what the recorder said at the start, or, where the output could
// be written twice, at the end; once Next has returned io.EOF, always at the end.
func (t *Reader) Header() (Header, error) { return t.header, nil }

// Blocks returns how many blocks were read.
func (t *Reader) Blocks() uint64 { return t.taken }

// Next returns the next operation, its Line being its number from 1, or io.EOF at
// the end. Errors are those of NewReader, and stick: all operations before were
// whole.
func (t *Reader) Next() (op Op, err error) {
	if !t.more() {
		return Op{}, t.err
	}
	if err := t.block.op(&op); err != nil {
		return Op{}, t.broken(err)
	}
	if op.Kind == OpBoot && op.Line != 1 {
		return Op{}, t.broken(errors.New("boot: only the first operation can be one"))
	}
	t.ops++
	return op, nil
}

// Touches fills dst with the next touches, if the next operation is a plain one,
// and reports whether it was. Where it was not, Next gives the operation or the
// error.
func (t *Reader) Touches(dst *Touches) bool {
	if cap(dst.Touch) == 0 || !t.more() {
		return false
	}
	ok, err := t.block.inRun()
	if err == nil && ok {
		err = t.block.touches(dst)
	}
	if err != nil {
		t.broken(err)
		return false
	}
	if ok {
		t.ops += uint64(len(dst.Touch))
	}
	return ok
}

// All yields the remaining operations; an error comes last. The end of the trace
// is none.
func (t *Reader) All() iter.Seq2[Op, error] { return all(t.Next) }

// more reports whether the block under way has operations left, after reading the
// next one if need be. Where it is false t.err is set.
func (t *Reader) more() bool {
	for t.err == nil {
		if t.loaded {
			more, err := t.block.more()
			if err != nil {
				t.broken(err)
				return false
			}
			if more {
				return true
			}
			t.loaded = false
		}
		if t.err = t.begin(); t.err == nil {
			t.load()
		}
	}
	return false
}

// begin reads the next block and has it unpacked, unless that was done already.
func (t *Reader) begin() error {
	if t.begun || t.failed != nil {
		return t.failed
	}
	if t.failed = t.fill(t.ahead); t.failed == nil {
		t.begun = true
		go t.ahead.unpack()
	}
	return t.failed
}

// load makes the block that was begun the one under way, and begins the one behind
// it, if that one is there: a recorder may write it much later.
func (t *Reader) load() {
	err := <-t.ahead.done
	t.begun = false
	t.ahead, t.spare = t.spare, t.ahead
	if err == nil {
		t.taken++
		err = t.block.load(t.spare.info, &t.spare.cols)
	}
	if err != nil {
		t.block.info = t.spare.info
		t.broken(err)
		return
	}
	t.loaded = true
	if tag, _ := t.r.Peek(min(t.r.Buffered(), len(tagBlock))); string(tag) == tagBlock {
		t.begin() // its error is the next call's
	}
}

// broken ends the reading in the block under way.
func (t *Reader) broken(err error) error {
	t.err = &DamageError{t.name, t.block.info.Offset, t.ops, err.Error()}
	return t.err
}

// damage is the error of damage at the frame that is read.
func (t *Reader) damage(format string, args ...any) error {
	return &DamageError{t.name, t.offset, t.total, fmt.Sprintf(format, args...)}
}

// restart continues with another stream.
func (t *Reader) restart(r io.Reader) {
	if t.r == nil {
		t.r = bufio.NewReader(r)
	} else {
		t.r.Reset(r)
	}
}

// full fills b from the stream, or says that the trace is cut off.
func (t *Reader) full(b []byte) error {
	_, err := io.ReadFull(t.r, b)
	return t.readError(err)
}

func (t *Reader) readError(err error) error {
	switch err {
	case nil:
		return nil
	case io.EOF, io.ErrUnexpectedEOF:
		return t.damage("the trace is cut off")
	}
	return fmt.Errorf("%s: %w", t.name, err)
}

// frame reads a frame of the stream. Its body is valid until the next.
func (t *Reader) frame() (head frameHead, body []byte, err error) {
	var b [frameSize]byte
	if err := t.full(b[:]); err != nil {
		return head, nil, err
	}
	if head, err = parseFrameHead(b[:]); err != nil {
		return head, nil, t.damage("%v", err)
	}
	t.body, err = readBody(t.r, t.body, head.size)
	if err := t.readError(err); err != nil {
		return head, nil, err
	}
	if err := head.check(t.body); err != nil {
		return head, nil, t.damage("%v", err)
	}
	return head, t.body, nil
}

// stream reads the next block of the stream.
func (t *Reader) stream(b *packedBlock) error {
	head, body, err := t.frame()
	if err != nil {
		return err
	}
	if head.tag != tagBlock {
		return t.end(head, body)
	}
	n, err := b.parse(body, t.offset)
	if err == nil && b.info.First != t.total {
		err = fmt.Errorf("its first operation is number %d, not %d: a block is missing or comes twice", b.info.First, t.total)
	}
	if err != nil {
		return t.damage("%v", err)
	}
	t.sum = crc32.Update(t.sum, castagnoli, appendEntry(nil, b.info.Offset, len(body), body[:n]))
	t.blocks++
	t.total += b.info.Ops
	t.offset += int64(frameSize + len(body))
	return nil
}

// packedBlock is a block on its way from the file to a blockDecoder.
type packedBlock struct {
	info   Block
	packed [nColumns][]byte // parts of the frame's body
	raw    []byte           // what cols are parts of
	cols   [nColumns][]byte
	done   chan error // of unpack
}

func newPackedBlock() *packedBlock { return &packedBlock{done: make(chan error, 1)} }

// parse reads what the body of the frame at offset says of its block, and finds its
// columns. It returns how many bytes of it are the info.
func (b *packedBlock) parse(body []byte, offset int64) (n int, err error) {
	c := cursor{b: body}
	b.info = Block{Offset: offset, size: len(body)}
	if err := b.info.parseInfo(&c); err != nil {
		return 0, err
	}
	n = len(body) - len(c.b)
	var raw, packed [nColumns]uint64
	left := b.info.Raw
	for i := range raw {
		raw[i], packed[i] = c.upTo(left), c.uvarint()
		left -= raw[i]
	}
	if c.failed || left != 0 {
		return 0, errColumns
	}
	need := int(b.info.Raw) + nColumns*behindColumn
	if cap(b.raw) < need {
		b.raw = make([]byte, need)
	}
	rest := b.raw[:need]
	for i := range raw {
		b.packed[i] = c.take(packed[i])
		if c.failed || packed[i] > raw[i] {
			return 0, errColumns
		}
		b.cols[i] = rest[: raw[i] : int(raw[i])+behindColumn]
		rest = rest[int(raw[i])+behindColumn:]
	}
	if len(c.b) > 0 {
		return 0, errColumns
	}
	return n, nil
}

// unpack fills the columns, and says so.
func (b *packedBlock) unpack() {
	for i, to := range b.cols {
		from := b.packed[i]
		if len(from) == len(to) {
			copy(to, from)
		} else if got, err := unpacker().DecodeAll(from, to[:0:len(to)]); err != nil || len(got) != len(to) {
			b.done <- fmt.Errorf("a column does not unpack to the %d bytes that it says", len(to))
			return
		}
	}
	b.done <- nil
}

// behindColumn is the room behind each unpacked column: blockDecoder loads eight
// bytes wherever an address starts.
const behindColumn = 8

// end reads what is behind the last block, beginning with a frame that was read.
// It returns io.EOF if all is well.
func (t *Reader) end(head frameHead, body []byte) error {
	indexAt := t.offset
	sum := uint32(0)
	for head.tag == tagIndex {
		sum = crc32.Update(sum, castagnoli, body)
		t.offset += int64(frameSize + len(body))
		var err error
		if head, body, err = t.frame(); err != nil {
			return err
		}
	}
	if head.tag != tagTail {
		return t.damage("a %s frame stands where it cannot", head.tag)
	}
	tail, h, err := parseTail(body)
	switch {
	case err != nil:
		return t.damage("%v", err)
	case tail.ops != t.total || tail.blocks != t.blocks:
		return t.damage("the end knows of %d operations in %d blocks, but there were %d in %d", tail.ops, tail.blocks, t.total, t.blocks)
	case sum != t.sum || tail.sum != sum || tail.index != uint64(indexAt):
		return t.damage("the index is not that of the blocks")
	}
	tailAt := t.offset
	t.offset += int64(frameSize + len(body))
	var b [trailerSize]byte
	if err := t.full(b[:]); err != nil {
		return err
	}
	if at, err := parseTrailer(b[:]); err != nil || at != tailAt {
		return t.damage("the last %d bytes are no end of this trace", trailerSize)
	}
	t.offset += trailerSize
	switch _, err := t.r.ReadByte(); {
	case err == nil:
		return t.damage("more bytes behind the end")
	case err != io.EOF:
		return t.readError(err)
	}
	t.header = h
	return io.EOF
}
