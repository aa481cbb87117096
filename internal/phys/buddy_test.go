package phys

import (
	"math/rand/v2"
	"slices"
	"testing"

	"vmsim/mem"
)

func TestFreshOrder(t *testing.T) {
	m := newTest(t, 16*mib)
	// Single frames come in order from the smallest blocks of block 0; a page
	// cache that fills from them lies in order too.
	for want := mem.PFN(1); want < 1200; want++ {
		if p, ok := m.Alloc(); !ok || p != want {
			t.Fatalf("Alloc: frame %d, %t, want %d", p, ok, want)
		}
	}
	for want := mem.PFN(3 * 512); want < 8*512; want += 512 {
		if p, ok := m.AllocHuge(); !ok || p != want {
			t.Fatalf("AllocHuge: frame %d, %t, want %d", p, ok, want)
		}
	}
	if p, ok := m.AllocHuge(); ok || p != mem.NoFrame {
		t.Fatalf("AllocHuge: frame %d from a full arena", p)
	}
}

// TestCoalescing frees the frames of an allocated arena in a given order and
// expects a full set of blocks again.
func TestCoalescing(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, tc := range []struct {
		name  string
		order func([]mem.PFN)
	}{
		{"ascending", func(p []mem.PFN) { slices.Sort(p) }},
		{"descending", func(p []mem.PFN) { slices.Sort(p); slices.Reverse(p) }},
		{"even then odd", func(p []mem.PFN) {
			slices.SortFunc(p, func(a, b mem.PFN) int { return int(a%2*100000+a) - int(b%2*100000+b) })
		}},
		{"shuffled", func(p []mem.PFN) {
			rnd.Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const nBlocks = 6
			m := newTest(t, nBlocks*mem.HugeSize)
			for range 2 {
				frames := exhaust(t, m)
				if len(frames) != m.Frames() || m.FreeFrames() != 0 {
					t.Fatalf("%d of %d frames allocated, %d free", len(frames), m.Frames(), m.FreeFrames())
				}
				if _, ok := m.AllocHuge(); ok {
					t.Fatal("huge block from a full arena")
				}
				check(t, m)
				tc.order(frames)
				for _, p := range frames {
					if !m.Put(p) {
						t.Fatalf("frame %d: not freed", p)
					}
				}
				check(t, m)
				var blocks []mem.PFN
				for {
					h, ok := m.AllocHuge()
					if !ok {
						break
					}
					blocks = append(blocks, h)
				}
				if len(blocks) != nBlocks-1 {
					t.Fatalf("%d huge blocks of %d came back: %v", len(blocks), nBlocks-1, blocks)
				}
				check(t, m)
				for _, h := range blocks {
					m.PutBlock(h)
				}
				check(t, m)
			}
		})
	}
}

// exhaust allocates single frames until there are none; each is new.
func exhaust(t *testing.T, m *Memory) []mem.PFN {
	t.Helper()
	var all []mem.PFN
	seen := make(map[mem.PFN]bool)
	for {
		p, ok := m.Alloc()
		if !ok {
			return all
		}
		if seen[p] || p == mem.NoFrame {
			t.Fatalf("frame %d allocated twice, or reserved", p)
		}
		seen[p] = true
		all = append(all, p)
	}
}

// TestHighWaterMark: reuse comes before new memory.
func TestHighWaterMark(t *testing.T) {
	m := newTest(t, 1<<30)
	for range 1000 {
		h, ok := m.AllocHuge()
		if !ok {
			t.Fatal("no huge block")
		}
		var frames []mem.PFN
		for range 400 {
			p, _ := m.Alloc()
			frames = append(frames, p)
		}
		for _, p := range frames {
			m.Put(p)
		}
		m.PutBlock(h)
	}
	if m.top > 2*mem.SubPages {
		t.Errorf("high-water mark %d, want at most two blocks", m.top)
	}
	for p := m.top; int(p) < len(m.frames); p++ {
		if m.frames[p] != (Frame{}) {
			t.Fatalf("frame %d above the high-water mark: %+v", p, m.frames[p])
		}
	}
}

func TestDeterminism(t *testing.T) {
	run := func() (got []mem.PFN) {
		m := newTest(t, 6*mib)
		rnd := rand.New(rand.NewPCG(3, 4))
		var live []mem.PFN
		for range 20000 {
			if rnd.IntN(100) < 55 {
				p, ok := m.Alloc()
				got = append(got, p)
				if ok {
					live = append(live, p)
				}
				continue
			}
			if len(live) > 0 {
				i := rnd.IntN(len(live))
				m.Put(live[i])
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			}
			if rnd.IntN(50) == 0 {
				h, ok := m.AllocHuge()
				got = append(got, h)
				if ok {
					m.PutBlock(h)
				}
			}
		}
		return got
	}
	if a, b := run(), run(); !slices.Equal(a, b) {
		t.Error("the same calls gave different frames")
	}
}
