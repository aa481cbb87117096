package part

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
)

// Merged is the parts of all shards of a run.
type Merged struct {
	Header  Header // of the first; its Trouble is that of all, each once
	readers []*Reader
	next    []*Row // of each reader; nil behind its last
	rows    int
}

// ErrSet is the error of parts that are not all the shards of a run, each once.
var ErrSet = errors.New("not all shards of one run")

// Merge opens the parts of all shards. Errors name the part: ErrSet for shards
// that are missing or there twice, ErrOther for another run's, and Open's.
func Merge(paths []string) (*Merged, error) {
	m := &Merged{}
	byShard := map[int]string{}
	for _, path := range paths {
		r, err := Open(path)
		if err == nil {
			m.readers = append(m.readers, r)
			err = m.take(r, path, byShard)
		}
		if err != nil {
			m.Close()
			return nil, about(path, err)
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%w: no part", ErrSet)
	}
	var missing []string
	for i := 1; i <= m.Header.Shards && len(missing) < 10; i++ {
		if byShard[i] == "" {
			missing = append(missing, fmt.Sprint(i))
		}
	}
	if len(missing) > 0 {
		m.Close()
		return nil, fmt.Errorf("%w: of %d, missing: %s", ErrSet, m.Header.Shards, strings.Join(missing, ", "))
	}
	m.next = make([]*Row, len(m.readers))
	for i := range m.readers {
		if err := m.read(i); err != nil {
			m.Close()
			return nil, err
		}
	}
	return m, nil
}

// take checks that r fits the parts before it.
func (m *Merged) take(r *Reader, path string, byShard map[int]string) error {
	h := r.Header
	if len(m.readers) == 1 {
		m.Header = h
	} else if err := same(h, m.Header, false); err != nil {
		return err
	}
	if before := byShard[h.Shard]; before != "" {
		return fmt.Errorf("%w: shard %d is also in %s", ErrSet, h.Shard, before)
	}
	byShard[h.Shard] = path
	for _, t := range h.Trouble {
		if !slices.Contains(m.Header.Trouble, t) {
			m.Header.Trouble = append(m.Header.Trouble, t)
		}
	}
	return nil
}

// read gets the next row of part i.
func (m *Merged) read(i int) error {
	row, err := m.readers[i].Next()
	switch {
	case err == io.EOF:
		m.next[i] = nil
	case err != nil:
		return about(m.readers[i].path, err)
	default:
		m.next[i] = &row
	}
	return nil
}

// Next returns the row of the lowest index that is left, or io.EOF behind the
// last one of the list.
func (m *Merged) Next() (Row, error) {
	low := -1
	for i, r := range m.next {
		if r != nil && (low < 0 || r.Index < m.next[low].Index) {
			low = i
		}
	}
	if low < 0 {
		if m.rows != m.Header.Files {
			return Row{}, fmt.Errorf("%w: %d rows of a list of %d", ErrFormat, m.rows, m.Header.Files)
		}
		return Row{}, io.EOF
	}
	row := *m.next[low]
	if row.Index != m.rows {
		return Row{}, fmt.Errorf("%w: row %d is in none of the parts, or in two", ErrFormat, min(row.Index, m.rows))
	}
	m.rows++
	return row, m.read(low)
}

// Close closes all parts.
func (m *Merged) Close() {
	for _, r := range m.readers {
		r.Close()
	}
}

// about puts the name of a part in front of an error that does not have it.
func about(path string, err error) error {
	var p *fs.PathError
	if errors.As(err, &p) || errors.Is(err, ErrPartial) && strings.HasPrefix(err.Error(), path) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// plain is options as they come back from JSON.
func plain(options map[string]any) map[string]any {
	var out map[string]any
	data, err := json.Marshal(options)
	if err == nil {
		err = json.Unmarshal(data, &out)
	}
	if err != nil {
		return nil
	}
	return out
}

// keys returns the keys of both, in order.
func keys(a, b map[string]any) []string {
	all := slices.Concat(slices.Collect(maps.Keys(a)), slices.Collect(maps.Keys(b)))
	slices.SortFunc(all, cmp.Compare[string])
	return slices.Compact(all)
}

// text is an option's value as a user writes it.
func text(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}
