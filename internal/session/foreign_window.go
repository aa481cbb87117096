package session

import (
	"cmp"
	"errors"
	"fmt"

	"vmsim/internal/elfhead"
	"vmsim/internal/event"
	"vmsim/mem"
	"vmsim/verify"
	"vmsim/vm"
)

// Values of WindowDump.Truth.
const (
	TruthKevlar = "kevlar"
	TruthLinux  = "linux"
)

// LinuxPIEBase is where Linux puts a PIE with an interpreter without
// randomisation: ELF_ET_DYN_BASE, two thirds of user space
// (arch/x86/include/asm/elf.h).
const LinuxPIEBase mem.VirtAddr = 0x555555554000

// WindowDump is 2 MiB that some kernel put together.
type WindowDump struct {
	Dump string       // path; exactly 2 MiB
	Addr mem.VirtAddr // where it was mapped; a multiple of 2 MiB
	ELF  string       // path of the file that it holds
	// Truth is the rule by which it is judged: TruthKevlar or TruthLinux.
	Truth string
	// Base is where a PIE was loaded; 0 stands for the default of the rule.
	Base mem.VirtAddr
}

// VerifyWindow compares a dump with what it ought to hold, and reports as
// verify.Witness.Dump does. The error is verify.ErrMismatch, or says why the dump
// or the file cannot be used.
func VerifyWindow(d WindowDump, events event.Sink) error {
	dump, err := mem.OpenFile(d.Dump)
	if err != nil {
		return err
	}
	defer dump.Close()
	if dump.Size() != mem.HugeSize {
		return fmt.Errorf("%s: %d bytes, not the %d of a huge page", d.Dump, dump.Size(), mem.HugeSize)
	}
	data := make([]byte, mem.HugeSize)
	if _, err := dump.ReadAt(data, 0); err != nil {
		return fmt.Errorf("%s: %w", d.Dump, err)
	}
	f, err := mem.OpenFile(d.ELF)
	if err != nil {
		return err
	}
	defer f.Close()
	im, err := d.image(f)
	if err != nil {
		return fmt.Errorf("%s: %w", d.ELF, err)
	}
	if !mapsIn(im, d.Addr) {
		return fmt.Errorf("%s: nothing of it lies in the window %v (--base says where it was loaded)", d.ELF, mem.WindowOf(d.Addr))
	}
	err = verify.NewWitness(events).Dump(d.Addr, data, im)
	switch {
	case err != nil && !errors.Is(err, verify.ErrMismatch):
		return fmt.Errorf("%s: %w", d.ELF, err)
	case f.Changed():
		return fmt.Errorf("%s: %w", d.ELF, ErrChanged)
	case dump.Changed():
		return fmt.Errorf("%s: %w", d.Dump, ErrChanged)
	}
	return err
}

// image returns what the file ought to look like in memory.
func (d WindowDump) image(f mem.File) (verify.Image, error) {
	if h, err := elfhead.Read(f, f.Size()); err == nil && h.Type == elfhead.TypeExec && d.Base != 0 {
		return nil, fmt.Errorf("it is loaded where it says itself, not at a base of %v", d.Base)
	}
	if d.Truth == TruthLinux {
		return verify.LoadLinux(f, cmp.Or(d.Base, LinuxPIEBase))
	}
	return verify.Load(f, cmp.Or(d.Base, vm.PIEBase))
}

// mapsIn reports whether im has a page in the window at base.
func mapsIn(im verify.Image, base mem.VirtAddr) bool {
	for i := range mem.SubPages {
		if _, ok := im.Prot(base + mem.VirtAddr(i)*mem.PageSize); ok {
			return true
		}
	}
	return false
}

// IsMismatch reports whether err says that memory was compared and differs.
func IsMismatch(err error) bool { return errors.Is(err, verify.ErrMismatch) }
