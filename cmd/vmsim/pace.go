package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"vmsim/internal/report"
	"vmsim/internal/session"
)

// pace tells on standard error how fast verify goes, and at the end of a long
// run how fast it was. Results have no times in them: they would differ from run
// to run.
type pace struct {
	w        io.Writer
	show     *report.Progress // nil with --quiet
	start    time.Time
	done     int
	compared uint64
	slowest  []timedFile
}

// timedFile is one of the files that took longest.
type timedFile struct {
	path    string
	elapsed time.Duration
}

const (
	mostSlowest = 3
	longRun     = 5 * time.Second // from which a run's speed is told
)

// startPace begins a run of total files, of which done are done already. Where
// results come on the same terminal meanwhile, nothing is drawn between them.
func startPace(cmd *cobra.Command, format report.Format, total, done int) *pace {
	p := &pace{w: cmd.ErrOrStderr(), start: time.Now(), done: done}
	if !quiet(cmd) && !(format.Streams() && terminal(cmd.OutOrStdout()) && terminal(p.w)) {
		p.show = report.NewProgress(p.w, terminal(p.w), "files", total)
	}
	return p
}

// step takes a file's outcome, which out has counted.
func (p *pace) step(out *verifyReport, o session.Outcome) {
	p.done++
	p.compared += o.Result.BytesCompared
	if o.NotELF == "" {
		p.slowest = append(p.slowest, timedFile{o.Result.Path, o.Elapsed})
		slices.SortStableFunc(p.slowest, func(a, b timedFile) int { return cmp.Compare(b.elapsed, a.elapsed) })
		p.slowest = p.slowest[:min(len(p.slowest), mostSlowest)]
	}
	if p.show != nil {
		s := out.sum
		p.show.Set(p.done, fmt.Sprintf("%d ok, %d failed, %d skipped, %s", s.OK, s.Failed, s.Skipped, p.speed()))
	}
}

// speed is how many bytes were compared with file data in a second.
func (p *pace) speed() string {
	return fmt.Sprintf("%.2f GB/s", float64(p.compared)/1e9/max(time.Since(p.start).Seconds(), 1e-3))
}

func (p *pace) stop() {
	if p.show == nil {
		return
	}
	p.show.Stop()
	spent := time.Since(p.start)
	if spent < longRun {
		return
	}
	fmt.Fprintf(p.w, "compared %s in %v, %s\n", report.Bytes(p.compared), spent.Round(time.Second/10), p.speed())
	for _, f := range p.slowest {
		fmt.Fprintf(p.w, "slowest: %v %s\n", f.elapsed.Round(time.Millisecond), report.Printable(f.path))
	}
}
