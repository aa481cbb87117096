package session

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	root "vmsim"
	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// The files of FuzzVerify: so many bytes at most are the fuzzer's, the headers
// above all; so large is the file, the rest of it a pattern; so many pages may
// it touch, each of which fortress looks at after each step; and so many may its
// image have, which are digested one by one.
const (
	fuzzHead   = 4 << 10
	fuzzSize   = 1 << 20
	fuzzPages  = 1024
	fuzzDigest = 1 << 16
)

// fuzzFile is a file of size bytes that begins with head.
func fuzzFile(head []byte, size uint32) *mem.BytesFile {
	data := make([]byte, min(size, fuzzSize))
	elfgen.Pattern(0, data)
	copy(data, head[:min(len(head), fuzzHead)])
	return mem.NewBytesFile("fuzz", data)
}

// fuzzSeed is the input whose file has data's headers and size.
func fuzzSeed(data []byte) (head []byte, size uint32) {
	n := len(data)
	if n >= 64 {
		n = 64 + 56*int(binary.LittleEndian.Uint16(data[56:]))
	}
	return data[:min(n, len(data), fuzzHead)], uint32(len(data))
}

// fuzzSettings are the machines of FuzzVerify: all of TestCorpus's, and the
// repaired one in fortress.
func fuzzSettings(f *testing.F) (rigs []*Rig, all []setting) {
	all = settings()
	for _, threshold := range []int{128, 3, 0} {
		all = append(all, setting{threshold: threshold})
	}
	for i, s := range all {
		opt := DefaultOptions()
		opt.Memory, opt.Threshold, opt.Bugs, opt.Digest = testMemory, s.threshold, variants[s.variant].bugs, true
		if i >= len(settings()) { // a digest reads each page of .bss, fortress then looks at all of them
			opt.Hardening, opt.Digest = vm.Fortress, false
		}
		rigs = append(rigs, newRig(f, opt))
	}
	return rigs, all
}

// FuzzVerify: no file makes the machine panic, or disagree with the witness, and
// each whose segments lie apart gives what its headers foretell, with each bug
// and at each threshold. choice picks the machine.
func FuzzVerify(f *testing.F) {
	var files [][]byte
	for _, c := range root.Corpus() {
		data := make([]byte, c.Size())
		if _, err := c.ReadAt(data, 0); err != nil {
			f.Fatal(err)
		}
		files = append(files, data)
	}
	for i := range uint64(100) {
		_, data := elfgen.Malformed(newRand(1, i))
		files = append(files, data)
	}
	for i := range uint64(20) {
		files = append(files, sharedFilePages(newRand(2, i)))
	}
	rigs, all := fuzzSettings(f)
	for i, data := range files {
		head, size := fuzzSeed(data)
		for k := range 5 {
			f.Add(head, size, byte(i+3*k))
		}
	}
	f.Fuzz(func(t *testing.T, head []byte, size uint32, choice byte) {
		file := fuzzFile(head, size)
		i := int(choice) % len(rigs)
		rig, s := rigs[i], all[i]
		image, parseErr := loader.Parse(file)
		truth, truthErr := verify.Load(file, vm.PIEBase)
		if truthErr == nil {
			n := 0
			for range truth.TouchPages() {
				if n++; n > fuzzPages {
					return
				}
			}
			if truth.ImagePageCount() > fuzzDigest {
				return
			}
		}
		res := rig.Verify(file)
		if err := rig.Machine.Check(); err != nil {
			t.Error(err)
		}
		if res.Verdict == Skipped {
			checkSkip(t, res, image, parseErr)
			return
		}
		if parseErr != nil || truthErr != nil {
			t.Fatalf("%+v of a file that the loader (%v) or the witness (%v) refuses", res, parseErr, truthErr)
		}
		model := imageOf(file, file.Size(), uint64(vm.PIEBase))
		bugs := variants[s.variant].bugs
		if model.apart() {
			p := model.predict(s.threshold, slices.Contains(bugs, "boundary-copy"), slices.Contains(bugs, "index-collision"))
			if p.memory <= testMemory {
				comparePrediction(t, s.String(), p, res, res.FailureEvents)
				return
			}
		}
		if len(bugs) == 0 && (res.Verdict != OK || res.Failures != 0) {
			t.Errorf("%v: %+v", s, res)
		}
		for _, e := range res.FailureEvents {
			switch e.(type) {
			case event.HugePageVerifyFail, event.PageVerifyFail: // what both bugs do
			default:
				t.Errorf("%v: %v", s, e)
			}
		}
	})
}

// checkSkip: a file that the loader refuses is skipped for its reason, another
// only because the machine is too small for it.
func checkSkip(t *testing.T, res FileResult, image *loader.Image, parseErr error) {
	t.Helper()
	switch {
	case parseErr != nil:
		if res.Reason != parseErr.Error() || res.BytesCompared != 0 {
			t.Errorf("%+v: want the loader's reason, %v", res, parseErr)
		}
	case strings.HasPrefix(res.Reason, "out of memory: "), strings.HasPrefix(res.Reason, vm.ErrNoRoom.Error()):
	default:
		if _, err := image.BiasFrom(vm.PIEBase); err == nil {
			t.Errorf("skipped though the loader takes it: %+v", res)
		}
	}
}
