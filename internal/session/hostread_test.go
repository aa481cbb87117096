package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/mem"
	"vmsim/vm"
)

// asked notes the reads of a file, and fails those that end behind limit.
type asked struct {
	mem.File
	limit int64 // 0: none
	reads []string
}

func (a *asked) ReadAt(p []byte, off int64) (int, error) {
	a.reads = append(a.reads, fmt.Sprintf("%d+%d", off, len(p)))
	if a.limit > 0 && off+int64(len(p)) > a.limit {
		return 0, io.ErrClosedPipe
	}
	return a.File.ReadAt(p, off)
}

// TestHostFile: the reads of the machine, those of the host that come of them,
// and the same bytes.
func TestHostFile(t *testing.T) {
	const page, size = mem.PageSize, hostRead + 5*mem.PageSize + 100
	data := make([]byte, size)
	elfgen.Pattern(3, data)
	type read struct {
		off int64
		n   int
	}
	for _, c := range []struct {
		name  string
		limit int64
		reads []read
		host  []string
	}{
		{"pages in order", 0, []read{{0, page}, {page, page}, {hostRead - page, page}, {hostRead, page}, {hostRead + 4*page, page}},
			[]string{fmt.Sprint("0+", hostRead), fmt.Sprintf("%d+%d", hostRead, 5*page+100)}},
		{"parts of pages that are there", 0, []read{{page, page}, {page + 5, 7}, {3*page - 1, 2}}, []string{fmt.Sprintf("%d+%d", page, hostRead)}},
		{"from the middle of a page on", 0, []read{{100, page}, {100 + page, page}}, []string{fmt.Sprint("100+", hostRead)}},
		{"what lies before is read anew", 0, []read{{4 * page, page}, {0, page}},
			[]string{fmt.Sprintf("%d+%d", 4*page, hostRead), fmt.Sprint("0+", hostRead)}},
		{"headers and windows", 0, []read{{0, 64}, {64, 56 * 9}, {0, mem.HugeSize}, {page, 2 * page}},
			[]string{"0+64", "64+504", fmt.Sprint("0+", mem.HugeSize), fmt.Sprintf("%d+%d", page, 2*page)}},
		{"the end of the file", 0, []read{{size - page, page}, {size - 100, page}, {size, page}, {size + page, page}},
			[]string{fmt.Sprintf("%d+%d", size-page, page), fmt.Sprintf("%d+%d", size-100, page), fmt.Sprintf("%d+%d", size, page),
				fmt.Sprintf("%d+%d", size+page, page)}},
		// A page that can be read is, whatever lies behind it.
		{"a bad sector behind", 2 * page, []read{{0, page}, {page, page}, {2 * page, page}},
			[]string{fmt.Sprint("0+", hostRead), fmt.Sprint("0+", page), fmt.Sprintf("%d+%d", page, hostRead), fmt.Sprintf("%d+%d", page, page),
				fmt.Sprintf("%d+%d", 2*page, hostRead), fmt.Sprintf("%d+%d", 2*page, page)}},
		// What was there before is not taken for what could not be read.
		{"a bad sector behind what was read", hostRead + page, []read{{0, page}, {hostRead, page}, {hostRead + page, page}},
			[]string{fmt.Sprint("0+", hostRead), fmt.Sprintf("%d+%d", hostRead, 5*page+100), fmt.Sprintf("%d+%d", hostRead, page),
				fmt.Sprintf("%d+%d", hostRead+page, 4*page+100), fmt.Sprintf("%d+%d", hostRead+page, page)}},
	} {
		f := &asked{File: mem.NewBytesFile("f", data), limit: c.limit}
		h := &hostFile{f, new(hostBuffer)}
		for _, r := range c.reads {
			got, want := make([]byte, r.n), make([]byte, r.n)
			n, err := h.ReadAt(got, r.off)
			m, wantErr := f.File.ReadAt(want, r.off)
			if c.limit > 0 && r.off+int64(r.n) > c.limit {
				m, wantErr, want = 0, io.ErrClosedPipe, make([]byte, r.n)
			}
			if n != m || !errors.Is(err, wantErr) || !bytes.Equal(got, want) {
				t.Errorf("%s: read of %d at %d: %d bytes, %v, want %d, %v", c.name, r.n, r.off, n, err, m, wantErr)
			}
		}
		if !slices.Equal(f.reads, c.host) {
			t.Errorf("%s: the host was asked for %v, want %v", c.name, f.reads, c.host)
		}
	}
}

// TestHostFilesShareABuffer: what one has read, the other does not take for its
// own.
func TestHostFilesShareABuffer(t *testing.T) {
	buf := new(hostBuffer)
	var files []*hostFile
	for i := range 2 {
		files = append(files, &hostFile{mem.NewBytesFile("f", bytes.Repeat([]byte{byte(i)}, 2*mem.PageSize)), buf})
	}
	page := make([]byte, mem.PageSize)
	for i := range 6 {
		if _, err := files[i%2].ReadAt(page, int64(i/2%2)*mem.PageSize); err != nil || page[0] != byte(i%2) {
			t.Fatalf("read %d: byte %d, %v", i, page[0], err)
		}
	}
}

// TestWitnessReadsTheFileItself: a machine that reads wrong bytes from its host
// buffer is found out.
func TestWitnessReadsTheFileItself(t *testing.T) {
	opt := options(t)
	opt.Threshold = 1
	rig := newRig(t, opt)
	f := fixture(t, "kevlar-layout")
	spoiled := false
	rig.opt.Stop = func() bool { // before each page
		if b := &rig.buf; !spoiled && b.n > 8*mem.PageSize {
			b.data[7*mem.PageSize] ^= 1
			spoiled = true
		}
		return false
	}
	res := rig.Verify(f)
	want := 4 // in three execs and in the window
	if opt.Hardening == vm.Fortress {
		want++ // and as it was mapped
	}
	if !spoiled || res.Verdict != Fail || res.Windows == 0 || res.Failures != want {
		t.Errorf("buffer spoiled %v: %+v, want %d failures", spoiled, res, want)
	}
}

// TestWitnessIsGivenTheFileItself: of windows too it reads the file, not what the
// machine has read of it. Its read is one of a page, as the machine's are.
func TestWitnessIsGivenTheFileItself(t *testing.T) {
	f := mem.NewBytesFile("f", elfgen.Build(elfgen.Spec{Type: elfgen.Exec, Entry: 0x400000, Segments: []elfgen.Seg{
		{Vaddr: 0x400000, Offset: 0, Filesz: mem.PageSize, Memsz: mem.PageSize, Flags: mem.ProtRead},
		{Vaddr: 0x600000, Offset: mem.PageSize, Filesz: mem.PageSize, Memsz: mem.PageSize, Flags: mem.ProtRead},
	}}, elfgen.Pattern))
	opt := options(t)
	opt.Threshold = 1
	rig := newRig(t, opt)
	spoiled := 0
	rig.opt.Stop = func() bool {
		if b := &rig.buf; b.n > 0 && rig.Machine.Stats().Faults.Major == 2 { // it reads no more
			clear(b.data[:])
			spoiled++
		}
		return false
	}
	res := rig.Verify(f)
	if res.Verdict != OK || res.Windows != 2 || spoiled == 0 {
		t.Errorf("spoiled %d times: %+v", spoiled, res)
	}
}
