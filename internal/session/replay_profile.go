package session

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/pprof/profile"

	"vmsim/internal/elfhead"
	"vmsim/internal/symbol"
	"vmsim/mem"
	"vmsim/trace"
	"vmsim/vm"
)

// Profile collects the faults of replays for `go tool pprof`. A fault's stack is,
// from its leaf:
//
//	the function that touched     its object and segment where no symbol is known
//	object and segment touched    libc.so.6 rw-, [stack], [anon]
//	program
//	PID 5
//
// The zero value is ready.
type Profile struct {
	faults  map[profileKey]int64
	objects map[mem.FileID]*profileObject
}

// profileKey is what faults have in common that are one sample.
type profileKey struct {
	code, data, program string
	pid                 int
	kind                vm.FaultKind
	access              mem.Access
}

// profileObject is a file whose instructions touch.
type profileObject struct {
	name    string
	symbols *symbol.Table
	loads   []elfhead.Prog
}

const noInstruction = "[instruction not recorded]"

// fault takes one fault.
func (pr *Profile) fault(p *vm.Process, m *memory, t trace.Touch, ip mem.VirtAddr, kind vm.FaultKind) {
	if pr.faults == nil {
		pr.faults, pr.objects = map[profileKey]int64{}, map[mem.FileID]*profileObject{}
	}
	key := profileKey{code: noInstruction, data: m.segment(p, t.Addr), program: m.program.Path, pid: p.PID, kind: kind, access: t.Access}
	if ip != 0 {
		key.code = pr.function(p, m, ip)
	}
	pr.faults[key]++
}

// function names the function that holds ip.
func (pr *Profile) function(p *vm.Process, m *memory, ip mem.VirtAddr) string {
	f, vaddr, off := m.fileAt(ip)
	if f == nil {
		return m.segment(p, ip)
	}
	o := pr.object(f)
	if off >= 0 { // mapped by a call: the program headers say which address its bytes are linked to
		i := slices.IndexFunc(o.loads, func(l elfhead.Prog) bool { return l.Off <= uint64(off) && uint64(off)-l.Off < l.Filesz })
		if i < 0 {
			return m.segment(p, ip)
		}
		vaddr = uint64(off) - o.loads[i].Off + o.loads[i].Vaddr
	}
	name, _, _ := strings.Cut(o.symbols.Name(vaddr), "+0x")
	if name == "" {
		return m.segment(p, ip)
	}
	return name
}

// object reads the symbols of f once.
func (pr *Profile) object(f mem.File) *profileObject {
	o := pr.objects[f.Identity()]
	if o != nil {
		return o
	}
	o = &profileObject{name: f.Name(), symbols: &symbol.Table{}}
	if head, err := elfhead.Read(f, f.Size()); err == nil {
		o.symbols = symbol.Open(f, head.BuildID(f))
		for _, l := range head.Progs {
			if l.Type == elfhead.Load {
				o.loads = append(o.loads, l)
			}
		}
	}
	pr.objects[f.Identity()] = o
	return o
}

// fileAt returns the file that is at addr, with the address that it is linked to,
// or, off not negative, the offset in the file. It is nil where none is.
func (m *memory) fileAt(addr mem.VirtAddr) (f mem.File, vaddr uint64, off int64) {
	if g, ok := m.region(addr); ok {
		if g.file == nil {
			return nil, 0, 0
		}
		return g.file, 0, g.offset + int64(addr-g.Start)
	}
	for _, t := range m.truths {
		if t.Extent().Contains(addr) {
			return t.File(), uint64(addr) - t.Bias(), -1
		}
	}
	return nil, 0, 0
}

// segment names what is at addr: libc.so.6 r-x, [stack], [heap], [vdso], [anon].
func (m *memory) segment(p *vm.Process, addr mem.VirtAddr) string {
	prot, _ := p.Prot(addr)
	if f, _, _ := m.fileAt(addr); f != nil {
		return fmt.Sprintf("%s %v", filepath.Base(f.Name()), prot)
	}
	g, mapped := m.region(addr)
	for _, a := range m.extra {
		if a.Contains(addr) && !mapped {
			return a.Name
		}
	}
	switch {
	case g.object != nil && g.object.vm != nil:
		return fmt.Sprintf("%s %v", filepath.Base(g.object.vm.Name()), prot)
	case g.object != nil:
		return "[shared]"
	case mapped && g.unknown != "":
		return "[" + g.unknown + "]"
	case m.stack.Contains(addr):
		return "[stack]"
	case m.brk != 0 && addr >= m.brk && addr < p.Brk(0):
		return "[heap]"
	}
	return "[anon]"
}

// Write writes the profile, gzipped, as `go tool pprof` reads it. There is no time
// in it: the same replay gives the same bytes.
func (pr *Profile) Write(w io.Writer) error {
	out := &profile.Profile{
		SampleType: []*profile.ValueType{{Type: "faults", Unit: "count"}, {Type: "memory", Unit: "bytes"}},
		PeriodType: &profile.ValueType{Type: "faults", Unit: "count"},
		Period:     1, DefaultSampleType: "faults",
	}
	keys := make([]profileKey, 0, len(pr.faults))
	for k := range pr.faults {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b profileKey) int {
		return cmp.Or(cmp.Compare(a.pid, b.pid), cmp.Compare(a.program, b.program), cmp.Compare(a.data, b.data),
			cmp.Compare(a.code, b.code), cmp.Compare(a.kind, b.kind), cmp.Compare(a.access, b.access))
	})
	locations := map[string]*profile.Location{}
	locate := func(name string) *profile.Location {
		l := locations[name]
		if l == nil {
			id := uint64(len(out.Location) + 1)
			f := &profile.Function{ID: id, Name: name, SystemName: name}
			l = &profile.Location{ID: id, Line: []profile.Line{{Function: f}}}
			out.Function, out.Location = append(out.Function, f), append(out.Location, l)
			locations[name] = l
		}
		return l
	}
	for _, k := range keys {
		n := pr.faults[k]
		program := k.program
		if program == "" {
			program = "[before any exec]"
		}
		out.Sample = append(out.Sample, &profile.Sample{
			Location: []*profile.Location{locate(k.code), locate(k.data), locate(program), locate(fmt.Sprintf("PID %d", k.pid))},
			Value:    []int64{n, n * mem.PageSize},
			Label:    map[string][]string{"kind": {k.kind.String()}, "access": {k.access.String()}},
		})
	}
	return out.Write(w)
}

// close closes what was opened for symbols, whose files the replay closes.
func (pr *Profile) close() {
	for _, o := range pr.objects {
		o.symbols.Close()
	}
	clear(pr.objects)
}
