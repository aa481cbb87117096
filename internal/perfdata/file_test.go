package perfdata

import (
	"bytes"
	gocmp "cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/internal/perf"
)

// golden returns a file of testdata.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// key is a record as tests of damage compare it: without what only the layouts tell.
type key struct {
	kind     perf.Kind
	time     uint64
	pid, tid int32
}

// parse reads a file from memory: its records, and why there are no more.
func parse(b []byte) ([]key, *File, error) {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, nil, err
	}
	var keys []key
	err = f.Read(func(r *perf.Record) error {
		keys = append(keys, key{r.Kind, r.Time, r.PID, r.TID})
		return nil
	})
	return keys, f, err
}

// goldenFilter is what RecordCommand filtered by when the golden files were recorded:
// calls that make processes, too.
const goldenFilter = "id == 9 || id == 10 || id == 11 || id == 12 || id == 25 || id == 28 || id == 30 || id == 67 || " +
	"id == 216 || id == 329 || id == 440 || id == 462 || id == 149 || id == 150 || id == 151 || id == 152 || id == 325 || " +
	"id == 56 || id == 57 || id == 58 || id == 59 || id == 60 || id == 231 || id == 322 || id == 435 || id == 135 || id == 157"

func TestGolden(t *testing.T) {
	for _, name := range []string{"plain", "compressed"} {
		t.Run(name, func(t *testing.T) {
			b := golden(t, name+".data")
			f, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Split(strings.TrimSpace(string(golden(t, name+".txt"))), "\n")
			if diff := cmp.Diff(want, lines(t, f)); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			info := f.Info()
			command := RecordCommand("/mnt/" + name + ".data")[2:]
			info.Command[0] = "perf" // it writes where it is
			for i, w := range command {
				if w == perf.SyscallFilter(perf.MemoryAndExit) {
					command[i] = goldenFilter
				}
			}
			if name == "compressed" {
				command = slices.Insert(command, 4, "-z")
			}
			wantInfo := Info{Host: "host", Release: "6.18.44-fc-v595", Version: "6.1.187", Arch: "x86_64", CPUs: 2,
				Command: append(command, "/mnt/child", "tasks", "1"), Compressed: name == "compressed", Clock: 1, HasClock: true}
			// perf drops the -- that ends its options.
			wantInfo.Command = slices.DeleteFunc(wantInfo.Command, func(w string) bool { return w == "--" })
			info.Command = slices.DeleteFunc(info.Command, func(w string) bool { return w == "--" })
			if diff := cmp.Diff(wantInfo, info); diff != "" {
				t.Errorf("info (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(Facts{}, f.Facts()); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}

// What a file lacks is found in its attributes.
func TestMissing(t *testing.T) {
	b := golden(t, "plain.data")
	const attr, period, flags = fileHeaderSize, 16, 40 // of the attributes that are first in the file
	at := int(binary.LittleEndian.Uint64(b[24:]))
	for label, tt := range map[string]struct {
		change func(attr []byte)
		want   []perf.Missing
	}{
		"nothing": {func([]byte) {}, nil},
		"sampled": {func(a []byte) { binary.LittleEndian.PutUint64(a[period:], 7) },
			[]perf.Missing{{What: MissingSamples, Why: "exceptions:page_fault_user: one sample for 7: recorded without -c 1"}}},
		"a frequency": {func(a []byte) { binary.LittleEndian.PutUint64(a[period:], 4000); a[flags+1] |= 1 << 2 },
			[]perf.Missing{{What: MissingSamples, Why: "exceptions:page_fault_user: 4000 samples a second: recorded without -c 1"}}},
		"no data": {func(a []byte) { a[flags+2] &^= 1 << 1 },
			[]perf.Missing{{What: MissingDataMaps, Why: "recorded without -d"}}},
		"no tasks, no execs, no mappings": {func(a []byte) { a[flags] = 3; a[flags+1] = 0; a[flags+2] &^= 1<<1 | 1<<7; a[flags+3] &^= 1 },
			[]perf.Missing{{What: MissingMaps, Why: "no event asks for them"}, {What: MissingDataMaps, Why: "recorded without -d"},
				{What: MissingTasks, Why: "no event asks for them"}, {What: MissingExecs, Why: "no event asks for them"}}},
		"no children": {func(a []byte) { a[flags] &^= 2 }, []perf.Missing{{What: MissingChildren, Why: "recorded with --no-inherit"}}},
		"another tracepoint": {func(a []byte) { a[8] = 0xff },
			[]perf.Missing{{What: MissingLayouts, Why: "exceptions:page_fault_user: the file does not have it"},
				{What: perf.MissingCodes, Why: "recorded without exceptions:page_fault_user"}}},
	} {
		t.Run(label, func(t *testing.T) {
			b := bytes.Clone(b)
			tt.change(b[at:])
			f, err := Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, f.Facts().Missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	plain := golden(t, "plain.data")
	change := func(at int, v uint64) []byte {
		b := bytes.Clone(plain)
		binary.LittleEndian.PutUint64(b[at:], v)
		return b
	}
	attrs := int(binary.LittleEndian.Uint64(plain[24:]))
	attrSize := int(binary.LittleEndian.Uint64(plain[16:]))
	for label, tt := range map[string]struct {
		b    []byte
		err  error
		want string
	}{
		"empty":             {nil, ErrNotPerf, "it has 0 bytes"},
		"an ELF file":       {[]byte("\x7fELF0123456789abcdefgh"), ErrNotPerf, `it begins with "\x7fELF0123"`},
		"other byte order":  {append([]byte("2ELIFREP"), make([]byte, 200)...), ErrUnsupported, "the other byte order"},
		"version 1":         {append([]byte("PERFFILE"), make([]byte, 200)...), ErrUnsupported, "version 1"},
		"header":            {change(8, 105), ErrDamaged, "at 0x8: a header of 105 bytes"},
		"half a header":     {plain[:60], ErrDamaged, "it ends in its header, after 60 bytes"},
		"attributes of 0":   {change(16, 0), ErrDamaged, "at 0x10: attributes of 0 bytes"},
		"huge attributes":   {change(16, 1<<63), ErrDamaged, "at 0x10: attributes of"},
		"many events":       {change(32, 1<<60), ErrDamaged, "at 0x20:"},
		"attributes beyond": {change(24, 1<<63), ErrDamaged, "attributes: damaged: [0x8000000000000000"},
		"ids beyond":        {change(attrs+attrSize-8, 1<<62), ErrDamaged, "ids of event 0: damaged"},
		"a directory":       {change(72, binary.LittleEndian.Uint64(plain[72:])|1<<24), ErrUnsupported, "--threads"},
		"an empty pipe":     {append([]byte("PERFILE2"), 16, 0, 0, 0, 0, 0, 0, 0), ErrDamaged, "at 0x10: it has no record of the kernel"},
	} {
		t.Run(label, func(t *testing.T) {
			f, err := Open(bytes.NewReader(tt.b), int64(len(tt.b)))
			if f != nil {
				t.Error("a file, and an error")
			}
			if !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant %v: %s", err, tt.err, tt.want)
			}
		})
	}
}

// dataOf returns where the records of a file are.
func dataOf(b []byte) (start, end int) {
	start = int(binary.LittleEndian.Uint64(b[40:]))
	return start, start + int(binary.LittleEndian.Uint64(b[48:]))
}

// ends returns the offset behind each record of the kernel.
func ends(t testing.TB, b []byte) []int {
	t.Helper()
	var ends []int
	start, end := dataOf(b)
	for start < end {
		h, err := perf.ParseHeader(b[start:end])
		if err != nil {
			t.Fatal(err)
		}
		start += h.Size
		if h.Kind < perf.KindUser {
			ends = append(ends, start)
		}
	}
	return ends
}

// A file that is cut off gives what is whole before the cut, and says that there was more.
func TestCut(t *testing.T) {
	plain := golden(t, "plain.data")
	all, _, err := parse(plain)
	if err != nil {
		t.Fatal(err)
	}
	ends := ends(t, plain)
	start, _ := dataOf(plain)
	step := 1 // every byte of what is before the records and of the first of them
	for n := 0; n < len(plain); n += step {
		if n > start+1000 {
			step = 13
		}
		keys, _, err := parse(plain[:n])
		if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotPerf) {
			t.Fatalf("cut at %#x: %v", n, err)
		}
		want, _ := slices.BinarySearch(ends, n+1)
		if n < start {
			want = 0
		}
		if len(keys) != want {
			t.Fatalf("cut at %#x: %d records, and %d are whole", n, len(keys), want)
		}
		subset(t, fmt.Sprintf("cut at %#x", n), all, keys)
	}
	compressed := golden(t, "compressed.data")
	all, _, _ = parse(compressed)
	start, end := dataOf(compressed)
	last := 0
	for n := start; n < len(compressed); n += 37 {
		keys, _, err := parse(compressed[:n])
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("compressed, cut at %#x: %v", n, err)
		}
		subset(t, fmt.Sprintf("compressed, cut at %#x", n), all, keys)
		if len(keys) < last || n > end && len(keys) != len(all) {
			t.Fatalf("compressed, cut at %#x: %d records, %d before", n, len(keys), last)
		}
		last = len(keys)
	}
}

// subset checks that got is of want, in that order.
func subset(t testing.TB, label string, want, got []key) {
	t.Helper()
	i := 0
	for _, k := range got {
		for i < len(want) && want[i] != k {
			i++
		}
		if i == len(want) {
			t.Fatalf("%s: %+v is not of the file, or not in its order", label, k)
		}
		i++
	}
}

// A byte that is wrong changes nothing before it.
func TestFlipped(t *testing.T) {
	for _, name := range []string{"plain.data", "compressed.data"} {
		b := golden(t, name)
		ends := ends(t, b)
		start, end := dataOf(b)
		for n := range b {
			every := 29 // but each byte of the header, the attributes and the first records
			if name == "plain.data" && n < start+1000 {
				every = 1
			}
			if n%every > 0 {
				continue
			}
			flipped := bytes.Clone(b)
			flipped[n] ^= 0xff
			keys, _, err := parse(flipped)
			if name == "plain.data" && n >= start && n < end {
				whole, _ := slices.BinarySearch(ends, n+1)
				if len(keys) < whole {
					t.Fatalf("%s: byte %#x: %d records, and %d were before it: %v", name, n, len(keys), whole, err)
				}
			}
			if n < 8 && err == nil {
				t.Fatalf("%s: byte %#x: no error", name, n)
			}
		}
	}
}

// rebuild returns a file with each record of its data replaced by what change returns.
func rebuild(t testing.TB, b []byte, change func(h perf.Header, record []byte) []byte) []byte {
	t.Helper()
	start, end := dataOf(b)
	out := bytes.Clone(b[:start])
	for at := start; at < end; {
		h, err := perf.ParseHeader(b[at:end])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, change(h, b[at:at+h.Size])...)
		at += h.Size
	}
	binary.LittleEndian.PutUint64(out[48:], uint64(len(out)-start))
	shift := uint64(len(out) - end)
	tail := bytes.Clone(b[end:])
	features := 0
	for i := range numFeatures {
		if b[72+i/8]&(1<<(i%8)) != 0 {
			at := tail[16*features:]
			binary.LittleEndian.PutUint64(at, binary.LittleEndian.Uint64(at)+shift)
			features++
		}
	}
	return append(out, tail...)
}

// record makes one of perf's own.
func own(kind perf.Kind, contents ...byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(kind))
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(perf.HeaderSize+len(contents)))
	return append(b, contents...)
}

// The same records come out of other forms of a file.
func TestRebuilt(t *testing.T) {
	for label, tt := range map[string]struct {
		file    string
		change  func(h perf.Header, b []byte) []byte
		skipped uint64
	}{
		"as it is": {file: "compressed.data", change: func(_ perf.Header, b []byte) []byte { return b }},
		"COMPRESSED2": {file: "compressed.data", change: func(h perf.Header, b []byte) []byte {
			if h.Kind != kindCompressed {
				return b
			}
			data := b[perf.HeaderSize:]
			contents := append(binary.LittleEndian.AppendUint64(nil, uint64(len(data))), data...)
			for len(contents)%8 != 0 {
				contents = append(contents, 0xff) // which are none of the stream
			}
			return own(kindCompressed2, contents...)
		}},
		"cut into small pieces, with notes between": {file: "compressed.data", change: func(h perf.Header, b []byte) []byte {
			if h.Kind != kindCompressed {
				return b
			}
			var out []byte
			for piece := range slices.Chunk(b[perf.HeaderSize:], 13) {
				out = append(out, own(kindCompressed, piece...)...)
				out = append(out, own(kindCompressed)...)
				out = append(out, own(82)...)
			}
			return out
		}},
		"AUX data, notes of unknown kinds": {file: "plain.data", skipped: 107 * 24, change: func(h perf.Header, b []byte) []byte {
			if h.Kind >= perf.KindUser {
				return b
			}
			out := append(own(kindAuxtrace, 24, 0, 0, 0, 0, 0, 0, 0), bytes.Repeat([]byte{0xff}, 24)...)
			out = append(out, own(9999, 1, 2, 3)...)
			return append(out, b...)
		}},
	} {
		t.Run(label, func(t *testing.T) {
			b := golden(t, tt.file)
			want, _, err := parse(b)
			if err != nil {
				t.Fatal(err)
			}
			got, f, err := parse(rebuild(t, b, tt.change))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(key{})); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if s := f.Facts().Skipped; s != tt.skipped {
				t.Errorf("%d bytes skipped, want %d", s, tt.skipped)
			}
		})
	}
}

// Damage inside the records is told with its offset, and what comes before is delivered.
func TestDamage(t *testing.T) {
	n := 0
	third := func(f func(b []byte) []byte) func(perf.Header, []byte) []byte {
		n = 0
		return func(h perf.Header, b []byte) []byte {
			if h.Kind == perf.KindSample {
				if n++; n == 3 {
					return f(bytes.Clone(b))
				}
			}
			return b
		}
	}
	plain := golden(t, "plain.data")
	all, _, err := parse(plain)
	if err != nil {
		t.Fatal(err)
	}
	at := 0 // of the third sample
	rebuild(t, plain, third(func(b []byte) []byte { at = bytes.Index(plain, b); return b }))
	before, _ := slices.BinarySearch(ends(t, plain), at+1)
	for label, tt := range map[string]struct {
		change func(b []byte) []byte
		want   string
	}{
		"a size of 0":    {func(b []byte) []byte { b[6], b[7] = 0, 0; return b }, "the record is too short: a size of 0 in its header"},
		"an unknown id":  {func(b []byte) []byte { b[40] ^= 0x80; return b }, "SAMPLE: unknown event: id"},
		"AUX beyond":     {func([]byte) []byte { return own(kindAuxtrace, 0, 0, 0, 0, 0, 0, 0, 0x80) }, "9223372036854775808 bytes behind it"},
		"AUX of nothing": {func([]byte) []byte { return own(kindAuxtrace) }, "AUXTRACE of 8 bytes"},
		"no zstd":        {func(b []byte) []byte { return own(kindCompressed, b...) }, "zstd: "},
		"COMPRESSED2":    {func(b []byte) []byte { return own(kindCompressed2, 9, 0, 0, 0, 0, 0, 0, 0, 1) }, "COMPRESSED2: 9 bytes in 1"},
	} {
		t.Run(label, func(t *testing.T) {
			keys, _, err := parse(rebuild(t, plain, third(tt.change)))
			if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("at %#x: ", at)) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v\nwant at %#x: %s", err, at, tt.want)
			}
			if len(keys) < before {
				t.Errorf("%d records, and %d were before the damage", len(keys), before)
			}
			subset(t, label, all, keys)
		})
	}
}

