//go:build linux && amd64

package tracee

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// identify returns what the link of /proc leads to: a descriptor, the program, or a
// range of map_files.
func identify(link string) (*File, error) {
	var st unix.Stat_t
	if err := unix.Stat(link, &st); err != nil {
		return nil, err
	}
	f := &File{Kind: Device, Dev: st.Dev, Ino: st.Ino, Size: st.Size, Mtime: st.Mtim.Nano()}
	var buf [unix.PathMax]byte
	if n, err := unix.Readlink(link, buf[:]); err == nil {
		f.Path = string(buf[:n])
	}
	const mark = " (deleted)" // d_path puts it behind the path of what is unlinked; a file may be called so
	if path, ok := strings.CutSuffix(f.Path, mark); ok && st.Nlink == 0 {
		f.Path, f.Deleted = path, true
	}
	zero := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 5)
	if zero {
		f.Kind = SharedAnon // the caller knows whether it is mapped shared
		return f, nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return f, nil
	}
	f.Kind = Regular
	var sfs unix.Statfs_t
	if unix.Statfs(link, &sfs) == nil && sfs.Type == unix.HUGETLBFS_MAGIC {
		f.Kind = Hugetlb
		return f, nil
	}
	// The kernel's own tmpfs holds what never had a path (mm/memfd.c, ipc/shm.c,
	// mm/shmem.c:shmem_zero_setup).
	if unix.Major(st.Dev) == 0 && f.Deleted {
		switch {
		case strings.HasPrefix(f.Path, "/memfd:"):
			f.Kind = Memfd
		case strings.HasPrefix(f.Path, "/SYSV"):
			f.Kind = SysV
		case f.Path == "/dev/zero":
			f.Kind = SharedAnon
		}
	}
	return f, nil
}

// fdFile identifies a descriptor of tid.
func fdFile(tid, fd int) (*File, error) { return identify(procPath(tid, "fd/"+strconv.Itoa(fd))) }

// areaFile identifies the file of the VMA with exactly this range.
func areaFile(tid int, a Area) (*File, error) {
	return identify(procPath(tid, "map_files/"+strconv.FormatUint(uint64(a.Start), 16)+"-"+strconv.FormatUint(uint64(a.End), 16)))
}
