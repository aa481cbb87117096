package main

import (
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"vmsim/internal/part"
	"vmsim/internal/report"
)

func newReportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Put the reports of a split run together",
		Args:  cobra.ArbitraryArgs,
		RunE:  help,
	}
	cmd.AddCommand(newMergeCommand())
	return cmd
}

func newMergeCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "merge PART...",
		Short: "Merge the parts of all shards into the report of one run",
		Long: `merge reads the parts that "vmsim verify --shard I/N --part FILE" wrote, one for
each shard, and prints what one run over the whole list would have printed, byte
for byte, with its exit code.

It refuses parts of which one is missing, there twice, unfinished, or of another
list of files, version or set of options.`,
		Example: `  vmsim verify --shard 1/2 --part 1.part /usr
  vmsim verify --shard 2/2 --part 2.part /usr
  vmsim report merge 1.part 2.part`,
		Args: want("part", true),
		RunE: func(cmd *cobra.Command, paths []string) error { return merge(cmd, format, paths) },
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "`FORMAT` of the result: "+strings.Join(report.Formats, ", "))
	complete(cmd, "output", report.Formats...)
	return cmd
}

// merge reports the parts at paths as the one run that they are.
func merge(cmd *cobra.Command, format string, paths []string) error {
	form, err := report.ParseFormat(format, report.Formats)
	if err != nil {
		return fmt.Errorf("--output: %w", err)
	}
	m, err := part.Merge(paths)
	if err != nil {
		return err
	}
	defer m.Close()
	digest, _ := m.Header.Options["digest"].(bool)
	v := &verification{cmd: cmd, format: form, total: m.Header.Files}
	if v.out, err = newVerifyReport(cmd, form, digest); err != nil {
		return err
	}
	for _, t := range m.Header.Trouble {
		v.trouble(t)
	}
	v.out.addCounts(m.Header.NotELF, m.Header.PassedOver)
	for {
		row, err := m.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = v.addRow(row)
		}
		if err != nil {
			return err
		}
	}
	return v.end(false)
}

// version names this build: parts of different ones are not merged.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
