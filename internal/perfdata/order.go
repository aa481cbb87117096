package perfdata

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"vmsim/internal/perf"
)

// maxHeld is how many bytes of records wait to be put in order, at most. It is far more than
// the rings of perf hold, of which a round has at most one filling; in a file without
// rounds, records that are further apart come late.
const maxHeld = 256 << 20

// order puts records in the order of their times. Compare
// tools/perf/util/ordered-events.c:ordered_events__flush.
type order struct {
	f  *File
	fn func(*perf.Record) error

	limit   int    // of bytes
	bytes   []byte // of records
	entries []entry
	until   uint64 // youngest record of the rounds before the one that is read: all older ones are there
	newest  uint64 // youngest record so far
	last    uint64 // time of the one that was delivered last
	rec     perf.Record

	bad  error // the first record that could not be decoded
	stop error // of fn
}

// entry is one record that waits.
type entry struct {
	time uint64
	off  int // in order.bytes
	size int
	at   int64 // in the file; inside compressed bytes, of the record that has them
}

// add takes the record in b, which it copies.
func (o *order) add(h perf.Header, b []byte, at int64) error {
	time := o.f.dec.Time(h, b)
	if time == 0 || time == math.MaxUint64 { // perf's own, of before it began
		o.deliver(b, at)
		return o.done()
	}
	if len(o.bytes)+len(b) > o.limit {
		if err := o.half(); err != nil {
			return err
		}
	}
	o.newest = max(o.newest, time)
	o.entries = append(o.entries, entry{time, len(o.bytes), len(b), at})
	o.bytes = append(o.bytes, b...)
	return nil
}

// round delivers what no later record can precede: what is not younger than
// the youngest of the round before.
func (o *order) round() error {
	o.sort()
	n, _ := slices.BinarySearchFunc(o.entries, o.until, func(e entry, until uint64) int {
		if e.time <= until {
			return -1
		}
		return 1
	})
	o.until = o.newest
	return o.flushTo(n)
}

// half delivers the older half, so that there is room.
func (o *order) half() error {
	o.sort()
	return o.flushTo((len(o.entries) + 1) / 2)
}

// flush delivers everything.
func (o *order) flush() error {
	o.sort()
	if err := o.flushTo(len(o.entries)); err != nil && o.stop != nil {
		return err
	}
	return nil
}

// sort orders by time, and equals as they are in the file.
func (o *order) sort() {
	slices.SortFunc(o.entries, func(a, b entry) int {
		if c := cmp.Compare(a.time, b.time); c != 0 {
			return c
		}
		return cmp.Compare(a.off, b.off)
	})
}

// flushTo delivers the first n entries and moves the others to the front.
func (o *order) flushTo(n int) error {
	for _, e := range o.entries[:n] {
		if e.time < o.last {
			o.f.facts.Late++
		}
		o.last = max(o.last, e.time)
		o.deliver(o.bytes[e.off:e.off+e.size], e.at)
		if o.stop != nil {
			return o.stop
		}
	}
	o.keep(n)
	return o.done()
}

// keep drops the first n entries.
func (o *order) keep(n int) {
	rest := o.entries[n:]
	if len(rest) == 0 {
		o.entries, o.bytes = o.entries[:0], o.bytes[:0]
		return
	}
	// Offsets stay in the order of the file: they break ties.
	byOff := slices.Clone(rest)
	slices.SortFunc(byOff, func(a, b entry) int { return cmp.Compare(a.off, b.off) })
	end := 0
	for i := range byOff {
		e := &byOff[i]
		copy(o.bytes[end:], o.bytes[e.off:e.off+e.size])
		e.off = end
		end += e.size
	}
	o.bytes = o.bytes[:end]
	o.entries = append(o.entries[:0], byOff...)
}

// deliver decodes the record in b and passes it to fn. A record that cannot be decoded is
// passed over: those that come before it in the file may be delivered after it.
func (o *order) deliver(b []byte, at int64) {
	if o.stop != nil {
		return
	}
	if err := o.f.dec.Decode(b, &o.rec); err != nil {
		if o.bad == nil {
			o.bad = fmt.Errorf("%w at %#x: %w", ErrDamaged, at, err)
		}
		return
	}
	switch o.rec.Kind {
	case perf.KindLost:
		o.f.facts.Lost += o.rec.Lost
	case perf.KindLostSamples:
		o.f.facts.LostSamples += o.rec.Lost
	case perf.KindThrottle:
		o.f.facts.Throttled++
	}
	o.stop = o.fn(&o.rec)
}

// done returns why reading ends here, if it does.
func (o *order) done() error {
	if o.stop != nil {
		return o.stop
	}
	return o.bad
}
