package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"vmsim/internal/event"
	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/mem"
)

// mappingJSON is a mapping in json and jsonl. Counts are of pages of 4 KiB.
type mappingJSON struct {
	Type         string        `json:"type"`
	Core         string        `json:"core,omitempty"`
	PID          int           `json:"pid"`
	Process      string        `json:"process"`
	Start        event.Addr    `json:"start"`
	End          event.Addr    `json:"end"`
	Perms        string        `json:"perms"`
	Offset       event.Addr    `json:"offset"`
	File         string        `json:"file"`
	Kind         string        `json:"kind"`
	Verdict      string        `json:"verdict"`
	Reason       string        `json:"reason"`
	Remarks      []string      `json:"remarks,omitempty"`
	Held         string        `json:"held,omitempty"`
	Resident     int           `json:"resident"`
	Verified     int           `json:"verified"`
	Private      int           `json:"private"`
	PrivateEqual int           `json:"private_equal"`
	Differ       int           `json:"written"`
	Swapped      int           `json:"swapped"`
	Unread       int           `json:"unreadable"`
	Unstable     int           `json:"unstable"`
	Findings     int           `json:"findings"`
	Found        []findingJSON `json:"finding_list,omitempty"`
	Written      int           `json:"written_ranges"`
	WrittenBytes uint64        `json:"written_bytes"`
	Ranges       []rangeJSON   `json:"written_list,omitempty"`
}

// findingJSON is a page with a finding.
type findingJSON struct {
	Kind    string      `json:"kind"`
	Page    event.Addr  `json:"page"`
	Private bool        `json:"private"`
	Symbol  string      `json:"symbol"`
	Bytes   int         `json:"bytes"`
	Ranges  []rangeJSON `json:"ranges"`
}

// rangeJSON is a range of bytes that differ. Expected and actual are hex digits,
// of the first 16 bytes at most, of findings alone.
type rangeJSON struct {
	Address  event.Addr `json:"address"`
	Offset   event.Addr `json:"file_offset"`
	Length   int        `json:"length"`
	Expected string     `json:"expected,omitempty"`
	Actual   string     `json:"actual,omitempty"`
	Symbol   string     `json:"symbol,omitempty"`
}

// passedJSON is a process that could not be looked at, or not to its end.
type passedJSON struct {
	Type    string `json:"type"`
	PID     int    `json:"pid"`
	Process string `json:"process"`
	Verdict string `json:"verdict"`
	Reason  string `json:"reason"`
}

// foreignSum is the sum of all mappings.
type foreignSum struct {
	Type          string `json:"type"`
	Processes     int    `json:"processes"`
	KernelThreads int    `json:"kernel_threads"`
	Ended         int    `json:"ended"`
	NotAllowed    int    `json:"not_allowed"`
	Mappings      int    `json:"mappings"`
	Skipped       int    `json:"skipped"`
	Resident      int    `json:"resident"`
	Verified      int    `json:"verified"`
	Private       int    `json:"private"`
	PrivateEqual  int    `json:"private_equal"`
	Differ        int    `json:"written"`
	WrittenBytes  uint64 `json:"written_bytes"`
	Findings      int    `json:"findings"`
	BytesCompared uint64 `json:"bytes_compared"`
	Partial       bool   `json:"partial"`
}

// foreignReport writes mappings.
type foreignReport struct {
	out    *report.Writer
	isCore bool
	all    bool // every process: those that cannot be looked at are passed over
	sum    foreignSum
	words  []string // one line a core
	err    error
}

func newForeignReport(w io.Writer, format report.Format, color, isCore, all bool) *foreignReport {
	left := func(key, title string) report.Column { return report.Column{Key: key, Title: title, Text: true} }
	fig := func(key, title string) report.Column { return report.Column{Key: key, Title: title} }
	columns := []report.Column{{Key: "pid"}, left("process", ""), left("address", "ADDRESS"), left("perms", "PERM"),
		left("verdict", "VERDICT"), fig("resident", "RESIDENT"), fig("verified", "VERIFIED"), fig("private", "PRIVATE"),
		fig("written", "WRITTEN"), fig("findings", "FINDINGS"), left("offset", "OFFSET"), left("kind", "KIND"),
		left("file", "FILE"), left("reason", "")}
	if isCore {
		columns[5].Title = "PAGES HELD"
		columns[7] = left("held", "HELD")
	}
	return &foreignReport{isCore: isCore, all: all, out: report.NewWriter(w, format, color,
		report.Doc{Name: "vmsim verify", List: "mappings", Columns: columns})}
}

