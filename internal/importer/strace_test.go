package importer

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vmsim/trace"
)

// straceRows are logs in the forms that strace writes, most of them shortened from
// real ones of strace 6.1.
var straceRows = []struct {
	name    string
	log     string
	want    string   // the operations behind the fork of process 2
	missing []string // starts of sentences in the header
	err     string   // of the import; "": none
}{
	{name: "empty"},
	{
		name: "one process, no options",
		log: `execve("/bin/true", ["true", "a b"], 0x7ffc /* 35 vars */) = 0
brk(NULL)                               = 0x55d0e7613000
mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f35ff92c000
access("/etc/ld.so.preload", R_OK)      = -1 ENOENT (No such file or directory)
mprotect(0x7f35ff92c000, 4096, PROT_READ) = 0
munmap(0x7f35ff92c000, 8192)            = 0
exit_group(0)                           = ?
+++ exited with 0 +++
`,
		want: `2 exec /bin/true base=0 arg=true "arg=a b" = 0
2 brk 0 = 0x55d0e7613000
2 mmap 0 0x2000 rw- private anon = 0x7f35ff92c000
2 mprotect 0x7f35ff92c000 0x1000 r-- = 0
2 munmap 0x7f35ff92c000 0x2000 = 0
2 exit
`,
		missing: []string{"touches", "what exec mapped", "identities", "times are missing"},
	},
	{
		name: "-ttt -T: times in nanoseconds from the first line",
		log: `7 1795187692.526804 brk(NULL) = 0x1000 <0.000012>
7 1795187692.527804 brk(0x2000) = 0x2000 <0.000012>
7 1795187691.000000 brk(0x3000) = 0x3000 <0.000012>
7 1795187692.527805 munmap(0x5000, 4096) = -1 EINVAL (Invalid argument) <0.000001>
`,
		want: `2 brk 0 = 0x1000
@1000000 2 brk 0x2000 = 0x2000
@1000000 2 brk 0x3000 = 0x3000
@1001000 2 munmap 0x5000 0x1000 = EINVAL
`,
		missing: []string{"what the first process had mapped", "times are missing where the clock went back, 1 times", "ends are missing: 1 "},
	},
	{
		name: "-tt past midnight",
		log: `7 23:59:59.500000 brk(NULL) = 0x1000
7 00:00:00.250000 brk(NULL) = 0x1000
`,
		want: "2 brk 0 = 0x1000\n@750000000 2 brk 0 = 0x1000\n",
	},
	{
		name: "-r: since the line before",
		log: `     0.000000 brk(NULL) = 0x1000
     0.000005 getpid() = 5
     0.000010 brk(NULL) = 0x1000
`,
		want: "2 brk 0 = 0x1000\n@15000 2 brk 0 = 0x1000\n",
	},
	{
		name: "-f -t -r -n -i -T",
		log: `20503 15:18:26 (+     0.000000) [  59] [00007f4736f24ad7] execve("/bin/true", ["true"], 0x7ffe /* 35 vars */) = 0 <0.000305>
20503 15:18:26 (+     0.000452) [  12] [????????????????] brk(NULL) = 0x5624906a2000 <0.000046>
20503 15:18:26 (+     0.000048) +++ exited with 3 +++
`,
		want: "2 exec /bin/true base=0 arg=true = 0\n@452000 2 brk 0 = 0x5624906a2000\n@500000 2 exit 3\n",
	},
	{
		name: "-Y: names of programs, with a blank and a bracket",
		log: `7<tmux: server> brk(NULL) = 0x1000
7<tmux: server> kill(8<sh>, SIGTERM) = 0
7<tmux: server> clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 8<sh>
[pid     8<sh>] brk(NULL) = 0x1000
`,
		want: "2 brk 0 = 0x1000\n2 fork flags=0x1000000 = 3\n3 brk 0 = 0x1000\n",
	},
	{
		name: "-X raw and verbose",
		log: `7 mmap(NULL, 8192, 0x3, 0x22, -1, 0) = 0x7f4a54832000
7 mmap(NULL, 8192, 0x1 /* PROT_READ */, 0x2 /* MAP_PRIVATE */, 3</a,b>, 0) = 0x7f4a54830000
7 madvise(0x7f4a54832000, 8192, 0x4 /* MADV_DONTNEED */) = 0
7 openat(-100 /* AT_FDCWD */, "\x2f\x78", 0x80000 /* O_RDONLY|O_CLOEXEC */) = 4
7 mmap(NULL, 4096, 0x1, 0x2, 4, 0) = 0x7f4a54820000
`,
		want: `2 mmap 0 0x2000 rw- private anon = 0x7f4a54832000
2 mmap 0 0x2000 r-- private /a,b+0x0 = 0x7f4a54830000
2 madvise 0x7f4a54832000 0x2000 dontneed = 0
2 mmap 0 0x1000 r-- private /x+0x0 = 0x7f4a54820000
`,
	},
	{
		name: "vfork: the child comes before its parent's call returns",
		log: `10 vfork( <unfinished ...>
11 rt_sigprocmask(SIG_SETMASK, [], ~[KILL], 8) = 0
11 execve("/bin/true", ["true"], 0x55 /* 35 vars */ <unfinished ...>
10 <... vfork resumed>)                 = 11
11 <... execve resumed>)                = 0
11 +++ exited with 0 +++
10 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=11, si_uid=0, si_status=0} ---
10 +++ killed by SIGKILL +++
`,
		want: "2 vfork flags=0x4100 = 3\n3 exec /bin/true base=0 arg=true = 0\n3 exit\n2 exit signal=9\n",
	},
	{
		name: "two calls under way: the results tell which child is whose",
		log: `10 brk(NULL) = 0x1000
10 fork() = 11
11 clone(child_stack=NULL, flags=CLONE_VM|CLONE_VFORK|SIGCHLD <unfinished ...>
10 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>
12 brk(NULL) = 0x2000
13 brk(NULL) = 0x3000
10 <... clone resumed>, child_tidptr=0x7f) = 12
11 <... clone resumed>) = 13
`,
		want: `2 brk 0 = 0x1000
2 fork = 3
2 fork flags=0x1000000 = 4
4 brk 0 = 0x2000
3 vfork flags=0x4100 = 5
5 brk 0 = 0x3000
`,
	},
	{
		name: "a parent that is killed in vfork: one call is left that can have made the child",
		log: `10 vfork( <unfinished ...>
11 brk(NULL) = 0x1000
10 <... vfork resumed> <unfinished ...>) = ?
10 +++ killed by SIGKILL +++
11 exit_group(300) = ?
11 +++ exited with 44 +++
`,
		want: "2 vfork flags=0x4100 = 3\n3 brk 0 = 0x1000\n2 exit signal=9\n3 exit 44\n",
	},
	{
		name: "a clone that is made again",
		log: `10 clone(child_stack=NULL, flags=SIGCHLD) = ? ERESTARTNOINTR (To be restarted)
10 --- SIGCHLD {si_signo=SIGCHLD} ---
10 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>
11 brk(NULL) = 0x1000
10 <... clone resumed>) = 11
10 fork() = -1 EAGAIN (Resource temporarily unavailable)
`,
		want:    "2 fork = 3\n3 brk 0 = 0x1000\n",
		missing: []string{"1 forks are missing: they failed"},
	},
	{
		name: "threads, and exec in one of them",
		log: `20 clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD, child_tid=0x7f, exit_signal=0, stack=0x7f} => {parent_tid=[21]}, 88) = 21
20 clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD, child_tid=0x7f, exit_signal=0, stack=0x7f} <unfinished ...>
22 brk(NULL) = 0x1000
20 <... clone3 resumed> => {parent_tid=[22]}, 88) = 22
21 pause( <unfinished ...>
22 execve("/bin/true", ["true"], 0x7f /* 35 vars */ <unfinished ...>
20 futex(0x7feea839d990, FUTEX_WAIT, 20523, NULL <unfinished ...>
20 <... futex resumed>)                 = ?
21 <... pause resumed>)                 = ?
21 +++ exited with 0 +++
20 +++ superseded by execve in pid 22 +++
20 <... execve resumed>)                = 0
20 brk(NULL)                            = 0x2000
20 +++ exited with 1 +++
`,
		want: `2 thread flags=0x10f00 = 3
2 thread flags=0x10f00 = 4
2/4 brk 0 = 0x1000
2/3 exit
2/4 exec /bin/true base=0 arg=true = 0
2 brk 0 = 0x2000
2 exit 1
`,
	},
	{
		name: "exec in a thread, as strace before 5 has it",
		log: `20 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_THREAD) = 21
21 execve("/bin/true", ["true"], [/* 35 vars */] <pid changed to 20 ...>
20 <... execve resumed> )               = 0
20 brk(NULL)                            = 0x2000
`,
		want: "2 thread flags=0x10100 = 3\n2/3 exec /bin/true base=0 arg=true = 0\n2 brk 0 = 0x2000\n",
	},
	{
		name: "a terminal: [pid N], messages in the middle of lines, no PID for the only one",
		log: `execve("/bin/sh", ["sh"], 0x7f /* 35 vars */) = 0
clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLDstrace: Process 11 attached
, child_tidptr=0x7f) = 11
[pid    11] vfork(strace: Process 12 attached
 <unfinished ...>
[pid    10] wait4(-1,  <unfinished ...>
[pid    12] brk(NULL)                   = 0x1000
[pid    12] +++ exited with 0 +++
[pid    11] <... vfork resumed>)        = 12
[pid    11] +++ exited with 2 +++
<... wait4 resumed>NULL, 0, NULL)       = 11
strace: Process 10 detached
`,
		want: `2 exec /bin/sh base=0 arg=sh = 0
2 fork flags=0x1000000 = 3
3 vfork flags=0x4100 = 4
4 brk 0 = 0x1000
4 exit
3 exit 2
`,
		missing: []string{"what followed is missing of 1 "},
	},
	{
		name: "a terminal, -q: a child that strace has not seen yet does not give lines a PID",
		log: `execve("/bin/sh", ["sh"], 0x7f /* 35 vars */) = 0
clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f) = 11
brk(NULL)                               = 0x1000
wait4(-1,  <unfinished ...>
[pid    11] brk(NULL)                   = 0x2000
[pid    10] <... wait4 resumed>NULL, 0, NULL) = -1 EINTR (Interrupted system call)
[pid    10] brk(NULL)                   = 0x3000
`,
		want: `2 exec /bin/sh base=0 arg=sh = 0
2 fork flags=0x1000000 = 3
2 brk 0 = 0x1000
3 brk 0 = 0x2000
2 brk 0 = 0x3000
`,
		missing: []string{"ends are missing: 2 "},
	},
	{
		name: "-qq: no ends",
		log: `execve("/bin/sh", ["sh"], 0x7f /* 35 vars */) = 0
vfork( <unfinished ...>
[pid    12] exit_group(7)               = ?
<... vfork resumed>)                    = 12
brk(NULL)                               = 0x1000
exit_group(1)                           = ?
`,
		want:    "2 exec /bin/sh base=0 arg=sh = 0\n2 vfork flags=0x4100 = 3\n3 exit 7\n2 brk 0 = 0x1000\n2 exit 1\n",
		missing: []string{"when 2 processes or threads ended"},
	},
	{
		name: "a PID that comes again is another process",
		log: `10 fork() = 11
11 +++ exited with 1 +++
10 fork() = 11
11 brk(NULL) = 0x1000
10 fork() = 11
11 brk(NULL) = 0x2000
`,
		want:    "2 fork = 3\n3 exit 1\n2 fork = 4\n4 brk 0 = 0x1000\n2 fork = 5\n5 brk 0 = 0x2000\n",
		missing: []string{"ends are missing: of 1 "},
	},
	{
		name: "fork was not traced",
		log: `10 brk(NULL) = 0x1000
11 brk(NULL) = 0x2000
`,
		want:    "2 brk 0 = 0x1000\n1 fork = 3\n3 brk 0 = 0x2000\n",
		missing: []string{"parents are missing, and what they left in memory: of 1 "},
	},
	{
		name: "another PID namespace",
		log: `10 clone(child_stack=NULL, flags=CLONE_NEWPID|SIGCHLD) = 1 /* 12 in strace's PID NS */
12 brk(NULL) = 0x1000
`,
		want: "2 fork flags=0x20000000 = 3\n3 brk 0 = 0x1000\n",
	},
	{
		name: "descriptors without -y: open, dup, close, fork, exec",
		log: `10 openat(AT_FDCWD, "/lib/x.so", O_RDONLY|O_CLOEXEC) = 3
10 mmap(NULL, 4096, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_DENYWRITE, 3, 0x2000) = 0x10000
10 dup(3) = 4
10 close(3) = 0
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 4, 0) = 0x11000
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = -1 EBADF (Bad file descriptor)
10 open("/lib/y.so", O_RDONLY) = 3
10 fcntl(3, F_DUPFD_CLOEXEC, 10) = 10
10 fork() = 11
11 close(3) = 0
11 socket(AF_UNIX, SOCK_STREAM, 0) = 3
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3, 0) = 0x12000
10 execve("/bin/true", ["true"], 0x7f /* 35 vars */) = 0
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3, 0) = 0x13000
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 4, 0) = 0x14000
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 10, 0) = 0x15000
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 10, 0) = 0x16000
11 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3, 0) = 0x17000
`,
		want: `2 mmap 0 0x1000 r-x private /lib/x.so+0x2000 = 0x10000
2 mmap 0 0x1000 r-- private /lib/x.so+0x0 = 0x11000
2 fork = 3
2 mmap 0 0x1000 r-- shared /lib/y.so+0x0 = 0x12000
2 exec /bin/true base=0 arg=true = 0
2 mmap 0 0x1000 r-- shared /lib/y.so+0x0 = 0x13000
2 mmap 0 0x1000 r-- shared /lib/x.so+0x0 = 0x14000
file unknown/file-1 kind=memory
2 mmap 0 0x1000 r-- shared unknown/file-1+0x0 = 0x15000
2 mmap 0 0x1000 r-- shared unknown/file-1+0x0 = 0x16000
file unknown/file-2 kind=memory
3 mmap 0 0x1000 r-- shared unknown/file-2+0x0 = 0x17000
`,
		missing: []string{"2 files of mappings are missing"},
	},
	{
		name: "a close that runs while another thread is given the number; a mapping whose descriptor is closed while it runs",
		log: `10 clone(child_stack=0x7f, flags=CLONE_VM|CLONE_FILES|CLONE_THREAD) = 11
10 openat(AT_FDCWD, "/a", O_RDONLY) = 3
10 close(3 <unfinished ...>
11 openat(AT_FDCWD, "/b", O_RDONLY) = 3
10 <... close resumed>) = 0
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0 <unfinished ...>
11 close(3) = 0
11 openat(AT_FDCWD, "/c", O_RDONLY) = 3
10 <... mmap resumed>) = 0x10000
`,
		want: "2 thread flags=0x10500 = 3\n2 mmap 0 0x1000 r-- private /b+0x0 = 0x10000\n",
	},
	{
		name: "threads without -f's FILES, and close was not traced",
		log: `10 openat(AT_FDCWD, "/a", O_RDONLY) = 3
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000
`,
		want:    "2 mmap 0 0x1000 r-- private /a+0x0 = 0x10000\n",
		missing: []string{"closes are missing: 1 "},
	},
	{
		name: "dup2, dup3, close_range, F_SETFD, pipes",
		log: `10 openat(AT_FDCWD, "/a", O_RDONLY) = 3
10 dup2(3, 5) = 5
10 dup3(3, 6, O_CLOEXEC) = 6
10 fcntl(5, F_SETFD, FD_CLOEXEC) = 0
10 pipe2([3, 4], 0) = 0
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 6, 0) = 0x10000
10 execve("/b", ["b"], 0x7f) = 0
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = -1 ENODEV (No such device)
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 5, 0) = -1 EBADF (Bad file descriptor)
10 openat(AT_FDCWD, "/c", O_RDONLY) = 7
10 dup(7) = 8
10 close_range(8, 4294967295, 0) = 0
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 8, 0) = -1 EBADF (Bad file descriptor)
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 7, 0) = 0x11000
`,
		want: `2 mmap 0 0x1000 r-- private /a+0x0 = 0x10000
2 exec /b base=0 arg=b = 0
2 mmap 0 0x1000 r-- private /c+0x0 = 0x11000
`,
	},
	{
		name: "-y and -yy: odd paths, deleted files, devices, sockets, memfds of one name",
		log: `10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3</tmp/a b\74\76\",\\x>, 0) = 0x10000
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3</tmp/x>(deleted), 0) = 0x11000
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 4</dev/zero<char 1:5>>, 0) = 0x12000
10 dup(5<TCP:[127.0.0.1:44->127.0.0.1:80]>) = 6<TCP:[127.0.0.1:44->127.0.0.1:80]>
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 7<anon_inode:[io_uring]>, 0x10000000) = 0x13000
10 memfd_create("m", 0) = 8</memfd:m>(deleted)
10 memfd_create("m", 0) = 9</memfd:m>(deleted)
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 8</memfd:m>(deleted), 0) = 0x14000
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 9</memfd:m>(deleted), 0) = 0x15000
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 8</memfd:m>(deleted), 0) = 0x16000
10 mmap(NULL, 4096, PROT_READ, MAP_SHARED, 8</memfd:n (deleted)>, 0) = 0x17000
`,
		want: `2 mmap 0 0x1000 r-- private "/tmp/a b<>\",\\x+0x0" = 0x10000
file "/tmp/x (deleted)" kind=memory
2 mmap 0 0x1000 r-- shared "/tmp/x (deleted)+0x0" = 0x11000
file /dev/zero kind=device
2 mmap 0 0x1000 r-- private /dev/zero+0x0 = 0x12000
file anon_inode:[io_uring] kind=device
2 mmap 0 0x1000 r-- shared anon_inode:[io_uring]+0x10000000 = 0x13000
file /memfd:m kind=memory
2 mmap 0 0x1000 r-- shared /memfd:m+0x0 = 0x14000
file "/memfd:m#2" kind=memory
2 mmap 0 0x1000 r-- shared "/memfd:m#2+0x0" = 0x15000
2 mmap 0 0x1000 r-- shared /memfd:m+0x0 = 0x16000
file /memfd:n kind=memory
2 mmap 0 0x1000 r-- shared /memfd:n+0x0 = 0x17000
`,
	},
	{
		name: "relative paths: chdir, getcwd, -y, a folder's descriptor, chroot",
		log: `10 execve("./a", ["a"], 0x7f) = 0
10 chdir("/opt") = 0
10 execve("./a", ["a"], 0x7f) = 0
10 chdir("sub") = 0
10 openat(AT_FDCWD, "lib.so", O_RDONLY) = 3
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x10000
10 openat(AT_FDCWD, "/srv", O_RDONLY|O_DIRECTORY) = 4
10 openat(4, "x.so", O_RDONLY) = 5
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 5, 0) = 0x11000
10 fchdir(4) = 0
10 execveat(AT_FDCWD, "p", ["p"], 0x7f, 0) = 0
10 execveat(4, "q", ["q"], 0x7f, 0) = -1 ENOENT (No such file or directory)
10 getcwd("/home", 4096) = 6
10 execve("r", ["r"], 0x7f) = 0
10 chdir("/gone") = -1 ENOENT (No such file or directory)
10 execve("r", ["r"], 0x7f) = 0
10 chroot("/jail") = 0
10 execve("/r", ["r"], 0x7f) = 0
`,
		want: `2 exec unknown/a base=0 arg=a = 0
2 exec /opt/a base=0 arg=a = 0
2 mmap 0 0x1000 r-- private /opt/sub/lib.so+0x0 = 0x10000
2 mmap 0 0x1000 r-- private /srv/x.so+0x0 = 0x11000
2 exec /srv/p base=0 arg=p = 0
2 exec /srv/q = ENOENT
2 exec /home/r base=0 arg=r = 0
2 exec /home/r base=0 arg=r = 0
2 exec unknown/r base=0 arg=r = 0
`,
		missing: []string{"the folders of 2 programs"},
	},
	{
		name: "-y tells the folder behind the first exec",
		log: `10 execve("./a", ["a"], 0x7f) = 0
10 brk(NULL) = 0x1000
10 openat(AT_FDCWD</data>, "/etc/ld.so.cache", O_RDONLY) = 3</etc/ld.so.cache>
`,
		want: "2 exec /data/a base=0 arg=a = 0\n2 brk 0 = 0x1000\n",
	},
	{
		name: "arguments of exec: cut, escaped, none",
		log: `10 execve("/a", ["a", "0123456789abcdef"...], 0x7f /* 35 vars */) = 0
10 execve("/a", ["a", ...], 0x7f /* 35 vars */) = 0
10 execve("/a", 0x7f12, 0x7f /* 35 vars */) = 0
10 execve("/a", ["tr\"ue\n\1", "\\", "[", "]"], ["X=\"]"]) = 0
10 execve("/a", [], NULL) = 0
10 execve(NULL, NULL, NULL) = -1 EFAULT (Bad address)
10 execve("/a", ["a", "b"], 0x7f) = -1 ENOEXEC (Exec format error)
`,
		want: `2 exec /a = 0
2 exec /a = 0
2 exec /a = 0
2 exec /a base=0 "arg=tr\"ue\n\x01" "arg=\\" arg=[ arg=] = 0
2 exec /a base=0 = 0
2 exec /a = ENOEXEC
`,
		missing: []string{"the arguments of 3 execs are missing"},
	},
	{
		name: "every mapping call",
		log: `10 mmap(0x10000000, 4096, PROT_NONE, MAP_SHARED_VALIDATE|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE|MAP_SYNC, -1, 0) = -1 EEXIST (File exists)
10 mmap(NULL, 2097152, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS|MAP_HUGETLB|21<<MAP_HUGE_SHIFT, -1, 0) = -1 ENOMEM (Cannot allocate memory)
10 mmap(NULL, 4096, PROT_READ|PROT_GROWSDOWN|0x100, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE|MAP_POPULATE|MAP_LOCKED|MAP_NONBLOCK, -1, 0) = 0x7f0000000000
10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_32BIT|MAP_GROWSDOWN|MAP_STACK, -1, 0) = 0x40000000
10 mmap(NULL, 4096, PROT_READ, MAP_FILE|MAP_ANONYMOUS, -1, 0) = -1 EINVAL (Invalid argument)
10 mremap(0x4173a000, 16384, 32768, MREMAP_MAYMOVE) = 0x4173a000
10 mremap(0x1000, 8192, 8192, MREMAP_MAYMOVE|MREMAP_FIXED, 0x7f8abbe9f000) = 0x7f8abbe9f000
10 mremap(0x1000, 8192, 8192, MREMAP_MAYMOVE|MREMAP_DONTUNMAP) = 0x7f8abbe9d000
10 mremap(0x1000, 8192, 4096, 0) = -1 EFAULT (Bad address)
10 madvise(0x1000, 4096, 0x66 /* MADV_??? */) = 0
10 madvise(0x1000, 4096, MADV_POPULATE_WRITE) = -1 EHWPOISON (Memory page has hardware error)
10 mlock(0x1000, 4096) = 0
10 mlock2(0x1000, 4096, MLOCK_ONFAULT) = 0
10 munlock(0x1000, 4096) = 0
10 mlockall(MCL_CURRENT|MCL_FUTURE|MCL_ONFAULT) = 0
10 munlockall() = 0
10 pkey_mprotect(0x1000, 4096, PROT_READ, -1) = 0
10 pkey_mprotect(0x1000, 4096, PROT_READ|PROT_EXEC, 5) = 0
10 munmap(0x1000, 18446744073709551615) = -1 (errno 4095)
10 brk(0x562abbc46000) = 0x562abbc46000
`,
		want: `2 mmap 0x10000000 0x1000 --- shared,noreplace,sync anon = EEXIST
2 mmap 0 0x200000 rw- private,fixed,hugetlb anon = ENOMEM
2 mmap 0 0x1000 r-- private,populate,locked,noreserve,nonblock anon = 0x7f0000000000
2 mmap 0 0x1000 r-- private,stack,growsdown,32bit anon = 0x40000000
2 mremap 0x4173a000 0x4000 0x8000 maymove = 0x4173a000
2 mremap 0x1000 0x2000 0x2000 maymove,fixed to=0x7f8abbe9f000 = 0x7f8abbe9f000
2 mremap 0x1000 0x2000 0x2000 maymove,dontunmap = 0x7f8abbe9d000
2 mremap 0x1000 0x2000 0x1000 stay = EFAULT
2 madvise 0x1000 0x1000 guard_install = 0
2 madvise 0x1000 0x1000 populate_write = E133
2 mlock 0x1000 0x1000 = 0
2 mlock 0x1000 0x1000 flags=0x1 = 0
2 munlock 0x1000 0x1000 = 0
2 mlockall flags=0x7 = 0
2 munlockall = 0
2 mprotect 0x1000 0x1000 r-- = 0
2 mprotect 0x1000 0x1000 r-x = 0
2 munmap 0x1000 0xffffffffffffffff = E4095
2 brk 0x562abbc46000 = 0x562abbc46000
`,
		missing: []string{"PROT_GROWSDOWN and unknown bits are missing: of 1 ", "flags of mmap or mremap", "protection keys are missing: of 1 "},
	},
	{
		name: "shared memory",
		log: `10 shmget(IPC_PRIVATE, 10000, IPC_CREAT|0600) = 32779
10 shmat(32779, NULL, SHM_RDONLY) = 0x7f8abbcb4000
10 shmat(32779, 0x7f8abbcb1234, SHM_RND|SHM_REMAP|SHM_EXEC) = 0x7f8abbcb1000
10 shmat(99999, NULL, 0) = -1 EINVAL (Invalid argument)
10 shmdt(0x7f8abbcb4000) = 0
10 shmget(0x1234, 0, 0) = 5
10 shmat(5, NULL, 0) = 0x7f8abbca0000
10 shmctl(5, IPC_STAT, {shm_perm={uid=0, gid=0, mode=0600, key=4660}, shm_segsz=8192, shm_cpid=1}) = 0
10 shmat(5, NULL, 0) = 0x7f8abbc90000
10 shmget(0x77, 4096, IPC_CREAT|0600) = 6
10 shmat(6, NULL, 0) = 0x7f8abbc80000
`,
		want: `file "/SYSV00000000#32779" kind=shared size=10000
2 shmat 0 0x2710 r-- "/SYSV00000000#32779" = 0x7f8abbcb4000
2 shmat 0x7f8abbcb1000 0x2710 rwx "/SYSV00000000#32779" = 0x7f8abbcb1000
2 shmdt 0x7f8abbcb4000 = 0
file "/SYSV00000000#5" kind=shared size=8192
2 shmat 0 0x2000 rw- "/SYSV00000000#5" = 0x7f8abbc90000
file "/SYSV00000077#6" kind=shared size=4096
2 shmat 0 0x1000 rw- "/SYSV00000077#6" = 0x7f8abbc80000
`,
		missing: []string{"1 attachments of shared memory are missing", "that 1 attachments", "sizes of 1 shared-memory segments"},
	},
	{
		name: "signals: refused accesses; a signal that was sent",
		log: `10 --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x10} ---
10 --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_ACCERR, si_addr=0x562a9ff6a039} ---
10 --- SIGBUS {si_signo=SIGBUS, si_code=BUS_ADRERR, si_addr=0x10001000} ---
10 --- SIGSEGV {si_signo=SIGSEGV, si_code=SI_TKILL, si_pid=20992, si_uid=0} ---
10 --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=NULL} ---
10 --- stopped by SIGSTOP ---
10 +++ killed by SIGSEGV (core dumped) +++
`,
		want: `2 touch r 0x10 = SEGV_MAPERR
2 note "SIGSEGV SEGV_ACCERR at 0x562a9ff6a039"
2 touch r 0x10001000 = SIGBUS
2 touch r 0 = SEGV_MAPERR
2 exit signal=11
`,
		missing: []string{"whether 3 refused accesses", "1 refused accesses are missing as touches"},
	},
	{
		name: "real-time signal", log: "10 +++ killed by SIGRT_2 +++\n", want: "2 exit signal=34\n",
	},
	{
		name: "calls without a result, injected results, halves",
		log: `10 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = ?
10 munmap(0x1000, 4096) = 0 (INJECTED)
10 munmap(0x1000, 4096) = 0 (DELAYED)
10 <... mmap resumed>) = 0x1000
10 brk(NULL <detached ...>
10 futex(0x7f, FUTEX_WAIT <unfinished ...>
10 <... futex resumed>) = ? ERESTARTSYS (To be restarted if SA_RESTART is set)
10 brk(0x1 <unfinished ...>
10 <... brk resumed> <unfinished ...>) = ?
`,
		want:    "2 munmap 0x1000 0x1000 = 0\n",
		missing: []string{"3 calls are missing whose results", "1 calls are missing: the log has their second halves"},
	},
	{
		name: "calls about memory that a trace has no words for; -k; -C; other calls",
		log: `10 process_madvise(5, [{iov_base=0x1000, iov_len=4096}], 1, MADV_COLD, 0) = 4096
10 syscall_0x1ce(0x7f8abbe9d000, 0x1000, 0, 0, 0, 0) = 0
10 remap_file_pages(0x1000, 4096, PROT_NONE, 0, MAP_FILE) = -1 EINVAL (Invalid argument)
 > /usr/lib/x86_64-linux-gnu/libc.so.6(__brk+0x7) [0xf5c47]
10 write(1, "mmap(NULL) = ) <unfinished ...>\n"..., 5) = 5
10 ioctl(0, TCGETS, {c_iflag=ICRNL|IXON}) = 0
[ Process PID=10 runs in 64 bit mode. ]
% time     seconds  usecs/call     calls    errors syscall
 12.50    0.000001           1         2           brk
`,
		missing: []string{"calls that a trace has no words for are missing: mseal (1), process_madvise (1)"},
	},
	{
		name: "what came before a line that cannot be read is kept",
		log:  "10 brk(NULL) = 0x1000\n10 hello world\n",
		want: "2 brk 0 = 0x1000\n", err: `x.log:2: "hello world" is no line of strace's`,
		missing: []string{"what follows the line that could not be read"},
	},
	{name: "cut off", log: "10 brk(NULL) = 0x1000\n10 brk(NULL) = 0x10", want: "2 brk 0 = 0x1000\n",
		err: "x.log:2: the line is cut off: its end is missing"},
	{name: "bad number", log: "10 munmap(0xzz, 4096) = 0\n", err: `x.log:1: munmap: address: "0xzz" is not a 64-bit number`},
	{name: "bad length", log: "10 munmap(0x1000) = 0\n", err: `x.log:1: munmap: length: "" is not a 64-bit number`},
	{name: "bad flag", log: "10 mmap(NULL, 4096, PROT_FUN, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x1000\n",
		err: `x.log:1: mmap: protection: flag "PROT_FUN" is neither known nor a number`},
	{name: "bad result", log: "10 brk(NULL) = hello\n", err: `x.log:1: brk: result "hello" is not a number`},
	{name: "bad error", log: "10 munmap(0x1000, 1) = -1 EFOO (Foo)\n", err: `x.log:1: munmap: error "EFOO" is not known`},
	{name: "no result", log: "10 brk(NULL)\n", err: "x.log:1: brk: its result is missing"},
	{name: "no bracket", log: "10 brk(NULL = 0x1000\n", err: "x.log:1: brk: its closing bracket is missing"},
	{name: "bad signal", log: "10 +++ killed by SIGFOO +++\n", err: `x.log:1: signal "SIGFOO" is not known`},
	{name: "bad status", log: "10 +++ exited with 256 +++\n", err: `x.log:1: status "256" is not in 0 to 255`},
	{name: "no PID among several", log: "10 fork() = 11\n11 brk(NULL) = 0x1000\nbrk(NULL) = 0x1000\n",
		want: "2 fork = 3\n3 brk 0 = 0x1000\n", err: "x.log:3: the line has no PID, and 2 processes and threads are there"},
	{name: "a path that is too long", log: `10 execve("/` + strings.Repeat("a", 5000) + `", ["a"], 0x7f) = 0` + "\n",
		err: `x.log:1: exec: "/` + strings.Repeat("a", 59) + `..." is longer than 4095 bytes`},
	{name: "a line that is too long", log: strings.Repeat("a", maxLine+1) + "\n", err: "x.log:1: the line is longer than 1048576 bytes"},
}

