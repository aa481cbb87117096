package session

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"vmsim/internal/core"
	"vmsim/internal/elfhead"
	"vmsim/mem"
	"vmsim/verify"
)

// CoreInfo is what a core says of its process.
type CoreInfo struct {
	PID    int
	Name   string
	Signal int    // 0: none
	Cut    uint64 // bytes that are missing at the end of the core file
}

// ErrNoFiles is returned for a core that does not list the mapped files.
var ErrNoFiles = errors.New("has no NT_FILE note: it does not say which files were mapped")

// Core compares the pages of files that a core holds with the files of this
// machine, and gives the results to each, by ascending address.
//
// A core has no page tables. A page that differs is taken for written where the
// file's headers permit writing, and is a finding where they do not. A file that
// is not the one that was mapped, by its build id or else by its headers, is
// named and not compared; where neither is in the core, a difference in a file
// that was written after the core is no finding.
//
// Errors are those of opening and parsing, ErrNoFiles, or ErrStopped.
func (v *Foreign) Core(path string, each func(MappingResult)) (CoreInfo, error) {
	f, err := mem.OpenFile(path)
	if err != nil {
		return CoreInfo{}, err
	}
	defer f.Close()
	c, err := core.Parse(f, f.Size())
	if err != nil {
		return CoreInfo{}, fmt.Errorf("%s: %w", path, err)
	}
	info := CoreInfo{PID: c.PID, Name: c.Name, Signal: c.Signal, Cut: c.Cut}
	if !c.HasFiles {
		return info, fmt.Errorf("%s: %w", path, ErrNoFiles)
	}
	k := &coreCheck{v: v, c: c}
	if fi, err := os.Stat(path); err == nil {
		k.when = fi.ModTime()
	}
	defer k.close()
	before, failed := v.witness.Tally(), 0
	for _, m := range c.Files {
		if v.stop() {
			return info, ErrStopped
		}
		r, err := k.mapping(m)
		if err != nil {
			return info, fmt.Errorf("%s: %w", path, err)
		}
		r.finish()
		failed += r.Findings
		each(r)
	}
	v.witness.Done(c.PID, v.witness.Tally().Pages-before.Pages-failed, failed)
	return info, nil
}

// coreCheck is one call of Core.
type coreCheck struct {
	v    *Foreign
	c    *core.Core
	when time.Time // the core was written

	last   string // path of the mapping before
	file   *mem.OSFile
	why    error // why there is no file
	object *object
	time   time.Time // the file was written
}

func (k *coreCheck) close() {
	k.object.close()
	if k.file != nil {
		k.file.Close()
	}
}

// open opens the file of m, or keeps that of the mapping before.
func (k *coreCheck) open(m core.Mapping) {
	if k.last == m.Path && (k.file != nil || k.why != nil) {
		return
	}
	k.close()
	k.last, k.object, k.why = m.Path, nil, nil
	if k.file, k.why = mem.OpenFile(m.Path); k.why != nil {
		k.file = nil
		return
	}
	if fi, err := os.Stat(m.Path); err == nil {
		k.time = fi.ModTime()
	}
	var spots []spot
	for _, o := range k.c.Files {
		if o.Path == m.Path {
			spots = append(spots, spot{o.Range, o.Off})
		}
	}
	k.object = newObject(k.file, spots)
}

// mapping looks at one mapping.
func (k *coreCheck) mapping(m core.Mapping) (MappingResult, error) {
	r := MappingResult{PID: k.c.PID, Process: k.c.Name, Range: m.Range, Off: m.Off, Path: m.Path, Kind: "file"}
	if prot, ok := k.c.Prot(m.Start); ok {
		r.Perms = prot.String()
	}
	k.hold(&r, m)
	k.open(m)
	if k.file == nil {
		r.Verdict, r.Reason = Skipped, Reason(k.why)
		r.Kind = "missing"
		if path, ok := strings.CutSuffix(m.Path, " (deleted)"); ok {
			r.Path, r.Kind, r.Reason = path, "deleted", "deleted before the core was written"
		} else if !errors.Is(k.why, os.ErrNotExist) {
			r.Kind = "unknown"
		}
		return r, nil
	}
	same, why := k.same(m)
	if why != "" {
		r.Verdict, r.Kind, r.Reason = Skipped, "replaced", why
		return r, nil
	}
	if !same && r.Resident > 0 && k.time.After(k.when) {
		r.remark("the file was written after the core: differences are no findings")
	}
	return r, k.compare(&r, m, same || !k.time.After(k.when))
}

