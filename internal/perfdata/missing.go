package perfdata

import (
	"fmt"

	"golang.org/x/sys/unix"

	"vmsim/internal/perf"
)

func (f *File) miss(what, why string) {
	f.facts.Missing = append(f.facts.Missing, perf.Missing{What: what, Why: why})
}

// taskFlags: with any of these the kernel writes forks and exits (perf_event_task_match).
const taskFlags = unix.PerfBitTask | unix.PerfBitComm | unix.PerfBitMmap | unix.PerfBitMmap2 | unix.PerfBitMmapData

// findMissing says what the events do not tell.
func (f *File) findMissing() {
	var flags uint64 // that at least one event has
	var mask uint64  // of fields of samples that all have
	inherit, mask := true, ^mask
	have := map[perf.Role]*perf.Event{}
	for _, e := range f.dec.Events() {
		flags |= e.Attr.Flags
		mask &= e.Attr.SampleType
		inherit = inherit && e.Attr.Flags&unix.PerfBitInherit != 0
		have[e.Role] = e
		if e.Attr.Flags&unix.PerfBitUseClockID != 0 {
			f.info.Clock, f.info.HasClock = e.Attr.ClockID, true
		}
		f.eventMisses(e)
	}
	for _, m := range []struct {
		absent bool
		what   string
		why    string
	}{
		{mask&unix.PERF_SAMPLE_TIME == 0, MissingTimes, "recorded without -T"},
		{flags&(unix.PerfBitMmap|unix.PerfBitMmap2) == 0, MissingMaps, "no event asks for them"},
		{flags&unix.PerfBitMmapData == 0, MissingDataMaps, "recorded without -d"},
		{flags&taskFlags == 0, MissingTasks, "no event asks for them"},
		{flags&unix.PerfBitCommExec == 0, MissingExecs, "no event asks for them"},
		{!inherit, MissingChildren, "recorded with --no-inherit"},
	} {
		if m.absent {
			f.miss(m.what, m.why)
		}
	}
	f.rolesMissing(have)
}

// rolesMissing says which events were not recorded at all.
func (f *File) rolesMissing(have map[perf.Role]*perf.Event) {
	absent := func(r perf.Role) bool { return have[r] == nil }
	if absent(perf.RoleUserFault) {
		f.miss(perf.MissingCodes, "recorded without "+perf.RoleUserFault.String())
		if soft := have[perf.RoleFault]; soft != nil && soft.Attr.Flags&unix.PerfBitExcludeKernel != 0 {
			f.miss(perf.MissingKernelFaults, "recorded with "+soft.Name)
		}
	}
	if absent(perf.RoleKernelFault) && absent(perf.RoleFault) {
		f.miss(perf.MissingKernelFaults, "recorded without "+perf.RoleKernelFault.String())
	}
	if absent(perf.RoleSysEnter) || absent(perf.RoleSysExit) {
		f.miss(perf.MissingSyscalls, "recorded without raw_syscalls:sys_enter or sys_exit")
	}
	if absent(perf.RoleNewTask) {
		f.miss(perf.MissingCloneFlags, "recorded without "+perf.RoleNewTask.String())
	}
}

// eventMisses says what one event does not tell.
func (f *File) eventMisses(e *perf.Event) {
	if e.Role != perf.RoleSideband && !e.Attr.Every() {
		how := fmt.Sprintf("one sample for %d", e.Attr.Period)
		if e.Attr.Flags&unix.PerfBitFreq != 0 {
			how = fmt.Sprintf("%d samples a second", e.Attr.Period)
		}
		f.miss(MissingSamples, fmt.Sprintf("%s: %s: recorded without -c 1", e.Name, how))
	}
	if e.Attr.Type != typeTracepoint {
		return
	}
	if e.Point == nil {
		f.miss(MissingLayouts, fmt.Sprintf("%s: the file does not have it", e.Name))
	}
	if !e.Attr.Has(unix.PERF_SAMPLE_RAW) {
		f.miss(MissingLayouts, fmt.Sprintf("%s: its samples have no raw data: recorded without -R", e.Name))
	}
}
