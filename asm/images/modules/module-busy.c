/*
 * A module that is in use is not unloaded; a program that has its device open when it goes gets ENODEV.
 */
#include "user.h"

int main(void)
{
        int fd = open("/dev/busy", O_RDWR);

        CHECK(1, fd >= 0 && ioctl(fd, 0, 16) == -EFAULT);
        CHECK(2, call(SYS_delete_module, "busy", 0, 0) == -EBUSY);
        CHECK(3, ioctl(fd, 0, 16) == -EFAULT);
        close(fd);
        CHECK(4, call(SYS_delete_module, "nobody", 0, 0) == -2);
        CHECK(5, call(SYS_delete_module, "busy", 0, 0) == 0);
        CHECK(6, open("/dev/busy", O_RDWR) == -ENODEV);
        say("module-busy: not while somebody has it open\n");
        return 0;
}
