package session

import "vmsim/mem"

// hostRead is how much of a file the host is asked for at once, in bytes. The
// machine's faults read a page each, and a system call for 4 KiB takes twice as
// long as its part of one for 1 MiB.
const hostRead = 1 << 20

// hostFile is the file that the machine of a verification maps. It turns the
// reads of faults into large ones of the host's file, which go in front of the
// fault: nothing that is simulated knows. The witness must not read it: it reads
// the file itself.
//
// Of a file that is written meanwhile the machine may see what was there before,
// as it may with a read of its own; Changed of the file tells.
type hostFile struct {
	mem.File
	buf *hostBuffer
}

// hostBuffer is what was read last, by any of the files that share it.
type hostBuffer struct {
	file *hostFile // nil: nothing
	off  int64     // of data in file
	n    int       // bytes of data that are file's
	data [hostRead]byte
}

// ReadAt is io.ReaderAt's.
func (h *hostFile) ReadAt(p []byte, off int64) (int, error) {
	if !h.buffered(p, off) && !h.fetch(p, off) {
		return h.File.ReadAt(p, off)
	}
	return copy(p, h.buf.data[off-h.buf.off:]), nil
}

func (h *hostFile) buffered(p []byte, off int64) bool {
	b := h.buf
	return b.file == h && off >= b.off && off-b.off <= int64(b.n-len(p))
}

// fetch makes the buffer hold what a page needs and what comes behind it. Headers
// and windows are not read so; neither is what cannot be read, or lies beyond the
// end of the file.
func (h *hostFile) fetch(p []byte, off int64) bool {
	if len(p) != mem.PageSize || off < 0 || off > h.Size()-mem.PageSize {
		return false
	}
	b := h.buf
	b.file, b.off = nil, off
	n, err := h.File.ReadAt(b.data[:min(hostRead, h.Size()-off)], off)
	if err != nil {
		return false
	}
	b.file, b.n = h, n
	return true
}

// itself is the host's file behind f, or f.
func itself(f mem.File) mem.File {
	switch f := f.(type) {
	case *hostFile:
		return f.File
	case *counted:
		return f.File
	}
	return f
}
