/*
 * The exception table of a module goes with it.  Another module is loaded at the same addresses afterwards: a fault there is
 * a bug of its own, and must not take the first one's way out.
 */
#include "user.h"

#define SYS_finit_module 350
#define PLACE 2
#define WHICH 3

int main(void)
{
        int file = open("/other.o", O_RDONLY), fd = open("/dev/busy", O_RDWR), place = ioctl(fd, PLACE, 0);

        CHECK(4, ioctl(fd, WHICH, 0) == 1 && close(fd) == 0);
        CHECK(1, file >= 0 && call(SYS_delete_module, "busy", 0, 0) == 0);
        CHECK(2, call(SYS_finit_module, file, "", 0) == 0);
        CHECK(7, call(SYS_delete_module, "other", 0, 0) == 0);          /* once more: in the first one's frames */
        CHECK(8, call(SYS_finit_module, file, "", 0) == 0);
        fd = open("/dev/raw", O_RDWR);
        CHECK(3, fd >= 0);
        CHECK(5, ioctl(fd, PLACE, 0) == place);         /* the same addresses, */
        CHECK(6, ioctl(fd, WHICH, 0) == 2);             /* other code */
        ioctl(fd, 0, 16);
        say("module-left: the fault took a way out that was somebody else's\n");
        return 0;
}
