package trace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"vmsim/mem"
)

// references returns n touches as lackey sees them: a program that runs straight
// on, jumps, and works near its stack and in a heap. No times, no codes.
func references(n int) []Op {
	rnd := rand.New(rand.NewPCG(1, 2))
	ops := make([]Op, n)
	pc, stack, heap := uint64(0x401000), uint64(0x1fff000748), uint64(0x5200000)
	for i := range ops {
		op := Op{PID: 2, Kind: OpTouch}
		switch r := rnd.IntN(100); {
		case r < 60:
			if pc += 1 + rnd.Uint64N(7); rnd.IntN(8) == 0 {
				pc = 0x401000 + rnd.Uint64N(1<<16)
			}
			op.Access, op.Addr = mem.Exec, mem.VirtAddr(pc)
		case r < 85:
			stack += 8*rnd.Uint64N(9) - 32
			op.Addr = mem.VirtAddr(stack)
		default:
			heap = 0x5200000 + rnd.Uint64N(1<<20)
			op.Addr = mem.VirtAddr(heap)
		}
		if op.Access != mem.Exec && rnd.IntN(3) == 0 {
			op.Access, op.Value = mem.Write, DefaultValue
		}
		ops[i] = op
	}
	return ops
}

// faulted returns n touches as a recorder sees them: processes that run the same
// program one after another, with times in microseconds, codes and IPs.
func faulted(n int) []Op {
	rnd := rand.New(rand.NewPCG(3, 4))
	program := references(300)
	ops := make([]Op, n)
	now := uint64(0)
	for i := range ops {
		op := program[i%len(program)]
		now += 1000 * (1 + rnd.Uint64N(20))
		op.PID, op.Time, op.IP, op.Code = 2+i/len(program), now, op.Addr, CodeKnown|CodeUser
		if op.Access != mem.Exec {
			op.IP = program[0].Addr + mem.VirtAddr(rnd.Uint64N(64))
		}
		ops[i] = op
	}
	return ops
}

