package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Writer writes the binary form of a trace, block by block: what a block holds
// can be read even if nothing comes behind it. Its memory is that of a block, and
// some bytes for each block written.
type Writer struct {
	w       io.Writer
	base    int64 // where the trace starts in w; below 0: w cannot be written twice
	slot    int   // bytes for the header
	offset  int64 // of the next frame
	block   *blockEncoder
	packed  []byte
	frame   []byte
	index   []byte // INDX frames to come, without their heads
	entries []int  // ends of index where a frame may end
	blocks  uint64
	ops     uint64
	sum     uint32 // of the index
	closed  bool
	err     error // sticks
}

// errClosed is the error of a Writer that is used behind Close.
var errClosed = errors.New("the trace is closed")

// NewWriter returns a Writer that has written h. What only the end of a recording
// knows, Header.Lost and Header.Whole above all, Close takes.
//
// The header that Close is given also replaces the one at the start, where w is
// an io.WriteSeeker that can seek and was not opened to append.
func NewWriter(w io.Writer, h Header) (*Writer, error) {
	return newWriter(w, h, func(n int) int {
		const start = prologueSize + frameSize
		// Twice the room: what is missing, and why, is often known only at the end.
		return (start+2*n+1024+slotAlign-1)/slotAlign*slotAlign - start
	})
}

// newWriter is NewWriter with a slot of its own size for a header of n bytes.
func newWriter(w io.Writer, h Header, room func(n int) int) (*Writer, error) {
	text, err := headerJSON(h)
	if err != nil {
		return nil, err
	}
	slot := room(len(text))
	t := &Writer{w: w, base: -1, slot: slot, block: newBlockEncoder()}
	t.block.reset(0)
	if s, ok := w.(io.WriteSeeker); ok && !appends(w) {
		if at, err := s.Seek(0, io.SeekCurrent); err == nil {
			t.base = at
		}
	}
	b := binary.LittleEndian.AppendUint32([]byte(ContainerMagic), ContainerVersion)
	return t, t.write(append(b, headFrame(text, slot)...))
}

// headFrame returns the frame of a header: its JSON, and spaces.
func headFrame(text []byte, slot int) []byte {
	frame := append(make([]byte, frameSize), text...)
	for len(frame) < frameSize+slot {
		frame = append(frame, ' ')
	}
	return sealFrame(frame, tagHead)
}

// write writes bytes behind what was written before.
func (w *Writer) write(b []byte) error {
	if w.err != nil {
		return w.err
	}
	n, err := w.w.Write(b)
	w.offset += int64(n)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	w.err = err
	return err
}

// Write adds op. The error is that of Check, or of the writer beneath, which
// sticks.
func (w *Writer) Write(op *Op) error {
	if w.err != nil {
		return w.err
	}
	if w.closed {
		return errClosed
	}
	if !goodTouch(op) {
		if err := op.Check(); err != nil {
			return err
		}
		if op.Kind == OpBoot && w.ops > 0 {
			return errors.New("boot: only the first operation can be one")
		}
	}
	w.ops++
	if w.block.add(op); w.block.full() {
		return w.Flush()
	}
	return nil
}

// goodTouch is Check for the operations that nearly all are.
func goodTouch(op *Op) bool {
	return op.Kind == OpTouch && op.Access <= 2 && op.PID >= 1 && op.PID <= MaxPID && op.TID >= 0 && op.TID <= MaxPID &&
		op.TID != op.PID && (op.Code == 0 || op.Code&CodeKnown != 0) && op.Line >= 0 && op.Value == plainValue(op) &&
		noMore(op)
}

// noMore reports whether no field is set that a plain touch does not have. To
// compare an Op with one that was built for it would cost as much as all the rest of
// Write.
func noMore(op *Op) bool {
	return op.Path == "" && op.Name == "" && op.Want == nil && op.Set == nil && op.Start == nil && op.File == nil &&
		op.Offset|op.Len|op.NewLen|op.Bits|op.MinFlt|op.MajFlt|op.Count|uint64(op.To) == 0 &&
		op.Status|op.Signal == 0 && op.Prot == 0 && op.Flags == 0 && op.Remap == 0 && op.Advice == 0 && op.Point == 0
}

