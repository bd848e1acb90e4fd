/*
 * Post 002 asks of user access: "can current just be changed?"  use_mm changes current and what CR3 holds, so that a copy
 * reaches another task's memory, its demand-zero pages too; and unuse_mm brings one's own back.
 */
#include "user.h"

#define BORROW 6
#define WHERE 8
#define PRETEND 10

static volatile int page[PAGE / 4] __attribute__((aligned(PAGE)));

int main(void)
{
        int fd = open("/dev/uaccess", O_RDWR), child, status, parent = getpid();
        u8 *fresh = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(1, fd >= 0);
        page[5] = 1234;
        child = fork();
        if (child == 0) {
                page[5] = 99;
                munmap(fresh, PAGE);
                CHECK(2, ioctl(fd, WHERE, (u32)&page[5]) == 0);
                CHECK(3, ioctl(fd, BORROW, parent) == 1234 && page[5] == 99 && ioctl(fd, BORROW, getpid()) == 99);
                CHECK(4, ioctl(fd, WHERE, (u32)fresh) == 0 && ioctl(fd, BORROW, parent) == 0);
                CHECK(5, ioctl(fd, BORROW, getpid()) == -EFAULT && ioctl(fd, BORROW, 77) == -3);
                CHECK(6, page[5] == 99);
                page[7] = 0;
                CHECK(8, ioctl(fd, WHERE, (u32)&page[5]) == 0 && ioctl(fd, BORROW, parent) == 1234);
                CHECK(9, read(fd, (void *)&page[7], 4) == 4 && page[7] != 0);   /* a copy reaches one's own again */
                fresh = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                CHECK(10, ioctl(fd, PRETEND, parent) == 0);                     /* and current is one's own again */
                CHECK(11, read(fd, fresh, 4) == 4 && *(int *)fresh == page[7]);
                exit(0);
        }
        CHECK(7, waitpid(child, &status, 0) == child && status == 0 && page[5] == 1234 && page[7] == 0);
        say("use-mm: another task's memory, and back\n");
        return 0;
}
