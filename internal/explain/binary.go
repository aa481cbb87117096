package explain

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"

	"vmsim/loader"
	"vmsim/mem"
)

// Binary is what the headers of a file say about huge pages.
type Binary struct {
	Image *loader.Image
	Size  uint64 // of the file, in bytes
	Align uint64 // the largest p_align of a PT_LOAD that is a power of two; 0 is none
	Relro uint64 // bytes of PT_GNU_RELRO: made read-only after relocation; 0 is none

	phoff uint64 // of the program header table
}

// The parts of the ELF-64 format that the loader has no use for.
const (
	ehdrSize, phdrSize     = 64, 56
	ehPhoff, ehPhnum       = 32, 56
	phMemsz, phAlign       = 40, 48
	ptLoad, ptGNURelro     = 1, 0x6474e552
	maxPhnum           int = 64 << 10 / phdrSize
)

// Read reads the headers of f. It returns the errors of loader.Parse.
func Read(f mem.File) (*Binary, error) {
	im, err := loader.Parse(f)
	if err != nil {
		return nil, err
	}
	b := &Binary{Image: im, Size: uint64(max(f.Size(), 0))}
	if err := b.readTable(f); err != nil {
		return nil, err
	}
	return b, nil
}

// readTable reads what loader.Image does not keep. The loader has checked the
// table; a file that was cut off since then is an error.
func (b *Binary) readTable(f io.ReaderAt) error {
	var eh [ehdrSize]byte
	if err := readFull(f, eh[:], 0); err != nil {
		return fmt.Errorf("read ELF header: %w", err)
	}
	le := binary.LittleEndian
	b.phoff = le.Uint64(eh[ehPhoff:])
	table := make([]byte, phdrSize*min(int(le.Uint16(eh[ehPhnum:])), maxPhnum))
	if err := readFull(f, table, int64(b.phoff)); err != nil {
		return fmt.Errorf("read program headers: %w", err)
	}
	for ; len(table) > 0; table = table[phdrSize:] {
		switch le.Uint32(table) {
		case ptLoad:
			// Compare Linux fs/binfmt_elf.c:maximum_alignment.
			if a := le.Uint64(table[phAlign:]); bits.OnesCount64(a) == 1 {
				b.Align = max(b.Align, a)
			}
		case ptGNURelro:
			b.Relro = le.Uint64(table[phMemsz:])
		}
	}
	return nil
}

// readFull fills p; Linux takes the bytes beyond the end of a short file as
// zero.
func readFull(f io.ReaderAt, p []byte, off int64) error { return mem.ReadPadded(f, p, off) }

// alignField returns where in the file the p_align of segment s is.
func (b *Binary) alignField(s loader.Segment) uint64 {
	return b.phoff + uint64(s.Index)*phdrSize + phAlign
}

// honoured reports whether a loader that honours p_align puts the file on a
// 2 MiB boundary.
func (b *Binary) honoured() bool { return b.Align >= mem.HugeSize }
