package ldso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrCache is returned for a file that is not a cache of ld.so, or a broken one.
var ErrCache = errors.New("not a cache of ld.so")

// The format of /etc/ld.so.cache (glibc sysdeps/generic/dl-cache.h), little
// endian. An old cache, of libc5's format, may stand in front.
//
//	0   "glibc-ld.so.cache1.1"
//	20  number of entries, length of the strings: 4 bytes each
//	28  flags (byte order), extensions, unused
//	48  entries of 24 bytes: flags, offset of the name, offset of the path, OS
//	    version: 4 bytes each; hwcap: 8 bytes
//	    strings; offsets count from the magic
const (
	oldMagic, newMagic = "ld.so-1.7.0", "glibc-ld.so.cache1.1"
	oldHeader, oldSize = 16, 12
	newHeader, newSize = 48, 24

	// flagsX86_64 is FLAG_ELF_LIBC6 | FLAG_X8664_LIB64.
	flagsX86_64 = 0x0303

	maxCache = 64 << 20 // bytes; real ones have some 100 KiB
)

// Cache tells the path of a library by its name.
type Cache map[string]string

// OpenCache reads a cache. A file that does not exist gives an empty one, as it
// does for ld.so.
func OpenCache(path string) (Cache, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return Cache{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCache+1))
	if err != nil {
		return nil, err
	}
	c, err := ParseCache(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseCache reads the entries for x86-64 of glibc's format. Those for certain
// CPUs only are left out; of several with the same name the first counts.
func ParseCache(data []byte) (Cache, error) {
	le := binary.LittleEndian
	if len(data) > maxCache {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrCache, maxCache)
	}
	if bytes.HasPrefix(data, []byte(oldMagic)) {
		if len(data) < oldHeader {
			return nil, fmt.Errorf("%w: cut off", ErrCache)
		}
		skip := (oldHeader + oldSize*uint64(le.Uint32(data[oldHeader-4:])) + 7) &^ 7
		if skip > uint64(len(data)) {
			return nil, fmt.Errorf("%w: cut off in its old part", ErrCache)
		}
		data = data[skip:]
	}
	if !bytes.HasPrefix(data, []byte(newMagic)) || len(data) < newHeader {
		return nil, fmt.Errorf("%w: no %s", ErrCache, newMagic)
	}
	n := uint64(le.Uint32(data[20:]))
	if n > uint64(len(data)-newHeader)/newSize {
		return nil, fmt.Errorf("%w: %d entries in %d bytes", ErrCache, n, len(data))
	}
	c := Cache{}
	for e := data[newHeader : newHeader+n*newSize]; len(e) > 0; e = e[newSize:] {
		name, ok := cacheString(data, le.Uint32(e[4:]))
		path, ok2 := cacheString(data, le.Uint32(e[8:]))
		if !ok || !ok2 {
			return nil, fmt.Errorf("%w: a name beyond its end", ErrCache)
		}
		if le.Uint32(e) != flagsX86_64 || le.Uint64(e[16:]) != 0 {
			continue
		}
		if _, have := c[name]; !have {
			c[name] = path
		}
	}
	return c, nil
}

// cacheString returns the string at an offset, which a NUL ends.
func cacheString(data []byte, off uint32) (string, bool) {
	if uint64(off) >= uint64(len(data)) {
		return "", false
	}
	s := data[off:]
	i := bytes.IndexByte(s[:min(len(s), maxString)], 0)
	if i < 0 {
		return "", false
	}
	return string(s[:i]), true
}
