package session

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"vmsim/loader"
	"vmsim/mem"
)

// Source is a file to verify: a path of the host, or one built into the
// program.
type Source struct {
	Path  string
	File  mem.File // built in; nil: open Path
	Named bool     // the user named it; else it was found in a directory
}

// Expand turns what the user named into sources: directories are walked in
// lexical order, without following links in them; what is not a regular file in
// them is passed over, and each file is taken once, by device and inode. A path
// that cannot be looked at goes to trouble, and the rest goes on.
func Expand(paths []string, trouble func(error)) []Source {
	var out []Source
	seen := map[mem.FileID]bool{}
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil || !fi.IsDir() { // what cannot be opened is skipped, with the reason
			out = append(out, Source{Path: path, Named: true})
			continue
		}
		// The slash: a named directory may be a link itself, as /bin is.
		filepath.WalkDir(path+"/", func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				trouble(err)
				return nil
			}
			if !d.Type().IsRegular() {
				return nil
			}
			if id, ok := identity(d); ok {
				if seen[id] {
					return nil
				}
				seen[id] = true
			}
			out = append(out, Source{Path: p})
			return nil
		})
	}
	return out
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

// VerifyAll verifies sources with up to jobs machines at a time and gives the
// results to each, in the order of the sources. Files found in a directory
// that are no ELF at all are only counted. stop ends it early when it returns
// true. With events it takes one file at a time, so that those of one come after
// those of another.
func VerifyAll(opt Options, sources []Source, jobs int, each func(FileResult), stop func() bool) (notELF int, err error) {
	jobs = max(1, min(jobs, len(sources)))
	if opt.Events != nil {
		jobs = 1
	}
	type slot struct {
		res  FileResult
		pass bool // no ELF
	}
	results := make([]chan slot, len(sources))
	for i := range results {
		results[i] = make(chan slot, 1)
	}
	work := make(chan int)
	ahead := make(chan struct{}, 64*jobs) // results that wait for their turn
	var wg sync.WaitGroup
	rigs := make([]*Rig, jobs)
	for w := range jobs {
		if rigs[w], err = NewRig(opt); err != nil {
			for _, rig := range rigs[:w] {
				rig.Close()
			}
			return 0, err
		}
	}
	for _, rig := range rigs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer rig.Close()
			for i := range work {
				res, pass := rig.verifySource(sources[i])
				results[i] <- slot{res, pass}
			}
		}()
	}
	quit := make(chan struct{})
	go func() {
		defer close(work)
		for i := range sources {
			select {
			case ahead <- struct{}{}:
			case <-quit:
				return
			}
			select {
			case work <- i:
			case <-quit:
				return
			}
		}
	}()
	for i := range sources {
		if stop() {
			break
		}
		s := <-results[i]
		<-ahead
		if s.pass {
			notELF++
		} else {
			each(s.res)
		}
	}
	close(quit)
	wg.Wait()
	return notELF, nil
}

// verifySource opens and verifies one file. pass: it was found, not named, and
// is no ELF.
func (rig *Rig) verifySource(s Source) (res FileResult, pass bool) {
	f := s.File
	if f == nil {
		o, err := mem.OpenFile(s.Path)
		if err != nil {
			res.Path = s.Path
			res.skip(err)
			return res, false
		}
		defer o.Close()
		f = o
	}
	if !s.Named {
		if _, err := loader.Parse(f); errors.Is(err, loader.ErrNotELF) {
			return res, true
		}
	}
	return rig.Verify(f), false
}

// identity returns the device and inode of a directory entry.
func identity(d fs.DirEntry) (mem.FileID, bool) {
	fi, err := d.Info()
	if err != nil {
		return mem.FileID{}, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return mem.FileID{}, false
	}
	return mem.FileID{Dev: uint64(st.Dev), Ino: st.Ino}, true
}
