#include "posix.h"
#include <sys/epoll.h>

static siginfo_t info;
static int pidfd_open(int pid, int flags) { return syscall(434, pid, flags); }
static int send_signal(int fd, int sig, void *siginfo, int flags) { return syscall(424, fd, sig, siginfo, flags); }
static int waitfd(int fd, int options)
{
    memset(&info, 0, sizeof info);
    return syscall(SYS_waitid, 3, fd, &info, options, 0);
}

static void polled(int fd)
{
    struct pollfd entry = { fd, POLLIN | POLLOUT | POLLRDNORM };
    printf("poll %d", poll(&entry, 1, 0));
    printf(" %x\n", entry.revents);
}

static void opening(void)
{
    say("no such", pidfd_open(999999, 0));
    say("pid 0", pidfd_open(0, 0));
    say("negative", pidfd_open(-3, 0));
    say("flags", pidfd_open(getpid(), 1));
    int fd = say("own", pidfd_open(getpid(), 0));
    say("cloexec", fcntl(fd, F_GETFD));
    say("flags", fcntl(fd, F_GETFL) & ~0100000);
    char byte;
    say("read", read(fd, &byte, 1));
    say("write", write(fd, &byte, 1));
    say("lseek", lseek(fd, 0, SEEK_SET));
    polled(fd);
    say("self 0", send_signal(fd, 0, 0, 0));
    say("signal 65", send_signal(fd, 65, 0, 0));
    say("flags", send_signal(fd, 0, 0, 16));
    say("no pidfd", send_signal(1, 0, 0, 0));
    say("no file", send_signal(99, 0, 0, 0));
    say("wait for itself", waitfd(fd, WEXITED));
    say("wait for no pidfd", waitfd(1, WEXITED));
    say("wait for no file", waitfd(99, WEXITED));
    close(fd);
}

static void child(void)
{
    int pid = fork();
    if (!pid) {
        pause();
        _exit(0);
    }
    int fd = pidfd_open(pid, O_NONBLOCK);
    say("flags", fcntl(fd, F_GETFL) & O_NONBLOCK);
    polled(fd);
    say("not yet", waitfd(fd, WEXITED));
    info.si_signo = SIGUSR1, info.si_code = SI_USER;
    say("forged", send_signal(fd, SIGUSR1, &info, 0));
    info.si_code = SI_QUEUE;
    say("another", send_signal(fd, SIGUSR2, &info, 0));
    say("queued", send_signal(fd, SIGUSR1, &info, 0));
    struct pollfd entry = { fd, POLLIN };
    say("poll", poll(&entry, 1, 5000));
    polled(fd);
    say("to a zombie", send_signal(fd, SIGUSR1, 0, 0));
    say("look", waitfd(fd, WEXITED | WNOWAIT));
    printf("%d %d %d\n", info.si_code, info.si_status, info.si_pid == pid);
    say("wait", waitfd(fd, WEXITED));
    printf("%d %d %d\n", info.si_code, info.si_status, info.si_pid == pid);
    say("again", waitfd(fd, WEXITED));
    polled(fd);
    say("to the dead", send_signal(fd, 0, 0, 0));
    say("open the dead", pidfd_open(pid, 0));
    close(fd);
}

static void in_epoll(void)
{
    struct epoll_event event = { EPOLLIN, { 7 } };
    int fd = -1, set = epoll_create1(0), pid = syscall(SYS_clone, 0x1000 | SIGCHLD, 0, &fd, 0, 0);
    if (!pid) {
        pause_for(20000000);
        _exit(9);
    }
    printf("CLONE_PIDFD %d %d\n", fd >= 0, fcntl(fd, F_GETFD));
    say("add", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    event.events = 0;
    say("wait", epoll_wait(set, &event, 1, 5000));
    printf("%x %d\n", event.events, event.data.fd);
    say("wait", waitfd(fd, WEXITED));
    printf("%d %d\n", info.si_code, info.si_status);
}

static void another_file(void)
{
    int pipes[2], stop[2], pid;
    char letter = 0;
    pipe(stop);
    if (!(pid = fork())) {
        pipe(pipes);
        write(pipes[1], "x", 1);
        write(stop[1], &pipes[0], 1);
        pause();
    }
    int fd = pidfd_open(pid, 0);
    read(stop[0], &letter, 1);
    int got = syscall(438, fd, letter, 0);
    printf("got %d cloexec %d\n", got >= 0, fcntl(got, F_GETFD));
    say("read", read(got, &letter, 1));
    printf("%c\n", letter);
    say("no such file", syscall(438, fd, 99, 0));
    say("flags", syscall(438, fd, 0, 1));
    say("no pidfd", syscall(438, 0, 0, 0));
    send_signal(fd, SIGKILL, 0, 0);
    say("wait", waitfd(fd, WEXITED));
    say("of the dead", syscall(438, fd, 0, 0));
}

int main(void)
{
    opening(), child(), in_epoll(), another_file();
    return 0;
}
