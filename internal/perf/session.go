package perf

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Session records the events of a tree of processes. Read, Flush and Close are for one
// goroutine; Post is for any.
type Session struct {
	level   Level
	missing []Missing
	closing func(fds []int) error // Config.Release, or nil
	dec     Decoder
	rings   []*ring // by CPU
	queues  []queue // of the rings
	fds     []opened
	poll    []unix.PollFd
	limit   int // bytes that queues hold before Read waits
	barrier *barrier
	rec     Record // the one that is delivered

	mu     sync.Mutex
	posted []posted // in the order of their times

	bound uint64   // everything before was delivered
	last  uint64   // place of the record that was delivered last
	seen  []uint64 // samples by Event.index
	stats Stats
}

// opened is an event on one CPU.
type opened struct {
	fd    int
	event *Event
}

// posted is what Post was given.
type posted struct {
	time  uint64
	value any
}

// The events of a session, but for their tracepoints. sampleType is the least that orders samples
// and tells whose they are: raw data has the rest.
const (
	sampleType = unix.PERF_SAMPLE_IDENTIFIER | unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME
	sideband   = unix.PerfBitMmap | unix.PerfBitMmap2 | unix.PerfBitMmapData | unix.PerfBitComm |
		unix.PerfBitCommExec | unix.PerfBitTask
	allEvents = unix.PerfBitInherit | unix.PerfBitSampleIDAll | unix.PerfBitWatermark | unix.PerfBitUseClockID
)

// Open attaches events to cfg.PID, disabled until it execs (unless cfg.Now), and maps the rings.
//
// Errors wrap ErrNotPermitted if no event may be opened, and ErrNoTracefs or the
// kernel's error if cfg.Level asks for what is not to be had.
func Open(cfg Config) (*Session, error) {
	cpus, err := onlineCPUs()
	if err != nil {
		return nil, err
	}
	why := "tracepoints were not asked for"
	if cfg.Level != LevelFaults {
		s, err := openLevel(cfg, cpus, LevelTracepoints, 0)
		if err == nil || cfg.Level == LevelTracepoints {
			return s, err
		}
		why = reason(err)
	}
	missing := []Missing{{MissingCodes, why}, {MissingUnresolved, why}, {MissingSyscalls, why}, {MissingCloneFlags, why}}
	s, err := openLevel(cfg, cpus, LevelFaults, 0)
	if denied(err) {
		missing = append(missing, Missing{MissingKernelFaults, reason(err)})
		s, err = openLevel(cfg, cpus, LevelFaults, unix.PerfBitExcludeKernel|unix.PerfBitExcludeHv)
	}
	if denied(err) || errors.Is(err, unix.ENOSYS) {
		return nil, fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	if err != nil {
		return nil, err
	}
	s.missing = append(missing, s.missing...)
	return s, nil
}

// denied reports whether err is that the user may not do this.
func denied(err error) bool { return errors.Is(err, os.ErrPermission) }

// reason says why something is missing.
func reason(err error) string {
	if denied(err) {
		return "needs root: " + err.Error()
	}
	return err.Error()
}

// plan is an event before it is opened.
type plan struct {
	attr   unix.PerfEventAttr
	point  *Tracepoint
	filter string
	all    bool // of all tasks of the machine
}

// openLevel opens the events of one level. flags are added to the attributes of all of them.
func openLevel(cfg Config, cpus []int, level Level, flags uint64) (_ *Session, err error) {
	plans, err := plansOf(cfg, level)
	if err != nil {
		return nil, err
	}
	size := ringSize(cfg.Ring, len(cpus))
	if !cfg.Now {
		flags |= unix.PerfBitEnableOnExec | unix.PerfBitDisabled
	}
	s := &Session{level: level, closing: cfg.Release}
	defer func() {
		if err != nil {
			s.release()
		}
	}()
	format := uint64(unix.PERF_FORMAT_LOST)
	for i := range plans {
		p := &plans[i]
		p.attr.Size = unix.PERF_ATTR_SIZE_VER5
		p.attr.Bits |= allEvents | flags
		if p.all {
			p.attr.Bits &^= unix.PerfBitInherit | unix.PerfBitEnableOnExec | unix.PerfBitDisabled
		}
		p.attr.Clockid = unix.CLOCK_MONOTONIC
		p.attr.Sample_type |= sampleType
		p.attr.Wakeup = uint32(size / 4)
		if format, err = s.openEvent(cfg.PID, cpus, p, format); err != nil {
			return nil, err
		}
	}
	if format == 0 {
		s.missing = append(s.missing, Missing{MissingLost, "the kernel is older than Linux 6.0"})
	}
	if err := s.mapRings(cpus, size); err != nil {
		if size > os.Getpagesize() && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOMEM)) {
			cfg.Ring = size / 2 // from the start: events cannot be given another watermark
			s.release()
			s.fds = nil
			return openLevel(cfg, cpus, level, flags)
		}
		return nil, err
	}
	s.seen = make([]uint64, len(s.dec.Events()))
	for _, o := range s.fds { // only now: without their rings enabled events lose what they see
		if cfg.Now {
			if err := unix.IoctlSetInt(o.fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
				return nil, fmt.Errorf("enable %s: %w", o.event.Name, err)
			}
		}
	}
	s.barrier = newBarrier()
	return s, nil
}

