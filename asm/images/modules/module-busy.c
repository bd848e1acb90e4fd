/*
 * A module that is in use is not unloaded; a program that has its device open when it goes gets ENODEV.
 */
#include "user.h"

#define SYS_dup 41

int main(void)
{
        int fd = open("/dev/busy", O_RDWR), other;

        CHECK(1, fd >= 0 && ioctl(fd, 0, 16) == -EFAULT);
        CHECK(2, call(SYS_delete_module, "busy", 0, 0) == -EBUSY);
        CHECK(3, ioctl(fd, 0, 16) == -EFAULT);
        other = call(SYS_dup, fd, 0, 0);
        CHECK(7, other >= 0 && close(fd) == 0);         /* the other descriptor has it open still */
        CHECK(8, call(SYS_delete_module, "busy", 0, 0) == -EBUSY && ioctl(other, 1, 1) == 0);
        close(other);
        CHECK(9, call(SYS_delete_module, "busy", 0, 0) == -EBUSY);      /* by its own word */
        fd = open("/dev/busy", O_RDWR);
        CHECK(10, ioctl(fd, 1, 0) == 0 && close(fd) == 0);
        CHECK(4, call(SYS_delete_module, "nobody", 0, 0) == -2);
        CHECK(5, call(SYS_delete_module, "busy", 0, 0) == 0);
        CHECK(6, open("/dev/busy", O_RDWR) == -ENODEV);
        say("module-busy: not while somebody has it open\n");
        return 0;
}
