package report

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// TestProgressLines: off a terminal a line every few seconds, and none of a
// short run.
func TestProgressLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b locked
		p := NewProgress(&b, false, "files", 400)
		time.Sleep(lineEvery - 1)
		p.Set(100, "99 ok, 1 failed")
		synctest.Wait()
		if b.String() != "" {
			t.Errorf("too early: %q", b.String())
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		p.Set(200, "199 ok, 1 failed")
		time.Sleep(lineEvery)
		synctest.Wait()
		p.Stop()
		time.Sleep(10 * lineEvery)
		want := "100 of 400 files (25 %): 99 ok, 1 failed, 15s left\n200 of 400 files (50 %): 199 ok, 1 failed, 10s left\n"
		if b.String() != want {
			t.Errorf("got\n%swant\n%s", b.String(), want)
		}
	})
}

// TestProgressNothing: a run of nothing, and one that ends at once.
func TestProgressNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for _, terminal := range []bool{false, true} {
		var b locked
		p := NewProgress(&b, terminal, "files", 0)
		p.Stop()
		if !terminal && b.String() != "" || strings.TrimSpace(screenOf("before\n"+b.String())) != "before" {
			t.Errorf("%q", b.String())
		}
	}
}

// TestProgressBar: on a terminal one line, drawn again and again in place, and
// gone at the end.
func TestProgressBar(t *testing.T) {
	var b locked
	p := NewProgress(&b, true, "files", 4)
	p.Set(1, "1 ok, 0 failed")
	for !strings.Contains(b.String(), "1 ok, 0 failed") { // drawn by another goroutine
		time.Sleep(redrawEvery / 10)
	}
	p.Set(3, "2 ok, 1 failed")
	for !strings.Contains(b.String(), "2 ok, 1 failed") {
		time.Sleep(redrawEvery / 10)
	}
	p.Stop()
	if screen := screenOf(b.String()); strings.TrimSpace(screen) != "" {
		t.Errorf("left on the screen: %q of %q", screen, b.String())
	}
	if s := screenOf(b.String()[:strings.LastIndex(b.String(), "2 ok")+30]); strings.Count(s, "ok") != 1 || !strings.Contains(s, "2 ok, 1 failed") {
		t.Errorf("screen while it runs: %q", s)
	}
}

// locked is a buffer for two goroutines.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// screenOf plays s on a terminal: text, line ends, cursor up (CSI n A), erase the
// line (CSI K, CSI 2 K) and what is below (CSI J); other sequences change nothing
// that is seen.
func screenOf(s string) string {
	lines, y, x := []string{""}, 0, 0
	for i := 0; i < len(s); {
		switch {
		case strings.HasPrefix(s[i:], "\x1b["):
			j := i + 2
			n := 0
			for ; j < len(s) && (s[j] < '@' || s[j] > '~'); j++ {
				if s[j] >= '0' && s[j] <= '9' {
					n = 10*n + int(s[j]-'0')
				}
			}
			if j == len(s) {
				return strings.Join(lines, "\n")
			}
			switch s[j] {
			case 'A':
				y = max(0, y-max(n, 1))
			case 'K':
				if n == 2 {
					lines[y] = ""
				} else {
					lines[y] = lines[y][:min(x, len(lines[y]))]
				}
			case 'J':
				lines = lines[:y+1]
				lines[y] = lines[y][:min(x, len(lines[y]))]
			}
			i = j + 1
			continue
		case s[i] == '\n':
			if y++; y == len(lines) {
				lines = append(lines, "")
			}
			x = 0
		case s[i] == '\r':
			x = 0
		default:
			for len(lines[y]) < x {
				lines[y] += " "
			}
			lines[y] = lines[y][:x] + s[i:i+1] + lines[y][min(x+1, len(lines[y])):]
			x++
		}
		i++
	}
	return strings.Join(lines, "\n")
}
