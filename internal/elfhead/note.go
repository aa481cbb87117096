package elfhead

import (
	"bytes"
	"encoding/hex"
	"io"
	"iter"
)

// maxNotes is the most bytes of one PT_NOTE that are read. The largest note of
// a core lists its files, 4 MiB unless kernel.core_file_note_size_limit says
// more, and 16 MiB at most; each thread adds some 3 KiB.
const maxNotes = 64 << 20

// Item is a note: who defines it, its type by that definer, and its content.
type Item struct {
	Name string // without its NUL: CORE, GNU
	Type uint32
	Desc []byte
}

// Notes yields the notes of all PT_NOTE segments in order, from r, the file. Of
// a segment that is cut off or broken it yields what comes before.
func (h *Head) Notes(r io.ReaderAt) iter.Seq[Item] {
	return func(yield func(Item) bool) {
		for _, p := range h.Progs {
			if p.Type != Note {
				continue
			}
			var buf bytes.Buffer // grows with what is there, not with what is claimed
			buf.ReadFrom(io.NewSectionReader(r, int64(p.Off), int64(min(p.Filesz, maxNotes))))
			for it := range h.items(buf.Bytes(), p.Align) {
				if !yield(it) {
					return
				}
			}
		}
	}
}

// items splits the content of a PT_NOTE. Name and content are padded to 4
// bytes; to 8 where the segment is aligned so (GNU property notes).
func (h *Head) items(b []byte, align uint64) iter.Seq[Item] {
	pad := uint64(4)
	if align == 8 {
		pad = 8
	}
	up := func(n uint64) uint64 { return (n + pad - 1) &^ (pad - 1) }
	return func(yield func(Item) bool) {
		for len(b) >= 12 {
			namesz, descsz := uint64(h.Order.Uint32(b)), uint64(h.Order.Uint32(b[4:]))
			at := up(12 + namesz)
			if at > uint64(len(b)) || descsz > uint64(len(b))-at {
				return
			}
			it := Item{Type: h.Order.Uint32(b[8:]), Desc: b[at:][:descsz]}
			it.Name = string(bytes.TrimRight(b[12:12+namesz], "\x00"))
			if !yield(it) {
				return
			}
			b = b[min(up(at+descsz), uint64(len(b))):]
		}
	}
}

// BuildID returns the GNU build id in hex, "" if the file has none.
func (h *Head) BuildID(r io.ReaderAt) string {
	const ntGNUBuildID, longest = 3, 64
	for it := range h.Notes(r) {
		if it.Name == "GNU" && it.Type == ntGNUBuildID && len(it.Desc) > 0 && len(it.Desc) <= longest {
			return hex.EncodeToString(it.Desc)
		}
	}
	return ""
}
