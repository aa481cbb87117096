package record

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"vmsim/internal/elfhead"
	"vmsim/internal/tracee"
	"vmsim/mem"
	"vmsim/trace"
)

// mapped is a file that was mapped.
type mapped struct {
	path string
	info trace.FileInfo
}

// files remembers what the trace said last of each path, and the build ids of
// the files that it met.
type files struct {
	said   map[string]trace.FileInfo
	builds map[content]string
}

// content tells what a file holds from what it held before.
type content struct {
	dev, ino uint64
	size     uint64
	mtime    int64
}

// file says which file a path means, unless that was the last thing said of it.
func (c *Converter) file(f *mapped, at uint64) {
	info := f.info
	if info.Kind == trace.RegularFile && info.BuildID == "" {
		info.BuildID = c.files.buildID(f.path, info)
	}
	if old, ok := c.files.said[f.path]; ok && old == info {
		return
	}
	c.files.said[f.path] = info
	c.out(trace.Op{Time: at, Kind: trace.OpFile, Path: f.path, File: &info})
}

// buildID reads the build id of a file that is still what it was.
func (fs *files) buildID(path string, info trace.FileInfo) string {
	key := content{info.Dev, info.Ino, info.Size, info.MTime}
	id, ok := fs.builds[key]
	if ok {
		return id
	}
	if f, err := mem.OpenFile(path); err == nil {
		if f.Identity() == (mem.FileID{Dev: info.Dev, Ino: info.Ino}) && uint64(f.Size()) == info.Size {
			if h, err := elfhead.Read(f, f.Size()); err == nil {
				id = h.BuildID(f)
			}
		}
		f.Close()
	}
	fs.builds[key] = id
	return id
}

// ofTracee returns f in the terms of a trace.
func ofTracee(f *tracee.File) *mapped {
	m := &mapped{path: f.Path, info: trace.FileInfo{Size: uint64(max(f.Size, 0)), MTime: f.Mtime, Dev: f.Dev, Ino: f.Ino}}
	switch f.Kind {
	case tracee.Regular:
		if f.Deleted {
			m.info.Kind = trace.MemoryFile
		}
	case tracee.Memfd:
		m.info.Kind = trace.MemoryFile
	case tracee.SysV, tracee.SharedAnon:
		m.info.Kind = trace.SharedFile
	default:
		m.info.Kind = trace.DeviceFile
	}
	return m
}

// ofPath returns the file at path, which perf says has this device and inode.
// Where another is there now, only that is known.
func ofPath(path string, major, minor uint32, ino uint64) *mapped {
	bare, deleted := strings.CutSuffix(path, " (deleted)")
	m := &mapped{path: bare, info: trace.FileInfo{Dev: unix.Mkdev(major, minor), Ino: ino}}
	var st syscall.Stat_t
	switch {
	case strings.HasPrefix(bare, "/SYSV"), bare == "/dev/zero":
		m.info.Kind = trace.SharedFile
	case strings.HasPrefix(bare, "/memfd:"), deleted:
		m.info.Kind = trace.MemoryFile
	case syscall.Stat(bare, &st) != nil || st.Ino != ino && ino != 0:
	case st.Mode&syscall.S_IFMT != syscall.S_IFREG:
		m.info.Kind = trace.DeviceFile
	default:
		m.info.Size, m.info.MTime = uint64(st.Size), st.Mtim.Nano()
		m.info.Dev, m.info.Ino = uint64(st.Dev), st.Ino
	}
	return m
}
