package trace

import (
	"fmt"
	"strings"
	"testing"
)

// family is a shell (2) that forks 3, which execs, and by vfork 4, which execs;
// 3 forks 5. Each touches pages before and after.
const family = `vmsim-trace 1
header source "vmsim record"
header missing "the vdso"
header whole yes
file /bin/sh size=1
@10 1 fork = 2
@20 2 exec /bin/sh = 0
@20 2 area exec 0x1000-0x3000 rw- private anon
@20 2 present exec own:0x1000-0x2000
@30 2 touch w 0x1000
@40 2 fork = 3
@50 3 touch w 0x1000
@60 3 exec /bin/a = 0
@70 3 touch w 0x5000
@80 2 touch w 0x2000
@90 2 vfork = 4
@100 4 touch w 0x2008
@110 4 exec /nope = ENOENT
@120 4 exec /bin/b = 0
@130 4 touch r 0x9000
@140 3 fork = 5
@150 3 touch w 0x5008
@160 5 touch w 0x5010
test "half"
@170 5 present exit own:0x5000-0x6000
@180 5 exit
@190 3 exit 1
@200 4 exit
@210 2 mmap 0 0x1000 rw- private anon = 0x7000
@220 2 touch w 0x7000
lost 1
@230 2 present exit own:0x1000-0x2000
@240 2 exit
`

func TestCut(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(family, "\n"), "\n")
	for _, c := range []struct {
		name    string
		cut     Cut
		missing []string
		gone    []int          // lines of family, from 1
		become  map[int]string // lines of family that change
	}{
		{"a leaf: its ancestors until they fork", Cut{PIDs: []int{5}},
			[]string{"all but process 5, and what its ancestors did before they forked it"},
			[]int{15, 16, 17, 18, 19, 20, 22, 27, 28, 29, 30, 32, 33}, nil},
		{"a parent: its children end where they leave its memory", Cut{PIDs: []int{2}},
			[]string{"all but process 2, and what its ancestors did before they forked it"},
			[]int{12, 14, 20, 21, 22, 23, 25, 26, 27, 28},
			map[int]string{13: "@60 3 exit", 19: "@120 4 exit"}},
		{"two of one tree", Cut{PIDs: []int{4, 3}},
			[]string{"all but process 4, 3, and what its ancestors did before they forked it"},
			[]int{23, 25, 29, 30, 32, 33}, map[int]string{26: "@180 5 exit"}},
		{"with descendants", Cut{PIDs: []int{3}, Tree: true},
			[]string{"all but process 3 and its descendants, and what its ancestors did before they forked it"},
			[]int{15, 16, 17, 18, 19, 20, 28, 29, 30, 32, 33}, nil},
		{"the end of a time", Cut{To: 140}, []string{"what came after 140ns"}, []int{22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33}, nil},
		{"the start of a time", Cut{From: 130}, []string{"touches before 130ns"}, []int{9, 10, 12, 14, 15, 17, 25, 32}, nil},
		{"a start before an exec", Cut{From: 20}, []string{"touches before 20ns"}, nil, nil},
		{"both ends, one process", Cut{PIDs: []int{3}, From: 60, To: 80},
			[]string{"all but process 3, and what its ancestors did before they forked it", "touches before 60ns", "what came after 80ns"},
			[]int{9, 10, 12, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33}, nil},
	} {
		want := map[int]string{}
		for i, line := range lines {
			want[i+1] = line
		}
		for _, n := range c.gone {
			delete(want, n)
		}
		for n, line := range c.become {
			want[n] = line
		}
		for _, m := range c.missing {
			want[3] += fmt.Sprintf("\nheader missing %q", "cut: "+m)
		}
		var text []string
		for i := range lines {
			if line, ok := want[i+1]; ok {
				text = append(text, line)
			}
		}
		for _, binary := range []bool{false, true} {
			if got := cutText(t, c.cut, binary); got != strings.Join(text, "\n")+"\n" {
				t.Errorf("%s (binary %v): got\n%swant\n%s", c.name, binary, got, strings.Join(text, "\n"))
			}
		}
	}
}

// cutText returns the cut of family as text.
func cutText(t *testing.T, c Cut, binary bool) string {
	t.Helper()
	open := func() Source { return NewDecoder("family", strings.NewReader(family)) }
	if binary {
		d := open()
		h, _ := d.Header()
		ops, err := readAll(d)
		if err != nil {
			t.Fatal(err)
		}
		data := binaryForm(t, h, ops, nil)
		open = func() Source { return mustOpen(t, data) }
	}
	plan, err := c.Plan("family", open())
	if err != nil {
		t.Fatal(err)
	}
	s := open()
	h, err := s.Header()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	e, err := NewEncoder(&b, plan.Header(h))
	if err != nil {
		t.Fatal(err)
	}
	for op, err := range plan.Ops(s.All()) {
		if err == nil {
			err = e.Encode(op)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestCutErrors(t *testing.T) {
	const timeless = "vmsim-trace 1\n1 fork = 2\n2 fork = 3\n3 fork = 2\n2 exit\n"
	for _, c := range []struct {
		text string
		cut  Cut
		want string
	}{
		{family, Cut{PIDs: []int{6}}, "x: process 6 is not in the trace"},
		{family, Cut{From: 2, To: 1}, "x: the cut ends before it starts"},
		{timeless, Cut{From: 1}, "x: the trace has no times to cut it by"},
		{timeless + "oops\n", Cut{PIDs: []int{6}}, `x:6: "oops" is neither a process, 1 to 2147483647, nor one of test, file, lost`},
		{timeless, Cut{PIDs: []int{2}, Tree: true}, ""}, // a circle
	} {
		plan, err := c.cut.Plan("x", NewDecoder("x", strings.NewReader(c.text)))
		if c.want == "" {
			if err != nil || plan == nil {
				t.Errorf("%+v: %v", c.cut, err)
			}
			continue
		}
		if plan != nil || err == nil || err.Error() != c.want {
			t.Errorf("%+v: got %v, want %s", c.cut, err, c.want)
		}
	}
	// Of a damaged trace what comes before is cut.
	plan, err := Cut{PIDs: []int{3}}.Plan("x", NewDecoder("x", strings.NewReader(timeless+"oops\n")))
	if plan == nil || err == nil {
		t.Errorf("got %v, %v", plan, err)
	}
}

func TestSummarize(t *testing.T) {
	for _, binary := range []bool{false, true} {
		var s Source = NewDecoder("family", strings.NewReader(family))
		if binary {
			h, _ := s.Header()
			ops, err := readAll(s)
			if err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, binaryForm(t, h, ops, func(i int) bool { return i == 10 }))
		}
		sum, err := Summarize(s)
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(sum.Ops, sum.Kinds[OpTouch], sum.Kinds[OpFork], sum.Processes, sum.Threads, sum.Programs, sum.Failed, sum.From, sum.To,
			sum.Lost, sum.Header.Whole)
		if want := "29 9 3 5 0 [{/bin/a 1} {/bin/b 1} {/bin/sh 1}] 1 10 240 1 true"; got != want {
			t.Errorf("binary %v: got %s, want %s", binary, got, want)
		}
	}
}
