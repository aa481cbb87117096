/* What perf's tests record: a program that does known things, in the mode argv[1]. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define BASE ((char *)0x10000000000)
#define PAGE 4096

static char *map(long pages)
{
	char *p = mmap(BASE, pages * PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (p != BASE)
		exit(3);
	if (madvise(p, pages * PAGE, MADV_NOHUGEPAGE))
		exit(4);
	return p;
}

/* Writes to even pages, reads odd ones, in order, one byte at page offset 8 * page % 4096. */
static void touch(char *p, long from, long to)
{
	for (long i = from; i < to; i++) {
		volatile char *at = p + i * PAGE + 8 * i % PAGE;
		if (i % 2)
			(void)*at;
		else
			*at = 1;
	}
}

static long faults(void)
{
	struct rusage u;
	syscall(SYS_getrusage, RUSAGE_SELF, &u);
	return u.ru_minflt + u.ru_majflt;
}

static void *thread(void *p)
{
	touch(p, 0, 1);
	return 0;
}

static void on(int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	long n = argc > 2 ? atol(argv[2]) : 0;
	char c;

	if (!strcmp(mode, "touch")) { /* between two getrusage calls nothing but the touches */
		char *p = map(n);
		long before = faults(), after;
		touch(p, 0, n);
		after = faults();
		printf("%ld\n", after - before);
	} else if (!strcmp(mode, "kernel")) { /* the kernel writes n pages */
		char *p = map(n);
		int fd = open("/dev/zero", O_RDONLY);
		return read(fd, p, n * PAGE) == n * PAGE ? 0 : 5;
	} else if (!strcmp(mode, "tasks")) { /* a fork, a thread, a vfork */
		char *p = map(n);
		pthread_t t;
		if (fork() == 0)
			_exit(0);
		wait(0);
		pthread_create(&t, 0, thread, p);
		pthread_join(t, 0);
		if (vfork() == 0)
			_exit(0);
		wait(0);
	} else if (!strcmp(mode, "calls")) {
		char *p = map(4);
		mprotect(p, PAGE, PROT_READ);
		mremap(p + PAGE, PAGE, 2 * PAGE, 0); /* its neighbour is in the way: ENOMEM */
		munmap(p + 3 * PAGE, PAGE);
		madvise(p, PAGE, MADV_DONTNEED);
	} else if (!strcmp(mode, "steps")) { /* waits after each page for a byte */
		char *p = map(n);
		for (long i = 0; i < n; i++) {
			touch(p, i, i + 1);
			write(1, "x", 1);
			if (read(0, &c, 1) != 1)
				return 6;
		}
	} else if (!strcmp(mode, "migrate")) { /* every page from another CPU than the last */
		char *p = map(n);
		for (long i = 0; i < n; i++) {
			on(i % 2);
			touch(p, i, i + 1);
		}
	} else if (!strcmp(mode, "orphan")) { /* ends before its child */
		char *p = map(n);
		if (fork() == 0) {
			usleep(200000);
			touch(p, 0, n);
		}
	} else if (!strcmp(mode, "killed")) { /* by its child */
		if (fork() == 0)
			return kill(getppid(), SIGTERM);
		pause();
	} else if (!strcmp(mode, "storm")) { /* two processes, n faults each */
		for (int k = 0; k < 2; k++)
			if (fork() == 0) {
				char *p = map(1024);
				for (long i = 0; i < n; i += 1024) {
					touch(p, 0, 1024);
					madvise(p, 1024 * PAGE, MADV_DONTNEED);
				}
				_exit(0);
			}
		while (wait(0) > 0)
			;
	} else if (!strcmp(mode, "gate")) { /* waits for a byte, then execs the words behind it, without environment */
		char *none[] = {0};
		if (read(0, &c, 1) == 1)
			execve(argv[2], argv + 2, none);
		return 7;
	} else {
		return 2;
	}
	return 0;
}
