package session

import (
	"cmp"
	"slices"

	"vmsim/mem"
	"vmsim/trace"
	"vmsim/vm"
)

// Recording is what the replay of a recording found beside a ReplayResult.
type Recording struct {
	Header   trace.Header `json:"header"`
	Limits   []string     `json:"limits"`   // what it does not know, a sentence each
	Programs []Program    `json:"programs"` // by path
	Total    Program      `json:"total"`
	Unknown  []Unknown    `json:"unknown"`

	AssembledIn string `json:"first_assembly_program,omitempty"` // of FirstAssembly
	WrongIn     string `json:"first_wrong_program,omitempty"`    // of FirstWrong

	FaultedAround int `json:"faulted_around"` // pages mapped around one that faulted

	Peak    uint64         `json:"peak_bytes"` // of frames that were in use at once
	Series  []Sample       `json:"memory"`     // at most maxSamples, at even distances
	Present []PresentCount `json:"present"`
}

// Program is what all processes did while they ran one program.
type Program struct {
	Path  string `json:"program"` // "": before any exec
	Execs int    `json:"execs"`

	Recorded   RecordedFaults `json:"recorded"`
	Simulated  vm.Faults      `json:"simulated"`
	Untroubled uint64         `json:"untroubled"` // touches without a fault here
	Populated  vm.Faults      `json:"populated"`  // by MAP_POPULATE, mlock and their like

	CacheHits  int `json:"cache_hits"` // faults that found the file's page cached
	Prefaulted int `json:"prefaulted"` // cached pages that exec mapped
	Assembled  int `json:"windows_assembled"`
	Shared     int `json:"windows_shared"` // mapped as somebody else had assembled them
	Split      int `json:"windows_split"`
	Copies     int `json:"copies"` // of pages, for a writer
	Crashed    int `json:"crashed"`
}

// RecordedFaults is what the kernel counted when a trace was recorded.
type RecordedFaults struct {
	References uint64 `json:"touches"` // lines of the trace
	Read       uint64 `json:"read"`    // faults, by their error code
	Write      uint64 `json:"write"`
	Fetch      uint64 `json:"fetch"`
	User       uint64 `json:"user"` // the same, by who touched
	Kernel     uint64 `json:"kernel"`
	MinFlt     uint64 `json:"min_flt"` // of the processes that ended in the program
	MajFlt     uint64 `json:"maj_flt"`
}

// Faults returns how many touches of the trace were faults.
func (r RecordedFaults) Faults() uint64 { return r.User + r.Kernel }

func (r *RecordedFaults) add(a mem.Access, code trace.ErrorCode) {
	switch a {
	case mem.Write:
		r.Write++
	case mem.Exec:
		r.Fetch++
	default:
		r.Read++
	}
	if code&trace.CodeUser != 0 {
		r.User++
	} else {
		r.Kernel++
	}
}

// sum adds o to p.
func (p *Program) sum(o *Program) {
	p.Execs += o.Execs
	r, q := &p.Recorded, &o.Recorded
	r.References += q.References
	r.Read, r.Write, r.Fetch = r.Read+q.Read, r.Write+q.Write, r.Fetch+q.Fetch
	r.User, r.Kernel = r.User+q.User, r.Kernel+q.Kernel
	r.MinFlt, r.MajFlt = r.MinFlt+q.MinFlt, r.MajFlt+q.MajFlt
	p.Simulated, p.Populated = p.Simulated.Add(o.Simulated), p.Populated.Add(o.Populated)
	p.Untroubled += o.Untroubled
	p.CacheHits, p.Prefaulted, p.Copies, p.Crashed = p.CacheHits+o.CacheHits, p.Prefaulted+o.Prefaulted, p.Copies+o.Copies, p.Crashed+o.Crashed
	p.Assembled, p.Shared, p.Split = p.Assembled+o.Assembled, p.Shared+o.Shared, p.Split+o.Split
}

// Unknown is pages whose bytes nothing says.
type Unknown struct {
	What  string `json:"what"`
	Pages int    `json:"pages"`
}

// maxUnknown bounds how many kinds are named; the others are one more.
const (
	maxUnknown    = 1000
	otherUnknowns = "others"
)

// Sample is what the memory was used for after so many operations.
type Sample struct {
	Ops       uint64 `json:"ops"`
	Cache     uint64 `json:"page_cache"` // bytes, each
	Shared    uint64 `json:"shared"`
	Huge      uint64 `json:"huge_pages"`
	Anonymous uint64 `json:"anonymous"`
	Tables    uint64 `json:"page_tables"`
}

// maxSamples bounds a series: of one that is full, every second goes, and the
// distance doubles.
const maxSamples = 20

