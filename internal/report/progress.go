package report

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Progress shows how far a long run is: one bar on a terminal, elsewhere a line
// every few seconds. A run that ends before the first line is due shows nothing.
type Progress struct {
	w     io.Writer
	what  string
	total int

	bar     progress.Writer // nil: lines
	tracker *progress.Tracker
	ended   chan struct{}
	wait    sync.WaitGroup

	mu     sync.Mutex
	done   int
	status string
	start  time.Time
}

// How often a terminal is redrawn, and how often a line is written elsewhere.
const (
	redrawEvery = 200 * time.Millisecond
	lineEvery   = 5 * time.Second
)

// NewProgress shows a run of total steps on w until Stop. what is counted:
// "files".
func NewProgress(w io.Writer, terminal bool, what string, total int) *Progress {
	p := &Progress{w: w, what: what, total: total, ended: make(chan struct{}), start: time.Now()}
	if terminal {
		p.draw()
		return p
	}
	p.wait.Go(func() {
		tick := time.NewTicker(lineEvery)
		defer tick.Stop()
		for {
			select {
			case <-p.ended:
				return
			case <-tick.C:
				fmt.Fprintln(w, p.line())
			}
		}
	})
	return p
}

// draw starts the bar.
func (p *Progress) draw() {
	text.EnableColors() // moving the cursor counts as one: NO_COLOR would make the bar scroll
	p.bar = progress.NewWriter()
	p.bar.SetOutputWriter(p.w)
	p.bar.SetUpdateFrequency(redrawEvery)
	p.bar.SetTrackerLength(20)
	p.bar.SetTrackerPosition(progress.PositionRight)
	style := progress.StyleDefault
	style.Visibility = progress.StyleVisibility{ETA: true, Percentage: true, Tracker: true, Value: true, Time: true}
	style.Options.TimeInProgressPrecision = time.Second
	style.Options.ETAPrecision = time.Second
	p.bar.SetStyle(style)
	p.tracker = &progress.Tracker{Message: p.what, Total: int64(max(p.total, 1)), AutoStopDisabled: true}
	p.bar.AppendTracker(p.tracker)
	p.wait.Go(p.bar.Render)
}

// Set says that done steps are done, and what to tell beside.
func (p *Progress) Set(done int, status string) {
	p.mu.Lock()
	p.done, p.status = done, status
	p.mu.Unlock()
	if p.bar != nil {
		p.tracker.UpdateMessage(status)
		p.tracker.SetValue(int64(done))
	}
}

// Stop takes the bar away.
func (p *Progress) Stop() {
	if p.bar == nil {
		close(p.ended)
		p.wait.Wait()
		return
	}
	for !p.bar.IsRenderInProgress() { // Stop is lost on a bar that has not begun
		time.Sleep(time.Millisecond)
	}
	p.bar.Stop()
	p.wait.Wait()
	io.WriteString(p.w, text.CursorUp.Sprint()+text.EraseLine.Sprint()) // it was drawn once more
}

// line is what a file or a pipe is told: 1200 of 126631 files (0 %), ..., 12s left.
func (p *Progress) line() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := fmt.Sprintf("%d of %d %s (%d %%)", p.done, p.total, p.what, 100*p.done/max(p.total, 1))
	if p.status != "" {
		s += ": " + p.status
	}
	if spent := time.Since(p.start); p.done > 0 {
		left := time.Duration(float64(spent) / float64(p.done) * float64(p.total-p.done))
		s += fmt.Sprintf(", %v left", left.Round(time.Second))
	}
	return s
}
