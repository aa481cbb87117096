package main

import (
	"fmt"
	"strings"

	"vmsim/internal/explain"
	"vmsim/internal/report"
	"vmsim/internal/session"
	"vmsim/mem"
)

// one writes a file's segments and windows, and what is to say about them.
func (e *explaining) one(s session.Source, format report.Format) error {
	r, _, err := e.open(s.Path)
	if err != nil {
		return withPath(s.Path, err)
	}
	w := report.NewWriter(e.cmd.OutOrStdout(), format, e.color, report.Doc{Name: "vmsim explain", List: "parts", Columns: explainPartColumns})
	title := fmt.Sprintf("%s: %s, %s, %s; %s", s.Path, kindOf(r), report.Count(len(r.Segments), "segment"), report.Bytes(r.Size), baseWords(r))
	for _, g := range r.Segments {
		if err := w.Add(segmentItem(s.Path, title, g)); err != nil {
			return err
		}
	}
	for _, run := range r.Windows {
		if err := w.Add(windowItem(s.Path, title, run)); err != nil {
			return err
		}
	}
	return w.Close(report.Summary{Object: explainToJSON(s.Path, r), Lines: e.advice(r)})
}

// baseWords says at what base the windows are, and whether that is every run's.
func baseWords(r *explain.Report) string {
	base := mem.VirtAddr(r.Image.Segments[0].Vaddr + r.Bias).PageDown()
	switch r.Placement {
	case explain.Linked:
		return "at the addresses that it was linked for"
	case explain.Given:
		return fmt.Sprintf("at the base %v", base)
	case explain.ByAlign:
		return fmt.Sprintf("its base is a multiple of 2 MiB (p_align 0x%x), here %v", r.Align, base)
	case explain.ByMmap:
		return fmt.Sprintf("its base is mmap's choice, here %v", base)
	}
	return fmt.Sprintf("its base may be any page (p_align 0x%x), here %v", r.Align, base)
}

var explainPartColumns = []report.Column{
	{Key: "part", Title: "PART", Text: true},
	{Key: "start", Title: "START", Text: true},
	{Key: "end", Title: "END", Text: true},
	{Key: "windows", Title: "WINDOWS"},
	{Key: "prot", Title: "PROT", Text: true},
	{Key: "file_offset", Title: "OFFSET", Text: true},
	{Key: "file_bytes", Title: "IN FILE"},
	{Key: "kevlar", Title: "KEVLAR", Text: true},
	{Key: "linux", Title: "LINUX", Text: true},
	{Key: "aligned", Title: "ALIGNED", Text: true},
	{Key: "remap", Title: "REMAP", Text: true},
	{Key: "kevlar_reason"}, {Key: "linux_reason"}, {Key: "aligned_reason"}, {Key: "remap_reason"},
}

func segmentItem(path, title string, s explain.SegmentReport) report.Item {
	name := fmt.Sprintf("segment %d", s.Index)
	cells := []any{name, s.Range.Start.String(), s.Range.End.String(), nil, s.Prot.String(), hexOf(s.Offset), report.Size(s.Filesz)}
	return report.Item{
		Section: title,
		Cells:   append(cells, verdictCells(s.Verdicts)...),
		Object: segmentJSON{"segment", s.Index, s.Range.Start.String(), s.Range.End.String(), s.Prot.String(), hexOf(s.Offset),
			s.Filesz, s.Memsz, hexOf(s.Align), forRules(func(rule explain.Rule) verdictJSON {
				return verdictToJSON(s.Verdicts[rule], s.Windows[rule])
			})},
		Notes: whyLines(fmt.Sprintf("%s, %s", name, s.Prot), s.Verdicts, explain.Rules[explain.Linux:]), // kevlar goes by windows
		Case:  report.Case{Class: path, Name: name},
	}
}

func windowItem(path, title string, r explain.Run) report.Item {
	at := r.Range()
	name := fmt.Sprintf("window %v", r.Base)
	heading := name
	if r.N > 1 {
		heading = fmt.Sprintf("%d windows %v", r.N, at)
	}
	cells := []any{"window", at.Start.String(), at.End.String(), int(r.N), nil, nil, nil}
	return report.Item{
		Section: title,
		Cells:   append(cells, verdictCells(r.Verdicts)...),
		Object: windowJSON{"window", r.Base.String(), r.N, r.Segments, r.Cached, forRules(func(rule explain.Rule) verdictJSON {
			return verdictToJSON(r.Verdicts[rule], 0)
		})},
		Notes: whyLines(heading, r.Verdicts, explain.Rules[:]),
		Case:  report.Case{Class: path, Name: name},
	}
}

func verdictCells(v [4]explain.Verdict) []any {
	var answers, words []any
	for _, rule := range explain.Rules {
		answers = append(answers, answerMark(v[rule].Answer))
		words = append(words, v[rule].Reason())
	}
	return append(answers, words...)
}

