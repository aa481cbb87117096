package session

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/trace"
)

// inBlocks returns a recording in its binary form.
func inBlocks(t *testing.T, text string) []byte {
	d := trace.NewDecoder("t", strings.NewReader(text))
	h, err := d.Header()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := trace.NewWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for {
		op, err := d.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = w.Write(&op)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestBatch: touches in batches, as the binary form has them, come to the same in
// every count as the same touches one by one, as in the text form; with prefaulted
// programs, copies for writers, touches that are refused, and a bug.
func TestBatch(t *testing.T) {
	var b strings.Builder
	b.WriteString(recordedHead + kevlarExec)
	touches := func(pid int) {
		for i := range 30 {
			fmt.Fprintf(&b, "%d touch r 0x%x err=0x4 ip=0x401000\n%d touch x 0x%x err=0x14\n", pid, 0x400000+i*page, pid, 0x401000+i*8)
		}
		fmt.Fprintf(&b, "%d touch r 0x51b000 err=0x4\n%d touch r 0x51c000 err=0x4\n", pid, pid) // where the bugs show
		for i := range 8 {
			fmt.Fprintf(&b, "%d touch w 0x%x err=0x6\n%d touch r 0x%x err=0x4\n", pid, 0x51d000+i*page, pid, 0x51d008+i*page)
		}
	}
	touches(2)
	for pid := 3; pid < 9; pid++ {
		fmt.Fprintf(&b, "2 fork = %d\n", pid)
		touches(pid) // of what it has from its parent
		fmt.Fprintf(&b, "%d exec ../elf/kevlar-layout = 0\n%d present exec own:0x7fffffffe000-0x7ffffffff000\n", pid, pid)
		touches(pid)
		if pid == 7 {
			fmt.Fprintf(&b, "%d touch r 0x10\n%d touch r 0x401000\n", pid, pid) // a handler, maybe
		}
		fmt.Fprintf(&b, "%d exit\n", pid)
	}
	// Programs by turns: each has its own counts.
	b.WriteString("2 fork = 9\n9 exec ../elf/static-nopie = 0\n")
	for i := range 5 {
		fmt.Fprintf(&b, "9 touch x 0x%x err=0x14\n2 touch w 0x%x err=0x6\n", 0x401000+i*page, 0x7fffffff0000-i*page)
	}
	for _, c := range []struct {
		name string
		set  func(*Options)
	}{
		{"default", func(*Options) {}},
		{"assembled at once", func(o *Options) { o.Threshold = 0 }},
		{"a bug", func(o *Options) { o.Threshold = 1; o.Bugs = []string{"index-collision", "boundary-copy"} }},
		{"16 pages around", func(o *Options) { o.FaultAround = 16 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			opt := options(t)
			c.set(&opt)
			single, err := replayRecorded(t, opt, ReplayOptions{}, b.String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			rig := newRig(t, opt)
			batched, err := rig.ReplayWith(filepath.Join(traces, "t"), bytes.NewReader(inBlocks(t, b.String())), never, ReplayOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range []*ReplayResult{&single, &batched} { // lines are counted in another way
				r.FirstRefused.Op.Line = 0
				if r.FirstCrash != nil {
					r.FirstCrash.Op.Line = 0
				}
				for i := range r.Mismatches {
					r.Mismatches[i].Op.Line = 0
				}
			}
			if single.Refused == 0 || single.Stats.Faults.CoW == 0 || (single.Skipped == 0) != (opt.Bugs == nil) {
				t.Errorf("%d refused, %d skipped, %+v: it proves little", single.Refused, single.Skipped, single.Stats.Faults)
			}
			if d := cmp.Diff(single, batched); d != "" {
				t.Errorf("-one by one +in batches\n%s", d)
			}
		})
	}
}
