package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestJUnitSchema holds the JUnit reports of every command that writes them
// against the schema, with passed, failed and skipped cases.
func TestJUnitSchema(t *testing.T) {
	xmllint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("xmllint is not there: install Debian's libxml2-utils")
	}
	t.Chdir(repository(t))
	const kevlar, trace = "testdata/elf/kevlar-layout", "testdata/traces/case-a.trace"
	dir := t.TempDir()
	dump, part := filepath.Join(dir, "dump"), filepath.Join(dir, "part")
	if err := os.WriteFile(dump, make([]byte, 2<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cut off"), []byte("\x7fELF\x02\x01\x01"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := vmsim(t, "verify", "--bug", "boundary-copy", "--part", part, kevlar, dir); code != 1 {
		t.Fatalf("code %d, %s", code, errs)
	}
	for _, c := range []struct {
		args            string
		failed, skipped bool
	}{
		{"verify testdata", false, false},
		{"verify --bug boundary-copy testdata " + dir, true, true},
		{"verify --files-from /dev/null", false, false},
		{"verify --window " + dump + "@0x400000 " + kevlar, true, false},
		{"report merge " + part, true, true},
		{"explain " + kevlar, false, false},
		{"explain testdata " + dir, false, true},
		{"sweep --bug boundary-copy --thresholds 0,1 " + kevlar, true, false},
		{"stress --execs 3 --threshold 20 --bug boundary-copy " + kevlar, true, false},
		{"run --bug boundary-copy " + kevlar, true, false},
		{"replay --bug index-collision " + trace, true, false},
	} {
		code, out, errs := vmsim(t, append(strings.Fields(c.args), "-o", "junit")...)
		if code > 1 || errs != "" {
			t.Errorf("%s: code %d, error %q", c.args, code, errs)
		}
		if failed, skipped := strings.Contains(out, "<failure "), strings.Contains(out, "<skipped "); failed != c.failed || skipped != c.skipped {
			t.Errorf("%s: failed cases: %v, skipped cases: %v", c.args, failed, skipped)
		}
		cmd := exec.Command(xmllint, "--noout", "--schema", "internal/report/testdata/junit.xsd", "-")
		cmd.Stdin = strings.NewReader(out)
		if complaint, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", c.args, err, complaint)
		}
	}
}