func (f *foreignReport) write(it report.Item) {
	if f.err == nil {
		f.err = f.out.Add(it)
	}
}

// section is the title above the mappings of a process or core.
func section(core string, pid int, name string) string {
	title := fmt.Sprintf("process %d %s", pid, name)
	if core != "" {
		title = core + ": " + title
	}
	return title
}

// add takes a mapping.
func (f *foreignReport) add(core string, r session.MappingResult) {
	s := &f.sum
	s.Mappings++
	if r.Verdict == session.Skipped {
		s.Skipped++
	}
	s.Resident += r.Resident
	s.Verified += r.Verified
	s.Private += r.Private
	s.PrivateEqual += r.PrivateEqual
	s.Differ += r.Differ
	s.WrittenBytes += r.WrittenBytes
	s.Findings += r.Findings
	address := fmt.Sprintf("%x-%x", uint64(r.Start), uint64(r.End))
	private := any(r.Private)
	if f.isCore {
		private = r.Held
	}
	it := report.Item{
		Section: section(core, r.PID, r.Process),
		Cells: []any{r.PID, r.Process, address, r.Perms, mark(r.Verdict), r.Resident,
			r.Verified, private, r.Differ, r.Findings, fmt.Sprintf("%x", r.Off), r.Kind, r.Path, r.Reason},
		Object: mappingObject(core, r),
		Notes:  mappingNotes(r, !f.all),
		Case:   report.Case{Class: section(core, r.PID, r.Process), Name: address + " " + r.Path},
	}
	switch r.Verdict {
	case session.Fail:
		it.Case.Failure = report.Count(r.Findings, "finding")
		it.Case.Body = strings.Join(it.Notes, "\n")
	case session.Skipped:
		it.Case.Skipped = r.Reason
	case session.Absent:
		it.Case.Skipped = "no page to compare"
	}
	f.write(it)
}

func mappingObject(core string, r session.MappingResult) mappingJSON {
	j := mappingJSON{Type: "mapping", Core: core, PID: r.PID, Process: r.Process, Start: event.Addr(r.Start), End: event.Addr(r.End),
		Perms: r.Perms, Offset: event.Addr(r.Off), File: r.Path, Kind: r.Kind, Verdict: string(r.Verdict), Reason: r.Reason,
		Remarks: r.Remarks, Held: r.Held, Resident: r.Resident, Verified: r.Verified, Private: r.Private, PrivateEqual: r.PrivateEqual,
		Differ: r.Differ, Swapped: r.Swapped, Unread: r.Unread, Unstable: r.Unstable, Findings: r.Findings,
		Written: r.Written, WrittenBytes: r.WrittenBytes, Ranges: rangesJSON(r.Stretches)}
	for _, x := range r.Found {
		j.Found = append(j.Found, findingJSON{Kind: x.Kind, Page: event.Addr(x.Page), Private: x.Private, Symbol: symbolOf(x),
			Bytes: x.Bytes, Ranges: rangesJSON(x.At)})
	}
	return j
}

func rangesJSON(at []session.Stretch) (out []rangeJSON) {
	for _, s := range at {
		out = append(out, rangeJSON{event.Addr(s.Addr), event.Addr(s.Off), s.Len, fmt.Sprintf("%x", s.Want), fmt.Sprintf("%x", s.Got), s.Symbol})
	}
	return out
}

// symbolOf returns the symbol at the first byte of a finding.
func symbolOf(x session.Finding) string {
	if len(x.At) == 0 {
		return ""
	}
	return x.At[0].Symbol
}

// What a table shows of a mapping; json has more.
const (
	mostFindings = 10
	mostRanges   = 3
)

