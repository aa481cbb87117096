package verify_test

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
)

// A file of 2.5 pages, mapped with 4 pages from its second page on.
func mapping() (*verify.Mapping, []byte) {
	data := make([]byte, 2*page+page/2)
	for i := range data {
		data[i] = pattern(i)
	}
	m := &verify.Mapping{Range: mem.Range{Start: 0x7000, End: 0xb000}, File: mem.NewBytesFile("x", data), Off: page}
	want := make([]byte, 4*page)
	copy(want, data[page:])
	return m, want
}

func TestCompare(t *testing.T) {
	type differs struct {
		addr   mem.VirtAddr
		beyond bool
	}
	for _, c := range []struct {
		name  string
		at    mem.VirtAddr
		pages int
		flip  []int // bytes from 0x7000 on
		want  []differs
	}{
		{"the pages that the file reaches", 0x7000, 2, nil, nil},
		{"one byte", 0x7000, 2, []int{page - 1}, []differs{{0x7000, false}}},
		{"behind the end, in the last page", 0x7000, 2, []int{page + page/2}, []differs{{0x8000, false}}},
		{"both", 0x7000, 2, []int{0, page}, []differs{{0x7000, false}, {0x8000, false}}},
		{"only the second", 0x8000, 1, []int{page}, []differs{{0x8000, false}}},
		{"pages beyond the end differ, whatever they hold", 0x7000, 4, nil, []differs{{0x9000, true}, {0xa000, true}}},
		{"all beyond", 0xa000, 1, []int{3 * page}, []differs{{0xa000, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, full := mapping()
			for _, i := range c.flip {
				full[i] ^= 1
			}
			got := full[c.at-m.Start:][:c.pages*page]
			w := verify.NewWitness(nil)
			var seen []differs
			err := w.Compare(m, c.at, got, bytes.Repeat([]byte{0xee}, len(got)), func(addr mem.VirtAddr, got, want []byte, beyond bool) {
				seen = append(seen, differs{addr, beyond})
				if !bytes.Equal(got, full[addr-m.Start:][:page]) || len(want) != page {
					t.Errorf("page %v: other bytes are shown", addr)
				}
			})
			if err != nil || !slices.Equal(seen, c.want) {
				t.Errorf("%v, %v; want %v", seen, err, c.want)
			}
			if tally := w.Tally(); tally.Pages != c.pages || tally.BytesCompared != uint64(c.pages*page) || tally.Failures != 0 {
				t.Errorf("%+v", tally)
			}
		})
	}
}

func TestDiffers(t *testing.T) {
	m, want := mapping()
	got := slices.Clone(want[page : 2*page])
	got[77] ^= 0xff
	var rec recorder
	w := verify.NewWitness(&rec)
	w.Differs(5, m, 0x8000, got, want[page:2*page])
	w.Beyond(5, 0x9000)
	e, ok := rec.events[0].(event.PageVerifyFail)
	if !ok || e.PID != 5 || e.VAddr != 0x8000 || e.FirstDiff != 77 || e.Actual != event.Byte(got[77]) || e.FileOffset != 2*page || e.VMAStart != 0x7000 {
		t.Errorf("%+v", rec.events[0])
	}
	if e, ok := rec.events[1].(event.UnmappedVerifyFail); !ok || e.VAddr != 0x9000 || w.Tally().Failures != 2 {
		t.Errorf("%+v", rec.events[1])
	}
}

// Spans against its definition, byte by byte.
func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 40).Draw(t, "n")
		got, want := make([]byte, n), make([]byte, n)
		for i := range got {
			got[i] = byte(rapid.IntRange(0, 1).Draw(t, "byte"))
		}
		join := rapid.IntRange(0, 9).Draw(t, "join")
		covered := make([]bool, n)
		last := -1000
		for _, s := range verify.Spans(got, want, join) {
			if s.From >= s.To || got[s.From] == want[s.From] || got[s.To-1] == want[s.To-1] {
				t.Fatalf("span %v begins or ends with an equal byte", s)
			}
			if s.From-last < max(join, 1) {
				t.Fatalf("span %v is too close to the end of the one before, %d", s, last)
			}
			last = s.To
			for i, gap := s.From, 0; i < s.To; i++ {
				covered[i] = true
				if gap++; got[i] != want[i] {
					gap = 0
				}
				if gap >= max(join, 1) {
					t.Fatalf("span %v holds %d equal bytes in a row", s, gap)
				}
			}
		}
		for i := range got {
			if got[i] != want[i] && !covered[i] {
				t.Fatalf("byte %d differs and is in no span", i)
			}
		}
	})
}
