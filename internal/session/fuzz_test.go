package session

import (
	"testing"

	root "vmsim"
	"vmsim/internal/elfgen"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// fuzzPages is how many pages an input may touch: each is looked at with all
// others after each step in fortress.
const fuzzPages = 1024

// FuzzVerify: no file makes the machine panic, or disagree with the witness.
func FuzzVerify(f *testing.F) {
	for _, c := range root.Corpus() {
		if c.Size() >= 64<<10 {
			continue
		}
		data := make([]byte, c.Size())
		if _, err := c.ReadAt(data, 0); err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for i := range uint64(60) {
		_, data := elfgen.Malformed(newRand(1, i))
		f.Add(data)
	}
	opt := DefaultOptions()
	opt.Memory, opt.Hardening, opt.Threshold, opt.Digest = 16<<20, vm.Fortress, 3, true
	b := newRig(f, opt)
	f.Fuzz(func(t *testing.T, data []byte) {
		file := mem.NewBytesFile("fuzz", data)
		if truth, err := verify.Load(file, vm.PIEBase); err == nil {
			n := 0
			for range truth.TouchPages() {
				if n++; n > fuzzPages {
					return
				}
			}
			if truth.ImagePageCount() > 1<<20 { // digested one by one
				return
			}
		}
		res := b.Verify(file)
		switch res.Verdict {
		case OK:
			if res.Pages == 0 && res.BytesCompared != 0 || res.Failures != 0 {
				t.Errorf("%+v", res)
			}
		case Skipped:
			if res.Reason == "" {
				t.Errorf("skipped without a reason: %+v", res)
			}
		default:
			t.Errorf("%+v", res)
		}
		if err := b.Machine.Check(); err != nil {
			t.Error(err)
		}
	})
}
