package perf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

// words is the contents of a record: numbers of 64 bits, of 32 (int32), and strings.
func words(fields ...any) []byte {
	var b []byte
	for _, f := range fields {
		switch f := f.(type) {
		case int:
			b = binary.LittleEndian.AppendUint64(b, uint64(f))
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, f)
		case int32:
			b = binary.LittleEndian.AppendUint32(b, uint32(f))
		case string:
			b = append(b, f...)
		case []byte:
			b = append(b, f...)
		default:
			panic(fmt.Sprintf("%T", f))
		}
	}
	return b
}

// build makes a record.
func build(kind Kind, misc uint16, fields ...any) []byte {
	b := make([]byte, HeaderSize)
	b = append(b, words(fields...)...)
	binary.LittleEndian.PutUint32(b, uint32(kind))
	binary.LittleEndian.PutUint16(b[4:], misc)
	binary.LittleEndian.PutUint16(b[6:], uint16(len(b)))
	return b
}

const faultFormat = `name: page_fault_user
ID: 190
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:unsigned long address;	offset:8;	size:8;	signed:0;
	field:unsigned long ip;	offset:16;	size:8;	signed:0;
	field:unsigned long error_code;	offset:24;	size:8;	signed:0;

print fmt: "address=%ps ip=%ps error_code=0x%lx", (void *)REC->address, (void *)REC->ip, REC->error_code
`

const enterFormat = `name: sys_enter
ID: 443
format:
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:long id;	offset:8;	size:8;	signed:1;
	field:unsigned long args[6];	offset:16;	size:48;	signed:0;
`

const exitFormat = `name: sys_exit
ID: 442
format:
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:long id;	offset:8;	size:8;	signed:1;
	field:long ret;	offset:16;	size:8;	signed:1;
`

const taskFormat = `name: task_newtask
ID: 205
format:
	field:pid_t pid;	offset:8;	size:4;	signed:1;
	field:char comm[16];	offset:12;	size:16;	signed:0;
	field:u64 clone_flags;	offset:32;	size:8;	signed:0;
	field:short oom_score_adj;	offset:40;	size:2;	signed:1;
`

// Attributes: what this package asks for, and what perf record does.
var (
	ownAttr  = Attr{Type: unix.PERF_TYPE_TRACEPOINT, Period: 1, SampleType: sampleType | unix.PERF_SAMPLE_RAW, Flags: unix.PerfBitSampleIDAll}
	perfAttr = Attr{Type: unix.PERF_TYPE_TRACEPOINT, Period: 1, Flags: unix.PerfBitSampleIDAll,
		SampleType: unix.PERF_SAMPLE_IP | unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME | unix.PERF_SAMPLE_ADDR |
			unix.PERF_SAMPLE_ID | unix.PERF_SAMPLE_CPU | unix.PERF_SAMPLE_PERIOD | unix.PERF_SAMPLE_RAW | unix.PERF_SAMPLE_DATA_SRC}
)

