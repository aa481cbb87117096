package perf

import (
	"time"

	"golang.org/x/sys/unix"
)

// barrier tells up to which time the rings hold all records.
//
// The kernel takes a record's time first and makes the record visible later. Between
// the two its CPU may be held up, by an interrupt or, in a virtual machine, by the
// host, so that a record appears in its ring after a younger one appeared in
// another's:
//
//	CPU 0                        CPU 1                   reader
//	time = 10
//	(held up)                    time = 11
//	                             record 11 visible
//	                                                     reads both rings: 11
//	record 10 visible
//
// But both steps are in one section that is not preempted, and
// membarrier(MEMBARRIER_CMD_GLOBAL) waits until every CPU has left the one that it
// was in (synchronize_rcu). So with t taken before the call, what the rings hold
// after it is complete up to t. The call takes 8 to 25 ms, during which
// a goroutine waits and the rings are emptied as ever.
type barrier struct {
	ask  chan uint64 // times to wait for
	done chan uint64 // times that are complete; holds one
	busy bool        // one is asked for and was not taken from done
	safe uint64      // the last that was taken
}

// membarrierGlobal is MEMBARRIER_CMD_GLOBAL (include/uapi/linux/membarrier.h).
const membarrierGlobal = 1

// settle is how long a record may be held up where the kernel has no membarrier,
// which is so with nohz_full. Records that take longer are delivered late, and counted.
const settle = 50 * time.Millisecond

func newBarrier() *barrier {
	b := &barrier{ask: make(chan uint64), done: make(chan uint64, 1)}
	go func() {
		for t := range b.ask {
			if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0); errno != 0 {
				time.Sleep(settle)
			}
			b.done <- t
		}
		close(b.done)
	}()
	return b
}

// start asks for the present time, unless one is asked for.
func (b *barrier) start() {
	if !b.busy {
		b.busy = true
		b.ask <- Now()
	}
}

// passed returns the time up to which what is in the rings now is complete.
func (b *barrier) passed() uint64 {
	select {
	case b.safe = <-b.done:
		b.busy = false
	default:
	}
	return b.safe
}

// wait returns passed for a time that is not before the call.
func (b *barrier) wait() uint64 {
	now := Now()
	for b.safe < now {
		b.start()
		b.safe = <-b.done
		b.busy = false
	}
	return b.safe
}

// stop ends the goroutine and waits for it.
func (b *barrier) stop() {
	close(b.ask)
	for range b.done {
	}
}

// Now returns the time of CLOCK_MONOTONIC in ns, which records carry.
func Now() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // no Linux is without this clock
	}
	return uint64(ts.Nano())
}
