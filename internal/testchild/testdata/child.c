/* A process to look at. Usage: child MODE [FILE]; it does what MODE says, prints
 * a line, "ready ADDRESS", and lives until its standard input ends. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (64 * 4096)

int table[3000] = {1, 2, 3};           /* .data, pages of it never written */
const char constants[9000] = {"never written"};

__attribute__((noinline)) int work(int x) { return x * 3 + table[x & 7]; }
__attribute__((noinline)) int never(int x) { return x * 5 + table[x & 7]; }

static char *map(const char *file, int prot, int flags)
{
	int fd = open(file, prot & PROT_WRITE && flags & MAP_SHARED ? O_RDWR : O_RDONLY);
	long size = lseek(fd, 0, SEEK_END);
	char *p = mmap(NULL, size, prot, flags, fd, 0);

	close(fd);
	if (p == MAP_FAILED) {
		perror(file);
		exit(1);
	}
	return p;
}

static void touch(volatile char *p, long size)
{
	for (long i = 0; i < size; i += 4096)
		(void)p[i];
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "plain", *file = argc > 2 ? argv[2] : "";
	char *p = NULL, c;

	if (!strcmp(mode, "map")) {               /* every page present, clean */
		p = map(file, PROT_READ, MAP_PRIVATE);
		touch(p, SIZE);
	} else if (!strcmp(mode, "one")) {        /* the first page */
		p = map(file, PROT_READ, MAP_PRIVATE);
		touch(p, 4096);
	} else if (!strcmp(mode, "some")) {       /* pages 20 and 21 alone, without what came around them */
		p = map(file, PROT_READ, MAP_PRIVATE);
		touch(p + 20 * 4096, 2 * 4096);
		madvise(p, 20 * 4096, MADV_DONTNEED);
		madvise(p + 22 * 4096, SIZE - 22 * 4096, MADV_DONTNEED);
	} else if (!strcmp(mode, "write")) {      /* page 1 written, page 2 written with what it holds */
		p = map(file, PROT_READ | PROT_WRITE, MAP_PRIVATE);
		touch(p, SIZE);
		p[4096 + 5] ^= 0xff;
		((volatile char *)p)[2 * 4096] = p[2 * 4096];
		mprotect(p, SIZE, PROT_READ);
	} else if (!strcmp(mode, "shared")) {     /* a counter in a shared file, which runs */
		p = map(file, PROT_READ | PROT_WRITE, MAP_SHARED);
		touch(p, SIZE);
	} else if (!strcmp(mode, "tail")) {       /* bytes behind the end of the file */
		p = map(file, PROT_READ | PROT_WRITE, MAP_SHARED);
		touch(p, 4096);
		p[4095] = 1;
	} else if (!strcmp(mode, "huge")) {       /* half a huge page of a file, on tmpfs */
		int fd = open(file, O_RDWR | O_CREAT, 0600);
		char *at = (char *)0x100000000000;

		if (ftruncate(fd, (1 << 20) + 100))
			return 1;
		p = mmap(at, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
		memset(p, 7, 1 << 20);
	} else if (!strcmp(mode, "all")) {        /* every page of a file of any size */
		struct stat st;

		p = map(file, PROT_READ, MAP_PRIVATE);
		stat(file, &st);
		touch(p, st.st_size);
	} else if (!strcmp(mode, "memfd")) {
		int fd = memfd_create("a name", 0);

		if (ftruncate(fd, SIZE))
			return 1;
		p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		memset(p, 7, SIZE);
	} else if (!strcmp(mode, "shm")) {
		int id = shmget(IPC_PRIVATE, SIZE, 0600);

		p = shmat(id, NULL, 0);
		shmctl(id, IPC_RMID, NULL);
		memset(p, 7, SIZE);
	} else if (!strcmp(mode, "anon")) {
		p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		memset(p, 7, SIZE);
	} else if (!strcmp(mode, "none")) {       /* present, and not to be read by itself */
		p = map(file, PROT_READ, MAP_PRIVATE);
		touch(p, SIZE);
		mprotect(p, SIZE, PROT_NONE);
	} else {
		p = (char *)work;
	}
	work(argc);
	printf("ready %p\n", (void *)p);
	fflush(stdout);
	if (!strcmp(mode, "shared")) {
		fcntl(0, F_SETFL, O_NONBLOCK);
		while (read(0, &c, 1) != 0)
			for (int i = 0; i < 1000; i++)
				++*(volatile long *)p;
		return 0;
	}
	while (read(0, &c, 1) > 0) {              /* commands, each answered */
		if (c == 'n')
			never(argc);
		if (c == 't')
			touch(p, 10 * 4096);
		puts("done");
		fflush(stdout);
	}
	return 0;
}
