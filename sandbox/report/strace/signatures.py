"""What each system call takes: kinds of ``decode.py`` in the order of the registers, and how its result is shown."""

from __future__ import annotations

from sandbox.kernel.abi.flags import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_PARENT_SETTID,
    CLONE_SETTLS,
    FUTEX_CLOCK_REALTIME,
    FUTEX_PRIVATE_FLAG,
    MREMAP_FIXED,
    O_CREAT,
    O_DIRECTORY,
    O_TMPFILE,
)
from sandbox.report.strace import ptrace

PR_SET_NAME, PR_GET_NAME = 15, 16

_TABLE = """
restart_syscall
exit                int
fork
read                fd out_buf uint
write               fd buf uint
open                path oflags mode
close               fd
waitpid             int out_wait wait
creat               path mode
link                path path
unlink              path
execve              path argv envp
chdir               path
time                out_ptr
mknod               path mode hex
chmod               path mode
lchown              path int int
oldstat             path out_ptr
lseek               fd int whence
getpid
setuid              int
getuid
ptrace              ptrace int ptr ptr
alarm               uint
oldfstat            fd out_ptr
pause
utime               path ptr
access              path access
nice                int
sync
kill                int signal
rename              path path
mkdir               path mode
rmdir               path
dup                 fd
pipe                out_fds
times               out_ptr
brk                 ptr
setgid              int
getgid
signal              signal hex
geteuid
getegid
ioctl               fd hex ptr
fcntl               fd int int
setpgid             int int
umask               mode
chroot              path
dup2                fd fd
getppid
getpgrp
setsid
sigaction           signal oldsigaction out_oldsigaction
sgetmask
ssetmask            mask
sigsuspend          int int mask
sigpending          out_oldsigset
setrlimit           limit rlimit
getrlimit           limit out_rlimit
getrusage           who out_ptr
gettimeofday        out_timeval ptr
select              ptr
symlink             path path
oldlstat            path out_ptr
readlink            path out_link uint
mmap                ptr
munmap              ptr uint
truncate            path uint
ftruncate           fd uint
fchmod              fd mode
fchown              fd int int
getpriority         int int
setpriority         int int int
statfs              path out_ptr
fstatfs             fd out_ptr
setitimer           itimer itimerval out_itimerval
getitimer           itimer out_itimerval
socketcall          socketcall ptr
stat                path out_ptr
lstat               path out_ptr
fstat               fd out_ptr
wait4               int out_wait wait out_ptr
sysinfo             out_ptr
fsync               fd
sigreturn           out_mask
clone               clone
uname               out_utsname
modify_ldt          int ptr uint
mprotect            ptr uint prot
sigprocmask         how oldsigset out_oldsigset
getpgid             int
fchdir              fd
_llseek             fd hilo out_llong whence
getdents            fd out_ptr uint
_newselect          int fdset fdset fdset timeval
flock               fd int
msync               ptr uint msync
readv               fd out_iovec uint
writev              fd iovec uint
getsid              int
fdatasync           fd
init_module         ptr uint path
finit_module        fd path int
delete_module       path hex
mlock               ptr uint
munlock             ptr uint
mlockall            hex
munlockall
sched_yield
nanosleep           timespec out_ptr
mremap              ptr uint uint mremap ptr
poll                poll uint int
prctl               int ptr ptr ptr ptr
rt_sigreturn        out_mask
rt_sigaction        signal sigaction out_sigaction uint
rt_sigprocmask      how sigset out_sigset uint
rt_sigpending       out_sigset uint
rt_sigtimedwait     sigset out_ptr timespec uint
rt_sigqueueinfo     int signal ptr
rt_sigsuspend       sigset uint
pread64             fd out_buf uint llong
pwrite64            fd buf uint llong
chown               path int int
getcwd              out_string uint
sigaltstack         ptr out_ptr
sendfile            fd fd ptr uint
vfork
ugetrlimit          limit out_rlimit
mmap2               ptr uint prot map fd pages
truncate64          path llong
ftruncate64         fd llong
stat64              path out_stat64
lstat64             path out_stat64
fstat64             fd out_stat64
lchown32            path int int
getuid32
getgroups           int ptr
getgroups32         int ptr
getresuid           out_ptr out_ptr out_ptr
setresuid           int int int
setreuid            int int
setfsuid            int
getresgid           out_ptr out_ptr out_ptr
setresgid           int int int
setregid            int int
setfsgid            int
setgroups           int ptr
getresuid32         out_ptr out_ptr out_ptr
setresuid32         int int int
setreuid32          int int
setfsuid32          int
getresgid32         out_ptr out_ptr out_ptr
setresgid32         int int int
setregid32          int int
setfsgid32          int
setgroups32         int ptr
sched_getaffinity   int uint ptr
sched_setaffinity   int uint ptr
sched_getscheduler  int
sched_setscheduler  int int ptr
sched_getparam      int ptr
sched_setparam      int ptr
sched_get_priority_max int
sched_get_priority_min int
sched_rr_get_interval int ptr
sched_rr_get_interval_time64 int ptr
getcpu              ptr ptr ptr
membarrier          int hex
ipc                 uint int int int ptr int
shmget              hex uint hex
shmat               int ptr hex
shmdt               ptr
shmctl              int hex ptr
semget              hex int hex
semtimedop_time64   int ptr uint ptr
semctl              int int hex ptr
msgget              hex hex
msgsnd              int ptr uint hex
msgrcv              int ptr uint int hex
msgctl              int hex ptr
signalfd            fd ptr uint
signalfd4           fd ptr uint hex
timerfd_create      int hex
timerfd_settime     fd hex ptr ptr
timerfd_settime64   fd hex ptr ptr
timerfd_gettime     fd ptr
timerfd_gettime64   fd ptr
timer_create        clock ptr out_int
timer_settime       int hex ptr ptr
timer_settime64     int hex ptr ptr
timer_gettime       int ptr
timer_gettime64     int ptr
timer_getoverrun    int
timer_delete        int
inotify_init
inotify_init1       hex
inotify_add_watch   fd path hex
inotify_rm_watch    fd int
pidfd_open          int hex
pidfd_send_signal   fd signal ptr hex
pidfd_getfd         fd int hex
sched_setattr       int ptr hex
sched_getattr       int out_ptr uint hex
ioprio_set          int int hex
ioprio_get          int int
capget              ptr ptr
capset              ptr ptr
futex               ptr futex uint ptr
futex_time64        ptr futex uint ptr
getgid32
geteuid32
getegid32
fchown32            fd int int
chown32             path int int
setuid32            int
setgid32            int
mincore             ptr uint out_ptr
madvise             ptr uint advice
getdents64          fd out_dirents uint
fcntl64             fd int int
gettid
tkill               int signal
sendfile64          fd fd ptr uint
set_thread_area     user_desc
get_thread_area     ptr
get_thread_area     ptr
fadvise64           fd llong uint int
exit_group          int
epoll_create        int
epoll_ctl           fd int fd ptr
epoll_wait          fd out_ptr int int
set_tid_address     ptr
clock_gettime       clock out_timespec
clock_getres        clock out_timespec
clock_getres_time64 clock out_ptr
clock_nanosleep     clock timerflags timespec out_ptr
statfs64            path uint out_ptr
fstatfs64           fd uint out_ptr
tgkill              int int signal
utimes              path ptr
waitid              idtype int out_ptr waitid out_ptr
openat              dirfd path oflags mode
mkdirat             dirfd path mode
mknodat             dirfd path mode hex
fchownat            dirfd path int int atflags
futimesat           dirfd path ptr
fstatat64           dirfd path out_stat64 atflags
unlinkat            dirfd path unlinkflags
renameat            dirfd path dirfd path
linkat              dirfd path dirfd path atflags
symlinkat           path dirfd path
readlinkat          dirfd path out_link uint
fchmodat            dirfd path mode
faccessat           dirfd path access
pselect6            int fdset fdset fdset timespec ptr
ppoll               poll uint timespec sigset uint
set_robust_list     ptr uint
get_robust_list     int ptr ptr
utimensat           dirfd path ptr atflags
epoll_pwait         fd out_ptr int int sigset uint
eventfd             uint
eventfd2            uint oflags
epoll_create1       oflags
dup3                fd fd oflags
pipe2               out_fds oflags
preadv              fd out_iovec uint llong
pwritev             fd iovec uint llong
rt_tgsigqueueinfo   int int signal ptr
prlimit64           int limit rlimit64 out_rlimit64
process_vm_readv    int out_iovec uint ptr uint uint
process_vm_writev   int iovec uint ptr uint uint
renameat2           dirfd path dirfd path hex
getrandom           out_random uint random
socketpair          family socktype int out_fds
statx               dirfd path statxflags statxmask out_statx
rseq                ptr hex int hex
clock_gettime64     clock out_timespec64
clock_nanosleep_time64 clock timerflags timespec64 out_ptr
utimensat_time64    dirfd path ptr atflags
pselect6_time64     int fdset fdset fdset timespec64 ptr
ppoll_time64        poll uint timespec64 sigset uint
rt_sigtimedwait_time64 sigset out_ptr timespec64 uint
accept4             fd out_sockaddr out_length sockflags
bind                fd sockaddr int
close_range         fd fd hex
connect             fd sockaddr int
copy_file_range     fd ptr fd ptr uint hex
epoll_pwait2        fd out_ptr int timespec64 sigset uint
fadvise64_64        fd llong llong int
fallocate           fd hex llong llong
getxattr            path path out_ptr uint
lgetxattr           path path out_ptr uint
fgetxattr           fd path out_ptr uint
listxattr           path out_ptr uint
llistxattr          path out_ptr uint
flistxattr          fd out_ptr uint
removexattr         path path
lremovexattr        path path
fremovexattr        fd path
setxattr            path path ptr uint hex
lsetxattr           path path ptr uint hex
fsetxattr           fd path ptr uint hex
getpeername         fd out_sockaddr out_length
getsockname         fd out_sockaddr out_length
getsockopt          fd level option out_optval out_length
setsockopt          fd level option optval int
listen              fd int
memfd_create        path hex
mlock2              ptr uint hex
personality         hex
preadv2             fd out_iovec uint llong hex
pwritev2            fd iovec uint llong hex
readahead           fd llong uint
readdir             fd out_ptr uint
recvfrom            fd out_message uint msgflags out_sockaddr out_length
recvmsg             fd out_msghdr msgflags
recvmmsg            fd out_mmsghdrs uint msgflags timespec
recvmmsg_time64     fd out_mmsghdrs uint msgflags timespec64
sendmmsg            fd mmsghdrs uint msgflags
send                fd buf uint msgflags
recv                fd out_message uint msgflags
accept              fd out_sockaddr out_length
sendmsg             fd msghdr msgflags
sendto              fd buf uint msgflags sockaddr uint
shutdown            fd shut
socket              family socktype int
splice              fd ptr fd ptr uint hex
tee                 fd fd uint hex
vmsplice            fd iovec uint hex
sync_file_range     fd llong llong hex
syncfs              fd
faccessat2          dirfd path access atflags
"""