// newDecoder has one event a format, with the ids 1, 2, ...
func newDecoder(t testing.TB, attr Attr) *Decoder {
	t.Helper()
	d := new(Decoder)
	for i, f := range []struct{ system, text string }{
		{"exceptions", faultFormat}, {"raw_syscalls", enterFormat}, {"raw_syscalls", exitFormat}, {"task", taskFormat},
	} {
		p, err := ParseTracepoint(f.system, f.text)
		if err != nil {
			t.Fatal(err)
		}
		e, err := NewEvent("", attr, p)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Add(e, uint64(i+1)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// rawData is the size and the bytes of raw data, padded as the kernel does.
func rawData(fields ...any) []byte {
	b := words(fields...)
	for (len(b)+4)%8 != 0 {
		b = append(b, 0)
	}
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...)
}

var common = words(int32(190), int32(7)) // the first 8 bytes of raw data

func TestDecode(t *testing.T) {
	// struct sample_id as ownAttr has it, and as perfAttr has it.
	own := words(int32(7), int32(8), 1000, 1)
	perf := words(int32(7), int32(8), 1000, 3, int32(5), int32(0))
	name := "/usr/lib/x\x00\x00\x00\x00\x00\x00"
	for label, tt := range map[string]struct {
		attr Attr
		b    []byte
		want Record
	}{
		"a fault": {ownAttr,
			build(KindSample, 2, 1, int32(7), int32(8), 1000, rawData(common, 0x51cbf0, 0x401000, 6)),
			Record{Kind: KindSample, Misc: 2, Time: 1000, PID: 7, TID: 8, ID: 1, Addr: 0x51cbf0, FaultIP: 0x401000, ErrorCode: 6}},
		"a call, by perf record": {perfAttr,
			build(KindSample, 2, 0x1234, int32(7), int32(8), 1000, 0, 2, int32(5), int32(0), 1,
				rawData(common, 9, 1, 2, 3, 4, 5, 6), 0),
			Record{Kind: KindSample, Misc: 2, Time: 1000, PID: 7, TID: 8, CPU: 5, ID: 2, IP: 0x1234, Period: 1,
				Syscall: 9, Args: [6]uint64{1, 2, 3, 4, 5, 6}}},
		"a result": {ownAttr,
			build(KindSample, 2, 3, int32(7), int32(8), 1000, rawData(common, 9, -12)),
			Record{Kind: KindSample, Misc: 2, Time: 1000, PID: 7, TID: 8, ID: 3, Syscall: 9, Ret: -12, HostTID: 7}},
		"a task": {ownAttr,
			build(KindSample, 2, 4, int32(7), int32(8), 1000, rawData(common, int32(99), "0123456789abcdef", int32(0), 0x3d0f00, 0)),
			Record{Kind: KindSample, Misc: 2, Time: 1000, PID: 7, TID: 8, ID: 4, NewPID: 99, CloneFlags: 0x3d0f00}},
		"MMAP2": {ownAttr,
			build(KindMmap2, MiscMmapData, int32(7), int32(8), 0x400000, 0x1000, 0x2000, int32(8), int32(1), 55, 66, int32(5), int32(2), name, own),
			Record{Kind: KindMmap2, Misc: MiscMmapData, Time: 1000, PID: 7, TID: 8, ID: 1, OfPID: 7, OfTID: 8, Addr: 0x400000,
				Len: 0x1000, Offset: 0x2000, Major: 8, Minor: 1, Inode: 55, InodeGen: 66, Prot: 5, Flags: 2, Name: []byte("/usr/lib/x")}},
		"MMAP2 with a build id": {ownAttr,
			build(KindMmap2, MiscMmapBuildID, int32(7), int32(8), 0x400000, 0x1000, 0x2000, int32(3), "abc", make([]byte, 17), int32(5), int32(2), name, own),
			Record{Kind: KindMmap2, Misc: MiscMmapBuildID, Time: 1000, PID: 7, TID: 8, ID: 1, OfPID: 7, OfTID: 8, Addr: 0x400000,
				Len: 0x1000, Offset: 0x2000, BuildID: []byte("abc"), Prot: 5, Flags: 2, Name: []byte("/usr/lib/x")}},
		"MMAP, by perf record": {perfAttr,
			build(KindMmap, 0, int32(7), int32(8), 0x400000, 0x1000, 0x2000, name, perf),
			Record{Kind: KindMmap, Time: 1000, PID: 7, TID: 8, CPU: 5, ID: 3, OfPID: 7, OfTID: 8, Addr: 0x400000, Len: 0x1000,
				Offset: 0x2000, Name: []byte("/usr/lib/x")}},
		"COMM": {ownAttr,
			build(KindComm, MiscCommExec, int32(70), int32(80), "child\x00\x00\x00", own),
			Record{Kind: KindComm, Misc: MiscCommExec, Time: 1000, PID: 7, TID: 8, ID: 1, OfPID: 70, OfTID: 80, Name: []byte("child")}},
		"FORK": {ownAttr,
			build(KindFork, 0, int32(70), int32(7), int32(80), int32(8), 999, own),
			Record{Kind: KindFork, Time: 1000, PID: 7, TID: 8, ID: 1, TaskPID: 70, ParentPID: 7, TaskTID: 80, ParentTID: 8}},
		"EXIT of a task without a number": {ownAttr,
			build(KindExit, 0, int32(70), int32(7), int32(80), int32(8), 999, words(int32(-1), int32(-1), 1000, 1)),
			Record{Kind: KindExit, Time: 1000, PID: -1, TID: -1, ID: 1, TaskPID: 70, ParentPID: 7, TaskTID: 80, ParentTID: 8}},
		"LOST": {ownAttr, build(KindLost, 0, 1, 321, own),
			Record{Kind: KindLost, Time: 1000, PID: 7, TID: 8, ID: 1, Lost: 321}},
		"LOST_SAMPLES": {ownAttr, build(KindLostSamples, 0, 321, own),
			Record{Kind: KindLostSamples, Time: 1000, PID: 7, TID: 8, ID: 1, Lost: 321}},
		"THROTTLE":                   {ownAttr, build(KindThrottle, 0, 999, 1, 1, own), Record{Kind: KindThrottle, Time: 1000, PID: 7, TID: 8, ID: 1}},
		"a kind that is not decoded": {ownAttr, build(17, 0, 999, own), Record{Kind: 17, Time: 1000, PID: 7, TID: 8, ID: 1}},
		"perf's own, without an id": {ownAttr,
			build(KindComm, 0, int32(70), int32(80), "child\x00\x00\x00", make([]byte, 24)),
			Record{Kind: KindComm, OfPID: 70, OfTID: 80, Name: []byte("child")}},
	} {
		t.Run(label, func(t *testing.T) {
			d := newDecoder(t, tt.attr)
			var r Record
			if err := d.Decode(tt.b, &r); err != nil {
				t.Fatal(err)
			}
			if h, _ := ParseHeader(tt.b); d.Time(h, tt.b) != r.Time {
				t.Errorf("time %d, decoded %d", d.Time(h, tt.b), r.Time)
			}
			if wantRaw := tt.b[4] == 2; wantRaw != (len(r.Raw) > 0) {
				t.Errorf("raw data of %d bytes", len(r.Raw))
			}
			opts := cmpopts.IgnoreFields(Record{}, "Event", "Raw")
			if diff := cmp.Diff(tt.want, r, opts); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
			short(t, d, tt.b)
		})
	}
}

// short decodes each beginning of a record, with the size that it then has: an error, or
// a record that needs no more.
func short(t *testing.T, d *Decoder, b []byte) {
	t.Helper()
	for n := range b {
		cut := bytes.Clone(b[:n])
		if n >= HeaderSize {
			binary.LittleEndian.PutUint16(cut[6:], uint16(n))
		}
		var r Record
		err := d.Decode(cut, &r)
		if err == nil && n < HeaderSize+8 {
			t.Errorf("%d bytes of %d: no error", n, len(b))
		}
	}
	var r Record
	if err := d.Decode(append(bytes.Clone(b), 0), &r); !errors.Is(err, ErrShort) {
		t.Errorf("one byte too many: %v", err)
	}
}

func TestDecodeErrors(t *testing.T) {
	own := words(int32(7), int32(8), 1000, 1)
	for label, tt := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":             {nil, "the record is too short: 0 bytes of a header"},
		"size below 8":      {[]byte{9, 0, 0, 0, 0, 0, 7, 0}, "the record is too short: a size of 7 in its header"},
		"no trailer":        {build(KindComm, 0, 5), "COMM: unknown event: id 5"},
		"an unknown id":     {build(KindSample, 0, 77, 0, 0, 0), "SAMPLE: unknown event: id 77"},
		"a sample of no id": {build(KindSample, 0, 0, 0, 0, 0), "SAMPLE: unknown event: id 0"},
		"raw data beyond the end": {build(KindSample, 0, 1, 0, 1000, int32(100), int32(0)),
			"SAMPLE: the record is too short: 100 bytes of raw data in 4"},
		"raw data of 4 GiB": {build(KindSample, 0, 1, 0, 1000, int32(-1), int32(0)),
			"SAMPLE: the record is too short: 4294967295 bytes of raw data in 4"},
		"raw data too short for its fields": {build(KindSample, 0, 1, 0, 1000, rawData(common, 1)),
			"SAMPLE: exceptions:page_fault_user: 20 bytes of raw data: its fields need 32"},
		"a name without an end": {build(KindComm, 0, 0, "abcdefgh", own), "COMM: the record is too short: a name without an end"},
		"a build id of 21 bytes": {build(KindMmap2, MiscMmapBuildID, 0, 0, 0, 0, int32(21), make([]byte, 20), 0, 0, own),
			"MMAP2: a build id of 21 bytes: there is room for 20"},
	} {
		t.Run(label, func(t *testing.T) {
			r := Record{Lost: 1}
			err := newDecoder(t, ownAttr).Decode(tt.b, &r)
			if err == nil || err.Error() != tt.want {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
			if diff := cmp.Diff(Record{Kind: r.Kind, Misc: r.Misc}, r); diff != "" {
				t.Errorf("an error, and a record:\n%s", diff)
			}
		})
	}
}

// The fields that are passed over have the sizes that their counts say.
func TestDecodePassesReadAndCallchain(t *testing.T) {
	attr := ownAttr
	attr.SampleType |= unix.PERF_SAMPLE_READ | unix.PERF_SAMPLE_CALLCHAIN
	for label, tt := range map[string]struct {
		format uint64
		values []any
	}{
		"one":              {0, []any{1}},
		"one, all fields":  {unix.PERF_FORMAT_TOTAL_TIME_ENABLED | unix.PERF_FORMAT_TOTAL_TIME_RUNNING | unix.PERF_FORMAT_ID | unix.PERF_FORMAT_LOST, []any{1, 2, 3, 4, 5}},
		"group":            {unix.PERF_FORMAT_GROUP | unix.PERF_FORMAT_ID, []any{2, 1, 1, 2, 2}},
		"group with times": {unix.PERF_FORMAT_GROUP | unix.PERF_FORMAT_TOTAL_TIME_ENABLED, []any{1, 99, 5}},
	} {
		t.Run(label, func(t *testing.T) {
			attr := attr
			attr.ReadFormat = tt.format
			d := newDecoder(t, attr)
			fields := append([]any{1, 0, 1000}, tt.values...)
			fields = append(fields, 3, 11, 12, 13, rawData(common, 0x51cbf0, 0x401000, 6))
			var r Record
			if err := d.Decode(build(KindSample, 0, fields...), &r); err != nil {
				t.Fatal(err)
			}
			if r.Addr != 0x51cbf0 || r.ErrorCode != 6 {
				t.Errorf("%+v", r)
			}
			for _, n := range []uint64{1 << 63, 1 << 61, 9} { // absurd, overflowing, one too many
				bad := append([]any{1, 0, 1000}, tt.values...)
				bad = append(bad, n, 11, 12)
				if err := d.Decode(build(KindSample, 0, bad...), &r); !errors.Is(err, ErrShort) {
					t.Errorf("a callchain of %d: %v", n, err)
				}
			}
		})
	}
	attr.ReadFormat = unix.PERF_FORMAT_GROUP | unix.PERF_FORMAT_ID // twice a count of 1<<63 is 0
	for _, n := range []uint64{1 << 63, 1 << 60, 1 << 17, 100} {
		var r Record
		if err := newDecoder(t, attr).Decode(build(KindSample, 0, 1, 0, 1000, n, 0, rawData(common, 1, 2, 3)), &r); !errors.Is(err, ErrShort) {
			t.Errorf("a group of %d: %v", n, err)
		}
	}
}

// What comes behind the raw data: the program's registers and its stack.
func TestDecodeUserStack(t *testing.T) {
	attr := ownAttr
	attr.SampleType |= unix.PERF_SAMPLE_REGS_USER | unix.PERF_SAMPLE_STACK_USER
	attr.UserRegs = 1<<3 | 1<<regSP | 1<<regIP
	raw := rawData(common, 0x51cbf0, 0x401000, 6)
	for label, tt := range map[string]struct {
		fields []any
		want   Record // its own fields
		err    error
	}{
		"both":                 {[]any{2, 99, 0x7ff0, 0x401000, 16, []byte("0123456789abcdef"), 12}, Record{UserABI: ABI64, UserSP: 0x7ff0, UserIP: 0x401000, UserStack: []byte("0123456789ab")}, nil},
		"no program":           {[]any{0, 0}, Record{}, nil},
		"registers alone":      {[]any{1, 99, 0x7ff0, 0x401000, 0}, Record{UserABI: ABI32, UserSP: 0x7ff0, UserIP: 0x401000}, nil},
		"more than the stack":  {[]any{0, 8, []byte("01234567"), uint64(1 << 63)}, Record{UserStack: []byte("01234567")}, nil},
		"no registers":         {[]any{2, 99, 0x7ff0}, Record{}, ErrShort},
		"an absurd stack":      {[]any{0, uint64(1 << 63), 0}, Record{}, ErrShort},
		"one word too much":    {[]any{0, 16, []byte("01234567")}, Record{}, ErrShort},
		"nobody says how much": {[]any{0, 8, []byte("01234567")}, Record{}, ErrShort},
	} {
		t.Run(label, func(t *testing.T) {
			var r Record
			err := newDecoder(t, attr).Decode(build(KindSample, 0, append([]any{1, 0, 1000, raw}, tt.fields...)...), &r)
			if !errors.Is(err, tt.err) {
				t.Fatalf("%v, want %v", err, tt.err)
			}
			got := Record{UserABI: r.UserABI, UserSP: r.UserSP, UserIP: r.UserIP, UserStack: r.UserStack}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if err == nil && r.Addr != 0x51cbf0 {
				t.Errorf("the fault at %v", r.Addr)
			}
		})
	}
}

func TestAddRefuses(t *testing.T) {
	off := ownAttr
	off.Flags = 0
	none := ownAttr
	none.SampleType &^= unix.PERF_SAMPLE_IDENTIFIER
	for label, tt := range map[string]struct {
		attrs []Attr
		want  string
	}{
		"no trailer":       {[]Attr{off}, "e0: sample_id_all is off: its records do not say when and where"},
		"ids elsewhere":    {[]Attr{ownAttr, perfAttr}, "e1: unknown event: its records have their ids elsewhere than those of e0"},
		"two without ids":  {[]Attr{none, none}, "e1: unknown event: there are several, and records do not say whose they are"},
		"one without ids":  {[]Attr{none}, ""},
		"two of one shape": {[]Attr{ownAttr, ownAttr}, ""},
	} {
		t.Run(label, func(t *testing.T) {
			var d Decoder
			var err error
			for i, a := range tt.attrs {
				e, nerr := NewEvent(fmt.Sprintf("e%d", i), a, nil)
				if nerr != nil {
					t.Fatal(nerr)
				}
				if err = d.Add(e, uint64(i)); err != nil {
					break
				}
			}
			if got := fmt.Sprint(err); got != tt.want && (err != nil || tt.want != "") {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestParseTracepoint(t *testing.T) {
	got, err := ParseTracepoint("raw_syscalls", enterFormat)
	if err != nil {
		t.Fatal(err)
	}
	want := &Tracepoint{System: "raw_syscalls", Name: "sys_enter", ID: 443, Fields: []Field{
		{"common_pid", "int", 4, 4, true}, {"id", "long", 8, 8, true}, {"args", "unsigned long", 16, 48, false},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for label, text := range map[string]string{
		"empty":            "",
		"no ID":            "name: x\n",
		"a bad ID":         "name: x\nID: y\n",
		"no offset":        "name: x\nID: 1\n\tfield:int a;\tsize:4;\tsigned:1;\n",
		"offset too large": "name: x\nID: 1\n\tfield:int a;\toffset:99999999;\tsize:4;\tsigned:1;\n",
		"negative":         "name: x\nID: 1\n\tfield:int a;\toffset:-8;\tsize:4;\tsigned:1;\n",
		"no name":          "name: x\nID: 1\n\tfield:int ;\toffset:8;\tsize:4;\tsigned:1;\n",
		"many fields":      "name: x\nID: 1\n" + strings.Repeat("\tfield:int a;\toffset:8;\tsize:4;\tsigned:1;\n", maxFields+1),
	} {
		if p, err := ParseTracepoint("s", text); p != nil || !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %v", label, p, err)
		}
	}
}

// A layout that has the fields elsewhere, or smaller, is followed.
func TestLayoutIsReadNotKnown(t *testing.T) {
	moved := strings.NewReplacer("offset:8;\tsize:8", "offset:24;\tsize:8", "offset:24;\tsize:8", "offset:8;\tsize:2").Replace(faultFormat)
	p, err := ParseTracepoint("exceptions", moved)
	if err != nil {
		t.Fatal(err)
	}
	e, err := NewEvent("", ownAttr, p)
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	if err := d.Add(e, 1); err != nil {
		t.Fatal(err)
	}
	var r Record
	if err := d.Decode(build(KindSample, 0, 1, 0, 1000, rawData(common, 0xffff0006, 0x401000, 0x51cbf0)), &r); err != nil {
		t.Fatal(err)
	}
	if r.Addr != 0x51cbf0 || r.FaultIP != 0x401000 || r.ErrorCode != 6 {
		t.Errorf("%v %v %#x", r.Addr, r.FaultIP, r.ErrorCode)
	}
	p.Fields = p.Fields[:2]
	if _, err := NewEvent("", ownAttr, p); err == nil || err.Error() != "exceptions:page_fault_user: it has no field address" {
		t.Errorf("without its fields: %v", err)
	}
	p.Fields = []Field{{"address", "char", 8, 3, false}}
	if _, err := NewEvent("", ownAttr, p); err == nil || !strings.Contains(err.Error(), "field address of 3 bytes") {
		t.Errorf("with an odd field: %v", err)
	}
}

func TestParseCPUs(t *testing.T) {
	for text, want := range map[string]string{
		"0\n": "[0]", "0-1\n": "[0 1]", "0-2,5,7-8": "[0 1 2 5 7 8]",
		"": "error", "a": "error", "3-1": "error", "0-99999999999": "error", "0-60000": "error", "-1": "error",
	} {
		cpus, err := parseCPUs(text)
		got := fmt.Sprint(cpus)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestParseAttr(t *testing.T) {
	b := words(int32(2), int32(112), 190, 1, 0x487, 4, uint64(unix.PerfBitUseClockID), make([]byte, 32), 0x180, int32(0), int32(1), make([]byte, 16))
	got, err := ParseAttr(b)
	if err != nil {
		t.Fatal(err)
	}
	want := Attr{Type: 2, Config: 190, Period: 1, SampleType: 0x487, ReadFormat: 4, Flags: unix.PerfBitUseClockID, ClockID: 1, UserRegs: 0x180}
	if got != want || len(b) != 112 {
		t.Errorf("%+v of %d bytes, want %+v", got, len(b), want)
	}
	want.ClockID, want.UserRegs = 0, 0
	if got, err := ParseAttr(b[:MinAttrSize]); err != nil || got != want {
		t.Errorf("the first version: %+v, %v", got, err)
	}
	if _, err := ParseAttr(b[:MinAttrSize-1]); err == nil {
		t.Error("63 bytes are taken")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(uint64(ownAttr.SampleType), uint64(0), build(KindSample, 2, 1, int32(7), int32(8), 1000, rawData(common, 0x51cbf0, 0x401000, 6)))
	f.Add(uint64(perfAttr.SampleType), uint64(31), build(KindMmap2, MiscMmapBuildID, make([]byte, 120)))
	f.Add(uint64(1<<25-1), uint64(31), build(KindSample, 0, make([]byte, 200)))
	f.Add(uint64(ownAttr.SampleType|unix.PERF_SAMPLE_REGS_USER|unix.PERF_SAMPLE_STACK_USER), uint64(0x180),
		build(KindSample, 2, 1, int32(7), int32(8), 1000, rawData(common, 0x51cbf0, 0x401000, 6), 2, 0x7ff0, 0x401000, 8, 77, 8))
	f.Fuzz(func(t *testing.T, sampleType, format uint64, b []byte) {
		attr := ownAttr
		attr.SampleType, attr.ReadFormat, attr.UserRegs = sampleType|unix.PERF_SAMPLE_IDENTIFIER, format, format
		d := newDecoder(t, attr)
		r := Record{Lost: 1}
		err := d.Decode(b, &r)
		if h, herr := ParseHeader(b); herr == nil {
			d.Time(h, b)
		} else if err == nil {
			t.Errorf("no header, and no error")
		}
		if err != nil {
			if diff := cmp.Diff(Record{Kind: r.Kind, Misc: r.Misc}, r); diff != "" {
				t.Errorf("an error, and a record:\n%s", diff)
			}
			return
		}
		if len(r.Raw) > len(b) || len(r.Name) > len(b) || len(r.BuildID) > 20 || len(r.UserStack) > len(b) {
			t.Errorf("more than there was: %+v", r)
		}
	})
}

func FuzzParseTracepoint(f *testing.F) {
	f.Add(faultFormat)
	f.Add(taskFormat)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseTracepoint("exceptions", text)
		if (p == nil) == (err == nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil {
			return
		}
		if e, err := NewEvent("", ownAttr, p); err == nil {
			var d Decoder
			var r Record
			if err := d.Add(e, 1); err == nil {
				d.Decode(build(KindSample, 0, 1, 0, 1000, rawData(make([]byte, 64))), &r)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	d := newDecoder(b, ownAttr)
	sample := build(KindSample, 2, 1, int32(7), int32(8), 1000, rawData(common, 0x51cbf0, 0x401000, 6))
	var r Record
	if err := d.Decode(sample, &r); err != nil || r.Addr != 0x51cbf0 {
		b.Fatal(err, r.Addr)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Decode(sample, &r); err != nil {
			b.Fatal(err)
		}
	}
}
