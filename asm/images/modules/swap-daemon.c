/*
 * Swappable data for the kernel: the module store keeps nothing itself; a process keeps it for the module, in pages that
 * are as swappable as any process's.  Two clients store and load; then the daemon crashes, and they get EIO.
 */
#include "user.h"

#define KEYS 3000
#define STORE 1
#define LOAD 2

static u32 data[KEYS];

static void daemon(int fd)
{
        struct { u32 op, key, value; } request;

        for (;;) {
                if (read(fd, &request, sizeof request) != sizeof request)
                        exit(1);
                if (request.op == STORE)
                        data[request.key % KEYS] = request.value;
                else
                        request.value = data[request.key % KEYS];
                write(fd, &request, sizeof request);
        }
}

static void client(int fd, u32 first)
{
        u32 pair[2], at;

        for (at = first; at < KEYS; at += 70) {
                pair[0] = at, pair[1] = at * 3 + 1;
                CHECK(10, ioctl(fd, STORE, (u32)pair) == 0);
        }
        for (at = first; at < KEYS; at += 70) {
                pair[0] = at, pair[1] = 0;
                CHECK(11, ioctl(fd, LOAD, (u32)pair) == 0 && pair[1] == at * 3 + 1);
        }
        exit(0);
}

int main(void)
{
        int fd = open("/dev/store", O_RDWR), keeper, one, other, more, status;
        u32 pair[3] = { 7, 0 };

        CHECK(1, fd >= 0);
        keeper = fork();
        if (keeper == 0)
                daemon(fd);
        close(fd);                                      /* the daemon alone has it now */
        fd = open("/dev/store", O_RDWR);
        CHECK(2, fd >= 0);
        CHECK(8, read(fd, pair, 12) == -EINVAL && write(fd, pair, 12) == -EINVAL);      /* it is not the daemon's */
        if ((one = fork()) == 0)
                client(fd, 0);
        if ((other = fork()) == 0)
                client(fd, 1);
        CHECK(3, waitpid(one, &status, 0) == one && status == 0);
        CHECK(4, waitpid(other, &status, 0) == other && status == 0);
        CHECK(5, data[70] == 0);                        /* it is not here */

        if ((one = fork()) == 0) {
                kill(keeper, SIGKILL);
                exit(0);
        }
        for (more = 0; more < 3; more++)                /* several wait when it dies */
                if (fork() == 0) {
                        while (ioctl(fd, LOAD, (u32)pair) == 0)
                                ;
                        exit(0);
                }
        while (ioctl(fd, LOAD, (u32)pair) == 0)         /* its death is survived, with an error */
                ;
        CHECK(6, ioctl(fd, LOAD, (u32)pair) == -EIO);
        CHECK(7, waitpid(keeper, &status, 0) == keeper && status == SIGKILL);
        for (more = 0; more < 4; more++)
                CHECK(9, waitpid(-1, &status, 0) > 0 && status == 0);

        fd = open("/dev/store", O_RDWR);                /* a new daemon, which dies in its sleep */
        if ((keeper = fork()) == 0)
                daemon(fd);
        close(fd);
        fd = open("/dev/store", O_RDWR);
        CHECK(12, ioctl(fd, STORE, (u32)pair) == 0);
        sched_yield();
        CHECK(13, kill(keeper, SIGKILL) == 0 && waitpid(keeper, &status, 0) == keeper && status == SIGKILL);
        CHECK(14, ioctl(fd, LOAD, (u32)pair) == -EIO);
        say("swap-daemon: the process kept it; without the process, EIO\n");
        return 0;
}
