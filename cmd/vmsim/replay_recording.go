package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"vmsim/internal/report"
	"vmsim/internal/session"
)

// programColumns are a row for each program of a recording.
var programColumns = []report.Column{
	{Key: "file", Title: "TRACE", Text: true},
	{Key: "program", Title: "PROGRAM", Text: true},
	{Key: "execs", Title: "EXECS"},
	{Key: "touches", Title: "TOUCHES"},
	{Key: "recorded_read", Title: "READ"},
	{Key: "recorded_write", Title: "WRITE"},
	{Key: "recorded_fetch", Title: "FETCH"},
	{Key: "recorded_user", Title: "USER"},
	{Key: "recorded_kernel", Title: "KERNEL"},
	{Key: "min_flt", Title: "MIN FLT"},
	{Key: "maj_flt", Title: "MAJ FLT"},
	{Key: "minor", Title: "MINOR"},
	{Key: "major", Title: "MAJOR"},
	{Key: "cow", Title: "COW"},
	{Key: "untroubled", Title: "NONE"},
	{Key: "cache_hits", Title: "CACHE HITS"},
	{Key: "prefaulted", Title: "PREFAULTED"},
	{Key: "windows_assembled", Title: "ASSEMBLED"},
	{Key: "windows_shared", Title: "SHARED"},
	{Key: "windows_split", Title: "SPLIT"},
	{Key: "copies", Title: "COPIES"},
	{Key: "crashed", Title: "CRASHED"},
}

// programCells are the cells behind the trace's name.
func programCells(p *session.Program) []any {
	r, f := &p.Recorded, &p.Simulated
	return []any{programName(p.Path), p.Execs, r.References, r.Read, r.Write, r.Fetch, r.User, r.Kernel, r.MinFlt, r.MajFlt,
		f.Minor, f.Major, f.CoW, p.Untroubled, p.CacheHits, p.Prefaulted, p.Assembled, p.Shared, p.Split, p.Copies, p.Crashed}
}

func programName(path string) string {
	if path == "" {
		return "(no exec)"
	}
	return path
}

// programs adds a row for each program of a recording.
func (o *replayReport) programs(path string, r replayed) error {
	if r.res.Recording == nil {
		return nil
	}
	for _, p := range r.res.Recording.Programs {
		cells := append([]any{path}, programCells(&p)...)
		if len(o.rows.Columns()) > len(cells) {
			cells = append(cells, r.flags)
		}
		if err := o.rows.Add(report.Item{Cells: cells}); err != nil {
			return err
		}
	}
	return nil
}

func in(program string) string {
	if program == "" {
		return ""
	}
	return ", " + report.Printable(program)
}

// mostPrograms and mostUnknowns bound what is printed in words.
const (
	mostPrograms = 20
	mostUnknowns = 10
)

// printRecording says in words what only a recording has.
func printRecording(p *printer, r *session.Recording) {
	if r == nil {
		return
	}
	t := &r.Total
	p.f("  recorded          by %s, touches: %s\n", report.Printable(r.Header.Source), report.Printable(r.Header.Touches))
	switch {
	case t.Recorded.References == 0:
	case t.Recorded.Faults() == 0:
		p.f("  touches           %d; which of them faulted is not in the trace\n", t.Recorded.References)
	default:
		p.f("  faults recorded   %d, of %s: %d read, %d write, %d fetch; %d by the kernel\n", t.Recorded.Faults(),
			report.Count(int(t.Recorded.References), "touch"), t.Recorded.Read, t.Recorded.Write, t.Recorded.Fetch, t.Recorded.Kernel)
	}
	if t.Recorded.MinFlt+t.Recorded.MajFlt > 0 {
		p.f("                    %d minor, %d major by the kernel's own count at exit\n", t.Recorded.MinFlt, t.Recorded.MajFlt)
	}
	p.f("  page cache        %s, %s prefaulted", report.Count(t.CacheHits, "hit"), report.Count(t.Prefaulted, "page"))
	if n := r.FaultedAround; n > 0 {
		p.f(", %d mapped around faults", n)
	}
	p.f("\n")
	p.f("  windows shared    %s\n", report.Count(t.Shared, "time"))
	p.f("  copies            %s\n", report.Count(t.Copies, "page"))
	p.f("  memory            %s at most\n", report.Bytes(r.Peak))
	for i := range r.Unknown[:min(len(r.Unknown), mostUnknowns)] {
		title := ""
		if i == 0 {
			title = "not known"
		}
		p.f("  %-16s  %s: %s\n", title, report.Count(r.Unknown[i].Pages, "page"), report.Printable(r.Unknown[i].What))
	}
	if n := len(r.Unknown) - mostUnknowns; n > 0 {
		p.f("  %16s  and of %d more (-o json)\n", "", n)
	}
	for _, c := range r.Present {
		p.f("  present at %-7s%s: %d pages recorded, %d simulated, %d both", c.Point, report.Count(c.Sets, "set"), c.Recorded, c.Simulated, c.Both)
		if c.OtherKind > 0 {
			p.f(" (%d of another kind)", c.OtherKind)
		}
		p.f("\n")
		presentReasons(p, "recorded", c.RecordedOnly)
		presentReasons(p, "simulated", c.SimulatedOnly)
	}
	printPrograms(p, r)
	for _, limit := range r.Limits {
		p.f("  note: %s\n", report.Printable(limit))
	}
}

// presentReasons prints what explains the pages of one set alone.
func presentReasons(p *printer, set string, rs []session.PresentReason) {
	if len(rs) == 0 {
		return
	}
	var s []string
	for _, r := range rs {
		s = append(s, fmt.Sprintf("%d %s", r.Pages, r.Why))
	}
	p.f("                    %s only: %s\n", set, strings.Join(s, "; "))
}

// printPrograms prints a table of the programs, recorded beside simulated. Columns
// that are zero for all are left out.
func printPrograms(p *printer, r *session.Recording) {
	rows := report.Rows{Header: []string{"PROGRAM", "EXECS", "TOUCHES", "RECORDED", "MINOR", "MAJOR", "COW", "NONE", "HITS", "PREFAULTED",
		"ASSEMBLED", "SHARED", "SPLIT", "CRASHED"}, Left: 1, Rare: true}
	add := func(name string, q *session.Program) {
		rows.Add(name, q.Execs, int(q.Recorded.References), int(q.Recorded.Faults()), q.Simulated.Minor, q.Simulated.Major, q.Simulated.CoW,
			int(q.Untroubled), q.CacheHits, q.Prefaulted, q.Assembled, q.Shared, q.Split, q.Crashed)
	}
	for i := range r.Programs[:min(len(r.Programs), mostPrograms)] {
		add(filepath.Base(programName(r.Programs[i].Path)), &r.Programs[i])
	}
	if n := len(r.Programs) - mostPrograms; n > 0 {
		p.f("  the first %d of %d programs (-o json and -o csv --by program have all)\n", mostPrograms, len(r.Programs))
	}
	if len(r.Programs) > 1 {
		add("all", &r.Total)
	}
	if len(rows.Rows) == 0 {
		return
	}
	var b strings.Builder
	if p.err == nil {
		p.err = rows.Write(&b)
	}
	printIndented(p, b.String())
}
