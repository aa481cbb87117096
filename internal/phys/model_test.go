package phys

import (
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"

	"vmsim/mem"
)

// model is what a Memory should be: the live frames with their references and
// what their owner wrote to entry and page. The order of live frames is that of
// their allocation, so that rapid can shrink.
type model struct {
	m      *Memory
	live   []mem.PFN
	frames map[mem.PFN]*owned
	blocks int
	stamp  uint64
}

type owned struct {
	refs  uint32
	entry Frame // the exported fields
	stamp uint64
}

// added records that p was allocated, and stamps it.
func (s *model) added(t *rapid.T, p mem.PFN) {
	switch {
	case p == mem.NoFrame || int(p) > s.m.Frames():
		t.Fatalf("frame %d allocated: not in the arena", p)
	case s.frames[p] != nil:
		t.Fatalf("frame %d allocated: it is live", p)
	case *s.m.Frame(p) != Frame{refs: 1, state: stateAllocated}:
		t.Fatalf("frame %d allocated with entry %+v", p, *s.m.Frame(p))
	}
	s.stamp++
	o := &owned{
		refs:  1,
		stamp: s.stamp,
		entry: Frame{File: uint32(s.stamp), Index: uint32(p), Valid: uint16(s.stamp % 4097), Flags: Flags(s.stamp % 16)},
	}
	f := s.m.Frame(p)
	f.File, f.Index, f.Valid, f.Flags = o.entry.File, o.entry.Index, o.entry.Valid, o.entry.Flags
	page := s.m.Page(p)
	binary.LittleEndian.PutUint64(page, o.stamp)
	binary.LittleEndian.PutUint64(page[mem.PageSize-8:], o.stamp)
	s.frames[p] = o
	s.live = append(s.live, p)
}

// dropped takes a reference from the model and reports whether it was the last.
func (s *model) dropped(p mem.PFN) bool {
	o := s.frames[p]
	o.refs--
	if o.refs > 0 {
		return false
	}
	delete(s.frames, p)
	for i, q := range s.live {
		if q == p {
			s.live = append(s.live[:i], s.live[i+1:]...)
			break
		}
	}
	return true
}

// wholeBlock returns the first block, from block b round, of which all 512
// frames are live (want 512) or free (want 0); false if there is none.
func (s *model) wholeBlock(b, want int) (mem.PFN, bool) {
	for i := range s.blocks {
		first := mem.PFN((b + i) % s.blocks * mem.SubPages)
		n := 0
		for p := first; p < first+mem.SubPages; p++ {
			if s.frames[p] != nil {
				n++
			}
		}
		if first != 0 && n == want {
			return first, true
		}
	}
	return 0, false
}

// pick draws a live frame, false if there is none.
func (s *model) pick(t *rapid.T) (mem.PFN, bool) {
	if len(s.live) == 0 {
		return mem.NoFrame, false
	}
	return s.live[rapid.IntRange(0, len(s.live)-1).Draw(t, "live")], true
}

// check compares the Memory with the model, frame by frame.
func (s *model) check(t *rapid.T) {
	check(t, s.m)
	if got, want := s.m.FreeFrames(), s.m.Frames()-len(s.live); got != want {
		t.Fatalf("%d frames free, want %d", got, want)
	}
	for p := mem.PFN(1); int(p) <= s.m.Frames(); p++ {
		o := s.frames[p]
		if o == nil {
			if s.m.Refs(p) != 0 {
				t.Fatalf("frame %d: free with %d references", p, s.m.Refs(p))
			}
			continue
		}
		want := o.entry
		want.refs, want.state = int32(o.refs), stateAllocated
		if got := *s.m.Frame(p); got != want {
			t.Fatalf("frame %d: entry %+v, want %+v", p, got, want)
		}
		page := s.m.Page(p)
		if a, b := binary.LittleEndian.Uint64(page), binary.LittleEndian.Uint64(page[mem.PageSize-8:]); a != o.stamp || b != o.stamp {
			t.Fatalf("frame %d: its content was overwritten", p)
		}
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blocks := rapid.IntRange(1, 4).Draw(t, "blocks")
		m, err := newMemory(uint64(blocks)*mem.HugeSize, rapid.IntRange(1, 3).Draw(t, "CPUs"))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		s := &model{m: m, frames: make(map[mem.PFN]*owned), blocks: blocks}

		alloc := func(t *rapid.T) bool {
			p, ok := m.Alloc()
			if want := len(s.live) < m.Frames(); ok != want {
				t.Fatalf("Alloc: %t with %d of %d frames live", ok, len(s.live), m.Frames())
			}
			if ok {
				s.added(t, p)
			}
			return ok
		}
		put := func(t *rapid.T, p mem.PFN) {
			if got, want := m.Put(p), s.dropped(p); got != want {
				t.Fatalf("Put of frame %d: freed %t, want %t", p, got, want)
			}
		}

		t.Repeat(map[string]func(*rapid.T){
			"": s.check,
			"alloc": func(t *rapid.T) {
				alloc(t)
			},
			"alloc many": func(t *rapid.T) {
				for range rapid.IntRange(1, 600).Draw(t, "n") {
					if !alloc(t) {
						return
					}
				}
			},
			"get": func(t *rapid.T) {
				if p, ok := s.pick(t); ok {
					m.Get(p)
					s.frames[p].refs++
				}
			},
			"put": func(t *rapid.T) {
				if p, ok := s.pick(t); ok {
					put(t, p)
				}
			},
			"put many": func(t *rapid.T) {
				step := rapid.IntRange(1, 600).Draw(t, "step")
				i := 0
				for range rapid.IntRange(1, 600).Draw(t, "n") {
					if len(s.live) == 0 {
						return
					}
					i = (i + step) % len(s.live)
					put(t, s.live[i])
				}
			},
			"alloc huge": func(t *rapid.T) {
				// With full coalescing, one free block is all it takes.
				_, want := s.wholeBlock(0, 0)
				first, ok := m.AllocHuge()
				if ok != want {
					t.Fatalf("AllocHuge: %t, want %t", ok, want)
				}
				if !ok {
					return
				}
				if first%mem.SubPages != 0 {
					t.Fatalf("AllocHuge: frame %d", first)
				}
				for i := range mem.PFN(mem.SubPages) {
					s.added(t, first+i)
				}
			},
			"get block": func(t *rapid.T) {
				first, ok := s.wholeBlock(rapid.IntRange(0, blocks-1).Draw(t, "block"), mem.SubPages)
				if !ok {
					return
				}
				m.GetBlock(first)
				for i := range mem.PFN(mem.SubPages) {
					s.frames[first+i].refs++
				}
			},
			"put block": func(t *rapid.T) {
				first, ok := s.wholeBlock(rapid.IntRange(0, blocks-1).Draw(t, "block"), mem.SubPages)
				if !ok {
					return
				}
				want := 0
				for i := range mem.PFN(mem.SubPages) {
					if s.dropped(first + i) {
						want++
					}
				}
				if got := m.PutBlock(first); got != want {
					t.Fatalf("PutBlock of frame %d: %d freed, want %d", first, got, want)
				}
			},
			"switch CPU": func(t *rapid.T) {
				m.cpu = &m.cpus[rapid.IntRange(0, len(m.cpus)-1).Draw(t, "CPU")]
			},
			"reset": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") != 0 {
					return // rarely, or no run gets anywhere
				}
				m.Reset()
				clear(s.frames)
				s.live = s.live[:0]
			},
		})
	})
}
