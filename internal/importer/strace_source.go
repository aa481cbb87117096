package importer

import (
	"bytes"
	"io"
	"strings"
)

// maxAhead is how many bytes of lines are held for a child whose parent's call
// has not returned.
const maxAhead = 64 << 20

// source gives the lines of a log, and lets look ahead.
type source struct {
	lines *lines
	ahead []*logLine    // read, not taken
	size  int           // bytes of ahead
	err   error         // behind ahead
	born  map[int][]int // of the forks that end in ahead: child to parents, both as strace numbers them
	ended map[int]int   // how many forks of a process end in ahead
	ends  map[*logLine]fork
}

// fork is the second half of a call that makes a process.
type fork struct {
	parent int // the PID in front of the line; 0: none
	child  int // 0: the call failed, or its result was not seen
	unseen bool
}

func newSource(l *lines) *source {
	return &source{lines: l, born: map[int][]int{}, ended: map[int]int{}, ends: map[*logLine]fork{}}
}

// take returns the next line, or io.EOF.
func (r *source) take() (*logLine, error) {
	if len(r.ahead) == 0 {
		if err := r.more(); err != nil {
			return nil, err
		}
	}
	l := r.ahead[0]
	r.ahead[0] = nil
	r.ahead = r.ahead[1:]
	r.size -= len(l.body)
	if f, ok := r.ends[l]; ok {
		delete(r.ends, l)
		if r.ended[f.parent]--; r.ended[f.parent] == 0 {
			delete(r.ended, f.parent)
		}
		if f.child != 0 {
			if r.born[f.child] = r.born[f.child][1:]; len(r.born[f.child]) == 0 {
				delete(r.born, f.child)
			}
		}
	}
	return l, nil
}

// more reads one more line into ahead. Errors stick.
func (r *source) more() error {
	if r.err == nil {
		r.err = r.read()
	}
	return r.err
}

func (r *source) read() error {
	var broken []byte
	for {
		text, err := r.lines.next()
		if err == io.EOF && broken != nil {
			return r.lines.errorf("the line is cut off: what follows the message of strace in it is missing")
		}
		if err != nil {
			return err
		}
		if broken != nil {
			if len(broken)+len(text) > maxLine {
				return r.lines.errorf("the line is longer than %d bytes", maxLine)
			}
			text = append(broken, text...)
		}
		// On a terminal a message comes in the middle of a line, which then goes on.
		if i := bytes.LastIndex(text, []byte("strace: Process ")); i > 0 && bytes.HasSuffix(text, []byte(" attached")) && len(text)-i < 40 {
			r.push(string(text[i:]), prefix{})
			broken = bytes.Clone(text[:calledAs(text, i)])
			if len(broken) > 0 {
				continue
			}
			return nil
		}
		p, body := cutPrefix(text)
		r.push(string(body), p)
		return nil
	}
}

// calledAs returns where a message of strace that has the word strace at i starts:
// a strace that was called by its path says /usr/bin/strace.
func calledAs(text []byte, i int) int {
	if text[i-1] != '/' {
		return i
	}
	start := i
	for start > 0 && (strings.IndexByte("/.-_", text[start-1]) >= 0 || isLetter(text[start-1]) || '0' <= text[start-1] && text[start-1] <= '9') {
		start--
	}
	if start == 0 {
		return 0
	}
	return start + bytes.IndexByte(text[start:i], '/') // what was written before may end in a word
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// push appends a line to ahead.
func (r *source) push(body string, p prefix) {
	l := &logLine{n: r.lines.n, prefix: p, body: body}
	r.ahead = append(r.ahead, l)
	r.size += len(body)
	f, ok := forkEnd(body)
	if !ok {
		return
	}
	f.parent = p.pid
	r.ends[l] = f
	r.ended[f.parent]++
	if f.child != 0 {
		r.born[f.child] = append(r.born[f.child], f.parent)
	}
}

// forkEnd reads the second half of a call that makes a process.
func forkEnd(body string) (fork, bool) {
	name, rest, ok := cutResumed(body)
	if !ok || !forks[name] {
		return fork{}, false
	}
	i := strings.LastIndex(rest, "= ")
	if i < 0 {
		return fork{}, false
	}
	r, err := parseResult(strings.TrimSpace(rest[i+2:]))
	switch {
	case err != nil:
		return fork{}, false
	case r.none:
		return fork{unseen: !r.restart}, true
	case r.errno != 0:
		return fork{}, true
	}
	return fork{child: childPID(r)}, true
}
