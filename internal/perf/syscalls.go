package perf

// MemorySyscalls are the numbers (arch/x86/entry/syscalls/syscall_64.tbl) of the calls
// that change what a process has mapped or which pages are there: mmap, mprotect,
// munmap, brk, mremap, madvise, shmat, shmdt, mlock, munlock, mlockall, munlockall,
// remap_file_pages, mlock2, pkey_mprotect, process_madvise, mseal. Processes are told
// of by other records.
var MemorySyscalls = []int{9, 10, 11, 12, 25, 28, 30, 67, 149, 150, 151, 152, 216, 325, 329, 440, 462}
