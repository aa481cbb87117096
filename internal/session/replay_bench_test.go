package session

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"vmsim/internal/testchild"
	"vmsim/mem"
	"vmsim/trace"
)

// lackeyLike returns a recording of n references as lackey writes them: loops over
// a few pages of code with data and stack beside, at the addresses of a static
// binary, and a walk through memory.
func lackeyLike(tb testing.TB, n int) []byte {
	var b bytes.Buffer
	h := trace.Header{Source: "lackey", Touches: trace.TouchesAll, Missing: []string{"mappings are missing"}}
	w, err := trace.NewWriter(&b, h)
	if err != nil {
		tb.Fatal(err)
	}
	add := func(op trace.Op) {
		if err := w.Write(&op); err != nil {
			tb.Fatal(err)
		}
	}
	add(trace.Op{PID: 1, Kind: trace.OpFork, Want: &trace.Answer{PID: 2}})
	r := newRand(1, 42)
	ip, walk := mem.VirtAddr(0x400000), mem.VirtAddr(0x10000000)
	for i := range n {
		op := trace.Op{PID: 2, Kind: trace.OpTouch, Access: mem.Exec, Addr: ip}
		switch k := r.IntN(10); {
		case k < 6:
			if ip += mem.VirtAddr(1 + r.IntN(7)); r.IntN(20) == 0 {
				ip = 0x400000 + mem.VirtAddr(r.IntN(30)*page+r.IntN(page))
			}
		case k < 8:
			op.Access, op.Addr = mem.Read, 0x7ff000000000-mem.VirtAddr(r.IntN(1000))
		case k < 9:
			op.Access, op.Addr, op.Value = mem.Write, 0x4c3000+mem.VirtAddr(r.IntN(40*page)), trace.DefaultValue
		default:
			op.Access, op.Addr = mem.Read, walk
			walk += 16
			if i%100_000 == 0 {
				walk = 0x10000000
			}
		}
		add(op)
	}
	if err := w.Close(h); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// decode reads all touches and does nothing with them.
func decode(tb testing.TB, data []byte) (n int) {
	src, err := trace.Open("t", bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	ts := trace.Touches{Touch: make([]trace.Touch, 0, 512)}
	fast := src.(*trace.Reader)
	for {
		if fast.Touches(&ts) {
			n += len(ts.Touch)
			continue
		}
		if _, err := src.Next(); err == io.EOF {
			return n
		} else if err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkReplayTouches: a trace as lackey's, decoded and translated, against
// decoding alone, interleaved; the best of the rounds each.
func BenchmarkReplayTouches(b *testing.B) {
	const n = 2_000_000
	data := lackeyLike(b, n)
	if got := decode(b, data); got != n {
		b.Fatalf("%d touches decoded", got)
	}
	rig := newRig(b, options(b))
	alone, both := time.Duration(1<<62), time.Duration(1<<62)
	for b.Loop() {
		start := time.Now()
		decode(b, data)
		alone = min(alone, time.Since(start))
		start = time.Now()
		res, err := rig.Replay("t", bytes.NewReader(data), never)
		both = min(both, time.Since(start))
		if err != nil || !res.OK() || res.Kinds[trace.OpTouch] != n {
			b.Fatal(err, res.FirstCrash, res.Kinds)
		}
	}
	perTouch := func(d time.Duration) float64 { return float64(d) / n }
	b.ReportMetric(perTouch(alone), "decode-ns/touch")
	b.ReportMetric(perTouch(both), "replay-ns/touch")
	b.ReportMetric(float64(alone)/float64(both), "ofdecode")
}

// BenchmarkReplayCycles: fork, exec, touches and exit from a trace, against posix_spawn of a
// real program that faults in as many pages.
func BenchmarkReplayCycles(b *testing.B) {
	const cycles = 2000
	host, touches := testchild.Cycle(b)
	var buf bytes.Buffer
	h := trace.Header{Source: "test", Touches: trace.TouchesComplete}
	w, err := trace.NewWriter(&buf, h)
	if err != nil {
		b.Fatal(err)
	}
	for i := range cycles {
		pid := i + 2
		ops := []trace.Op{{PID: 1, Kind: trace.OpFork, Want: &trace.Answer{PID: pid}}, {PID: pid, Kind: trace.OpExec, Path: "../elf/kevlar-layout"}}
		for j := range touches - 1 {
			ops = append(ops, trace.Op{PID: pid, Kind: trace.OpTouch, Addr: mem.VirtAddr(0x400000 + j*page)})
		}
		ops = append(ops, trace.Op{PID: pid, Kind: trace.OpTouch, Addr: 0x7fffffffe000, Access: mem.Write, Value: 1}, trace.Op{PID: pid, Kind: trace.OpExit})
		for _, op := range ops {
			if err := w.Write(&op); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := w.Close(h); err != nil {
		b.Fatal(err)
	}
	rig := newRig(b, options(b))
	best, real := time.Duration(1<<62), time.Duration(1<<62)
	for b.Loop() {
		start := time.Now()
		res, err := rig.ReplayWith(traces+"/t", bytes.NewReader(buf.Bytes()), never, ReplayOptions{})
		best = min(best, time.Since(start)/cycles)
		if err != nil || !res.OK() || res.ExecPassed != cycles {
			b.Fatal(err, res.FirstCrash)
		}
		start = time.Now()
		host(20)
		real = min(real, time.Since(start)/20)
	}
	b.ReportMetric(float64(best), "cycle-ns")
	b.ReportMetric(float64(touches), "touches")
	b.ReportMetric(float64(best)/float64(real), "ofreal")
}

// BenchmarkReplayMany: an operation costs about the same with 1,000 live processes
// and with 100,000 areas in one as with few.
func BenchmarkReplayMany(b *testing.B) {
	for _, c := range []struct{ procs, areas int }{{1, 10}, {1000, 10}, {1, 1000}, {1, 100_000}} {
		b.Run(fmt.Sprintf("processes=%d/areas=%d", c.procs, c.areas), func(b *testing.B) {
			const ops = 100_000
			var buf bytes.Buffer
			h := trace.Header{Source: "test", Touches: trace.TouchesComplete}
			w, err := trace.NewWriter(&buf, h)
			if err != nil {
				b.Fatal(err)
			}
			add := func(op trace.Op) {
				if err := w.Write(&op); err != nil {
					b.Fatal(err)
				}
			}
			at := func(i int) mem.VirtAddr { return 0x100000000 + mem.VirtAddr(i)*2*page }
			for p := range c.procs {
				add(trace.Op{PID: 1, Kind: trace.OpFork, Want: &trace.Answer{PID: p + 2}})
				for i := range c.areas {
					add(trace.Op{PID: p + 2, Kind: trace.OpMmap, Addr: at(i), Len: page, Prot: mem.ProtRead | mem.ProtWrite, Flags: trace.MapFixed})
				}
			}
			for i := range ops {
				pid, a := 2+i%c.procs, i*7919%c.areas
				add(trace.Op{PID: pid, Kind: trace.OpTouch, Addr: at(a), Access: mem.Write, Value: 1})
				add(trace.Op{PID: pid, Kind: trace.OpMmap, Addr: at(a), Len: page, Prot: mem.ProtRead | mem.ProtWrite, Flags: trace.MapFixed})
			}
			if err := w.Close(h); err != nil {
				b.Fatal(err)
			}
			opt := options(b)
			opt.MaxAreas = 200_000
			rig := newRig(b, opt)
			n := 2*ops + c.procs*(1+c.areas)
			for b.Loop() {
				res, err := rig.Replay("t", bytes.NewReader(buf.Bytes()), never)
				if err != nil || !res.OK() || res.Ops != n {
					b.Fatal(err, res.Ops, n, res.FirstCrash)
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(n), "ns/operation")
		})
	}
}