// Records that are apart by more than the limit come late, and are counted; the others are in order.
func TestMemoryIsBounded(t *testing.T) {
	b := rebuild(t, golden(t, "plain.data"), func(h perf.Header, b []byte) []byte {
		if h.Kind == kindFinishedRound {
			return nil
		}
		return b
	})
	// The first record with a time becomes the last of the file: without rounds it is seen at the end.
	var first []byte
	start, end := dataOf(b)
	b = rebuild(t, b, func(h perf.Header, r []byte) []byte {
		if h.Kind == perf.KindComm && h.Misc&perf.MiscCommExec != 0 && first == nil {
			first = r
			return nil
		}
		return r
	})
	end -= len(first)
	b = slices.Concat(b[:end], first, b[end:])
	binary.LittleEndian.PutUint64(b[48:], uint64(end+len(first)-start))
	features := 0
	for i := range numFeatures {
		if b[72+i/8]&(1<<(i%8)) != 0 {
			at := b[end+len(first)+16*features:]
			binary.LittleEndian.PutUint64(at, binary.LittleEndian.Uint64(at)+uint64(len(first)))
			features++
		}
	}
	for _, limit := range []int{1 << 20, 2000} {
		f, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		f.order.limit = limit
		n, held := 0, 0
		if err := f.Read(func(*perf.Record) error { n++; held = max(held, len(f.order.bytes)); return nil }); err != nil {
			t.Fatal(err)
		}
		wantLate := uint64(0)
		if limit < 1<<20 {
			wantLate = 1
		}
		if n != 107 || f.Facts().Late != wantLate || held > limit {
			t.Errorf("limit %d: %d records, %d late, %d bytes held", limit, n, f.Facts().Late, held)
		}
	}
}

