//go:build linux && amd64

package tracee

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// PAGEMAP_SCAN of Linux 6.7 and later (include/uapi/linux/fs.h).
const (
	pagemapScan = 0xc0606610 // _IOWR('f', 16, struct pm_scan_arg)

	pageIsFile    = 1 << 2
	pageIsPresent = 1 << 3
	pageIsPFNZero = 1 << 5
)

// scanArg is struct pm_scan_arg.
type scanArg struct {
	size, flags           uint64
	start, end, walkEnd   uint64
	vec, vecLen, maxPages uint64
	categoryInverted      uint64
	categoryMask          uint64
	categoryAnyofMask     uint64
	returnMask            uint64
}

// scanRegion is struct page_region.
type scanRegion struct{ start, end, categories uint64 }

// scanner holds the buffer of PAGEMAP_SCAN. It is no longer than the kernel's own of
// 512 regions: one that fills that twice in a call, and then comes to the end, reports
// where it filled it first as walk_end (fs/proc/task_mmu.c:do_pagemap_scan).
type scanner struct{ regions [512]scanRegion }

// present returns the present pages of task tid's memory, which is not changed by it.
func (s *scanner) present(tid int) ([]Run, error) {
	f, err := os.Open(procPath(tid, "pagemap"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	arg := scanArg{
		end: uint64(mem.UserEnd), vec: uint64(uintptr(unsafe.Pointer(&s.regions[0]))), vecLen: uint64(len(s.regions)),
		categoryMask: pageIsPresent, returnMask: pageIsPresent | pageIsFile | pageIsPFNZero,
	}
	arg.size = uint64(unsafe.Sizeof(arg))
	runs := []Run{} // not nil: an empty set is known to be empty
	for arg.start < arg.end {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), pagemapScan, uintptr(unsafe.Pointer(&arg)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return nil, errno
		}
		for _, r := range s.regions[:n] {
			runs = appendRun(runs, r)
		}
		arg.start = arg.walkEnd
	}
	return runs, nil
}

// appendRun appends r to runs, or to the last one where it goes on.
func appendRun(runs []Run, r scanRegion) []Run {
	kind := OwnPage
	switch {
	case r.categories&pageIsPFNZero != 0:
		kind = ZeroPage
	case r.categories&pageIsFile != 0:
		kind = FilePage
	}
	pages := (r.end - r.start) / mem.PageSize
	if n := len(runs); n > 0 {
		last := &runs[n-1]
		if last.Kind == kind && uint64(last.Start)+last.Pages*mem.PageSize == r.start {
			last.Pages += pages
			return runs
		}
	}
	return append(runs, Run{Start: mem.VirtAddr(r.start), Pages: pages, Kind: kind})
}
