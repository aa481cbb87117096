package perf

import "fmt"

// Stats is how a session went.
type Stats struct {
	Ring int // size of each CPU's ring, in bytes

	// Lost counts records that the kernel had no room for. It is exact where
	// the kernel counts them by event; before Linux 6.0 those lost after
	// the last record that was written are not in it.
	Lost uint64

	// Late counts records that were delivered after a younger one: 0 where the kernel
	// has membarrier.
	Late uint64

	Events []EventStats // in the order in which they were opened
}

// EventStats is how one event went, on all CPUs and with the tasks that inherited it.
type EventStats struct {
	Event *Event
	Count uint64 // by the kernel: how often it happened
	Seen  uint64 // samples that were delivered; Count-Lost if all were
	Lost  uint64 // records that there was no room for
}

// Close ends the session. What was not delivered is dropped: read to the end, or Flush.
// It can be called again.
func (s *Session) Close() (Stats, error) {
	if s.barrier == nil {
		return s.stats, nil
	}
	err := s.counts()
	if rerr := s.release(); err == nil {
		err = rerr
	}
	return s.stats, err
}

// counts reads the kernel's own counts.
func (s *Session) counts() error {
	byEvent := map[*Event]*EventStats{}
	for _, e := range s.dec.Events() {
		s.stats.Events = append(s.stats.Events, EventStats{Event: e, Seen: s.seen[e.index]})
	}
	for i := range s.stats.Events {
		byEvent[s.stats.Events[i].Event] = &s.stats.Events[i]
	}
	var all uint64
	known := true
	for _, o := range s.fds {
		count, lost, ok, err := readCounts(o.fd)
		if err != nil {
			return fmt.Errorf("%s: read its counts: %w", o.event.Name, err)
		}
		e := byEvent[o.event]
		e.Count += count
		e.Lost += lost
		all += lost
		known = known && ok
	}
	if known {
		s.stats.Lost = all
	}
	return nil
}
