package mem

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestYoung: a write may be under way for a minute.
func TestYoung(t *testing.T) {
	at := time.Unix(1e9, 0)
	for _, c := range []struct {
		later time.Duration
		want  bool
	}{{0, true}, {time.Second, true}, {time.Minute - 1, true}, {time.Minute, false}, {time.Hour, false}, {-time.Hour, true}} {
		if got := isYoung(at, at.Add(c.later)); got != c.want {
			t.Errorf("%v later: young is %v", c.later, got)
		}
	}
	path := filepath.Join(t.TempDir(), "new")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.Young() {
		t.Error("a new file is not young")
	}
	f.opened = f.opened.Add(time.Hour)
	if f.Young() {
		t.Error("a file that was written an hour before it was opened is young")
	}
}
