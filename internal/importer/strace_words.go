package importer

// The words of strace, with the kernel's values (include/uapi, x86-64).
var (
	protWords = map[string]uint64{
		"PROT_NONE": 0, "PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4, "PROT_SEM": 8,
		"PROT_GROWSDOWN": 0x1000000, "PROT_GROWSUP": 0x2000000,
	}
	mapWords = map[string]uint64{
		"MAP_FILE": 0, "MAP_SHARED": 1, "MAP_PRIVATE": 2, "MAP_SHARED_VALIDATE": 3, "MAP_DROPPABLE": 8,
		"MAP_FIXED": 0x10, "MAP_ANONYMOUS": mapAnonymous, "MAP_ANON": mapAnonymous, "MAP_32BIT": 0x40, "MAP_ABOVE4G": 0x80,
		"MAP_GROWSDOWN": 0x100, "MAP_DENYWRITE": 0x800, "MAP_EXECUTABLE": 0x1000, "MAP_LOCKED": 0x2000,
		"MAP_NORESERVE": 0x4000, "MAP_POPULATE": 0x8000, "MAP_NONBLOCK": 0x10000, "MAP_STACK": 0x20000,
		"MAP_HUGETLB": 0x40000, "MAP_SYNC": 0x80000, "MAP_FIXED_NOREPLACE": 0x100000, "MAP_UNINITIALIZED": 0x4000000,
		"MAP_HUGE_SHIFT": 26,
	}
	remapWords  = map[string]uint64{"MREMAP_MAYMOVE": 1, "MREMAP_FIXED": 2, "MREMAP_DONTUNMAP": 4}
	adviceWords = map[string]uint64{
		"MADV_NORMAL": 0, "MADV_RANDOM": 1, "MADV_SEQUENTIAL": 2, "MADV_WILLNEED": 3, "MADV_DONTNEED": 4, "MADV_FREE": 8,
		"MADV_REMOVE": 9, "MADV_DONTFORK": 10, "MADV_DOFORK": 11, "MADV_MERGEABLE": 12, "MADV_UNMERGEABLE": 13,
		"MADV_HUGEPAGE": 14, "MADV_NOHUGEPAGE": 15, "MADV_DONTDUMP": 16, "MADV_DODUMP": 17, "MADV_WIPEONFORK": 18,
		"MADV_KEEPONFORK": 19, "MADV_COLD": 20, "MADV_PAGEOUT": 21, "MADV_POPULATE_READ": 22, "MADV_POPULATE_WRITE": 23,
		"MADV_DONTNEED_LOCKED": 24, "MADV_COLLAPSE": 25, "MADV_HWPOISON": 100, "MADV_SOFT_OFFLINE": 101,
		"MADV_GUARD_INSTALL": 102, "MADV_GUARD_REMOVE": 103,
	}
	mlockWords    = map[string]uint64{"MLOCK_ONFAULT": 1}
	mlockallWords = map[string]uint64{"MCL_CURRENT": 1, "MCL_FUTURE": 2, "MCL_ONFAULT": 4}
	shmWords      = map[string]uint64{
		"SHM_RDONLY": shmReadOnly, "SHM_RND": shmRound, "SHM_REMAP": shmRemap, "SHM_EXEC": shmExec,
		"IPC_CREAT": ipcCreate, "IPC_EXCL": ipcExclusive, "SHM_HUGETLB": 04000, "SHM_NORESERVE": 010000, "SHM_HUGE_SHIFT": 26,
	}
	cloneWords = map[string]uint64{
		"CLONE_VM": cloneVM, "CLONE_FS": cloneFS, "CLONE_FILES": cloneFiles, "CLONE_SIGHAND": 0x800, "CLONE_PIDFD": 0x1000,
		"CLONE_PTRACE": 0x2000, "CLONE_VFORK": cloneVfork, "CLONE_PARENT": 0x8000, "CLONE_THREAD": cloneThread,
		"CLONE_NEWNS": 0x20000, "CLONE_SYSVSEM": 0x40000, "CLONE_SETTLS": 0x80000, "CLONE_PARENT_SETTID": 0x100000,
		"CLONE_CHILD_CLEARTID": 0x200000, "CLONE_DETACHED": 0x400000, "CLONE_UNTRACED": 0x800000,
		"CLONE_CHILD_SETTID": 0x1000000, "CLONE_NEWCGROUP": 0x2000000, "CLONE_NEWUTS": 0x4000000,
		"CLONE_NEWIPC": 0x8000000, "CLONE_NEWUSER": 0x10000000, "CLONE_NEWPID": 0x20000000, "CLONE_NEWNET": 0x40000000,
		"CLONE_IO": 0x80000000, "CLONE_CLEAR_SIGHAND": 1 << 32, "CLONE_INTO_CGROUP": 1 << 33, "CLONE_NEWTIME": 0x80,
	}
)

// Bits that the importer itself looks at.
const (
	mapAnonymous = 0x20
	mapHugeTLB   = 0x40000

	shmReadOnly = 010000
	shmRound    = 020000
	shmRemap    = 040000
	shmExec     = 0100000

	ipcCreate    = 01000
	ipcExclusive = 02000

	cloneSignal = 0xff // CSIGNAL: of clone's flags, the signal at the child's end
	cloneVM     = 0x100
	cloneFS     = 0x200
	cloneFiles  = 0x400
	cloneVfork  = 0x4000
	cloneThread = 0x10000
)
