/*
 * Kernel memory is not swappable (post 002): a program reads a file and fills all of memory, reclaim takes what it can get,
 * which is the file's pages, and the kernel's data are where they were.
 */
#include "user.h"

#define CHUNK (64 * PAGE)

static char page[PAGE];

int main(void)
{
        int fd = open("/dev/resident", O_RDWR), file = open("/big", O_RDWR | O_CREAT), at, free, child, status;
        volatile int *touched = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        CHECK(1, fd >= 0 && ioctl(fd, 0, 0) == 0);
        CHECK(5, file >= 0 && call(SYS_ftruncate, file, 100 * PAGE, 0) == 0);
        for (at = 0; at < 100; at++)
                CHECK(2, read(file, page, PAGE) == PAGE);
        *touched = 0;
        free = ioctl(fd, 1, 0);
        child = fork();
        if (child == 0)
                for (;;) {                              /* until the kernel ends it */
                        volatile char *area = mmap(0, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                        for (at = 0; at < CHUNK; at += PAGE)
                                area[at] = 1, ++*touched;
                }
        CHECK(3, waitpid(child, &status, 0) == child && status == SIGKILL);
        CHECK(6, *touched > free);                      /* more than was free: the file's pages went */
        CHECK(4, ioctl(fd, 0, 0) == 0);
        say("kernel-resident: memory ran out, and the kernel kept its own\n");
        return 0;
}