// BenchmarkDecode decodes a trace of references, from bytes in memory, in runs of
// touches, operation by operation, and as text; beside it, in the same rounds, a
// loop of varints that have the same addresses, as the least that decoding costs.
func BenchmarkDecode(b *testing.B) {
	ops := references(1 << 20)
	data := binaryForm(b, Header{}, ops, nil)
	var text bytes.Buffer
	e, err := NewEncoder(&text, Header{})
	if err != nil {
		b.Fatal(err)
	}
	var varints []byte
	var last [2]uint64
	for _, op := range ops {
		if err := e.Encode(op); err != nil {
			b.Fatal(err)
		}
		l := &last[op.Access>>1]
		varints = binary.AppendUvarint(varints, zigzag(int64(uint64(op.Addr)-*l))<<2|uint64(op.Access))
		*l = uint64(op.Addr)
	}
	buf := make([]Touch, 1024)
	block := newBlockEncoder()
	block.reset(0)
	for i := range blockOps {
		block.add(&ops[i])
	}
	info, cols := block.finish()
	cols[colAddrs] = append(cols[colAddrs], make([]byte, behindColumn)...)[:len(cols[colAddrs])]
	for _, c := range []struct {
		name string
		read func() int
	}{
		{"touches", func() int {
			r, err := NewReader("x", bytes.NewReader(data))
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for run := (Touches{Touch: buf}); r.Touches(&run); {
				n += len(run.Touch)
			}
			return n
		}},
		{"unpacked", func() int { // a block again and again, without zstd
			n := 0
			var d blockDecoder
			for run := (Touches{Touch: buf}); n < len(ops); {
				if err := d.load(info, cols); err != nil {
					b.Fatal(err)
				}
				for more := true; more; more, _ = d.more() {
					if _, err := d.inRun(); err != nil {
						b.Fatal(err)
					}
					if err := d.touches(&run); err != nil {
						b.Fatal(err)
					}
					n += len(run.Touch)
				}
			}
			return n
		}},
		{"ops", func() int {
			n := 0
			for _, err := range mustOpen(b, data).All() {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		}},
		{"text", func() int {
			n := 0
			for _, err := range NewDecoder("x", bytes.NewReader(text.Bytes())).All() {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			return n
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			took, ref := time.Hour, time.Hour // the best of all rounds
			for b.Loop() {
				start := time.Now()
				n := c.read()
				took = min(took, time.Since(start))
				if n != len(ops) {
					b.Fatalf("%d of %d", n, len(ops))
				}
				start = time.Now()
				varintLoop(b, varints, buf, len(ops))
				ref = min(ref, time.Since(start))
			}
			per := float64(len(ops))
			b.ReportMetric(float64(took)/per, "ns/touch")
			b.ReportMetric(float64(ref)/per, "ref-ns/touch")
			b.ReportMetric(float64(took)/float64(ref), "ratio")
			b.ReportMetric(float64(len(data))/float64(len(ops)), "B/touch")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// varintLoop decodes the varints of BenchmarkDecode into buf, again and again.
func varintLoop(b *testing.B, data []byte, buf []Touch, want int) {
	var last [2]uint64
	n := 0
	for len(data) > 0 {
		v, size := binary.Uvarint(data)
		data = data[size:]
		access := mem.Access(v & 3)
		l := &last[access>>1]
		*l += uint64(unzigzag(v >> 2))
		buf[n%len(buf)] = Touch{Access: access, Addr: mem.VirtAddr(*l), Value: byte(access & 1)}
		n++
	}
	if n != want {
		b.Fatalf("%d varints", n)
	}
}

// BenchmarkEncode writes recordings.
func BenchmarkEncode(b *testing.B) {
	for _, c := range []struct {
		name string
		ops  []Op
	}{{"references", references(1 << 18)}, {"faults", faulted(1 << 18)}} {
		b.Run(c.name, func(b *testing.B) {
			var size int64
			for b.Loop() {
				var n counter
				w, err := NewWriter(&n, Header{})
				if err != nil {
					b.Fatal(err)
				}
				for i := range c.ops {
					if err := w.Write(&c.ops[i]); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Close(Header{}); err != nil {
					b.Fatal(err)
				}
				size = int64(n)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(len(c.ops)), "ns/event")
			b.ReportMetric(float64(size)/float64(len(c.ops)), "B/event")
			b.ReportMetric(0, "ns/op")
		})
	}
}

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// BenchmarkCurve writes and reads traces of more and more processes that take
// turns, and of one process with more and more areas: an event costs the same.
func BenchmarkCurve(b *testing.B) {
	const events = 1 << 17
	var traces []struct {
		name string
		ops  []Op
	}
	add := func(name string, ops []Op) {
		traces = append(traces, struct {
			name string
			ops  []Op
		}{name, ops})
	}
	for _, n := range []int{1, 10, 100, 1000} {
		ops := references(events)
		for i := range ops {
			ops[i].PID = 2 + i/16%n // 16 touches at a time
		}
		add(fmt.Sprintf("processes=%d", n), ops)
	}
	for _, n := range []int{100, 10_000, 100_000} {
		ops := references(events)
		for i := range ops {
			if i%8 == 0 {
				at := mem.VirtAddr(0x7f0000000000 + i*7919%n*8192)
				ops[i] = Op{PID: 2, Kind: OpMmap, Len: 4096, Prot: mem.ProtRead, Want: &Answer{Addr: at}}
			} else {
				ops[i].Addr = mem.VirtAddr(0x7f0000000000 + i*104729%n*8192)
			}
		}
		add(fmt.Sprintf("areas=%d", n), ops)
	}
	for _, c := range traces {
		b.Run(c.name, func(b *testing.B) {
			write, read := time.Hour, time.Hour
			size := 0
			for b.Loop() {
				start := time.Now()
				data := binaryForm(b, Header{}, c.ops, nil)
				write = min(write, time.Since(start))
				size = len(data)
				start = time.Now()
				if _, err := readRunsOnly(mustOpen(b, data).(*Reader)); err != nil {
					b.Fatal(err)
				}
				read = min(read, time.Since(start))
			}
			per := float64(events)
			b.ReportMetric(float64(write)/per, "write-ns/event")
			b.ReportMetric(float64(read)/per, "read-ns/event")
			b.ReportMetric(float64(size)/events, "B/event")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// readRunsOnly reads a trace and keeps nothing.
func readRunsOnly(r *Reader) (n int, err error) {
	run := Touches{Touch: make([]Touch, 1024)}
	for {
		for r.Touches(&run) {
			n += len(run.Touch)
		}
		if _, err := r.Next(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		n++
	}
}