// plansOf returns the events of a level. The first is the sideband, which owns the rings.
func plansOf(cfg Config, level Level) ([]plan, error) {
	plans := []plan{{attr: unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_DUMMY, Bits: sideband, Sample: 1,
	}}}
	if level == LevelFaults {
		return append(plans, plan{attr: unix.PerfEventAttr{
			Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_PAGE_FAULTS, Sample: 1,
			Sample_type: unix.PERF_SAMPLE_IP | unix.PERF_SAMPLE_ADDR,
		}}), nil
	}
	dir := cfg.Tracefs
	if dir == "" {
		found, done, err := FindTracefs()
		if err != nil {
			return nil, err
		}
		defer done()
		dir = found
	}
	names := []string{"exceptions:page_fault_user", "exceptions:page_fault_kernel", "task:task_newtask"}
	if len(cfg.Syscalls) > 0 {
		names = append(names, "raw_syscalls:sys_enter", "raw_syscalls:sys_exit")
	}
	if cfg.Alone {
		names = append(names, "signal:signal_generate", "signal:signal_deliver")
	}
	for _, name := range names {
		point, err := LoadTracepoint(dir, name)
		if err != nil {
			return nil, err
		}
		p := plan{point: point, attr: unix.PerfEventAttr{
			Type: unix.PERF_TYPE_TRACEPOINT, Config: point.ID, Sample: 1, Sample_type: unix.PERF_SAMPLE_RAW,
		}}
		if strings.HasPrefix(name, "raw_syscalls:") {
			p.filter = SyscallFilter(cfg.Syscalls)
		}
		p.all = name == "signal:signal_generate" // by whoever sends it
		plans = append(plans, p)
		if cfg.Alone && name == "raw_syscalls:sys_exit" {
			plans = append(plans, execReturn(p))
		}
	}
	return plans, nil
}

// execReturn is plan p of sys_exit for the returns of execve that succeed, with the new
// program's stack pointer and what exec put there.
func execReturn(p plan) plan {
	const most = 65528 // a multiple of 8 below 64 KiB; the kernel takes what fits into a record
	p.filter = execFilter
	p.attr.Sample_type |= unix.PERF_SAMPLE_REGS_USER | unix.PERF_SAMPLE_STACK_USER
	p.attr.Sample_regs_user = 1<<regSP | 1<<regIP
	p.attr.Sample_stack_user = most
	return p
}

