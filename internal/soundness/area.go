package soundness

import (
	"fmt"
	"strings"

	"vmsim/mem"
	"vmsim/trace"
)

// area is what an address range is mapped as (Linux: struct vm_area_struct).
// Areas of equal value that touch are one: whether the kernel merged them is its
// own affair.
type area struct {
	prot   mem.Prot
	shared bool
	flags  areaFlags
	src    *source // interned by Checker.source: equal sources are equal pointers
	bias   uint64  // file offset minus address, modulo 2^64; 0 where there are no offsets
}

// areaFlags are Linux's VM_ flags that matter for what is present.
type areaFlags uint8

const (
	areaLocked    areaFlags = 1 << iota // VM_LOCKED
	areaOnFault                         // VM_LOCKONFAULT: locked, but not populated
	areaGrowsDown                       // VM_GROWSDOWN
	areaDontFork                        // VM_DONTCOPY
	areaWipe                            // VM_WIPEONFORK
	areaShm                             // System V shared memory: shmdt finds it

	areaForgotten = areaLocked | areaOnFault | areaDontFork | areaWipe // what a fork has to look for
)

// sourceClass is where the pages of an area come from.
type sourceClass uint8

const (
	classAnon    sourceClass = iota // anonymous, private
	classFile                       // a page cache: files, shared memory
	classSpecial                    // [vdso], [vvar]: the kernel's own pages
	classDevice                     // device memory, hugetlb: not modelled
)

// source is what an area is of.
type source struct {
	class sourceClass
	key   string // of the file: device and inode, or its path; a special area's name
	name  string // as /proc/PID/maps has it, for messages
	size  uint64 // bytes of the file, where limited
	// limited: the file had this size when the trace named it last. Pages beyond
	// are SIGBUS, unless it has grown.
	limited bool
	// writable: it is open for writing, as far as anybody can tell: a memfd, shared anonymous
	// memory. Of other files the mode is not recorded.
	writable bool
	// anyOf is what /proc/PID/maps cannot tell from s: shared anonymous memory has no
	// name. nil elsewhere.
	anyOf *source
}

// ownOnWrite reports whether a write makes a page the process's own.
func (a area) ownOnWrite() bool { return !a.shared }

// fresh returns the page that a fault makes where there was none.
func (a area) fresh(write bool) page {
	switch {
	case a.ownOnWrite() && write:
		return pageOwn
	case a.src.class == classAnon:
		return pageZero
	}
	return pageFile
}

// modelled reports whether the pages of a are compared.
func (a area) modelled() bool { return a.src.class == classAnon || a.src.class == classFile }

// offset returns the file offset of address at.
func (a area) offset(at mem.VirtAddr) uint64 { return uint64(at) + a.bias }

// fileEnd returns the first address in r, an address range of a, whose page lies
// wholly beyond the end of the file; r.End if none does.
func (a area) fileEnd(r mem.Range) mem.VirtAddr {
	if !a.src.limited {
		return r.End
	}
	off, pages := a.offset(r.Start), (a.src.size+mem.PageSize-1)&^(mem.PageSize-1)
	if pages < a.src.size {
		return r.End
	}
	if off >= pages {
		return r.Start
	}
	return r.Start + mem.VirtAddr(min(pages-off, r.Len()))
}

// moved returns a as it is after a move from one address to another.
func (a area) moved(old, now mem.VirtAddr) area {
	if a.src.hasOffsets() {
		a.bias += uint64(old) - uint64(now)
	}
	return a
}

// hasOffsets reports whether it matters which part of s an area is.
func (s *source) hasOffsets() bool { return s.class == classFile || s.class == classDevice }

// looks returns a without what /proc/PID/maps does not show.
func (a area) looks() area {
	if a.flags = 0; a.src.anyOf != nil {
		a.src = a.src.anyOf
	}
	return a
}

// String returns rw-p 0x1000 /lib/libc.so.6, as for an area that starts at 0.
func (a area) describe(at mem.VirtAddr) string {
	perm := a.prot.String() + "p"
	if a.shared {
		perm = a.prot.String() + "s"
	}
	if !a.src.hasOffsets() {
		return perm + " " + a.src.name
	}
	return fmt.Sprintf("%s 0x%x %s", perm, a.offset(at), a.src.name)
}

// anonymousName reports whether maps prints the name for private anonymous
// memory (fs/proc/task_mmu.c:show_map_vma).
func anonymousName(name string) bool {
	return name == "" || name == "[heap]" || name == "[stack]" || strings.HasPrefix(name, "[anon:")
}

// source returns what an area or a mapping call is of.
func (c *Checker) source(op *trace.Op, shared bool) *source {
	name, path := op.Name, strings.TrimSuffix(op.Path, " (deleted)")
	s := source{class: classFile, key: "path " + path, name: path}
	zero := path == "/dev/zero" || strings.HasPrefix(name, "[anon_shmem:")
	switch {
	case op.Kind == trace.OpMmap && op.Flags&trace.MapHugeTLB != 0,
		strings.HasPrefix(path, "/anon_hugepage"):
		s = source{class: classDevice, key: "hugetlb", name: "hugetlb"}
	case !shared && (path == "" && anonymousName(name) || zero): // drivers/char/mem.c:mmap_zero
		s = source{class: classAnon, name: "anonymous"}
	case shared && (path == "" && anonymousName(name) || zero):
		s = source{class: classFile, key: "shared", name: "shared anonymous"}
		if op.Kind == trace.OpMmap { // an object of its own
			s.anyOf, s.limited, s.size, s.writable = c.shared, true, op.Len, true
			return &s
		}
	case path == "":
		s = source{class: classSpecial, key: name, name: name}
	default:
		if f := c.file(op.Path); f != nil {
			if f.Ino != 0 {
				s.key = fmt.Sprintf("inode %d:%d", f.Dev, f.Ino)
			}
			if f.Kind == trace.DeviceFile {
				s.class = classDevice
			}
			s.limited = f.Kind == trace.RegularFile || f.Size != 0
			s.writable = f.Kind == trace.MemoryFile
			s.size = f.Size
		}
	}
	// One source per file: its newest size counts for all of its areas.
	if known := c.sources[s.key]; known != nil {
		known.size, known.limited = s.size, s.limited
		return known
	}
	c.sources[s.key] = &s
	return &s
}

// areaOf returns the area of an area line or of a mapping call that maps at.
func (c *Checker) areaOf(op *trace.Op, at mem.VirtAddr) area {
	a := area{prot: op.Prot, shared: op.Flags&trace.MapShared != 0}
	if op.Kind == trace.OpShmat {
		a.shared, a.flags = true, areaShm
	}
	if a.src = c.source(op, a.shared); a.src.hasOffsets() {
		a.bias = op.Offset&^(mem.PageSize-1) - uint64(at) // the kernel refuses other offsets
	}
	if op.Flags&trace.MapGrowsDown != 0 || op.Kind == trace.OpArea && op.Name == "[stack]" {
		a.flags |= areaGrowsDown
	}
	return a
}
