package trace

import (
	"bufio"
	"io"
	"iter"
)

// Source is a trace that is read, in its text or its binary form: a *Decoder or a
// *Reader.
type Source interface {
	// Header returns what the trace says of itself in front of its first operation.
	Header() (Header, error)
	// Next returns the next operation, or io.EOF at the end. Errors begin with the
	// name of the file and stick; what came before is whole.
	Next() (Op, error)
	// All yields the remaining operations; an error comes last.
	All() iter.Seq2[Op, error]
}

// Open returns a Source of r, whose first bytes tell its form. Errors begin with
// name. It reads from r as it goes, and no more than a block ahead of the one under way.
func Open(name string, r io.Reader) (Source, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	first, err := b.Peek(1)
	if err == nil && first[0] == ContainerMagic[0] {
		return NewReader(name, b)
	}
	return NewDecoder(name, b), nil // which tells of an error, or that r is empty
}

// all yields what next returns until io.EOF.
func all(next func() (Op, error)) iter.Seq2[Op, error] {
	return func(yield func(Op, error) bool) {
		for {
			op, err := next()
			if err == io.EOF || !yield(op, err) || err != nil {
				return
			}
		}
	}
}
