// Package part keeps the results of one shard of a long run in a file, so that
// a run that was killed can go on, and the parts of all shards can be merged
// into what one run would have found. It knows nothing of the results.
//
// A part is JSON, one object a line:
//
//	{"type":"part",...}    Header: what was run, on what, which shard
//	{"type":"row",...}     Row: what became of one file; by ascending index
//	{"type":"end","rows":N}
//
// While the run goes on it is named FILE.partial, and only at its end it is
// renamed to FILE, whole and on the disk. So FILE is complete or is not there;
// of FILE.partial a kill may cut the last line off, which is then dropped.
package part

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"golang.org/x/sys/unix"
)

// Header says what a part is a part of. Two parts can be merged if their
// versions, lists, options and numbers of shards are equal.
type Header struct {
	Type       string         `json:"type"`   // "part"
	Schema     int            `json:"schema"` // of the file, 1
	Version    string         `json:"version"`
	Shard      int            `json:"shard"`  // from 1
	Shards     int            `json:"shards"` // in all
	Files      int            `json:"files"`  // in the list of all shards
	ListSHA256 string         `json:"list_sha256"`
	Options    map[string]any `json:"options"` // those that change a result
	NotELF     map[string]int `json:"not_elf"` // counted while the list was made
	PassedOver map[string]int `json:"passed_over"`
	Trouble    []string       `json:"trouble"` // of making the list
}

// schema is the one version of the file that there is.
const schema = 1

// Row is what became of one file.
type Row struct {
	Type    string          `json:"type"`  // "row"
	Index   int             `json:"index"` // of the file in the list of all shards
	Seconds float64         `json:"seconds"`
	NotELF  string          `json:"not_elf,omitempty"` // why; then there is no result
	Trouble string          `json:"trouble,omitempty"` // told on standard error
	Result  json.RawMessage `json:"result,omitempty"`
}

// end is the last line.
type end struct {
	Type string `json:"type"` // "end"
	Rows int    `json:"rows"`
}

// Errors of opening parts.
var (
	// ErrPartial: the run of this part has not ended.
	ErrPartial = errors.New("is partial: its run did not end")
	// ErrOther: the part is of another run.
	ErrOther = errors.New("is of another run")
	// ErrFormat: the file is no part, or is damaged.
	ErrFormat = errors.New("not a part report")
)

// suffix marks a part whose run goes on.
const suffix = ".partial"

// maxLine bounds a line, in bytes: a result has ten failures at most.
const maxLine = 1 << 20

// flushEvery is how much of a killed run is lost at most.
const flushEvery = time.Second

// Journal is a part that is being written. It is for one goroutine.
type Journal struct {
	path    string
	f       *os.File
	w       *bufio.Writer
	rows    int
	flushed time.Time
}