// replayCounter counts what a replay does, by program.
type replayCounter struct {
	rec      *Recording
	programs map[string]*Program
	order    []*Program
	unknowns map[string]int
	stats    vm.Stats // of the machine, when they were given to a program last
	ops      uint64
	every    uint64 // operations from sample to sample
	next     uint64 // when the next is due
	free     int    // frames, at least
	unplaced int    // execs of which the trace does not say where the program lay
}

func newCounter(h trace.Header) *replayCounter {
	return &replayCounter{rec: &Recording{Header: h, Limits: []string{}, Programs: []Program{}, Unknown: []Unknown{}, Present: []PresentCount{}}, programs: map[string]*Program{}, unknowns: map[string]int{}, every: 1, free: int(^uint(0) >> 1)}
}

// program returns the counts of the program at path.
func (c *replayCounter) program(path string) *Program {
	p := c.programs[path]
	if p == nil {
		p = &Program{Path: path}
		c.programs[path] = p
		c.order = append(c.order, p)
	}
	return p
}

func (c *replayCounter) unknown(what string) {
	if _, ok := c.unknowns[what]; !ok && len(c.unknowns) >= maxUnknown {
		what = otherUnknowns
	}
	c.unknowns[what]++
}

// touched counts a touch that was not refused.
func (c *replayCounter) touched(s *simulator, p *vm.Process, m *memory, t *trace.Touch, ip mem.VirtAddr, kind vm.FaultKind) {
	switch kind {
	case vm.NoFault:
		m.program.Untroubled++
		return
	case vm.Minor:
		if m.fileBacked(t.Addr) {
			m.program.CacheHits++
		}
	case vm.CoW:
		m.program.Copies++
	}
	if s.opt.Profile != nil {
		s.opt.Profile.fault(p, m, *t, ip, kind)
	}
}

// fileBacked reports whether addr's page has bytes of a file.
func (m *memory) fileBacked(addr mem.VirtAddr) bool {
	if m.find(addr) {
		return m.last.file != nil
	}
	for _, t := range m.truths {
		if t.HasFileBytes(addr) {
			return true
		}
	}
	return false
}

// step is after an operation that was none of a batch, of a process with memory
// m; nil for none.
func (c *replayCounter) step(machine *vm.Machine, m *memory, touch bool) {
	if m != nil {
		c.attribute(machine, m)
	}
	c.ops++
	c.free = min(c.free, machine.FreeFrames())
	if !touch && c.ops >= c.next { // touches come one by one or in batches: at none of them, then
		c.sample(machine)
	}
}

// attribute gives what the machine did since it was last called to the program of
// m.
func (c *replayCounter) attribute(machine *vm.Machine, m *memory) {
	if now := machine.Stats(); now != c.stats {
		p, was := m.program, &c.stats
		m.loose = m.loose || now.Prefaulted != was.Prefaulted || now.Populated != was.Populated
		p.Simulated = p.Simulated.Add(now.Faults.Sub(was.Faults))
		p.Populated = p.Populated.Add(now.Populated.Sub(was.Populated))
		p.Prefaulted += now.Prefaulted - was.Prefaulted
		assembled := now.Assembled - was.Assembled
		p.Assembled += assembled
		p.Shared += now.HugeMapped + now.HugeScattered - was.HugeMapped - was.HugeScattered - assembled
		p.Split += now.Splits - was.Splits
		c.stats = now
	}
}

func (c *replayCounter) sample(machine *vm.Machine) {
	u := machine.Usage()
	series := append(c.rec.Series, Sample{c.ops, u.PageCache, u.Shared, u.HugePages, u.Anonymous, u.PageTables})
	if len(series) > maxSamples {
		half := series[:0]
		for i := 0; i < len(series); i += 2 {
			half = append(half, series[i])
		}
		series = half
		c.every *= 2
	}
	c.rec.Series = series
	c.next = c.ops - c.ops%c.every + c.every
}

// end closes the counts.
func (c *replayCounter) end(machine *vm.Machine) *Recording {
	c.sample(machine)
	r := c.rec
	slices.SortFunc(c.order, func(a, b *Program) int { return cmp.Compare(a.Path, b.Path) })
	for _, p := range c.order {
		if *p == (Program{Path: p.Path}) {
			continue
		}
		r.Programs = append(r.Programs, *p)
		r.Total.sum(p)
	}
	for i := range r.Present {
		r.Present[i].sortReasons()
	}
	for what, n := range c.unknowns {
		r.Unknown = append(r.Unknown, Unknown{what, n})
	}
	slices.SortFunc(r.Unknown, func(a, b Unknown) int { return cmp.Or(cmp.Compare(b.Pages, a.Pages), cmp.Compare(a.What, b.What)) })
	r.FaultedAround = machine.Stats().FaultedAround
	if c.free < machine.Frames() {
		r.Peak = uint64(machine.Frames()-c.free) * mem.PageSize
	}
	return r
}
