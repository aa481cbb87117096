package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/loader"
	"vmsim/vm"
)

// fileRecord is the result of one file: what every format and every part shows
// of it.
type fileRecord struct {
	Type          string    `json:"type"`
	Path          string    `json:"path"`
	PathBytes     []byte    `json:"path_bytes,omitempty"` // of a path that is not UTF-8
	Size          int64     `json:"size"`
	Verdict       string    `json:"verdict"`
	Reason        string    `json:"reason"`
	Pages         int       `json:"pages"`
	Faults        vm.Faults `json:"faults"`
	Windows       int       `json:"windows"`
	FromCache     int       `json:"from_cache"`
	FromFile      int       `json:"from_file"`
	Zero          int       `json:"zero"`
	Boundary      int       `json:"boundary_pages"`
	SharedIndexes int       `json:"shared_indexes"`
	BytesCompared uint64    `json:"bytes_compared"`
	Failures      int       `json:"failures"`
	FailureLines  []string  `json:"failure_lines,omitempty"`
	ImageSHA256   string    `json:"image_sha256"`
}

func newFileRecord(r session.FileResult) fileRecord {
	j := fileRecord{Type: "file", Path: r.Path, Size: r.Size, Verdict: string(r.Verdict), Reason: r.Reason, Pages: r.Pages,
		Faults: r.Faults, Windows: r.Windows, FromCache: r.FromCache, FromFile: r.FromFile, Zero: r.Zero,
		Boundary: r.Boundary, SharedIndexes: r.SharedIndexes, BytesCompared: r.BytesCompared,
		Failures: r.Failures, ImageSHA256: r.ImageSHA256}
	if !utf8.ValidString(r.Path) {
		j.PathBytes = []byte(r.Path)
	}
	for _, e := range r.FailureEvents {
		j.FailureLines = append(j.FailureLines, fmt.Sprint(e))
	}
	return j
}

// parseFileRecord reads a record from a part.
func parseFileRecord(data []byte) (r fileRecord, err error) {
	err = json.Unmarshal(data, &r)
	if len(r.PathBytes) > 0 {
		r.Path = string(r.PathBytes)
	}
	return r, err
}

// verifySummary is the sum of all files. It has no time in it: the same corpus
// gives the same bytes.
type verifySummary struct {
	Type           string      `json:"type"`
	OK             int         `json:"ok"`
	Failed         int         `json:"failed"`
	Skipped        int         `json:"skipped"`
	NotELF         int         `json:"not_elf"`
	Windows        int         `json:"windows"`
	FromCache      int         `json:"from_cache"`
	FromFile       int         `json:"from_file"`
	Zero           int         `json:"zero"`
	BytesCompared  uint64      `json:"bytes_compared"`
	Failures       int         `json:"failures"`
	Partial        bool        `json:"partial"`
	SkippedReasons []reason    `json:"skipped_reasons"`
	NotELFReasons  []reason    `json:"not_elf_reasons"`
	PassedOver     []reason    `json:"passed_over"`
	Largest        []sizedFile `json:"largest"`
}

// reason is why files were treated alike, and how many.
type reason struct {
	Reason string `json:"reason"`
	Files  int    `json:"files"`
}

// sizedFile is one of the largest files.
type sizedFile struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

const (
	mostLargest = 5  // files that a summary names
	fewFiles    = 20 // up to which a table does not need them named
)

// reasons are r, the most frequent first.
func reasons(r session.Reasons) []reason {
	out := []reason{}
	for _, why := range slices.Sorted(maps.Keys(r)) {
		out = append(out, reason{why, r[why]})
	}
	slices.SortStableFunc(out, func(a, b reason) int { return cmp.Compare(b.Files, a.Files) })
	return out
}

// verifyReport takes what becomes of files, in order.
type verifyReport struct {
	out     *report.Writer
	format  report.Format
	sum     verifySummary
	skipped session.Reasons
	notELF  session.Reasons
	passed  session.Reasons
	noted   bool // a note was written
	files   int
}

func newVerifyReport(cmd *cobra.Command, format report.Format, digest bool) (*verifyReport, error) {
	color, err := colors(cmd)
	if err != nil {
		return nil, err
	}
	sha := report.Column{Key: "image_sha256", Text: true}
	if digest {
		sha.Title = "IMAGE SHA256"
	}
	return &verifyReport{
		format: format,
		out: report.NewWriter(cmd.OutOrStdout(), format, color, report.Doc{Name: "vmsim verify", List: "files", Columns: []report.Column{
			{Key: "path", Title: "FILE", Text: true},
			{Key: "verdict", Title: "VERDICT", Text: true},
			{Key: "pages", Title: "PAGES"},
			{Key: "minor", Title: "MINOR"},
			{Key: "major", Title: "MAJOR"},
			{Key: "cow", Title: "COW"},
			{Key: "windows", Title: "WINDOWS"},
			{Key: "from_cache", Title: "FROM CACHE"},
			{Key: "from_file", Title: "FROM FILE"},
			{Key: "zero", Title: "ZERO"},
			{Key: "boundary_pages", Title: "BOUNDARY"},
			{Key: "shared_indexes", Title: "SHARED"},
			{Key: "bytes_compared", Title: "COMPARED"},
			sha,
			{Key: "size"}, {Key: "failures"}, {Key: "reason"}, {Key: "first_failure"},
		}}),
		sum:     verifySummary{Type: "summary", Largest: []sizedFile{}},
		skipped: session.Reasons{}, notELF: session.Reasons{}, passed: session.Reasons{},
	}, nil
}

// addNotELF counts a file that is no ELF file.
func (v *verifyReport) addNotELF(why string) { v.notELF[why]++ }