// whyLines are the lines that say why: rules with the same reason together.
func whyLines(heading string, v [4]explain.Verdict, rules []explain.Rule) []string {
	lines := []string{heading}
	said := map[string]bool{}
	for _, rule := range rules {
		why := v[rule].Reason()
		key := v[rule].Answer.String() + why
		if said[key] {
			continue
		}
		said[key] = true
		var names []string
		for _, other := range rules {
			if other >= rule && v[other].Answer == v[rule].Answer && v[other].Reason() == why {
				names = append(names, other.String())
			}
		}
		line := fmt.Sprintf("  %s: %s", strings.Join(names, ", "), v[rule].Answer)
		if why != "" {
			line += ": " + why
		}
		lines = append(lines, report.Printable(line))
	}
	return lines
}

// advice is what stands below the table: by base, what would change it, what it
// would bring, and case A.
func (e *explaining) advice(r *explain.Report) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("text %s, read-only data %s", report.Bytes(r.Text), report.Bytes(r.ReadOnly))
	for _, rule := range explain.Rules {
		h := r.ByBase[rule]
		if h.Windows.Max == 0 {
			add("  %-8s no window huge%s", rule, atAnyBase(r, rule))
			continue
		}
		add("  %-8s %s: text %s, read-only data %s", rule, h, bytesOf(h.Text), bytesOf(h.ReadOnly))
	}
	add("")
	add("what would change it")
	lines = append(lines, changeLines(r, e.opt)...)
	add("")
	add("what it would bring, in segments that are not writable")
	add("  as it is, under rule linux at this base: %s", gainWords(r.Gain))
	if f, ok := r.Best(); ok {
		add("  %s: %s", f.Flags, gainWords(f.Gain()))
	}
	add("")
	add("case A: %s, %s", report.Count(r.Boundary, "boundary page"), report.Count(r.Shared, "page")+" of the file in two segments")
	if len(r.Risks) == 0 {
		add("  neither bug shows at threshold %d", e.opt.Threshold)
	}
	for _, k := range r.Risks {
		add("  %s", k)
	}
	return lines
}

// atAnyBase says that the base was looked at too.
func atAnyBase(r *explain.Report, rule explain.Rule) string {
	if r.ByBase[rule].Of > 1 {
		return ", whatever the base"
	}
	return ""
}

func bytesOf(s explain.Span) string {
	if s.Min == s.Max {
		return report.Bytes(s.Max)
	}
	return report.Bytes(s.Min) + " to " + report.Bytes(s.Max)
}

// changeLines are the lines below "what would change it".
func changeLines(r *explain.Report, opt explain.Options) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf("  "+format, args...)) }
	least := mem.SubPages + 1
	for _, w := range r.Windows {
		if w.Cached > 0 && w.Cached < opt.Threshold && w.Verdicts[explain.Kevlar].Answer == explain.No {
			least = min(least, opt.Threshold-w.Cached)
		}
	}
	if least <= mem.SubPages {
		add("kevlar: --threshold %d or less", opt.Threshold-least)
	}
	if ed := r.Edit; ed != nil {
		add("p_align of segment %d from 0x%x to 0x%x, 8 bytes at 0x%x of the file: text %s, read-only data %s; the size stays",
			ed.Segment, ed.From, ed.To, ed.Offset, report.Bytes(ed.Text), report.Bytes(ed.ReadOnly))
	}
	if len(r.Fixes) == 0 {
		add("linking anew: not computed, the segments are not in the order of GNU ld or LLD")
	}
	now, nothing := r.ByBase[explain.Aligned], true
	for _, f := range r.Fixes {
		if f.Text+f.ReadOnly <= now.Text.Max+now.ReadOnly.Max {
			continue
		}
		if !f.Script {
			nothing = false
		}
		how := f.Flags
		if f.Script {
			how += " and a linker script with `. = ALIGN(0x200000);` at the end of the text"
		}
		add("%s (%s): text %s, read-only data %s; the file %s", how, f.Linker, report.Bytes(f.Text), report.Bytes(f.ReadOnly), growthWords(f))
	}
	if len(r.Fixes) > 0 && nothing {
		add("other linker flags make nothing more huge")
	}
	add("objcopy cannot: addresses and offsets are fixed when a file is linked")
	return lines
}

// growthWords says what a fix does to the size of the file.
func growthWords(f explain.Fix) string {
	then := fmt.Sprintf("to %s (%d bytes)", report.Bytes(f.FileSize), f.FileSize)
	if f.Cost == 0 {
		return "keeps its size"
	}
	if f.Cost < 0 {
		return fmt.Sprintf("shrinks by %s %s", report.Bytes(uint64(-f.Cost)), then)
	}
	return fmt.Sprintf("grows by %s %s", report.Bytes(uint64(f.Cost)), then)
}

// gainWords says what huge pages save.
func gainWords(g explain.Gain) string {
	if g.Huge == 0 {
		return fmt.Sprintf("nothing huge, %d pages of 4 KiB", g.Pages)
	}
	return fmt.Sprintf("%d pages of 4 KiB become %s and %d pages, TLB entries %d -> %d; a start-up set of %s reads %s more",
		g.Pages, report.Count(int(g.Huge), "huge page"), g.Rest, g.Pages, g.Entries(), report.Count(int(g.Startup), "page"), report.Bytes(g.Extra))
}
