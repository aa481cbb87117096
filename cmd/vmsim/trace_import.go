package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"vmsim/internal/importer"
	"vmsim/trace"
)

type traceImportFlags struct {
	traceOutputFlags
	from string
}

func newTraceImportCommand() *cobra.Command {
	var f traceImportFlags
	cmd := &cobra.Command{
		Use:   "import --from KIND FILE",
		Short: "Make a trace of what perf, strace or valgrind's lackey recorded",
		Long: `import reads what another program recorded, and writes it as a trace. What that
program does not see is not made up: the header of the trace says what is missing
(vmsim trace info).

perf sees what vmsim record --touches faults sees, but no arguments of programs. Its
filter takes the numbers of the calls that change memory (docs/recording.md has the
whole line):

  setarch -R perf record -c 1 -d -B -k CLOCK_MONOTONIC -m 16M \
    -e exceptions:page_fault_user -e exceptions:page_fault_kernel -e task:task_newtask \
    -e raw_syscalls:sys_enter --filter 'id == 9 || ...' \
    -e raw_syscalls:sys_exit --filter 'id == 9 || ...' -- COMMAND

strace sees the calls that change memory, but no touch, and not what exec maps:

  strace -f -y -ttt -s 4096 -e trace=%memory,%process,%desc,chdir,fchdir,shmget -o FILE COMMAND

Other options will do as well; of -ff, which writes a file for each process, the
files cannot be put together again.

lackey sees every reference to memory, but not what is mapped where, and writes a
line for each, about 15 bytes for an instruction:

  valgrind --tool=lackey --trace-mem=yes --log-file=FILE.%p COMMAND`,
		Example: `  vmsim trace import --from strace -o sh.vmt sh.strace
  vmsim trace import --from lackey ls.lackey | head`,
		Args: want("recording", false),
		RunE: func(cmd *cobra.Command, a []string) error { return traceImport(cmd, f, a[0]) },
	}
	f.register(cmd)
	cmd.Flags().StringVar(&f.from, "from", "", "`KIND` of recording: "+strings.Join(importer.Kinds(), ", "))
	complete(cmd, "from", importer.Kinds()...)
	return cmd
}

func traceImport(cmd *cobra.Command, f traceImportFlags, path string) error {
	if f.from == "" {
		return fmt.Errorf("--from: which of %s wrote it is not given", strings.Join(importer.Kinds(), ", "))
	}
	imp, err := importer.From(f.from)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	if path != "-" {
		if _, err := os.Stat(path); err != nil {
			return troubled(cmd, err)
		}
	}
	in, err := openTraceBytes(cmd, path)
	if err != nil {
		return troubled(cmd, err)
	}
	defer in.close()
	if f.form == formBinary || f.form == "" && strings.HasSuffix(f.path, ".vmt") {
		return f.direct(cmd, imp, in)
	}
	return f.byFile(cmd, imp, in)
}

// direct imports into the binary form, which takes the header at its end.
func (f *traceImportFlags) direct(cmd *cobra.Command, imp importer.Importer, in *traceInput) error {
	out, err := f.open(cmd, in, trace.Header{Source: f.from})
	if err != nil {
		return err
	}
	h, trouble, err := importAll(imp, in, out.write)
	if err != nil {
		out.closeFile()
		return err
	}
	if err := out.end(h, trouble); err != nil {
		return err
	}
	return troubled(cmd, trouble)
}

// importAll imports all of in. trouble is what ended that early, err is of write.
func importAll(imp importer.Importer, in *traceInput, write func(*trace.Op) error) (h trace.Header, trouble, err error) {
	h, trouble = imp(in.name, in.read, func(op *trace.Op) error {
		err = write(op)
		return err
	})
	if err != nil {
		trouble = nil
	}
	return h, trouble, err
}

// byFile imports into the text form, whose header comes first but is known last:
// through a temporary file.
func (f *traceImportFlags) byFile(cmd *cobra.Command, imp importer.Importer, in *traceInput) (err error) {
	tmp, err := os.CreateTemp("", "vmsim-import-*.vmt")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tmp.Close(), os.Remove(tmp.Name())) }()
	w, err := trace.NewWriter(tmp, trace.Header{})
	if err != nil {
		return err
	}
	h, trouble, err := importAll(imp, in, w.Write)
	if err == nil {
		err = w.Close(h)
	}
	if err == nil {
		_, err = tmp.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	r, err := trace.NewReader(tmp.Name(), tmp)
	if err != nil {
		return err
	}
	out, err := f.open(cmd, in, h)
	if err != nil {
		return err
	}
	for op, err := range r.All() {
		if err == nil {
			err = out.write(&op)
		}
		if err != nil {
			out.closeFile()
			return err
		}
	}
	if err := out.end(h, trouble); err != nil {
		return err
	}
	return troubled(cmd, trouble)
}
