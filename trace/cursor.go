package trace

import "encoding/binary"

// cursor reads a column. Once it failed, for want of bytes or since a number is
// larger than it can be, all that it reads is zero.
type cursor struct {
	b      []byte // what is left
	failed bool
}

func (c *cursor) fail() {
	c.b, c.failed = nil, true
}

// uvarint reads a number in seven bits a byte, the lowest first.
func (c *cursor) uvarint() uint64 {
	if len(c.b) > 0 && c.b[0] < 0x80 {
		v := c.b[0]
		c.b = c.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

// upTo is uvarint of a number that is at most most.
func (c *cursor) upTo(most uint64) uint64 {
	v := c.uvarint()
	if v > most {
		c.fail()
		return 0
	}
	return v
}

// small reads a number of 16 bits.
func (c *cursor) small() int { return int(c.upTo(1<<16 - 1)) }

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.fail()
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

// flag reads a byte that is 0 or 1.
func (c *cursor) flag() bool {
	v := c.byte()
	if v > 1 {
		c.fail()
	}
	return v == 1
}

// take cuts the next n bytes off.
func (c *cursor) take(n uint64) []byte {
	if n > uint64(len(c.b)) {
		c.fail()
		return nil
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}
