package importer

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/mem"
	"vmsim/trace"
)

var lackeyRows = []struct {
	name    string
	log     string
	want    string
	missing []string
	err     string
}{
	{name: "empty", missing: []string{"mappings are missing", "exec is missing", "the command is missing", "the end of the process is missing"}},
	{
		name: "each kind, messages, end",
		log: `==7== Lackey, an example Valgrind tool
==7== Command: ls -l
--7-- REDIR: 0x401f 
I  0401ab70,3
 L 1fff000748,8
 S 1fff000740,16
 M 04a27768,1
SB 0401ab70
**7** printed by the program
==7== Exit code:       3
`,
		want: `2 touch x 0x401ab70
2 touch r 0x1fff000748
2 touch w 0x1fff000740
2 touch w 0x4a27768
2 exit 3
`,
		missing: []string{"the words of the command are missing: valgrind writes them without quotes: ls -l"},
	},
	{
		name: "over the end of a page",
		log:  " L 00000ffc,5\n S 00000ffc,4\nI  0401afff,2\n L fffffffffffffff8,8\n",
		want: `2 touch r 0xffc
2 touch r 0x1000
2 touch w 0xffc
2 touch x 0x401afff
2 touch x 0x401b000
2 touch r 0xfffffffffffffff8
`,
	},
	{
		name: "killed: the status that follows is none",
		log: `I  0401ab70,3
==7== Process terminating with default action of signal 11 (SIGSEGV)
==7== Exit code:       0
`,
		want: "2 touch x 0x401ab70\n2 exit signal=11\n",
	},
	{
		name: "a second process in the file",
		log: `==7== Command: sh
I  0401ab70,3
==8== Command: true
`,
		want: "2 touch x 0x401ab70\n", missing: []string{"which references are of the first process"},
		err: "x.log:3: processes 7 and 8 write into the same file: whose references are whose is unknown (give each its file: --log-file=NAME.%p)",
	},
	{name: "output of the program", log: "I  0401ab70,3\nhello\n", want: "2 touch x 0x401ab70\n",
		err: `x.log:2: "hello" is neither a reference of lackey nor a message of valgrind`},
	{name: "cut off", log: "I  0401ab70,3\nI  0401ab70,1", want: "2 touch x 0x401ab70\n", err: "x.log:2: the line is cut off: its end is missing"},
	{name: "no size", log: "I  0401ab70,\n", err: badReference("0401ab70,")},
	{name: "no comma", log: "I  0401ab70 3\n", err: badReference("0401ab70 3")},
	{name: "no address", log: " L ,888\n", err: badReference(",888")},
	{name: "17 digits", log: " L 00000000000000001,8\n", err: badReference("00000000000000001,8")},
	{name: "size 0", log: " L 1000,0\n", err: badReference("1000,0")},
	{name: "size 513", log: " L 1000,513\n", err: badReference("1000,513")},
	{name: "a huge size", log: " L 1000,99999999999999999999\n", err: badReference("1000,99999999999999999999")},
	{name: "zeros in front", log: " L 1000,0000000000000008\n", err: badReference("1000,0000000000000008")},
	{name: "not a digit", log: " L 1000,8x\n", err: badReference("1000,8x")},
	{name: "beyond 64 bits", log: " L ffffffffffffffff,2\n", err: badReference("ffffffffffffffff,2")},
}

func badReference(s string) string {
	return fmt.Sprintf("x.log:1: %q is not an address, a comma and a size of 1 to 512 bytes", s)
}

func TestLackey(t *testing.T) {
	for _, row := range lackeyRows {
		t.Run(row.name, func(t *testing.T) {
			got := run(t, Lackey, strings.NewReader(row.log))
			if diff := cmp.Diff(row.want, got.text()); diff != "" {
				t.Errorf("operations (-want +got):\n%s", diff)
			}
			for _, m := range row.missing {
				if !got.missing(m) {
					t.Errorf("the header does not say %q: %q", m, got.header.Missing)
				}
			}
			if row.err == "" && got.err != nil || row.err != "" && (got.err == nil || got.err.Error() != row.err) {
				t.Errorf("error %v, want %q", got.err, row.err)
			}
		})
	}
}

