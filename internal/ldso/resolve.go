package ldso

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"vmsim/mem"
)

// Resolver finds libraries. The zero value finds none but by slash and RPATH;
// Host returns that of this system.
type Resolver struct {
	Cache    Cache
	Dirs     []string // the default directories, in order
	Lib      string   // $LIB
	Platform string   // $PLATFORM
}

// Host returns the Resolver of this system: its cache, and the directories of
// Debian's glibc or of those that have lib64.
func Host() (*Resolver, error) {
	c, err := OpenCache("/etc/ld.so.cache")
	if err != nil {
		return nil, err
	}
	r := &Resolver{Cache: c, Lib: "lib64", Platform: "x86_64",
		Dirs: []string{"/lib64", "/usr/lib64", "/lib", "/usr/lib"}}
	const multiarch = "lib/x86_64-linux-gnu"
	if fi, err := os.Stat("/" + multiarch); err == nil && fi.IsDir() {
		r.Lib = multiarch
		r.Dirs = []string{"/" + multiarch, "/usr/" + multiarch, "/lib", "/usr/lib"}
	}
	return r, nil
}

// Dep is a library that a program loads.
type Dep struct {
	Name string // as DT_NEEDED or PT_INTERP has it
	Path string // of the file; "" where it was not found
	By   string // path of what needs it first
}

// maxObjects bounds how many libraries one program may load.
const maxObjects = 4096

// ErrMissing is wrapped by the errors of Deps that name a library.
var ErrMissing = errors.New("library not found")

// object is one that is loaded.
type object struct {
	path   string
	origin string // directory of the file
	dyn    *Dynamic
	by     *object // what loaded it; nil for the program
}

// Deps returns what the program or library at path loads, in the order in which
// ld.so does, the interpreter first. Nothing is there twice.
//
// The error joins one for each library that was not found (ErrMissing) or
// cannot be read; what was found is returned beside it. If the file itself is no
// good, that is the error (ErrNotLibrary, ErrMalformed, or of the file system).
func (r *Resolver) Deps(path string) ([]Dep, error) {
	dyn, err := readFile(path)
	if err != nil {
		return nil, err
	}
	s := &search{Resolver: r, loaded: map[string]bool{}, files: map[mem.FileID]bool{}}
	s.queue = []*object{{path: path, origin: origin(path, true), dyn: dyn}}
	s.remember(path, dyn)
	if dyn.Interp != "" {
		s.interpreter(dyn.Interp, path)
	}
	for i := 0; i < len(s.queue); i++ {
		o := s.queue[i]
		for _, name := range o.dyn.Needed {
			if len(s.queue) > maxObjects {
				return s.deps, errors.Join(append(s.errs, fmt.Errorf("%s: more than %d libraries", path, maxObjects))...)
			}
			s.need(name, o)
		}
	}
	return s.deps, errors.Join(s.errs...)
}

// search is a run of Deps.
type search struct {
	*Resolver
	queue  []*object
	loaded map[string]bool // names and sonames
	files  map[mem.FileID]bool
	deps   []Dep
	errs   []error
}

// remember notes that the file at path is loaded, under its soname too. It is
// false where it was.
func (s *search) remember(path string, dyn *Dynamic) bool {
	if dyn.Soname != "" {
		s.loaded[dyn.Soname] = true
	}
	id, ok := fileID(path)
	if !ok {
		return true
	}
	if s.files[id] {
		return false
	}
	s.files[id] = true
	return true
}

// interpreter notes the program's interpreter: it is mapped before all else,
// needs nothing, and counts as loaded.
func (s *search) interpreter(interp, by string) {
	s.loaded[interp] = true
	dyn, err := readFile(interp)
	if err != nil {
		s.missing(Dep{Name: interp, By: by}, fmt.Errorf("interpreter: %w", err))
		return
	}
	s.remember(interp, dyn)
	s.deps = append(s.deps, Dep{interp, interp, by})
}

func (s *search) missing(d Dep, err error) {
	s.deps = append(s.deps, d)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = ErrMissing
	}
	s.errs = append(s.errs, fmt.Errorf("%s: needs %s: %w", d.By, d.Name, err))
}

