package perf

import (
	"slices"
	"strconv"
	"strings"
)

// memorySyscalls are the numbers (arch/x86/entry/syscalls/syscall_64.tbl) of the calls
// that change what a process has mapped or which pages are there: mmap, mprotect,
// munmap, brk, mremap, madvise, shmat, shmdt, mlock, munlock, mlockall, munlockall,
// remap_file_pages, mlock2, pkey_mprotect, process_madvise, mseal.
var memorySyscalls = []int{9, 10, 11, 12, 25, 28, 30, 67, 149, 150, 151, 152, 216, 325, 329, 440, 462}

// exitSyscalls are exit and exit_group.
var exitSyscalls = []int{60, 231}

// MemoryAndExit are memorySyscalls, and those that say with which status a process ends.
var MemoryAndExit = slices.Concat(memorySyscalls, exitSyscalls)

// execFilter lets the returns of execve and execveat pass that succeeded.
const execFilter = "(id == 59 || id == 322) && ret == 0"

// SyscallFilter returns the filter of raw_syscalls events that lets those numbers pass.
func SyscallFilter(numbers []int) string {
	var b strings.Builder
	for i, n := range numbers {
		if i > 0 {
			b.WriteString(" || ")
		}
		b.WriteString("id == " + strconv.Itoa(n))
	}
	return b.String()
}
