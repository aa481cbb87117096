package verify_test

import (
	"errors"
	"fmt"

	"vmsim/mem"
	"vmsim/verify"
)

// A window is put together by hand, with one wrong byte in its third sub-page.
func Example() {
	file := elf{segs: []seg{
		{vaddr: 0x400000, off: 0, filesz: 0x2100, memsz: 0x2100, prot: mem.ProtRead | mem.ProtExec},
	}}.file(0x3000)

	win := mem.Window{PID: 1, Base: 0x400000, File: file, Data: make([]byte, mem.HugeSize)}
	if err := mem.ReadPadded(file, win.Data[:0x2100], 0); err != nil {
		fmt.Println(err)
		return
	}
	for i := range 3 {
		win.SetPopulated(i)
	}
	win.Data[0x2105] = 0x65 // beyond the segment: must be zero

	witness := verify.NewWitness(verify.Func(func(e verify.Event) { fmt.Println(e) }))
	err := witness.Assembled(win)
	fmt.Println(errors.Is(err, verify.ErrMismatch), witness.Tally().BytesCompared)
	// Output:
	// huge_page_verify_fail: sub_page=2, first_diff=261, expected=0x00, actual=0x65
	// page_verify_ok: verified=2, failed=1
	// true 12288
}