// mappingNotes are the lines below the table; ranges: with what was written.
func mappingNotes(r session.MappingResult, ranges bool) (notes []string) {
	note := func(format string, a ...any) { notes = append(notes, fmt.Sprintf(format, a...)) }
	where := fmt.Sprintf("%x-%x %s", uint64(r.Start), uint64(r.End), report.Printable(r.Path))
	if r.Verdict == session.Skipped {
		note("%s: not compared: %s", where, report.Printable(r.Reason))
	}
	for i, x := range r.Found {
		if i == mostFindings {
			break
		}
		notes = append(notes, findingNotes(r, x)...)
	}
	if more := r.Findings - min(len(r.Found), mostFindings); more > 0 {
		note("%s: ... and %s more with findings", where, report.Count(more, "page"))
	}
	if r.Written > 0 && ranges {
		var words []string
		for _, s := range r.Stretches[:min(len(r.Stretches), mostRanges)] {
			words = append(words, fmt.Sprintf("%v+%d (file offset 0x%x)", s.Addr, s.Len, s.Off))
		}
		if more := r.Written - len(words); more > 0 {
			words = append(words, fmt.Sprintf("... and %d more", more))
		}
		note("%s: written: %s in %s: %s", where, report.Count(int(r.WrittenBytes), "byte"), report.Count(r.Written, "range"), strings.Join(words, ", "))
	}
	for _, line := range r.Remarks {
		note("%s: %s", where, report.Printable(line))
	}
	for _, c := range []struct {
		n    int
		what string
	}{{r.Swapped, "swapped out: not looked at"}, {r.Unread, "cannot be read"}, {r.Unstable, "changed while it was looked at"}} {
		if c.n > 0 {
			note("%s: %s %s", where, report.Count(c.n, "page"), c.what)
		}
	}
	return notes
}

// findingNotes are the lines of a finding: what and where, then each range of
// bytes that differ.
func findingNotes(r session.MappingResult, x session.Finding) (notes []string) {
	whose := "clean page"
	switch {
	case x.Private:
		whose = "private page"
	case r.Held != "":
		whose = "page"
	}
	line := fmt.Sprintf("%s: %s %v of %s", strings.ToUpper(x.Kind), whose, x.Page, report.Printable(r.Path))
	if s := symbolOf(x); s != "" {
		line += ", in " + report.Printable(s)
	}
	notes = append(notes, line)
	for i, s := range x.At {
		if i == mostRanges {
			notes = append(notes, fmt.Sprintf("    ... %s differ in all", report.Count(x.Bytes, "byte")))
			break
		}
		notes = append(notes, "    "+stretchWords(s))
	}
	return notes
}

// stretchWords says where a range lies and what it holds: 3 bytes at 0x401136
// (file offset 0x1136, work+0x4): 554889, in memory cc4889.
func stretchWords(s session.Stretch) string {
	where := fmt.Sprintf("file offset 0x%x", s.Off)
	if s.Symbol != "" {
		where += ", " + report.Printable(s.Symbol)
	}
	more := ""
	if s.Len > len(s.Want) {
		more = "..."
	}
	return fmt.Sprintf("%s at %v (%s): %x%s in the file, %x%s in memory", report.Count(s.Len, "byte"), s.Addr, where, s.Want, more, s.Got, more)
}

// process takes how the look at a process ended.
func (f *foreignReport) process(pid int, name string, err error) {
	switch {
	case err == nil:
		f.sum.Processes++
		return
	case errors.Is(err, session.ErrStopped):
		return
	case f.all && errors.Is(err, session.ErrKernelThread):
		f.sum.KernelThreads++
		return
	case f.all && errors.Is(err, session.ErrGone):
		f.sum.Ended++
		return
	case errors.Is(err, os.ErrPermission):
		f.sum.NotAllowed++
	}
	why := plain(err)
	var it report.Item
	it.Object = passedJSON{"process", pid, name, string(session.Skipped), why}
	it.Cells = []any{pid, name, nil, nil, report.Mark{Text: string(session.Skipped), Tone: report.Weak}, nil, nil, nil, nil, nil, nil, nil, nil, why}
	it.Case = report.Case{Class: section("", pid, name), Name: "process", Skipped: why}
	if f.all { // else it is told on standard error
		it.Notes = []string{fmt.Sprintf("process %d: %s", pid, report.Printable(why))}
	}
	it.Section = section("", pid, name)
	f.write(it)
}

// core takes how the look at a core ended.
func (f *foreignReport) core(path string, info session.CoreInfo, err error) {
	if err != nil {
		return
	}
	f.sum.Processes++
	line := fmt.Sprintf("%s: process %d %s, %s", report.Printable(path), info.PID, report.Printable(info.Name), signalWords(info.Signal))
	if info.Cut > 0 {
		line += fmt.Sprintf("; the core is cut off, %s are missing", report.Bytes(info.Cut))
	}
	f.words = append(f.words, line)
}

