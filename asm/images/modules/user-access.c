/*
 * A module copies across the edge of two pages, in three ways (flat with an exception table; memcpy_tofs through FS; word by
 * word).  The second page is one that comes in by an ordinary fault (demand-zero, of a file, shared after fork), or one that
 * nobody may touch or that is not there: then EFAULT, with the exact number of bytes left out.
 */
#include "user.h"

#define EDGE 100                /* bytes in the first page */
#define SIZE 300
#define MODE 1
#define LEFT 2
#define OWN 6
#define WHERE 8

static u8 good[SIZE];

static u8 kernel_byte(u32 at) { return at * 7 + (at >> 8); }

static int same(volatile u8 *area, u32 size)
{
        u32 at;

        for (at = 0; at < size; at++)
                if (area[at] != kernel_byte(at))
                        return 0;
        return 1;
}

int main(void)
{
        int fd = open("/dev/uaccess", O_RDWR), file = open("/data", O_RDWR | O_CREAT), mode, child, status, got;
        u8 *area, *at;

        CHECK(1, fd >= 0 && file >= 0 && call(SYS_ftruncate, file, 2 * PAGE, 0) == 0);
        for (got = 0; got < SIZE; got++)
                good[got] = kernel_byte(got);
        for (mode = 0; mode < 3; mode++) {
                CHECK(2, ioctl(fd, MODE, mode) == 0 && write(fd, good, SIZE) == SIZE);
                area = mmap(0, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                at = area + PAGE - EDGE;

                CHECK(3, read(fd, at, SIZE) == SIZE && same(at, SIZE));         /* demand-zero */
                CHECK(4, write(fd, at, SIZE) == SIZE && ioctl(fd, LEFT, 0) == 0);

                child = fork();                                                 /* shared until written: COW */
                if (child == 0) {
                        memset(at, 0, 1);
                        CHECK(5, read(fd, at + 1, SIZE) == SIZE && same(at + 1, SIZE));
                        exit(0);
                }
                CHECK(6, waitpid(child, &status, 0) == child && status == 0 && same(at, SIZE));

                area = mmap(area, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, file, 0);
                CHECK(7, read(fd, at, SIZE) == SIZE && same(at, SIZE));         /* of a file */

                mprotect(area + PAGE, PAGE, PROT_READ);                         /* forbidden */
                got = read(fd, at, SIZE);
                CHECK(8, mode == 0 ? got == EDGE && ioctl(fd, LEFT, 0) == SIZE - EDGE : got == -EFAULT);
                munmap(area + PAGE, PAGE);                                      /* missing */
                got = read(fd, at, SIZE);
                CHECK(9, mode == 0 ? got == EDGE && ioctl(fd, LEFT, 0) == SIZE - EDGE : got == -EFAULT);
                got = write(fd, at, SIZE);
                CHECK(10, mode == 0 ? got == EDGE && ioctl(fd, LEFT, 0) == SIZE - EDGE : got == -EFAULT);
                CHECK(11, read(fd, area + PAGE, SIZE) == -EFAULT);
                if (mode == 0)                          /* what copy_from_user could not read is zeros in the kernel */
                        CHECK(14, read(fd, good, SIZE) == SIZE && same(good, EDGE) && good[EDGE] == 0 && good[SIZE - 1] == 0);
                for (got = 0; got < SIZE; got++)
                        good[got] = kernel_byte(got);
                munmap(area, 3 * PAGE);
                CHECK(12, read(fd, (void *)0xC0100000u, 4) == -EFAULT && read(fd, (void *)0xBFFFFFFFu, 8) == -EFAULT);
                CHECK(15, write(fd, (void *)0xC0100000u, 4) == -EFAULT && write(fd, (void *)0xBFFFFFFFu, 8) == -EFAULT);
        }
        CHECK(13, ioctl(fd, 9, 0) == 1);
        for (got = 0; got < 5; got++)                   /* a word of one's own, up to the last byte of user space */
                CHECK(16, ioctl(fd, WHERE, 0xBFFFFFFCu + got) == 0 && (ioctl(fd, OWN, getpid()) == -EFAULT) == (got > 0));
        say("user-access: three ways, five kinds of page, exact residues\n");
        return 0;
}
