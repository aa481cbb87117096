// Ways in which a program comes by its memory, for the tests of package record, one a
// mode: memory MODE FOLDER. It prints what must not depend on being recorded.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#define MADV_DONTNEED_LOCKED 24
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define PAGE 4096L
#define PAGES 64L

enum { RW = PROT_READ | PROT_WRITE, ANON = MAP_PRIVATE | MAP_ANONYMOUS, SHARED_ANON = MAP_SHARED | MAP_ANONYMOUS };

static const char *folder;
static volatile char sum;

static void die(const char *what) {
  perror(what);
  exit(99);
}

// say prints the result of a call that may fail.
static void say(const char *what, long ret) {
  printf("%s: %s\n", what, ret == -1 ? strerror(errno) : "ok");
}

// at returns an address in page i of p.
static char *at(char *p, long i) { return p + i * PAGE; }

static void reads(char *p, long from, long n) {
  for (long i = from; i < from + n; i++) sum += *(volatile char *)at(p, i);
}

static void writes(char *p, long from, long n) {
  for (long i = from; i < from + n; i++) *(volatile char *)at(p, i) = i;
}

static char *map(long pages, int prot, int flags, int fd, long page) {
  char *p = mmap(0, pages * PAGE, prot, flags, fd, page * PAGE);
  if (p == MAP_FAILED) die("mmap");
  return p;
}

// file opens a file of that many pages and bytes, all of it cached.
static int file(const char *name, long pages, long bytes) {
  char path[4096], page[PAGE];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  if (fd < 0) die(path);
  for (long i = 0; i < pages; i++) {
    memset(page, i + 1, PAGE);
    if (pwrite(fd, page, PAGE, i * PAGE) != PAGE) die("pwrite");
  }
  if (bytes && pwrite(fd, page, bytes, pages * PAGE) != bytes) die("pwrite");
  return fd;
}

static void child(void (*f)(char *), char *arg) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid < 0) die("fork");
  if (pid == 0) {
    f(arg);
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  printf("child: %x\n", status);
}

