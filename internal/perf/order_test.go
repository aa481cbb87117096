package perf

import (
	"cmp"
	"encoding/binary"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// fakeRing is a ring that the test writes as the kernel does.
type fakeRing struct {
	head, tail uint64
	data       []byte
}

// write appends a record, false if there is no room.
func (k *fakeRing) write(b []byte) bool {
	if k.head-k.tail+uint64(len(b)) > uint64(len(k.data)) {
		return false
	}
	for _, c := range b {
		k.data[k.head%uint64(len(k.data))] = c
		k.head++
	}
	return true
}

// newFake returns a session of n rings of size bytes.
func newFake(t testing.TB, n, size int) (*Session, []*fakeRing) {
	s := &Session{dec: *newDecoder(t, ownAttr)}
	s.queues, s.seen = make([]queue, n), make([]uint64, 4)
	var rings []*fakeRing
	for cpu := range n {
		k := &fakeRing{data: make([]byte, size)}
		rings = append(rings, k)
		s.rings = append(s.rings, &ring{cpu: cpu, head: &k.head, tail: &k.tail, data: k.data})
	}
	return s, rings
}

// lost makes a record of that time; number tells records apart, and pad makes it longer.
func lost(time, number uint64, pad int) []byte {
	b := build(KindLost, 0, 1, number, make([]byte, 8*pad), 0, time, 1)
	binary.LittleEndian.PutUint16(b[6:], uint16(len(b)))
	return b
}

// delivered is a record or, with CPU -1, a post.
type delivered struct {
	CPU    int
	Number uint64
}

// Records of several CPUs, written and read in any steps, come in the order of their times, those
// of one CPU in that of their ring, and all that are older than the bound.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(rt, "CPUs")
		s, rings := newFake(t, n, 512)
		type event struct {
			place uint64
			d     delivered
		}
		var written []event
		place := make([]uint64, n) // the largest time of each CPU so far
		var got []delivered
		now, bound := uint64(10), uint64(0)
		read := func() {
			if _, err := s.fill(); err != nil {
				rt.Fatal(err)
			}
			if err := s.deliver(bound, func(r *Record) {
				if r.Kind == KindPosted {
					got = append(got, delivered{-1, r.Value.(uint64)})
				} else {
					got = append(got, delivered{int(r.CPU), r.Lost})
				}
			}); err != nil {
				rt.Fatal(err)
			}
			slices.SortStableFunc(written, func(a, b event) int {
				// Of equal times the lower CPU's come first, and posts last.
				return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(uint(a.d.CPU), uint(b.d.CPU)))
			})
			var want []delivered
			for _, e := range written {
				if e.place < bound {
					want = append(want, e.d)
				}
			}
			if !slices.Equal(want, got) {
				rt.Fatalf("before %d (-want +got):\n%s", bound, gocmp.Diff(want, got))
			}
		}
		for number := range uint64(rapid.IntRange(1, 200).Draw(rt, "steps")) {
			switch step := rapid.IntRange(0, 9).Draw(rt, "step"); {
			case step == 0:
				bound = max(bound, now-rapid.Uint64Range(0, 3).Draw(rt, "behind"))
				read()
				now += 5 // what comes now is not before the bound
			case step == 1:
				now++
				s.posted = append(s.posted, posted{now, number})
				written = append(written, event{now, delivered{-1, number}})
			default:
				now += rapid.Uint64Range(0, 2).Draw(rt, "later")
				cpu := rapid.IntRange(0, n-1).Draw(rt, "CPU")
				time := now
				if place[cpu] > bound+2 { // the clock steps back
					time -= rapid.Uint64Range(0, 2).Draw(rt, "back")
				}
				if rings[cpu].write(lost(time, number, rapid.IntRange(0, 5).Draw(rt, "pad"))) {
					place[cpu] = max(place[cpu], time)
					written = append(written, event{place[cpu], delivered{cpu, number}})
				}
			}
		}
		bound = now + 1
		read()
		if s.stats.Late != 0 {
			rt.Errorf("%d late", s.stats.Late)
		}
		for i := range s.queues {
			if q := &s.queues[i]; q.size != 0 || len(q.buf) > 1024 {
				rt.Errorf("queue %d: %d bytes of a record, %d in all", i, q.size, len(q.buf))
			}
		}
	})
}

// A record that comes after a younger one was delivered is delivered, and counted.
func TestLate(t *testing.T) {
	s, rings := newFake(t, 2, 512)
	var got []uint64
	read := func(bound uint64) {
		if _, err := s.fill(); err != nil {
			t.Fatal(err)
		}
		if err := s.deliver(bound, func(r *Record) { got = append(got, r.Time) }); err != nil {
			t.Fatal(err)
		}
	}
	rings[0].write(lost(20, 0, 0))
	read(30)
	rings[1].write(lost(10, 1, 0))
	rings[1].write(lost(25, 2, 0))
	read(40)
	if diff := gocmp.Diff([]uint64{20, 10, 25}, got); diff != "" || s.stats.Late != 1 {
		t.Errorf("%d late (-want +got):\n%s", s.stats.Late, diff)
	}
}

// A ring with nonsense is an error that names its CPU.
func TestBadRing(t *testing.T) {
	s, rings := newFake(t, 2, 512)
	rings[1].write(make([]byte, 16))
	_, err := s.fill()
	if want := "CPU 1: ring buffer: the record is too short: a size of 0 in its header"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
