package vm

import (
	"fmt"

	"vmsim/loader"
	"vmsim/mem"
)

// Placement says where exec puts things: what a trace recorded, and
// /proc/PID/maps shows right after execve. What is zero goes where the profile
// puts it.
type Placement struct {
	// Base and InterpBase are the start of the program's, the interpreter's
	// lowest area: the page of its lowest segment. For an ET_EXEC it must be
	// what the file says.
	Base, InterpBase mem.VirtAddr
	// Stack is the stack at the entry point. It may grow to StackLimit below its
	// end.
	Stack mem.Range
	// Brk is where the heap starts (mm->start_brk).
	Brk mem.VirtAddr
	// Extra are areas that the kernel adds: [vdso], [vvar].
	Extra []Extra
}

// Extra is an area of whole pages that exec adds. Its bytes are zero: what the
// kernel shows there is not known.
type Extra struct {
	mem.Range
	Prot mem.Prot
	Name string // as maps has it: [vdso]
}

// placed is where everything of a program goes.
type placed struct {
	objects []Object
	stack   mem.Range
	brk     mem.VirtAddr
	extra   []Extra
}

// place decides where the parts of a program go. Its errors wrap ErrNoRoom.
func (m *Machine) place(prog Program) (placed, error) {
	at := Placement{}
	if prog.At != nil {
		at = *prog.At
	}
	p := placed{stack: at.Stack, brk: at.Brk, extra: at.Extra}
	if p.stack == (mem.Range{}) {
		p.stack = mem.Range{Start: StackTop - stackInitial, End: StackTop}
	}
	if !wholePages(p.stack) || p.brk >= mem.UserEnd {
		return p, fmt.Errorf("%w: stack %v, heap at %v", ErrNoRoom, p.stack, p.brk)
	}
	bias, err := biasFor(prog.Image, at.Base, prog.Image.BiasFrom, PIEBase)
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	p.objects = []Object{{prog.Image, bias}}
	taken := p.objects[0].Extent()
	if taken.Overlaps(p.stack) {
		return p, fmt.Errorf("%w: program %v reaches into the stack %v", ErrNoRoom, taken, p.stack)
	}
	if prog.Interp != nil {
		interp, err := placeInterp(prog.Interp, at.InterpBase, taken)
		if err != nil {
			return p, fmt.Errorf("interpreter %s: %w", prog.Interp.File.Name(), err)
		}
		if interp.Extent().Overlaps(p.stack) {
			return p, fmt.Errorf("%w: interpreter %v reaches into the stack %v", ErrNoRoom, interp.Extent(), p.stack)
		}
		p.objects = append(p.objects, interp)
	}
	if p.brk == 0 {
		p.brk = taken.End
	}
	return p, p.checkExtra()
}

// biasFor is the load bias of an image whose lowest page is to lie at base, or
// where the profile puts it if base is 0.
func biasFor(im *loader.Image, base mem.VirtAddr, elsewhere func(mem.VirtAddr) (uint64, error), otherwise mem.VirtAddr) (uint64, error) {
	if base == 0 {
		return elsewhere(otherwise)
	}
	lowest := im.Span().Start
	switch {
	case base.PageOffset() != 0:
		return 0, fmt.Errorf("base %v is not the start of a page", base)
	case !im.Dynamic && base != lowest:
		return 0, fmt.Errorf("base %v, but it is linked to %v", base, lowest)
	case !im.Dynamic:
		return im.BiasAt(base)
	}
	// BiasAt is about the first segment, which need not be the lowest.
	bias, err := im.BiasAt(otherwise)
	if err != nil {
		return 0, err
	}
	first := otherwise + (base - (lowest + mem.VirtAddr(bias)))
	if bias, err = im.BiasAt(first); err != nil {
		return 0, err
	}
	if lowest+mem.VirtAddr(bias) != base {
		return 0, fmt.Errorf("it cannot start at %v", base)
	}
	return bias, nil
}

// placeInterp puts the interpreter to base, or where mmap would put it: below
// MmapBase, or below the program if that is in the way.
func placeInterp(im *loader.Image, base mem.VirtAddr, program mem.Range) (Object, error) {
	size := im.Span().Len()
	below := MmapBase - mem.VirtAddr(size)
	if (mem.Range{Start: below, End: MmapBase}).Overlaps(program) && program.Start > mem.VirtAddr(size) {
		below = program.Start - mem.VirtAddr(size)
	}
	bias, err := biasFor(im, base, im.BiasAt, below)
	if err != nil {
		return Object{}, fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	o := Object{im, bias}
	if o.Extent().Overlaps(program) {
		return Object{}, fmt.Errorf("%w: %v overlaps the program %v", ErrNoRoom, o.Extent(), program)
	}
	return o, nil
}

// checkExtra returns an error for an extra area that is not of whole pages, or
// where something is.
func (p *placed) checkExtra() error {
	taken := []mem.Range{p.stack}
	for _, o := range p.objects {
		taken = append(taken, o.Extent())
	}
	for _, x := range p.extra {
		if !wholePages(x.Range) {
			return fmt.Errorf("%w: %s at %v", ErrNoRoom, x.Name, x.Range)
		}
		for _, r := range taken {
			if r.Overlaps(x.Range) {
				return fmt.Errorf("%w: %s at %v is on %v", ErrNoRoom, x.Name, x.Range, r)
			}
		}
		taken = append(taken, x.Range)
	}
	return nil
}

// wholePages reports whether r is some pages of user space.
func wholePages(r mem.Range) bool {
	return !r.Empty() && r.End <= mem.UserEnd && r.Start.PageOffset() == 0 && r.End.PageOffset() == 0
}
