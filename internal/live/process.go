package live

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"vmsim/internal/elfhead"
	"vmsim/mem"
)

// Returned by Open and by what reads.
var (
	// ErrGone: there is no such process, it has ended, or it runs another
	// program by now.
	ErrGone = errors.New("no such process")

	// ErrKernelThread: it has no memory of its own.
	ErrKernelThread = errors.New("a kernel thread: no memory of its own")
)

// Process is a live process. It is for one goroutine at a time.
type Process struct {
	PID  int
	Name string // as the kernel has it: at most 15 bytes, any bytes

	maps    []Mapping
	start   uint64 // when it started, in clock ticks after boot: with PID its identity
	bias    uint64
	mem     *os.File
	pagemap *os.File
	entries [mem.SubPages * 8]byte // of pagemap, as they are read
	pages   [mem.SubPages]Page     // what Pages returns

	pathsOnly bool // tests: as if map_files could not be followed
}

var _ mem.AddressSpace = (*Process)(nil)

// Open opens a process. Close must be called.
//
// It returns ErrGone or ErrKernelThread, wrapped fs.ErrPermission where the
// caller may not look at it, or another error of /proc.
func Open(pid int) (*Process, error) {
	st, err := readStat(pid)
	if err != nil {
		return nil, err
	}
	switch {
	case st.flags&pfKThread != 0:
		return nil, ErrKernelThread
	case st.state == 'Z' || st.state == 'X':
		return nil, fmt.Errorf("%w: it has ended and waits for its parent", ErrGone)
	}
	p := &Process{PID: pid, Name: st.comm, start: st.start}
	if err := p.open(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// open opens memory first and reads the maps last: if the process execs
// between the two, the memory is that of an address space without users and
// reads as empty.
func (p *Process) open() (err error) {
	if p.mem, err = os.Open(p.path("mem")); err != nil {
		return gone(err)
	}
	if p.pagemap, err = os.Open(p.path("pagemap")); err != nil {
		return gone(err)
	}
	text, err := os.ReadFile(p.path("maps"))
	if err != nil {
		return gone(err)
	}
	if p.maps, err = parseMaps(text); err != nil {
		return err
	}
	st, err := readStat(p.PID)
	if err != nil {
		return err
	}
	if st.start != p.start || len(p.maps) == 0 {
		return ErrGone
	}
	p.bias = p.loadBias()
	return nil
}

// Close closes the files of /proc.
func (p *Process) Close() {
	for _, f := range []*os.File{p.mem, p.pagemap} {
		if f != nil {
			f.Close()
		}
	}
}

// Reopen opens the same process anew. It returns ErrGone where the number
// belongs to another by now.
func (p *Process) Reopen() (*Process, error) {
	q, err := Open(p.PID)
	if err != nil {
		return nil, err
	}
	if q.start != p.start {
		q.Close()
		return nil, ErrGone
	}
	q.pathsOnly = p.pathsOnly
	return q, nil
}

// Mappings returns the VMAs of the moment of Open, ascending.
func (p *Process) Mappings() []Mapping { return p.maps }

// Bias returns the load bias of the main program, 0 where it cannot be told:
// AT_ENTRY of the auxiliary vector is e_entry with the bias added.
func (p *Process) Bias() uint64 { return p.bias }

func (p *Process) loadBias() uint64 {
	const atEntry = 9
	exe, err := mem.OpenFile(p.path("exe"))
	if err != nil {
		return 0
	}
	defer exe.Close()
	h, err := elfhead.Read(exe, exe.Size())
	if err != nil || h.Type != elfhead.TypeDyn || h.Class != 64 {
		return 0
	}
	auxv, err := os.ReadFile(p.path("auxv"))
	if err != nil {
		return 0
	}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.NativeEndian.Uint64(auxv) == atEntry {
			return binary.NativeEndian.Uint64(auxv[8:]) - h.Entry
		}
	}
	return 0
}

func (p *Process) path(name string) string { return fmt.Sprintf("/proc/%d/%s", p.PID, name) }

// gone turns the errors that /proc has for a process that is no more into
// ErrGone.
func gone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return ErrGone
	}
	return err
}

// pfKThread is PF_KTHREAD of include/linux/sched.h in the flags of stat.
const pfKThread = 0x00200000

// stat is what is needed of /proc/PID/stat.
type stat struct {
	comm   string
	state  byte
	flags  uint64
	minflt uint64 // faults without reading a file
	majflt uint64
	start  uint64
}

// readStat reads /proc/PID/stat. The name stands in parentheses and may hold
// any byte, parentheses too; what follows the last one is fields.
func readStat(pid int) (st stat, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return st, gone(err)
	}
	text := string(b)
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return st, fmt.Errorf("/proc/%d/stat: no name in parentheses", pid)
	}
	st.comm = text[open+1 : end]
	fields := strings.Fields(text[end+1:]) // from state, field 3 of proc(5), on
	if len(fields) < 20 {
		return st, fmt.Errorf("/proc/%d/stat: %d fields behind the name", pid, len(fields))
	}
	st.state = fields[0][0]
	for _, f := range []struct {
		field int
		to    *uint64
	}{{9, &st.flags}, {10, &st.minflt}, {12, &st.majflt}, {22, &st.start}} {
		if *f.to, err = strconv.ParseUint(fields[f.field-3], 10, 64); err != nil {
			return st, fmt.Errorf("/proc/%d/stat: field %d: %w", pid, f.field, err)
		}
	}
	return st, nil
}

// PIDs returns the numbers of all processes, ascending.
func PIDs() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// Read fills p with the bytes at addr. It returns mem.ErrNotPresent, and reads
// nothing, if one of the pages is not present; else the errors of ReadPresent.
func (p *Process) Read(addr mem.VirtAddr, b []byte) error {
	end, ok := addr.Add(uint64(len(b)))
	if !ok {
		return fmt.Errorf("read %d bytes at %v: %w", len(b), addr, mem.ErrNotPresent)
	}
	for r := (mem.Range{Start: addr.PageDown(), End: end}); r.Start < r.End; {
		pages, err := p.Pages(r)
		if err != nil {
			return err
		}
		for i, pg := range pages {
			if !pg.Present() {
				return fmt.Errorf("page %v: %w", r.Start+mem.VirtAddr(i)*mem.PageSize, mem.ErrNotPresent)
			}
		}
		r.Start += mem.VirtAddr(len(pages)) * mem.PageSize
	}
	n, err := p.ReadPresent(addr, b)
	if err == nil && n < len(b) {
		err = fmt.Errorf("read %d bytes at %v: only %d could be read", len(b), addr, n)
	}
	return err
}

// ReadPresent reads memory of which the caller knows by Pages that it is
// present, and returns how many bytes it got before the first that cannot be
// read. The error is ErrGone, or of the first byte.
func (p *Process) ReadPresent(addr mem.VirtAddr, b []byte) (int, error) {
	if uint64(addr) > 1<<63-1-uint64(len(b)) {
		return 0, fmt.Errorf("address %v is beyond user space", addr)
	}
	n, err := p.mem.ReadAt(b, int64(addr))
	switch {
	case n > 0:
		return n, nil
	case err == io.EOF:
		return 0, ErrGone
	}
	return 0, gone(err)
}
