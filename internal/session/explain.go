package session

import (
	"fmt"

	"vmsim/internal/event"
	"vmsim/mem"
)

// Words says what an event means, in a line that a student understands; it is
// empty for events that need no explanation.
func Words(e event.Event) string {
	switch e := e.(type) {
	case event.ProcessFork:
		return fmt.Sprintf("fork: process %d has a child, %d; both share all pages until one writes", e.PID, e.Child)
	case event.ProcessExec:
		return fmt.Sprintf("exec: process %d runs %s from %s on; %d cached pages mapped at once, %d huge windows", e.PID,
			e.File, hex(e.Entry), e.Prefault, e.HugePages)
	case event.ProcessExit:
		return fmt.Sprintf("exit: process %d (%s)", e.PID, e.Reason)
	case event.PageFault:
		return faultWords(e)
	case event.HugePageAssembled:
		return fmt.Sprintf("huge page: window %s of %s put together: %d pages copied from the page cache, %d read from the file, %d zero",
			hex(e.HugeBase), e.File, e.FromCache, e.FromFile, e.Zero)
	case event.HugePageSplit:
		return fmt.Sprintf("huge page: window %s split into 512 pages of 4 KiB because of a %s", hex(e.HugeBase), e.Reason)
	case event.Segfault:
		if e.Code == "SEGV_MAPERR" {
			return fmt.Sprintf("segfault: %s of %s, where nothing is mapped (SEGV_MAPERR)", e.Access, hex(e.VAddr))
		}
		return fmt.Sprintf("segfault: %s of %s, which its area forbids (SEGV_ACCERR)", e.Access, hex(e.VAddr))
	case event.OOMKill:
		return fmt.Sprintf("out of memory: process %d needed a frame at %s and none could be freed; killed with %d pages", e.PID,
			hex(e.VAddr), e.Resident)
	case fmt.Stringer: // a failed verification
		return e.String()
	}
	return ""
}

func hex(a event.Addr) string { return fmt.Sprintf("0x%x", uint64(a)) }

// faultWords: what was accessed, what kind of fault it was, where the page
// belongs, and what was done.
func faultWords(e event.PageFault) string {
	page := mem.VirtAddr(e.VAddr).PageDown()
	switch e.Resolved {
	case "segv", "oom":
		return fmt.Sprintf("%s of %s: no resolution (%s)", e.Reason, hex(e.VAddr), e.Resolved)
	}
	return fmt.Sprintf("%-5s fault, %s of %v in the %s: %s", e.Resolved, e.Reason, page, place(e), action(e))
}

// place names the area, and where in its file the page lies.
func place(e event.PageFault) string {
	r := mem.Range{Start: mem.VirtAddr(e.VMAStart), End: mem.VirtAddr(e.VMAEnd)}
	name := e.VMAName
	switch {
	case e.Areas > 1:
		return fmt.Sprintf("page that %d segments of %s share (%s)", e.Areas, name, e.Prot)
	case e.VMAType == event.Anon && name == "":
		return fmt.Sprintf("anonymous area %v (%s)", r, e.Prot)
	case e.VMAType == event.Anon:
		return fmt.Sprintf("%s %v (%s)", name, r, e.Prot)
	case e.FileBytes == 0:
		return fmt.Sprintf(".bss of %s %v (%s)", name, r, e.Prot)
	}
	return fmt.Sprintf("area %v (%s) of %s, file offset %s", r, e.Prot, name, hex(e.FileOffset))
}

func action(e event.PageFault) string {
	to := fmt.Sprintf("frame %d", e.Frame)
	part := ""
	if e.FileBytes < mem.PageSize {
		part = fmt.Sprintf(", of which %d are the file's and the rest is zero", e.FileBytes)
	}
	switch e.Source {
	case event.SourceCache:
		return "hit in the page cache, mapped its " + to + " without copying"
	case event.SourceCacheCopy:
		return fmt.Sprintf("hit in the page cache; a write wants its own copy: frame %d copied to %s", e.Copied, to)
	case event.SourceFile:
		return "not in the page cache; read from the file into " + to + ", which the cache keeps too" + part
	case event.SourceFileOwn:
		why := "writable, so the frame is the process's own"
		switch {
		case e.Areas > 1:
			why = "shared by segments, so it is put together from each of them"
		case e.FileBytes < mem.PageSize:
			why = "only partly the file's, so it is not taken from the page cache"
		case e.VMAType == event.FileRO:
			why = "its place in the page cache was taken"
		}
		return "read from the file into " + to + " (" + why + ")" + part
	case event.SourceZeroPage:
		return "no file bytes; mapped the shared zero page, until it is written"
	case event.SourceZeroFill:
		return "first write; a cleared " + to
	case event.SourceCopy:
		return fmt.Sprintf("copy on write: frame %d is used by others too, copied to %s", e.Copied, to)
	case event.SourceReuse:
		return "copy on write: nobody else uses " + to + " any more, made it writable without copying"
	case event.SourceShared:
		return "shared memory, the same " + to + " for all"
	}
	return e.Source
}
