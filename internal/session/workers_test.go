package session

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// TestTurns: however long each takes, all are passed on in order and one by one,
// and nobody gets further ahead than there is room.
func TestTurns(t *testing.T) {
	r := newRand(seed(t), 0)
	for range rounds(hardening(t), 50) {
		n, workers, room := r.IntN(300), 2+r.IntN(4), 1+r.IntN(9)
		stopAt := r.IntN(2 * (n + 1)) // half of the time behind the end
		var got []int
		passing := false
		q := turns{left: n, outcomes: make([]Outcome, room), ready: make([]bool, room)}
		q.room.L = &q.mu
		q.each = func(i int, o Outcome) {
			if passing || o.Result.Pages != i {
				t.Errorf("outcome %d is of %d; another at the same time: %v", i, o.Result.Pages, passing)
			}
			passing = true
			runtime.Gosched()
			got = append(got, i)
			passing = false
		}
		q.stop = func() bool { return len(got) == stopAt }
		var wg sync.WaitGroup
		for w := range workers {
			naps := rand.New(rand.NewPCG(uint64(n), uint64(w)))
			wg.Go(func() {
				for i, ok := q.take(); ok; i, ok = q.take() {
					q.mu.Lock()
					if q.next-q.due > room {
						t.Errorf("%d are taken and not passed on, with room for %d", q.next-q.due, room)
					}
					q.mu.Unlock()
					for range naps.IntN(20) {
						runtime.Gosched()
					}
					q.put(i, Outcome{Result: FileResult{Pages: i}})
				}
			})
		}
		wg.Wait()
		want := n
		if stopAt > 0 {
			want = min(n, stopAt)
		}
		if len(got) != want || !slices.IsSorted(got) {
			t.Fatalf("%d sources, %d workers, room %d, stop at %d: passed on %d: %v", n, workers, room, stopAt, len(got), got)
		}
	}
}
