package verify_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"vmsim/internal/elfgen"
	"vmsim/mem"
	"vmsim/verify"
)

// kernelMap is a line of /proc/PID/maps.
type kernelMap struct {
	mem.Range
	prot string
	off  uint64
	name string
}

// stopped execs data under ptrace and calls look while the process stands before
// its first instruction. It returns false where Linux refuses the file.
func stopped(t *testing.T, data []byte, look func(pid int, maps []kernelMap)) bool {
	t.Helper()
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	pid, err := syscall.ForkExec(path, []string{"x"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return false
	}
	var ws syscall.WaitStatus
	wait := func() {
		for {
			if _, err := syscall.Wait4(pid, &ws, 0, nil); !errors.Is(err, syscall.EINTR) {
				return
			}
		}
	}
	wait()
	defer func() {
		if ws.Stopped() {
			syscall.Kill(pid, syscall.SIGKILL)
			wait()
		}
	}()
	if !ws.Stopped() || ws.StopSignal() != syscall.SIGTRAP {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var maps []kernelMap
	for line := range strings.Lines(string(text)) {
		var m kernelMap
		var dev, ino string
		if n, err := fmt.Sscanf(line, "%x-%x %s %x %s %s %s", &m.Start, &m.End, &m.prot, &m.off, &dev, &ino, &m.name); n < 6 {
			t.Fatalf("%q: %v", line, err)
		}
		maps = append(maps, m)
	}
	look(pid, maps)
	return true
}

// TestLinuxOracle: the areas and every byte of a Linux image are those that the
// host's kernel makes at exec, for each rule, each static fixture, and random
// files.
func TestLinuxOracle(t *testing.T) {
	files := map[string][]byte{}
	for _, r := range linuxRows {
		files[r.name] = r.elf.build(r.size, pattern)
	}
	fixtures, err := filepath.Glob("../testdata/elf/*")
	if err != nil || len(fixtures) == 0 {
		t.Fatalf("no fixtures (%v)", err)
	}
	for _, path := range fixtures {
		if filepath.Ext(path) != "" || filepath.Base(path) == "dynamic-pie" || filepath.Base(path) == "shared-object" {
			continue // a source; or not static
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.HasPrefix(data, []byte("\x7fELF")) {
			files[path] = data
		}
	}
	for seed := range uint64(40) {
		spec, data := elfgen.Random(rand.New(rand.NewPCG(seed, 2)))
		if spec.Interp == "" {
			files[fmt.Sprintf("seed %d", seed)] = data
		}
	}
	compared := 0
	for name, data := range files {
		if !stopped(t, data, func(pid int, maps []kernelMap) {
			compared += asKernel(t, name, data, pid, maps)
		}) {
			t.Errorf("%s: Linux does not run it", name)
		}
	}
	t.Logf("%d files, %d pages compared", len(files), compared)
	if len(files) < 40 || compared < 2000 {
		t.Errorf("%d files, %d pages: this says little", len(files), compared)
	}
}

// asKernel compares a file's image with a process that runs it, and returns how
// many pages it compared.
func asKernel(t *testing.T, name string, data []byte, pid int, maps []kernelMap) (compared int) {
	t.Helper()
	im, err := verify.NewLinux(mem.NewBytesFile(name, data), bias(t, pid, data))
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return 0
	}
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	pages := map[mem.VirtAddr]kernelMap{}
	for _, m := range maps {
		if m.Len() > 1<<30 {
			continue
		}
		for a := m.Start; a < m.End; a += page {
			pages[a] = kernelMap{prot: m.prot, off: m.off + uint64(a-m.Start), name: m.name}
		}
	}
	areas := im.Areas()
	for i, a := range areas {
		for addr := a.Start; addr < a.End; addr += page {
			k, ok := pages[addr]
			file := strings.HasSuffix(k.name, "/x")
			off := a.Off + uint64(addr-a.Start)
			if !ok || file == a.Anon || k.prot != a.Prot.String()+"p" || file && k.off != off {
				t.Errorf("%s: page %v is %s 0x%x %s in Linux, want %v %+v", name, addr, k.prot, k.off, k.name, a.Range, a)
				return compared
			}
			got := make([]byte, page)
			win, err := im.Window(addr.HugeDown())
			if err != nil {
				t.Fatal(err)
			}
			want := win[addr.SubPage()*page:][:page]
			_, err = memory.ReadAt(got, int64(addr))
			if beyond := !a.Anon && off >= uint64(len(data)); beyond != (err != nil) {
				t.Errorf("%s: page %v: beyond the end of the file %v, and Linux says %v", name, addr, beyond, err)
			}
			if err == nil && !bytes.Equal(got, want) {
				s := verify.Spans(got, want, 1)[0]
				t.Errorf("%s: page %v differs from Linux from 0x%x on: Linux has 0x%02x, we have 0x%02x", name, addr, s.From, got[s.From], want[s.From])
			}
			compared++
		}
		if i+1 < len(areas) {
			for addr := a.End; addr < areas[i+1].Start; addr += page {
				// The vDSO may lie in a gap of a static PIE.
				if k, ok := pages[addr]; ok && !strings.HasPrefix(k.name, "[v") {
					t.Errorf("%s: page %v is %s %s in Linux, and not mapped here", name, addr, k.prot, k.name)
				}
			}
		}
	}
	return compared
}

// bias returns the load bias of a process that runs data: AT_ENTRY minus
// e_entry.
func bias(t *testing.T, pid int, data []byte) uint64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/auxv", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	auxv, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	for ; len(auxv) >= 16; auxv = auxv[16:] {
		if binary.LittleEndian.Uint64(auxv) == 9 {
			return binary.LittleEndian.Uint64(auxv[8:]) - binary.LittleEndian.Uint64(data[24:])
		}
	}
	t.Fatal("no AT_ENTRY")
	return 0
}
