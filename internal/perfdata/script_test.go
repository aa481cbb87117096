package perfdata

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
)

// all is every event that a trace of memory needs.
const all = "exceptions:page_fault_user,exceptions:page_fault_kernel,task:task_newtask,raw_syscalls:sys_enter,raw_syscalls:sys_exit"

var program = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "perfdata")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "child")
	out, err := exec.Command("gcc", "-O1", "-static", "-pthread", "-Wl,--build-id", "-o", bin, "../perf/testdata/child.c").CombinedOutput()
	if err != nil {
		return nil, errors.New(string(out))
	}
	return os.ReadFile(bin)
})

// record runs perf record with options and a mode of child.c, and returns the file that it wrote.
func record(t testing.TB, options string, mode ...string) string {
	t.Helper()
	if _, err := exec.LookPath("perf"); err != nil {
		t.Skip("needs the package linux-perf")
	}
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("needs gcc, and libc6-dev")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: tracepoints")
	}
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	child, file := filepath.Join(dir, "child"), filepath.Join(dir, "perf.data")
	if err := os.WriteFile(child, bin, 0o755); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"record", "-B"}, strings.Fields(options)...)
	pipe := strings.Contains(options, "-o -")
	if !pipe {
		args = append(args, "-o", file)
	}
	cmd := exec.Command("perf", append(append(args, "--", child), mode...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.Bytes())
	}
	if pipe {
		if err := os.WriteFile(file, stdout.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// script returns the lines of perf script for the file, words separated by one space.
func script(t testing.TB, file string) []string {
	t.Helper()
	cmd := exec.Command("perf", "script", "-i", file, "--ns", "-F", "pid,tid,time,addr,ip,event,trace",
		"--show-mmap-events", "--show-task-events", "--show-lost-events")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.Bytes())
	}
	// An address in the kernel is printed as a symbol where perf knows it.
	symbol := regexp.MustCompile(`ip=[^ ]+ error`)
	var lines []string
	for line := range strings.Lines(string(out)) {
		line = strings.Join(strings.Fields(line), " ")
		line = symbol.ReplaceAllStringFunc(line, func(s string) string {
			if strings.HasPrefix(s, "ip=0x") && !strings.HasPrefix(s, "ip=0xffffffff") {
				return s
			}
			return "ip=kernel error"
		})
		lines = append(lines, line)
	}
	return lines
}

// line prints a record as perf script does.
func line(r *perf.Record) string {
	head := fmt.Sprintf("%d/%d %d.%09d: ", r.PID, r.TID, r.Time/1e9, r.Time%1e9)
	switch r.Kind {
	case perf.KindSample:
		addr := uint64(0)
		if r.Event.Role == perf.RoleFault {
			addr = uint64(r.Addr)
		}
		return head + r.Event.Name + ": " + payload(r) + fmt.Sprintf("%x %x", addr, r.IP)
	case perf.KindComm:
		exec := ""
		if r.Misc&perf.MiscCommExec != 0 {
			exec = " exec"
		}
		return head + fmt.Sprintf("PERF_RECORD_COMM%s: %s:%d/%d", exec, r.Name, r.OfPID, r.OfTID)
	case perf.KindFork, perf.KindExit:
		return head + fmt.Sprintf("PERF_RECORD_%v(%d:%d):(%d:%d)", r.Kind, r.TaskPID, r.TaskTID, r.ParentPID, r.ParentTID)
	case perf.KindMmap:
		return head + fmt.Sprintf("PERF_RECORD_MMAP %d/%d: [%#x(%#x) @ %s]: x %s", r.OfPID, r.OfTID, uint64(r.Addr), r.Len, hash(r.Offset), r.Name)
	case perf.KindMmap2:
		file := fmt.Sprintf("%02x:%02x %d %d", r.Major, r.Minor, r.Inode, r.InodeGen)
		if r.Misc&perf.MiscMmapBuildID != 0 {
			file = fmt.Sprintf("<%x>", r.BuildID)
		}
		return head + fmt.Sprintf("PERF_RECORD_MMAP2 %d/%d: [%#x(%#x) @ %s %s]: %s %s", r.OfPID, r.OfTID, uint64(r.Addr), r.Len,
			hash(r.Offset), file, prot(r), r.Name)
	case perf.KindLost:
		return head + fmt.Sprintf("PERF_RECORD_LOST lost %d", r.Lost)
	}
	return "" // of which perf script prints nothing
}

// hash is C's %#x, which has no 0x for zero.
func hash(n uint64) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%#x", n)
}

func prot(r *perf.Record) string {
	b := []byte("---p")
	for i, bit := range []uint32{unix.PROT_READ, unix.PROT_WRITE, unix.PROT_EXEC} {
		if r.Prot&bit != 0 {
			b[i] = "rwx"[i]
		}
	}
	if r.Flags&unix.MAP_SHARED != 0 {
		b[3] = 's'
	}
	return string(b)
}