// close writes the sums.
func (f *foreignReport) close(t session.Tally, partial bool) error {
	if f.err != nil {
		return f.err
	}
	s := &f.sum
	s.Type, s.BytesCompared, s.Partial = "summary", t.BytesCompared, partial
	line := fmt.Sprintf("%s, %s of files: %s, %d verified, %d private, %d written; %s compared, %s",
		report.Count(s.Processes, "process"), report.Count(s.Mappings, "mapping"), report.Count(s.Resident, "resident page"),
		s.Verified, s.Private, s.Differ, report.Bytes(s.BytesCompared), report.Count(s.Findings, "finding"))
	if f.isCore {
		line = fmt.Sprintf("%s, %s of files: %s, %d verified, %d written; %s compared, %s",
			report.Count(s.Processes, "core"), report.Count(s.Mappings, "mapping"), report.Count(s.Resident, "page")+" held",
			s.Verified, s.Differ, report.Bytes(s.BytesCompared), report.Count(s.Findings, "finding"))
	}
	lines := append(f.words, line)
	if f.isCore && s.Differ > 0 {
		lines = append(lines, "written: a core does not tell clean pages from dirty ones; these differ, in segments that may be written")
	}
	if f.all {
		lines = append(lines, fmt.Sprintf("passed over: %s, %d ended meanwhile, %d not allowed",
			report.Count(s.KernelThreads, "kernel thread"), s.Ended, s.NotAllowed))
	}
	if partial {
		lines = append(lines, "interrupted: the result is partial")
	}
	return f.out.Close(report.Summary{Object: s, Lines: lines})
}

// windowReport writes the events of a dump: a row for each sub-page that fails,
// then the count.
type windowReport struct {
	out  *report.Writer
	name string // DUMP@ADDR
	base mem.VirtAddr
	end  event.PageVerifyOK
	any  bool
	err  error
}

// typed gives an event its type, as the event file does.
type typedFail struct {
	Type string `json:"type"`
	event.HugePageVerifyFail
}

type typedEnd struct {
	Type string `json:"type"`
	event.PageVerifyOK
}

func newWindowReport(w io.Writer, format report.Format, d session.WindowDump) *windowReport {
	doc := report.Doc{Name: "vmsim verify", List: "events", Columns: []report.Column{{Key: "type", Text: true},
		{Key: "huge_base", Text: true}, {Key: "sub_page", Title: "SUB-PAGE"}, {Key: "address", Title: "ADDRESS"},
		{Key: "first_diff", Title: "FIRST DIFF"}, {Key: "expected", Title: "EXPECTED"}, {Key: "actual", Title: "ACTUAL"},
		{Key: "vma_start", Title: "VMA"}, {Key: "vma_type", Title: "TYPE", Text: true}}}
	return &windowReport{out: report.NewWriter(w, format, false, doc), name: fmt.Sprintf("%s@%v", d.Dump, d.Addr), base: d.Addr}
}

func (o *windowReport) emit(e event.Event) {
	switch e := e.(type) {
	case event.PageVerifyOK:
		o.end = e
	case event.HugePageVerifyFail:
		o.any = true
		page := o.base + mem.VirtAddr(e.SubPage)*mem.PageSize
		o.add(report.Item{
			Cells: []any{e.Type(), o.base.String(), e.SubPage, page.String(), e.FirstDiff, fmt.Sprintf("0x%02x", uint8(e.Expected)),
				fmt.Sprintf("0x%02x", uint8(e.Actual)), mem.VirtAddr(e.VMAStart).String(), e.VMAType},
			Object: typedFail{e.Type(), e},
			Notes:  []string{e.String()},
			Case:   report.Case{Class: o.name, Name: fmt.Sprintf("sub-page %d", e.SubPage), Failure: e.String()},
		})
	}
}

func (o *windowReport) add(it report.Item) {
	if o.err == nil {
		o.err = o.out.Add(it)
	}
}

func (o *windowReport) close() error {
	if o.err != nil {
		return o.err
	}
	return o.out.Close(report.Summary{
		Object: typedEnd{o.end.Type(), o.end},
		Lines:  []string{fmt.Sprintf("%s: %d sub-pages verified, %d failed", report.Printable(o.name), o.end.Verified, o.end.Failed)},
	})
}
