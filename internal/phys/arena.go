package phys

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// MaxBytes is the size of the largest arena: 8 TiB, 2^31 frames.
const MaxBytes = 8 << 40

// ErrTooLarge is returned by New for an arena of more than MaxBytes.
var ErrTooLarge = errors.New("larger than 8 TiB")

// Memory is an arena of frames with its allocator. Make one with New.
type Memory struct {
	frames []Frame               // the frame table, by PFN; entry 0 is reserved
	pages  [][mem.PageSize]byte  // the arena by frame
	blocks [][mem.HugeSize]byte  // the arena by 2 MiB block
	heads  [maxOrder + 1]mem.PFN // first free block of each order, NoFrame if none

	// top is the high-water mark, a multiple of 512: no frame from here on was
	// ever used, all are free, and their entries are zero.
	top      mem.PFN
	nonempty uint16 // bit k: heads[k] is not NoFrame
	nBuddy   int    // frames free in the buddy, those from top on included

	cpus []perCPU
	cpu  *perCPU // the one that runs
}

// New maps an arena of sizeBytes, rounded up to a multiple of 2 MiB and at
// least 2 MiB, and its frame table. The host gives it memory only as frames
// are written, in huge pages where it can.
//
// It returns ErrTooLarge beyond 8 TiB, or the error of mmap. A Memory that is
// not closed keeps its mappings.
func New(sizeBytes uint64) (*Memory, error) {
	return newMemory(sizeBytes, 1)
}

// newMemory is New with nCPU simulated CPUs.
func newMemory(sizeBytes uint64, nCPU int) (*Memory, error) {
	if sizeBytes > MaxBytes {
		return nil, fmt.Errorf("arena of %d bytes: %w", sizeBytes, ErrTooLarge)
	}
	nBlocks := max(1, (sizeBytes+mem.HugeSize-1)/mem.HugeSize)
	nFrames := nBlocks * mem.SubPages

	arena, err := reserve(uintptr(nBlocks * mem.HugeSize))
	if err != nil {
		return nil, fmt.Errorf("arena of %d bytes: %w", nBlocks*mem.HugeSize, err)
	}
	// A hint: a host without transparent huge pages refuses it, and is slower.
	_ = unix.Madvise(unsafe.Slice((*byte)(arena), nBlocks*mem.HugeSize), unix.MADV_HUGEPAGE)

	m := &Memory{
		pages:  unsafe.Slice((*[mem.PageSize]byte)(arena), nFrames),
		blocks: unsafe.Slice((*[mem.HugeSize]byte)(arena), nBlocks),
		cpus:   make([]perCPU, nCPU),
	}
	table, err := mmap(uintptr(nFrames * frameSize))
	if err != nil {
		err = fmt.Errorf("frame table of %d bytes: %w", nFrames*frameSize, err)
		return nil, errors.Join(err, m.Close())
	}
	m.frames = unsafe.Slice((*Frame)(table), nFrames)
	m.cpu = &m.cpus[0]
	m.free0()
	return m, nil
}

// Close gives the arena and the table back to the host. Slices from Page and
// Block must not be used any more; neither must m, except for another Close,
// which does nothing.
func (m *Memory) Close() error {
	var errs []error
	if len(m.pages) > 0 {
		n := uintptr(len(m.pages)) * mem.PageSize
		if err := unix.MunmapPtr(unsafe.Pointer(&m.pages[0]), n); err != nil {
			errs = append(errs, fmt.Errorf("unmap arena: %w", err))
		}
	}
	if len(m.frames) > 0 {
		n := uintptr(len(m.frames)) * frameSize
		if err := unix.MunmapPtr(unsafe.Pointer(&m.frames[0]), n); err != nil {
			errs = append(errs, fmt.Errorf("unmap frame table: %w", err))
		}
	}
	*m = Memory{} // a late use fails a bounds check, not in unmapped memory
	return errors.Join(errs...)
}

// Reset makes all frames free again, whoever holds references: the next
// allocations get the same PFNs as after New. The contents of the frames are
// undefined. It costs a clear of the table up to the highest block that was
// used.
func (m *Memory) Reset() {
	clear(m.frames[:m.top])
	for i := range m.cpus {
		m.cpus[i].n = 0
	}
	m.cpu = &m.cpus[0]
	m.free0()
}

// free0 sets up an allocator whose table is zero: block 0 without its first
// frame, which leaves one free block of each order below the largest. All
// later blocks are above top.
func (m *Memory) free0() {
	m.heads = [maxOrder + 1]mem.PFN{}
	m.nonempty = 0
	m.top = mem.SubPages
	m.nBuddy = m.Frames()
	m.frames[mem.NoFrame].state = stateReserved
	for k := range uint(maxOrder) {
		m.push(1<<k, k)
	}
}

// Page returns the 4096 bytes of frame p. It panics if p is not in the arena.
func (m *Memory) Page(p mem.PFN) []byte { return m.pages[p][:] }

// Block returns the 2 MiB from frame first on. It panics unless first is a
// multiple of 512 in the arena.
func (m *Memory) Block(first mem.PFN) []byte {
	mustAlign(first)
	return m.blocks[first/mem.SubPages][:]
}

// Frames returns the number of frames that can be allocated: all but PFN 0.
func (m *Memory) Frames() int { return len(m.frames) - 1 }

// FreeFrames returns how many frames are free now, in the buddy and in the
// per-CPU lists.
func (m *Memory) FreeFrames() int {
	n := m.nBuddy
	for i := range m.cpus {
		n += m.cpus[i].n
	}
	return n
}

// mmap maps sizeBytes of zeros that cost nothing until they are touched.
func mmap(sizeBytes uintptr) (unsafe.Pointer, error) {
	return unix.MmapPtr(-1, 0, nil, sizeBytes, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
}

// reserve is mmap at a multiple of 2 MiB: it maps one block more than asked
// for and trims both ends.
func reserve(sizeBytes uintptr) (unsafe.Pointer, error) {
	base, err := mmap(sizeBytes + mem.HugeSize)
	if err != nil {
		return nil, err
	}
	return trim(base, sizeBytes)
}

// trim cuts the mapping of sizeBytes + 2 MiB at base down to sizeBytes at a
// multiple of 2 MiB. On error nothing is left mapped that can be unmapped.
func trim(base unsafe.Pointer, sizeBytes uintptr) (unsafe.Pointer, error) {
	head := -uintptr(base) % mem.HugeSize // bytes to the next multiple
	start := unsafe.Add(base, head)
	var err error
	if head > 0 {
		err = unix.MunmapPtr(base, head)
	}
	// The tail is never empty: head is less than the 2 MiB.
	tailErr := unix.MunmapPtr(unsafe.Add(start, sizeBytes), mem.HugeSize-head)
	if err := errors.Join(err, tailErr); err != nil {
		return nil, errors.Join(err, unix.MunmapPtr(start, sizeBytes))
	}
	return start, nil
}
