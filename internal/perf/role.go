package perf

import (
	"fmt"

	"golang.org/x/sys/unix"

	"vmsim/mem"
)

// Role is what an event means to a reader of memory traces.
type Role uint8

const (
	RoleOther       Role = iota
	RoleUserFault        // exceptions:page_fault_user
	RoleKernelFault      // exceptions:page_fault_kernel: the kernel, on behalf of a program
	RoleFault            // the software event page-faults: resolved ones, without an error code
	RoleNewTask          // task:task_newtask
	RoleSysEnter         // raw_syscalls:sys_enter
	RoleSysExit          // raw_syscalls:sys_exit
	RoleSignal           // signal:signal_generate
	RoleDeliver          // signal:signal_deliver
	RoleSideband         // the event dummy: it has no samples, and asks for the other records
)

// String returns the event's name.
func (r Role) String() string {
	for name, role := range roles {
		if role == r {
			return name
		}
	}
	switch r {
	case RoleFault:
		return "page-faults"
	case RoleSideband:
		return "dummy"
	}
	return "other"
}

// roles are the tracepoints that have one.
var roles = map[string]Role{
	"exceptions:page_fault_user":   RoleUserFault,
	"exceptions:page_fault_kernel": RoleKernelFault,
	"task:task_newtask":            RoleNewTask,
	"raw_syscalls:sys_enter":       RoleSysEnter,
	"raw_syscalls:sys_exit":        RoleSysExit,
	"signal:signal_generate":       RoleSignal,
	"signal:signal_deliver":        RoleDeliver,
}

// slots are the names of the fields that a role needs, in the order in which
// payload reads them. An array is named with the number of its elements.
var slots = map[Role][]slotName{
	RoleUserFault:   {{"address", 1}, {"ip", 1}, {"error_code", 1}},
	RoleKernelFault: {{"address", 1}, {"ip", 1}, {"error_code", 1}},
	RoleNewTask:     {{"pid", 1}, {"clone_flags", 1}},
	RoleSysEnter:    {{"id", 1}, {"args", 6}},
	RoleSysExit:     {{"id", 1}, {"ret", 1}, {"common_pid", 1}},
	RoleSignal:      {{"sig", 1}, {"pid", 1}, {"result", 1}},
	RoleDeliver:     {{"sig", 1}, {"sa_handler", 1}},
}

type slotName struct {
	name string
	n    int
}

// slot is where in the raw data a field is.
type slot struct {
	off, size int
	signed    bool
}

// compile finds the fields that the role of t needs. min is how many bytes of
// raw data they need.
func compile(t *Tracepoint, r Role) (found []slot, min int, err error) {
	for _, want := range slots[r] {
		f, ok := t.Field(want.name)
		if !ok {
			return nil, 0, fmt.Errorf("%v: it has no field %s", t, want.name)
		}
		size := f.Size / want.n
		if f.Size%want.n != 0 || (size != 1 && size != 2 && size != 4 && size != 8) {
			return nil, 0, fmt.Errorf("%v: field %s of %d bytes: %d numbers were expected", t, want.name, f.Size, want.n)
		}
		found = append(found, slot{f.Offset, size, f.Signed})
		min = max(min, f.Offset+f.Size)
	}
	return found, min, nil
}

// payload fills in what the event's role says of its raw data.
func (e *Event) payload(r *Record) error {
	if e.Role == RoleFault {
		r.FaultIP = mem.VirtAddr(r.IP) // Addr is the sample's own
		return nil
	}
	if len(e.slots) == 0 {
		return nil
	}
	if len(r.Raw) < e.minRaw {
		return fmt.Errorf("%s: %d bytes of raw data: its fields need %d", e.Name, len(r.Raw), e.minRaw)
	}
	at := func(i int) uint64 { s := &e.slots[i]; return load(r.Raw, s.off, s.size, s.signed) }
	switch e.Role {
	case RoleUserFault, RoleKernelFault:
		r.Addr, r.FaultIP, r.ErrorCode = mem.VirtAddr(at(0)), mem.VirtAddr(at(1)), at(2)
	case RoleNewTask:
		r.NewPID, r.CloneFlags = int32(at(0)), at(1)
	case RoleSysEnter:
		r.Syscall = int64(at(0))
		args := &e.slots[1]
		for i := range r.Args {
			r.Args[i] = load(r.Raw, args.off+i*args.size, args.size, args.signed)
		}
	case RoleSysExit:
		r.Syscall, r.Ret, r.HostTID = int64(at(0)), int64(at(1)), int32(at(2))
	case RoleSignal:
		r.Signal, r.Target, r.Result = int32(at(0)), int32(at(1)), int32(at(2))
	case RoleDeliver:
		r.Signal, r.Handler = int32(at(0)), mem.VirtAddr(at(1))
	}
	return nil
}

// Event is one event that was opened: on all CPUs, for all tasks.
type Event struct {
	Name  string // exceptions:page_fault_user, page-faults
	Attr  Attr
	Role  Role
	Point *Tracepoint // nil if it is none, or if its layout is not known

	index  int    // in the Decoder
	slots  []slot // by role
	minRaw int    // bytes of raw data that slots need

	hasTime             bool // records have their time, so many bytes from here:
	timeSample, timeEnd int  // the end of a sample's header, the end of any other record
}

// NewEvent returns an event with those attributes. point is nil for one that is
// no tracepoint, and for a tracepoint whose layout is not known: its samples
// have Raw alone, and RoleOther. An error is a layout that lacks what the role needs.
func NewEvent(name string, attr Attr, point *Tracepoint) (*Event, error) {
	e := &Event{Name: name, Attr: attr, Point: point}
	switch {
	case point != nil:
		if name == "" {
			e.Name = point.String()
		}
		e.Role = roles[point.String()]
		var err error
		if e.slots, e.minRaw, err = compile(point, e.Role); err != nil {
			return nil, err
		}
	case attr.Type == unix.PERF_TYPE_SOFTWARE && attr.Config == unix.PERF_COUNT_SW_DUMMY:
		e.Role = RoleSideband
	case attr.Type == unix.PERF_TYPE_SOFTWARE && isFaults(attr.Config):
		e.Role = RoleFault
	}
	e.timeSample, e.timeEnd, e.hasTime = attr.timeAt()
	if e.Name == "" {
		e.Name = e.Role.String()
	}
	return e, nil
}

func isFaults(config uint64) bool { return config == unix.PERF_COUNT_SW_PAGE_FAULTS }
