package mem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
	"syscall"
	"time"
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
//
// Goroutines may read it at the same time, but not while one closes it. It is
// not an os.File: a corpus has a hundred thousand files, and of those each is
// offered to epoll, which refuses it, and gets a cleanup.
type OSFile struct {
	fd   int // -1: closed
	name string
	size int64
	id   FileID
	gen  uint64

	opened time.Time
}

// OpenFile opens a regular file for reading. It never blocks: a FIFO without a
// writer gives ErrNotRegular, as directories, sockets and devices do.
func OpenFile(path string) (*OSFile, error) {
	const mode = syscall.O_RDONLY | syscall.O_NONBLOCK | syscall.O_NOCTTY | syscall.O_CLOEXEC
	fd, err := retry(func() (int, error) { return syscall.Open(path, mode, 0) })
	if err != nil {
		if err == syscall.ENXIO { // a socket, or a device without a driver
			err = ErrNotRegular
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	o := &OSFile{fd: fd, name: path, opened: time.Now()}
	if o.size, o.id, o.gen, err = o.stat(); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// retry calls f until no signal interrupts it: the Go runtime sends itself
// some.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// stat identifies the content of o: device, inode, and a generation made of
// size, modification and change time, so that a rewritten file is another.
func (o *OSFile) stat() (size int64, id FileID, gen uint64, err error) {
	var st syscall.Stat_t
	if err := o.fstat(&st); err != nil {
		return 0, id, 0, &fs.PathError{Op: "stat", Path: o.name, Err: err}
	}
	if st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return 0, id, 0, &fs.PathError{Op: "open", Path: o.name, Err: ErrNotRegular}
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

func (o *OSFile) fstat(st *syscall.Stat_t) error {
	_, err := retry(func() (int, error) { return 0, syscall.Fstat(o.fd, st) })
	return err
}

// Changed reports whether the file was written, truncated or extended since it
// was opened.
func (o *OSFile) Changed() bool {
	_, _, gen, err := o.stat()
	return err != nil || gen != o.gen
}

// ReadAt is io.ReaderAt's.
func (o *OSFile) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := retry(func() (int, error) { return syscall.Pread(o.fd, p[n:], off+int64(n)) })
		if err != nil {
			return n, &fs.PathError{Op: "read", Path: o.name, Err: err}
		}
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

func (o *OSFile) Name() string       { return o.name }
func (o *OSFile) Size() int64        { return o.size }
func (o *OSFile) Identity() FileID   { return o.id }
func (o *OSFile) Generation() uint64 { return o.gen }

// Close closes the file. Who closes it again gets fs.ErrClosed.
func (o *OSFile) Close() error {
	if o.fd < 0 {
		return &fs.PathError{Op: "close", Path: o.name, Err: fs.ErrClosed}
	}
	fd := o.fd
	o.fd = -1
	if err := syscall.Close(fd); err != nil {
		return &fs.PathError{Op: "close", Path: o.name, Err: err}
	}
	return nil
}

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
