package mem

import (
	"math"
	"testing"
)

const top = VirtAddr(math.MaxUint64)

func TestSizes(t *testing.T) {
	if PageSize != 4096 || HugeSize != 2<<20 || SubPages != 512 || UserEnd != 0x7ffffffff000 {
		t.Errorf("%d %d %d %v", PageSize, HugeSize, SubPages, UserEnd)
	}
}

func TestVirtAddr(t *testing.T) {
	for _, c := range []struct {
		addr           VirtAddr
		down, up, huge VirtAddr
		upOK           bool
		offset, sub    int
		text           string
	}{
		{0, 0, 0, 0, true, 0, 0, "0x0"},
		{1, 0, 0x1000, 0, true, 1, 0, "0x1"},
		{0xfff, 0, 0x1000, 0, true, 0xfff, 0, "0xfff"},
		{0x1000, 0x1000, 0x1000, 0, true, 0, 1, "0x1000"},
		{0x51cbf0, 0x51c000, 0x51d000, 0x400000, true, 0xbf0, 284, "0x51cbf0"}, // case A
		{0x5fffff, 0x5ff000, 0x600000, 0x400000, true, 0xfff, 511, "0x5fffff"},
		{0x600000, 0x600000, 0x600000, 0x600000, true, 0, 0, "0x600000"},
		{UserEnd - 1, 0x7fffffffe000, UserEnd, 0x7fffffe00000, true, 0xfff, 510, "0x7fffffffefff"},
		{top - 0xfff, top - 0xfff, top - 0xfff, top - 0x1fffff, true, 0, 511, "0xfffffffffffff000"},
		{top - 0xffe, top - 0xfff, 0, top - 0x1fffff, false, 1, 511, "0xfffffffffffff001"},
		{top, top - 0xfff, 0, top - 0x1fffff, false, 0xfff, 511, "0xffffffffffffffff"},
	} {
		if got := c.addr.PageDown(); got != c.down {
			t.Errorf("%v.PageDown() = %v, want %v", c.addr, got, c.down)
		}
		if got, ok := c.addr.PageUp(); ok != c.upOK || ok && got != c.up {
			t.Errorf("%v.PageUp() = %v, %t, want %v, %t", c.addr, got, ok, c.up, c.upOK)
		}
		if got := c.addr.HugeDown(); got != c.huge {
			t.Errorf("%v.HugeDown() = %v, want %v", c.addr, got, c.huge)
		}
		if c.addr.PageOffset() != c.offset || c.addr.SubPage() != c.sub {
			t.Errorf("%v: offset 0x%x of sub-page %d, want 0x%x of %d", c.addr, c.addr.PageOffset(), c.addr.SubPage(), c.offset, c.sub)
		}
		if got := c.addr.String(); got != c.text {
			t.Errorf("String() = %s, want %s", got, c.text)
		}
	}
	for _, c := range []struct {
		a  VirtAddr
		n  uint64
		ok bool
	}{
		{0, math.MaxUint64, true},
		{1, math.MaxUint64, false},
		{top, 0, true},
		{top, 1, false},
		{top, math.MaxUint64, false},
		{UserEnd, 1 << 47, true},
	} {
		if got, ok := c.a.Add(c.n); ok != c.ok || ok && got != c.a+VirtAddr(c.n) {
			t.Errorf("%v.Add(0x%x) = %v, %t, want %t", c.a, c.n, got, ok, c.ok)
		}
	}
}

func TestRange(t *testing.T) {
	r := Range{0x1800, 0x3001}
	if r.Len() != 0x1801 || r.Empty() || r.String() != "[0x1800, 0x3001)" {
		t.Errorf("%v: length 0x%x, empty %t", r, r.Len(), r.Empty())
	}
	if got := r.PageAlign(); got != (Range{0x1000, 0x4000}) {
		t.Errorf("PageAlign: %v", got)
	}
	if got := (Range{0x1000, 0x3000}).PageAlign(); got != (Range{0x1000, 0x3000}) {
		t.Errorf("PageAlign of whole pages: %v", got)
	}
	if got := PageOf(0x51cbf0); got != (Range{0x51c000, 0x51d000}) {
		t.Errorf("PageOf: %v", got)
	}
	if got := WindowOf(0x51cbf0); got != (Range{0x400000, 0x600000}) {
		t.Errorf("WindowOf: %v", got)
	}
	for addr, want := range map[VirtAddr]bool{0x17ff: false, 0x1800: true, 0x3000: true, 0x3001: false} {
		if r.Contains(addr) != want {
			t.Errorf("%v.Contains(%v) = %t", r, addr, !want)
		}
	}

	// Two ranges, both ways round.
	for _, c := range []struct {
		name             string
		a, b             Range
		overlap          Range // empty if none
		aCovers, bCovers bool
	}{
		{"equal", Range{1, 5}, Range{1, 5}, Range{1, 5}, true, true},
		{"inside", Range{1, 9}, Range{3, 4}, Range{3, 4}, true, false},
		{"same start", Range{1, 9}, Range{1, 4}, Range{1, 4}, true, false},
		{"same end", Range{1, 9}, Range{4, 9}, Range{4, 9}, true, false},
		{"crossing", Range{1, 5}, Range{4, 9}, Range{4, 5}, false, false},
		{"adjacent", Range{1, 5}, Range{5, 9}, Range{5, 5}, false, false},
		{"apart", Range{1, 3}, Range{5, 9}, Range{5, 5}, false, false},
		{"empty inside", Range{1, 9}, Range{3, 3}, Range{3, 3}, true, false},
		{"to the top", Range{1, top}, Range{top - 1, top}, Range{top - 1, top}, true, false},
	} {
		for range 2 {
			if got := c.a.Intersect(c.b); got != c.overlap {
				t.Errorf("%s: %v and %v share %v, want %v", c.name, c.a, c.b, got, c.overlap)
			}
			if got := c.a.Overlaps(c.b); got == c.overlap.Empty() {
				t.Errorf("%s: %v overlaps %v: %t", c.name, c.a, c.b, got)
			}
			if got := c.a.Covers(c.b); got != c.aCovers {
				t.Errorf("%s: %v covers %v: %t", c.name, c.a, c.b, got)
			}
			c.a, c.b, c.aCovers, c.bCovers = c.b, c.a, c.bCovers, c.aCovers
		}
	}
	if !(Range{5, 5}).Empty() || !(Range{5, 4}).Empty() || (Range{5, 4}).Contains(5) {
		t.Error("a range that ends before it starts holds something")
	}
}

func TestWindow(t *testing.T) {
	var w Window
	for _, i := range []int{0, 63, 64, 511} {
		w.SetPopulated(i)
	}
	for i := range SubPages {
		if want := i == 0 || i == 63 || i == 64 || i == 511; w.IsPopulated(i) != want {
			t.Errorf("sub-page %d populated: %t", i, !want)
		}
	}
}
