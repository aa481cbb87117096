package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// registerOutput gives every command the flags that say what is told beside the
// results, and how.
func registerOutput(root *cobra.Command) {
	fs := root.PersistentFlags()
	fs.Bool("quiet", false, "tell results and errors only, no progress")
	fs.String("color", "auto", "`WHEN` a table has colours: auto (on a terminal, unless NO_COLOR is set), always, never")
	err := root.RegisterFlagCompletionFunc("color",
		cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err)
	}
}

// quiet reports whether --quiet was given to cmd.
func quiet(cmd *cobra.Command) bool {
	q, _ := cmd.Flags().GetBool("quiet")
	return q
}

// colors reports whether a table on cmd's standard output has colours
// (no-color.org: NO_COLOR counts if it is not empty).
func colors(cmd *cobra.Command) (bool, error) {
	switch when := cmd.Flag("color").Value.String(); when {
	case "always":
		return true, nil
	case "never":
		return false, nil
	case "auto":
		return terminal(cmd.OutOrStdout()) && os.Getenv("NO_COLOR") == "", nil
	default:
		return false, fmt.Errorf("--color: %q is none of auto, always, never", when)
	}
}

// sharedWriter is standard error, which commands and their progress write.
type sharedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *sharedWriter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

// terminal reports whether w is one that can do more than print lines.
func terminal(w io.Writer) bool {
	if s, ok := w.(*sharedWriter); ok {
		w = s.w
	}
	f, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
