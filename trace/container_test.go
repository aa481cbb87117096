package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"vmsim/mem"
)

// small is a recording of every kind of operation, in three blocks.
const small = `vmsim-trace 1
header source "vmsim record"
header command "\xff"
header command "\"quoted\""
header touches complete
header missing "the vdso"
header lost 2
header whole yes
@1000 1 fork flags=0x1200011 = 2
file /bin/sh size=1000 mtime=-5 dev=0x801 ino=77 build=00ff
@2000 2 exec /bin/sh base=0x555555554000 interp=/lib/ld.so ibase=0x7ffff7fc0000 sp=0x7fffffffe000 brk=0x555555580000 arg=sh "arg=a b" = 0
2 area exec 0x555555554000-0x555555558000 r-x private /bin/sh+0x0
2 area exec 0x7ffffffde000-0x7ffffffff000 rw- private [stack]
2 present exec file:0x555555554000-0x555555556000 own:0x7fffffffd000-0x7ffffffff000
@3000 2 touch x 0x555555554010 ip=0x555555554010 err=20
@4000 2 touch w 0x7fffffffdff8 ip=0x555555554020 err=6
@5001 2 touch r 0x555555555123 ip=0x555555554030 err=4
2 touch r 0x555555555124
2 touch r 0x555555555125
@6000 2/3 touch w 0x1000 0x41 = SEGV_MAPERR
2 mmap 0 0x3000 rw- private,populate anon = 0x7ffff7ffc000
2 mmap 0 0x1001 r-- shared /lib/x+0x2000 = ENOMEM
2 munmap 0x7ffff7ffc000 0x1000 = 0
2 mprotect 0x7ffff7ffd000 0x1000 r-- = 0
2 mremap 0x7ffff7ffd000 0x1000 0x2000 maymove to=0x5000 = 0x7ffff7ff0000
2 madvise 0x7ffff7ff0000 0x1000 dontneed = 0
2 mlock 0x7ffff7ff0000 0x1000 flags=0x1 = 0
2 munlock 0x7ffff7ff0000 0x1000 = 0
2 mlockall flags=0x3 = EPERM
2 munlockall = 0
2 shmat 0 0x2000 rw- /SYSV00 = 0x7ffff7fee000
2 shmdt 0x7ffff7fee000 = 0
2 brk 0x555555590000 = 0x555555590000
2 vfork = 4
2 thread flags=0x3d0f00 = 5
4 exec /nope = ENOENT
4 exit 127
test "a mark"
lost 7
2 note "a note"
2 touch r /bin/sh+0x10 = minor 0x7f
@1000000 2 exit signal=9 minflt=12 majflt=3
2 area exit 0x1000-0x2000 --- private anon
2 present exit
`

// smallOps parses small.
func smallOps(t testing.TB) (Header, []Op) {
	t.Helper()
	d := NewDecoder("small", strings.NewReader(small))
	h, err := d.Header()
	if err != nil {
		t.Fatal(err)
	}
	ops, err := readAll(d)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[Kind]bool{}
	for _, op := range ops {
		kinds[op.Kind] = true
	}
	for k := OpMark; k <= OpNote; k++ {
		if !kinds[k] && k != OpBoot {
			t.Errorf("no %v among the operations", k)
		}
	}
	return h, noLines(ops)
}

// smallBlocks is where the blocks of smallFile begin.
var smallBlocks = []int{0, 7, 20}

