package trace

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestHeaderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.Just(""), rapid.StringN(0, 20, 60))
		list := rapid.SliceOfN(rapid.StringN(0, 20, 60), 0, 3)
		h := Header{
			Source: text.Draw(t, "source"), Tool: text.Draw(t, "tool"), Command: list.Draw(t, "command"),
			Host: text.Draw(t, "host"), Kernel: text.Draw(t, "kernel"), Arch: text.Draw(t, "arch"),
			PageSize: rapid.SampledFrom([]uint64{0, 4096}).Draw(t, "page size"), Clock: text.Draw(t, "clock"),
			Began:   text.Draw(t, "began"),
			Touches: rapid.SampledFrom([]string{"", TouchesComplete, TouchesFaults, TouchesAll, TouchesNone}).Draw(t, "touches"),
			Missing: list.Draw(t, "missing"), Lost: rapid.Uint64().Draw(t, "lost"), Whole: rapid.Bool().Draw(t, "whole"),
		}
		for _, l := range []*[]string{&h.Command, &h.Missing} {
			if len(*l) == 0 {
				*l = nil
			}
		}
		var b strings.Builder
		e, err := NewEncoder(&b, h)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Encode(Op{Kind: OpLost, Count: 5}); err != nil {
			t.Fatal(err)
		}
		d := NewDecoder("rapid", strings.NewReader(b.String()))
		for range 2 { // before and after the first operation
			got, err := d.Header()
			if err != nil {
				t.Fatalf("%v in\n%s", err, b.String())
			}
			if diff := cmp.Diff(h, got); diff != "" {
				t.Fatalf("-written +read\n%sin\n%s", diff, b.String())
			}
			if op, err := d.Next(); err == nil && op.Count != 5 {
				t.Fatalf("read %v", op)
			}
		}
	})
}
