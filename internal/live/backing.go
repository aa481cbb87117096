package live

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// Kind says what stands behind a mapping of a file.
type Kind string

const (
	File       Kind = "file"          // its path leads to it
	Deleted    Kind = "deleted"       // its path is gone
	Replaced   Kind = "replaced"      // its path leads to another file by now
	Memfd      Kind = "memfd"         // memfd_create: never had a path
	SysV       Kind = "sysv shm"      // shmget
	SharedAnon Kind = "shared memory" // mmap of MAP_SHARED | MAP_ANONYMOUS, or of /dev/zero
	Device     Kind = "device"        // a character device, a perf buffer, a dma-buf, ...
	Unknown    Kind = "unknown"       // what the path leads to may be it or another
)

// Backing is the file of a mapping.
type Backing struct {
	Kind Kind
	Path string   // without the " (deleted)" of maps where the file is deleted
	File mem.File // the file that is mapped, opened; nil where it cannot be read
	Why  error    // why File is nil

	// Tmpfs: the file lies on tmpfs, whose huge pages are mapped whole.
	Tmpfs bool

	file *mem.OSFile
}

// Close closes the file.
func (b *Backing) Close() {
	if b.file != nil {
		b.file.Close()
	}
}

// Changed reports whether the file was written since it was opened.
func (b *Backing) Changed() bool { return b.file != nil && b.file.Changed() }

// errClosed is why a file that only map_files leads to cannot be read.
var errClosed = errors.New("no path leads to it, and /proc/PID/map_files needs CAP_SYS_ADMIN")

// Back finds and opens the file of a mapping of p. It opens nothing but regular
// files: a device could act on being opened, a FIFO block. Close must be called
// on the result.
//
// By map_files it is the very file, deleted or not. Where that may not be
// followed it is what the path leads to in the process's own root, if device and
// inode are those of maps.
func (p *Process) Back(m Mapping) *Backing {
	b := &Backing{Path: m.Path}
	link := fmt.Sprintf("/proc/%d/map_files/%x-%x", p.PID, uint64(m.Start), uint64(m.End))
	var mapped unix.Stat_t
	err := fs.ErrPermission
	if !p.pathsOnly {
		err = unix.Stat(link, &mapped)
	}
	if err != nil {
		p.backByPath(b, m)
		return b
	}
	b.Kind = p.kind(m, &mapped, b)
	if mapped.Mode&unix.S_IFMT != unix.S_IFREG {
		b.Kind = Device
		b.Why = errors.New("not a regular file")
		return b
	}
	b.open(link, FileID(&mapped))
	return b
}

// FileID is device and inode.
func FileID(st *unix.Stat_t) mem.FileID { return mem.FileID{Dev: uint64(st.Dev), Ino: st.Ino} }

// kind compares the mapped file with what its path leads to, and takes the mark
// of a deleted file off b.Path.
func (p *Process) kind(m Mapping, mapped *unix.Stat_t, b *Backing) Kind {
	if k, ok := nameless(m); ok {
		return k
	}
	if st, err := p.statPath(m.Path); err == nil && FileID(st) == FileID(mapped) {
		return File
	}
	path, cut := strings.CutSuffix(m.Path, deletedMark)
	b.Path = path
	switch st, err := p.statPath(path); {
	case err != nil:
		if cut || mapped.Nlink == 0 {
			return Deleted
		}
		return File // mounted elsewhere, or not at all any more: map_files has it
	case FileID(st) == FileID(mapped):
		return File
	}
	return Replaced
}

// deletedMark is what d_path puts behind the path of an unlinked file; a file
// may also be called so.
const deletedMark = " (deleted)"

// nameless tells the kinds that never had a path, by the names that the kernel
// gives them (mm/memfd.c, ipc/shm.c, mm/shmem.c:shmem_zero_setup). They all lie
// on the kernel's own tmpfs, so device major is 0.
func nameless(m Mapping) (Kind, bool) {
	switch {
	case m.Dev.Major != 0 || !strings.HasSuffix(m.Path, deletedMark):
		return "", false
	case strings.HasPrefix(m.Path, "/memfd:"):
		return Memfd, true
	case strings.HasPrefix(m.Path, "/SYSV"):
		return SysV, true
	case m.Path == "/dev/zero"+deletedMark:
		return SharedAnon, true
	}
	return "", false
}

// statPath looks at a path in the process's root, without opening it.
func (p *Process) statPath(path string) (*unix.Stat_t, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, fs.ErrNotExist
	}
	var st unix.Stat_t
	return &st, unix.Stat(p.path("root")+path, &st)
}

// backByPath is Back without map_files.
func (p *Process) backByPath(b *Backing, m Mapping) {
	var none bool
	if b.Kind, none = nameless(m); none {
		b.Why = errClosed
		return
	}
	b.Kind = Unknown
	if !strings.HasPrefix(m.Path, "/") {
		b.Kind, b.Why = Device, errors.New("not a regular file")
		return
	}
	st, err := p.statPath(m.Path)
	if err != nil {
		path, cut := strings.CutSuffix(m.Path, deletedMark)
		if !cut {
			b.Why = gone(err)
			return
		}
		b.Path, b.Kind, b.Why = path, Deleted, errClosed
		if _, err := p.statPath(path); err == nil {
			b.Kind = Replaced
		}
		return
	}
	dev := Dev{unix.Major(uint64(st.Dev)), unix.Minor(uint64(st.Dev))}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		b.Kind, b.Why = Device, errors.New("not a regular file")
	case dev == m.Dev && st.Ino == m.Ino:
		b.Kind = File
		b.open(p.path("root")+m.Path, FileID(st))
	case st.Ino == m.Ino && dev.Major == 0 && m.Dev.Major == 0:
		// btrfs and overlayfs: stat tells another device than maps.
		b.Why = fmt.Errorf("maps says device %v, the path leads to %v: only /proc/PID/map_files (CAP_SYS_ADMIN) tells whether it is the file", m.Dev, dev)
	default:
		b.Kind, b.Why = Replaced, errClosed
	}
}

// open opens the regular file id at path. Whatever takes its place between the
// look and this is not opened: O_PATH holds it first.
func (b *Backing) open(path string, id mem.FileID) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		b.Why = err
		return
	}
	held := os.NewFile(uintptr(fd), path)
	defer held.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		b.Why = err
		return
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || FileID(&st) != id {
		b.Why = errors.New("changed while it was opened")
		return
	}
	var sfs unix.Statfs_t
	b.Tmpfs = unix.Fstatfs(fd, &sfs) == nil && sfs.Type == unix.TMPFS_MAGIC
	f, err := mem.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		var perr *fs.PathError
		if errors.As(err, &perr) { // its path says nothing
			err = perr.Err
		}
		if errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.EACCES) {
			err = fmt.Errorf("cannot be opened: %w", err)
		}
		b.Why = err
		return
	}
	b.file, b.File = f, named{f, b.Path}
}

// named is a file under the path that the user knows.
type named struct {
	*mem.OSFile
	path string
}

func (n named) Name() string { return n.path }
