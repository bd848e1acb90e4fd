/*
 * Kernel memory is not swappable (post 002): a program reads a file and fills all of memory, reclaim takes what it can get,
 * and the kernel's data are where they were.
 */
#include "user.h"

#define CHUNK (64 * PAGE)

static char page[PAGE];

int main(void)
{
        int fd = open("/dev/resident", O_RDWR), file = open("/big", O_RDWR | O_CREAT), at, child, status;

        CHECK(1, fd >= 0 && ioctl(fd, 0, 0) == 0);
        CHECK(5, file >= 0 && call(SYS_ftruncate, file, 100 * PAGE, 0) == 0);
        for (at = 0; at < 100; at++)
                CHECK(2, read(file, page, PAGE) == PAGE);
        child = fork();
        if (child == 0)
                for (;;) {                              /* until the kernel ends it */
                        volatile char *area = mmap(0, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                        for (at = 0; at < CHUNK; at += PAGE)
                                area[at] = 1;
                }
        CHECK(3, waitpid(child, &status, 0) == child && status == SIGKILL);
        CHECK(4, ioctl(fd, 0, 0) == 0);
        say("kernel-resident: memory ran out, and the kernel kept its own\n");
        return 0;
}
