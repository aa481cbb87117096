package event

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

func TestStream(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b)
	w.Emit(HugePageVerifyFail{PID: 2, HugeBase: 0x400000, SubPage: 284, Expected: 0, Actual: 0x65, VMAStart: 0x51cbf0, VMAType: FileRW})
	w.Emit(CoWBreak{PID: 3, VAddr: 0x51d000, From: 7, To: 8})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := `{"type":"header","schema":1,"tool":"vmsim"}
{"type":"huge_page_verify_fail","pid":2,"huge_base":"0x400000","sub_page":284,"first_diff":0,"expected":"0x00","actual":"0x65","vma_start":"0x51cbf0","vma_type":"file_rw"}
{"type":"cow_break","pid":3,"vaddr":"0x51d000","from_pfn":7,"to_pfn":8}
{"type":"summary","events":{"cow_break":1,"huge_page_verify_fail":1}}
`
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
	for _, line := range strings.Split(strings.TrimSpace(b.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
}

func TestLinesOfCaseA(t *testing.T) {
	e := HugePageVerifyFail{SubPage: 284, FirstDiff: 3056, Expected: 0xc0}
	if got, want := e.String(), "huge_page_verify_fail: sub_page=284, first_diff=3056, expected=0xc0, actual=0x00"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