// need loads what o needs by that name.
func (s *search) need(name string, o *object) {
	if s.loaded[name] {
		return
	}
	s.loaded[name] = true
	path, dyn, err := s.find(name, o)
	if path == "" {
		s.missing(Dep{Name: name, By: o.path}, err)
		return
	}
	if !s.remember(path, dyn) {
		return // the same file by another name
	}
	s.deps = append(s.deps, Dep{name, path, o.path})
	s.queue = append(s.queue, &object{path: path, origin: origin(path, false), dyn: dyn, by: o})
}

// find returns the file that ld.so would load for a name that o needs; "" where
// there is none.
func (s *search) find(name string, o *object) (string, *Dynamic, error) {
	if strings.ContainsRune(name, '/') {
		path, ok := s.expand(name, o.origin)
		if !ok {
			return "", nil, nil
		}
		dyn, err := readFile(path)
		if err != nil {
			return "", nil, err
		}
		return path, dyn, nil
	}
	for _, dir := range s.paths(o) {
		if path, dyn, ok := try(dir, name); ok {
			return path, dyn, nil
		}
	}
	if path, ok := s.Cache[name]; ok && !(o.dyn.NoDef && slices.Contains(s.Dirs, filepath.Dir(path))) {
		if dyn, err := readFile(path); err == nil {
			return path, dyn, nil
		}
	}
	if !o.dyn.NoDef {
		for _, dir := range s.Dirs {
			if path, dyn, ok := try(dir, name); ok {
				return path, dyn, nil
			}
		}
	}
	return "", nil, nil
}

// paths returns the directories of RPATH and RUNPATH for what o needs.
func (s *search) paths(o *object) []string {
	var dirs []string
	if o.dyn.Runpath == "" {
		for l := o; l != nil; l = l.by {
			dirs = append(dirs, s.split(l.dyn.Rpath, l.origin)...)
		}
	}
	return append(dirs, s.split(o.dyn.Runpath, o.origin)...)
}

// split takes a search path apart; an empty element is the current directory.
func (s *search) split(path, origin string) []string {
	if path == "" {
		return nil
	}
	var dirs []string
	for _, p := range strings.Split(path, ":") {
		if d, ok := s.expand(cmp.Or(p, "."), origin); ok {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// expand puts $ORIGIN, $LIB and $PLATFORM in, with or without braces. It is false
// where one of them is not known. Compare glibc elf/dl-load.c:_dl_dst_substitute.
func (s *search) expand(p, origin string) (string, bool) {
	var b strings.Builder
	for p != "" {
		before, rest, ok := strings.Cut(p, "$")
		b.WriteString(before)
		if !ok {
			break
		}
		token, after := dst(rest)
		value, known := map[string]string{"ORIGIN": origin, "LIB": s.Lib, "PLATFORM": s.Platform}[token]
		switch {
		case !known: // not one of ld.so's: as it stands
			b.WriteByte('$')
			p = rest
			continue
		case value == "":
			return "", false
		}
		b.WriteString(value)
		p = after
	}
	return b.String(), true
}

// dst returns the name behind a dollar sign, and what comes after it.
func dst(s string) (token, after string) {
	if inner, ok := strings.CutPrefix(s, "{"); ok {
		if token, after, ok = strings.Cut(inner, "}"); ok {
			return token, after
		}
		return "", s
	}
	i := strings.IndexFunc(s, func(r rune) bool {
		return !(r == '_' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9')
	})
	if i < 0 {
		i = len(s)
	}
	return s[:i], s[i:]
}

// try looks for a library in a directory.
func try(dir, name string) (string, *Dynamic, bool) {
	path := strings.TrimRight(dir, "/") + "/" + name // not cleaned: dir may lead through a link and back by ..
	dyn, err := readFile(path)
	return path, dyn, err == nil
}

func readFile(path string) (*Dynamic, error) {
	f, err := mem.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dyn, err := ReadDynamic(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return dyn, nil
}

// origin returns the directory of a file. That of the program is the one that
// /proc/self/exe gives, without links.
func origin(path string, program bool) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if program {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
	}
	return filepath.Dir(path)
}

// fileID tells files apart, as ld.so does, by device and inode.
func fileID(path string) (mem.FileID, bool) {
	f, err := mem.OpenFile(path)
	if err != nil {
		return mem.FileID{}, false
	}
	defer f.Close()
	return f.Identity(), true
}