// addCounts adds what was counted while the corpus was listed.
func (v *verifyReport) addCounts(notELF, passed session.Reasons) {
	for why, n := range notELF {
		v.notELF[why] += n
	}
	for why, n := range passed {
		v.passed[why] += n
	}
}

// number is what differs from file to file in why they cannot be used; what a
// file is that is not supported (its machine) stays.
var number = regexp.MustCompile(`\b(0x[0-9a-f]+|[0-9]+)\b`)

// class is a reason for the sums.
func class(reason string) string {
	if strings.HasPrefix(reason, loader.ErrUnsupported.Error()) {
		return reason
	}
	return number.ReplaceAllString(reason, "N")
}

// add takes a result.
func (v *verifyReport) add(r fileRecord) error {
	s := &v.sum
	v.files++
	switch session.Verdict(r.Verdict) {
	case session.OK:
		s.OK++
	case session.Fail:
		s.Failed++
	default:
		s.Skipped++
		v.skipped[class(r.Reason)]++
	}
	s.Windows += r.Windows
	s.FromCache += r.FromCache
	s.FromFile += r.FromFile
	s.Zero += r.Zero
	s.Failures += r.Failures
	s.BytesCompared += r.BytesCompared
	i, _ := slices.BinarySearchFunc(s.Largest, r.Size, func(f sizedFile, size int64) int {
		if f.Size >= size { // of equal ones the first stays in front
			return -1
		}
		return +1
	})
	if i < mostLargest {
		s.Largest = slices.Insert(s.Largest, i, sizedFile{r.Path, r.Size})
		s.Largest = s.Largest[:min(len(s.Largest), mostLargest)]
	}
	return v.out.Add(v.item(r))
}

// mark is the cell of a verdict.
func mark(v session.Verdict) report.Mark {
	tone := report.Weak
	switch v {
	case session.OK:
		tone = report.Good
	case session.Fail:
		tone = report.Bad
	}
	return report.Mark{Text: string(v), Tone: tone}
}

// item is one result as the formats show it.
func (v *verifyReport) item(r fileRecord) report.Item {
	it := report.Item{Object: r, Case: report.Case{Class: "vmsim.verify", Name: r.Path}}
	name := report.Printable(r.Path)
	note := func(format string, a ...any) { it.Notes = append(it.Notes, fmt.Sprintf(format, a...)) }
	it.Cells = []any{r.Path, mark(session.Verdict(r.Verdict))}
	skipped := session.Verdict(r.Verdict) == session.Skipped
	if skipped && r.BytesCompared == 0 {
		it.Cells = append(it.Cells, make([]any, 11)...)
	} else {
		it.Cells = append(it.Cells, r.Pages, r.Faults.Minor, r.Faults.Major, r.Faults.CoW, r.Windows, r.FromCache,
			r.FromFile, r.Zero, r.Boundary, r.SharedIndexes, report.Size(r.BytesCompared))
	}
	first := ""
	if len(r.FailureLines) > 0 {
		first = r.FailureLines[0]
	}
	it.Cells = append(it.Cells, r.ImageSHA256, r.Size, r.Failures, r.Reason, first)
	switch {
	case skipped:
		note("%s: skipped: %s", name, report.Printable(r.Reason))
		it.Case.Skipped = r.Reason
	case session.Verdict(r.Verdict) == session.Fail:
		if v.noted {
			note("")
		}
		note("%s: %s", name, report.Count(r.Failures, "failure"))
		for _, line := range r.FailureLines {
			note("%s", line)
			it.Case.Body += line + "\n"
		}
		if left := r.Failures - len(r.FailureLines); left > 0 {
			note("... and %d more (--events FILE has them all)", left)
		}
		if r.Reason != "" {
			note("%s: ended early: %s", name, report.Printable(r.Reason))
		}
		it.Case.Failure = report.Count(r.Failures, "failure")
	}
	v.noted = v.noted || len(it.Notes) > 0
	return it
}

// any reports whether there is a result to write: in json there always is.
func (v *verifyReport) any() bool {
	return v.files > 0 || len(v.notELF) > 0 || v.format == report.JSON || v.format == report.JUnit
}

// close writes what was kept back, and the sums. partial is why the result is
// not whole, or empty.
func (v *verifyReport) close(partial string) error {
	s := &v.sum
	s.NotELF, s.Partial = v.notELF.Total(), partial != ""
	s.SkippedReasons, s.NotELFReasons, s.PassedOver = reasons(v.skipped), reasons(v.notELF), reasons(v.passed)
	total := fmt.Sprintf("%d ok, %d failed, %d skipped", s.OK, s.Failed, s.Skipped)
	if s.NotELF > 0 {
		total += fmt.Sprintf(", %d not ELF", s.NotELF)
	}
	lines := []string{fmt.Sprintf("%s; %s assembled, %s compared, %s", total, report.Count(s.Windows, "window"),
		report.Bytes(s.BytesCompared), report.Count(s.Failures, "failure"))}
	block := func(title string, rs []reason) {
		for i, r := range rs {
			if i > 0 {
				title = ""
			}
			lines = append(lines, fmt.Sprintf("  %-12s%9d  %s", title, r.Files, report.Printable(r.Reason)))
		}
	}
	if s.Skipped > 1 {
		block("skipped", s.SkippedReasons)
	}
	block("not ELF", s.NotELFReasons)
	block("passed over", s.PassedOver)
	if v.files > fewFiles {
		title := "largest"
		for _, f := range s.Largest {
			lines = append(lines, fmt.Sprintf("  %-12s%9s  %s", title, report.Bytes(uint64(f.Size)), report.Printable(f.Path)))
			title = ""
		}
	}
	if partial != "" {
		lines = append(lines, partial+": the result is partial")
	}
	return v.out.Close(report.Summary{Object: s, Lines: lines})
}