SIGNATURES: dict[str, tuple[str, ...]] = {
    words[0]: tuple(words[1:]) for words in (line.split() for line in _TABLE.strip().splitlines())
}

FCNTL: dict[int, tuple[str, ...]] = {
    0: ("int",), 1: (), 2: ("fdflags",), 3: (), 4: ("oflags",), 8: ("int",), 9: (),
    1030: ("int",), 1031: ("int",), 1032: (),
}  # fmt: skip
"""What fcntl takes beside descriptor and command, by command; others take an address."""
IOCTL: dict[int, tuple[str, ...]] = {
    0x5401: ("out_ptr",), 0x5402: ("ptr",), 0x5403: ("ptr",), 0x5404: ("ptr",), 0x540F: ("out_int",),
    0x5410: ("in_int",), 0x5413: ("out_winsize",), 0x5414: ("winsize",), 0x541B: ("out_int",), 0x5421: ("in_int",),
}  # fmt: skip


FUTEX: dict[int, tuple[str, ...]] = {
    0: ("uint", "timespec"), 3: ("uint", "uint", "ptr"), 4: ("uint", "uint", "ptr", "uint"),
    5: ("uint", "uint", "ptr", "wakeop"), 9: ("uint", "timespec", "futexbits"), 10: ("uint", "futexbits"),
    6: ("timespec",), 7: (), 8: (), 13: ("timespec",), 11: ("uint", "timespec", "ptr"),
    12: ("uint", "uint", "ptr", "uint"),
}  # fmt: skip
"""What futex takes beside address and operation, by operation; others take a number."""