// A record may come one round after younger ones.
func TestRounds(t *testing.T) {
	plain := golden(t, "plain.data")
	all, _, err := parse(plain)
	if err != nil {
		t.Fatal(err)
	}
	var records [][]byte
	rebuild(t, plain, func(h perf.Header, b []byte) []byte {
		if h.Kind < perf.KindUser {
			records = append(records, b)
		}
		return nil
	})
	f, err := Open(bytes.NewReader(plain), int64(len(plain)))
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(records, func(a, b []byte) int {
		ha, _ := perf.ParseHeader(a)
		hb, _ := perf.ParseHeader(b)
		return gocmp.Compare(f.dec.Time(ha, a), f.dec.Time(hb, b))
	})
	// 0 2 | 1 4 | 3 6 | 5 8 | ...
	var out []byte
	for i := -1; i < len(records); i += 2 {
		for _, at := range []int{max(i, 0), i + 3} {
			if at < len(records) {
				out = append(out, records[at]...)
			}
		}
		out = append(out, own(kindFinishedRound)...)
	}
	first := true
	b := rebuild(t, plain, func(perf.Header, []byte) []byte {
		if !first {
			return nil
		}
		first = false
		return out
	})
	got, f, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, got, cmp.AllowUnexported(key{})); diff != "" || f.Facts().Late != 0 {
		t.Errorf("%d late, records (-want +got):\n%s", f.Facts().Late, diff)
	}
	if n := cap(f.order.bytes); n > 2048 {
		t.Errorf("%d bytes were held", n)
	}
}

