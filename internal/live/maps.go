package live

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"vmsim/mem"
)

// Mapping is a VMA, a line of /proc/PID/maps.
type Mapping struct {
	mem.Range
	Prot   mem.Prot
	Shared bool   // MAP_SHARED
	Off    uint64 // file offset of the first byte
	Dev    Dev    // of the file; zero where there is none
	Ino    uint64 // 0 where there is no file, see IsFile
	Path   string // of the file, as the process was shown it; [heap], [stack], ... or "" without one
}

// Dev is a device number as maps has it.
type Dev struct{ Major, Minor uint32 }

func (d Dev) String() string { return fmt.Sprintf("%02x:%02x", d.Major, d.Minor) }

// IsFile reports whether the mapping is of a file, whatever kind of file. The first System V
// segment of a machine has the inode number 0.
func (m Mapping) IsFile() bool { return m.Ino != 0 || strings.HasPrefix(m.Path, "/") }

// Perms formats the permissions as maps does: r-xp, rw-s.
func (m Mapping) Perms() string {
	if m.Shared {
		return m.Prot.String() + "s"
	}
	return m.Prot.String() + "p"
}

// parseMaps reads the text of /proc/PID/maps (fs/proc/task_mmu.c:show_map_vma):
//
//	55d3f6a01000-55d3f6a02000 r-xp 00001000 fd:01 393402      /usr/bin/a b (deleted)
func parseMaps(text []byte) ([]Mapping, error) {
	var maps []Mapping
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte("\n"))
		m, err := parseMapping(string(line))
		if err != nil {
			return nil, fmt.Errorf("maps: line %d, %q: %w", len(maps)+1, line, err)
		}
		maps = append(maps, m)
	}
	return maps, nil
}

func parseMapping(line string) (m Mapping, err error) {
	var field [5]string
	rest := line
	for i := range field {
		ok := false
		field[i], rest, ok = strings.Cut(strings.TrimLeft(rest, " "), " ")
		if !ok && i < len(field)-1 || field[i] == "" {
			return Mapping{}, fmt.Errorf("%d fields, not 5 or more", i)
		}
	}
	// The path begins behind the padding; one of its own leading blanks cannot
	// occur, paths begin with a slash and names with another sign.
	m.Path = unescape(strings.TrimLeft(rest, " "))
	start, end, ok := strings.Cut(field[0], "-")
	major, minor, ok2 := strings.Cut(field[3], ":")
	if !ok || !ok2 || len(field[1]) != 4 {
		return Mapping{}, fmt.Errorf("not of the form START-END PERM OFFSET MAJOR:MINOR INODE")
	}
	if m.Prot, err = mem.ParseProt(field[1][:3]); err != nil {
		return Mapping{}, err
	}
	switch field[1][3] {
	case 's':
		m.Shared = true
	case 'p':
	default:
		return Mapping{}, fmt.Errorf("permissions %q end in neither p nor s", field[1])
	}
	var nums [6]uint64
	for i, f := range []struct {
		text       string
		base, bits int
	}{{start, 16, 64}, {end, 16, 64}, {field[2], 16, 64}, {major, 16, 32}, {minor, 16, 32}, {field[4], 10, 64}} {
		if nums[i], err = strconv.ParseUint(f.text, f.base, f.bits); err != nil {
			return Mapping{}, err
		}
	}
	m.Range = mem.Range{Start: mem.VirtAddr(nums[0]), End: mem.VirtAddr(nums[1])}
	m.Off, m.Dev, m.Ino = nums[2], Dev{uint32(nums[3]), uint32(nums[4])}, nums[5]
	if m.Empty() || m.Start.PageOffset() != 0 || m.End.PageOffset() != 0 {
		return Mapping{}, fmt.Errorf("%v is no range of whole pages", m.Range)
	}
	return m, nil
}

// unescape undoes what show_map_vma does to a path: a newline is written \012,
// and nothing else is escaped.
func unescape(path string) string { return strings.ReplaceAll(path, `\012`, "\n") }
