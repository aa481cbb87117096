package vm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"testing"

	"vmsim"
	"vmsim/internal/elfgen"
	"vmsim/loader"
	"vmsim/mem"
)

const (
	ro  = mem.ProtRead
	rw  = mem.ProtRead | mem.ProtWrite
	rx  = mem.ProtRead | mem.ProtExec
	rwx = mem.ProtRead | mem.ProtWrite | mem.ProtExec
)

// truth is what a page of a program holds before anything is written to it.
type truth struct {
	prot mem.Prot
	data []byte // 4096; nil where all are zero
}

// truthImage is an ELF file as a process must see it, computed page by page from
// the bytes of its program headers. It shares no code with loader and vma.
type truthImage struct {
	file  *mem.BytesFile
	im    *loader.Image
	bias  uint64
	entry mem.VirtAddr
	first mem.VirtAddr // page of the lowest segment
	pages []truth      // from first on, gaps included
}

func (ti *truthImage) end() mem.VirtAddr {
	return ti.first + mem.VirtAddr(len(ti.pages)*mem.PageSize)
}

// at returns the truth of the page at addr; nil where ti has none.
func (ti *truthImage) at(addr mem.VirtAddr) *truth {
	if addr < ti.first || addr >= ti.end() {
		return nil
	}
	return &ti.pages[(addr-ti.first)/mem.PageSize]
}

// load is one PT_LOAD, its address biased.
type load struct {
	prot                    mem.Prot
	off, filesz, start, end uint64
}

// newTruth loads an ELF with its first PT_LOAD in the page at base; an ET_EXEC
// goes where it says.
func newTruth(f *mem.BytesFile, base mem.VirtAddr) (*truthImage, error) {
	im, err := loader.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	data := make([]byte, f.Size())
	if _, err := f.ReadAt(data, 0); err != nil {
		return nil, err
	}
	loads := loadsOf(data)
	ti := &truthImage{file: f, im: im}
	if binary.LittleEndian.Uint16(data[16:]) == elfgen.Dyn {
		ti.bias = uint64(base) - loads[0].start&^0xfff
	}
	ti.entry = mem.VirtAddr(binary.LittleEndian.Uint64(data[24:]) + ti.bias)
	low, high := ^uint64(0), uint64(0)
	for i := range loads {
		l := &loads[i]
		l.start, l.end = l.start+ti.bias, l.end+ti.bias
		low, high = min(low, l.start&^0xfff), max(high, (l.end+0xfff)&^0xfff)
	}
	ti.first = mem.VirtAddr(low)
	for page := low; page < high; page += mem.PageSize {
		ti.pages = append(ti.pages, pageTruth(data, loads, page))
	}
	return ti, nil
}

func loadsOf(data []byte) []load {
	le := binary.LittleEndian
	var loads []load
	table, n := le.Uint64(data[32:]), int(le.Uint16(data[56:]))
	for i := range n {
		ph := data[table+uint64(i)*56:]
		if le.Uint32(ph) != 1 || le.Uint64(ph[40:]) == 0 {
			continue
		}
		l := load{off: le.Uint64(ph[8:]), start: le.Uint64(ph[16:]), filesz: le.Uint64(ph[32:])}
		l.end = l.start + le.Uint64(ph[40:])
		flags := le.Uint32(ph[4:])
		if flags&4 != 0 {
			l.prot |= mem.ProtRead
		}
		if flags&2 != 0 {
			l.prot |= rw
		}
		if flags&1 != 0 {
			l.prot |= rx
		}
		loads = append(loads, l)
	}
	return loads
}

// pageTruth goes byte by byte: the last segment with an address in its p_filesz
// has it, as zero behind the end of the file; what no segment has is zero. The
// permission is the union of the segments', rw- where there is none.
func pageTruth(data []byte, loads []load, page uint64) truth {
	var t truth
	var b [mem.PageSize]byte
	covered := false
	for _, l := range loads {
		from, to := max(page, l.start), min(page+mem.PageSize, l.end)
		if from >= to {
			continue
		}
		covered = true
		t.prot |= l.prot
		for a := from; a < to && a-l.start < l.filesz; a++ {
			b[a-page] = 0
			if off := l.off + (a - l.start); off < uint64(len(data)) {
				b[a-page] = data[off]
			}
		}
	}
	if !covered {
		t.prot = rw
	}
	if b != [mem.PageSize]byte{} {
		t.data = bytes.Clone(b[:])
	}
	return t
}

// program is something to exec, with what a process sees of it.
type program struct {
	name   string
	prog   Program
	images []*truthImage // the program, and its interpreter if it is mapped
	noRoom bool          // it does not fit the address space
}

