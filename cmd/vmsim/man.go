package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"vmsim/internal/report"
)

func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the man pages of all commands",
		Long: `man writes a man page (section 1) for vmsim and for each of its commands to DIR,
which it makes if need be: vmsim.1, vmsim-verify.1, ... The same program always
writes the same bytes.`,
		Example: `  sudo vmsim man /usr/local/share/man/man1`,
		Args:    want("folder", false),
		RunE: func(cmd *cobra.Command, a []string) error {
			if err := os.MkdirAll(a[0], 0o755); err != nil {
				return err
			}
			n, err := writeManPages(a[0])
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s written to %s\n", report.Count(n, "man page"), report.Printable(a[0]))
			}
			return err
		},
	}
}

// manDate is the month that the pages are of: that of the build would make each
// build another page.
var manDate = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

// writeManPages writes the pages of all commands to dir, and returns how many.
func writeManPages(dir string) (int, error) {
	root := newRootCommand()
	n := 0
	var prepare func(cmd *cobra.Command)
	prepare = func(cmd *cobra.Command) {
		cmd.DisableAutoGenTag = true
		cmd.Long = markdown(cmd.Long)
		if cmd == root || cmd.IsAvailableCommand() {
			n++
		}
		for _, c := range cmd.Commands() {
			prepare(c)
		}
	}
	prepare(root)
	return n, doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "vmsim", Manual: "User Commands", Date: &manDate}, dir)
}

// markdown is a help text as cobra/doc reads it: what is indented stays as it is.
func markdown(help string) string {
	lines := strings.Split(help, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, " ") {
			lines[i] = "    " + l
		}
	}
	return strings.Join(lines, "\n")
}
