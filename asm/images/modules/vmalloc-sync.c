/*
 * An area is made on behalf of one process, in page tables that nobody had before; another process, which was there
 * already, uses it.  Its directory learns of the table by the fault of the first access, and not again by the second.
 */
#include "user.h"

#define MAKE 0
#define LOAD 1
#define FREE 2
#define THERE 3
#define PAGES 1500

int main(void)
{
        int fd = open("/dev/areas", O_RDWR), child, status, at, to[2], from[2];
        u32 area, last, next;
        char byte;

        CHECK(1, fd >= 0 && pipe(to) == 0 && pipe(from) == 0);
        child = fork();
        if (child == 0) {
                close(to[1]);
                CHECK(2, read(to[0], &area, 4) == 4);
                last = area + PAGES * PAGE - 4;
                CHECK(3, ioctl(fd, LOAD, last) == PAGES);
                CHECK(4, ioctl(fd, LOAD, last) == PAGES);
                for (at = 1; at <= PAGES; at++)         /* every page is one of its own */
                        CHECK(8, ioctl(fd, LOAD, area + at * PAGE - 4) == at);
                CHECK(9, ioctl(fd, THERE, area + PAGES * PAGE) == -EFAULT);     /* the guard page */
                write(from[1], &byte, 1);
                exit(0);
        }
        area = (u32)ioctl(fd, MAKE, PAGES) << 12;
        CHECK(5, area > 0xC0000000u && area < 0xFF000000u);
        write(to[1], &area, 4);
        CHECK(6, waitpid(child, &status, 0) == child && status == 0);
        CHECK(10, ioctl(fd, THERE, area) == 0);
        CHECK(7, ioctl(fd, FREE, area) == 0);
        CHECK(11, ioctl(fd, THERE, area) == -EFAULT && ioctl(fd, THERE, area + PAGES * PAGE - 4) == -EFAULT);
        area = (u32)ioctl(fd, MAKE, 1) << 12;           /* a gap of one page is too small for five */
        next = (u32)ioctl(fd, MAKE, 1) << 12;
        CHECK(12, ioctl(fd, FREE, area) == 0);
        area = (u32)ioctl(fd, MAKE, 5) << 12;
        CHECK(13, area > next && ioctl(fd, LOAD, next + PAGE - 4) == 1);
        ioctl(fd, FREE, area);
        area = (u32)ioctl(fd, MAKE, 1) << 12;           /* and large enough for one */
        CHECK(14, area < next && ioctl(fd, FREE, next) == 0 && ioctl(fd, FREE, area) == 0);
        say("vmalloc-sync: another directory learned of the area\n");
        return 0;
}
