package mem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
)

// File is what can be mapped: positioned reads, a size, and a name for its
// content. Two Files with the same Identity and Generation hold the same
// bytes; a cache may key on the pair. Files are compared with ==: implement
// File on a pointer.
//
// ReadAt must behave like pread of a file that may shrink while it is in use:
// it returns io.EOF at the end and never raises a signal.
type File interface {
	io.ReaderAt
	Name() string       // as the user wrote it, for messages
	Size() int64        // in bytes, when it was opened
	Identity() FileID   // which file
	Generation() uint64 // which content of it
}

// FileID tells files apart, as device and inode do.
type FileID struct {
	Dev, Ino uint64
}

// ErrNotRegular is returned by OpenFile for what has no content to map: a
// directory, a FIFO, a socket, a device.
var ErrNotRegular = errors.New("not a regular file")

// OSFile is a regular file of the host. It is read with pread, never through a
// mapping, which could raise SIGBUS when the file shrinks.
type OSFile struct {
	f    *os.File
	name string
	size int64
	id   FileID
	gen  uint64
}

// OpenFile opens a regular file for reading. It never blocks: a FIFO without a
// writer gives ErrNotRegular, as directories, sockets and devices do.
func OpenFile(path string) (*OSFile, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		if errors.Is(err, syscall.ENXIO) { // a socket, or a device without a driver
			return nil, &fs.PathError{Op: "open", Path: path, Err: ErrNotRegular}
		}
		return nil, err
	}
	o := &OSFile{f: f, name: path}
	if o.size, o.id, o.gen, err = stat(f); err != nil {
		f.Close()
		return nil, err
	}
	return o, nil
}

// stat identifies the content of f: device, inode, and a generation made of
// size, modification and change time, so that a rewritten file is another.
func stat(f *os.File) (size int64, id FileID, gen uint64, err error) {
	fi, err := f.Stat()
	if err != nil {
		return 0, id, 0, err
	}
	if !fi.Mode().IsRegular() {
		return 0, id, 0, &fs.PathError{Op: "open", Path: f.Name(), Err: ErrNotRegular}
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, id, 0, fmt.Errorf("stat %s: no device and inode on this system", f.Name())
	}
	gen = mix(mix(mix(uint64(st.Size), uint64(st.Mtim.Nano())), uint64(st.Ctim.Nano())), 0)
	return st.Size, FileID{uint64(st.Dev), st.Ino}, gen, nil
}

// mix folds v into h (the finaliser of MurmurHash3, by Austin Appleby, public
// domain constants).
func mix(h, v uint64) uint64 {
	h ^= v
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Changed reports whether the file was written, truncated or extended since it
// was opened.
func (o *OSFile) Changed() bool {
	_, _, gen, err := stat(o.f)
	return err != nil || gen != o.gen
}

func (o *OSFile) ReadAt(p []byte, off int64) (int, error) { return o.f.ReadAt(p, off) }
func (o *OSFile) Name() string                            { return o.name }
func (o *OSFile) Size() int64                             { return o.size }
func (o *OSFile) Identity() FileID                        { return o.id }
func (o *OSFile) Generation() uint64                      { return o.gen }
func (o *OSFile) Close() error                            { return o.f.Close() }

// bytesDev is the device number of all in-memory files; their inode counts up.
// No host device has it: 0 is the kernel's "unnamed" device.
const bytesDev = 0

var lastBytesIno atomic.Uint64

// BytesFile is a file in memory. Its data must not change.
type BytesFile struct {
	name string
	data []byte
	ino  uint64
}

// NewBytesFile returns a file that holds data; no other file has its Identity.
func NewBytesFile(name string, data []byte) *BytesFile {
	return &BytesFile{name: name, data: data, ino: lastBytesIno.Add(1)}
}

func (b *BytesFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at negative offset %d", off)
	}
	if off >= int64(len(b.data)) {
		return 0, io.EOF
	}
	n := copy(p, b.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (b *BytesFile) Name() string       { return b.name }
func (b *BytesFile) Size() int64        { return int64(len(b.data)) }
func (b *BytesFile) Identity() FileID   { return FileID{bytesDev, b.ino} }
func (b *BytesFile) Generation() uint64 { return 1 }

// ReadPadded fills p with the bytes of f from offset off; bytes beyond the end
// of the file are zero, as in the last page of a mapping. Errors other than
// io.EOF are returned.
func ReadPadded(f io.ReaderAt, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return err
	}
	clear(p[n:])
	return nil
}
