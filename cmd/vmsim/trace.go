package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"vmsim/trace"
)

func newTraceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "What recorded traces hold, as text or binary, whole or in part",
		Long: `The commands below trace read traces in both of their forms: text, one
operation a line (ARCHITECTURE.md), and binary, as they are recorded
(docs/trace-format.md); the first bytes tell which. - is standard input.

Of a trace that is cut off or damaged what comes before is used; a line on
standard error then says where it ends, and the exit code is 2.`,
		Args: cobra.ArbitraryArgs,
		RunE: help,
	}
	cmd.AddCommand(newTraceInfoCommand(), newTraceCatCommand(), newTraceCutCommand(), newTraceCheckCommand(), newTraceImportCommand())
	return cmd
}

// traceInput is a trace that a command reads, in either form.
type traceInput struct {
	trace.Source
	name  string
	index *trace.Index // nil: text, a pipe, or damaged
	file  *os.File     // nil: a pipe
	read  *ctxReader
	close func()
}

// openTrace opens the trace at path, or standard input for -. Reading it ends with
// ctx's error when ctx ends. The error is bad input; else close must be called.
func openTrace(cmd *cobra.Command, path string) (*traceInput, error) {
	in, err := openTraceBytes(cmd, path)
	if err != nil {
		return nil, err
	}
	if err := in.start(); err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// openTraceBytes is openTrace without a look at what is in it: start must be
// called.
func openTraceBytes(cmd *cobra.Command, path string) (*traceInput, error) {
	ctx := cmd.Context()
	in := &traceInput{name: path}
	open := openPath(path)
	if path == "-" {
		in.name = "standard input"
		open = func() (io.ReadCloser, error) { return io.NopCloser(cmd.InOrStdin()), nil }
	} else if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		in.use(ctx, f)
		return in, nil
	}
	r := openInput(ctx, open) // a FIFO may wait for ever
	in.read, in.close = &ctxReader{ctx: ctx, r: r}, func() { r.Close() }
	return in, nil
}

// use reads from f.
func (in *traceInput) use(ctx context.Context, f *os.File) {
	in.file, in.read, in.close = f, &ctxReader{ctx: ctx, r: f, at: f}, func() { f.Close() }
}

// start begins to read, a file at its first byte. A binary file is read by its
// index, which has the header as it was at the end; where that is damaged, as it
// comes, as far as it goes.
func (in *traceInput) start() (err error) {
	if in.index = nil; in.file != nil {
		if _, err := in.file.Seek(0, io.SeekStart); err != nil {
			return err
		}
		var first [1]byte
		if n, _ := in.file.ReadAt(first[:], 0); n == 1 && first[0] == trace.ContainerMagic[0] {
			if in.index, err = trace.OpenIndexed(in.name, in.read, in.size()); err == nil {
				in.Source = in.index.Reader(nil)
				return nil
			}
			in.index = nil
		}
	}
	in.Source, err = trace.Open(in.name, in.read)
	return err
}

// size returns how many bytes of the trace there are, or were read.
func (in *traceInput) size() int64 {
	if in.file != nil {
		if st, err := in.file.Stat(); err == nil {
			return st.Size()
		}
	}
	return in.read.bytes
}

// form returns the name of the trace's form.
func (in *traceInput) form() string {
	if _, ok := in.Source.(*trace.Reader); ok {
		return formBinary
	}
	return formText
}

// ctxReader reads until its context ends, and counts.
type ctxReader struct {
	ctx   context.Context
	r     io.Reader
	at    io.ReaderAt
	bytes int64
}

func (r *ctxReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p)
	r.bytes += int64(n)
	return n, err
}

func (r *ctxReader) ReadAt(p []byte, off int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.at.ReadAt(p, off)
}

// Seek seeks, where what is read is a file.
func (r *ctxReader) Seek(off int64, whence int) (int64, error) {
	if f, ok := r.at.(io.Seeker); ok {
		return f.Seek(off, whence)
	}
	return 0, errors.ErrUnsupported
}