static void populate(void) {
  int fd = file("populate", PAGES, 100);
  map(PAGES, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  map(PAGES, RW, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  map(PAGES, RW, MAP_SHARED | MAP_POPULATE, fd, 0);
  map(PAGES, PROT_NONE, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  map(PAGES, RW, ANON | MAP_POPULATE, -1, 0);
  map(PAGES, PROT_READ, ANON | MAP_POPULATE, -1, 0);
  map(PAGES, RW, SHARED_ANON | MAP_POPULATE, -1, 0);
  map(PAGES, RW, ANON | MAP_POPULATE | MAP_NONBLOCK, -1, 0);
  map(PAGES, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 30); // goes beyond the end
  char *p = map(PAGES, PROT_READ, MAP_PRIVATE, fd, 0);
  reads(p, 3, 5);
  if (mmap(at(p, 10), 20 * PAGE, RW, MAP_PRIVATE | MAP_FIXED | MAP_POPULATE, fd, 7 * PAGE) == MAP_FAILED) die("fixed");
  reads(p, 29, 3);
  say("busy", (long)mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0));
}

static void locked(void) {
  int fd = file("locked", PAGES, 0);
  map(PAGES, PROT_READ, MAP_PRIVATE | MAP_LOCKED, fd, 0);
  map(PAGES, RW, MAP_PRIVATE | MAP_LOCKED, fd, 0);
  char *p = map(PAGES, PROT_READ, MAP_PRIVATE, fd, 0);
  say("mlock", mlock(at(p, 3), 20 * PAGE));
  say("mprotect", mprotect(at(p, 5), 5 * PAGE, RW)); // copied at once
  say("munlock", munlock(at(p, 3), 7 * PAGE));
  p = map(PAGES, RW, MAP_PRIVATE, fd, 0);
  say("mlock2", syscall(SYS_mlock2, at(p, 3), 20 * PAGE, 1)); // MLOCK_ONFAULT
  reads(p, 0, 10), writes(p, 8, 10);
  p = map(PAGES, RW, ANON, -1, 0);
  say("mlock anonymous", mlock(at(p, 9), 9 * PAGE + 1));
  munmap(at(p, 20), 3 * PAGE);
  say("mlock over a hole", mlock(p, PAGES * PAGE));
  p = map(8, PROT_READ, ANON, -1, 0);
  say("grows", mlock(p, 8 * PAGE));
  p = mremap(p, 8 * PAGE, 12 * PAGE, MREMAP_MAYMOVE);
  mprotect(p, PAGE, PROT_NONE);
}

static void locksall(void) {
  int fd = file("locksall", PAGES, 0);
  char *none = map(PAGES, PROT_NONE, ANON, -1, 0), *p = map(PAGES, RW, MAP_PRIVATE, fd, 0);
  say("future", mlockall(MCL_FUTURE));
  map(PAGES, PROT_READ, MAP_PRIVATE, fd, 0);
  map(PAGES, RW, ANON, -1, 0);
  sbrk(10 * PAGE), sbrk(-3 * PAGE);
  say("all", mlockall(MCL_CURRENT));
  mprotect(none, PAGES * PAGE, PROT_READ);
  say("on fault", mlockall(MCL_FUTURE | MCL_ONFAULT));
  p = map(PAGES, RW, MAP_PRIVATE, fd, 0);
  reads(p, 5, 5);
  munlockall();
  p = map(PAGES, RW, MAP_PRIVATE, fd, 0);
  writes(p, 5, 5);
}

static void advice(void) {
  int fd = file("advice", PAGES, 0);
  char *p = map(PAGES + 8, RW, MAP_PRIVATE, fd, 0);
  say("populate read", madvise(at(p, 2), 20 * PAGE, MADV_POPULATE_READ));
  say("populate write", madvise(at(p, 10), 20 * PAGE, MADV_POPULATE_WRITE));
  say("beyond the end", madvise(at(p, 60), 12 * PAGE, MADV_POPULATE_READ));
  say("dontneed", madvise(at(p, 5), 9 * PAGE, MADV_DONTNEED));
  reads(p, 6, 2), writes(p, 9, 2);
  char *q = map(PAGES, RW, ANON, -1, 0);
  say("populate anonymous", madvise(q, 8 * PAGE, MADV_POPULATE_READ));
  say("populate anonymous", madvise(at(q, 4), 8 * PAGE, MADV_POPULATE_WRITE));
  mprotect(at(q, 20), 4 * PAGE, PROT_READ);
  say("into read-only", madvise(at(q, 16), 16 * PAGE, MADV_POPULATE_WRITE));
  writes(q, 30, 20);
  say("dontneed", madvise(at(q, 32), 6 * PAGE, MADV_DONTNEED));
  say("free", madvise(at(q, 40), 4 * PAGE, MADV_FREE));
  writes(q, 41, 1);
  say("cold", madvise(at(q, 30), 4 * PAGE, MADV_COLD));
  munmap(at(q, 50), 2 * PAGE);
  say("over a hole", madvise(at(q, 45), 15 * PAGE, MADV_DONTNEED));
  say("guard", madvise(at(q, 60), 2 * PAGE, MADV_GUARD_INSTALL));
  say("no guard", madvise(at(q, 60), 2 * PAGE, MADV_GUARD_REMOVE));
  char *s = map(PAGES, RW, MAP_SHARED, fd, 0);
  reads(s, 0, 20), writes(s, 20, 20);
  say("remove", madvise(at(s, 10), 20 * PAGE, MADV_REMOVE));
  reads(s, 12, 3), writes(s, 25, 2);
  say("random", madvise(p, PAGES * PAGE, MADV_RANDOM));
  say("sequential", madvise(at(p, 16), 20 * PAGE, MADV_SEQUENTIAL));
  reads(p, 40, 24);
  say("normal", madvise(p, PAGES * PAGE, MADV_NORMAL));
  say("dontneed", madvise(p, PAGES * PAGE, MADV_DONTNEED));
  reads(p, 0, PAGES);
  say("not a page", madvise(p + 1, PAGE, MADV_DONTNEED));
  say("unknown", madvise(p, PAGE, 12345));
  say("negative", madvise(p, PAGE, -1));
}

static char *move(char *p, long from, long n, long to, int flags, char *at) {
  char *q = mremap(p + from * PAGE, n * PAGE, to * PAGE, flags, at);
  say("mremap", (long)q);
  return q;
}

static void mremaps(void) {
  int fd = file("mremap", PAGES, 0);
  char *room = map(4 * PAGES, PROT_NONE, ANON, -1, 0);
  char *p = map(16, PROT_READ, MAP_PRIVATE, fd, 0);
  reads(p, 3, 9);
  p = move(p, 0, 16, 40, MREMAP_MAYMOVE, 0); // grows
  reads(p, 20, 15);
  p = move(p, 0, 40, 20, 0, 0); // shrinks
  p = move(p, 0, 20, 20, MREMAP_MAYMOVE | MREMAP_FIXED, room);
  reads(p, 0, 20);
  p = move(p, 5, 5, 9, MREMAP_MAYMOVE | MREMAP_FIXED, at(room, 40)); // from the middle
  reads(p, 0, 9);
  move(room, 30, 5, 5, MREMAP_MAYMOVE | MREMAP_FIXED, at(room, 32)); // overlaps
  char *w = map(16, RW, MAP_PRIVATE, fd, 16);
  reads(w, 0, 16), writes(w, 4, 1);
  w = move(w, 0, 16, 16, MREMAP_MAYMOVE | MREMAP_FIXED, at(room, 80));
  reads(w, 0, 16), writes(w, 4, 2);
  move(w, 8, 8, 8, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
  reads(w, 0, 16);
  char *a = map(16, RW, ANON, -1, 0);
  writes(a, 0, 10), reads(a, 10, 3);
  a = move(a, 0, 16, 32, MREMAP_MAYMOVE, 0);
  char *b = move(a, 0, 32, 32, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0);
  reads(b, 0, 32), writes(a, 0, 3);
  char *s = map(16, RW, MAP_SHARED, fd, 0);
  reads(s, 0, 8), writes(s, 4, 2);
  char *t = move(s, 0, 0, 16, MREMAP_MAYMOVE, 0); // a second mapping of the same
  if (t != MAP_FAILED) reads(t, 2, 9);
  s = move(s, 4, 12, 12, MREMAP_MAYMOVE | MREMAP_FIXED, at(room, 120));
  reads(s, 0, 12);
  move(room, 200, 200, 300, 0, 0); // no room, and not all mapped
}

static void remap(void) {
  int fd = file("remap", PAGES, 0);
  char *p = map(16, RW, MAP_SHARED, fd, 0);
  reads(p, 3, 2);
  say("remap_file_pages", remap_file_pages(at(p, 2), 4 * PAGE, 0, 9, 0));
  reads(p, 0, 12);
  say("of a private area", remap_file_pages(map(4, RW, ANON, -1, 0), PAGE, 0, 9, 0));
  struct iovec v[] = {{at(p, 3), PAGE}, {at(p, 8), 3 * PAGE}};
  say("process_madvise", syscall(SYS_process_madvise, -10000, v, 2L, (long)MADV_DONTNEED, 0L));
}

static void lots(char *p) { writes(p, 0, PAGES); }

// touched brings all pages of p into its page cache, in a process that shares it.
static void touched(char *p) { child(lots, p); }

static void shared(void) {
  char data[PAGE] = "x";
  int m = memfd_create("shared", 0);
  for (long i = 0; i < PAGES; i++)
    if (write(m, data, PAGE) != PAGE) die("memfd");
  char *p = map(PAGES, RW, MAP_SHARED, m, 0);
  reads(p, 3, 20), writes(p, 30, 10);
  p = map(PAGES, RW, MAP_PRIVATE, m, 0);
  reads(p, 3, 20), writes(p, 30, 10);
  say("punch", fallocate(m, FALLOC_FL_KEEP_SIZE, 0, PAGES * PAGE));
  p = map(PAGES, RW, SHARED_ANON, -1, 0);
  touched(p);
  reads(p, 9, 30);
  p = map(PAGES, RW, MAP_SHARED, open("/dev/zero", O_RDWR), 0);
  touched(p);
  reads(p, 9, 30), writes(p, 50, 3);
  p = map(PAGES, RW, MAP_PRIVATE, open("/dev/zero", O_RDWR), 0);
  reads(p, 9, 30), writes(p, 30, 3);
  unshare(CLONE_NEWIPC);  // as root: the first segment has the number 0
  int id = shmget(IPC_PRIVATE, PAGES * PAGE, 0600);
  p = shmat(id, 0, 0);
  char *ro = shmat(id, 0, SHM_RDONLY);
  shmctl(id, IPC_RMID, 0);
  if (p == (void *)-1 || ro == (void *)-1) die("shmat");
  touched(p);
  reads(p, 9, 30), reads(ro, 20, 20);
  say("shmdt", shmdt(p));
  say("shmdt of nothing", shmdt(p));
}

static void inherits(char *p) {
  reads(p, 0, 30), writes(p, 12, 6);
  child(lots, p);
  reads(p, 40, 3);
}

static void forks(void) {
  int fd = file("forks", PAGES, 0);
  char *p = map(PAGES, RW, MAP_PRIVATE, fd, 0);
  reads(p, 5, 20), writes(p, 10, 4);
  char *wiped = map(8, RW, ANON, -1, 0), *dropped = map(8, RW, ANON, -1, 0);
  writes(wiped, 0, 4), writes(dropped, 0, 4);
  say("wipeonfork", madvise(wiped, 4 * PAGE, MADV_WIPEONFORK));
  say("dontfork", madvise(dropped, 4 * PAGE, MADV_DONTFORK));
  char *s = map(PAGES, RW, SHARED_ANON, -1, 0);
  writes(s, 0, 4);
  child(inherits, p);
  writes(p, 8, 10);
  for (int i = 0; i < 4; i++) { // several at a time, while the parent writes
    fflush(stdout);
    if (fork() == 0) {
      writes(p, 20 + i, 9), writes(wiped, 1, 2), writes(s, 3, 9);
      _exit(i);
    }
    writes(p, 20, 5 * i);
  }
  while (wait(0) > 0) {
  }
}

static void vforks(char *self) {
  char *argv[] = {self, "nothing", (char *)folder, 0}, *none[] = {"none", 0};
  fflush(stdout);
  char *p = map(PAGES, RW, ANON, -1, 0);
  for (int i = 0; i < 4; i++) {
    pid_t pid = vfork();
    if (pid == 0) {
      *at(p, i) = 1; // the parent's memory
      if (i == 2) execv("/nothing/here", none);
      if (i == 3) mmap(0, 4 * PAGE, RW, ANON | MAP_POPULATE, -1, 0);
      if (i < 2) execv(self, argv);
      _exit(7);
    }
    int status;
    waitpid(pid, &status, 0);
    printf("vfork %d: %x\n", i, status);
  }
}

static int shared_fd;

static void *busy(void *arg) {
  unsigned seed = (uintptr_t)arg;
  for (int i = 0; i < 200; i++) {
    seed = seed * 1103515245 + 12345;
    long from = seed / 65536 % 32, n = 1 + seed / 4096 % 16;
    char *p = map(PAGES, seed & 4096 ? RW : PROT_READ, MAP_PRIVATE, shared_fd, 0);
    reads(p, from, n);
    if (seed & 4096) writes(p, from + 2, n / 2);
    if (seed & 8192) madvise(at(p, from), n / 2 * PAGE, MADV_DONTNEED);
    char *a = map(1 + n, RW, ANON, -1, 0);
    writes(a, 0, n);
    munmap(at(p, from + 1), n * PAGE);
    munmap(a, (1 + n) * PAGE);
    char *m = malloc(300000 + 1000 * n); // brk and mmap of the C library
    m[100000] = 1;
    if (seed & 16384) free(m);
    if (seed & 32768) { // around the hole: others may have mapped there
      munmap(p, (from + 1) * PAGE);
      munmap(at(p, from + 1 + n), (PAGES - from - 1 - n) * PAGE);
    }
  }
  return 0;
}

static void threads(void) {
  shared_fd = file("threads", PAGES, 0);
  pthread_t t[8];
  for (long i = 0; i < 8; i++) pthread_create(&t[i], 0, busy, (void *)i);
  for (int i = 0; i < 8; i++) pthread_join(t[i], 0);
}

// one: threads that touch the same pages for the first time, all at once.
static pthread_barrier_t together;
static char *common;
static void *first(void *arg) {
  for (int i = 0; i < 20; i++) {
    pthread_barrier_wait(&together);
    if (i % 2 == (long)arg % 2) reads(common, 0, PAGES);
    else writes(common, 0, PAGES);
    if (pthread_barrier_wait(&together) == PTHREAD_BARRIER_SERIAL_THREAD) madvise(common, PAGES * PAGE, MADV_DONTNEED);
  }
  return 0;
}

static void race(void) {
  common = map(PAGES, RW, MAP_PRIVATE, file("race", PAGES, 0), 0);
  pthread_barrier_init(&together, 0, 4);
  pthread_t t[4];
  for (long i = 0; i < 4; i++) pthread_create(&t[i], 0, first, (void *)i);
  for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
}

// readable reads all pages of a file's areas, wherever they are mapped. It is for forks
// of a process with threads: nothing of the C library that takes a lock.
static void readable(const char *name) {
  static char maps[1 << 20];
  int fd = open("/proc/self/maps", O_RDONLY);
  long n = 0, got;
  while (n < (long)sizeof maps - 1 && (got = read(fd, maps + n, sizeof maps - 1 - n)) > 0) n += got;
  for (char *line = maps, *end; (end = strchr(line, '\n')); line = end + 1) {
    *end = 0;
    char *next;
    unsigned long from = strtoul(line, &next, 16), to = strtoul(next + 1, &next, 16);
    if (next[1] == 'r' && strstr(line, name)) reads((char *)from, 0, (to - from) / PAGE);
  }
  close(fd);
}

// forkrace: a process forks while its threads map and touch.
static void forkrace(void) {
  shared_fd = file("forkrace", PAGES, 0);
  char *p = map(PAGES, RW, MAP_PRIVATE, shared_fd, 0);
  pthread_t t[3];
  for (long i = 0; i < 3; i++) pthread_create(&t[i], 0, busy, (void *)i);
  for (int i = 0; i < 20; i++) {
    writes(p, i, 1);
    if (fork() == 0) {
      writes(p, 0, 20), reads(p, 0, PAGES);
      readable("forkrace");
      _exit(0);
    }
  }
  while (wait(0) > 0) {
  }
  for (int i = 0; i < 3; i++) pthread_join(t[i], 0);
}

// filter: a seccomp filter that permits all. Nothing is cut under it.
static void filter(void) {
  int fd = file("filter", PAGES, 0);
  char *p = map(PAGES, PROT_READ, MAP_PRIVATE, fd, 0);
  reads(p, 0, 9);
  struct sock_filter all[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog prog = {1, all};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) die("seccomp");
  p = map(PAGES, PROT_READ, MAP_PRIVATE, fd, 0);
  reads(p, 20, 1), reads(p, 40, 1);
}

static char **other;
static void *execs(void *arg) {
  execv(other[0], other);
  return 0;
}
static void *spins(void *arg) {
  for (;;) pause();
}

// threadexec: a thread that is not the first execs while others live.
static void threadexec(char *self) {
  char *argv[] = {self, "nothing", (char *)folder, 0};
  other = argv;
  pthread_t t;
  for (int i = 0; i < 3; i++) pthread_create(&t, 0, spins, 0);
  fflush(stdout);
  pthread_create(&t, 0, execs, 0);
  pthread_join(t, 0);
}

static sigjmp_buf back;
static void jumps(int sig, siginfo_t *si, void *u) { siglongjmp(back, sig); }
static char *guarded;
static void allows(int sig, siginfo_t *si, void *u) {
  char *page = (char *)((uintptr_t)si->si_addr & ~(PAGE - 1));
  if (page < guarded || page >= at(guarded, PAGES)) _exit(98);
  mprotect(page, PAGE, RW);
}

static void on(int sig, void (*f)(int, siginfo_t *, void *)) {
  struct sigaction sa = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
  sigaction(sig, &sa, 0);
}

static void segv(void) {
  on(SIGSEGV, allows);
  int fd = file("segv", PAGES, 0);
  guarded = map(PAGES, PROT_NONE, MAP_PRIVATE, fd, 0);
  reads(guarded, 5, 9), writes(guarded, 10, 9);
  mprotect(guarded, 30 * PAGE, PROT_READ);
  writes(guarded, 3, 20);
  on(SIGSEGV, jumps);
  volatile int n = 0;
  char *hole = map(4, RW, ANON, -1, 0);
  munmap(at(hole, 1), PAGE);
  if (sigsetjmp(back, 1) == 0) reads(hole, 0, 4);
  else n++;
  if (sigsetjmp(back, 1) == 0) *(volatile char *)0 = 1;
  else n++;
  if (sigsetjmp(back, 1) == 0) *(volatile char *)0xdead000000000000 = 1; // not canonical
  else n++;
  if (sigsetjmp(back, 1) == 0) *(volatile char *)0xffffffff81000000 = 1; // the kernel's
  else n++;
  if (sigsetjmp(back, 1) == 0) ((void (*)(void))hole)(); // not executable
  else n++;
  printf("%d of 5\n", n);
}

static void sigbus(void) {
  on(SIGBUS, jumps);
  int fd = file("sigbus", 10, 100);
  char *p = map(PAGES, PROT_READ, MAP_PRIVATE, fd, 0), *s = map(PAGES, RW, MAP_SHARED, fd, 0);
  volatile int n = 0;
  if (sigsetjmp(back, 1) == 0) reads(p, 7, 9);
  else n++;
  if (sigsetjmp(back, 1) == 0) writes(s, 9, 9);
  else n++;
  if (ftruncate(fd, 5 * PAGE)) die("ftruncate");
  if (sigsetjmp(back, 1) == 0) reads(s, 3, 9);
  else n++;
  if (ftruncate(fd, 30 * PAGE)) die("ftruncate");
  reads(s, 3, 20), reads(p, 3, 20);
  printf("%d of 3\n", n);
}

static long deep(long n) {
  volatile char big[3 * PAGE];
  big[PAGE] = n;
  return n ? deep(n - 1) + big[PAGE] : 0;
}
static void *deeper(void *arg) { return (void *)deep(40); }

static void stack(void) {
  deep(200);
  char *top = __builtin_frame_address(0);
  *(volatile char *)(top - 7 * 1000 * 1000) = 1; // far below the stack pointer
  pthread_t t;
  pthread_create(&t, 0, deeper, 0);
  pthread_join(t, 0);
  char *p = mmap((char *)0x20000000000, 4 * PAGE, RW, ANON | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
  if (p == MAP_FAILED) die("growsdown");
  for (long i = 3; i > -30; i--) *at(p, i) = 1;
  sum += *(volatile char *)at(p, -100);
}

static void heap(void) {
  char *start = sbrk(0);
  sbrk(50 * PAGE + 100);
  char *p = (char *)(((uintptr_t)start + PAGE - 1) & ~(PAGE - 1));
  writes(p, 0, 20), reads(p, 25, 10);
  sbrk(-30 * PAGE);
  sbrk(20 * PAGE);
  reads(p, 15, 10), writes(p, 22, 5);
  say("brk down", brk(start));
  say("brk up", brk(start + 9 * PAGE));
  writes(p, 3, 4);
  for (int i = 0; i < 100; i++) free(malloc(1 << (i % 22)));
}

// kernel: pages that the kernel brings in without an exception.
static void kernel(void) {
  char *p = map(PAGES, RW, ANON, -1, 0), *s = map(PAGES, RW, SHARED_ANON, -1, 0);
  syscall(SYS_futex, at(p, 3), FUTEX_WAKE, 1, 0, 0, 0);
  syscall(SYS_futex, at(p, 5), FUTEX_WAIT, 1, 0, 0, 0); // not equal: EAGAIN
  syscall(SYS_futex, at(s, 5), FUTEX_WAIT, 1, 0, 0, 0);
  struct iovec here = {at(p, 0), PAGE}, there = {at(p, 20), 3 * PAGE};
  *at(p, 0) = 1;
  say("writev", process_vm_writev(getpid(), &here, 1, &there, 1, 0));
  int pipes[2];
  if (pipe(pipes)) die("pipe");
  struct iovec spliced = {at(p, 40), 2 * PAGE};
  say("vmsplice", vmsplice(pipes[1], &spliced, 1, 0));
}

static void direct(void) {
  char path[4096];
  close(file("direct", PAGES, 0));
  snprintf(path, sizeof path, "%s/direct", folder);
  int fd = open(path, O_RDONLY | O_DIRECT);
  char *p = map(PAGES, RW, ANON, -1, 0);
  if (fd < 0 || pread(fd, at(p, 10), 8 * PAGE, 0) != 8 * PAGE) die("O_DIRECT");
  printf("%d\n", *at(p, 12));
}

// copies: the kernel reads and writes memory by exceptions of its own.
static void copies(void) {
  int fd = file("copies", PAGES, 0), null = open("/dev/null", O_WRONLY);
  char *p = map(PAGES, RW, ANON, -1, 0), *f = map(PAGES, RW, MAP_PRIVATE, fd, 0);
  say("read", pread(fd, at(p, 3) + 5, 9 * PAGE, 0));
  say("write", pwrite(fd, at(f, 20), 9 * PAGE, 0));
  say("into a private copy", pread(fd, at(f, 40), 3 * PAGE, 0));
  say("to null", write(null, at(f, 60), PAGE));
  struct rlimit *r = (struct rlimit *)at(p, 30);
  say("getrlimit", getrlimit(RLIMIT_STACK, r));
  munmap(at(p, 50), PAGE);
  say("into a hole", pread(fd, at(p, 49), 2 * PAGE, 0));
  mprotect(at(p, 55), PAGE, PROT_READ);
  say("into read-only", pread(fd, at(p, 54), 2 * PAGE, 0));
  say("of nothing", write(null, (void *)16, 5));
  char *s = map(PAGES, RW, SHARED_ANON, -1, 0);
  say("shared", pread(fd, s, 5 * PAGE, 0));
}

static void dies(const char *how) {
  int fd = file("dies", 4, 0);
  char *p = map(8, PROT_READ, MAP_PRIVATE, fd, 0);
  reads(p, 1, 2);
  fflush(stdout);
  if (!strcmp(how, "write")) writes(p, 1, 1);
  if (!strcmp(how, "beyond")) reads(p, 6, 1);
  if (!strcmp(how, "unmapped")) *(volatile char *)16 = 1;
  if (!strcmp(how, "fetch")) ((void (*)(void))at(p, 3))();
  if (!strcmp(how, "overflow")) deep(1000000);
  if (!strcmp(how, "abort")) abort();
}

static void *touches(void *arg) {
  for (;;) {
    char *p = map(PAGES, RW, MAP_PRIVATE, shared_fd, 0);
    reads(p, 0, PAGES), writes(p, 0, PAGES);
    munmap(p, PAGES * PAGE);
  }
}

// killed: threads touch while the process is ended.
static void killed(int sig) {
  shared_fd = file("killed", PAGES, 0);
  pthread_t t;
  for (int i = 0; i < 3; i++) pthread_create(&t, 0, touches, 0);
  usleep(10000);
  if (sig == 0) exit(5);
  kill(getpid(), sig);
  pause();
}

static void ended(char *arg) { killed(0); }

// ends: processes whose threads are in the middle of calls and touches when they end.
static void ends(void) {
  for (int i = 0; i < 12; i++) child(ended, 0);
}

// waited: a signal that nobody was killed by, and then threads that an exec kills.
static void waited(char *self) {
  sigset_t set;
  int sig;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, 0);
  kill(getpid(), SIGTERM);
  sigwait(&set, &sig);
  threadexec(self);
}

static void *kills(void *thread) {
  pthread_join(*(pthread_t *)thread, 0);
  usleep(10000);
  kill(getpid(), SIGTERM);
  return spins(0);
}

// headless: a signal for a process whose first thread has ended.
static void headless(char *arg) {
  static pthread_t self;
  pthread_t t;
  self = pthread_self();
  pthread_create(&t, 0, kills, &self);
  pthread_exit(0);
}

// crowded: a signal for which there is no room.
static void crowded(char *arg) {
  struct rlimit none = {0, 0};
  setrlimit(RLIMIT_SIGPENDING, &none);
  raise(SIGUSR1);
}

static void signals(char *self) {
  child(waited, self);
  child(headless, 0);
  child(crowded, 0);
}

int main(int argc, char **argv) {
  if (argc < 3) return 98;
  const char *mode = argv[1];
  folder = argv[2];
  setvbuf(stdout, 0, _IOFBF, 1 << 16);
  if (!strcmp(mode, "populate")) populate();
  else if (!strcmp(mode, "locked")) locked();
  else if (!strcmp(mode, "locksall")) locksall();
  else if (!strcmp(mode, "advice")) advice();
  else if (!strcmp(mode, "mremap")) mremaps();
  else if (!strcmp(mode, "remap")) remap();
  else if (!strcmp(mode, "shared")) shared();
  else if (!strcmp(mode, "forks")) forks();
  else if (!strcmp(mode, "vforks")) vforks(argv[0]);
  else if (!strcmp(mode, "threads")) threads();
  else if (!strcmp(mode, "race")) race();
  else if (!strcmp(mode, "forkrace")) forkrace();
  else if (!strcmp(mode, "filter")) filter();
  else if (!strcmp(mode, "threadexec")) threadexec(argv[0]);
  else if (!strcmp(mode, "segv")) segv();
  else if (!strcmp(mode, "sigbus")) sigbus();
  else if (!strcmp(mode, "stack")) stack();
  else if (!strcmp(mode, "heap")) heap();
  else if (!strcmp(mode, "kernel")) kernel();
  else if (!strcmp(mode, "direct")) direct();
  else if (!strcmp(mode, "copies")) copies();
  else if (!strncmp(mode, "dies-", 5)) dies(mode + 5);
  else if (!strcmp(mode, "exits")) ends();
  else if (!strcmp(mode, "killed")) killed(SIGKILL);
  else if (!strcmp(mode, "signals")) signals(argv[0]);
  else if (strcmp(mode, "nothing")) return 98;
  return 0;
}
