package session

import (
	"fmt"
	"path/filepath"

	"vmsim/internal/event"
	"vmsim/mem"
)

// Words says what an event means, in a line that a student understands; it is
// empty for events that another one explains.
//
//	major fault: read 0x401000 (r-x 400000-51b1f0 kevlar-layout+0x1000): no page yet, cache miss; file read into frame 3, cached
//	minor fault: read 0x402000 (r-x 400000-51b1f0 kevlar-layout+0x2000): no page yet, cache hit; frame 4 mapped, nothing copied
//	CoW fault: write 0x51d000 (rw- 51cbf0-525f64 kevlar-layout+0x11c000): write-protected, frame 8 has other users; copied to own frame 9
func Words(e event.Event) string {
	switch e := e.(type) {
	case event.ProcessFork:
		return fmt.Sprintf("fork: PID %d has a child, PID %d; they share all pages until one of them writes", e.PID, e.Child)
	case event.ProcessExec:
		return fmt.Sprintf("exec: PID %d runs %s, entry %s; mapped at once: cached pages %d, huge windows %d", e.PID, e.File,
			hex(e.Entry), e.Prefault, e.HugePages)
	case event.ProcessExit:
		return fmt.Sprintf("exit: PID %d (%s)", e.PID, e.Reason)
	case event.PageFault:
		return faultWords(e)
	case event.HugePageAssembled:
		return fmt.Sprintf("huge page: 2 MiB at %s of %s put together: %d pages from the cache, %d from the file, %d zero",
			hex(e.HugeBase), filepath.Base(e.File), e.FromCache, e.FromFile, e.Zero)
	case event.HugePageSplit:
		return fmt.Sprintf("huge page: 2 MiB at %s split into 512 pages of 4 KiB, for a %s", hex(e.HugeBase), e.Reason)
	case event.Segfault:
		why := "its area forbids that (SEGV_ACCERR)"
		if e.Code == "SEGV_MAPERR" {
			why = "nothing is mapped there (SEGV_MAPERR)"
		}
		return fmt.Sprintf("segfault: %s %s: %s", e.Access, hex(e.VAddr), why)
	case event.OOMKill:
		return fmt.Sprintf("out of memory: PID %d needs a frame for %s and none can be freed; killed with %d pages", e.PID,
			hex(e.VAddr), e.Resident)
	case event.PageVerifyOK:
		return ""
	case fmt.Stringer: // a failed verification
		return e.String()
	}
	return ""
}

func hex(a event.Addr) string { return fmt.Sprintf("0x%x", uint64(a)) }

// faultWords says what kind of fault it was, what was accessed, in which area,
// why that faulted, and what was done.
func faultWords(e event.PageFault) string {
	kind := e.Resolved
	switch kind {
	case "segv", "oom": // a Segfault or OOMKill follows
		return ""
	case "cow":
		kind = "CoW"
	}
	return fmt.Sprintf("%s fault: %s %s (%s): %s", kind, e.Reason, hex(e.VAddr), place(e), action(e))
}

// place is the area, as /proc/PID/maps has it, and FILE+OFFSET of the page's
// first file byte.
func place(e event.PageFault) string {
	area := fmt.Sprintf("%s %x-%x", e.Prot, uint64(e.VMAStart), uint64(e.VMAEnd))
	name := e.VMAName
	switch {
	case e.VMAType == event.Anon && name == "":
		return area + " anonymous"
	case e.VMAType == event.Anon:
		return area + " " + name
	case e.FileBytes == 0:
		return area + " .bss of " + filepath.Base(name)
	}
	return fmt.Sprintf("%s %s+%s", area, filepath.Base(name), hex(e.FileOffset))
}

// action is why the access faulted, and what was copied from where.
func action(e event.PageFault) string {
	switch e.Source {
	case event.SourceCache:
		return fmt.Sprintf("no page yet, cache hit; frame %d mapped, nothing copied", e.Frame)
	case event.SourceCacheCopy:
		return fmt.Sprintf("no page yet, cache hit; frame %d copied to own frame %d for the write", e.Copied, e.Frame)
	case event.SourceFile:
		return "no page yet, cache miss; " + read(e, "frame") + ", cached"
	case event.SourceFileOwn:
		if e.Areas <= 1 && e.FileBytes == mem.PageSize && e.VMAType == event.FileRW {
			return "no page yet, cache miss; " + read(e, "own frame") + " (writable: not cached)"
		}
		return "no page yet, no cache for " + uncached(e) + "; " + read(e, "own frame")
	case event.SourceZeroPage:
		return "no page yet, no file bytes; the shared zero page mapped"
	case event.SourceZeroFill:
		if e.Resolved == "cow" {
			return fmt.Sprintf("the zero page is write-protected; own frame %d, cleared", e.Frame)
		}
		return fmt.Sprintf("no page yet, no file bytes; own frame %d, cleared", e.Frame)
	case event.SourceCopy:
		return fmt.Sprintf("write-protected, frame %d has other users; copied to own frame %d", e.Copied, e.Frame)
	case event.SourceReuse:
		return fmt.Sprintf("write-protected, but frame %d has no other user; made writable, nothing copied", e.Frame)
	case event.SourceShared:
		return fmt.Sprintf("no page yet, shared memory; its frame %d mapped, as in all its users", e.Frame)
	}
	return e.Source
}

// read says how many bytes came from the file.
func read(e event.PageFault, to string) string {
	if e.FileBytes == mem.PageSize {
		return fmt.Sprintf("file read into %s %d", to, e.Frame)
	}
	return fmt.Sprintf("%d bytes read into %s %d, rest zero", e.FileBytes, to, e.Frame)
}

// uncached names the pages of files that the page cache neither gives nor takes:
// those of several areas, partial ones (taken once, as nobody may use them), and
// those whose index is taken.
func uncached(e event.PageFault) string {
	switch {
	case e.Areas > 1:
		return fmt.Sprintf("pages of %d areas", e.Areas)
	case e.FileBytes < mem.PageSize:
		return "partial pages"
	}
	return "pages of a taken index"
}
