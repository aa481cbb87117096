//go:build linux && amd64

package tracee

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procPath is a file of /proc/TID. Any thread has such a folder, and unlike that of a
// leader which has ended, its memory is there.
func procPath(tid int, name string) string { return "/proc/" + strconv.Itoa(tid) + "/" + name }

// readProc reads a file of /proc/TID whole, into buf as far as it is large enough.
func readProc(tid int, name string, buf []byte) ([]byte, error) {
	fd, err := unix.Open(procPath(tid, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/proc/PID/%s: %w", name, err)
	}
	defer unix.Close(fd)
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, max(4096, cap(buf)))...)[:len(buf)]
		}
		n, err := unix.Read(fd, buf[len(buf):cap(buf)])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("/proc/PID/%s: %w", name, err)
		}
		if n == 0 {
			return buf, nil
		}
		buf = buf[:len(buf)+n]
	}
}

// procStat is what is needed of /proc/PID/stat.
type procStat struct {
	minflt, majflt       uint64
	startStack, startBrk uint64
}

// readStat reads the counters of the process that tid belongs to.
func (s *Session) readStat(tid int) (st procStat, err error) {
	text, err := readProc(tid, "stat", s.buf)
	if err != nil {
		return st, err
	}
	s.buf = text
	// The name stands in parentheses and may hold any byte; field 3 is behind the last.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	for _, f := range []struct {
		field int
		to    *uint64
	}{{10, &st.minflt}, {12, &st.majflt}, {28, &st.startStack}, {47, &st.startBrk}} {
		if len(fields) <= f.field-3 {
			return st, fmt.Errorf("/proc/PID/stat: %d fields behind the name", len(fields))
		}
		if *f.to, err = strconv.ParseUint(string(fields[f.field-3]), 10, 64); err != nil {
			return st, fmt.Errorf("/proc/PID/stat: field %d: %w", f.field, err)
		}
	}
	return st, nil
}

// readMaps returns the areas of tid's memory, joined, and the number of VMAs.
func (s *Session) readMaps(tid int) ([]Area, int, error) {
	text, err := readProc(tid, "maps", s.buf)
	if err != nil {
		return nil, 0, err
	}
	s.buf = text
	return parseMaps(text)
}

// readLines returns the areas of tid's memory as they are.
func (s *Session) readLines(tid int) (areas []Area, err error) {
	text, err := readProc(tid, "maps", s.buf)
	if err != nil {
		return nil, err
	}
	s.buf = text
	for line := range bytes.Lines(text) {
		if a, path, ok := parseArea(bytes.TrimSuffix(line, []byte("\n"))); ok {
			a.Path = string(path)
			areas = append(areas, a)
		}
	}
	return areas, nil
}

// status returns a field of /proc/TID/status.
func (s *Session) status(tid int, name string) (string, bool) {
	text, err := readProc(tid, "status", s.buf)
	if err != nil {
		return "", false
	}
	s.buf = text
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			return string(bytes.TrimSpace(rest)), true
		}
	}
	return "", false
}

// Types of the auxiliary vector (include/uapi/linux/auxvec.h).
const (
	atPhdr        = 3
	atBase        = 7
	atEntry       = 9
	atExecFn      = 31
	atSysinfoEhdr = 33
)

// readAuxv returns the auxiliary vector as exec made it, by type.
func (s *Session) readAuxv(tid int) (map[uint64]uint64, error) {
	b, err := readProc(tid, "auxv", s.buf)
	if err != nil {
		return nil, err
	}
	s.buf = b
	auxv := make(map[uint64]uint64, 24)
	for ; len(b) >= 16; b = b[16:] {
		auxv[binary.NativeEndian.Uint64(b)] = binary.NativeEndian.Uint64(b[8:])
	}
	return auxv, nil
}

// readArgv returns the arguments of tid's process.
func (s *Session) readArgv(tid int) ([]string, error) {
	b, err := readProc(tid, "cmdline", s.buf)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	s.buf = b
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

// maxMapCount returns vm.max_map_count: how many VMAs a process may have.
func maxMapCount() int {
	const fallback = 65530 // DEFAULT_MAX_MAP_COUNT
	b, err := os.ReadFile("/proc/sys/vm/max_map_count")
	if err != nil {
		return fallback
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return fallback
	}
	return n
}
