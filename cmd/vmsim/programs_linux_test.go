package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Real programs, recorded, held against themselves, and replayed: every mapping
// call gives its recorded address, every first touch of a file's page is
// compared, and the repaired machine shows no wrong byte, under any policy.
func TestProgramsReplayed(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: tracepoints")
	}
	dir := t.TempDir()
	source := filepath.Join(dir, "hello.c")
	if err := os.WriteFile(source, []byte("int main(void) { return 0; }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, pkg string // Debian package
		argv      []string
		execs     int // at least
	}{
		{"sh", "dash", []string{"sh", "-c", "for i in 1 2 3; do /bin/true; done"}, 4},
		{"gcc", "gcc", []string{"gcc", "-c", "-o", filepath.Join(dir, "hello.o"), source}, 3},
		{"git", "git", []string{"git", "-C", repository(t), "status", "--short"}, 1},
		{"python3", "python3", []string{"python3", "-c", "import json"}, 1},
		{"go", "golang", []string{"go", "build", "-o", filepath.Join(dir, "main"), filepath.Join(dir, "main.go")}, 1},
		{"server", "dash", []string{"sh", "-c", "(sleep 0.1; kill $$) & trap 'exit 0' TERM; while :; do sleep 0.02; done"}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := exec.LookPath(c.argv[0]); err != nil {
				t.Skipf("%s is missing (Debian package %s)", c.argv[0], c.pkg)
			}
			for _, touches := range []string{"complete", "faults"} {
				path := filepath.Join(dir, c.name+"."+touches)
				if code, _, errs := vmsim(t, append([]string{"record", "--quiet", "--touches", touches, "-o", path, "--"}, c.argv...)...); code != 0 {
					t.Fatalf("record: code %d, %s", code, errs)
				}
				if code, out, errs := vmsim(t, "trace", "check", path); code != 0 {
					t.Errorf("check of %s: code %d\n%s%s", touches, code, out, errs)
				}
				policies := [][]string{nil}
				if touches == "complete" {
					policies = [][]string{nil, {"--threshold", "0"}, {"--threshold", "600"}, {"--fault-around", "16"}}
				}
				for _, flags := range policies {
					r := replayJSONOf(t, 0, append(flags, path)...)
					if r.ExecPassed < c.execs || r.ExecFailed > 0 || len(r.Mismatches) > 0 || r.Failures > 0 {
						t.Errorf("replay of %s with %v: %+v", touches, flags, r)
					}
				}
			}
		})
	}
}