// Create begins a part anew. An earlier part at path stays until Finish, an
// earlier unfinished one is lost. What is there and is no part is not: that is
// ErrFormat, or the error of reading it.
func Create(path string, h Header) (*Journal, error) {
	if err := replaceable(path); err != nil {
		return nil, err
	}
	f, err := lock(path, os.O_TRUNC)
	if err != nil {
		return nil, err
	}
	j := newJournal(path, f)
	h.Type, h.Schema = "part", schema
	if err = j.line(h); err == nil {
		err = j.flush()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

// replaceable returns why the file at path must not be replaced by a part.
func replaceable(path string) error {
	if fi, err := os.Stat(path); err != nil || fi.Mode().IsRegular() && fi.Size() == 0 {
		return nil // not there, or just made for the part
	}
	r, err := Open(path)
	if err != nil {
		return about(path, err)
	}
	return r.Close()
}

// Resume goes on with the part that a killed run left, and gives its rows to
// each. Without one it begins anew. If the part is complete, the Journal is nil:
// all rows are there.
//
// It returns ErrOther, with the difference, if the part is not of h's run.
func Resume(path string, h Header, each func(Row) error) (*Journal, error) {
	h.Type, h.Schema = "part", schema
	r, err := Open(path)
	if err == nil {
		defer r.Close()
		if err := same(r.Header, h, true); err != nil {
			return nil, err
		}
		return nil, r.All(each)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	f, err := lock(path, 0)
	if err != nil {
		return nil, err
	}
	good, rows, err := salvage(f, h, each)
	if err == nil {
		err = f.Truncate(good)
	}
	if err == nil {
		_, err = f.Seek(good, io.SeekStart)
	}
	j := newJournal(path, f)
	j.rows = rows
	if err == nil && good == 0 {
		err = j.line(h)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

// salvage reads what there is of an unfinished part: how many bytes of whole
// lines, and how many rows. An empty one is as good as none.
func salvage(f *os.File, h Header, each func(Row) error) (good int64, rows int, err error) {
	s := newScanner(f)
	line, ok := s.next()
	if !ok {
		return 0, 0, s.err
	}
	got, err := parseHeader(line)
	if err == nil {
		err = same(got, h, true)
	}
	if err != nil {
		return 0, 0, err
	}
	for last := -1; ; rows++ {
		good = s.at
		line, ok := s.next()
		if !ok {
			return good, rows, s.err
		}
		row, err := parseRow(line, last)
		if err != nil { // a torn write; what follows it is not trusted
			return good, rows, nil
		}
		last = row.Index
		if err := each(row); err != nil {
			return good, rows, err
		}
	}
}

// lock opens the unfinished part of path and keeps other runs from it.
func lock(path string, flags int) (*os.File, error) {
	f, err := openLocked(path + suffix)
	for err == nil && !named(f, path+suffix) { // it was finished meanwhile: this is the complete part
		f.Close()
		f, err = openLocked(path + suffix)
	}
	if err != nil {
		return nil, err
	}
	if flags&os.O_TRUNC != 0 {
		if err := f.Truncate(0); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// openLocked opens a file, or makes it, and locks it.
func openLocked(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("%s: another run is writing it", path)
	case errors.Is(err, unix.ENOLCK), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ENOSYS):
		err = nil // a network file system without locks
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// named reports whether f is still the file at path.
func named(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

func newJournal(path string, f *os.File) *Journal {
	return &Journal{path: path, f: f, w: bufio.NewWriterSize(f, 64<<10), flushed: time.Now()}
}

// Add appends a row. Rows come by ascending index.
func (j *Journal) Add(r Row) error {
	r.Type = "row"
	j.rows++
	if err := j.line(r); err != nil {
		return err
	}
	if time.Since(j.flushed) < flushEvery {
		return nil
	}
	return j.flush()
}

func (j *Journal) line(v any) error {
	e := json.NewEncoder(j.w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (j *Journal) flush() error {
	j.flushed = time.Now()
	return j.w.Flush()
}

// Leave closes a part whose run ended early: Resume goes on with it.
func (j *Journal) Leave() error {
	err := j.flush()
	if e := j.f.Close(); err == nil {
		err = e
	}
	return err
}

// Finish ends the part: it is on the disk under its name, or there is an error.
func (j *Journal) Finish() error {
	err := j.line(end{"end", j.rows})
	if err == nil {
		err = j.flush()
	}
	if err == nil {
		err = j.f.Sync()
	}
	if err == nil {
		err = os.Rename(j.path+suffix, j.path)
	}
	if e := j.f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = syncDir(filepath.Dir(j.path))
	}
	return err
}

// syncDir puts a rename on the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems cannot
		return err
	}
	return nil
}

// Reader reads a complete part, row by row.
type Reader struct {
	Header Header
	path   string
	f      *os.File
	s      *scanner
	last   int
	rows   int
}

// Open opens a part. It returns ErrPartial if its run has not ended, and
// ErrFormat for what is no part.
func Open(path string) (*Reader, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		if _, e := os.Stat(path + suffix); e == nil {
			return nil, &partialError{path, err}
		}
	}
	if err != nil {
		return nil, err
	}
	r := &Reader{path: path, f: f, s: newScanner(f), last: -1}
	line, ok := r.s.next()
	if !ok && r.s.err == nil {
		r.s.err = fmt.Errorf("%w: empty", ErrFormat)
	}
	if err = r.s.err; err == nil {
		r.Header, err = parseHeader(line)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return r, nil
}

// partialError is the error of a part that is there as FILE.partial alone.
type partialError struct {
	path  string
	cause error
}

func (e *partialError) Error() string   { return e.path + " " + ErrPartial.Error() }
func (e *partialError) Unwrap() []error { return []error{ErrPartial, e.cause} }

// Next returns the next row, or io.EOF behind the last. A part without its end is
// ErrPartial.
func (r *Reader) Next() (Row, error) {
	line, ok := r.s.next()
	switch {
	case r.s.err != nil:
		return Row{}, r.s.err
	case !ok:
		return Row{}, ErrPartial
	}
	var e end
	if json.Unmarshal(line, &e) == nil && e.Type == "end" {
		if e.Rows != r.rows {
			return Row{}, fmt.Errorf("%w: %d rows, its end says %d", ErrFormat, r.rows, e.Rows)
		}
		return Row{}, io.EOF
	}
	row, err := parseRow(line, r.last)
	if err == nil && row.Index >= r.Header.Files {
		err = fmt.Errorf("%w: row %d of a list of %d", ErrFormat, row.Index, r.Header.Files)
	}
	if err != nil {
		return Row{}, fmt.Errorf("line %d: %w", r.rows+2, err)
	}
	r.last = row.Index
	r.rows++
	return row, nil
}

// All gives all rows to each.
func (r *Reader) All(each func(Row) error) error {
	for {
		row, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = each(row)
		}
		if err != nil {
			return err
		}
	}
}

// Close closes the file.
func (r *Reader) Close() error { return r.f.Close() }

func parseHeader(line []byte) (Header, error) {
	var h Header
	switch err := json.Unmarshal(line, &h); {
	case err != nil || h.Type != "part":
		return h, fmt.Errorf("%w: it does not begin with a part's header", ErrFormat)
	case h.Schema != schema:
		return h, fmt.Errorf("%w: schema %d, not %d", ErrFormat, h.Schema, schema)
	case h.Shards < 1 || h.Shard < 1 || h.Shard > h.Shards:
		return h, fmt.Errorf("%w: shard %d of %d", ErrFormat, h.Shard, h.Shards)
	}
	return h, nil
}

// parseRow reads a row that follows that of index last.
func parseRow(line []byte, last int) (Row, error) {
	var r Row
	switch err := json.Unmarshal(line, &r); {
	case err != nil || r.Type != "row":
		return r, fmt.Errorf("%w: not a row", ErrFormat)
	case r.Index <= last:
		return r, fmt.Errorf("%w: row %d behind row %d", ErrFormat, r.Index, last)
	case (r.NotELF == "") == (len(r.Result) == 0):
		return r, fmt.Errorf("%w: row %d has no result", ErrFormat, r.Index)
	}
	return r, nil
}

// same returns ErrOther with the first difference of two headers. shard: it
// counts too, and what the walk met with does not.
func same(got, want Header, shard bool) error {
	differ := func(what string, a, b any) error {
		return fmt.Errorf("%w: its %s is %v, not %v", ErrOther, what, a, b)
	}
	switch {
	case got.Version != want.Version:
		return differ("version", got.Version, want.Version)
	case got.Shards != want.Shards:
		return differ("number of shards", got.Shards, want.Shards)
	case shard && got.Shard != want.Shard:
		return differ("shard", got.Shard, want.Shard)
	case got.Files != want.Files:
		return differ("number of files", got.Files, want.Files)
	case got.ListSHA256 != want.ListSHA256:
		return differ("list of files", got.ListSHA256, want.ListSHA256)
	}
	a, b := plain(got.Options), plain(want.Options)
	for _, key := range keys(a, b) {
		if !reflect.DeepEqual(a[key], b[key]) {
			return differ("option "+key, text(a[key]), text(b[key]))
		}
	}
	return nil
}

// scanner reads whole lines.
type scanner struct {
	r   *bufio.Reader
	at  int64 // behind the last line
	err error
}

func newScanner(r io.Reader) *scanner { return &scanner{r: bufio.NewReaderSize(r, maxLine)} }

// next returns the next line, valid until the next call, without its end. A last
// line without an end is none.
func (s *scanner) next() ([]byte, bool) {
	line, err := s.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		s.err = fmt.Errorf("%w: a line of more than %d bytes", ErrFormat, maxLine)
		return nil, false
	case err == io.EOF:
		return nil, false
	case err != nil:
		s.err = err
		return nil, false
	}
	s.at += int64(len(line))
	return bytes.TrimSuffix(line, []byte("\n")), true
}