def signature(name: str, arguments: tuple[int, ...]) -> tuple[str, ...]:
    """The kinds of a call's arguments; some decide what others are."""
    kinds = SIGNATURES.get(name, UNKNOWN)
    if name in ("open", "openat"):
        return kinds if arguments[len(kinds) - 2] & (O_CREAT | O_TMPFILE & ~O_DIRECTORY) else kinds[:-1]
    if name in ("fcntl", "fcntl64"):
        return "fd", "fcntl", *FCNTL.get(arguments[1], ("ptr",))
    if name in ("futex", "futex_time64"):
        rest = FUTEX.get(arguments[1] & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME), ("uint",))
        return "ptr", "futex", *(f"{each}64" if each == "timespec" and name != "futex" else each for each in rest)
    if name == "ptrace":
        return ptrace.kinds(arguments[0])
    if name == "ioctl":
        return "fd", "ioctl", *IOCTL.get(arguments[1], ("ptr",))
    if name == "prctl" and arguments[0] in (PR_SET_NAME, PR_GET_NAME):
        return "prctl", "comm" if arguments[0] == PR_SET_NAME else "out_comm"
    if name == "mremap" and not arguments[3] & MREMAP_FIXED:
        return kinds[:-1]
    if name == "clone":
        return _clone(arguments[0])
    return kinds


def _clone(flags: int) -> tuple[str, ...]:
    extra = (
        *(("parent_tid",) if flags & CLONE_PARENT_SETTID else ()),
        *(("tls",) if flags & CLONE_SETTLS else ()),
        *(("child_tidptr",) if flags & (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID) else ()),
    )
    return "child_stack", "clone", *extra


PLACES = {"child_stack": 1, "clone": 0, "parent_tid": 2, "tls": 3, "child_tidptr": 4, "futexbits": 5}
"""Kinds that are not shown in the order of the registers, and their registers."""
NAMED = {
    "child_stack": "child_stack=",
    "clone": "flags=",
    "parent_tid": "parent_tid=",
    "tls": "tls=",
    "child_tidptr": "child_tidptr=",
}
"""Kinds that are shown with a name."""

ADDRESSES = frozenset({"brk", "mmap", "mmap2", "mremap"})
"""Calls whose result is an address."""
OCTAL = frozenset({"umask"})
"""Calls whose result is a mode."""
ENDLESS = frozenset({"exit", "exit_group"})
"""Calls that do not return."""
UNKNOWN = ("hex",) * 6
"""For a call that has no row."""
