/* zoo makes one of each mapping call, in a parent, a fork's child, two threads and
   a vfork's child, and prints its own maps without touching memory that is not
   static: zoo DIR writes DIR/parent and DIR/child. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static char name[4096];
static char buffer[1 << 16];

/* maps copies /proc/self/maps to DIR/role by read and write alone. */
static void maps(const char *dir, const char *role) {
	strcpy(name, dir);
	strcat(name, "/");
	strcat(name, role);
	int in = open("/proc/self/maps", O_RDONLY), out = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ssize_t n;
	while ((n = read(in, buffer, sizeof buffer)) > 0)
		if (write(out, buffer, n) != n)
			_exit(9);
	close(in);
	close(out);
}

static char *anon(size_t pages, int prot) {
	return mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void *thread(void *file) {
	int fd = open(file, O_RDONLY);
	mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
	int same = dup(fd);
	close(fd);
	mmap(NULL, PAGE, PROT_READ, MAP_SHARED, same, 0);
	close(same);
	return NULL;
}

int main(int argc, char **argv) {
	const char *dir = argv[1];
	char *p = anon(16, PROT_READ | PROT_WRITE);
	munmap(p + 2 * PAGE, PAGE);
	mprotect(p + 4 * PAGE, 2 * PAGE, PROT_READ);
	mprotect(p + 4 * PAGE, 20 * PAGE, PROT_NONE + 64); /* EINVAL */
	madvise(p + 8 * PAGE, PAGE, MADV_DONTNEED);
	mremap(p + 8 * PAGE, 2 * PAGE, 6 * PAGE, MREMAP_MAYMOVE);
	char *q = anon(8, PROT_READ | PROT_WRITE);
	mremap(q, 4 * PAGE, PAGE, 0);
	mremap(q + 4 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q + PAGE);
	mremap(q + 6 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
	mmap(q, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mmap(q, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0); /* EEXIST */
	mlock(p, PAGE);
	munlock(p, PAGE);
	brk(NULL);
	sbrk(40 * PAGE);
	sbrk(-3 * PAGE);

	int exe = open("/proc/self/exe", O_RDONLY);
	(void)exe;
	int fd = open(argv[0], O_RDONLY);
	mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE);
	close(fd);
	int m = memfd_create("zoo", MFD_CLOEXEC);
	if (ftruncate(m, 4 * PAGE))
		return 9;
	mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, m, 0);
	close(m);
	int id = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
	char *s = shmat(id, NULL, 0);
	shmat(id, NULL, SHM_RDONLY);
	shmctl(id, IPC_RMID, NULL);
	shmdt(s);

	pthread_t t[2];
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, thread, argv[0]);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);

	pid_t child = fork();
	if (child == 0) {
		munmap(p, PAGE);
		anon(5, PROT_READ);
		mprotect(q, PAGE, PROT_NONE);
		sbrk(5 * PAGE);
		maps(dir, "child");
		_exit(3);
	}
	waitpid(child, NULL, 0);
	child = vfork();
	if (child == 0) {
		execl("/bin/true", "true", "a b", NULL);
		_exit(8);
	}
	waitpid(child, NULL, 0);
	maps(dir, "parent");
	return 0;
}
