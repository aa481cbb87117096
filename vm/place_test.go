package vm_test

import (
	"testing"

	"vmsim/hugepage"
	"vmsim/internal/elfgen"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// TestInterpreterBelowProgram puts a program so high that its interpreter ends
// on the page before it: the fillers between the two merge into one area, and
// assembly of either must not take it for the other's boundary page.
func TestInterpreterBelowProgram(t *testing.T) {
	parse := func(name string, s elfgen.Spec) *loader.Image {
		im, err := loader.Parse(mem.NewBytesFile(name, elfgen.Build(s, nil)))
		if err != nil {
			t.Fatal(err)
		}
		return im
	}
	const base = uint64(vm.MmapBase) - 0x2800
	prog := parse("program", elfgen.Spec{Type: elfgen.Exec, Entry: base, Interp: "interpreter", Segments: []elfgen.Seg{
		{Vaddr: base, Offset: 0x1800, Filesz: 0x1800, Memsz: 0x1800, Flags: mem.ProtRead | mem.ProtExec},
	}})
	interp := parse("interpreter", elfgen.Spec{Type: elfgen.Dyn, Segments: []elfgen.Seg{
		{Vaddr: 0, Offset: 0, Filesz: 0x2345, Memsz: 0x2345, Flags: mem.ProtRead | mem.ProtExec},
	}})
	policy, err := hugepage.NewKevlar(0)
	if err != nil {
		t.Fatal(err)
	}
	w := verify.NewWitness(nil)
	m, err := vm.New(vm.Config{Memory: 16 << 20, Policy: policy, Inspector: w, Hardening: vm.Fortress})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	init, err := m.Boot(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := init.Fork()
	if err := p.Exec(vm.Program{Image: prog, Interp: interp}); err != nil {
		t.Fatal(err)
	}
	objects := p.Objects()
	if objects[1].Extent().End != objects[0].Extent().Start {
		t.Fatalf("%v is not directly below %v", objects[1], objects[0])
	}
	for _, o := range objects {
		truth, err := verify.New(o.Image.File, o.Bias)
		if err != nil {
			t.Fatal(err)
		}
		for addr := range truth.TouchPages() {
			data, _, err := p.ReadPage(addr)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Page(p.PID, truth, addr, data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if m.Stats().Assembled == 0 {
		t.Error("nothing was assembled")
	}
	for _, e := range w.Failures() {
		t.Error(e)
	}
}
