package perf

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Read waits until a ring is a quarter full, at most timeout, empties the rings, and calls f
// for each record that no older one can follow, in the order of their times.
// The record is f's until f returns.
//
// It returns the time before which everything was delivered, by this call or an earlier
// one: 10 to 50 ms ago. The error is io.EOF once all tasks that were recorded have ended
// and f had all that they wrote.
func (s *Session) Read(timeout time.Duration, f func(*Record)) (bound uint64, err error) {
	n, err := unix.Poll(s.poll, int(timeout.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return s.bound, fmt.Errorf("poll: %w", err)
	}
	if n == len(s.poll) && s.hungUp() {
		if bound, err = s.Flush(f); err == nil {
			err = io.EOF
		}
		return bound, err
	}
	safe := s.barrier.passed()
	held, err := s.fill()
	if err != nil {
		return s.bound, err
	}
	if held > s.limit { // the kernel is slow to pass the barrier: memory first, then the rings' room
		safe = s.barrier.wait()
		if _, err := s.fill(); err != nil {
			return s.bound, err
		}
	}
	if err := s.deliver(safe, f); err != nil {
		return s.bound, err
	}
	s.barrier.start()
	return s.bound, nil
}

// Flush delivers everything that was written before the call. It takes 10 to 50 ms.
func (s *Session) Flush(f func(*Record)) (bound uint64, err error) {
	safe := s.barrier.wait()
	if _, err := s.fill(); err != nil {
		return s.bound, err
	}
	err = s.deliver(safe, f)
	return s.bound, err
}

// hungUp reports whether all events' tasks have ended (perf_poll, is_event_hup).
func (s *Session) hungUp() bool {
	for i := range s.poll {
		if s.poll[i].Revents&(unix.POLLHUP|unix.POLLERR) == 0 {
			return false
		}
	}
	return true
}

// fill empties the rings, and returns how many bytes wait in the queues.
func (s *Session) fill() (held int, err error) {
	for i := range s.queues {
		q := &s.queues[i]
		if err := q.fill(s.rings[i], &s.dec); err != nil {
			return held, fmt.Errorf("CPU %d: %w", s.rings[i].cpu, err)
		}
		held += len(q.buf) - q.start
	}
	return held, nil
}

// deliver calls f for what is older than bound.
func (s *Session) deliver(bound uint64, f func(*Record)) error {
	for {
		first, until := s.firstTwo()
		if first < 0 || s.queues[first].key >= bound {
			break
		}
		// All of the first queue up to the oldest of the others: no need to look again.
		q, until := &s.queues[first], min(until, bound-1)
		for q.size > 0 && q.key <= until {
			s.deliverPosted(q.key, f)
			if err := s.deliverRecord(q, uint32(s.rings[first].cpu), f); err != nil {
				return fmt.Errorf("CPU %d: %w", s.rings[first].cpu, err)
			}
		}
	}
	s.deliverPosted(bound, f)
	s.bound = max(s.bound, bound)
	return nil
}

// firstTwo returns the queue with the oldest record, -1 if there is none, and
// up to which place its records come before those of the others. Of equals the lower CPU's is first.
func (s *Session) firstTwo() (first int, until uint64) {
	first, until = -1, math.MaxUint64
	for i := range s.queues {
		switch q := &s.queues[i]; {
		case q.size == 0:
		case first < 0:
			first = i
		case q.key < s.queues[first].key: // and all that it has before the lower CPU's
			until, first = min(until, s.queues[first].key-1), i
		default:
			until = min(until, q.key)
		}
	}
	return first, until
}

// deliverRecord decodes the first record of q and passes it to f.
func (s *Session) deliverRecord(q *queue, cpu uint32, f func(*Record)) error {
	if err := s.dec.Decode(q.record(), &s.rec); err != nil {
		return err
	}
	s.rec.CPU = cpu
	if q.key < s.last {
		s.stats.Late++
	}
	s.last = max(s.last, q.key)
	switch s.rec.Kind {
	case KindSample:
		s.seen[s.rec.Event.index]++
	case KindLost, KindLostSamples:
		s.stats.Lost += s.rec.Lost
	}
	f(&s.rec)
	return q.drop(&s.dec)
}

// Post puts v among the records, with the present time, which it returns: f gets it as a
// Record of KindPosted after all that was written before, and before all that is
// written later. So a tracer can note what it did between two stops of a task.
func (s *Session) Post(v any) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := Now() // under the lock: whoever delivers what is younger finds it
	s.posted = append(s.posted, posted{now, v})
	return now
}

// deliverPosted passes what was posted before the time to f.
func (s *Session) deliverPosted(before uint64, f func(*Record)) {
	for {
		p, ok := s.nextPosted(before)
		if !ok {
			return
		}
		s.rec = Record{Kind: KindPosted, Time: p.time, Value: p.value}
		f(&s.rec) // without the lock: f may post
	}
}

func (s *Session) nextPosted(before uint64) (p posted, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.posted) == 0 || s.posted[0].time >= before {
		return p, false
	}
	p = s.posted[0]
	s.posted[0].value = nil
	if s.posted = s.posted[1:]; len(s.posted) == 0 {
		s.posted = nil
	}
	return p, true
}
