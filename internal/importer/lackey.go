package importer

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"vmsim/mem"
	"vmsim/trace"
)

// maxReference is the largest reference that lackey writes, in bytes
// (lackey/lk_main.c, MAX_DSIZE).
const maxReference = 512

// lackeyPID is the process of a lackey trace: the first child of init.
const lackeyPID = 2

// Lackey reads what valgrind --tool=lackey --trace-mem=yes writes: a line a
// reference (`I  04001000,3`, ` L 1ffe000748,8`, ` S` and ` M`), and messages. A
// reference gives one touch of each page that it covers, two at a page's end; a
// modification is a write.
//
// Nothing in the text says what is mapped. So the trace is a fork of init, the
// touches of its child, and its exit where a message tells of it.
//
// Lines do not say whose they are: messages of a second process are refused.
func Lackey(name string, r io.Reader, emit func(*trace.Op) error) (trace.Header, error) {
	k := &lackey{lines: newLines(name, r), emit: emit}
	k.touch = trace.Op{PID: lackeyPID, Kind: trace.OpTouch}
	err := k.all()
	return k.header(err == nil), err
}

type lackey struct {
	*lines
	emit    func(*trace.Op) error
	touch   trace.Op // the one that is emitted; only Access, Addr and Value change
	began   bool     // the fork was emitted
	pid     []byte   // of the messages; nil: none yet
	mixed   bool     // a second process wrote into the file
	command string
	exit    *trace.Op // how the process ended, as messages say
}

func (k *lackey) all() error {
	for {
		line, err := k.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		access, ok := reference(line)
		if !ok {
			if err := k.message(line); err != nil {
				return err
			}
			continue
		}
		if err := k.reference(line[3:], access); err != nil {
			return err
		}
	}
	if err := k.begin(); err != nil {
		return err
	}
	if k.exit != nil {
		return k.emit(k.exit)
	}
	return nil
}

// reference reports whether line is of the form `XX ADDR,SIZE`, and what it does.
func reference(line []byte) (mem.Access, bool) {
	if len(line) < 6 || line[2] != ' ' {
		return 0, false
	}
	switch {
	case line[0] == 'I' && line[1] == ' ':
		return mem.Exec, true
	case line[0] != ' ':
		return 0, false
	case line[1] == 'L':
		return mem.Read, true
	case line[1] == 'S' || line[1] == 'M':
		return mem.Write, true
	}
	return 0, false
}

// begin emits the fork, once.
func (k *lackey) begin() error {
	if k.began {
		return nil
	}
	k.began = true
	return k.emit(&trace.Op{PID: 1, Kind: trace.OpFork, Want: &trace.Answer{PID: lackeyPID}})
}

// reference emits the touches of ADDR,SIZE. It is the hot path: a run of a
// millisecond has millions of these lines.
func (k *lackey) reference(text []byte, access mem.Access) error {
	var addr, size uint64
	i := 0
	for ; i < len(text); i++ {
		d := hexDigit[text[i]]
		if d > 15 {
			break
		}
		addr = addr<<4 | uint64(d)
	}
	digits := i
	if i++; i > len(text) || text[digits] != ',' {
		i = len(text)
	}
	for from := i; i < len(text) && size <= maxReference; i++ {
		d := text[i] - '0'
		if d > 9 || i-from > 3 {
			size = 0
			break
		}
		size = size*10 + uint64(d)
	}
	if digits == 0 || digits > 16 || size == 0 || size > maxReference || addr+(size-1) < addr {
		return k.errorf("%q is not an address, a comma and a size of 1 to %d bytes", clip(string(text)), maxReference)
	}
	if !k.began {
		if err := k.begin(); err != nil {
			return err
		}
	}
	op := &k.touch
	op.Access, op.Addr, op.Value = access, mem.VirtAddr(addr), 0
	if access == mem.Write {
		op.Value = trace.DefaultValue
	}
	if err := k.emit(op); err != nil {
		return err
	}
	if last := addr + size - 1; last/mem.PageSize != addr/mem.PageSize {
		op.Addr = mem.VirtAddr(last &^ (mem.PageSize - 1))
		return k.emit(op)
	}
	return nil
}

