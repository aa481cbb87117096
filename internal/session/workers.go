package session

import "sync"

// VerifyAll verifies sources with up to jobs machines at a time and gives what
// became of them to each, in order and one by one, with the index in sources.
// stop ends it early when it returns true; it is asked before each. With events
// it takes one file at a time, so that those of one come after those of another.
func VerifyAll(opt Options, sources []Source, jobs int, each func(int, Outcome), stop func() bool) error {
	if opt.Events != nil {
		jobs = 1
	}
	rigs, err := newRigs(opt, max(1, min(jobs, len(sources))))
	if err != nil {
		return err
	}
	defer closeRigs(rigs)
	verifyWith(rigs, sources, each, stop)
	return nil
}

func newRigs(opt Options, n int) ([]*Rig, error) {
	var rigs []*Rig
	for range n {
		rig, err := NewRig(opt)
		if err != nil {
			closeRigs(rigs)
			return nil, err
		}
		rigs = append(rigs, rig)
	}
	return rigs, nil
}

func closeRigs(rigs []*Rig) {
	for _, rig := range rigs {
		rig.Close()
	}
}

// verifyWith is VerifyAll with the machines there are. One of them needs no other
// goroutine: a corpus is mostly files that are no ELF, and handing each over
// takes longer than looking at it.
func verifyWith(rigs []*Rig, sources []Source, each func(int, Outcome), stop func() bool) {
	if len(rigs) == 1 {
		for i, s := range sources {
			if stop() {
				return
			}
			each(i, rigs[0].verifySource(s))
		}
		return
	}
	if stop() {
		return
	}
	t := turns{each: each, stop: stop, left: len(sources), outcomes: make([]Outcome, ahead*len(rigs)), ready: make([]bool, ahead*len(rigs))}
	t.room.L = &t.mu
	var wg sync.WaitGroup
	for _, rig := range rigs {
		wg.Go(func() {
			for i, ok := t.take(); ok; i, ok = t.take() {
				t.put(i, rig.verifySource(sources[i]))
			}
		})
	}
	wg.Wait()
}

// ahead is how many outcomes, per machine, wait for that of an earlier file.
const ahead = 64

// turns hands out the indexes of sources and passes on what became of them in
// order. Whoever brings the one that is due passes it on, and what waits behind
// it, while the others go on.
type turns struct {
	each func(int, Outcome)
	stop func() bool

	mu       sync.Mutex
	room     sync.Cond
	next     int // to be taken
	due      int // to be passed on
	left     int // not taken
	stopped  bool
	outcomes []Outcome // by index modulo their number
	ready    []bool
}

// take returns the next index. It waits where that is too far ahead, and is false
// at the end.
func (t *turns) take() (int, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.next-t.due >= len(t.ready) && !t.stopped {
		t.room.Wait()
	}
	if t.left == 0 || t.stopped {
		return 0, false
	}
	t.next++
	t.left--
	return t.next - 1, true
}

// put takes an outcome, and passes on what is due. While somebody is at it, the
// one that is due is no longer ready: nobody else is.
func (t *turns) put(i int, o Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcomes[i%len(t.ready)], t.ready[i%len(t.ready)] = o, true
	for at := t.due % len(t.ready); t.ready[at] && !t.stopped; at = t.due % len(t.ready) {
		o := t.outcomes[at]
		t.outcomes[at], t.ready[at] = Outcome{}, false
		t.mu.Unlock()
		t.each(t.due, o)
		stopped := t.stop()
		t.mu.Lock()
		t.due++
		t.stopped = stopped
		t.room.Broadcast()
	}
}