// Forms of a trace.
const (
	formText   = "text"
	formBinary = "binary"
)

// traceOutputFlags say where a trace is written, and in which form.
type traceOutputFlags struct {
	path string
	form string
}

func (f *traceOutputFlags) register(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVarP(&f.path, "output", "o", "", "write the trace to `FILE`, not to standard output")
	fs.StringVar(&f.form, "form", "", "`FORM` of what is written: text or binary; without it binary where FILE ends in .vmt, else text")
	complete(cmd, "form", formText, formBinary)
}

// open begins the output with header h. in is what is read: it must not be
// overwritten.
func (f *traceOutputFlags) open(cmd *cobra.Command, in *traceInput, h trace.Header) (*traceOutput, error) {
	form := f.form
	if form == "" {
		form = formText
		if strings.HasSuffix(f.path, ".vmt") {
			form = formBinary
		}
	}
	if form != formText && form != formBinary {
		return nil, fmt.Errorf("--form: %q is none of text, binary", f.form)
	}
	out := &traceOutput{w: cmd.OutOrStdout()}
	if f.path == "" && form == formBinary && terminal(out.w) {
		return nil, errors.New("--form: a terminal shows no binary trace: name a file with -o")
	}
	if f.path != "" {
		if err := f.create(in, out); err != nil {
			return nil, err
		}
	}
	var err error
	if form == formBinary {
		begun := h
		begun.Whole = false // not yet
		out.binary, err = trace.NewWriter(out.w, begun)
	} else {
		out.buf = bufio.NewWriterSize(out.w, 64<<10)
		out.text, err = trace.NewEncoder(out.buf, h)
	}
	if err != nil {
		out.closeFile()
		return nil, err
	}
	return out, nil
}

// create opens the file that is written.
func (f *traceOutputFlags) create(in *traceInput, out *traceOutput) error {
	if there, err := os.Stat(f.path); err == nil && in.file != nil {
		if st, err := in.file.Stat(); err == nil && os.SameFile(there, st) {
			return fmt.Errorf("--output: %s is the input", f.path)
		}
	}
	file, err := os.Create(f.path)
	if err != nil {
		return err
	}
	out.file, out.w = file, file
	return nil
}

// traceOutput is a trace that is written, in either form.
type traceOutput struct {
	w      io.Writer
	file   *os.File // nil: standard output
	buf    *bufio.Writer
	text   *trace.Encoder // or
	binary *trace.Writer
}

// write adds op.
func (out *traceOutput) write(op *trace.Op) error {
	if out.binary != nil {
		return out.binary.Write(op)
	}
	return out.text.Encode(*op)
}

// end closes the trace. trouble is what ended the input early, nil if nothing did.
// A binary trace then says that it is not whole; of a text the last line does,
// since its header went out first.
func (out *traceOutput) end(h trace.Header, trouble error) (err error) {
	if out.binary != nil {
		h.Whole = h.Whole && trouble == nil
		err = out.binary.Close(h)
	} else {
		if trouble != nil {
			_, err = fmt.Fprintf(out.buf, "# cut off here: %q\n", plain(trouble))
		}
		err = errors.Join(err, out.buf.Flush())
	}
	if e := out.closeFile(); err == nil {
		err = e
	}
	return err
}

func (out *traceOutput) closeFile() error {
	if out.file == nil {
		return nil
	}
	return out.file.Close()
}

// troubled returns the outcome of a command whose input ended early with err, nil
// where it did not, after it told the user.
func troubled(cmd *cobra.Command, err error) error {
	switch {
	case cmd.Context().Err() != nil:
		return outcome(exitInterrupted)
	case err != nil:
		complain(cmd.ErrOrStderr(), err)
		return outcome(exitUsage)
	}
	return nil
}