// A file that perf did not finish: its header says that there are no records.
func TestUnfinished(t *testing.T) {
	plain := golden(t, "plain.data")
	all, _, err := parse(plain)
	if err != nil {
		t.Fatal(err)
	}
	_, end := dataOf(plain)
	b := bytes.Clone(plain[:end])
	binary.LittleEndian.PutUint64(b[48:], 0)
	got, f, err := parse(b)
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "at 0x30: perf record was ended") {
		t.Error(err)
	}
	if diff := cmp.Diff(all, got, cmp.AllowUnexported(key{})); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if m := f.Facts().Missing; len(m) == 0 || m[0].What != MissingInfo {
		t.Errorf("missing: %v", m)
	}
}

// An error of the reader of records ends it.
func TestReadStops(t *testing.T) {
	b := golden(t, "plain.data")
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	stop := errors.New("enough")
	n := 0
	if err := f.Read(func(*perf.Record) error {
		if n++; n == 5 {
			return stop
		}
		return nil
	}); err != stop || n != 5 {
		t.Errorf("%v after %d", err, n)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"plain.data", "compressed.data"} {
		f.Add(golden(f, name))
	}
	f.Add([]byte("PERFILE2\x10\x00\x00\x00\x00\x00\x00\x00\x44\x00\x00\x00\x00\x00\x08\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		file, err := Open(bytes.NewReader(b), int64(len(b)))
		if (file == nil) == (err == nil) {
			t.Fatalf("a file and an error, or neither: %v", err)
		}
		if err != nil {
			return
		}
		last, late := uint64(0), uint64(0)
		file.Read(func(r *perf.Record) error {
			if r.Time != 0 && r.Time+1 != 0 {
				if r.Time < last {
					late++
				}
				last = max(last, r.Time)
			}
			return nil
		})
		if late > file.Facts().Late {
			t.Errorf("%d records were late, and %d were counted", late, file.Facts().Late)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	data := golden(b, "plain.data")
	records, _, err := parse(data)
	if err != nil {
		b.Fatal(err)
	}
	// One file with the records of many.
	start, end := dataOf(data)
	const times = 200
	one := bytes.Clone(data[start:end])
	first := true
	large := rebuild(b, data, func(_ perf.Header, r []byte) []byte {
		if !first {
			return nil
		}
		first = false
		return bytes.Repeat(one, times)
	})
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		f, err := Open(bytes.NewReader(large), int64(len(large)))
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		if err := f.Read(func(*perf.Record) error { n++; return nil }); err != nil || n != times*len(records) {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(times*len(records)), "ns/record")
}