func smallFile(t testing.TB) ([]byte, []Op) {
	t.Helper()
	h, ops := smallOps(t)
	var b bytes.Buffer
	w, err := newWriter(&b, h, func(n int) int { return n + 200 })
	if err != nil {
		t.Fatal(err)
	}
	for i := range ops {
		if i == smallBlocks[1] || i == smallBlocks[2] {
			err = w.Flush()
		}
		if err := errors.Join(err, w.Write(&ops[i])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(h); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), ops
}

// Text becomes binary and text again, byte for byte.
func TestTextBinaryText(t *testing.T) {
	files, err := filepath.Glob(tracesDir + "/*.trace")
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	texts := []string{small}
	for _, f := range files {
		text, err := Format(committed(t, filepath.Base(f)))
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	for _, text := range texts {
		d := NewDecoder("text", strings.NewReader(text))
		h, err := d.Header()
		if err != nil {
			t.Fatal(err)
		}
		ops, err := readAll(d)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open("binary", bytes.NewReader(binaryForm(t, h, ops, nil)))
		if err != nil {
			t.Fatal(err)
		}
		h, _ = s.Header()
		var b strings.Builder
		e, err := NewEncoder(&b, h)
		if err != nil {
			t.Fatal(err)
		}
		for op, err := range s.All() {
			if err == nil {
				err = e.Encode(op)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff(text, b.String()); d != "" {
			t.Errorf("-before +after\n%s", d)
		}
	}
}

// blocksOf returns the blocks of a file.
func blocksOf(t testing.TB, data []byte) []Block {
	t.Helper()
	x, err := OpenIndexed("x", bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return x.Blocks
}

// A file that is cut off at any byte gives the operations of its whole blocks,
// then says where it ends.
func TestCutOffAnywhere(t *testing.T) {
	data, ops := smallFile(t)
	blocks := blocksOf(t, data)
	if len(blocks) != len(smallBlocks) {
		t.Fatalf("%d blocks", len(blocks))
	}
	for n := range data {
		want := 0
		for _, b := range blocks {
			if b.Offset+int64(frameSize+b.size) <= int64(n) {
				want = int(b.First + b.Ops)
			}
		}
		s, err := Open("cut.vmt", bytes.NewReader(data[:n]))
		var got []Op
		if err == nil {
			got, err = readAll(s)
		}
		if len(got) != want || want > 0 && !cmp.Equal(noLines(got), ops[:want]) {
			t.Fatalf("%d bytes: %d operations, want %d", n, len(got), want)
		}
		var d *DamageError
		if n > 0 && (!errors.As(err, &d) || d.Ops != uint64(want) || d.Offset > int64(n) || d.Msg != "the trace is cut off" || d.File != "cut.vmt") {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if n == 0 && err == nil {
			t.Fatal("nothing is a trace")
		}
		if _, err := OpenIndexed("cut.vmt", bytes.NewReader(data[:n]), int64(n)); err == nil {
			t.Fatalf("%d bytes have an index", n)
		}
	}
}

// A flipped bit is found wherever it is, and nothing before it is lost.
func TestFlippedBits(t *testing.T) {
	data, ops := smallFile(t)
	blocks := blocksOf(t, data)
	bad := bytes.Clone(data)
	for i := range bad {
		least := 0
		for _, b := range blocks {
			if b.Offset+int64(frameSize+b.size) <= int64(i) {
				least = int(b.First + b.Ops)
			}
		}
		for bit := range 8 {
			bad[i] ^= 1 << bit
			s, err := Open("bad.vmt", bytes.NewReader(bad))
			var got []Op
			if err == nil {
				got, err = readAll(s)
			}
			if err == nil || !strings.HasPrefix(err.Error(), "bad.vmt:") {
				t.Fatalf("byte %d, bit %d: %v", i, bit, err)
			}
			if len(got) != least || least > 0 && !cmp.Equal(noLines(got), ops[:least]) {
				t.Fatalf("byte %d, bit %d: %d operations, want %d", i, bit, len(got), least)
			}
			x, err := OpenIndexed("bad.vmt", bytes.NewReader(bad), int64(len(bad)))
			if err == nil {
				got, err = readAll(x.Reader(nil))
				if len(got) != least || least > 0 && !cmp.Equal(noLines(got), ops[:least]) {
					t.Fatalf("byte %d, bit %d: %d operations by the index, want %d", i, bit, len(got), least)
				}
				var d *DamageError
				if !errors.As(err, &d) || d.Ops != uint64(least) {
					t.Fatalf("byte %d, bit %d: behind %d operations by the index: %v", i, bit, least, err)
				}
			}
			if err == nil || !strings.HasPrefix(err.Error(), "bad.vmt: ") {
				t.Fatalf("byte %d, bit %d: by the index: %v", i, bit, err)
			}
			bad[i] ^= 1 << bit
		}
	}
}

// reseal makes the checksums of the frame at offset right again.
func reseal(data []byte, offset int64) {
	n := int64(binary.LittleEndian.Uint32(data[offset+4:]))
	sealFrame(data[offset:offset+frameSize+n], string(data[offset:offset+4]))
}

// What checksums cannot tell: files that are put together wrongly.
func TestWrongFiles(t *testing.T) {
	data, _ := smallFile(t)
	blocks := blocksOf(t, data)
	frame := func(i int) []byte { b := blocks[i]; return data[b.Offset : b.Offset+int64(frameSize+b.size)] }
	start, end := data[:blocks[0].Offset], data[blocks[2].Offset+int64(frameSize+blocks[2].size):]
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	edit := func(change func([]byte)) []byte { b := bytes.Clone(data); change(b); return b }
	head := func(tag string, n uint32) []byte {
		b := binary.LittleEndian.AppendUint32([]byte(tag), n)
		b = binary.LittleEndian.AppendUint32(b, 0)
		return binary.LittleEndian.AppendUint32(b, checksum(b))
	}
	version := edit(func(b []byte) { b[8] = 1 })
	for _, c := range []struct {
		name string
		data []byte
		ops  int
		want string
	}{
		{"another version", version, 0, "x.vmt: version 1 of the format is unknown: this program reads 2"},
		{"no header", join(data[:prologueSize], frame(0), end), 0, "x.vmt: damaged at byte 12, behind 0 operations: the HEAD frame is missing"},
		{"a block missing", join(start, frame(0), frame(2), end), 7,
			fmt.Sprintf("x.vmt: damaged at byte %d, behind 7 operations: its first operation is number 20, not 7: a block is missing or comes twice", blocks[1].Offset)},
		{"a block twice", join(start, frame(0), frame(0), end), 7,
			fmt.Sprintf("x.vmt: damaged at byte %d, behind 7 operations: its first operation is number 0, not 7: a block is missing or comes twice", blocks[1].Offset)},
		{"the last block missing", join(start, frame(0), frame(1), end), 20, "the end knows of 36 operations in 3 blocks, but there were 20 in 2"},
		{"bytes behind", join(data, []byte{0}), 36, "more bytes behind the end"},
		{"two traces", join(data, data), 36, "more bytes behind the end"},
		{"the end alone", join(start, end), 0, "the end knows of 36 operations in 3 blocks, but there were 0 in 0"},
		{"a header among blocks", join(start, frame(0), start[prologueSize:]), 7, "a HEAD frame stands where it cannot"},
		{"an unknown frame", join(start, head("WHAT", 0)), 0, `a frame of kind "WHAT" is not known`},
		{"a large frame", join(start, head(tagBlock, maxBody+1)), 0, "a frame of 4194305 bytes is larger than 4194304"},
		{"a frame without a body", join(start, head(tagBlock, maxBody)), 0, "the trace is cut off"},
		{"a wrong header", edit(func(b []byte) { b[prologueSize+frameSize] = 'x'; reseal(b, int64(prologueSize)) }), 0, "header: invalid character 'x'"},
		{"a page size", edit(func(b []byte) {
			copy(b[prologueSize+frameSize:], `{"page_size":16384}`+strings.Repeat(" ", 300))
			reseal(b, int64(prologueSize))
		}), 0, "header: pages of 16384 bytes: this program knows 4096 alone"},
	} {
		s, err := Open("x.vmt", bytes.NewReader(c.data))
		var got []Op
		if err == nil {
			got, err = readAll(s)
		}
		if err == nil || len(got) != c.ops || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "x.vmt: ") {
			t.Errorf("%s: %d operations, %v", c.name, len(got), err)
		}
		if c.name == "another version" {
			if _, err := OpenIndexed("x.vmt", bytes.NewReader(c.data), int64(len(c.data))); err == nil || err.Error() != c.want {
				t.Errorf("%s: by the index: %v", c.name, err)
			}
		}
	}
}

// wrap returns a file of one block whose body is given.
func wrap(t testing.TB, body []byte) []byte {
	var b bytes.Buffer
	if _, err := NewWriter(&b, Header{}); err != nil {
		t.Fatal(err)
	}
	b.Write(sealFrame(append(make([]byte, frameSize), body...), tagBlock))
	return b.Bytes()
}

// Blocks with right checksums and wrong insides: an error, no panic, and memory in
// proportion to a block.
func TestWrongBlocks(t *testing.T) {
	numbers := func(v ...uint64) (b []byte) {
		for _, n := range v {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	info := func(first, ops, raw, from, span uint64, pids ...uint64) []byte {
		return append(numbers(first, ops, raw, from, span, uint64(len(pids))), numbers(pids...)...)
	}
	zeros := make([]byte, maxBody)
	bomb := packer().EncodeAll(zeros, nil)
	for _, c := range []struct {
		name string
		body []byte
		want string
	}{
		{"nothing", nil, "what a block says of itself is cut off"},
		{"a number that is too long", bytes.Repeat([]byte{0xff}, 30), "what a block says of itself is cut off"},
		{"no operations", info(0, 0, 10, 0, 0), "cannot hold 0 operations"},
		{"too many operations", info(0, maxBlockOps+1, maxBody, 0, 0), "cannot hold 1048577 operations"},
		{"more operations than bytes", info(0, 11, 10, 0, 0), "cannot hold 11 operations"},
		{"too large", info(0, 1, maxBody+1, 0, 0), "a block of 4194305 bytes is larger than 4194304"},
		{"numbers that overflow", info(1<<64-1, 2, 10, 0, 0), "cannot hold 2 operations from 18446744073709551615 on"},
		{"times that overflow", info(0, 1, 10, 2, 1<<64-1), "a block ends before it begins"},
		{"many processes", numbers(0, 1, 10, 0, 0, 1<<40), "1099511627776 processes are more than the block can hold"},
		{"processes that do not ascend", info(0, 2, 10, 0, 0, 1, 0), "the processes of a block do not ascend"},
		{"a process that is too large", info(0, 2, 10, 0, 0, MaxPID, 1), "the processes of a block do not ascend"},
		{"no columns", info(0, 1, 10, 0, 0, 1), "the columns of a block do not fit together"},
		{"columns of another size", append(info(0, 1, 10, 0, 0, 1), numbers(make([]uint64, 2*nColumns)...)...), "the columns of a block do not fit together"},
		{"a column that is no zstd", append(append(info(0, 1, 10, 0, 0, 1), append(numbers(10, 3), numbers(make([]uint64, 2*nColumns-2)...)...)...), 1, 2, 3),
			"a column does not unpack to the 10 bytes that it says"},
		{"a column that grew", append(append(info(0, 1, 2, 0, 0, 1), append(numbers(2, 3), numbers(make([]uint64, 2*nColumns-2)...)...)...), 1, 2, 3),
			"the columns of a block do not fit together"},
		{"a bomb", append(append(info(0, 1, 1<<20, 0, 0, 1), append(numbers(1<<20, uint64(len(bomb))), numbers(make([]uint64, 2*nColumns-2)...)...)...), bomb...),
			"a column does not unpack to the 1048576 bytes that it says"},
		{"a column of nothing", append(append(info(0, 1, maxBody, 0, 0, 1), append(numbers(maxBody, uint64(len(bomb))), numbers(make([]uint64, 2*nColumns-2)...)...)...), bomb...),
			"the columns of a block do not fit together"},
	} {
		data := wrap(t, c.body)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		s, err := Open("x.vmt", bytes.NewReader(data))
		var got []Op
		if err == nil {
			got, err = readAll(s)
		}
		runtime.ReadMemStats(&after)
		if len(got) != 0 || err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "x.vmt: damaged at byte 4096, behind 0 operations: ") {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16*maxBody {
			t.Errorf("%s: %d bytes were allocated", c.name, grown)
		}
	}
}

// encodeWith returns the one block of ops after change had its way with the
// encoder: a program that writes wrong traces.
func encodeWith(t testing.TB, ops []Op, change func(e *blockEncoder, info *Block)) []byte {
	t.Helper()
	e := newBlockEncoder()
	e.reset(0)
	for i := range ops {
		e.add(&ops[i])
	}
	info, cols := e.finish()
	change(e, &info)
	info.Raw = 0
	for _, col := range cols {
		info.Raw += uint64(len(col))
	}
	return wrap(t, (&Writer{}).pack(info.appendInfo(nil), cols))
}

// What a block says of itself must be true of its operations, and nothing may be
// left in a column.
func TestWrongColumns(t *testing.T) {
	ops := []Op{
		{PID: 2, Kind: OpTouch, Addr: 0x1000, IP: 0x400000, Code: CodeKnown | 4, Time: 5},
		{PID: 2, Kind: OpTouch, Addr: 0x1008, IP: 0x400004, Code: CodeKnown | 4, Time: 70000},
		{PID: 2, Kind: OpFork, Want: &Answer{PID: 3}},
	}
	const misfit = "the columns of a block do not fit together"
	for _, c := range []struct {
		name   string
		change func(e *blockEncoder, info *Block)
		want   string
	}{
		{"nothing wrong", func(*blockEncoder, *Block) {}, "the trace is cut off"},
		{"fewer operations", func(_ *blockEncoder, b *Block) { b.Ops-- }, misfit},
		{"more operations", func(_ *blockEncoder, b *Block) { b.Ops++ }, misfit},
		{"an earlier end", func(_ *blockEncoder, b *Block) { b.To-- }, misfit},
		{"a later start", func(_ *blockEncoder, b *Block) { b.From++ }, misfit},
		{"a process too few", func(_ *blockEncoder, b *Block) { b.PIDs = []int{3} }, "process 2 is none that the block says it has"},
		{"a child too few", func(_ *blockEncoder, b *Block) { b.PIDs = []int{2} }, "process 3 is none that the block says it has"},
		{"a head too many", func(e *blockEncoder, _ *Block) { e.cols[colHeads] = append(e.cols[colHeads], 0) }, misfit},
		{"a fetch at a site", func(e *blockEncoder, _ *Block) { e.cols[colHeads][0] |= headFetch | headSite }, misfit},
		{"an unknown access", func(e *blockEncoder, _ *Block) { e.cols[colHeads][0] |= 3 }, misfit},
		{"a long address", func(e *blockEncoder, _ *Block) { e.cols[colHeads][0] |= headSize << headSizeFrom }, misfit},
		{"an address too many", func(e *blockEncoder, _ *Block) { e.cols[colAddrs] = append(e.cols[colAddrs], 0) }, misfit},
		{"an address too few", func(e *blockEncoder, _ *Block) { e.cols[colAddrs] = e.cols[colAddrs][:1] }, misfit},
		{"an ip too many", func(e *blockEncoder, _ *Block) { e.cols[colIPs] = append(e.cols[colIPs], 0) }, misfit},
		{"an unknown site", func(e *blockEncoder, _ *Block) { e.cols[colIPs] = []byte{0, 2} }, misfit},
		{"a site too many", func(e *blockEncoder, _ *Block) { e.cols[colSites] = append(e.cols[colSites], 8) }, misfit},
		{"a site too few", func(e *blockEncoder, _ *Block) { e.cols[colSites] = e.cols[colSites][:len(e.cols[colSites])-1] }, misfit},
		{"a site at 0", func(e *blockEncoder, _ *Block) { e.cols[colSites] = []byte{0, 8} }, misfit},
		{"a fetch at 0", func(e *blockEncoder, _ *Block) {
			e.cols[colHeads][0] = byte(mem.Exec) | headFetch
			e.cols[colAddrs], e.cols[colIPs] = e.cols[colAddrs][2:], e.cols[colIPs][1:]
			e.cols[colSites] = binary.AppendUvarint(nil, zigzag(0x400004))
		}, misfit},
		{"a code too few", func(e *blockEncoder, _ *Block) { e.cols[colCodes] = e.cols[colCodes][:1] }, misfit},
		{"a large code", func(e *blockEncoder, _ *Block) { e.cols[colCodes] = []byte{0x80, 0x80, 2, 4} }, misfit},
		{"a time too many", func(e *blockEncoder, _ *Block) { e.cols[colTimes] = append(e.cols[colTimes], 0) }, misfit},
		{"a time too few", func(e *blockEncoder, _ *Block) {
			e.cols[colTimes], e.cols[colHighs] = e.cols[colTimes][:1], e.cols[colHighs][:1]
		}, misfit},
		{"a long time too many", func(e *blockEncoder, _ *Block) { e.cols[colWides] = append(e.cols[colWides], 0) }, misfit},
		{"an unknown unit", func(e *blockEncoder, _ *Block) { e.cols[colWides][0] = 7 }, misfit},
		{"an unknown task", func(e *blockEncoder, _ *Block) { e.cols[colTasks] = nil }, misfit},
		{"a task 0", func(e *blockEncoder, _ *Block) { e.cols[colTasks][0] = 0 }, misfit},
		{"an unknown kind", func(e *blockEncoder, _ *Block) { e.cols[colOps][0] = 31 }, misfit},
		{"an empty string", func(e *blockEncoder, _ *Block) { e.cols[colStrings] = []byte{0} }, misfit},
		{"an unknown bit in a tag", func(e *blockEncoder, _ *Block) { e.cols[colOps][3] |= 0x80 }, misfit},
		{"a run of none", func(e *blockEncoder, _ *Block) { e.cols[colOps][2] = 0 }, misfit},
		{"a run of many", func(e *blockEncoder, _ *Block) { e.cols[colOps][2] = 100 }, misfit},
		{"an operation that cannot be", func(e *blockEncoder, _ *Block) { e.cols[colOps][len(e.cols[colOps])-1] = 2 }, "fork: child 1 is not in 2 to 2147483647"},
		{"a touch outside of a run", func(e *blockEncoder, _ *Block) {
			e.cols[colOps] = append(e.cols[colOps][:3:3], byte(OpTouch), 0, 0, 16, 0, 0, 0)
		}, misfit},
	} {
		s, err := Open("x.vmt", bytes.NewReader(encodeWith(t, ops, c.change)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(s)
		if err == nil || !strings.HasSuffix(err.Error(), ": "+c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.name == "a process too few" && len(got) > 0 {
			t.Errorf("%s: %d operations of a process that is none", c.name, len(got))
		}
		if len(got) > len(ops) || len(got) > 0 && !cmp.Equal(noLines(got), ops[:len(got)]) {
			t.Errorf("%s: %d operations: %v", c.name, len(got), got)
		}
	}
}

// Two instructions that take turns, in two processes: an address counts from what is
// nearer, the last one of the task or that of the instruction.
func TestSites(t *testing.T) {
	var ops []Op
	for i := range 40 {
		op := Op{PID: 2 + i/20, Kind: OpTouch, Addr: mem.VirtAddr(0x10000000 + 8*i), IP: 0x401000}
		if i%2 == 1 {
			op.Addr, op.IP = mem.VirtAddr(0x7fff00000000-64*i), 0x402000
		}
		ops = append(ops, op)
	}
	e := newBlockEncoder()
	e.reset(0)
	for i := range ops {
		e.add(&ops[i])
	}
	_, cols := e.finish()
	if n := len(cols[colAddrs]); n > 4+6+len(ops)-2 {
		t.Errorf("%d bytes of addresses", n)
	}
	if n := len(cols[colIPs]); n != len(ops) {
		t.Errorf("%d bytes of IPs", n)
	}
	data := binaryForm(t, Header{}, ops, nil)
	got, err := readAll(mustOpen(t, data))
	if err != nil || !cmp.Equal(ops, noLines(got)) {
		t.Errorf("%v, %v", got, err)
	}
	got, err = readRuns(mustOpen(t, data).(*Reader), 7)
	if err != nil || !cmp.Equal(ops, noLines(got)) {
		t.Errorf("in runs: %v, %v", got, err)
	}
}

// A run without IPs has no sites.
func TestWrongSites(t *testing.T) {
	ops := []Op{{PID: 2, Kind: OpTouch, Addr: 0x1000}}
	for _, bit := range []byte{headFetch, headSite} {
		data := encodeWith(t, ops, func(e *blockEncoder, _ *Block) { e.cols[colHeads][0] |= bit })
		if got, err := readAll(mustOpen(t, data)); len(got) > 0 || err == nil || !strings.HasSuffix(err.Error(), ": "+errColumns.Error()) {
			t.Errorf("bit %#x: %v, %v", bit, got, err)
		}
	}
}

// The header is written again at the end where it can be.
func TestHeaderAtTheEnd(t *testing.T) {
	begun := Header{Source: "vmsim record", Touches: TouchesComplete}
	final := begun
	final.Lost, final.Whole, final.Missing = 3, true, []string{"the vdso"}
	large := final
	large.Missing = []string{strings.Repeat("x", 5000)}
	record := func(w io.Writer, final Header) {
		t.Helper()
		tw, err := NewWriter(w, begun)
		if err == nil {
			err = tw.Write(&Op{Kind: OpLost, Count: 3})
		}
		if err == nil {
			err = tw.Close(final)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	check := func(name string, data []byte, first, last Header) {
		t.Helper()
		r, err := NewReader(name, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if h, _ := r.Header(); !cmp.Equal(h, first) {
			t.Errorf("%s: at the start %+v", name, h)
		}
		if _, err := readAll(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if h, _ := r.Header(); !cmp.Equal(h, last) {
			t.Errorf("%s: at the end %+v", name, h)
		}
		x, err := OpenIndexed(name, bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		if h, _ := x.Header(); !cmp.Equal(h, last) {
			t.Errorf("%s: by the index %+v", name, h)
		}
	}
	var pipe bytes.Buffer
	record(&pipe, final)
	check("pipe", pipe.Bytes(), begun, final)

	path := filepath.Join(t.TempDir(), "x.vmt")
	for _, c := range []struct {
		name  string
		flags int
		final Header
		first Header
	}{
		{"file", os.O_TRUNC, final, final},
		{"no room", os.O_TRUNC, large, begun},
		{"append", os.O_TRUNC | os.O_APPEND, final, begun},
	} {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|c.flags, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		record(f, c.final)
		at, err := f.Seek(0, io.SeekCurrent)
		if st, err2 := f.Stat(); err != nil || err2 != nil || at != st.Size() {
			t.Errorf("%s: the file is left at %d of %d, %v, %v", c.name, at, st.Size(), err, err2)
		}
		f.Close()
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		check(c.name, data, c.first, c.final)
	}
	// A real pipe has the methods of a file and cannot seek.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() { record(w, final); w.Close() }()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	check("os.Pipe", data, begun, final)
}

func TestWriterErrors(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, Header{})
	if err != nil {
		t.Fatal(err)
	}
	touch := Op{PID: 2, Kind: OpTouch}
	for _, c := range []struct {
		change func(*Op)
		want   string
	}{
		{func(*Op) {}, ""},
		{func(op *Op) { op.PID = 0 }, "touch: process 0 is not in 1 to 2147483647"},
		{func(op *Op) { op.TID = 2 }, "touch: thread 2 of process 2 is not in 1 to 2147483647, or is its first"},
		{func(op *Op) { op.Len = 1 }, "touch: a field is set that this operation does not use"},
		{func(op *Op) { op.Value = 1 }, "touch: a field is set that this operation does not use"},
		{func(op *Op) { op.Access = 3 }, "touch: access 3 is none of read, write, exec"},
		{func(op *Op) { op.Code = 4 }, "touch: error code 0x4 is larger than 0x7fff"},
		{func(op *Op) { op.Line = -1 }, "touch: line -1 is negative"},
		{func(op *Op) { *op = Op{PID: 1, Kind: OpBoot} }, "boot: only the first operation can be one"},
	} {
		op := touch
		c.change(&op)
		got := ""
		if err := w.Write(&op); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %q, want %q", op, got, c.want)
		}
	}
	if err := w.Close(Header{Touches: "some"}); err == nil {
		t.Error("a header that cannot be was written")
	}
	if err := w.Close(Header{}); err != nil {
		t.Error(err)
	}
	if err := w.Write(&touch); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if err := w.Close(Header{}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if ops, err := readAll(mustOpen(t, b.Bytes())); err != nil || len(ops) != 1 {
		t.Error(ops, err)
	}
	if _, err := NewWriter(io.Discard, Header{Host: strings.Repeat("x", maxHeader)}); err == nil {
		t.Error("a large header was written")
	}
	full := errors.New("disk full")
	w, err = NewWriter(&failing{left: slotAlign, err: full}, Header{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := errors.Join(w.Write(&touch), w.Flush()); !errors.Is(err, full) {
			t.Errorf("got %v", err)
		}
	}
	if err := w.Close(Header{}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
}

type failing struct {
	left int
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

func mustOpen(t testing.TB, data []byte) Source {
	t.Helper()
	s, err := Open("x.vmt", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReaderStreams(t *testing.T) {
	data, ops := smallFile(t)
	s, err := Open("x", iotest.OneByteReader(bytes.NewReader(data)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(s); err != nil || len(got) != len(ops) {
		t.Fatal(len(got), err)
	}
	for range 2 {
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("got %v at the end, want EOF", err)
		}
	}
	broken := errors.New("disk on fire")
	s, err = Open("x", io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(broken)))
	if err != nil {
		t.Fatal(err)
	}
	_, err = readAll(s)
	if !errors.Is(err, broken) || err.Error() != "x: disk on fire" {
		t.Errorf("got %v", err)
	}
	if _, again := s.Next(); again != err {
		t.Errorf("got %v after %v: errors must stick", again, err)
	}
	for range s.All() {
		break // the error, and no panic for a consumer that leaves
	}
}

// stepReader gives the bytes of its parts, never of two at once.
type stepReader struct {
	parts [][]byte
	step  int // of the part that was read from last
}

func (r *stepReader) Read(p []byte) (int, error) {
	for ; r.step < len(r.parts); r.step++ {
		if part := r.parts[r.step]; len(part) > 0 {
			n := copy(p, part)
			r.parts[r.step] = part[n:]
			return n, nil
		}
	}
	return 0, io.EOF
}

// Nobody waits for the block behind the one that is there, which a recorder may
// write much later; one that is there is unpacked meanwhile.
func TestReadAhead(t *testing.T) {
	data, ops := smallFile(t)
	blocks := blocksOf(t, data)
	one, two := blocks[1].Offset, blocks[2].Offset
	for _, c := range []struct {
		name  string
		parts [][]byte
		step  []int // once operation 0, and the first of each other block, was read
	}{
		{"a block at a time", [][]byte{data[:one], data[one:two], data[two:]}, []int{0, 1, 2}},
		{"two and one", [][]byte{data[:two], data[two:]}, []int{0, 0, 1}},
	} {
		r := &stepReader{parts: c.parts}
		s, err := Open("x", r)
		if err != nil {
			t.Fatal(err)
		}
		for i := range ops {
			if _, err := s.Next(); err != nil {
				t.Fatal(err)
			}
			block := 0
			for block+1 < len(smallBlocks) && i >= smallBlocks[block+1] {
				block++
			}
			if r.step != c.step[block] {
				t.Fatalf("%s: at operation %d part %d was asked for", c.name, i, r.step)
			}
			if begun := s.(*Reader).begun; begun != (block+1 < len(smallBlocks) && c.step[block] == c.step[block+1]) {
				t.Errorf("%s: at operation %d the next block is begun: %v", c.name, i, begun)
			}
		}
		if _, err := s.Next(); err != io.EOF {
			t.Error(err)
		}
	}
}

// A part of a trace is read by its index, and nothing else of the file.
func TestIndex(t *testing.T) {
	var ops []Op
	for pid := 2; pid < 12; pid++ {
		ops = append(ops, Op{PID: 1, Kind: OpFork, Time: uint64(pid) * 1000, Want: &Answer{PID: pid}})
		for i := range 50 {
			ops = append(ops, Op{PID: pid, Kind: OpTouch, Time: uint64(pid)*1000 + uint64(i), Addr: 4096 * 13})
		}
	}
	data := binaryForm(t, Header{}, ops, func(i int) bool { return ops[i].Kind == OpFork })
	read := &spyReaderAt{r: bytes.NewReader(data)}
	x, err := OpenIndexed("x.vmt", read, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Blocks) != 10 || x.Ops != uint64(len(ops)) {
		t.Fatalf("%d blocks, %d operations", len(x.Blocks), x.Ops)
	}
	for _, c := range []struct {
		name   string
		keep   func(*Block) bool
		blocks []int
	}{
		{"process 5", func(b *Block) bool { return b.Has(5) }, []int{3}},
		{"process 1", func(b *Block) bool { return b.Has(1) }, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"time", func(b *Block) bool { return b.To >= 4010 && b.From <= 6000 }, []int{2, 3, 4}},
		{"the whole trace", func(b *Block) bool { return b.Has(0) }, nil},
	} {
		var want []Op
		for _, i := range c.blocks {
			want = append(want, ops[i*51:(i+1)*51]...)
		}
		read.from, read.to = 1<<62, 0
		got, err := readAll(x.Reader(c.keep))
		for i := range got {
			if n := got[i].Line - 1; n < 0 || n >= len(ops) || n/51 != c.blocks[i/51] {
				t.Fatalf("%s: operation %d has line %d", c.name, i, got[i].Line)
			}
		}
		if err != nil || !cmp.Equal(want, noLines(got)) {
			t.Errorf("%s: %d operations, want %d, %v", c.name, len(got), len(want), err)
		}
		if len(c.blocks) > 0 {
			first, last := x.Blocks[c.blocks[0]], x.Blocks[c.blocks[len(c.blocks)-1]]
			if read.from != first.Offset || read.to != last.Offset+int64(frameSize+last.size) {
				t.Errorf("%s: bytes %d to %d were read", c.name, read.from, read.to)
			}
		}
	}
}

// spyReaderAt knows which part was read.
type spyReaderAt struct {
	r        io.ReaderAt
	from, to int64
}

func (s *spyReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	s.from, s.to = min(s.from, off), max(s.to, off+int64(n))
	return n, err
}

// An index of many frames.
func TestLongIndex(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, Header{})
	if err != nil {
		t.Fatal(err)
	}
	const n = 20000
	for i := range n {
		if err := errors.Join(w.Write(&Op{PID: i + 1, Kind: OpExit, Time: uint64(i) << 32}), w.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(Header{Whole: true}); err != nil {
		t.Fatal(err)
	}
	if frames := bytes.Count(b.Bytes(), []byte(tagIndex)); frames < 2 {
		t.Errorf("%d INDX frames", frames)
	}
	if got := blocksOf(t, b.Bytes()); len(got) != n {
		t.Errorf("%d blocks", len(got))
	}
	if ops, err := readAll(mustOpen(t, b.Bytes())); err != nil || len(ops) != n {
		t.Errorf("%d operations, %v", len(ops), err)
	}
}

// Anything may be read: an error or operations, never a panic, and what is read
// can be written again.
func FuzzReader(f *testing.F) {
	data, _ := smallFile(f)
	f.Add(data)
	f.Add([]byte(ContainerMagic))
	for _, b := range blocksOf(f, data) {
		f.Add(data[b.Offset+frameSize : b.Offset+int64(frameSize+b.size)]) // a body
	}
	f.Add(wrap(f, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		// As a file; as the body of a block with right checksums.
		for _, data := range [][]byte{b, wrap(t, b)} {
			s, err := Open("fuzz", bytes.NewReader(data))
			if err != nil {
				continue
			}
			if _, binary := s.(*Reader); !binary {
				continue
			}
			var got []Op
			for op, e := range s.All() {
				if err = e; e != nil {
					break
				}
				if err := op.Check(); err != nil {
					t.Fatalf("%v: %v", op, err)
				}
				if got = append(got, op); len(got) > 1000 {
					break
				}
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			again, err := readAll(mustOpen(t, binaryForm(t, Header{}, got, nil)))
			if err != nil || len(got) != len(again) || len(got) > 0 && !cmp.Equal(noLines(got), noLines(again)) {
				t.Fatalf("%v: %v is read again as %v", err, got, again)
			}
		}
		if x, err := OpenIndexed("fuzz", bytes.NewReader(b), int64(len(b))); err == nil {
			readAll(x.Reader(nil))
		}
	})
}

// Times around the bounds of their columns, in both units.
func TestTimes(t *testing.T) {
	for _, unit := range []uint64{1, microsecond} {
		var ops []Op
		for i, by := range []int64{1, 0, wideTime - 1, wideTime, wideTime + 1, 1 << 40, -5, -(1 << 39), 0, 1 << 50} {
			last := uint64(0)
			if i > 0 {
				last = ops[i-1].Time
			}
			ops = append(ops, Op{PID: 2, Kind: OpTouch, Time: last + uint64(by)*unit})
		}
		got, err := readAll(mustOpen(t, binaryForm(t, Header{}, ops, nil)))
		if err != nil || !cmp.Equal(ops, noLines(got)) {
			t.Errorf("unit %d: %v, %v", unit, got, err)
		}
	}
}
