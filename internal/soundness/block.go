package soundness

import (
	"math/bits"

	"vmsim/mem"
)

// step is where the value changes: the address of a page and, in the bits below
// the page's, which of its block's values it changes to. A search reads 8 bytes a
// step, not the values: the 24 bytes of an area, for 100,000 of them, are more than
// the data caches hold.
type step uint64

const stepValue step = mem.PageSize - 1 // the bits of the value

func (s step) start() mem.VirtAddr { return mem.VirtAddr(s &^ stepValue) }

// floor returns the last of steps that is not above the page of a; the first if all
// are. It looks at three places at once, and has nothing to guess: so it waits for
// memory half as often as one that halves.
func floor(steps []step, a mem.VirtAddr) (i int) {
	key := uint64(a) | uint64(stepValue)
	above := func(i int) int {
		_, borrow := bits.Sub64(key, uint64(steps[i]), 0)
		return int(borrow)
	}
	n := len(steps) // it is one of the n from i on
	for n >= 4 {
		q := n / 4
		i += q * (3 - above(i+q) - above(i+2*q) - above(i+3*q))
		n -= 3 * q
	}
	for ; n > 1; n-- {
		i += 1 - above(i+1)
	}
	return i
}

// block is some steps that follow each other, and their values: some of these
// stand there twice, or are of no step any more.
type block[T comparable] struct {
	owner  *owner
	steps  []step
	values []T
}

// owner is who may change a block: the spans that have the same one.
type owner struct{ _ byte }

// value returns what step j changes to.
func (b *block[T]) value(j int) T { return b.values[b.steps[j]&stepValue] }

// recent is how many values are looked through for one that is wanted. Most areas
// are alike; where they are not, to have a value twice takes less than to look at
// all of them.
const recent = 16

// step returns a step at a page to v.
func (b *block[T]) step(at mem.VirtAddr, v T) step {
	last := len(b.values) - 1
	for i := last; i >= 0 && i > last-recent; i-- {
		if b.values[i] == v {
			return step(at) | step(i)
		}
	}
	b.values = append(b.values, v)
	return step(at) | step(last+1)
}

// append appends the steps of c from step j on.
func (b *block[T]) append(c *block[T], j int) {
	for ; j < len(c.steps); j++ {
		b.steps = append(b.steps, b.step(c.steps[j].start(), c.value(j)))
	}
}

// tidied returns a block with the steps of b and no values beside theirs.
func (b *block[T]) tidied(o *owner) *block[T] {
	c := &block[T]{owner: o}
	c.append(b, 0)
	return c
}

// crowded reports whether b has many values that no step needs.
func (b *block[T]) crowded() bool { return len(b.values) > 2*len(b.steps)+recent }
