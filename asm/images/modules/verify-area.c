/*
 * verify_area says whether a program may be given data at an address: from the first byte to the last, area by area.
 */
#include "user.h"

#define VERIFY 3

int main(void)
{
        int fd = open("/dev/uaccess", O_RDWR);
        u8 *area = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        CHECK(1, fd >= 0);
        CHECK(2, ioctl(fd, VERIFY, (u32)area) == 0 && ioctl(fd, VERIFY, (u32)area + 2 * PAGE) == 0);
        CHECK(3, ioctl(fd, VERIFY, (u32)area + 2 * PAGE + 1) == -EFAULT);
        mprotect(area + PAGE, PAGE, PROT_READ);
        CHECK(4, ioctl(fd, VERIFY, (u32)area) == -EFAULT && ioctl(fd, VERIFY, (u32)area + 2 * PAGE) == 0);
        mprotect(area + PAGE, PAGE, PROT_READ | PROT_WRITE);
        CHECK(5, ioctl(fd, VERIFY, (u32)area) == 0);
        munmap(area + PAGE, PAGE);
        CHECK(6, ioctl(fd, VERIFY, (u32)area) == -EFAULT);
        CHECK(8, ioctl(fd, VERIFY, 0xC0000000u - 2 * PAGE) == 0);      /* the stack ends with user space */
        CHECK(7, ioctl(fd, VERIFY, 0xC0000000u - PAGE) == -EFAULT && ioctl(fd, VERIFY, 0xFFFFF000u) == -EFAULT);
        say("verify-area: the whole range, or EFAULT\n");
        return 0;
}
