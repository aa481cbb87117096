package session

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/internal/hostexec"
	"vmsim/mem"
	"vmsim/vm"
)

// TestVerdictOracle: what Linux runs is verified, however odd it is, unless it
// takes more memory than the machine has. The other way, that what Linux refuses
// is skipped, is asked by the loader's tests: the verdict is its.
func TestVerdictOracle(t *testing.T) {
	const interp = "/lib64/ld-linux-x86-64.so.2"
	first := seed(t)
	dir := t.TempDir()
	// An interpreter that exists, in as many bytes.
	here := []byte(".//////////////////./interp")
	program := elfgen.Build(elfgen.Spec{Type: elfgen.Dyn, Segments: []elfgen.Seg{{Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead | mem.ProtExec}}}, nil)
	if err := os.WriteFile(filepath.Join(dir, "interp"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	opt := options(t)
	opt.Memory, opt.Hardening = 128<<20, vm.Default
	rig := newRig(t, opt)
	ran, verified, starved := 0, 0, 0
	ask := func(name string, data []byte) {
		t.Helper()
		data = bytes.ReplaceAll(data, []byte(interp), here)
		if !bytes.HasPrefix(data, []byte("\x7fELF")) || hostexec.RunBytes(filepath.Join(dir, "x"), dir, data, nil) != nil {
			return
		}
		ran++
		res := rig.Verify(mem.NewBytesFile(name, data))
		switch {
		case res.Verdict == OK:
			verified++
		case strings.HasPrefix(res.Reason, "out of memory"):
			starved++
		case strings.HasPrefix(res.Reason, "unsupported ELF file: machine 3,"), strings.HasPrefix(res.Reason, "unsupported ELF file: machine 6,"):
			// i386
		case strings.HasSuffix(res.Reason, "nothing to map"):
			// it dies at its first fetch
		case strings.HasPrefix(res.Reason, "no room in the address space: entry point"):
			// so does this: no segment is there
		default:
			t.Errorf("%s, seed %d: Linux runs it: %+v", name, first, res)
		}
	}
	ask("shortest", shortest())
	for _, far := range []uint64{1 << 30, 1 << 36, 1 << 40, 1 << 44} { // the first far above the others
		ask("far below", elfgen.Build(elfgen.Spec{Type: elfgen.Dyn, Entry: far, Segments: []elfgen.Seg{
			{Vaddr: far, Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead | mem.ProtExec},
			{Vaddr: 0x1000, Filesz: 0x1000, Memsz: 0x1000, Flags: mem.ProtRead},
		}}, nil))
	}
	if verified != 5 {
		t.Errorf("%d of the first 5 are verified", verified)
	}
	for i := range uint64(rounds(vm.Default, 800)) {
		name, data := elfgen.Malformed(newRand(first, 9000+i))
		ask(name, data)
	}
	t.Logf("Linux runs %d, of which %d are verified, and %d need more memory", ran, verified, starved)
	if ran < 20 || verified < ran/2 {
		t.Error("too few to prove anything")
	}
}