// Flush ends the block under way and writes it, so that all operations until here
// can be read. A recorder calls it when it waits; each block starts from nothing,
// so small ones take more bytes an operation.
func (w *Writer) Flush() error {
	if w.err != nil || w.block.info.Ops == 0 {
		return w.err
	}
	info, cols := w.block.finish()
	info.Offset = w.offset
	text := info.appendInfo(nil)
	frame := append(w.frame[:0], make([]byte, frameSize)...)
	frame = w.pack(append(frame, text...), cols)
	w.frame = frame
	w.block.reset(w.ops)
	if len(frame)-frameSize > maxBody {
		w.err = fmt.Errorf("a block of %d bytes is larger than %d", len(frame)-frameSize, maxBody)
		return w.err
	}
	w.addIndex(info.Offset, len(frame)-frameSize, text)
	return w.write(sealFrame(frame, tagBlock))
}

// pack appends the columns: the length of each, unpacked and packed, then all of
// them. One that does not get smaller is stored as it is.
func (w *Writer) pack(frame []byte, cols *[nColumns][]byte) []byte {
	w.packed = w.packed[:0]
	for _, col := range cols {
		at := len(w.packed)
		if w.packed = packer().EncodeAll(col, w.packed); len(w.packed)-at >= len(col) {
			w.packed = append(w.packed[:at], col...)
		}
		frame = binary.AppendUvarint(frame, uint64(len(col)))
		frame = binary.AppendUvarint(frame, uint64(len(w.packed)-at))
	}
	return append(frame, w.packed...)
}

// addIndex adds a block to the index.
func (w *Writer) addIndex(offset int64, size int, info []byte) {
	start := len(w.index)
	w.index = appendEntry(w.index, offset, size, info)
	w.sum = crc32.Update(w.sum, castagnoli, w.index[start:])
	w.blocks++
	frame := 0 // start of the frame that the entry is in
	if n := len(w.entries); n > 0 {
		frame = w.entries[n-1]
	}
	if len(w.index)-frame >= indexBytes {
		w.entries = append(w.entries, len(w.index))
	}
}

// appendEntry appends what the index has of a block.
func appendEntry(dst []byte, offset int64, size int, info []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(offset))
	dst = binary.AppendUvarint(dst, uint64(size))
	return append(dst, info...)
}

// Close writes what is left, the index and final, the header as it is known now;
// it does not close the writer beneath. A trace without it is cut off.
func (w *Writer) Close(final Header) error {
	if w.err == nil && w.closed {
		return errClosed
	}
	text, err := headerJSON(final)
	if err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	w.closed = true
	indexAt := w.offset
	from := 0
	if n := len(w.entries); len(w.index) > 0 && (n == 0 || w.entries[n-1] < len(w.index)) {
		w.entries = append(w.entries, len(w.index))
	}
	for _, to := range w.entries {
		frame := append(make([]byte, frameSize), w.index[from:to]...)
		if err := w.write(sealFrame(frame, tagIndex)); err != nil {
			return err
		}
		from = to
	}
	tailAt := w.offset
	t := tail{index: uint64(indexAt), blocks: w.blocks, ops: w.ops, sum: w.sum}
	frame := append(t.append(make([]byte, frameSize)), text...)
	if err := w.write(append(sealFrame(frame, tagTail), trailer(tailAt)...)); err != nil {
		return err
	}
	return w.rewrite(text)
}

// rewrite replaces the header at the start, where that can be done.
func (w *Writer) rewrite(text []byte) error {
	if w.base < 0 || len(text) > w.slot {
		return nil // TAIL has it
	}
	s := w.w.(io.WriteSeeker)
	if _, w.err = s.Seek(w.base+int64(prologueSize), io.SeekStart); w.err != nil {
		return w.err
	}
	if _, w.err = s.Write(headFrame(text, w.slot)); w.err != nil {
		return w.err
	}
	_, w.err = s.Seek(w.base+w.offset, io.SeekStart)
	return w.err
}

// tail is what the TAIL frame says, in front of the header.
type tail struct {
	index  uint64 // offset of the first INDX frame, or of TAIL where there is none
	blocks uint64
	ops    uint64
	sum    uint32 // CRC-32C of all entries of the index
}

func (t tail) append(dst []byte) []byte {
	for _, v := range []uint64{t.index, t.blocks, t.ops} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	return binary.LittleEndian.AppendUint32(dst, t.sum)
}

const tailSize = 28

// parseTail reads the body of a TAIL frame.
func parseTail(b []byte) (t tail, h Header, err error) {
	if len(b) < tailSize {
		return t, h, fmt.Errorf("the TAIL frame has %d bytes, fewer than %d", len(b), tailSize)
	}
	t = tail{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]),
		binary.LittleEndian.Uint32(b[24:])}
	h, err = parseHeaderJSON(b[tailSize:])
	return t, h, err
}

// packer and unpacker are shared: EncodeAll and DecodeAll keep nothing.
var packer = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
		zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
})

var unpacker = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBody),
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return d
})
