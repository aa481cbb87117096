package session

import (
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/internal/event"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// shortest is an ELF file of 60 bytes that Linux runs: its only program header
// begins in e_ident, and ends with the file.
func shortest() []byte {
	b := make([]byte, 60)
	le := binary.LittleEndian
	copy(b, "\x7fELF")
	le.PutUint32(b[4:], 1)         // p_type: PT_LOAD
	le.PutUint32(b[8:], 5)         // p_flags: r-x
	le.PutUint16(b[16:], 2)        // e_type: ET_EXEC, and the low half of p_offset's upper half
	le.PutUint16(b[18:], 62)       // e_machine
	le.PutUint32(b[20:], 0x500000) // p_vaddr; e_version
	le.PutUint64(b[24:], 0)        // e_entry, the upper half of p_vaddr
	le.PutUint64(b[32:], 4)        // e_phoff
	le.PutUint32(b[44:], 0x1000)   // p_memsz; the upper half of e_shoff
	le.PutUint16(b[54:], 56)       // e_phentsize
	le.PutUint16(b[56:], 1)        // e_phnum
	return b
}

// TestWitnessTakesWhatTheLoaderTakes: two parsers, written apart, are of one
// mind about what can be loaded; else a file that Linux runs would be skipped.
func TestWitnessTakesWhatTheLoaderTakes(t *testing.T) {
	first := seed(t)
	both, neither := 0, 0
	check := func(name string, data []byte) {
		t.Helper()
		f := mem.NewBytesFile(name, data)
		im, err := loader.Parse(f)
		_, witness := verify.Load(f, vm.PIEBase)
		if err == nil {
			_, err = im.BiasFrom(vm.PIEBase)
		}
		switch {
		case err == nil && witness == nil:
			both++
		case err != nil && witness != nil:
			neither++
		case err == nil:
			t.Errorf("%s, seed %d: the loader takes it, the witness: %v", name, first, witness)
		}
		// The witness may take more: it is asked second.
	}
	check("shortest", shortest())
	if both != 1 {
		t.Error("the file of 60 bytes is refused")
	}
	for i := range uint64(rounds(vm.Default, 5000)) {
		name, data := elfgen.Malformed(newRand(first, 5000+i))
		check(name, data)
	}
	t.Logf("%d files taken, %d refused", both, neither)
	if both < 100 || neither < 100 {
		t.Error("too few of one kind to prove anything")
	}
}

// fickle is a file whose content changes after so many reads: it answers as a
// file of the host does that is written, cut off or extended meanwhile.
type fickle struct {
	*mem.BytesFile
	reads int    // left before the change
	then  []byte // its content from then on
}

func (f *fickle) ReadAt(p []byte, off int64) (int, error) {
	if f.reads--; f.reads >= 0 {
		return f.BytesFile.ReadAt(p, off)
	}
	if off >= int64(len(f.then)) {
		return 0, io.EOF
	}
	n := copy(p, f.then[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *fickle) Changed() bool { return f.reads < 0 }

// count wraps a file to learn how often it is read.
type counter struct {
	*mem.BytesFile
	n int
}

func (c *counter) ReadAt(p []byte, off int64) (int, error) {
	c.n++
	return c.BytesFile.ReadAt(p, off)
}

// TestChangedWhileRead: a file that changes after any of its reads, in any way,
// is reported as changed, neither as a mismatch nor as broken; the file after it
// is not affected.
func TestChangedWhileRead(t *testing.T) {
	good := fixture(t, "kevlar-layout")
	data := make([]byte, good.Size())
	if _, err := good.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	flipped := make([]byte, len(data))
	for i, b := range data {
		flipped[i] = ^b
	}
	swapped := append([]byte(nil), flipped...)
	copy(swapped, data[:0x1000]) // the headers stay
	rig := newRig(t, options(t))
	want := rig.Verify(good)
	reads := &counter{BytesFile: good}
	if res := rig.Verify(reads); res.Verdict != OK {
		t.Fatalf("%+v", res)
	}
	for _, c := range []struct {
		name string
		then []byte
	}{
		{"emptied", nil},
		{"cut off in the headers", data[:100]},
		{"cut off", data[:0x8000]},
		{"extended", append(append([]byte(nil), data...), flipped...)},
		{"rewritten", flipped},
		{"rewritten behind the headers", swapped},
	} {
		step := max(1, reads.n/rounds(hardening(t), 100))
		for n := 0; n < reads.n; n += step {
			f := &fickle{mem.NewBytesFile("fickle", data), n, c.then}
			res := rig.Verify(f)
			if res.Verdict != Skipped || res.Reason != "changed while it was read" || res.Failures != 0 || res.BytesCompared != 0 {
				t.Fatalf("%s after %d reads: %+v", c.name, n, res)
			}
			if err := rig.Machine.Check(); err != nil {
				t.Fatalf("%s after %d reads: %v", c.name, n, err)
			}
		}
		if res := rig.Verify(good); res.Verdict != OK || res.BytesCompared != want.BytesCompared || res.Windows != want.Windows {
			t.Errorf("%s: the next file: %+v", c.name, res)
		}
	}
	// One that does not change in the end is not reported, whatever it says before.
	if res := rig.Verify(&fickle{mem.NewBytesFile("fickle", data), 1 << 30, nil}); res.Verdict != OK {
		t.Errorf("unchanged: %+v", res)
	}
}

// young is a file that was written just before it was opened, and, unlike a
// fickle one, does not know that it changes.
type young struct{ *fickle }

func (young) Young() bool   { return true }
func (young) Changed() bool { return false }

// TestWriteUnderWay: a write that began before the file was opened leaves no
// trace but different bytes: the file is reported as changed, if it is not ok.
// One that does not change is reported as ever, in events too, though it is
// verified twice.
func TestWriteUnderWay(t *testing.T) {
	f := fixture(t, "kevlar-layout")
	data := make([]byte, f.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		t.Fatal(err)
	}
	then := append([]byte(nil), data...)
	for i := 0x1000; i < len(then); i++ {
		then[i] = ^then[i]
	}
	var rec recorder
	opt := options(t)
	opt.Events = &rec
	rig := newRig(t, opt)
	reads := &counter{BytesFile: f}
	rig.Verify(reads)
	changed := 0
	for n := 1; n < reads.n; n += max(1, reads.n/50) {
		rec.events = nil
		res := rig.Verify(young{&fickle{mem.NewBytesFile("young", data), n, then}})
		switch {
		case res.Verdict == OK:
		case res.Verdict == Skipped && res.Reason == "changed while it was read":
			changed++
		default:
			t.Fatalf("written after %d reads: %+v", n, res)
		}
		if n := len(of[event.ProcessExec](rec.events)); n > 3 {
			t.Errorf("%d execs in the events of one verification", n)
		}
	}
	if changed == 0 {
		t.Error("it was never seen to change: this proves nothing")
	}
	opt.Bugs = []string{"boundary-copy"}
	rig = newRig(t, opt)
	for range 2 {
		rec.events = nil
		res := rig.Verify(young{&fickle{mem.NewBytesFile("young", data), 1 << 30, nil}})
		if res.Verdict != Fail || res.Failures != 3 || len(failures(rec.events)) != 3 || len(of[event.ProcessExec](rec.events)) != 3 {
			t.Errorf("a young file that does not change, %d failures and %d execs in the events: %+v",
				len(failures(rec.events)), len(of[event.ProcessExec](rec.events)), res)
		}
	}
}

// brokenDisk is a file some of whose reads fail.
type brokenDisk struct {
	*mem.BytesFile
	n    int // reads so far
	fail func(n int) bool
}

var errDisk = errors.New("input/output error")

func (f *brokenDisk) ReadAt(p []byte, off int64) (int, error) {
	f.n++
	if f.fail(f.n - 1) {
		return 0, errDisk
	}
	return f.BytesFile.ReadAt(p, off)
}

// TestDiskFails: where reads fail from some time on, the file is skipped with
// their error. Where one fails, it is that, or the machine did without: it does
// not assemble what it cannot read. In no case a file is ok of which something
// that was assembled is not compared. The file after it is not affected.
func TestDiskFails(t *testing.T) {
	// Windows that are read again and again: the witness keeps one.
	good := mem.NewBytesFile("two windows", elfgen.Build(elfgen.Spec{Type: elfgen.Exec, Entry: 0x400000, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 2 * window, Memsz: 2 * window, Flags: mem.ProtRead | mem.ProtExec},
	}}, nil))
	rig := newRig(t, options(t))
	want := rig.Verify(good)
	reads := &counter{BytesFile: good}
	rig.Verify(reads)
	step := max(1, reads.n/rounds(hardening(t), 400))
	done := 0
	for n := 0; n < reads.n; n += step {
		res := rig.Verify(&brokenDisk{good, 0, func(i int) bool { return i >= n }})
		if res.Verdict != Skipped || !strings.HasSuffix(res.Reason, errDisk.Error()) || res.Failures != 0 {
			t.Fatalf("after %d reads: %+v", n, res)
		}
		res = rig.Verify(&brokenDisk{good, 0, func(i int) bool { return i == n }})
		if res.Verdict == OK {
			done++
			if bytes := uint64(page * (3*want.Pages + 512*res.Windows)); res.BytesCompared != bytes || res.Pages != want.Pages {
				t.Errorf("read %d: %d bytes compared, want %d: %+v", n, res.BytesCompared, bytes, res)
			}
		} else if res.Verdict != Skipped || !strings.HasSuffix(res.Reason, errDisk.Error()) || res.Failures != 0 {
			t.Fatalf("read %d: %+v", n, res)
		}
		if err := rig.Machine.Check(); err != nil {
			t.Fatalf("read %d: %v", n, err)
		}
	}
	t.Logf("%d of %d reads can be done without", done, reads.n)
	if res := rig.Verify(good); res.Verdict != OK || res.BytesCompared != want.BytesCompared {
		t.Errorf("the next file: %+v", res)
	}
}
