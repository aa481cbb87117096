package session

import "vmsim/mem"

// counted is a file that counts the bytes that were read of it, by one machine.
type counted struct {
	mem.File
	bytes uint64
}

// ReadAt is the file's. What lies beyond its end is not counted.
func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := c.File.ReadAt(p, off)
	c.bytes += uint64(n)
	return n, err
}