// TestLackeyReal: what valgrind writes of a real program, against a second parser
// and lackey's own counts.
func TestLackeyReal(t *testing.T) {
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		t.Skip("valgrind is missing (Debian package valgrind)")
	}
	log := filepath.Join(t.TempDir(), "log")
	out, err := exec.Command(valgrind, "--tool=lackey", "--trace-mem=yes", "--basic-counts=yes", "--detailed-counts=yes",
		"--log-file="+log, "/bin/true").CombinedOutput()
	if err != nil {
		t.Fatalf("valgrind: %v\n%s", err, out)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	got := run(t, Lackey, bytes.NewReader(text))
	if got.err != nil || !got.header.Whole {
		t.Fatalf("error %v, whole %v", got.err, got.header.Whole)
	}
	if diff := cmp.Diff([]string{"/bin/true"}, got.header.Command); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	last := got.ops[len(got.ops)-1]
	if last.Kind != trace.OpExit || last.Status != 0 {
		t.Errorf("the last operation is %v", &last)
	}
	want := slowly(t, string(text))
	touches := got.ops[1 : len(got.ops)-1]
	if len(touches) != len(want.touches) {
		t.Fatalf("%d touches, want %d", len(touches), len(want.touches))
	}
	for i, w := range want.touches {
		if g := touches[i]; g.Addr != w.Addr || g.Access != w.Access || g.PID != 2 {
			t.Fatalf("touch %d: %v, want %v", i, &g, &w)
		}
	}
	if n := counted(t, string(text), "guest instrs:"); n != want.kinds["I"] {
		t.Errorf("%d instructions, lackey counted %d", want.kinds["I"], n)
	}
	t.Logf("%d bytes, %d references (%v), %d touches", len(text), want.kinds["I"]+want.kinds["L"]+want.kinds["S"]+want.kinds["M"],
		want.kinds, len(touches))
}

// plain is what the second parser found.
type plain struct {
	touches []trace.Op
	kinds   map[string]int
}

// slowly parses references with the standard library alone.
func slowly(t *testing.T, text string) plain {
	p := plain{kinds: map[string]int{}}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "=") {
			continue
		}
		words := strings.Fields(line)
		p.kinds[words[0]]++
		a, n, _ := strings.Cut(words[1], ",")
		addr, err1 := strconv.ParseUint(a, 16, 64)
		size, err2 := strconv.ParseUint(n, 10, 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("%q", line)
		}
		op := trace.Op{PID: 2, Kind: trace.OpTouch, Addr: mem.VirtAddr(addr),
			Access: map[string]mem.Access{"I": mem.Exec, "L": mem.Read, "S": mem.Write, "M": mem.Write}[words[0]]}
		p.touches = append(p.touches, op)
		for page := addr/4096 + 1; page <= (addr+size-1)/4096; page++ {
			op.Addr = mem.VirtAddr(page * 4096)
			p.touches = append(p.touches, op)
		}
	}
	return p
}

// counted returns the number behind name in lackey's own counts.
func counted(t *testing.T, text, name string) int {
	_, rest, ok := strings.Cut(text, name)
	if !ok {
		t.Fatalf("lackey does not say %q", name)
	}
	n, err := strconv.Atoi(strings.ReplaceAll(strings.Fields(rest)[0], ",", ""))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func FuzzLackey(f *testing.F) {
	for _, row := range lackeyRows {
		f.Add([]byte(row.log))
	}
	f.Fuzz(func(t *testing.T, log []byte) {
		if len(log) > 64<<10 {
			return
		}
		got := run(t, Lackey, bytes.NewReader(log))
		if len(got.ops) > 2+2*bytes.Count(log, []byte{'\n'}) {
			t.Errorf("%d operations of %d lines", len(got.ops), bytes.Count(log, []byte{'\n'}))
		}
	})
}

// lackeyLog is text like lackey's: mostly instructions in a few loops, and loads
// and stores near a stack and a heap.
func lackeyLog(lines int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	ip := uint64(0x401ab70)
	for range lines {
		switch n := r.IntN(10); {
		case n < 6:
			size := 1 + r.Uint64N(7)
			fmt.Fprintf(&b, "I  %08x,%d\n", ip, size)
			if ip += size; r.IntN(8) == 0 {
				ip = 0x401ab70 + r.Uint64N(1<<18)
			}
		case n < 9:
			fmt.Fprintf(&b, " L %x,8\n", 0x1fff000000+r.Uint64N(1<<13))
		default:
			fmt.Fprintf(&b, " S %08x,4\n", 0x4a27768+r.Uint64N(1<<16))
		}
	}
	return b.Bytes()
}

// BenchmarkLackey reads references, beside a count of the same lines.
func BenchmarkLackey(b *testing.B) {
	const references = 1 << 18
	log := lackeyLog(references)
	b.Run("lines", func(b *testing.B) {
		b.SetBytes(int64(len(log)))
		for b.Loop() {
			lines := 0
			r := bufio.NewReaderSize(bytes.NewReader(log), maxLine+2)
			for {
				if _, err := r.ReadSlice('\n'); err != nil {
					break
				}
				lines++
			}
			if lines != references {
				b.Fatal(lines)
			}
		}
	})
	b.Run("import", func(b *testing.B) {
		b.SetBytes(int64(len(log)))
		for b.Loop() {
			touches := 0
			if _, err := Lackey("x", bytes.NewReader(log), func(*trace.Op) error { touches++; return nil }); err != nil {
				b.Fatal(err)
			}
			if touches < references {
				b.Fatal(touches)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/references, "ns/reference")
	})
}