func newProgram(f *mem.BytesFile, interp *mem.BytesFile) (program, error) {
	ti, err := newTruth(f, PIEBase)
	if err != nil {
		return program{}, err
	}
	p := program{name: path.Base(f.Name()), prog: Program{Image: ti.im}, images: []*truthImage{ti}}
	if interp == nil {
		return p, nil
	}
	// Twice: the first time for its size. It ends at the mmap base, or at the
	// program where that is in the way.
	it, err := newTruth(interp, 0)
	if err == nil {
		size, end := mem.VirtAddr(len(it.pages)*mem.PageSize), MmapBase
		if ti.first < end && ti.end() > end-size {
			end = ti.first
		}
		it, err = newTruth(interp, end-size)
	}
	if err != nil {
		return program{}, err
	}
	p.name += "+" + path.Base(interp.Name())
	p.prog.Interp = it.im
	p.images = append(p.images, it)
	return p, nil
}

// specs are generated programs beside the corpus.
var specs = []struct {
	name   string
	noRoom bool
	spec   elfgen.Spec
}{
	// Four pages, three segments, boundary pages in the middle.
	{"small", false, elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1800, Memsz: 0x1800, Flags: rx},
		{Vaddr: 0x402900, Filesz: 0x1000, Memsz: 0x3100, Offset: 0x1900, Flags: rw},
	}}},
	// Overlapping segments: file bytes, zeros and permissions of several.
	{"overlap", false, elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x3000, Memsz: 0x5000, Flags: ro},
		{Vaddr: 0x401800, Filesz: 0x0900, Memsz: 0x2000, Offset: 0x4800, Flags: rw},
		{Vaddr: 0x402400, Filesz: 0x1000, Memsz: 0x1000, Offset: 0x6400, Flags: rx},
		{Vaddr: 0x406000, Filesz: 0x3000, Memsz: 0x3000, Offset: 0x8000, Flags: rw},
		{Vaddr: 0x407000, Filesz: 0x1000, Memsz: 0x1000, Offset: 0xb000, Flags: rx},
	}}},
	// No access, execute only, write only; a segment with a gap of windows.
	{"permissions", false, elfgen.Spec{Type: elfgen.Dyn, Entry: 0x1100, Segments: []elfgen.Seg{
		{Vaddr: 0x0000, Filesz: 0x1000, Memsz: 0x1000, Flags: ro},
		{Vaddr: 0x1000, Filesz: 0x1000, Memsz: 0x1000, Offset: 0x1000, Flags: mem.ProtExec},
		{Vaddr: 0x2000, Filesz: 0x2000, Memsz: 0x2000, Offset: 0x2000, Flags: mem.ProtNone},
		{Vaddr: 0x4000, Filesz: 0x0800, Memsz: 0x1800, Offset: 0x4000, Flags: mem.ProtWrite},
	}, Stack: rwx}},
	// The last segment ends beyond the end of the file.
	{"truncated", false, elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Size: 0x2400, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx},
		{Vaddr: 0x401000, Filesz: 0x4000, Memsz: 0x4000, Offset: 0x1000, Flags: ro},
	}}},
	// The second hides the first with bytes that the file does not have.
	{"hidden", false, elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Size: 0x4400, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x4000, Memsz: 0x4000, Flags: rx},
		{Vaddr: 0x401000, Filesz: 0x2000, Memsz: 0x2800, Offset: 0x4000, Flags: ro},
	}}},
	// Two whole windows, of one permission each, and a window of .bss.
	{"windows", false, elfgen.Spec{Type: elfgen.Dyn, Entry: 0x100, Segments: []elfgen.Seg{
		{Vaddr: 0x200000, Filesz: 0x200000, Memsz: 0x200000, Flags: rx},
		{Vaddr: 0x400000, Filesz: 0x200000, Memsz: 0x201000, Offset: 0x200000, Flags: rw},
	}}},
	// Two read-only segments in page 0x401000.
	{"neighbours", false, elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1800, Memsz: 0x1800, Flags: rx},
		{Vaddr: 0x401900, Filesz: 0x1000, Memsz: 0x1000, Offset: 0x1900, Flags: ro},
	}}},
	// File page 1 is partly the first segment's and wholly the second's.
	{"twice", false, elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1800, Memsz: 0x1800, Flags: rx},
		{Vaddr: 0x402000, Filesz: 0x2000, Memsz: 0x2000, Offset: 0x1000, Flags: ro},
	}}},
	// Where an interpreter would go: that gets other places in the same windows.
	{"high", false, elfgen.Spec{Type: elfgen.Exec, Entry: 0x7ffff7e00100, Segments: []elfgen.Seg{
		{Vaddr: 0x7ffff7e00000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx},
	}}},
	{"in the stack", true, elfgen.Spec{Type: elfgen.Exec, Entry: 0x400100, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Filesz: 0x1000, Memsz: 0x1000, Flags: rx},
		{Vaddr: 0x7fffffff0000, Filesz: 0x1000, Memsz: 0x1000, Offset: 0x1000, Flags: rw},
	}}},
}

