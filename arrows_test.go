package vmsim

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows are the packages of the project that each package may import; the
// drawing is in ARCHITECTURE.md. Nothing points back up.
var arrows = map[string][]string{
	"vmsim":                    {"mem"},
	"vmsim/mem":                {},
	"vmsim/internal/bug":       {},
	"vmsim/internal/event":     {},
	"vmsim/internal/report":    {},
	"vmsim/internal/part":      {},
	"vmsim/internal/elfgen":    {"mem"},
	"vmsim/internal/testchild": {"mem"},
	"vmsim/internal/elfhead":   {"mem"},
	"vmsim/internal/symbol":    {"mem"},
	"vmsim/internal/live":      {"internal/elfhead", "mem"},
	"vmsim/internal/core":      {"internal/elfhead", "mem"},
	"vmsim/internal/tracee":    {"internal/elfhead", "mem"},
	"vmsim/internal/hostexec":  {},
	"vmsim/internal/perf":      {"mem"},
	"vmsim/internal/perfdata":  {"internal/perf"},
	"vmsim/internal/phys":      {"mem"},
	"vmsim/internal/pagetable": {"internal/phys", "mem"},
	"vmsim/vma":                {"mem"},
	"vmsim/pagecache":          {"internal/phys", "mem"},
	"vmsim/hugepage":           {"internal/bug", "internal/phys", "mem", "pagecache", "vma"},
	"vmsim/loader":             {"mem"},
	"vmsim/vm": {"hugepage", "internal/event", "internal/pagetable", "internal/phys", "loader", "mem",
		"pagecache", "vma"},
	"vmsim/verify":            {"internal/event", "mem"},
	"vmsim/trace":             {"mem"},
	"vmsim/internal/importer": {"internal/record", "mem", "trace"},
	"vmsim/internal/explain":  {"internal/report", "loader", "mem", "verify"},
	"vmsim/internal/ldso":     {"mem"},
	"vmsim/internal/session": {"hugepage", "internal/core", "internal/elfhead", "internal/event", "internal/live",
		"internal/symbol", "loader", "mem", "trace", "verify", "vm"},
	"vmsim/internal/record":    {"internal/elfhead", "internal/perf", "internal/perfdata", "internal/tracee", "mem", "trace"},
	"vmsim/internal/soundness": {"mem", "trace"},
	"vmsim/cmd/vmsim": {"", "hugepage", "internal/bug", "internal/event", "internal/explain", "internal/importer",
		"internal/ldso", "internal/part", "internal/record", "internal/report", "internal/session", "internal/soundness",
		"internal/tracee", "loader", "mem", "trace", "vm"},
}

func TestArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		may, ok := arrows[words[0]]
		if !ok {
			t.Errorf("package %s is not in the drawing: add it here and to ARCHITECTURE.md, with its reason", words[0])
			continue
		}
		seen++
		for _, imp := range words[1:] {
			in, ours := strings.CutPrefix(imp, "vmsim/")
			if imp == "vmsim" {
				in, ours = "", true
			}
			if ours && !slices.Contains(may, in) {
				t.Errorf("%s imports %s: no arrow goes there", words[0], imp)
			}
		}
	}
	if seen != len(arrows) {
		t.Errorf("%d of the %d packages of the drawing exist", seen, len(arrows))
	}
}
