package perf

// Syscall is a system call of x86-64.
type Syscall struct {
	Name string
	Nr   int
}

// MemorySyscalls are the calls that change what a process has mapped, which pages are
// there, or which processes there are (arch/x86/entry/syscalls/syscall_64.tbl).
var MemorySyscalls = []Syscall{
	{"mmap", 9}, {"mprotect", 10}, {"munmap", 11}, {"brk", 12}, {"mremap", 25}, {"madvise", 28},
	{"shmat", 30}, {"shmdt", 67}, {"remap_file_pages", 216}, {"pkey_mprotect", 329}, {"process_madvise", 440},
	{"mseal", 462}, {"mlock", 149}, {"munlock", 150}, {"mlockall", 151}, {"munlockall", 152}, {"mlock2", 325},
	{"clone", 56}, {"fork", 57}, {"vfork", 58}, {"execve", 59}, {"exit", 60}, {"exit_group", 231}, {"execveat", 322},
	{"clone3", 435}, {"personality", 135}, {"prctl", 157},
}

// Numbers returns the numbers of calls.
func Numbers(calls []Syscall) []int {
	numbers := make([]int, len(calls))
	for i, c := range calls {
		numbers[i] = c.Nr
	}
	return numbers
}
