package record

import "vmsim/trace"

// queue holds operations back while one in front of them is half done: a munmap
// counts from its entry, when others may get its addresses, but its result is
// known only at its return.
type queue struct {
	items []item
	first int // number of items[0], counted from the beginning
	emit  func(*trace.Op) error
	err   error // of emit: sticks
}

type item struct {
	op   trace.Op
	wait bool // not known yet
	drop bool // did not come to be
}

// add puts op at the end.
func (q *queue) add(op trace.Op) {
	if len(q.items) == 0 {
		q.out(&op)
		q.first++
		return
	}
	q.items = append(q.items, item{op: op})
}

// hold keeps a place for an operation, to be given to settle.
func (q *queue) hold() int {
	q.items = append(q.items, item{wait: true})
	return q.first + len(q.items) - 1
}

// settle fills a place: with op, or with nothing.
func (q *queue) settle(place int, op *trace.Op) {
	it := &q.items[place-q.first]
	it.wait = false
	if it.drop = op == nil; !it.drop {
		it.op = *op
	}
	n := 0
	for n < len(q.items) && !q.items[n].wait {
		if !q.items[n].drop {
			q.out(&q.items[n].op)
		}
		n++
	}
	q.first += n
	q.items = append(q.items[:0], q.items[n:]...)
}

func (q *queue) out(op *trace.Op) {
	if q.err == nil {
		q.err = q.emit(op)
	}
}
