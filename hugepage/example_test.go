package hugepage_test

import (
	"bytes"
	"fmt"
	"slices"

	"vmsim"
	"vmsim/hugepage"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// rounded is the Kevlar policy with a mistake of our own: it reads whole pages
// of the file, as if each segment started and ended on a page boundary.
type rounded struct{ hugepage.Kevlar }

func (rounded) Fill(p *hugepage.SubPage) error {
	for _, piece := range p.Pieces { // copies
		piece.Offset -= int64(piece.At)
		piece.At, piece.Len = 0, mem.PageSize
		if err := p.Read(&piece); err != nil {
			return err
		}
	}
	return nil
}

// kevlarLayout is a program whose .rodata ends and .data starts in the same page
// of the file: sub-pages 283 and 284 of the window at 0x400000.
func kevlarLayout() (*loader.Image, error) {
	files := vmsim.Corpus()
	i := slices.IndexFunc(files, func(f *mem.BytesFile) bool { return f.Name() == "testdata/elf/kevlar-layout" })
	return loader.Parse(files[i])
}

// forkExec runs the program as init, touches what a start-up touches, and runs
// it a second time in a child, where the policy assembles a huge page.
func forkExec(policy hugepage.Policy, inspector mem.Inspector) error {
	im, err := kevlarLayout()
	if err != nil {
		return err
	}
	m, err := vm.New(vm.Config{Memory: 16 << 20, Policy: policy, Inspector: inspector})
	if err != nil {
		return err
	}
	defer m.Close()
	prog := vm.Program{Image: im}
	init, err := m.Boot(&prog)
	if err != nil {
		return err
	}
	if _, err := init.Touch(0x51b000, mem.Read); err != nil { // the last page of .rodata
		return err
	}
	return init.Fork().Exec(prog)
}

// A policy of one's own, under the eyes of the independent verifier: embed
// Kevlar, replace Fill, run a fork and an exec, read what went wrong.
func Example() {
	kevlar, err := hugepage.NewKevlar(0) // assemble at the first exec
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, policy := range []hugepage.Policy{kevlar, rounded{kevlar}} {
		witness := verify.NewWitness(nil)
		if err := forkExec(policy, witness); err != nil {
			fmt.Println(err)
			return
		}
		tally := witness.Tally()
		fmt.Printf("%T: %d sub-pages verified\n", policy, tally.WindowPages-tally.Failures)
		for _, e := range witness.Failures() {
			fmt.Println(e)
		}
	}
	// Output:
	// hugepage.Kevlar: 294 sub-pages verified
	// hugepage_test.rounded: 291 sub-pages verified
	// huge_page_verify_fail: sub_page=283, first_diff=3056, expected=0x00, actual=0xc0
	// huge_page_verify_fail: sub_page=284, first_diff=0, expected=0x00, actual=0x65
	// huge_page_verify_fail: sub_page=290, first_diff=3649, expected=0x00, actual=0x2e
}

// gapInspector looks at one thing alone: the gap in front of .data is zero.
type gapInspector struct{}

func (gapInspector) Assembled(w mem.Window) error {
	const data mem.VirtAddr = 0x51cbf0
	gap := w.Data[data.PageDown()-w.Base : data-w.Base]
	if wrong := len(bytes.TrimLeft(gap, "\x00")); wrong > 0 {
		err := fmt.Errorf("process %d: sub-page %d of %v: %d bytes in front of %v", w.PID, data.SubPage(), w.Base, wrong, data)
		fmt.Println(err)
		return err
	}
	fmt.Printf("process %d: the gap is clear\n", w.PID)
	return nil
}

// An inspector of one's own sees each huge page after its assembly, before it
// is mapped. Both bugs of case A are here; only the first writes to the gap.
func ExampleNewKevlar() {
	for _, bugs := range [][]string{nil, {"boundary-copy"}, {"index-collision"}} {
		policy, err := hugepage.NewKevlar(0, bugs...)
		if err == nil {
			err = forkExec(policy, gapInspector{})
		}
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// process 2: the gap is clear
	// process 2: sub-page 284 of 0x400000: 3056 bytes in front of 0x51cbf0
	// process 2: the gap is clear
}
