package perfdata

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"vmsim/internal/perf"
)

// feature is the number of a part of the file that describes where and how it
// was recorded (enum of HEADER_* in tools/perf/util/header.h).
type feature int

// The features that are read.
const (
	featTracingData feature = 1
	featBuildID     feature = 2
	featHostname    feature = 3
	featRelease     feature = 4
	featVersion     feature = 5
	featArch        feature = 6
	featCPUs        feature = 7
	featCommand     feature = 11
	featEvents      feature = 12
	featDirectory   feature = 24
	featCompressed  feature = 27
	numFeatures     feature = 256
)

// maxFeature bounds a feature's size, in bytes. The largest are build ids and the
// layouts of tracepoints, each a few MiB at most.
const maxFeature = 64 << 20

// readFeatures reads the table of features behind the records, and those that are of use. It
// reads what it can, and returns the first error.
func (f *File) readFeatures() error {
	if f.header.has(featDirectory) {
		return fmt.Errorf("%w: it is one file of a directory, written by perf record --threads", ErrUnsupported)
	}
	table := section{f.header.data.off + f.header.data.size, 0}
	for i := range numFeatures {
		if f.header.has(i) {
			table.size += 16
		}
	}
	entries, err := read(f.r, f.size, table, table.size)
	if err != nil {
		return fmt.Errorf("table of features: %w", err)
	}
	var first error
	for i := range numFeatures {
		if !f.header.has(i) {
			continue
		}
		at := section{binary.LittleEndian.Uint64(entries), binary.LittleEndian.Uint64(entries[8:])}
		entries = entries[16:]
		if err := f.readFeature(i, at); err != nil && first == nil {
			first = fmt.Errorf("feature %d: %w", i, err)
		}
	}
	return first
}

// readFeature reads one feature; of those that are not needed it sees that they are there.
func (f *File) readFeature(i feature, at section) error {
	if featureReaders[i] == nil && at.fits(f.size) {
		return nil
	}
	b, err := read(f.r, f.size, at, maxFeature)
	if err != nil {
		return err
	}
	return featureReaders[i](f, b)
}

// featureReaders read the contents of a feature.
var featureReaders = map[feature]func(*File, []byte) error{
	featTracingData: (*File).readTracingData,
	featBuildID:     (*File).readBuildIDs,
	featHostname:    text(func(i *Info) *string { return &i.Host }),
	featRelease:     text(func(i *Info) *string { return &i.Release }),
	featVersion:     text(func(i *Info) *string { return &i.Version }),
	featArch:        text(func(i *Info) *string { return &i.Arch }),
	featCPUs:        (*File).readCPUs,
	featCommand:     (*File).readCommand,
	featEvents:      (*File).readEvents,
	featCompressed:  func(f *File, _ []byte) error { f.info.Compressed = true; return nil },
}

// text returns a reader of a string.
func text(field func(*Info) *string) func(*File, []byte) error {
	return func(f *File, b []byte) error {
		c := cursor{b: b}
		*field(&f.info) = c.text()
		return c.err
	}
}

func (f *File) readCPUs(b []byte) error {
	c := cursor{b: b}
	c.u32() // configured
	f.info.CPUs = int(c.u32())
	return c.err
}

func (f *File) readCommand(b []byte) error {
	c := cursor{b: b}
	f.info.Command = nil
	for range c.u32() {
		word := c.text()
		if c.err != nil {
			return c.err
		}
		f.info.Command = append(f.info.Command, word)
	}
	return c.err
}

// readEvents reads the names of events. In a file they are in the order of the
// attributes; ids tell which in a pipe, where the attributes may come later.
func (f *File) readEvents(b []byte) error {
	c := cursor{b: b}
	n, attrSize := c.u32(), c.u32()
	for i := range n {
		c.bytes(int(attrSize))
		ids := c.u32()
		name := c.text()
		first := c.u64s(ids)
		if c.err != nil {
			return fmt.Errorf("event %d: %w", i, c.err)
		}
		d := f.byID(first)
		if (ids == 0 || d == nil) && int(i) < len(f.described) {
			d = &f.described[i]
		}
		if d != nil {
			d.name = name
		}
	}
	return c.err
}

// BuildID is the build id of a file that samples fell into.
type BuildID struct {
	PID  int32 // -1: of the kernel, or of all processes
	ID   []byte
	Path string
}

// readBuildIDs reads struct perf_record_header_build_id, over and over.
func (f *File) readBuildIDs(b []byte) error {
	f.info.BuildIDs = nil
	for len(b) > 0 {
		h, err := perf.ParseHeader(b)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if h.Size > len(b) {
			return fmt.Errorf("%w: a build id of %d bytes in %d", ErrDamaged, h.Size, len(b))
		}
		if err := f.readBuildID(h, b[:h.Size]); err != nil {
			return err
		}
		b = b[h.Size:]
	}
	return nil
}

func (f *File) readBuildID(h perf.Header, b []byte) error {
	const room, misc = 20, 1 << 15 // PERF_RECORD_MISC_BUILD_ID_SIZE: the size is behind the id
	c := cursor{b: b[perf.HeaderSize:]}
	pid := int32(c.u32())
	id := c.bytes(24)
	if c.err != nil {
		return c.err
	}
	size := room
	if h.Misc&misc != 0 {
		size = min(int(id[room]), room)
	}
	path, _, _ := bytes.Cut(c.b, []byte{0})
	f.info.BuildIDs = append(f.info.BuildIDs, BuildID{pid, bytes.Clone(id[:size]), string(path)})
	return nil
}

// cursor reads little endian numbers, one after the other. Beyond the end it reads
// zeros and keeps an error.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > len(c.b) {
		if c.err == nil {
			c.err = fmt.Errorf("%w: %d bytes where %d are needed", ErrDamaged, len(c.b), n)
		}
		c.b = nil
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) u32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// u64s passes n numbers and returns the first.
func (c *cursor) u64s(n uint32) uint64 {
	if uint64(n)*8 > uint64(len(c.b)) {
		c.bytes(len(c.b) + 1)
		return 0
	}
	b := c.bytes(int(n) * 8)
	if len(b) == 0 {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// text reads a string: the size of its room, and the bytes up to a zero.
func (c *cursor) text() string {
	n := c.u32()
	if uint64(n) > uint64(len(c.b)) {
		c.bytes(len(c.b) + 1)
		return ""
	}
	s, _, _ := bytes.Cut(c.bytes(int(n)), []byte{0})
	return string(s)
}

// cstring reads bytes up to a zero.
func (c *cursor) cstring() string {
	end := bytes.IndexByte(c.b, 0)
	if end < 0 {
		c.bytes(len(c.b) + 1)
		return ""
	}
	return string(c.bytes(end + 1)[:end])
}

// block reads a size of 64 bits and as many bytes.
func (c *cursor) block() []byte {
	n := c.u64()
	if n > uint64(len(c.b)) {
		c.bytes(len(c.b) + 1)
		return nil
	}
	return c.bytes(int(n))
}
