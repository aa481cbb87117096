package vm_test

import (
	"errors"
	"fmt"
	"slices"

	"vmsim"
	"vmsim/loader"
	"vmsim/mem"
	"vmsim/vm"
)

// A program is loaded and touched, forks, and writes: every kind of fault.
func Example() {
	files := vmsim.Corpus()
	i := slices.IndexFunc(files, func(f *mem.BytesFile) bool { return f.Name() == "testdata/elf/shared-two" })
	im, err := loader.Parse(files[i])
	if err != nil {
		fmt.Println(err)
		return
	}
	m, err := vm.New(vm.Config{Memory: 16 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close()
	parent, err := m.Boot(&vm.Program{Image: im})
	if err != nil {
		fmt.Println(err)
		return
	}
	for area := range parent.Areas() {
		fmt.Println(area)
	}

	touch := func(who string, p *vm.Process, addr mem.VirtAddr, a mem.Access) {
		kind, err := p.Touch(addr, a)
		var segv *vm.Segfault
		if errors.As(err, &segv) {
			fmt.Printf("%s: %v %v: %s\n", who, a, addr, segv.Code())
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %v %v: %v\n", who, a, addr, kind)
	}
	touch("parent", parent, 0x400000, mem.Exec)       // read from the file
	touch("parent", parent, 0x400fff, mem.Read)       // the same page
	touch("parent", parent, 0x4034b0, mem.Write)      // .data: a frame of its own
	touch("parent", parent, vm.StackTop-8, mem.Read)  // the shared zero page
	touch("parent", parent, vm.StackTop-8, mem.Write) // in its place, a cleared frame

	child := parent.Fork()
	touch("child", child, 0x4034b0, mem.Read)    // shared with the parent
	touch("child", child, 0x4034b0, mem.Write)   // copied
	touch("parent", parent, 0x4034b0, mem.Write) // taken over: the child has its own
	touch("child", child, 0x400000, mem.Write)   // .text
	touch("child", child, 0x1000, mem.Read)      // nothing there
	fmt.Printf("parent %+v, child %+v\n", parent.Faults, child.Faults)
	// Output:
	// 00400000-004024b0 r-xp 00000000 testdata/elf/shared-two
	// 004024b0-004034b0 rw-p 00000000
	// 004034b0-00404a28 rw-p 000024b0 testdata/elf/shared-two
	// 00404a28-00405000 rw-p 00000000
	// 7ffffffde000-7ffffffff000 rw-p 00000000 [stack]
	// parent: exec 0x400000: major
	// parent: read 0x400fff: none
	// parent: write 0x4034b0: major
	// parent: read 0x7fffffffeff8: minor
	// parent: write 0x7fffffffeff8: cow
	// child: read 0x4034b0: none
	// child: write 0x4034b0: cow
	// parent: write 0x4034b0: cow
	// child: write 0x400000: SEGV_ACCERR
	// child: read 0x1000: SEGV_MAPERR
	// parent {Minor:1 Major:2 CoW:2}, child {Minor:0 Major:0 CoW:1}
}
