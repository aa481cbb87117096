package perf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// HeaderSize is the size of struct perf_event_header, in bytes.
const HeaderSize = 8

// maxRecord is more than any record has: header.size has 16 bits.
const maxRecord = 1 << 16

// Returned by Decode and Add, wrapped.
var (
	// ErrShort: the record ends before what it must hold.
	ErrShort = errors.New("the record is too short")

	// ErrEvent: no event that is known wrote this record, or it cannot be told which.
	ErrEvent = errors.New("unknown event")
)

// Header is the head of each record.
type Header struct {
	Kind Kind
	Misc uint16
	Size int // of the record with its header, in bytes
}

// ParseHeader returns the header that b starts with. The error is ErrShort: b has
// fewer than 8 bytes, or the size in it is below 8.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes of a header", ErrShort, len(b))
	}
	h := Header{
		Kind: Kind(binary.LittleEndian.Uint32(b)),
		Misc: binary.LittleEndian.Uint16(b[4:]),
		Size: int(binary.LittleEndian.Uint16(b[6:])),
	}
	if h.Size < HeaderSize {
		return Header{}, fmt.Errorf("%w: a size of %d in its header", ErrShort, h.Size)
	}
	return h, nil
}

// Decoder turns the bytes of records into Records. Add the events first.
type Decoder struct {
	events []*Event
	byID   map[uint64]*Event
	lastID uint64 // of last, so that a run of one event's samples needs no look-up
	last   *Event

	// Where each record has its event's id, in samples and before the end of others: the
	// same for all events, since only the id tells whose it is.
	hasID           bool
	idSample, idEnd int
}

// Add makes records with one of these ids the event's. Events that differ in where
// their records have ids are refused, as is one without sample_id_all,
// whose records have no trailer.
func (d *Decoder) Add(e *Event, ids ...uint64) error {
	if e.Attr.Flags&unix.PerfBitSampleIDAll == 0 {
		return fmt.Errorf("%s: sample_id_all is off: its records do not say when and where", e.Name)
	}
	idSample, idEnd, hasID := e.Attr.idAt()
	if len(d.events) == 0 {
		d.idSample, d.idEnd, d.hasID = idSample, idEnd, hasID
		d.byID = make(map[uint64]*Event)
	}
	switch first := d.events; {
	case len(first) == 0:
	case !hasID || !d.hasID:
		return fmt.Errorf("%s: %w: there are several, and records do not say whose they are", e.Name, ErrEvent)
	case idSample != d.idSample || idEnd != d.idEnd:
		return fmt.Errorf("%s: %w: its records have their ids elsewhere than those of %s", e.Name, ErrEvent, first[0].Name)
	}
	e.index = len(d.events)
	d.events = append(d.events, e)
	for _, id := range ids {
		d.byID[id] = e
	}
	return nil
}

// Events returns the events in the order in which they were added.
func (d *Decoder) Events() []*Event { return d.events }

// Time returns the time of the record in b, which is whole, and 0 where it has
// none or is too short: Decode says so.
func (d *Decoder) Time(h Header, b []byte) uint64 {
	e, _, err := d.event(h, b)
	if err != nil || !e.hasTime {
		return 0
	}
	at := len(b) - e.timeEnd
	if h.Kind == KindSample {
		at = HeaderSize + e.timeSample
	}
	if at < HeaderSize || at+8 > len(b) {
		return 0
	}
	return binary.LittleEndian.Uint64(b[at:])
}

// Decode reads the record in b, whole and no longer than that, into r, which it
// overwrites. Slices in r are of b. On an error r holds no more than the header.
func (d *Decoder) Decode(b []byte, r *Record) error {
	*r = Record{}
	h, err := ParseHeader(b)
	if err != nil {
		return err
	}
	if h.Size != len(b) {
		return fmt.Errorf("%w: %d bytes, and its header says %d", ErrShort, len(b), h.Size)
	}
	if err := d.decode(h, b, r); err != nil {
		*r = Record{Kind: h.Kind, Misc: h.Misc}
		return fmt.Errorf("%v: %w", h.Kind, err)
	}
	return nil
}

func (d *Decoder) decode(h Header, b []byte, r *Record) error {
	r.Kind, r.Misc = h.Kind, h.Misc
	e, id, err := d.event(h, b)
	if err != nil {
		return err
	}
	r.Event, r.ID = e, id
	if h.Kind == KindSample {
		if err := sample(&e.Attr, b, r); err != nil {
			return err
		}
		return e.payload(r)
	}
	size := e.Attr.trailerSize()
	if len(b)-HeaderSize < size {
		return fmt.Errorf("%w: %d bytes, of which the trailer needs %d", ErrShort, len(b)-HeaderSize, size)
	}
	body := cursor{b: b[HeaderSize : len(b)-size]}
	trailer(&e.Attr, b[len(b)-size:], r)
	return content(&body, r)
}