// payload prints raw data as the kernel's print format has it.
func payload(r *perf.Record) string {
	switch r.Event.Role {
	case perf.RoleUserFault, perf.RoleKernelFault:
		ip := r.FaultIP.String()
		if r.FaultIP>>63 != 0 {
			ip = "kernel"
		}
		return fmt.Sprintf("address=%v ip=%s error_code=%#x ", r.Addr, ip, r.ErrorCode)
	case perf.RoleNewTask:
		p := r.Event.Point
		comm, _ := p.Field("comm")
		oom, _ := p.Field("oom_score_adj")
		name, _, _ := bytes.Cut(r.Raw[comm.Offset:comm.Offset+comm.Size], []byte{0})
		adj := int16(r.Raw[oom.Offset]) | int16(r.Raw[oom.Offset+1])<<8
		return fmt.Sprintf("pid=%d comm=%s clone_flags=%x oom_score_adj=%d ", r.NewPID, name, r.CloneFlags, adj)
	case perf.RoleSysEnter:
		a := r.Args
		return fmt.Sprintf("NR %d (%x, %x, %x, %x, %x, %x) ", r.Syscall, a[0], a[1], a[2], a[3], a[4], a[5])
	case perf.RoleSysExit:
		return fmt.Sprintf("NR %d = %d ", r.Syscall, r.Ret)
	}
	return ""
}

// load opens a file.
func load(t testing.TB, path string) *File {
	t.Helper()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	st, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := Open(r, st.Size())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// lines reads a file into what perf script prints.
func lines(t testing.TB, f *File) []string {
	t.Helper()
	var got []string
	if err := f.Read(func(r *perf.Record) error {
		if l := line(r); l != "" {
			got = append(got, strings.Join(strings.Fields(l), " "))
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// Every record, every field, in the order of perf script.
func TestAsPerfScript(t *testing.T) {
	for name, tt := range map[string]struct {
		options string
		mode    []string
		least   int // lines
	}{
		"plain":          {"-c 1 -d -k CLOCK_MONOTONIC -e " + all, []string{"tasks", "1"}, 80},
		"two CPUs":       {"-c 1 -d -k CLOCK_MONOTONIC -e " + all, []string{"migrate", "2000"}, 6000},
		"compressed":     {"-z -c 1 -d -k CLOCK_MONOTONIC -e " + all, []string{"tasks", "1"}, 80},
		"much, -z":       {"-z -c 1 -d -m 8M -e " + all, []string{"storm", "20480"}, 40000},
		"much, plain":    {"-c 1 -d -m 4M -e exceptions:page_fault_user", []string{"storm", "40960"}, 80000},
		"lost":           {"-c 1 -d -m 1 -e exceptions:page_fault_user", []string{"storm", "20480"}, 100},
		"one without id": {"-c 1 -d -e page-faults", []string{"tasks", "1"}, 40},
		"mixed":          {"-c 1 -d -e page-faults -e exceptions:page_fault_user -e dummy -e task:task_newtask", []string{"tasks", "1"}, 80},
		"build ids":      {"-c 1 -d --buildid-mmap -e " + all, []string{"tasks", "1"}, 80},
		"with stacks":    {"-c 1 -d -g -k CLOCK_MONOTONIC -e " + all, []string{"tasks", "1"}, 80},
		"pipe":           {"-o - -c 1 -d -k CLOCK_MONOTONIC -e " + all, []string{"tasks", "1"}, 80},
		"pipe, -z":       {"-o - -z -c 1 -d -k CLOCK_MONOTONIC -e " + all, []string{"tasks", "1"}, 80},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.mode[0] != "storm" { // which must not be disturbed
				t.Parallel()
			}
			path := record(t, tt.options, tt.mode...)
			f := load(t, path)
			got, want := lines(t, f), script(t, path)
			if strings.Contains(tt.options, "-g") {
				want = withoutStacks(want)
				for i := range got {
					got[i] = addrAndIP.ReplaceAllString(got[i], "$1")
				}
			}
			if !slices.Equal(want, got) { // cmp alone takes its time
				t.Errorf("records (-want +got):\n%.4000s", cmp.Diff(want, got))
			}
			// A busy machine may lose some elsewhere, and perf script then has them lost too.
			if lost := f.Facts().Lost; lost == 0 && (name == "lost" || len(got) < tt.least) {
				t.Errorf("%d lines, %d lost", len(got), lost)
			}
			if f.Facts().Late != 0 {
				t.Errorf("%d records were late", f.Facts().Late)
			}
		})
	}
}

// withoutStacks drops the lines of call chains. The sample's own address is among
// them, and not behind the sample.
func withoutStacks(in []string) []string {
	var out []string
	for _, l := range in {
		if strings.Contains(l, "/") && strings.Contains(l, ": ") {
			out = append(out, l)
		}
	}
	return out
}

// addrAndIP are the two last words of a sample.
var addrAndIP = regexp.MustCompile(`( 0) ffffffff[0-9a-f]+$`)
