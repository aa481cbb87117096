package vm

import (
	"fmt"
	"maps"
	"slices"

	"vmsim/hugepage"
	"vmsim/internal/event"
	"vmsim/internal/pagetable"
	"vmsim/internal/phys"
	"vmsim/mem"
	"vmsim/pagecache"
	"vmsim/vma"
)

// DefaultMemory is the physical memory of a machine, in bytes.
const DefaultMemory = 4 << 30

// Hardening says how much a machine checks itself. Results do not depend on
// it.
type Hardening uint8

const (
	// Default trusts the structures and verifies what it assembles.
	Default Hardening = iota
	// Fortress checks every invariant of every structure after every
	// operation, and shows every file page that it maps to the inspector.
	Fortress
)

// ParseHardening reads "default" or "fortress".
func ParseHardening(s string) (Hardening, error) {
	switch s {
	case "default":
		return Default, nil
	case "fortress":
		return Fortress, nil
	}
	return 0, fmt.Errorf("hardening %q is none of default, fortress", s)
}

// Config is what a machine is built from. The zero Config is the repaired
// kevlar profile with DefaultMemory.
type Config struct {
	Memory    uint64          // bytes of physical memory; 0 is DefaultMemory
	Policy    hugepage.Policy // nil is hugepage.NewKevlar(hugepage.DefaultThreshold)
	Inspector mem.Inspector   // sees every huge page before it is mapped; may be nil
	Hardening Hardening
	Events    event.Sink // takes what happens; may be nil
	Digest    bool       // put the SHA-256 of assembled windows into their events
	MaxAreas  int        // areas that a process may have (vm.max_map_count); 0 is MaxAreas

	// FaultAround is how many pages a read fault on a page of a file maps: an aligned
	// block, a power of two up to MaxFaultAround. 0 and 1 map the one alone.
	FaultAround int
}

// Machine is one simulated computer.
type Machine struct {
	cfg       Config
	phys      *phys.Memory
	tables    *pagetable.Tables
	tlb       pagetable.TLB
	cache     *pagecache.Cache
	huge      *hugepage.Cache
	assembler *hugepage.Assembler
	zero      mem.PFN      // the shared zero page
	view      vma.PageView // of the page that faults
	around    vma.PageView // of one near it
	dead      *mm          // of processes that ended: stays empty

	populating bool // faults are counted as populated, see Process.populate

	procs      map[int]*Process
	shared     map[uint32]*SharedObject // by number in the page cache
	layouts    map[layoutKey]*mapped
	lastKey    layoutKey // of the layout asked for last: a shell runs the same program again and again
	lastLayout *mapped   // nil: none
	lastPID    int
	stats      Stats
	sweep      sweep    // where reclaim goes on unmapping
	refs       []uint32 // by frame; scratch of Check
}

// Stats counts what the machine did since New or Reset.
type Stats struct {
	Faults         Faults // of all processes, dead ones included
	Populated      Faults // see Process.Populated; not among Faults
	Assembled      int    // windows put together
	FromCache      int    // sub-pages of those, by origin
	FromFile       int
	Zero           int
	HugeMapped     int // windows mapped by one entry
	HugeScattered  int // windows mapped in 4 KiB entries
	Splits         int
	Prefaulted     int // 4 KiB pages mapped at exec
	FaultedAround  int // 4 KiB pages mapped around one that faulted
	OOMKills       int
	ReclaimUnmaps  int // entries that reclaim took away
	HugeEvicted    int
	InspectorFails int // assemblies that the inspector rejected
}

// Faults counts resolved faults by kind; each fault is of one kind.
type Faults struct {
	Minor int `json:"minor"` // no file was read
	Major int `json:"major"` // a file was read
	CoW   int `json:"cow"`   // a write to a page that was mapped: copied, or taken over
}

// add counts one.
func (f *Faults) add(k FaultKind) {
	switch k {
	case Minor:
		f.Minor++
	case Major:
		f.Major++
	case CoW:
		f.CoW++
	}
}

// Total returns the sum.
func (f Faults) Total() int { return f.Minor + f.Major + f.CoW }

// Add returns the sums by kind.
func (f Faults) Add(o Faults) Faults {
	return Faults{f.Minor + o.Minor, f.Major + o.Major, f.CoW + o.CoW}
}

// Sub returns the differences by kind.
func (f Faults) Sub(o Faults) Faults {
	return Faults{f.Minor - o.Minor, f.Major - o.Major, f.CoW - o.CoW}
}

