#include "posix.h"
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/uio.h>

static int fd;

static void events(const char *what)
{
    static char buffer[4096] __attribute__((aligned(4)));
    int got = read(fd, buffer, sizeof buffer);
    printf("%s:", what);
    for (char *at = buffer; at < buffer + got; at += 16 + ((struct inotify_event *)at)->len)
        printf(" %x %s", ((struct inotify_event *)at)->mask, ((struct inotify_event *)at)->len ? at + 16 : "");
    printf("\n");
}

int main(void)
{
    char place[] = "/tmp/inotifyXXXXXX", bytes[8] = { 0 };
    struct epoll_event event = { EPOLLIN, { 1 } };
    struct iovec piece = { bytes, 5 };
    int set = epoll_create1(0), file;
    setvbuf(stdout, 0, _IONBF, 0);
    fd = inotify_init1(0);
    chdir(mkdtemp(place));
    say("add", epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
    say("watch", inotify_add_watch(fd, ".", IN_ALL_EVENTS));
    say("nothing yet", epoll_wait(set, &event, 1, 0));
    if (!fork()) {
        pause_for(20000000);
        file = open("a", O_CREAT | O_WRONLY, 0755);
        write(file, "x", 1);
        _exit(0);
    }
    say("by a child", epoll_wait(set, &event, 1, 3000));
    wait(0);
    events("child");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    file = open("m", O_CREAT | O_RDWR, 0600), ftruncate(file, 4096);
    events("file");
    char *map = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    map[0] = 1, msync(map, 4096, MS_SYNC), munmap(map, 4096);
    events("through a mapping");
    fallocate(file, 0, 0, 8192), events("fallocate");
    fsync(file), access("m", R_OK), events("quiet");
    readv(file, &piece, 1), events("readv");
    writev(file, &piece, 1), events("writev");
    unlink("m"), unlink("a"), chdir("/"), rmdir(place);
    events("while a file of it is open");
    close(file);
    events("then");
    return 0;
}
