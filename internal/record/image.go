package record

import (
	"cmp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
	"vmsim/mem"
	"vmsim/trace"
)

// image is what MMAP2 records say of a program that exec has just mapped.
type image struct {
	areas []trace.Op // of OpArea, without time and process
	files []mapped   // in the order of their first mapping: the program, its interpreter
	base  map[int]mem.VirtAddr

	sp   mem.VirtAddr // where the stack begins; 0 where nothing tells
	args []string
}

func (im *image) add(r *perf.Record) {
	name := string(r.Name)
	op := trace.Op{Kind: trace.OpArea, Point: trace.PointExec, Addr: r.Addr, Len: r.Len, Prot: mem.Prot(r.Prot & 7)}
	if r.Flags&unix.MAP_TYPE == unix.MAP_SHARED {
		op.Flags = trace.MapShared
	}
	switch {
	case strings.HasPrefix(name, "["):
		op.Name = name
	case strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "//"):
		f := ofPath(name, r.Major, r.Minor, r.Inode)
		op.Path, op.Offset = f.path, r.Offset
		im.file(*f, r.Addr)
	}
	im.lay(op)
}

// lay puts an area over those that are there: an image is mapped as a whole first,
// and then segment by segment.
func (im *image) lay(top trace.Op) {
	var areas []trace.Op
	for _, a := range im.areas {
		if front := a; front.Addr < top.Addr {
			front.Len = min(front.Len, uint64(top.Addr-front.Addr))
			areas = append(areas, front)
		}
		if end, top := uint64(a.Addr)+a.Len, uint64(top.Addr)+top.Len; end > top {
			back := a
			back.Addr = max(back.Addr, mem.VirtAddr(top))
			back.Len = end - uint64(back.Addr)
			if back.Path != "" {
				back.Offset += uint64(back.Addr - a.Addr)
			}
			areas = append(areas, back)
		}
	}
	im.areas = append(areas, top)
}

// file notes where the lowest page of a file is.
func (im *image) file(f mapped, at mem.VirtAddr) {
	if im.base == nil {
		im.base = map[int]mem.VirtAddr{}
	}
	for i := range im.files {
		if im.files[i].path == f.path {
			im.base[i] = min(im.base[i], at)
			return
		}
	}
	im.base[len(im.files)] = at
	im.files = append(im.files, f)
}

// compat reports whether it is a 32-bit program: its stack ends below 4 GiB.
func (im *image) compat() bool {
	return slices.ContainsFunc(im.areas, func(a trace.Op) bool { return a.Name == "[stack]" && a.Addr < 1<<32 })
}

// started writes the exec of an image that perf told of.
func (c *Converter) started(p *process, im *image, at uint64) {
	if len(im.files) == 0 {
		c.lack("programs of execs that nothing named")
		return
	}
	for i := range im.files {
		c.file(&im.files[i], at)
	}
	op := trace.Op{Time: at, PID: p.num, Kind: trace.OpExec, Path: im.files[0].path,
		Start: &trace.Start{Base: im.base[0], SP: im.sp, Args: im.args}, Want: &trace.Answer{}}
	if len(im.files) > 1 {
		op.Start.Interp, op.Start.InterpBase = im.files[1].path, im.base[1]
	}
	c.out(op)
	slices.SortFunc(im.areas, func(a, b trace.Op) int { return cmp.Compare(a.Addr, b.Addr) })
	for _, a := range im.areas {
		a.Time, a.PID = at, p.num
		c.out(a)
	}
}