// event returns the event that wrote the record.
func (d *Decoder) event(h Header, b []byte) (*Event, uint64, error) {
	if len(d.events) == 0 {
		return nil, 0, ErrEvent
	}
	if !d.hasID {
		return d.events[0], 0, nil
	}
	at := len(b) - d.idEnd
	if h.Kind == KindSample {
		at = HeaderSize + d.idSample
	}
	if at < HeaderSize || at+8 > len(b) {
		return nil, 0, fmt.Errorf("%w: no room for the id of its event", ErrShort)
	}
	id := binary.LittleEndian.Uint64(b[at:])
	if id == d.lastID && d.last != nil {
		return d.last, id, nil
	}
	e := d.byID[id]
	if e == nil {
		// perf's own records of what was there before it began have the id 0; with one
		// event alone ids tell nothing.
		if id != 0 && len(d.events) > 1 || id == 0 && h.Kind == KindSample && len(d.events) > 1 {
			return nil, 0, fmt.Errorf("%w: id %d", ErrEvent, id)
		}
		return d.events[0], id, nil
	}
	d.last, d.lastID = e, id
	return e, id, nil
}

// trailer reads struct sample_id, for which b has exactly the room.
func trailer(a *Attr, b []byte, r *Record) {
	c := cursor{b: b}
	if a.Has(unix.PERF_SAMPLE_TID) {
		r.PID, r.TID = c.pair()
	}
	if a.Has(unix.PERF_SAMPLE_TIME) {
		r.Time = c.u64()
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
}

// content reads what is between the header and the trailer.
func content(c *cursor, r *Record) error {
	switch r.Kind {
	case KindMmap, KindMmap2:
		return mapping(c, r)
	case KindComm:
		r.OfPID, r.OfTID = c.pair()
		r.Name = c.name()
	case KindFork, KindExit:
		r.TaskPID, r.ParentPID = c.pair()
		r.TaskTID, r.ParentTID = c.pair()
		c.u64() // the time, which the trailer has too
	case KindLost:
		c.u64() // the event's id
		r.Lost = c.u64()
	case KindLostSamples:
		r.Lost = c.u64()
	}
	return c.err
}

// mapping reads the contents of MMAP and MMAP2.
func mapping(c *cursor, r *Record) error {
	r.OfPID, r.OfTID = c.pair()
	r.Addr, r.Len, r.Offset = mem.VirtAddr(c.u64()), c.u64(), c.u64()
	if r.Kind == KindMmap2 {
		if r.Misc&MiscMmapBuildID != 0 {
			id := c.bytes(24)
			if c.err != nil {
				return c.err
			}
			const room = 20
			if id[0] > room {
				return fmt.Errorf("a build id of %d bytes: there is room for %d", id[0], room)
			}
			r.BuildID = id[4 : 4+int(id[0])]
		} else {
			major, minor := c.pair()
			r.Major, r.Minor = uint32(major), uint32(minor)
			r.Inode, r.InodeGen = c.u64(), c.u64()
		}
		prot, flags := c.pair()
		r.Prot, r.Flags = uint32(prot), uint32(flags)
	}
	r.Name = c.name()
	return c.err
}

// cursor reads little endian numbers one after the other. Beyond the end it
// reads zeros and keeps an error.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > len(c.b) {
		if c.err == nil {
			c.err = fmt.Errorf("%w: %d bytes where %d are needed", ErrShort, len(c.b), n)
		}
		c.b = nil
		return nil
	}
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

func (c *cursor) u64() uint64 {
	if len(c.b) < 8 {
		c.bytes(8)
		return 0
	}
	v := binary.LittleEndian.Uint64(c.b)
	c.b = c.b[8:]
	return v
}

// pair reads two numbers of 32 bits.
func (c *cursor) pair() (int32, int32) {
	v := c.u64()
	return int32(uint32(v)), int32(uint32(v >> 32))
}

// name reads a string that ends with a zero, and what is left after it: the kernel pads
// with zeros to a multiple of 8.
func (c *cursor) name() []byte {
	end := bytes.IndexByte(c.b, 0)
	if end < 0 {
		if c.err == nil {
			c.err = fmt.Errorf("%w: a name without an end", ErrShort)
		}
		return nil
	}
	name := c.b[:end:end]
	c.b = nil
	return name
}
