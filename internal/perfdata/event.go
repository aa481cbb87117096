package perfdata

import (
	"encoding/binary"
	"fmt"

	"vmsim/internal/perf"
)

// Limits of what a file may describe: perf itself opens an event on each CPU, and keeps
// its file descriptors open.
const (
	maxEvents = 1 << 12
	maxIDs    = 1 << 20
)

// described is an event as the file describes it.
type described struct {
	name string
	attr perf.Attr
	ids  []uint64
}

// readAttrs reads the events of a file: struct perf_event_attr and the section of its
// ids, over and over.
func (f *File) readAttrs() error {
	const idsSection = 16
	h := &f.header
	if h.attrSize < perf.MinAttrSize+idsSection || h.attrSize > perf.MaxAttrSize+idsSection {
		return fmt.Errorf("%w at 0x10: attributes of %d bytes", ErrDamaged, h.attrSize)
	}
	if h.attrs.size == 0 || h.attrs.size%h.attrSize != 0 || h.attrs.size/h.attrSize > maxEvents {
		return fmt.Errorf("%w at 0x20: %d bytes of attributes, of %d each", ErrDamaged, h.attrs.size, h.attrSize)
	}
	b, err := read(f.r, f.size, h.attrs, h.attrs.size)
	if err != nil {
		return fmt.Errorf("attributes: %w", err)
	}
	for ; len(b) > 0; b = b[h.attrSize:] {
		ids := b[h.attrSize-idsSection:]
		at := section{binary.LittleEndian.Uint64(ids), binary.LittleEndian.Uint64(ids[8:])}
		raw, err := read(f.r, f.size, at, 8*maxIDs)
		if err != nil {
			return fmt.Errorf("ids of event %d: %w", len(f.described), err)
		}
		if err := f.describe(b[:h.attrSize-idsSection], raw); err != nil {
			return err
		}
	}
	return nil
}

// describe adds an event with the attributes and the ids in those bytes.
func (f *File) describe(attr, ids []byte) error {
	// A newer perf has more attributes than an older file; attr.size says how many.
	a, err := perf.ParseAttr(attr)
	if err != nil {
		return fmt.Errorf("%w: event %d: %w", ErrDamaged, len(f.described), err)
	}
	if len(f.described) == maxEvents || f.ids+len(ids)/8 > maxIDs {
		return fmt.Errorf("%w: more than %d events, or %d ids", ErrDamaged, maxEvents, maxIDs)
	}
	d := described{attr: a}
	for ; len(ids) >= 8; ids = ids[8:] {
		d.ids = append(d.ids, binary.LittleEndian.Uint64(ids))
	}
	f.ids += len(d.ids)
	for _, id := range d.ids {
		f.owner[id] = len(f.described)
	}
	f.described = append(f.described, d)
	return nil
}

// addEvents makes the decoder, once all that the file says of its events is known.
func (f *File) addEvents() error {
	if len(f.described) == 0 {
		return fmt.Errorf("%w: it describes no event", ErrDamaged)
	}
	for i := range f.described {
		d := &f.described[i]
		var point *perf.Tracepoint
		if d.attr.Type == typeTracepoint {
			point = f.points[d.attr.Config]
		}
		e, err := perf.NewEvent(d.name, d.attr, point)
		if err != nil {
			return err
		}
		if err := f.dec.Add(e, d.ids...); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
	}
	f.ready = true
	f.findMissing()
	return nil
}

// byID returns the event with that id, nil if there is none.
func (f *File) byID(id uint64) *described {
	if i, ok := f.owner[id]; ok {
		return &f.described[i]
	}
	return nil
}