// New builds a machine. Close gives its memory back.
func New(cfg Config) (*Machine, error) {
	if cfg.Memory == 0 {
		cfg.Memory = DefaultMemory
	}
	if cfg.MaxAreas <= 0 {
		cfg.MaxAreas = MaxAreas
	}
	if cfg.Policy == nil {
		k, err := hugepage.NewKevlar(hugepage.DefaultThreshold)
		if err != nil {
			return nil, err
		}
		cfg.Policy = k
	}
	ram, err := phys.New(cfg.Memory)
	if err != nil {
		return nil, err
	}
	tables, err := pagetable.New(ram, tableNodes(ram.Frames()))
	if err != nil {
		ram.Close()
		return nil, err
	}
	m := &Machine{cfg: cfg, phys: ram, tables: tables, cache: pagecache.New(ram),
		huge: hugepage.NewCache(ram), procs: map[int]*Process{},
		shared: map[uint32]*SharedObject{}, layouts: map[layoutKey]*mapped{}}
	m.dead = m.newMM(vma.New())
	m.assembler = hugepage.NewAssembler(ram, m.cache, cfg.Policy)
	m.boot()
	return m, nil
}

// tableNodes is how many page-table nodes a machine of so many frames may
// have: a quarter, and enough for a few sparse processes on a tiny one.
func tableNodes(frames int) int { return frames/4 + 256 }

func (m *Machine) boot() {
	pfn, ok := m.phys.Alloc()
	if !ok {
		panic("vm: no frame for the zero page")
	}
	clear(m.phys.Page(pfn))
	m.zero = pfn
}

// Reset ends all processes and forgets all cached pages and counters, as if
// the machine were new. The memory stays with it, which makes Reset much
// cheaper than New. It panics if a frame was leaked.
func (m *Machine) Reset() {
	for _, p := range m.Processes() {
		p.release()
	}
	m.huge.Reset()
	clear(m.shared)
	m.cache.Reset()
	clear(m.layouts) // they name files by number
	m.lastLayout = nil
	m.phys.Put(m.zero)
	if leaked := m.phys.Frames() - m.phys.FreeFrames(); leaked != 0 {
		panic(fmt.Sprintf("vm: %d frames leaked", leaked))
	}
	m.phys.Reset()
	m.lastPID, m.stats, m.sweep, m.view = 0, Stats{}, sweep{}, vma.PageView{}
	m.boot()
}

// Close ends all processes and unmaps the machine's memory.
func (m *Machine) Close() error {
	clear(m.procs)
	err := m.tables.Close()
	if e := m.phys.Close(); err == nil {
		err = e
	}
	return err
}

// Processes returns the live processes by ascending PID.
func (m *Machine) Processes() []*Process {
	return slices.SortedFunc(maps.Values(m.procs), func(a, b *Process) int { return a.PID - b.PID })
}

// Process returns the live process with this PID.
func (m *Machine) Process(pid int) (*Process, bool) {
	p, ok := m.procs[pid]
	return p, ok
}

// Stats returns the counters.
func (m *Machine) Stats() Stats { return m.stats }

// CacheStats returns the page cache's counters.
func (m *Machine) CacheStats() pagecache.Stats { return m.cache.Stats() }

// CachedPages returns how many pages of f the page cache holds.
func (m *Machine) CachedPages(f mem.File) int { return m.cache.FilePages(m.cache.Open(f)) }

// HugePages returns the number of assembled windows that are kept.
func (m *Machine) HugePages() int { return m.huge.Len() }

// FreeFrames and Frames return the free and the usable 4 KiB frames.
func (m *Machine) FreeFrames() int { return m.phys.FreeFrames() }
func (m *Machine) Frames() int     { return m.phys.Frames() }

// SetEvents changes where events go from now on: Config.Events. nil is nowhere.
func (m *Machine) SetEvents(s event.Sink) { m.cfg.Events = s }

func (m *Machine) emit(e event.Event) {
	if m.cfg.Events != nil {
		m.cfg.Events.Emit(e)
	}
}

// settle ends every operation; in Fortress it checks the whole machine. A
// broken invariant is our own defect, so it panics.
func (m *Machine) settle() {
	if m.cfg.Hardening != Fortress {
		return
	}
	if err := m.Check(); err != nil {
		panic("vm: " + err.Error())
	}
}
