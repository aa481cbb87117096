package vm

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"vmsim/internal/elfgen"
	"vmsim/mem"
	"vmsim/vma"
)

// The arena of the oracle test: addresses where neither the Go runtime nor mmap
// put anything by themselves.
const (
	oracleBase  mem.VirtAddr = 0x200000000000
	oraclePages              = 40
	oracleSpan               = 2 * oraclePages // what operations may reach
)

// oracle is memory of this very process, where the kernel makes every system call
// that a simulated process makes.
type oracle struct {
	t       *rapid.T
	p       *Process
	sim     mem.File // the same content as host, which is written to
	host    *os.File
	object  *SharedObject
	memfd   int
	pagemap *os.File
	seen    map[string]int
	checks  int
}

// TestKernel makes random calls of the mmap family on both sides, and compares
// results, areas, contents, and which pages of private anonymous memory are
// present. The seed is logged, and -rapid.seed sets it.
func TestKernel(t *testing.T) {
	content := make([]byte, 1<<20)
	elfgen.Pattern(7<<20, content)
	pagemap, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pagemap.Close()
	dir := t.TempDir()
	seen := map[string]int{}
	setFlag(t, "rapid.steps", 200)
	rapid.Check(t, func(t *rapid.T) {
		host, err := os.Create(filepath.Join(dir, "host"))
		if err != nil {
			t.Fatal(err)
		}
		defer host.Close()
		if _, err := host.Write(content); err != nil {
			t.Fatal(err)
		}
		memfd, err := unix.MemfdCreate("oracle", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(memfd)
		if err := unix.Ftruncate(memfd, int64(len(content))); err != nil {
			t.Fatal(err)
		}
		m, err := New(Config{Memory: 16 << 20, Hardening: Fortress})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		p, err := m.Boot(nil)
		if err != nil {
			t.Fatal(err)
		}
		sim := mem.NewBytesFile("file", content)
		m.OpenForWriting(sim)
		o := &oracle{t: t, p: p, sim: sim, host: host,
			object: m.NewShared("/memfd:oracle (deleted)", uint64(len(content))), memfd: memfd, pagemap: pagemap, seen: seen}
		defer sys(unix.SYS_MUNMAP, oracleBase, oracleSpan*mem.PageSize)
		t.Repeat(map[string]func(*rapid.T){
			"": o.check, "mmap": o.mmap, "mmap again": o.mmap, "mmap more": o.mmap, "munmap": o.munmap, "mprotect": o.mprotect, "mremap": o.mremap, "mremap again": o.mremap,
			"madvise": o.madvise, "mlock": o.mlock, "access": o.access, "access again": o.access, "read all": o.readAll,
		})
		p.Exit()
		o.object.Release()
		m.Reset()
	})
	t.Log(seen)
	// What happens often enough; EACCES of madvise does so about five times in 100 rounds.
	for _, what := range []string{"mremap ok", "mremap EINVAL", "mremap EFAULT", "mremap ENOMEM", "moved elsewhere", "moved 3 areas",
		"madvise ok", "madvise EINVAL", "madvise ENOMEM", "mlock ok", "mlock ENOMEM", "munlock ok", "duplicated"} {
		if seen[what] == 0 && !testing.Short() { // too few rounds to be sure
			t.Errorf("never happened: %s", what)
		}
	}
}

// sys makes a system call of the host.
func sys(no uintptr, args ...any) (mem.VirtAddr, error) {
	var a [6]uintptr
	for i, v := range args {
		switch v := v.(type) {
		case mem.VirtAddr:
			a[i] = uintptr(v)
		case int:
			a[i] = uintptr(v)
		case uint64:
			a[i] = uintptr(v)
		}
	}
	r, _, errno := unix.Syscall6(no, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return 0, errno
	}
	return mem.VirtAddr(r), nil
}

func (o *oracle) page(what string) mem.VirtAddr {
	return oracleBase + mem.VirtAddr(rapid.IntRange(0, oraclePages-1).Draw(o.t, what)*mem.PageSize)
}

func (o *oracle) length(what string) uint64 {
	return uint64(rapid.IntRange(1, 12).Draw(o.t, what)) * mem.PageSize
}

// same compares the outcome of a call.
func (o *oracle) same(what string, got, want error) {
	if got != want {
		o.t.Fatalf("%s: %v, the kernel says %v\n%s", what, got, want, o.draw())
	}
	name, _, _ := strings.Cut(what, " ")
	if want == nil {
		o.seen[name+" ok"]++
	} else {
		o.seen[name+" "+unix.ErrnoName(want.(syscall.Errno))]++
	}
}

func (o *oracle) draw() string {
	var b strings.Builder
	for v := range o.p.Areas() {
		fmt.Fprintln(&b, v, v.Flags)
	}
	for _, k := range o.kernelAreas() {
		fmt.Fprintln(&b, "kernel", k.Range, k.perm)
	}
	return b.String()
}

var oracleProt = rapid.SampledFrom([]mem.Prot{rw, rw, ro, mem.ProtNone, rx, rwx})

func (o *oracle) mmap(t *rapid.T) {
	o.t = t
	a := Mapping{Addr: o.page("at"), Len: o.length("length"), Prot: oracleProt.Draw(t, "protection"), Fixed: true,
		Shared: rapid.Bool().Draw(t, "shared"), SharedWrite: true, Populate: rapid.IntRange(0, 5).Draw(t, "populate") == 5,
		Locked: rapid.IntRange(0, 9).Draw(t, "locked") == 9}
	flags, fd := unix.MAP_FIXED|unix.MAP_PRIVATE, -1
	if a.Shared {
		flags = unix.MAP_FIXED | unix.MAP_SHARED
	}
	if a.Populate {
		flags |= unix.MAP_POPULATE
	}
	if a.Locked {
		flags |= unix.MAP_LOCKED
	}
	switch rapid.IntRange(0, 3).Draw(t, "what") {
	case 0, 1:
		flags |= unix.MAP_ANONYMOUS
	case 2:
		a.File, fd = o.sim, int(o.host.Fd())
	case 3:
		a.Object, fd = o.object, o.memfd
	}
	if fd >= 0 {
		a.Offset = int64(rapid.IntRange(0, 8).Draw(t, "offset")) * mem.PageSize
	}
	_, want := sys(unix.SYS_MMAP, a.Addr, a.Len, int(a.Prot), flags, fd, int(a.Offset))
	_, got := o.p.Mmap(a)
	o.same(fmt.Sprintf("mmap %+v", a), got, want)
}

func (o *oracle) munmap(t *rapid.T) {
	o.t = t
	at, n := o.page("at"), o.length("length")
	_, want := sys(unix.SYS_MUNMAP, at, n)
	o.same(fmt.Sprintf("munmap %v %#x", at, n), o.p.Munmap(at, n), want)
}

func (o *oracle) mprotect(t *rapid.T) {
	o.t = t
	at, n, prot := o.page("at"), o.length("length"), oracleProt.Draw(t, "protection")
	_, want := sys(unix.SYS_MPROTECT, at, n, int(prot))
	o.same(fmt.Sprintf("mprotect %v %#x %v", at, n, prot), o.p.Mprotect(at, n, prot), want)
}

func (o *oracle) mremap(t *rapid.T) {
	o.t = t
	a := Remap{Old: o.page("old"), OldLen: o.length("old length"), NewLen: o.length("new length")}
	switch rapid.IntRange(0, 9).Draw(t, "lengths") {
	case 7, 8:
		a.NewLen = a.OldLen
	case 9:
		a.OldLen = 0
	case 0:
		if v, ok := o.p.areas.Find(a.Old); ok { // to its end: may grow in place
			a.OldLen = uint64(v.End - a.Old)
		}
	}
	a.MayMove = rapid.IntRange(0, 3).Draw(t, "may move") > 0
	a.Fixed = rapid.Bool().Draw(t, "fixed")
	a.DontUnmap = rapid.IntRange(0, 3).Draw(t, "don't unmap") == 3
	if a.DontUnmap && rapid.Bool().Draw(t, "same length") {
		a.NewLen = a.OldLen
	}
	if a.Fixed || a.DontUnmap {
		a.New = o.page("new")
	}
	if rapid.IntRange(0, 30).Draw(t, "odd") == 30 {
		a.Old += 8
	}
	if !o.sameArea(a.Old) {
		return // Linux does not merge all that could be
	}
	areas := 0
	for v := range o.p.areas.Overlapping(mem.Range{Start: a.Old, End: a.Old + mem.VirtAddr(a.OldLen)}) {
		if areas++; a.DontUnmap && v.Flags&vma.Locked != 0 {
			return // it unlocks what is one VMA in Linux: more or less than here
		}
	}
	flags := 0
	for i, set := range []bool{a.MayMove, a.Fixed, a.DontUnmap} {
		if set {
			flags |= 1 << i
		}
	}
	to, want := sys(unix.SYS_MREMAP, a.Old, a.OldLen, a.NewLen, flags, a.New)
	a.At = to
	got, err := o.p.Mremap(a)
	o.same(fmt.Sprintf("mremap %+v", a), err, want)
	if got != to {
		t.Fatalf("mremap %+v: to %v, the kernel to %v", a, got, to)
	}
	switch {
	case want != nil:
		return
	case a.OldLen == 0:
		o.seen["duplicated"]++
	case areas >= 3 && a.Fixed && a.OldLen == a.NewLen:
		o.seen["moved 3 areas"]++
	}
	if to < oracleBase || to >= oracleBase+oracleSpan*mem.PageSize {
		o.seen["moved elsewhere"]++
		o.present(mem.Range{Start: to, End: to + mem.VirtAddr(a.NewLen)})
		o.contents(mem.Range{Start: to, End: to + mem.VirtAddr(a.NewLen)})
		_, want := sys(unix.SYS_MUNMAP, to, a.NewLen)
		o.same("munmap moved", o.p.Munmap(to, a.NewLen), want)
	}
}

// sameArea reports whether both sides have the same end for the area at addr.
func (o *oracle) sameArea(addr mem.VirtAddr) bool {
	v, ok := o.p.areas.Find(addr)
	for _, k := range o.kernelAreas() {
		if k.Contains(addr) {
			return ok && k.End == v.End
		}
	}
	return !ok
}

func (o *oracle) madvise(t *rapid.T) {
	o.t = t
	at, n := o.page("at"), o.length("length")
	advice := rapid.SampledFrom([]Advice{AdviseDontNeed, AdviseDontNeed, AdvisePopulateRead, AdvisePopulateWrite, AdviseRemove,
		AdviseFree, AdviseDontNeedLocked, AdviseDontFork, AdviseDoFork, AdviseWipeOnFork, AdviseKeepOnFork, AdviseWillNeed,
		AdviseNormal, AdviseRandom, AdviseSequential, AdviseDontDump, AdviseDoDump, AdviseCold, AdviseNoHugePage, 5, 7, 26, -1}).Draw(t, "advice")
	if advice == AdviseRemove || advice == AdviseFree {
		for v := range o.p.areas.Overlapping(mem.Range{Start: at, End: at + mem.VirtAddr(n)}) {
			// We make no holes in files; and the kernel does free at times.
			if advice == AdviseRemove && v.Kind == vma.File || advice == AdviseFree && !v.Backed() && v.Flags&vma.Locked == 0 {
				return
			}
		}
	}
	if o.beyond(mem.Range{Start: at, End: at + mem.VirtAddr(n)}) {
		return
	}
	_, want := sys(unix.SYS_MADVISE, at, n, int(advice))
	o.same(fmt.Sprintf("madvise %v %#x %d", at, n, advice), o.p.Madvise(at, n, advice), want)
}

func (o *oracle) mlock(t *rapid.T) {
	o.t = t
	at, n := o.page("at"), o.length("length")
	at += mem.VirtAddr(rapid.SampledFrom([]int{0, 0, 1, 4095}).Draw(t, "in page"))
	if o.beyond(mem.Range{Start: at.PageDown(), End: at + mem.VirtAddr(n)}.PageAlign()) {
		return
	}
	onFault := rapid.Bool().Draw(t, "on fault")
	if rapid.Bool().Draw(t, "unlock") {
		_, want := sys(unix.SYS_MUNLOCK, at, n)
		o.same(fmt.Sprintf("munlock %v %#x", at, n), o.p.Munlock(at, n), want)
		return
	}
	flags := 0
	if onFault {
		flags = 1
	}
	_, want := sys(unix.SYS_MLOCK2, at, n, flags)
	o.same(fmt.Sprintf("mlock %v %#x %t", at, n, onFault), o.p.Mlock(at, n, onFault), want)
}

// access reads or writes a byte on both sides.
func (o *oracle) access(t *rapid.T) {
	o.t = t
	at := o.page("at") + mem.VirtAddr(rapid.IntRange(0, mem.PageSize-1).Draw(t, "offset"))
	b := []byte{byte(rapid.IntRange(1, 255).Draw(t, "byte"))}
	if o.beyond(mem.PageOf(at)) {
		return
	}
	if rapid.Bool().Draw(t, "write") {
		_, err := o.p.Write(at, b)
		if kerr := peek(unix.SYS_PROCESS_VM_WRITEV, at, b); (kerr == nil) != (err == nil) {
			t.Fatalf("write at %v: %v, the kernel says %v\n%s", at, err, kerr, o.draw())
		}
		return
	}
	o.contents(mem.PageOf(at))
}

// peek reads or writes memory of this process without a signal where that fails.
func peek(no uintptr, at mem.VirtAddr, b []byte) error {
	local := unix.Iovec{Base: &b[0], Len: uint64(len(b))}
	remote := unix.RemoteIovec{Base: uintptr(at), Len: len(b)}
	_, _, errno := unix.Syscall6(no, uintptr(os.Getpid()), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (o *oracle) readAll(t *rapid.T) {
	o.t = t
	o.contents(mem.Range{Start: oracleBase, End: oracleBase + oracleSpan*mem.PageSize})
}

// contents reads all pages of r on both sides.
func (o *oracle) contents(r mem.Range) {
	var got, want [mem.PageSize]byte
	for at := r.Start; at < r.End; at += mem.PageSize {
		if o.beyond(mem.PageOf(at)) {
			continue
		}
		err := o.p.Read(at, got[:])
		if kerr := peek(unix.SYS_PROCESS_VM_READV, at, want[:]); (kerr == nil) != (err == nil) {
			o.t.Fatalf("read at %v: %v, the kernel says %v\n%s", at, err, kerr, o.draw())
		} else if err == nil && !bytes.Equal(got[:], want[:]) {
			o.t.Fatalf("page %v: %v", at, sameBytes(got[:], want[:]))
		}
	}
}

// beyond reports whether a page of r lies behind the end of its object or file,
// where the kernel raises SIGBUS and the kevlar profile reads zeros.
func (o *oracle) beyond(r mem.Range) bool {
	for v := range o.p.areas.Overlapping(r) {
		size := o.sim.Size()
		if v.OfObject() {
			size = int64(o.p.m.shared[v.FileNo].Size())
		}
		part := v.Intersect(r)
		if v.Backed() && v.OffsetOf(part.Start)+int64(part.Len()) > size {
			return true
		}
	}
	return false
}

// kernelArea is a line of /proc/self/maps.
type kernelArea struct {
	mem.Range
	perm string
}

// kernelAreas returns the lines of the arena.
func (o *oracle) kernelAreas() (areas []kernelArea) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		o.t.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		var k kernelArea
		if _, err := fmt.Sscanf(s.Text(), "%x-%x %s", (*uint64)(&k.Start), (*uint64)(&k.End), &k.perm); err != nil {
			o.t.Fatal(err)
		}
		if k.Start >= oracleBase && k.End <= oracleBase+oracleSpan*mem.PageSize {
			areas = append(areas, k)
		}
	}
	return areas
}

// check compares areas and present pages.
func (o *oracle) check(t *rapid.T) {
	o.t = t
	want, got := map[mem.VirtAddr]string{}, map[mem.VirtAddr]string{}
	for _, k := range o.kernelAreas() {
		for at := k.Start; at < k.End; at += mem.PageSize {
			want[at] = k.perm
		}
	}
	for v := range o.p.Areas() {
		for at := v.Start; at < v.End; at += mem.PageSize {
			got[at] = v.Prot.String() + map[bool]string{true: "s", false: "p"}[v.Shared]
		}
	}
	for at := oracleBase; at < oracleBase+oracleSpan*mem.PageSize; at += mem.PageSize {
		if got[at] != want[at] {
			t.Fatalf("page %v is %q, in the kernel %q\n%s", at, got[at], want[at], o.draw())
		}
	}
	if o.checks++; o.checks%16 == 0 {
		o.checkLocks()
	}
	o.present(mem.Range{Start: oracleBase, End: oracleBase + oracleSpan*mem.PageSize})
}

// present compares which pages of private anonymous memory are present, and which
// of them the zero page. Of files and shared memory the kernel maps more: it faults
// around.
func (o *oracle) present(r mem.Range) {
	kinds := map[mem.VirtAddr]PageKind{}
	for run := range o.p.Present() {
		for at := run.Start; at < run.End; at += mem.PageSize {
			kinds[at] = run.Kind
		}
	}
	var b [8]byte
	for at := r.Start; at < r.End; at += mem.PageSize {
		v, ok := o.p.areas.Find(at)
		if !ok || v.Backed() {
			continue
		}
		if _, err := o.pagemap.ReadAt(b[:], int64(at>>mem.PageShift)*8); err != nil {
			o.t.Fatal(err)
		}
		kind, got := kinds[at]
		if want := binary.LittleEndian.Uint64(b[:])>>63 == 1; got != want {
			o.t.Fatalf("page %v: present %t (%v), in the kernel %t\n%s", at, got, kind, want, o.draw())
		}
	}
}

// checkLocks compares which areas are locked.
func (o *oracle) checkLocks() {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		o.t.Fatal(err)
	}
	defer f.Close()
	var area mem.Range
	for s := bufio.NewScanner(f); s.Scan(); {
		var r mem.Range
		var perm string
		if n, _ := fmt.Sscanf(s.Text(), "%x-%x %s", (*uint64)(&r.Start), (*uint64)(&r.End), &perm); n == 3 {
			area = r
		}
		flags, ok := strings.CutPrefix(s.Text(), "VmFlags:")
		if !ok || area.Start < oracleBase || area.End > oracleBase+oracleSpan*mem.PageSize {
			continue
		}
		for at := area.Start; at < area.End; at += mem.PageSize {
			v, _ := o.p.areas.Find(at)
			if got, want := v.Flags&vma.Locked != 0, strings.Contains(flags, " lo"); got != want {
				o.t.Fatalf("page %v: locked %t, in the kernel %t\n%s", at, got, want, o.draw())
			}
		}
	}
}