func TestStrace(t *testing.T) {
	for _, row := range straceRows {
		t.Run(row.name, func(t *testing.T) {
			got := run(t, Strace, strings.NewReader(row.log))
			if diff := cmp.Diff(row.want, got.text()); diff != "" {
				t.Errorf("operations (-want +got):\n%s", diff)
			}
			for _, m := range row.missing {
				if !got.missing(m) {
					t.Errorf("the header does not say %q: %q", m, got.header.Missing)
				}
			}
			var syntax *trace.SyntaxError
			switch {
			case row.err == "" && got.err != nil:
				t.Errorf("error %v", got.err)
			case row.err != "" && (got.err == nil || got.err.Error() != row.err):
				t.Errorf("error %v, want %s", got.err, row.err)
			case row.err != "" && !errors.As(got.err, &syntax):
				t.Errorf("error %T, want a SyntaxError", got.err)
			}
			if _, err := trace.Format(got.ops); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStraceHeader: what the header says of the recording as a whole.
func TestStraceHeader(t *testing.T) {
	got := run(t, Strace, strings.NewReader(`10 1795187692.526804 execve("/bin/true", ["true", "a b"], 0x7ffc /* 35 vars */) = 0
10 1795187692.527804 +++ exited with 0 +++
`))
	if lives := run(t, Strace, strings.NewReader("10 brk(NULL) = 0x1000\n")); lives.header.Whole || lives.header.Command != nil {
		t.Errorf("a log in which a process lives on: %+v", lives.header)
	}
	got.header.Missing = nil
	want := trace.Header{Source: "strace", Command: []string{"true", "a b"}, Clock: "CLOCK_REALTIME (strace -ttt)",
		Began: "2026-11-20T15:14:52.526804Z", Touches: trace.TouchesNone, Whole: true}
	if diff := cmp.Diff(want, got.header); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
