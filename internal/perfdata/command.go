package perfdata

import "vmsim/internal/perf"

// RecordCommand returns the words of the command, without the one to record, that writes
// a file with all that a trace of memory needs: every fault of programs and of the
// kernel, clone flags, memory calls with arguments and results, exit statuses, mappings of code and data. -B: build ids of
// the whole system are not looked up. -m is the ring, which a storm of faults must not overflow.
//
// setarch -R comes first, so that the addresses are the same in each run and
// setarch itself is not recorded.
func RecordCommand(file string) []string {
	filter := perf.SyscallFilter(perf.MemoryAndExit)
	return []string{
		"setarch", "-R", "perf", "record", "-o", file, "-c", "1", "-d", "-B", "-k", "CLOCK_MONOTONIC", "-m", "16M",
		"-e", "exceptions:page_fault_user", "-e", "exceptions:page_fault_kernel", "-e", "task:task_newtask",
		"-e", "raw_syscalls:sys_enter", "--filter", filter, "-e", "raw_syscalls:sys_exit", "--filter", filter, "--",
	}
}