// hexDigit gives the value of a hex digit, and 0xff for other bytes.
var hexDigit = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range 16 {
		t["0123456789abcdef"[i]], t["0123456789ABCDEF"[i]] = byte(i), byte(i)
	}
	return t
}()

// message reads what is no reference: ==PID== text, --PID-- text, **PID** text of
// the program, or the start of a superblock (--trace-superblocks). Errors for
// anything else.
func (k *lackey) message(line []byte) error {
	if len(line) == 0 || bytes.HasPrefix(line, []byte("SB ")) {
		return nil
	}
	pid, text, ok := cutMessage(line)
	switch {
	case !ok:
		return k.errorf("%q is neither a reference of lackey nor a message of valgrind", clip(string(line)))
	case k.pid == nil:
		k.pid = bytes.Clone(pid)
	case !bytes.Equal(k.pid, pid):
		k.mixed = true
		return k.errorf("processes %s and %s write into the same file: whose references are whose is unknown (give each its file: --log-file=NAME.%%p)",
			k.pid, pid)
	}
	k.facts(strings.TrimSpace(string(text)))
	return nil
}

// cutMessage parts ==PID== text.
func cutMessage(line []byte) (pid, text []byte, ok bool) {
	if len(line) < 5 || line[0] != line[1] || line[0] != '=' && line[0] != '-' && line[0] != '*' {
		return nil, nil, false
	}
	i := 2
	for i < len(line) && line[i] >= '0' && line[i] <= '9' {
		i++
	}
	if i == 2 || i > 12 || len(line) < i+2 || line[i] != line[0] || line[i+1] != line[0] {
		return nil, nil, false
	}
	return line[2:i], line[i+2:], true
}

// facts takes what a message says of the process.
func (k *lackey) facts(text string) {
	if c, ok := strings.CutPrefix(text, "Command: "); ok && k.command == "" {
		k.command = c
	}
	if n, ok := strings.CutPrefix(text, "Exit code: "); ok {
		if status, err := strconv.ParseUint(strings.TrimSpace(n), 10, 8); err == nil && (k.exit == nil || k.exit.Signal == 0) {
			k.exit = &trace.Op{PID: lackeyPID, Kind: trace.OpExit, Status: int(status)}
		}
	}
	if n, ok := strings.CutPrefix(text, "Process terminating with default action of signal "); ok {
		n, _, _ = strings.Cut(n, " ")
		if signal, err := strconv.ParseUint(n, 10, 8); err == nil && signal >= 1 && signal <= 64 {
			k.exit = &trace.Op{PID: lackeyPID, Kind: trace.OpExit, Signal: int(signal)}
		}
	}
}

// header returns what is known at the end; whole: of a text without errors.
func (k *lackey) header(whole bool) trace.Header {
	h := trace.Header{Source: "lackey", Touches: trace.TouchesAll, Whole: whole}
	add := func(format string, args ...any) { h.Missing = append(h.Missing, fmt.Sprintf(format, args...)) }
	add("mappings are missing: what the touched memory was, a file's, anonymous or shared, and what a system call changed of it")
	add("exec is missing: which program and libraries lay where; valgrind loads them where the kernel would not")
	add("touches by the kernel in system calls are missing")
	add("threads are missing: all references stand under the process's first")
	add("times are missing")
	switch {
	case k.command == "":
		add("the command is missing")
	case strings.ContainsAny(k.command, " \\'\""):
		add("the words of the command are missing: valgrind writes them without quotes: %s", clip(k.command))
	default:
		h.Command = []string{k.command}
	}
	if k.exit == nil {
		add("the end of the process is missing")
	}
	if k.mixed {
		add("which references are of the first process is missing: another one wrote into the same file")
	}
	if !whole {
		add("what follows the line that could not be read is missing")
	}
	return h
}