// programs returns the corpus, the programs above, some random ones, and two
// with an interpreter. All calls return the same.
var programs = sync.OnceValues(func() ([]program, error) {
	byName := map[string]*mem.BytesFile{}
	var files []*mem.BytesFile
	add := func(f *mem.BytesFile) {
		files = append(files, f)
		byName[path.Base(f.Name())] = f
	}
	for _, f := range vmsim.Corpus() {
		add(f)
	}
	noRoom := map[string]bool{}
	for _, s := range specs {
		add(mem.NewBytesFile(s.name, elfgen.Build(s.spec, nil)))
		noRoom[s.name] = s.noRoom
	}
	for seed := range uint64(6) {
		_, data := elfgen.Random(rand.New(rand.NewPCG(seed, 1)))
		add(mem.NewBytesFile(fmt.Sprintf("random-%d", seed), data))
	}
	var all []program
	for _, f := range files {
		if noRoom[f.Name()] {
			im, err := loader.Parse(f)
			if err != nil {
				return nil, err
			}
			all = append(all, program{name: f.Name(), prog: Program{Image: im}, noRoom: true})
			continue
		}
		p, err := newProgram(f, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for _, pair := range [][2]string{{"dynamic-pie", "static-pie"}, {"huge-text", "windows"}, {"high", "windows"}} {
		p, err := newProgram(byName[pair[0]], byName[pair[1]])
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
})

// mustPrograms returns the programs with these names, all of them without.
func mustPrograms(t testing.TB, names ...string) []program {
	t.Helper()
	all, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		return all
	}
	var out []program
	for _, n := range names {
		found := false
		for _, p := range all {
			if p.name == n {
				out, found = append(out, p), true
			}
		}
		if !found {
			t.Fatalf("no program %q", n)
		}
	}
	return out
}

// witness is an Inspector that compares what a machine assembles and maps with
// the truth.
type witness struct {
	images  map[mem.File][]*truthImage
	windows int
	pages   int
	first   error // what was wrong first
}

func newWitness(all []program) *witness {
	w := &witness{images: map[mem.File][]*truthImage{}}
	for _, p := range all {
		for _, ti := range p.images {
			w.images[ti.file] = append(w.images[ti.file], ti)
		}
	}
	return w
}

func (w *witness) image(f mem.File, bias uint64) *truthImage {
	for _, ti := range w.images[f] {
		if ti.bias == bias {
			return ti
		}
	}
	return nil
}

func (w *witness) fail(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if w.first == nil {
		w.first = err
	}
	return err
}

// Assembled compares all 512 sub-pages.
func (w *witness) Assembled(win mem.Window) error {
	w.windows++
	ti := w.image(win.File, win.Bias)
	if ti == nil {
		return w.fail("window %v of %s with bias %#x: no such program", win.Base, win.File.Name(), win.Bias)
	}
	if n := win.FromCache + win.FromFile + win.Zero; n != mem.SubPages {
		return w.fail("window %v: %d sub-pages counted", win.Base, n)
	}
	for i := range mem.SubPages {
		at := win.Base + mem.VirtAddr(i*mem.PageSize)
		t := ti.at(at)
		if (t != nil) != win.IsPopulated(i) {
			return w.fail("window %v: sub-page %d is populated: %t, has an area: %t", win.Base, i, win.IsPopulated(i), t != nil)
		}
		if err := sameBytes(win.Data[i*mem.PageSize:][:mem.PageSize], t.bytes()); err != nil {
			return w.fail("window %v of %s: sub-page %d: %w", win.Base, win.File.Name(), i, err)
		}
	}
	return nil
}

// Mapped compares one page.
func (w *witness) Mapped(_ int, f mem.File, bias uint64, addr mem.VirtAddr, data []byte) error {
	w.pages++
	ti := w.image(f, bias)
	if ti == nil || ti.at(addr) == nil {
		return w.fail("page %v of %s with bias %#x: no such page", addr, f.Name(), bias)
	}
	if err := sameBytes(data, ti.at(addr).bytes()); err != nil {
		return w.fail("page %v of %s: %w", addr, f.Name(), err)
	}
	return nil
}

func (t *truth) bytes() []byte {
	if t == nil || t.data == nil {
		return zeros[:]
	}
	return t.data
}

// sameBytes says where got differs from want, of the same length.
func sameBytes(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	for i := range got {
		if got[i] != want[i] {
			return fmt.Errorf("byte %#x is 0x%02x, want 0x%02x", i, got[i], want[i])
		}
	}
	return fmt.Errorf("%d bytes, want %d", len(got), len(want))
}