// openEvent opens p for the process on each CPU: an event that is inherited may only have
// the ring of one CPU. format is the read format; it returns 0 if the kernel does not have it.
func (s *Session) openEvent(pid int, cpus []int, p *plan, format uint64) (uint64, error) {
	p.attr.Read_format = format
	e, err := NewEvent("", Attr{
		Type: p.attr.Type, Config: p.attr.Config, Period: p.attr.Sample, SampleType: p.attr.Sample_type,
		ReadFormat: format, Flags: p.attr.Bits, ClockID: p.attr.Clockid, UserRegs: p.attr.Sample_regs_user,
	}, p.point)
	if err != nil {
		return format, err
	}
	if p.all {
		pid = -1
	}
	var ids []uint64
	for _, cpu := range cpus {
		fd, err := unix.PerfEventOpen(&p.attr, pid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err == unix.EINVAL && p.attr.Read_format != 0 {
			p.attr.Read_format, format, e.Attr.ReadFormat = 0, 0, 0
			fd, err = unix.PerfEventOpen(&p.attr, pid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		}
		if err != nil {
			return format, fmt.Errorf("open %s on CPU %d: %w", e.Name, cpu, err)
		}
		s.fds = append(s.fds, opened{fd, e})
		id, err := prepare(fd, p.filter)
		if err != nil {
			return format, fmt.Errorf("%s: %w", e.Name, err)
		}
		ids = append(ids, id)
	}
	return format, s.dec.Add(e, ids...)
}

// prepare sets the filter, if there is one, and returns the id that fd's records have.
func prepare(fd int, filter string) (uint64, error) {
	if filter != "" {
		text := append([]byte(filter), 0)
		if err := ioctl(fd, unix.PERF_EVENT_IOC_SET_FILTER, unsafe.Pointer(&text[0])); err != nil {
			return 0, fmt.Errorf("filter %q: %w", filter, err)
		}
	}
	var id uint64
	if err := ioctl(fd, unix.PERF_EVENT_IOC_ID, unsafe.Pointer(&id)); err != nil {
		return 0, fmt.Errorf("id: %w", err)
	}
	return id, nil
}

func ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// ringSize rounds want up to a power of two of pages.
func ringSize(want, cpus int) int {
	if want <= 0 {
		want = DefaultRing(cpus)
	}
	const most = 1 << 30
	want = max(min(want, most), os.Getpagesize())
	return 1 << bits.Len(uint(want-1))
}

// mapRings gives each CPU a ring of size bytes, and lets all its events write there.
func (s *Session) mapRings(cpus []int, size int) error {
	for i, cpu := range cpus {
		r, err := mapRing(s.fds[i].fd, cpu, size)
		if err != nil {
			return fmt.Errorf("map a ring buffer of %d bytes: %w", size, err)
		}
		s.rings = append(s.rings, r)
		s.poll = append(s.poll, unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN})
	}
	s.limit = max(2*size, 4<<20) * len(cpus)
	s.stats.Ring = size
	s.queues = make([]queue, len(cpus))
	for i, o := range s.fds[len(cpus):] {
		to := s.rings[i%len(cpus)]
		if err := unix.IoctlSetInt(o.fd, unix.PERF_EVENT_IOC_SET_OUTPUT, to.fd); err != nil {
			return fmt.Errorf("%s: share the ring buffer of CPU %d: %w", o.event.Name, to.cpu, err)
		}
	}
	return nil
}

func (s *Session) unmapRings() error {
	var first error
	for _, r := range s.rings {
		if err := r.unmap(); err != nil && first == nil {
			first = err
		}
	}
	s.rings, s.poll = nil, nil
	return first
}

// release gives everything back to the kernel.
func (s *Session) release() error {
	first := s.unmapRings()
	fds := make([]int, len(s.fds))
	for i, o := range s.fds {
		fds[i] = o.fd
	}
	s.fds = nil
	if s.closing == nil || s.closing(fds) != nil {
		for _, fd := range fds {
			if err := unix.Close(fd); err != nil && first == nil {
				first = err
			}
		}
	}
	if s.barrier != nil {
		s.barrier.stop()
		s.barrier = nil
	}
	return first
}

// Level returns which events there are.
func (s *Session) Level() Level { return s.level }

// Missing returns what is not recorded, and why.
func (s *Session) Missing() []Missing { return s.missing }