// hold counts what the core has of m.
func (k *coreCheck) hold(r *MappingResult, m core.Mapping) {
	first := false
	for part := range k.c.Held(m.Range) {
		r.Resident += int(part.Len() / mem.PageSize)
		first = first || part.Start == m.Start
	}
	switch {
	case r.Resident == 0:
		r.Held = "nothing"
	case uint64(r.Resident) == m.Len()/mem.PageSize:
		r.Held = "whole"
	case r.Resident == 1 && first:
		r.Held = "first page"
	default:
		r.Held = "part"
	}
}

// same tells whether the file on disk is the one that was mapped: true if the
// core proves it, false if it does not tell. why says that it is another.
func (k *coreCheck) same(m core.Mapping) (proved bool, why string) {
	page := k.firstPage(m)
	if page == nil {
		return false, ""
	}
	mapped, err := elfhead.Read(bytes.NewReader(page), int64(len(page)))
	if err != nil {
		return false, ""
	}
	if k.object.head == nil {
		return false, "the core has an ELF file there, the file is none by now"
	}
	was, is := mapped.BuildID(bytes.NewReader(page)), k.object.buildID
	switch {
	case was != "" && is != "" && was != is:
		return false, fmt.Sprintf("build id %s, in the core %s", is, was)
	case was != "" && was == is:
		return true, ""
	}
	// No build id in one of them: the headers, up to the end of the table.
	head := make([]byte, headSize(page))
	if n, _ := k.file.ReadAt(head, 0); n < len(head) || !bytes.Equal(head, page[:len(head)]) {
		return false, "its ELF headers are not those in the core"
	}
	return false, ""
}

// headSize returns how many bytes of a first page are ELF header: 64, or 52 in
// the 32-bit class. The program headers behind it give no more away.
func headSize(page []byte) int {
	if page[4] == 1 {
		return 52
	}
	return 64
}

// firstPage returns the first page of the file, as the core has it: at the
// highest mapping of it from offset 0 on that does not lie above m. It is nil
// where the core has none.
func (k *coreCheck) firstPage(m core.Mapping) []byte {
	at := -1
	for i, o := range k.c.Files {
		if o.Path == m.Path && o.Off == 0 && o.Start <= m.Start {
			at = i
		}
	}
	if at < 0 {
		return nil
	}
	page := make([]byte, mem.PageSize)
	if k.c.Read(k.c.Files[at].Start, page) != nil || string(page[:4]) != "\x7fELF" {
		return nil
	}
	return page
}

// compare compares what the core holds of m. sure: a difference in memory that
// is not writable is a finding.
func (k *coreCheck) compare(r *MappingResult, m core.Mapping, sure bool) error {
	vm := &verify.Mapping{Range: m.Range, File: k.file, Off: m.Off}
	for part := range k.c.Held(m.Range) {
		for rest := part.Range; !rest.Empty(); {
			if k.v.stop() {
				return ErrStopped
			}
			n := int(min(rest.Len(), mem.HugeSize))
			got := k.v.got[:n]
			if err := k.c.Read(rest.Start, got); err != nil {
				return err
			}
			differ := 0
			err := k.v.witness.Compare(vm, rest.Start, got, k.v.want[:n], func(addr mem.VirtAddr, got, want []byte, beyond bool) {
				if bytes.Equal(got, want) { // beyond the end: the kernel leaves a hole
					return
				}
				differ++
				k.differs(r, vm, addr, got, want, sure && !beyond)
			})
			if err != nil { // of the file
				r.Unread += n / mem.PageSize
				r.remark(Reason(err))
			} else {
				r.Verified += n/mem.PageSize - differ
			}
			rest.Start += mem.VirtAddr(n)
		}
	}
	return nil
}

// differs judges a page that differs.
func (k *coreCheck) differs(r *MappingResult, vm *verify.Mapping, addr mem.VirtAddr, got, want []byte, sure bool) {
	kind := ""
	switch k.object.right(spot{vm.Range, vm.Off}, vm.Offset(addr)) {
	case text:
		kind = modified(got, want, true)
	case readOnly:
		kind = modified(got, want, false)
	case writable: // written; that clean and dirty are not told apart goes for all cores
	case textRel:
		r.remark("the file asks for relocations in its text (DT_TEXTREL)")
	case noELF:
		r.remark("no ELF file: whether it was written in memory or on disk since, nothing tells")
	case asData:
		r.remark("not mapped as its program headers say: taken as data")
	}
	if kind == "" || !sure {
		r.written(vm, addr, got, want)
		return
	}
	k.v.find(r, k.object, vm, Finding{Kind: kind, Page: addr}, got, want)
}
