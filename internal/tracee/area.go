package tracee

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"vmsim/mem"
)

// errMaps: a line of maps is not what show_map_vma writes.
var errMaps = errors.New("not of the form START-END PERM OFFSET MAJOR:MINOR INODE [PATH]")

// parseMaps reads the text of /proc/PID/maps and joins what is one area but for the
// cutting. It returns how many lines there were.
//
// It runs at each exec and exit, over up to 65,530 lines: no allocation for a line that
// joins the one before.
func parseMaps(text []byte) (areas []Area, lines int, err error) {
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		lines++
		a, path, ok := parseArea(line)
		if !ok {
			return nil, 0, fmt.Errorf("maps: line %d, %q: %w", lines, line, errMaps)
		}
		if n := len(areas); n > 0 && areas[n-1].continues(&a, path) {
			areas[n-1].End = a.End
			continue
		}
		a.Path = string(path)
		if strings.Contains(a.Path, `\012`) { // a newline; nothing else is escaped
			a.Path = strings.ReplaceAll(a.Path, `\012`, "\n")
		}
		areas = append(areas, a)
	}
	return areas, lines, nil
}

// ofFile reports whether a file stands behind a, or shared memory: the inode number alone
// does not tell, since that of a System V segment is its id, of which the first is 0.
func (a *Area) ofFile() bool { return a.Ino != 0 || strings.HasPrefix(a.Path, "/") }

// continues reports whether next, of the given path as maps has it, is more of a.
func (a *Area) continues(next *Area, path []byte) bool {
	return a.End == next.Start && a.Prot == next.Prot && a.Shared == next.Shared && a.Ino == next.Ino &&
		a.Major == next.Major && a.Minor == next.Minor &&
		(!a.ofFile() && a.Off == next.Off || a.ofFile() && a.Off+a.Len() == next.Off) &&
		(a.Path == string(path) || bytes.Contains(path, []byte(`\012`)))
}

// JoinAreas joins neighbours that are one area but for the cutting, as Exit.Maps and
// Exec.Maps are joined.
func JoinAreas(areas []Area) (joined []Area) {
	for i := range areas {
		if n := len(joined); n > 0 && joined[n-1].continues(&areas[i], []byte(areas[i].Path)) {
			joined[n-1].End = areas[i].End
			continue
		}
		joined = append(joined, areas[i])
	}
	return joined
}

// parseArea reads a line: 55d3f6a01000-55d3f6a02000 r-xp 00001000 fd:01 393402  /usr/bin/a b
func parseArea(line []byte) (a Area, path []byte, ok bool) {
	start, line, ok1 := number(line, 16, '-')
	end, line, ok2 := number(line, 16, ' ')
	if !ok1 || !ok2 || len(line) < 5 || line[4] != ' ' || end <= start || (start|end)%mem.PageSize != 0 {
		return a, nil, false
	}
	a.Range = mem.Range{Start: mem.VirtAddr(start), End: mem.VirtAddr(end)}
	for i, c := range line[:3] {
		switch c {
		case "rwx"[i]:
			a.Prot |= 1 << i
		case '-':
		default:
			return a, nil, false
		}
	}
	a.Shared = line[3] == 's'
	if line[3] != 's' && line[3] != 'p' {
		return a, nil, false
	}
	off, line, ok1 := number(line[5:], 16, ' ')
	major, line, ok2 := number(line, 16, ':')
	minor, line, ok3 := number(line, 16, ' ')
	ino, path, ok4 := number(line, 10, ' ')
	if !ok1 || !ok2 || !ok3 || !ok4 || major > 1<<32-1 || minor > 1<<32-1 {
		return a, nil, false
	}
	a.Off, a.Major, a.Minor, a.Ino = off, uint32(major), uint32(minor), ino
	return a, bytes.TrimLeft(path, " "), true
}

// number reads a number to the given end, which the end of the line also is.
func number(b []byte, base uint64, end byte) (n uint64, rest []byte, ok bool) {
	for i, c := range b {
		if c == end {
			return n, b[i+1:], i > 0
		}
		d := uint64(c - '0')
		if c >= 'a' {
			d = uint64(c-'a') + 10
		}
		if c < '0' || d >= base || n > (1<<64-1-d)/base {
			return 0, nil, false
		}
		n = n*base + d
	}
	return n, nil, len(b) > 0
}
