package session

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"vmsim/loader"
	"vmsim/mem"
)

// Source is a file to verify: a path of the host, or one built into the
// program.
type Source struct {
	Path  string
	File  mem.File // built in; nil: open Path
	Named bool     // the user named it; else it was found in a directory or a list
}

// Corpus is what was found below the paths that the user gave.
type Corpus struct {
	Sources []Source // in order, each file once

	// NotELF counts what has no content to map, by what it is: FIFO, socket,
	// device. Regular files that are no ELF show only when they are opened.
	NotELF Reasons
	// PassedOver counts links and files that were seen before.
	PassedOver Reasons
}

// Reasons counts files by why something was done with them.
type Reasons map[string]int

// Total returns the sum.
func (r Reasons) Total() int {
	n := 0
	for _, k := range r {
		n += k
	}
	return n
}

// Find turns what the user named, and what a list names, into sources.
// Directories are walked in lexical order, without following links in them.
// Each file is taken once, by device and inode, where it comes first. A
// directory that cannot be read goes to trouble, and the rest goes on. stop ends
// it early when it returns true.
//
// A named path is a source whatever it is, for its error to be told. A listed
// one is treated as one that was found, but for a link, which is followed.
func Find(named, listed []string, trouble func(error), stop func() bool) Corpus {
	f := finder{Corpus: Corpus{NotELF: Reasons{}, PassedOver: Reasons{}}, seen: map[mem.FileID]int{}, trouble: trouble, stop: stop}
	for _, path := range named {
		f.path(path, true)
	}
	for _, path := range listed {
		f.path(path, false)
	}
	return f.Corpus
}

type finder struct {
	Corpus
	seen    map[mem.FileID]int // index in Sources
	trouble func(error)
	stop    func() bool
}

func (f *finder) path(path string, named bool) {
	fi, err := os.Stat(path)
	switch {
	case f.stop():
	case err != nil: // what cannot be looked at is skipped, with the reason
		f.Sources = append(f.Sources, Source{Path: path, Named: named})
	case fi.IsDir():
		f.walk(path)
	case named && !fi.Mode().IsRegular():
		f.Sources = append(f.Sources, Source{Path: path, Named: true})
	default:
		f.file(path, fi, named)
	}
}

// walk takes the files below dir.
func (f *finder) walk(dir string) {
	// The slash: a named directory may be a link itself, as /bin is.
	filepath.WalkDir(dir+"/", func(p string, d fs.DirEntry, err error) error {
		switch {
		case f.stop():
			return fs.SkipAll
		case err != nil:
			f.trouble(err)
		case d.IsDir():
		case d.Type()&fs.ModeSymlink != 0:
			f.PassedOver["symbolic link"]++
		default:
			fi, err := d.Info()
			if err == nil {
				f.file(p, fi, false)
			} else if !errors.Is(err, fs.ErrNotExist) { // else it went away meanwhile
				f.trouble(err)
			}
		}
		return nil
	})
}

// file takes a file that is no directory and no link.
func (f *finder) file(path string, fi fs.FileInfo, named bool) {
	if what := kind(fi.Mode()); what != "" {
		f.NotELF[what]++
		return
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		id := mem.FileID{Dev: uint64(st.Dev), Ino: st.Ino}
		if i, ok := f.seen[id]; ok {
			f.PassedOver["the same file again"]++
			f.Sources[i].Named = f.Sources[i].Named || named
			return
		}
		f.seen[id] = len(f.Sources)
	}
	f.Sources = append(f.Sources, Source{Path: path, Named: named})
}

// kind says what a file is that is not regular.
func kind(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return ""
	case mode&fs.ModeNamedPipe != 0:
		return "FIFO"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return "not a regular file"
}

// Shard returns which of n shards, from 1, a path belongs to: by FNV-1a of its
// bytes, so that all machines agree.
func Shard(path string, n int) int {
	h := fnv.New64a()
	io.WriteString(h, path)
	return int(h.Sum64()%uint64(n)) + 1
}

// Digest returns the SHA-256 of the paths of the sources: shards of one list
// have the same.
func (c Corpus) Digest() string {
	h := sha256.New()
	for _, s := range c.Sources {
		io.WriteString(h, s.Path+"\x00")
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// ReadList reads a list of paths, separated by NUL where it holds one, else by
// newline. Empty entries are passed over.
func ReadList(r io.Reader) ([]string, error) {
	br := bufio.NewReader(io.LimitReader(r, maxList+1))
	data, err := io.ReadAll(br)
	if err != nil {
		return nil, err
	}
	if len(data) > maxList {
		return nil, fmt.Errorf("list is longer than %d bytes", maxList)
	}
	sep := byte('\n')
	if bytes.IndexByte(data, 0) >= 0 {
		sep = 0
	}
	var paths []string
	for _, p := range bytes.Split(data, []byte{sep}) {
		if len(p) > 0 {
			paths = append(paths, string(p))
		}
	}
	return paths, nil
}

// maxList bounds a list of paths, in bytes: some ten million of them.
const maxList = 1 << 30

// Outcome is what became of one source: a result, or why it is no ELF file.
type Outcome struct {
	Result  FileResult
	NotELF  string // not empty: nothing else is set
	Elapsed time.Duration
}

// verifySource opens and verifies one file. One that was found, not named, and
// is no ELF file has no result.
func (rig *Rig) verifySource(s Source) (o Outcome) {
	start := time.Now()
	defer func() { o.Elapsed = time.Since(start) }()
	f := s.File
	if f == nil {
		file, err := mem.OpenFile(s.Path)
		if err != nil {
			o.Result.Path = s.Path
			o.Result.skip(err)
			return o
		}
		defer file.Close()
		f = file
	}
	im, err := rig.parse(f)
	if !s.Named && errors.Is(err, loader.ErrNotELF) {
		o.NotELF = notELF(err)
		return o
	}
	o.Result = rig.verifyImage(f, im, err)
	return o
}

// notELF is why a file is no ELF file, without what differs from file to file.
func notELF(err error) string {
	_, why, _ := strings.Cut(err.Error(), loader.ErrNotELF.Error()+": ")
	if strings.HasPrefix(why, "it begins with") {
		return "no ELF magic"
	}
	return why
}
