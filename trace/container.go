package trace

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// The binary form of a trace, byte by byte in docs/trace-format.md:
//
//	magic, version            12 bytes
//	HEAD  JSON of the Header, in a slot that Close writes again
//	BLOK  up to 64 Ki operations, readable without any other block
//	...
//	INDX  of each block: where it is, its times, its processes
//	...
//	TAIL  totals, the Header as it was at the end
//	offset of TAIL            16 bytes
//
// Everything between is in frames: a tag, the length of the body, and two
// checksums, so that a flipped byte is found before a length is believed.

// ContainerMagic are the first bytes of the binary form. The first is no text,
// and the ends of lines show a transfer that changes them, as in PNG.
const ContainerMagic = "\x89VMT\r\n\x1a\n"

// ContainerVersion is the version of the binary form that is written and read.
const ContainerVersion = 2

// Bounds of the binary form. A reader refuses what is larger before it allocates.
const (
	maxBody      = 4 << 20 // bytes of a frame's body, and of a block when unpacked
	maxBlockOps  = 1 << 20
	maxHeader    = 1 << 20  // bytes of the header's JSON
	blockOps     = 64 << 10 // operations after which a writer ends a block
	blockBytes   = 512 << 10
	indexBytes   = 256 << 10 // after which a writer ends an INDX frame
	prologueSize = len(ContainerMagic) + 4
	frameSize    = 16
	trailerSize  = 16
	slotAlign    = 4096 // the first block starts at a multiple of it
)

// Tags of frames.
const (
	tagHead  = "HEAD"
	tagBlock = "BLOK"
	tagIndex = "INDX"
	tagTail  = "TAIL"
	tagEnd   = "\x00END"
)

// castagnoli is CRC-32C, as in iSCSI: a single instruction on x86-64.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// DamageError says where a binary trace cannot be read any further. What came
// before is whole.
type DamageError struct {
	File   string
	Offset int64  // byte of the frame that is damaged or missing
	Ops    uint64 // operations before it
	Msg    string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("%s: damaged at byte %d, behind %d operations: %s", e.File, e.Offset, e.Ops, e.Msg)
}

// VersionError says that a binary trace is of a version that this program does
// not read.
type VersionError struct {
	File    string
	Version uint32
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s: version %d of the format is unknown: this program reads %d",
		e.File, e.Version, ContainerVersion)
}

// sealFrame completes a frame: frameSize bytes of room, and the body.
func sealFrame(frame []byte, tag string) []byte {
	copy(frame, tag)
	body := frame[frameSize:]
	binary.LittleEndian.PutUint32(frame[4:], uint32(len(body)))
	binary.LittleEndian.PutUint32(frame[8:], checksum(body))
	binary.LittleEndian.PutUint32(frame[12:], checksum(frame[:12]))
	return frame
}

// frameHead is the fixed part of a frame.
type frameHead struct {
	tag  string
	size int // of the body, at most maxBody
	sum  uint32
}

// parseFrameHead reads frameSize bytes. Its error has no position.
func parseFrameHead(b []byte) (h frameHead, err error) {
	if checksum(b[:12]) != binary.LittleEndian.Uint32(b[12:]) {
		return h, fmt.Errorf("the head of a frame has another checksum than it says")
	}
	h.tag, h.sum = string(b[:4]), binary.LittleEndian.Uint32(b[8:])
	switch h.tag {
	case tagHead, tagBlock, tagIndex, tagTail:
	default:
		return h, fmt.Errorf("a frame of kind %q is not known", h.tag)
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n > maxBody {
		return h, fmt.Errorf("a frame of %d bytes is larger than %d", n, maxBody)
	}
	h.size = int(n)
	return h, nil
}

// check compares a body with the checksum of its frame.
func (h frameHead) check(body []byte) error {
	if checksum(body) != h.sum {
		return fmt.Errorf("the %s frame has another checksum than it says", h.tag)
	}
	return nil
}

// trailer returns the last bytes of a file whose TAIL frame is at offset.
func trailer(offset int64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(offset))
	b = append(b, tagEnd...)
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// parseTrailer is the inverse of trailer.
func parseTrailer(b []byte) (offset int64, err error) {
	if checksum(b[:12]) != binary.LittleEndian.Uint32(b[12:]) || string(b[8:12]) != tagEnd {
		return 0, fmt.Errorf("the last %d bytes are no end of a trace", trailerSize)
	}
	n := binary.LittleEndian.Uint64(b)
	if n > 1<<62 {
		return 0, fmt.Errorf("the end of the trace points to byte %d", n)
	}
	return int64(n), nil
}

// readBody reads n bytes into buf, growing it as they come: a length that lies
// costs no memory.
func readBody(r io.Reader, buf []byte, n int) ([]byte, error) {
	const step = 1 << 20
	buf = buf[:0]
	for len(buf) < n {
		at, more := len(buf), min(n-len(buf), step)
		if cap(buf)-at < more {
			grown := make([]byte, at, at+max(more, min(at, n-at)))
			copy(grown, buf)
			buf = grown
		}
		m, err := io.ReadFull(r, buf[at:at+more])
		if buf = buf[:at+m]; err != nil {
			return buf, err
		}
	}
	return buf, nil
}
