// Programs for the tests of package tracee, one a mode: zoo MODE [ARGUMENTS].
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096L
#define PAGES 256

static char *path; // of a file of PAGES pages

static void die(const char *what) {
  perror(what);
  exit(99);
}

static long minflt(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_minflt;
}

static volatile char sum;

// touch reads n pages and returns how many faults that took.
static long touch(volatile char *p, long n) {
  sum = 0; // after a fork the first write copies a page
  minflt();
  long before = minflt();
  for (long i = 0; i < n; i++) sum += p[i * PAGE];
  return minflt() - before;
}

static void *map(void *at, long len, int prot, int flags, int fd, long off) {
  void *p = mmap(at, len, prot, flags, fd, off);
  if (p == MAP_FAILED) die("mmap");
  return p;
}

static int file(int flags) {
  int fd = open(path, flags);
  if (fd < 0) die(path);
  return fd;
}

// fill brings all pages of shared memory into its page cache, from another process.
static void fill(char *p) {
  pid_t pid = fork();
  if (pid == 0) {
    for (long i = 0; i < PAGES; i++) p[i * PAGE] = i;
    _exit(0);
  }
  waitpid(pid, 0, 0);
}

// kinds: how many faults it takes to read PAGES cached pages of all that a page cache backs.
static void kinds(void) {
  setvbuf(stdout, 0, _IONBF, 0);
  int fd = file(O_RDWR);
  char *buf = malloc(PAGES * PAGE);
  if (pread(fd, buf, PAGES * PAGE, 0) != PAGES * PAGE) die("pread");
  printf("private %ld\n", touch(map(0, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0), PAGES));
  printf("private-rw %ld\n", touch(map(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), PAGES));
  printf("shared %ld\n", touch(map(0, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0), PAGES));
  int m = memfd_create("x", 0);
  if (m < 0 || write(m, buf, PAGES * PAGE) != PAGES * PAGE) die("memfd");
  printf("memfd %ld\n", touch(map(0, PAGES * PAGE, PROT_READ, MAP_SHARED, m, 0), PAGES));
  char *p = map(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  fill(p);
  printf("shared-anon %ld\n", touch(p, PAGES));
  p = map(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, open("/dev/zero", O_RDWR), 0);
  fill(p);
  printf("dev-zero %ld\n", touch(p, PAGES));
  unshare(CLONE_NEWIPC);  // as root: the first segment has the number 0
  int id = shmget(IPC_PRIVATE, PAGES * PAGE, 0600);
  p = shmat(id, 0, 0);
  shmctl(id, IPC_RMID, 0);
  if (p == (void *)-1) die("shmat");
  fill(p);
  printf("sysv %ld\n", touch(p, PAGES));
  if (shmdt(p)) die("shmdt");
  p = map(0, PAGES * PAGE, PROT_NONE, MAP_PRIVATE, fd, 0);
  map(p + 5 * PAGE, 64 * PAGE, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 9 * PAGE);
  printf("fixed %ld\n", touch(p + 5 * PAGE, 64));
  if (mprotect(p, PAGES * PAGE, PROT_READ)) die("mprotect");
  printf("mprotect %ld\n", touch(p + 69 * PAGE, PAGES - 69));
  p = map(0, 16 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
  p = mremap(p, 16 * PAGE, PAGES * PAGE, MREMAP_MAYMOVE);
  if (p == MAP_FAILED) die("mremap");
  printf("mremap %ld\n", touch(p, PAGES));
  p = map(0, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
  if (madvise(p, PAGES * PAGE, MADV_RANDOM) || madvise(p + 100 * PAGE, 31 * PAGE, MADV_SEQUENTIAL)) die("madvise");
  printf("random %ld\n", touch(p, PAGES));
  p = map(0, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
  struct iovec v = {p + 3 * PAGE, 200 * PAGE};
  long n = syscall(SYS_process_madvise, -10000, &v, 1L, (long)MADV_RANDOM, 0L);
  printf("process-madvise %ld\n", touch(p, PAGES) + 0 * n);
  p = map(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  pid_t pid = fork();
  if (pid == 0) {
    long n = touch(p, PAGES);
    dprintf(1, "child %ld\n", n);
    _exit(0);
  }
  waitpid(pid, 0, 0);
}

// --- random operations

static uint64_t state;
static unsigned rnd(unsigned n) {
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return (state >> 20) % n;
}

static sigjmp_buf env;
static void caught(int sig) { siglongjmp(env, sig); }

// The arena: ARENA pages at a fixed place; own[i] says that page i is of a private
// file mapping, which is never written: mremap of written ones differs, and is told.
#define ARENA 96
static char *const arena = (char *)0x10000000000;
static char own[ARENA];

static void mark(char *at, long n, int is) {
  long i = (at - arena) / PAGE;
  if (at >= arena && i + n <= ARENA) memset(own + i, is, n);
}

static void one(int fd) {
  long i = rnd(ARENA - 24), n = 1 + rnd(24), len = n * PAGE;
  char *at = arena + i * PAGE;
  static const int prots[] = {PROT_READ, PROT_READ, PROT_READ | PROT_WRITE, PROT_NONE, PROT_READ | PROT_EXEC};
  int prot = prots[rnd(5)], sig;
  switch (rnd(14)) {
  case 0:
  case 1: {
    int flags = rnd(2) ? MAP_PRIVATE : MAP_SHARED, anon = rnd(3) == 0;
    if (rnd(12) == 0) flags |= MAP_POPULATE;
    long off = rnd(PAGES - 64) * PAGE;
    if (!anon && (flags & MAP_PRIVATE)) prot &= ~PROT_WRITE;
    char *p = mmap(at, len, prot, flags | MAP_FIXED | (anon ? MAP_ANONYMOUS : 0), anon ? -1 : fd, anon ? 0 : off);
    mark(at, n, !anon && (flags & MAP_PRIVATE));
    printf("mmap %ld %ld %x = %p\n", i, n, flags, p);
    break;
  }
  case 2: {
    char *p = mmap(0, len, prot & ~PROT_WRITE, MAP_PRIVATE, fd, rnd(64) * PAGE);
    printf("mmap null %ld = %p\n", n, p);
    if (rnd(2)) printf("munmap null = %d\n", munmap(p, (1 + rnd(n)) * PAGE));
    break;
  }
  case 3:
    printf("munmap %ld %ld = %d %d\n", i, n, munmap(at, len), errno);
    break;
  case 4:
    errno = 0;
    if (memchr(own + i, 1, n)) prot &= ~PROT_WRITE;
    printf("mprotect %ld %ld %d = %d %d\n", i, n, prot, mprotect(at, len, prot), errno);
    break;
  case 5:
  case 6: {
    long to = rnd(ARENA - 24), m = 1 + rnd(24);
    int flags = rnd(2) ? MREMAP_MAYMOVE : rnd(2) ? MREMAP_MAYMOVE | MREMAP_FIXED : 0;
    errno = 0;
    if (!(flags & MREMAP_FIXED) && rnd(2)) flags = 0;
    char was[ARENA];
    memcpy(was, own, ARENA);
    char *p = mremap(at, len, m * PAGE, flags, arena + to * PAGE);
    if (p != MAP_FAILED && p >= arena) mark(p, m, was[i]);
    printf("mremap %ld %ld %ld %d %ld = %p %d\n", i, n, m, flags, to, p, errno);
    break;
  }
  case 7: {
    static const int advice[] = {MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_DONTNEED, MADV_WILLNEED, MADV_POPULATE_READ, 999};
    int a = advice[rnd(7)];
    errno = 0;
    int r = madvise(at, len, a);
    printf("madvise %ld %ld %d = %d %d\n", i, n, a, r, errno);
    break;
  }
  case 8:
    errno = 0;
    printf("mlock %ld %ld = %d %d\n", i, n, rnd(2) ? mlock(at, len) : munlock(at, len), errno);
    break;
  case 9: {
    char *p = sbrk((long)rnd(5) * PAGE - 2 * PAGE);
    printf("sbrk = %p\n", p);
    break;
  }
  case 10: {
    pid_t pid = fork();
    if (pid == 0) {
      unsigned h = 0;
      for (int k = 0; k < ARENA; k++)
        if ((sig = sigsetjmp(env, 1)) == 0)
          h = h * 31 + arena[k * PAGE];
        else
          h = h * 31 + sig;
      _exit(h % 250);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    printf("fork = %x\n", status);
    break;
  }
  default: {
    long k = rnd(ARENA);
    if ((sig = sigsetjmp(env, 1)) != 0)
      printf("touch %ld = signal %d\n", k, sig);
    else if (rnd(2) && !own[k])
      printf("write %ld = %d\n", k, arena[k * PAGE + 7] = k);
    else
      printf("read %ld = %d\n", k, arena[k * PAGE + 7]);
  }
  }
}

static void dump_maps(void) {
  static char buf[1 << 20];
  fflush(stdout);
  int fd = open("/proc/self/maps", O_RDONLY);
  for (long n; (n = read(fd, buf, sizeof buf)) > 0;)
    if (write(1, buf, n) != n) exit(98);
}

static void randomly(long seed, long n) {
  static char out[1 << 16], stack[1 << 16];
  setvbuf(stdout, out, _IOFBF, sizeof out);
  state = seed * 2654435761 + 88172645463325252;
  stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
  struct sigaction sa = {.sa_handler = caught, .sa_flags = SA_ONSTACK};
  sigaltstack(&ss, 0);
  sigaction(SIGSEGV, &sa, 0);
  sigaction(SIGBUS, &sa, 0);
  int fd = file(O_RDWR);
  for (long i = 0; i < n; i++) {
    one(fd);
    fflush(stdout);
  }
  dump_maps();
}

// merge: mremap over private pages that were written: one area without cutting.
static void merge(void) {
  int fd = file(O_RDWR);
  char *p = map(0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  p[PAGE] = p[3 * PAGE] = p[6 * PAGE] = 1;
  char *q = mremap(p, 16 * PAGE, 32 * PAGE, MREMAP_MAYMOVE);
  printf("%d\n", q == MAP_FAILED ? errno : 0);
}

// --- registers

struct regs {
  uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, flags;
  unsigned char xmm[16][16];
};

// call does a system call with all other registers set from in, and stores them to out.
void call(struct regs *in, struct regs *out);
extern char after_call[];
__asm__(".globl call, after_call\ncall:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rsi; push %rdi\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu 128+16*\\n(%rdi), %xmm\\n\n .endr\n"
        "mov %rdi, %rax\n"
        "mov 8(%rax), %rbx; mov 24(%rax), %rdx; mov 32(%rax), %rsi; mov 40(%rax), %rdi; mov 48(%rax), %rbp\n"
        "mov 56(%rax), %r8; mov 64(%rax), %r9; mov 72(%rax), %r10; mov 88(%rax), %r12; mov 96(%rax), %r13\n"
        "mov 104(%rax), %r14; mov 112(%rax), %r15; mov (%rax), %rax\n"
        "syscall\nafter_call:\n"
        "push %rax; push %rcx; pushf; mov 32(%rsp), %rcx\n"
        "mov %rbx, 8(%rcx); mov %rdx, 24(%rcx); mov %rsi, 32(%rcx); mov %rdi, 40(%rcx); mov %rbp, 48(%rcx)\n"
        "mov %r8, 56(%rcx); mov %r9, 64(%rcx); mov %r10, 72(%rcx); mov %r11, 80(%rcx); mov %r12, 88(%rcx)\n"
        "mov %r13, 96(%rcx); mov %r14, 104(%rcx); mov %r15, 112(%rcx)\n"
        "pop %rax; mov %rax, 120(%rcx); pop %rax; mov %rax, 16(%rcx); pop %rax; mov %rax, (%rcx)\n"
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu %xmm\\n, 128+16*\\n(%rcx)\n .endr\n"
        "pop %rdi; pop %rsi; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

static volatile int alarms;
static void alarmed(int sig, siginfo_t *si, void *u) {
  if (sig != SIGALRM || si->si_code != SI_KERNEL) _exit(97);
  alarms++;
}

// registers: none is changed by a call that is followed by injected ones, while
// signals come in.
static void registers(void) {
  struct sigaction sa = {.sa_sigaction = alarmed, .sa_flags = SA_SIGINFO | SA_RESTART};
  sigaction(SIGALRM, &sa, 0);
  struct itimerval it = {{0, 500}, {0, 500}};
  setitimer(ITIMER_REAL, &it, 0);
  int fd = file(O_RDONLY);
  long bad = 0;
  for (int k = 0; k < 300 || alarms < 4; k++) {
    struct regs in, out;
    for (unsigned i = 0; i < sizeof in; i++) ((unsigned char *)&in)[i] = i * 7 + k;
    in.rax = SYS_mmap, in.rdi = 0, in.rsi = 64 * PAGE, in.rdx = PROT_READ, in.r10 = MAP_PRIVATE, in.r8 = fd, in.r9 = 0;
    call(&in, &out);
    char *p = (char *)out.rax;
    uint64_t resume = (uint64_t)after_call;
    if (k % 3 == 1) { // and by a mremap, which is made twice
      in.rax = SYS_mremap, in.rdi = (uint64_t)p, in.rsi = 64 * PAGE, in.rdx = 96 * PAGE, in.r10 = MREMAP_MAYMOVE;
      call(&in, &out);
    }
    if (k % 3 == 2) {
      in.rax = SYS_madvise, in.rdi = (uint64_t)p, in.rsi = 64 * PAGE, in.rdx = MADV_RANDOM;
      call(&in, &out);
      if (out.rax) bad++;
    }
    munmap(k % 3 == 1 ? (char *)out.rax : p, (k % 3 == 1 ? 96 : 64) * PAGE);
    bad += in.rbx != out.rbx || in.rdx != out.rdx || in.rsi != out.rsi || in.rdi != out.rdi || in.rbp != out.rbp;
    bad += in.r8 != out.r8 || in.r9 != out.r9 || in.r10 != out.r10 || in.r12 != out.r12 || in.r13 != out.r13;
    bad += in.r14 != out.r14 || in.r15 != out.r15 || memcmp(in.xmm, out.xmm, sizeof in.xmm) || out.rcx != resume;
    bad += (out.r11 & 0xcd5) != (out.flags & 0xcd5);
  }
  sigset_t all;
  sigprocmask(SIG_BLOCK, 0, &all);
  for (int i = 1; i < 64; i++) bad += sigismember(&all, i) == 1;
  printf("%ld bad\n", bad);
}

// --- tasks

static void *exec_other(void *arg) {
  char *argv[] = {"zoo", "hello", 0};
  execv("/proc/self/exe", argv);
  die("execv");
  return 0;
}

static void *spin(void *arg) {
  for (;;) pause();
}

// thread-exec: a thread that is not the leader calls execve, with others about.
static void thread_exec(void) {
  pthread_t t[4];
  for (int i = 0; i < 3; i++) pthread_create(&t[i], 0, spin, 0);
  pthread_create(&t[3], 0, exec_other, 0);
  pause();
}

static void *map_much(void *arg) {
  int fd = file(O_RDONLY);
  for (int i = 0; i < 100; i++) {
    char *p = map(0, 32 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    for (int k = 0; k < 32; k++) sum += p[k * PAGE];
    munmap(p, 32 * PAGE);
  }
  return 0;
}

static void threads(void) {
  pthread_t t[4];
  for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, map_much, 0);
  for (int i = 0; i < 4; i++) pthread_join(t[i], 0);
  puts("joined");
}

// leader-exit: the leader ends before its thread does.
static void *late(void *arg) {
  usleep(50000);
  map_much(0);
  write(1, "late\n", 5);
  exit(7);
}

static void leader_exit(void) {
  pthread_t t;
  pthread_create(&t, 0, late, 0);
  pthread_exit(0);
}

static void forks(int depth) {
  for (int i = 0; i < 3; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      if (depth > 0) forks(depth - 1);
      _exit(depth);
    }
  }
  while (wait(0) > 0) {
  }
}

static void vforks(void) {
  for (int i = 0; i < 3; i++) {
    pid_t pid = vfork();
    if (pid == 0) {
      if (i == 2) _exit(5);
      char *argv[] = {"zoo", "hello", 0};
      execv("/proc/self/exe", argv);
      _exit(9);
    }
    int st;
    waitpid(pid, &st, 0);
    printf("%x\n", st);
    fflush(stdout);
  }
}

// seccomp: a filter that allows everything, and then a mapping.
static void filtered(void) {
  struct sock_filter f[] = {{BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW}};
  struct sock_fprog prog = {1, f};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog)) die("seccomp");
  int fd = file(O_RDONLY);
  printf("%ld\n", touch(map(0, PAGES * PAGE, PROT_READ, MAP_PRIVATE, fd, 0), PAGES));
  fflush(stdout);
  char *argv[] = {"zoo", "hello", 0};
  execv("/proc/self/exe", argv);
}

// stopped: a child that stops itself is seen to stop, goes on at SIGCONT, and gets the
// siginfo of a signal that was sent with a value.
static void stopped(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 3);
  sigprocmask(SIG_BLOCK, &set, 0);
  pid_t pid = fork();
  if (pid == 0) {
    siginfo_t si;
    setpgid(0, 0);  // in a group that is orphaned, as of a job in the background, SIGTSTP does not stop
    raise(SIGSTOP);
    raise(SIGTSTP);
    sigwaitinfo(&set, &si);
    dprintf(1, "sig %d code %d value %d mine %d\n", si.si_signo - SIGRTMIN, si.si_code, si.si_value.sival_int, si.si_pid == getppid());
    _exit(4);
  }
  int st;
  for (int i = 0; i < 2; i++) {
    waitpid(pid, &st, WUNTRACED);
    dprintf(1, "stopped %d %d\n", WIFSTOPPED(st), WSTOPSIG(st));
    kill(pid, SIGCONT);
  }
  union sigval v = {.sival_int = 42};
  sigqueue(pid, SIGRTMIN + 3, v);
  waitpid(pid, &st, 0);
  printf("%x\n", st);
}

// limit: more pages than there may be areas.
static void limit(long pages) {
  int fd = memfd_create("big", 0);
  ftruncate(fd, pages * PAGE);
  map(0, pages * PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
  for (int i = 0; i < 800; i++) map(0, PAGE, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char *p = map(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
  printf("%d\n", munmap(p, PAGE));
}

// mapped: how many faults mapping a file n times takes, without touching it.
static void mapped(long n) {
  int fd = file(O_RDONLY);
  long before = minflt();
  for (long i = 0; i < n; i++) munmap(map(0, 64 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0), 64 * PAGE);
  printf("%ld\n", minflt() - before);
}

// self: what the program itself knows about its start.
extern char **environ;
static void self(char **argv) {
  printf("entry %lx phdr %lx base %lx vdso %lx execfn %s argv %lx brk %lx\n", getauxval(AT_ENTRY), getauxval(AT_PHDR),
         getauxval(AT_BASE), getauxval(AT_SYSINFO_EHDR), (char *)getauxval(AT_EXECFN), (long)argv, (long)sbrk(0));
}

// files: one mapping of each kind.
static void files(void) {
  int fd = file(O_RDWR), m = memfd_create("note", 0), z = open("/dev/zero", O_RDWR);
  if (ftruncate(m, PAGE)) die("ftruncate");
  map(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
  map(0, PAGE, PROT_READ, MAP_SHARED, m, 0);
  map(0, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  map(0, PAGE, PROT_READ, MAP_SHARED, z, 0);
  map(0, PAGE, PROT_READ, MAP_PRIVATE, z, 0);
  map(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  unshare(CLONE_NEWIPC);
  int id = shmget(IPC_PRIVATE, 3 * PAGE, 0600);
  void *p = shmat(id, 0, 0);
  shmctl(id, IPC_RMID, 0);
  shmdt(p);
  unlink(path);
  map(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
}

// kills: processes that make others are killed at any moment.
static void kills(void) {
  for (int i = 0; i < 60; i++) {
    pid_t pid = fork();
    if (pid == 0) {
      setpgid(0, 0);
      for (;;)
        if (fork() == 0) _exit(0);
    }
    setpgid(pid, pid);
    usleep(i * 37 % 900);
    kill(i % 2 ? pid : -pid, SIGKILL);
    waitpid(pid, 0, 0);
  }
}

// Threads that all end at once: by exit_group of the first or another, by a signal; the
// first may have ended before.
static void *busy(void *p) {
  for (;;) {
    char *m = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *m = 1;
    munmap(m, PAGE);
  }
}

static const char *together_how;

static void *together_end(void *p) {
  usleep(2000);
  if (!strcmp(together_how, "signal")) kill(getpid(), SIGTERM);
  else _exit(4);
  return 0;
}

static void together(const char *how) {
  pthread_t t;
  together_how = how;
  for (int i = 0; i < 3; i++) pthread_create(&t, 0, busy, 0);
  if (!strcmp(how, "first")) usleep(2000), _exit(4);
  pthread_create(&t, 0, together_end, 0);
  if (!strcmp(how, "without")) pthread_exit(0);
  for (;;) pause();
}

int main(int argc, char **argv) {
  char *mode = argc > 1 ? argv[1] : "";
  path = argc > 2 ? argv[2] : "";
  if (!strcmp(mode, "hello")) puts("hello");
  else if (!strcmp(mode, "exit")) return atoi(argv[2]);
  else if (!strcmp(mode, "signal")) raise(atoi(argv[2]));
  else if (!strcmp(mode, "kinds")) kinds();
  else if (!strcmp(mode, "random")) randomly(atol(argv[3]), atol(argv[4]));
  else if (!strcmp(mode, "merge")) merge();
  else if (!strcmp(mode, "registers")) registers();
  else if (!strcmp(mode, "thread-exec")) thread_exec();
  else if (!strcmp(mode, "threads")) threads();
  else if (!strcmp(mode, "leader-exit")) leader_exit();
  else if (!strcmp(mode, "forks")) forks(3);
  else if (!strcmp(mode, "vforks")) vforks();
  else if (!strcmp(mode, "seccomp")) filtered();
  else if (!strcmp(mode, "stopped")) stopped();
  else if (!strcmp(mode, "limit")) limit(atol(argv[2]));
  else if (!strcmp(mode, "mapped")) mapped(atol(argv[3]));
  else if (!strcmp(mode, "self")) self(argv);
  else if (!strcmp(mode, "files")) files();
  else if (!strcmp(mode, "kills")) kills();
  else if (!strcmp(mode, "together")) together(argv[2]);
  else if (!strcmp(mode, "pause")) {
    write(1, "pausing\n", 8);
    pause();
  } else if (!strcmp(mode, "id")) printf("%d %d\n", getuid(), geteuid());
  else return 98;
  return 0;
}
