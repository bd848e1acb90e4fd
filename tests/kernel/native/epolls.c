#include "posix.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>

static const char *files[] = {
    "/proc/meminfo", "/proc/mounts", "/proc/self/mounts", "/proc/self/maps", "/proc/self/status", "/proc/self/stat",
    "/proc/self/comm", "/proc/stat", "/proc/cpuinfo", "/proc/uptime", "/proc/version", "/proc/swaps", "/proc/cmdline",
    "/proc/sys/kernel/ostype", "/proc/sys/kernel/pid_max", "/proc", "/proc/self", "/proc/self/environ",
    "/proc/self/cmdline", "/proc/self/limits", "/proc/filesystems", "/proc/loadavg", "/dev/full",
};

static void one_file(const char *path)
{
    struct epoll_event event = { EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDNORM | EPOLLWRNORM, { 1 } };
    int set = epoll_create1(0), fd = open(path, O_RDONLY);
    struct pollfd entry = { fd, 0x7fff };
    say(path, epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    event.events = 0;
    printf("poll %d", poll(&entry, 1, 0));
    printf(" %x epoll %d", entry.revents, epoll_wait(set, &event, 1, 0));
    printf(" %x\n", event.events);
    close(fd), close(set);
}

static int woken(unsigned flags, int children, int end)
{
    int file[2], done[2], count = 0;
    char letter;
    pipe(file), pipe(done);
    fcntl(done[0], F_SETFL, O_NONBLOCK);
    for (int at = 0; at < children; at++)
        if (!fork()) {
            struct epoll_event event = { EPOLLIN | flags, { 1 } };
            int set = epoll_create1(0);
            close(file[1]);
            epoll_ctl(set, EPOLL_CTL_ADD, file[0], &event);
            epoll_wait(set, &event, 1, 2000) == 1 && write(done[1], "x", 1);
            pause();
        }
    pause_for(200000000);
    if (end)
        close(file[1]);
    else
        write(file[1], "y", 1);
    pause_for(200000000);
    while (read(done[0], &letter, 1) == 1)
        count++;
    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    while (wait(0) > 0)
        ;
    signal(SIGTERM, SIG_DFL);
    return count;
}

static void readers_and_writers(void)
{
    int fd = eventfd(-2, EFD_NONBLOCK), done[2];
    unsigned long long value = -2;
    char letter[2];
    pipe(done);
    read(fd, &value, 8);
    value = -2;
    write(fd, &value, 8);
    for (int out = 0; out < 2; out++)
        if (!fork()) {
            struct epoll_event event = { (out ? EPOLLOUT : EPOLLIN | EPOLLET) | EPOLLEXCLUSIVE, { 1 } };
            int set = epoll_create1(0);
            epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
            while (!out && epoll_wait(set, &event, 1, 100) == 1)
                ;
            if (epoll_wait(set, &event, 1, 2000) == 1)
                write(done[1], out ? "w" : "r", 1);
            _exit(0);
        }
    pause_for(300000000);
    read(fd, &value, 8);
    read(done[0], letter, 1);
    printf("first %c\n", letter[0]);
    write(fd, &(unsigned long long){ 1 }, 8);
    while (wait(0) > 0)
        ;
}

int main(void)
{
    setpgid(0, 0);
    for (int at = 0; at < sizeof files / sizeof *files; at++)
        one_file(files[at]);
    printf("woken %d\n", woken(0, 3, 0));
    printf("woken, exclusive %d\n", woken(EPOLLEXCLUSIVE, 3, 0));
    printf("woken by the end, exclusive %d\n", woken(EPOLLEXCLUSIVE, 3, 1));
    readers_and_writers();
    return 0;
}
